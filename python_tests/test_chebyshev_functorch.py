"""torch.func over ChebConv and sparse_matmul: grad, jacrev, vmap and what they compose to, against the definition."""

from __future__ import annotations

import pytest
import torch
from small_hierarchy import build_small_hierarchy

from facecore import ops, reference
from facecore.mesh import laplacian
from facecore.nn import ChebConv, MeshDecoder, MeshDiscriminator
from facecore.structures import SparseMatrix

WIDTHS = [(4, 3), (3, 4)]  # the weights first, the terms first
USES = ["none", "before", "after"]
# float64; the order of a sum differs
EXACT = {"rtol": 1e-11, "atol": 1e-11}


@pytest.fixture(scope="module")
def hierarchy(tmp_path_factory):
    return build_small_hierarchy(tmp_path_factory.mktemp("hierarchy"))


def make_layer(hierarchy, use, fan_in, fan_out, slope=0.2):
    """A layer in float64, its parameters, the definition with the same arguments, and the input's vertices."""
    resample = {"none": {}, "before": {"before": hierarchy.up[0]}, "after": {"after": hierarchy.down[0]}}[use]
    graph = laplacian(hierarchy.levels[0], dtype=torch.float64)
    torch.manual_seed(5)  # layers draw their initial values from the global generator
    layer = ChebConv(fan_in, fan_out, 3, graph, negative_slope=slope, **resample).double()
    torch.nn.init.normal_(layer.bias)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    matrices = {name: matrix.to(dtype=torch.float64) for name, matrix in resample.items()}

    def mine(parameters, x):
        return torch.func.functional_call(layer, parameters, (x,))

    def definition(parameters, x):
        return reference.chebyshev_conv(
            x, graph, parameters["weight"], parameters["bias"], negative_slope=slope, **matrices
        )

    return mine, definition, parameters, hierarchy.levels[1 if use == "before" else 0].num_vertices


def assert_same(got, expected):
    torch.testing.assert_close(got, expected, **EXACT)


