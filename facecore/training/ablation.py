"""Ablations: trainings that differ in one thing, their rows, and what these say of a paper's claims (METHODS 8.3)."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from facecore.files import write_atomically

Measures = dict[str, float]
Config = TypeVar("Config")
MIN_RELATIVE = 0.03  # of the difference
MIN_ERRORS = 2.0  # standard errors that the difference must exceed
MIN_SEEDS = 3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """`measure` is lower for the variant `better` than for the variant `worse`: one sentence of a claim.

    than: the measure of `worse`, where it is another one: both variants may then be the same.
    no_worse: it need not be lower, but may not be higher by what would count as a difference ("without losing ...").
    """

    claim: str
    sentence: str
    measure: str
    better: str
    worse: str
    than: str | None = None
    no_worse: bool = False

    @property
    def worse_measure(self) -> str:
        return self.measure if self.than is None else self.than


@dataclasses.dataclass(frozen=True)
class Ablation:
    """The variants of one system and what they are compared in. Settings are put over those of the whole ablation.

    warmup: settings of the training from which all variants of a seed branch; variants: of each.
    """

    system: str
    warmup: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    comparisons: Sequence[Comparison]

    def __post_init__(self) -> None:
        for comparison in self.comparisons:
            for name in (comparison.better, comparison.worse):
                if name not in self.variants:
                    raise ValueError(f"claim {comparison.claim} compares the variant {name!r}, which there is not")


@dataclasses.dataclass(frozen=True)
class Row:
    """The result of one training. facts: commit, configuration hash, device and the like."""

    system: str
    variant: str
    seed: int
    measures: Measures
    facts: dict[str, Any]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.system, self.variant, self.seed


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A comparison over the seeds that both variants have.

    better, worse: what is compared of each, by seed; difference: mean of worse - better; standard_error: of that mean;
    relative: the difference over the mean of `worse`.
    """

    comparison: Comparison
    seeds: tuple[int, ...]
    better: tuple[float, ...]
    worse: tuple[float, ...]
    difference: float
    standard_error: float
    relative: float

    @property
    def enough(self) -> bool:
        """Whether there are as many seeds as a claim needs."""
        return len(self.seeds) >= MIN_SEEDS

    @property
    def holds(self) -> bool:
        """Larger than two standard errors and than 3 %, over at least three seeds; or where it is only to be no worse,
        above -3 % by two standard errors."""
        if not self.enough:
            return False
        error = MIN_ERRORS * self.standard_error
        if self.comparison.no_worse:
            return self.difference - error > -MIN_RELATIVE * sum(self.worse) / len(self.worse)
        return self.difference > error and self.relative > MIN_RELATIVE


def judge(comparison: Comparison, rows: Iterable[Row]) -> Verdict:
    """The paired difference of a comparison; NaN where no seed has both variants, its error where only one has.

    A row without the measure does not count.
    """
    rows = list(rows)
    of_better = _by_seed(rows, comparison.better, comparison.measure)
    of_worse = _by_seed(rows, comparison.worse, comparison.worse_measure)
    seeds = sorted(of_better.keys() & of_worse.keys())
    better, worse = [of_better[seed] for seed in seeds], [of_worse[seed] for seed in seeds]
    count = len(seeds)
    mean = error = relative = float("nan")
    if count:
        differences = [b - a for a, b in zip(better, worse)]
        mean = sum(differences) / count
        relative = mean * count / sum(worse) if sum(worse) else 0.0
    if count > 1:
        error = (sum((d - mean) ** 2 for d in differences) / (count - 1) / count) ** 0.5
    return Verdict(comparison, tuple(seeds), tuple(better), tuple(worse), mean, error, relative)


def _by_seed(rows: Iterable[Row], variant: str, measure: str) -> dict[int, float]:
    return {row.seed: row.measures[measure] for row in rows if row.variant == variant and measure in row.measures}


def read_rows(path: pathlib.Path) -> list[Row]:
    """The rows of a JSON Lines file, the last of each variant and seed. Raises ValueError naming file and line."""
    rows: dict[tuple[str, str, int], Row] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} holds no rows of an ablation: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = _checked(Row(**json.loads(line)))
            rows[row.key] = row
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number} is not a row of an ablation: {error}") from error
    return list(rows.values())


def _checked(row: Row) -> Row:
    measures, facts = row.measures, row.facts
    if not (isinstance(row.system, str) and isinstance(row.variant, str) and type(row.seed) is int):
        raise ValueError("system and variant must be text and seed a whole number")
    if not isinstance(measures, dict) or any(type(value) not in (int, float) for value in measures.values()):
        raise ValueError("measures must be numbers by name")
    if not isinstance(facts, dict) or type(facts.get("seconds", 0.0)) not in (int, float):
        raise ValueError("facts must be values by name, seconds a number")
    return row


def write_rows(path: pathlib.Path, rows: Iterable[Row]) -> None:
    """One JSON object a line, sorted by seed and variant; whole or not at all."""
    ordered = sorted(rows, key=lambda row: (row.system, row.seed, row.variant))
    write_atomically(path, "".join(json.dumps(dataclasses.asdict(row)) + "\n" for row in ordered).encode())
