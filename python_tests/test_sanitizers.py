"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, on hostile inputs, and that the guard works."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PROCESSES, ROUNDS = 4, 2500


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> pathlib.Path:
    """A folder with facecore whose extension is built with the sanitizers."""
    for tool in ("cmake", "ninja", "g++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    folder = tmp_path_factory.mktemp("sanitized")
    build = folder / "build"
    pybind11 = subprocess.run(
        [sys.executable, "-m", "pybind11", "--cmakedir"], check=True, capture_output=True, text=True
    ).stdout.strip()
    options = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}", "-DFACECORE_CUDA=OFF"]
    options += ["-DFACECORE_SANITIZE=ON", "-DCMAKE_BUILD_TYPE=Release"]
    subprocess.run(["cmake", "-S", str(REPOSITORY), "-B", str(build), "-G", "Ninja", *options], check=True)
    subprocess.run(["ninja", "-C", str(build)], check=True)
    shutil.copytree(REPOSITORY / "facecore", folder / "facecore", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (extension,) = build.glob("_C*.so")
    shutil.copy(extension, folder / "facecore")
    return folder


def run(folder: pathlib.Path, *command: str) -> subprocess.CompletedProcess[str]:
    libraries = [  # libstdc++ too: the sanitizer looks for what throws before the extension brings it
        subprocess.run(["g++", f"-print-file-name={name}"], check=True, capture_output=True, text=True).stdout.strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "PYTHONPATH": str(folder),
    }
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=1200
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(PROCESSES))
def test_hostile_inputs_leave_no_report(sanitized, seed):
    result = run(sanitized, str(REPOSITORY / "python_tests/hostile_inputs.py"), str(ROUNDS), str(seed))
    assert result.returncode == 0 and result.stdout.strip() == "done", result.stderr[-4000:]
    assert "runtime error" not in result.stderr and "AddressSanitizer" not in result.stderr, result.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("fault,report", [("address", "AddressSanitizer"), ("undefined", "runtime error")])
def test_a_planted_fault_is_reported(sanitized, fault, report):
    result = run(sanitized, "-c", f"from facecore import _C; _C.plant_fault('{fault}')")
    assert result.returncode != 0
    assert report in result.stderr, result.stderr[-4000:]


def test_no_fault_is_planted_in_what_users_get():
    from facecore import _C

    assert not hasattr(_C, "plant_fault")
