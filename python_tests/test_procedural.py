"""The procedural face: topology, symmetry, landmarks, modes, and how far it is from the ICT neutral face."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from facecore.evaluation.alignment import similarity_align
from facecore.mesh.proximity import ClosestPoints, closest_points
from facecore.morphable import MorphableModel, load
from facecore.morphable.procedural import procedural_model
from facecore.morphable.procedural_flips import flip_edges
from facecore.morphable.procedural_shell import base_shell, domain_of_frontal

FLIP = torch.tensor([-1.0, 1.0, 1.0])


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return procedural_model(5000)


def edge_counts(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unique undirected edges [E, 2] and how many triangles share each."""
    edges = np.sort(np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]]), axis=1)
    return np.unique(edges, axis=0, return_counts=True)


def triangle_quality(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """2 r / R of each triangle: 1 for an equilateral one, 0 for a degenerate one."""
    corners = vertices[triangles]
    lengths = np.linalg.norm(corners - np.roll(corners, -1, axis=1), axis=-1)
    half = lengths.sum(1) / 2
    return 8 * np.prod(half[:, None] - lengths, axis=1) / np.prod(lengths, axis=1)


def boundary_loops(edges: np.ndarray) -> list[set[int]]:
    """Vertex sets of the closed loops that boundary edges [E, 2] form."""
    neighbours: dict[int, list[int]] = {}
    for a, b in edges.tolist():
        neighbours.setdefault(a, []).append(b)
        neighbours.setdefault(b, []).append(a)
    assert {len(others) for others in neighbours.values()} == {2}
    loops: list[set[int]] = []
    left = set(neighbours)
    while left:
        loop, front = set(), [left.pop()]
        while front:
            vertex = front.pop()
            loop.add(vertex)
            front += [other for other in neighbours[vertex] if other not in loop]
        left -= loop
        loops.append(loop)
    return loops


@pytest.mark.parametrize("num_vertices", [2500, 2501, 7700, 40000])
def test_every_size_is_a_symmetric_manifold_of_good_triangles(num_vertices: int) -> None:
    face = procedural_model(num_vertices)
    assert face.num_vertices == num_vertices
    vertices, triangles = face.template.numpy().astype(np.float64), face.triangles.numpy()
    assert len(np.unique(triangles)) == num_vertices, "every vertex is used"
    edges, counts = edge_counts(triangles)
    assert counts.max() == 2
    directed = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    assert len(np.unique(directed, axis=0)) == len(directed), "neighbours agree on the winding"
    # A disc (the face) with one hole (the mouth).
    assert num_vertices - len(edges) + len(triangles) == 0
    loops = boundary_loops(edges[counts == 1])
    assert len(loops) == 2
    inner = min(loops, key=lambda loop: np.ptp(vertices[list(loop)], axis=0).max())
    width, height, _ = np.ptp(vertices[list(inner)], axis=0)
    assert 48 < width < 54 and height < 8, "the smaller hole is the mouth slit"
    quality = triangle_quality(vertices, triangles)
    # Worst triangles sit at the ends of the slit, where the feature curves meet at a sharp angle.
    assert quality.min() > 0.15
    assert np.quantile(quality, 0.01) > 0.6 and np.median(quality) > 0.94
    mirror = face.require("mirror_map")
    assert torch.equal(face.template[mirror] * FLIP, face.template)


def test_mirror_map_maps_everything_exactly(model: MorphableModel) -> None:
    mirror = model.require("mirror_map")
    assert torch.equal(mirror[mirror], torch.arange(model.num_vertices))
    triangles = {tuple(sorted(row)) for row in model.triangles.tolist()}
    assert {tuple(sorted(row)) for row in mirror[model.triangles.long()].tolist()} == triangles
    for name, mask in model.regions.items():
        assert torch.equal(mask[mirror], mask), name
    asymmetric = {"nose_bend", "jaw_shift", "mouth_tilt", "eye_level", "cheek_difference"}
    for name, mode in zip(model.identity_names, model.identity_basis):
        sign = -1.0 if name in asymmetric else 1.0
        assert torch.equal(mode[mirror] * FLIP, sign * mode), name
    index = {name: k for k, name in enumerate(model.expression_names)}
    for name, k in index.items():
        twin = (
            name[:-4] + "right" if name.endswith("_left") else name[:-5] + "left" if name.endswith("_right") else name
        )
        assert torch.equal(model.expression_basis[k][mirror] * FLIP, model.expression_basis[index[twin]]), name


def test_frame_sizes_and_proportions(model: MorphableModel) -> None:
    template, points = model.template, model.template[model.landmarks68]
    # Float32 sums of 5,000 coordinates of up to 100 mm.
    assert template.double().mean(0).abs().max() < 1e-4
    assert template[:, 2].argmax() in torch.where(model.region("nose"))[0], "the nose is in front"
    assert points[8, 1] < points[57, 1] < points[33, 1] < points[27, 1] < points[19, 1], "chin to brow upwards"

    def distance(a: int, b: int) -> float:
        return float((points[a] - points[b]).norm())

    # Bounds that an adult face of ordinary proportions stays within, wide on purpose.
    assert 82 < distance(36, 45) < 98  # outer eye corners
    assert 28 < distance(39, 42) < 40  # inner eye corners
    assert 44 < distance(48, 54) < 58  # mouth
    assert 104 < distance(27, 8) < 126  # nasion to chin
    assert 45 < distance(27, 33) < 60  # nasion to the base of the nose
    assert 125 < float(template[:, 0].max() - template[:, 0].min()) < 160  # width between the ears
    corners = template[model.triangles.long()]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    forehead = corners.mean(1)[:, 1] > points[19, 1] + 10
    assert bool((normals[forehead, 2] > 0).all()), "counter-clockwise seen from outside"


def test_landmarks_lie_where_a_person_puts_them(model: MorphableModel) -> None:
    points, mirror = model.template[model.landmarks68], model.require("mirror_map")
    assert len(set(model.landmarks68.tolist())) == 68
    pairs = [(k, 16 - k) for k in range(8)] + [(17 + k, 26 - k) for k in range(5)] + [(31, 35), (32, 34)]
    pairs += [(36, 45), (37, 44), (38, 43), (39, 42), (40, 47), (41, 46)]
    pairs += [(48, 54), (49, 53), (50, 52), (59, 55), (58, 56), (60, 64), (61, 63), (67, 65)]
    for right, left in pairs:
        assert points[right, 0] < 0 < points[left, 0], (right, left)
        assert mirror[model.landmarks68[right]] == model.landmarks68[left]
    middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66]
    assert points[middle, 0].abs().max() == 0
    # Along the contour from the subject's right ear over the chin, x grows; brows and eyes run the same way.
    for run in (range(17), range(17, 27), (36, 37, 38, 39), (42, 43, 44, 45), range(48, 55), range(60, 65)):
        assert bool((points[list(run), 0].diff() > 0).all()), run
    assert points[27:31, 2].diff().min() > 0, "the bridge rises to the tip"
    assert points[30, 2] > points[[i for i in range(68) if i != 30], 2].max() - 0.5
    assert points[[37, 38], 1].min() > points[[40, 41], 1].max(), "upper lid over lower lid"
    assert bool((points[61:64, 1] >= points[[67, 66, 65], 1]).all()), "upper lip over lower lip"


