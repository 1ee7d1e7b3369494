"""Reading and writing pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from facecore.data import images
from facecore.data.images import is_image_file, read_image, write_png


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def as_float(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)


def test_round_trip_through_png(tmp_path, colours):
    write_png(tmp_path / "a.png", as_float(colours))
    assert torch.equal(read_image(tmp_path / "a.png"), as_float(colours))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]  # no temporary file stays


def test_grey_palette_and_transparent_pictures_become_rgb(tmp_path, colours):
    Image.fromarray(colours[:, :, 0]).save(tmp_path / "grey.png")
    Image.fromarray(colours).quantize(4).save(tmp_path / "palette.png")
    alpha = np.dstack((colours, np.full((6, 9), 51, np.uint8)))
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    assert torch.equal(read_image(tmp_path / "grey.png"), as_float(colours[:, :, :1].repeat(3, axis=2)))
    assert read_image(tmp_path / "palette.png").shape == (3, 6, 9)
    torch.testing.assert_close(read_image(tmp_path / "alpha.png"), as_float(colours) * 0.2)  # over black, 51 / 255


def test_sixteen_bits_keep_their_precision(tmp_path):
    values = np.array([[0, 1, 257, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    expected = torch.from_numpy(values.astype(np.float32) / 65535).expand(3, 1, 4)
    assert torch.equal(read_image(tmp_path / "deep.png"), expected)


def test_orientation_is_applied(tmp_path, colours):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    Image.fromarray(colours).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "a.png"), as_float(np.rot90(colours, -1).copy()))


@pytest.mark.parametrize("keep", [0, 10, 60, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_damaged_files_give_one_line_errors(tmp_path, suffix, keep):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"damaged{suffix}"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="damaged") as error:
        read_image(path)
    assert "\n" not in str(error.value)


def test_what_is_not_a_picture_is_refused(tmp_path):
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.jpg is not a picture"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(ValueError, match=r"none\.jpg is not a file"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="is not a file"):
        read_image(tmp_path)


def test_huge_pictures_are_refused_before_they_are_decoded(tmp_path, colours, monkeypatch):
    path = tmp_path / "big.png"
    Image.fromarray(colours).save(path)
    with pytest.raises(ValueError, match=r"9 x 6 pixels, more than 50; scale it down"):
        read_image(path, max_pixels=50)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow's own guard, by warning and by error
    with pytest.raises(ValueError, match="scale it down"):
        read_image(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40)
    with pytest.raises(ValueError, match="scale it down"):
        read_image(path)
    assert images.MAX_PIXELS < 89_478_485  # or Pillow would warn about pictures that we take


def test_writing_refuses_what_is_not_a_picture(tmp_path):
    for bad, message in (
        (torch.rand(4, 5, 5), r"shape \[3, H, W\]"),
        (torch.zeros(3, 5, 5, dtype=torch.uint8), "floating point"),
        (torch.full((3, 2, 2), float("nan")), "finite"),
    ):
        with pytest.raises(ValueError, match=message):
            write_png(tmp_path / "a.png", bad)
    assert not list(tmp_path.iterdir())


def test_values_are_clamped_and_rounded(tmp_path):
    write_png(tmp_path / "a.png", torch.tensor([[-1.0, 0.4999 / 255, 0.5001 / 255, 2.0]]))
    assert (read_image(tmp_path / "a.png")[0, 0] * 255).round().tolist() == [0, 0, 1, 255]


def test_names_of_pictures():
    assert is_image_file("a/B.JPG") and is_image_file("x.pgm")
    assert not is_image_file("a/.b.jpg") and not is_image_file("b.txt") and not is_image_file("jpg")


def test_every_real_picture_is_read(data_dir):
    paths = sorted(path for path in (data_dir / "photos").rglob("*") if is_image_file(path))
    assert len(paths) == 43
    for path in paths:
        image = read_image(path)
        assert image.shape[0] == 3 and image.dtype == torch.float32
        assert 0 <= image.min() and image.max() <= 1 and image.std() > 0.05
