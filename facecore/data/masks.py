"""Where a crop shows visible face skin: by a given mask, by skin colour, in grey pictures everywhere (METHODS 2.3)."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Literal

import torch

from facecore.data.crop import FaceCrop
from facecore.data.images import is_grey, read_image
from facecore.losses import skin_probability

MASK_THRESHOLD = 0.5  # of skin probability (METHODS 1.10, 2.3), and of a mask's share in a pixel

Decider = Literal["mask", "grey", "skin"]


def mask_decider(image: torch.Tensor, mask: torch.Tensor | None) -> Decider:
    """What decides in a picture [3, H, W]: its mask; else skin colour, which a grey picture has not."""
    if mask is not None:
        return "mask"
    return "grey" if is_grey(image) else "skin"


def face_mask(
    crop: FaceCrop, image: torch.Tensor, mask: torch.Tensor | None = None, seen: torch.Tensor | None = None
) -> torch.Tensor:
    """How much visible face skin each pixel of a crop shows, float32 [height, width] in [0, 1].

    image: the whole picture [3, H, W] in [0, 1]; mask: [H, W] of it, or None; seen: the crop of the picture, where it
    is there already. A given mask is resampled, so that its edges lie between 0 and 1: whoever needs a decision
    compares with MASK_THRESHOLD. Nothing outside the picture counts.
    """
    inside = crop.inside(*image.shape[1:]).float()
    decider = mask_decider(image, mask)
    if decider == "grey":
        return inside
    if mask is not None:
        return crop.crop(mask[None])[0].clamp(0, 1) * inside
    seen = crop.crop(image).clamp(0, 1) if seen is None else seen
    return (skin_probability(seen[None])[0] > MASK_THRESHOLD) * inside


def read_mask(path: pathlib.Path, size: Sequence[int]) -> torch.Tensor:
    """The mask of a picture of that size (height, width), float32 [H, W] in [0, 1]. Raises ValueError, naming the file,
    for what is not a picture of that size."""
    mask = read_image(path).mean(0)
    if tuple(mask.shape) != tuple(size):
        raise ValueError(
            f"{path} has {mask.shape[1]} x {mask.shape[0]} pixels, its picture {size[1]} x {size[0]}; make them equal"
        )
    return mask
