"""Rendered faces with known parameters."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from facecore.data import FaceCrop, LabelledRenders, write_png
from facecore.data.backgrounds import NUM_UNIFORM as NUM_BACKGROUND
from facecore.data.backgrounds import draw_backgrounds, load_backgrounds
from facecore.data.occluders import KINDS, covered, draw_occluders
from facecore.data.occluders import NUM_UNIFORM as NUM_OCCLUDER
from facecore.data.openings import EYE, MOUTH, Openings, boundary_loops
from facecore.data.sensor import sensor_effects
from facecore.morphable import MorphableModel, load
from facecore.render import Renderer, WeakPerspectiveCamera

SIZE = 56


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def renders(model) -> LabelledRenders:
    return LabelledRenders(model, SIZE, SIZE, seed=5)


def test_shapes_ranges_and_devices(model, renders):
    batch = renders.batch(torch.arange(6))
    assert batch.image.shape == (6, 3, SIZE, SIZE) and batch.mask.shape == (6, SIZE, SIZE)
    assert batch.landmarks.shape == (6, 68, 2) and batch.pose.shape == (6, 6)
    assert batch.identity.shape == (6, model.num_identity) and batch.albedo.shape == (6, model.num_albedo)
    assert 0 <= batch.image.min() and batch.image.max() <= 1
    assert set(batch.mask.unique().tolist()) == {0.0, 1.0}
    assert all(torch.isfinite(getattr(batch, field.name)).all() for field in dataclasses.fields(batch))
    assert len(batch) == 6 and len(batch[2:4]) == 2 and len(renders.batch(torch.zeros(0, dtype=torch.int64))) == 0


def test_a_sample_is_the_same_in_every_batch(model, renders):
    together = renders.batch(torch.arange(12))
    fresh = LabelledRenders(model, SIZE, SIZE, seed=5)
    for chosen in (torch.tensor([7]), torch.tensor([11, 0, 7, 3, 2])):
        batch = fresh.batch(chosen)
        for name in ("identity", "expression", "albedo"):
            assert torch.equal(getattr(batch, name), getattr(together, name)[chosen]), name
        # matrix products of another batch size round differently, by about 1e-7 of 100 mm and of 56 pixels
        for name, tolerance in (("landmarks", 1e-3), ("pose", 1e-5), ("sh_coefficients", 1e-5)):
            torch.testing.assert_close(getattr(batch, name), getattr(together, name)[chosen], atol=tolerance, rtol=0)
        # and may move a silhouette across a pixel centre here and there
        assert (batch.mask != together.mask[chosen]).double().mean() < 1e-3
        assert ((batch.image - together.image[chosen]).abs() > 1e-3).double().mean() < 2e-3
    assert torch.equal(fresh.batch(torch.arange(12)).image, together.image)


def test_seeds_and_samples_differ(model, renders):
    batch = renders.batch(torch.tensor([0, 1]))
    other = LabelledRenders(model, SIZE, SIZE, seed=6).batch(torch.tensor([0, 1]))
    for name in ("image", "identity", "pose", "sh_coefficients"):
        assert not torch.equal(getattr(batch, name)[0], getattr(batch, name)[1])
        assert not torch.equal(getattr(batch, name), getattr(other, name))


def test_labels_reproduce_the_picture(model):
    """Rendering the labels again gives every pixel of the mask, without occluders or sensor effects."""
    renders = LabelledRenders(model, SIZE, SIZE, seed=5, occluders=0.0, sensor=False)
    batch = renders.batch(torch.arange(5))
    vertices = model.shape(batch.identity, batch.expression)
    camera = WeakPerspectiveCamera.from_pose(batch.pose, SIZE, SIZE)
    torch.testing.assert_close(camera.project(vertices[:, model.landmarks68]), batch.landmarks)
    albedo = model.albedo(batch.albedo, clamp=True)
    again = Renderer(model.triangles, SIZE, SIZE)(vertices, albedo, camera, batch.sh_coefficients)
    on = batch.mask > 0
    assert again.alpha[on].eq(1).all() and 0.15 < batch.mask.mean() < 0.7
    torch.testing.assert_close(batch.image.permute(0, 2, 3, 1)[on], again.image.clamp(0, 1).permute(0, 2, 3, 1)[on])


def test_pictures_are_framed_as_photographs_are(renders):
    landmarks = renders.batch(torch.arange(40)).landmarks
    crops = [FaceCrop.from_landmarks(points, SIZE, SIZE) for points in landmarks]
    sides = torch.tensor([crop.side for crop in crops]) / SIZE
    centres = torch.tensor([crop.centre for crop in crops]) - SIZE / 2
    assert 1 / 1.1 - 0.1 < sides.min() and sides.max() < 1.1 + 1e-4 and sides.std() > 0.03  # 0.9 to 1.1
    limit = 10 * SIZE / 224
    assert centres.abs().max() <= limit + 1e-4 and centres.std() > limit / 4


def test_poses_fill_their_ranges(renders):
    angles = torch.rad2deg(renders._angles(torch.arange(300)))
    for column, limit in enumerate((20.0, 45.0, 10.0)):
        assert angles[:, column].abs().max() <= limit
        # 300 uniform numbers leave the outer 4 % at each end empty once in 10^5
        assert angles[:, column].min() < -0.92 * limit and angles[:, column].max() > 0.92 * limit


def test_occluders_hide_exactly_what_the_mask_leaves_out(model):
    index = torch.arange(24)
    with_, without = (
        LabelledRenders(model, SIZE, SIZE, seed=5, occluders=share, sensor=False).batch(index) for share in (1.0, 0.0)
    )
    assert torch.equal(with_.landmarks, without.landmarks)
    hidden = without.mask - with_.mask
    assert hidden.min() == 0  # an occluder never adds to the mask
    changed = (with_.image != without.image).any(1)
    assert not changed[with_.mask > 0].any()
    assert changed[hidden > 0].all()
    share = hidden.sum((1, 2)) / without.mask.sum((1, 2))
    assert (share > 0).double().mean() > 0.8 and share.max() < 0.7 and 0.03 < share.mean() < 0.35


def test_share_of_occluded_pictures(model):
    index = torch.arange(200)
    some, none = (LabelledRenders(model, 16, 16, seed=5, occluders=s, sensor=False).batch(index) for s in (0.3, 0.0))
    occluded = (some.image != none.image).flatten(1).any(1).double().mean()
    assert 0.2 < occluded < 0.4  # 0.3 with a standard deviation of 0.032; all but a few touch the picture


@pytest.mark.parametrize("number", range(len(KINDS)), ids=KINDS)
def test_each_kind_of_occluder(number, renders, generator):
    landmarks = renders.batch(torch.arange(30)).landmarks
    uniform = torch.rand(30, NUM_OCCLUDER, generator=generator)
    uniform[:, 0] = torch.tensor([0.0, 0.2, 0.3, 0.5, 0.75])[number] + 0.05
    colour, hidden = draw_occluders(uniform, landmarks, SIZE, SIZE)
    assert 0 <= colour.min() and colour.max() <= 1
    area = hidden.double().mean((1, 2))
    assert (area > 0).all() and area.max() < 0.55
    if KINDS[number] == "glasses":
        eyes = landmarks[:, 36:48].reshape(30, 2, 6, 2).mean(2)
        u, v = (eyes[:, :, k].long().clamp(0, SIZE - 1) for k in (0, 1))
        dark = uniform[:, 3] < 0.33
        inside = torch.stack([hidden[i, v[i], u[i]].all() for i in range(30)])
        assert torch.equal(inside, dark)  # dark lenses hide the eyes, rims do not


def test_parts_are_ellipses_bars_and_rings():
    """Areas against pi a b, 4 a b and the ring's difference; the position by the centre of mass."""
    parts = torch.tensor(
        [
            [[30.0, 40.0, 20.0, 10.0, 0.5, 2.0, 0.0]],
            [[50.0, 50.0, 20.0, 8.0, 0.0, 60.0, 0.0]],
            [[50.0, 50.0, 20.0, 20.0, 0.3, 2.0, 0.5]],
        ]
    )
    inside = covered(parts, 100, 100).double()
    areas = torch.tensor([math.pi * 200, 4 * 160, math.pi * 300], dtype=torch.float64)
    # a pixel is in or out: the error of an area is about the square root of the outline's length
    torch.testing.assert_close(inside.sum((1, 2)), areas, rtol=0.02, atol=0)
    grid = torch.arange(100, dtype=torch.float64) + 0.5
    assert float((inside[0].sum(0) * grid).sum() / inside[0].sum()) == pytest.approx(30, abs=0.1)
    assert float((inside[0].sum(1) * grid).sum() / inside[0].sum()) == pytest.approx(40, abs=0.1)
    # the first axis points right and, v being down, downwards for a positive angle
    assert inside[0, 49, 47] and not inside[0, 30, 47]


