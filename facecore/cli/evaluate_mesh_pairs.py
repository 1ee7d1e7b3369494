"""What the protocols of `facecore evaluate` on meshes share: pairs of files, what is missing, tables and maps."""

from __future__ import annotations

import collections
import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.evaluate_output import Output, why
from facecore.cli.parsing import check_exists

if TYPE_CHECKING:
    from facecore.evaluation.error_maps import ErrorMap
    from facecore.evaluation.mesh_folders import MeshFile, MeshFolder, Pair
    from facecore.evaluation.published import PublishedTable
    from facecore.evaluation.results import Evaluation

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class MeshOptions(Output):
    """What the protocols on meshes share."""

    predictions: Annotated[tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="PREDICTIONS")]
    """Folder of meshes (.npz of 'facecore reconstruct', .ply, .obj, .off, .glb), or one."""
    truth: Annotated[tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="TRUTH")]
    """Folder of true meshes or scans, or one. A prediction belongs to the truth of its name, or of its folder's."""
    pairs: pathlib.Path | None = None
    """CSV of prediction,truth[,subject,group] instead of names; results are given by group."""
    prediction_landmarks: pathlib.Path | None = None
    """A folder of NAME.txt with 68 or 7 rows `x y z`, or a file of vertex numbers that hold for all. Default:
    `landmarks_3d` of an .npz, or NAME_landmarks.txt beside the mesh."""
    truth_landmarks: pathlib.Path | None = None
    """The same of the true meshes."""
    prediction_unit_mm: float = 1.0
    """Millimetres of one unit of the predictions; 1000 for metres. GLB knows its own: leave 1."""
    truth_unit_mm: float = 1.0
    """The same of the true meshes."""
    average_shapes: bool = False
    """Average the shapes of each subject and group before they are compared; they must share one topology."""

    protocol = ""
    value = "error_mm"  # of the rows, for the summary

    def run(self) -> int:
        """0 done, 1 too much missing."""
        self.check()
        from facecore.evaluation.mesh_folders import MeshFolder

        predictions = MeshFolder(self.predictions, self.prediction_landmarks, self.prediction_unit_mm)
        truths = MeshFolder(self.truth, self.truth_landmarks, self.truth_unit_mm)
        pairs, note = self.find_pairs(predictions, truths)
        evaluation = self.evaluate(pairs, predictions, truths)
        if note:
            evaluation.notes.append(note)
        return self.finish(evaluation)

    def check(self) -> None:
        self.check_output()
        check_exists(PREDICTIONS=self.predictions, TRUTH=self.truth, pairs=self.pairs)
        check_exists(prediction_landmarks=self.prediction_landmarks, truth_landmarks=self.truth_landmarks)
        for name in ("prediction_unit_mm", "truth_unit_mm"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--{name.replace('_', '-')} must be positive, got {getattr(self, name)}")

    def find_pairs(self, predictions: MeshFolder, truths: MeshFolder) -> tuple[list[Pair], str]:
        """The pairs, and a note on predictions that no truth was found for."""
        from facecore.evaluation.mesh_folders import pair_by_name, pairs_of_table

        if self.pairs is not None:
            return pairs_of_table(self.pairs, predictions, truths), ""
        pairs, left = pair_by_name(predictions, truths)
        if not left:
            return pairs, ""
        return pairs, f"{len(left)} predictions have no truth of their name and do not count; the first is {left[0]}."

    def evaluate(self, pairs: list[Pair], predictions: MeshFolder, truths: MeshFolder) -> Evaluation:
        from facecore.evaluation.error_maps import ExtremeMaps
        from facecore.evaluation.results import Evaluation, summarise

        rows: list[Row] = []
        skipped: list[tuple[str, str]] = []
        said: collections.Counter[str] = collections.Counter()
        maps = ExtremeMaps()
        total = 0
        for group in tqdm(self.groups(pairs), desc=self.protocol, unit="pair", leave=False, disable=None):
            total += len(group)
            found = self.read(group, predictions, skipped)
            if not found:
                continue
            try:
                prediction, truth = self.one(found), truths.read(group[0].truth)
                row, drawn = self.compare(prediction, truth)
            except (ValueError, OSError) as error:
                skipped += [(pair.name, why(error, pair.name)) for pair, _ in found]
                continue
            said.update((*prediction.warnings, *truth.warnings))
            name = group[0].name
            rows.append({"prediction": name, "subject": group[0].subject, "group": group[0].group, **row})
            maps.add(row[self.value], pathlib.PurePath(name).name, drawn)
        return Evaluation(
            protocol=self.protocol,
            settings=self.settings_of_run(),
            summary=[{"measure": self.value, **row} for row in summarise(rows, self.value)] if rows else [],
            rows=rows,
            total=total,
            skipped=skipped,
            published=self.published(),
            pictures=maps.draw(),
            notes=[*self.notes(), *(f"{count} meshes: {text}." for text, count in said.items())],
        )

    def groups(self, pairs: list[Pair]) -> list[list[Pair]]:
        """What is compared together: each pair alone, or all predictions of a subject and group."""
        if not self.average_shapes:
            return [[pair] for pair in pairs]
        grouped: dict[tuple[pathlib.Path, str, str], list[Pair]] = {}
        for pair in pairs:
            grouped.setdefault((pair.truth, pair.subject, pair.group), []).append(pair)
        return list(grouped.values())

    def read(
        self, group: list[Pair], predictions: MeshFolder, skipped: list[tuple[str, str]]
    ) -> list[tuple[Pair, MeshFile]]:
        found = []
        for pair in group:
            if pair.prediction is None:
                skipped.append((str(pair.truth), "no prediction of it"))
                continue
            try:
                found.append((pair, predictions.read(pair.prediction)))
            except (ValueError, OSError) as error:
                skipped.append((pair.name, why(error, pair.name)))
        return found

    def one(self, found: Sequence[tuple[Pair, MeshFile]]) -> MeshFile:
        from facecore.evaluation.mesh_folders import average_shapes

        return average_shapes([file for _, file in found]) if self.average_shapes else found[0][1]

    def compare(self, prediction: MeshFile, truth: MeshFile) -> tuple[Row, ErrorMap]:
        """The row of one pair, and the errors on its truth. Raises ValueError when it cannot be compared."""
        raise NotImplementedError

    def settings_of_run(self) -> dict[str, Any]:
        """Everything that decides the numbers, for results.json."""
        return dataclasses.asdict(self) | {"aggregation": self.aggregation()}

    def aggregation(self) -> str:
        shapes = "the mean of a subject's shapes is compared" if self.average_shapes else "each shape is compared alone"
        return f"{shapes}; errors are averaged per subject, then mean and standard deviation over subjects"

    def published(self) -> Sequence[PublishedTable]:
        return ()

    def notes(self) -> Iterator[str]:
        yield from ()
