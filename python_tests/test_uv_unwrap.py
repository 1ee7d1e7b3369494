"""facecore.ops.uv_unwrap against its definition."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from checks import check_matches_reference
from hypothesis import given, settings
from hypothesis import strategies as st
from meshes import sphere

from facecore import _C, ops, reference, reference_uv
from facecore.mesh import Mesh, build_uv_map
from facecore.ops.uv_unwrap import _gradients_by_index
from facecore.structures import Fragments

SHAPES = {  # images, channels, height, width of the pictures, texture size
    "typical": (2, 3, 30, 28, (40, 36)),
    "one_pixel": (1, 1, 1, 1, (1, 1)),
    "odd": (3, 5, 7, 9, (11, 13)),
    "no_channels": (2, 0, 7, 9, (11, 13)),
    "empty_batch": (0, 3, 7, 9, (11, 13)),
    "empty_picture": (2, 3, 0, 9, (11, 13)),
}


def cap():
    """The front of a ball of radius 100 that its cylinder layout does not fold."""
    ball = sphere(2)
    kept = (ball.vertices[:, 2] > -20)[ball.triangles.long()].all(1)
    return Mesh(ball.vertices, ball.triangles[kept])


def clip(vertices, images, *, perspective=True):
    """Clip coordinates of `images` views, each turned and scaled differently; w from 0.6 to 1.4 with perspective."""
    angle = torch.linspace(-0.9, 1.1, images, dtype=torch.float64).view(-1, 1)
    x, y, z = (vertices.double() / 110).expand(images, -1, -1).unbind(-1)
    x, z = angle.cos() * x + angle.sin() * z, angle.cos() * z - angle.sin() * x
    w = 1 - 0.4 * z if perspective else torch.ones_like(z)
    return torch.stack((1.05 * x, 1.1 * y + 0.1, -0.7 * z * w, w), -1)


def make_inputs(device, dtype, images, channels, height, width, texture):
    """Self-occlusion by a second surface before the first: the mesh shifted and squeezed within the same vertices."""
    mesh = cap()
    uv_map = build_uv_map(mesh, *texture).to(device, dtype)
    generator = torch.Generator().manual_seed(5)
    vertices = clip(mesh.vertices, images)
    vertices[..., :3] += 0.02 * torch.randn(vertices[..., :3].shape, generator=generator, dtype=torch.float64)
    vertices = vertices.to(device, dtype).requires_grad_()
    image = torch.randn(images, channels, height, width, generator=generator, dtype=torch.float64)
    fragments = ops.rasterize(vertices.detach(), uv_map.triangles, height, width)
    return image.to(device, dtype).requires_grad_(), vertices, uv_map, fragments


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("occlusion", [True, False])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape, occlusion):
    image, vertices, uv_map, fragments = make_inputs(device, dtype, *shape)
    inputs = (image, vertices, uv_map, fragments if occlusion else None)
    got, want = ops.uv_unwrap(*inputs)[1], reference.uv_unwrap(*inputs)[1]
    assert torch.equal(got, want)
    if shape is SHAPES["typical"]:
        assert 0.1 < float(got.float().mean()) < 0.6
    # float32: a place is known to 3e-6 pixels and neighbouring pixels differ by up to 5; w multiplies that again
    tolerance = (5e-5, 5e-5) if dtype == torch.float32 else (1e-11, 1e-11)
    check_matches_reference(
        lambda *x: ops.uv_unwrap(*x)[0], lambda *x: reference.uv_unwrap(*x)[0], inputs, tolerance=tolerance
    )


def test_the_constants_are_those_of_the_definition():
    assert (_C.uv_unwrap_tolerance, _C.uv_unwrap_slope) == (reference_uv._TOLERANCE, reference_uv._SLOPE)


def test_accepts_any_strides(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    expected = ops.uv_unwrap(image, vertices, uv_map, fragments)
    strided = [x.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_() for x in (image, vertices)]
    strided_fragments = Fragments(*(x.transpose(1, 2).contiguous().transpose(1, 2) for x in fragments))
    got = ops.uv_unwrap(*strided, uv_map, strided_fragments)
    assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])
    grads = torch.autograd.grad(got[0].sum(), strided)  # .sum() hands backward an expanded gradient
    want = torch.autograd.grad(reference.uv_unwrap(image, vertices, uv_map, fragments)[0].sum(), (image, vertices))
    torch.testing.assert_close(grads, want, rtol=1e-11, atol=1e-11)


# -- Hand-computed -----------------------------------------------------------------------------------------------------


def quads(*depths, width=1.0):
    """Squares that fill the picture at z_ndc = depths, side by side in the layout, counter-clockwise."""
    corner = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    points = [torch.cat((corner * width, torch.full((4, 1), z), torch.ones(4, 1)), 1) for z in depths]
    layout = (corner + 1) / 2
    uv = [torch.stack(((layout[:, 0] + k) / len(depths), layout[:, 1]), 1) for k in range(len(depths))]
    triangles = torch.tensor([[0, 1, 2], [0, 2, 3]])
    mesh = Mesh(torch.cat(points)[:, :3], torch.cat([triangles + 4 * k for k in range(len(depths))]), fix_winding=False)
    return mesh, torch.cat(uv), torch.cat(points).unsqueeze(0)


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


# -- Gradients ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("occlusion", [True, False])
def test_gradients_are_exact(device, occlusion):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, 2, 2, 7, 9, (6, 5))
    fragments = fragments if occlusion else None
    nondet_tol = 1e-11 if device.type == "cuda" else 0.0  # atomics add in any order: 1e-16 of values of order 100
    assert torch.autograd.gradcheck(
        lambda a, b: ops.uv_unwrap(a, b, uv_map, fragments)[0], (image, vertices), nondet_tol=nondet_tol
    )


def test_second_derivatives_are_refused(device):
    inputs = make_inputs(device, torch.float64, *SHAPES["odd"])
    for leaf in inputs[:2]:
        (grad,) = torch.autograd.grad(ops.uv_unwrap(*inputs)[0].square().sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="facecore::uv_unwrap_backward has no derivative"):
            torch.autograd.grad(grad.square().sum(), inputs[0])


def test_valid_has_no_gradient_and_one_leaf_is_enough(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    texture, valid = ops.uv_unwrap(image, vertices, uv_map, fragments)
    assert not valid.requires_grad
    both = torch.autograd.grad(texture.square().sum(), (image, vertices))
    for index in (0, 1):
        leaves = [x if k == index else x.detach() for k, x in enumerate((image, vertices))]
        texture, _ = ops.uv_unwrap(*leaves, uv_map, fragments)
        (alone,) = torch.autograd.grad(texture.square().sum(), leaves[index])
        torch.testing.assert_close(alone, both[index], rtol=1e-12, atol=1e-12)


def test_what_comes_in_for_invalid_texels_reaches_nothing(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    texture, valid = ops.uv_unwrap(image, vertices, uv_map, fragments)
    grad = torch.where(valid.unsqueeze(1), 1.0, math.nan).expand_as(texture).to(texture)
    got = torch.autograd.grad(texture, (image, vertices), grad, retain_graph=True)
    want = torch.autograd.grad(texture.sum(), (image, vertices))
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_gradients_by_index_are_the_same_gradients(device, shape):
    """The form that CUDA takes under torch.use_deterministic_algorithms(True)."""
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *shape)
    texture, valid = ops.uv_unwrap(image, vertices, uv_map, fragments)
    grad = torch.randn(texture.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    want = torch.autograd.grad(texture, (image, vertices), grad)
    tables = uv_map.corners.permute(2, 0, 1), uv_map.barycentric.permute(2, 0, 1)
    got = _gradients_by_index(grad, image.detach(), vertices.detach(), *tables, valid)
    torch.testing.assert_close(got, want, rtol=1e-11, atol=1e-11)


# -- Threads and instruction sets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_change_no_bit(images, dtype):
    inputs = make_inputs(torch.device("cpu"), dtype, images, 3, 60, 50, (70, 66))
    results = []
    before = torch.get_num_threads()
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            texture, valid = ops.uv_unwrap(*inputs)
            results.append((texture, valid, *torch.autograd.grad(texture.pow(3).sum(), inputs[:2])))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_instruction_set_gives_the_same(level):
    inputs = make_inputs(torch.device("cpu"), torch.float64, *SHAPES["typical"])
    before = _C.limit_simd_level(level)
    try:
        texture, valid = ops.uv_unwrap(*inputs)
        grads = torch.autograd.grad(texture.square().sum(), inputs[:2])
    finally:
        _C.limit_simd_level(before)
    expected, expected_valid = reference.uv_unwrap(*inputs)
    assert torch.equal(valid, expected_valid)
    torch.testing.assert_close(texture, expected, rtol=1e-11, atol=1e-11)
    want = torch.autograd.grad(expected.square().sum(), inputs[:2])
    torch.testing.assert_close(grads, want, rtol=1e-10, atol=1e-10)


# -- Properties --------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.floats(-1.2, 1.2), st.floats(-0.6, 0.6))
def test_a_convex_mesh_shows_every_texel_that_faces_the_camera(yaw, pitch):
    mesh = cap()
    uv_map = build_uv_map(mesh, 48, 48)
    turn_y = torch.tensor([[math.cos(yaw), 0, math.sin(yaw)], [0, 1, 0], [-math.sin(yaw), 0, math.cos(yaw)]])
    turn_x = torch.tensor([[1, 0, 0], [0, math.cos(pitch), -math.sin(pitch)], [0, math.sin(pitch), math.cos(pitch)]])
    points = mesh.vertices / 110 @ (turn_y @ turn_x).T
    vertices = torch.cat((points[:, :2], -points[:, 2:], torch.ones(len(points), 1)), 1).unsqueeze(0)
    fragments = ops.rasterize(vertices, uv_map.triangles, 64, 64)
    image = torch.zeros(1, 1, 64, 64)
    _, valid = ops.uv_unwrap(image, vertices, uv_map, fragments)
    _, facing = ops.uv_unwrap(image, vertices, uv_map)
    a, b, c = points[uv_map.triangles.long()].unbind(1)
    normal = torch.nn.functional.normalize(torch.linalg.cross(b - a, c - a), dim=1)[:, 2]
    towards = torch.where(uv_map.triangle_id >= 0, normal[uv_map.triangle_id.clamp_min(0).long()], -1.0)
    assert not valid[0][towards < -1e-4].any()
    assert torch.equal(facing[0][towards.abs() > 1e-4], (towards > 0)[towards.abs() > 1e-4])
    assert valid[0][towards > 0.05].all()  # the cap is open: from behind its rim the inside would hide its back only


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float64]))
def test_hostile_vertices_touch_nothing(seed, dtype):
    """NaN, infinity, huge numbers and w of any sign: as the definition says, finite, and nothing from such vertices."""
    generator = torch.Generator().manual_seed(seed)
    image, vertices, uv_map, _ = make_inputs(torch.device("cpu"), dtype, 2, 2, 9, 7, (12, 10))
    values = torch.tensor([math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-40, 0.0, -1.0, 1e9], dtype=dtype)
    picked = values[torch.randint(len(values), vertices.shape, generator=generator)]
    hit = torch.rand(vertices.shape, generator=generator) < 0.02
    hostile = torch.where(hit, picked, vertices.detach()).requires_grad_()
    fragments = ops.rasterize(hostile.detach(), uv_map.triangles, 9, 7)
    texture, valid = ops.uv_unwrap(image, hostile, uv_map, fragments)
    grads = torch.autograd.grad(texture.sum(), (image, hostile))
    assert texture.isfinite().all() and all(g.isfinite().all() for g in grads)
    broken = ~hostile.detach().isfinite().all(-1)  # [N, V]
    assert (grads[1][broken] == 0).all()
    touched = broken[:, uv_map.corners.long().clamp_min(0)].any(-1) & (uv_map.triangle_id >= 0)
    assert not (valid & touched).any()
    if dtype == torch.float64:
        assert torch.equal(valid, reference.uv_unwrap(image, hostile, uv_map, fragments)[1])


def test_an_infinite_w_hides_its_texels(device):
    """x / w would be 0: the middle of the picture."""
    mesh, uv, vertices = quads(0.0)
    vertices[0, [0, 2], 3] = math.inf
    uv_map = build_uv_map(mesh, 4, 4, uv=uv).to(device)
    _, valid = ops.uv_unwrap(torch.ones(1, 1, 4, 4, device=device), vertices.to(device), uv_map)
    assert not valid.any()


def test_a_broken_table_reads_no_memory_outside(device):
    """Corners that are not vertices make empty texels; fragments of another mesh have no neighbours."""
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    before = ops.uv_unwrap(image, vertices, uv_map, fragments)[1]
    for bad in (10**6, -5, 2**31 - 1, -(2**31)):
        corners = uv_map.corners.clone()
        corners[:, ::2, 1] = bad
        _, valid = ops.uv_unwrap(image, vertices, _replace(uv_map, corners=corners), fragments)
        assert not valid[..., ::2].any() and torch.equal(valid[..., 1::2], before[..., 1::2])
        lists = {"vertex_start": uv_map.vertex_start * 1000 - 5, "vertex_texels": uv_map.vertex_texels * 0 + bad}
        texture, _ = ops.uv_unwrap(image[:1], vertices[:1], _replace(uv_map, corners=corners, **lists))
        threads = torch.get_num_threads()
        try:
            torch.set_num_threads(2)  # the lists are read when threads share an image
            torch.autograd.grad(texture.sum(), vertices)
        finally:
            torch.set_num_threads(threads)
        ids = torch.where(fragments.triangle_id >= 0, bad, fragments.triangle_id).int()
        ops.uv_unwrap(image, vertices, uv_map, Fragments(ids, *fragments[1:]))


def test_debug_mode_refuses_indices_out_of_range(device, debug):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    ops.uv_unwrap(image, vertices, uv_map, fragments)
    bad_map = _replace(uv_map, corners=uv_map.corners + uv_map.num_vertices)
    with pytest.raises(ValueError, match=r"uv_map\.corners must index 162 vertices"):
        ops.uv_unwrap(image, vertices, bad_map, fragments)
    bad_ids = Fragments(fragments.triangle_id + 10**6, *fragments[1:])
    with pytest.raises(ValueError, match=r"fragments.triangle_id must index \d+ triangles"):
        ops.uv_unwrap(image, vertices, uv_map, bad_ids)


def _replace(uv_map, **fields):
    return dataclasses.replace(uv_map, **fields)


# -- Registration and bad input ----------------------------------------------------------------------------------------


def test_is_registered_correctly(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float32, *SHAPES["odd"])
    tables = uv_map.corners.permute(2, 0, 1), uv_map.barycentric.permute(2, 0, 1)
    lists = uv_map.vertex_start, uv_map.vertex_texels
    op = torch.ops.facecore.uv_unwrap.default
    torch.library.opcheck(op, (image, vertices, *tables, uv_map.triangles, *lists, None, None))
    arguments = (image, vertices, *tables, uv_map.triangles, *lists, fragments.z_ndc, fragments.triangle_id)
    torch.library.opcheck(op, arguments)
    compiled = torch.compile(ops.uv_unwrap, fullgraph=True, backend="aot_eager")
    got, expected = compiled(image, vertices, uv_map, fragments), ops.uv_unwrap(image, vertices, uv_map, fragments)
    torch.testing.assert_close(got, expected)
    for wanted in ((True, True), (True, False), (False, True)):
        arguments = (torch.ones_like(expected[0]), image, vertices, *tables, *lists, expected[1], *wanted)
        arguments = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in arguments)
        torch.library.opcheck(torch.ops.facecore.uv_unwrap_backward.default, arguments)


def test_rejects_bad_inputs(device):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float32, *SHAPES["odd"])
    cases = [
        ((image[0], vertices, uv_map), r"image must have shape \[N, C, H, W\], got \[5, 7, 9\]"),
        ((image.half(), vertices, uv_map), r"image must have dtype float32 or float64, got float16"),
        ((image, vertices[..., :3], uv_map), r"vertices_clip must have shape \[3, V, 4\], got \[3, 162, 3\]"),
        ((image, vertices[:2], uv_map), r"vertices_clip must have shape \[3, V, 4\], got \[2, 162, 4\]"),
        (
            (image, vertices[:, :5], uv_map),
            r"vertices_clip must have the 162 vertices of uv_map, got shape \[3, 5, 4\]",
        ),
        ((image, vertices.double(), uv_map), r"vertices_clip must have dtype torch.float32 like the first argument"),
        ((image, vertices, uv_map.to(dtype=torch.float64)), r"uv_map.barycentric must have dtype torch.float32"),
        ((image, vertices, uv_map.triangle_id), r"uv_map must be a UVMap of facecore.mesh.build_uv_map, got Tensor"),
        (
            (image, vertices, uv_map, tuple(fragments)),
            r"fragments must be the Fragments of rasterize or None, got tuple",
        ),
        (
            (image, vertices, uv_map, Fragments(*(x[:, 1:] for x in fragments))),
            r"fragments.z_ndc must have shape \[3, 7, 9\], got \[3, 6, 9\]",
        ),
        (
            (image.expand(3, 5, 7, 9)[..., :1].expand(3, 5, 7, 20000), vertices, uv_map),
            r"image must have at most 16384",
        ),
        ((None, vertices, uv_map), r"image must be a torch.Tensor, got NoneType"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            ops.uv_unwrap(*arguments)
