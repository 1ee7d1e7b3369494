"""Random shift, scale, in-plane turn and mirroring of crops and their landmarks (METHODS 2.3)."""

from __future__ import annotations

import dataclasses
import math

import torch

from facecore.data.landmarks import MIRROR_5, MIRROR_68
from facecore.render.affine import apply_affine, compose_affine

REFERENCE_SIZE = 224  # the picture size that `shift` is given for


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Ranges of the random similarity, uniform and symmetric about none. The defaults are METHODS 2.3.

    shift: pixels in each axis at a crop of 224 pixels, scaled with the crop's short side; scale: relative;
    rotation_degrees: in the picture's plane; mirror: probability of a left-right flip.
    """

    shift: float = 10.0
    scale: float = 0.1
    rotation_degrees: float = 10.0
    mirror: float = 0.5

    def __post_init__(self) -> None:
        if not (
            self.shift >= 0 and 0 <= self.scale < 1 and 0 <= self.rotation_degrees <= 180 and 0 <= self.mirror <= 1
        ):
            raise ValueError(
                "shift and rotation_degrees (at most 180) must not be negative, scale must be in [0, 1) and mirror in "
                f"[0, 1], got {self}"
            )

    def padding(self, height: int, width: int) -> int:
        """How many pixels around a crop the augmented crop may reach for."""
        shift = self.shift * min(height, width) / REFERENCE_SIZE
        needed = []
        for along, across in ((width, height), (height, width)):
            turn = min(math.radians(self.rotation_degrees), math.atan2(across, along))  # where the reach is largest
            reach = (along / 2 + shift) * math.cos(turn) + (across / 2 + shift) * math.sin(turn)
            needed.append(reach / (1 - self.scale) - along / 2)
        return math.ceil(max(needed) - 1e-9)

    def draw(self, generator: torch.Generator, height: int, width: int) -> tuple[torch.Tensor, bool]:
        """One random map, crop to augmented crop, float64 [2, 3] in continuous pixels, and whether it mirrors.

        Always takes five numbers from the generator.
        """
        draw = torch.rand(5, generator=generator, dtype=torch.float64)
        signed = 2 * draw - 1
        scale = 1 + self.scale * float(signed[0])
        angle = math.radians(self.rotation_degrees) * float(signed[1])
        shift = signed[2:4] * (self.shift * min(height, width) / REFERENCE_SIZE)
        mirrored = bool(draw[4] < self.mirror)
        centre = torch.tensor([width / 2, height / 2], dtype=torch.float64)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        linear = torch.tensor([[cos, -sin], [sin, cos]], dtype=torch.float64)
        if mirrored:
            linear = linear @ torch.diag(torch.tensor([-1.0, 1.0], dtype=torch.float64))
        offset = centre + shift - linear @ centre
        return torch.cat((linear, offset[:, None]), dim=1), mirrored


NO_AUGMENTATION = Augmentation(shift=0.0, scale=0.0, rotation_degrees=0.0, mirror=0.0)


def warp_points(points: torch.Tensor, matrix: torch.Tensor, mirrored: bool) -> torch.Tensor:
    """Landmarks [68, 2] or [5, 2] under one map [2, 3]; where it mirrors, left and right points change places.

    [..., 2] with another number of points raises ValueError when mirrored: their mirror order is unknown.
    """
    moved = apply_affine(matrix.to(points), points)
    if not mirrored:
        return moved
    order = {68: MIRROR_68, 5: MIRROR_5}.get(points.shape[0])
    if order is None:
        raise ValueError(f"points must have shape [68, 2] or [5, 2] to be mirrored, got {list(points.shape)}")
    return moved[list(order)]


def padded(matrix: torch.Tensor, padding: int) -> torch.Tensor:
    """The map [..., 2, 3] for a source that has `padding` more pixels on every side."""
    shift = torch.eye(2, 3, dtype=matrix.dtype, device=matrix.device)
    shift[:, 2] = -padding
    return compose_affine(matrix, shift.expand(matrix.shape))
