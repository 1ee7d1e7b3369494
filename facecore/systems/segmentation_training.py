"""Training of a face segmentation network on renders with occluders, and photographs with masks (METHODS 7)."""

from __future__ import annotations

import torch
from torch.nn import functional

from facecore.data import LabelledRenders, PhotoFolder
from facecore.losses import skin_mask
from facecore.morphable import MorphableModel
from facecore.nn import SegmentationNet
from facecore.systems import seeds
from facecore.systems.segmentation_config import SegmentationConfig
from facecore.systems.streams import open_stream
from facecore.training import distributed
from facecore.training.adam import Adam
from facecore.training.rates import risen_cosine
from facecore.training.trainer import SystemTrainer

NAME = "segmentation"
BATCH = 20


class SegmentationTrainer(SystemTrainer):
    """Implements training.loop.Trainer; see SystemTrainer."""

    name = NAME

    def __init__(self, config: SegmentationConfig, morphable: MorphableModel, photos: PhotoFolder | None) -> None:
        super().__init__(config)
        self.photos, self.morphable = photos, morphable.to(self.device)
        size, seed, share = config.model.image_size, config.run.seed, config.stages.occluders
        self.renders = LabelledRenders(self.morphable, size, size, seed + seeds.SEGMENTATION_RENDERS, occluders=share)
        self.held_out = LabelledRenders(self.morphable, size, size, seed + seeds.SEGMENTATION_HELD_OUT, occluders=share)
        torch.manual_seed(seed)
        network = SegmentationNet(config.model.width).to(self.device)
        self.model = self.network = distributed.synchronised(network, self.device)
        self.parameters = list(self.network.parameters())
        self.optimizer = Adam(self.parameters)
        self._averaged = distributed.averaged(self.network)
        self.total_iterations = config.stages.iterations
        self._share = distributed.own_share()
        self._share.rows(config.data.labelled_batch)  # raises where the processes cannot share the batch
        self.stream = None
        if photos is not None and config.data.photo_batch:
            self.stream = open_stream(
                photos,
                seed,
                (config.data.photo_batch, 1),
                "photos",
                workers=config.data.workers,
                device=self.device,
                iterations=self.total_iterations,
            )
        self.begin()

    def images_in(self, iteration: int) -> int:
        return self.config.data.labelled_batch + (self.config.data.photo_batch if self.stream else 0)

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.stages.learning_rate * risen_cosine(iteration, self.total_iterations)
        self.optimizer.zero_grad(set_to_none=True)
        images, masks = self.batch(iteration)
        loss = segmentation_loss(self._averaged(images)[:, 0], masks)
        loss.backward()
        terms = distributed.mean_losses([{"total": loss.detach()}])
        self.descend(self.parameters, terms, iteration)
        return terms

    def batch(self, iteration: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures and masks of this process's share: renders, then photographs."""
        count = self.config.data.labelled_batch
        renders = self.renders.batch(iteration * count + torch.arange(count)[self._share.rows(count)])
        if self.stream is None:
            return renders.image, renders.mask
        photos = self.stream.at(iteration).to(self.device)
        return torch.cat([renders.image, photos.image]), torch.cat([renders.mask, photos.mask])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Of held-out renders, in percent: overlap (intersection over union) with the true mask and share of wrong
        pixels, of the network and of the skin-probability mask (METHODS 1.10)."""
        self._watch.check()
        self.network.eval()
        rows: dict[str, list[torch.Tensor]] = {}
        count = self.config.run.validation_size
        for start in range(0, count, BATCH):
            batch = self.held_out.batch(torch.arange(start, min(start + BATCH, count)))
            truth = batch.mask > 0.5
            guesses = {"": self.network(batch.image)[:, 0] > 0, "skin_": skin_mask(batch.image)}
            for name, guess in guesses.items():
                rows.setdefault(f"{name}overlap", []).append(overlap(guess, truth))
                rows.setdefault(f"{name}wrong", []).append((guess != truth).float().mean((1, 2)))
        return {name: 100 * float(torch.cat(values).mean()) for name, values in rows.items()}

    @torch.no_grad()
    def picture_grid(self) -> torch.Tensor:
        """Rows of held-out renders: picture, true mask, the network's, the skin-probability mask."""
        self.network.eval()
        batch = self.held_out.batch(torch.arange(min(6, self.config.run.validation_size)))
        masks = (batch.mask, self.network(batch.image)[:, 0].sigmoid(), skin_mask(batch.image).float())
        columns = [batch.image, *(mask[:, None].expand(-1, 3, -1, -1) for mask in masks)]
        return torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2).clamp(0, 1).cpu()


def segmentation_loss(logit: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over pixels plus one less the soft overlap of each picture: small faces count as large ones do.

    logit, mask: [N, H, W], the mask in [0, 1].
    """
    probability = logit.sigmoid()
    both = (probability * mask).sum((1, 2))
    either = (probability + mask - probability * mask).sum((1, 2))
    soft = 1 - (both + 1) / (either + 1)  # + 1 pixel: an empty mask that is met counts as met
    return functional.binary_cross_entropy_with_logits(logit, mask) + soft.mean()


def overlap(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Intersection over union of masks, bool [N, H, W] -> [N]; 1 where both are empty."""
    both, either = (one & other).sum((1, 2)).float(), (one | other).sum((1, 2)).float()
    return torch.where(either > 0, both / either.clamp_min(1), 1.0)
