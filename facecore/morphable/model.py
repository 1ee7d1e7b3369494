"""MorphableModel: template, whitened bases, topology and prior of one linear face model (METHODS 1.4)."""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import os
from typing import Any

import numpy as np
import torch

from facecore.mesh import Mesh
from facecore.mesh.mesh import _is_inside_out
from facecore.morphable import validation
from facecore.morphable.prior import Coefficients, Prior

_REMEDY = {
    "albedo": "attach one with model.with_albedo(...) or load the model with albedo='procedural'",
    "uv": "use facecore.mesh.cylindrical_uv(model.mesh) on a face region",
    "mirror_map": "load a model that stores a left-right map",
}


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class MorphableModel:
    """shape = template + identity @ identity_basis + expression @ expression_basis; albedo likewise.

    Everything is in millimetres in the object frame (+x image right, +y up, +z out of the face, origin at the
    template's centroid). The bases are whitened: already multiplied by the `_std` vectors, so that a coefficient of 1
    is one unit of the prior, and the source's raw coefficient is coefficient * std (std is 1 where the source's own
    coefficients are used as they are). Validated once, here: wrong shapes, dtypes, non-finite values or indices out of
    range raise ValueError. Inverted triangle winding is normalised to counter-clockwise seen from outside. Treat the
    tensors as immutable. A part that a model may lack is None; `require` and the methods say which one is missing.
    """

    name: str
    template: torch.Tensor  # float [V, 3]
    triangles: torch.Tensor  # int32 [T, 3]
    identity_basis: torch.Tensor  # float [Ki, V, 3]
    identity_std: torch.Tensor  # float [Ki]
    expression_basis: torch.Tensor  # float [Ke, V, 3]
    expression_std: torch.Tensor  # float [Ke]
    landmarks68: torch.Tensor  # int64 [68], vertices of the iBUG points (METHODS 1.10)
    prior: Prior
    albedo_mean: torch.Tensor | None = None  # float [V, 3], display sRGB in [0, 1]
    albedo_basis: torch.Tensor | None = None  # float [Ka, V, 3]
    albedo_std: torch.Tensor | None = None  # float [Ka]
    mirror_map: torch.Tensor | None = None  # int64 [V], vertex at the mirrored place, an involution
    regions: dict[str, torch.Tensor] = dataclasses.field(default_factory=dict)  # bool [V] each
    uv: torch.Tensor | None = None  # float [V, 2], v upwards
    origin: torch.Tensor | None = None  # float [3], mm: the object frame's origin in the source's own coordinates
    identity_names: tuple[str, ...] = ()
    expression_names: tuple[str, ...] = ()
    albedo_names: tuple[str, ...] = ()
    albedo_source: str | None = None  # "procedural", or the model the albedo came from
    source: str = ""  # where the model came from, its licence and citation

    def __post_init__(self) -> None:
        validation.check_model(self)
        if _is_inside_out(self.template, self.triangles):
            self._set("triangles", self.triangles[:, [0, 2, 1]].contiguous())
        # One buffer for both bases: `shape` is then a single addmm, and the two fields are views of it.
        self._set_bases(torch.cat([self.identity_basis, self.expression_basis]).flatten(1).contiguous())
        self._set("regions", dict(self.regions))
        for part, count in (
            ("identity", self.num_identity),
            ("expression", self.num_expression),
            ("albedo", self.num_albedo),
        ):
            names = tuple(getattr(self, f"{part}_names")) or tuple(f"{part}{k:03d}" for k in range(count))
            self._set(f"{part}_names", names)

    def _set(self, field: str, value: Any) -> None:
        object.__setattr__(self, field, value)

    def _set_bases(self, flat: torch.Tensor) -> None:
        count = self.identity_std.numel()
        self._set("_flat_bases", flat)
        self._set("identity_basis", flat[:count].view(count, flat.shape[1] // 3, 3))
        self._set("expression_basis", flat[count:].view(flat.shape[0] - count, flat.shape[1] // 3, 3))

    @property
    def num_vertices(self) -> int:
        return int(self.template.shape[0])

    @property
    def num_triangles(self) -> int:
        return int(self.triangles.shape[0])

    @property
    def num_identity(self) -> int:
        return int(self.identity_std.numel())

    @property
    def num_expression(self) -> int:
        return int(self.expression_std.numel())

    @property
    def num_albedo(self) -> int:
        return 0 if self.albedo_std is None else int(self.albedo_std.numel())

    @property
    def device(self) -> torch.device:
        return self.template.device

    @property
    def dtype(self) -> torch.dtype:
        return self.template.dtype

    @functools.cached_property
    def mesh(self) -> Mesh:
        """The template as a Mesh (on the model's device)."""
        return Mesh(self.template, self.triangles, self.uv)

    def require(self, part: str) -> torch.Tensor:
        """The named optional part ("albedo_mean", "albedo_basis", "uv", "mirror_map"), or ValueError naming it."""
        value = getattr(self, part)
        if value is None:
            label = "albedo" if part.startswith("albedo") else part
            remedy = _REMEDY.get(label, "choose another model")
            raise ValueError(f"the model '{self.name}' has no {label}; {remedy}")
        return value

    def region(self, name: str) -> torch.Tensor:
        """The named vertex mask, bool [V]; ValueError lists the regions there are."""
        if name not in self.regions:
            raise ValueError(f"the model '{self.name}' has no region '{name}'; it has {sorted(self.regions) or 'none'}")
        return self.regions[name]

    def sample(self, n: int, generator: torch.Generator) -> Coefficients:
        """Draws n faces from the prior: identity [n, Ki], expression [n, Ke], albedo [n, Ka]."""
        return self.prior.sample(n, generator)

    def shape(self, identity: torch.Tensor, expression: torch.Tensor | None = None) -> torch.Tensor:
        """Returns vertices in mm, [N, V, 3].

        identity: [N, Ki]; expression: [N, Ke], None = no expression (all zero, the template's own). Both in the
        model's dtype and on its device. Differentiable to any order in both. Deterministic. Raises ValueError for
        wrong shapes, dtypes or devices.
        """
        validation.check_coefficients("identity", identity, self.num_identity, self.template)
        coefficients = identity
        if expression is not None:
            validation.check_coefficients("expression", expression, self.num_expression, self.template)
            if expression.shape[0] != identity.shape[0]:
                raise ValueError(
                    f"identity and expression must have one batch size, got {identity.shape[0]}, {expression.shape[0]}"
                )
            coefficients = torch.cat([identity, expression], dim=1)
        basis: torch.Tensor = self._flat_bases[: coefficients.shape[1]]  # type: ignore[attr-defined]
        return _linear(self.template, coefficients, basis)

    def albedo(self, coefficients: torch.Tensor, *, clamp: bool = False) -> torch.Tensor:
        """Returns albedo per vertex, [N, V, 3], display sRGB; linear in the coefficients [N, Ka].

        Extreme coefficients leave [0, 1]; `clamp=True` cuts there, for use as a colour (METHODS 1.5 clamps for display
        only). Differentiable in coefficients. Raises ValueError when the model has no albedo.
        """
        mean, basis = self.require("albedo_mean"), self.require("albedo_basis")
        validation.check_coefficients("coefficients", coefficients, self.num_albedo, self.template)
        result = _linear(mean, coefficients, basis.flatten(1))
        return result.clamp(0, 1) if clamp else result

    def mean_shape(self) -> torch.Tensor:
        """The mean face of the prior, expression included, [V, 3] mm."""
        return self.shape(self.prior.identity_mean[None], self.prior.expression_mean[None])[0]

    def mean_neutral(self) -> torch.Tensor:
        """The mean face of the prior without expression, [V, 3] mm; the 'mean face' of identity baselines."""
        return self.shape(self.prior.identity_mean[None])[0]

    def with_albedo(
        self,
        mean: torch.Tensor,
        basis: torch.Tensor,
        std: torch.Tensor,
        *,
        source: str,
        names: tuple[str, ...] = (),
    ) -> MorphableModel:
        """The same model with another albedo of standard-normal coefficients: mean [V, 3], basis [Ka, V, 3], std [Ka].

        `source` names where the albedo came from.
        """
        prior = dataclasses.replace(self.prior, albedo_mean=torch.zeros_like(std), albedo_std=torch.ones_like(std))
        return dataclasses.replace(
            self,
            albedo_mean=mean,
            albedo_basis=basis,
            albedo_std=std,
            albedo_names=names,
            albedo_source=source,
            prior=prior,
        )

    def crop(self, mask: torch.Tensor, *, name: str | None = None, recentre: bool = True) -> MorphableModel:
        """The part of the model on the vertices of mask, bool [V]; triangles with all three corners in it stay.

        Vertices that no remaining triangle uses are dropped as well. The origin moves to the new template's centroid;
        with recentre=False the coordinates stay as they are. Raises ValueError when the mask cuts off a landmark, or
        is not symmetric where the model has a mirror map.
        """
        if mask.dtype != torch.bool or mask.shape != (self.num_vertices,):
            raise ValueError(f"mask must be bool [{self.num_vertices}], got {mask.dtype} {list(mask.shape)}")
        triangles = self.triangles.long()
        kept = triangles[mask.to(self.device)[triangles].all(dim=1)]
        mask = torch.zeros(self.num_vertices, dtype=torch.bool, device=self.device)
        mask[kept] = True
        validation.check_crop(self, mask)
        index = torch.cumsum(mask, 0) - 1
        template, origin = self.template[mask], self.origin
        if recentre:
            centroid = template.double().mean(0).to(template)
            template, origin = template - centroid, None if origin is None else origin + centroid
        return dataclasses.replace(
            self,
            name=name or f"{self.name}-crop",
            origin=origin,
            template=template,
            triangles=index[kept].int(),
            identity_basis=self.identity_basis[:, mask],
            expression_basis=self.expression_basis[:, mask],
            landmarks68=index[self.landmarks68],
            albedo_mean=None if self.albedo_mean is None else self.albedo_mean[mask],
            albedo_basis=None if self.albedo_basis is None else self.albedo_basis[:, mask],
            mirror_map=None if self.mirror_map is None else index[self.mirror_map[mask]],
            regions={key: value[mask] for key, value in self.regions.items()},
            uv=None if self.uv is None else self.uv[mask],
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> MorphableModel:
        """The same model on another device or with floating-point tensors of another dtype."""

        def move(value: Any) -> Any:
            if isinstance(value, torch.Tensor):
                return value.to(device=device, dtype=dtype if value.is_floating_point() else None)
            if isinstance(value, dict):
                return {key: move(entry) for key, entry in value.items()}
            return value.to(device, dtype) if isinstance(value, Prior) else value

        moved = copy.copy(self)
        for cached in ("mesh", "_content_hash"):
            moved.__dict__.pop(cached, None)
        for field in dataclasses.fields(self):
            if field.name not in ("identity_basis", "expression_basis"):
                moved._set(field.name, move(getattr(self, field.name)))
        moved._set_bases(move(self._flat_bases))  # type: ignore[attr-defined]
        return moved

    def content_hash(self) -> str:
        """SHA-256 (hex) of everything that changes a result: all tensors and mode names, not the display name."""
        return self._content_hash

    @functools.cached_property
    def _content_hash(self) -> str:
        from facecore.morphable.io import model_arrays

        digest = hashlib.sha256()
        for key, array in sorted(model_arrays(self).items()):
            digest.update(f"{key} {array.dtype.str} {array.shape};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a facecore npz (no pickle), complete or not at all; `facecore.morphable.load` reads it."""
        from facecore.morphable.io import save_model

        save_model(self, path)


def _linear(mean: torch.Tensor, coefficients: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """mean [V, 3] + coefficients [N, K] @ basis [K, 3V], [N, V, 3], in the model's dtype under autocast too."""
    with torch.autocast(mean.device.type, enabled=False):  # bfloat16 would move vertices by half a millimetre
        return torch.addmm(mean.flatten(), coefficients, basis).view(-1, *mean.shape)