def test_regions(model: MorphableModel) -> None:
    region, points = model.regions, model.landmarks68
    assert {"skin", "lips", "eyes", "brows", "nose"} <= set(region)
    assert not bool((region["skin"] & (region["lips"] | region["eyes"])).any())
    assert bool(region["lips"][points[48:68]].all()) and not bool(region["lips"][points[:48]].any())
    assert bool(region["nose"][points[27:36]].all())
    assert int(region["brows"][points[17:27]].sum()) >= 8
    for name, low in (("skin", 0.8), ("lips", 0.03), ("eyes", 0.015), ("brows", 0.01), ("nose", 0.05)):
        assert region[name].float().mean() > low, name


def test_modes_are_bounded_and_named(model: MorphableModel) -> None:
    assert model.num_identity >= 40 and model.num_expression >= 20 and model.num_albedo >= 20
    assert len(set(model.identity_names)) == model.num_identity
    assert len(set(model.expression_names)) == model.num_expression
    largest_identity = model.identity_basis.norm(dim=2).amax(1)
    largest_expression = model.expression_basis.norm(dim=2).amax(1)
    assert 0.3 < largest_identity.min() and largest_identity.max() < 6
    # The chin of an open jaw moves farthest.
    assert 0.5 < largest_expression.min() and largest_expression.max() < 40
    total = float(model.identity_basis.square().sum(2).sum(0).mean().sqrt())
    assert 4.0 < total < 5.2, "root mean square movement of a vertex over identities, size included"
    # No mode is a combination of the others (numerically): the Gram matrix of the unit modes is well conditioned.
    unit = torch.nn.functional.normalize(model.identity_basis.flatten(1).double(), dim=1)
    assert float(torch.linalg.eigvalsh(unit @ unit.T)[0]) > 1e-4


