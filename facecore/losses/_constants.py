"""Small tables of numbers as tensors of any device and dtype, made once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch


def tensor_table(array: Callable[[], np.ndarray]) -> Callable[[torch.device, torch.dtype], torch.Tensor]:
    """From a function without arguments that makes an array: the function that gives it as a tensor of a device and
    dtype, which is kept and must not be changed.

    Where a mode such as FakeTensorMode makes other tensors than plain ones, they are made anew, and not kept: they
    would be of no use outside of it, nor plain ones within. torch.compile takes the tensor for a constant.
    """
    kept: dict[tuple[torch.device, torch.dtype], torch.Tensor] = {}

    @torch.compiler.assume_constant_result
    @torch.inference_mode(False)  # kept for later calls, so it must not become an inference tensor
    def table(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
        key = (device, dtype)
        if key in kept and type(torch.empty(0, device="cpu")) is torch.Tensor:
            return kept[key]
        tensor = torch.tensor(array(), device="cpu").to(device, dtype)
        if type(tensor) is torch.Tensor:
            kept[key] = tensor
        return tensor

    return table
