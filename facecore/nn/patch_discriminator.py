"""PatchGAN (Shrivastava 2017): which patches of a picture are photographed and which are drawn (METHODS 2.1)."""

from __future__ import annotations

import torch
from torch import nn


class PatchDiscriminator(nn.Sequential):
    """Pictures [N, 3, H, W] -> logits [N, 2, h, w], channel 1 = real; each sees a part of the picture.

    3x3 stride 2 to 96, 3x3 stride 2 to 64, max-pool 3x3 stride 1, 3x3 to 32, 1x1 to 32, 1x1 to 2, ReLU between and
    none on the logits. Nothing crosses the batch. loss: facecore.losses.patch_adversarial_loss.
    """

    def __init__(self, in_channels: int = 3) -> None:
        super().__init__(
            nn.Conv2d(in_channels, 96, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(96, 64, 3, 2, 1),
            nn.ReLU(),
            nn.MaxPool2d(3, 1, 1),
            nn.Conv2d(64, 32, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 1),
            nn.ReLU(),
            nn.Conv2d(32, 2, 1),
        )


class PictureHistory(nn.Module):
    """Fakes of earlier steps, of which half of each batch for the discriminator is made (Shrivastava 2017, 2.3).

    size: pictures kept. Until it is full, pictures only come in; then a random half of a batch changes places with as
    many random ones of the history. The pictures and their number are buffers, part of the state_dict.
    """

    pictures: torch.Tensor
    count: torch.Tensor

    def __init__(self, size: int, channels: int, height: int, width: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"size must be at least 1 picture, got {size}")
        self.register_buffer("pictures", torch.zeros(size, channels, height, width))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def mix(self, fakes: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """fakes [N, C, H, W] with half of them exchanged for earlier ones. Deterministic given the generator (CPU)."""
        size, count = len(self.pictures), int(self.count)
        fakes = fakes.detach()
        if count < size:
            new = fakes[: size - count]
            self.pictures[count : count + len(new)] = new
            self.count += len(new)
            return fakes
        half = min(len(fakes) // 2, size)
        places = torch.randperm(size, generator=generator)[:half].to(fakes.device)
        # random ones: in a batch of renders and photographs the first half would be renders alone
        chosen = torch.randperm(len(fakes), generator=generator)[:half].to(fakes.device)
        mixed = fakes.clone()
        mixed[chosen] = self.pictures[places]
        self.pictures[places] = fakes[chosen]
        return mixed
