"""facecore.training.device, and that training uses the CPU where facecore has no kernels for the GPU."""

from __future__ import annotations

import types

import pytest
import torch

from facecore.cli import main
from facecore.systems.semi_supervised_config import PRESETS
from facecore.training import device as module
from facecore.training.config import config_hash, overlay
from facecore.training.device import choose_device, unused_gpu


def machine(monkeypatch, gpu: bool, built: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(module, "_C", types.SimpleNamespace(built_with_cuda=built))


@pytest.mark.parametrize(("gpu", "built"), [(False, False), (False, True), (True, False), (True, True)])
def test_the_gpu_needs_torch_and_kernels(monkeypatch, gpu, built):
    machine(monkeypatch, gpu, built)
    both = gpu and built
    assert choose_device() == torch.device("cuda" if both else "cpu")
    assert choose_device("cpu") == torch.device("cpu")
    assert bool(unused_gpu()) == (gpu and not built)
    if both:
        assert choose_device("cuda") == torch.device("cuda")
    else:
        with pytest.raises(ValueError, match="FACECORE_CUDA=ON" if gpu else "torch sees no GPU"):
            choose_device("cuda")


def test_an_impossible_device_is_bad_usage(monkeypatch, tmp_path, capsys):
    machine(monkeypatch, gpu=True, built=False)
    assert main.main(["train", "--run.device", "cuda", "--run.out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("facecore train: --run.device: cuda cannot be used") and "FACECORE_CUDA=ON" in error
    assert not (tmp_path / "run").exists()


def test_the_device_is_no_part_of_the_hash():
    config = PRESETS["quick"]
    assert config_hash(overlay(config, {"run": {"device": "cpu"}})) == config_hash(config)
