"""Ablations: verdicts by hand, rows, running and going on, the page, and the semi-supervised system's own."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from typing import Any, ClassVar

import pytest
import torch
from test_semi_supervised import TINY

from facecore.cli.main import main
from facecore.evaluation.ablation_page import claims_table, make_page
from facecore.morphable import load as load_model
from facecore.systems.semi_supervised_ablation import COMPARISONS, VARIANTS, ablation, measure
from facecore.systems.semi_supervised_config import PRESETS
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.training.ablation import Ablation, Comparison, Row, judge, read_rows, write_rows
from facecore.training.ablation_run import PICTURES, ROWS, run_ablation, slug
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import RunConfig, config_hash, merged
from facecore.training.loop import Interrupted

COMPARISON = Comparison("1", "with is better", "error", "with", "without")


def rows_of(better: dict[int, float], worse: dict[int, float]) -> list[Row]:
    parts = (("with", better), ("without", worse))
    return [Row("s", name, seed, {"error": value}, {}) for name, values in parts for seed, value in values.items()]


def test_verdict_by_hand():
    """Differences 2, 3, 4 of 10, 12, 11: mean 3, standard error 1 / sqrt 3, 3 / 11 of the worse."""
    verdict = judge(COMPARISON, rows_of({0: 8, 1: 9, 2: 7}, {0: 10, 1: 12, 2: 11}))
    assert verdict.difference == 3 and verdict.seeds == (0, 1, 2)
    assert verdict.standard_error == pytest.approx(1 / math.sqrt(3))
    assert verdict.relative == pytest.approx(3 / 11)
    assert verdict.holds and verdict.enough


def test_the_table_of_claims_by_hand():
    experiment = Ablation("s", {}, {"with": {}, "without": {}}, [COMPARISON])
    head = "| claim | what it says | seeds | lower | than | difference | holds |\n|---|---|---|---|---|---|---|\n"
    start = "| 1 | with is better |"
    rows = rows_of({0: 8, 1: 9, 2: 7}, {0: 10, 1: 12, 2: 11})
    cells = "0, 1, 2 | with, `error`: 8, 9, 7 | without, `error`: 10, 12, 11 | +27.3 % ± 10.5 | yes"
    assert claims_table(experiment, rows) == f"{head}{start} {cells} |\n"
    cells = "0 | with, `error`: 8 | without, `error`: 10 | +20.0 % | 1 of 3 seeds"
    assert claims_table(experiment, rows[::3]) == f"{head}{start} {cells} |\n"
    assert claims_table(experiment, []).endswith(
        f"{start} none | with, `error`: - | without, `error`: - | - | 0 of 3 seeds |\n"
    )
    no_worse = Ablation("s", {}, experiment.variants, [dataclasses.replace(COMPARISON, no_worse=True)])
    rows = rows_of({0: 9, 1: 10, 2: 11}, {0: 10, 1: 10, 2: 10})  # no difference, but two standard errors of 11.5 %
    cells = "0, 1, 2 | with, `error`, no worse: 9, 10, 11 | without, `error`: 10, 10, 10 | +0.0 % ± 11.5 | no"
    assert claims_table(no_worse, rows) == f"{head}{start} {cells} |\n"


@pytest.mark.parametrize(
    ("better", "worse", "why"),
    [
        ({0: 8, 1: 9}, {0: 10, 1: 12}, "two seeds"),
        ({0: 9.8, 1: 9.8, 2: 9.8}, {0: 10, 1: 10, 2: 10}, "2 % of it"),
        ({0: 1, 1: 11, 2: 9}, {0: 10, 1: 12, 2: 10}, "scattered: differences 9, 1, 1"),
        ({0: 12, 1: 12, 2: 12}, {0: 10, 1: 10, 2: 10}, "the other way"),
    ],
)
def test_what_does_not_hold(better, worse, why):
    assert not judge(COMPARISON, rows_of(better, worse)).holds, why


@pytest.mark.parametrize(
    ("better", "holds"),
    [
        ({0: 10, 1: 10, 2: 10}, True),
        ({0: 10.2, 1: 10.2, 2: 10.2}, True),  # 2 % worse
        ({0: 10.4, 1: 10.4, 2: 10.4}, False),  # 4 % worse
        ({0: 9, 1: 10, 2: 11.3}, False),  # 1 % worse, but it may be more: two standard errors are 13 %
        ({0: 5, 1: 5}, False),  # two seeds
    ],
)
def test_no_worse_by_hand(better, holds):
    comparison = dataclasses.replace(COMPARISON, no_worse=True)
    rows = rows_of(better, {0: 10, 1: 10, 2: 10})
    assert judge(comparison, rows).holds == holds
    page = make_page(Ablation("s", {}, {"with": {}, "without": {}}, [comparison]), rows, pathlib.Path("nowhere")).html()
    assert "error, not above" in page


def test_only_seeds_of_both_count():
    verdict = judge(COMPARISON, rows_of({0: 1, 1: 2, 5: 9}, {1: 3, 0: 4, 2: 7}))
    assert verdict.seeds == (0, 1) and verdict.better == (1, 2) and verdict.worse == (4, 3)
    assert math.isnan(judge(COMPARISON, []).difference)
    one = judge(COMPARISON, rows_of({0: 8}, {0: 10}))
    assert (one.difference, one.relative) == (2, 0.2) and math.isnan(one.standard_error) and not one.holds


def test_two_measures_of_one_variant_compare_by_hand():
    """Differences 1, 2, 3 of 3, 4, 5."""
    comparison = Comparison("1", "ten tell more than one", "of_ten", "with", "with", "of_one")
    rows = [Row("s", "with", seed, {"of_ten": 2.0, "of_one": 3.0 + seed}, {}) for seed in range(3)]
    verdict = judge(comparison, rows)
    assert verdict.better == (2, 2, 2) and verdict.worse == (3, 4, 5) and verdict.relative == pytest.approx(0.5)
    page = make_page(Ablation("s", {}, {"with": {}}, [comparison]), rows, pathlib.Path("nowhere")).html()
    assert "of_ten below of_one" in page


def test_rows_come_back_and_bad_ones_are_named(tmp_path):
    rows = [Row("s", "b", 1, {"error": 0.5}, {"commit": "x"}), Row("s", "a", 0, {"error": 1.5}, {})]
    path = tmp_path / "rows.jsonl"
    write_rows(path, rows)
    assert read_rows(path) == rows[::-1]
    with path.open("a") as file:
        file.write(json.dumps(dataclasses.asdict(dataclasses.replace(rows[0], measures={"error": 9.0}))) + "\n")
    assert read_rows(path)[1].measures == {"error": 9.0}, "the last row of a variant and seed counts"
    with path.open("a") as file:
        file.write('{"system": "s"}\n')
    with pytest.raises(ValueError, match=r"rows.jsonl, line 4 is not a row of an ablation"):
        read_rows(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measures": 3}, "measures must be numbers by name"),
        ({"measures": {"error": "low"}}, "measures must be numbers by name"),
        ({"seed": "0"}, "seed a whole number"),
        ({"facts": {"seconds": None}}, "seconds a number"),
    ],
)
def test_rows_of_the_wrong_kind_are_named(tmp_path, change, message):
    row = {"system": "s", "variant": "with", "seed": 0, "measures": {"error": 1.0}, "facts": {}} | change
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match=rf"rows.jsonl, line 1 is not a row of an ablation: .*{message}"):
        read_rows(tmp_path / "rows.jsonl")
    (tmp_path / "rows.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"rows.jsonl holds no rows"):
        read_rows(tmp_path / "rows.jsonl")


def test_rows_that_lack_a_measure_do_not_count():
    rows = rows_of({0: 1, 1: 2}, {0: 3, 1: 4})
    rows[0] = dataclasses.replace(rows[0], measures={"other": 1.0})
    assert judge(COMPARISON, rows).seeds == (1,)


def test_unknown_variants_are_refused():
    with pytest.raises(ValueError, match="claim 1 compares the variant 'without', which there is not"):
        Ablation("s", {}, {"with": {}}, [COMPARISON])


@dataclasses.dataclass(frozen=True)
class Settings:
    run: RunConfig = dataclasses.field(default_factory=lambda: RunConfig(checkpoint_every=1))
    slope: float = 1.0


class Line:
    """A trainer whose one weight rises by `slope` a step."""

    built: ClassVar[list[Settings]] = []
    total_iterations = 4

    def __init__(self, config: Settings) -> None:
        self.config = config
        Line.built.append(config)
        self.weight = torch.zeros(1)
        if config.run.start_from is not None and not config.run.resume:
            self.weight = Checkpoint.load(config.run.start_from).tensors["model"]["weight"].clone()

    def images_in(self, iteration: int) -> int:
        return 1

    def step(self, iteration: int) -> dict[str, torch.Tensor]:
        self.weight = self.weight + self.config.slope
        return {"total": self.weight.sum()}

    def validate(self) -> dict[str, float]:
        return {}

    def picture_grid(self) -> torch.Tensor:
        return torch.zeros(3, 8, 8)

    def checkpoint(self, iteration: int, *, resumable: bool) -> Checkpoint:
        plain = {"iteration": iteration, "config_hash": config_hash(self.config)}
        return Checkpoint({"model": {"weight": self.weight}}, plain)

    def restore(self, checkpoint: Checkpoint) -> int:
        self.weight = checkpoint.tensors["model"]["weight"].clone()
        return int(checkpoint.plain["iteration"])


def run_lines(
    out: pathlib.Path, slopes: dict[str, float], seeds=(0, 1), *, warmup: float = 10.0, morphable: str = "one", **facts
) -> list[Row]:
    Line.built = []
    experiment = Ablation("lines", {"slope": warmup}, {name: {"slope": slope} for name, slope in slopes.items()}, [])
    return list(
        run_ablation(
            experiment,
            Settings(),
            out,
            seeds=seeds,
            variants=list(slopes),
            build=Line,
            measure=lambda trainer: {"weight": float(trainer.weight)},
            facts={"commit": "here", "morphable": morphable} | facts,
        )
    )


def test_variants_start_from_the_warm_up_and_rows_are_kept(tmp_path):
    rows = run_lines(tmp_path, {"one": 1.0, "two, 2": 2.0})
    assert [(row.seed, row.variant, row.measures["weight"]) for row in rows] == [
        (0, "one", 44.0),
        (0, "two, 2", 48.0),
        (1, "one", 44.0),
        (1, "two, 2", 48.0),
    ]
    assert len(Line.built) == 6  # one warm-up for each seed
    assert all(row.facts["seconds"] >= 0 for row in rows)
    assert rows[0].facts["config_hash"] == config_hash(Settings()) and rows[0].facts["commit"] == "here"
    assert (tmp_path / "seed1" / "two-2" / PICTURES).is_file()
    assert sorted(read_rows(tmp_path / ROWS), key=lambda row: (row.seed, row.variant)) == rows


def test_what_is_done_is_not_done_again(tmp_path):
    run_lines(tmp_path, {"one": 1.0})
    assert len(run_lines(tmp_path, {"one": 1.0})) == 2 and Line.built == []
    run_lines(tmp_path, {"one": 1.0, "two": 2.0}, seeds=(0,))
    assert [config.slope for config in Line.built] == [2.0]


def test_two_processes_with_other_seeds_keep_both_rows(tmp_path, monkeypatch):
    """What another wrote while this one trained stays."""
    build = Line.__init__

    def meanwhile(self, config):
        build(self, config)
        if config.run.seed == 0 and config.slope == 1.0:
            monkeypatch.setattr(Line, "__init__", build)
            run_lines(tmp_path, {"one": 1.0}, seeds=(1,))

    monkeypatch.setattr(Line, "__init__", meanwhile)
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    assert [row.seed for row in read_rows(tmp_path / ROWS)] == [0, 1]


def test_other_settings_are_other_rows(tmp_path):
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    (tmp_path / "seed0" / "one" / "last.safetensors").unlink()
    (row,) = run_lines(tmp_path, {"one": 3.0}, seeds=(0,))
    assert row.measures["weight"] == 52.0 and len(read_rows(tmp_path / ROWS)) == 1


def test_a_warm_up_of_other_settings_is_refused(tmp_path):
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    with pytest.raises(ValueError, match=r"the warm-up in .*seed0.warmup was trained with configuration .* --out"):
        run_lines(tmp_path, {"two": 2.0}, seeds=(0,), warmup=5.0)
    assert [row.variant for row in read_rows(tmp_path / ROWS)] == ["one"]


def test_rows_of_another_morphable_model_do_not_count(tmp_path):
    """The configuration's hash leaves out where the model lies."""
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,), morphable="another")
    assert len(Line.built) == 1, "trained again, or, by a real trainer, refused"


