"""SurfacePoints and its loss: hand-made maps, targets between cells and outside, unknown points, gradients."""

from __future__ import annotations

import math
import types

import pytest
import torch

from facecore.nn import PointFeatures, PointMaps, ResNetEncoder, SurfacePoints, spread_points, surface_point_loss
from facecore.nn.surface_points import POSITION_WEIGHT, cell_centers, point_maps
from facecore.render import pixel_to_ndc
from facecore.systems.shared_terms import surface_point_term


def test_cell_centers_by_hand():
    expected = torch.tensor([[-0.75, 0.5], [-0.25, 0.5], [0.25, 0.5], [0.75, 0.5]])
    centers = cell_centers(2, 4, like=torch.zeros(1))
    assert centers[:4].equal(expected)  # exact in binary
    assert centers[4:].equal(expected * torch.tensor([1.0, -1.0]))


def test_shapes_and_positions_inside_the_picture(generator):
    encoder = ResNetEncoder(18).eval()
    points = SurfacePoints(7, encoder.widths)
    with torch.no_grad():
        found = points(encoder.features(torch.rand(2, 3, 40, 72, generator=generator)))
    assert found.positions.shape == (2, 7, 2) and found.logits.shape == (2, 7, 10, 18)
    torch.testing.assert_close(found.log_normalizer, found.logits.flatten(2).logsumexp(-1))
    assert found.positions.abs().max() < 1


def test_position_is_the_mean_cell_of_a_peaked_map():
    """A map that is nearly all in one cell gives the cell's centre; two equal peaks give the middle."""
    module = SurfacePoints(1, (1, 1, 1, 1))

    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
    features = {f"layer{i}": torch.zeros(1, 1, 4, 4) for i in range(1, 5)}

    def position() -> torch.Tensor:
        return module(types.SimpleNamespace(**features)).positions[0, 0]

    features["layer1"][0, 0, 1, 2] = 1.0  # 64 neck channels turn it into a logit that is 64 above the others
    torch.testing.assert_close(position(), torch.tensor([0.25, 0.25]))
    features["layer1"][0, 0, 3, 2] = 1.0
    torch.testing.assert_close(position(), torch.tensor([0.25, -0.25]))


def test_point_features_by_hand():
    """Maps that are x and y themselves, in NDC, show each point its own position, from cell to cell."""
    module = PointFeatures(2, 2)
    with torch.no_grad():
        module.reduce.weight.copy_(torch.eye(2)[:, :, None, None])
        module.reduce.bias.zero_()
    maps = cell_centers(4, 8, like=torch.zeros(1)).T.reshape(1, 2, 4, 8).repeat(2, 1, 1, 1).requires_grad_()
    positions = torch.tensor([[[0.1, 0.2], [-0.8, 0.7]], [[0.0, 0.0], [0.6, -0.3]]], requires_grad=True)
    shown = module(maps, positions)
    torch.testing.assert_close(shown, positions.detach().flatten(1))  # bilinear reads a linear map exactly
    shown.sum().backward()
    assert positions.grad is None  # where to look is not learned from what is seen
    torch.testing.assert_close(maps.grad.sum((2, 3)), torch.full((2, 2), 2.0))  # each point's weights add up to 1
    corner = torch.tensor([[[1.0, 1.0]], [[-1.0, -1.0]]])
    torch.testing.assert_close(module(maps, corner), torch.tensor([[0.875, 0.75], [-0.875, -0.75]]))  # border cells


def test_loss_by_hand():
    """Uniform maps: log of the number of cells, plus the distance of their mean, the centre of the picture."""
    target = torch.tensor([[[0.5, -0.25]]])
    expected = math.log(32) + POSITION_WEIGHT * 0.375
    assert float(surface_point_loss(point_maps(torch.zeros(1, 1, 4, 8)), target)) == pytest.approx(expected, rel=1e-6)


