"""facecore.training.checkpoint: round trip, atomicity, damage."""

from __future__ import annotations

import errno

import pytest
import torch

from facecore.training import checkpoint as module
from facecore.training.checkpoint import Checkpoint, load_optimizer_tensors, load_whole, optimizer_tensors


def example() -> Checkpoint:
    return Checkpoint(
        {"model": {"a.weight": torch.arange(6.0).view(2, 3)}, "other": {"n": torch.tensor(3)}}, {"x": [1]}
    )


def test_round_trip(tmp_path):
    path = tmp_path / "folder" / "c.safetensors"
    example().save(path)
    loaded = Checkpoint.load(path)
    assert loaded.plain == {"x": [1]}
    assert loaded.tensors["model"]["a.weight"].equal(example().tensors["model"]["a.weight"])
    assert loaded.tensors["other"]["n"].equal(torch.tensor(3))
    assert set(Checkpoint.load(path, ("model",)).tensors) == {"model"}
    assert [p.name for p in path.parent.iterdir()] == ["c.safetensors"]


def test_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    example().save(path)
    before = path.read_bytes()

    def full(tensors, filename, metadata):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(OSError, match=r"cannot write the checkpoint .*c\.safetensors.*No space left"):
        example().save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]


def test_damaged_absent_and_foreign_files(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(ValueError, match="no checkpoint at"):
        Checkpoint.load(path)
    example().save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"\x00" * 100, whole[:8] + b"\xff" * 50 + whole[58:]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=str(path)):
            Checkpoint.load(path)
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, str(path))
    with pytest.raises(ValueError, match="not a facecore checkpoint"):
        Checkpoint.load(path)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.RMSprop])
def test_optimizer_state_is_restored_exactly(kind):
    def steps(optimizer, weight, count, start):
        for i in range(count):
            optimizer.zero_grad()
            ((weight - start - i) ** 2).sum().backward()
            optimizer.step()

    whole = torch.nn.Parameter(torch.zeros(5))
    optimizer = kind([whole], lr=0.1)
    steps(optimizer, whole, 3, 0)
    resumed = torch.nn.Parameter(whole.detach().clone())
    other = kind([resumed], lr=0.1)
    load_optimizer_tensors(other, optimizer_tensors(optimizer))
    steps(optimizer, whole, 3, 3)
    steps(other, resumed, 3, 3)
    assert whole.equal(resumed)


def test_optimiser_state_keeps_the_layout_of_the_parameters(tmp_path):
    """Fused steps walk parameter and state side by side in memory: both must be channels-last."""

    def fresh() -> tuple[torch.nn.Conv2d, torch.optim.Optimizer]:
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
        return layer, torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)

    def step(layer: torch.nn.Conv2d, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        layer(torch.linspace(-1, 1, 75).view(1, 3, 5, 5)).square().sum().backward()
        optimizer.step()

    layer, optimizer = fresh()
    step(layer, optimizer)
    Checkpoint({"optimizer": optimizer_tensors(optimizer)}, {}).save(tmp_path / "c.safetensors")
    other, resumed = fresh()
    other.load_state_dict(layer.state_dict())
    load_optimizer_tensors(resumed, Checkpoint.load(tmp_path / "c.safetensors").tensors["optimizer"])
    assert resumed.state[other.weight]["exp_avg"].is_contiguous(memory_format=torch.channels_last)
    step(layer, optimizer)
    step(other, resumed)
    assert other.weight.equal(layer.weight)


def test_a_network_that_has_changed_says_what_to_do():
    """A bias that is not there, a weight of another shape; what fits is loaded."""
    weight, bias = torch.ones(1, 2), torch.ones(1)
    for tensors in ({"weight": weight}, {"weight": torch.ones(1, 3), "bias": bias}):
        with pytest.raises(ValueError, match=r"another version of this network.*run\.start-from") as caught:
            load_whole(torch.nn.Linear(2, 1), tensors)
        assert "\n" not in str(caught.value)
    layer = torch.nn.Linear(2, 1)
    load_whole(layer, {"weight": weight, "bias": bias})
    assert torch.equal(layer.weight, weight) and torch.equal(layer.bias, bias)
