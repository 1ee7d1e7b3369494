"""Measurements for claims about shapes, light and pictures: 0a to 4 of METHODS 8.3. One number per face."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from facecore.data.lights import BAND_MEAN_SQUARE, band_energy, directional_share
from facecore.evaluation.alignment import vertex_distances
from facecore.mesh import Mesh, laplacian
from facecore.ops import sparse_matmul, vertex_normals

if TYPE_CHECKING:
    from facecore.morphable import MorphableModel

HIGH_CURVATURE_SHARE = 0.1  # of the vertices that do not lie on a rim
INNER_FACE = slice(17, 68)  # landmarks without the contour: brows, nose, eyes, mouth
UPPER_LIP, LOWER_LIP = (61, 62, 63), (67, 66, 65)  # inner lips, one below the other (METHODS 1.10)
NOSE_TIP, NOSTRIL_WINGS = 30, (31, 35)  # nose tip; where the wings meet the lip
NOSTRIL_CENTRES = (32, 34)  # the landmarks under the two nostrils
NOSTRIL_HALF_WIDTH_MM, NOSTRIL_REACH_MM, NOSTRIL_DOWNWARD, NOSTRIL_COUNT = 8.0, 14.0, 0.25, 5
SIDE_SHARE = 0.8  # of the half width: what lies farther out is a side


class DetailRegions(NamedTuple):
    """Vertices of a topology for claim 1, bool [V] each; together they are all vertices, and they do not overlap."""

    rim: torch.Tensor
    high_curvature: torch.Tensor
    rest: torch.Tensor

    @classmethod
    def of(cls, mesh: Mesh, share: float = HIGH_CURVATURE_SHARE) -> DetailRegions:
        """rim: the boundary. high_curvature: the `share` of the others with the largest norm of L_rw s_tmpl.

        mesh: the template. Raises ValueError for a share outside (0, 1).
        """
        if not 0 < share < 1:
            raise ValueError(f"share must lie in (0, 1), got {share}")
        rim = mesh.boundary_vertices()
        bend = sparse_matmul(laplacian(mesh, "random_walk"), mesh.vertices[None])[0].norm(dim=1)
        inner = bend[~rim]
        count = max(1, round(share * len(inner)))
        curved = torch.zeros_like(rim)
        curved[torch.nonzero(~rim).flatten()[inner.topk(min(count, len(inner))).indices]] = True
        return cls(rim, curved, ~(rim | curved))


def detail_errors(predicted: torch.Tensor, truth: torch.Tensor, regions: DetailRegions) -> dict[str, torch.Tensor]:
    """Claim 1: mean vertex error in mm after similarity alignment over all vertices, [N] each, by region.

    predicted, truth: [N, V, 3] mm. A mesh without boundary has no "rim". Raises ValueError for shapes that differ.
    """
    distances = vertex_distances(predicted, truth)
    return {name: distances[:, mask].mean(1) for name, mask in regions._asdict().items() if bool(mask.any())}


def mouth_rim_gap(landmarks_3d: torch.Tensor) -> torch.Tensor:
    """Claim 1: how far the mouth's rims are apart, [N] in the unit of the input.

    Mean distance between the inner lips' landmarks 61-67, 62-66, 63-65. landmarks_3d: [N, 68, 3].
    """
    _check_68(landmarks_3d)
    return (landmarks_3d[:, UPPER_LIP] - landmarks_3d[:, LOWER_LIP]).norm(dim=-1).mean(1)


def nostril_vertices(mesh: Mesh, landmarks68: torch.Tensor) -> torch.Tensor:
    """Claim 1: the vertices of the nostrils that lie deepest in the nose, int64 [2, 5], image-left first.

    Of the vertices within 8 mm to the left and right and 14 mm in all of landmark 32 or 34 whose normal points down (by
    more than 0.25, which leaves out the sides of the nose), the five deepest (`nostril_depth`).

    mesh: the template, object frame; landmarks68: int64 [68]. Raises ValueError for a nose without nostrils.
    """
    if not has_nostrils(mesh, landmarks68):
        raise ValueError("the template's nose has no nostrils behind the plane through its tip and wings")
    return _depth_in_nostrils(mesh, landmarks68).topk(NOSTRIL_COUNT).indices


def has_nostrils(mesh: Mesh, landmarks68: torch.Tensor) -> bool:
    """Whether a template has the vertices that `nostril_vertices` looks for."""
    return int((_depth_in_nostrils(mesh, landmarks68) > 0).sum(1).min()) >= NOSTRIL_COUNT


def _depth_in_nostrils(mesh: Mesh, landmarks68: torch.Tensor) -> torch.Tensor:
    """Depth behind the nose's base of each vertex in either nostril, [2, V]; -inf for all others."""
    template, base = mesh.vertices, mesh.vertices[landmarks68][None]
    depth = behind_nose_base(template[None], base)[0]
    downward = -vertex_normals(template[None], mesh.triangles)[0, :, 1]
    offset = template - template[landmarks68[list(NOSTRIL_CENTRES)], None]
    near = (offset[..., 0].abs() < NOSTRIL_HALF_WIDTH_MM) & (offset.norm(dim=-1) < NOSTRIL_REACH_MM)
    return torch.where(near & (downward > NOSTRIL_DOWNWARD) & (depth > 0), depth, -torch.inf)


