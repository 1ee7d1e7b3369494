"""`facecore data features`: what a recognition network says of photographs, for `facecore evaluate verification`."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.parsing import check_exists, check_folders

if TYPE_CHECKING:
    import numpy as np
    import torch

    from facecore.data import PhotoFolder
    from facecore.perception import IdentityNetwork

CROP = 224  # pixels; recognition networks align their faces from these
BATCH = 32


@dataclasses.dataclass(frozen=True)
class DataFeatures:
    """Writes the embeddings of all photographs below a folder into one .npz of `names` (their paths in the folder) and
    `features`, which 'facecore evaluate verification' reads.

    Example: facecore data features lfw/ --network runs/recognition/manifest.json --out lfw.npz
             facecore evaluate verification pairs.csv faces/ --fuse lfw.npz
    """

    folder: Annotated[tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="FOLDER")]
    """Folder of photographs with landmarks, 68 or 5."""
    network: pathlib.Path
    """Manifest of a recognition network."""
    out: pathlib.Path = pathlib.Path("features.npz")
    """The .npz; one that is there is replaced."""
    landmarks: pathlib.Path | None = None
    """Landmarks, if they do not lie beside the pictures."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where facecore can use one, else the CPU."""

    def run(self) -> int:
        """0 when nothing was left out, 1 otherwise."""
        check_folders(FOLDER=self.folder)
        check_exists(network=self.network, landmarks=self.landmarks)
        if self.out.suffix != ".npz" or self.out.is_dir():
            raise UsageError(f"--out must be a file NAME.npz, got {self.out}")
        from facecore.cli.finders import say_if_rendered
        from facecore.data import PhotoFolder
        from facecore.evaluation.feature_files import write_features
        from facecore.perception import load_identity_network
        from facecore.training.device import choose_device

        try:
            device = choose_device(self.device)
        except ValueError as error:
            raise UsageError(f"--device: {error}") from error
        say_if_rendered(self.network, "on photographs its features say little")
        network = load_identity_network(self.network).to(device)
        photos = PhotoFolder(self.folder, height=CROP, width=CROP, landmarks=self.landmarks, identities="none")
        names = [photos.path(i).relative_to(self.folder).as_posix() for i in range(len(photos))]
        if len(set(names)) < len(names):
            raise ValueError(
                f"{self.folder}: landmarks of several faces of a picture; features have one name for each, so give "
                "one face for a picture (facecore data prepare)"
            )
        write_features(self.out, names, embeddings(network, photos, device))
        print(f"{len(names)} photographs: {self.out}")
        for path, reason in photos.report.skipped:
            print(f"facecore data: skipped {path}: {reason}", file=sys.stderr)
        return 1 if photos.report.skipped else 0


def embeddings(network: IdentityNetwork, photos: PhotoFolder, device: torch.device) -> np.ndarray:
    """float32 [N, d], of all photographs."""
    import torch

    from facecore.perception import alignment

    found = []
    with torch.no_grad(), tqdm(total=len(photos), desc="features", unit="photograph", disable=None) as bar:
        for index in torch.arange(len(photos)).split(BATCH):
            batch = photos.batch(index, None).to(device)
            found.append(network.embed(batch.image, alignment(batch.aligning_points())).cpu())
            bar.update(len(index))
    return torch.cat(found).numpy()
