"""300W-LP, AFLW2000-3D and CelebA: what is found, who is who, what is skipped, what is refused; the real samples."""

from __future__ import annotations

import pathlib
import shutil
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from dataset_files import POSE, SIZE, file_fields, write_300wlp, write_celeba, write_picture
from model_files import small_truth

from facecore.data import ParameterPhotos, open_dataset, sample_generator
from facecore.data.datasets import original_photograph, recognise_dataset


def test_300wlp(tmp_path: pathlib.Path) -> None:
    root = write_300wlp(tmp_path / "300W_LP")
    assert recognise_dataset(root) == "300w-lp"
    photos = open_dataset("auto", root, **SIZE)
    assert isinstance(photos, ParameterPhotos)
    names = [photos.path(i).stem for i in range(len(photos))]
    assert names == ["AFW_1_1_0", "AFW_1_1_5", "AFW_1_2_0", "AFW_1_2_1", "IBUG_image_003_1_0"]
    assert photos.identity_names == ["AFW_1_1", "AFW_1_2", "IBUG_image_003_1"]
    assert photos.identity.tolist() == [0, 0, 1, 1, 2]
    batch = photos.batch(torch.arange(5))
    expected = file_fields(small_truth(), POSE)[0]["pt3d_68"][:2].T - 0.5  # the 3-D points of `landmarks`, 1-based
    torch.testing.assert_close(
        batch.landmarks[0].double(), photos.crop(0).to_crop(torch.tensor(expected)), atol=1e-4, rtol=0
    )
    assert photos.report.notes == ["pictures are decoded when their turn comes: a damaged one will show then"]
    with_flips = open_dataset("300w-lp", root, flipped=True, **SIZE)
    assert "1 pictures have no file in" in with_flips.report.notes[-1]
    assert len(with_flips) == 6 and with_flips.num_identities == 3
    flip = next(i for i in range(6) if "Flip" in str(with_flips.path(i)))
    assert with_flips.identity[flip] == 0  # of the photograph that it mirrors
    # a mirrored copy has no file in `landmarks`: the pt2d beside it
    beside = torch.tensor(expected + 7)
    landmarks = with_flips.batch(torch.tensor([flip])).landmarks[0].double()
    torch.testing.assert_close(landmarks, with_flips.crop(flip).to_crop(beside), atol=1e-4, rtol=0)


def test_original_photographs() -> None:
    for name, original in (("AFW_134212_1_17", "AFW_134212_1"), ("LFPW_image_train_0001_3", "LFPW_image_train_0001")):
        assert original_photograph(pathlib.Path(f"x/{name}.jpg")) == original


