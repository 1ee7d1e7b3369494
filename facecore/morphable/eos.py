"""Models in the binary format of eos (`.bin`), such as the Surrey Face Model, to a MorphableModel. FORMATS B8."""

from __future__ import annotations

import dataclasses
import os
import pathlib

import numpy as np

from facecore.morphable.assembly import LinearSource, Modes, assemble
from facecore.morphable.io import reading
from facecore.morphable.landmark_vertices import check_landmark_vertices
from facecore.morphable.model import MorphableModel

VERSIONS = (1, 2, 3, 4)
SOURCE = "an eos model file; the model's own licence holds"
_MICROMETRES_FROM = 10_000.0  # height of a mesh beyond which its unit is the micrometre: 10 m, or 1 cm


@dataclasses.dataclass(frozen=True, eq=False)
class _Pca:
    mean: np.ndarray  # [3V]
    basis: np.ndarray  # [3V, K], orthonormal
    std: np.ndarray  # [K]
    triangles: np.ndarray  # [T, 3]


class _Reader:
    """Little-endian values of one file, in order; every size is checked against the bytes that are left."""

    def __init__(self, content: bytes) -> None:
        self.content, self.place = memoryview(content), 0

    def take(self, dtype: str, count: int) -> np.ndarray:
        size = np.dtype(dtype).itemsize * count
        if count < 0 or size > len(self.content) - self.place:
            raise ValueError(f"{size} bytes are announced at byte {self.place}, the file has {len(self.content)}")
        values = np.frombuffer(self.content, dtype=dtype, count=count, offset=self.place)
        self.place += size
        return values

    def number(self, dtype: str) -> int:
        return int(self.take(dtype, 1)[0])

    def matrix(self) -> np.ndarray:
        rows, columns = self.number("<i4"), self.number("<i4")
        if rows < 0 or columns < 0:
            raise ValueError(f"a matrix of {rows} x {columns} at byte {self.place}")
        values = self.take("<f4", rows * columns).reshape(columns, rows).T
        if not np.isfinite(values).all():
            raise ValueError(f"a matrix before byte {self.place} is not finite")
        return values

    def text(self) -> str:
        return bytes(self.take("u1", self.number("<u8"))).decode("utf-8")

    def pca(self) -> _Pca:
        mean, basis, variance = self.matrix().ravel(), self.matrix(), self.matrix().ravel()
        triangles = self.take("<i4", 3 * self.number("<u8")).reshape(-1, 3)
        if basis.shape not in ((len(mean), len(variance)), (0, 0)) and mean.size:
            raise ValueError(
                f"a basis of {list(basis.shape)} for {len(mean)} coordinates and {len(variance)} variances"
            )
        if not (variance >= 0).all():
            raise ValueError("a variance is negative")
        return _Pca(mean, basis, np.sqrt(variance.astype(np.float64)), triangles)

    def blendshapes(self) -> tuple[tuple[str, ...], np.ndarray]:
        """Names, and deformations [3V, K]."""
        shapes = [(self.text(), self.matrix().ravel()) for _ in range(self._count())]
        if len({len(offsets) for _, offsets in shapes}) > 1:
            raise ValueError("the blendshapes are of different sizes")
        columns = np.stack([offsets for _, offsets in shapes], axis=1) if shapes else np.zeros((0, 0), np.float32)
        return tuple(name for name, _ in shapes), columns

    def landmarks(self) -> dict[str, int]:
        return {self.text(): self.number("<i4") for _ in range(self._count())}

    def _count(self) -> int:
        count = self.number("<u8")
        if count > len(self.content):
            raise ValueError(f"a list of {count} entries at byte {self.place}")
        return count

    def end(self) -> None:
        if self.place != len(self.content):
            raise ValueError(f"{len(self.content) - self.place} bytes follow the end of the model")


def load_eos(
    path: pathlib.Path,
    landmarks: str | os.PathLike[str] | None = None,
    expressions: str | os.PathLike[str] | None = None,
    num_identity: int | None = None,
    num_expression: int | None = None,
    num_albedo: int | None = None,
) -> MorphableModel:
    """A model of eos, class version 1 to 4.

    landmarks: a file of the 68 vertices (`read_landmark_vertices`); None = the file's own definitions, if they name all
    of 1 to 68 (iBUG). expressions: a file of eos blendshapes for a model that has no expressions. num_identity,
    num_expression, num_albedo: modes to keep; None = all. Millimetres, or micrometres when the mesh is higher than
    10,000 units. Blendshapes have weights in [0, 1]. Raises ValueError for a damaged file, a wrong option or missing
    landmarks.
    """
    with reading(path):
        source = _read(path)
    if expressions is not None:
        if len(source.expression.std):
            raise ValueError(f"expressions: {path} has expressions of its own; leave the option out")
        source = _with_blendshapes(source, pathlib.Path(expressions))
    kept = {"num_identity": num_identity, "num_expression": num_expression, "num_albedo": num_albedo}
    return assemble(path, source, landmarks, **kept)


