"""Small tables of numbers as tensors of any device and dtype, made once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch


def tensor_table(array: np.ndarray) -> Callable[[torch.device, torch.dtype], torch.Tensor]:
    """The function that gives an array as a tensor of a device and dtype, which is kept and must not be changed.

    The dtypes are int64 for integers, else float32 and float64. Where a mode such as FakeTensorMode makes other tensors
    than plain ones, they are made anew and not kept: they would be of no use outside of it, nor plain ones within. A
    compiled graph takes what is kept as an input; for a device that has none yet it holds the copy to that device.
    """
    dtypes = (torch.int64,) if np.issubdtype(array.dtype, np.integer) else (torch.float32, torch.float64)
    with torch.inference_mode(False):  # kept, so they must not become inference tensors; from_numpy heeds no other mode
        numbers = {dtype: torch.from_numpy(array.astype(str(dtype).removeprefix("torch."))) for dtype in dtypes}
    kept = {(torch.device("cpu"), dtype): tensor for dtype, tensor in numbers.items()}

    def table(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        key = (device, dtype)
        if torch.compiler.is_compiling():
            return kept[key] if key in kept else numbers[dtype].to(device)
        if type(torch.empty(0, device="cpu")) is not torch.Tensor:
            return torch.tensor(array, dtype=dtype, device=device)
        if key not in kept:
            with torch.inference_mode(False):
                kept[key] = numbers[dtype].to(device)
        return kept[key]

    return table
