"""What both cameras share: normalised image coordinates and pixels, and points moved by a batch of matrices."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch

from facecore.ops._library import check_tensor

Self = TypeVar("Self", bound="BaseCamera")


def ndc_to_pixel(points_ndc: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Returns pixels (u right, v down) [..., 2] of q [..., 2]: u = W/2 + q_x m/2, v = H/2 - q_y m/2, m = min(W, H)."""
    half = min(height, width) / 2.0
    return torch.stack([width / 2.0 + half * points_ndc[..., 0], height / 2.0 - half * points_ndc[..., 1]], -1)


def pixel_to_ndc(points_pixel: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Returns q [..., 2] (y up, the shorter side spans [-1, 1]) of pixels [..., 2]: the inverse of ndc_to_pixel."""
    half = min(height, width) / 2.0
    return torch.stack([(points_pixel[..., 0] - width / 2.0) / half, (height / 2.0 - points_pixel[..., 1]) / half], -1)


class BaseCamera:
    """What both cameras share. Camera axes: +x image right, +y up, looking along -z.

    Every method is differentiable in the points and in the camera's tensors, deterministic, and computes in the
    tensors' own dtype under autocast too (a half-precision matrix product would move points by a pixel).
    """

    rotation: torch.Tensor  # [N, 3, 3], object axes to camera axes
    height: int
    width: int

    def __len__(self) -> int:
        return self.rotation.shape[0]

    def __getitem__(self: Self, index: slice | torch.Tensor) -> Self:
        """The cameras of some images: a slice, or an int64 or bool tensor."""
        if not isinstance(index, slice | torch.Tensor):
            raise ValueError(f"index a camera with a slice or a tensor (it stays a batch), got {type(index).__name__}")
        return self._map(lambda tensor: tensor[index])

    def to(self: Self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        return self._map(lambda tensor: tensor.to(device=device, dtype=dtype))

    def detach(self: Self) -> Self:
        return self._map(torch.Tensor.detach)

    def _map(self: Self, function: Any) -> Self:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        tensors = {name: function(value) for name, value in values.items() if isinstance(value, torch.Tensor)}
        return type(self)(**{**values, **tensors})

    def rotate(self, vectors: torch.Tensor) -> torch.Tensor:
        """Returns directions, such as normals, in camera axes: [N, V, 3] -> [N, V, 3]."""
        check_tensor("vectors", vectors, (len(self), "V", 3), like=self.rotation)
        return _transform(self.rotation, vectors)

    def to_clip(self, vertices_mm: torch.Tensor) -> torch.Tensor:
        """Returns clip coordinates for the rasterizer: [N, V, 3] mm -> [N, V, 4], z/w smaller = nearer."""
        check_tensor("vertices_mm", vertices_mm, (len(self), "V", 3), like=self.rotation)
        matrix = self.clip_matrix()
        return _transform(matrix[:, :, :3], vertices_mm) + matrix[:, None, :, 3]

    def clip_matrix(self) -> torch.Tensor:
        """Returns [N, 4, 4]: (x, y, z, 1) in mm -> clip coordinates."""
        raise NotImplementedError

    def project(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Returns pixels (u right, v down; the centre of row i, column j is (j+0.5, i+0.5)): [N, P, 3] -> [N, P, 2]."""
        return ndc_to_pixel(self.ndc(points_mm), self.height, self.width)

    def ndc(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Returns normalised image coordinates q, y up, the shorter image side spanning [-1, 1]: -> [N, P, 2]."""
        raise NotImplementedError

    def _check(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"height and width must be at least 1, got {self.height} and {self.width}")
        check_tensor("rotation", self.rotation, ("N", 3, 3))


def _transform(linear: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """Returns linear @ vector, [N, C, 3] and [N, P, 3] -> [N, P, C], in full precision whatever torch's settings are.

    Autocast is off, and CUDA multiplies elementwise: a matrix product may run in TF32, which moves points by 0.1 pixel.
    """
    if vectors.is_cuda:
        x, y, z = linear[:, None].unbind(-1)
        return vectors[..., :1] * x + vectors[..., 1:2] * y + vectors[..., 2:] * z
    with torch.autocast(vectors.device.type, enabled=False):
        return torch.matmul(vectors, linear.transpose(1, 2))
