"""Pictures from and to files: read safely into RGB floats, written atomically."""

from __future__ import annotations

import io
import os
import pathlib
import struct
import warnings
import zlib
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps

from facecore.files import write_atomically

Result = TypeVar("Result")

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 80_000_000  # below Pillow's own warning; 80 million RGB floats are 1 GB
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)
_SIXTEEN_BIT_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def is_image_file(path: str | os.PathLike[str]) -> bool:
    """Whether the name ends like a picture's (`IMAGE_SUFFIXES`) and is not hidden; the content is not looked at."""
    name = pathlib.PurePath(path)
    return name.suffix.lower() in IMAGE_SUFFIXES and not name.name.startswith(".")


def is_grey(image: torch.Tensor) -> bool:
    """Whether the three channels of a picture [3, H, W] are equal."""
    return bool((image[0] == image[1]).all() and (image[1] == image[2]).all())


def read_image(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """Reads a picture as RGB, float32 [3, H, W] in [0, 1].

    Grey, palette, CMYK and 16-bit pictures are converted; transparency is composited over black; the EXIF orientation
    is applied, so H and W are those a viewer shows; of an animation, the first frame. Display values, not linearised.

    Raises ValueError, in one line that names the file, for what is missing, unreadable, truncated, not a picture, or
    larger than `max_pixels` (checked before decoding).
    """
    return _open(path, max_pixels, _decoded)


def read_image_size(path: str | os.PathLike[str], *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(height, width) of the picture as `read_image` gives it, from its header alone: 0.1 ms instead of many.

    Raises ValueError as `read_image` does for what the header shows; damage behind it stays unseen.
    """
    return _open(path, max_pixels, _upright_size)


def write_png(path: str | os.PathLike[str], image: torch.Tensor) -> None:
    """Writes a float picture [3, H, W] or [H, W] (grey) as an 8-bit PNG; values are clamped to [0, 1].

    The file appears whole or not at all. Raises ValueError for another shape or dtype, or for values not finite.
    """
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[0] != 3) or 0 in image.shape:
        raise ValueError(f"image must have shape [3, H, W] or [H, W], got {list(image.shape)}")
    if not image.is_floating_point():
        raise ValueError(f"image must be floating point in [0, 1], got {image.dtype}")
    values = image.detach().to("cpu", torch.float32)
    if not torch.isfinite(values).all():
        raise ValueError("image must be finite, got NaN or infinity")
    bytes_ = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    array = np.ascontiguousarray(bytes_.permute(1, 2, 0).numpy() if image.ndim == 3 else bytes_.numpy())
    content = io.BytesIO()
    Image.fromarray(array).save(content, format="PNG")
    write_atomically(path, content.getvalue())


class _Refused(Exception):
    """Why a picture that decodes is not taken; the message names the file."""


def _open(path: str | os.PathLike[str], max_pixels: int, read: Callable[[Image.Image, pathlib.Path], Result]) -> Result:
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file; check the name")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a damaged file is refused below, in one line
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise _Refused(
                        f"{path} has {width} x {height} pixels, more than {max_pixels:,}; scale it down first"
                    )
                return read(image, path)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"{path} is too large, more than {max_pixels:,} pixels; scale it down first") from None
    except Image.UnidentifiedImageError:
        raise ValueError(f"{path} is not a picture in a format that can be read; convert it to JPEG or PNG") from None
    except _Refused as refusal:
        raise ValueError(str(refusal)) from None
    except _DECODER_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} cannot be decoded ({reason}); the file is damaged or truncated") from None


def _upright_size(image: Image.Image, path: pathlib.Path) -> tuple[int, int]:
    width, height = image.size
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) in (5, 6, 7, 8)  # by a quarter: sides change places
    return (width, height) if turned else (height, width)


def _decoded(image: Image.Image, path: pathlib.Path) -> torch.Tensor:
    image.load()
    upright = ImageOps.exif_transpose(image)
    array = _rgb(upright, path)
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))


def _rgb(image: Image.Image, path: pathlib.Path) -> np.ndarray:
    """RGB float32 [H, W, 3] in [0, 1]."""
    if image.mode in _SIXTEEN_BIT_MODES:
        grey = np.asarray(image).astype(np.float32)
        if grey.min() < 0 or grey.max() > 65535:
            raise _Refused(f"{path} holds 32-bit values; save it with 8 or 16 bits per channel")
        return np.repeat((grey / 65535.0)[:, :, None], 3, axis=2)
    if image.mode == "F":
        grey = np.asarray(image, dtype=np.float32)
        if not (np.isfinite(grey).all() and grey.min() >= 0 and grey.max() <= 1):
            raise _Refused(f"{path} holds floats outside [0, 1]; save it with 8 or 16 bits per channel")
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        array = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255.0
        return array[:, :, :3] * array[:, :, 3:]
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0
