"""Several photographs of one person: the largest face of each, and `facecore reconstruct --average`."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from facecore.cli.reconstruct import Reconstruct
    from facecore.evaluation.report import Report
    from facecore.systems.aggregation import Aggregated
    from facecore.systems.decoding import FaceSource
    from facecore.systems.inference import FaceInput, FoundFace
    from facecore.systems.reconstruction import Reconstruction

NAME = "average"


def largest_of_each(faces: Sequence[FoundFace]) -> dict[pathlib.Path, FoundFace]:
    """The largest face of every picture; says in one line where there were several."""
    of_picture: dict[pathlib.Path, list[FoundFace]] = {}
    for face in faces:
        of_picture.setdefault(face.path, []).append(face)
    for path, several in of_picture.items():
        if len(several) > 1:
            print(f"{path}: {len(several)} faces, took the largest")
    return {path: max(several, key=lambda face: face.crop.side) for path, several in of_picture.items()}


def reconstruct_average(command: Reconstruct, source: FaceSource, faces: list[FoundFace], refused: list[str]) -> int:
    """Reconstructs each picture, writes the average of all as one face and how far the single ones lie from it.

    0 when every picture took part; 1 when one was refused. Raises ValueError with fewer than two faces.
    """
    from facecore.cli.reconstruct import reconstruct_with_progress
    from facecore.evaluation.report import Report
    from facecore.systems.aggregation import average_faces, concatenate
    from facecore.systems.refinement import Diverged

    singles: list[tuple[FaceInput, Reconstruction]] = []
    for found in tqdm(largest_of_each(faces).values(), unit="picture", leave=False):
        try:
            face = found.read()
            refined, _ = reconstruct_with_progress(face, source, command.size, command.refine)
            singles.append((face, refined.reconstruction))
        except (Diverged, ValueError) as error:
            refused.append(f"{found.path}: {error}")
    for reason in refused:
        print(f"facecore reconstruct: refused {reason}", file=sys.stderr)
    if len(singles) < 2:
        raise ValueError(f"--average needs a face in at least two pictures, got {len(singles)}")
    together = concatenate([face for _, face in singles])
    aggregated = average_faces(source, together)
    report = Report("facecore reconstruct --average", f"{command.summary(source)} {aggregated.describe()}.".strip())
    command.out.mkdir(parents=True, exist_ok=True)
    add_average(command.out, report, [face for face, _ in singles], together, aggregated)
    report.write(command.out / "index.html")
    print(aggregated.describe())
    print(f"1 face of {len(singles)} pictures: {command.out / 'index.html'}")
    return 1 if refused else 0


def add_average(
    out: pathlib.Path, report: Report, pictures: list[FaceInput], singles: Reconstruction, aggregated: Aggregated
) -> None:
    """Exports the average over its reference picture; the page shows it, and in each picture beside the single face."""
    from facecore.evaluation.panels import draw_over_picture, opaque
    from facecore.evaluation.report import PANEL
    from facecore.evaluation.transfer_page import Seen
    from facecore.systems.export import export_face, output_names

    average, reference = aggregated.reconstruction, pictures[aggregated.reference]
    files = export_face(out, NAME, average, reference.image, reference.crop)
    links = {"GLB": files.glb.name, "OBJ": files.obj.name, "NPZ": files.npz.name}
    report.add_face(NAME, average, reference.image, reference.crop, landmarks=reference.landmarks, links=links)
    for i, (name, picture) in enumerate(zip(output_names([face.path for face in pictures]), pictures)):
        single = singles[i : i + 1]
        in_place = dataclasses.replace(
            average, pose=single.pose, camera=single.camera, sh_coefficients=single.sh_coefficients
        )
        shown = {"input": picture.image}
        shown |= {
            caption: draw_over_picture(face, picture.image, picture.crop)
            for caption, face in (("by itself", single), ("the average", in_place))
        }
        tiles = {caption: opaque(Seen(image, picture.crop, single).tile(PANEL)) for caption, image in shown.items()}
        numbers = {
            "from the average, mm": float(aggregated.distance_mm[i]),
            "without expression, mm": float(aggregated.neutral_distance_mm[i]),
        }
        report.add_pictures(name, tiles, numbers=numbers)
