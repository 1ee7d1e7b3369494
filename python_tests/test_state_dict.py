"""Weight files are read without running what is in them."""

from __future__ import annotations

import pathlib
import pickle

import pytest
import safetensors.torch
import torch

from facecore.nn.state_dict import read_state_dict, state_dict_problems

WEIGHTS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.ones(1)}


def test_both_kinds_of_file(tmp_path):
    safetensors.torch.save_file(WEIGHTS, tmp_path / "w.safetensors")
    torch.save(WEIGHTS, tmp_path / "w.pth")
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, tmp_path / "nested.pth")
    for name in ("w.safetensors", "w.pth", "nested.pth"):
        state = read_state_dict(tmp_path / name)
        assert state.keys() == WEIGHTS.keys() and all(torch.equal(state[key], WEIGHTS[key]) for key in WEIGHTS)


class _Payload:
    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("content", ["missing", "text", "payload", "list"])
def test_refuses_everything_else(tmp_path, content):
    path, trace = tmp_path / "w.pth", tmp_path / "trace"
    if content == "text":
        path.write_text("hello")
    elif content == "payload":
        path.write_bytes(pickle.dumps({"a": _Payload(trace)}, protocol=2))
    elif content == "list":
        torch.save([torch.zeros(1)], path)
    with pytest.raises(ValueError, match=r"w\.pth"):
        read_state_dict(path)
    assert not trace.exists()  # nothing in the file was run


def test_problems_are_counted_and_named():
    own = {"a": torch.zeros(2), "b": torch.zeros(3), "n.num_batches_tracked": torch.zeros(())}
    assert state_dict_problems({"a": torch.zeros(2), "b": torch.zeros(3)}, own) == ""
    problems = state_dict_problems({"a": torch.zeros(5), "c": torch.zeros(1)}, own)
    assert problems == "1 missing (b); 1 unexpected (c); 1 of another shape (a)"
