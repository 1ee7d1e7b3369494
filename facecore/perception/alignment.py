"""Aligned faces: the similarity that brings five points to where recognition networks expect them (METHODS 1.10)."""

from __future__ import annotations

import functools

import torch

from facecore.render.affine import warp

ALIGNED_SIZE = 112
# Left and right eye (in the picture), nose tip, left and right mouth corner in an aligned face of 112 x 112 pixels
# (METHODS 1.10: the positions for 96 x 112, x moved by 8).
ALIGNED_POINTS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


def five_points(points68: torch.Tensor) -> torch.Tensor:
    """The five points of 68: [..., 68, 2] -> [..., 5, 2], any floating dtype; [..., 68, 3] as well.

    In order: image-left eye (mean of its corners 36, 39), image-right eye (mean of 42, 45), nose tip (30), image-left
    and image-right mouth corner (48, 54); image-left as in an upright picture, the subject's right. Differentiable,
    deterministic. Raises ValueError for another shape.
    """
    if points68.ndim < 2 or points68.shape[-2] != 68:
        raise ValueError(f"points68 must have shape [..., 68, 2], got {list(points68.shape)}")
    left = (points68[..., 36, :] + points68[..., 39, :]) / 2
    right = (points68[..., 42, :] + points68[..., 45, :]) / 2
    return torch.stack((left, right, points68[..., 30, :], points68[..., 48, :], points68[..., 54, :]), dim=-2)


def alignment(five_points: torch.Tensor) -> torch.Tensor:
    """The similarity [N, 2, 3] that brings five points [N, 5, 2] of pictures closest to those of an aligned face.

    Continuous pixels to continuous pixels; least squares over scale, turn and shift, without mirroring. float32 or
    float64; differentiable. Raises ValueError for another shape and, on the CPU, for points that fall together (on a
    GPU the host would have to wait for the answer: there the map is not finite).
    """
    if five_points.ndim != 3 or five_points.shape[1:] != (5, 2):
        raise ValueError(f"five_points must have shape [N, 5, 2], got {list(five_points.shape)}")
    goal = _aligned_points(five_points.device, five_points.dtype)
    goal_mean, mean = goal.mean(0), five_points.mean(1, keepdim=True)
    source, goal = five_points - mean, goal - goal_mean
    size = source.square().sum((1, 2))
    if not size.is_cuda and (bool((size <= 0).any()) or not bool(torch.isfinite(size).all())):
        raise ValueError("five_points must be finite and not all at one place")
    # as complex numbers, goal = factor * source; factor = sum(conj(source) goal) / sum |source|^2
    real = (source * goal).sum((1, 2)) / size
    imaginary = (source[..., 0] * goal[:, 1] - source[..., 1] * goal[:, 0]).sum(1) / size
    linear = torch.stack((torch.stack((real, -imaginary), 1), torch.stack((imaginary, real), 1)), 1)
    return torch.cat((linear, (goal_mean - mean @ linear.transpose(1, 2)).transpose(1, 2)), 2)


def align_faces(
    images: torch.Tensor, align: torch.Tensor, height: int = ALIGNED_SIZE, width: int = ALIGNED_SIZE
) -> torch.Tensor:
    """Pictures [N, 3, H, W] as aligned faces [N, 3, height, width] by maps [N, 2, 3] (`alignment`), black outside.

    The aligned face is scaled to the height, and cut off or widened at both sides to the width: 112 x 96 is the middle
    of 112 x 112 (METHODS 1.10). Bilinear; pictures much finer than the result should be
    made coarser before (`FaceCrop.crop`). Differentiable in `images`; `align` is taken as a constant.
    """
    if images.ndim != 4 or align.shape != (len(images), 2, 3):
        got = f"{list(images.shape)} and {list(align.shape)}"
        raise ValueError(f"images and align must have shapes [N, 3, H, W] and [N, 2, 3], got {got}")
    align = align.detach()
    scaled = align * (height / ALIGNED_SIZE)
    scaled[:, 0, 2] += (width - height) / 2
    return warp(images, scaled, height, width, padding_mode="zeros")


def align_points(points: torch.Tensor) -> torch.Tensor:
    """Points [N, P, 2] of pictures, of which the first 68 are the landmarks, in pixels of the aligned faces.

    Differentiable. Raises ValueError for fewer points, and as `alignment` does.
    """
    align = alignment(five_points(points[:, :68]))
    return points @ align[:, :, :2].transpose(1, 2) + align[:, None, :, 2]


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept for later calls, so it must not become an inference tensor
def _aligned_points(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(ALIGNED_POINTS, device=device, dtype=dtype)
