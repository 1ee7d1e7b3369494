"""Synthetic faces of known coefficients, as the features that a recognition network has of them (METHODS 6)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from tqdm import tqdm

from facecore.data import five_points, sample_generator
from facecore.data.studio_views import StudioViews
from facecore.systems.unsupervised_regression import RegressionCodes, UnsupervisedRegression
from facecore.training import distributed

CHUNK = 32  # faces that are drawn at once for the pool


class SyntheticFeatures(NamedTuple):
    """features: [B, F], no gradient; codes: what they are of."""

    features: torch.Tensor
    codes: RegressionCodes


class SyntheticFaces:
    """Batches of random faces. views: of a seed of their own.

    pool: 0 = each iteration has faces of its own; else so many are drawn, by every process, before they are first
    needed, and an iteration takes some of them at random. A run that is resumed draws the same pool again, to the last
    bit: its parts are always the same.
    """

    def __init__(self, system: UnsupervisedRegression, views: StudioViews, batch: int, pool: int = 0) -> None:
        self.system, self.views, self.batch, self.pool = system, views, batch, pool
        self._share = distributed.own_share()
        self._share.rows(batch)  # raises where the processes cannot share the batch
        self._drawn: SyntheticFeatures | None = None

    def at(self, iteration: int) -> SyntheticFeatures:
        """This process's share of the batch of an iteration."""
        rows = self._share.rows(self.batch)
        if not self.pool:
            return self._draw(torch.arange(iteration * self.batch, (iteration + 1) * self.batch)[rows])
        if self._drawn is None:
            self._drawn = self._draw_pool()
        generator = sample_generator(self.views.seed, "pool", iteration)
        index = torch.randint(self.pool, (self.batch,), generator=generator)[rows].to(self._drawn.features.device)
        codes = self._drawn.codes
        return SyntheticFeatures(self._drawn.features[index], RegressionCodes(codes.shape[index], codes.texture[index]))

    @torch.no_grad()
    def _draw(self, index: torch.Tensor) -> SyntheticFeatures:
        faces, prior = self.views.faces(index), self.system.morphable.prior
        features = self.system.features(faces.image, five_points(faces.landmarks)).pooled
        codes = RegressionCodes(prior.whiten("identity", faces.identity), prior.whiten("albedo", faces.albedo))
        return SyntheticFeatures(features, codes)

    def _draw_pool(self) -> SyntheticFeatures:
        """In chunks of one size, so that the same faces always come together: sums in another order differ."""
        starts = tqdm(range(0, self.pool, CHUNK), desc="synthetic faces", leave=False)
        parts = [self._draw(torch.arange(start, min(start + CHUNK, self.pool))) for start in starts]
        codes = [torch.cat(part) for part in zip(*(part.codes for part in parts))]
        return SyntheticFeatures(torch.cat([part.features for part in parts]), RegressionCodes(*codes))
