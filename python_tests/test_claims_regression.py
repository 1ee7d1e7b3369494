"""What claims 15 and 16 are measured by, on cases computed by hand."""

from __future__ import annotations

import pytest
import torch

from facecore.data.studio_views import StudioViews
from facecore.evaluation.claims_regression import (
    blurred,
    code_change,
    codes_in_views,
    covered,
    drift_by_blur,
    drift_by_occlusion,
    drift_by_yaw,
    output_moments,
    output_variation,
    parameter_errors,
)
from facecore.losses.batch_distribution import expected_batch_distribution_loss
from facecore.morphable import load as load_model


def colour(images: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """A regression of three coefficients: the mean colour."""
    return images.mean((2, 3))


def test_moments():
    codes = torch.tensor([[1.0, 3.0], [-1.0, 5.0]])  # means 0 and 4, variances 1 and 1
    moments = output_moments(codes)
    assert moments["mean_square"] == pytest.approx(8.0) and moments["variance"] == pytest.approx(1.0)
    assert moments["excess"] == pytest.approx(16 - 2 * (1 / 2 + 3 / 4))  # METHODS 6: K (1/B + (2B - 1)/B^2)
    assert expected_batch_distribution_loss(2 * 199, 32) == pytest.approx(36.9, abs=0.05)  # METHODS 6
    with pytest.raises(ValueError, match="at least 1"):
        expected_batch_distribution_loss(3, 0)


def test_the_expected_loss_is_what_the_prior_gives():
    generator = torch.Generator().manual_seed(0)
    excess = [output_moments(torch.randn(32, 50, generator=generator))["excess"] for _ in range(400)]
    # expected 4.6; one batch scatters by about 1, the mean of 400 by 0.05
    assert abs(sum(excess) / len(excess)) < 0.2


def test_parameter_errors():
    truth = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    assert parameter_errors(0.5 * truth, truth) == pytest.approx({"rms": 0.5**0.5, "rms_gain_percent": 50.0})
    assert parameter_errors(torch.zeros(2, 2), truth)["rms_gain_percent"] == pytest.approx(0.0)


def test_variation():
    faces = torch.tensor([[[0.0], [2.0]], [[4.0], [6.0]]])  # views +-1 around 1 and 5
    assert output_variation(faces) == pytest.approx({"within": 2.0, "between": 8.0, "share": 0.2})
    with pytest.raises(ValueError, match="at least 2 faces in 2 views"):
        output_variation(faces[:1])


def test_change():
    reference = torch.tensor([[0.0, 0.0], [2.0, 2.0]])
    moved = reference + torch.tensor([[1.0, -1.0], [3.0, 3.0]])
    assert code_change(moved, reference) == pytest.approx({"change": 2.0, "of_persons": 1.0})
    with pytest.raises(ValueError, match="both be"):
        code_change(moved[:1], reference[:1])


def test_corruptions():
    images = torch.zeros(1, 3, 9, 9)
    images[:, :, 4, 4] = 1
    soft = blurred(images, 1.0)
    assert float(soft.sum()) == pytest.approx(3.0, abs=1e-4) and float(soft[0, 0, 4, 4]) < 0.2
    assert float(soft[0, 0, 4, 2]) == pytest.approx(float(soft[0, 0, 2, 4]))  # the same in both directions
    assert torch.equal(blurred(images, 0.0), images)
    square = torch.tensor([[2.0, 2.0], [8.0, 8.0]]).repeat(34, 1)[None]
    half = covered(torch.zeros(1, 3, 10, 10), square, 0.5)
    assert int((half[0, 0] == 0.5).sum()) == 6 * 3 and bool((half[0, 0, 5:8, 2:8] == 0.5).all())
    assert torch.equal(covered(images, square, 0.0), images)
    for call in (lambda: blurred(images, -1.0), lambda: covered(images, square, 1.5)):
        with pytest.raises(ValueError, match="must be"):
            call()


def test_drift_grows_with_the_corruption():
    """A regression that takes the mean colour: blur keeps it, an occluder and a turn do not."""
    views = StudioViews(load_model("procedural", num_vertices=2500), 32, 32, seed=1)
    faces = views.faces(torch.arange(4))
    occluded = drift_by_occlusion(colour, faces.image, faces.landmarks, (0.0, 0.3, 0.9))
    assert occluded[0]["change"] == 0 < occluded[1]["change"] < occluded[2]["change"]
    soft = drift_by_blur(colour, faces.image, faces.landmarks, (0.0, 2.0))
    assert soft[1]["change"] < 0.1 * occluded[2]["change"]
    turned = drift_by_yaw(colour, views, 3, (0.0, 45.0, 90.0))
    assert [row["yaw"] for row in turned] == [0.0, 45.0, 90.0]
    assert turned[0]["change"] == 0 < turned[1]["change"] < turned[2]["change"]
    codes = codes_in_views(colour, views, 2, 3)
    assert codes.shape == (2, 3, 3) and output_variation(codes)["within"] > 0  # colour follows the light
