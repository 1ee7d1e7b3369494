"""facecore.nn.ChebConv: sizes, initial values, devices and dtypes, state."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import torch
from small_hierarchy import build_small_hierarchy

from facecore import reference
from facecore.mesh import laplacian
from facecore.nn import ChebConv, SparseBuffers
from facecore.nn.chebyshev import laplacian_buffers
from facecore.structures import SparseMatrix


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    return build_small_hierarchy(tmp_path_factory.mktemp("hierarchy"), factors=()).levels[0]


def test_matches_definition(mesh, generator):
    matrix = laplacian(mesh)
    layer = ChebConv(5, 3, 6, matrix)
    torch.nn.init.normal_(layer.bias, generator=generator)
    x = torch.randn(2, mesh.num_vertices, 5, generator=generator)
    torch.testing.assert_close(layer(x), reference.chebyshev_conv(x, matrix, layer.weight, layer.bias))
    without = ChebConv(5, 3, 6, matrix, bias=False)
    assert without.bias is None
    torch.testing.assert_close(without(x), reference.chebyshev_conv(x, matrix, without.weight))


def test_initial_values(mesh):
    layer = ChebConv(64, 32, 6, laplacian(mesh))
    bound = math.sqrt(6 / (6 * 64 + 32))
    assert layer.weight.abs().max() <= bound
    # the standard deviation of a uniform distribution; 12,288 samples give it to about 1 %
    assert float(layer.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert not layer.bias.any()


def test_output_keeps_the_scale_of_the_input(mesh, generator):
    """Glorot with fan_in K * Fin: a stack of layers neither explodes nor vanishes."""
    x = torch.randn(4, mesh.num_vertices, 32, generator=generator)
    with torch.no_grad():
        for _ in range(6):
            x = ChebConv(32, 32, 6, laplacian(mesh))(x)
    assert 0.01 < float(x.std()) < 10


def test_laplacian_follows_the_module_and_is_not_state(mesh, generator):
    layer = ChebConv(4, 3, 3, laplacian(mesh))
    assert set(layer.state_dict()) == {"weight", "bias"}
    x = torch.randn(1, mesh.num_vertices, 4, generator=generator)
    expected = layer(x)
    assert layer.double().laplacian.matrix.dtype == torch.float64
    torch.testing.assert_close(layer(x.double()), expected.double(), rtol=1e-5, atol=1e-5)
    assert layer.laplacian.matrix.crow_indices.dtype == torch.int32  # only floating point buffers change
    assert layer.to("meta").laplacian.matrix.device.type == "meta"


def test_changes_resolution(tmp_path, generator):
    hierarchy = build_small_hierarchy(tmp_path)
    matrix, up, down = laplacian(hierarchy.levels[0]), hierarchy.up[0], hierarchy.down[0]
    layer = ChebConv(4, 3, 3, matrix, before=up, after=down)
    assert set(layer.state_dict()) == {"weight", "bias"}
    x = torch.randn(2, up.shape[1], 4, generator=generator)
    fine = reference.chebyshev_conv(reference.sparse_matmul(up, x), matrix, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), fine[:, hierarchy.kept[0]])


def test_layers_can_share_a_laplacian(mesh):
    shared = SparseBuffers(laplacian(mesh))
    first, second = ChebConv(4, 3, 2, shared), ChebConv(3, 2, 2, shared)
    assert first.laplacian is second.laplacian
    assert shared.matrix.lambda_max == laplacian(mesh).lambda_max


def test_compiles(mesh, generator):
    layer = ChebConv(4, 3, 3, laplacian(mesh))
    x = torch.randn(2, mesh.num_vertices, 4, generator=generator)
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x))


def test_rejects_bad_arguments(mesh):
    matrix = laplacian(mesh)
    for arguments, message in [
        ((0, 3, 2, matrix), "in_features must be at least 1, got 0"),
        ((4, 0, 2, matrix), "out_features must be at least 1, got 0"),
        ((4, 3, 0, matrix), "num_terms must be at least 1, got 0"),
        ((4, 3, 2, torch.eye(5)), "matrix must be a SparseMatrix, got Tensor"),
    ]:
        with pytest.raises(ValueError, match=message):
            ChebConv(*arguments)
    with pytest.raises(ValueError, match='kind must be "combinatorial" or "symmetric"'):
        laplacian_buffers(mesh, "random_walk")
    with pytest.raises(ValueError, match="x must have shape"):
        ChebConv(4, 3, 2, matrix)(torch.zeros(1, 3, 4))


def test_a_laplacian_outside_the_unit_interval_is_refused(mesh):
    matrix = laplacian(mesh)
    long = SparseMatrix.from_scipy(matrix.to_scipy() * 1.25)
    for given in (long, SparseBuffers(long)):
        for _ in range(2):  # a refusal is not remembered as a measurement
            with pytest.raises(
                ValueError, match=r"laplacian must have its eigenvalues in \[-1, 1\], got .* value 1\.25;"
            ):
                ChebConv(4, 3, 2, given)
    assert ChebConv(4, 3, 2, long, check_spectrum=False).laplacian.shape == matrix.shape


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_laplacian_of_half_precision_is_refused(mesh, half):
    with pytest.raises(ValueError, match=r"laplacian must have float32 or float64 values, got b?float16: take it"):
        ChebConv(4, 3, 2, laplacian(mesh).to(dtype=half))


def test_a_slope_that_is_none_is_refused_when_the_layer_is_built(mesh):
    for slope in (-0.1, 3.0, float("nan"), "x"):
        with pytest.raises(ValueError, match="negative_slope must be None or a number from 0 to 1"):
            ChebConv(4, 3, 2, laplacian(mesh), negative_slope=slope)


def test_the_spectrum_is_measured_once_for_each_matrix(mesh, monkeypatch):
    measured = []
    monkeypatch.setattr("facecore.nn.chebyshev._check_spectrum", lambda name, matrix: measured.append(name))
    matrix = laplacian(mesh)
    for given in (matrix, matrix, SparseBuffers(matrix), laplacian_buffers(mesh, "symmetric"), matrix.to("meta")):
        ChebConv(4, 3, 2, given)
    assert measured == ["laplacian", "laplacian"]  # the matrix once, the buffers of the user once; ours are known


def test_a_laplacian_that_is_not_symmetric_is_exact_but_must_be_vouched_for(mesh, generator):
    """-D^-1 A, the random walk of torch_geometric's normalization "rw": its eigenvalues are those of the symmetric."""
    one_way = SparseMatrix.from_scipy(
        laplacian(mesh, "random_walk", dtype=torch.float64).to_scipy() - scipy.sparse.eye_array(mesh.num_vertices),
        dtype=torch.float64,
    )
    with pytest.raises(ValueError, match=r"laplacian must be symmetric .* say so by check_spectrum=False"):
        ChebConv(3, 4, 5, one_way)
    dense = torch.from_numpy(one_way.to_scipy().toarray())
    for fan_in, fan_out in ((3, 4), (4, 3)):
        layer = ChebConv(fan_in, fan_out, 5, one_way, check_spectrum=False).double()
        x = torch.randn(2, mesh.num_vertices, fan_in, generator=generator, dtype=torch.float64, requires_grad=True)
        grad_out = torch.randn(2, mesh.num_vertices, fan_out, generator=generator, dtype=torch.float64)
        terms = [torch.eye(mesh.num_vertices, dtype=torch.float64), dense]
        while len(terms) < 5:
            terms.append(2 * dense @ terms[-1] - terms[-2])
        inputs = (x, layer.weight, layer.bias)
        defined = sum(term @ x @ layer.weight[k] for k, term in enumerate(terms)) + layer.bias
        expected = torch.autograd.grad(defined, inputs, grad_out)
        for got, wanted in zip(torch.autograd.grad(layer(x), inputs, grad_out), expected):
            torch.testing.assert_close(got, wanted, rtol=1e-12, atol=1e-12)
        assert torch.autograd.gradcheck(layer, x, fast_mode=True)


