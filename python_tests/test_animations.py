"""Animations: every frame in its order, at its pace, in each format; whole or not at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from facecore.data.animations import FORMATS, to_bytes, write_animation


def frames(count: int = 3) -> list[np.ndarray]:
    """Flat colours, which every format keeps nearly as they are."""
    return [np.full((24, 40, 3), 40 + 60 * i, np.uint8) for i in range(count)]


@pytest.mark.parametrize("suffix", FORMATS)
def test_frames_come_back_in_order(suffix, tmp_path):
    path = tmp_path / f"moving{suffix}"
    write_animation(path, frames(), 10.0)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with Image.open(path) as animation:
        assert (animation.n_frames, animation.size) == (3, (40, 24))
        for i, expected in enumerate(frames()):
            animation.seek(i)
            shown = np.asarray(animation.convert("RGB")).astype(int)
            assert animation.info["duration"] == 100
            # WebP is lossy: a flat colour moves by a few levels; PNG and GIF keep it
            assert np.abs(shown - expected).max() <= (4 if suffix == ".webp" else 0)


def test_one_frame_is_a_still_picture(tmp_path):
    write_animation(tmp_path / "still.webp", frames(1), 10.0)
    with Image.open(tmp_path / "still.webp") as picture:
        assert getattr(picture, "n_frames", 1) == 1


def test_bytes_of_a_picture():
    image = torch.zeros(3, 2, 4)
    image[0, 1, 3], image[1, 0, 0], image[2] = 1.5, 0.5, -1.0
    pixels = to_bytes(image)
    assert pixels.shape == (2, 4, 3) and pixels.dtype == np.uint8
    assert pixels[1, 3].tolist() == [255, 0, 0] and pixels[0, 0].tolist() == [0, 128, 0]
    with pytest.raises(ValueError, match=r"image must have shape \[3, H, W\], got \[1, 2, 4\]"):
        to_bytes(image[:1])


@pytest.mark.parametrize(
    ("name", "bad", "rate", "message"),
    [
        ("a.mp4", frames(), 10.0, r"is written as .webp, .gif, .png"),
        ("a.gif", [], 10.0, "at least one frame"),
        ("a.gif", [frames(1)[0], frames(1)[0][:5]], 10.0, "of one size"),
        ("a.gif", [frames(1)[0].astype(np.float32)], 10.0, "must be uint8"),
        ("a.gif", frames(), 0.0, r"must lie in \(0, 50\], got 0.0"),
        ("a.gif", frames(), 60.0, r"must lie in \(0, 50\]"),
    ],
)
def test_what_is_refused(name, bad, rate, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_animation(tmp_path / name, bad, rate)
    assert list(tmp_path.iterdir()) == []
