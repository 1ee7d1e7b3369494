"""Where a crop shows visible face skin: one rule for training, preparation and reconstruction."""

from __future__ import annotations

import pathlib

import pytest
import torch

from facecore.data import FaceCrop, PhotoFolder, read_image, write_png
from facecore.data.augmentation import NO_AUGMENTATION
from facecore.data.face_finder import FaceFinder
from facecore.data.masks import MASK_THRESHOLD, face_mask, mask_decider, read_mask
from facecore.data.prepare import MARGIN, Preparation
from facecore.systems.inference import FaceInput, observe

SKIN, BLUE = torch.tensor([0.85, 0.62, 0.52]), torch.tensor([0.1, 0.2, 0.7])


def picture() -> torch.Tensor:
    """Skin in the left half, blue in the right one, 40 x 40."""
    image = BLUE[:, None, None].repeat(1, 40, 40)
    image[:, :, :20] = SKIN[:, None, None]
    return image


WHOLE = FaceCrop((20.0, 20.0), 40.0, 40, 40)
LEFT = (torch.arange(40) < 20).float().expand(40, 40)


def test_skin_colour_decides_where_nothing_is_given():
    assert mask_decider(picture(), None) == "skin"
    assert face_mask(WHOLE, picture()).equal(LEFT)


def test_a_grey_picture_counts_whole():
    grey = picture().mean(0, keepdim=True).expand(3, -1, -1)
    assert mask_decider(grey, None) == "grey"
    assert face_mask(WHOLE, grey).equal(torch.ones(40, 40))


def test_a_given_mask_comes_before_colour():
    mask = 1 - LEFT
    grey = picture().mean(0, keepdim=True).expand(3, -1, -1)
    for image in (picture(), grey):
        assert mask_decider(image, mask) == "mask"
        assert face_mask(WHOLE, image, mask).equal(mask)


def test_edges_of_a_given_mask_lie_between():
    """A pixel of the crop that is half covered by the mask, as by any resampling."""
    mask = (torch.arange(40) < 21).float().expand(40, 40)
    row = face_mask(WHOLE.resized(20, 20), picture(), mask)[10]
    assert row[:10].gt(MASK_THRESHOLD).all() and 0.4 < float(row[10]) < 0.6 and row[12:].max() == 0


@pytest.mark.parametrize("kind", ["skin", "grey", "mask"])
def test_nothing_outside_the_picture_counts(kind):
    image = SKIN[:, None, None].repeat(1, 40, 40)
    image = image.mean(0, keepdim=True).expand(3, -1, -1) if kind == "grey" else image
    crop = FaceCrop((0.0, 20.0), 40.0, 40, 40)  # its left half lies left of the picture
    mask = face_mask(crop, image, torch.ones(40, 40) if kind == "mask" else None)
    assert mask.equal(1 - LEFT)


def test_training_preparation_and_reconstruction_agree(tmp_path: pathlib.Path):
    """The same picture, cropped around the same landmarks: the masks are equal pixel by pixel."""
    source = tmp_path / "in"
    source.mkdir()
    write_png(source / "a.png", picture().repeat_interleave(4, 1).repeat_interleave(4, 2))
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 70 + 45
    (source / "a.txt").write_text("\n".join(f"{u - 0.5} {v - 0.5}" for u, v in points.tolist()))
    trained = PhotoFolder(source, height=64, width=64, augmentation=NO_AUGMENTATION)
    face = FaceInput(trained.path(0), read_image(trained.path(0)), trained.crop(0), None)
    mask = observe([face], 64).mask[0]
    assert trained.batch(torch.tensor([0])).mask[0].equal(mask) and 0.2 < float(mask.mean()) < 0.8

    def no_finder() -> FaceFinder | str:
        return ""

    prepared = Preparation(source, tmp_path / "out", finder=no_finder, size=64).run()
    (record,) = (record["faces"][0] for record in prepared.records.values())
    written = read_mask(tmp_path / "out" / record["mask"], read_image(tmp_path / "out" / record["crop"]).shape[1:])
    size = written.shape[0]
    crop = trained.crop(0).resized(size, size, MARGIN)
    assert record["mask_from"] == "skin"
    assert written.equal((face_mask(crop, face.image) > MASK_THRESHOLD).float())


def test_a_mask_of_another_size_is_refused(tmp_path: pathlib.Path):
    write_png(tmp_path / "m.png", torch.rand(3, 4, 6))
    assert read_mask(tmp_path / "m.png", (4, 6)).shape == (4, 6)
    with pytest.raises(ValueError, match=r"m\.png has 6 x 4 pixels, its picture 7 x 4; make them equal"):
        read_mask(tmp_path / "m.png", (4, 7))
