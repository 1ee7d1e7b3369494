"""`facecore demo`: trains the quick preset, then reconstructs held-out renders and a photograph. No file is needed."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import tempfile
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from facecore.cli.errors import UsageError
from facecore.cli.parsing import parse_options
from facecore.cli.reconstruct import reconstruct_with_progress, write_face

if TYPE_CHECKING:
    from facecore.evaluation.report import Report
    from facecore.systems.inference import FaceInput
    from facecore.systems.semi_supervised import SemiSupervised
    from facecore.systems.semi_supervised_training import SemiSupervisedTrainer

DESCRIPTION = """Trains the `quick` preset on the built-in procedural face model, reconstructs renders that training \
did not see, and a photograph: the public-domain portrait that scikit-image carries, or your own.

Example: facecore demo --picture me.jpg --landmarks me.pts"""
NUM_RENDERS = 4
REFINEMENT_STEPS = 200
SIZE = 160


@dataclasses.dataclass(frozen=True)
class Demo:
    """Options of `facecore demo`."""

    out: pathlib.Path = pathlib.Path("facecore_demo")
    """Folder for the results."""
    picture: pathlib.Path | None = None
    """Your own photograph, with landmarks beside it or by --landmarks."""
    landmarks: pathlib.Path | None = None
    """Landmarks of --picture: 68 or 5 points (.pts, .txt, .csv, .mat)."""
    seed: int = 0
    """Seed of the training."""

    def run(self) -> int:
        for path in (self.picture, self.landmarks):
            if path is not None and not path.is_file():
                raise UsageError(f"{path}: no such file")
        if self.landmarks is not None and self.picture is None:
            raise UsageError("--landmarks belong to --picture; give both")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file; give a folder")
        began = time.perf_counter()
        photograph, credit = self.photograph()  # first: what is missing should be said before the training
        trainer, validation = self.train()
        from facecore.evaluation.report import Report

        system = trainer.system.cpu().eval()  # the photograph and what is written are on the CPU
        report = Report(
            "facecore demo",
            "A face system trained from nothing on synthetic faces in this run, on renders it did not see and on a "
            "photograph. The photograph is refined by analysis by synthesis. "
            f"Configuration {system.config_hash}, seed {self.seed}.",
        )
        result = reconstruct_with_progress(photograph, system, SIZE, REFINEMENT_STEPS)
        write_face(self.out, photograph.path.stem, photograph, result, report, credit)
        add_held_out(report, trainer, system)
        add_validation(report, validation)
        report.write(self.out / "index.html")
        print(f"done in {time.perf_counter() - began:.0f} s: {self.out / 'index.html'}")
        return 0

    def photograph(self) -> tuple[FaceInput, str]:
        from facecore.data import FaceCrop, LandmarkSource, read_image, read_landmarks
        from facecore.data.portrait import load_portrait
        from facecore.systems.inference import FaceInput, crop_around

        if self.picture is None:
            portrait = load_portrait()
            crop = FaceCrop.from_landmarks(portrait.landmarks, SIZE, SIZE)
            return FaceInput(pathlib.Path(portrait.name), portrait.image, crop, portrait.landmarks), portrait.credit
        image = read_image(self.picture)
        size = (image.shape[1], image.shape[2])
        if self.landmarks is not None:
            faces = read_landmarks(self.landmarks, size, image=self.picture)
        else:
            faces = LandmarkSource(self.picture.parent).find(self.picture, size)
        if not faces:
            raise ValueError(f"{self.picture}: no landmarks; put {self.picture.stem}.pts beside it or give --landmarks")
        return FaceInput(self.picture, image, crop_around(self.picture, faces[0], SIZE), faces[0]), ""

    def train(self) -> tuple[SemiSupervisedTrainer, dict[str, float]]:
        """The quick preset, in a temporary folder; the trained model is kept as model.safetensors."""
        from facecore.cli.train_data import load_morphable
        from facecore.systems.semi_supervised_config import PRESETS
        from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
        from facecore.training.config import config_hash
        from facecore.training.device import unused_gpu
        from facecore.training.loop import FINAL, train

        self.out.mkdir(parents=True, exist_ok=True)
        quick = PRESETS["quick"]
        with tempfile.TemporaryDirectory(prefix=".training-", dir=self.out) as folder:
            run = dataclasses.replace(quick.run, out=pathlib.Path(folder), seed=self.seed)
            config = dataclasses.replace(quick, run=run)
            if unused_gpu():
                print(unused_gpu())
            print(f"training the quick preset (configuration {config_hash(config)}, seed {self.seed})")
            trainer = SemiSupervisedTrainer(config, load_morphable(config), None)
            with self.remedies():
                validation = train(trainer, run, {"config_hash": config_hash(config), "seed": self.seed})
            (pathlib.Path(folder) / FINAL).replace(self.out / FINAL)
        return trainer, validation

    @contextlib.contextmanager
    def remedies(self) -> Iterator[None]:
        """What training says to do speaks of options of `facecore train`: the demo's own in their place."""
        from facecore.training.loop import Interrupted, NotFinite

        try:
            yield
        except Interrupted as error:
            raise Interrupted(error.reason, "the demo starts anew each time: run it again") from error
        except NotFinite as error:
            raise NotFinite(error.reason, "run the demo again with another --seed, and report this") from error
        except OSError as error:
            cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
            reason = getattr(cause, "strerror", None) or str(cause)
            raise OSError(
                f"the demo cannot write to {self.out}: {reason}; make room or choose another folder by --out"
            ) from error


def add_held_out(report: Report, trainer: SemiSupervisedTrainer, system: SemiSupervised) -> None:
    """The network's own answer for renders of faces that training did not draw."""
    from facecore.data import FaceCrop, Landmarks

    batch = trainer.held_out.batch(torch.arange(NUM_RENDERS)).to("cpu")
    result = system.reconstruct(batch.image)
    size = system.config.image_size
    for i in range(NUM_RENDERS):
        crop = FaceCrop.whole(size, size, size, size)
        landmarks = Landmarks(batch.landmarks[i].double())
        report.add_face(f"held-out render {i + 1}", result[i : i + 1], batch.image[i], crop, landmarks=landmarks)


def add_validation(report: Report, validation: dict[str, float]) -> None:
    names = {
        "shape_mm": "full shape, mm",
        "neutral_mm": "neutral identity shape, mm",
        "albedo": "albedo",
        "shading": "shading",
    }
    rows = [(text, validation[name], validation[f"{name}_mean_face"]) for name, text in names.items()]
    report.add_table(
        "Held-out renders",
        ("error", "trained", "mean face"),
        [*rows, ("landmarks, % of the box", validation["landmark_percent"], "-")],
        "Shapes after similarity alignment, mean distance of corresponding vertices.",
    )


def main(argv: list[str]) -> int:
    demo: Demo = parse_options(Demo, argv, prog="facecore demo", description=DESCRIPTION)
    return demo.run()