def test_backgrounds_cover_the_range(generator):
    uniform = torch.rand(80, NUM_BACKGROUND, generator=generator)
    images = draw_backgrounds(uniform, 20, 30)
    assert images.shape == (80, 3, 20, 30) and 0 <= images.min() and images.max() <= 1
    mean, rough = images.mean((1, 2, 3)), images.diff(dim=3).abs().mean((1, 2, 3))
    assert mean.min() < 0.25 and mean.max() > 0.75 and rough.min() < 0.01 and rough.max() > 0.05
    torch.testing.assert_close(draw_backgrounds(uniform[5:9], 20, 30), images[5:9])


def test_photographs_as_backgrounds(tmp_path, model):
    green = torch.tensor([0.2, 0.6, 0.2])[:, None, None].expand(3, 40, 70)
    write_png(tmp_path / "a.png", green)
    options = {"occluders": 0.0, "sensor": False, "backgrounds": tmp_path}
    renders = LabelledRenders(model, SIZE, SIZE, seed=5, **options)
    corners = renders.batch(torch.arange(60)).image[:, :, 0, 0]
    is_green = (corners - green[:, 0, 0]).abs().amax(1) < 1 / 255
    assert 0.25 < is_green.double().mean() < 0.75  # half of the pictures
    assert [tuple(p.shape) for p in load_backgrounds(tmp_path)] == [(3, 160, 280)]
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="no pictures for backgrounds"):
        LabelledRenders(model, SIZE, SIZE, backgrounds=tmp_path / "none")


