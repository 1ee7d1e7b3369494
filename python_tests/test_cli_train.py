"""`facecore train`: bad settings are refused before anything is written, failed runs say how they go on."""

from __future__ import annotations

import types

import pytest
import torch
from cli_runs import VERTICES, everything_below

from facecore.systems.semi_supervised_config import PRESETS
from facecore.training.config import overlay

BAD_TRAININGS = {
    "no such preset": (["--preset", "huge"], 2, "argument --preset: invalid choice: 'huge'"),
    "no such system": (["--system", "x"], 2, "argument --system: invalid choice: 'x'"),
    "no such configuration": (["--config", "none.yaml"], 2, "cannot read the configuration none.yaml"),
    "unknown setting": (["--config", "{bad}"], 2, "unknown setting 'model.colour'"),
    "wrong type in a list": (["--config", "{list}"], 2, "setting 'model.factors' must be int, got 'four'"),
    "odd labelled half": (["--data.labelled-batch", "3"], 2, "--data.labelled-batch must be even"),
    "no logging": (["--run.log-every", "0"], 2, "--run.log-every must be at least 1, got 0"),
    "tiny pictures": (["--model.image-size", "8"], 2, "--model.image-size must be at least 32, got 8"),
    "rate": (["--stages.learning-rate", "nan"], 2, "--stages.learning-rate must be positive and finite, got nan"),
    "no rate": (["--stages.critic-learning-rate", "0"], 2, "--stages.critic-learning-rate must be positive and finite"),
    "infinite norm": (["--stages.clip-norm", "inf"], 2, "--stages.clip-norm must be positive and finite, got inf"),
    "one render": (["--stages.encoder-batch", "1"], 2, "--stages.encoder-batch must be at least 2, got 1"),
    "nothing to do": (
        ["--stages.warmup-iterations", "0", "--stages.hybrid-iterations", "0"],
        2,
        "--stages: iterations must be at least 0 and not all 0",
    ),
    "widths of the critic": (["--model.critic-channels", "8"], 2, "--model.critic-channels must have as many widths"),
    "no such model": (["--model.morphable", "ict"], 2, "--model.morphable ict: no such file or folder"),
    "not a model": (["--model.morphable", "{bad}"], 1, "{bad} is not a morphable model of a known kind"),
    "no such weights": (["--model.encoder-weights", "w.pth"], 2, "--model.encoder-weights w.pth: no such file"),
    "too many modes": (
        ["--world.labelled-modes", "9999"],
        2,
        "--world.labelled-modes must be at most 66, the identity modes of procedural",
    ),
    "too few vertices": (["--model.num-vertices", "10"], 2, "--model.num-vertices must be an integer from 2500 to"),
    "no factor": (["--model.factors", "1", "4"], 2, "--model.factors must be at least 2 each, got [1, 4]"),
    "no width": (
        ["--model.critic-channels", "0", "8"],
        2,
        "--model.critic-channels must be at least 1 each, got [0, 8]",
    ),
    "features of no points": (["--model.surface-points", "0"], 2, "--model.point-features are of surface points"),
    "points": (["--model.surface-points", "5"], 2, "--model.surface-points must be 0 or from 68 (the landmarks) to"),
    "features": (["--model.point-features", "-1"], 2, "--model.point-features must be at least 0, got -1"),
    "heads at rest": (["--stages.head-rate", "0"], 2, "--stages.head-rate must be positive and finite, got 0.0"),
    "a dent": (
        ["--world.bumps", "4", "--world.bump-mm", "-1"],
        2,
        "--world.bump-mm must be positive and finite, got -1.0",
    ),
    "a weight of no number": (["--weights.pair", "nan"], 2, "--weights.pair must be at least 0 and finite, got nan"),
    "a weight below 0": (["--weights.pair", "-1"], 2, "--weights.pair must be at least 0 and finite, got -1.0"),
    "a seed of many digits": (["--run.seed", "9" * 25], 2, "--run.seed must lie in [-2**62, 2**62], got 99"),
    "photographs in a file": (["--data.photos", "{bad}"], 2, "--data.photos {bad} is a file; give a folder"),
    "masks in a file": (
        ["--data.photos", "{folder}", "--data.masks", "{bad}"],
        2,
        "--data.masks {bad} is a file; give a folder",
    ),
    "photographs that are left out": (
        ["--data.photos", "{folder}", "--data.no-unlabelled"],
        2,
        "--data.photos has no effect here: --data.no-unlabelled leaves photographs out",
    ),
    "photographs for no stage": (
        ["--data.photos", "{folder}", "--stages.hybrid-iterations", "0", "--stages.texture-iterations", "0"],
        2,
        "--data.photos has no effect here: no stage that sees photographs has iterations",
    ),
    "no such photographs": (["--data.photos", "none"], 2, "--data.photos none: no such file or folder"),
    "another data set's options": (
        ["--data.photos", "{folder}", "--data.dataset", "300w-lp", "--data.landmarks", "{folder}"],
        2,
        "--data.landmarks: 300w-lp brings its own landmarks; leave it out",
    ),
    "a share above 1": (["--data.max-skipped", "2"], 2, "--data.max-skipped must be a share from 0 to 1, got 2.0"),
    "a texture of odd size": (
        ["--model.albedo-decoder", "both", "--model.image-size", "40"],
        2,
        "--model.image-size must be a multiple of 32 for a texture decoder, got 40",
    ),
    "no usable photographs": (["--data.photos", "{folder}"], 1, "{folder} has no usable photograph of 0 pictures"),
    "out is a file": (["--run.out", "{bad}"], 2, "--run.out {bad} is a file; give a folder"),
    "out is not empty": (["--run.out", "{folder}"], 2, "--run.out {folder} is not empty and has no checkpoint"),
    "nothing to resume": (["--run.resume"], 2, "--run.resume: there is no checkpoint"),
}


