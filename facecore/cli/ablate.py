"""`facecore ablate`: trains variants of a system that differ in one thing, and says which claims of its paper hold."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import tyro

from facecore.cli.errors import UsageError
from facecore.cli.parsing import parse_options

if TYPE_CHECKING:
    from facecore.cli.training import TrainingCommand
    from facecore.training.ablation import Ablation, Row

DESCRIPTION = """Trains variants of a system that differ in one thing each, on renders of a morphable model, from one \
warm-up for each seed; measures them on held-out renders; and says which claims of the paper hold.

Writes to --out: rows.jsonl, a folder for each training, index.html, and its table of claims as claims.md. Called \
again, it goes on where it stopped.

Example: facecore ablate --out runs/ablation --seeds 0 1 2
         facecore ablate --out runs/ablation --variants all "no pairs" --seeds 0
         facecore ablate --system weakly-supervised --config settings.yaml --out runs/weak (model.recognition is needed)
         facecore ablate --system conditional-estimation --list
         facecore ablate --rows runs/ablation/rows.jsonl --system weakly-supervised --out report"""
SOURCES = {"morphable": "morphable models", "recognition": "recognition networks"}


@dataclasses.dataclass(frozen=True)
class Ablate:
    """Options of `facecore ablate`."""

    system: Literal[
        "semi-supervised",
        "joint-recognition",
        "weakly-supervised",
        "conditional-estimation",
        "unsupervised-regression",
    ] = "semi-supervised"
    """Whose claims."""
    out: pathlib.Path = pathlib.Path("facecore_ablation")
    """Folder of the trainings, of index.html and of claims.md."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each a warm-up and all the variants; a claim needs three."""
    variants: tuple[str, ...] = ()
    """Names of --list; default: all."""
    config: pathlib.Path | None = None
    """YAML of settings put over the preset 'ablation'."""
    rows: pathlib.Path | None = None
    """Train nothing: make index.html and claims.md from these rows."""
    list_variants: Annotated[bool, tyro.conf.arg(name="list")] = False
    """Only say which variants and claims there are."""

    def run(self) -> int:
        config = self.configuration()
        experiment = self.claims.ablation(config)
        if self.list_variants:
            self.print_list(experiment)
            return 0
        variants = self.chosen(experiment)
        self.check()
        rows = self.given_rows() if self.rows is not None else self.trained_rows(experiment, config, variants)
        return self.report(experiment, rows)

    @property
    def claims(self) -> Any:
        """The module with `ablation` and `measure` of the system."""
        return importlib.import_module(f"facecore.systems.{self.system.replace('-', '_')}_ablation")

    @property
    def training(self) -> TrainingCommand:
        command = importlib.import_module(f"facecore.cli.train_{self.system.replace('-', '_')}").COMMAND
        return cast("TrainingCommand", command)

    def configuration(self) -> Any:
        from facecore.training.config import overlay, read_yaml

        preset = self.training.presets["ablation"]
        if self.config is None:
            return preset
        try:
            return overlay(preset, read_yaml(self.config))
        except ValueError as error:
            raise UsageError(f"--config: {error}") from error

    def chosen(self, experiment: Ablation) -> list[str]:
        if unknown := [name for name in self.variants if name not in experiment.variants]:
            raise UsageError(f"--variants {unknown[0]!r}: choose among {', '.join(map(repr, experiment.variants))}")
        return [name for name in experiment.variants if not self.variants or name in self.variants]

    def check(self) -> None:
        if not self.seeds or min(self.seeds) < 0 or len(set(self.seeds)) < len(self.seeds):
            raise UsageError(f"--seeds must be different numbers from 0, got {list(self.seeds)}")
        if self.out.exists() and not self.out.is_dir():
            raise UsageError(f"--out {self.out} is a file; give a folder")
        if self.rows is not None and not self.rows.is_file():
            raise UsageError(f"--rows {self.rows}: no such file")

    def given_rows(self) -> list[Row]:
        from facecore.training.ablation import read_rows

        assert self.rows is not None
        rows = read_rows(self.rows)
        if rows and not any(row.system == self.system for row in rows):
            raise UsageError(f"--rows {self.rows} holds rows of {rows[0].system}: give --system {rows[0].system}")
        made: dict[str, set[Any]] = {}
        sources: dict[str, set[Any]] = {}
        for row in rows:
            if row.system == self.system:
                made.setdefault(row.variant, set()).add(row.facts.get("config_hash"))
                for name in SOURCES:
                    sources.setdefault(name, set()).add(row.facts.get(name))
        if mixed := [name for name, hashes in made.items() if len(hashes) > 1]:
            raise UsageError(f"--rows {self.rows}: the rows of {mixed[0]!r} are of several configurations")
        for name, found in sources.items():
            if len(found) > 1:
                which = ", ".join(sorted(map(str, found)))
                raise UsageError(f"--rows {self.rows}: the rows are of several {SOURCES[name]}, {which}")
        return rows

    def trained_rows(self, experiment: Ablation, config: Any, variants: list[str]) -> list[Row]:
        from facecore.cli.train_data import load_morphable
        from facecore.training.ablation import read_rows
        from facecore.training.ablation_run import ROWS, is_current, run_ablation
        from facecore.training.facts import facts_of_run
        from facecore.training.loop import Interrupted

        training = self.training
        with settings_of_a_file(config):
            training.check(config)
        for name in ("photos", "labelled"):
            if getattr(config.data, name) is not None:
                raise UsageError(f"--config: data.{name} is not used here; an ablation's pictures are rendered")
        for name, option in (("seed", "--seeds"), ("out", "--out"), ("start_from", "the warm-up"), ("resume", "--out")):
            if getattr(config.run, name) != getattr(training.presets["ablation"].run, name):
                raise UsageError(f"--config: run.{name} is not used here; {option} is in its place")
        with settings_of_a_file(config):
            morphable = load_morphable(config)

        def build(config: Any) -> Any:
            with settings_of_a_file(config):
                return training.trainer(config, morphable)

        facts = facts_of_run(config.run.device) | {"morphable": morphable.name} | recognition_of(config)
        rows = run_ablation(
            experiment,
            config,
            self.out,
            seeds=self.seeds,
            variants=variants,
            build=build,
            measure=self.claims.measure,
            facts=facts,
        )
        total = len(self.seeds) * len(variants)
        try:
            for number, row in enumerate(rows, start=1):
                print(f"{number} of {total}: seed {row.seed}, {row.variant}", file=sys.stderr)
        except Interrupted as error:
            raise Interrupted(error.reason, "call facecore ablate again to go on") from error
        found = [row for row in read_rows(self.out / ROWS) if row.system == self.system]
        current = [row for row in found if is_current(row, experiment, config, facts)]
        if len(current) < len(found):
            print(f"{len(found) - len(current)} rows of other settings are left out of the report", file=sys.stderr)
        return current

    def report(self, experiment: Ablation, rows: list[Row]) -> int:
        from facecore.evaluation.ablation_page import claims_table, make_page, percent
        from facecore.files import write_atomically
        from facecore.training.ablation import judge

        rows = [row for row in rows if row.system == experiment.system]
        self.out.mkdir(parents=True, exist_ok=True)
        make_page(experiment, rows, self.out).write(self.out / "index.html")
        write_atomically(self.out / "claims.md", claims_table(experiment, rows).encode())
        for comparison in experiment.comparisons:
            verdict = judge(comparison, rows)
            word = "holds" if verdict.holds else "does not hold" if verdict.enough else "open"
            print(
                f"claim {comparison.claim:>2}: {word:<13} {comparison.measure}: {percent(verdict)} over "
                f"{len(verdict.seeds)} seed{'s' * (len(verdict.seeds) != 1)}: {comparison.sentence}"
            )
        print(self.out / "index.html")
        return 0

    def print_list(self, experiment: Ablation) -> None:
        print("variants:", *(f"  {name}" for name in experiment.variants), "claims:", sep="\n")
        for c in experiment.comparisons:
            other = "that" if c.than is None else c.than
            relation = "not above" if c.no_worse else "below"
            print(f"  {c.claim:>2}  {c.sentence}: {c.measure} of '{c.better}' {relation} {other} of '{c.worse}'")


@contextlib.contextmanager
def settings_of_a_file(config: Any) -> Iterator[None]:
    """Refusals name options of `facecore train`, which an ablation takes from a file."""
    try:
        yield
    except UsageError as error:
        recognition = ", recognition: runs/points/manifest.json" if hasattr(config.model, "recognition") else ""
        raise UsageError(
            f"{error}. An ablation takes its settings from a YAML file, --config, such as "
            f"model: {{morphable: ICT-FaceKit{recognition}}}"
        ) from error


def recognition_of(config: Any) -> dict[str, str]:
    """The recognition network of the settings, where they name one: IdentityNetwork.origin."""
    manifest = getattr(config.model, "recognition", None)
    if manifest is None:
        return {}
    from facecore.perception import load_identity_network

    return load_identity_network(manifest).origin


def main(argv: list[str]) -> int:
    command: Any = parse_options(Ablate, argv, prog="facecore ablate", description=DESCRIPTION)
    return int(command.run())
