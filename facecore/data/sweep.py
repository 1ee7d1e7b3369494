"""The same rendered faces at every pose of a grid, or with every expression of a list: the sweeps of METHODS 8.1."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch

from facecore.data import lights
from facecore.data.renders import LabelledRenders, framed_pose
from facecore.morphable import Coefficients, MorphableModel
from facecore.morphable.named_expressions import EXPRESSIONS, named_expressions


class _GridRenders(LabelledRenders):
    """Sample f * variants + v is face f in variant v; face, light, background and framing do not depend on v.

    Light is fixed to the camera, its brightness set on the mean face seen from the front. No occluders, no noise.
    """

    def __init__(self, model: MorphableModel, height: int, width: int, seed: int, variants: int) -> None:
        super().__init__(model, height, width, seed, occluders=0.0, sensor=False)
        self.variants = variants

    def coefficients(self, index: torch.Tensor) -> Coefficients:
        return super().coefficients(index // self.variants)

    @torch.no_grad()
    def lights(self, index: torch.Tensor) -> torch.Tensor:
        normals = self._normals.expand(len(index), -1, -1)
        return lights.draw_lights(self._uniform("light", index, lights.NUM_UNIFORM), normals, normals[..., 2].clamp(0))

    def _pose(self, index: torch.Tensor, landmarks_mm: torch.Tensor) -> torch.Tensor:
        count = len(index)
        zoom, shift = landmarks_mm.new_ones(count), landmarks_mm.new_zeros(count, 2)
        return framed_pose(self._angles(index), landmarks_mm, zoom, shift)

    def _uniform(self, purpose: str, index: torch.Tensor, count: int) -> torch.Tensor:
        return super()._uniform(purpose, index.cpu() // self.variants, count)


class SweepRenders(_GridRenders):
    """Sample f * P + p is face f at pose p of P; face, light, background and framing do not depend on the pose.

    Args:
        model, height, width, seed: as LabelledRenders; face f is the face of its sample f.
        yaws, pitches: degrees; the poses are all combinations, yaw by yaw, at roll 0.

    Raises ValueError for no angle or one that is not finite.
    """

    def __init__(
        self,
        model: MorphableModel,
        height: int,
        width: int,
        seed: int,
        *,
        yaws: Sequence[float],
        pitches: Sequence[float] = (0.0,),
    ) -> None:
        if not yaws or not pitches or not all(map(math.isfinite, (*yaws, *pitches))):
            raise ValueError(f"yaws and pitches must be finite degrees, at least one each, got {yaws} and {pitches}")
        self.poses = list(itertools.product(yaws, pitches))  # (yaw, pitch) in degrees
        super().__init__(model, height, width, seed, len(self.poses))

    def _angles(self, index: torch.Tensor) -> torch.Tensor:
        table = torch.tensor([(pitch, yaw, 0.0) for yaw, pitch in self.poses])
        return torch.deg2rad(table)[index.cpu() % self.variants].to(self.model.template)


class ExpressionRenders(_GridRenders):
    """Sample f * 7 + e is face f, seen from the front, with expression e of `named_expressions`: neutral, then six.

    Raises ValueError for a model whose expression modes have no names that are known.
    """

    def __init__(self, model: MorphableModel, height: int, width: int, seed: int) -> None:
        self._weights = named_expressions(model)
        super().__init__(model, height, width, seed, len(EXPRESSIONS))

    def coefficients(self, index: torch.Tensor) -> Coefficients:
        return super().coefficients(index)._replace(expression=self._weights[index % self.variants])

    def _angles(self, index: torch.Tensor) -> torch.Tensor:
        return self.model.template.new_zeros(len(index), 3)
