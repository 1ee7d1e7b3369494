"""The semi-supervised system: decoding, losses, learning, checkpoints, exact resume."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import torch

from facecore import systems
from facecore.data import LabelledRenders
from facecore.morphable import load as load_model
from facecore.systems.coefficient_metric import SIMILARITY_SHARE
from facecore.systems.semi_supervised import Codes
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.semi_supervised_schedule import STAGES
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.systems.semi_supervised_warmup import CodeEmbedding
from facecore.training.checkpoint import Checkpoint
from facecore.training.config import overlay

TINY = {
    "model": {
        "num_vertices": 2500,
        "image_size": 32,
        "surface_points": 70,
        "identity_size": 16,
        "expression_size": 8,
        "factors": [4, 4],
        "shape_channels": [16, 16, 8],
        "albedo_channels": [8, 8, 8],
        "critic_channels": [8, 8],
    },
    "stages": {
        "decoder_iterations": 1,
        "encoder_iterations": 1,
        "encoder_batch": 4,
        "head_renders": 8,
        "warmup_iterations": 2,
        "hybrid_iterations": 4,
    },
    "data": {"labelled_batch": 4, "photo_batch": 2},
    "run": {"validation_size": 4, "validate_every": 100, "checkpoint_every": 2, "log_every": 1},
}


def tiny(folder: pathlib.Path | str = "unused", **stages: float) -> SemiSupervisedConfig:
    return overlay(PRESETS["quick"], overlay_values(str(folder), stages))


def overlay_values(folder: str, stages: dict[str, float]) -> dict:
    values = {key: dict(section) for key, section in TINY.items()}
    values["run"]["out"] = folder
    values["stages"] |= stages
    return values


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture
def trainer(morphable):
    return SemiSupervisedTrainer(tiny(), morphable, None)


def test_starts_at_mean_pose_and_ambient_light(trainer):
    system = trainer.system.eval()
    codes = system.encode(torch.rand(2, 3, 32, 32)).codes
    assert codes.pose.abs().max() == 0
    expected = torch.zeros(2, 9, 3)
    expected[:, 0] = 0.8
    torch.testing.assert_close(codes.sh_coefficients, expected)


def test_neutral_face_is_the_zero_expression_code(trainer):
    system = trainer.system.eval()
    identity = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(system.decode_shape(identity), system.decode_shape(identity, torch.zeros(2, 8)))


def test_every_term_moves_what_it_should(trainer):
    """Each loss reaches its decoder or head; the generator step leaves the discriminator's gradients alone."""
    for _ in range(2):  # the heads start at 0: until they have moved, no gradient passes them
        trainer.step(1)
    terms = trainer.step(4)  # stage B
    names = {"shape", "pair", "reconstruction", "smoothness", "symmetry", "landmark", "adversarial", "total"}
    names.add("adversarial critic")
    assert names <= set(terms)
    gradients = {name: p.grad for name, p in trainer.system.named_parameters() if p.grad is not None}
    for part in ("encoder", "identity_head", "expression_head", "pose_head", "light_head", "shape_decoder"):
        largest = max(float(g.abs().max()) for n, g in gradients.items() if n.startswith(part))
        assert largest > 0, part
    assert any(n.startswith("albedo_decoder") for n in gradients)


