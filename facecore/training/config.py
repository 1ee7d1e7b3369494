"""Configuration shared by every system: run, data and optimiser settings, YAML overlays, and the configuration hash."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import yaml

from facecore.files import write_atomically

T = TypeVar("T")

# `1e-3` is a string to YAML 1.1, which PyYAML reads: its numbers have a point and a signed exponent.
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")

LATER = {"hash": "unless default"}  # metadata of a setting that came later: as it is by default, old runs go on


@dataclasses.dataclass(frozen=True)
class MorphableConfig:
    """Which morphable model; the settings `model` of every system begin with these, and have an image_size."""

    morphable: str = "procedural"
    """'procedural', or the path of a morphable model file or folder."""
    num_vertices: int = 5000
    """Resolution of the procedural model."""
    region: Literal["narrow", "face", "head"] = "face"
    """Part of the ICT model."""
    refine: int = 0
    """Refinement steps of the ICT model."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Where pictures come from and how they are mixed."""

    labelled_batch: int = 16
    """Pictures with known parameters in each batch; even, as they are used in pairs."""
    photo_batch: int = 16
    """Photographs in each hybrid batch."""
    photos_per_identity: int = 2
    """Photographs of one person in a batch, where the folder knows persons."""
    labelled: pathlib.Path | None = None
    """Folder of 300W-LP, or in its format: the labelled half of stages A to C, with model.morphable BFM.mat, its model.
    By default that half is rendered."""
    photos: pathlib.Path | None = None
    """Folder of photographs, the unlabelled half."""
    dataset: Literal["folder", "300w-lp", "aflw2000", "celeba", "auto"] = "folder"
    """What the folder of photographs is; the public data sets bring landmarks and persons of their own."""
    max_skipped: float | None = None
    """Largest share of unusable photographs; by default 0.02 of a public data set, and any of another folder."""
    landmarks: pathlib.Path | None = None
    """Landmarks of the photographs: a folder, a CSV or one file; by default found beside each picture."""
    identities: str | None = None
    """CSV `image,identity`, or `none`: the sub-folders are not persons. By default they are."""
    masks: pathlib.Path | None = None
    """Folder of masks with the pictures' stems; by default the skin-probability mask."""
    assume_cropped: bool = False
    """Take pictures without landmarks as already cropped to the face, instead of skipping them."""
    workers: int | None = None
    """Processes that load each half's photographs ahead; by default none where a CPU trains, else its cores less one,
    at most 8."""
    unlabelled: bool = True
    """False trains on the labelled half alone."""


@dataclasses.dataclass(frozen=True)
class WorldConfig:
    """Which faces there are beyond the labelled ones, where photographs are rendered too (METHODS 8.3, claim 0a)."""

    labelled_modes: int = 0
    """Identity modes of the labelled half's model, the first so many; 0 = all."""
    bumps: int = 0
    """Local bumps, as more identity modes, of the faces of rendered photographs and held-out renders."""
    bump_mm: float = 1.0
    """Standard deviation of a bump's height."""
    bump_radius_mm: float = 15.0
    """Standard deviation of the Gaussian that is a bump's profile."""
    persons: int = 0
    """Persons on rendered photographs, which then are the unlabelled half if no folder is given; 0 = none."""
    pictures: int = 8
    """Rendered photographs of each person."""
    steady_light: bool = dataclasses.field(default=False, metadata=LATER)
    """One light for all photographs of a person, as frames of a clip have."""
    yaw: float = dataclasses.field(default=45.0, metadata=LATER)
    """Largest turn to either side of faces on rendered photographs, in degrees."""


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """What a run writes, and when."""

    out: pathlib.Path = pathlib.Path("runs/facecore")
    """Folder of the run; must be new, unless --run.resume."""
    seed: int = 0
    """Seed of the weights, the renders and the augmentation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU if torch sees one and facecore was built for it, else the CPU."""
    log_every: int = 10
    """Iterations between TensorBoard scalars."""
    validate_every: int = 500
    """Iterations between validations on held-out renders and picture grids."""
    validation_size: int = 200
    """Held-out renders, of identities that training does not see."""
    checkpoint_every: int = 250
    """Iterations between checkpoints."""
    start_from: pathlib.Path | None = None
    """Checkpoint whose weights a new run begins with, where names and shapes agree: fine-tuning."""
    resume: bool = False
    """Go on from the last checkpoint in `out`."""


