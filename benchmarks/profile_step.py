"""Where the time of a training step goes: python benchmarks/profile_step.py --preset small --stage hybrid [options].

Runs steps of one stage under torch's profiler and divides their time twice: by part (what the step was doing: pictures,
encoder, decoders, rendering, losses, discriminator, optimiser; a backward pass belongs to the part whose forward pass
it derives), and by kind: arithmetic of the networks, kernels of facecore, other torch operations, and Python, which is
the time in which none of these ran. The last two are what a step spends outside of its work. Times are wall-clock of
this process under the profiler, which makes each operation a little slower; the steps are timed without it as well.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import itertools
import json
import pathlib
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile, record_function

from facecore.cli.train_data import load_labelled, load_morphable, load_photos
from facecore.cli.train_semi_supervised import COMMAND
from facecore.ops import _library
from facecore.systems.semi_supervised_config import SemiSupervisedConfig
from facecore.systems.semi_supervised_training import STAGES, SemiSupervisedTrainer
from facecore.training.facts import facts_of_run

PART, KERNEL = "part::", "facecore kernel::"
BACKWARD = "autograd::engine::evaluate_function: "
NETWORKS = ("encoder", "decoders", "discriminator")
KINDS = ("networks", "facecore", "other torch", "Python")
INSIDE = KINDS[:2]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", choices=STAGES, default="hybrid")
    parser.add_argument("--steps", type=int, default=5, help="under the profiler, and as many without")
    parser.add_argument("--json", type=pathlib.Path, help="appends the result as a line")
    parser.add_argument(
        "--operations", type=int, default=0, help="also lists so many of the slowest operations outside"
    )
    options, rest = parser.parse_known_args(argv)
    config = with_one_stage(COMMAND.parse(rest), options.stage)
    morphable = load_morphable(config)
    trainer = SemiSupervisedTrainer(config, morphable, load_photos(config), load_labelled(config, morphable))
    with named_parts(trainer):
        result = facts_of_run(config.run.device) | measure(trainer, options.stage, options.steps, options.operations)
    result |= {"image_size": config.model.image_size, "vertices": trainer.morphable.num_vertices}
    print(table(result))
    for name, milliseconds in result.pop("operations"):
        print(f"{milliseconds:8.2f} ms  {name}")
    if options.json is not None:
        with open(options.json, "a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


def with_one_stage(config: SemiSupervisedConfig, stage: str) -> SemiSupervisedConfig:
    """The configuration with nothing but one stage."""
    iterations = {f"{name}_iterations": 10**6 if name == stage else 0 for name in STAGES}
    return dataclasses.replace(config, stages=dataclasses.replace(config.stages, **iterations))


@contextlib.contextmanager
def named_parts(trainer: SemiSupervisedTrainer) -> Iterator[None]:
    """The step's parts and facecore's kernels carry names in the profile."""
    system, objective = trainer.system, trainer.objective
    parts = [
        (objective.renders, "batch", "pictures"),
        (objective, "_photos", "pictures"),
        (system, "encode", "encoder"),
        (system, "decode", "decoders"),
        (system, "decode_displacement", "decoders"),
        (system, "decode_albedo", "decoders"),
        (system, "render", "rendering"),
        (system, "discriminator", "discriminator"),
        (trainer.shapes, "learn", "discriminator"),
        (objective, "terms", "losses"),
        (trainer.optimizer, "step", "optimiser"),
    ]
    if trainer.patches is not None:
        parts += [(trainer.patches, "learn", "discriminator"), (trainer.patches, "term", "discriminator")]
    original = _library._C
    _library._C = _NamedKernels(original)  # type: ignore[assignment]
    with contextlib.ExitStack() as undo:
        undo.callback(setattr, _library, "_C", original)
        for owner, name, part in parts:
            if isinstance(getattr(owner, name), torch.nn.Module):
                owner, name = getattr(owner, name), "forward"
            undo.callback(owner.__dict__.pop, name, None)
            object.__setattr__(owner, name, _named(PART + part, getattr(owner, name)))
        yield


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **options: Any) -> Any:
        with record_function(name):
            return function(*arguments, **options)

    return run


class _NamedKernels:
    """facecore._C whose functions show in a profile."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._module, name)
        return _named(KERNEL + name, value) if callable(value) else value


