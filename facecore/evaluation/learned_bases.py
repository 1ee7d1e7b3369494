"""What a system learned to add to the mean face, beside the morphable model's modes (Liu et al. 2018, section 4.4)."""

from __future__ import annotations

import dataclasses

import torch

from facecore.evaluation.error_maps import error_maps
from facecore.evaluation.panels import GREY, THREE_QUARTERS, surface_view


@dataclasses.dataclass(frozen=True, eq=False)
class BasisPair:
    """One code's vector: learned and own, float [V, 3] mm, what a code of 1 adds."""

    name: str
    learned: torch.Tensor
    own: torch.Tensor

    def row(self) -> dict[str, float | str]:
        """RMS length over the vertices of both, of what lies between them, and the cosine of the angle."""
        lengths = [float(part.square().sum(1).mean().sqrt()) for part in (self.learned, self.own)]
        product = float((self.learned * self.own).sum(1).mean())
        return {
            "code": self.name,
            "learned_mm": lengths[0],
            "model_mm": lengths[1],
            "between_mm": float((self.learned - self.own).square().sum(1).mean().sqrt()),
            "cosine": product / max(lengths[0] * lengths[1], 1e-12),
        }

    def drawn(self, template: torch.Tensor, triangles: torch.Tensor, limit: float) -> dict[str, torch.Tensor]:
        """RGBA pictures by caption: the mean face plus the code at 1, by the model and as learned, from three quarters,
        and where the two lie apart (colours to `limit` mm)."""
        grey = torch.full_like(template, GREY)[None]
        views = {
            f"{self.name}, {caption}": surface_view((template + part)[None], triangles, grey, THREE_QUARTERS, 240)
            for caption, part in (("model", self.own), ("learned", self.learned))
        }
        apart = (self.learned - self.own).norm(dim=1)
        return views | error_maps(
            template + self.learned, triangles, apart, limit, what=f"{self.name}, apart", size=240
        )


def basis_pairs(
    learned: torch.Tensor, own: torch.Tensor, names: tuple[str, ...], count: int | None = None
) -> list[BasisPair]:
    """The first `count` codes' vectors: learned and own [K, V, 3] mm, what codes of 1 add.

    Raises ValueError for shapes that differ.
    """
    if learned.shape != own.shape or len(names) != len(own):
        raise ValueError(f"learned and own must have one shape, got {list(learned.shape)} and {list(own.shape)}")
    return [BasisPair(*parts) for parts in zip(names[:count], learned.detach(), own.detach())]
