"""facecore.ops.uv_unwrap: textures computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from uv_scenes import quads

from facecore import ops, reference
from facecore.mesh import Mesh, build_uv_map
from facecore.structures import Fragments


def test_texels_on_pixel_centres_are_the_pixels(device):
    mesh, uv, vertices = quads(0.0)
    image = torch.arange(12.0).view(1, 2, 2, 3).to(device)
    uv_map = build_uv_map(mesh, 2, 3, uv=uv).to(device)
    texture, valid = ops.uv_unwrap(image, vertices.to(device), uv_map)
    assert valid.all() and torch.allclose(texture, image, rtol=0, atol=1e-5)  # 1/3 is not exact


def test_between_and_beyond_the_centres(device):
    mesh, uv, vertices = quads(0.0)
    image = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]], device=device)
    texture, valid = ops.uv_unwrap(image, vertices.to(device), build_uv_map(mesh, 4, 4, uv=uv).to(device))
    assert valid.all()
    assert texture[0, 0].tolist() == [[0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]]


def test_w_divides(device):
    """The same places on the screen with w = 4 give the same picture, and the gradient is a quarter."""
    mesh, uv, vertices = quads(0.0)
    uv_map = build_uv_map(mesh, 4, 4, uv=uv).to(device)
    image = torch.tensor([[[[0.0, 4.0], [8.0, 12.0]]]], device=device)
    grads = []
    for scale in (1.0, 4.0):
        leaf = (scale * vertices).to(device).requires_grad_()
        texture, _ = ops.uv_unwrap(image, leaf, uv_map)
        assert texture[0, 0, 1].tolist() == [2, 3, 5, 6]
        grads.append(torch.autograd.grad(texture[0, 0, 1, 1], leaf)[0])
    assert torch.equal(grads[0], 4 * grads[1])
    # the inner texel moves 4 per pixel, W/2 = 1 pixel per unit of x; 8 per pixel and -1 pixel per unit of y
    torch.testing.assert_close(
        grads[0].sum((0, 1)), torch.tensor([4.0, -8.0, 0.0, -4.0 * -0.25 - -8.0 * 0.25]).to(device)
    )


def test_the_nearer_quad_hides_the_farther_one(device):
    mesh, uv, vertices = quads(-0.5, 0.5)
    uv_map, vertices = build_uv_map(mesh, 4, 8, uv=uv).to(device), vertices.to(device)
    image = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)).to(device)
    fragments = ops.rasterize(vertices, uv_map.triangles, 4, 4)
    texture, valid = ops.uv_unwrap(image, vertices, uv_map, fragments)
    assert valid[0, :, :4].all() and not valid[0, :, 4:].any()
    assert torch.allclose(texture[..., :4], image, rtol=0, atol=1e-5) and (texture[..., 4:] == 0).all()
    texture, valid = ops.uv_unwrap(image, vertices, uv_map)
    assert valid.all() and torch.equal(texture[..., :4], texture[..., 4:])


@pytest.mark.parametrize("gap, seen", [(0.0015, True), (0.0045, True), (0.0055, False), (0.1, False)])
def test_the_tolerance_is_half_a_percent_of_the_depth_range(device, gap, seen):
    """A third quad out of the picture stretches the depth range to 1."""
    mesh, uv, vertices = quads(0.0, gap, 1.0)
    vertices[:, 8:, 0] += 2.5
    uv_map, vertices = build_uv_map(mesh, 2, 6, uv=uv).to(device), vertices.to(device)
    fragments = ops.rasterize(vertices, uv_map.triangles, 4, 4)
    _, valid = ops.uv_unwrap(torch.zeros(1, 1, 4, 4, device=device), vertices, uv_map, fragments)
    assert valid[0].all(0).tolist() == [True, True, seen, seen, False, False]


def test_a_triangle_that_shares_a_vertex_hides_nothing(device):
    """Two leaves meet at a vertex; one covers the other's pixels, far more than the tolerance before it."""
    points = [[-1.0, 0, 0, 1], [1, -1, 0.9, 1], [1, 1, 0.9, 1], [1, -0.9, -0.9, 1], [1, 0.9, -0.9, 1]]
    vertices = torch.tensor([points], device=device)
    triangles = torch.tensor([[0, 1, 2], [0, 3, 4]])
    uv = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    mesh = Mesh(vertices[0, :, :3].cpu(), triangles, fix_winding=False)
    uv_map = build_uv_map(mesh, 16, 16, uv=uv).to(device)
    fragments = ops.rasterize(vertices, uv_map.triangles, 32, 32)
    _, valid = ops.uv_unwrap(torch.zeros(1, 1, 32, 32, device=device), vertices, uv_map, fragments)
    assert torch.equal(valid[0], uv_map.triangle_id >= 0)
    other = Fragments(torch.full_like(fragments.triangle_id, 2), *fragments[1:])  # of another mesh: no neighbour
    _, alone = ops.uv_unwrap(torch.zeros(1, 1, 32, 32, device=device), vertices, uv_map, other)
    assert int(alone.sum()) < int(valid.sum())
    assert torch.equal(alone, reference.uv_unwrap(torch.zeros(1, 1, 32, 32, device=device), vertices, uv_map, other)[1])


def test_backs_and_what_leaves_the_picture_are_not_seen(device):
    image = torch.ones(1, 1, 4, 4, device=device)
    for change, expected in (
        (lambda v: v, [1, 1, 1, 1]),
        (lambda v: v * torch.tensor([-1.0, 1, 1, 1]), [0, 0, 0, 0]),  # turned over
        (lambda v: -v, [0, 0, 0, 0]),  # behind the eye
        (lambda v: v + torch.tensor([1.0, 0, 0, 0]), [1, 1, 0, 0]),  # half a picture to the right
        (lambda v: v + torch.tensor([0, 0, 1.5, 0]), [0, 0, 0, 0]),  # beyond the far plane
        (lambda v: v - torch.tensor([0, 0, 1.5, 0]), [0, 0, 0, 0]),  # before the near plane
    ):
        mesh, uv, vertices = quads(0.0)
        _, valid = ops.uv_unwrap(image, change(vertices).to(device), build_uv_map(mesh, 4, 4, uv=uv).to(device))
        assert valid[0].all(0).int().tolist() == expected


def test_an_infinite_w_hides_its_texels(device):
    """x / w would be 0: the middle of the picture."""
    mesh, uv, vertices = quads(0.0)
    vertices[0, [0, 2], 3] = math.inf
    uv_map = build_uv_map(mesh, 4, 4, uv=uv).to(device)
    _, valid = ops.uv_unwrap(torch.ones(1, 1, 4, 4, device=device), vertices.to(device), uv_map)
    assert not valid.any()
