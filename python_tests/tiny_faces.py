"""The smallest untrained systems and random faces of theirs, for tests of what is done with estimated faces."""

from __future__ import annotations

import pathlib

import torch
from tiny_settings import TINY_MODEL

from facecore.data import LabelledRenders, PersonRenders, write_png
from facecore.morphable import MorphableModel
from facecore.systems.assets import FaceAssets
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_codes import Codes, Encoding
from facecore.systems.semi_supervised_config import ModelConfig
from facecore.training.config import overlay


def make_system(morphable: MorphableModel, *, texture: bool = False) -> SemiSupervised:
    """Random weights; with `texture`, a texture decoder whose last layer is random too."""
    torch.manual_seed(0)
    config = overlay(ModelConfig(), TINY_MODEL | {"albedo_decoder": "texture" if texture else "graph"})
    system = SemiSupervised(config, FaceAssets.from_morphable(morphable, tuple(config.factors)))
    if texture:
        torch.nn.init.normal_(system.texture_decoder.last.weight, std=0.5)
    return system.eval()


@torch.no_grad()
def make_faces(system: SemiSupervised, count: int, seed: int = 0) -> Reconstruction:
    """Faces of random codes, a little turned, under random light; the pictures behind a texture are noise."""
    generator = torch.Generator().manual_seed(seed)
    size, config = system.config.image_size, system.config
    encoding = system.encode(torch.rand(count, 3, size, size, generator=generator))
    scale = torch.tensor([0.15, 0.25, 0.1, 0.05, 0.05, 0.05])
    codes = Codes(
        torch.randn(count, config.identity_size, generator=generator),
        torch.randn(count, config.expression_size, generator=generator),
        torch.randn(count, 6, generator=generator) * scale,
        torch.randn(count, 27, generator=generator) * 0.1,
    )
    return system.to_reconstruction(system.decode(Encoding(codes, encoding.maps, encoding.points, encoding.features)))


def write_portraits(
    folder: pathlib.Path, morphable: MorphableModel, names: list[str], size: int = 96, *, one_person: bool = False
) -> torch.Tensor:
    """NAME.png with NAME.pts of rendered faces, each of another person unless told otherwise, in a folder that is made.

    Returns their identities [N, K].
    """
    folder.mkdir(parents=True, exist_ok=True)
    if one_person:
        renders: LabelledRenders = PersonRenders(morphable, size, size, seed=1, pictures=len(names))
    else:
        renders = LabelledRenders(morphable, size, size, seed=1, occluders=0.0)
    batch = renders.batch(torch.arange(len(names)))
    for name, image, landmarks in zip(names, batch.image, batch.landmarks):
        write_png(folder / f"{name}.png", image)
        write_points(folder / f"{name}.pts", landmarks)
    return batch.identity


def write_points(path: pathlib.Path, landmarks: torch.Tensor) -> None:
    """An iBUG file of points [68, 2] in continuous pixels."""
    points = "\n".join(f"{u + 0.5} {v + 0.5}" for u, v in landmarks.tolist())
    path.write_text(f"version: 1\nn_points: 68\n{{\n{points}\n}}\n")
