"""The smallest regression from recognition features: settings, a recognition network of a few weights, commands."""

from __future__ import annotations

import pathlib

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional
from toy_perception import Embedder, write_manifest

from facecore.perception import register_architecture
from facecore.perception.manifest import RENDERS
from facecore.systems.unsupervised_regression_config import RegressionConfig
from facecore.training.config import overlay

SIZE = 64
register_architecture("toy-embedder", Embedder)
TINY = {
    "model": {"num_vertices": 2500, "image_size": SIZE, "width": 16},
    "stages": {"synthetic_iterations": 2, "mixed_iterations": 2, "views": 2},
    "data": {"labelled_batch": 4, "photo_batch": 4},
    "world": {"persons": 4, "pictures": 2},
    "run": {"validation_size": 4, "validate_every": 100, "checkpoint_every": 2, "log_every": 1},
}


class Thumbnails(nn.Module):
    """A "recognition network" that remembers what a face looks like, 6 x 6 colours."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = functional.adaptive_avg_pool2d(images, 6).flatten(1)
        return {"embed": seen, "pooled": seen}


register_architecture("thumbnails", Thumbnails)


def write_thumbnails(folder: pathlib.Path) -> pathlib.Path:
    save_file({}, folder / "e.safetensors")
    size = {"input_size": [48, 48], "mean": [0.4] * 3, "std": [0.2] * 3}
    return write_manifest(
        folder / "m.json", "recognition", "state-dict", "e.safetensors", architecture="thumbnails", **size
    )


def write_recognition(folder: pathlib.Path, seed: int = 0, **changes) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    save_file(Embedder(size=8).state_dict(), folder / "e.safetensors")
    changes = {"architecture": "toy-embedder", "options": {"size": 8}, "trained_on": RENDERS} | changes
    return write_manifest(folder / "m.json", "recognition", "state-dict", "e.safetensors", **changes)


def config(manifest: pathlib.Path, **changes) -> RegressionConfig:
    tiny = overlay(overlay(RegressionConfig(), TINY), {"model": {"recognition": str(manifest)}})
    return overlay(tiny, changes)
