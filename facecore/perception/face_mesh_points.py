"""The 68 landmarks as fixed points of MediaPipe's face mesh (478 points)."""

from __future__ import annotations

import functools

import torch

NUM_MESH_POINTS = 478
# Contour 0 to 8, as (vertex, weight); 9 to 16 are their mirror images (_MIRROR). Fitted once, over points on the mesh's
# edges, to 400 renders of the ICT model (yaw within 45 degrees), whose contour is fixed vertices, and to 20 faces of
# photographs; 19 other faces and the hand-made points agree equally well (docs/perception.md).
CONTOUR = (
    ((127, 0.75), (162, 0.25)),
    ((234, 0.75), (137, 0.25)),
    ((177, 0.75), (93, 0.25)),
    ((215, 0.75), (177, 0.25)),
    ((138, 0.75), (136, 0.25)),
    ((136, 0.5), (150, 0.5)),
    ((149, 1.0),),
    ((148, 0.75), (176, 0.25)),
    ((152, 1.0),),
)
_MIRROR = {
    **{127: 356, 162: 389, 234: 454, 137: 366, 177: 401, 93: 323, 215: 435, 138: 367, 136: 365, 150: 379},
    **{149: 378, 148: 377, 176: 400, 152: 152},
}
# fmt: off
INNER = (
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,  # brows
    168, 197, 5, 4, 98, 97, 2, 326, 327,  # nose
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,  # eyes
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181,  # outer lips
    78, 82, 13, 312, 308, 317, 14, 87,  # inner lips
)
# fmt: on


def landmarks_from_mesh(mesh: torch.Tensor) -> torch.Tensor:
    """The 68 points in iBUG order, [..., 68, D], of mesh points [..., 478, D].

    All are fixed points of the surface ("3-D" landmarks, METHODS 1.10): on a turned head the far side of the contour
    stays on the jaw, hidden behind the face, and does not slide to the visible edge. Differentiable. Raises ValueError
    for another number of points.
    """
    if mesh.ndim < 2 or mesh.shape[-2] != NUM_MESH_POINTS:
        raise ValueError(f"mesh must have shape [..., {NUM_MESH_POINTS}, D], got {list(mesh.shape)}")
    return _weights().to(mesh) @ mesh


@functools.cache
@torch.inference_mode(False)  # kept for later calls, so it must not become an inference tensor
def _weights() -> torch.Tensor:
    """float64 [68, 478], rows summing to 1."""
    weights = torch.zeros(68, NUM_MESH_POINTS, dtype=torch.float64)
    for number, point in enumerate(CONTOUR):
        for vertex, weight in point:
            weights[number, vertex] = weight
            weights[16 - number, _MIRROR[vertex]] = weight
    weights[torch.arange(17, 68), torch.tensor(INNER)] = 1.0
    return weights
