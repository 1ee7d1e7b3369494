"""Animated pictures to files: a sequence of frames as WebP, GIF or animated PNG, written atomically."""

from __future__ import annotations

import io
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from facecore.files import write_atomically

FORMATS = {".webp": "WEBP", ".gif": "GIF", ".png": "PNG"}
QUALITY = 85  # of WebP


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """A picture [3, H, W] in [0, 1] as uint8 [H, W, 3]: a quarter of the memory, for frames that wait to be written."""
    if image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
        raise ValueError(f"image must have shape [3, H, W], got {list(image.shape)}")
    pixels = (image.detach().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def write_animation(path: str | os.PathLike[str], frames: Sequence[np.ndarray], frames_per_second: float) -> None:
    """Writes frames, uint8 [H, W, 3] of one size, as an animation that repeats for ever; the suffix says the format.

    .webp (small), .gif (256 colours a frame) or .png (lossless, large); one frame alone makes a still picture. The file
    appears whole or not at all. Raises ValueError for another suffix, no frames, frames of different sizes or a rate
    outside (0, 50] (viewers slow down what is faster).
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: an animation is written as {', '.join(FORMATS)}")
    if not frames:
        raise ValueError(f"{path}: an animation needs at least one frame")
    for frame in frames:
        if frame.shape != frames[0].shape or frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise ValueError(
                f"{path}: frames must be uint8 [H, W, 3] of one size, got {frame.dtype} {list(frame.shape)} beside "
                f"{list(frames[0].shape)}"
            )
    if not 0 < frames_per_second <= 50:
        raise ValueError(f"{path}: frames_per_second must lie in (0, 50], got {frames_per_second}")
    kind = FORMATS[path.suffix.lower()]
    first, *others = [Image.fromarray(frame) for frame in frames]
    options = {"duration": round(1000 / frames_per_second), "loop": 0, "save_all": True, "append_images": others}
    if kind == "WEBP":
        options |= {"quality": QUALITY, "method": 4}
    content = io.BytesIO()
    first.save(content, format=kind, **options)
    write_atomically(path, content.getvalue())