def test_rows_of_another_recognition_network_do_not_count(tmp_path):
    """Nor does the hash say which network a manifest's path stood for; its warm-up is refused too."""
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,), recognition="one")
    assert run_lines(tmp_path, {"one": 1.0}, seeds=(0,), recognition="one") and not Line.built
    run_lines(tmp_path, {"one": 1.0}, seeds=(0,), recognition="another")
    assert len(Line.built) == 1


def test_an_interrupted_training_goes_on(tmp_path, monkeypatch):
    step = Line.step

    def failing(self: Line, iteration: int) -> dict[str, torch.Tensor]:
        if iteration == 2 and self.config.slope == 1.0:
            raise RuntimeError("the lights went out")
        return step(self, iteration)

    monkeypatch.setattr(Line, "step", failing)
    with pytest.raises(RuntimeError, match="lights"):
        run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    assert not (tmp_path / ROWS).exists()
    monkeypatch.undo()
    (row,) = run_lines(tmp_path, {"one": 1.0}, seeds=(0,))
    assert row.measures["weight"] == 44.0 and "seconds" not in row.facts, "nobody knows how long it took"
    assert [config.slope for config in Line.built] == [1.0], "the warm-up is there"


def test_slugs_are_names_of_folders():
    assert slug("no mask, no symmetry") == "no-mask-no-symmetry" and slug("../x") == "x"