@pytest.fixture(scope="module")
def model_without_eyes(model) -> MorphableModel:
    """The procedural model with a hole of 7 mm radius in each eye; its mouth is open as it is."""
    landmarks = model.template[model.landmarks68]
    middle = landmarks[36:48].view(2, 6, 3).mean(1)
    distance = (model.template[:, None, :2] - middle[:, :2]).norm(dim=2).amin(1)
    hole = (distance < 7) & ~torch.isin(torch.arange(model.num_vertices), model.landmarks68)
    assert int(hole.sum()) >= 2
    return model.crop(~(hole | hole[model.mirror_map]))


def test_openings_are_recognised(model, model_without_eyes):
    for face, expected in ((model, [MOUTH]), (model_without_eyes, [EYE, EYE, MOUTH])):
        openings = Openings(face.template, face.triangles, face.landmarks68)
        assert sorted(openings.kind.tolist()) == expected
        normals = torch.linalg.cross(*_fan_edges(openings, face.template))
        assert (normals.sum(0)[2] > 0) and openings.triangles.shape == (sum(map(len, openings.loops)), 3)


def _fan_edges(openings: Openings, template: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    corners = openings._fan_vertices(template[None])[0][0][openings.triangles.long()]
    return corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]


def test_eyes_do_not_show_the_background(tmp_path, model_without_eyes):
    batches = []
    for number, value in enumerate((0.0, 1.0)):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_png(folder / "a.png", torch.full((3, 20, 20), value))
        options = {"occluders": 0.0, "sensor": False, "backgrounds": folder}
        batches.append(LabelledRenders(model_without_eyes, 112, 112, seed=5, **options).batch(torch.arange(16)))
    differs = (batches[0].image != batches[1].image).any(1)
    assert differs.flatten(1).any(1).sum() >= 4  # some of the pictures have the folder's background
    eyes = batches[0].landmarks[:, 36:48].reshape(16, 2, 6, 2).mean(2).long().clamp(0, 111)
    holes = 0
    for i in range(16):
        v, u = eyes[i, :, 1], eyes[i, :, 0]
        assert not differs[i, v, u].any()
        holes += int((batches[0].mask[i, v, u] == 0).sum())
    assert holes > 16  # most of the 32 eyes are seen, and are not skin


