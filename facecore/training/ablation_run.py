"""Runs an ablation: a warm-up for each seed, every variant from there, one row each; goes on where it stopped."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch

from facecore.data import write_png
from facecore.training.ablation import Ablation, Measures, Row, read_rows, write_rows
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import config_hash, overlay
from facecore.training.loop import FINAL, LAST, Trainer, train

ROWS, PICTURES = "rows.jsonl", "pictures.png"
UNHASHED_FACTS = ("morphable", "recognition")  # what paths stand for, which no configuration's hash holds


class Builder(Protocol):
    """What an ablation needs of a system."""

    def __call__(self, config: Any) -> Trainer:
        """The trainer of a configuration."""


def run_ablation(
    ablation: Ablation,
    config: Any,
    out: pathlib.Path,
    *,
    seeds: Sequence[int],
    variants: Sequence[str],
    build: Builder,
    measure: Callable[[Any], Measures],
    facts: dict[str, Any],
) -> Iterator[Row]:
    """Trains what has no row yet and yields every row asked for, in the order of seeds, then variants.

    Writes to out: rows.jsonl, and seedN/NAME/ with what each training writes and pictures.png; a training that was
    interrupted has no `seconds`. A row counts as done if
    variant, seed, configuration, warm-up and the facts UNHASHED_FACTS are the same. Raises what training raises;
    calling it again then goes on. Raises ValueError where out has a warm-up or a training of another configuration.
    """
    out.mkdir(parents=True, exist_ok=True)
    rows = _rows_of(out)
    for seed in seeds:
        seeded = overlay(config, {"run": {"seed": seed}})
        warmup = overlay(seeded, dict(ablation.warmup))
        folder = out / f"seed{seed}"
        start = folder / "warmup" / FINAL
        for name in variants:
            branch = overlay(seeded, dict(ablation.variants[name]))
            identity = {"config_hash": config_hash(branch), "warmup": config_hash(warmup)}
            row = rows.get((ablation.system, name, seed))
            if row is None or not is_current(row, ablation, config, facts):
                _check_folder(folder / slug(name), identity["config_hash"])
                if not start.is_file():
                    _train(warmup, start.parent, build, None)
                _check_warmup(start, identity["warmup"], facts.get("recognition"))
                began, whole = time.perf_counter(), not (folder / slug(name) / LAST).is_file()
                trainer = _train(branch, folder / slug(name), build, start)
                seconds = time.perf_counter() - began
                write_png(folder / slug(name) / PICTURES, trainer.picture_grid())
                own = {"threads": torch.get_num_threads()} | ({"seconds": round(seconds, 1)} if whole else {})
                row = Row(ablation.system, name, seed, measure(trainer), facts | identity | own)
                rows = _rows_of(out) | {row.key: row}  # another process, with other seeds, may have written rows since
                write_rows(out / ROWS, rows.values())
            yield row


def is_current(row: Row, ablation: Ablation, config: Any, facts: dict[str, Any]) -> bool:
    """Whether a row is of this ablation over this configuration and of what its paths stand for: rows of others must
    not be compared with it."""
    if row.variant not in ablation.variants:
        return False
    branch = overlay(config, dict(ablation.variants[row.variant]))
    wanted = {"config_hash": config_hash(branch), "warmup": config_hash(overlay(config, dict(ablation.warmup)))}
    wanted |= {key: facts[key] for key in UNHASHED_FACTS if key in facts}
    return all(row.facts.get(key) == value for key, value in wanted.items())


def _check_folder(folder: pathlib.Path, wanted: str) -> None:
    """Raises ValueError where a training of another configuration is under way, or done."""
    if not (folder / LAST).is_file():
        return
    plain = Checkpoint.load(folder / LAST, groups=()).plain
    if plain.get("config_hash") != wanted:
        raise ValueError(
            f"{folder} has a training of {plain.get('system')}, configuration {plain.get('config_hash')}, this "
            f"ablation has {wanted}; choose another --out, or delete that folder if nobody needs it"
        )


def _rows_of(out: pathlib.Path) -> dict[tuple[str, str, int], Row]:
    """What the folder has, by (system, variant, seed)."""
    return {row.key: row for row in read_rows(out / ROWS)} if (out / ROWS).is_file() else {}


def _train(config: Any, folder: pathlib.Path, build: Builder, start: pathlib.Path | None) -> Trainer:
    """A finished training in `folder`, from where it stopped if it did."""
    resume = (folder / LAST).is_file()
    run = {"out": str(folder), "resume": resume, "start_from": None if start is None else str(start)}
    config = overlay(config, {"run": run})
    trainer = build(config)
    train(trainer, config.run, {"config_hash": config_hash(config), "seed": config.run.seed})
    return trainer


def _check_warmup(start: pathlib.Path, wanted: str, recognition: str | None) -> None:
    """Raises ValueError unless the weights to branch from were trained with the configuration of this hash and this
    recognition network, if with any."""
    plain = Checkpoint.load(start, groups=()).plain
    if plain.get("recognition") not in (None, recognition):
        raise ValueError(
            f"the warm-up in {start.parent} was trained with another recognition network; choose another --out"
        )
    found = plain.get("config_hash")
    if found != wanted:
        raise ValueError(
            f"the warm-up in {start.parent} was trained with configuration {found}, this ablation has {wanted}; "
            "choose another --out"
        )


def slug(name: str) -> str:
    """A variant's folder: its name with dashes."""
    return "-".join("".join(c if c.isalnum() else " " for c in name).split())
