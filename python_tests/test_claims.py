"""Measurements of claims 0a to 4 on shapes, light and pictures whose answers are known."""

from __future__ import annotations

import pytest
import torch
from meshes import bumpy

from facecore.evaluation import claims
from facecore.evaluation.claims import DetailRegions, SideRegions
from facecore.mesh import Mesh
from facecore.morphable import load
from facecore.ops import sh_shading


@pytest.fixture(scope="module")
def model():
    return load("procedural", num_vertices=2500)


def test_detail_regions_part_the_vertices(model):
    regions = DetailRegions.of(model.mesh, 0.1)
    assert torch.equal(sum(mask.int() for mask in regions), torch.ones(model.num_vertices, dtype=torch.int32))
    assert torch.equal(regions.rim, model.mesh.boundary_vertices())
    assert int(regions.high_curvature.sum()) == round(0.1 * int((~regions.rim).sum()))
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\), got 1"):
        DetailRegions.of(model.mesh, 1)


def test_curvature_finds_the_peak():
    """On hills, the sharpest vertices are those that lie farthest from the mean of their neighbours."""
    mesh = bumpy(12, 12)
    regions = DetailRegions.of(mesh, 0.05)
    adjacency = mesh.adjacency()
    vertices = mesh.vertices.double().numpy()
    bend = torch.from_numpy(vertices - (adjacency @ vertices) / adjacency.sum(1)).norm(dim=1)
    assert (
        float(bend[regions.high_curvature].min()) >= float(bend[regions.rest].max()) - 1e-5
    )  # float32 against float64


def test_detail_errors_by_hand(model):
    """A displacement of the rim alone, and too small to turn the alignment by more than a share of it."""
    regions = DetailRegions.of(model.mesh)
    truth = model.template[None].double()
    predicted = truth.clone()
    signs = torch.ones(int(regions.rim.sum()), dtype=torch.float64)
    signs[::2] = -1  # neighbours move apart, so that no similarity explains it
    predicted[0, regions.rim, 2] += 2.0 * signs
    errors = claims.detail_errors(predicted, truth, regions)
    assert float(errors["rim"]) == pytest.approx(2.0, rel=0.02)
    # what the alignment gives back: some hundredths of a millimetre
    assert float(errors["rest"]) < 0.1 and float(errors["high_curvature"]) < 0.1
    assert float(claims.detail_errors(truth, truth, regions)["rest"]) == pytest.approx(0, abs=1e-9)


def test_mouth_gap_by_hand():
    points = torch.zeros(1, 68, 3)
    for upper, gap in zip((61, 62, 63), (3.0, 6.0, 9.0)):
        points[0, upper, 1] = gap
    assert float(claims.mouth_rim_gap(points)) == pytest.approx(6.0)
    with pytest.raises(ValueError, match=r"landmarks_3d must be \[N, 68, 3\]"):
        claims.mouth_rim_gap(points[:, :67])


def test_depth_behind_the_nose_base_by_hand():
    """Tip and wings in the plane y = 0, the mouth below: a point 5 mm above it is 5 mm deep, wherever it lies."""
    points = torch.zeros(1, 68, 3)
    points[0, 30] = torch.tensor([0.0, 0.0, 20.0])
    points[0, 31], points[0, 35] = torch.tensor([-15.0, 0, 0]), torch.tensor([15.0, 0, 0])
    points[0, 51] = torch.tensor([0.0, -15.0, 5.0])
    inside = torch.tensor([[[3.0, 5.0, 8.0], [-40.0, 5.0, -3.0], [0.0, -2.0, 0.0]]])
    torch.testing.assert_close(claims.behind_nose_base(inside, points), torch.tensor([[5.0, 5.0, -2.0]]))


def test_a_filled_nostril_is_less_deep(model):
    nostrils = claims.nostril_vertices(model.mesh, model.landmarks68)
    assert nostrils.shape == (2, 5) and len(nostrils.unique()) == 10
    assert claims.has_nostrils(model.mesh, model.landmarks68)
    closed = Mesh(model.template * torch.tensor([1.0, 1.0, 0.0]), model.triangles, fix_winding=False)
    assert not claims.has_nostrils(closed, model.landmarks68)
    with pytest.raises(ValueError, match="has no nostrils"):
        claims.nostril_vertices(closed, model.landmarks68)
    assert bool((model.template[nostrils[0], 0] < 0).all() and (model.template[nostrils[1], 0] > 0).all())
    depth = claims.nostril_depth(model.template[None], model.landmarks68, nostrils)
    flat = model.template.clone()
    flat[nostrils.flatten(), 1] -= 1.0  # down by 1 mm: the base is not steep, so about 1 mm less deep
    shallower = claims.nostril_depth(flat[None], model.landmarks68, nostrils)
    assert float(depth) > 1.5 and 0.5 < float(depth - shallower) <= 1.0


def test_nostrils_on_ict(data_dir):
    model = load(data_dir / "ict_facekit.npz", region="face")
    nostrils = claims.nostril_vertices(model.mesh, model.landmarks68)
    assert float(claims.nostril_depth(model.template[None], model.landmarks68, nostrils)) > 4.0
    torch.testing.assert_close(model.mirror_map[nostrils[0]].sort().values, nostrils[1].sort().values)


def test_widths_by_hand(model):
    assert model.mirror_map is not None
    regions = SideRegions.of(model.template, model.landmarks68)
    truth = model.template[None]
    arguments = (model.landmarks68, model.mirror_map, regions)
    scaled = claims.relative_widths(1.3 * truth, truth, *arguments)
    assert {name: pytest.approx(1.0, abs=1e-5) for name in regions._fields} == {k: float(v) for k, v in scaled.items()}
    narrow = truth.clone()
    narrow[:, regions.sides, 0] *= 0.9
    widths = claims.relative_widths(narrow, truth, *arguments)
    assert float(widths["sides"]) == pytest.approx(0.9, abs=0.01)  # mirror vertices differ a little in y and z
    assert float(widths["forehead"]) == pytest.approx(1.0, abs=1e-5)