def nostril_depth(vertices: torch.Tensor, landmarks68: torch.Tensor, nostrils: torch.Tensor) -> torch.Tensor:
    """Claim 1: mean distance of the nostrils' vertices behind the nose's base, [N]; a flattened nose has less.

    vertices: [N, V, 3]; nostrils: int64 [2, 5] of `nostril_vertices`.
    """
    return behind_nose_base(vertices[:, nostrils.flatten()], vertices[:, landmarks68]).mean(1)


def behind_nose_base(points: torch.Tensor, landmarks_3d: torch.Tensor) -> torch.Tensor:
    """Signed distance [N, P] of points [N, P, 3] from the base of the nose, negative on the mouth's side.

    The base is the plane through the tip (landmark 30) and the wings (31, 35) of the same shape, [N, 68, 3].
    """
    _check_68(landmarks_3d)
    tip, left, right = landmarks_3d[:, NOSE_TIP], *(landmarks_3d[:, wing] for wing in NOSTRIL_WINGS)
    normal = torch.nn.functional.normalize(torch.linalg.cross(left - tip, right - tip), dim=1)
    towards_mouth = ((landmarks_3d[:, 51] - tip) * normal).sum(1, keepdim=True).sign()
    return -towards_mouth * ((points - tip[:, None]) * normal[:, None]).sum(-1)


class SideRegions(NamedTuple):
    """Vertices of a topology for claim 2, bool [V] each: the forehead's and the cheeks' outer parts."""

    forehead: torch.Tensor
    sides: torch.Tensor

    @classmethod
    def of(cls, template: torch.Tensor, landmarks68: torch.Tensor) -> SideRegions:
        """Vertices with |x| above 0.8 of the half width at their part: above the brows; between brows and mouth.

        template: [V, 3] mm in the object frame. Raises ValueError when the mesh has none of either.
        """
        points = template[landmarks68]
        brows, mouth = points[17:27, 1].max(), points[48:68, 1].mean()
        above, beside = template[:, 1] > brows, (template[:, 1] <= brows) & (template[:, 1] > mouth)
        masks = []
        for name, part in (("forehead", above), ("sides", beside)):
            if not bool(part.any()):
                raise ValueError(f"the template has no vertex in its {name}; use a region that reaches farther")
            reach = template[part, 0].abs().max()
            masks.append(part & (template[:, 0].abs() > SIDE_SHARE * reach))
        return cls(*masks)


