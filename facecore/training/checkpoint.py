"""Checkpoints: one safetensors file with weights, assets, optimiser state and the resolved configuration."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

FORMAT = "facecore-checkpoint-1"


@dataclasses.dataclass
class Checkpoint:
    """Groups of named tensors, and plain JSON values beside them.

    tensors: {"model": {...}, "assets": {...}, "optimizer": {...}, ...}.
    plain: at least "system", "config", "iteration".
    """

    tensors: dict[str, dict[str, torch.Tensor]]
    plain: dict[str, Any]

    def save(self, path: pathlib.Path) -> None:
        """Atomic: `path` holds either the old or the new checkpoint whole, whenever the process dies."""
        flat = {
            f"{group}/{name}": tensor.detach().cpu().contiguous()
            for group, tensors in self.tensors.items()
            for name, tensor in tensors.items()
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # see remove_stale
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            save_file(flat, str(temporary), metadata={"format": FORMAT, "plain": json.dumps(self.plain)})
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            raise OSError(
                f"cannot write the checkpoint {path}: {error}; free some space or choose another --run.out"
            ) from error
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: pathlib.Path, groups: tuple[str, ...] | None = None) -> Checkpoint:
        """Reads all groups, or those named. Raises ValueError naming the file when it is absent, damaged or foreign."""
        if not path.is_file():
            raise ValueError(f"no checkpoint at {path}; give the .safetensors file that 'facecore train' wrote")
        tensors: dict[str, dict[str, torch.Tensor]] = {}
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError(f"{path} is not a facecore checkpoint (format {metadata.get('format')!r})")
                plain = json.loads(metadata["plain"])
                for key in file.keys():
                    group, name = key.split("/", 1)
                    if groups is None or group in groups:
                        tensors.setdefault(group, {})[name] = file.get_tensor(key)
        except (SafetensorError, OSError, RuntimeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(
                f"the checkpoint {path} is damaged ({error}); use an earlier one or train again"
            ) from error
        return cls(tensors, plain)


def load_whole(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Loads all the module's tensors. Raises ValueError, saying what to do, where names or shapes are others."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            "the checkpoint holds another version of this network: it cannot go on, but --run.start-from takes the "
            f"weights that still fit ({reason})"
        ) from error


def load_matching(module: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> list[str]:
    """Loads the tensors whose names and shapes the module has; returns its names that were not among them.

    Raises ValueError when none agrees.
    """
    own = module.state_dict()
    fitting = {name: value for name, value in tensors.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ValueError("the checkpoint holds no weight of this network: no name and shape agree")
    module.load_state_dict(fitting, strict=False)
    return sorted(own.keys() - fitting.keys())


def remove_stale(path: pathlib.Path) -> None:
    """Deletes half-written copies of the checkpoint `path` that runs left which were killed in `save`.

    Those of a process that is alive are left alone, except this one's own number, which another process had before.
    """
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        number = temporary.name.split(".")[-2]
        if number.isdigit() and (int(number) == os.getpid() or not _alive(int(number))):
            temporary.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks alone
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The state of an optimiser as named tensors; learning rates and the like come from the configuration."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, entry in state.items() for name, value in entry.items()}


def load_optimizer_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Takes over a state that optimizer_tensors made, laid out in memory as the parameters are."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        own = torch.empty_like(parameter, dtype=value.dtype) if value.shape == parameter.shape else value.clone()
        state.setdefault(int(index), {})[name] = own.copy_(value)  # a copy: the optimiser writes into its state
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