def _read(path: pathlib.Path) -> LinearSource:
    reader = _Reader(path.read_bytes())
    version = reader.number("<u4")
    if version not in VERSIONS:
        raise ValueError(f"class version {version}; versions {VERSIONS[0]} to {VERSIONS[-1]} are read")
    shape, color = reader.pca(), reader.pca()
    count = len(shape.mean) // 3
    if count == 0 or len(shape.mean) % 3 or color.mean.size not in (0, 3 * count):
        raise ValueError(f"a shape of {len(shape.mean)} and colours of {len(color.mean)} coordinates")
    names: tuple[str, ...] = ()
    expression, offset = Modes.none(count), np.zeros(3 * count)
    if version >= 2 and not reader.number("u1"):
        names, expression, offset = _expression(reader, count)
    definitions = reader.landmarks() if version >= 3 and not reader.number("u1") else {}
    uv = reader.take("<f8", 2 * reader.number("<u8")).reshape(-1, 2)
    if version >= 4:
        reader.take("<i4", 3 * reader.number("<u8"))
    reader.end()
    mean = (shape.mean.astype(np.float64) + offset).reshape(-1, 3)
    if shape.triangles.size == 0 or shape.triangles.min() < 0 or shape.triangles.max() >= count:
        raise ValueError(f"triangles must hold indices from 0 to {count - 1}")
    has_color = color.mean.size > 0 and color.basis.size > 0
    return LinearSource(
        name=path.stem,
        source=SOURCE,
        millimetres=1e-3 if np.ptp(mean[:, 1]) > _MICROMETRES_FROM else 1.0,
        mean=mean,
        triangles=shape.triangles.astype(np.int64),
        identity=Modes(shape.basis, shape.std),
        expression=expression,
        expression_names=names,
        blendshapes=bool(names),  # only blendshapes have names
        landmarks68=_landmarks(definitions, count),
        albedo_mean=color.mean.reshape(-1, 3) if has_color else None,
        albedo=Modes(color.basis, color.std) if has_color else None,
        white=255.0 if has_color and color.mean.max() > 2 else 1.0,
        # one place per vertex, v downwards as in pictures; per-corner layouts (version 4) have more places
        uv=uv * [1, -1] + [0, 1] if len(uv) == count and version < 4 else None,
    )


def _landmarks(definitions: dict[str, int], count: int) -> np.ndarray | None:
    """The vertices of the iBUG points 1 to 68, if the file names them all."""
    names = [str(i) for i in range(1, 69)]
    if not set(names) <= set(definitions):
        return None
    found = np.array([definitions[name] for name in names])
    return check_landmark_vertices(found, count, "the landmark definitions")


def _expression(reader: _Reader, count: int) -> tuple[tuple[str, ...], Modes, np.ndarray]:
    """Names, modes and mean offset of the optional expression model: PCA or blendshapes."""
    kind = reader.number("<i4")
    if kind == 0:
        pca = reader.pca()
        if len(pca.mean) != 3 * count:
            raise ValueError(f"expressions of {len(pca.mean)} coordinates, the shape has {3 * count}")
        return (), Modes(pca.basis, pca.std), pca.mean.astype(np.float64)
    if kind != 1:
        raise ValueError(f"an expression model of kind {kind}; 0 (PCA) and 1 (blendshapes) are read")
    names, columns = reader.blendshapes()
    if columns.shape[0] not in (0, 3 * count):
        raise ValueError(f"blendshapes of {columns.shape[0]} coordinates, the shape has {3 * count}")
    return names, Modes(columns.reshape(3 * count, -1), np.ones(len(names))), np.zeros(3 * count)


def _with_blendshapes(source: LinearSource, path: pathlib.Path) -> LinearSource:
    if not path.is_file():
        raise ValueError(f"expressions: {path} is not a file; check the name")
    with reading(path):
        reader = _Reader(path.read_bytes())
        names, columns = reader.blendshapes()
        reader.end()
        if columns.shape[0] != source.mean.size:
            raise ValueError(f"blendshapes of {columns.shape[0]} coordinates, the model has {source.mean.size}")
    modes = Modes(columns, np.ones(len(names)))
    return dataclasses.replace(source, expression=modes, expression_names=names, blendshapes=True)
