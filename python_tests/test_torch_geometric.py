"""facecore.nn.ChebConv equals torch_geometric's on the symmetric Laplacian, and takes over its weights."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from meshes import bumpy, grid, sphere
from torch_geometric.nn import ChebConv as TheirConv

from facecore.mesh import Mesh, laplacian
from facecore.nn import ChebConv

# the order of sums differs; float64 to 1e-12, float32 to 1e-5 of values of order 1
TOLERANCES = {torch.float64: {"rtol": 1e-12, "atol": 1e-12}, torch.float32: {"rtol": 1e-5, "atol": 1e-5}}


def both_directions(mesh: Mesh) -> torch.Tensor:
    edges = mesh.edges().t()
    return torch.cat((edges, edges.flip(0)), dim=1)


def make_pair(mesh: Mesh, fan_in: int, fan_out: int, terms: int, dtype=torch.float64, bias=True):
    """A torch_geometric layer with random weights and bias, and ours with the same."""
    torch.manual_seed(11)  # layers draw their initial values from the global generator
    theirs = TheirConv(fan_in, fan_out, terms, bias=bias)
    if bias:
        torch.nn.init.normal_(theirs.bias)
    matrix = laplacian(mesh, "symmetric", dtype=torch.float64)
    mine = ChebConv(fan_in, fan_out, terms, matrix, bias=bias).to(dtype)
    theirs = theirs.to(dtype)
    mine.load_torch_geometric(theirs)
    return mine, theirs


@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float64", "float32"])
@pytest.mark.parametrize("terms", range(1, 9))
@pytest.mark.parametrize("fan_in, fan_out", [(5, 3), (3, 5), (16, 16)])
def test_values_and_gradients_are_equal(terms, fan_in, fan_out, dtype, generator):
    mesh = bumpy(5, 7)
    mine, theirs = make_pair(mesh, fan_in, fan_out, terms, dtype)
    x = torch.randn(2, mesh.num_vertices, fan_in, generator=generator, dtype=dtype, requires_grad=True)
    grad_out = torch.randn(2, mesh.num_vertices, fan_out, generator=generator, dtype=dtype)
    got, expected = mine(x), theirs(x, both_directions(mesh))
    torch.testing.assert_close(got, expected, **TOLERANCES[dtype])
    grads = torch.autograd.grad(got, (x, mine.weight, mine.bias), grad_out)
    their_x, their_bias, *lins = torch.autograd.grad(
        expected, (x, theirs.bias, *(lin.weight for lin in theirs.lins)), grad_out
    )
    for grad, wanted in zip(grads, (their_x, torch.stack(lins).transpose(1, 2), their_bias)):
        scale = float(wanted.abs().max())
        torch.testing.assert_close(grad / scale, wanted / scale, **TOLERANCES[dtype])


@pytest.mark.parametrize("mesh", [sphere(2), grid(9, 4, hole=True), grid(1, 1)], ids=["sphere", "hole", "four"])
def test_equal_on_other_meshes_and_without_bias(mesh, generator):
    mine, theirs = make_pair(mesh, 4, 4, 6, bias=False)
    x = torch.randn(3, mesh.num_vertices, 4, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(mine(x), theirs(x, both_directions(mesh)), **TOLERANCES[torch.float64])


def test_a_vertex_without_neighbours_differs_as_documented(generator):
    """There it has 0 on the diagonal, so that T_2 is -1 and T_4 is 1; here -1, so that T_k is (-1)^k."""
    mesh = Mesh(torch.eye(3).repeat(2, 1)[:4] + 1.0, torch.tensor([[0, 1, 2]]), fix_winding=False)
    mine, theirs = make_pair(mesh, 2, 3, 4)
    x = torch.randn(1, 4, 2, generator=generator, dtype=torch.float64)
    got, expected = mine(x)[0], theirs(x, both_directions(mesh))[0]
    torch.testing.assert_close(got[:3], expected[:3], **TOLERANCES[torch.float64])
    lone, weight = x[0, 3], mine.weight
    torch.testing.assert_close(got[3], lone @ (weight[0] - weight[1] + weight[2] - weight[3]) + mine.bias)
    torch.testing.assert_close(expected[3], lone @ (weight[0] - weight[2]) + mine.bias)


def test_weights_come_from_a_layer_a_model_or_a_state_dict(generator):
    mesh = bumpy(4, 4)
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), TheirConv(4, 3, 5), torch.nn.ReLU(), TheirConv(3, 4, 2))
    edges = both_directions(mesh)
    x = torch.randn(2, mesh.num_vertices, 4, generator=generator)
    for source, name in [
        (model[1], ""),
        (model[1].state_dict(), ""),
        (model, "1"),
        (model.state_dict(), "1"),
        (torch.nn.ModuleDict({"decoder": model}).state_dict(), "decoder.1"),
    ]:
        layer = ChebConv(4, 3, 5, laplacian(mesh, "symmetric"))
        layer.load_torch_geometric(source, name)
        torch.testing.assert_close(layer(x), model[1](x, edges), **TOLERANCES[torch.float32])
        assert layer.weight.requires_grad and layer.weight.is_contiguous()


def test_what_does_not_fit_is_refused_and_changes_nothing():
    mesh = bumpy(4, 4)
    matrix = laplacian(mesh, "symmetric")
    source = TheirConv(4, 3, 5)
    for layer, given, name, message in [
        (ChebConv(4, 3, 4, matrix), source, "", r"weight of shape \[4, 4, 3\] as this layer, got \[5, 4, 3\]"),
        (ChebConv(3, 4, 5, matrix), source, "", r"weight of shape \[5, 3, 4\] as this layer, got \[5, 4, 3\]"),
        (ChebConv(4, 3, 5, matrix, bias=False), source, "", r"bias of shape None as this layer, got \[3\]"),
        (
            ChebConv(4, 3, 5, matrix),
            TheirConv(4, 3, 5, bias=False),
            "",
            r"bias of shape \[3\] as this layer, got None",
        ),
        (ChebConv(4, 3, 5, matrix), TheirConv(4, 3, 5, normalization="rw"), "", "normalization \"sym\", got 'rw'"),
        (ChebConv(4, 3, 5, matrix), TheirConv(4, 3, 5, normalization=None), "", 'normalization "sym", got None'),
        (ChebConv(4, 3, 5, laplacian(mesh)), source, "", r'must be the "symmetric" one .* got one with lambda_max \d'),
        (ChebConv(4, 3, 5, matrix), source, "conv1", "name must be that of a layer of the model, got 'conv1'"),
        (ChebConv(4, 3, 5, matrix), source.state_dict(), "conv1", r"must hold conv1\.lins\.0\.weight"),
        (ChebConv(4, 3, 5, matrix), torch.nn.Linear(4, 3), "", r"must hold lins\.0\.weight.*'bias', 'weight'"),
    ]:
        before = {key: value.clone() for key, value in layer.state_dict().items()}
        with pytest.raises(ValueError, match=message):
            layer.load_torch_geometric(given, name)
        assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())


def test_facecore_does_not_import_torch_geometric():
    script = "import sys, facecore.nn; sys.exit(any(name.startswith('torch_geometric') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
