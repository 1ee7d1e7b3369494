"""facecore.ops.rasterize: derivatives of the barycentrics."""

from __future__ import annotations

import pytest
import torch
from checks import added_and_gathered
from scenes import dense_surface, soup

from facecore import ops, reference

NAN = float("nan")


@pytest.mark.parametrize("kind", ["affine", "perspective", "any_w"])
def test_gradients_are_exact(device, kind):
    vertices, triangles = soup(3, n=2, t=4, v=9, kind=kind)
    vertices, triangles = vertices.to(device).requires_grad_(), triangles.to(device)
    assert (ops.rasterize(vertices, triangles, 5, 6).triangle_id >= 0).sum() > 8

    def barycentric(v):
        return ops.rasterize(v, triangles, 5, 6).barycentric

    # atomics on CUDA add in any order: 1e-16 of values up to 30 here
    nondet_tol = 1e-12 if device.type == "cuda" else 0.0
    assert torch.autograd.gradcheck(barycentric, (vertices,), check_forward_ad=True, nondet_tol=nondet_tol)
    assert torch.autograd.gradgradcheck(barycentric, (vertices,), nondet_tol=nondet_tol)


def test_function_transforms(device):
    vertices, triangles = (x.to(device) for x in soup(3, n=2, t=4, v=9))

    def loss(v):
        fragments = ops.rasterize(v, triangles, 5, 6)
        return (fragments.barycentric * torch.arange(1.0, 4.0, dtype=torch.float64, device=device)).square().sum()

    leaf = vertices.clone().requires_grad_()
    (want,) = torch.autograd.grad(loss(leaf), leaf)
    torch.testing.assert_close(torch.func.grad(loss)(vertices), want, rtol=1e-12, atol=1e-12)
    scales = torch.tensor([1.0, 0.8, 1.1], dtype=torch.float64, device=device)
    mapped = torch.func.vmap(lambda s: tuple(ops.rasterize(vertices * s, triangles, 5, 6)))(scales)
    grads = torch.func.vmap(torch.func.grad(lambda s: loss(vertices * torch.stack((s, s, s, s / s)))))(scales)
    for k, scale in enumerate(scales):
        assert all(torch.equal(x[k], y) for x, y in zip(mapped, ops.rasterize(vertices * scale, triangles, 5, 6)))
        alone = torch.func.grad(lambda s: loss(vertices * torch.stack((s, s, s, s / s))))(scale)
        torch.testing.assert_close(grads[k], alone, rtol=1e-12, atol=1e-12)
    with pytest.raises(NotImplementedError, match="forward mode over forward mode"):
        torch.func.jacfwd(torch.func.jacfwd(loss))(vertices)
    torch.testing.assert_close(
        torch.func.jacrev(torch.func.jacfwd(loss))(vertices),
        torch.func.jacrev(torch.func.jacrev(loss))(vertices),
        rtol=1e-9,
        atol=1e-9,
    )
    with pytest.raises(ValueError, match="triangles cannot be mapped by vmap"):
        torch.func.vmap(lambda t: ops.rasterize(vertices, t, 5, 6).barycentric)(triangles.expand(2, -1, -1))


def test_closed_form_reference_is_differentiable():
    vertices, triangles = soup(3, n=1, t=4, v=9)
    triangle_id = ops.rasterize(vertices, triangles, 4, 4).triangle_id
    vertices.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: reference.barycentrics(v, triangles, triangle_id), (vertices,))


def test_gradient_accepts_any_strides(device):
    vertices, triangles = (x.to(device) for x in soup(6))
    dense = vertices.clone().requires_grad_()
    strided = vertices.transpose(0, 1).contiguous().transpose(0, 1).requires_grad_()
    grads = []
    for leaf in (dense, strided):
        fragments = ops.rasterize(leaf, triangles.flip(0).flip(0), 9, 7)
        weight = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64, device=device).expand_as(fragments.barycentric)
        grads.append(torch.autograd.grad(fragments.barycentric, leaf, weight)[0])
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(grads[0], grads[1], rtol=0, atol=1e-12)


