"""Configuration: presets, YAML overlays, hash, command line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib

import pytest
import yaml

from facecore.cli.errors import UsageError
from facecore.cli.train_semi_supervised import COMMAND
from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.unsupervised_regression_config import RegressionConfig
from facecore.training.config import UNHASHED, config_hash, overlay, read_yaml, to_plain, write_yaml


def test_command_line_over_yaml_over_preset(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("stages: {warmup_iterations: 7, hybrid_iterations: 8}\nweights: {symmetry: 1}\n")
    config = COMMAND.parse(["--preset", "small", "--config", str(file), "--stages.hybrid-iterations", "9"])
    assert config.stages.warmup_iterations == 7  # YAML over preset
    assert config.stages.hybrid_iterations == 9  # command line over YAML
    assert config.weights.symmetry == 1.0
    assert config.model == PRESETS["small"].model


def test_resolved_configuration_round_trips(tmp_path):
    config = dataclasses.replace(PRESETS["small"], run=dataclasses.replace(PRESETS["small"].run, seed=3))
    write_yaml(tmp_path / "config.yaml", config)
    again = overlay(SemiSupervisedConfig(), read_yaml(tmp_path / "config.yaml"))
    assert again == config
    assert not list(tmp_path.glob("*.tmp"))


def test_hash_sees_what_is_learned_and_nothing_else():
    config = PRESETS["quick"]
    moved = overlay(config, {"run": {"out": "elsewhere", "seed": 5}, "data": {"photos": "pictures"}})
    assert config_hash(moved) == config_hash(config)
    for values in ({"weights": {"pair": 0.5}}, {"stages": {"learning_rate": 1e-3}}, {"data": {"unlabelled": False}}):
        assert config_hash(overlay(config, values)) != config_hash(config)
    assert len({config_hash(c) for c in PRESETS.values()}) == len(PRESETS)


def test_a_setting_that_came_later_counts_where_it_is_set():
    """Its default is what older versions did, so their runs keep their hash; of it alone, and of no other's default."""
    config = PRESETS["quick"]
    older = to_plain(config)
    del older["stages"]["hold_statistics"], older["world"]["steady_light"], older["world"]["yaw"]
    kept = {k: v for k, v in older.items() if k not in UNHASHED}
    kept = {
        k: {n: v for n, v in part.items() if f"{k}.{n}" not in UNHASHED} if isinstance(part, dict) else part
        for k, part in kept.items()
    }
    expected = hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]
    assert config_hash(config) == expected
    for later in ({"stages": {"hold_statistics": True}}, {"world": {"steady_light": True}}, {"world": {"yaw": 80.0}}):
        assert config_hash(overlay(config, later)) != expected


def test_paper_preset_states_the_papers_sizes():
    """METHODS 2.1 and 2.3."""
    paper = to_plain(PRESETS["paper"])
    assert paper["model"]["shape_channels"] == [256, 256, 128, 64, 32, 16]
    assert paper["model"]["factors"] == [4, 4, 4, 4, 2]
    assert (paper["model"]["identity_size"], paper["model"]["expression_size"]) == (128, 64)
    assert (paper["stages"]["learning_rate"], paper["stages"]["critic_learning_rate"]) == (1e-4, 5e-5)
    assert all(paper["weights"][f"labelled_{name}"] == 0 for name in ("albedo", "light", "pose"))


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("2E4", 2e4), ("1.5e+2", 150.0), (".5e-1", 0.05)])
def test_numbers_with_an_exponent_that_yaml_takes_for_text(tmp_path, text, value):
    (tmp_path / "settings.yaml").write_text(f"stages: {{learning_rate: {text}}}\n")
    assert overlay(SemiSupervisedConfig(), read_yaml(tmp_path / "settings.yaml")).stages.learning_rate == value


def test_every_unhashed_name_is_a_setting():
    known = [to_plain(SemiSupervisedConfig()), to_plain(RegressionConfig())]  # between them all there are
    for name in UNHASHED:
        section, *rest = name.split(".")
        assert any(section in plain and all(setting in plain[section] for setting in rest) for plain in known), name


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stages": {"learning_rate": "fast"}}, "setting 'stages.learning_rate' must be float, got 'fast'"),
        ({"stages": {"warmup_iterations": "1e3"}}, "must be int, got '1e3'"),
        ({"stages": {"warmup": 3}}, "unknown setting 'stages.warmup'; known here: "),
        ({"stages": {"warmup_iterations": "many"}}, "setting 'stages.warmup_iterations' must be int, got 'many'"),
        ({"stages": {"warmup_iterations": 2.5}}, "must be int, got 2.5"),
        ({"model": {"laplacian": "odd"}}, "setting 'model.laplacian' must be .*got 'odd'"),
        ({"run": 3}, "run must be a mapping"),
        ([1], "the configuration must be a mapping"),
    ],
)
def test_overlay_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        overlay(SemiSupervisedConfig(), values)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "cannot read"), (b"a: [1", "not valid YAML"), (b"\xff\xfe\xfa", "not UTF-8")]
)
def test_bad_yaml_files(tmp_path, content, message):
    file = tmp_path / "settings.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_yaml(file)
    assert str(file) in str(caught.value)


def test_yaml_cannot_build_objects(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("run: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        read_yaml(file)
    assert yaml.safe_load("a: 1") == {"a": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.labelled-batch", "3"], "--data.labelled-batch must be even"),
        (["--model.factors", "4", "4"], "--model.shape-channels must have one width more"),
        (["--data.photos", "no/such/folder"], "--data.photos no/such/folder: no such file or folder"),
        (["--stages.hold-statistics", "--stages.encoder-iterations", "0"], "--stages.hold-statistics holds what"),
        (["--world.bumps", "3", "--world.bump-mm", "0"], "--world.bump-mm must be positive"),
    ],
)
def test_impossible_settings_are_refused_before_anything_runs(arguments, message):
    with pytest.raises(UsageError, match=message):
        COMMAND.check(COMMAND.parse(["--preset", "quick", *arguments]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--no-such-option", "1"], "Unrecognized options: --no-such-option"), (["--preset", "big"], "--preset: invalid")],
)
def test_unknown_options_are_bad_usage(arguments, message):
    with pytest.raises(UsageError, match=message):
        COMMAND.parse(arguments)


def test_paths_are_plain_strings():
    assert to_plain({"a": pathlib.Path("x/y")}) == {"a": "x/y"}
