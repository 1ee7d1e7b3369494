"""Folders of photographs."""

from __future__ import annotations

import pathlib
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from facecore.data import MIRROR_68, Augmentation, FaceCrop, PhotoFolder, five_points, read_image, sample_generator
from facecore.data.identities import IdentitySampler, number, table_identities

SKIN, CLOTH = (0.85, 0.6, 0.5), (0.1, 0.2, 0.6)  # RGB on the two sides of METHODS 1.10


@pytest.fixture
def face() -> np.ndarray:
    """68 pixel indices whose box is 20..80 x 50..110, so that the crop reaches below a picture of 120 rows."""
    points = np.random.default_rng(2).uniform((20, 50), (80, 110), (68, 2))
    points[0], points[1] = (20, 50), (80, 110)
    return points


def write_picture(path: pathlib.Path, *, seed: int = 0, grey: bool = False) -> None:
    """Left half skin, right half cloth, 120 high and 100 wide, with a little noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.empty((120, 100, 3))
    pixels[:, :50], pixels[:, 50:] = SKIN, CLOTH
    pixels = pixels + np.random.default_rng(seed).uniform(-0.02, 0.02, pixels.shape)
    array = (pixels * 255).round().astype(np.uint8)
    Image.fromarray(array[:, :, 0] if grey else array).save(path)


def write_points(path: pathlib.Path, points: np.ndarray) -> None:
    path.write_text("\n".join(f"{x} {y}" for x, y in points))


@pytest.fixture
def folder(tmp_path, face) -> pathlib.Path:
    """Persons a (3 pictures), b (2), c (1); one picture of nobody known with five points; what must be skipped."""
    root = tmp_path / "photos"
    for number_, name in enumerate(("a/1", "a/2", "a/3", "b/1", "b/2", "c/1", "alone")):
        write_picture(root / f"{name}.png", seed=number_)
        write_points(root / f"{name}.txt", face if name != "alone" else face[:5])
    write_picture(root / "a" / "faceless.png")
    (root / "a" / "broken.png").write_bytes((root / "a" / "1.png").read_bytes()[:200])
    write_points(root / "a" / "broken.txt", face)
    write_picture(root / "a" / "tiny.png")
    write_points(root / "a" / "tiny.txt", face / 10)
    (root / "a" / ".hidden.png").write_text("")
    return root


def opened(folder, **options) -> PhotoFolder:
    return PhotoFolder(folder, **{"height": 48, "width": 48, **options})


def test_report_counts_and_names_what_was_skipped(folder):
    photos = opened(folder)
    report = photos.report
    assert (len(photos), report.num_faces, report.num_pictures, report.num_identities) == (7, 7, 7, 3)
    reasons = {path.name: reason for path, reason in report.skipped}
    assert set(reasons) == {"faceless.png", "broken.png", "tiny.png"} and len(report.skipped) == 3
    assert "no landmarks" in reasons["faceless.png"] and "damaged" in reasons["broken.png"]
    assert "smaller than 24 pixels" in reasons["tiny.png"]
    text = str(report)
    assert "7 faces in 7 pictures, of 3 persons" in text and "broken.png" in text


def test_without_augmentation_samples_are_the_crops(folder, face):
    photos = opened(folder)
    index = next(i for i in range(len(photos)) if photos.path(i).name == "2.png" and photos.path(i).parent.name == "a")
    batch = photos.batch(torch.tensor([index]))
    points = torch.from_numpy(face + 0.5)
    crop = FaceCrop.from_landmarks(points, 48, 48)
    assert photos.crop(index) == crop
    expected = crop.crop(read_image(photos.path(index)))
    torch.testing.assert_close(batch.image[0], expected, atol=1.01 / 255, rtol=0)  # kept as bytes
    torch.testing.assert_close(batch.landmarks[0], crop.to_crop(points).float())
    assert batch.landmark_weight.eq(1).all() and batch.five_point_weight.eq(0).all()
    # skin is u < 50; the cloth right of it and the row outside the picture below are not
    u = crop.to_image(torch.stack((torch.arange(48) + 0.5, torch.full((48,), 24.0)), 1).double())[:, 0]
    assert torch.equal(batch.mask[0, 24, (u - 50).abs() > 2], (u < 50).float()[(u - 50).abs() > 2])
    assert batch.mask[0][~crop.inside(120, 100)].eq(0).all() and not crop.inside(120, 100).all()


def test_five_points_have_their_own_weights(folder, face):
    photos = opened(folder)
    index = next(i for i in range(len(photos)) if photos.path(i).name == "alone.png")
    batch = photos.batch(torch.tensor([index]))
    assert batch.landmark_weight.eq(0).all() and batch.five_point_weight.eq(1).all() and batch.identity.item() == -1
    expected = photos.crop(index).to_crop(torch.from_numpy(face[:5] + 0.5)).float()
    torch.testing.assert_close(batch.five_points[0], expected)


def test_points_that_faces_are_aligned_by(tmp_path, folder):
    """The five of 68, else the photograph's own five, else what is given for it."""
    photos = opened(folder)
    batch = photos.batch(torch.arange(len(photos)))
    alone = batch.five_point_weight.gt(0).all(1)
    points = batch.aligning_points()
    assert torch.equal(points[alone], batch.five_points[alone]) and int(alone.sum()) == 1
    assert torch.equal(points[~alone], five_points(batch.landmarks[~alone]))
    write_picture(tmp_path / "bare" / "1.png")
    bare = opened(tmp_path / "bare", assume_cropped=True).batch(torch.tensor([0]))
    usual = torch.arange(10.0).view(5, 2)
    assert torch.equal(bare.aligning_points(usual)[0], usual)
    with pytest.raises(ValueError, match="has no landmarks"):
        bare.aligning_points()


