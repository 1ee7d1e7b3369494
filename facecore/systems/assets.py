"""What a trained system carries of the morphable model it was trained with, so that a checkpoint needs nothing else."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import torch

from facecore.mesh import Hierarchy, Mesh, build_hierarchy
from facecore.morphable import MorphableModel
from facecore.structures import SparseMatrix

SHAPE_SAMPLES = 1000  # random faces over which sigma_s is measured (METHODS 2.1)
_CSR = ("crow_indices", "col_indices", "values")


@dataclasses.dataclass(frozen=True)
class FaceAssets:
    """Template, topology and scales.

    template: mean expression-free shape [V, 3], mm. albedo_mean: [V, 3] in [0, 1]. triangles: int32 [T, 3].
    landmarks68: int64 [68]. mirror_map: int64 [V], the vertex at the mirrored place. hierarchy: levels of the mesh.
    shape_scale: sigma_s, mm, RMS of (shape - template) over random faces. morphable_name, morphable_hash: the model.
    """

    template: torch.Tensor
    albedo_mean: torch.Tensor
    triangles: torch.Tensor
    landmarks68: torch.Tensor
    mirror_map: torch.Tensor
    hierarchy: Hierarchy
    shape_scale: float
    morphable_name: str
    morphable_hash: str

    @classmethod
    def from_morphable(cls, model: MorphableModel, factors: tuple[int, ...]) -> FaceAssets:
        """Measures the scale and builds the hierarchy (cached), on the CPU, whatever the model's device.

        Raises ValueError when the model lacks a part.
        """
        model = model.to("cpu")
        template = model.mean_neutral()
        generator = torch.Generator().manual_seed(0)
        squared = torch.zeros((), dtype=torch.float64)
        for _ in range(SHAPE_SAMPLES // 50):
            sample = model.sample(50, generator)
            squared += (model.shape(sample.identity, sample.expression) - template).double().square().mean()
        return cls(
            template=template,
            albedo_mean=model.albedo(model.prior.albedo_mean[None])[0].clamp(0, 1),
            triangles=model.triangles,
            landmarks68=model.landmarks68,
            mirror_map=model.require("mirror_map"),
            hierarchy=build_hierarchy(Mesh(template, model.triangles), factors),
            shape_scale=float((squared / (SHAPE_SAMPLES // 50)).sqrt()),
            morphable_name=model.name,
            morphable_hash=model.content_hash(),
        )

    def to_tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and plain values, from which from_tensors makes the same assets."""
        tensors = {
            name: getattr(self, name) for name in ("template", "albedo_mean", "triangles", "landmarks68", "mirror_map")
        }
        for kind in ("up", "down"):
            for level, matrix in enumerate(getattr(self.hierarchy, kind)):
                tensors |= {f"{kind}.{level}.{part}": getattr(matrix, part) for part in _CSR}
        for level, mesh in enumerate(self.hierarchy.levels[1:], start=1):
            tensors[f"levels.{level}.vertices"] = mesh.vertices
            tensors[f"levels.{level}.triangles"] = mesh.triangles
            tensors[f"levels.{level}.kept"] = self.hierarchy.kept[level - 1]
        plain: dict[str, Any] = {
            "shape_scale": self.shape_scale,
            "num_levels": len(self.hierarchy.levels),
            "morphable_name": self.morphable_name,
            "morphable_hash": self.morphable_hash,
        }
        return tensors, plain

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> FaceAssets:
        """The assets that to_tensors took apart. Raises ValueError or KeyError for what cannot be assets."""
        num_levels = int(plain["num_levels"])
        levels = [Mesh(tensors["template"], tensors["triangles"])]
        levels += [
            Mesh(tensors[f"levels.{i}.vertices"], tensors[f"levels.{i}.triangles"]) for i in range(1, num_levels)
        ]
        sizes = [mesh.num_vertices for mesh in levels]
        pairs = list(itertools.pairwise(sizes))
        for name, shape in (("landmarks68", (68,)), ("mirror_map", (sizes[0],))):
            _check_index(name, tensors[name], shape, sizes[0])
        for i, (fine, coarse) in enumerate(pairs, start=1):
            _check_index(f"levels.{i}.kept", tensors[f"levels.{i}.kept"], (coarse,), fine)
        if tensors["albedo_mean"].shape != (sizes[0], 3) or not bool(tensors["albedo_mean"].isfinite().all()):
            raise ValueError(f"albedo_mean must be finite [{sizes[0]}, 3], got {list(tensors['albedo_mean'].shape)}")
        hierarchy = Hierarchy(
            levels=levels,
            up=[_matrix(tensors, f"up.{i}", (fine, coarse)) for i, (fine, coarse) in enumerate(pairs)],
            down=[_matrix(tensors, f"down.{i}", (coarse, fine)) for i, (fine, coarse) in enumerate(pairs)],
            kept=[tensors[f"levels.{i}.kept"] for i in range(1, num_levels)],
        )
        return cls(
            **{n: tensors[n] for n in ("template", "albedo_mean", "triangles", "landmarks68", "mirror_map")},
            hierarchy=hierarchy,
            shape_scale=float(plain["shape_scale"]),
            morphable_name=str(plain["morphable_name"]),
            morphable_hash=str(plain["morphable_hash"]),
        )


def _matrix(tensors: dict[str, torch.Tensor], prefix: str, shape: tuple[int, int]) -> SparseMatrix:
    import scipy.sparse

    crow, col, values = (np.asarray(tensors[f"{prefix}.{part}"]) for part in _CSR)
    matrix = scipy.sparse.csr_matrix((values, col, crow), shape=shape)
    matrix.check_format(full_check=True)  # the constructor leaves the range of the column indices unchecked
    return SparseMatrix.from_scipy(matrix)


def _check_index(name: str, index: torch.Tensor, shape: tuple[int, ...], count: int) -> None:
    if index.dtype != torch.int64 or index.shape != shape or bool(((index < 0) | (index >= count)).any()):
        raise ValueError(f"{name} must be int64 {list(shape)} with values 0 to {count - 1}")
