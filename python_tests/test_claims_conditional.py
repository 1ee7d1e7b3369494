"""Measurements of claims 12 to 14 on albedos, textures and renderers whose answers are known."""

from __future__ import annotations

import pytest
import torch

from facecore.evaluation.claims_conditional import albedo_error_up_to_scale, counted_renders, texture_correlation
from facecore.render import Renderer, WeakPerspectiveCamera


def test_an_albedo_counts_up_to_one_scale(generator):
    truth = torch.rand(3, 50, 3, generator=generator)
    torch.testing.assert_close(albedo_error_up_to_scale(0.4 * truth, truth), torch.zeros(3), rtol=0, atol=1e-6)
    # one scale for all channels: a tint is an error
    assert float(albedo_error_up_to_scale(truth * torch.tensor([1.0, 0.5, 1.0]), truth).min()) > 0.01


def test_albedo_error_by_hand():
    """predicted 1, 1; true 1, 3 in each channel: scale 2, errors 1 and 1."""
    predicted, truth = torch.ones(1, 2, 3), torch.tensor([1.0, 3.0])[None, :, None].expand(1, 2, 3)
    assert float(albedo_error_up_to_scale(predicted, truth)) == 1.0
    mask = torch.tensor([[True, False]])
    assert float(albedo_error_up_to_scale(predicted, truth, mask)) == 0.0
    assert float(albedo_error_up_to_scale(predicted, truth, mask & False)) == 0.0


def test_a_copy_correlates_and_its_negative_does_against(generator):
    texture = torch.rand(2, 3, 16, 16, generator=generator)
    visible = torch.rand(2, 16, 16, generator=generator) > 0.3
    colour = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    # a channel's own offset does not count, nor does what is not visible
    copy = torch.where(visible[:, None], 0.5 * texture + colour, 7.0)
    # sums of 700 products in float64 of float32 numbers
    torch.testing.assert_close(texture_correlation(copy, texture, visible), torch.ones(2), rtol=0, atol=1e-6)
    torch.testing.assert_close(texture_correlation(-copy, texture, visible), -torch.ones(2), rtol=0, atol=1e-6)
    noise = torch.rand(2, 3, 16, 16, generator=generator)
    assert float(texture_correlation(noise, texture, visible).abs().max()) < 0.2  # 5 standard errors of 700 texels
    assert not texture_correlation(torch.ones_like(texture), texture, visible).any()
    assert not texture_correlation(noise, texture, visible & False).any()


def test_every_picture_of_a_renderer_is_counted():
    renderer = Renderer(torch.tensor([[0, 1, 2]], dtype=torch.int32), 8, 8)
    vertices, light = torch.rand(3, 3, 3), torch.ones(3, 9, 3)
    camera = WeakPerspectiveCamera.from_pose(torch.zeros(3, 6), 8, 8)
    with counted_renders(renderer) as drawn:
        renderer(vertices, vertices, camera, light)
        renderer(vertices[:1], vertices[:1], camera[:1], light[:1])
    renderer(vertices, vertices, camera, light)  # after the block
    assert drawn.pictures == 4


def test_bad_inputs():
    with pytest.raises(ValueError, match=r"predicted and truth must be \[N, V, 3\]"):
        albedo_error_up_to_scale(torch.rand(2, 5, 3), torch.rand(2, 4, 3))
    with pytest.raises(ValueError, match=r"mask must be \[2, 5\]"):
        albedo_error_up_to_scale(torch.rand(2, 5, 3), torch.rand(2, 5, 3), torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="reflectance and unwrapped must be"):
        texture_correlation(torch.rand(1, 3, 4, 4), torch.rand(1, 3, 4, 4), torch.ones(1, 4, 5, dtype=torch.bool))
