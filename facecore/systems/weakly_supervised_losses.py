"""The terms of system 2's objective (METHODS 4), by name."""

from __future__ import annotations

import torch

from facecore import losses
from facecore.data import LabelledBatch, PhotoBatch, five_points
from facecore.perception import IdentityNetwork, alignment
from facecore.render import Rendering, pixel_to_ndc
from facecore.systems.coefficient_metric import CoefficientMetric
from facecore.systems.shared_terms import Terms, light_term
from facecore.systems.weakly_supervised import FOCAL_SIZE, WeakCodes, WeakEstimate, WeaklySupervised
from facecore.systems.weakly_supervised_config import WeakWeights

EXPRESSION_SHARE, ALBEDO_SHARE = 0.8, 1.7e-3  # inside L_coef
NOSE_AND_MOUTH = (28, 29, 30, *range(60, 68))  # "inner mouth and nose" of the paper, its code's points
NOSE_AND_MOUTH_WEIGHT = 20.0


def picture_terms(
    system: WeaklySupervised,
    estimate: WeakEstimate,
    rendering: Rendering,
    photos: PhotoBatch,
    weights: WeakWeights,
    recogniser: IdentityNetwork | None,
) -> Terms:
    """L_photo over what the model covers, L_lan, and L_per where there is a network for it."""
    projected = estimate.camera.project(estimate.vertices[:, system.landmarks68])
    attention = None
    if weights.attention != "none":
        attention = losses.skin_attention(photos.image) if weights.attention == "skin" else photos.mask
    terms = {
        "photometric": losses.photometric_loss(
            rendering.image,
            photos.image,
            rendering.alpha.detach(),
            norm="l2",
            attention=attention,
            reduction="pooled",
        ),
        "landmark": landmark_term(projected, photos, system.config.image_size),
    }
    if recogniser is not None:
        image = rendering.image
        if weights.perception_background == "photo":
            image = torch.where(rendering.alpha[:, None] > 0, image, photos.image)
        terms["perception"] = perception_term(recogniser, image, projected, photos)
    return terms


def landmark_term(projected: torch.Tensor, photos: PhotoBatch, size: int) -> torch.Tensor:
    """L_lan: squared distances in pixels of a picture of 224, nose ridge and inner lips 20-fold; of five points where
    only those are known. projected: [N, 68, 2] in pixels of pictures of `size`."""
    scale = FOCAL_SIZE / size
    weight = photos.landmark_weight.clone()
    weight[:, NOSE_AND_MOUTH] *= NOSE_AND_MOUTH_WEIGHT
    term = losses.landmark_loss(projected * scale, photos.landmarks * scale, weight)
    five = five_points(projected) * scale
    return term + losses.landmark_loss(five, photos.five_points * scale, photos.five_point_weight)


def perception_term(
    recogniser: IdentityNetwork, image: torch.Tensor, projected: torch.Tensor, photos: PhotoBatch
) -> torch.Tensor:
    """L_per = 1 - cos(f(I), f(I')), I' the rendered picture [N, 3, S, S] with what is behind the face, each aligned by
    its own landmarks; over the photographs of which all 68 or five are known."""
    whole = (photos.landmark_weight > 0).all(1)
    known = whole | (photos.five_point_weight > 0).all(1)
    rows = known.nonzero()[:, 0]
    if len(rows) == 0:
        return projected.sum() * 0.0
    given = photos[rows].aligning_points()
    made = five_points(projected.detach())[rows]
    with torch.no_grad():
        target = recogniser.embed(photos.image[rows], alignment(given))
    render = image[rows].clamp(0, 1)
    return losses.identity_loss(recogniser.embed(render, alignment(made)), target) * (len(rows) / len(known))


def coefficient_term(codes: WeakCodes) -> torch.Tensor:
    """L_coef of whitened coefficients."""
    expression = losses.coefficient_loss(codes.expression)
    albedo = losses.coefficient_loss(codes.albedo)
    return losses.coefficient_loss(codes.identity) + EXPRESSION_SHARE * expression + ALBEDO_SHARE * albedo


def light_color_term(codes: WeakCodes) -> torch.Tensor:
    """Variance of a coloured light's 9 x 3 numbers over the channels, mean over pictures."""
    light = codes.light.view(-1, 9, 3)
    return (light - light.mean(2, keepdim=True)).square().mean()


def labelled_terms(
    system: WeaklySupervised, metric: CoefficientMetric, codes: WeakCodes, batch: LabelledBatch
) -> Terms:
    """Beyond the paper: what labelled renders say of the codes; nothing is decoded but the landmarks."""
    size, model = system.config.image_size, system.morphable
    difference = torch.cat([codes.identity, codes.expression, codes.albedo], 1) - whitened(system, batch)
    landmarks = torch.cat([model.identity_basis, model.expression_basis])[:, system.landmarks68]
    shape = torch.cat(
        [model.prior.unwhiten("identity", codes.identity), model.prior.unwhiten("expression", codes.expression)], 1
    )
    points = model.template[system.landmarks68] + torch.einsum("nk,kpc->npc", shape, landmarks)
    predicted, target = system.camera(codes.pose).ndc(points), pixel_to_ndc(batch.landmarks, size, size)
    return {
        "labelled_code": code_error(system, metric, difference).mean(),
        "labelled_landmark": losses.landmark_loss(predicted, target)
        + losses.landmark_structure_loss(predicted, target),
        "labelled_pose": (codes.pose[:, :3] - batch.pose[:, :3]).square().sum(1).mean(),
        "labelled_light": light_term(codes.sh_coefficients, batch.sh_coefficients),
    }


def whitened(system: WeaklySupervised, batch: LabelledBatch) -> torch.Tensor:
    """What the three code heads should say of renders, [N, Ki + Ke + Ka]."""
    prior = system.morphable.prior
    parts = ("identity", "expression", "albedo")
    return torch.cat([prior.whiten(part, getattr(batch, part)) for part in parts], 1)


def code_error(system: WeaklySupervised, metric: CoefficientMetric, difference: torch.Tensor) -> torch.Tensor:
    """How wrong such codes are by what they make, [N]."""
    shape = system.identity_size + system.expression_size
    return metric.shape_error(difference[:, :shape]) + metric.albedo_error(difference[:, shape:])
