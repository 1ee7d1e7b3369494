"""The distribution of a morphable model's coefficients, as that model's authors mean it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch


class Coefficients(NamedTuple):
    """Coefficients of N faces: identity [N, Ki], expression [N, Ke], albedo [N, Ka] (Ka = 0 without an albedo)."""

    identity: torch.Tensor
    expression: torch.Tensor
    albedo: torch.Tensor


@dataclasses.dataclass(frozen=True, eq=False)
class BlendshapePrior:
    """Expression weights in [0, 1] of which a few are active at a time, left and right together.

    Modes form groups: mode k and partner[k] (its other side; itself when it has none). A group is active with
    probability `activity`; an active mode has a weight uniform in [0, 1], which the two sides share with probability
    `symmetry` and draw separately otherwise. Where scaled_by[k] >= 0, the weight of k is multiplied by the drawn weight
    of that mode (lips closed over an open jaw need an open jaw); a mode that scales must not be scaled itself.

    partner, scaled_by: int64 [Ke].
    """

    partner: torch.Tensor
    scaled_by: torch.Tensor
    activity: float
    symmetry: float

    def __post_init__(self) -> None:
        count = self.partner.numel()
        for name in ("partner", "scaled_by"):
            value = getattr(self, name)
            if value.dtype != torch.int64 or value.shape != (count,):
                raise ValueError(f"{name} must be int64 [{count}], got {value.dtype} {list(value.shape)}")
        modes = torch.arange(count, device=self.partner.device)
        if count and not (0 <= int(self.partner.min()) and int(self.partner.max()) < count):
            raise ValueError(f"partner must hold indices of the {count} expression modes")
        if not bool((self.partner[self.partner] == modes).all()):
            raise ValueError("partner must be an involution: partner[partner[k]] = k")
        if count and not (-1 <= int(self.scaled_by.min()) and int(self.scaled_by.max()) < count):
            raise ValueError(f"scaled_by must hold -1 or indices of the {count} expression modes")
        if bool((self.scaled_by[self.scaled_by.clamp_min(0)][self.scaled_by >= 0] >= 0).any()):
            raise ValueError("scaled_by must not form chains: a mode that scales another must not be scaled itself")
        if not (0 < self.activity <= 1 and 0 <= self.symmetry <= 1):
            raise ValueError(f"activity must be in (0, 1] and symmetry in [0, 1], got {self.activity}, {self.symmetry}")

    def moments(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each weight, float32 [Ke], exact for `sample`."""
        mean = torch.full(self.partner.shape, self.activity / 2, device=self.partner.device)
        square = torch.full_like(mean, self.activity / 3)
        scaled = self.scaled_by >= 0
        # A scaled weight is a product of independent draws, so its moments are the products of theirs.
        mean_scaled = torch.where(scaled, mean * mean[self.scaled_by.clamp_min(0)], mean)
        square_scaled = torch.where(scaled, square * square[self.scaled_by.clamp_min(0)], square)
        return mean_scaled, (square_scaled - mean_scaled**2).sqrt()

    def sample(self, n: int, generator: torch.Generator) -> torch.Tensor:
        """Returns weights, float32 [n, Ke], on the generator's device."""
        partner, scaled_by = self.partner.to(generator.device), self.scaled_by.to(generator.device)
        count = partner.numel()
        # Both sides of a group read the draws of the group's lower index, except where the sides differ.
        leader = torch.minimum(partner, torch.arange(count, device=partner.device))

        def uniform() -> torch.Tensor:
            return torch.rand(n, count, generator=generator, device=generator.device)

        active = uniform()[:, leader] < self.activity
        together = uniform()[:, leader] < self.symmetry
        weight = uniform()
        weight = torch.where(together, weight[:, leader], weight) * active
        return torch.where(scaled_by >= 0, weight * weight[:, scaled_by.clamp_min(0)], weight)

    def to(self, device: torch.device | str) -> BlendshapePrior:
        return dataclasses.replace(self, partner=self.partner.to(device), scaled_by=self.scaled_by.to(device))


