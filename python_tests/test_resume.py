"""What a run that goes on from a checkpoint must share with the run that wrote it."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import torch
from tiny_settings import TINY_MODEL

from facecore.data import PhotoFolder, write_png
from facecore.morphable import load as load_model
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer, _encoder_precision
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay

TINY = {
    "model": TINY_MODEL,
    "data": {"labelled_batch": 2, "photo_batch": 2},
}


def tiny(**values: dict[str, Any]) -> SemiSupervisedConfig:
    return overlay(overlay(PRESETS["quick"], TINY), values)


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """Two pictures of each of three persons."""
    for name in ("a/1", "a/2", "b/1", "b/2", "c/1", "c/2"):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_png(path, torch.full((3, 40, 40), 0.5))
    return tmp_path / "photos"


def photos(folder: pathlib.Path, **options: Any) -> PhotoFolder:
    return PhotoFolder(folder, height=32, width=32, assume_cropped=True, **options)


def saved(trainer: SemiSupervisedTrainer, path: pathlib.Path) -> Checkpoint:
    """After a step, as it comes back from the disk."""
    trainer.step(0)
    trainer.checkpoint(3, resumable=True).save(path)
    return Checkpoint.load(path)


def test_the_same_run_goes_on(morphable, folder, tmp_path):
    checkpoint = saved(SemiSupervisedTrainer(tiny(), morphable, photos(folder)), tmp_path / "c")
    moved = folder.rename(tmp_path / "moved")
    assert SemiSupervisedTrainer(tiny(), morphable, photos(moved)).restore(checkpoint) == 3


def test_another_seed_is_refused(morphable, tmp_path):
    checkpoint = saved(SemiSupervisedTrainer(tiny(), morphable, None), tmp_path / "c")
    other = SemiSupervisedTrainer(tiny(run={"seed": 1}), morphable, None)
    with pytest.raises(ValueError, match=r"made with seed 0, this run has 1; give --run\.seed 0"):
        other.restore(checkpoint)


def test_other_photographs_are_refused(morphable, folder, tmp_path):
    none = saved(SemiSupervisedTrainer(tiny(), morphable, None), tmp_path / "none")
    some = saved(SemiSupervisedTrainer(tiny(), morphable, photos(folder)), tmp_path / "some")
    with_photos = SemiSupervisedTrainer(tiny(), morphable, photos(folder))
    with pytest.raises(ValueError, match="trained without photographs"):
        with_photos.restore(none)
    (folder / "who.csv").write_text("image,identity\na/1.png,x\nb/1.png,y\nc/1.png,z\n")
    others = [None, photos(folder, identities="none"), photos(folder, identities=folder / "who.csv")]
    (folder / "c" / "1.png").rename(folder / "c" / "3.png")
    others.append(photos(folder))
    for pictures in others:
        with pytest.raises(ValueError, match=r"trained on other photographs; give --data\.photos"):
            SemiSupervisedTrainer(tiny(), morphable, pictures).restore(some)


def test_another_encoder_precision_is_refused(morphable, tmp_path, monkeypatch):
    """`auto` resolves by the machine: the configuration is the same and the run is not."""
    config = tiny(stages={"encoder_precision": "auto"})
    trainers = []
    for fast in (False, True):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda fast=fast: fast)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        trainers.append(SemiSupervisedTrainer(config, morphable, None))
    with pytest.raises(ValueError, match="encoder in float32, this machine would go on in bfloat16"):
        trainers[1].restore(saved(trainers[0], tmp_path / "c"))


@pytest.mark.parametrize("name", ["config", "config_hash", "encoder_precision", "photos", "assets"])
def test_a_checkpoint_without_its_facts_is_refused(morphable, tmp_path, name):
    trainer = SemiSupervisedTrainer(tiny(), morphable, None)
    checkpoint = saved(trainer, tmp_path / "c")
    del checkpoint.plain[name]
    with pytest.raises(ValueError, match=f"the checkpoint lacks {name}: another version of facecore wrote it"):
        trainer.restore(checkpoint)


@pytest.mark.parametrize("supported", [False, True])
def test_auto_is_bfloat16_on_a_gpu_that_multiplies_it(monkeypatch, supported):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported)
    chosen = _encoder_precision("auto", torch.device("cuda"))
    assert chosen == (torch.bfloat16 if supported else torch.float32)