def relative_widths(
    predicted: torch.Tensor,
    truth: torch.Tensor,
    landmarks68: torch.Tensor,
    mirror_map: torch.Tensor,
    regions: SideRegions,
) -> dict[str, torch.Tensor]:
    """Claim 2: width of forehead and sides over the true one, [N] each; below 1 the face has shrunk there.

    predicted, truth: [N, V, 3]; mirror_map: int64 [V]. See `widths`.
    """
    of_predicted, of_truth = (widths(shape, landmarks68, mirror_map, regions) for shape in (predicted, truth))
    return {name: of_predicted[name] / of_truth[name] for name in of_truth}


def widths(
    vertices: torch.Tensor, landmarks68: torch.Tensor, mirror_map: torch.Tensor, regions: SideRegions
) -> dict[str, torch.Tensor]:
    """Claim 2: width of forehead and sides, [N] each, in sizes of the inner face.

    The mean distance of the region's vertices from their mirror vertices over the RMS distance of landmarks 17 to 67 to
    their mean: what the whole face has of scale does not count. vertices: [N, V, 3]; mirror_map: int64 [V].
    """
    inner = vertices[:, landmarks68[INNER_FACE]]
    size = (inner - inner.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt()
    result = {}
    for name, mask in regions._asdict().items():
        index = torch.nonzero(mask).flatten()
        result[name] = (vertices[:, index] - vertices[:, mirror_map[index]]).norm(dim=-1).mean(1) / size
    return result


def spread_ratio(predicted: torch.Tensor, truth: torch.Tensor) -> float:
    """Claim 2: standard deviation of a number over N faces over that of its true values, [N] each.

    Below 1 the estimates have shrunk towards their mean; estimates of the least squared error do, by as much as they do
    not know. Raises ValueError for shapes that differ or fewer than two faces.
    """
    if predicted.shape != truth.shape or truth.ndim != 1 or len(truth) < 2:
        raise ValueError(
            f"predicted and truth must be [N] with N > 1, got {list(predicted.shape)}, {list(truth.shape)}"
        )
    return float(predicted.double().std() / truth.double().std())


def mahalanobis_distance(model: MorphableModel, neutral_vertices: torch.Tensor) -> torch.Tensor:
    """Claim 2: how far identity shapes lie from the model's mean, [N]; faces drawn from the prior have about 1.

    Identity coefficients by least squares, then the root mean square over the K modes of (coefficient - mean) / std of
    the prior. Nothing is aligned: a mode may be nearly a scaling, and its coefficient would be lost.

    neutral_vertices: [N, V, 3] mm, without expression, in the model's topology and object frame. Computed in float64.
    Raises ValueError for another shape.
    """
    if neutral_vertices.ndim != 3 or neutral_vertices.shape[1:] != model.template.shape:
        raise ValueError(
            f"neutral_vertices must be [N, {model.num_vertices}, 3], the model's topology, got "
            f"{list(neutral_vertices.shape)}"
        )
    basis = model.identity_basis.flatten(1).double()  # [K, 3V]
    offset = (neutral_vertices.double() - model.template.double()).flatten(1)
    coefficients = torch.linalg.solve(basis @ basis.T, basis @ offset.T).T
    z = (coefficients - model.prior.identity_mean.double()) / model.prior.identity_std.double()
    return z.square().mean(1).sqrt().to(neutral_vertices.dtype)


def shading_error_up_to_scale(
    predicted: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor, *, per_channel: bool = True
) -> torch.Tensor:
    """Claims 3 and 4: relative error of the shading after the best scale, [N]; 0 = the same light but for brightness.

    root of sum |k s - t|^2 / sum |t|^2 over the masked pixels, k the least-squares factor of each colour channel (of
    the picture as a whole with per_channel=False): a photograph does not tell a bright light from a bright skin.

    Args:
        predicted, truth: shading, [N, ..., 3], both on the true normals, so that light alone is compared.
        mask: [N, ...], 0 to 1.

    Raises ValueError for shapes that differ, or a face without masked pixels.
    """
    if predicted.shape != truth.shape or predicted.shape[-1] != 3 or mask.shape != predicted.shape[:-1]:
        raise ValueError(
            "predicted and truth must be [N, ..., 3] and mask [N, ...], got "
            f"{list(predicted.shape)}, {list(truth.shape)}, {list(mask.shape)}"
        )
    n = len(mask)
    weight = mask.reshape(n, -1, 1).to(predicted.dtype)
    if not bool((weight > 0).any(1).all()):
        raise ValueError("mask must cover a pixel of every face")
    s, t = (torch.where(weight > 0, value.reshape(n, -1, 3), 0.0) for value in (predicted, truth))
    over = (1,) if per_channel else (1, 2)
    tiny = torch.finfo(predicted.dtype).tiny
    factor = (weight * s * t).sum(over, keepdim=True) / (weight * s * s).sum(over, keepdim=True).clamp_min(tiny)
    left = (weight * (factor * s - t).square()).sum((1, 2))
    return (left / (weight * t * t).sum((1, 2)).clamp_min(tiny)).sqrt()


def directional_share_ratio(predicted: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Claim 3: energy share of SH bands 1 and 2 over the true light's, [N]; 0 = a light that has become isotropic.

    predicted, truth: effective coefficients [N, 9, 3]. The share itself is `facecore.data.lights.directional_share`.
    """
    tiny = torch.finfo(truth.dtype).tiny
    return directional_share(predicted) / directional_share(truth).clamp_min(tiny)


def side_light_share(sh_coefficients: torch.Tensor) -> torch.Tensor:
    """Claim 3: how much of a light comes from one side, [N]: the energy share of what is odd in n_x.

    Of the basis of METHODS 1.5 these are H_3, H_4 and H_7; energies as `facecore.data.lights.band_energy` counts them.
    Chooses the renders under side light on which `albedo_asymmetry` is read. sh_coefficients: effective, [N, 9, 3].
    """
    squares = sh_coefficients.square().sum(2)
    odd = BAND_MEAN_SQUARE[1] * squares[:, 3] + BAND_MEAN_SQUARE[2] * (squares[:, 4] + squares[:, 7])
    return odd / band_energy(sh_coefficients).sum(1).clamp_min(torch.finfo(squares.dtype).tiny)


def albedo_asymmetry(albedo: torch.Tensor, mirror_map: torch.Tensor) -> torch.Tensor:
    """Claim 3: mean absolute difference of albedo and mirrored albedo, [N]; under side light, light that leaked in.

    albedo: [N, V, 3]; mirror_map: int64 [V].
    """
    return (albedo - albedo[:, mirror_map]).abs().mean((1, 2))


def photometric_error(rendered: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Claim 4, METHODS 8.1: mean absolute pixel difference in the mask times 255, [N]; 0 where the mask is empty.

    rendered, image: [N, 3, H, W] in [0, 1]; mask: [N, H, W] in [0, 1], of the picture: what the drawn face misses of it
    is compared with the black that is there, so that no face gains by being small. Raises ValueError for shapes that
    differ.
    """
    if rendered.shape != image.shape or rendered.ndim != 4 or mask.shape != (len(image), *image.shape[2:]):
        raise ValueError(
            "rendered and image must be [N, 3, H, W] and mask [N, H, W], got "
            f"{list(rendered.shape)}, {list(image.shape)}, {list(mask.shape)}"
        )
    weight = mask.to(image.dtype)
    difference = torch.where(weight > 0, (rendered - image).abs().mean(1), 0.0)
    return 255 * (difference * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1)


def _check_68(landmarks_3d: torch.Tensor) -> None:
    if landmarks_3d.ndim != 3 or landmarks_3d.shape[1:] != (68, 3):
        raise ValueError(f"landmarks_3d must be [N, 68, 3], got {list(landmarks_3d.shape)}")