def rand(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("fan_in, fan_out", WIDTHS)
def test_grad_of_the_input_and_of_every_parameter(hierarchy, use, fan_in, fan_out):
    mine, definition, parameters, size = make_layer(hierarchy, use, fan_in, fan_out)
    x = rand(2, size, fan_in)

    def gradients(function):
        return torch.func.grad(lambda p, x: function(p, x).pow(3).sum(), argnums=(0, 1))(parameters, x)

    assert_same(gradients(mine), gradients(definition))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("fan_in, fan_out", WIDTHS)
def test_second_derivatives_compose(hierarchy, use, fan_in, fan_out):
    """The gradient of a gradient penalty, by torch.func alone."""
    mine, definition, parameters, size = make_layer(hierarchy, use, fan_in, fan_out)
    x = rand(2, size, fan_in)

    def penalty(function):
        def of(parameters, x):
            slope = torch.func.grad(lambda x: function(parameters, x).pow(2).sum())(x)
            return slope.square().sum((1, 2)).pow(3).mean()

        return torch.func.grad(of, argnums=(0, 1))(parameters, x)

    got, expected = penalty(mine), penalty(definition)
    scale = max(float(t.abs().max()) for t in (*expected[0].values(), expected[1]))
    for mine_part, expected_part in zip((*got[0].values(), got[1]), (*expected[0].values(), expected[1])):
        assert_same(mine_part / scale, expected_part / scale)


@pytest.mark.parametrize("use", USES)
def test_jacrev(hierarchy, use):
    """One row for each output: vmap over the backward, of the input and of the weights."""
    mine, definition, parameters, size = make_layer(hierarchy, use, 2, 3)
    x = rand(1, size, 2)

    def jacobians(function):
        return torch.func.jacrev(lambda p, x: function(p, x)[0, :5], argnums=(0, 1))(parameters, x)

    assert_same(jacobians(mine), jacobians(definition))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("fan_in, fan_out", WIDTHS)
@pytest.mark.parametrize("mapped", ["x", "parameters", "both", "weight"])
@pytest.mark.parametrize("dim", [0, 1, 2])
def test_vmap(hierarchy, use, fan_in, fan_out, mapped, dim):
    mine, definition, parameters, size = make_layer(hierarchy, use, fan_in, fan_out)
    maps = 3
    x = rand(maps, 2, size, fan_in) if mapped in ("x", "both") else rand(2, size, fan_in)
    x_dim = None
    if mapped in ("x", "both"):
        x, x_dim = x.movedim(0, dim), dim
    dims = {name: 0 if mapped in ("parameters", "both", name) else None for name in parameters}
    batched = {
        name: p if dims[name] is None else p + rand(maps, *p.shape, seed=len(name)) for name, p in parameters.items()
    }
    got = torch.func.vmap(mine, in_dims=(dims, x_dim))(batched, x)
    for i in range(maps):
        one = {name: p if dims[name] is None else p[i] for name, p in batched.items()}
        assert_same(got[i], definition(one, x if x_dim is None else x.select(x_dim, i)))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("fan_in, fan_out", WIDTHS)
def test_gradients_for_each_sample(hierarchy, use, fan_in, fan_out):
    """vmap(grad): what differential privacy and influence functions ask for."""
    mine, definition, parameters, size = make_layer(hierarchy, use, fan_in, fan_out)
    x = rand(3, 1, size, fan_in)

    def loss(function):
        return lambda p, x: function(p, x).pow(3).sum()

    got = torch.func.vmap(torch.func.grad(loss(mine)), in_dims=(None, 0))(parameters, x)
    for i in range(3):
        expected = torch.func.grad(loss(definition))(parameters, x[i])
        assert_same({name: g[i] for name, g in got.items()}, expected)


def test_vmap_within_vmap(hierarchy):
    mine, definition, parameters, size = make_layer(hierarchy, "none", 4, 3)
    x = rand(2, 3, 1, size, 4)
    got = torch.func.vmap(torch.func.vmap(mine, in_dims=(None, 0)), in_dims=(None, 0))(parameters, x)
    assert_same(got, definition(parameters, x.flatten(0, 2)).view(2, 3, 1, size, 3))


def test_sparse_matmul(hierarchy):
    matrix: SparseMatrix = hierarchy.up[0].to(dtype=torch.float64)
    x = rand(3, 2, matrix.shape[1], 4)
    dense = torch.from_numpy(matrix.to_scipy().toarray())
    for dim in (0, 1, 3):
        got = torch.func.vmap(lambda x: ops.sparse_matmul(matrix, x), in_dims=dim)(x.movedim(0, dim))
        assert_same(got, dense @ x)
    got = torch.func.vmap(torch.func.grad(lambda x: ops.sparse_matmul(matrix, x).pow(3).sum()))(x)
    assert_same(got, dense.t() @ (3 * (dense @ x).square()))
    one = x[0, :1]
    got = torch.func.jacrev(lambda x: ops.sparse_matmul(matrix, x))(one)
    expected = torch.einsum("rv,fg->rfvg", dense, torch.eye(4, dtype=torch.float64))
    assert_same(got[0, :, :, 0], expected)
    hessian = torch.func.hessian(lambda x: ops.sparse_matmul(matrix, x[None, :, None]).pow(2).sum(), argnums=0)
    with pytest.raises(NotImplementedError, match="jvp"):  # forward mode over reverse mode: no operator here has it
        hessian(one[0, :, 0])
    twice = torch.func.jacrev(torch.func.jacrev(lambda x: ops.sparse_matmul(matrix, x[None, :, None]).pow(2).sum()))
    assert_same(twice(one[0, :, 0]), 2 * dense.t() @ dense)


def test_whole_networks(hierarchy):
    """Gradients for each sample of the decoder, and the slope of the discriminator at each sample."""
    torch.manual_seed(5)
    decoder = MeshDecoder(hierarchy, 5, (8, 6, 4), num_terms=3).double()
    parameters = {name: p.detach() for name, p in decoder.named_parameters()}
    codes = rand(3, 5)

    def loss(parameters, code):
        return torch.func.functional_call(decoder, parameters, (code[None],)).square().sum()

    got = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, codes)
    for i, code in enumerate(codes):
        expected = torch.autograd.grad(decoder(code[None]).square().sum(), list(decoder.parameters()))
        assert_same([got[name][i] for name in parameters], list(expected))

    discriminator = MeshDiscriminator(hierarchy, (4, 6), num_terms=3).double()
    shapes = rand(3, hierarchy.levels[0].num_vertices, 3).requires_grad_()
    slopes = torch.func.vmap(torch.func.grad(lambda shape: discriminator(shape[None]).sum()))(shapes.detach())
    assert_same(slopes, torch.autograd.grad(discriminator(shapes).sum(), shapes)[0])
