"""Adversarial losses: hand-computed values, signs, the interpolation, second derivatives, bad inputs."""

from __future__ import annotations

import math

import pytest
import torch

from facecore.losses import patch_adversarial_loss, wgan_div_critic_loss, wgan_div_generator_loss, wgan_div_loss


def samples(generator, n=4):
    return tuple(torch.randn(n, 5, 3, generator=generator, dtype=torch.float64) for _ in range(2))


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_one_name_for_both_sides(generator):
    real, fake = samples(generator)
    weight = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    fake.requires_grad_()

    def critic(x):
        return (x * weight).square().sum((1, 2))

    one = wgan_div_loss(critic, fake, real, seeded(), 1.5, 2.0)
    both = (one, wgan_div_critic_loss(critic, real, fake, seeded(), 1.5, 2.0))
    grads = [torch.autograd.grad(loss, weight)[0] for loss in both]
    assert torch.equal(*both) and torch.equal(*grads)
    own = wgan_div_loss(critic, fake)
    assert torch.equal(own, wgan_div_generator_loss(critic(fake)))
    expected = 2 * weight.detach().square() * fake.detach() / len(fake)
    torch.testing.assert_close(torch.autograd.grad(own, fake)[0], expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert wgan_div_loss(lambda x: (x.flatten(1) @ x.flatten(1).T)[:, :1], fake.float()).dtype == torch.float32
    for alone in ({"real": real}, {"generator": seeded()}):
        with pytest.raises(ValueError, match="real and generator belong together"):
            wgan_div_loss(critic, fake, **alone)


@pytest.mark.parametrize("k, p", [(2.0, 6.0), (1.5, 2.0)])
def test_critic_loss_of_a_linear_critic(generator, k, p):
    """D(x) = <w, x> has gradient w everywhere, whatever the interpolation."""
    real, fake = samples(generator)
    weight = torch.randn(5, 3, generator=generator, dtype=torch.float64) * 0.3
    loss = wgan_div_critic_loss(lambda x: (x * weight).sum((1, 2)), real, fake, seeded(), k, p)
    expected = (real.mean(0) * weight).sum() - (fake.mean(0) * weight).sum() + k * weight.norm() ** p
    torch.testing.assert_close(loss, expected)


def test_penalty_runs_over_the_interpolation(generator):
    """D(x) = |x|^2 / 2 has gradient x: the penalty shows the interpolated samples themselves."""
    real, fake = samples(generator)
    mix = torch.rand(4, 1, 1, generator=seeded(), dtype=torch.float64)
    between = mix * real + (1 - mix) * fake
    penalty = between.flatten(1).norm(dim=1).pow(6).mean()
    distance = (real.square().sum() - fake.square().sum()) / 2 / 4

    def critic(x):
        return (x.square().sum((1, 2)) / 2)[:, None]

    torch.testing.assert_close(wgan_div_critic_loss(critic, real, fake, seeded()), distance + 2 * penalty)


def test_training_gives_high_scores_to_fakes(generator):
    """The sign of METHODS 1.11: the critic lowers D(real) - D(fake), and the generator lowers D(fake)."""
    real, fake = (t.float() for t in samples(generator, 16))
    critic = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(15, 16), torch.nn.LeakyReLU(0.2), torch.nn.Linear(16, 1)
    )
    for parameter in critic.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    optimizer, source = torch.optim.RMSprop(critic.parameters(), 1e-2), seeded()
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = wgan_div_critic_loss(critic, real, fake, source)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert critic(fake).mean() > critic(real).mean()
    moved = fake.clone().requires_grad_()
    wgan_div_generator_loss(critic(moved)).backward()
    step = 0.1 * moved.grad / moved.grad.norm()
    assert wgan_div_generator_loss(critic(fake - step)) < wgan_div_generator_loss(critic(fake))


def test_critic_gradient_is_exact_through_the_penalty(generator):
    real, fake = samples(generator, 3)
    first = torch.randn(15, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    second = torch.randn(4, generator=generator, dtype=torch.float64, requires_grad=True)

    def loss(first, second):
        return wgan_div_critic_loss(lambda x: torch.tanh(x.flatten(1) @ first) @ second, real, fake, seeded(), 0.1)

    assert torch.autograd.gradcheck(loss, (first, second))


def test_penalty_is_smooth_where_the_gradient_vanishes(generator):
    real, fake = samples(generator)
    weight = torch.zeros(5, 3, dtype=torch.float64, requires_grad=True)
    wgan_div_critic_loss(lambda x: (x * weight).sum((1, 2)), real, fake, seeded()).backward()
    torch.testing.assert_close(weight.grad, (real - fake).mean(0))


def test_critic_loss_sends_nothing_to_the_samples(generator):
    real, fake = samples(generator)
    fake.requires_grad_()
    weight = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    wgan_div_critic_loss(lambda x: (x * weight).sum((1, 2)), real, fake, seeded()).backward()
    assert fake.grad is None and weight.grad is not None


def test_autocast_is_off_inside(generator):
    real, fake = (t.float() for t in samples(generator))
    layer = torch.nn.Linear(15, 1)
    expected = wgan_div_critic_loss(lambda x: layer(x.flatten(1)), real, fake, seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(wgan_div_critic_loss(lambda x: layer(x.flatten(1)), real, fake, seeded()), expected)


def test_patch_loss_by_hand():
    logits = torch.zeros(1, 2, 1, 2, dtype=torch.float64)
    logits[0, 1, 0, 0] = math.log(3.0)  # the first patch is real with probability 3/4, the second with 1/2
    real = float(patch_adversarial_loss(logits, True))
    assert real == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2)
    assert float(patch_adversarial_loss(logits, False)) == pytest.approx(-(math.log(0.25) + math.log(0.5)) / 2)
    assert torch.autograd.gradcheck(lambda x: patch_adversarial_loss(x, True), logits.requires_grad_())


def test_patch_loss_of_nothing_is_zero():
    assert float(patch_adversarial_loss(torch.zeros(0, 2, 3, 3), True)) == 0.0


def test_bad_inputs(generator):
    real, fake = samples(generator)

    def critic(x):
        return x.sum((1, 2))

    with pytest.raises(ValueError, match="same shape"):
        wgan_div_critic_loss(critic, real, fake[1:], seeded())
    with pytest.raises(ValueError, match="float32 or float64"):
        wgan_div_critic_loss(critic, real.half(), fake.half(), seeded())
    with pytest.raises(ValueError, match="p must be at least 2"):
        wgan_div_critic_loss(critic, real, fake, seeded(), p=1.0)
    with pytest.raises(ValueError, match="at least one sample"):
        wgan_div_critic_loss(critic, real[:0], fake[:0], seeded())
    with pytest.raises(ValueError, match=r"critic must return 4 scores.*got \[4, 5\]"):
        wgan_div_critic_loss(lambda x: x.sum(2), real, fake, seeded())
    with pytest.raises(ValueError, match="at least one score"):
        wgan_div_generator_loss(torch.zeros(0))
    with pytest.raises(ValueError, match=r"logits must have shape \[N, 2, H, W\]"):
        patch_adversarial_loss(torch.zeros(1, 3, 4, 4), True)
