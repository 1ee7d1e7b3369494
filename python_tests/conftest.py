"""Fixtures that every test shares."""

from __future__ import annotations

import functools
import os
import pathlib
from collections.abc import Callable, Iterator

import pytest
import torch
from cli_runs import Shared, call, make_shared

from facecore import _C, ops
from facecore.ops._library import emulate_cuda

# Processes that tests start must import the installed package, not the source tree in the current folder, which has no
# compiled module when it was installed as a wheel. Python 3.10 does not know this: they start in another folder, too.
os.environ["PYTHONSAFEPATH"] = "1"

# torch asks for this before it multiplies matrices on CUDA under torch.use_deterministic_algorithms(True).
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


CUDA = pytest.param("cuda", marks=pytest.mark.cuda)
OPERATOR_TESTS = {*(f"test_{op}" for op in ops.__all__), "test_determinism"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The operators' own tests see the bodies of CUDA's kernels run on the CPU as well."""
    if "device" in metafunc.fixturenames:
        of_operator = metafunc.module.__name__ in OPERATOR_TESTS
        metafunc.parametrize("device", ["cpu", *(["cuda_bodies"] if of_operator else []), CUDA], indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Each device an op runs on; the CUDA column skips cleanly where there is no GPU."""
    yield from _device(request.param)


@pytest.fixture(params=["cuda_bodies", CUDA])
def cuda_kernels(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where the bodies of the CUDA kernels run: on the CPU, and on a GPU."""
    yield from _device(request.param)


def _device(name: str) -> Iterator[torch.device]:
    if name == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    before = emulate_cuda(name == "cuda_bodies")
    yield torch.device("cuda" if name == "cuda" else "cpu")
    emulate_cuda(before)


@pytest.fixture(params=[0, 1, 2], ids=["base", "avx2", "avx512"])
def simd_level(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs a test at each instruction set that this machine has."""
    before = _C.limit_simd_level(request.param)
    if _C.simd_level() != request.param:
        _C.limit_simd_level(before)
        pytest.skip("this processor or build lacks the instruction set")
    yield request.param
    _C.limit_simd_level(before)


@pytest.fixture
def thread_count() -> Iterator[Callable[[int], None]]:
    """Sets the number of threads for a test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def debug() -> Iterator[None]:
    """The operators' per-call checks of indices."""
    before = ops.set_debug(True)
    yield
    ops.set_debug(before)


@pytest.fixture
def deterministic() -> Iterator[None]:
    """torch.use_deterministic_algorithms(True)."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20260101)


@pytest.fixture(scope="session")
def data_dir() -> pathlib.Path:
    """The folder of real test inputs, by FACECORE_TEST_DATA. Unset: skip. Set but absent: a failure."""
    path = os.environ.get("FACECORE_TEST_DATA")
    if not path:
        pytest.skip("set FACECORE_TEST_DATA to the folder of test data to run this")
    folder = pathlib.Path(path)
    if not folder.is_dir():
        pytest.fail(f"FACECORE_TEST_DATA={path} is not a folder")
    return folder


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Shared:
    """Files of the command line's tests, which these leave as they are."""
    return make_shared(tmp_path_factory.mktemp("cli"))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process: exit code, output, errors (without the progress bars)."""
    return functools.partial(call, capsys)


@pytest.fixture
def full_disk() -> Iterator[Callable[[int], None]]:
    """Lets no file of this process grow beyond a number of bytes, as a disk that fills up in the middle of a write."""
    import resource  # where there is such a thing

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