@pytest.mark.parametrize("fan_in, fan_out", [(2, 3), (3, 2), (2, 2)])
@pytest.mark.parametrize("value", [-1.0, 0.0, 0.5])
def test_one_vertex(value, fan_in, fan_out, generator):
    """T_k of a number: y = x sum_k T_k(value) weight[k] + bias."""
    layer = ChebConv(fan_in, fan_out, 4, SparseMatrix.from_scipy(scipy.sparse.csr_matrix([[value]])))
    x = torch.randn(5, 1, fan_in, generator=generator, requires_grad=True)
    terms = np.cos(np.arange(4) * np.arccos(value))
    expected = x @ sum(float(term) * weight for term, weight in zip(terms, layer.weight)) + layer.bias
    torch.testing.assert_close(layer(x), expected)
    (grad,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(grad, torch.autograd.grad(expected.sum(), x)[0])


def test_empty_batch(mesh):
    layer = ChebConv(4, 3, 3, laplacian(mesh))
    x = torch.zeros(0, mesh.num_vertices, 4, requires_grad=True)
    y = layer(x)
    assert y.shape == (0, mesh.num_vertices, 3)
    y.sum().backward()
    assert x.grad.shape == x.shape and not layer.weight.grad.any() and not layer.bias.grad.any()


def test_rejects_what_does_not_fit(tmp_path, mesh):
    hierarchy = build_small_hierarchy(tmp_path)
    matrix, up, down = laplacian(mesh), hierarchy.up[0], hierarchy.down[0]
    with pytest.raises(ValueError, match=r"laplacian must be square, got shape \[42, 21\]"):
        ChebConv(4, 3, 2, up)
    with pytest.raises(ValueError, match=r"before must have shape \[V, Vin\] with V = 42, got \[21, 42\]"):
        ChebConv(4, 3, 2, matrix, before=down)
    with pytest.raises(ValueError, match=r"after must have shape \[Vout, V\] with V = 42, got \[42, 21\]"):
        ChebConv(4, 3, 2, matrix, after=up)
    layer = ChebConv(4, 3, 2, matrix)
    with pytest.raises(ValueError, match=r"weight must have shape \[K, 5, Fout\], got \[2, 4, 3\]"):
        layer(torch.zeros(1, 42, 5))
    with pytest.raises(ValueError, match=r"crow_indices must be on meta like the first argument, got cpu"):
        layer(torch.zeros(1, 42, 4, device="meta"))
    with pytest.raises(ValueError, match=r"values must have dtype torch.float64 like the first argument"):
        layer(torch.zeros(1, 42, 4, dtype=torch.float64))


@pytest.mark.parametrize("use", ["none", "before", "after"])
@pytest.mark.parametrize("fan_in, fan_out, terms", [(4, 3, 3), (3, 4, 3), (4, 4, 1)])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_the_result_has_the_same_bits(tmp_path, device, generator, use, fan_in, fan_out, terms, mode):
    hierarchy = build_small_hierarchy(tmp_path).to(device)
    resample = {"none": {}, "before": {"before": hierarchy.up[0]}, "after": {"after": hierarchy.down[0]}}[use]
    graph = laplacian(hierarchy.levels[0], "symmetric")
    layer = ChebConv(fan_in, fan_out, terms, graph, negative_slope=0.2, **resample).to(device)
    size = hierarchy.levels[1 if use == "before" else 0].num_vertices
    for images in (3, 0):
        x = torch.randn(images, size, fan_in, generator=generator).to(device).transpose(1, 2).contiguous()
        x = x.transpose(1, 2)  # any strides are taken
        expected = layer(x)
        with mode():
            got = layer(x)
        assert torch.equal(got, expected.detach()) and not got.requires_grad
    with torch.no_grad():
        layer.weight.mul_(2)  # nothing of the old weights is kept
        torch.testing.assert_close(layer(x), layer(x.requires_grad_()).detach(), rtol=0, atol=0)


def test_the_short_way_is_taken_only_where_nothing_watches(mesh, generator, monkeypatch):
    """And with it everything else still sees the operator: fake tensors, transforms, tracers, compilers, hooks."""
    taken = []
    short = ChebConv._without_gradients
    monkeypatch.setattr(ChebConv, "_without_gradients", lambda self, x: taken.append(1) or short(self, x))
    layer = ChebConv(4, 3, 3, laplacian(mesh))
    x = torch.randn(2, mesh.num_vertices, 4, generator=generator)
    expected = layer(x).detach()
    assert not taken
    with torch.no_grad():
        torch.testing.assert_close(layer(x), expected)
        assert taken == [1]
        torch.testing.assert_close(torch.func.vmap(layer)(x[:, None])[:, 0], expected)
        torch._dynamo.reset()
        torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), expected)
        traced = torch.fx.experimental.proxy_tensor.make_fx(layer)(x)
        assert "chebyshev_conv" in traced.code
        torch.testing.assert_close(traced(x), expected)
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True) as mode:
            assert layer(mode.from_tensor(x)).shape == expected.shape
        with torch.autograd.forward_ad.dual_level():  # no operator here has a forward gradient: it must say so
            dual = torch.autograd.forward_ad.make_dual(x, x)
            with pytest.raises(NotImplementedError, match="jvp"):
                layer(dual)
    assert taken == [1]


def test_without_gradients_bad_arguments_get_the_same_messages(mesh):
    layer = ChebConv(4, 3, 2, laplacian(mesh))
    with torch.inference_mode():
        for x, message in [
            (torch.zeros(42, 4), r"x must have shape \[N, V, Fin\], got \[42, 4\]"),
            (torch.zeros(1, 41, 4), r"x must have shape \[N, 42, F\] for a laplacian \[42, 42\], got \[1, 41, 4\]"),
            (torch.zeros(1, 42, 5), r"weight must have shape \[K, 5, Fout\], got \[2, 4, 3\]"),
            (torch.zeros(1, 42, 4).double(), r"values must have dtype torch.float64 like the first argument"),
            (torch.zeros(1, 42, 4).int(), r"x must have dtype float32 or float64, got int32"),
            (torch.zeros(1, 42, 4, device="meta"), r"crow_indices must be on meta like the first argument, got cpu"),
            (None, r"x must be a torch.Tensor, got NoneType"),
        ]:
            with pytest.raises(ValueError, match=message):
                layer(x)
        layer.laplacian.double()
        with pytest.raises(ValueError, match=r"values must have dtype torch.float32 like the first argument"):
            layer(torch.zeros(1, 42, 4))
