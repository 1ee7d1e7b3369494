"""Which device a run computes on: the GPU needs both a torch that sees it and kernels built for it."""

from __future__ import annotations

import torch

from facecore import _C

REMEDY = "put nvcc on PATH, then FACECORE_CUDA=ON pip install --force-reinstall --no-deps ."


def choose_device(wanted: str = "auto") -> torch.device:
    """`auto`: the GPU where it can be used, else the CPU. Raises ValueError when `cuda` is wanted and impossible."""
    if wanted == "cpu":
        return torch.device("cpu")
    usable = torch.cuda.is_available() and _C.built_with_cuda
    if wanted == "cuda" and not usable:
        raise ValueError(f"cuda cannot be used: {unused_gpu() or 'torch sees no GPU; facecore doctor says why'}")
    return torch.device("cuda" if usable else "cpu")


def unused_gpu() -> str:
    """One line with the remedy when torch sees a GPU that facecore has no kernels for, else empty."""
    if torch.cuda.is_available() and not _C.built_with_cuda:
        return f"a GPU is left unused: facecore was built without CUDA kernels; {REMEDY}"
    return ""
