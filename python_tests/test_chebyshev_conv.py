"""facecore.ops.chebyshev_conv against its definition, on both sides of its cost rule."""

from __future__ import annotations

import functools
import importlib

import numpy as np
import pytest
import scipy.sparse
import torch
from checks import check_matches_reference, check_registration

from facecore import ops, reference
from facecore.ops.sparse_matmul import matrix_arguments
from facecore.structures import SparseMatrix

SHAPES = {  # images, vertices, fan in, fan out, terms
    "narrow_result": (2, 40, 16, 5, 6),
    "narrow_input": (2, 40, 5, 16, 6),
    "equal": (2, 12, 4, 4, 3),
    "one_term_narrow_result": (2, 12, 4, 3, 1),
    "one_term": (2, 12, 3, 4, 1),
    "two_terms_narrow_result": (2, 12, 4, 3, 2),
    "two_terms": (2, 12, 3, 4, 2),
    "three_terms_narrow_result": (1, 12, 4, 3, 3),
    "one_vertex": (1, 1, 1, 1, 4),
    "odd": (3, 7, 5, 3, 4),
    "empty_batch": (0, 7, 5, 3, 4),
    "empty_batch_narrow_input": (0, 7, 3, 5, 4),
    "no_vertices": (2, 0, 5, 3, 4),
}


def make_laplacian(v, dtype, device="cpu"):
    """Random with eigenvalues well inside [-1, 1], and not symmetric, so that a missing transpose shows."""
    matrix = scipy.sparse.random(v, v, min(1.0, 6 / max(v, 1)), format="csr", random_state=5)
    matrix.data -= 0.5
    norm = max(1.0, np.abs(matrix).sum(axis=1).max()) if v else 1.0
    return SparseMatrix.from_scipy(matrix / norm, dtype=dtype).to(device)


def make_inputs(device, dtype, n, v, fan_in, fan_out, k):
    """x, laplacian, weight, bias."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(n, v, fan_in), (k, fan_in, fan_out), (fan_out,)]
    x, weight, bias = (torch.randn(s, generator=generator, dtype=torch.float64).to(device, dtype) for s in shapes)
    scale = (k * fan_in) ** -0.5
    laplacian = make_laplacian(v, dtype, device)
    return x.requires_grad_(), laplacian, (weight * scale).requires_grad_(), bias.requires_grad_()


@pytest.mark.parametrize("fan_in, fan_out", [(0, 0), (0, 2), (3, 0)])
@pytest.mark.parametrize("num_terms", [1, 3])
@pytest.mark.parametrize("resampled", [(), ("before",), ("after",), ("before", "after")], ids=str)
def test_no_features(device, fan_in, fan_out, num_terms, resampled):
    """A sum of nothing is the bias, and has no gradient but that one's."""
    x, laplacian, weight, bias = make_inputs(device, torch.float32, 2, 7, max(fan_in, 1), fan_out, num_terms)
    x, weight = (t.detach().requires_grad_() for t in (x[:, :, :fan_in], weight[:, :fan_in]))
    out = ops.chebyshev_conv(x, laplacian, weight, bias, **dict.fromkeys(resampled, laplacian))
    assert out.shape == (2, 7, fan_out) and torch.equal(out, bias.expand_as(out))
    grads = torch.autograd.grad(out.sum(), (x, weight, bias))
    assert [grad.shape for grad in grads] == [x.shape, weight.shape, bias.shape]
    assert not grads[0].any() and (grads[2] == 14).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_matches_reference(device, dtype, shape):
    inputs = make_inputs(device, dtype, *shape)
    check_matches_reference(ops.chebyshev_conv, reference.chebyshev_conv, inputs)
    check_matches_reference(ops.chebyshev_conv, reference.chebyshev_conv, inputs[:3])


def make_resampling(fine, coarse, dtype, device="cpu"):
    """before [fine, coarse] and after [coarse, fine], random, not transposes of each other."""
    matrices = [scipy.sparse.random(*shape, 0.4, random_state=6) for shape in ((fine, coarse), (coarse, fine))]
    return [SparseMatrix.from_scipy(matrix, dtype=dtype).to(device) for matrix in matrices]


