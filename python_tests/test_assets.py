"""facecore.systems.assets: measured on any device; tensors that cannot be assets are refused."""

from __future__ import annotations

import pytest

from facecore import systems
from facecore.morphable import load as load_model
from facecore.systems.assets import FaceAssets
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import ModelConfig
from facecore.training.checkpoint import Checkpoint

FACTORS = (4, 4)


@pytest.fixture(scope="module")
def model():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture
def parts(model):
    """Tensors of their own for each test to damage, and the plain values."""
    tensors, plain = FaceAssets.from_morphable(model, FACTORS).to_tensors()
    return {name: tensor.clone() for name, tensor in tensors.items()}, plain


def test_measured_on_any_device(model, device):
    here, there = FaceAssets.from_morphable(model, FACTORS), FaceAssets.from_morphable(model.to(device), FACTORS)
    assert there.template.device.type == "cpu" and there.shape_scale == here.shape_scale


def test_round_trip(parts):
    tensors, plain = FaceAssets.from_tensors(*parts).to_tensors()
    assert plain == parts[1] and set(tensors) == set(parts[0])
    assert all(tensor.equal(parts[0][name]) for name, tensor in tensors.items())


OUT_OF_RANGE = {
    "landmarks68": "landmarks68 must be int64",
    "mirror_map": "mirror_map must be int64",
    "levels.1.kept": r"levels\.1\.kept must be int64",
    "up.0.col_indices": "indices must be",
    "down.1.col_indices": "indices must be",
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
@pytest.mark.parametrize("value", [-1, 10_000])
def test_indices_out_of_range_are_refused(parts, name, value):
    parts[0][name][3] = value
    with pytest.raises(ValueError, match=OUT_OF_RANGE[name]):
        FaceAssets.from_tensors(*parts)


def test_a_checkpoint_with_such_indices_is_damaged(model, tmp_path):
    config = ModelConfig(
        num_vertices=2500,
        image_size=32,
        encoder_depth=18,
        identity_size=8,
        expression_size=4,
        factors=FACTORS,
        shape_channels=(8, 8, 8),
        albedo_channels=(8, 8, 8),
        critic_channels=(8, 8),
        num_terms=3,
    )
    system = SemiSupervised(config, FaceAssets.from_morphable(model, FACTORS))
    assets, plain_assets = system.assets.to_tensors()
    plain = {"system": "semi-supervised", "config": {"model": {}}, "config_hash": "x", "assets": plain_assets}
    plain["config"]["model"] = {name: value for name, value in vars(config).items() if name != "morphable"}
    path = tmp_path / "model.safetensors"
    for name in (None, *OUT_OF_RANGE):
        damaged = {key: tensor.clone() for key, tensor in assets.items()}
        if name is None:
            Checkpoint({"model": system.state_dict(), "assets": damaged}, plain).save(path)
            systems.load(path)
            continue
        damaged[name][3] = 10_000
        Checkpoint({"model": system.state_dict(), "assets": damaged}, plain).save(path)
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged or of another version: "):
            systems.load(path)
