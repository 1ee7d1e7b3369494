"""What a training reads, as its settings name it: the morphable model and the photographs of both halves."""

from __future__ import annotations

import pathlib
import sys
from typing import TYPE_CHECKING, Any, Protocol

from facecore.cli.errors import UsageError
from facecore.cli.parsing import in_options
from facecore.errors import OptionError
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.training.config import DataConfig, RunConfig, WorldConfig

if TYPE_CHECKING:
    from facecore.data import ParameterPhotos, PhotoFolder
    from facecore.morphable import MorphableModel


class SystemModelConfig(Protocol):
    """MorphableConfig and the size of the pictures, which each system's settings have with a default of their own."""

    @property
    def morphable(self) -> str: ...
    @property
    def num_vertices(self) -> int: ...
    @property
    def region(self) -> str: ...
    @property
    def refine(self) -> int: ...
    @property
    def image_size(self) -> int: ...


class TrainingSettings(Protocol):
    """What loading needs of a system's settings."""

    @property
    def model(self) -> SystemModelConfig: ...
    @property
    def data(self) -> DataConfig: ...
    @property
    def run(self) -> RunConfig: ...


def load_morphable(config: TrainingSettings) -> MorphableModel:
    from facecore.morphable import load
    from facecore.morphable.recognise import ICT, recognise

    name = config.model.morphable
    if name == "procedural":
        try:
            return load(name, num_vertices=config.model.num_vertices)
        except OptionError as error:
            raise UsageError(in_options(str(error), "--model.")) from error
    if not pathlib.Path(name).exists():
        raise UsageError(
            f"--model.morphable {name}: no such file or folder; give 'procedural' or a model that "
            "'facecore model show' reads"
        )
    options = {"region": config.model.region, "refine": config.model.refine}
    return load(name, **(options if recognise(pathlib.Path(name)) == ICT else {}))


def check_model(config: SemiSupervisedConfig, morphable: MorphableModel) -> None:
    """Refuses settings that the model has not enough modes or vertices for. Raises UsageError."""
    check_modes(config.world, morphable)
    check_surface_points(config.model.surface_points, morphable)


def check_surface_points(points: int, morphable: MorphableModel) -> None:
    """Refuses fewer than the landmarks and more than there are vertices. Raises UsageError."""
    if points and not 68 <= points <= morphable.num_vertices:
        raise UsageError(
            f"--model.surface-points must be 0 or from 68 (the landmarks) to {morphable.num_vertices} (the vertices), "
            f"got {points}"
        )


def check_modes(world: WorldConfig, morphable: MorphableModel) -> None:
    """Refuses more labelled modes than there are. Raises UsageError."""
    if world.labelled_modes > morphable.num_identity:
        raise UsageError(
            f"--world.labelled-modes must be at most {morphable.num_identity}, the identity modes of {morphable.name}, "
            f"got {world.labelled_modes}"
        )


def load_photos(config: TrainingSettings, **options: Any) -> PhotoFolder | None:
    """The unlabelled half, or None when it is switched off or not given. options: more, of `open_dataset`."""
    from facecore.training.distributed import is_first

    data = config.data
    if data.photos is None or not data.unlabelled:
        return None
    photos = open_photos(
        data.dataset,
        data.photos,
        prefix="--data.",
        landmarks=data.landmarks,
        identities=data.identities,
        masks=data.masks,
        height=config.model.image_size,
        width=config.model.image_size,
        seed=config.run.seed,
        assume_cropped=data.assume_cropped or None,
        max_skipped=data.max_skipped,
        **options,
    )
    if is_first():
        print(photos.report, file=sys.stderr)
    return photos


def load_labelled(config: SemiSupervisedConfig, morphable: MorphableModel) -> ParameterPhotos | None:
    """The labelled half's photographs, with their mirrored copies, or None when that half is rendered."""
    from facecore.data import Augmentation, ParameterPhotos, open_dataset
    from facecore.training.distributed import is_first

    folder = config.data.labelled
    if folder is None:
        return None
    if morphable.origin is None:
        raise UsageError(
            "--data.labelled: its files belong to the 300W-LP cut of the Basel Face Model; give --model.morphable "
            "BFM.mat"
        )
    photos = open_dataset(
        "300w-lp",
        folder,
        flipped=True,
        height=config.model.image_size,
        width=config.model.image_size,
        seed=config.run.seed,
        augmentation=Augmentation(mirror=0.0),
        max_skipped=config.data.max_skipped,
    )
    assert isinstance(photos, ParameterPhotos)
    if is_first():
        print(photos.report, file=sys.stderr)
    return photos


def refuse_unknown_persons(photos: PhotoFolder) -> None:
    """Refuses photographs none of which has a known person. Raises UsageError."""
    if photos.num_identities == 0:
        raise UsageError(
            "--data.photos: nobody is known on them; put each person's into a folder, or give --data.identities"
        )


def open_photos(kind: str, folder: pathlib.Path, *, prefix: str = "--", **options: Any) -> PhotoFolder:
    """`open_dataset`, where an option that the data set decides by itself is bad usage. prefix: of the options."""
    from facecore.data import open_dataset
    from facecore.data.datasets import DECIDED, recognise_dataset

    kind = recognise_dataset(folder) if kind == "auto" else kind
    if kind != "folder":
        for name in DECIDED:
            if options.get(name) is not None:
                raise UsageError(f"{prefix}{name}: {kind} brings its own {name}; leave it out")
    return open_dataset(kind, folder, **options)
