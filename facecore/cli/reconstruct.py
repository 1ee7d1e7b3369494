"""`facecore reconstruct`: photographs to faces, by a trained system or from a morphable model's mean face."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
import time
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.finders import check_finder
from facecore.cli.parsing import parse_options

if TYPE_CHECKING:
    from facecore.evaluation.report import Report
    from facecore.systems.decoding import FaceSource
    from facecore.systems.inference import FaceInput, FoundFace
    from facecore.systems.refinement import Refined

DESCRIPTION = """Reconstructs the faces of pictures. Writes NAME.glb (metres), NAME.obj (millimetres), NAME.npz, \
NAME_overlay.png for each, and index.html.

Example: facecore reconstruct portrait.jpg --checkpoint runs/small/model.safetensors --refine 200 --out faces

Landmarks (68 or 5 points) lie beside the picture (portrait.pts, .txt, .mat, .csv) or come by --landmarks; for a \
picture without, faces are detected (pip install 'facecore[landmarks]', or networks of your own). Without \
--checkpoint, refinement starts from the mean face of --model. --average makes one face of several photographs of a \
person, --aggregate one that trusts each photograph by what it shows (weakly supervised checkpoints)."""

MEAN_FACE_ONLY = "every shape is the mean face, posed by the landmarks; add --refine 200 or --checkpoint to fit it"


@dataclasses.dataclass(frozen=True)
class Reconstruct:
    """Options of `facecore reconstruct`."""

    images: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional]
    """Pictures, or folders of pictures."""
    out: pathlib.Path = pathlib.Path("faces")
    """Folder for the results."""
    checkpoint: pathlib.Path | None = None
    """model.safetensors of 'facecore train'."""
    model: str | None = None
    """Morphable model to start from when there is no checkpoint: 'procedural' (the default), a file or a folder."""
    refine: int = 0
    """Steps of analysis by synthesis over pose, light and codes; 200 give a good overlay."""
    landmarks: pathlib.Path | None = None
    """Landmarks: a folder, a table of several pictures, a CSV manifest `image,landmark_file`, or, for one picture, its
    file."""
    masks: pathlib.Path | None = None
    """Folder of PNG masks (white = visible face) with the pictures' paths in their folder, or their stems; default:
    skin probability."""
    assume_cropped: bool = False
    """Take a picture without landmarks as a face that fills it, instead of looking for faces."""
    faces: Literal["largest", "all"] = "largest"
    """Which faces of a picture that shows several."""
    redetect: bool = False
    """Find faces even where landmarks are given."""
    detector: str = "mediapipe"
    """Face detector for pictures without landmarks: 'mediapipe', 'none', or the manifest of a network."""
    landmark_network: str = "mediapipe"
    """What finds the 68 points in a detected face: 'mediapipe', or the manifest of a network."""
    segmentation: pathlib.Path | None = None
    """Manifest of a face segmentation network, for pictures without a mask."""
    cache: pathlib.Path | None = None
    """Folder in which the faces that were found are kept for other runs on the same pictures."""
    size: int = 160
    """Side of the crop on which pixels are compared, 32 to 1024."""
    average: bool = False
    """Take the pictures as photographs of one person: one result, average.*, from the largest face of each."""
    aggregate: bool = False
    """The same with each identity coefficient trusted as the checkpoint's confidence network says: aggregate.*."""

    def run(self) -> int:
        """0 when every face was written; 1 when a picture was refused (the others are written)."""
        self.check()
        from facecore.evaluation.report import Report
        from facecore.systems.export import output_names
        from facecore.systems.refinement import Diverged

        self.check_person()
        source = self.load_source()
        if self.aggregate:
            from facecore.cli.one_person import check_aggregates

            check_aggregates(source)
        faces, refused = self.find_faces()
        if self.average or self.aggregate:
            from facecore.cli.one_person import reconstruct_person

            return reconstruct_person(self, source, faces, refused)
        report = Report("facecore reconstruct", self.summary(source))
        written = 0
        named = list(zip(output_names([face.path for face in faces]), faces))
        for name, found in tqdm(named, desc="reconstructing", unit="face", disable=len(named) < 20):
            try:
                face = found.read()
                result = reconstruct_with_progress(face, source, self.size, self.refine)
                self.out.mkdir(parents=True, exist_ok=True)
                write_face(self.out, name, face, result, report)
            except (Diverged, ValueError) as error:
                reason = str(error)
                refused.append(reason if str(found.path) in reason else f"{found.path}: {reason}")
                continue
            written += 1
        if written and self.checkpoint is None and self.refine == 0:
            print(MEAN_FACE_ONLY)
        if written:
            report.write(self.out / "index.html")
            print(f"{written} faces: {self.out / 'index.html'}")
        for reason in refused:
            print(f"facecore reconstruct: refused {reason}", file=sys.stderr)
        return 1 if refused else 0

    def check_person(self) -> None:
        """Refuses what cannot be made of several photographs of a person."""
        if self.average and self.aggregate:
            raise UsageError("--average and --aggregate: give one of them")
        if (self.average or self.aggregate) and len(self.pictures()) < 2:
            option = "--average" if self.average else "--aggregate"
            raise UsageError(f"{option} needs at least two pictures of a person; leave it out for one")
        if self.aggregate and self.refine:
            raise UsageError("--aggregate trusts the network's own estimates: leave --refine out, or take --average")

    def check(self) -> None:
        if not self.images:
            raise UsageError("name at least one picture or folder of pictures")
        check_finder(self.detector, self.landmark_network)
        for path in (*self.images, self.checkpoint, self.landmarks, self.masks, self.segmentation):
            if path is not None and not path.exists():
                raise UsageError(f"{path}: no such file or folder")
        if self.model is not None and self.checkpoint is not None:
            raise UsageError("--model and --checkpoint: a checkpoint carries its own model; leave --model out")
        if self.masks is not None and not self.masks.is_dir():
            raise UsageError(f"--masks {self.masks} is not a folder")
        if self.refine < 0:
            raise UsageError(f"--refine must be at least 0, got {self.refine}")
        if not 32 <= self.size <= 1024:
            raise UsageError(f"--size must lie in [32, 1024], got {self.size}")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file; give a folder")

    def find_faces(self) -> tuple[list[FoundFace], list[str]]:
        """Every face of every picture, and why pictures were refused."""
        from facecore.cli.finders import lazy_finder, load_segmenter
        from facecore.data import LandmarkSource
        from facecore.systems.inference import find_faces

        faces: list[FoundFace] = []
        refused: list[str] = []
        sources: dict[pathlib.Path, LandmarkSource] = {}
        pictures = self.pictures()
        finder = lazy_finder(self.detector, self.landmark_network, self.cache)
        segmenter = load_segmenter(self.segmentation)
        for path, root in tqdm(pictures.items(), desc="finding faces", unit="picture", disable=len(pictures) < 20):
            if root not in sources:
                sources[root] = LandmarkSource(root, self.landmarks, one_picture=len(pictures) == 1)
            options = {"masks": self.masks, "assume_cropped": self.assume_cropped, "root": root}
            try:
                source = None if self.redetect else sources[root]
                found = find_faces(path, source, self.size, **options, finder=finder, segmenter=segmenter)
            except ValueError as error:
                refused.append(str(error))
                continue
            if self.faces == "largest" and len(found) > 1:
                tqdm.write(f"{path}: {len(found)} faces, took the largest; --faces all takes all")
                found = [max(found, key=lambda face: face.crop.side)]
            faces += found
        return faces, refused

    def pictures(self) -> dict[pathlib.Path, pathlib.Path]:
        """The pictures in a fixed order, each once, with the folder whose manifest may name its landmarks."""
        from facecore.data.search import find_pictures

        found: dict[pathlib.Path, pathlib.Path] = {}
        for path in self.images:
            inside = find_pictures(path, [self.masks, self.out]) if path.is_dir() else [path]
            root = path if path.is_dir() else path.parent
            found |= {picture: root for picture in inside if picture not in found}
        if not found:
            raise UsageError("no pictures in " + ", ".join(map(str, self.images)))
        return found

    def load_source(self) -> FaceSource:
        if self.checkpoint is not None:
            from facecore.systems import load

            system = load(self.checkpoint)
            if system.caution:
                print(f"{self.checkpoint}: {system.caution}")
            return system
        name = self.model or "procedural"
        if name != "procedural" and not pathlib.Path(name).exists():
            raise UsageError(f"--model {name}: no such file or folder; give 'procedural' or a morphable model")
        from facecore.morphable import load as load_model

        model = load_model(name)
        _ = model.mesh  # warns of a topology that is not as it should be
        return model

    def summary(self, source: FaceSource) -> str:
        from facecore.morphable import MorphableModel

        if not isinstance(source, MorphableModel):
            assert self.checkpoint is not None
            start = f"{self.checkpoint.name} (configuration {source.config_hash})"
            start += f"; {source.caution}" if source.caution else ""
        else:
            start = f"the mean face of {self.model or 'procedural'}"
        return f"Started from {start}; {self.refine} refinement steps on {self.size} x {self.size} pixels."


