"""`facecore compare`: trained systems on the same held-out renders, as one table and one page."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.evaluate_output import Output
from facecore.cli.evaluate_systems import SystemOptions
from facecore.cli.parsing import check_exists, parse_options

if TYPE_CHECKING:
    import torch

    from facecore.cli.evaluate_systems import Loaded
    from facecore.data import LabelledRenders
    from facecore.perception import IdentityNetwork
    from facecore.systems import System
    from facecore.systems.comparison import Compared

Row = dict[str, Any]

DESCRIPTION = """Runs trained systems on the same held-out renders and compares shape, landmarks, pixels, albedo, \
identity, time and size; errors also by skin tone. Writes results.json and index.html.

Example: facecore compare runs/small/model.safetensors runs/weak/model.safetensors --recognition \
runs/evaluation/manifest.json --out comparison

The systems must have been trained on one morphable model. A system that estimates no pose gets it from the true \
landmarks, and its light from the pixels, to be drawn; its landmark and pixel errors are left out."""


@dataclasses.dataclass(frozen=True)
class Compare(Output):
    """Options of `facecore compare`."""

    checkpoints: Annotated[tuple[pathlib.Path, ...], tyro.conf.Positional]
    """model.safetensors of 'facecore train', one of each system."""
    model: str | None = None
    """The morphable model they were trained with, 'procedural' or a path; default: where it was in training."""
    recognition: pathlib.Path | None = None
    """Manifest of a recognition network that no training used: tells persons apart by their reconstructions."""
    count: int = 200
    """Renders."""
    persons: int = 50
    """Held-out persons for --recognition, four renders of each."""
    shown: int = 10
    """Renders on the page."""
    size: int = 224
    """Side of the renders; each system sees them at its own size."""
    seed: int = 20_000_003
    """Of the renders; the seeds of the trainings are refused."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where facecore can use one, else the CPU."""

    def run(self) -> int:
        self.check()
        from facecore.data import LabelledRenders
        from facecore.evaluation.held_out import Baseline

        loaded = self.load()
        network = self.network(loaded)
        model = next(iter(loaded.values())).morphable
        renders = LabelledRenders(model, self.size, self.size, seed=self.seed)
        baseline = Baseline.of(model, LabelledRenders(model, self.size, self.size, seed=self.seed + 1))
        results = []
        with tqdm(total=self.count * len(loaded), desc="compare", unit="render", leave=False, disable=None) as bar:
            for name, one in loaded.items():
                bar.set_postfix_str(name)
                results.append(self.measure(name, one, renders, baseline, network, bar.update))
        return self.report(loaded, results, renders, network)

    def check(self) -> None:
        self.check_output()
        if len(self.checkpoints) < 1:
            raise UsageError("name at least one checkpoint, better two")
        check_exists(recognition=self.recognition)
        for path in self.checkpoints:
            check_exists(CHECKPOINTS=path)
        for name, least in (("count", 3), ("persons", 4), ("shown", 0), ("size", 32)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} must be at least {least}, got {getattr(self, name)}")
        if self.shown > self.count:
            raise UsageError(f"--shown must be at most --count {self.count}, got {self.shown}")

    def load(self) -> dict[str, Loaded]:
        """The systems by the names of the table. Raises UsageError where their morphable models differ."""
        loaded: dict[str, Loaded] = {}
        for path in self.checkpoints:
            one = SystemOptions(checkpoint=path, model=self.model, device=self.device, seed=self.seed).load()
            name = one.system.name
            loaded[name if name not in loaded else f"{name} {one.system.config_hash} {len(loaded)}"] = one
        first = next(iter(loaded.values()))
        for path, one in zip(self.checkpoints, loaded.values()):
            if one.morphable.content_hash() != first.morphable.content_hash():
                raise UsageError(
                    f"{path} was trained with other faces ({described(one)}) than {self.checkpoints[0]} "
                    f"({described(first)}): compare systems of one morphable model, one size of it, and the same bumps "
                    "of `world`"
                )
        return loaded

    def network(self, loaded: dict[str, Loaded]) -> IdentityNetwork | None:
        if self.recognition is None:
            return None
        from facecore.cli.finders import load_judge, say_if_rendered

        say_if_rendered(self.recognition, "identity is compared on renders alone")
        return load_judge("--recognition", self.recognition, {name: one.recognitions for name, one in loaded.items()})

    def measure(
        self,
        name: str,
        one: Loaded,
        renders: LabelledRenders,
        baseline: Any,
        network: IdentityNetwork | None,
        progress: Any,
    ) -> Compared:
        import torch

        from facecore.data import PersonRenders
        from facecore.systems import seeds
        from facecore.systems.comparison import (
            TIMED,
            VERIFIED_PICTURES,
            Compared,
            errors_of,
            identity_auc,
            milliseconds,
        )

        errors = errors_of(one.system, renders, baseline, self.count, progress)
        auc = None
        if network is not None:
            seed = self.seed + seeds.RECOGNITION_HELD_OUT
            persons = PersonRenders(one.morphable, self.size, self.size, seed, pictures=VERIFIED_PICTURES)
            auc = identity_auc(one.system, persons, self.persons, network.to(one.morphable.device))
        timed = renders.batch(torch.arange(TIMED))
        parameters = sum(parameter.numel() for parameter in one.system.parameters())
        for hidden in given_to(one.system):
            del errors[hidden]
        return Compared(name, errors, auc, milliseconds(one.system, timed), parameters)

    def report(
        self,
        loaded: dict[str, Loaded],
        results: list[Compared],
        renders: LabelledRenders,
        network: IdentityNetwork | None,
    ) -> int:
        from facecore.evaluation.landmark_error import cumulative_distribution
        from facecore.evaluation.results import Evaluation

        settings = dataclasses.asdict(self) | {
            "systems": {name: one.settings() for name, one in loaded.items()},
            "recognition_identity": None if network is None else network.identity,
            "recognition_trained_on": None if network is None else network.trained_on,
        }
        curves = {
            result.name: cumulative_distribution(result.errors["landmark_percent"].numpy().astype(float))
            for result in results
            if "landmark_percent" in result.errors
        }
        notes = [
            "Shapes after similarity alignment, mm; pixels: mean absolute difference in the mask, of 255, black where "
            "a face leaves it; dark, medium and light: thirds of the renders by the true albedo. Time: one picture, "
            "wall clock, without finding a face."
        ]
        if posed := [name for name, one in loaded.items() if not one.system.estimates_view]:
            notes.append(
                f"{', '.join(posed)}: pose, light and, where the full shape is left out, expression are fitted to the "
                "true landmarks and pixels to be drawn; what they were fitted to is not counted, nor is that time."
            )
        if network is not None:
            notes.append(f"Identity by a network trained on {network.trained_on}.")
        notes += [f"{name}: {one.system.caution}." for name, one in loaded.items() if one.system.caution]
        evaluation = Evaluation(
            protocol="compare",
            settings=settings,
            summary=[mean_face_row(results[0]), *(table_row(result) for result in results)],
            rows=[
                {"system": result.name, "render": i, **{name: float(v[i]) for name, v in result.errors.items()}}
                for result in results
                for i in range(self.count)
            ],
            total=self.count,
            curves=curves,
            axes=("landmark NME in %", "share of renders"),
            pictures=self.pictures(loaded, renders),
            notes=notes,
        )
        return self.finish(evaluation)

    def pictures(self, loaded: dict[str, Loaded], renders: LabelledRenders) -> dict[str, torch.Tensor]:
        """Renders, and each system's face over them."""
        import torch

        from facecore.evaluation.panels import opaque, rgba
        from facecore.systems.comparison import faces_of

        drawn: dict[str, torch.Tensor] = {}
        for number in range(self.shown):
            batch = renders.batch(torch.tensor([number]))
            image = batch.image[0].cpu()
            drawn[f"render {number}"] = opaque(image)
            for name, one in loaded.items():
                face = faces_of(one.system, batch).to("cpu")
                layer = rgba(face, face.camera, cull_backfaces=True)
                drawn[f"{number}: {name}"] = opaque((layer[:3] + (1 - layer[3]) * image).clamp(0, 1))
        return drawn


