"""The manifest of a perception network: what its file is, what it takes and what it gives (METHODS 7)."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

ROLES = ("detector", "landmarks", "segmentation", "recognition")
FORMATS = ("torchscript", "onnx", "state-dict", "callable")
OUTPUTS = {  # what a role needs, then what it may have
    "detector": (("boxes", "scores"), ("points",)),
    "landmarks": (("points",), ("score",)),
    "segmentation": (("mask",), ()),
    "recognition": (("embed",), ("pooled",)),
}
COORDINATES = ("pixels", "indices", "unit", "ndc")
ACTIVATIONS = ("none", "sigmoid", "softmax")
RENDERS, RENDERS_AND_PHOTOGRAPHS = "renders", "renders and photographs"  # what our own networks are trained on


@dataclasses.dataclass(frozen=True)
class Manifest:
    """One network for one role.

    role: detector, landmarks, segmentation or recognition.
    format: torchscript, onnx, state-dict (with `architecture`) or callable.
    file: the network's file, beside the manifest or below it; for a callable `module:function`.
    sha256: of the file, of the callable's source file.
    input_size: (height, width) in pixels; the network sees pictures of exactly this size.
    mean, std: of the channels for values in [0, 1], in the order that the network takes: it sees (value - mean) / std.
    channel_order: RGB or BGR.
    outputs: which of the network's outputs, by name or by number, is `boxes` and `scores` (detector), `points`
        (landmarks), `mask` (segmentation), `embed` (recognition); optional are a detector's `points`, the landmarks'
        `score` and the recognition's `pooled`.
    architecture, options: name of a registered architecture, and the keywords to build it with.
    coordinates: of boxes and points: pixels (continuous: the first pixel's centre is 0.5), indices (it is 0), unit
        (0 to 1) or ndc (-1 to 1, v down).
    crop_factor: side of the square that the network sees, over the mean of width and height of the detected box
        (landmarks) or of the landmarks' box (segmentation).
    face_classes: the classes of a segmentation whose probabilities add up to "visible face"; empty for one channel.
    activation: what turns a segmentation's numbers into probabilities: none, sigmoid or softmax (over channels).
    min_score: a detector's boxes below it are dropped.
    trained_on: in words; RENDERS marks a network that has seen no photograph, whose results on photographs say little.
    """

    path: pathlib.Path
    role: str
    format: str
    file: str
    sha256: str
    input_size: tuple[int, int]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channel_order: str = "RGB"
    outputs: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
    architecture: str = ""
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    coordinates: str = "pixels"
    crop_factor: float = 1.5
    face_classes: tuple[int, ...] = ()
    activation: str = "none"
    min_score: float = 0.5
    trained_on: str = ""

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("role", self.role, ROLES),
            ("format", self.format, FORMATS),
            ("channel_order", self.channel_order, ("RGB", "BGR")),
            ("coordinates", self.coordinates, COORDINATES),
            ("activation", self.activation, ACTIVATIONS),
        ):
            self._require(value in choices, name, f"one of {', '.join(choices)}", value)
        size = self.input_size
        self._require(len(size) == 2 and all(16 <= n <= 4096 for n in size), "input_size", "[height, width]", size)
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            right = len(numbers) == 3 and all(map(math.isfinite, numbers)) and (name == "mean" or min(numbers) > 0)
            self._require(right, name, "three finite numbers (std above 0)", numbers)
        self._require(0.1 <= self.crop_factor <= 10, "crop_factor", "in [0.1, 10]", self.crop_factor)
        needed, optional = OUTPUTS[self.role]
        right = set(needed) <= self.outputs.keys() <= {*needed, *optional}
        expected = f"{', '.join(needed)}" + (f" and may have {', '.join(optional)}" if optional else "")
        self._require(right, "outputs", f"the keys {expected}", sorted(self.outputs))
        self._require((self.format == "state-dict") == bool(self.architecture), "architecture", _ARCHITECTURE, "")
        self._require(len(self.sha256) == 64, "sha256", "64 hexadecimal digits", self.sha256)
        self._require(min(self.face_classes, default=0) >= 0, "face_classes", "numbers from 0", self.face_classes)

    @functools.cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits over everything that the network's results depend on, its file included."""
        described = ["path", "trained_on"]  # results do not depend on these
        if self.format != "callable":  # whose `file` says which function
            described.append("file")  # its content is in sha256: a copy by another name is the same network
        content = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in described}
        content["outputs"], content["options"] = dict(self.outputs), dict(self.options)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    def network_file(self) -> pathlib.Path:
        """The network's file, after its hash was compared. Raises ValueError if it is absent, outside or another."""
        folder = self.path.parent.resolve()
        file = (folder / self.file).resolve()
        if not file.is_relative_to(folder):
            raise ValueError(f"{self.path}: file must lie beside the manifest or below it, got {self.file}")
        if not file.is_file():
            raise ValueError(f"{self.path}: its network {file} is missing")
        self.check_hash(file)
        return file

    def check_hash(self, file: pathlib.Path) -> None:
        found = file_hash(file)
        if found != self.sha256.lower():
            raise ValueError(
                f"{self.path}: {file.name} is not the file that the manifest describes: its sha256 is {found}, not "
                f"{self.sha256}; get the right file, or correct the manifest if you trust this one"
            )

    def _require(self, right: bool, name: str, expected: str, got: object) -> None:
        if not right:
            raise ValueError(f"{self.path}: {name} must be {expected}, got {got!r}")