RESAMPLED = [  # images, fine vertices, fan in, fan out, terms; coarse vertices: 5
    (2, 14, 6, 3, 6),
    (2, 14, 3, 6, 6),
    (2, 14, 4, 4, 4),
    (2, 14, 5, 2, 1),
    (2, 14, 2, 5, 1),
    (2, 14, 5, 2, 2),
    (3, 14, 2, 5, 3),
    (0, 14, 2, 5, 3),
    (1, 14, 1, 1, 3),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("use", ["before", "after", "both"])
@pytest.mark.parametrize("shape", RESAMPLED, ids=str)
def test_resampling_matches_reference(device, dtype, use, shape):
    n, v, fan_in, fan_out, k = shape
    before, after = make_resampling(v, 5, dtype, device)
    x, _, weight, bias = make_inputs(device, dtype, n, v if use == "after" else 5, fan_in, fan_out, k)
    laplacian = make_laplacian(v, dtype, device)
    matrices = {"before": None if use == "after" else before, "after": None if use == "before" else after}
    for inputs in ((x, laplacian, weight, bias), (x, laplacian, weight)):
        check_matches_reference(
            functools.partial(ops.chebyshev_conv, **matrices),
            functools.partial(reference.chebyshev_conv, **matrices),
            inputs,
        )


@pytest.mark.parametrize("slope", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("use", ["none", "before", "after"])
@pytest.mark.parametrize(("fan_in", "fan_out", "k"), [(3, 2, 3), (2, 3, 3), (3, 2, 1), (2, 3, 1)])
def test_activation(device, use, fan_in, fan_out, k, slope):
    """Every way that a result is finished. Values lie far enough from 0 for the differences of gradcheck."""
    before, after = make_resampling(6, 3, torch.float64, device)
    x, _, weight, bias = make_inputs(device, torch.float64, 2, 3 if use == "before" else 6, fan_in, fan_out, k)
    laplacian = make_laplacian(6, torch.float64, device)
    options = {
        "before": before if use == "before" else None,
        "after": after if use == "after" else None,
        "negative_slope": slope,
    }
    inputs = (x, laplacian, weight, bias)
    assert ops.chebyshev_conv(*inputs, **{**options, "negative_slope": None}).abs().min() > 1e-4
    check_matches_reference(
        functools.partial(ops.chebyshev_conv, **options), functools.partial(reference.chebyshev_conv, **options), inputs
    )

    def function(x, weight, bias):
        return ops.chebyshev_conv(x, laplacian, weight, bias, **options)

    assert torch.autograd.gradcheck(function, (x, weight, bias))
    assert torch.autograd.gradgradcheck(function, (x, weight, bias))


@pytest.mark.parametrize("use", ["before", "after", "both"])
@pytest.mark.parametrize(("fan_in", "fan_out"), [(3, 2), (2, 3), (2, 2)])
def test_resampling_gradients_are_exact(device, use, fan_in, fan_out):
    before, after = make_resampling(6, 3, torch.float64, device)
    x, _, weight, bias = make_inputs(device, torch.float64, 2, 6 if use == "after" else 3, fan_in, fan_out, 3)
    laplacian = make_laplacian(6, torch.float64, device)
    matrices = {"before": None if use == "after" else before, "after": None if use == "before" else after}

    def function(x, weight, bias):
        return ops.chebyshev_conv(x, laplacian, weight, bias, **matrices)

    assert torch.autograd.gradcheck(function, (x, weight, bias), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, weight, bias), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", ["narrow_result", "narrow_input", "odd"])
def test_every_simd_level(simd_level, dtype, shape):
    inputs = make_inputs("cpu", dtype, *SHAPES[shape])
    check_matches_reference(ops.chebyshev_conv, reference.chebyshev_conv, inputs)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(6, 3), (3, 6)])
def test_groups_of_images_do_not_change_the_result(monkeypatch, fan_in, fan_out):
    inputs = make_inputs("cpu", torch.float64, 5, 20, fan_in, fan_out, 4)
    module = importlib.import_module("facecore.ops._chebyshev")
    for size in (1, 2 * 20 * 4 * 3 * 8, 1 << 30):  # one image; two, so that the last group is smaller; all
        monkeypatch.setattr(module, "WORKSPACE_BYTES", size)
        check_matches_reference(ops.chebyshev_conv, reference.chebyshev_conv, inputs)


def test_hand_computed(device):
    # L swaps two vertices: T_0 = T_2 = I, T_1 = T_3 = L. weight = 1, 10, 100, 1000.
    laplacian = SparseMatrix.from_scipy(scipy.sparse.csr_matrix([[0.0, 1.0], [1.0, 0.0]])).to(device)
    x = torch.tensor([[[1.0], [2.0]]], device=device)
    weight = torch.tensor([1.0, 10.0, 100.0, 1000.0], device=device).view(4, 1, 1)
    out = ops.chebyshev_conv(x, laplacian, weight, torch.tensor([0.5], device=device))
    assert out.flatten().tolist() == [101 * 1 + 1010 * 2 + 0.5, 101 * 2 + 1010 * 1 + 0.5]


