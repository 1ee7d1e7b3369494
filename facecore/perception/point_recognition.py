"""A recognition network of aligned faces that finds points of the face first."""

from __future__ import annotations

import torch

from facecore.nn.point_reader import PointReader
from facecore.perception.alignment import ALIGNED_SIZE, align_points


class PointRecognition(PointReader):
    """Aligned faces of 112 x 112 pixels to embeddings; see PointReader."""

    def __init__(self, points: int = 132, features: int = 16, embed: int = 128, depth: int = 18) -> None:
        super().__init__(ALIGNED_SIZE, points, features, embed, depth)

    def place(self, seen: torch.Tensor) -> torch.Tensor:
        """Aligned by their own five points."""
        pixels = align_points(seen * seen.new_tensor([1.0, -1.0]))
        ndc = pixels * (2 / ALIGNED_SIZE) - 1
        return ndc * ndc.new_tensor([1.0, -1.0])
