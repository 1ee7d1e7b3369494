"""What every protocol of `facecore evaluate` shares: where results go, and when too much is missing."""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING

from facecore.cli.errors import UsageError

if TYPE_CHECKING:
    from facecore.evaluation.results import Evaluation

MOST_LISTED = 20  # on the terminal; results.json has all


@dataclasses.dataclass(frozen=True, kw_only=True)
class Output:
    """Options of every protocol."""

    out: pathlib.Path = pathlib.Path("facecore_evaluation")
    """Folder for results.json and index.html; those of an earlier evaluation are replaced."""
    largest_missing: float = 0.05
    """Exit code 1 when more than this share of the predictions is missing or damaged."""

    def check_output(self) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file; give a folder")
        if not 0 <= self.largest_missing <= 1:
            raise UsageError(f"--largest-missing must lie in [0, 1], got {self.largest_missing}")

    def finish(self, evaluation: Evaluation) -> int:
        """Writes and prints the result; the exit code. Raises ValueError when nothing was evaluated."""
        from facecore.evaluation.results import text_table

        for what, why in evaluation.skipped[:MOST_LISTED]:
            print(f"facecore evaluate: skipped {what}: {why}", file=sys.stderr)
        if len(evaluation.skipped) > MOST_LISTED:
            left = len(evaluation.skipped) - MOST_LISTED
            print(f"facecore evaluate: skipped {left} more; results.json lists them", file=sys.stderr)
        if not evaluation.summary:
            raise ValueError(f"none of the {evaluation.total} could be evaluated; nothing was written")
        evaluation.write(self.out)
        print(text_table(evaluation.summary))
        for note in evaluation.notes:
            print(note)
        print(f"{evaluation.total - len(evaluation.skipped)} of {evaluation.total}: {self.out / 'index.html'}")
        share = len(evaluation.skipped) / max(evaluation.total, 1)
        if share > self.largest_missing:
            print(
                f"facecore evaluate: {100 * share:.1f} % are missing or damaged, more than the "
                f"{100 * self.largest_missing:g} % of --largest-missing",
                file=sys.stderr,
            )
            return 1
        return 0


def why(error: Exception, name: str) -> str:
    """The reason in one line, without the name of the file that stands beside it."""
    return " ".join(str(error).split()).removeprefix(f"{name}: ").removeprefix(f"{name} ")