def test_spread_ratio_by_hand():
    truth = torch.tensor([1.0, 2.0, 3.0])
    assert claims.spread_ratio(5 - 0.25 * truth, truth) == pytest.approx(0.25)
    for wrong in (truth[:1], truth[:2], truth[None]):
        with pytest.raises(ValueError, match=r"predicted and truth must be \[N\] with N > 1, got"):
            claims.spread_ratio(wrong, truth if len(wrong) == 2 else wrong)


def test_mahalanobis_distance_is_that_of_the_coefficients(model):
    drawn = model.sample(5, torch.Generator().manual_seed(1)).identity.double()
    exact = model.to(dtype=torch.float64)
    distance = claims.mahalanobis_distance(exact, exact.shape(2 * drawn))
    torch.testing.assert_close(distance, 2 * drawn.square().mean(1).sqrt(), rtol=1e-6, atol=0)
    assert float(claims.mahalanobis_distance(exact, exact.mean_neutral()[None])) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ValueError, match=r"neutral_vertices must be \[N, 2500, 3\]"):
        claims.mahalanobis_distance(model, model.template[None, :-1])


def test_shading_up_to_scale_by_hand():
    truth = torch.tensor([[[1.0, 1, 1], [2, 2, 2], [9, 9, 9]]])
    mask = torch.tensor([[1.0, 1, 0]])
    brighter = truth * torch.tensor([2.0, 3.0, 0.5])
    assert float(claims.shading_error_up_to_scale(brighter, truth, mask)) == pytest.approx(0, abs=1e-6)
    assert float(claims.shading_error_up_to_scale(brighter, truth, mask, per_channel=False)) > 0.3
    # s = (1, 1), t = (1, 2): k = 3/2, left over 1/4 + 1/4 of 5
    flat = claims.shading_error_up_to_scale(torch.ones_like(truth), truth, mask)
    assert float(flat) == pytest.approx((0.5 / 5) ** 0.5, rel=1e-6)
    hole = truth.clone()
    hole[0, 2] = torch.nan
    assert float(claims.shading_error_up_to_scale(hole, truth, mask)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="mask must cover a pixel of every face"):
        claims.shading_error_up_to_scale(truth, truth, torch.zeros(1, 3))


def test_directional_share_ratio():
    light = torch.zeros(1, 9, 3)
    light[:, 0], light[:, 2] = 1.0, 0.5
    isotropic = light.clone()
    isotropic[:, 1:] = 0
    assert float(claims.directional_share_ratio(light, light)) == pytest.approx(1)
    assert float(claims.directional_share_ratio(isotropic, light)) == 0


def test_side_light_by_hand():
    """Light along +x: all of band 1 is odd; from the front nothing is, and mirroring the light changes nothing."""
    light = torch.zeros(4, 9, 3)
    light[0, 3] = 1.0
    light[1, 2] = 1.0
    light[2:, 0], light[2, 3], light[3, 3] = 1.0, 1.0, -1.0
    expected = 1.0 / 3 / (1.0 / 4 + 1.0 / 3)  # band means pi/4 and pi/3
    torch.testing.assert_close(claims.side_light_share(light), torch.tensor([1.0, 0.0, expected, expected]))
    normals = torch.nn.functional.normalize(torch.randn(1, 500, 3, generator=torch.Generator().manual_seed(0)), dim=2)
    odd = torch.zeros(1, 9, 3)
    odd[:, [3, 4, 7]] = torch.rand(3, 3, generator=torch.Generator().manual_seed(1))
    mirrored = normals * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(sh_shading(mirrored, odd), -sh_shading(normals, odd))
    assert float(claims.side_light_share(odd)) == pytest.approx(1)


def test_albedo_asymmetry_by_hand():
    albedo = torch.zeros(1, 4, 3)
    albedo[0, 0] = 0.4  # vertex 0 mirrors 1; 2 and 3 mirror themselves
    assert float(claims.albedo_asymmetry(albedo, torch.tensor([1, 0, 2, 3]))) == pytest.approx(0.4 * 2 / 4)


def test_side_light_left_in_the_albedo_is_seen(model):
    normals = torch.nn.functional.normalize(model.template, dim=1)[None]
    light = torch.zeros(1, 9, 3)
    light[:, 0], light[:, 3] = 1.0, -0.2  # from the image's right
    shading = sh_shading(normals, light)
    assert float(claims.albedo_asymmetry(0.5 * shading, model.mirror_map)) > 0.05
    assert float(claims.albedo_asymmetry(torch.full_like(shading, 0.5), model.mirror_map)) == 0


def test_photometric_error_by_hand():
    image = torch.zeros(2, 3, 2, 2)
    rendered = image.clone()
    rendered[0, :, 0, 0] = torch.tensor([0.1, 0.2, 0.3])
    rendered[0, :, 1, 1] = 9.0  # not in the mask
    mask = torch.tensor([[[1.0, 1], [0, 0]], [[0.0, 0], [0, 0]]])
    error = claims.photometric_error(rendered, image, mask)
    torch.testing.assert_close(error, torch.tensor([255 * 0.2 / 2, 0.0]))
    # a face that misses all of a white mask is wholly wrong: black is drawn there
    torch.testing.assert_close(claims.photometric_error(image, 1 - image, mask), torch.tensor([255.0, 0.0]))
    with pytest.raises(ValueError, match=r"mask \[N, H, W\]"):
        claims.photometric_error(rendered, image, mask[:1])
