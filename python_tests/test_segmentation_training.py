"""`facecore train segmentation`: learns masks, resumes to the bit, and writes a network that reconstruction takes."""

from __future__ import annotations

import json
import pathlib
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from tiny_faces import write_portraits
from trainer_checks import assert_resumes

from facecore.cli import main
from facecore.data import PhotoFolder, write_png
from facecore.data.face_finder import load_segmenter
from facecore.morphable import load as load_model
from facecore.perception import read_manifest
from facecore.systems.segmentation_config import SegmentationConfig
from facecore.systems.segmentation_training import SegmentationTrainer, overlap, segmentation_loss
from facecore.training.config import overlay
from facecore.training.loop import FINAL, LAST

TINY = {
    "model": {"width": 4, "num_vertices": 2500, "image_size": 64},
    "stages": {"iterations": 4},
    "data": {"labelled_batch": 4, "photo_batch": 2},
    "run": {"validation_size": 6, "validate_every": 100, "checkpoint_every": 2, "log_every": 1},
}
OPTIONS = [
    *("--model.width", "4", "--model.num-vertices", "2500", "--model.image-size", "64", "--stages.iterations", "4"),
    *("--data.labelled-batch", "4", "--data.photo-batch", "2", "--run.validation-size", "6"),
    *("--run.checkpoint-every", "2"),
]


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def photos(tmp_path_factory, morphable) -> tuple[pathlib.Path, pathlib.Path]:
    """Two portraits with landmarks, and a folder of masks that no colour gives: all of a, nothing of b."""
    root = tmp_path_factory.mktemp("photos")
    write_portraits(root / "pictures", morphable, ["a", "b"], size=64)
    (root / "masks").mkdir()
    for name, value in (("a", 1.0), ("b", 0.0)):
        write_png(root / "masks" / f"{name}.png", torch.full((3, 64, 64), value))
    return root / "pictures", root / "masks"


def config(**changes) -> SegmentationConfig:
    return overlay(overlay(SegmentationConfig(), TINY), changes)


def open_folder(photos) -> PhotoFolder:
    return PhotoFolder(photos[0], masks=photos[1], height=64, width=64, seed=0)


def test_a_step_lowers_the_loss_of_its_batch(morphable):
    trainer = SegmentationTrainer(config(), morphable, None)
    images, masks = trainer.batch(0)

    def loss() -> float:
        with torch.no_grad():
            return float(segmentation_loss(trainer.network.train()(images)[:, 0], masks))

    first = loss()
    for _ in range(10):
        trainer.step(0)  # the same batch, at the rates of a first step
    assert loss() < first


def test_loss_by_hand():
    """Certain and right: nothing but rounding. Undecided: log 2, and half of the union is missed."""
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    assert float(segmentation_loss(100 * (2 * mask - 1), mask)) < 1e-6
    # p = 1/2: both = 8/2, either = 16/2 + 8 - 4; with one pixel added to each
    expected = torch.tensor(2.0).log() + 1 - (4 + 1) / (12 + 1)
    torch.testing.assert_close(segmentation_loss(torch.zeros(1, 4, 4), mask), expected)
    assert float(segmentation_loss(torch.full((1, 4, 4), -100.0), torch.zeros(1, 4, 4))) < 1e-6  # nothing there


def test_overlap_by_hand():
    one, other = torch.zeros(2, 2, 3, dtype=torch.bool), torch.zeros(2, 2, 3, dtype=torch.bool)
    one[0, 0, :] = True
    other[0, :, 0] = True
    assert overlap(one, other).tolist() == [0.25, 1.0]


def test_photographs_teach_by_their_masks(morphable, photos):
    trainer = SegmentationTrainer(config(), morphable, open_folder(photos))
    images, masks = trainer.batch(0)
    assert images.shape == (6, 3, 64, 64) and masks.shape == (6, 64, 64) and trainer.images_in(0) == 6
    share = sorted(masks[4:].mean((1, 2)).tolist())
    assert share[0] == 0 and share[1] > 0.8  # all of a picture, less what the augmentation moves out of it


def test_resumes_to_the_same_weights(morphable, photos):
    make = partial(SegmentationTrainer, config(), morphable, open_folder(photos))
    assert_resumes(make, 2, lambda trainer: trainer.network)
    with pytest.raises(ValueError, match="on other photographs"):
        SegmentationTrainer(config(), morphable, None).restore(make().checkpoint(2, resumable=True))