@pytest.mark.parametrize("case", BAD_TRAININGS)
def test_bad_trainings_write_nothing(run, shared, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "bad.yaml").write_text("model: {colour: red}\n")
    (folder / "list.yaml").write_text("model: {factors: [4, four]}\n")
    before = everything_below(tmp_path)
    names = {"folder": folder, "bad": folder / "bad.yaml", "list": folder / "list.yaml"}
    arguments, code, message = BAD_TRAININGS[case]
    filled = [argument.format(**names) for argument in arguments]
    base = [] if "--config" in filled else ["--config", shared.settings]
    result = run("train", *base, "--run.out", tmp_path / "out", *filled)
    assert result[:2] == (code, "") and result[2].count("\n") == 0
    assert result[2].startswith("facecore train: ") and message.format(**names) in result[2]
    assert everything_below(tmp_path) == before


def test_a_run_that_failed_early_says_how_to_start_again(run, shared, tmp_path):
    """Weights that leave a stage without a term are found out in its first step, when the folder is there."""
    out = tmp_path / "run"
    weights = [name for name, value in vars(PRESETS["quick"].weights).items() if isinstance(value, float)]
    zero = [f"--weights.{name.replace('_', '-')}=0" for name in weights]
    base = ["train", "--config", shared.settings, "--run.out", out]
    code, _, errors = run(*base, *zero)
    assert code == 1 and "every term of this stage has weight 0 (shape, " in errors and "by --weights" in errors
    for arguments, message in (
        ([], f"--run.out {out} is not empty and has no checkpoint to go on from; delete it or choose another"),
        (["--run.resume"], f"--run.resume: there is no checkpoint in {out}; leave --run.resume out for a new folder"),
    ):
        code, _, errors = run(*base, *arguments)
        assert code == 2 and message in errors
    folder = shared.checkpoint.parent
    code, _, errors = run("train", "--config", shared.settings, "--run.out", folder)
    assert code == 2 and f"--run.out {folder} is not empty; choose another folder, or add --run.resume" in errors


def test_a_refused_resumption_keeps_the_settings_of_the_run(run, shared):
    folder = shared.checkpoint.parent
    before = (folder / "config.yaml").read_bytes()
    base = ["train", "--config", shared.settings, "--run.out", folder, "--run.resume"]
    code, _, errors = run(*base, "--stages.hybrid-iterations", 5)
    assert code == 1 and "resume with the settings saved in config.yaml" in errors
    assert (folder / "config.yaml").read_bytes() == before


def test_a_gpu_without_kernels_is_left_unused(run, shared, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("facecore.training.device._C", types.SimpleNamespace(built_with_cuda=False))
    code, out, _ = run("train", "--config", shared.settings, "--run.out", tmp_path / "run")
    assert code == 0 and "0 photographs, cpu" in out
    (line,) = [line for line in out.splitlines() if "a GPU is left unused" in line]
    assert "FACECORE_CUDA=ON" in line


def test_training_writes_what_it_says(shared):
    written = everything_below(shared.checkpoint.parent)
    assert {"config.yaml", "last.safetensors", "metrics.jsonl", "model.safetensors"} <= set(written)
    assert not any(name.startswith(".") or name.endswith("tmp") for name in written)


def test_training_on_a_full_disk_keeps_no_half_checkpoint(run, shared, tmp_path, full_disk):
    out = tmp_path / "run"
    full_disk(1_000_000)
    code, _, errors = run("train", "--config", shared.settings, "--run.out", out)
    assert code == 1
    assert "cannot write the checkpoint" in errors and str(out) in errors and "free some space" in errors
    assert not [name for name in everything_below(out) if "safetensors" in name]


def test_ict_models_take_their_options(run, shared, data_dir, tmp_path, monkeypatch):
    """--model.region reaches the ICT loader, and a facecore npz, which has no such option, loads all the same."""
    from facecore.cli.train_data import load_morphable

    narrow = overlay(PRESETS["quick"], {"model": {"morphable": str(data_dir / "ict_facekit.npz"), "region": "narrow"}})
    assert load_morphable(narrow).num_vertices == 6706
    assert load_morphable(overlay(narrow, {"model": {"morphable": str(shared.model)}})).num_vertices == VERTICES