def test_stages_follow_each_other(trainer):
    """Stage 0 moves the decoders alone, the encoder's stage the encoder and its heads alone."""

    def moved(iteration: int) -> set[str]:
        before = {name: p.detach().clone() for name, p in trainer.system.named_parameters()}
        trainer.step(iteration)
        return {name.split(".")[0] for name, p in trainer.system.named_parameters() if not p.equal(before[name])}

    assert moved(0) == {"shape_decoder", "albedo_decoder"}
    heads = {"identity_head", "expression_head", "pose_head", "light_head"}
    solved = {"identity_correction", "expression_correction"}  # as the stage ends
    assert moved(1) == heads | solved | {"encoder", "point_maps"}
    assert moved(2) >= {"encoder", "shape_decoder", "albedo_decoder"} and "discriminator" not in moved(3)
    assert "discriminator" in moved(4)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_gradients_lie_in_memory_as_their_parameters(morphable, precision):
    """torch's fused Adam pairs them by place in memory on CPUs (2.13: other strides, wrong steps, no error)."""
    stages = {"texture_iterations": 1, "encoder_precision": precision}
    config = overlay(tiny(**stages), {"model": {"albedo_decoder": "both"}})
    trainer = SemiSupervisedTrainer(config, morphable, None)
    for stage in STAGES:
        trainer._prepare(stage)
        trainer.optimizer.zero_grad(set_to_none=True)
        trainer._add_gradients(stage, 0)
        for name, parameter in trainer.objective.named_parameters():
            if (grad := parameter.grad) is not None:
                wide = [i for i, size in enumerate(parameter.shape) if size > 1]
                assert [grad.stride(i) for i in wide] == [parameter.stride(i) for i in wide], (stage, name)


def test_points_are_those_of_the_checkpoint(trainer):
    """Whichever vertices it names: their places on the mean face belong to them, and training aims at them."""
    system = trainer.system
    state = {name: tensor.clone() for name, tensor in system.state_dict().items()}
    state["point_vertices"] = state["point_vertices"].flip(0)
    places = system.mean_positions
    system.load_state_dict(state)
    assert system.mean_positions.equal(places.flip(1)) and not places.equal(places.flip(1))
    trainer.objective.terms("encoder", 0)
    assert trainer.objective._point_shapes._template.equal(trainer.morphable.template[state["point_vertices"]])


def test_bfloat16_encoder_trains_and_infers_in_float32(morphable):
    """Mixed precision in training only: weights, codes and results stay float32, losses near the float32 ones."""
    reported = {}
    for precision in ("float32", "bfloat16"):
        config = overlay(tiny(), {"stages": {"encoder_precision": precision}})
        trainer = SemiSupervisedTrainer(config, morphable, None)
        reported[precision] = trainer.step(1)
        assert {p.dtype for p in trainer.system.parameters()} == {torch.float32}
        codes = trainer.system.eval().encode(torch.rand(1, 3, 32, 32)).codes
        assert codes.identity.dtype == torch.float32
    single, mixed = reported["float32"]["surface_points"], reported["bfloat16"]["surface_points"]
    assert not single.equal(mixed)  # bfloat16 was used
    torch.testing.assert_close(single, mixed, rtol=0.05, atol=0)  # 8 bits of mantissa through twenty layers


def test_code_embedding_keeps_every_coefficient(morphable):
    size = morphable.num_albedo + morphable.num_identity
    embedding = CodeEmbedding(morphable, size, morphable.num_expression, seed=0)
    sample = morphable.sample(5, torch.Generator().manual_seed(0))
    identity, expression = embedding.codes(*sample)
    codes = Codes(identity, expression, torch.zeros(5, 6), torch.zeros(5, 27))
    albedo, shape = embedding.decoded(codes.identity, codes.expression)
    prior = morphable.prior
    torch.testing.assert_close(albedo, sample.albedo, rtol=0, atol=1e-5)  # rounding of orthonormal maps
    torch.testing.assert_close(shape[:, : morphable.num_identity], sample.identity, rtol=0, atol=1e-5)
    weights = shape[:, morphable.num_identity :] * prior.expression_std
    torch.testing.assert_close(weights, sample.expression, rtol=0, atol=1e-5)
    expected = morphable.shape(sample.identity, sample.expression)[:, morphable.landmarks68]
    torch.testing.assert_close(embedding.landmarks(codes), expected, rtol=0, atol=1e-3)  # mm
    zero = embedding.codes(sample.identity, torch.zeros_like(sample.expression), sample.albedo)[1]
    assert not zero.any()  # the neutral face is code 0


