"""facecore.ops.vertex_normals against its definition and against shapes whose normals are known."""

from __future__ import annotations

import pytest
import torch
from checks import at_level, check_matches_reference, check_registration

from facecore import ops, reference
from facecore.ops._library import takes_cuda_bodies

SHAPES = {  # images, vertices, triangles
    "typical": (2, 40, 70),
    "large": (2, 3000, 5000),
    "one_triangle": (1, 3, 1),
    "odd": (3, 7, 5),
    "empty_batch": (0, 7, 5),
    "no_triangles": (2, 4, 0),
    "one_vertex": (1, 1, 0),
    "lanes_left": (5, 40, 70),
    "two_groups": (19, 40, 70),
}


def make_inputs(device, dtype, n, v, t):
    generator = torch.Generator().manual_seed(3)
    vertices = torch.randn(n, v, 3, generator=generator, dtype=torch.float64)
    corners = torch.rand(t, v, generator=generator).argsort(1)[:, :3] if t else torch.zeros(0, 3)
    return vertices.to(device, dtype).requires_grad_(), corners.to(device, torch.int32)


def make_sphere(device, dtype=torch.float64):
    """An octahedron refined twice, projected to the unit sphere, wound outwards."""
    vertices = torch.tensor(
        [[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=torch.float64
    ).tolist()
    triangles = [(x, y, z) for x in (0, 1) for y in (2, 3) for z in (4, 5)]
    triangles = [t if (t[0] + t[1] + t[2]) % 2 == 0 else (t[0], t[2], t[1]) for t in triangles]
    for _ in range(2):
        middle: dict[tuple[int, int], int] = {}
        refined = []
        for a, b, c in triangles:
            ab, bc, ca = (_middle(vertices, middle, p, q) for p, q in ((a, b), (b, c), (c, a)))
            refined += [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
        triangles = refined
    points = torch.nn.functional.normalize(torch.tensor(vertices, dtype=torch.float64), dim=1)
    return points.to(device, dtype)[None], torch.tensor(triangles, dtype=torch.int32, device=device)


def _middle(vertices, middle, a, b):
    key = (min(a, b), max(a, b))
    if key not in middle:
        middle[key] = len(vertices)
        vertices.append([(p + q) / 2 for p, q in zip(vertices[a], vertices[b])])
    return middle[key]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape):
    # Random triangles meet at random angles: sums of unit normals can nearly cancel, which magnifies float32 rounding
    # in the gradient.
    tolerance = (1e-4, 1e-4) if dtype == torch.float32 else (1e-10, 1e-10)
    inputs = make_inputs(device, dtype, *shape)
    check_matches_reference(ops.vertex_normals, reference.vertex_normals, inputs, tolerance=tolerance)


def test_sphere(device):
    vertices, triangles = make_sphere(device)
    normals = ops.vertex_normals(vertices, triangles)
    torch.testing.assert_close(normals.norm(dim=-1), torch.ones_like(normals[..., 0]), rtol=1e-12, atol=0)
    # the normal of a sphere is its position; the mesh is coarse, so up to the angle of a triangle's tilt
    assert (normals * vertices).sum(-1).min() > 0.99


def test_follows_rotation_and_ignores_scale(device):
    vertices, triangles = make_inputs(device, torch.float64, 1, 20, 30)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    rotation = (rotation * rotation.det().sign()).to(device)
    expected = ops.vertex_normals(vertices, triangles) @ rotation.T
    for scale in (1e-4, 1.0, 1e5):
        moved = scale * (vertices @ rotation.T) + 3
        torch.testing.assert_close(ops.vertex_normals(moved, triangles), expected, rtol=1e-8, atol=1e-8)


def test_hand_computed(device):
    """Two squares at a right angle, their common edge between: z above the floor, x off the wall, half way between."""
    vertices = torch.tensor(
        [[[0.0, 0, 0], [0, 1, 0], [2, 0, 0], [2, 1, 0], [0, 0, 3], [0, 1, 3], [9, 9, 9]]], device=device
    )
    triangles = torch.tensor([[0, 2, 3], [0, 3, 1], [0, 1, 5], [0, 5, 4]], dtype=torch.int32, device=device)
    h = 0.5**0.5
    expected = [[h, 0, h], [h, 0, h], [0, 0, 1], [0, 0, 1], [1, 0, 0], [1, 0, 0], [0, 0, 0]]
    # vertex 1 has one triangle on each side, vertex 0 two: the sums are unweighted, so both are diagonal
    torch.testing.assert_close(ops.vertex_normals(vertices, triangles)[0], torch.tensor(expected, device=device))


def test_undefined_directions_are_zero_with_zero_gradient(device):
    vertices = torch.tensor(
        [[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [3, 0, 0], [5, 5, 5]]], dtype=torch.float64, device=device
    ).requires_grad_()
    cases = {
        "no area": [[0, 1, 3], [1, 3, 4], [5, 5, 5]],
        "opposite triangles cancel": [[0, 1, 2], [0, 2, 1]],
        "repeated corner": [[0, 0, 1]],
    }
    for name, triangles in cases.items():
        normals = ops.vertex_normals(vertices, torch.tensor(triangles, dtype=torch.int32, device=device))
        weight = torch.arange(1.0, 19.0, dtype=torch.float64, device=device).view(1, 6, 3)
        (grad,) = torch.autograd.grad((normals * weight).sum(), vertices, create_graph=True)
        assert not normals.any(), name
        assert not grad.any(), name
        (second,) = torch.autograd.grad(grad.sum(), vertices)
        assert not second.any(), name
    # a degenerate triangle beside a good one adds nothing
    triangles = torch.tensor([[0, 1, 2], [0, 1, 3]], dtype=torch.int32, device=device)
    assert ops.vertex_normals(vertices, triangles)[0].tolist() == [[0, 0, 1]] * 3 + [[0, 0, 0]] * 3


def test_accepts_any_strides(device):
    vertices, triangles = make_inputs(device, torch.float64, *SHAPES["odd"])
    expected = ops.vertex_normals(vertices, triangles)
    strided = vertices.detach().transpose(0, 2).contiguous().transpose(0, 2)
    got = ops.vertex_normals(strided, triangles.T.contiguous().T)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    (grad,) = torch.autograd.grad(expected.sum(), vertices)  # .sum() hands backward an expanded gradient
    (want,) = torch.autograd.grad(reference.vertex_normals(vertices, triangles).sum(), vertices)
    torch.testing.assert_close(grad, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 6, 5), (1, 3, 1)])