_ARCHITECTURE = "the name of a registered architecture with format state-dict, and absent with any other"


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Reads a manifest, .json or .toml (Python 3.11 or later); keys are the fields of `Manifest` but `path`.

    Raises ValueError, in one line that names the file, for one that is missing, not readable, or has a key that is
    missing, unknown or wrong.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file; give the manifest of a network, .json or .toml")
    return manifest_of(_parse(path), path)


def manifest_of(content: Mapping[str, Any], path: pathlib.Path) -> Manifest:
    """The manifest of the keys and values that a file at `path` would hold; see read_manifest."""
    fields = {f.name: f for f in dataclasses.fields(Manifest) if f.name != "path"}
    unknown = sorted(content.keys() - fields.keys())
    required = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in content]
    if unknown or missing:
        problem = f"unknown {', '.join(unknown)}" if unknown else f"missing {', '.join(missing)}"
        raise ValueError(f"{path}: {problem}; the keys are {', '.join(fields)}")
    values = {name: _value(path, name, str(fields[name].type), value) for name, value in content.items()}
    return Manifest(path=path, **values)


def file_hash(path: pathlib.Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _parse(path: pathlib.Path) -> dict[str, Any]:
    try:
        if path.suffix == ".toml":
            if sys.version_info < (3, 11):
                raise ValueError(f"{path}: TOML needs Python 3.11; write the manifest as .json")
            import tomllib

            content: Any = tomllib.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
        else:
            raise ValueError(f"{path} is not a manifest; its name must end in .json or .toml")
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    except ValueError as error:  # TOMLDecodeError too
        raise ValueError(str(error) if str(path) in str(error) else f"{path} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold an object with the keys of a manifest, got {type(content).__name__}")
    return content


def _value(path: pathlib.Path, name: str, kind: str, value: Any) -> Any:
    """A value of the file as its field has it; the fields' types are those of this page."""
    if kind.startswith("tuple") and isinstance(value, list) and all(type(x) in (int, float) for x in value):
        if "float" not in kind and any(type(x) is float for x in value):
            raise ValueError(f"{path}: {name} must hold whole numbers, got {value!r}")
        return tuple(value)
    if kind == "float" and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if kind == "str" and isinstance(value, str):
        return value
    if kind.startswith("Mapping") and isinstance(value, dict):
        if name != "outputs" or all(type(x) in (int, str) for x in value.values()):
            return value
    raise ValueError(f"{path}: {name} has the wrong kind of value, {value!r}; see docs/perception.md")
