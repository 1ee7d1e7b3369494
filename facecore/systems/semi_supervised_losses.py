"""The terms of the semi-supervised system's objective (METHODS 2.2), by name."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.nn import functional

from facecore import losses
from facecore.data import LabelledBatch, PhotoBatch, ShapeBatch, five_points
from facecore.morphable import MorphableModel
from facecore.render import Rendering, pixel_to_ndc
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_codes import Codes, Estimate
from facecore.systems.semi_supervised_config import LossWeights
from facecore.systems.shared_terms import Terms, light_term


class IdentityLoss(nn.Module):
    """L_recog: softmax over the persons of the photographs plus the center loss, on c_id (METHODS 1.11, 2.2).

    The centres are moved by `center.update`, once after each step.
    """

    def __init__(self, identity_size: int, num_identities: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(identity_size, num_identities)
        self.center = losses.CenterLoss(num_identities, identity_size)

    def forward(self, identity_code: torch.Tensor, identity: torch.Tensor, center_weight: float) -> torch.Tensor:
        """identity_code [N, 128], identity int64 [N], -1 = unknown. The means are over the known ones."""
        softmax = losses.identification_loss(self.classifier(identity_code), identity)
        return softmax + center_weight * self.center(identity_code, identity)


@dataclasses.dataclass
class Truth:
    """Known shapes of the labelled half, as displacements (s - s_tmpl) / sigma_s: own, pair-swapped, neutral."""

    own: torch.Tensor
    swapped: torch.Tensor
    neutral: torch.Tensor
    swap: torch.Tensor  # int64 [N]: the partner of each sample

    @classmethod
    def of(cls, batch: ShapeBatch, model: MorphableModel, system: SemiSupervised) -> Truth:
        n, scale = len(batch.identity), system.shape_scale
        if n % 2:
            raise ValueError(f"the labelled half must be even to make pairs, got {n}")
        swap = torch.arange(n, device=batch.identity.device) ^ 1
        start = ((model.template - system.template) / scale).flatten()
        neutral = torch.addmm(start, batch.identity / scale, model.identity_basis.flatten(1))
        expression = (batch.expression / scale) @ model.expression_basis.flatten(1)  # adds to any identity
        own, swapped, neutral = (t.view(n, -1, 3) for t in (neutral + expression, neutral + expression[swap], neutral))
        return cls(own, swapped, neutral, swap)


def labelled_terms(
    system: SemiSupervised, codes: Codes, displacement: torch.Tensor, batch: ShapeBatch, truth: Truth
) -> Terms:
    """L_shp, L_pair and the terms beyond the paper, for the labelled half: that of the light if it is known.

    displacement: Estimate's, of that half. L_pair decodes (A's identity, B's expression) for both orders of each pair,
    and (A's identity, no expression).
    """
    n = len(batch.identity)
    paired = system.decode_displacement(
        codes.identity.repeat(2, 1), torch.cat([codes.expression[truth.swap], torch.zeros_like(codes.expression)])
    )
    terms = {
        "shape": losses.shape_loss(displacement, truth.own),
        "pair": losses.shape_loss(paired[:n], truth.swapped) + losses.shape_loss(paired[n:], truth.neutral),
        "labelled_pose": pose_term(codes, batch),
    }
    return terms | (
        {"labelled_light": light_term(codes.sh_coefficients, batch.sh_coefficients)}
        if isinstance(batch, LabelledBatch)
        else {}
    )


def pose_term(codes: Codes, batch: ShapeBatch) -> torch.Tensor:
    """Squared difference of the pose codes, mean over the pictures."""
    return (codes.pose - batch.pose).square().sum(1).mean()


def albedo_term(albedo: torch.Tensor, batch: LabelledBatch, model: MorphableModel) -> torch.Tensor:
    """Mean absolute albedo difference of the labelled half [N, V, 3]; beyond the paper, which has no albedo labels."""
    return functional.l1_loss(albedo, model.albedo(batch.albedo))


def landmark_term(predicted: torch.Tensor, batch: ShapeBatch | PhotoBatch, image_size: int) -> torch.Tensor:
    """L_lmk: squared distances plus pairwise structure; on five points where only those are known.

    predicted: Estimate.landmarks_ndc, [N, 68, 2].
    """
    target = pixel_to_ndc(batch.landmarks, image_size, image_size)
    if isinstance(batch, ShapeBatch):
        return losses.landmark_loss(predicted, target) + losses.landmark_structure_loss(predicted, target)
    weight = batch.landmark_weight
    term = losses.landmark_loss(predicted, target, weight) + losses.landmark_structure_loss(predicted, target, weight)
    target5 = pixel_to_ndc(batch.five_points, image_size, image_size)
    return term + losses.landmark_loss(five_points(predicted), target5, batch.five_point_weight)


def picture_terms(
    system: SemiSupervised,
    estimate: Estimate,
    rendering: Rendering,
    image: torch.Tensor,
    mask: torch.Tensor,
    weights: LossWeights,
) -> Terms:
    """L_recon inside mask and rendered coverage (weights.masked: see there), and L_symm."""
    region = rendering.alpha.detach() * mask if weights.masked else rendering.alpha.detach()
    if estimate.texture is None:
        symmetry = losses.symmetry_loss(estimate.albedo, system.mirror_map)
    else:
        symmetry = losses.texture_symmetry_loss(estimate.texture.image, system.texture_valid)
    reconstruction = losses.reconstruction_loss(
        rendering.image, image, region, gradient_weight=weights.gradient_difference
    )
    return {"reconstruction": reconstruction, "symmetry": symmetry}


def smoothness_term(system: SemiSupervised, estimate: Estimate, weights: LossWeights) -> torch.Tensor:
    """L_smth of the displacement from the template (METHODS 2.2), or conventionally of the shape."""
    displaced = weights.smoothness_of == "displacement"
    smoothed = estimate.displacement if displaced else estimate.vertices / system.shape_scale
    return losses.smoothness_loss(smoothed, system.random_walk)
