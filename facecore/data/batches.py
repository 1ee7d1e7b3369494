"""What a training step sees: labelled renders and photographs (METHODS 2.3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol, SupportsIndex, TypeVar

import torch

from facecore.data.landmarks import five_points

Self = TypeVar("Self", bound="_Batch")
Batch = TypeVar("Batch", bound="_Batch")
Batch_co = TypeVar("Batch_co", bound="_Batch", covariant=True)


class _Batch:
    image: torch.Tensor

    def __len__(self) -> int:
        return len(self.image)

    def to(self: Self, device: torch.device | str | None = None) -> Self:
        """The same batch on another device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self: Self) -> Self:
        """The same batch in page-locked memory, from which `to` copies to a GPU without waiting."""
        return self._map(torch.Tensor.pin_memory)

    def __getitem__(self: Self, index: slice | torch.Tensor) -> Self:
        """The samples that a slice or an index tensor names, as a batch."""
        return self._map(lambda tensor: tensor[index])

    def _map(self: Self, function: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        return type(self)(**{field.name: function(getattr(self, field.name)) for field in fields})


@dataclasses.dataclass(frozen=True, eq=False)
class ShapeBatch(_Batch):
    """Pictures of faces whose shape, expression and pose are known.

    image: float32 [B, 3, H, W] in [0, 1]; mask: float32 [B, H, W], 1 where the face is seen, occluders cut out;
    landmarks: [B, 68, 2] in continuous pixels, the projections of all 68 model landmarks, hidden or not;
    identity [B, Ki], expression [B, Ke]: coefficients; pose: [B, 6] of METHODS 1.3.
    """

    image: torch.Tensor
    mask: torch.Tensor
    landmarks: torch.Tensor
    identity: torch.Tensor
    expression: torch.Tensor
    pose: torch.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledBatch(ShapeBatch):
    """Renders of a morphable model with everything known: also albedo, coefficients [B, Ka], and sh_coefficients,
    effective light, [B, 9, 3]."""

    albedo: torch.Tensor
    sh_coefficients: torch.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class PhotoBatch(_Batch):
    """Crops of photographs.

    image: float32 [B, 3, H, W] in [0, 1]; mask: float32 [B, H, W], 1 = visible face skin; landmarks: [B, 68, 2] in
    continuous pixels of the crop, landmark_weight: [B, 68], 0 = unknown; five_points: [B, 5, 2], five_point_weight:
    [B, 5], 1 only where a photograph has five points and not 68, so that no point counts twice; identity: int64 [B],
    number of the person, -1 = unknown. Unknown points are 0.
    """

    image: torch.Tensor
    mask: torch.Tensor
    landmarks: torch.Tensor
    landmark_weight: torch.Tensor
    five_points: torch.Tensor
    five_point_weight: torch.Tensor
    identity: torch.Tensor

    def aligning_points(self, otherwise: torch.Tensor | None = None) -> torch.Tensor:
        """The five points of each photograph, of its 68 or its own, [B, 5, 2]; `otherwise`, [5, 2], where it has none.

        Raises ValueError for a photograph without points when there is no `otherwise`.
        """
        of_68 = (self.landmark_weight > 0).all(1)[:, None, None]
        known = (self.five_point_weight > 0).all(1)[:, None, None] | of_68
        points = torch.where(of_68, five_points(self.landmarks), self.five_points)
        if otherwise is not None:
            return torch.where(known, points, otherwise)
        if not known.is_cuda and not bool(known.all()):
            raise ValueError("a photograph has no landmarks: faces are aligned by five points or 68")
        return points


class PictureSource(Protocol[Batch_co]):
    """Where pictures that are drawn for each batch come from: PhotoFolder, RenderedPhotos, LabelledPhotos."""

    num_identities: int
    identity: torch.Tensor  # int64 [number of samples] on the CPU: the person, -1 = unknown

    @property
    def digest(self) -> str:
        """What tells these pictures from others, for resuming."""

    def __len__(self) -> int: ...

    def sample(self, generator: torch.Generator, count: int, per_identity: int = 2) -> torch.Tensor:
        """Samples for a batch, int64 [count], `per_identity` of a person where persons are known."""

    def batch(
        self, index: torch.Tensor, key: SupportsIndex | None = None, occurrence: Sequence[int] | None = None
    ) -> Batch_co:
        """The samples `index`, int64 [B]; key: of their random augmentation, None = none; occurrence: how often each
        came before in the batch that this is a part of (`photos.occurrences`), None = it is a whole one."""


PhotoSource = PictureSource[PhotoBatch]  # the unlabelled half
