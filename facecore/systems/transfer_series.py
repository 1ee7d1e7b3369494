"""From found faces to transferred ones: people of one or several pictures, frames of a sequence, and their results."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import torch

from facecore.data import write_png
from facecore.evaluation.panels import draw_over_picture
from facecore.evaluation.transfer_page import Seen
from facecore.systems.aggregation import Aggregated, average_faces, concatenate
from facecore.systems.decoding import FaceSource
from facecore.systems.export import export_face, output_names
from facecore.systems.inference import FaceInput, FoundFace
from facecore.systems.mouth import paste_mouth
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.transfer import Giver, Parts, relight, transfer, transfer_to_person


@dataclasses.dataclass(frozen=True, eq=False)
class Person:
    """Whose face is shown. pictures: M of them, in the order of `faces`, the single reconstructions.

    aggregated: what several pictures together say; None with one picture, which is taken as it is.
    """

    name: str
    pictures: Sequence[FaceInput]
    faces: Reconstruction
    aggregated: Aggregated | None = None

    @property
    def face(self) -> Reconstruction:
        """Of one face."""
        return self.faces if self.aggregated is None else self.aggregated.reconstruction

    @property
    def seen(self) -> Seen:
        """The face in its picture, of several in the one of the average's pose."""
        picture = self.pictures[0 if self.aggregated is None else self.aggregated.reference]
        return Seen(picture.image, picture.crop, self.face)


Light = torch.Tensor | Giver  # effective coefficients [1, 9, 3], or whose


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One step of a sequence.

    driver: None = every person drives himself. same_shape: whether it differs from the frame before in light only.
    """

    name: str
    driver: FoundFace | None
    light: Light
    same_shape: bool = False

    def result_name(self, person: Person, several_people: bool) -> str:
        """Path of the results without their endings, relative to the folder of all: people apart where they share
        drivers."""
        if self.driver is None:
            return f"{person.name}_{self.name}"
        return f"{person.name}/{self.name}" if several_people else self.name


def make_frames(drivers: Sequence[FoundFace], lights: Sequence[tuple[str, Light]]) -> list[Frame]:
    """The frames of one light for all drivers, of a light for each, or of several lights for one driver or none.

    Raises ValueError for other numbers.
    """
    if not lights or (len(drivers) > 1 and len(lights) not in (1, len(drivers))):
        raise ValueError(f"lights must be one, or with several drivers {len(drivers)}, got {len(lights)}")
    names = output_names([driver.path for driver in drivers])
    if len(drivers) > 1:
        of_each = lights if len(lights) > 1 else [lights[0]] * len(drivers)
        return [Frame(name, driver, light) for name, driver, (_, light) in zip(names, drivers, of_each)]
    driver = drivers[0] if drivers else None
    titles = [name for name, _ in lights]
    if drivers:
        titles = names if len(lights) == 1 else [f"{names[0]}_{title}" for title in titles]
    return [Frame(title, driver, light, i > 0) for i, (title, (_, light)) in enumerate(zip(titles, lights))]


Estimate = tuple[FaceInput, Reconstruction]


class Estimator:
    """Reconstructs faces of pictures, each picture by itself, and transfers between them.

    Args:
        source: the system or model that decodes codes.
        reconstruct: the face of a picture, by the same source; raises Diverged or ValueError.

    The pictures of people are remembered, and the last one: a sequence of lights shows one driver again and again.
    """

    def __init__(self, source: FaceSource, reconstruct: Callable[[FaceInput], Reconstruction]) -> None:
        self.source, self.reconstruct = source, reconstruct
        self._people: dict[pathlib.Path, Estimate] = {}
        self._last: tuple[FoundFace, Estimate] | None = None

    def estimate(self, found: FoundFace) -> Estimate:
        """The picture and its face. Raises ValueError naming the file, and what `reconstruct` raises."""
        if found.path in self._people:
            return self._people[found.path]
        if self._last is None or self._last[0] is not found:
            picture = found.read()
            self._last = (found, (picture, self.reconstruct(picture)))
        return self._last[1]

    def person(self, name: str, found: Sequence[FoundFace]) -> Person:
        """One person of these pictures; several are averaged. Raises as `estimate`."""
        for face in found:
            self._people[face.path] = self.estimate(face)
        pictures, faces = zip(*(self._people[face.path] for face in found))
        together = concatenate(faces)
        return Person(name, pictures, together, average_faces(self.source, together) if len(faces) > 1 else None)

    def transferred(self, person: Person, driver: Seen, expression: Giver, pose: Giver, light: Light) -> Seen:
        """The person's face driven, in the picture over which it belongs.

        Where the person's own picture is below another's expression, the driver's mouth is put into it.
        """
        parts = Parts(expression, pose, light if isinstance(light, str) else "driver")
        if person.aggregated is None:
            face = transfer(self.source, person.faces, driver.face, parts)
        else:
            face = transfer_to_person(self.source, person.faces, person.aggregated, driver.face, parts)
        if isinstance(light, torch.Tensor):
            face = relight(face, light.to(face.vertices))
        if pose == "driver":
            return Seen(driver.image, driver.crop, face)
        below = person.seen
        opened = expression == "driver" and driver.image is not below.image
        return Seen(paste_mouth(below, face, driver) if opened else below.image, below.crop, face)


def read_light(path: pathlib.Path) -> torch.Tensor:
    """Effective coefficients float32 [1, 9, 3] from the NPZ of a reconstruction (its `sh_coefficients`).

    Raises ValueError naming the file for another kind of file or array.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            light = np.asarray(arrays["sh_coefficients"])
    except (OSError, ValueError, KeyError, EOFError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no light; give the NPZ that facecore reconstruct writes") from error
    if light.shape != (9, 3) or light.dtype.kind != "f" or not np.isfinite(light).all():
        raise ValueError(f"{path}: sh_coefficients must be 9 x 3 finite numbers, got {light.dtype} {light.shape}")
    return torch.from_numpy(light).float()[None]


def write_result(out: pathlib.Path, name: str, result: Seen, *, meshes: bool) -> tuple[Seen, dict[str, str]]:
    """Writes NAME.png, the picture with the face drawn over it, and with `meshes` NAME.glb, NAME.obj and NAME.npz.

    name: may lie in a folder below `out`, which is made. Returns the drawn picture, and the files by what they are.
    """
    place = out / name
    place.parent.mkdir(parents=True, exist_ok=True)
    drawn = draw_over_picture(result.face, result.image, result.crop)
    endings = {"PNG": ".png"}
    if meshes:
        endings |= {"GLB": ".glb", "OBJ": ".obj", "NPZ": ".npz"}
        export_face(place.parent, place.name, result.face, result.image, result.crop, overlay=(".png", drawn))
    else:
        write_png(place.with_name(f"{place.name}.png"), drawn)
    return dataclasses.replace(result, image=drawn), {kind: f"{name}{end}" for kind, end in endings.items()}