def test_augmentation_is_keyed_by_sample(folder):
    photos = opened(folder)
    one = photos.batch(torch.tensor([0, 4, 2]), 7)
    other = opened(folder).batch(torch.tensor([2, 0]), 7)
    for name in ("image", "mask", "landmarks", "identity"):
        assert torch.equal(getattr(one, name)[[2, 0]], getattr(other, name)), name
    assert not torch.equal(one.image, photos.batch(torch.tensor([0, 4, 2]), 8).image)
    twice = photos.batch(torch.tensor([1, 1]), 7)
    assert not torch.equal(twice.landmarks[0], twice.landmarks[1])  # the second time is another draw
    assert torch.equal(photos.batch(torch.tensor([1, 1])).image[0], photos.batch(torch.tensor([1])).image[0])


def test_augmented_landmarks_follow_the_picture(folder):
    """Under mirroring alone, picture, mask and points are those of the plain sample, mirrored."""
    mirror = Augmentation(shift=0, scale=0, rotation_degrees=0, mirror=1)
    photos = opened(folder, augmentation=mirror)
    plain, flipped = photos.batch(torch.tensor([0])), photos.batch(torch.tensor([0]), 0)
    torch.testing.assert_close(flipped.image, plain.image.flip(3), atol=1e-5, rtol=0)
    assert torch.equal(flipped.mask, plain.mask.flip(2))
    expected = plain.landmarks[:, list(MIRROR_68)] * torch.tensor([-1.0, 1.0]) + torch.tensor([48.0, 0.0])
    torch.testing.assert_close(flipped.landmarks, expected)


def test_crops_beyond_the_cache_are_the_same(folder):
    kept, read_again = opened(folder), opened(folder, cache_bytes=0)
    index = torch.arange(len(kept))
    assert torch.equal(kept.batch(index, 1).image, read_again.batch(index, 1).image)
    assert torch.equal(kept.batch(index, 1).mask, read_again.batch(index, 1).mask)
    assert "7 crops do not fit" in str(read_again.report)