def test_random_faces_do_not_fold(model: MorphableModel) -> None:
    triangles = model.triangles.long()
    # The lids slide over the eyeballs and the inner lips are rolled up: there the surface folds by design.
    folding = (model.regions["eyes"] | model.regions["lips"])[triangles].any(1)

    def normals(vertices: torch.Tensor) -> torch.Tensor:
        corner = vertices[:, triangles]
        return torch.linalg.cross(corner[:, :, 1] - corner[:, :, 0], corner[:, :, 2] - corner[:, :, 0])

    coefficients = model.sample(64, torch.Generator().manual_seed(7))
    neutral = normals(model.template[None])
    for shape in (
        model.template + 2.0 * model.identity_basis,
        model.template - 2.0 * model.identity_basis,
        model.shape(coefficients.identity, coefficients.expression),
    ):
        flipped = (normals(shape) * neutral).sum(2) < 0
        assert int((flipped & ~folding).sum()) == 0


def expressed(model: MorphableModel, **weights: float) -> torch.Tensor:
    """The template's landmarks [68, 3] under expression weights."""
    vector = torch.zeros(1, model.num_expression)
    for name, weight in weights.items():
        vector[0, model.expression_names.index(name)] = weight
    return model.shape(torch.zeros(1, model.num_identity), vector)[0, model.landmarks68]


def test_lids_close_and_jaw_opens(model: MorphableModel) -> None:
    neutral = expressed(model)

    def eye_gap(points: torch.Tensor, upper: int, lower: int) -> float:
        return float((points[upper] - points[lower])[1])

    def mouth_gap(points: torch.Tensor) -> float:
        return float(points[62, 1] - points[66, 1])

    left, right = (44, 46), (37, 41)
    assert eye_gap(neutral, *left) > 7.5 and mouth_gap(neutral) < 0.2
    blink = expressed(model, eye_blink_left=1.0)
    assert abs(eye_gap(blink, *left)) < 0.6, "the lids meet"
    assert eye_gap(blink, *right) > 7.5, "the other eye stays open"
    assert eye_gap(expressed(model, eye_wide_right=1.0), *right) > eye_gap(neutral, *right) + 1.5
    opened = expressed(model, jaw_open=1.0)
    assert 18 < mouth_gap(opened) < 32
    assert (opened - neutral)[8, 1] < -15 and (opened - neutral)[27:36].norm(dim=1).max() < 0.8
    assert abs(mouth_gap(expressed(model, jaw_open=1.0, mouth_close=1.0))) < 1.5, "lips closed over an open jaw"
    smile = expressed(model, mouth_smile_left=1.0) - neutral
    assert smile[54, 1] > 5 and smile[54, 0] > 3 and smile[48].norm() < 0.5
    assert (expressed(model, brow_inner_up_left=1.0) - neutral)[22, 1] > 4


def test_expression_prior_uses_few_modes_mostly_on_both_sides(model: MorphableModel) -> None:
    weights = model.sample(2000, torch.Generator().manual_seed(3)).expression
    assert weights.min() >= 0 and weights.max() <= 1
    active = (weights > 0).float().sum(1)
    assert 2 < active.mean() < 10
    left = weights[:, model.expression_names.index("eye_blink_left")]
    right = weights[:, model.expression_names.index("eye_blink_right")]
    both = (left > 0) | (right > 0)
    assert float((left[both] == right[both]).float().mean()) > 0.7
    opposite = weights[:, [model.expression_names.index(f"jaw_{side}") for side in ("left", "right")]]
    assert float((opposite[:, 0] == opposite[:, 1])[opposite.amax(1) > 0].float().mean()) < 0.1


def test_the_same_call_gives_the_same_model(model: MorphableModel) -> None:
    assert procedural_model(5000).content_hash() == model.content_hash()
    assert load("procedural", num_vertices=5000).content_hash() == model.content_hash()


@pytest.mark.parametrize("value", [2499, 40001, -1, 5000.0, "5000"])
def test_sizes_outside_the_range_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="num_vertices must be an integer from 2500 to 40000"):
        procedural_model(value)  # type: ignore[arg-type]