def test_spread_target_has_the_target_as_mean(generator):
    """The gradient in the logits is the spread target but for sign and the mean over points, the normalizer apart."""
    target = 1.5 * torch.rand(3, 5, 2, generator=generator) - 0.75
    maps = torch.zeros(3, 5, 6, 9, requires_grad=True)
    surface_point_loss(PointMaps(target, torch.zeros(3, 5), maps), target).backward()
    spread = -maps.grad.flatten(2) * 15
    torch.testing.assert_close(spread.sum(-1), torch.ones(3, 5))
    assert int((spread.abs() > 1e-6).sum(-1).max()) <= 4
    torch.testing.assert_close(spread @ cell_centers(6, 9, like=spread), target, rtol=0, atol=1e-5)  # float32 sums


def test_targets_outside_and_unknown_points():
    maps = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.tensor([[[5.0, 0.0], [float("nan"), float("nan")], [0.1, 0.2]]])
    weight = torch.tensor([[1.0, 0.0, 1.0]])
    loss = surface_point_loss(point_maps(maps), target, weight)
    loss.backward()
    assert loss.isfinite() and maps.grad.isfinite().all()
    assert not maps.grad[0, 1].any() and maps.grad[0, 0].any()


def test_gradcheck(generator):
    logits = torch.randn(2, 3, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    target = 2 * torch.rand(2, 3, 2, generator=generator, dtype=torch.float64) - 1
    assert torch.autograd.gradcheck(lambda x: point_maps(x)[:2], (logits,))
    assert torch.autograd.gradcheck(lambda x: surface_point_loss(point_maps(x), target), (logits,))
    large = (1e3 * logits).detach()  # no overflow
    assert point_maps(large).positions.isfinite().all() and point_maps(large).log_normalizer.isfinite().all()


def test_double_precision_stays(generator):
    encoder = ResNetEncoder(18).eval().double()
    points, shown = SurfacePoints(5, encoder.widths).double(), PointFeatures(encoder.widths[0], 3).double()
    with torch.no_grad():
        features = encoder.features(torch.rand(1, 3, 32, 32, generator=generator, dtype=torch.float64))
        found = points(features)
    assert found.positions.dtype == torch.float64
    assert shown(features.layer1, found.positions).dtype == torch.float64


def test_needs_a_point():
    with pytest.raises(ValueError, match="num_points must be at least 1, got 0"):
        SurfacePoints(0, (1, 1, 1, 1))
    with pytest.raises(ValueError, match="num_features must be at least 1, got 0"):
        PointFeatures(8, 0)


def test_spread_points():
    """On a line: the landmarks first, then the usable vertex farthest from all before, lowest index at a tie."""
    line = torch.stack([torch.arange(9.0), torch.zeros(9), torch.zeros(9)], 1)
    usable = torch.ones(9, dtype=torch.bool)
    assert spread_points(line, torch.tensor([0]), 4, usable).tolist() == [0, 8, 4, 2]
    usable[[0, 4, 8]] = False  # 0 is a landmark all the same
    assert spread_points(line, torch.tensor([0]), 7, usable).tolist() == [0, 7, 3, 5, 1, 2, 6]
    for count in (1, 8):
        with pytest.raises(ValueError, match=rf"surface_points must be 0 or from 2 .* to 7 .*, got {count}"):
            spread_points(line, torch.tensor([0, 1]), count, usable)


def test_both_halves_count_by_their_pictures(generator):
    """The term of 3 renders with 70 points and 2 photographs with 68 landmarks, some unknown and NaN: by its parts."""
    renders, photographs, points, known, size = 3, 2, 70, 68, 8
    logits = torch.randn(renders + photographs, points, 4, 4, generator=generator)
    truth = torch.rand(renders, points, 2, generator=generator) - 0.5
    landmarks = size * torch.rand(photographs, known, 2, generator=generator)
    weight = torch.rand(photographs, known, generator=generator)
    weight[0, 5], landmarks[0, 5] = 0.0, torch.nan
    photos = types.SimpleNamespace(landmarks=landmarks, landmark_weight=weight)
    found = point_maps(logits)
    got = surface_point_term(found, truth, photos, size)
    own = surface_point_loss(point_maps(logits[:renders]), truth)
    on_photos = point_maps(logits[renders:, :known])
    other = surface_point_loss(on_photos, pixel_to_ndc(landmarks, size, size), weight)
    torch.testing.assert_close(got, (renders * own + photographs * other) / (renders + photographs))
    alone = surface_point_term(point_maps(logits[:renders]), truth, None, size)
    torch.testing.assert_close(alone, own)
