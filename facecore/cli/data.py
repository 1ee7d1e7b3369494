"""`facecore data`: prepares a folder of photographs as a training set, says what training would read in one, and what
a recognition network says of them."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from facecore.cli.data_features import DataFeatures
from facecore.cli.errors import UsageError
from facecore.cli.finders import check_finder, finder_identity, lazy_finder, load_segmenter
from facecore.cli.parsing import check_exists, check_folders, parse_options

DESCRIPTION = """Prepares photographs for training, checks what training would read, and computes features.

Example: facecore data prepare holiday/ --out prepared"""

SHOWN = 20  # refusals on the command line; the page lists all


@dataclasses.dataclass(frozen=True)
class DataPrepare:
    """Finds, crops and masks every face below a folder; goes on where it was stopped. Writes photos/, masks/,
    identities.csv, manifest.json and index.html, a page to look at.

    Example: facecore data prepare holiday/ --out prepared --faces all
    """

    folder: Annotated[tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of photographs; its sub-folders are persons unless --identities says otherwise."""
    out: pathlib.Path = pathlib.Path("prepared")
    """Folder for the training set."""
    faces: Literal["largest", "all"] = "largest"
    """Which faces of a picture that shows several."""
    redetect: bool = False
    """Find faces even where landmarks are given."""
    identities: str | None = None
    """Who is in which picture: a CSV `image,identity` or lines `image identity`; 'none' = unknown."""
    landmarks: pathlib.Path | None = None
    """Landmarks that are there already: a folder, a table or a manifest, as for reconstruct."""
    detector: str = "mediapipe"
    """Face detector for pictures without landmarks: 'mediapipe', 'none', or the manifest of a network."""
    landmark_network: str = "mediapipe"
    """What finds the 68 points in a detected face: 'mediapipe', or the manifest of a network."""
    segmentation: pathlib.Path | None = None
    """Manifest of a face segmentation network; default: skin probability."""
    size: int = 224
    """Side in pixels of the square that training will see, 64 to 4096; crops are larger, for augmentation."""
    min_face: float = 24.0
    """Faces smaller than this many pixels are left out."""
    cache: pathlib.Path | None = None
    """Folder in which the networks' results are kept for other preparations of the same pictures."""

    def run(self) -> int:
        """0 when every picture gave a face, 1 when some were left out."""
        self.check()
        from facecore.data.contact_sheet import write_contact_sheets
        from facecore.data.prepare import Preparation
        from facecore.perception import PerceptionCache

        preparation = Preparation(
            self.folder,
            self.out,
            finder=lazy_finder(self.detector, self.landmark_network, self.cache),
            finder_identity=finder_identity(self.detector, self.landmark_network),
            segmenter=load_segmenter(self.segmentation),
            landmarks=self.landmarks,
            identities=self.identities,
            faces=self.faces,
            redetect=self.redetect,
            size=self.size,
            min_face=self.min_face,
            cache=None if self.cache is None else PerceptionCache(self.cache),
        )
        with tqdm(total=len(preparation.pictures), desc="preparing", unit="picture") as bar:
            prepared = preparation.run(lambda: bar.update() and None)
        page = write_contact_sheets(prepared)
        pictures = len(prepared.records)
        print(f"{len(prepared.faces)} faces in {pictures} pictures ({prepared.reused} were done before): {page}")
        several = sum(record["found"] > 1 for record in prepared.records.values())
        if several and self.faces == "largest":
            print(f"{several} pictures show several faces, took the largest; --faces all takes all")
        if prepared.faces:
            print(self.advice())
        for path, reason in prepared.skipped[:SHOWN]:
            print(f"facecore data: skipped {self.folder / path}: {reason}", file=sys.stderr)
        if len(prepared.skipped) > SHOWN:
            print(f"facecore data: skipped {len(prepared.skipped) - SHOWN} more; {page} lists all", file=sys.stderr)
        return 1 if prepared.skipped else 0

    def check(self) -> None:
        check_finder(self.detector, self.landmark_network)
        identities = None if self.identities == "none" else self.identities
        for path in (self.folder, self.landmarks, self.segmentation, identities):
            if path is not None and not pathlib.Path(path).exists():
                raise UsageError(f"{path}: no such file or folder")
        if not self.folder.is_dir():
            raise UsageError(f"{self.folder} is a file; give a folder of photographs")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file; give a folder")
        if not 64 <= self.size <= 4096:
            raise UsageError(f"--size must lie in [64, 4096], got {self.size}")
        if not self.min_face >= 24:
            raise UsageError(f"--min-face must be at least 24, got {self.min_face:g}: training leaves out smaller ones")

    def advice(self) -> str:
        """How to train on the result."""
        table = self.out / "identities.csv"
        identities = table if table.is_file() else "none"
        return (
            f"to train: facecore train --data.photos {self.out / 'photos'} --data.masks {self.out / 'masks'} "
            f"--data.identities {identities}"
        )


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """Reads a folder of photographs as training does and says what it found and what it left out.

    Example: facecore data check prepared/photos --masks prepared/masks
             facecore data check 300W_LP --dataset 300w-lp
    """

    folder: Annotated[tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of photographs."""
    dataset: Literal["folder", "300w-lp", "aflw2000", "celeba", "auto"] = "folder"
    """What the folder is, as --data.dataset of train has it."""
    landmarks: pathlib.Path | None = None
    """Landmarks, if they do not lie beside the pictures."""
    identities: str | None = None
    """Who is in which picture; 'none' = unknown; default: sub-folders."""
    masks: pathlib.Path | None = None
    """Folder of PNG masks."""
    assume_cropped: bool = False
    """Take pictures without landmarks as already cropped to the face."""
    size: int = 224
    """Side of the samples in pixels."""

    def run(self) -> int:
        """0 when nothing was left out, 1 otherwise."""
        if not 32 <= self.size <= 4096:
            raise UsageError(f"--size must lie in [32, 4096], got {self.size}")
        check_folders(FOLDER=self.folder, masks=self.masks)
        check_exists(landmarks=self.landmarks, identities=None if self.identities == "none" else self.identities)
        from facecore.cli.train_data import open_photos

        photos = open_photos(
            self.dataset,
            self.folder,
            landmarks=self.landmarks,
            identities=self.identities,
            masks=self.masks,
            height=self.size,
            width=self.size,
            assume_cropped=self.assume_cropped or None,
        )
        print(photos.report)
        return 1 if photos.report.skipped else 0


DataCommand = (
    Annotated[DataPrepare, tyro.conf.subcommand("prepare")]
    | Annotated[DataCheck, tyro.conf.subcommand("check")]
    | Annotated[DataFeatures, tyro.conf.subcommand("features")]
)


def main(argv: list[str]) -> int:
    command: Any = parse_options(
        DataCommand,
        argv,
        prog="facecore data",
        description=DESCRIPTION,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    result: int = command.run()
    return result
