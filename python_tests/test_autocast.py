"""torch.autocast around the mesh networks: convolutions in float32, gradients in the dtype of the parameters."""

from __future__ import annotations

import pytest
import torch
from small_hierarchy import build_small_hierarchy

from facecore.mesh import laplacian
from facecore.nn import ChebConv, MeshDecoder, MeshDiscriminator

HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture(scope="module")
def hierarchy(tmp_path_factory):
    return build_small_hierarchy(tmp_path_factory.mktemp("hierarchy"))


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("fan_in, fan_out", [(4, 3), (3, 4)])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_half_precision_input_is_convolved_in_float32(hierarchy, device, generator, half, fan_in, fan_out, gradients):
    """Such as the result of a linear layer: taken as float32 and nothing rounded after that."""
    layer = ChebConv(fan_in, fan_out, 3, laplacian(hierarchy.levels[0]), negative_slope=0.2).to(device)
    x = torch.randn(2, 42, fan_in, generator=generator).to(device, half).requires_grad_(gradients)
    expected = layer(x.float())
    with torch.autocast(device.type, half), torch.set_grad_enabled(gradients):
        got = layer(x)
    assert got.dtype == torch.float32 and torch.equal(got, expected)
    if gradients:
        got.square().sum().backward()
        assert x.grad is not None and x.grad.dtype == half
        assert layer.weight.grad.dtype == layer.bias.grad.dtype == torch.float32
        leaf = x.detach().float().requires_grad_()
        wanted = torch.autograd.grad(layer(leaf).square().sum(), (leaf, layer.weight, layer.bias))
        torch.testing.assert_close(x.grad, wanted[0].to(half))
        torch.testing.assert_close(layer.weight.grad, wanted[1])
        torch.testing.assert_close(layer.bias.grad, wanted[2])


@pytest.mark.parametrize("half", HALVES)
def test_a_half_precision_input_without_autocast_is_refused(hierarchy, half):
    layer = ChebConv(4, 3, 3, laplacian(hierarchy.levels[0]))
    for mode in (torch.enable_grad, torch.no_grad):
        with mode(), pytest.raises(ValueError, match=r"x must have dtype float32 or float64, got b?float16"):
            layer(torch.zeros(1, 42, 4, dtype=half))


@pytest.mark.parametrize("half", HALVES)
def test_decoder(hierarchy, device, generator, half):
    """Its first, dense layer runs in half precision, so its result is that of float32 to the rounding of that layer."""
    torch.manual_seed(3)  # layers draw their initial values from the global generator
    decoder = MeshDecoder(hierarchy, 5, (8, 6, 4), num_terms=4).to(device)
    code = torch.randn(3, 5, generator=generator).to(device)
    expected = decoder(code)
    scale = float(expected.detach().abs().max())
    with torch.autocast(device.type, half):
        got = decoder(code)
        with torch.no_grad():
            assert torch.equal(decoder(code), got.detach())
    assert got.dtype == torch.float32
    rounding = 16 * torch.finfo(half).eps  # of sums of five products, through three layers that keep the scale
    torch.testing.assert_close(got, expected, rtol=rounding, atol=rounding * scale)
    assert not torch.equal(got, expected)  # or autocast was not at work
    grads = torch.autograd.grad(got.square().sum(), list(decoder.parameters()))
    wanted = torch.autograd.grad(expected.square().sum(), list(decoder.parameters()))
    for grad, expected_grad, parameter in zip(grads, wanted, decoder.parameters()):
        assert grad.dtype == parameter.dtype == torch.float32
        torch.testing.assert_close(grad, expected_grad, rtol=0, atol=2 * rounding * float(expected_grad.abs().max()))


@pytest.mark.parametrize("half", HALVES)
def test_discriminator(hierarchy, device, generator, half):
    """All but the last, dense layer is float32; the gradients, the penalty's second ones included, keep their dtype."""
    torch.manual_seed(3)
    discriminator = MeshDiscriminator(hierarchy, (4, 6), num_terms=4).to(device)
    shapes = torch.randn(3, 42, 3, generator=generator).to(device).requires_grad_()
    parameters = [p for name, p in discriminator.named_parameters() if "bias" not in name]

    def losses():
        score = discriminator(shapes)
        (slope,) = torch.autograd.grad(score.float().sum(), shapes, create_graph=True)
        return score, slope, torch.autograd.grad(slope.square().sum(), parameters)

    expected = losses()
    with torch.autocast(device.type, half):
        got = losses()
    assert got[0].dtype == half  # of the dense layer, as everywhere under autocast
    assert got[1].dtype == torch.float32 and {g.dtype for g in got[2]} == {torch.float32}
    rounding = 16 * torch.finfo(half).eps
    for one, other in zip((*got[:2], *got[2]), (*expected[:2], *expected[2])):
        torch.testing.assert_close(one.float(), other, rtol=0, atol=rounding * float(other.detach().abs().max()))
