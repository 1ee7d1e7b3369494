"""What a training shows of itself: pictures, and below each what the system makes of it."""

from __future__ import annotations

from typing import Any

import torch

from facecore.data import LabelledRenders, PictureSource
from facecore.render import Rendering
from facecore.training.pictures import rows_of_pictures

COUNT = 4  # of either kind


def pictures_to_show(held_out: LabelledRenders, photos: PictureSource[Any] | None) -> torch.Tensor:
    """Four held-out renders, then four photographs if there are any, [N, 3, H, W]."""
    images = held_out.batch(torch.arange(COUNT)).image
    if photos is None:
        return images
    index = torch.arange(min(COUNT, len(photos.identity)))
    return torch.cat([images, photos.batch(index, None).image.to(images)])


def picture_rows(images: torch.Tensor, rendering: Rendering) -> torch.Tensor:
    """Rows of input, overlay, albedo and shading, `rows_of_pictures`. rendering: under SH light."""
    assert rendering.shading is not None
    return rows_of_pictures((images, rendering.image, rendering.albedo, rendering.shading))