def main(argv: list[str]) -> int:
    command: Reconstruct = parse_options(Reconstruct, argv, prog="facecore reconstruct", description=DESCRIPTION)
    return command.run()


def reconstruct_with_progress(face: FaceInput, source: FaceSource, size: int, steps: int) -> tuple[Refined, float]:
    """The refined face and the seconds it took."""
    from facecore.systems.inference import reconstruct_faces

    began = time.perf_counter()
    with tqdm(total=steps, desc=face.path.name, unit="step", disable=steps == 0, leave=False) as bar:

        def progress(step: int, total: int, loss: float) -> None:
            bar.update(step - bar.n)
            bar.set_postfix_str(f"loss {loss:.1f}")

        refined = reconstruct_faces([face], source, size=size, iterations=steps, progress=progress)
    return refined, time.perf_counter() - began


def write_face(
    out: pathlib.Path, name: str, face: FaceInput, result: tuple[Refined, float], report: Report, credit: str = ""
) -> None:
    """Exports one face and adds it to the report, its numbers beside it."""
    from facecore.systems.export import export_face

    refined, seconds = result
    files = export_face(out, name, refined.reconstruction, face.image, face.crop)
    numbers = {
        "photometric error before, %": 100 * float(refined.error_before),
        "photometric error after, %": 100 * float(refined.error_after),
        "seconds": seconds,
    }
    report.add_face(
        name,
        refined.reconstruction,
        face.image,
        face.crop,
        landmarks=face.landmarks,
        numbers=numbers,
        links={"GLB": files.glb.name, "OBJ": files.obj.name, "NPZ": files.npz.name},
        credit=credit,
    )
