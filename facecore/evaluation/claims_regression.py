"""Measurements for claims 15 and 16 of METHODS 8.3: moments, errors and steadiness of predicted coefficients.

Coefficients are whitened, so that 1 is a standard deviation of the morphable model's prior.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from facecore.data.studio_views import StudioViews
from facecore.losses import batch_distribution_loss
from facecore.losses.batch_distribution import expected_batch_distribution_loss

# Pictures [N, 3, H, W] and their 68 landmarks [N, 68, 2] to coefficients [N, K].
Encode = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
COVER = 0.5  # grey of an occluder


def output_moments(codes: torch.Tensor) -> dict[str, float]:
    """Claim 15, first part: how far the distribution of coefficients [N, K] is from the prior's.

    mean_square: of the coefficients' means over the faces, 0 for the prior (1/N of a sample); variance: mean of their
    biased variances, 1; distribution: `batch_distribution_loss`; excess: what it is above what a sample of the prior
    gives on average.
    Raises ValueError for no face.
    """
    distribution = float(batch_distribution_loss(codes))
    return {
        "mean_square": float(codes.mean(0).square().mean()),
        "variance": float(codes.var(0, correction=0).mean()),
        "distribution": distribution,
        "excess": distribution - expected_batch_distribution_loss(codes.shape[1], len(codes)),
    }


def parameter_errors(codes: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Claim 15, second part: RMS error of coefficients [N, K], and how much lower it is than that of the mean face,
    whose coefficients are 0, in percent."""
    error, of_mean = ((part).square().mean().sqrt() for part in (codes - truth, truth))
    return {"rms": float(error), "rms_gain_percent": float(100 * (1 - error / of_mean.clamp_min(1e-12)))}


def output_variation(codes: torch.Tensor) -> dict[str, float]:
    """Claim 15, third part: coefficients [P, M, K] of P faces in M views each, which should not depend on the view.

    within: mean variance over the views of a face (unbiased); between: variance over the faces of their means; share:
    within / (within + between), 0 = only the face counts, 1 = only the view. Raises ValueError for fewer than two of
    either.
    """
    if codes.ndim != 3 or min(codes.shape[:2]) < 2:
        raise ValueError(f"codes must be [P, M, K] of at least 2 faces in 2 views each, got {list(codes.shape)}")
    within, between = float(codes.var(1).mean()), float(codes.mean(1).var(0).mean())
    return {"within": within, "between": between, "share": within / max(within + between, 1e-12)}


@torch.no_grad()
def codes_in_views(encode: Encode, views: StudioViews, faces: int, pictures: int) -> torch.Tensor:
    """Coefficients [faces, pictures, K] of random faces of the model, each in several random views: pose and light."""
    rows = []
    for number in range(faces):
        vertices, albedo = _face(views, number)
        index = number * pictures + torch.arange(pictures)
        seen = views.render(vertices.expand(pictures, -1, -1), albedo.expand(pictures, -1, -1), views.draw(index))
        rows.append(encode(seen.image, seen.landmarks))
    return torch.stack(rows)


def code_change(codes: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    """How far coefficients [N, K] of N different faces lie from those of a reference, row by row.

    change: mean over the faces of the RMS difference; of_persons: the same over that between each face of the reference
    and the next one: 1 = as if it were somebody else. Raises ValueError for fewer than two faces.
    """
    if codes.shape != reference.shape or codes.ndim != 2 or len(codes) < 2:
        got = f"{list(codes.shape)} and {list(reference.shape)}"
        raise ValueError(f"codes and reference must both be [N, K] of at least 2 faces, got {got}")
    change, other = (
        float(difference.square().mean(1).sqrt().mean())
        for difference in (codes - reference, reference.roll(1, 0) - reference)
    )
    return {"change": change, "of_persons": change / max(other, 1e-12)}


@torch.no_grad()
def drift_by_blur(
    encode: Encode, images: torch.Tensor, landmarks: torch.Tensor, sigmas: Sequence[float]
) -> list[dict[str, Any]]:
    """Claim 16: `code_change` of pictures by the standard deviation of a blur, in pixels; one row for each."""
    clean = encode(images, landmarks)
    return [{"blur": s} | code_change(encode(blurred(images, s), landmarks), clean) for s in sigmas]


@torch.no_grad()
def drift_by_occlusion(
    encode: Encode, images: torch.Tensor, landmarks: torch.Tensor, shares: Sequence[float]
) -> list[dict[str, Any]]:
    """Claim 16: `code_change` by how much of the face is covered from below; one row for each share."""
    clean = encode(images, landmarks)
    return [{"occlusion": s} | code_change(encode(covered(images, landmarks, s), landmarks), clean) for s in shares]


@torch.no_grad()
def drift_by_yaw(encode: Encode, views: StudioViews, faces: int, yaws: Sequence[float]) -> list[dict[str, Any]]:
    """Claim 16: `code_change` of random faces under the fixed light by their yaw in degrees, from yaw 0."""
    shapes, albedos = zip(*(_face(views, number) for number in range(faces)))
    vertices, albedo = torch.cat(shapes), torch.cat(albedos)

    def turned(yaw: float) -> torch.Tensor:
        angles = vertices.new_tensor([[0.0, math.radians(yaw), 0.0]]).expand(faces, 3)
        return encode(*views.render(vertices, albedo, views.fixed(angles)))

    ahead = turned(0.0)
    return [{"yaw": yaw} | code_change(turned(yaw), ahead) for yaw in yaws]


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Pictures [N, 3, H, W] under a Gaussian of a standard deviation in pixels, cut at three of them; edge pixels go on
    beyond the border. Raises ValueError for a negative one."""
    if not sigma >= 0:
        raise ValueError(f"sigma must be at least 0 pixels, got {sigma}")
    if sigma == 0:
        return images
    reach = max(1, math.ceil(3 * sigma))
    place = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (place / sigma).square())
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    wide = functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    return functional.conv2d(functional.conv2d(wide, kernel, groups=3), kernel.mT, groups=3)


def covered(images: torch.Tensor, landmarks: torch.Tensor, share: float) -> torch.Tensor:
    """Pictures [N, 3, H, W] with the lowest `share` of the box of each one's landmarks [N, 68, 2] painted grey.

    Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1] of the face, got {share}")
    low, high = landmarks.amin(1), landmarks.amax(1)
    top = high[:, 1] - share * (high[:, 1] - low[:, 1])
    rows, columns = (torch.arange(n, device=images.device) + 0.5 for n in images.shape[2:])
    inside_v = (rows > top[:, None]) & (rows <= high[:, 1:])
    inside_u = (columns >= low[:, :1]) & (columns <= high[:, :1])
    return torch.where(inside_v[:, None, :, None] & inside_u[:, None, None], COVER, images)


def _face(views: StudioViews, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Vertices and albedo [1, V, 3] of a random face without expression."""
    identity, albedo = views.coefficients(torch.tensor([number]))
    return views.model.shape(identity), views.model.albedo(albedo, clamp=True)