def test_the_held_out_overlap_rises(morphable):
    """Learned on some renders, measured on others, in evaluation mode."""
    settings = config(model={"image_size": 32}, stages={"iterations": 60, "learning_rate": 5e-3}, run={"seed": 3})
    settings = overlay(settings, {"data": {"labelled_batch": 8}, "run": {"validation_size": 20}})
    trainer = SegmentationTrainer(settings, morphable, None)
    before = trainer.validate()
    for iteration in range(60):
        trainer.step(iteration)
    after = trainer.validate()
    assert after["overlap"] > before["overlap"] + 8 and after["wrong"] < before["wrong"] - 5


def test_measures_of_the_skin_mask_stand_beside_those_of_the_network(morphable):
    trainer = SegmentationTrainer(config(), morphable, None)
    measures = trainer.validate()
    assert set(measures) == {"overlap", "wrong", "skin_overlap", "skin_wrong"}
    assert 20 < measures["skin_overlap"] < 100 and 0 < measures["skin_wrong"] < 60
    # by the definition, picture by picture
    batch = trainer.held_out.batch(torch.arange(6))
    from facecore.losses import skin_mask

    guess, truth = skin_mask(batch.image), batch.mask > 0.5
    wrong = [float((g != t).float().mean()) for g, t in zip(guess, truth)]
    assert measures["skin_wrong"] == pytest.approx(100 * sum(wrong) / 6, rel=1e-5)


def test_command(tmp_path, capsys, photos):
    out = tmp_path / "run"
    folders = ["--data.photos", str(photos[0]), "--data.masks", str(photos[1])]
    assert main.main(["train", "segmentation", *OPTIONS, *folders, "--run.out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "2 photographs with masks" in printed and "skin_overlap" in printed
    assert {"config.yaml", LAST, FINAL, "network.safetensors", "manifest.json"} <= {p.name for p in out.iterdir()}
    assert read_manifest(out / "manifest.json").trained_on == "renders and photographs"
    segmenter = load_segmenter(out / "manifest.json")
    picture = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    trainer = SegmentationTrainer(config(), load_model("procedural", num_vertices=2500), None)
    from facecore.training.checkpoint import Checkpoint

    trainer.network.load_state_dict(Checkpoint.load(out / FINAL).tensors["model"])
    with torch.no_grad():
        expected = trainer.network.eval()(picture[None])[0, 0].sigmoid()
    torch.testing.assert_close(segmenter.segment(picture), expected)
    row = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["iteration"] == 4 and 0 <= row["overlap"] <= 100


def test_reconstruct_takes_the_network(tmp_path, photos, capsys):
    """Another mask, another light: the network decides which pixels count. That it has seen no photograph is said."""
    out = tmp_path / "run"
    assert main.main(["train", "segmentation", *OPTIONS, "--stages.iterations", "1", "--run.out", str(out)]) == 0
    lights = []
    for name, options in (("with", ["--segmentation", str(out / "manifest.json")]), ("without", [])):
        capsys.readouterr()
        faces = ["reconstruct", str(photos[0] / "a.png"), "--out", str(tmp_path / name), "--detector", "none"]
        assert main.main([*faces, *options, "--size", "64", "--refine", "2"]) == 0
        assert ("trained on renders alone" in capsys.readouterr().out) == (name == "with")
        lights.append(np.load(tmp_path / name / "a.npz")["sh_coefficients"])
    assert np.abs(lights[0] - lights[1]).max() > 1e-3


def test_photographs_without_masks_are_refused(tmp_path, photos, capsys):
    (tmp_path / "masks").mkdir()
    shutil.copy(photos[1] / "a.png", tmp_path / "masks" / "a.png")
    folders = ["--data.photos", str(photos[0]), "--data.masks", str(tmp_path / "masks")]
    assert main.main(["train", "segmentation", *OPTIONS, *folders, "--run.out", str(tmp_path / "run")]) == 2
    assert "masks of 1 of 2 photographs" in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.image-size", "40"], "multiple of 16"),
        (["--stages.occluders", "1.5"], "--stages.occluders must be a share"),
        (["--data.photos", "."], "give both or neither"),
        (["--stages.learning-rate", "inf"], "--stages.learning-rate must be positive"),
        (["--data.photos-per-identity", "3"], "--data.photos-per-identity has no effect here"),
        (["--data.labelled-batch", "0"], "--data.labelled-batch must be at least 1"),
        (["--data.max-skipped", "2"], "--data.max-skipped must be a share"),
        (["--data.workers", "-1"], "--data.workers must be at least 0"),
    ],
)
def test_bad_usage_is_one_line(tmp_path, capsys, arguments, message):
    code = main.main(["train", "segmentation", *OPTIONS, "--run.out", str(tmp_path / "run"), *arguments])
    captured = capsys.readouterr()
    assert code == 2 and message in captured.err and len(captured.err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()