@dataclasses.dataclass(frozen=True, eq=False)
class Prior:
    """Mean and standard deviation of every coefficient, and how to draw them.

    Coefficients are independent normals with these moments, except the expression when `blendshapes` is given: then
    its weights are drawn by that rule, and expression_mean and expression_std are its exact moments. Regularisers use
    (coefficient - mean) / std. All vectors float: identity [Ki], expression [Ke], albedo [Ka].
    """

    identity_mean: torch.Tensor
    identity_std: torch.Tensor
    expression_mean: torch.Tensor
    expression_std: torch.Tensor
    albedo_mean: torch.Tensor
    albedo_std: torch.Tensor
    blendshapes: BlendshapePrior | None = None

    def __post_init__(self) -> None:
        for part in ("identity", "expression", "albedo"):
            mean, std = getattr(self, f"{part}_mean"), getattr(self, f"{part}_std")
            if mean.ndim != 1 or mean.shape != std.shape:
                raise ValueError(f"{part}_mean and {part}_std must have one shape [K], got {mean.shape}, {std.shape}")
            if not bool(torch.isfinite(mean).all()) or not bool((torch.isfinite(std) & (std > 0)).all()):
                raise ValueError(f"{part}_mean must be finite and {part}_std finite and positive")
        if self.blendshapes is not None and self.blendshapes.partner.shape != self.expression_mean.shape:
            raise ValueError(
                f"blendshapes must describe {self.expression_mean.numel()} expression modes, "
                f"got {self.blendshapes.partner.numel()}"
            )

    @classmethod
    def normal(cls, num_identity: int, num_expression: int, num_albedo: int = 0) -> Prior:
        """Every coefficient a standard normal: the prior of whitened PCA modes."""
        counts = {"identity": num_identity, "expression": num_expression, "albedo": num_albedo}
        moments: dict[str, Any] = {f"{part}_mean": torch.zeros(count) for part, count in counts.items()}
        moments |= {f"{part}_std": torch.ones(count) for part, count in counts.items()}
        return cls(**moments)

    @classmethod
    def with_blendshapes(cls, num_identity: int, blendshapes: BlendshapePrior, num_albedo: int = 0) -> Prior:
        """Identity and albedo standard normal, expression weights by `blendshapes`."""
        normal = cls.normal(num_identity, blendshapes.partner.numel(), num_albedo)
        mean, std = blendshapes.moments()
        return dataclasses.replace(normal, expression_mean=mean, expression_std=std, blendshapes=blendshapes)

    def sample(self, n: int, generator: torch.Generator) -> Coefficients:
        """Draws n faces; the result lies on the device of the prior. Deterministic given the generator's state."""
        if n < 0:
            raise ValueError(f"n must be at least 0, got {n}")

        def normal(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
            draw = torch.randn(n, mean.numel(), generator=generator, device=generator.device, dtype=mean.dtype)
            return mean + std * draw.to(mean.device)

        identity = normal(self.identity_mean, self.identity_std)
        if self.blendshapes is None:
            expression = normal(self.expression_mean, self.expression_std)
        else:
            expression = self.blendshapes.sample(n, generator).to(self.expression_mean)
        return Coefficients(identity, expression, normal(self.albedo_mean, self.albedo_std))

    def whiten(self, part: str, coefficients: torch.Tensor) -> torch.Tensor:
        """(coefficients - mean) / std of a part ("identity", "expression", "albedo"), [N, K]. Differentiable."""
        return (coefficients - getattr(self, f"{part}_mean")) / getattr(self, f"{part}_std")

    def unwhiten(self, part: str, whitened: torch.Tensor) -> torch.Tensor:
        """mean + std * whitened of a part, [N, K]: the inverse of whiten. Differentiable."""
        return torch.addcmul(getattr(self, f"{part}_mean"), getattr(self, f"{part}_std"), whitened)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Prior:
        """The same prior on another device or with moments of another dtype."""
        moved: dict[str, Any] = {
            field.name: getattr(self, field.name).to(device=device, dtype=dtype)
            for field in dataclasses.fields(self)
            if field.name != "blendshapes"
        }
        if self.blendshapes is not None:
            moved["blendshapes"] = self.blendshapes.to(moved["identity_mean"].device)
        return Prior(**moved)
