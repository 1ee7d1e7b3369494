"""Adversarial losses: WGAN-div for shapes (Wu 2018), patch cross-entropy for pictures (Shrivastava 2017)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from facecore.ops._library import check_tensors, takes_halves_under_autocast

Critic = Callable[[torch.Tensor], torch.Tensor]
REAL_CLASS = 1


@takes_halves_under_autocast
def wgan_div_loss(
    critic: Critic,
    fake: torch.Tensor,
    real: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    k: float = 2.0,
    p: float = 6.0,
) -> torch.Tensor:
    """Returns a side of min_G max_D E[D(fake)] - E[D(real)] - k E[|grad_x D|^p], as what that side minimises: a scalar.

    With real samples the critic's side, wgan_div_critic_loss; without them that of the generator of `fake`,
    wgan_div_generator_loss of its scores, which the critic gives without autocast.

    Args:
        critic: as for wgan_div_critic_loss.
        fake: float32 or float64 [N, ...].
        real: the same shape, with `generator`, the random source of the penalty's points; None = the generator's side.
        k, p: weight and power of the penalty, p >= 2.

    Differentiable in the critic's parameters, and on the generator's side in fake. Deterministic where the critic is;
    `generator` moves on. Under torch.autocast half precision is taken as float32. Raises ValueError as the two do, and
    when only one of real and generator is given. METHODS 1.11.
    """
    if (real is None) != (generator is None):
        raise ValueError("real and generator belong together: give both for the critic's side, none for the other")
    if real is not None and generator is not None:
        return wgan_div_critic_loss(critic, real, fake, generator, k, p)
    check_tensors(fake=fake)
    with torch.autocast(fake.device.type, enabled=False):
        return wgan_div_generator_loss(_scores(critic, fake))


@takes_halves_under_autocast
def wgan_div_critic_loss(
    critic: Critic,
    real: torch.Tensor,
    fake: torch.Tensor,
    generator: torch.Generator | None = None,
    k: float = 2.0,
    p: float = 6.0,
    *,
    mix: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns what the critic minimises: mean D(real) - mean D(fake) + k mean |grad_x D(x)|^p, a scalar.

    x = e real + (1 - e) fake with e ~ U(0, 1) per sample; the norm runs over all entries of one sample.

    Args:
        critic: maps [N, ...] to scores [N] or [N, 1]; twice differentiable, and without batch normalisation, which
            would mix samples in the penalty.
        real, fake: float32 or float64, same shape [N, ...]; taken as constants.
        generator: random source of e.
        k, p: weight and power of the penalty, p >= 2.
        mix: e itself, N numbers of the samples' dtype and device, instead of a generator: so that the parts of a
            batch have what the whole batch has.

    Differentiable in the critic's parameters. Deterministic where the critic is; `generator` moves on. Runs without
    autocast: the penalty needs full precision. Raises ValueError for shapes that differ, a wrong dtype, p < 2, or
    neither or both of generator and mix. METHODS 1.11.
    """
    check_tensors(real=real, fake=fake)
    if real.shape != fake.shape:
        raise ValueError(f"real and fake must have the same shape, got {list(real.shape)} and {list(fake.shape)}")
    if real.dtype not in (torch.float32, torch.float64) or fake.dtype != real.dtype:
        raise ValueError(f"real and fake must both be float32 or float64, got {real.dtype} and {fake.dtype}")
    if real.shape[0] == 0:
        raise ValueError("real and fake must hold at least one sample")
    if p < 2:
        raise ValueError(f"p must be at least 2, got {p}: the penalty must be smooth where the gradient is 0")
    real, fake = real.detach(), fake.detach()
    mix = _mix(real, generator, mix)
    with torch.autocast(real.device.type, enabled=False), torch.enable_grad():
        between = (mix * real + (1 - mix) * fake).requires_grad_()
        (gradient,) = torch.autograd.grad(_scores(critic, between).sum(), between, create_graph=True)
        penalty = gradient.square().flatten(1).sum(1) ** (p / 2)
        return _scores(critic, real).mean() - _scores(critic, fake).mean() + k * penalty.mean()


@takes_halves_under_autocast
def wgan_div_generator_loss(fake_scores: torch.Tensor) -> torch.Tensor:
    """Returns what the generator minimises: mean D(fake), a scalar.

    fake_scores: the critic's scores of the generator's samples, [N] or [N, 1]. The critic learns high scores for fakes
    (mind the sign: METHODS 1.11); evaluate it without autocast. Differentiable. Deterministic. Raises ValueError for
    no scores.
    """
    check_tensors(fake_scores=fake_scores)
    if fake_scores.numel() == 0:
        raise ValueError("fake_scores must hold at least one score")
    return fake_scores.mean()


@takes_halves_under_autocast
def patch_adversarial_loss(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Returns the softmax cross-entropy of every patch against one answer, averaged over patches: a scalar.

    logits: [N, 2, H, W], channel 1 = real; real: the answer that is wanted (the generator wants True for its fakes).
    Differentiable in logits. Deterministic. 0 for an empty batch. Raises ValueError for a wrong shape.
    METHODS 2.1, 2.2 (L_patch).
    """
    check_tensors(logits=logits)
    if logits.dim() != 4 or logits.shape[1] != 2:
        raise ValueError(f"logits must have shape [N, 2, H, W], got {list(logits.shape)}")
    answer = REAL_CLASS if real else 1 - REAL_CLASS
    answers = torch.log_softmax(logits, 1)[:, answer]
    return -answers.sum() / max(answers.numel(), 1)


def _mix(real: torch.Tensor, generator: torch.Generator | None, mix: torch.Tensor | None) -> torch.Tensor:
    """e per sample, shaped to multiply samples."""
    if (generator is None) == (mix is None):
        raise ValueError("give either generator or mix")
    shape = (real.shape[0],) + (1,) * (real.dim() - 1)
    if generator is not None:
        return torch.rand(shape, generator=generator, device=generator.device, dtype=real.dtype).to(real.device)
    assert mix is not None
    if mix.numel() != len(real) or mix.dtype != real.dtype or mix.device != real.device:
        raise ValueError(
            f"mix must be {len(real)} numbers, {real.dtype} on {real.device} like real, got {list(mix.shape)} "
            f"{mix.dtype} on {mix.device}"
        )
    return mix.reshape(shape)


def _scores(critic: Critic, samples: torch.Tensor) -> torch.Tensor:
    scores = critic(samples)
    if scores.numel() != samples.shape[0]:
        raise ValueError(f"critic must return {samples.shape[0]} scores, [N] or [N, 1], got {list(scores.shape)}")
    return scores.reshape(-1)