def test_terms_are_chebyshev_polynomials_of_the_spectrum():
    """On an eigenvector with eigenvalue cos(t), term k multiplies by cos(k t)."""
    values = np.cos(np.linspace(0.1, 3.0, 7))
    laplacian = SparseMatrix.from_scipy(scipy.sparse.diags(values), dtype=torch.float64)
    x = torch.ones(1, 7, 1, dtype=torch.float64)
    weight = torch.eye(6, dtype=torch.float64).view(6, 1, 6)  # term k to feature k
    expected = torch.cos(torch.arange(6) * torch.arccos(torch.from_numpy(values))[:, None])
    torch.testing.assert_close(ops.chebyshev_conv(x, laplacian, weight)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", ["odd", "narrow_input_small", "one_term"])
def test_gradients_are_exact(device, shape):
    sizes = {**SHAPES, "narrow_input_small": (2, 5, 2, 3, 3), "odd": (2, 5, 3, 2, 4)}[shape]
    x, laplacian, weight, bias = make_inputs(device, torch.float64, *sizes)

    def function(x, weight, bias):
        return ops.chebyshev_conv(x, laplacian, weight, bias)

    assert torch.autograd.gradcheck(function, (x, weight, bias))
    assert torch.autograd.gradgradcheck(function, (x, weight, bias))


@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
@pytest.mark.parametrize(("fan_in", "fan_out"), [(4, 3), (3, 4)])
def test_one_gradient_at_a_time(wanted, fan_in, fan_out):
    x, laplacian, weight, bias = make_inputs("cpu", torch.float64, 2, 6, fan_in, fan_out, 3)
    leaves = {"x": x, "weight": weight, "bias": bias}
    for name, leaf in leaves.items():
        leaf.requires_grad_(name == wanted)
    check_matches_reference(ops.chebyshev_conv, reference.chebyshev_conv, (x, laplacian, weight, bias))
    if wanted != "bias":
        fixed = {name: leaf for name, leaf in leaves.items() if name != wanted}
        assert torch.autograd.gradgradcheck(
            lambda leaf: ops.chebyshev_conv(laplacian=laplacian, **{wanted: leaf}, **fixed).pow(2), leaves[wanted]
        )


@pytest.mark.parametrize(("fan_in", "fan_out"), [(5, 3), (3, 5)])
def test_accepts_any_strides(device, fan_in, fan_out):
    x, laplacian, weight, bias = make_inputs(device, torch.float64, 3, 7, fan_in, fan_out, 4)
    expected = ops.chebyshev_conv(x, laplacian, weight, bias)
    strided = [t.detach().transpose(0, 1).contiguous().transpose(0, 1) for t in (x, weight)]
    got = ops.chebyshev_conv(strided[0], laplacian, strided[1], bias[:1].expand(fan_out))
    torch.testing.assert_close(got, expected - bias + bias[0], rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(expected.sum(), (x, weight))  # .sum() hands backward an expanded gradient
    want = torch.autograd.grad(reference.chebyshev_conv(x, laplacian, weight, bias).sum(), (x, weight))
    torch.testing.assert_close(grads, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("fan_in", "fan_out"), [(8, 4), (4, 16)])
def test_threads_give_the_same_recurrence(thread_count, fan_in, fan_out):
    """The dense products are torch's, which may add in another order: here they are exact in any order."""
    _, laplacian, _, bias = make_inputs("cpu", torch.float32, 2, 3000, fan_in, fan_out, 6)
    generator = torch.Generator().manual_seed(3)
    x = torch.randint(-9, 10, (2, 3000, fan_in), generator=generator).float()
    if fan_out < fan_in:  # products first: of small integers
        weight = torch.randint(-9, 10, (6, fan_in, fan_out), generator=generator).float()
    else:  # recurrence first: each result is one of its terms
        weight = torch.eye(6 * fan_in)[:, torch.randperm(6 * fan_in, generator=generator)[:fan_out]]
        weight = weight.view(6, fan_in, fan_out)
    results = []
    for count in (1, 2, 3):
        thread_count(count)
        results.append(ops.chebyshev_conv(x, laplacian, weight, bias))
    assert torch.equal(results[1], results[0])
    assert torch.equal(results[2], results[0])


@pytest.mark.parametrize(("fan_in", "fan_out", "v"), [(16, 8, 6000), (8, 16, 6000), (300, 40, 200), (40, 300, 200)])
def test_deterministic_mode_gives_the_same_bits_for_any_number_of_threads(deterministic, fan_in, fan_out, v):
    """Sums over thousands of vertices and over K * Fin features, both of which a BLAS would divide among threads."""
    x, laplacian, weight, bias = make_inputs("cpu", torch.float32, 2, v, fan_in, fan_out, 6)
    threads = torch.get_num_threads()
    runs = []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            out = ops.chebyshev_conv(x, laplacian, weight, bias, negative_slope=0.2)
            first = torch.autograd.grad(out.pow(3).sum(), (x, weight, bias), create_graph=True)
            second = torch.autograd.grad(sum(g.pow(2).sum(dim=-1).sum() for g in first), (x, weight))
            runs.append((out, *first, *second))
    finally:
        torch.set_num_threads(threads)
    for other in runs[1:]:
        for got, want in zip(other, runs[0]):
            assert torch.equal(got, want)


@pytest.mark.parametrize("shape", ["odd", "narrow_input"])
def test_is_registered_correctly(device, shape):
    x, laplacian, weight, bias = make_inputs(device, torch.float32, *SHAPES[shape])
    arguments = (*matrix_arguments("laplacian", laplacian), *(None,) * 12)
    check_registration(
        torch.ops.facecore.chebyshev_conv_v2.default,
        lambda x, weight, bias, *_: ops.chebyshev_conv(x, laplacian, weight, bias, negative_slope=0.2),
        (x, weight, bias, *arguments, 0.2),
    )
    backward = torch.ops.facecore.chebyshev_conv_backward.default
    grad = torch.randn(x.shape[0], x.shape[1], weight.shape[2], device=device).requires_grad_()
    for need_x in (True, False):
        torch.library.opcheck(backward, (grad, x, weight, *arguments, need_x))
    coarse = x.shape[1]
    before, after = make_resampling(9, coarse, torch.float32, device)
    laplacian = make_laplacian(9, torch.float32, device)
    arguments = [array for matrix in (laplacian, before, after) for array in matrix_arguments("matrix", matrix)]
    torch.library.opcheck(torch.ops.facecore.chebyshev_conv_v2.default, (x, weight, None, *arguments, 0.0))
    torch.library.opcheck(backward, (grad, x, weight, *arguments, True))


@pytest.mark.parametrize(("fan_in", "fan_out"), [(3, 2), (2, 3)])
def test_relu_of_an_overflow_is_zero(device, fan_in, fan_out):
    """As torch.relu's: a negative value that overflows is not made a NaN by a slope of 0."""
    laplacian = make_laplacian(12, torch.float32, device)
    x = torch.full((1, 12, fan_in), -1e38, device=device)
    weight = torch.cat((torch.full((1, fan_in, fan_out), 10.0), torch.zeros(1, fan_in, fan_out))).to(device)
    assert torch.equal(
        ops.chebyshev_conv(x, laplacian, weight, negative_slope=0.0), torch.zeros(1, 12, fan_out, device=device)
    )


def test_rejects_bad_arguments():
    x, laplacian, weight, bias = (
        t.detach() if isinstance(t, torch.Tensor) else t for t in make_inputs("cpu", torch.float32, *SHAPES["odd"])
    )
    wide = SparseMatrix.from_scipy(scipy.sparse.csr_matrix((7, 8)))
    for arguments, message in [
        ((x[0], laplacian, weight, bias), r"x must have shape \[N, V, Fin\], got \[7, 5\]"),
        (
            (x[:, :6], laplacian, weight, bias),
            r"x must have shape \[N, 7, F\] for a laplacian \[7, 7\], got \[3, 6, 5\]",
        ),
        ((x, wide, weight, bias), r"laplacian must be square, got shape \[7, 8\]"),
        ((x, None, weight, bias), r"laplacian must be a SparseMatrix .*, got NoneType"),
        ((x, laplacian, weight[:, :4], bias), r"weight must have shape \[K, 5, Fout\], got \[4, 4, 3\]"),
        ((x, laplacian, weight[:0], bias), r"weight must have shape \[K, Fin, Fout\] with K >= 1"),
        ((x, laplacian, weight, bias[:2]), r"bias must have shape \[3\], got \[2\]"),
        ((x, laplacian.to(dtype=torch.float64), weight, bias), r"values must have dtype torch.float32"),
        ((x, laplacian, weight.double(), bias), r"weight must have dtype torch.float32"),
        ((x.int(), laplacian, weight, bias), r"x must have dtype float32 or float64, got int32"),
    ]:
        with pytest.raises(ValueError, match=message):
            ops.chebyshev_conv(*arguments)
    for name, message in [
        ("before", r"before must have shape \[V, Vin\] with V = 7, got \[8, 7\]"),
        ("after", r"after must have shape \[Vout, V\] with V = 7, got \[7, 8\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            ops.chebyshev_conv(x, laplacian, weight, **{name: wide.transposed if name == "before" else wide})
    for slope in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=f"negative_slope must be None or a number from 0 to 1, got {slope}"):
            ops.chebyshev_conv(x, laplacian, weight, negative_slope=slope)
    taller = SparseMatrix.from_scipy(scipy.sparse.csr_matrix((7, 4)))
    with pytest.raises(ValueError, match=r"x must have shape \[N, 4, F\] for a before \[7, 4\], got \[3, 7, 5\]"):
        ops.chebyshev_conv(x, laplacian, weight, before=taller)