def test_aflw2000(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "AFLW2000"
    for i in (2, 4, 6):
        write_picture(root / f"image{i:05d}.jpg")
        scipy.io.savemat(root / f"image{i:05d}.mat", file_fields(small_truth(), POSE)[0] | {"pt2d": -np.ones((2, 21))})
    write_picture(root / "Code" / "example.jpg")
    assert recognise_dataset(root) == "aflw2000"
    photos = open_dataset("aflw2000", root, **SIZE)
    assert (
        len(photos) == 3
        and photos.num_identities == 0
        and bool((photos.batch(torch.arange(3)).landmark_weight == 1).all())
    )


def test_celeba(tmp_path: pathlib.Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    assert recognise_dataset(root) == "celeba"
    photos = open_dataset("celeba", root, **SIZE)
    assert len(photos) == 8 and photos.num_identities == 6 and not photos.report.skipped
    assert (
        photos.identity_names[photos.identity[0]] == "7"
        and photos.identity[:4].tolist().count(int(photos.identity[0])) == 3
    )
    batch = photos.batch(torch.arange(2))
    assert bool((batch.five_point_weight == 1).all()) and bool((batch.landmark_weight == 0).all())
    eyes = photos.crop(0).to_crop(torch.tensor([[69.5, 109.5], [106.5, 113.5]], dtype=torch.float64))
    torch.testing.assert_close(batch.five_points[0, :2].double(), eyes, atol=1e-4, rtol=0)
    index = photos.sample_identities(sample_generator(0), 3, 2)
    pairs = photos.identity[index].view(3, 2)
    assert bool((pairs[:, 0] == pairs[:, 1]).all()) and len(pairs[:, 0].unique()) == 3  # so many persons, two each
    sizes = {
        split: len(open_dataset("celeba", root, split=split, **SIZE)) for split in ("train", "valid", "test", "all")
    }
    assert sizes == {"train": 8, "valid": 2, "test": 2, "all": 12}


def test_celeba_with_parts_missing(tmp_path: pathlib.Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    path = root / "Anno/identity_CelebA.txt"
    whole = path.read_text()
    path.write_text("\n".join(whole.splitlines()[1:]))
    with pytest.raises(ValueError, match=r"identity_CelebA.txt is incomplete: 1 of 8 pictures are not in"):
        open_dataset("celeba", root, **SIZE)
    photos = open_dataset("celeba", root, max_skipped=0.2, **SIZE)
    assert photos.identity[0] == -1
    assert "1 of 8 pictures are not in identity_CelebA.txt: 000001.jpg" in str(photos.report)
    write_picture(root / "img_align_celeba" / "999999.jpg")
    assert "1 of 13 pictures are not in list_eval_partition.txt" in str(
        open_dataset("celeba", root, max_skipped=0.2, **SIZE).report
    )
    (root / "img_align_celeba" / "999999.jpg").unlink()
    path.write_text(whole)
    for name, message in (
        ("Anno/identity_CelebA.txt", "has no identity_CelebA.txt"),
        ("Eval/list_eval_partition.txt", "has no list_eval_partition.txt"),
        ("Anno/list_landmarks_align_celeba.txt", "has no list_landmarks_align_celeba.txt"),
    ):
        content = (root / name).read_bytes()
        (root / name).unlink()
        with pytest.raises(ValueError, match=message):
            open_dataset("celeba", root, **SIZE)
        (root / name).write_bytes(content[:-30])  # cut off within a line
        if "landmarks" in name:
            with pytest.raises(ValueError, match=r"line 14 must hold a picture and ten numbers|announces 12 pictures"):
                open_dataset("celeba", root, **SIZE)
        (root / name).write_bytes(content)
    with pytest.raises(ValueError, match="has no folder img_celeba; unpack"):
        open_dataset("celeba", root, aligned=False, **SIZE)
    path.write_text("000001.jpg 1 2\n")
    with pytest.raises(ValueError, match="line 1 must hold a name and a number"):
        open_dataset("celeba", root, **SIZE)


def test_damaged_labels_are_listed_and_too_many_refused(tmp_path: pathlib.Path) -> None:
    root = write_300wlp(tmp_path / "300W_LP")
    (root / "AFW/AFW_1_1_0.mat").unlink()
    damaged = root / "AFW/AFW_1_2_0.mat"
    damaged.write_bytes(damaged.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"2 of 5 pictures cannot be used \(40.0%\), more than 2.0%") as caught:
        open_dataset("300w-lp", root, **SIZE)
    text = str(caught.value)
    assert "AFW_1_1_0" in text and "AFW_1_2_0" in text and "not a readable MATLAB file" in text
    photos = open_dataset("300w-lp", root, max_skipped=0.4, **SIZE)
    assert len(photos) == 3 and len(photos.report.skipped) == 2 and photos.report.skipped_share == pytest.approx(0.4)
    assert {path.stem for path, _ in photos.report.skipped} == {"AFW_1_1_0", "AFW_1_2_0"}


def test_a_damaged_picture_is_an_error_when_its_turn_comes(tmp_path: pathlib.Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    path = root / "img_align_celeba/000002.jpg"
    path.write_bytes(path.read_bytes()[:-900])
    photos = open_dataset("celeba", root, **SIZE)
    assert len(photos) == 8 and "decoded when their turn comes" in str(photos.report)
    photos.batch(torch.tensor([0, 2]))
    with pytest.raises(ValueError, match=r"000002.jpg cannot be decoded"):
        photos.batch(torch.tensor([1]))
    assert len(open_dataset("celeba", root, decode=True, max_skipped=0.5, **SIZE)) == 7
    path.write_bytes(b"")  # no header either
    assert len(open_dataset("celeba", root, max_skipped=0.5, **SIZE)) == 7


def test_decoding_early_or_late_gives_the_same_batches(tmp_path: pathlib.Path) -> None:
    root = write_celeba(tmp_path / "celeba")
    early, late = (open_dataset("celeba", root, decode=decode, **SIZE) for decode in (True, False))
    index = torch.tensor([3, 0, 3])
    for one, other in zip(vars(early.batch(index, 4)).values(), vars(late.batch(index, 4)).values()):
        assert torch.equal(one, other)
    assert early.digest == late.digest


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("imagenet", {}, "unknown kind of data set 'imagenet'; known are folder, 300w-lp, aflw2000, celeba and auto"),
        ("celeba", {"split": "dev"}, "split must be all, train, valid, test, got 'dev'"),
        (
            "celeba",
            {"identities": "none"},
            r"celeba has no option identities \(it brings its own\); it takes aligned, ",
        ),
        ("celeba", {"flipped": True}, "celeba has no option flipped"),
        ("folder", {"height": None}, "folder needs height, the size of the crops"),
        ("celeba", {"max_skipped": 2.0}, r"max_skipped must be in \[0, 1\]"),
        ("300w-lp", {"landmarks": "x"}, "300w-lp has no option landmarks"),
    ],
)
def test_wrong_options_are_refused(tmp_path: pathlib.Path, kind: str, options: dict[str, Any], message: str) -> None:
    root = write_celeba(tmp_path / "celeba", 3)
    with pytest.raises(ValueError, match=message):
        open_dataset(kind, root, **(SIZE | options))


def test_empty_folders_are_refused(tmp_path: pathlib.Path) -> None:
    for kind in ("300w-lp", "aflw2000"):
        with pytest.raises(ValueError, match="has no pictures of"):
            open_dataset(kind, tmp_path, **SIZE)
    with pytest.raises(ValueError, match="is not a folder"):
        open_dataset("auto", tmp_path / "absent", **SIZE)


def test_the_real_samples(tmp_path: pathlib.Path, data_dir: pathlib.Path) -> None:
    """The sample files in the folders of their data sets: parameters, points on the picture, crops."""
    photos = open_dataset("aflw2000", data_dir / "photos/PRNet_AFLW2000", **SIZE)
    assert isinstance(photos, ParameterPhotos) and len(photos) == 2 and not photos.report.skipped
    assert recognise_dataset(data_dir / "photos/PRNet_AFLW2000") == "aflw2000"
    (tmp_path / "IBUG").mkdir()
    for suffix in (".jpg", ".mat"):
        shutil.copy(data_dir / f"photos/face3d_300W-LP/IBUG_image_008_1_0{suffix}", tmp_path / "IBUG")
    sample = open_dataset("auto", tmp_path, **SIZE)
    assert isinstance(sample, ParameterPhotos) and sample.identity_names == ["IBUG_image_008_1"]
    for dataset in (photos, sample):
        batch = dataset.batch(torch.arange(len(dataset)))
        assert bool((batch.landmark_weight == 1).all())
        assert batch.landmarks.min() > 0 and batch.landmarks.max() < 32  # the crop is 1.5 times the landmarks' box
        for i in range(len(dataset)):
            points = dataset.parameters(i).points68
            assert points is not None
            torch.testing.assert_close(dataset.crop(i).to_crop(points).float(), batch.landmarks[i], atol=1e-4, rtol=0)


def test_one_call_opens_every_kind(tmp_path: pathlib.Path) -> None:
    """Settings that are not given are None, as a configuration has them."""
    write_celeba(tmp_path / "celeba")
    for kind in ("folder", "celeba", "auto"):
        nothing = dict.fromkeys(("landmarks", "identities", "masks", "max_skipped", "decode"))
        whole = {"assume_cropped": kind == "folder"}
        assert len(open_dataset(kind, tmp_path / "celeba", **SIZE, **nothing, **whole)) == (
            12 if kind == "folder" else 8
        )
