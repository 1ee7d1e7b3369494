"""Labels of photographs from their landmarks: multi-image fitting, person by person (METHODS 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from tqdm import tqdm

from facecore.data import PhotoBatch, PictureSource
from facecore.morphable import MorphableModel
from facecore.render import pixel_to_ndc
from facecore.systems.landmark_fit import fit_landmarks

MOST = 30  # photographs of a person that are fitted together; of more, the next so many are fitted by themselves


class FittedLabels(NamedTuple):
    """Coefficients of N photographs: identity [N, Ki], expression [N, Ke]; known bool [N]: those of a known person."""

    identity: torch.Tensor
    expression: torch.Tensor
    known: torch.Tensor


def fit_photographs(photos: PictureSource[PhotoBatch], model: MorphableModel, size: int) -> FittedLabels:
    """Fits the identity of each person of a source, and the expression of each photograph.

    size: height and width of the source's crops. Of a person with more than 30 photographs each 30 are fitted by
    themselves, so that their identities differ slightly. Photographs with five landmarks, or of nobody known, have no
    labels.
    Deterministic. Raises ValueError when no photograph has any.
    """
    count = len(photos.identity)
    labels = FittedLabels(
        torch.zeros(count, model.num_identity),
        torch.zeros(count, model.num_expression),
        torch.zeros(count, dtype=torch.bool),
    )
    for person in tqdm(range(photos.num_identities), desc="fitting", unit="person", leave=False):
        for index in (photos.identity == person).nonzero()[:, 0].split(MOST):
            batch = photos.batch(index, None)
            usable = (batch.landmark_weight > 0).all(1).cpu()
            if not bool(usable.any()):
                continue
            points = pixel_to_ndc(batch.landmarks.cpu()[usable], size, size)
            fit = fit_landmarks(model, points)
            labels.identity[index[usable]] = fit.identity.cpu()
            labels.expression[index[usable]] = fit.expression.cpu()
            labels.known[index[usable]] = True
    if not bool(labels.known.any()):
        raise ValueError("no photograph has 68 landmarks and a known person: there is nothing to learn from")
    return labels
