"""Two surfaces without common vertices: cropping, ICP with isotropic scale, point-to-plane distances (METHODS 8.1)."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import scipy.spatial
import torch

from facecore.evaluation.alignment import Similarity
from facecore.mesh import Mesh, closest_points
from facecore.ops import vertex_normals

FEWEST_PAIRS = 30  # that decide an increment of ICP; it has seven unknowns


@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
    """A triangle mesh as arrays: vertices float64 [V, 3] mm, triangles int64 [T, 3], boundary bool [V]."""

    vertices: np.ndarray
    triangles: np.ndarray
    boundary: np.ndarray

    @classmethod
    def of(cls, mesh: Mesh) -> Surface:
        return cls(
            mesh.vertices.cpu().double().numpy(), mesh.triangles.cpu().long().numpy(), mesh.boundary_vertices().numpy()
        )

    @functools.cached_property
    def normals(self) -> np.ndarray:
        """Unit vertex normals [V, 3] (METHODS 1.5)."""
        triangles = torch.from_numpy(self.triangles.astype(np.int32))
        return vertex_normals(torch.from_numpy(self.vertices)[None], triangles)[0].numpy()

    @functools.cached_property
    def tree(self) -> scipy.spatial.cKDTree:
        return scipy.spatial.cKDTree(self.vertices)

    def moved(self, similarity: Similarity) -> Surface:
        """By the first of the similarities."""
        vertices = similarity.apply(torch.from_numpy(self.vertices)[None])[0].numpy()
        return Surface(vertices, self.triangles, self.boundary)

    def cropped(self, centre: np.ndarray, radius_mm: float) -> tuple[Surface, np.ndarray]:
        """The part within a ball, and which vertices it has, int64. Triangles with all corners in it stay.

        Raises ValueError when nothing is left.
        """
        inside = np.linalg.norm(self.vertices - centre, axis=1) <= radius_mm
        kept = self.triangles[inside[self.triangles].all(axis=1)]
        if len(kept) == 0:
            raise ValueError(f"no triangle lies within {radius_mm:g} mm of the nose tip; check the unit and landmarks")
        used, renumbered = np.unique(kept, return_inverse=True)
        triangles = renumbered.reshape(-1, 3)
        return Surface(self.vertices[used], triangles, _boundary(triangles, len(used))), used


def _boundary(triangles: np.ndarray, count: int) -> np.ndarray:
    """Vertices of edges that have one triangle, bool [V]; as Mesh.boundary_vertices, but nothing is validated again."""
    edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    unique, times = np.unique(edges, axis=0, return_counts=True)
    mask = np.zeros(count, dtype=bool)
    mask[unique[times == 1]] = True
    return mask


@dataclasses.dataclass(frozen=True)
class IcpSettings:
    """Of METHODS 8.1, where all are a choice. Pairs with a boundary vertex of the target never count."""

    max_distance_mm: float = 10.0
    """Pairs that are farther apart do not count."""
    max_angle_degrees: float = 60.0
    """Pairs whose normals differ by more do not count."""
    trim: float = 0.03
    """Share of the remaining pairs that does not count: those with the largest distances."""
    iterations: int = 100
    """At most so many."""
    tolerance: float = 1e-5
    """ICP ends when no point moves by more than this share of the surface's reach from its centroid."""

    def __post_init__(self) -> None:
        if not (self.max_distance_mm > 0 and 0 < self.max_angle_degrees <= 180):
            raise ValueError(
                "max_distance_mm must be positive and max_angle_degrees in (0, 180], got "
                f"{self.max_distance_mm}, {self.max_angle_degrees}"
            )
        if not (0 <= self.trim < 1 and self.iterations >= 1 and self.tolerance > 0):
            raise ValueError(
                "trim must lie in [0, 1), iterations be at least 1 and tolerance positive, got "
                f"{self.trim}, {self.iterations}, {self.tolerance}"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class Registration:
    """similarity: N = 1, moves the source onto the target. residual_mm: mean |distance to the plane| of the pairs."""

    similarity: Similarity
    iterations: int
    converged: bool
    residual_mm: float


def register(
    source: Surface, target: Surface, start: Similarity, settings: IcpSettings, *, with_scale: bool = True
) -> Registration:
    """Moves `source` onto `target` by ICP from `start` (N = 1): METHODS 8.1.

    Each iteration pairs every vertex of the source with the nearest vertex of the target, leaves out pairs as
    IcpSettings says, solves the linearised point-to-plane problem for a rotation and a translation, then the scale
    about the centroid by Umeyama, against the feet of the points on the planes (unless with_scale=False).
    Deterministic. Raises ValueError when fewer than 30 pairs are left.
    """
    similarity, converged, residual, iteration = start, False, math.nan, 0
    reach = float(np.linalg.norm(source.vertices - source.vertices.mean(0), axis=1).max())
    while iteration < settings.iterations and not converged:
        iteration += 1
        moved = source.moved(similarity)
        kept, match = _pairs(moved, target, settings)
        points, normals, goals = moved.vertices[kept], target.normals[match], target.vertices[match]
        residual = float(np.abs(((goals - points) * normals).sum(1)).mean())
        step = _increment(points, goals, normals, with_scale)
        following = _compose(step, similarity)
        change = np.linalg.norm(source.moved(following).vertices - moved.vertices, axis=1).max()
        similarity, converged = following, bool(change <= settings.tolerance * reach * float(following.scale[0]))
    return Registration(similarity, iteration, converged, residual)


def _pairs(source: Surface, target: Surface, settings: IcpSettings) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the source that count, and the target's vertex of each."""
    distance, match = target.tree.query(source.vertices, distance_upper_bound=settings.max_distance_mm)
    kept = np.nonzero(np.isfinite(distance))[0]
    kept = kept[~target.boundary[match[kept]]]
    agreement = (source.normals[kept] * target.normals[match[kept]]).sum(1)
    kept = kept[agreement >= math.cos(math.radians(settings.max_angle_degrees))]
    count = len(kept) - int(settings.trim * len(kept))
    kept = np.sort(kept[np.argsort(distance[kept], kind="stable")[:count]])
    if len(kept) < FEWEST_PAIRS:
        raise ValueError(
            f"only {len(kept)} of {len(distance)} vertices have a partner within {settings.max_distance_mm:g} mm; "
            "check the landmarks, the unit and which way the triangles face"
        )
    return kept, match[kept]


def _increment(points: np.ndarray, goals: np.ndarray, normals: np.ndarray, with_scale: bool) -> Similarity:
    centre = points.mean(0)
    offset = points - centre
    matrix = np.concatenate([np.cross(offset, normals), normals], axis=1)
    solution = np.linalg.lstsq(matrix, ((goals - points) * normals).sum(1), rcond=None)[0]
    rotation = scipy.spatial.transform.Rotation.from_rotvec(solution[:3]).as_matrix()
    shift = solution[3:]
    scale = 1.0
    if with_scale:
        turned = offset @ rotation.T
        feet = turned + (((goals - centre - shift - turned) * normals).sum(1))[:, None] * normals
        turned_centred, feet_centred = turned - turned.mean(0), feet - feet.mean(0)
        scale = float((turned_centred * feet_centred).sum() / (turned_centred**2).sum())
        shift = shift + feet.mean(0) - scale * turned.mean(0)
    translation = centre + shift - scale * rotation @ centre
    parts = [torch.from_numpy(np.asarray(part, dtype=np.float64))[None] for part in (scale, rotation, translation)]
    return Similarity(*parts)


def _compose(second: Similarity, first: Similarity) -> Similarity:
    """Applies `first`, then `second`."""
    return Similarity(
        second.scale * first.scale,
        second.rotation @ first.rotation,
        second.apply(first.translation[:, None])[:, 0],
    )


@dataclasses.dataclass(frozen=True, eq=False)
class PlaneDistances:
    """Of each vertex of one surface from another: distance float64 [V], mm; counted bool [V]."""

    distance: np.ndarray
    counted: np.ndarray

    @property
    def share(self) -> float:
        """Of the vertices that count."""
        return float(self.counted.mean())

    def mean(self) -> float:
        return float(self.distance[self.counted].mean())

    def root_mean_square(self) -> float:
        return float(np.sqrt((self.distance[self.counted] ** 2).mean()))


def plane_distances(source: Surface, target: Surface, max_angle_degrees: float = 60.0) -> PlaneDistances:
    """Point-to-plane distance of each vertex of `source` from `target`: METHODS 8.1.

    |n . (p - q)|, q the closest point of the target's surface, n its normal there (vertex normals interpolated). The
    intersection region counts: q is not on the boundary of the target, and the normals differ by at most the given
    angle. There is no largest distance: a bad shape must not hide. Deterministic. Raises ValueError when nothing
    counts.
    """
    closest = closest_points(source.vertices, target.vertices, target.triangles)
    corners = target.triangles[closest.triangle]
    point = np.einsum("pk,pkc->pc", closest.barycentric, target.vertices[corners])
    normal = np.einsum("pk,pkc->pc", closest.barycentric, target.normals[corners])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True).clip(np.finfo(float).tiny)
    distance = np.abs(((source.vertices - point) * normal).sum(1))
    at_side = closest.barycentric <= 1e-9
    on_boundary = at_side.any(1) & (target.boundary[corners] | at_side).all(1)  # every corner that has weight
    agreement = (source.normals * normal).sum(1)
    counted = ~on_boundary & (agreement >= math.cos(math.radians(max_angle_degrees)))
    if not counted.any():
        raise ValueError("the two surfaces do not overlap; check the landmarks, the unit and the triangles' winding")
    return PlaneDistances(distance, counted)
