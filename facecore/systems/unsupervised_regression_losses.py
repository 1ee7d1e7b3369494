"""The losses of system 4: L_param on synthetic faces, L_id, L_batch and L_loop on photographs (METHODS 6)."""

from __future__ import annotations

import torch
from torch import nn

from facecore.data import five_points
from facecore.data.studio_views import StudioView, StudioViews
from facecore.losses import batch_distribution_loss, identity_loss
from facecore.losses.batch_distribution import expected_batch_distribution_loss
from facecore.nn.recognition import RecognitionFeatures
from facecore.systems.unsupervised_regression import RegressionCodes, UnsupervisedRegression
from facecore.systems.unsupervised_regression_config import RegressionConfig, RegressionWeights
from facecore.training import distributed


def parameter_loss(
    codes: RegressionCodes, target: RegressionCodes, weights: RegressionWeights, *, reduction: str, batch: int
) -> torch.Tensor:
    """w_s |s - s_bar|^2 + w_t |t - t_bar|^2, the mean over faces, or their sum, for a batch of so many in all
    processes: a scalar. Differentiable in both."""
    shape, texture = ((one - other).square().sum(1).mean() for one, other in zip(codes, target))
    mean = weights.shape * shape + weights.texture * texture
    return mean if reduction == "mean" else batch * mean


class RegressionObjective(nn.Module):
    """Features to the loss. Only the decoder learns; photographs and synthetic faces come as features.

    Raises ValueError for several frontal views.
    """

    def __init__(self, config: RegressionConfig, system: UnsupervisedRegression, views: StudioViews) -> None:
        super().__init__()
        if config.stages.frontal and config.stages.views != 1:
            raise ValueError(f"stages.frontal needs stages.views 1, got {config.stages.views}")
        self.config, self.weights, self.system, self.views = config, config.weights, system, views

    def forward(
        self,
        features: torch.Tensor,
        codes: RegressionCodes,
        photographs: RecognitionFeatures | None = None,
        index: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Terms by name, and their weighted sum `total`.

        features: of synthetic faces, whose codes are known; photographs: features of photographs, in stage 2; index:
        their numbers in the training, int64 [B], from which their views are drawn.
        """
        data = self.config.data
        terms = {"parameter": self._parameter(self.system.regress(features), codes, data.labelled_batch)}
        total = terms["parameter"]
        if photographs is not None and index is not None:
            own = self._photographs(photographs, index)
            weights = {"identity": self.weights.identity, "batch": self.weights.batch, "loop": self.weights.loop}
            total = torch.stack([total, *(weights[name] * value for name, value in own.items())]).sum()
            terms |= own
            if "batch" in own:
                model = self.system.morphable
                count = model.num_identity + model.num_albedo
                floor = expected_batch_distribution_loss(count, data.photo_batch)
                terms["batch_excess"] = own["batch"].detach() - floor
        return terms | {"total": total}

    def _photographs(self, photographs: RecognitionFeatures, index: torch.Tensor) -> dict[str, torch.Tensor]:
        """The unweighted terms that have a weight."""
        weights, codes, terms = self.weights, self.system.regress(photographs.pooled), {}
        if weights.batch:
            terms["batch"] = whole_batch_distribution(codes)
        count = self.config.stages.views if weights.identity else 1  # the loopback loss needs one
        frontal = self.config.stages.frontal
        if weights.loop or (weights.identity and not frontal):
            seen = self._seen(codes, self._random_views(index, count), count)
        if weights.identity:
            shown = self._seen(codes, self.views.ahead(len(index)), 1) if frontal else seen
            terms["identity"] = identity_loss(shown.embed, photographs.embed.repeat_interleave(count, 0))
        if weights.loop:
            pooled = seen.pooled[::count]
            if self.config.stages.detach_render:
                pooled = pooled.detach()
            again = self.system.regress(pooled)
            terms["loop"] = self._parameter(again, codes, self.config.data.photo_batch)
        return terms

    def _random_views(self, index: torch.Tensor, count: int) -> StudioView:
        """`count` views of each photograph's face, face by face."""
        return self.views.draw((index.cpu()[:, None] * count + torch.arange(count)).flatten())

    def _seen(self, codes: RegressionCodes, views: StudioView, count: int) -> RecognitionFeatures:
        """Features of the faces in `count` views each."""
        vertices, albedo = (part.repeat_interleave(count, 0) for part in self.system.decode(codes))
        image, landmarks = self.views.render(vertices, albedo, views)
        return self.system.features(image, five_points(landmarks))

    def _parameter(self, codes: RegressionCodes, target: RegressionCodes, batch: int) -> torch.Tensor:
        reduction = self.config.stages.param_reduction
        return parameter_loss(codes, target, self.weights, reduction=reduction, batch=batch)


def whole_batch_distribution(codes: RegressionCodes) -> torch.Tensor:
    """L_batch of shape and texture over the batches of all processes, a scalar.

    Each process has the gradient to its own codes, times the number of processes: their mean, which training takes, is
    then the gradient of the whole.
    """
    count, rank = distributed.world_size(), distributed.rank()
    total = codes.shape.new_zeros(())
    for part in codes:
        parts = list(distributed.gathered(part).unbind())
        parts[rank if count > 1 else 0] = part
        total = total + batch_distribution_loss(torch.cat(parts))
    return total + (count - 1) * (total - total.detach())