def test_masks_from_a_folder(folder, tmp_path):
    masks = tmp_path / "masks"
    (masks / "a").mkdir(parents=True)
    array = np.zeros((120, 100), np.uint8)
    array[:70] = 255
    Image.fromarray(array).save(masks / "a" / "1.png")
    Image.fromarray(array[:50]).save(masks / "alone.png")
    photos = opened(folder, masks=masks)
    assert {path.name for path, reason in photos.report.skipped if "make them equal" in reason} == {"alone.png"}
    assert any(note.startswith("5 pictures have no mask") for note in photos.report.notes)
    batch = photos.batch(torch.tensor([0]))
    assert photos.path(0).name == "1.png"
    v = photos.crop(0).to_image(torch.stack((torch.full((48,), 24.0), torch.arange(48) + 0.5), 1).double())[:, 1]
    far = (v - 70).abs() > 2
    assert torch.equal(batch.mask[0, far, 30], (v < 70).float()[far])  # also on cloth: the file decides


def test_assume_cropped_takes_whole_pictures(tmp_path):
    write_picture(tmp_path / "p" / "a.png")
    with pytest.raises(ValueError, match=r"no usable photograph of 1 pictures(.|\n)*no landmarks"):
        opened(tmp_path)
    photos = opened(tmp_path, assume_cropped=True)
    batch = photos.batch(torch.tensor([0]))
    assert batch.landmark_weight.sum() == 0 and batch.five_point_weight.sum() == 0
    corners = photos.crop(0).to_crop(torch.tensor([[0.0, 0.0], [100.0, 120.0]]))
    torch.testing.assert_close(corners, torch.tensor([[4.0, 0.0], [44.0, 48.0]]))  # 120 high fits, 100 wide is centred
    assert batch.mask[0, :, :4].eq(0).all() and batch.mask[0, 4:44, 6:20].eq(1).all()


def test_a_grey_picture_counts_whole(tmp_path, face):
    write_picture(tmp_path / "a.png", grey=True)
    write_points(tmp_path / "a.txt", face)
    photos = opened(tmp_path)
    assert torch.equal(photos.batch(torch.tensor([0])).mask[0].bool(), photos.crop(0).inside(120, 100))
    assert "1 grey pictures" in str(photos.report)


def test_bad_arguments(folder, tmp_path):
    with pytest.raises(ValueError, match="is not a folder"):
        opened(tmp_path / "none")
    photos = opened(folder)
    with pytest.raises(ValueError, match=r"index must be in \[0, 7\), got 0 to 7"):
        photos.batch(torch.tensor([0, 7]))
    with pytest.raises(ValueError, match="int64"):
        photos.batch(torch.tensor([0.0]))
    assert len(photos.batch(torch.zeros(0, dtype=torch.int64), 3)) == 0


class TestIdentities:
    def test_sub_folders_are_persons(self, folder):
        photos = opened(folder)
        assert photos.identity_names == ["a", "b", "c"] and photos.num_identities == 3
        assert sorted(photos.identity.tolist()) == [-1, 0, 0, 0, 1, 1, 2]
        assert opened(folder, identities="none").num_identities == 0

    @pytest.mark.parametrize(
        "text", ["image,identity\na/1.png,ann\nb/2.png,ann\nc/1.png,bob\n", "a/1.png ann\nb/2.png ann\nc/1.png bob\n"]
    )
    def test_tables(self, folder, tmp_path, text):
        (tmp_path / "who.csv").write_text(text)
        photos = opened(folder, identities=tmp_path / "who.csv")
        assert photos.identity_names == ["ann", "bob"]
        assert sorted(photos.identity.tolist()) == [-1, -1, -1, -1, 0, 0, 1]

    def test_bad_tables(self, tmp_path):
        (tmp_path / "who.csv").write_text("one two three\n")
        with pytest.raises(ValueError, match="columns image,identity"):
            table_identities([pathlib.Path("a.png")], tmp_path / "who.csv")
        (tmp_path / "who.csv").write_text("b.png ann\n")
        with pytest.raises(ValueError, match="lists none of the 1 pictures"):
            table_identities([pathlib.Path("a.png")], tmp_path / "who.csv")
        with pytest.raises(ValueError, match="is not a file"):
            table_identities([], tmp_path / "none.csv")

    def test_several_pictures_of_each_drawn_person(self):
        identity, _ = number([f"p{i // 5}" for i in range(100)])
        sampler = IdentitySampler(identity)
        for i in range(20):
            index = sampler.sample(sample_generator(0, i), 8, 2)
            persons = identity[index].view(8, 2)
            assert torch.equal(persons[:, 0], persons[:, 1]) and len(persons[:, 0].unique()) == 8
            assert len(index.unique()) == 16
        assert torch.equal(index, sampler.sample(sample_generator(0, 19), 8, 2))

    def test_every_picture_is_drawn_in_time(self):
        identity, _ = number([f"p{i // 5}" for i in range(100)])
        sampler = IdentitySampler(identity)
        drawn = torch.cat([sampler.sample(sample_generator(1, i), 8, 2) for i in range(120)])
        # each of 100 pictures is drawn with chance 0.16 per batch: missing one in 120 has chance 1e-7
        assert len(drawn.unique()) == 100

    def test_few_persons_come_again(self):
        identity, _ = number(["a", "a", "a", "b"])
        index = IdentitySampler(identity).sample(sample_generator(0), 4, 2)
        assert identity[index].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]
        assert index[2:4].tolist() == [3, 3]  # b has one picture: it is repeated

    def test_persons_with_several_pictures_come_first(self):
        identity, _ = number(["a", "b", "c", "c", "d", "d"])
        index = IdentitySampler(identity).sample(sample_generator(0), 2, 2)
        assert set(identity[index].tolist()) == {2, 3}

    def test_unknown_persons_take_their_share(self):
        identity = torch.tensor([-1] * 30 + [0] * 5 + [1] * 5)
        index = IdentitySampler(identity).sample(sample_generator(0), 8, 2)
        assert (identity[index] < 0).sum() == 12 and len(index) == 16  # 30 of 40 pictures: 6 of 8 groups
        everybody_unknown = IdentitySampler(torch.full((5,), -1)).sample(sample_generator(0), 2, 2)
        assert len(everybody_unknown.unique()) == 4
        assert len(IdentitySampler(torch.full((1,), -1)).sample(sample_generator(0), 8, 2)) == 16