def described(one: Loaded) -> str:
    return f"{one.morphable.name}, {one.morphable.num_vertices} vertices"


def given_to(system: System) -> list[str]:
    """Errors that say nothing of a system, as what they measure was fitted to the truth."""
    hidden = [] if system.estimates_view else ["landmark_percent", "photometric", "shading"]
    return hidden + ([] if system.estimates_expression else ["shape_mm"])


def table_row(result: Compared) -> Row:
    """One line of the table."""
    from facecore.systems.comparison import tone_groups

    errors = result.errors

    def mean(name: str) -> float | None:
        return float(errors[name].mean()) if name in errors else None

    remaining = float(errors["neutral_mm"].mean() / errors["neutral_mm_mean_face"].mean())
    row: Row = {
        "system": result.name,
        "shape_mm": mean("shape_mm"),
        "identity_shape_mm": float(errors["neutral_mm"].mean()),
        "identity_shape_gain_percent": 100 * (1 - remaining),
        "landmark_NME_percent": mean("landmark_percent"),
        "pixels": mean("photometric"),
        "albedo": float(errors["albedo"].mean()),
        "identity_AUC": result.identity_auc,
        "ms": result.milliseconds,
        "parameters": result.parameters,
    }
    for tone, index in tone_groups(errors["mean_albedo"]).items():
        row[f"identity_shape_{tone}_mm"] = float(errors["neutral_mm"][index].mean())
        row[f"albedo_{tone}"] = float(errors["albedo"][index].mean())
    return row


def mean_face_row(result: Compared) -> Row:
    """What the mean face gives."""
    errors = result.errors
    return {
        "system": "mean face",
        "shape_mm": float(errors["shape_mm_mean_face"].mean()),
        "identity_shape_mm": float(errors["neutral_mm_mean_face"].mean()),
        "identity_shape_gain_percent": 0.0,
        "albedo": float(errors["albedo_mean_face"].mean()),
    }


def main(argv: list[str]) -> int:
    command: Compare = parse_options(Compare, argv, prog="facecore compare", description=DESCRIPTION)
    return command.run()
