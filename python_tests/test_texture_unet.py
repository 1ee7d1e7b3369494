"""The U-Net of the reflectance: METHODS' layers, range, gradients, and what the bottleneck is for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facecore.nn import TextureUNet


def test_the_papers_size_has_the_papers_layers():
    """METHODS 5: 64, 128, 256, 512, 512, stride 2, 256 -> 8; mirrored, with skips; 3x3 to 3. The 16 are ours."""
    with torch.device("meta"):
        network = TextureUNet(4, 256)
    down = [(c.in_channels, c.out_channels) for c in network.down.modules() if isinstance(c, nn.Conv2d)]
    up = [(c.in_channels, c.out_channels) for c in network.up.modules() if isinstance(c, nn.ConvTranspose2d)]
    assert down == [(4, 64), (64, 128), (128, 256), (256, 512), (512, 512)]
    assert up == [(512, 512), (1024, 256), (512, 128), (256, 64), (128, 16)]
    assert (network.last.in_channels, network.last.out_channels, network.last.kernel_size) == (16, 3, (3, 3))


@pytest.mark.parametrize("bottleneck", [False, True])
def test_gives_reflectances_and_gradients_to_every_layer(bottleneck):
    torch.manual_seed(0)
    network = TextureUNet(4, 64, 0.125, bottleneck=bottleneck)
    x = torch.rand(3, 4, 64, 64, requires_grad=True)
    out = network(x)
    values = out.detach()
    assert out.shape == (3, 3, 64, 64) and 0 < float(values.min()) and float(values.max()) < 1
    out.square().mean().backward()
    assert float(x.grad.abs().max()) > 0
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_bottleneck_takes_any_pixel_to_any_texel():
    """Without it a corner of the input cannot change the opposite one; with it, it does."""
    for bottleneck in (False, True):
        torch.manual_seed(0)
        network = TextureUNet(3, 256, 0.0625, bottleneck=bottleneck).double().eval()
        x = torch.rand(1, 3, 256, 256, dtype=torch.float64, requires_grad=True)
        network(x)[..., -8:, -8:].sum().backward()
        reached = x.grad[0].any(0)
        assert bool(reached[-8:, -8:].any()) and bool(reached[:8, :8].any()) == bottleneck


def test_bad_inputs():
    with pytest.raises(ValueError, match="size must be a multiple of 32, got 100"):
        TextureUNet(4, 100)
    with pytest.raises(ValueError, match=r"x must have shape \[N, 4, 32, 32\], got \[1, 3, 32, 32\]"):
        TextureUNet(4, 32, 0.1)(torch.rand(1, 3, 32, 32))
