"""Where the losses run as Triton kernels, in which precision, and how a kernel is launched. Does not import triton.

A loss with such kernels has them in _<loss>_triton.py, with functions that return their Launches. The kernel function
of its operator (make_op) imports that file where runs_on() is true, and runs these; its public function composes the
definition where missing_for() is true.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from facecore.ops._library import FLOATS, check_tensor

INSTALLED = importlib.util.find_spec("triton") is not None
HALVES = (torch.bfloat16, torch.float16)


def runs_on(tensor: torch.Tensor) -> bool:
    """Whether an operator takes its Triton kernel for this tensor, not the C++ one."""
    return tensor.is_cuda


def missing_for(tensor: torch.Tensor) -> bool:
    """Whether a loss must compose its definition, for want of Triton on a CUDA machine: warns once per process."""
    if not runs_on(tensor) or INSTALLED:
        return False
    if not torch.compiler.is_compiling():
        _warn_that_triton_is_missing()
    return True


@functools.cache
def _warn_that_triton_is_missing() -> None:
    frame, levels = sys._getframe(1), 2
    ours = ("facecore.losses", "facecore.ops")
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(ours):
        frame, levels = frame.f_back, levels + 1
    warnings.warn(
        "the losses of facecore run as plain PyTorch on CUDA, slower and with more memory, because Triton is not "
        "installed: pip install 'facecore[triton]'",
        RuntimeWarning,
        stacklevel=levels,  # the caller of the loss
    )


def float_dtypes(tensor: Any) -> tuple[torch.dtype, ...]:
    """The dtypes that a loss takes on the device of this tensor: half precision has no C++ kernels."""
    return FLOATS + HALVES if isinstance(tensor, torch.Tensor) and runs_on(tensor) else FLOATS


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """In which dtype a loss of tensors of `dtype` is computed and returned."""
    return torch.float32 if dtype in HALVES else dtype


def check_constant(
    name: str,
    tensor: torch.Tensor,
    shape: Sequence[int | str],
    like: torch.Tensor,
    sizes: dict[str, int] | None = None,
) -> None:
    """check_tensor of what a loss of `like` takes or makes in the dtype in which it is computed: see sum_dtype."""
    check_tensor(name, tensor, shape, (sum_dtype(like.dtype),), sizes=sizes)
    check_device(name, tensor, like)


def check_device(name: str, tensor: torch.Tensor, like: torch.Tensor) -> None:
    if tensor.device != like.device:
        raise ValueError(f"{name} must be on {like.device} like the first argument, got {tensor.device}")


def packed_images(batch: torch.Tensor) -> torch.Tensor:
    """The batch, or a copy where the numbers of an image do not lie one after the other; images may overlap."""
    return batch if batch.numel() == 0 or batch[0].is_contiguous() else batch.contiguous()


class Launch(NamedTuple):
    """One kernel with all its arguments; tests compile it from these without a device."""

    kernel: Any
    programs: int
    arguments: Mapping[str, Any]
    num_warps: int = 4

    def run(self, device: torch.device) -> None:
        """Queues it on the current stream of the device."""
        if self.programs == 0:
            return
        with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
            self.kernel[(self.programs,)](**self.arguments, num_warps=self.num_warps)


def run_all(launches: Iterable[Launch], device: torch.device) -> None:
    for launch in launches:
        launch.run(device)


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number` and 1."""
    return 1 << max(number - 1, 0).bit_length()


def tile_shape(height: int, width: int, pixels: int) -> tuple[int, int]:
    """Rows and columns of the tiles of about `pixels` pixels that cut a picture into programs.

    As wide as a tile can be while at most an eighth of its columns lie beyond the picture, at least a warp.
    """
    fitting = [columns for columns in (128, 64) if -(-width // columns) * columns * 8 <= width * 9]
    columns = fitting[0] if fitting else 32
    return max(1, min(pixels // columns, power_of_two(height))), columns


def block_size(numbers: int, largest: int = 1024) -> int:
    """How many of an image's numbers a program takes: a power of two."""
    return min(power_of_two(numbers), largest)


def block_count(numbers: int, block: int) -> int:
    return -(-numbers // block)


def tile_count(height: int, width: int, tile: tuple[int, int]) -> int:
    return -(-height // tile[0]) * -(-width // tile[1])
