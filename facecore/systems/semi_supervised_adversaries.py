"""The two discriminators of the semi-supervised system with their optimisers: of shapes, and of drawn pictures."""

from __future__ import annotations

import torch
from torch import nn

from facecore import losses
from facecore.data import sample_generator
from facecore.morphable import MorphableModel
from facecore.nn import PatchDiscriminator, PictureHistory
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.training.loop import check_finite


class ShapeAdversary:
    """The graph discriminator: the morphable model's random shapes against decoded ones (WGAN-div, METHODS 1.11)."""

    def __init__(self, config: SemiSupervisedConfig, system: SemiSupervised, morphable: MorphableModel) -> None:
        self._config, self._system, self._morphable = config, system, morphable
        rate = config.stages.critic_learning_rate
        self.optimizer = torch.optim.RMSprop(system.discriminator.parameters(), lr=rate)
        self.loss = torch.zeros((), device=system.template.device)  # of the last step, for the log

    def train(self, fake: torch.Tensor, iteration: int) -> None:
        """RMSprop steps on displacements [N, V, 3] in units of sigma_s."""
        system, seed = self._system, self._config.run.seed
        for index in range(self._config.stages.critic_steps):
            generator = sample_generator(seed, "critic", iteration, index)
            sample = self._morphable.sample(len(fake), generator)
            real = self._morphable.shape(sample.identity.to(fake.device), sample.expression.to(fake.device))
            real = (real - system.template) / system.shape_scale
            self.optimizer.zero_grad(set_to_none=True)
            loss = losses.wgan_div_critic_loss(system.discriminator, real, fake.detach(), generator)
            check_finite({"critic": loss}, iteration)
            loss.backward()
            self.optimizer.step()
            self.loss = loss.detach()

    def term(self, fake: torch.Tensor) -> torch.Tensor:
        """L_adv: what the decoder gets; the discriminator gets no gradient."""
        discriminator = self._system.discriminator.requires_grad_(False)
        value = losses.wgan_div_generator_loss(discriminator(fake))
        discriminator.requires_grad_(True)
        return value


class PatchAdversary(nn.Module):
    """The patch discriminator of stage C: masked photographs M I against drawn ones M I_hat (METHODS 2.1)."""

    def __init__(self, config: SemiSupervisedConfig) -> None:
        super().__init__()
        size = config.model.image_size
        self._seed = config.run.seed
        self.discriminator = PatchDiscriminator()
        self.history = PictureHistory(config.stages.history_size, 3, size, size)
        self.optimizer = torch.optim.RMSprop(self.discriminator.parameters(), lr=config.stages.critic_learning_rate)
        self.loss = torch.zeros(())

    def learn(self, real: torch.Tensor, fake: torch.Tensor, iteration: int) -> None:
        """One RMSprop step; half of the fakes are exchanged for earlier ones. real, fake: [N, 3, S, S], masked."""
        mixed = self.history.mix(fake, sample_generator(self._seed, "history", iteration))
        self.optimizer.zero_grad(set_to_none=True)
        loss = losses.patch_adversarial_loss(self.discriminator(real.detach()), real=True)
        loss = loss + losses.patch_adversarial_loss(self.discriminator(mixed), real=False)
        check_finite({"patch critic": loss}, iteration)
        loss.backward()
        self.optimizer.step()
        self.loss = loss.detach()

    def term(self, fake: torch.Tensor) -> torch.Tensor:
        """L_patch: the drawn pictures are to pass for real; the discriminator gets no gradient."""
        self.discriminator.requires_grad_(False)
        value = losses.patch_adversarial_loss(self.discriminator(fake), real=True)
        self.discriminator.requires_grad_(True)
        return value