# Settings that say where a run reads and writes, or how often it reports: they don't change what it learns.
UNHASHED = frozenset(
    {"run", "data.labelled", "data.photos", "data.landmarks", "data.identities", "data.masks", "data.workers"}
    | {"data.max_skipped", "model.morphable", "model.recognition"}
)


def to_plain(config: Any) -> Any:
    """Nested dataclasses to dictionaries of JSON and YAML values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, (list, tuple)):
        return [to_plain(item) for item in config]
    if isinstance(config, dict):
        return {str(k): to_plain(v) for k, v in config.items()}
    return str(config) if isinstance(config, pathlib.PurePath) else config


def config_hash(config: Any) -> str:
    """Twelve hexadecimal digits over the settings, less UNHASHED: the section `run`, so the seed too, and paths.

    A setting that is marked LATER counts where it is not its default, so that a new version of facecore goes on with
    the runs of an old one. Two runs of one hash learn the same only from the same seed, morphable model, photographs
    and encoder precision; a checkpoint holds these beside the hash.
    """
    plain = _without_later_defaults(config)
    kept = {
        key: {k: v for k, v in value.items() if f"{key}.{k}" not in UNHASHED} if isinstance(value, dict) else value
        for key, value in plain.items()
        if key not in UNHASHED
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def _without_later_defaults(config: Any) -> dict[str, Any]:
    """`to_plain` without settings marked LATER that have their defaults."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.metadata == LATER and value == field.default:
            continue
        nested = dataclasses.is_dataclass(value) and not isinstance(value, type)
        plain[field.name] = _without_later_defaults(value) if nested else to_plain(value)
    return plain


def overlay(config: T, values: Any, path: str = "") -> T:
    """`config` with the given nested values put over it. Raises ValueError for unknown names and wrong types."""
    if not isinstance(values, dict):
        raise ValueError(f"{path or 'the configuration'} must be a mapping of names to values, got {values!r}")
    hints = typing.get_type_hints(type(config))
    known = {f.name for f in dataclasses.fields(config)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for name, value in values.items():
        where = f"{path}.{name}" if path else str(name)
        if name not in known:
            raise ValueError(f"unknown setting '{where}'; known here: {', '.join(sorted(known))}")
        current = getattr(config, name)
        if dataclasses.is_dataclass(current):
            changes[name] = overlay(current, value, where)
        else:
            changes[name] = _coerce(value, hints[name], where)
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]


def merged(*values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings over one another, the later over the earlier."""
    result: dict[str, Any] = {}
    for mapping in values:
        for name, value in mapping.items():
            result[name] = merged(result.get(name, {}), value) if isinstance(value, Mapping) else value
    return result


def _coerce(value: Any, hint: Any, where: str) -> Any:
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if value is None and type(None) in options:
        return None
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is typing.Literal:
            if value in typing.get_args(option):
                return value
        elif origin is tuple and isinstance(value, (list, tuple)):
            return tuple(_coerce(item, typing.get_args(option)[0], where) for item in value)
        elif origin is pathlib.Path and isinstance(value, str):
            return pathlib.Path(value)
        elif origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        elif origin is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
            return float(value)
        elif origin is bool and isinstance(value, bool):
            return value
        elif origin is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        elif origin is str and isinstance(value, str):
            return value
    raise ValueError(f"setting '{where}' must be {_describe(hint)}, got {value!r}")


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _describe(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def read_yaml(path: pathlib.Path) -> Any:
    """The values of a YAML file. Raises ValueError naming the file when it is absent or not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"the configuration {path} is not UTF-8 text") from error
    try:
        return yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"the configuration {path} is not valid YAML: {str(error).splitlines()[0]}") from error


def write_yaml(path: pathlib.Path, config: Any) -> None:
    """The resolved configuration, as a file that --config takes."""
    text = yaml.safe_dump(to_plain(config), sort_keys=False)
    write_atomically(path, text.encode())
