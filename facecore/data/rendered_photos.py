"""Renders that stand for photographs: several of each person, landmarks and masks known, no 3-D label (METHODS 8.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsIndex

import torch

from facecore.data.batches import LabelledBatch, PhotoBatch
from facecore.data.identities import IdentitySampler
from facecore.data.renders import YAW, LabelledRenders
from facecore.morphable import Coefficients, MorphableModel


class PersonRenders(LabelledRenders):
    """Labelled renders of which `pictures` in a row show one person: the same identity and albedo, all else differs.

    With steady_light they share the light, too, which stays where it is while the face turns: frames of a clip, whose
    brightness is set for each frame, as a camera's exposure is.
    """

    def __init__(
        self,
        model: MorphableModel,
        height: int,
        width: int,
        seed: int = 0,
        *,
        pictures: int,
        yaw: float = YAW,
        steady_light: bool = False,
    ) -> None:
        super().__init__(model, height, width, seed, yaw=yaw)
        if pictures < 1:
            raise ValueError(f"pictures must be at least 1, got {pictures}")
        self.pictures, self.steady_light = pictures, steady_light

    def one_of_each(self, first: int, count: int) -> range:
        """Sample numbers of one picture of each of `count` persons, of whom `first` is the number of the first."""
        return range(first * self.pictures, (first + count) * self.pictures, self.pictures)

    def coefficients(self, index: torch.Tensor) -> Coefficients:
        """Identity and albedo by person, expression by picture; see LabelledRenders."""
        own = super().coefficients(index)
        of_person = super().coefficients(index - index % self.pictures)
        return Coefficients(of_person.identity, own.expression, of_person.albedo)

    def lit_as(self, index: torch.Tensor) -> torch.Tensor:
        """By picture, or by person; see LabelledRenders."""
        return index - index % self.pictures if self.steady_light else index


class RenderedPhotos:
    """`persons` x `pictures` rendered photographs (a PhotoSource); picture k of person p is p * pictures + k.

    Batches carry pictures, masks, landmarks and the person's number, and nothing of the 3-D truth. Deterministic given
    the seed. yaw: largest turn to either side, in degrees; steady_light: see PersonRenders. Raises ValueError for
    numbers below 1.
    """

    def __init__(
        self,
        model: MorphableModel,
        height: int,
        width: int,
        seed: int = 0,
        *,
        persons: int,
        pictures: int,
        yaw: float = YAW,
        steady_light: bool = False,
    ) -> None:
        if persons < 1:
            raise ValueError(f"persons must be at least 1, got {persons}")
        self.renders = PersonRenders(model, height, width, seed, pictures=pictures, yaw=yaw, steady_light=steady_light)
        self.identity = torch.arange(persons).repeat_interleave(pictures)
        self.num_identities = persons
        self._sampler = IdentitySampler(self.identity)

    def __len__(self) -> int:
        return len(self.identity)

    @property
    def digest(self) -> str:
        """What tells these pictures from others; see PhotoFolder.digest."""
        renders = self.renders
        shape = f"{self.num_identities}x{renders.pictures}x{renders.height}x{renders.width}"
        light = ", each person in one light" if renders.steady_light else ""
        turn = f", turned by up to {renders.yaw:g} degrees" if renders.yaw != YAW else ""
        return f"{shape} renders of {renders.model.content_hash()[:12]}, seed {renders.seed}{light}{turn}"

    def sample(self, generator: torch.Generator, count: int, per_identity: int = 2) -> torch.Tensor:
        """`count` samples with `per_identity` of a person (`IdentitySampler`), int64 [count]."""
        return self._sampler.sample(generator, -(-count // per_identity), per_identity)[:count]

    def batch(
        self, index: torch.Tensor, key: SupportsIndex | None = None, occurrence: Sequence[int] | None = None
    ) -> PhotoBatch:
        """The samples `index`, int64 [B], on the model's device. key, occurrence: ignored, as nothing is augmented."""
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(self):
            raise ValueError(f"index must be in [0, {len(self)}), got {int(index.min())} to {int(index.max())}")
        return as_photographs(self.renders.batch(index), self.identity[index.cpu()])


def as_photographs(renders: LabelledBatch, identity: torch.Tensor) -> PhotoBatch:
    """What is known of renders where they stand for photographs of these persons, int64 [N]."""
    points = renders.landmarks
    return PhotoBatch(
        image=renders.image,
        mask=renders.mask,
        landmarks=points,
        landmark_weight=torch.ones_like(points[..., 0]),
        five_points=points.new_zeros(len(points), 5, 2),
        five_point_weight=points.new_zeros(len(points), 5),
        identity=identity.to(points.device),
    )