def test_real_photographs(data_dir):
    photos = PhotoFolder(data_dir / "photos", identities="none", height=64, width=64)
    # 24 with five points, 2 AFLW2000, 1 300W-LP, 1 .pts, 41 faces in 8 pictures; 7 pictures have no landmarks
    assert len(photos) == 69 and photos.report.num_pictures == 36 and len(photos.report.skipped) == 7
    assert all("no landmarks" in reason for _, reason in photos.report.skipped)
    batch = photos.batch(torch.arange(69), 0)
    known = batch.landmark_weight.sum(1) > 0
    assert int(known.sum()) == 45 and int((batch.five_point_weight.sum(1) > 0).sum()) == 24
    # augmented points stay in the crop: 1.5 boxes wide, scaled by at most 1.1, turned by 10 degrees, moved by 3 pixels
    assert batch.landmarks[known].min() > -6 and batch.landmarks[known].max() < 70
    # a face fills about half of a crop; skin colour misses some under coloured light, and finds some beside faces
    assert 0.3 < batch.mask.mean() < 0.8 and (batch.mask.mean((1, 2)) > 0.15).double().mean() > 0.9


def test_persons_of_the_real_identity_folders(data_dir):
    photos = PhotoFolder(data_dir / "identities" / "dlib_johns", height=32, width=32, assume_cropped=True)
    assert photos.num_identities == 5 and len(photos) >= 50
    index = photos.sample(sample_generator(0), 10, 2)
    assert len(photos.identity[index].unique()) == 5


def test_digest_sees_what_was_found_and_not_where(folder, tmp_path):
    digest = opened(folder).digest
    assert len(digest) == 12 and opened(folder).digest == digest
    copy = tmp_path / "elsewhere"
    shutil.copytree(folder, copy)
    assert opened(copy).digest == digest
    masks = tmp_path / "masks"
    masks.mkdir()
    Image.fromarray(np.full((120, 100), 255, np.uint8)).save(masks / "alone.png")
    others = [opened(folder, identities="none"), opened(folder, masks=masks), opened(folder, assume_cropped=True)]
    (copy / "b" / "1.png").rename(copy / "b" / "9.png")
    (copy / "b" / "1.txt").rename(copy / "b" / "9.txt")
    others.append(opened(copy))
    assert len({digest, *(photos.digest for photos in others)}) == 5
