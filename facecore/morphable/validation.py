"""What a MorphableModel must satisfy; every violation is a ValueError that names the field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from facecore.morphable.model import MorphableModel


def check_model(model: MorphableModel) -> None:
    """Checks shapes, dtypes, devices, finiteness and index ranges of every field."""
    if not model.name:
        raise ValueError("name must not be empty")
    template = model.template
    if template.ndim != 2 or template.shape[1] != 3 or not template.is_floating_point():
        raise ValueError(f"template must be float [V, 3], got {template.dtype} {list(template.shape)}")
    count = template.shape[0]
    _check_float("template", template, (count, 3), template)
    _check_index("triangles", model.triangles, torch.int32, count, columns=3)
    a, b, c = model.triangles.unbind(1)
    if bool(((a == b) | (b == c) | (c == a)).any()):
        raise ValueError("triangles must have three different vertices each; remove the degenerate ones")
    _check_index("landmarks68", model.landmarks68, torch.int64, count)
    if model.landmarks68.numel() != 68:
        raise ValueError(f"landmarks68 must have 68 entries, got {model.landmarks68.numel()}")
    for part in ("identity", "expression"):
        _check_basis(part, getattr(model, f"{part}_basis"), getattr(model, f"{part}_std"), template)
    _check_albedo(model)
    if model.mirror_map is not None:
        _check_index("mirror_map", model.mirror_map, torch.int64, count)
        identity_map = torch.arange(count, device=model.mirror_map.device)
        if model.mirror_map.numel() != count or not bool((model.mirror_map[model.mirror_map] == identity_map).all()):
            raise ValueError(f"mirror_map must be an involution of the {count} vertices: map[map[i]] = i")
    if model.uv is not None:
        _check_float("uv", model.uv, (count, 2), template)
    if model.origin is not None:
        _check_float("origin", model.origin, (3,), template)
    for name, mask in model.regions.items():
        if mask.dtype != torch.bool or mask.shape != (count,):
            raise ValueError(f"region '{name}' must be bool [{count}], got {mask.dtype} {list(mask.shape)}")
    _check_counts(model)


def _check_albedo(model: MorphableModel) -> None:
    parts = {"albedo_mean": model.albedo_mean, "albedo_basis": model.albedo_basis, "albedo_std": model.albedo_std}
    missing = [name for name, value in parts.items() if value is None]
    if missing and len(missing) < len(parts):
        raise ValueError(f"the albedo must have mean, basis and std or none of them; missing: {missing}")
    if model.albedo_mean is None or model.albedo_basis is None or model.albedo_std is None:
        return
    _check_float("albedo_mean", model.albedo_mean, tuple(model.template.shape), model.template)
    if not bool(((model.albedo_mean >= 0) & (model.albedo_mean <= 1)).all()):
        raise ValueError("albedo_mean must lie in [0, 1] (display sRGB); divide values of 0 to 255 by 255")
    _check_basis("albedo", model.albedo_basis, model.albedo_std, model.template)


def _check_basis(part: str, basis: torch.Tensor, std: torch.Tensor, template: torch.Tensor) -> None:
    if basis.ndim != 3:
        raise ValueError(f"{part}_basis must be [K, {template.shape[0]}, 3], got {list(basis.shape)}")
    _check_float(f"{part}_basis", basis, (basis.shape[0], *template.shape), template)
    _check_float(f"{part}_std", std, (basis.shape[0],), template)
    if not bool((std > 0).all()):
        raise ValueError(f"{part}_std must be positive; drop the modes that have no variance")


def _check_counts(model: MorphableModel) -> None:
    for part in ("identity", "expression", "albedo"):
        std, names = getattr(model, f"{part}_std"), getattr(model, f"{part}_names")
        count = 0 if std is None else std.numel()
        if names and len(names) != count:
            raise ValueError(f"{part}_names must have {count} entries, got {len(names)}")
        prior = getattr(model.prior, f"{part}_mean")
        if prior.numel() != count:
            raise ValueError(f"prior.{part}_mean must have {count} entries as the {part} basis, got {prior.numel()}")
        if prior.device != model.template.device or prior.dtype != model.template.dtype:
            raise ValueError(f"prior must be {model.template.dtype} on {model.template.device}; call prior.to(...)")


def _check_float(name: str, value: torch.Tensor, shape: tuple[int, ...], like: torch.Tensor) -> None:
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(value.shape)}")
    if value.dtype != like.dtype or value.device != like.device:
        raise ValueError(f"{name} must be {like.dtype} on {like.device}, got {value.dtype} on {value.device}")
    if not bool(torch.isfinite(value).all()):
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def _check_index(name: str, value: torch.Tensor, dtype: torch.dtype, count: int, columns: int | None = None) -> None:
    if value.dtype != dtype or value.ndim != (1 if columns is None else 2) or value.numel() == 0:
        wanted = "[K]" if columns is None else f"[K, {columns}]"
        raise ValueError(f"{name} must be {dtype} {wanted}, not empty, got {value.dtype} {list(value.shape)}")
    if columns is not None and value.shape[1] != columns:
        raise ValueError(f"{name} must have {columns} columns, got {value.shape[1]}")
    low, high = int(value.min()), int(value.max())
    if low < 0 or high >= count:
        raise ValueError(f"{name} must hold indices from 0 to {count - 1}, got {low} to {high}")


def check_coefficients(name: str, value: torch.Tensor, count: int, like: torch.Tensor) -> None:
    """Raises ValueError unless value is [N, count] in the dtype and on the device of `like`."""
    if value.ndim != 2 or value.shape[1] != count:
        raise ValueError(f"{name} must have shape [N, {count}], got {list(value.shape)}")
    if value.dtype != like.dtype or value.device != like.device:
        raise ValueError(
            f"{name} must be {like.dtype} on {like.device} as the model, got {value.dtype} on {value.device}; "
            "convert it or call model.to(...)"
        )


def check_crop(model: MorphableModel, mask: torch.Tensor) -> None:
    """Raises ValueError unless the vertices of mask keep all landmarks and are symmetric under the mirror map."""
    lost = torch.nonzero(~mask[model.landmarks68]).flatten().tolist()
    if lost:
        raise ValueError(f"the mask cuts off landmarks {lost}; keep their vertices and the triangles around them")
    if model.mirror_map is not None and not bool((mask == mask[model.mirror_map]).all()):
        raise ValueError(
            "the mask must keep both vertices of every mirrored pair and the triangles of both; use "
            "mask & mask[model.mirror_map], or drop the map with dataclasses.replace(model, mirror_map=None)"
        )
