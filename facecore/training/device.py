"""Which device a run computes on: the GPU needs both a torch that sees it and kernels built for it."""

from __future__ import annotations

import torch

from facecore import _C
from facecore.training import distributed

REMEDY = "put nvcc on PATH, then FACECORE_CUDA=ON pip install --force-reinstall --no-deps ."


def choose_device(wanted: str = "auto") -> torch.device:
    """`auto`: the GPU where it can be used, else the CPU; under torchrun each process has its own GPU.

    Raises ValueError when `cuda` is wanted and impossible, or when there are more processes than GPUs.
    """
    if wanted == "cpu":
        return torch.device("cpu")
    usable = torch.cuda.is_available() and _C.built_with_cuda
    if wanted == "cuda" and not usable:
        raise ValueError(f"cuda cannot be used: {unused_gpu() or 'torch sees no GPU; facecore doctor says why'}")
    if not usable:
        return torch.device("cpu")
    return distributed.local_device() if distributed.launched() else torch.device("cuda")


def unused_gpu() -> str:
    """One line with the remedy when torch sees a GPU that facecore has no kernels for, else empty."""
    if torch.cuda.is_available() and not _C.built_with_cuda:
        return f"a GPU is left unused: facecore was built without CUDA kernels; {REMEDY}"
    return ""
