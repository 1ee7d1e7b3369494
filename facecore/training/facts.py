"""What a row of results says of where it came from."""

from __future__ import annotations

import datetime
import os
import pathlib
import platform
import subprocess
from typing import Any

import torch

import facecore
from facecore.training.device import choose_device

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def facts_of_run(device: str) -> dict[str, Any]:
    """Commit, versions, date and device of a training; device: as RunConfig.device."""
    chosen = choose_device(device)
    cuda = chosen.type == "cuda"
    return {
        "commit": commit(),
        "facecore": facecore.__version__,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(chosen) if cuda else platform.processor() or platform.machine(),
        "date": datetime.date.today().isoformat(),
    }


def commit() -> str:
    """The checked-out commit, with "+" where the sources have changes.

    Outside a checkout what the environment variable FACECORE_COMMIT says, or "unknown".
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout

    if not (REPOSITORY / ".git").exists():  # an installed package may lie inside another project's checkout
        return os.environ.get("FACECORE_COMMIT", "unknown")
    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "facecore", "csrc", "CMakeLists.txt")
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("FACECORE_COMMIT", "unknown")
