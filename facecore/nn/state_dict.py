"""Reading weight files without running what is in them: safetensors, or torch.save restricted to tensors."""

from __future__ import annotations

import os
import pathlib
import pickle
from collections.abc import Mapping

import safetensors.torch
import torch


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Names to tensors, on the CPU, of a .safetensors file or of a state_dict saved by torch.save.

    torch.save files are read with weights_only; one whose state_dict lies under the key `state_dict` is opened up.
    Raises ValueError, naming the file, for one that is missing, of another kind, or that holds anything but tensors.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise ValueError(f"weights file {file} does not exist")
    if file.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(file)
        except safetensors.SafetensorError as error:
            raise ValueError(f"{file} is not a safetensors file: {error}") from error
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        raise ValueError(f"{file} is not a file of tensors saved by torch.save ({reason})") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"{file} must hold a state_dict (names to tensors), got {type(state).__name__}")
    return state


def state_dict_problems(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """What keeps `state` from being loaded into a module whose state_dict is `own`; empty when nothing does."""
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # absent from old files
    missing = sorted(own.keys() - state.keys() - counters)
    unexpected = sorted(state.keys() - own.keys())
    shapes = sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    return "; ".join(
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    )
