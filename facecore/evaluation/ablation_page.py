"""The page of an ablation: claims with their paired differences, every measure of every variant, pictures."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from facecore.data import read_image
from facecore.evaluation.report import Report, Value, picture, table
from facecore.training.ablation import MIN_ERRORS, MIN_RELATIVE, MIN_SEEDS, Ablation, Comparison, Row, Verdict, judge
from facecore.training.ablation_run import PICTURES, slug

RULE = (
    f"A claim holds when the paired difference over at least {MIN_SEEDS} seeds is larger than {MIN_ERRORS:.0f} "
    f"standard errors and than {100 * MIN_RELATIVE:.0f} % of the worse variant's error; one of being no worse, "
    f"when the difference is above -{100 * MIN_RELATIVE:.0f} % by {MIN_ERRORS:.0f} standard errors. What is "
    "compared is an error or a spread on held-out renders: lower is better."
)


def make_page(ablation: Ablation, rows: Sequence[Row], folder: pathlib.Path) -> Report:
    """The page of the rows; pictures are taken from the trainings' folders below `folder` where these are."""
    report = Report(f"Ablations of the {ablation.system} system", f"{RULE} {_made_of(rows)}")
    verdicts = [judge(comparison, rows) for comparison in ablation.comparisons]
    columns = ["claim", "", "measure", "better variant", "worse variant", "difference", "2 standard errors", "holds"]
    seeds = table(
        ["claim", "measure", "variant", *_seed_names(verdicts)], _by_seed(verdicts), "seeds", folded="by seed"
    )
    report.add_table("Claims", columns, [_claim(verdict) for verdict in verdicts], more=seeds)
    measures = sorted({name for row in rows for name in row.measures})
    report.add_table(
        "Every measure, mean over seeds",
        ["measure", *ablation.variants],
        [_measure(m, ablation, rows) for m in measures],
    )
    _add_pictures(report, ablation, rows, folder)
    facts = sorted({name for row in rows for name in row.facts})
    every: list[list[Value]] = [
        [row.variant, row.seed, *(str(row.facts.get(name, "")) for name in facts)] for row in rows
    ]
    report.add_table("Trainings", ["variant", "seed", *facts], every)
    return report


def claims_table(ablation: Ablation, rows: Sequence[Row]) -> str:
    """The claims as a table in Markdown, for documents: what is compared by seed, the mean difference with the standard
    errors that it must exceed, and whether it does."""
    lines = ["| claim | what it says | seeds | lower | than | difference | holds |", "|" + "---|" * 7]
    for verdict in (judge(comparison, rows) for comparison in ablation.comparisons):
        comparison = verdict.comparison
        lower = f"{comparison.better}, `{comparison.measure}`{', no worse' if comparison.no_worse else ''}"
        cells = [
            comparison.claim,
            comparison.sentence,
            ", ".join(map(str, verdict.seeds)) or "none",
            f"{lower}: {_values(verdict.better)}",
            f"{comparison.worse}, `{comparison.worse_measure}`: {_values(verdict.worse)}",
            percent(verdict) + (f" ± {_error_percent(verdict):.1f}" if len(verdict.seeds) > 1 else ""),
            _word(verdict),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def percent(verdict: Verdict) -> str:
    """The difference over what it is less than, for people."""
    return f"{100 * verdict.relative:+.1f} %" if verdict.seeds else "-"


def _values(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values) or "-"


def _word(verdict: Verdict) -> str:
    return "yes" if verdict.holds else "no" if verdict.enough else f"{len(verdict.seeds)} of {MIN_SEEDS} seeds"


def _error_percent(verdict: Verdict) -> float:
    """The standard errors that a difference must exceed, in percent of the worse variant; 0 of nothing."""
    whole = sum(verdict.worse)
    return 100 * MIN_ERRORS * verdict.standard_error * len(verdict.worse) / whole if whole else 0.0


def _claim(verdict: Verdict) -> list[Value]:
    comparison = verdict.comparison
    return [
        comparison.claim,
        comparison.sentence,
        _compared(comparison),
        f"{comparison.better}: {_mean(verdict.better)}",
        f"{comparison.worse}: {_mean(verdict.worse)}",
        percent(verdict),
        f"{_error_percent(verdict):.1f} %" if len(verdict.seeds) > 1 else "-",
        _word(verdict),
    ]


def _compared(comparison: Comparison) -> str:
    relation = "not above" if comparison.no_worse else "below"
    if comparison.than is None:
        return f"{comparison.measure}, not above" if comparison.no_worse else comparison.measure
    return f"{comparison.measure} {relation} {comparison.than}"


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.4g}" if values else "-"


def _seed_names(verdicts: Sequence[Verdict]) -> list[str]:
    return [f"seed {seed}" for seed in sorted({seed for verdict in verdicts for seed in verdict.seeds})]


def _by_seed(verdicts: Sequence[Verdict]) -> list[list[Value]]:
    seeds = sorted({seed for verdict in verdicts for seed in verdict.seeds})
    lines: list[list[Value]] = []
    for verdict in verdicts:
        comparison = verdict.comparison
        for measure, variant, values in (
            (comparison.measure, comparison.better, verdict.better),
            (comparison.worse_measure, comparison.worse, verdict.worse),
        ):
            of_seed = dict(zip(verdict.seeds, values))
            cells: list[Value] = [of_seed.get(seed, "-") for seed in seeds]
            lines.append([comparison.claim, measure, variant, *cells])
    return lines


def _measure(name: str, ablation: Ablation, rows: Sequence[Row]) -> list[Value]:
    cells: list[Value] = [name]
    for variant in ablation.variants:
        values = [row.measures[name] for row in rows if row.variant == variant and name in row.measures]
        cells.append(sum(values) / len(values) if values else "-")
    return cells


def _add_pictures(report: Report, ablation: Ablation, rows: Sequence[Row], folder: pathlib.Path) -> None:
    """The held-out renders of the first seed of each variant: input, drawn, albedo, light."""
    for variant in ablation.variants:
        seeds = sorted(row.seed for row in rows if row.variant == variant)
        paths = [folder / f"seed{seed}" / slug(variant) / PICTURES for seed in seeds]
        found = [path for path in paths if path.is_file()]
        if found:
            shown = picture(f"{variant}: input, drawn, albedo, light", read_image(found[0]))
            report.add_html(variant, shown)


def _made_of(rows: Sequence[Row]) -> str:
    if not rows:
        return "There is no row yet."
    seconds = [float(row.facts["seconds"]) for row in rows if "seconds" in row.facts]  # those that were not resumed
    took = f" of {min(seconds):.0f} to {max(seconds):.0f} s" if seconds else ""
    commits = ", ".join(sorted({str(row.facts.get("commit")) for row in rows}))
    networks = sorted(
        {
            f"{row.facts['recognition']} (trained on {row.facts.get('recognition_trained_on') or 'what nothing says'})"
            for row in rows
            if "recognition" in row.facts
        }
    )
    return (
        f"{len(rows)} trainings{took} after the warm-up, commit {commits}, on "
        f"renders of {', '.join(sorted({str(row.facts.get('morphable')) for row in rows}))}"
        f"{', with ' + ', '.join(networks) if networks else ''}."
    )