def measure(trainer: SemiSupervisedTrainer, stage: str, steps: int, operations: int) -> dict[str, Any]:
    """Milliseconds of a step by part and kind."""
    numbers = itertools.count()

    def step() -> float:
        began = time.perf_counter()
        float(trainer.step(next(numbers))["total"])  # the number waits for a GPU
        return 1e3 * (time.perf_counter() - began)

    for _ in range(2):
        step()
    plain = [step() for _ in range(steps)]
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        profiled = [_named("step", step)() for _ in range(steps)]
    spent, slow = attribute(profiler.events(), steps)
    spent["rest", "Python"] += statistics.fmean(profiled) - sum(spent.values())
    images = trainer.images_in(0) or trainer.config.data.labelled_batch
    total = sum(spent.values())
    return {
        "stage": stage,
        "threads": torch.get_num_threads(),
        "images": images,
        "step_ms": statistics.median(plain),
        "profiled_ms": total,
        "images_per_second": 1e3 * images / statistics.median(plain),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "outside_percent": 100 * sum(v for (_, kind), v in spent.items() if kind not in INSIDE) / total,
        "spent_ms": [[part, kind, value] for (part, kind), value in spent.items()],
        "operations": slow.most_common(operations),
    }


def attribute(events: Any, steps: int) -> tuple[collections.Counter[tuple[str, str]], collections.Counter[str]]:
    """Own milliseconds of each event, a step, by (part, kind) and by name."""
    spent: collections.Counter[tuple[str, str]] = collections.Counter()
    by_name: collections.Counter[str] = collections.Counter()
    forward: dict[int, str] = {}
    for event in events:
        if event.sequence_nr >= 0 and not event.name.startswith(BACKWARD) and not _ancestor(event, BACKWARD):
            forward.setdefault(event.sequence_nr, _part_of(event, {}))
    for event in events:
        own = event.self_cpu_time_total / 1e3 / steps
        if event.name == "step" or event.name.startswith("ProfilerStep"):
            spent["rest", "Python"] += own
            continue
        part = _part_of(event, forward)
        kind = _kind_of(event, part)
        spent[part, kind] += own
        if kind not in INSIDE:
            by_name[f"{part}: {event.name}"] += own
    return spent, by_name


def _ancestor(event: FunctionEvent, prefix: str) -> FunctionEvent | None:
    """The nearest of the event and what it was called by whose name starts so."""
    while event is not None:
        if event.name.startswith(prefix):
            return event
        event = event.cpu_parent
    return None


def _part_of(event: FunctionEvent, forward: dict[int, str]) -> str:
    """The innermost part; of a backward node outside of one, that of its forward operation."""
    named = _ancestor(event, PART)
    node = _ancestor(event, BACKWARD)
    if node is not None and (named is None or named.name == f"{PART}losses"):
        return forward.get(node.sequence_nr, "losses")
    return "rest" if named is None else named.name.removeprefix(PART)


def _kind_of(event: FunctionEvent, part: str) -> str:
    if _ancestor(event, KERNEL) is not None or event.name.startswith("facecore::"):
        return "facecore"
    if event.name.startswith((PART, BACKWARD)):  # between the operations that they consist of
        return "Python"
    return "networks" if part in NETWORKS else "other torch"


def table(result: dict[str, Any]) -> str:
    """The division as a Markdown table, in per cent of the step."""
    spent = {(part, kind): value for part, kind, value in result["spent_ms"]}
    total = result["profiled_ms"]
    parts = sorted({part for part, _ in spent}, key=lambda p: -sum(v for (q, _), v in spent.items() if q == p))
    lines = [
        f"{result['stage']}: {result['step_ms']:.0f} ms a step ({result['profiled_ms']:.0f} ms under the profiler), "
        f"{result['images_per_second']:.1f} images/s, {result['threads']} threads, "
        f"at most {result['peak_mib']:.0f} MiB; outside {result['outside_percent']:.1f} %",
        "",
        "| part | " + " | ".join(KINDS) + " | together |",
        "|---" * (len(KINDS) + 2) + "|",
    ]
    for part in [*parts, "together"]:
        row = [sum(v for (p, k), v in spent.items() if k == kind and part in (p, "together")) for kind in KINDS]
        lines.append(f"| {part} | " + " | ".join(f"{100 * v / total:.1f}" for v in [*row, sum(row)]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