def test_code_term_is_the_error_of_what_the_codes_make(morphable):
    """Against decoding by the model, for a difference that no similarity undoes and for a pure change of size."""
    embedding = CodeEmbedding(morphable, 200, 64, seed=0)
    zero = torch.zeros(1, morphable.num_identity), torch.zeros(1, morphable.num_expression)
    batch = LabelledRenders(morphable, 16, 16, seed=1).batch(torch.arange(1))
    batch = dataclasses.replace(
        batch, identity=zero[0], expression=zero[1], albedo=torch.zeros(1, morphable.num_albedo)
    )

    def term(identity, albedo):
        codes = embedding.codes(identity, zero[1], albedo)
        return float(embedding.code_term(Codes(*codes, torch.zeros(1, 6), torch.zeros(1, 27)), batch))

    assert term(zero[0], batch.albedo) == 0
    albedo = torch.randn(1, morphable.num_albedo, generator=torch.Generator().manual_seed(3))
    difference = (morphable.albedo(albedo) - morphable.albedo(batch.albedo)).square().sum()
    variance = morphable.require("albedo_basis").square().sum()
    assert term(zero[0], albedo) == pytest.approx(float(difference / variance), rel=1e-4)
    identity = torch.zeros_like(zero[0])
    identity[0, 5] = 1.0
    shape = (morphable.shape(identity) - morphable.mean_neutral()).flatten().double()
    points = morphable.mean_neutral().double()
    axes = [axis.expand_as(points) for axis in torch.eye(3, dtype=torch.float64)]
    moves = torch.stack([t.flatten() for t in (*axes, *(torch.linalg.cross(a, points) for a in axes), points)], 1)
    along = moves @ torch.linalg.lstsq(moves, shape[:, None]).solution[:, 0]
    scale = torch.cat(
        [morphable.identity_basis, morphable.expression_basis * morphable.prior.expression_std[:, None, None]]
    )
    gram = scale.double().flatten(1)
    tangent = torch.linalg.qr(moves)[0]
    total = gram.square().sum() - (1 - SIMILARITY_SHARE) * (gram @ tangent).square().sum()
    expected = ((shape - along).square().sum() + SIMILARITY_SHARE * along.square().sum()) / total
    assert term(identity, batch.albedo) == pytest.approx(float(expected), rel=1e-3)


def test_an_odd_labelled_half_is_refused(morphable):
    trainer = SemiSupervisedTrainer(overlay(tiny(), {"data": {"labelled_batch": 3}}), morphable, None)
    with pytest.raises(ValueError, match="must be even to make pairs, got 3"):
        trainer.step(2)


@pytest.mark.parametrize("largest", [0.05, 1e6])
def test_long_gradients_are_shortened_and_others_stay(morphable, largest):
    trainer = SemiSupervisedTrainer(tiny(clip_norm=largest), morphable, None)
    trainer.step(1)
    whole = torch.nn.utils.get_total_norm([p.grad for p in trainer.model_parameters if p.grad is not None])
    expected = pytest.approx(largest, rel=1e-4) if largest < 1 else pytest.approx(float(reference_norm(morphable)))
    assert float(whole) == expected


def reference_norm(morphable) -> torch.Tensor:
    """Of the same gradient, taken without a step."""
    trainer = SemiSupervisedTrainer(tiny(), morphable, None)
    trainer._prepare("encoder")
    trainer._add_gradients("encoder", 1)
    return torch.nn.utils.get_total_norm([p.grad for p in trainer.model_parameters if p.grad is not None])


def test_reconstruct_needs_eval_mode_and_the_right_size(trainer):
    with pytest.raises(ValueError, match=r"call \.eval\(\)"):
        trainer.system.train().reconstruct(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"images must have shape \[N, 3, 32, 32\], got \[1, 3, 16, 16\]"):
        trainer.system.eval().reconstruct(torch.rand(1, 3, 16, 16))


def test_checkpoint_needs_nothing_else(trainer, tmp_path):
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    trainer.step(0)
    path = tmp_path / "model.safetensors"
    trainer.checkpoint(1, resumable=False).save(path)
    expected = trainer.system.eval().reconstruct(images)
    loaded = systems.load(path).reconstruct(images)
    for field in ("vertices", "neutral_vertices", "albedo", "pose", "sh_coefficients"):
        torch.testing.assert_close(getattr(loaded, field), getattr(expected, field), rtol=0, atol=0)
    assert "optimizer" not in Checkpoint.load(path).tensors


