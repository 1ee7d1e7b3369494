"""Protocols of `facecore evaluate` on trained systems: held-out renders, and the pose sweep."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import TYPE_CHECKING, Any, Literal

from tqdm import tqdm

from facecore.cli.errors import UsageError
from facecore.cli.evaluate_output import Output
from facecore.cli.parsing import check_exists

if TYPE_CHECKING:
    import torch

    from facecore.morphable import MorphableModel
    from facecore.systems import System

Row = dict[str, Any]
MEASURES = {
    "shape_mm": "full shape, mm",
    "neutral_mm": "identity shape, mm",
    "albedo": "albedo",
    "shading": "light (shading on the face)",
    "landmark_percent": "landmark NME, %",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SystemOptions(Output):
    """What the protocols on systems share."""

    checkpoint: pathlib.Path
    """model.safetensors of 'facecore train'."""
    model: str | None = None
    """The morphable model it was trained with, 'procedural' or a path; default: where it was in training."""
    seed: int | None = None
    """Of the faces; default: that of the run's own validation. The run's training seed is refused."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU where facecore can use one, else the CPU."""

    def check(self) -> None:
        self.check_output()
        check_exists(checkpoint=self.checkpoint)
        if self.model not in (None, "procedural"):
            check_exists(model=pathlib.Path(str(self.model)))

    def load(self) -> Loaded:
        """The system, its training settings and its morphable model. Raises ValueError when that is another one."""
        from facecore.cli.train_data import load_morphable
        from facecore.systems.loading import load_trained
        from facecore.systems.world import faces_of_world
        from facecore.training.device import choose_device

        try:
            device = choose_device(self.device)
        except ValueError as error:
            raise UsageError(f"--device: {error}") from error
        trained = load_trained(self.checkpoint, device)  # says what is wrong with a damaged one
        config = trained.config
        seed = self.seed_of(config)
        if self.model is not None:
            config = dataclasses.replace(config, model=dataclasses.replace(config.model, morphable=self.model))
        try:
            morphable = load_morphable(config)
        except UsageError as error:
            raise UsageError(
                f"--model: the morphable model of the training, {config.model.morphable}, is not there; say where it is"
            ) from error
        labelled, world = faces_of_world(morphable, config.world)
        if labelled.content_hash() != trained.morphable_hash:
            raise ValueError(
                f"--model: {morphable.name} is not the model that {self.checkpoint} was trained with "
                f"({trained.morphable_name}, {trained.morphable_hash[:12]}); give that one"
            )
        return Loaded(trained.system, config, labelled.to(device), world.to(device), seed, trained.recognitions)

    def seed_of(self, config: Any) -> int:
        """Refuses the seed that training drew its faces from."""
        from facecore.systems import seeds

        if self.seed is None:
            return config.run.seed + seeds.HELD_OUT
        if self.seed - config.run.seed in seeds.TRAINING:
            raise UsageError(f"--seed {self.seed} is one that the training drew from: its faces are not held out")
        return self.seed


@dataclasses.dataclass(frozen=True)
class Loaded:
    system: System
    config: Any  # of the system's training
    labelled: MorphableModel  # that training's labelled half was drawn from
    morphable: MorphableModel  # the same, or with the faces that training's `world` has beyond it
    seed: int  # of the faces
    recognitions: tuple[str, ...]  # identities of the recognition networks that the training used

    def settings(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "device": str(self.morphable.device),
            "config_hash": self.system.config_hash,
            "training_seed": self.config.run.seed,
            "morphable": self.morphable.name,
            "morphable_hash": self.morphable.content_hash(),
            "vertices": self.morphable.num_vertices,
            "image_size": self.system.config.image_size,
            **({"caution": self.system.caution} if self.system.caution else {}),
        }


