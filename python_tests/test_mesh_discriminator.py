"""facecore.nn.MeshDiscriminator: the sizes of METHODS 2.1, its parts, and the gradient of a gradient penalty."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from small_hierarchy import build_small_hierarchy, stub_hierarchy

from facecore import reference
from facecore.nn import MeshDiscriminator


@pytest.fixture(scope="module")
def hierarchy(tmp_path_factory):
    return build_small_hierarchy(tmp_path_factory.mktemp("hierarchy"))


def make_discriminator(hierarchy, **options):
    torch.manual_seed(3)  # layers draw their initial values from the global generator
    return MeshDiscriminator(hierarchy, (4, 6), num_terms=4, **options)


def penalty(discriminator, points):
    """E |grad D|^6, the WGAN-div term (METHODS 2.2); the scale keeps it of order 1."""
    points = points.requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(points).sum(), points, create_graph=True)
    return (10 * slope.square().sum((1, 2))).pow(3).mean()


def test_parameter_count_of_the_paper():
    discriminator = MeshDiscriminator(stub_hierarchy())
    assert sum(p.numel() for p in discriminator.parameters()) == 280_593


def test_is_the_described_sequence(hierarchy, generator):
    discriminator = make_discriminator(hierarchy)
    shapes = torch.randn(3, 42, 3, generator=generator)
    x = shapes
    for level, layer in enumerate(discriminator.convolutions):
        x = reference.chebyshev_conv(x, layer.laplacian.matrix, layer.weight, layer.bias)
        x = torch.where(x > 0, x, 0.2 * x)[:, hierarchy.kept[level]]
    x = x.flatten(1) @ discriminator.linear.weight[0] + discriminator.linear.bias
    out = discriminator(shapes)
    assert out.shape == (3,)
    torch.testing.assert_close(out, x, rtol=1e-5, atol=1e-5)


def test_second_derivatives_with_respect_to_the_input(hierarchy, generator):
    discriminator = make_discriminator(hierarchy).double()
    points = torch.randn(2, 42, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(discriminator, points, fast_mode=True)
    # cubed: the network itself is piecewise linear in its input
    assert torch.autograd.gradgradcheck(lambda x: discriminator(x).pow(3), points, fast_mode=True)


def test_gradient_of_the_penalty_with_respect_to_each_weight(hierarchy, generator):
    """Against central differences in float64, one parameter tensor at a time, and against plain autograd."""
    discriminator = make_discriminator(hierarchy).double()
    points = torch.randn(2, 42, 3, generator=generator, dtype=torch.float64)
    parameters = dict(discriminator.named_parameters())
    weights = {name: p for name, p in parameters.items() if "bias" not in name}
    gradients = torch.autograd.grad(penalty(discriminator, points), list(weights.values()))
    step = 1e-5
    for (name, weight), gradient in zip(weights.items(), gradients):
        direction = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight += sign * step * direction
            values.append(penalty(discriminator, points.detach()).item())
            with torch.no_grad():
                weight -= sign * step * direction
        numerical = (values[0] - values[1]) / (2 * step)
        exact = float((gradient * direction).sum())
        assert abs(exact) > 1e-6, name  # otherwise the comparison would show nothing
        assert exact == pytest.approx(numerical, rel=1e-6), name
    # a bias moves no slope of a piecewise linear network: its gradient is zero or absent
    biases = [p for name, p in parameters.items() if "bias" in name]
    for grad in torch.autograd.grad(penalty(discriminator, points.detach()), biases, allow_unused=True):
        assert grad is None or not grad.any()


def test_learns_to_tell_two_families_apart(hierarchy, generator):
    discriminator = make_discriminator(hierarchy)
    smooth = (hierarchy.levels[0].vertices / 30).sin() * torch.randn(40, 1, 3, generator=generator)
    rough = 0.5 * torch.randn(40, 42, 3, generator=generator)
    optimizer = torch.optim.Adam(discriminator.parameters(), 5e-3)
    for _ in range(30):
        margin = discriminator(smooth[:32]) - discriminator(rough[:32])
        loss = torch.nn.functional.softplus(-margin).mean() + penalty(discriminator, rough[:4].clone())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = discriminator(smooth[32:])[:, None] > discriminator(rough[32:])[None]
    assert right.float().mean() > 0.9


def test_empty_batch_and_state(hierarchy):
    discriminator = make_discriminator(hierarchy)
    assert discriminator(torch.zeros(0, 42, 3)).shape == (0,)
    assert set(discriminator.state_dict()) == {name for name, _ in discriminator.named_parameters()}
    assert make_discriminator(hierarchy, in_channels=6)(torch.zeros(1, 42, 6)).shape == (1,)


def test_rejects_bad_arguments(tmp_path, hierarchy):
    with pytest.raises(ValueError, match=r"channels must have one number for each of the 2 factors .*, got \[8\]"):
        MeshDiscriminator(hierarchy, (8,))
    with pytest.raises(ValueError, match="at least one"):
        MeshDiscriminator(build_small_hierarchy(tmp_path, factors=()), ())
    averaging = dataclasses.replace(hierarchy, down=[up.transposed for up in hierarchy.up])
    with pytest.raises(ValueError, match=r"hierarchy.down must select vertices: one 1 in each row"):
        make_discriminator(averaging)
    with pytest.raises(ValueError, match="kind must be"):
        make_discriminator(hierarchy, kind="random_walk")
