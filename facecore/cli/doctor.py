"""`facecore doctor`: what was found on this machine, one line each, and what to do about what was not."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import pathlib
import platform
import re
import tempfile
from collections.abc import Iterator
from typing import Literal

import torch

import facecore
from facecore import _C
from facecore.cli.parsing import parse_options
from facecore.training.device import REMEDY

DESCRIPTION = """Says what was found on this machine: torch, CUDA, kernels, threads, optional packages, folders.

Example: facecore doctor --json

Exit code 0 when everything that is needed works, 1 when something is broken; the line says what to do."""

OLDEST_TORCH = (2, 9)
SIMD_LEVELS = ("base", "AVX2", "AVX-512")
EXTRAS = {
    "scikit-image": ("the demo's portrait", "pip install 'facecore[demo]'"),
    "mediapipe": ("faces and landmarks of photographs", "pip install 'facecore[landmarks]' (docs/perception.md)"),
    "onnxruntime": ("perception networks in ONNX", "pip install 'facecore[onnx]'"),
    "pytest-benchmark": ("facecore benchmark", "pip install 'facecore[benchmark]'"),
    "matplotlib": ("the curves of facecore benchmark", "pip install 'facecore[benchmark]'"),
}
MARKS = {"ok": " ok ", "note": "note", "problem": "FAIL"}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line. `problem` makes the exit code 1; `note` is something that works less well or is not there."""

    status: Literal["ok", "note", "problem"]
    what: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{MARKS[self.status]}  {self.what:<13} {self.found}" + (f"; {self.remedy}" if self.remedy else "")


@dataclasses.dataclass(frozen=True)
class Doctor:
    """See DESCRIPTION."""

    json: bool = False
    """Print the findings as JSON."""

    def run(self) -> int:
        findings = list(examine())
        if self.json:
            print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=1))
        else:
            print("\n".join(map(str, findings)))
        return int(any(finding.status == "problem" for finding in findings))


def main(argv: list[str]) -> int:
    doctor: Doctor = parse_options(Doctor, argv, prog="facecore doctor", description=DESCRIPTION)
    return doctor.run()


def examine() -> Iterator[Finding]:
    """Every finding, in the order of the report. A check that itself fails is a problem, not a crash."""
    for check in (
        versions,
        dependencies,
        kernels,
        cuda,
        triton_kernels,
        simd,
        threads,
        openmp,
        extras,
        cache,
        real_data,
    ):
        try:
            yield from check()
        except Exception as error:  # the command is for broken machines: say what broke and go on
            yield Finding("problem", check.__name__, f"the check failed: {type(error).__name__}: {_one_line(error)}")


def versions() -> Iterator[Finding]:
    yield Finding("ok", "facecore", f"{facecore.__version__} in {pathlib.Path(facecore.__file__).parent}")
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        yield Finding(
            "problem", "torch", f"{torch.__version__} is older than {oldest}", f"pip install 'torch>={oldest}'"
        )
        return
    kind = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
    yield Finding("ok", "torch", f"{torch.__version__}, {kind}")


