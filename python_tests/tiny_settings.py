"""Settings of the smallest semi-supervised system that tests train: every part is there, nothing is learned."""

from __future__ import annotations

TINY_MODEL = {
    "num_vertices": 2500,
    "image_size": 32,
    "identity_size": 8,
    "expression_size": 4,
    "factors": [4, 4],
    "shape_channels": [8, 8, 8],
    "albedo_channels": [8, 8, 8],
    "critic_channels": [8, 8],
}
