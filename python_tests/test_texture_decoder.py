"""The convolutional albedo decoder: shapes, skips taken from the picture to the surface, what it may not depend on."""

from __future__ import annotations

import pytest
import torch

from facecore.mesh import cylindrical_uv
from facecore.morphable import load as load_model
from facecore.nn import ResNetEncoder, TextureDecoder
from facecore.nn.texture_decoder import SurfaceSkips
from facecore.render import WeakPerspectiveCamera

SIZE = 64


@pytest.fixture(scope="module")
def model():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def clip(model):
    """Two faces: straight ahead, and turned by 40 degrees."""
    pose = torch.zeros(2, 6)
    pose[1, 1] = 0.7
    return WeakPerspectiveCamera.from_pose(pose, SIZE, SIZE).to_clip(model.mean_neutral().expand(2, -1, -1))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return ResNetEncoder(depth=18).eval()


def make_decoder(model, encoder, skips="warped") -> TextureDecoder:
    torch.manual_seed(1)
    mesh = model.mesh
    decoder = TextureDecoder(mesh, cylindrical_uv(mesh), SIZE, encoder.widths, 16, skips=skips)
    torch.nn.init.normal_(decoder.last.weight, std=0.1)
    return decoder


def test_starts_at_nothing_and_has_the_pictures_size(model, encoder, clip):
    mesh = model.mesh
    decoder = TextureDecoder(mesh, cylindrical_uv(mesh), SIZE, encoder.widths, 16)
    out = decoder(encoder.features(torch.rand(2, 3, SIZE, SIZE)), torch.randn(2, 16), clip)
    assert out.shape == (2, 3, SIZE, SIZE)
    assert not out.any()


@pytest.mark.parametrize("skips", ["warped", "raw"])
def test_gradients_reach_code_maps_and_every_layer(model, encoder, clip, skips):
    decoder = make_decoder(model, encoder, skips)
    code = torch.randn(2, 16, requires_grad=True)
    images = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    decoder(encoder.features(images), code, clip).square().mean().backward()
    assert float(code.grad.abs().max()) > 0 and float(images.grad.abs().max()) > 0
    assert [name for name, p in decoder.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_nothing_crosses_the_batch(model, encoder, clip):
    decoder = make_decoder(model, encoder).eval()
    images, code = torch.rand(2, 3, SIZE, SIZE), torch.randn(2, 16)
    with torch.no_grad():
        both = decoder(encoder.features(images), code, clip)
        alone = decoder(encoder.features(images[1:]), code[1:], clip[1:])
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)  # convolutions of another batch size round anew


def test_skips_show_each_texel_what_lies_there_in_the_picture(model, clip):
    """A map that holds the x and y of the picture comes back as the projected place of each seen texel."""
    size = 32
    mesh = model.mesh
    uv = cylindrical_uv(mesh)
    place = (torch.arange(size) + 0.5) * (2 / size) - 1
    x, y = place.expand(size, size), -place[:, None].expand(size, size)
    warp = SurfaceSkips(mesh, uv, [size])
    (found,) = warp([torch.stack([x, y, torch.ones(size, size)]).expand(2, -1, -1, -1)], clip)
    seen = found[:, 2] > 0.5
    assert 0.5 < float(seen[0].float().mean()) and 0.2 < float(seen[1].float().mean())
    # the table of texels is the mesh's: interpolate its clip coordinates to say where each lies
    table = warp._uv_maps[0]
    corners = clip[:, table.corners.clamp_min(0).long()]  # [2, S, S, 3, 4]
    expected = (table.barycentric[None, ..., None] * corners).sum(3)[..., :2].permute(0, 3, 1, 2)
    inside = seen & (expected.abs() < 1 - 1 / size).all(1)  # beyond the outermost pixel centres the border continues
    difference = (found[:, :2] - expected).abs().amax(1)[inside]
    assert float(difference.max()) < 1e-5  # bilinear interpolation of a linear map is exact but for rounding
    assert not found[:, :, ~seen[0] & ~seen[1]].any()


def test_hidden_texels_have_no_skip(model, clip):
    """Of a face turned to one side, the far cheek's texels are 0."""
    warp = SurfaceSkips(model.mesh, cylindrical_uv(model.mesh), [32])
    (found,) = warp([torch.ones(2, 1, 32, 32)], clip)
    left, right = found[1, 0, :, :8].mean(), found[1, 0, :, -8:].mean()
    assert float(torch.stack([left, right]).min()) < 0.1 < 0.3 < float(torch.stack([left, right]).max())


def test_bad_arguments_are_refused(model, encoder, clip):
    mesh = model.mesh
    uv = cylindrical_uv(mesh)
    with pytest.raises(ValueError, match="size must be a multiple of 32, got 48"):
        TextureDecoder(mesh, uv, 48, encoder.widths, 16)
    with pytest.raises(ValueError, match='skips must be "warped" or "raw", got \'some\''):
        TextureDecoder(mesh, uv, SIZE, encoder.widths, 16, skips="some")
    with pytest.raises(ValueError, match="maps must be of pictures of 64 pixels, got 32"):
        make_decoder(model, encoder)(encoder.features(torch.rand(2, 3, 32, 32)), torch.randn(2, 16), clip)