def test_gradients_are_exact(device, shape):
    vertices, triangles = make_inputs(device, torch.float64, *shape)
    assert torch.autograd.gradcheck(lambda v: ops.vertex_normals(v, triangles), vertices)
    assert torch.autograd.gradgradcheck(lambda v: ops.vertex_normals(v, triangles), vertices)


def test_third_derivative(device):
    vertices, triangles = make_inputs(device, torch.float64, 1, 4, 3)

    def gradient(v):
        return torch.autograd.grad(ops.vertex_normals(v, triangles).pow(3).sum(), v, create_graph=True)[0]

    assert torch.autograd.gradgradcheck(gradient, vertices)


def results(vertices, triangles):
    """Normals, gradient and second derivative."""
    normals = ops.vertex_normals(vertices, triangles)
    (grad,) = torch.autograd.grad(normals.pow(3).sum(), vertices, create_graph=True)
    return normals, grad, torch.autograd.grad(grad.square().sum(), vertices)[0]


def grid_triangles(rows, columns):
    corner = (torch.arange(rows - 1).view(-1, 1) * columns + torch.arange(columns - 1)).reshape(-1, 1)
    cells = torch.tensor([[0, columns, 1], [1, columns, columns + 1]], dtype=torch.int32)
    return (corner.unsqueeze(1) + cells).view(-1, 3).to(torch.int32)