def dependencies() -> Iterator[Finding]:
    """The distributions that facecore's own metadata asks for."""
    try:
        required = importlib.metadata.requires("facecore") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("note", "dependencies", "not checked: facecore runs from a source tree", "pip install .")
        return
    names = [re.split(r"[<>=!~;\[ ]", line, maxsplit=1)[0] for line in required if "extra ==" not in line]
    missing = [name for name in names if not _installed(name)]
    if missing:
        yield Finding("problem", "dependencies", f"missing: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    else:
        yield Finding("ok", "dependencies", f"all {len(names)} installed")


def kernels() -> Iterator[Finding]:
    """Runs one kernel on each device and compares it with its definition."""
    devices = ["cpu"]
    if _C.built_with_cuda and torch.cuda.is_available():
        devices += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    for device in devices:
        name = "CPU kernels" if device == "cpu" else f"kernels {device}"
        try:
            worked = _kernel_works(torch.device(device))
        except RuntimeError as error:
            yield Finding("problem", name, _one_line(error), "rebuild with pip install --force-reinstall --no-deps .")
            continue
        if worked:
            yield Finding("ok", name, "a kernel ran and agrees with its definition")
        else:
            yield Finding("problem", name, "a kernel gave wrong values", "please report this with the lines above")


def cuda() -> Iterator[Finding]:
    """Three things must meet: kernels built with CUDA, a torch built with CUDA, and a driver with a device."""
    _, reason = _C.cuda_device_count()
    there = torch.cuda.is_available()
    if there and not _C.built_with_cuda:
        yield Finding("problem", "CUDA", f"torch sees {_device_names()}, but facecore was built without CUDA", REMEDY)
    elif there:
        yield Finding("ok", "CUDA", _device_names())
    elif not _C.built_with_cuda:
        yield Finding("note", "CUDA", "not used: facecore was built without CUDA kernels, and torch sees no GPU")
    elif torch.version.cuda is None:
        yield Finding("note", "CUDA", "kernels are built, but torch is a CPU build", "for a GPU install a CUDA torch")
    else:
        why = reason or "torch.cuda.is_available() is False"
        yield Finding("note", "CUDA", f"kernels are built, but no GPU is usable: {why}", "check nvidia-smi")


def triton_kernels() -> Iterator[Finding]:
    """Triton, whose kernels the losses take on a GPU: installed, and able to compile for the one that is here."""
    remedy = "pip install 'facecore[triton]'"
    gpu = torch.cuda.is_available()
    try:
        import triton
    except ImportError as error:
        if importlib.util.find_spec("triton") is not None:
            yield Finding("problem" if gpu else "note", "Triton", f"cannot be imported: {_one_line(error)}", remedy)
        elif gpu:
            yield Finding("note", "Triton", "not installed: the losses run as plain PyTorch on the GPU", remedy)
        else:
            yield Finding("note", "Triton", "not installed; it is needed on a GPU only")
        return
    if not gpu:
        yield Finding("note", "Triton", f"{triton.__version__}, not used: torch sees no GPU, the CPU has C++ kernels")
        return
    try:
        target = triton.runtime.driver.active.get_current_target()
    except Exception as error:  # of a driver or compiler that is missing: Triton has no class for it
        yield Finding(
            "problem", "Triton", f"{triton.__version__} finds no GPU that it can use: {_one_line(error)}", remedy
        )
        return
    yield Finding("ok", "Triton", f"{triton.__version__}, compiles for {target.backend} {target.arch}")


def simd() -> Iterator[Finding]:
    level = SIMD_LEVELS[_C.simd_level()]
    limit = os.environ.get("FACECORE_ISA")
    if limit:
        yield Finding("note", "SIMD", f"{level}, limited by FACECORE_ISA={limit}", "unset it for full speed")
    else:
        yield Finding("ok", "SIMD", level)


def threads() -> Iterator[Finding]:
    ours, torchs = _C.max_threads(), torch.get_num_threads()
    if ours == torchs:
        yield Finding("ok", "threads", f"{ours} of {os.cpu_count()} cores, set by torch.set_num_threads")
    elif ours == 1:
        remedy = "rebuild with a compiler that has OpenMP"
        yield Finding("note", "threads", f"torch uses {torchs}, the CPU kernels 1: built without OpenMP", remedy)
    else:
        remedy = "two OpenMP runtimes are loaded: import facecore or torch before other packages"
        yield Finding("problem", "threads", f"torch uses {torchs}, the CPU kernels {ours}", remedy)


def openmp() -> Iterator[Finding]:
    maps = pathlib.Path("/proc/self/maps")
    if not maps.exists():
        yield Finding("note", "OpenMP", "not checked: this system has no /proc/self/maps")
        return
    found = openmp_runtimes(maps.read_text())
    if len(found) <= 1:
        yield Finding("ok", "OpenMP", found[0] if found else "none loaded")
    else:
        remedy = "small kernels will be slow: import torch first, and use one OpenMP runtime in the environment"
        yield Finding("problem", "OpenMP", f"{len(found)} runtimes are loaded: {', '.join(found)}", remedy)


def openmp_runtimes(maps: str) -> list[str]:
    """The OpenMP libraries in the text of /proc/self/maps."""
    return sorted(set(re.findall(r"(/\S*/(?:libgomp|libomp|libiomp5)[^/\s]*)$", maps, re.MULTILINE)))


def extras() -> Iterator[Finding]:
    for distribution, (purpose, remedy) in EXTRAS.items():
        if _installed(distribution):
            yield Finding("ok", distribution, f"{importlib.metadata.version(distribution)} ({purpose})")
        else:
            yield Finding("note", distribution, f"not installed, needed for {purpose}", remedy)


def cache() -> Iterator[Finding]:
    folder = pathlib.Path(os.environ.get("FACECORE_CACHE") or pathlib.Path.home() / ".cache" / "facecore")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        remedy = "set FACECORE_CACHE to a folder that you can write to"
        yield Finding("problem", "cache folder", f"{folder} is not writable ({error.strerror})", remedy)
    else:
        yield Finding("ok", "cache folder", str(folder))


def real_data() -> Iterator[Finding]:
    path = os.environ.get("FACECORE_TEST_DATA")
    if not path:
        yield Finding("note", "test data", "FACECORE_TEST_DATA is not set: tests of real files are skipped")
    elif pathlib.Path(path).is_dir():
        yield Finding("ok", "test data", path)
    else:
        yield Finding("problem", "test data", f"FACECORE_TEST_DATA={path} is not a folder", "correct or unset it")


def _kernel_works(device: torch.device) -> bool:
    from facecore import ops, reference

    generator = torch.Generator().manual_seed(0)
    attributes = torch.randn(2, 5, 3, generator=generator).to(device)
    triangles = torch.tensor([[0, 1, 2], [2, 3, 4]], dtype=torch.int32, device=device)
    triangle_id = torch.tensor([[[0, -1], [1, 0]]], dtype=torch.int32, device=device).repeat(2, 1, 1)
    barycentric = torch.rand(2, 2, 2, 3, generator=generator).to(device)
    got = ops.interpolate(attributes, triangles, triangle_id, barycentric)
    return torch.allclose(got, reference.interpolate(attributes, triangles, triangle_id, barycentric), atol=1e-5)


def _device_names() -> str:
    count = torch.cuda.device_count()
    names = [torch.cuda.get_device_name(index) for index in range(count)]
    capability = {"sm_{}{}".format(*torch.cuda.get_device_capability(index)) for index in range(count)}
    return f"{count} x {', '.join(sorted(set(names)))} ({', '.join(sorted(capability))})"


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