def test_sizes_sample_one_surface(model: MorphableModel) -> None:
    fine = procedural_model(20000)
    offset = (fine.template[fine.landmarks68] - model.template[model.landmarks68]).mean(0)
    # Landmarks are vertices at every size, so they differ by the shift of the centroid only.
    moved = fine.template[fine.landmarks68] - offset - model.template[model.landmarks68]
    assert moved.abs().max() < 1e-3
    found = closest_points((model.template + offset).double().numpy(), fine.template.numpy(), fine.triangles.numpy())
    # Chords of 1 mm edges miss a surface with 3 mm radius (lids, nostrils) by 0.05 mm, and lie nearer elsewhere.
    assert found.distance.mean() < 0.02 and found.distance.max() < 0.5


def test_flips_restore_delaunay_triangles() -> None:
    position = np.array([[0.0, 0, 0], [4, 0, 0], [2, 1, 0], [2, -1, 0]])
    domain = position[:, :2] * [1.0, -1.0]  # v points down
    long_edge = np.array([[0, 1, 2], [1, 0, 3]])
    flipped = flip_edges(position, domain, long_edge, [])
    assert {tuple(sorted(row)) for row in flipped.tolist()} == {(0, 2, 3), (1, 2, 3)}
    np.testing.assert_array_equal(flip_edges(position, domain, long_edge, [(1, 0)]), long_edge)


def test_shell_inverse() -> None:
    points = np.array([[0.0, 0.0], [30.0, 5.0], [25.0, -70.0], [55.0, 20.0], [10.0, -100.0]])
    # Newton's method on a smooth map ends at rounding error.
    np.testing.assert_allclose(base_shell(domain_of_frontal(points))[:, :2], points, atol=1e-8)


def with_counterpart(found: ClosestPoints, triangles: np.ndarray) -> np.ndarray:
    """bool [P]: the closest point is inside the other surface, not on its rim, where the other one simply ends."""
    edges, counts = edge_counts(triangles)
    rim = np.zeros(triangles.max() + 1, dtype=bool)
    rim[edges[counts == 1]] = True
    return ((found.barycentric > 1e-6) & ~rim[triangles[found.triangle]]).any(1)


def test_distance_to_the_ict_neutral_face(model: MorphableModel, data_dir: pathlib.Path) -> None:
    """Landmarks fix the similarity, closest points refine it; then both directions and the landmarks are measured."""
    ict = load(data_dir / "ict_facekit.npz", region="face")
    target, target_triangles = ict.template.double().numpy(), ict.triangles.numpy()
    template = model.template.double()
    moved = similarity_align(template[model.landmarks68][None], ict.template[ict.landmarks68].double()[None])
    transform = affine(template[model.landmarks68], moved[0])
    fitted = transform(template)
    for _ in range(6):
        found = closest_points(fitted.numpy(), target, target_triangles)
        inside = torch.from_numpy(with_counterpart(found, target_triangles))
        closest = torch.from_numpy((target[target_triangles[found.triangle]] * found.barycentric[..., None]).sum(1))
        transform = affine(fitted[inside], similarity_align(fitted[inside][None], closest[inside][None])[0])
        fitted = transform(fitted)
    forward = closest_points(fitted.numpy(), target, target_triangles)
    kept = with_counterpart(forward, target_triangles)
    backward = closest_points(target, fitted.numpy(), model.triangles.numpy())
    kept_back = with_counterpart(backward, model.triangles.numpy())
    assert kept.mean() > 0.9 and kept_back.mean() > 0.6, "most of each surface is compared"
    landmark_distance = (fitted[model.landmarks68] - ict.template[ict.landmarks68]).norm(dim=1)
    report = (
        f"template to ICT {forward.distance[kept].mean():.2f} mm, ICT to template "
        f"{backward.distance[kept_back].mean():.2f} mm, landmarks {landmark_distance.mean():.2f} mm"
    )
    print(report)
    assert forward.distance[kept].mean() < 4.0, report
    assert backward.distance[kept_back].mean() < 4.0, report
    assert landmark_distance.mean() < 4.0 and landmark_distance.max() < 10.0, report


def affine(points: torch.Tensor, images: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    """The affine map that takes points to images exactly (they are related by a similarity)."""
    ones = torch.ones(len(points), 1, dtype=points.dtype)
    matrix = torch.linalg.lstsq(torch.cat([points, ones], 1), images).solution
    return lambda vertices: torch.cat([vertices, torch.ones(len(vertices), 1, dtype=vertices.dtype)], 1) @ matrix