@pytest.mark.parametrize("images", [1, 2, 9])
@pytest.mark.parametrize("mesh", ["neighbours_close", "neighbours_anywhere"])
def test_threads_give_the_same_bits(thread_count, images, mesh):
    vertices, triangles = make_inputs("cpu", torch.float32, images, 5000, 9000)
    triangles = grid_triangles(100, 50) if mesh == "neighbours_close" else triangles
    got = []
    for count in (1, 2, 3, 4):
        thread_count(count)
        got.append(results(vertices, triangles))
    for result in got[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, got[0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_instruction_sets_and_batches_give_the_same_bits(simd_level, dtype):
    """An image has the same normals and gradient alone and beside others, in vectors of any width."""
    inputs, triangles = make_inputs("cpu", dtype, 19, 40, 70)
    with at_level(0):
        want = [results(inputs[i : i + 1], triangles)[:2] for i in range(19)]
    want = [torch.cat(parts) for parts in zip(*want)]
    for images in (1, 2, 3, 4, 5, 8, 9, 16, 19):
        for one, other in zip(results(inputs[:images], triangles)[:2], want):
            assert torch.equal(one, other[:images]), images


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_vertex_that_is_nowhere_hides_its_triangles_only(device, images, bad):
    vertices, triangles = make_inputs(device, torch.float64, images, 20, 30)
    hidden = (triangles == 4).any(-1)
    assert hidden.any() and not hidden.all()
    broken = vertices.detach().clone()
    broken[-1, 4, 1] = bad
    got = results(broken.requires_grad_(), triangles)
    without = results(vertices, triangles[~hidden])
    whole = results(vertices, triangles)
    for mine, last, others in zip(got, without, whole):
        torch.testing.assert_close(mine[-1], last[-1], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(mine[:-1], others[:-1], rtol=1e-12, atol=1e-12)
        assert (mine[-1, 4] == 0).all()


def test_triangles_may_change_between_calls():
    """Nothing of a mesh is kept: triangles changed in place, or others at the same address, count at once."""
    vertices, triangles = make_inputs("cpu", torch.float32, 2, 300, 500)
    for _ in range(3):
        torch.testing.assert_close(
            ops.vertex_normals(vertices, triangles),
            reference.vertex_normals(vertices, triangles),
            rtol=1e-4,  # as in test_matches_reference
            atol=1e-4,
        )
        triangles.copy_((triangles + 1) % 300)
    normals = ops.vertex_normals(vertices, triangles)
    triangles.fill_(0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        normals.sum().backward()


def test_is_registered_correctly(device):
    vertices, triangles = make_inputs(device, torch.float32, *SHAPES["odd"])
    corners = corner_lists(triangles, 7)
    check_registration(
        torch.ops.facecore.vertex_normals_v2.default,
        lambda v, t, *_: ops.vertex_normals(v, t),
        (vertices, triangles, *corners),
    )
    normals, inverse = torch.ops.facecore.vertex_normals_v2(vertices.detach(), triangles, *corners)
    grad = torch.randn(3, 7, 3, device=device).requires_grad_()
    torch.library.opcheck(
        torch.ops.facecore.vertex_normals_backward_v2.default,
        (grad, vertices, triangles, *corners, normals, inverse),
    )
    torch.library.opcheck(torch.ops.facecore.vertex_corners.default, (triangles, 7))


def corner_lists(triangles, num_vertices):
    """What CUDA gathers from; the CPU does without."""
    return torch.ops.facecore.vertex_corners(triangles, num_vertices) if takes_cuda_bodies(triangles) else (None, None)


def test_debug_mode_refuses_indices_out_of_range(device, debug):
    vertices, triangles = make_inputs(device, torch.float32, *SHAPES["odd"])
    vertices = vertices.detach()
    corners = corner_lists(triangles, 7)
    normals, inverse = torch.ops.facecore.vertex_normals_v2(vertices, triangles, *corners)
    triangles[1, 1] = 7
    message = r"triangles must (index 7 vertices, 0|hold vertex indices from 0) to 6, got"
    with pytest.raises(ValueError, match=message):
        ops.vertex_normals(vertices, triangles)
    with pytest.raises(ValueError, match=message):
        torch.ops.facecore.vertex_normals_v2(vertices, triangles, *corners)
    with pytest.raises(ValueError, match=message):
        torch.ops.facecore.vertex_normals_backward_v2(vertices, vertices, triangles, *corners, normals, inverse)


def test_the_cpu_refuses_indices_out_of_range_in_every_operator():
    vertices, triangles = (x.detach() for x in make_inputs("cpu", torch.float32, *SHAPES["odd"]))
    for bad in (-1, 7, 2**31 - 1, -(2**31)):
        triangles[4, 2] = bad
        message = f"triangles must hold vertex indices from 0 to 6, got {bad} in triangle 4"
        with pytest.raises(ValueError, match=message):
            ops.vertex_normals(vertices, triangles)
        with pytest.raises(ValueError, match=message):
            torch.ops.facecore.vertex_normals_backward_v2(
                vertices, vertices, triangles, None, None, vertices, vertices[..., 0]
            )


def test_a_triangle_of_no_vertices_has_no_derivative_of_any_order_on_cuda(cuda_kernels):
    """As kernels of CUDA leave it out: every order is that of the mesh without it."""
    vertices, triangles = (x.detach() for x in make_inputs("cpu", torch.float64, *SHAPES["odd"]))
    broken = triangles.clone()
    broken[1, 0], broken[3, 2] = -1, vertices.shape[1]
    whole = triangles[torch.tensor([0, 2, 4])].contiguous()
    weight = torch.rand(vertices.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def penalty(triangles: torch.Tensor) -> torch.Tensor:
        leaf = vertices.clone().requires_grad_()
        (first,) = torch.autograd.grad((ops.vertex_normals(leaf, triangles) * weight).sum(), leaf, create_graph=True)
        return torch.autograd.grad(first.square().sum(), leaf)[0]

    torch.testing.assert_close(penalty(broken), penalty(whole), rtol=1e-12, atol=1e-14)


def test_corners_are_listed_in_order(device):
    triangles = torch.tensor([[2, 0, 1], [2, 1, 3]], dtype=torch.int32, device=device)
    corner_start, corners = torch.ops.facecore.vertex_corners(triangles, 5)
    assert corner_start.tolist() == [0, 1, 3, 5, 6, 6]
    assert corners.tolist() == [1, 2, 4, 0, 3, 5]


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, torch.zeros(7, 3), r"vertices must have shape \[N, V, 3\], got \[7, 3\]"),
        (0, torch.zeros(2, 7, 4), r"vertices must have shape \[N, V, 3\], got \[2, 7, 4\]"),
        (0, torch.zeros(2, 7, 3).int(), r"vertices must have dtype float32 or float64, got int32"),
        (1, torch.zeros(5, 3), r"triangles must have dtype int32, got float32"),
        (1, torch.zeros(5, 4, dtype=torch.int32), r"triangles must have shape \[T, 3\], got \[5, 4\]"),
        (1, torch.tensor([[0, 1, 7]], dtype=torch.int32), r"triangles must hold vertex indices from 0 to 6, got 7"),
        (1, torch.tensor([[0, -1, 2]], dtype=torch.int32), r"triangles must hold vertex indices from 0 to 6, got -1"),
    ],
)
def test_rejects_bad_arguments(position, value, message):
    inputs = [x.detach() for x in make_inputs("cpu", torch.float32, *SHAPES["odd"])]
    inputs[position] = value
    with pytest.raises(ValueError, match=message):
        ops.vertex_normals(*inputs)
