"""The ICT face model (ICT-FaceKit, MIT licence): npz conversion or checkout folder to a MorphableModel."""

from __future__ import annotations

import pathlib
from typing import Literal

import numpy as np
import scipy.spatial
import torch

from facecore.morphable.ict_source import IctSource, read_folder, read_npz
from facecore.morphable.landmarks import landmark_regions
from facecore.morphable.model import MorphableModel
from facecore.morphable.prior import BlendshapePrior, Prior
from facecore.morphable.quads import QuadMesh, quad_mesh

SOURCE = (
    "ICT-FaceKit, Copyright (c) 2020 USC Institute for Creative Technologies, MIT licence; "
    "Li et al., Learning Formation of Physically-Based Face Attributes, CVPR 2020"
)
# Each region is a prefix of the model's vertices and polygons (README of ICT-FaceKit), all of it quads.
REGIONS = {"narrow": (6706, 6560), "face": (9409, 9230), "head": (11248, 11144)}
MILLIMETRES_PER_UNIT = 10.0  # the files are in centimetres
ACTIVITY = 0.12  # of about 33 groups of expressions, so four are active on average
SYMMETRY = 0.8
_MIRROR_TOLERANCE = 0.05  # cm; the template's own asymmetry is 0.005


def load_ict(
    path: pathlib.Path,
    region: Literal["narrow", "face", "head"] = "face",
    refine: int = 0,
    albedo: Literal["procedural"] | None = "procedural",
) -> MorphableModel:
    """Loads the ICT face model from its npz conversion or a checkout of ICT-FaceKit.

    region: "narrow" (6,706 vertices), "face" (9,409) or "head" (11,248, with neck). refine=1 adds edge midpoints and
    quad centres linearly ("face": 37,280 vertices, 73,840 triangles). The model has no albedo of its own: "procedural"
    attaches the built-in one, None leaves it out. uv is set where every vertex has one place in the model's layout
    ("narrow" and "face"), else None. Raises ValueError for a wrong option or a damaged file.
    """
    if region not in REGIONS:
        raise ValueError(f"region must be one of {', '.join(REGIONS)}, got {region!r}")
    if refine not in (0, 1):
        raise ValueError(f"refine must be 0 or 1, got {refine!r}")
    if albedo not in ("procedural", None):
        raise ValueError(f"albedo must be 'procedural' or None, got {albedo!r}")
    source = read_folder(path) if path.is_dir() else read_npz(path)
    num_vertices, num_polygons = REGIONS[region]
    if len(source.neutral) < num_vertices or len(source.polygons) < num_polygons:
        raise ValueError(f"{path} has {len(source.neutral)} vertices, the region '{region}' needs {num_vertices}")
    mesh = quad_mesh(source.polygons[:num_polygons], num_vertices, refine=refine)
    model = _build(source, mesh, num_vertices, name=f"ict-{region}" + ("-refined" if refine else ""))
    if albedo is None:
        return model
    from facecore.morphable.albedo import attach_procedural_albedo

    return attach_procedural_albedo(model)


def _build(source: IctSource, mesh: QuadMesh, num_vertices: int, *, name: str) -> MorphableModel:
    def carry(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(mesh.weights @ array.astype(np.float64), dtype=np.float32))

    def basis(offsets: np.ndarray) -> torch.Tensor:
        # One matrix product for all modes: [V, K*3] columns, then back to [K, V', 3].
        columns = offsets[:, :num_vertices].astype(np.float32).transpose(1, 0, 2).reshape(num_vertices, -1)
        refined = (mesh.weights.astype(np.float32) @ columns).reshape(-1, len(offsets), 3)
        return torch.from_numpy(np.ascontiguousarray(refined.transpose(1, 0, 2))) * MILLIMETRES_PER_UNIT

    neutral = mesh.weights @ (source.neutral[:num_vertices].astype(np.float64) * MILLIMETRES_PER_UNIT)
    template = torch.from_numpy((neutral - neutral.mean(axis=0)).astype(np.float32))
    landmarks = torch.from_numpy(source.landmarks68.astype(np.int64))
    uv = _vertex_uv(source, mesh.quads, num_vertices)
    prefixes = {key: np.arange(num_vertices) < count for key, (count, _) in REGIONS.items() if count <= num_vertices}
    # A new vertex belongs to a region when all the vertices it lies between do.
    regions = {key: carry(inside) > 1 - 1e-3 for key, inside in prefixes.items()}
    identity, expression = basis(source.identity), basis(source.expression)
    return MorphableModel(
        name=name,
        template=template,
        triangles=torch.from_numpy(mesh.triangles),
        identity_basis=identity,
        identity_std=torch.ones(len(identity)),
        expression_basis=expression,
        expression_std=torch.ones(len(expression)),
        landmarks68=landmarks,
        prior=Prior.with_blendshapes(len(identity), expression_prior(source.expression_names)),
        mirror_map=torch.from_numpy(mesh.mirror(_mirror_map(source.neutral[:num_vertices]))),
        regions=regions | landmark_regions(template, landmarks, eyes=False),
        uv=None if uv is None else carry(uv),
        identity_names=source.identity_names,
        expression_names=source.expression_names,
        source=SOURCE,
    )


def expression_prior(names: tuple[str, ...]) -> BlendshapePrior:
    """Weights in [0, 1], a few active at a time, left and right together; gaze turns both eyes to one side."""
    index = {name: k for k, name in enumerate(names)}

    def partner(name: str) -> str:
        if not name.endswith(("_L", "_R")):
            return name
        stem, other = name[:-2], "_R" if name.endswith("_L") else "_L"
        return {"eyeLookIn": "eyeLookOut", "eyeLookOut": "eyeLookIn"}.get(stem, stem) + other

    partners = [index.get(partner(name), k) for k, name in enumerate(names)]
    # mouthClose moves the lips up by 38 mm: it closes the lips over an open jaw and means nothing without jawOpen.
    scaled_by = [index.get("jawOpen", -1) if name == "mouthClose" else -1 for name in names]
    return BlendshapePrior(torch.tensor(partners), torch.tensor(scaled_by), ACTIVITY, SYMMETRY)


def _vertex_uv(source: IctSource, quads: np.ndarray, num_vertices: int) -> np.ndarray | None:
    """One texture place per vertex, [V, 2]; None when a seam gives some vertex two."""
    if source.uv_polygons[: len(quads)].min() < 0:
        return None
    uv = np.full((num_vertices, 2), np.nan)
    corners = source.uv[source.uv_polygons[: len(quads)]]
    uv[quads] = corners
    return uv if np.array_equal(uv[quads], corners) and np.isfinite(uv).all() else None


def _mirror_map(neutral: np.ndarray) -> np.ndarray:
    """The vertex nearest to the mirrored place (x -> -x); the template is symmetric to 0.005 cm."""
    distance, index = scipy.spatial.cKDTree(neutral).query(neutral * [-1, 1, 1])
    if distance.max() > _MIRROR_TOLERANCE or not np.array_equal(index[index], np.arange(len(neutral))):
        raise ValueError("the neutral mesh is not symmetric under x -> -x; this is not the ICT face model")
    return index.astype(np.int64)
