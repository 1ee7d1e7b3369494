"""Stage C: the texture decoder takes over, what is frozen stays, its checkpoints resume and reconstruct."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from test_semi_supervised import overlay_values

from facecore import systems
from facecore.data import FaceCrop
from facecore.mesh import load_mesh
from facecore.morphable import load as load_model
from facecore.systems.export import export_face
from facecore.systems.parameterization import CodeParameters
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.training.config import overlay

STAGE_B, STAGE_C = 0, 1  # first iterations
STAGES = {"decoder_iterations": 0, "encoder_iterations": 0, "warmup_iterations": 0, "hybrid_iterations": 1}


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


def config(**stages) -> SemiSupervisedConfig:
    values = overlay_values("unused", STAGES | {"texture_iterations": 4, "history_size": 4} | stages)
    values["model"] |= {"albedo_decoder": "both"}
    values["world"] = {"persons": 3, "pictures": 2}
    return overlay(PRESETS["ablation"], values)


def make(morphable, **stages) -> SemiSupervisedTrainer:
    return SemiSupervisedTrainer(config(**stages), morphable, None)


def changed(trainer: SemiSupervisedTrainer, iteration: int) -> set[str]:
    before = {name: t.detach().clone() for name, t in trainer.system.state_dict().items()}
    trainer.step(iteration)
    return {name for name, t in trainer.system.state_dict().items() if not t.equal(before[name])}


@pytest.mark.parametrize("held", [False, True])
def test_stage_b_moves_or_holds_the_batch_statistics(morphable, held):
    """Held: they stay as they were, and so does what the heads are shown of a picture by itself."""
    trainer = make(morphable, hold_statistics=held)
    moved = changed(trainer, STAGE_B)
    assert any(name.startswith("encoder.") and name.endswith("conv1.weight") for name in moved)
    assert any(name.endswith("running_mean") for name in moved) != held


@pytest.mark.parametrize("trunk", ["trained", "frozen"])
def test_stage_c_trains_the_texture_and_leaves_the_shape(morphable, trunk):
    trainer = make(morphable, texture_trunk=trunk)
    assert not trainer.system.textured
    first = changed(trainer, STAGE_B)
    assert any(name.startswith("albedo_decoder") for name in first)
    assert not any(name.startswith("texture_decoder") for name in first)
    # the decoder's last layer starts at 0: what is before it moves from the second step on
    moved = changed(trainer, STAGE_C) | changed(trainer, STAGE_C + 1)
    assert trainer.system.textured
    parts = {name.split(".")[0] for name in moved}
    assert parts == {"texture_decoder", "uses_texture"} | ({"encoder"} if trunk == "trained" else set())
    assert not any("running" in name or "num_batches" in name for name in moved), "batch statistics stay"


def test_every_term_of_stage_c(morphable):
    terms = make(morphable).step(STAGE_C)
    assert {"reconstruction", "symmetry", "patch", "patch critic", "shape", "landmark", "recognition"} <= set(terms)
    assert not {"adversarial", "smoothness"} & set(terms)
    frozen = make(morphable, texture_trunk="frozen").step(STAGE_C)
    assert not {"shape", "landmark", "recognition"} & set(frozen)


def test_resumes_to_the_bit_with_history_and_both_optimisers(morphable):
    trainer = make(morphable)
    for iteration in range(3):
        trainer.step(iteration)
    checkpoint = trainer.checkpoint(3, resumable=True)
    checkpoint.tensors = {group: {n: t.clone() for n, t in part.items()} for group, part in checkpoint.tensors.items()}
    resumed = make(morphable)
    assert resumed.restore(checkpoint) == 3
    for iteration in range(3, 5):
        expected, result = trainer.step(iteration), resumed.step(iteration)
        assert {name: float(v) for name, v in expected.items()} == {name: float(v) for name, v in result.items()}
    assert trainer.patches.history.pictures.equal(resumed.patches.history.pictures)
    for name, tensor in trainer.system.state_dict().items():
        assert tensor.equal(resumed.system.state_dict()[name]), name


def test_a_textured_checkpoint_reconstructs_refines_and_exports(morphable, tmp_path):
    trainer = make(morphable)
    for iteration in range(3):
        trainer.step(iteration)
    path = tmp_path / "model.safetensors"
    trainer.checkpoint(3, resumable=False).save(path)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    system = systems.load(path)
    face, expected = system.reconstruct(images), trainer.system.eval().reconstruct(images)
    assert system.textured and face.texture.image.shape == (2, 3, 32, 32)
    assert face.texture.image.equal(expected.texture.image) and face.albedo.equal(expected.albedo)
    own = CodeParameters(system, system.encode(images)).reconstruction(32, 32)
    assert own.texture.image.equal(face.texture.image) and "complexion" not in own.codes
    files = export_face(tmp_path, "me", face[:1], torch.rand(3, 40, 40), FaceCrop((20.0, 20.0), 40.0, 32, 32))
    assert files.texture.is_file() and (tmp_path / "me.mtl").is_file()
    assert "me_texture.png" in (tmp_path / "me.mtl").read_text()
    for file in (files.glb, files.obj):
        torch.testing.assert_close(load_mesh(file).uv, system.uv, rtol=0, atol=1e-5)


def test_one_face_of_several_keeps_its_texture(morphable):
    trainer = make(morphable)
    trainer.step(STAGE_C)
    faces = trainer.system.eval().reconstruct(torch.rand(3, 3, 32, 32))
    assert faces[1:2].texture.image.equal(faces.texture.image[1:2])
    with pytest.raises(ValueError, match=r"texture.image must have shape"):
        dataclasses.replace(faces, texture=faces.texture._replace(image=faces.texture.image[:1]))


def test_a_fine_tuned_run_starts_from_the_weights_and_says_what_it_left(morphable, tmp_path):
    trainer = make(morphable)
    trainer.step(STAGE_B)
    path = tmp_path / "start.safetensors"
    trainer.checkpoint(1, resumable=False).save(path)
    settings = overlay(config(), {"run": {"start_from": str(path)}, "model": {"shape_decoder": "linear"}})
    tuned = SemiSupervisedTrainer(settings, morphable, None)
    for name, tensor in trainer.system.state_dict().items():
        if not name.startswith("shape_decoder"):
            assert tuned.system.state_dict()[name].equal(tensor), name
    checkpoint = tuned.checkpoint(0, resumable=True)
    assert checkpoint.plain["start"] == f"{trainer.system.config_hash}, seed 0, 1 iterations"
    with pytest.raises(ValueError, match="another morphable model"):
        other = load_model("procedural", num_vertices=3000)
        SemiSupervisedTrainer(overlay(settings, {"model": {"num_vertices": 3000}}), other, None)
