"""Several photographs of one person: the largest face of each; `facecore reconstruct --average`, `--aggregate`."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from facecore.cli.errors import UsageError

if TYPE_CHECKING:
    from facecore.cli.reconstruct import Reconstruct
    from facecore.evaluation.report import Report
    from facecore.systems.aggregation import Aggregated
    from facecore.systems.decoding import FaceSource
    from facecore.systems.inference import FaceInput, FoundFace
    from facecore.systems.reconstruction import Reconstruction

AVERAGE, AGGREGATE = "average", "aggregate"  # the options, and the names of their files


def largest_of_each(faces: Sequence[FoundFace]) -> dict[pathlib.Path, FoundFace]:
    """The largest face of every picture; says in one line where there were several."""
    of_picture: dict[pathlib.Path, list[FoundFace]] = {}
    for face in faces:
        of_picture.setdefault(face.path, []).append(face)
    for path, several in of_picture.items():
        if len(several) > 1:
            print(f"{path}: {len(several)} faces, took the largest")
    return {path: max(several, key=lambda face: face.crop.side) for path, several in of_picture.items()}


def reconstruct_person(command: Reconstruct, source: FaceSource, faces: list[FoundFace], refused: list[str]) -> int:
    """Reconstructs each picture, writes the average of all, or what C-Net aggregates of them, as one face, and how far
    the single ones lie from it.

    0 when every picture took part; 1 when one was refused. Raises ValueError with fewer than two faces.
    """
    from facecore.cli.reconstruct import reconstruct_with_progress
    from facecore.evaluation.report import Report
    from facecore.systems.aggregation import concatenate
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
    name = AGGREGATE if command.aggregate else AVERAGE
    if len(singles) < 2:
        raise ValueError(f"--{name} needs a face in at least two pictures, got {len(singles)}")
    together, pictures = concatenate([face for _, face in singles]), [face for face, _ in singles]
    aggregated = join_faces(command, source, together, pictures)
    report = Report(f"facecore reconstruct --{name}", f"{command.summary(source)} {aggregated.describe()}.".strip())
    command.out.mkdir(parents=True, exist_ok=True)
    add_joined(command.out, report, name, pictures, together, aggregated)
    report.write(command.out / "index.html")
    print(aggregated.describe())
    print(f"1 face of {len(singles)} pictures: {command.out / 'index.html'}")
    return 1 if refused else 0


def join_faces(
    command: Reconstruct, source: FaceSource, faces: Reconstruction, pictures: list[FaceInput]
) -> Aggregated:
    """The average, of a system over recognition features that of these, or what C-Net makes of the faces."""
    import torch

    from facecore.systems.aggregation import aggregate_faces, average_faces, average_features
    from facecore.systems.inference import aligning_points, observe
    from facecore.systems.unsupervised_regression import UnsupervisedRegression
    from facecore.systems.weakly_supervised import WeaklySupervised

    if not command.aggregate and not isinstance(source, UnsupervisedRegression):
        return average_faces(source, faces)
    assert isinstance(source, WeaklySupervised | UnsupervisedRegression)  # check_aggregates
    size = source.config.image_size
    crops = torch.stack([picture.cropped(size) for picture in pictures])
    if isinstance(source, UnsupervisedRegression):
        return average_features(source, faces, crops, aligning_points(observe(pictures, size), source, size))
    return aggregate_faces(source, faces, crops)


def check_aggregates(source: FaceSource) -> None:
    """Refuses a system that has no confidence network."""
    from facecore.systems.weakly_supervised import WeaklySupervised

    if not isinstance(source, WeaklySupervised) or source.confidence_net is None:
        raise UsageError(
            "--aggregate needs a checkpoint of 'facecore train --system weakly-supervised' with its stage `confidence`;"
            " take --average for others"
        )


def add_joined(
    out: pathlib.Path,
    report: Report,
    name: str,
    pictures: list[FaceInput],
    singles: Reconstruction,
    aggregated: Aggregated,
) -> None:
    """Exports the joined face over its reference picture; the page shows it, and in each picture beside the single
    face."""
    from facecore.evaluation.panels import draw_over_picture, opaque
    from facecore.evaluation.report import PANEL
    from facecore.evaluation.transfer_page import Seen
    from facecore.systems.export import export_face, output_names

    average, reference = aggregated.reconstruction, pictures[aggregated.reference]
    files = export_face(out, name, average, reference.image, reference.crop)
    links = {"GLB": files.glb.name, "OBJ": files.obj.name, "NPZ": files.npz.name}
    report.add_face(name, average, reference.image, reference.crop, landmarks=reference.landmarks, links=links)
    for i, (own_name, picture) in enumerate(zip(output_names([face.path for face in pictures]), pictures)):
        single = singles[i : i + 1]
        in_place = dataclasses.replace(
            average, pose=single.pose, camera=single.camera, sh_coefficients=single.sh_coefficients
        )
        shown = {"input": picture.image}
        shown |= {
            caption: draw_over_picture(face, picture.image, picture.crop)
            for caption, face in (("by itself", single), ("joined", in_place))
        }
        tiles = {caption: opaque(Seen(image, picture.crop, single).tile(PANEL)) for caption, image in shown.items()}
        numbers = {
            "from the joined face, mm": float(aggregated.distance_mm[i]),
            "without expression, mm": float(aggregated.neutral_distance_mm[i]),
        }
        if aggregated.confidence is not None:
            numbers["confidence"] = float(aggregated.confidence[i])
        report.add_pictures(own_name, tiles, numbers=numbers)
