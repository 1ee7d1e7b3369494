"""`facecore transfer`: expression, pose and light from one face to another, single pictures and sequences."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING, Literal

from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.parsing import parse_options
from facecore.cli.reconstruct import MEAN_FACE_ONLY, Reconstruct, reconstruct_with_progress

if TYPE_CHECKING:
    from facecore.evaluation.transfer_page import TransferPage
    from facecore.systems.inference import FaceInput, FoundFace
    from facecore.systems.reconstruction import Reconstruction
    from facecore.systems.transfer_series import Estimator, Frame, Light, Person

DESCRIPTION = """Shows the face of one person (--identity, X) with the expression, the pose and the light of another \
(--driver, Y), over the picture of Y: NAME.png, GLB, OBJ and NPZ for each driver, sheet.png, an animation, index.html.

Example: facecore transfer --identity me.jpg --driver actor/ --checkpoint runs/small/model.safetensors --out mine

A folder of drivers is a sequence, in the order of its names. --pose identity keeps the picture of X below. Without \
--driver, X is lit anew: facecore transfer --identity me.jpg --light turning. Landmarks as for 'facecore reconstruct'; \
of several faces in a picture the largest is taken."""

Giver = Literal["driver", "identity"]
GIVERS = ("driver", "identity")
TURNING, TURNING_FRAMES = "turning", 36
WRITTEN = (".png", ".glb", ".obj", ".npz", ".mtl", "_texture.png")


@dataclasses.dataclass(frozen=True)
class Transfer:
    """Options of `facecore transfer`."""

    identity: tuple[pathlib.Path, ...]
    """Pictures of whose face is shown, or folders of them: each is taken by itself, or all as one with --average."""
    driver: tuple[pathlib.Path, ...] = ()
    """Pictures of who moves, or folders of them; none: every identity drives itself."""
    out: pathlib.Path = pathlib.Path("transfer")
    """Folder for the results."""
    checkpoint: pathlib.Path | None = None
    """model.safetensors of 'facecore train'."""
    model: str | None = None
    """Morphable model for both faces when there is no checkpoint: 'procedural' (the default), a file or a folder; give
    --refine with it."""
    expression: Giver = "driver"
    """Whose expression."""
    pose: Giver = "driver"
    """Whose pose, and whose picture is below."""
    light: tuple[str, ...] = ("driver",)
    """Whose light: 'driver', 'identity', a named light (ambient, front, left, right, above, below, window, sunset),
    'turning', a picture whose light is estimated, or the NPZ of a reconstruction. Several, with at most one driver:
    a result of each."""
    average: bool = False
    """Take all pictures of --identity as one person: the average of their shapes, codes and textures."""
    refine: int = 0
    """Steps of analysis by synthesis on each picture, see 'facecore reconstruct'."""
    landmarks: pathlib.Path | None = None
    """Landmarks: a folder, a table of several pictures, or a CSV manifest `image,landmark_file`."""
    assume_cropped: bool = False
    """Take a picture without landmarks as a face that fills it, instead of looking for faces."""
    detector: str = "mediapipe"
    """Face detector for pictures without landmarks: 'mediapipe', 'none', or the manifest of a network."""
    landmark_network: str = "mediapipe"
    """What finds the 68 points in a detected face: 'mediapipe', or the manifest of a network."""
    cache: pathlib.Path | None = None
    """Folder in which the faces that were found are kept for other runs on the same pictures."""
    size: int = 160
    """Side of the crop on which pixels are compared in refinement, 32 to 1024."""
    meshes: bool = True
    """Write GLB, OBJ and NPZ beside each picture."""
    animation: Literal["webp", "gif", "png", "none"] = "webp"
    """Format of the animation of several results."""
    frames_per_second: float = 12.0
    """Of the animation, at most 50."""

    def run(self) -> int:
        """0 when every result was written; 1 when a picture was refused (the others are written)."""
        self.check()
        from facecore.systems.refinement import Diverged
        from facecore.systems.transfer_series import Estimator, make_frames

        source = self.reconstruct.load_source()

        def reconstruct(face: FaceInput) -> Reconstruction:
            return reconstruct_with_progress(face, source, self.size, self.refine)[0].reconstruction

        estimator = Estimator(source, reconstruct)
        found, refused = self.find_faces()
        people = self.people(estimator, found, refused)
        drivers = [found[path] for path in listed(self.driver, self.out) if path in found]
        if not people or (self.driver and not drivers):
            raise ValueError("; ".join(refused))
        frames = make_frames(drivers, self.lights(estimator, found, len(drivers)))
        self.refuse_to_overwrite(people, frames)
        page = self.page(people, frames, self.reconstruct.summary(source))
        for index, frame in enumerate(tqdm(frames, unit="frame", disable=len(frames) < 2, leave=False)):
            try:
                self.write_frame(index, frame, people, estimator, page)
            except (Diverged, ValueError) as error:
                refused.append(f"{frame.name}: {error}")
        if page.count == 0:
            raise ValueError("; ".join(refused))
        self.finish(people, page)
        for reason in refused:
            print(f"facecore transfer: refused {reason}", file=sys.stderr)
        return 1 if refused else 0

    @property
    def reconstruct(self) -> Reconstruct:
        """The options that both commands share; finds the faces of all pictures in one go."""
        images = (*self.identity, *self.driver, *self.light_pictures())
        return Reconstruct(
            images,
            out=self.out,
            checkpoint=self.checkpoint,
            model=self.model,
            refine=self.refine,
            landmarks=self.landmarks,
            assume_cropped=self.assume_cropped,
            faces="all",  # the largest is taken here, of each picture
            detector=self.detector,
            landmark_network=self.landmark_network,
            cache=self.cache,
            size=self.size,
        )

    def check(self) -> None:
        from facecore.data.named_lights import NAMED_LIGHTS

        if not self.identity:
            raise UsageError("--identity: name at least one picture or folder of pictures")
        known = ", ".join((*GIVERS, TURNING, *NAMED_LIGHTS))
        for name in self.light:
            if is_file_name(name) and not pathlib.Path(name).is_file():
                raise UsageError(f"--light {name}: no such file; give one, or one of {known}")
        if not self.light:
            raise UsageError("--light: name at least one light, or leave it out")
        if len(self.light) > 1 and TURNING in self.light:
            raise UsageError("--light turning is a sequence of its own; give it alone")
        if not self.driver and not set(self.light) - set(GIVERS):
            raise UsageError("give --driver, or without one a --light for the identity")
        self.reconstruct.check()
        for option, paths in (("--identity", self.identity), ("--driver", self.driver)):
            if paths and not listed(paths, self.out):
                raise UsageError(f"{option}: no pictures in {', '.join(map(str, paths))}")
        if len(self.light) > 1 and len(listed(self.driver, self.out)) > 1:
            raise UsageError("several --light need one --driver or none; call it once for each light")
        if not 0 < self.frames_per_second <= 50:
            raise UsageError(f"--frames-per-second must lie in (0, 50], got {self.frames_per_second}")

    def light_pictures(self) -> list[pathlib.Path]:
        return [pathlib.Path(name) for name in self.light if is_file_name(name) and not name.lower().endswith(".npz")]

    def find_faces(self) -> tuple[dict[pathlib.Path, FoundFace], list[str]]:
        """The largest face of every picture, and why pictures were refused."""
        from facecore.cli.one_person import largest_of_each

        faces, refused = self.reconstruct.find_faces()
        return largest_of_each(faces), refused

    def lights(
        self, estimator: Estimator, found: dict[pathlib.Path, FoundFace], drivers: int
    ) -> list[tuple[str, Light]]:
        """Name and coefficients of each light, or whose it is."""
        from facecore.data.named_lights import named_light, turning_light
        from facecore.systems.transfer_series import read_light

        lights: list[tuple[str, Light]] = []
        for name in self.light:
            path = pathlib.Path(name)
            if name in GIVERS:
                lights.append((name, name))  # type: ignore[arg-type]
            elif name == TURNING:
                turning = turning_light(drivers if drivers > 1 else TURNING_FRAMES)
                lights += [(f"{name}_{i:02d}", turning[i : i + 1]) for i in range(len(turning))]
            elif not is_file_name(name):
                lights.append((name, named_light(name)))
            elif path.suffix.lower() == ".npz":
                lights.append((path.stem, read_light(path)))
            elif path in found:
                lights.append((path.stem, estimator.estimate(found[path])[1].sh_coefficients))
            else:
                raise ValueError(f"--light {name}: no face was found whose light could be estimated")
        return lights

    def people(self, estimator: Estimator, found: dict[pathlib.Path, FoundFace], refused: list[str]) -> list[Person]:
        """One person of each picture of --identity, or of all together."""
        from facecore.systems.export import output_names
        from facecore.systems.refinement import Diverged

        paths = [path for path in listed(self.identity, self.out) if path in found]
        people: list[Person] = []
        good: list[FoundFace] = []
        for name, path in zip(output_names(paths), tqdm(paths, unit="identity", disable=len(paths) < 2, leave=False)):
            try:
                people.append(estimator.person(name, [found[path]]))
                good.append(found[path])
            except (Diverged, ValueError) as error:
                refused.append(f"{path}: {error}")
        return [estimator.person("average", good)] if self.average and good else people

    def refuse_to_overwrite(self, people: list[Person], frames: list[Frame]) -> None:
        from facecore.evaluation.transfer_page import SHEET

        inputs = {path.resolve() for path in (*listed(self.identity, self.out), *listed(self.driver, self.out))}
        inputs |= {pathlib.Path(name).resolve() for name in self.light if is_file_name(name)}
        results = [frame.result_name(person, len(people) > 1) for frame in frames for person in people]
        own = {SHEET, f"animation.{self.animation}"}
        if twice := [name for name, count in Counter(results).items() if count > 1 or f"{name}.png" in own]:
            raise UsageError(f"two files would be called {twice[0]}.png; rename a picture, or leave out a light")
        names = {f"{name}{end}" for name in results for end in WRITTEN} | own
        if taken := inputs & {(self.out / name).resolve() for name in names}:
            raise UsageError(f"--out {self.out}: a result would replace the input {min(taken)}; give another folder")

    def page(self, people: list[Person], frames: list[Frame], summary: str) -> TransferPage:
        from facecore.evaluation.transfer_page import TransferPage

        givers = f"Expression of the {self.expression}, pose of the {self.pose}, light" if self.driver else "Light"
        text = f"{givers}: {', '.join(self.light)}. {summary}"
        return TransferPage(
            "facecore transfer", text, [person.name for person in people], len(frames), driven=bool(self.driver)
        )

    def write_frame(
        self, index: int, frame: Frame, people: list[Person], estimator: Estimator, page: TransferPage
    ) -> None:
        """Every person's result of one frame: the files, and what the page shows of it."""
        from facecore.evaluation.transfer_page import Seen
        from facecore.systems.transfer_series import write_result

        driver = None
        if frame.driver is not None:
            picture, face = estimator.estimate(frame.driver)
            driver = Seen(picture.image, picture.crop, face)
        results, links = [], []
        for person in people:
            transferred = estimator.transferred(
                person, person.seen if driver is None else driver, self.expression, self.pose, frame.light
            )
            name = frame.result_name(person, len(people) > 1)
            drawn, files = write_result(self.out, name, transferred, meshes=self.meshes and not frame.same_shape)
            results.append(drawn)
            links.append(files)
        page.add(index, frame.name, [person.seen for person in people], driver, results, links=links)

    def finish(self, people: list[Person], page: TransferPage) -> None:
        kind = None if self.animation == "none" else f".{self.animation}"
        written = page.write(self.out, kind, self.frames_per_second)
        for name, value in page.distances().items():
            print(f"{name}: {value:.3f} mm")
        for person in people:
            if person.aggregated is not None:
                print(person.aggregated.describe())
        if self.checkpoint is None and self.refine == 0:
            print(MEAN_FACE_ONLY)
        print(f"{page.count} results: {written[-1]}")


def main(argv: list[str]) -> int:
    command: Transfer = parse_options(Transfer, argv, prog="facecore transfer", description=DESCRIPTION)
    return command.run()


def is_file_name(light: str) -> bool:
    """Whether a --light is not one of the words."""
    from facecore.data.named_lights import NAMED_LIGHTS

    return light not in (*GIVERS, TURNING, *NAMED_LIGHTS)


def listed(paths: tuple[pathlib.Path, ...], out: pathlib.Path) -> list[pathlib.Path]:
    """The pictures, each once: folders in the order of their names, numbers by value (frame2 before frame10)."""
    from facecore.data.search import find_pictures

    found: dict[pathlib.Path, None] = {}
    for path in paths:
        inside = sorted(find_pictures(path, [out]), key=by_number) if path.is_dir() else [path]
        found |= dict.fromkeys(inside)
    return list(found)


def by_number(path: pathlib.Path) -> list[tuple[bool, int, str]]:
    parts = re.findall(r"\d+|\D+", str(path))
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts]
