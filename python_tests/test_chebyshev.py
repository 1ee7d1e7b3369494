"""facecore.nn.ChebConv: sizes, initial values, devices and dtypes, state."""

from __future__ import annotations

import math

import pytest
import torch
from small_hierarchy import build_small_hierarchy

from facecore import reference
from facecore.mesh import laplacian
from facecore.nn import ChebConv, SparseBuffers
from facecore.nn.chebyshev import laplacian_buffers


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