def test_the_gathered_gradient_is_the_same_gradient(cuda_kernels):
    vertices, triangles = (x.to(cuda_kernels) for x in soup(6, kind="any_w"))
    triangle_id = ops.rasterize(vertices, triangles, 25, 31).triangle_id
    triangle_id[0, :2], triangle_id[1, 3] = triangles.shape[0], -2  # of another mesh
    triangles[5, 1], triangles[7, 2] = vertices.shape[1], -1  # no vertex
    grad = torch.randn(2, 25, 31, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inputs = (grad.to(cuda_kernels), vertices, triangles, triangle_id)
    added, gathered = added_and_gathered(lambda: torch.ops.facecore.rasterize_backward(*inputs))
    assert added.abs().max() > 0 and not torch.equal(added, gathered)  # they add in different orders
    torch.testing.assert_close(gathered, added, rtol=1e-10, atol=1e-10 * added.abs().max().item())


def test_a_nan_at_an_uncovered_pixel_reaches_no_vertex(device):
    vertices, triangles = (x.to(device) for x in soup(6, t=5))
    triangle_id = ops.rasterize(vertices, triangles, 25, 31).triangle_id
    uncovered = (triangle_id < 0).unsqueeze(-1)
    assert uncovered.any() and not uncovered.all()
    grad = torch.randn(2, 25, 31, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(device)
    with_nan = torch.where(uncovered, NAN, grad)
    backward = torch.ops.facecore.rasterize_backward
    for got, want in zip(
        added_and_gathered(lambda: backward(with_nan, vertices, triangles, triangle_id)),
        added_and_gathered(lambda: backward(grad, vertices, triangles, triangle_id)),
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)  # atomics add in any order

    def derivatives(grad):
        leaves = grad.clone().requires_grad_(), vertices.clone().requires_grad_()
        first = torch.ops.facecore.rasterize_backward(*leaves, triangles, triangle_id)
        second = torch.autograd.grad(first.square().sum(), leaves, create_graph=True)
        return first, *second, torch.autograd.grad(second[1].square().sum(), leaves[1])[0]

    for got, want in zip(derivatives(with_nan), derivatives(grad)):
        # atomics on CUDA, on values up to 1e3
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * want.abs().max().item())


def test_a_nan_tangent_of_an_unseen_vertex_reaches_no_pixel(device):
    vertices, triangles = (x.to(device) for x in soup(6, n=1, t=5))
    unseen = torch.ones(20, dtype=torch.bool, device=device)
    unseen[triangles.flatten().long()] = False
    assert unseen.any()
    tangent = torch.where(unseen.view(1, -1, 1), NAN, torch.ones_like(vertices))
    _, along = torch.func.jvp(lambda v: ops.rasterize(v, triangles, 9, 7).barycentric, (vertices,), (tangent,))
    assert along.isfinite().all()


def test_depth_and_ids_have_no_gradient(device):
    vertices, triangles = soup(6)
    fragments = ops.rasterize(vertices.to(device).requires_grad_(), triangles.to(device), 9, 7)
    assert fragments.barycentric.requires_grad
    assert not fragments.z_ndc.requires_grad
    assert not fragments.triangle_id.requires_grad


def test_the_number_of_threads_changes_no_second_derivative(thread_count):
    vertices, triangles = dense_surface()
    results = []
    for threads in (1, 4, 4, 4):
        thread_count(threads)
        leaf = vertices.clone().requires_grad_()
        barycentric = ops.rasterize(leaf, triangles, 150, 170).barycentric
        (grad,) = torch.autograd.grad((barycentric * torch.linspace(0, 1, 3)).square().sum(), leaf, create_graph=True)
        results.append(torch.autograd.grad(grad.square().sum(), leaf)[0])
    assert results[0].abs().max() > 0
    assert all(torch.equal(result, results[0]) for result in results[1:])


def test_compiled_gradient_is_the_eager_one(device):
    vertices, triangles = (x.to(device) for x in soup(6))

    def loss(v, height, width):
        fragments = ops.rasterize(v, triangles, height, width)
        return ops.interpolate(v.square(), triangles, fragments.triangle_id, fragments.barycentric).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for height, width in ((9, 7), (12, 20), (14, 3)):  # from the second size on, the sizes are symbols
        grads = []
        for function in (loss, compiled):
            leaf = vertices.clone().requires_grad_()
            grads.append(torch.autograd.grad(function(leaf, height, width), leaf)[0])
        torch.testing.assert_close(grads[0], grads[1], rtol=1e-12, atol=1e-12)
