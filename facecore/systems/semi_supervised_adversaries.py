"""The two discriminators of the semi-supervised system with their optimisers: of shapes, and of drawn pictures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from facecore import losses
from facecore.data import sample_generator
from facecore.morphable import MorphableModel
from facecore.nn import PatchDiscriminator, PictureHistory
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.training import distributed


@dataclasses.dataclass(frozen=True)
class Fakes:
    """What the model made of one part of a batch, without gradient, and where its samples stand in the whole batch.

    made: displacements [n, V, 3] in units of sigma_s, or masked pictures [n, 3, S, S]; real: pictures alike, or None.
    places: int64 [n]; total: samples of the whole batch.
    """

    made: torch.Tensor
    real: torch.Tensor | None
    places: torch.Tensor
    total: int


class ShapeAdversary:
    """The graph discriminator: the morphable model's random shapes against decoded ones (WGAN-div, METHODS 1.11)."""

    def __init__(
        self,
        config: SemiSupervisedConfig,
        system: SemiSupervised,
        morphable: MorphableModel,
        expressions: torch.Tensor | None = None,
    ) -> None:
        """expressions: coefficients of real faces [N, Ke], from which shapes take theirs; None = from the prior."""
        self._config, self._system, self._morphable, self._expressions = config, system, morphable, expressions
        rate = config.stages.critic_learning_rate
        self.optimizer = torch.optim.RMSprop(system.discriminator.parameters(), lr=rate, foreach=True)

    @functools.cached_property
    def _averaged(self) -> nn.Module:
        return distributed.averaged(_ShapeLoss(self._system.discriminator))

    def learn(self, parts: list[Fakes], iteration: int) -> torch.Tensor:
        """RMSprop steps on the parts of one batch; returns the loss of the last step, of this process."""
        system, seed = self._system, self._config.run.seed
        value = system.template.new_zeros(())
        for index in range(self._config.stages.critic_steps):
            generator = sample_generator(seed, "critic", iteration, index)
            sample = self._morphable.sample(parts[0].total, generator)
            mix = torch.rand((parts[0].total, 1, 1), generator=generator)
            expressions = sample.expression
            if self._expressions is not None:
                rows = torch.randint(len(self._expressions), (parts[0].total,), generator=generator)
                expressions = self._expressions[rows]
            self.optimizer.zero_grad(set_to_none=True)
            value = torch.zeros_like(value)
            for part, fakes in enumerate(parts):
                identity, expression = (
                    weights[fakes.places].to(fakes.made.device) for weights in (sample.identity, expressions)
                )
                real = (self._morphable.shape(identity, expression) - system.template) / system.shape_scale
                with accumulated(self._averaged, part, len(parts)):
                    loss = self._averaged(real, fakes.made, mix[fakes.places].to(real)) / len(parts)
                    loss.backward()
                value += loss.detach()
            self.optimizer.step()
        return value

    def term(self, fake: torch.Tensor) -> torch.Tensor:
        """L_adv: what the decoder gets; the discriminator gets no gradient."""
        with frozen(self._system.discriminator):
            return losses.wgan_div_generator_loss(self._system.discriminator(fake))


class PatchAdversary(nn.Module):
    """The patch discriminator of stage C: masked photographs M I against drawn ones M I_hat (METHODS 2.1)."""

    def __init__(self, config: SemiSupervisedConfig) -> None:
        super().__init__()
        size = config.model.image_size
        self._seed = config.run.seed
        self.discriminator = PatchDiscriminator()
        self.history = PictureHistory(config.stages.history_size, 3, size, size)
        rate = config.stages.critic_learning_rate
        self.optimizer = torch.optim.RMSprop(self.discriminator.parameters(), lr=rate, foreach=True)

    @functools.cached_property  # not a registered module: the state has the discriminator once
    def _averaged(self) -> nn.Module:
        return distributed.averaged(_PatchLoss(self.discriminator))

    def learn(self, parts: list[Fakes], iteration: int) -> torch.Tensor:
        """One RMSprop step; half of the fakes are exchanged for earlier ones. Returns the loss of this process."""
        mixed = self.history.mix(_whole_batch(parts), sample_generator(self._seed, "history", iteration))
        self.optimizer.zero_grad(set_to_none=True)
        value = mixed.new_zeros(())
        for part, fakes in enumerate(parts):
            with accumulated(self._averaged, part, len(parts)):
                loss = self._averaged(fakes.real, mixed[fakes.places.to(mixed.device)]) / len(parts)
                loss.backward()
            value += loss.detach()
        self.optimizer.step()
        return value

    def term(self, fake: torch.Tensor) -> torch.Tensor:
        """L_patch: the drawn pictures are to pass for real; the discriminator gets no gradient."""
        with frozen(self.discriminator):
            return losses.patch_adversarial_loss(self.discriminator(fake), real=True)


class _ShapeLoss(nn.Module):
    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
        return losses.wgan_div_critic_loss(self.discriminator, real, fake, mix=mix)


class _PatchLoss(nn.Module):
    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        loss = losses.patch_adversarial_loss(self.discriminator(real), real=True)
        return loss + losses.patch_adversarial_loss(self.discriminator(fake), real=False)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Its parameters get no gradient by what is computed meanwhile."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


@contextmanager
def accumulated(module: nn.Module, part: int, count: int) -> Iterator[None]:
    """Gradients of `count` parts of a batch add up; over processes they are averaged once, with the last part."""
    if part + 1 < count and isinstance(module, nn.parallel.DistributedDataParallel):
        with module.no_sync():
            yield
    else:
        yield


def _whole_batch(parts: list[Fakes]) -> torch.Tensor:
    """The fakes of all parts and processes in the order in which one process alone would have them."""
    made = distributed.gathered(torch.cat([part.made for part in parts])).flatten(0, 1)
    places = torch.cat([part.places for part in parts]).to(made.device)
    return torch.empty_like(made).index_copy_(0, distributed.gathered(places).flatten(), made)
