"""Reading and writing pictures."""

from __future__ import annotations

import struct
import zlib

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


def test_cmyk(tmp_path):
    """Inks, as JPEG and TIFF hold them (Adobe's JPEGs inverted, which Pillow undoes): the colours of the picture."""
    solid = np.zeros((16, 16, 3), np.uint8)
    solid[:, :8], solid[:, 8:] = (200, 30, 60), (20, 90, 220)
    for name in ("a.jpg", "a.tif"):
        Image.fromarray(solid).convert("CMYK").save(tmp_path / name)
        with Image.open(tmp_path / name) as written:
            assert written.mode == "CMYK"
        # Pillow's conversion of inks is not that of a printer; JPEG at its usual quality
        assert float((read_image(tmp_path / name) - as_float(solid)).abs().mean()) < 0.03


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".gif"])
def test_of_an_animation_the_first_frame(tmp_path, colours, suffix):
    frames = [Image.fromarray(np.full((6, 9, 3), value, np.uint8)) for value in (40, 200, 90)]
    options = {} if suffix == ".tif" else {"duration": 100}
    if suffix == ".webp":
        options["lossless"] = True
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], **options)
    with Image.open(tmp_path / f"a{suffix}") as written:
        assert written.n_frames == 3
    torch.testing.assert_close(read_image(tmp_path / f"a{suffix}"), torch.full((3, 6, 9), 40 / 255))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation(tmp_path, colours, orientation):
    """What a camera held askew writes: a viewer shows the same picture for each of the eight."""
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud}
    undo |= {5: lambda a: a.transpose(1, 0, 2), 6: np.rot90, 8: lambda a: np.rot90(a, -1)}
    undo[7] = lambda a: np.rot90(a, 2).transpose(1, 0, 2)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation](colours))).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "a.png"), as_float(colours))


def test_alpha_in_every_form(tmp_path, colours):
    """Over black; with grey, a palette, and a colour that stands for nothing."""
    grey = np.dstack((colours[:, :, 0], np.full((6, 9), 102, np.uint8)))
    Image.fromarray(grey).save(tmp_path / "la.png")
    expected = as_float(colours[:, :, :1].repeat(3, axis=2)) * 0.4
    torch.testing.assert_close(read_image(tmp_path / "la.png"), expected)
    keyed = colours.copy()
    keyed[2, 3] = (1, 2, 3)
    Image.fromarray(keyed).save(tmp_path / "key.png", transparency=(1, 2, 3))
    image = read_image(tmp_path / "key.png")
    assert image[:, 2, 3].tolist() == [0, 0, 0] and torch.equal(image[:, 0, 0], as_float(keyed)[:, 0, 0])
    palette = Image.fromarray(colours).quantize(5)
    palette.save(tmp_path / "p.png", transparency=2)
    hidden = torch.from_numpy(np.asarray(palette) == 2)
    image = read_image(tmp_path / "p.png")
    assert hidden.any() and float(image[:, hidden].max()) == 0 and float(image[:, ~hidden].max()) > 0


def test_one_pixel(tmp_path):
    for mode, value in (("RGB", (10, 20, 30)), ("L", 7), ("1", 1)):
        Image.new(mode, (1, 1), value).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").shape == (3, 1, 1)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    """A PNG of a few kilobytes that says it has four thousand million pixels."""
    header = struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    (tmp_path / "bomb.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"bomb\.png is too large, more than 80,000,000 pixels; scale it down"):
        read_image(tmp_path / "bomb.png")
