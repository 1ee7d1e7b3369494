"""facecore.nn.MeshDecoder: the table of METHODS 2.1, its parts, gradients, learning."""

from __future__ import annotations

import pytest
import torch
from small_hierarchy import build_small_hierarchy, stub_hierarchy

from facecore import reference
from facecore.nn import MeshDecoder


@pytest.fixture(scope="module")
def hierarchy(tmp_path_factory):
    return build_small_hierarchy(tmp_path_factory.mktemp("hierarchy"))


def make_decoder(hierarchy, **options):
    torch.manual_seed(3)  # layers draw their initial values from the global generator
    return MeshDecoder(hierarchy, 5, (8, 6, 4), num_terms=4, **options)


def test_parameter_counts_of_the_paper():
    """METHODS 2.1: 4,261,904 for the shape decoder, 3,065,872 for the albedo decoder, layer by layer."""
    hierarchy = stub_hierarchy()
    for latent_size, first, total in ((192, 3_606_784, 4_261_904), (128, 2_410_752, 3_065_872)):
        decoder = MeshDecoder(hierarchy, latent_size)
        layers = [decoder.linear, *decoder.convolutions, decoder.last]
        counts = [sum(p.numel() for p in layer.parameters()) for layer in layers]
        assert counts == [first, 393_472, 196_736, 49_216, 12_320, 3_088, 288]
        assert sum(p.numel() for p in decoder.parameters()) == total


@pytest.mark.parametrize("output", ["linear", "sigmoid"])
def test_is_the_described_sequence(hierarchy, generator, output):
    decoder = make_decoder(hierarchy, output=output)
    code = torch.randn(3, 5, generator=generator)
    coarse = hierarchy.levels[-1].num_vertices
    x = torch.relu(torch.nn.functional.linear(code, decoder.linear.weight, decoder.linear.bias)).view(3, coarse, 8)
    for level, layer in zip((1, 0), decoder.convolutions):
        x = reference.sparse_matmul(hierarchy.up[level], x)
        x = torch.relu(reference.chebyshev_conv(x, layer.laplacian.matrix, layer.weight, layer.bias))
    x = reference.chebyshev_conv(x, decoder.last.laplacian.matrix, decoder.last.weight)
    x = torch.sigmoid(x) if output == "sigmoid" else x
    out = decoder(code)
    assert out.shape == (3, hierarchy.levels[0].num_vertices, 3)
    torch.testing.assert_close(out, x, rtol=1e-5, atol=1e-5)


def test_kinds_differ(hierarchy, generator):
    code = torch.randn(1, 5, generator=generator)
    outputs = [make_decoder(hierarchy, kind=kind)(code) for kind in ("combinatorial", "symmetric")]
    assert not torch.allclose(*outputs)


def test_gradients_are_exact(hierarchy, generator):
    decoder = make_decoder(hierarchy).double()
    code = torch.randn(2, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(decoder, code, fast_mode=True)
    names = [name for name, _ in decoder.named_parameters()]

    def function(*parameters):
        return torch.func.functional_call(decoder, dict(zip(names, parameters)), (code.detach(),))

    assert torch.autograd.gradcheck(function, tuple(decoder.parameters()), fast_mode=True)


def test_state_is_the_parameters_alone(hierarchy):
    decoder = make_decoder(hierarchy)
    assert set(decoder.state_dict()) == {name for name, _ in decoder.named_parameters()}


def test_learns_a_family_of_shapes(hierarchy, generator):
    """Codes to the linear shapes they weigh: a held-out code is decoded far better than by the mean shape."""
    decoder = make_decoder(hierarchy)
    vertices = hierarchy.levels[0].vertices / 100
    modes = torch.stack([torch.sin(vertices.roll(k, 1) * (k + 2)) for k in range(5)])  # smooth over the surface
    codes = torch.randn(64, 5, generator=generator)
    shapes = torch.einsum("nk,kvc->nvc", codes, modes)
    optimizer = torch.optim.Adam(decoder.parameters(), 1e-2)
    for _ in range(150):
        loss = (decoder(codes[:56]) - shapes[:56]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        held_out = (decoder(codes[56:]) - shapes[56:]).square().mean()
        mean_shape = (shapes[:56].mean(0) - shapes[56:]).square().mean()
    assert held_out < 0.3 * mean_shape


def test_one_level_and_empty_batch(tmp_path, hierarchy):
    flat = build_small_hierarchy(tmp_path, factors=())
    assert MeshDecoder(flat, 5, (4,), num_terms=2)(torch.zeros(2, 5)).shape == (2, 42, 3)
    assert make_decoder(hierarchy)(torch.zeros(0, 5)).shape == (0, 42, 3)


def test_rejects_bad_arguments(hierarchy):
    with pytest.raises(ValueError, match=r"channels must have one number for each of the 3 levels, got \[8, 6\]"):
        MeshDecoder(hierarchy, 5, (8, 6))
    with pytest.raises(ValueError, match='output must be "linear" or "sigmoid", got \'tanh\''):
        make_decoder(hierarchy, output="tanh")
    with pytest.raises(ValueError, match="kind must be"):
        make_decoder(hierarchy, kind="random_walk")


def test_without_gradients_the_result_has_the_same_bits(hierarchy, generator):
    decoder = make_decoder(hierarchy)
    code = torch.randn(3, 5, generator=generator)
    expected = decoder(code).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(decoder(code), expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("train", [False, True])
def test_can_be_captured_in_a_cuda_graph(hierarchy, generator, train):
    """Static shapes, no synchronisation, everything on the current stream: replayed with new codes and new weights."""
    decoder = make_decoder(hierarchy).cuda()
    code = torch.randn(3, 5, generator=generator).cuda()
    parameters = list(decoder.parameters())

    def step():
        with torch.set_grad_enabled(train):
            out = decoder(code)
            return out, torch.autograd.grad(out.square().sum(), parameters) if train else ()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # libraries are set up outside of the capture
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, grads = step()
    with torch.no_grad():
        code.copy_(torch.randn(3, 5, generator=generator))
        parameters[0].mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    replayed = [t.clone() for t in (out, *grads)]
    for got, expected in zip(replayed, _flat(step())):
        torch.testing.assert_close(got, expected.detach())


def _flat(result):
    out, grads = result
    return out, *grads