def test_merged_settings():
    assert merged({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}, "d": 4}) == {"a": {"b": 3, "c": 2}, "d": 4}


def test_page_shows_verdicts_and_pictures(tmp_path):
    from facecore.data import write_png

    experiment = Ablation("s", {}, {"with": {}, "without": {}}, [COMPARISON])
    rows = rows_of({0: 8, 1: 9, 2: 7}, {0: 10, 1: 12, 2: 11})
    folder = tmp_path / "seed0" / "with"
    folder.mkdir(parents=True)
    write_png(folder / PICTURES, torch.rand(3, 8, 8))
    page = make_page(experiment, rows, tmp_path).html()
    assert "with is better" in page and "+27.3 %" in page and page.count("data:image") == 1
    assert ">yes<" in page
    assert "There is no row yet" in make_page(experiment, [], tmp_path).html()
    assert ">2 of 3 seeds<" in make_page(experiment, rows[:2] + rows[3:5], tmp_path).html()


class TestSemiSupervised:
    """The system's own table: every variant is a configuration, and the measures are there."""

    def test_claims_of_the_paper(self):
        assert {c.claim for c in COMPARISONS} == {"0a", "0b", "1", "2", "3", "4", "5", "6"}

    def test_every_variant_trains_and_is_measured(self):
        """One step of each from the same weights; every comparison finds its measure, finite."""
        from facecore.training.config import overlay

        model = load_model("procedural", num_vertices=2500)
        values: dict[str, Any] = merged(TINY, {"stages": {"warmup_iterations": 0, "hybrid_iterations": 1}})
        config = overlay(PRESETS["ablation"], values | {"world": {"persons": 4, "pictures": 2}})
        experiment = ablation(config)
        hashes = set()
        for name, changes in experiment.variants.items():
            resolved = overlay(config, dict(changes))
            hashes.add(config_hash(resolved))
            resolved = overlay(resolved, {"stages": {"hybrid_iterations": 1}})  # some variants have steps of their own
            trainer = SemiSupervisedTrainer(resolved, model, None)
            for iteration in range(trainer.total_iterations):
                trainer.step(iteration)
            if name in ("all", "texture"):
                measures = measure(trainer, count=20)
                assert all(math.isfinite(measures[c.measure]) for c in COMPARISONS)
        assert len(hashes) == len(VARIANTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "0", "0"], "--seeds must be different numbers from 0, got [0, 0]"),
        (["--variants", "no hope"], "--variants 'no hope': choose among 'all'"),
        (["--rows", "none.jsonl"], "--rows none.jsonl: no such file"),
        (["--config", "none.yaml"], "cannot read the configuration none.yaml"),
    ],
)
def test_bad_usage(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["ablate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_photographs_of_a_folder_are_refused(tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "c.yaml").write_text(f"data: {{photos: {tmp_path / 'photos'}}}")
    assert main(["ablate", "--config", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "data.photos is not used here" in capsys.readouterr().err


def test_an_interrupted_ablation_says_how_it_goes_on(tmp_path, capsys, monkeypatch):
    """Not by --run.resume, an option of train that ablate does not have."""

    def interrupted(*_: Any, **__: Any) -> Any:
        raise Interrupted("stopped by SIGTERM after 3 iterations", "go on with --run.resume")
        yield

    monkeypatch.setattr("facecore.training.ablation_run.run_ablation", interrupted)
    assert main(["ablate", "--out", str(tmp_path / "out")]) == 1
    expected = "facecore ablate: stopped by SIGTERM after 3 iterations; call facecore ablate again to go on\n"
    assert capsys.readouterr().err == expected


def test_report_from_rows_alone(tmp_path, capsys):
    rows = []
    for seed in range(3):
        for name in VARIANTS:
            better = name in ("all", "strange faces", "texture, no mask, no symmetry")
            measures = {c.measure: (1.0 if better else 2.0) + 0.01 * seed for c in COMPARISONS}
            rows.append(Row("semi-supervised", name, seed, measures, {"commit": "abc"}))
    write_rows(tmp_path / "rows.jsonl", rows)
    assert main(["ablate", "--rows", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "report")]) == 0
    out = capsys.readouterr().out
    assert "claim 0a: holds         shape_mm: +49.8 % over 3 seeds" in out
    assert "claim  4: does not hold shading_error: +0.0 %" in out  # both of its variants are alike here
    assert (tmp_path / "report" / "index.html").is_file()
    assert (tmp_path / "report" / "claims.md").read_text().startswith("| claim |")
    assert main(["ablate", "--list"]) == 0 and "no centers" in capsys.readouterr().out