@dataclasses.dataclass(frozen=True)
class HeldOut(SystemOptions):
    """Errors of a system on renders that training did not draw, each beside that of the mean face: full and identity
    shape after similarity alignment, albedo, light, landmarks.

    Example: facecore evaluate held-out --checkpoint runs/small/model.safetensors --count 200 --seed 7
    """

    count: int = 200
    """Renders."""

    def run(self) -> int:
        self.check()
        if self.count < 1:
            raise UsageError(f"--count must be at least 1 render, got {self.count}")
        import torch

        from facecore.data import LabelledRenders
        from facecore.evaluation.held_out import Baseline, held_out_errors, summarise_held_out
        from facecore.evaluation.landmark_error import cumulative_distribution
        from facecore.evaluation.results import Evaluation

        loaded = self.load()
        size = loaded.system.config.image_size
        renders = LabelledRenders(loaded.morphable, size, size, seed=loaded.seed)
        training = LabelledRenders(loaded.labelled, size, size, seed=loaded.config.run.seed)
        baseline = Baseline.of(loaded.morphable, training)
        with tqdm(total=self.count, desc="held-out", unit="render", leave=False, disable=None) as bar:
            errors = held_out_errors(
                loaded.system.reconstruct,
                loaded.morphable,
                renders,
                baseline,
                self.count,
                aligned=loaded.system.aligned,
                progress=bar.update,
            )
        means = summarise_held_out(errors)
        drop_unseen(loaded, errors)
        curves = {}
        if "landmark_percent" in errors:
            curves["landmark NME"] = cumulative_distribution(errors["landmark_percent"].numpy().astype(float))
        rows = [{"render": i, **{name: float(v[i]) for name, v in errors.items()}} for i in range(self.count)]
        evaluation = Evaluation(
            protocol="held-out",
            settings=dataclasses.asdict(self) | loaded.settings(),
            summary=held_out_table(errors, means),
            rows=rows,
            total=self.count,
            curves=curves,
            axes=("NME in %", "share of renders"),
            pictures=self.pictures(loaded, renders, torch.arange(self.count), errors["shape_mm"]),
            notes=[
                "Shapes after similarity alignment over all vertices; the mean face is the mean of the model's prior, "
                "for the identity shape without expression; light is compared as shading on the true normals."
            ],
        )
        return self.finish(evaluation)

    def pictures(
        self, loaded: Loaded, renders: Any, index: torch.Tensor, errors: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Error maps of the renders with the smallest and the largest error."""
        from facecore.evaluation.alignment import vertex_distances
        from facecore.evaluation.error_maps import ErrorMap, ExtremeMaps
        from facecore.evaluation.held_out import reconstruct_renders

        maps = ExtremeMaps()
        for i in (int(errors.argmin()), int(errors.argmax())):
            batch = renders.batch(index[i : i + 1])
            truth = loaded.morphable.shape(batch.identity, batch.expression)
            face = reconstruct_renders(loaded.system.reconstruct, batch, aligned=loaded.system.aligned)
            distance = vertex_distances(face.vertices, truth)[0]
            drawn = ErrorMap(truth[0].cpu(), face.triangles.cpu(), distance.cpu())
            maps.add(float(errors[i]), f"render {i}", drawn)
        return maps.draw()


def drop_unseen(loaded: Loaded, errors: dict[str, torch.Tensor]) -> None:
    """Leaves out what a system does not estimate: one that always looks straight ahead has no landmarks in a picture,
    and no light."""
    if not loaded.system.estimates_view:
        for name in ("landmark_percent", "shading", "shading_mean_face"):
            errors.pop(name, None)


def held_out_table(errors: dict[str, torch.Tensor], means: dict[str, float]) -> list[Row]:
    """One row per measure: its mean with the standard error, that of the mean face, and the gain."""
    rows = []
    for name, label in MEASURES.items():
        if name not in errors:
            continue
        row: Row = {"measure": label, "error": means[name]}
        row["standard_error"] = float(errors[name].std() / len(errors[name]) ** 0.5) if len(errors[name]) > 1 else None
        row["mean_face"] = means.get(f"{name}_mean_face")
        row["gain_percent"] = means.get(f"{name.removesuffix('_mm')}_gain_percent")
        rows.append(row)
    return rows


@dataclasses.dataclass(frozen=True)
class LearnedBases(SystemOptions):
    """What joint training (Liu et al. 2018) made of the morphable model's modes: each code's vector beside the mode
    that it began as, over three standard deviations.

    Example: facecore evaluate bases --checkpoint runs/joint/model.safetensors --shown 6
    """

    shown: int = 5
    """Identity codes on the page, the first ones; the table has all."""

    def run(self) -> int:
        self.check()
        if self.shown < 0:
            raise UsageError(f"--shown must be at least 0, got {self.shown}")
        from facecore.evaluation.error_maps import colour_scale, round_limit
        from facecore.evaluation.learned_bases import basis_pairs
        from facecore.evaluation.results import Evaluation
        from facecore.systems import JointRecognition

        loaded = self.load()
        if not isinstance(loaded.system, JointRecognition):
            raise UsageError(f"--checkpoint {self.checkpoint}: only joint-recognition learns bases of its own")
        import torch

        model = loaded.labelled
        vectors = zip(loaded.system.basis_vectors(), loaded.system.basis_vectors_of(model))
        names = (model.identity_names, model.expression_names)
        parts = {
            part: basis_pairs(learned, own, labels)
            for part, (learned, own), labels in zip(("identity", "expression"), vectors, names)
        }
        shown = parts["identity"][: self.shown]
        pictures: dict[str, torch.Tensor] = {}
        if shown:
            limit = round_limit(torch.cat([(pair.learned - pair.own).norm(dim=1) for pair in shown]))
            for pair in shown:
                pictures |= pair.drawn(loaded.system.template, loaded.system.triangles, limit)
            pictures |= colour_scale(limit)
        rows: list[Row] = [{"part": part, **pair.row()} for part, pairs in parts.items() for pair in pairs]
        evaluation = Evaluation(
            protocol="bases",
            settings=dataclasses.asdict(self) | loaded.settings(),
            summary=[bases_row(part, pairs) for part, pairs in parts.items() if pairs],
            rows=rows,
            total=len(rows),
            pictures=pictures,
            notes=["RMS over the vertices of what a code of 1, three standard deviations, adds to the mean face, mm."],
        )
        return self.finish(evaluation)


def bases_row(part: str, pairs: list[Any]) -> Row:
    """Means over a part's codes."""
    rows = [pair.row() for pair in pairs]
    means = {name: sum(row[name] for row in rows) / len(rows) for name in rows[0] if name != "code"}
    return {"part": part, "codes": len(rows)} | means