def test_checkpoints_of_other_runs_are_refused(trainer, morphable, tmp_path):
    checkpoint = trainer.checkpoint(1, resumable=True)
    other = SemiSupervisedTrainer(tiny(learning_rate=1e-3), morphable, None)
    with pytest.raises(ValueError, match=r"made with configuration .* resume with the settings saved"):
        other.restore(checkpoint)
    checkpoint.plain["assets"]["morphable_hash"] = "another"
    with pytest.raises(ValueError, match="another morphable model"):
        trainer.restore(checkpoint)
    path = tmp_path / "c.safetensors"
    foreign = dataclasses.replace(checkpoint, plain=checkpoint.plain | {"system": "unknown"})
    foreign.save(path)
    with pytest.raises(ValueError, match="holds the system 'unknown'"):
        systems.load(path)


def command(folder: pathlib.Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "facecore.cli.main", "train", "--preset", "quick", "--config", str(folder) + ".yaml",
            "--run.out", str(folder), *more]  # fmt: skip


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run through all five stages that nobody disturbs: the folder with its settings, and its weights."""
    import yaml

    folder = tmp_path_factory.mktemp("whole")
    values = overlay_values("unused", {"decoder_iterations": 2, "encoder_iterations": 2, "texture_iterations": 3})
    values["stages"] |= {"warmup_iterations": 2, "hybrid_iterations": 3, "history_size": 4}
    values["model"] |= {"albedo_decoder": "both"}
    values["world"] = {"persons": 3, "pictures": 2}
    values["run"]["checkpoint_every"] = 1
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    subprocess.run(command(folder / "run"), check=True, capture_output=True, timeout=300)
    return folder, Checkpoint.load(folder / "run" / "model.safetensors").tensors


def iteration_of(path: pathlib.Path) -> int:
    """From the header of a checkpoint that may be replaced meanwhile, opened once (safetensors opens it twice)."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return json.loads(header["__metadata__"]["plain"])["iteration"]


STARTS = {"decoder": 1, "encoder": 3, "warmup": 5, "hybrid": 7, "texture": 10}  # iterations done when it is killed


@pytest.mark.parametrize("stage", [pytest.param(s, marks=[] if s == "texture" else pytest.mark.slow) for s in STARTS])
def test_a_killed_run_resumes_to_the_same_weights(whole_run, tmp_path, stage):
    """SIGKILL in each stage, wherever the process then is; bit-equal weights on a CPU."""
    folder, whole = whole_run
    (tmp_path / "killed.yaml").write_text((folder / "run.yaml").read_text())
    process = subprocess.Popen(command(tmp_path / "killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    last = tmp_path / "killed" / "last.safetensors"
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if last.exists() and iteration_of(last) >= STARTS[stage]:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert iteration_of(last) < 12, "the run ended before it was killed"
    subprocess.run(command(tmp_path / "killed", "--run.resume"), check=True, capture_output=True, timeout=300)
    resumed = Checkpoint.load(tmp_path / "killed" / "model.safetensors").tensors
    for group in ("model", "identity_loss"):
        for name, tensor in whole[group].items():
            assert tensor.equal(resumed[group][name]), name


@pytest.mark.slow
def test_quick_preset_learns():
    """Every error below the mean face's; bounds leave a third of what was seen for other seeds and threads."""
    config = PRESETS["quick"]
    trainer = SemiSupervisedTrainer(config, load_model("procedural", num_vertices=config.model.num_vertices), None)
    for iteration in range(trainer.total_iterations):
        trainer.step(iteration)
    result = trainer.validate()
    print(result)
    assert result["albedo"] < 0.8 * result["albedo_mean_face"]
    assert result["shading"] < 0.7 * result["shading_mean_face"]
    assert result["landmark_percent"] < 4.5
    assert result["shape_gain_percent"] > 6 and result["neutral_gain_percent"] > 5
