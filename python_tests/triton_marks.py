"""What the tests of Triton kernels need: marks of what a machine can do, another Python process, a compiler."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import pathlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch

from facecore.losses import _triton

HERE = pathlib.Path(__file__).resolve().parent
TRITON = importlib.metadata.version("triton") if importlib.util.find_spec("triton") else None
needs_triton = pytest.mark.skipif(TRITON is None, reason="Triton is not installed: pip install 'facecore[test]'")
# The interpreter of Triton 3.6 makes a Python int of an array of one number, which numpy 2.4 refuses.
interprets = pytest.mark.skipif(
    TRITON is not None and [int(part) for part in TRITON.split(".")[:2]] < [3, 7],
    reason="Triton's interpreter works with this numpy from 3.7 on",
)
compiles = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="interpreted kernels cannot be compiled: unset TRITON_INTERPRET"
)


def run_python(*arguments: str, **environment: str) -> str:
    command = [sys.executable, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def compiler(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    import triton_compile

    return triton_compile


@pytest.fixture
def without_triton(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CPU tensors stand for those of a CUDA machine that has no Triton."""
    monkeypatch.setattr(_triton, "runs_on", lambda tensor: True)
    monkeypatch.setattr(_triton, "INSTALLED", False)
    _triton._warn_that_triton_is_missing.cache_clear()
    yield
    _triton._warn_that_triton_is_missing.cache_clear()


cuda = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"), needs_triton]


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.reduce(lambda marked, mark: mark(marked), cuda, function)