def test_ict_faces_have_eyes(data_dir):
    model = load(data_dir / "ict_facekit.npz", region="face")
    openings = Openings(model.template, model.triangles, model.landmarks68)
    assert sorted(openings.kind.tolist()) == [EYE, EYE, MOUTH]
    batch = LabelledRenders(model, 112, 112, seed=1, occluders=0.0).batch(torch.arange(8))
    assert 0.4 < batch.mask.mean() < 0.85  # this region is the whole head with neck and ears


def test_boundary_loops_of_a_square_with_a_hole():
    """A 4 x 4 grid of squares without the middle four: an outer rim of 16 vertices and a hole of 8."""
    corner = torch.arange(25).view(5, 5)
    a, b, c, d = corner[:-1, :-1], corner[:-1, 1:], corner[1:, 1:], corner[1:, :-1]
    keep = torch.ones(4, 4, dtype=torch.bool)
    keep[1:3, 1:3] = False
    triangles = torch.cat([torch.stack([x[keep] for x in corners], 1) for corners in ((a, d, c), (a, c, b))]).int()
    loops = sorted(boundary_loops(triangles), key=len)
    assert [len(loop) for loop in loops] == [8, 16]
    assert set(loops[0].tolist()) == {6, 7, 8, 11, 13, 16, 17, 18}
    step = {tuple(sorted(pair)) for pair in zip(loops[0].tolist(), loops[0].roll(-1).tolist())}
    assert step == {(6, 7), (7, 8), (8, 13), (13, 18), (17, 18), (16, 17), (11, 16), (6, 11)}


def test_sensor_effects_are_mild(generator):
    image = torch.rand(8, 3, 32, 32, generator=generator).clamp(0.05, 0.95)
    uniform = torch.rand(8, 4, generator=generator)
    noise = torch.randn(image.shape, generator=generator)
    result = sensor_effects(image, uniform, noise)
    assert 0 <= result.min() and result.max() <= 1 and not torch.equal(result, image)
    assert (result.mean((2, 3)) - image.mean((2, 3))).abs().max() < 0.08  # gain 3 % and gamma 10 % of 0.5
    neutral = torch.tensor([[0.0, 0.5, 0.5, 0.0]]).expand(8, 4)
    torch.testing.assert_close(sensor_effects(image, neutral, noise), image)
    blurred = sensor_effects(image, torch.tensor([[1.0, 0.5, 0.5, 0.0]]).expand(8, 4), noise)
    kernel = torch.tensor([0.25, 0.5, 0.25])
    expected = (image[:, :, :3, :3] * (kernel[:, None] * kernel)).sum((2, 3))
    torch.testing.assert_close(blurred[:, :, 1, 1], expected)


def test_bad_arguments(model):
    bare = dataclasses.replace(
        model, albedo_mean=None, albedo_basis=None, albedo_std=None, albedo_names=(), prior=_without_albedo(model)
    )
    with pytest.raises(ValueError, match="has no albedo"):
        LabelledRenders(bare, SIZE, SIZE)
    with pytest.raises(ValueError, match=r"occluders must be in \[0, 1\]"):
        LabelledRenders(model, SIZE, SIZE, occluders=1.5)
    for index in (torch.tensor([-1]), torch.tensor([0.5]), torch.tensor(3)):
        with pytest.raises(ValueError, match="index must be int64"):
            LabelledRenders(model, SIZE, SIZE).batch(index)


def _without_albedo(model: MorphableModel):
    return dataclasses.replace(model.prior, albedo_mean=torch.zeros(0), albedo_std=torch.zeros(0))


@pytest.mark.cuda
def test_on_a_gpu_the_samples_are_the_same(model, renders):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    batch = LabelledRenders(model.to("cuda"), SIZE, SIZE, seed=5).batch(torch.arange(8)).to("cpu")
    expected = renders.batch(torch.arange(8))
    # other summation orders: the tolerances of test_a_sample_is_the_same_in_every_batch
    torch.testing.assert_close(batch.landmarks, expected.landmarks, atol=1e-3, rtol=0)
    assert (batch.mask != expected.mask).double().mean() < 1e-3
    assert ((batch.image - expected.image).abs() > 1e-3).double().mean() < 5e-3
