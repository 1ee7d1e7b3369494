"""Looks whether losses are finite without making a GPU wait."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from facecore.training.loop import NotFinite


class _Seen(NamedTuple):
    iteration: int
    names: tuple[str, ...]
    values: torch.Tensor  # on the host once `copied` has come, at once if it is None
    copied: torch.cuda.Event | None


class FiniteWatch:
    """Raises NotFinite naming the first loss that is NaN or infinite.

    late: losses of an iteration are copied to the host behind the computation and looked at when the next iteration's
    come, or in `check`: reading a number at once would leave the GPU idle while Python prepares the next step. By
    default on a GPU only. Whoever writes weights calls `check` before, so that none are written that a NaN has
    reached.
    """

    def __init__(self, late: bool | None = None) -> None:
        self._late = late
        self._waiting: list[_Seen] = []

    def see(self, losses: dict[str, torch.Tensor], iteration: int) -> None:
        """Takes scalars on one device. Raises NotFinite: at once, or for an earlier iteration."""
        if self._waiting and self._waiting[0].iteration < iteration:
            self.check()
        values = torch.stack([value.detach().float() for value in losses.values()])
        self._waiting.append(_Seen(iteration, tuple(losses), *_to_host(values)))
        if not (values.is_cuda if self._late is None else self._late):
            self.check()

    def check(self) -> None:
        """Looks at everything that was seen."""
        waiting, self._waiting = self._waiting, []
        for iteration, names, values, copied in waiting:
            if copied is not None:
                copied.synchronize()
            for name, number in zip(names, values.tolist()):
                if not math.isfinite(number):
                    what = name if name == "gradient norm" else f"loss '{name}'"
                    raise NotFinite(
                        f"the {what} is {number} at iteration {iteration}",
                        "lower the learning rate or its weight, and train again",
                    )


def _to_host(values: torch.Tensor) -> tuple[torch.Tensor, torch.cuda.Event | None]:
    if not values.is_cuda:
        return values, None
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return host, copied
