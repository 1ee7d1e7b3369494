"""Several processes that train one model, as torchrun starts them: who this one is, and its share of a batch.

Without torchrun everything here is what one process alone needs: its share is the whole batch, nothing is exchanged.
"""

from __future__ import annotations

import dataclasses
import datetime
import os
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

Module = TypeVar("Module", bound=nn.Module)
VALIDATION_LIMIT = datetime.timedelta(hours=2)  # the others wait while the first process validates and writes


@dataclasses.dataclass(frozen=True)
class Share:
    """One of `count` equal parts of every batch, number `index`."""

    index: int = 0
    count: int = 1

    def part(self, index: int, count: int) -> Share:
        """One of `count` equal parts of this share."""
        return Share(self.index * count + index, self.count * count)

    def rows(self, size: int) -> slice:
        """The samples of a batch of `size` that are this share's. Raises ValueError if the parts are not equal."""
        own, rest = divmod(size, self.count)
        if rest:
            raise ValueError(f"a batch of {size} cannot be split into {self.count} equal parts")
        return slice(self.index * own, (self.index + 1) * own)


WHOLE = Share()


def launched() -> bool:
    """Whether torchrun started this process."""
    return distributed.is_available() and distributed.is_torchelastic_launched()


def rank() -> int:
    """Number of this process, 0 when it is alone. Known before `start`, too."""
    return int(os.environ["RANK"]) if launched() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if _joined() else 1


def is_first() -> bool:
    """Whether this is the process that writes, prints and validates."""
    return rank() == 0


def own_share() -> Share:
    return Share(rank(), world_size()) if _joined() else WHOLE


def local_device() -> torch.device:
    """The GPU of this process, which torchrun started. Raises ValueError when the machine has fewer of them."""
    number = int(os.environ["LOCAL_RANK"])
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"process {number} of this machine has no GPU: torch sees {torch.cuda.device_count()}; "
            "give torchrun --nproc-per-node that number"
        )
    return torch.device("cuda", number)


def start(device: torch.device) -> None:
    """Joins the other processes if torchrun started this one: gloo for the CPU, nccl for GPUs."""
    if not launched() or _joined():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    # Flags stay on the CPU in both cases, so gloo is there in both.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=VALIDATION_LIMIT)


def finish() -> None:
    """Leaves the others."""
    if _joined():
        distributed.destroy_process_group()


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; every process must ask. The host waits for the other hosts alone."""
    if world_size() == 1:
        return flag
    value = torch.tensor(int(flag))
    distributed.all_reduce(value)
    return bool(value)


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """The sum over processes, in place; equal to the last bit in all of them."""
    if world_size() > 1:
        distributed.all_reduce(tensor)
    return tensor


def mean(tensor: torch.Tensor) -> torch.Tensor:
    """The mean over processes, in place."""
    return summed(tensor).div_(world_size()) if world_size() > 1 else tensor


def share_of(count: int | torch.Tensor, device: torch.device) -> torch.Tensor:
    """What a mean over `count` things of this process is to be multiplied by, for the mean over processes to be that
    over all things: 1 where all have as many."""
    own = torch.as_tensor(count, device=device).float()
    return own / mean(own.clone()).clamp_min(1e-6)


def mean_losses(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The mean of named scalars over the parts of a batch in this process, and over processes."""
    names = list(parts[0])
    values = torch.stack([torch.stack([part[name].float() for name in names]) for part in parts]).mean(0)
    return dict(zip(names, mean(values).unbind()))


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """The tensors of all processes by rank, [world_size, ...]; no gradient."""
    if world_size() == 1:
        return tensor.detach()[None]
    parts = [torch.empty_like(tensor) for _ in range(world_size())]
    distributed.all_gather(parts, tensor.detach().contiguous())
    return torch.stack(parts)


def take_first_buffers(module: nn.Module) -> None:
    """Gives every process the first one's buffers, as each forward pass of `averaged` begins with and checkpoints hold.

    Needed where the module runs outside such a pass: since the last one each process has moved its statistics by its
    own pictures, where they are not `synchronised`.
    """
    if world_size() > 1:
        for buffer in module.buffers():
            distributed.broadcast(buffer, src=0)


def averaged(module: nn.Module) -> nn.Module:
    """The module whose backward pass averages gradients over the processes; itself when this one is alone.

    Of parameters that require a gradient now; each backward pass may reach others of them. All processes start from
    the first one's weights, and each forward pass from the first one's buffers.
    """
    if not _joined():
        return module
    return DistributedDataParallel(module, find_unused_parameters=True)


def synchronised(module: Module, device: torch.device) -> Module:
    """Batch normalisation over the pictures of all processes where torch has it, on GPUs; weights stay the same."""
    if world_size() == 1 or device.type != "cuda":
        return module
    converted: Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    return converted


def normalises_apart(module: nn.Module) -> bool:
    """Whether each process normalises by the statistics of its own pictures."""
    own = any(type(part) is nn.BatchNorm2d for part in module.modules())
    return world_size() > 1 and own


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()
