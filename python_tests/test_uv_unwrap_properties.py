"""facecore.ops.uv_unwrap: threads and instruction sets, convex meshes, and input that is broken."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from uv_scenes import SHAPES, cap, make_inputs

from facecore import ops, reference
from facecore.mesh import build_uv_map
from facecore.structures import Fragments


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_threads_change_no_bit(simd_level, thread_count, images, dtype):
    inputs = make_inputs(torch.device("cpu"), dtype, images, 3, 60, 50, (70, 66))
    results = []
    for count in (1, 2, 4):
        thread_count(count)
        texture, valid = ops.uv_unwrap(*inputs)
        results.append((texture, valid, *torch.autograd.grad(texture.pow(3).sum(), inputs[:2])))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_every_simd_level(simd_level):
    inputs = make_inputs(torch.device("cpu"), torch.float64, *SHAPES["typical"])
    texture, valid = ops.uv_unwrap(*inputs)
    expected, expected_valid = reference.uv_unwrap(*inputs)
    assert torch.equal(valid, expected_valid)
    torch.testing.assert_close(texture, expected, rtol=1e-11, atol=1e-11)
    grads, want = (torch.autograd.grad(x.square().sum(), inputs[:2]) for x in (texture, expected))
    torch.testing.assert_close(grads, want, rtol=1e-10, atol=1e-10)


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


def test_a_broken_table_reads_no_memory_outside(thread_count, device):
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
        thread_count(2)  # the lists are read when threads share an image
        torch.autograd.grad(texture.sum(), vertices)
        ids = torch.where(fragments.triangle_id >= 0, bad, fragments.triangle_id).int()
        ops.uv_unwrap(image, vertices, uv_map, Fragments(ids, *fragments[1:]))


def test_debug_mode_refuses_indices_out_of_range(device, debug):
    image, vertices, uv_map, fragments = make_inputs(device, torch.float64, *SHAPES["odd"])
    ops.uv_unwrap(image, vertices, uv_map, fragments)
    for name, end, message in (
        ("corners", 162, r"162 vertices, 0 to 161 or -1"),
        ("triangles", 162, r"162 vertices, 0 to 161, got"),
        ("vertex_start", len(uv_map.vertex_texels) + 1, r"\d+ entries of uv_map.vertex_texels"),
        ("vertex_texels", 3 * 11 * 13, "429 corners of texels"),
    ):
        table = getattr(uv_map, name).clone()
        for bad in (-2, end):
            table[-1] = bad
            with pytest.raises(ValueError, match=rf"uv_map\.{name} must index {message}"):
                ops.uv_unwrap(image, vertices, _replace(uv_map, **{name: table}), fragments)
    bad_ids = Fragments(fragments.triangle_id + 10**6, *fragments[1:])
    with pytest.raises(ValueError, match=r"fragments.triangle_id must index \d+ triangles"):
        ops.uv_unwrap(image, vertices, uv_map, bad_ids)


def _replace(uv_map, **fields):
    return dataclasses.replace(uv_map, **fields)
