"""A folder of photographs becomes a training set, whatever happens on the way."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from toy_perception import landmarks_of, picture, write_manifest, write_toy_manifests

from facecore.data import FaceCrop, PhotoFolder, prepare, prepared_set, read_image, read_landmarks, write_png
from facecore.data.face_finder import load_face_finder, load_segmenter
from facecore.data.prepare import MARGIN, Preparation

SQUARES = {"anna/one": [(30, 40, 60)], "anna/two": [(20, 30, 80), (150, 60, 30)], "bert/three": [(60, 20, 50)]}


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    root = tmp_path / "in"
    for name, squares in SQUARES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_png(root / f"{name}.png", picture(120, 220, *squares))
    write_png(root / "bert" / "empty.png", picture(50, 60))
    (root / "bert" / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    return root


@pytest.fixture
def finder(tmp_path):
    (tmp_path / "nets").mkdir()
    paths = write_toy_manifests(tmp_path / "nets")
    return load_face_finder(paths["detector"], paths["landmarks"])


def preparation(folder, out, finder, **options) -> Preparation:
    return Preparation(folder, out, finder=lambda: finder, finder_identity="toy", size=64, **options)


def tree(root: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_what_training_reads(folder, finder, tmp_path):
    out = tmp_path / "out"
    prepared = preparation(folder, out, finder, faces="all").run()
    assert [face["crop"] for face in prepared.faces] == [
        "photos/anna/one_png.png",
        "photos/anna/two_png.png",
        "photos/anna/two_png-2.png",
        "photos/bert/three_png.png",
    ]
    reasons = dict(prepared.skipped)
    assert "no face found" in reasons["bert/empty.png"] and "not a picture" in reasons["bert/broken.jpg"]
    photos = PhotoFolder(out / "photos", masks=out / "masks", identities=out / "identities.csv", height=64, width=64)
    assert (len(photos), photos.identity_names, photos.report.skipped) == (4, ["anna", "bert"], [])
    assert photos.identity.tolist() == [0, 0, 0, 1]
    batch = photos.batch(torch.arange(4))
    # The same samples as from the pictures themselves, with the points that were found in them.
    assert [photos.path(i).stem for i in range(4)] == ["one_png", "two_png-2", "two_png", "three_png"]
    for i, (name, square) in enumerate((("anna/one", 0), ("anna/two", 1), ("anna/two", 0), ("bert/three", 0))):
        image = read_image(folder / f"{name}.png")
        found = next(f.landmarks for f in finder.find(image) if abs(f.size - SQUARES[name][square][2]) < 8)
        crop = FaceCrop.from_landmarks(found, 64, 64)
        torch.testing.assert_close(batch.landmarks[i].double(), crop.to_crop(found.points), atol=0.01, rtol=0)
        difference = (batch.image[i] - crop.crop(image)).abs()
        assert float(difference.mean()) < 0.02  # resampled twice, and 8 bits


def test_crops_hold_what_augmentation_reaches_for_and_are_not_enlarged(folder, finder, tmp_path):
    preparation(folder, tmp_path / "out", finder).run()
    for name, square in (("anna/one", SQUARES["anna/one"][0]), ("bert/three", SQUARES["bert/three"][0])):
        image = read_image(tmp_path / f"out/photos/{name}_png.png")
        (points,) = read_landmarks(tmp_path / f"out/photos/{name}_png.pts")
        assert image.shape[1] == image.shape[2] <= round(64 * MARGIN)
        size = float((points.points.amax(0) - points.points.amin(0)).mean())
        assert image.shape[1] / size == pytest.approx(1.5 * MARGIN, rel=0.02)
        assert size <= square[2] * 1.1


def test_masks(folder, finder, tmp_path):
    """By the skin's colour, by a network, and the whole picture where it is grey; black beyond the picture."""
    grey = read_image(folder / "anna/one.png").mean(0)
    points = "\n".join(f"{u} {v}" for u, v in landmarks_of((0, 40, 60)).tolist())
    write_png(folder / "grey.png", grey)
    (folder / "grey.txt").write_text(points)
    first = preparation(folder, tmp_path / "a", finder).run()
    assert {face["mask_from"] for face in first.faces} == {"skin", "grey"}
    mask = read_image(tmp_path / "a/masks/grey_png.png")[0]
    middle = mask[len(mask) // 2]  # the picture begins inside the crop
    assert float(middle[0]) == 0 and float(middle[-5:].min()) == 1
    manifest = write_manifest(
        tmp_path / "s.json", "segmentation", "callable", "toy_perception:segment", crop_factor=1.5
    )
    preparation(folder, tmp_path / "b", finder, segmenter=load_segmenter(manifest)).run()
    crop, mask = (read_image(tmp_path / f"b/{part}/anna/one_png.png") for part in ("photos", "masks"))
    red = (crop[0] > 0.6) & (crop[1] < 0.25)
    assert float((red.float() - mask[0]).abs().mean()) < 0.03


def test_identities(folder, finder, tmp_path):
    (tmp_path / "who.txt").write_text("one.png 17\nthree.png 4\n")
    preparation(folder, tmp_path / "a", finder, identities=tmp_path / "who.txt").run()
    table = (tmp_path / "a/identities.csv").read_text().splitlines()
    assert table == ["image,identity", "anna/one_png.png,17", "bert/three_png.png,4"]
    preparation(folder, tmp_path / "b", finder, identities="none").run()
    assert not (tmp_path / "b/identities.csv").exists()


def test_given_landmarks_come_first_unless_they_are_not_wanted(folder, finder, tmp_path):
    given = landmarks_of((33, 44, 50))
    (folder / "anna/one.txt").write_text("\n".join(f"{u - 0.5} {v - 0.5}" for u, v in given.tolist()))
    preparation(folder, tmp_path / "a", finder).run()
    preparation(folder, tmp_path / "b", finder, redetect=True).run()
    for name, square, limit in (("a", (33, 44, 50), 0.01), ("b", (30, 40, 60), 6.0)):
        face = json.loads((tmp_path / name / "records/anna/one.png.json").read_text())["faces"][0]
        matrix = torch.tensor(face["picture_to_crop"], dtype=torch.float64)
        (points,) = read_landmarks(tmp_path / name / face["points"])
        back = (points.points - matrix[:, 2]) / matrix[0, 0]
        torch.testing.assert_close(back, landmarks_of(square), atol=limit, rtol=0)
        assert (face["score"] is None) == (name == "a")


def test_largest_face_and_small_faces(folder, finder, tmp_path):
    largest = preparation(folder, tmp_path / "a", finder).run()
    assert len(largest.faces) == 3 and largest.records["anna/two.png"]["found"] == 2
    big = preparation(folder, tmp_path / "b", finder, faces="all", min_face=45.0).run()
    assert len(big.faces) == 3 and "smaller than 45" in dict(big.skipped)["anna/two.png"]


class Stop(Exception):
    pass


def test_a_run_stopped_at_any_write_goes_on_to_the_same_result(folder, finder, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    preparation(folder, whole, finder, faces="all").run()
    wanted = tree(whole)
    plain, count = prepare.write_atomically, 0

    def stop_at(limit):
        def write(path, content):
            nonlocal count
            count += 1
            if count == limit:
                pathlib.Path(path).with_name(f".{pathlib.Path(path).name}.{'0' * 32}").write_bytes(content[:5])
                raise Stop
            plain(path, content)

        return write

    stops = 0
    for limit in range(1, 100):
        out, count = tmp_path / f"out{limit}", 0
        with monkeypatch.context() as patch:
            for module in (prepare, prepared_set, sys.modules["facecore.data.images"]):
                patch.setattr(module, "write_atomically", stop_at(limit))
            try:
                preparation(folder, out, finder, faces="all").run()
            except Stop:
                stops += 1
            else:
                break
        assert preparation(folder, out, finder, faces="all").run().records.keys() == {
            *(f"{name}.png" for name in SQUARES), "bert/empty.png", "bert/broken.jpg",
        }  # fmt: skip
        assert tree(out) == wanted, f"stopped at write {limit}"
    assert stops == 1 + 3 * 4 + 5 + 2  # settings, three files a face, a record a picture, the two tables


def test_killed_by_the_system(folder, finder, tmp_path):
    """The same with a real kill -9 in the middle of a write."""
    script = f"""
import os, pathlib, signal, sys
sys.path[:0] = {[str(pathlib.Path(__file__).parent), str(pathlib.Path(prepare.__file__).parents[2])]!r}
import test_prepare
from facecore.data.face_finder import load_face_finder
replace, count = os.replace, 0
def kill(source, target):
    global count
    count += 1
    if count == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = kill
nets = pathlib.Path({str(tmp_path / "nets")!r})
finder = load_face_finder(nets / "detector.json", nets / "landmarks.json")
test_prepare.preparation(pathlib.Path({str(folder)!r}), pathlib.Path({str(tmp_path / "killed")!r}), finder).run()
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=os.environ)
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert any(path.name.startswith(".") for path in (tmp_path / "killed").rglob("*"))  # what it was writing
    resumed = preparation(folder, tmp_path / "killed", finder).run()
    assert resumed.reused >= 1
    preparation(folder, tmp_path / "whole", finder).run()
    assert tree(tmp_path / "killed") == tree(tmp_path / "whole")


def test_nothing_is_done_twice(folder, finder, tmp_path):
    out = tmp_path / "out"
    preparation(folder, out, finder).run()
    before = {path: path.stat().st_mtime_ns for path in (out / "photos").rglob("*.png")}
    again = preparation(folder, out, finder).run()
    assert again.reused == 5 and {path: path.stat().st_mtime_ns for path in before} == before


def test_changes_are_followed(folder, finder, tmp_path):
    """A changed picture, one that is gone, a new one, a damaged record, a lost crop: as if made from nothing."""
    out = tmp_path / "out"
    preparation(folder, out, finder, faces="all").run()
    write_png(folder / "anna/two.png", picture(120, 220, (20, 30, 80)))  # one face less
    (folder / "anna/one.png").unlink()
    write_png(folder / "bert/new.png", picture(100, 100, (20, 20, 50)))
    points = landmarks_of((25, 25, 40))  # given for a picture that had none
    (folder / "bert/empty.txt").write_text("\n".join(f"{u} {v}" for u, v in points.tolist()))
    (out / "records/bert/three.png.json").write_text("{")
    (out / "masks/bert/three_png.png").unlink()
    preparation(folder, out, finder, faces="all").run()
    preparation(folder, tmp_path / "fresh", finder, faces="all").run()
    assert tree(out) == tree(tmp_path / "fresh")


def test_a_record_cannot_remove_other_files(folder, finder, tmp_path):
    out = tmp_path / "out"
    preparation(folder, out, finder).run()
    precious = tmp_path / "precious.png"
    precious.write_bytes(b"mine")
    record = out / "records/anna/one.png.json"
    content = json.loads(record.read_text())
    content["faces"][0]["crop"], content["sha256"] = "../precious.png", "0" * 64
    record.write_text(json.dumps(content))
    preparation(folder, out, finder).run()
    assert precious.read_bytes() == b"mine"


def test_a_missing_finder_is_not_held_against_the_picture(folder, finder, tmp_path):
    out = tmp_path / "out"
    without = Preparation(folder, out, finder=lambda: "or install it", finder_identity="toy", size=64).run()
    assert without.faces == [] and "or install it" in dict(without.skipped)["anna/one.png"]
    assert len(preparation(folder, out, finder).run().faces) == 3


def test_bad_arguments(folder, finder, tmp_path):
    out = tmp_path / "out"
    preparation(folder, out, finder).run()
    with pytest.raises(ValueError, match="was prepared with another faces; choose a new folder"):
        preparation(folder, out, finder, faces="all").run()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files; choose a new or an empty folder"):
        preparation(folder, tmp_path / "full", finder).run()
    (tmp_path / "nothing").mkdir()
    for bad, message in (
        ({"folder": tmp_path / "nothing"}, "holds no pictures"),
        ({"folder": tmp_path / "nowhere"}, "is not a folder"),
        ({"size": 8}, r"size must be in \[64, 4096\]"),
        ({"min_face": float("nan")}, "min_face must be at least 24"),
    ):
        options = {"folder": folder, "out": out, "finder": lambda: finder, **bad}
        with pytest.raises(ValueError, match=message):
            Preparation(**options)


def test_pictures_in_every_form(folder, finder, tmp_path):
    """The same face, stored in every way that a picture can be: found in the same place, or refused with a reason."""
    shutil.rmtree(folder)
    folder.mkdir()
    pixels = (picture(120, 160, (40, 30, 60)).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    plain = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer turns it clockwise
    Image.fromarray(np.rot90(pixels).copy()).save(folder / "turned.png", exif=exif)
    Image.fromarray(np.dstack((pixels, np.full((120, 160), 255, np.uint8)))).save(folder / "alpha.png")
    plain.convert("CMYK").save(folder / "inks.tif")
    plain.quantize(200).save(folder / "palette.png")
    plain.save(folder / "moving.png", save_all=True, append_images=[Image.new("RGB", plain.size)])
    plain.resize((1600, 1200), Image.Resampling.NEAREST).save(folder / "large.jpg")
    Image.new("RGB", (3, 2)).save(folder / "tiny.png")
    Image.fromarray(np.full((20, 30), 40000, np.uint16)).save(folder / "deep.png")
    content = (folder / "large.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    prepared = preparation(folder, tmp_path / "out", finder).run()
    reasons = dict(prepared.skipped)
    assert reasons.keys() == {"tiny.png", "deep.png", "truncated.jpg"}
    assert reasons["tiny.png"] == reasons["deep.png"] == "no face found" and "truncated" in reasons["truncated.jpg"]
    for name, record in prepared.records.items():
        for face in record["faces"]:
            matrix = torch.tensor(face["picture_to_crop"], dtype=torch.float64)
            (points,) = read_landmarks(tmp_path / "out" / face["points"])
            back = (points.points - matrix[:, 2]) / matrix[0, 0] / (10 if name == "large.jpg" else 1)
            torch.testing.assert_close(back, landmarks_of((40, 30, 60)), atol=5.0, rtol=0)  # pixels of a 64 x 64 look


def test_names_that_differ_in_the_extension_only(folder, finder, tmp_path):
    Image.fromarray((picture(80, 80, (20, 20, 40)).permute(1, 2, 0).numpy() * 255).astype(np.uint8)).save(
        folder / "anna/one.bmp"
    )
    prepared = preparation(folder, tmp_path / "out", finder).run()
    crops = [face["crop"] for face in prepared.faces]
    assert len(set(crops)) == len(crops) == 4 and "photos/anna/one_bmp.png" in crops
