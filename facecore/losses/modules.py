"""Module forms of the losses: a function with its options frozen, for code that keeps its losses in nn.Modules."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch


class Loss(torch.nn.Module):
    """A function of facecore.losses as a module: Loss(photometric_loss, norm="l1")(rendered, image, mask).

    Args:
        function: any function that returns a loss.
        options: keyword arguments of every call. Tensors and SparseMatrix among them move with the module (`.to`);
            they are not part of its state_dict. A call may add keyword arguments, and replace them.

    Raises ValueError for an option that the function does not have.
    """

    def __init__(self, function: Callable[..., torch.Tensor], **options: Any) -> None:
        super().__init__()
        unknown = set(options) - set(inspect.signature(function).parameters)
        if unknown:
            raise ValueError(f"{function.__name__} has no option {', '.join(sorted(unknown))}")
        self.function = function
        self.options = options

    def forward(self, *arguments: Any, **options: Any) -> torch.Tensor:
        return self.function(*arguments, **(self.options | options))

    def extra_repr(self) -> str:
        return ", ".join([self.function.__name__, *(f"{name}={_short(value)}" for name, value in self.options.items())])

    def _apply(self, function: Callable[..., Any], recurse: bool = True) -> Loss:
        super()._apply(function, recurse)
        self.options = {name: _moved(value, function) for name, value in self.options.items()}
        return self


def _moved(value: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    if hasattr(value, "to") and hasattr(value, "values"):  # a SparseMatrix
        like = function(value.values)
        return value.to(like.device, like.dtype)
    return value


def _short(value: Any) -> str:
    return f"{type(value).__name__}{list(value.shape)}" if hasattr(value, "shape") else repr(value)
