"""facecore doctor: every finding has a line, every problem a remedy, and the exit code says which."""

from __future__ import annotations

import json
import sys
import types

import pytest
import torch

from facecore.cli import doctor, main


@pytest.fixture(autouse=True)
def healthy(monkeypatch, tmp_path):
    """An environment in which nothing is a problem."""
    monkeypatch.setenv("FACECORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FACECORE_TEST_DATA", raising=False)
    monkeypatch.delenv("FACECORE_ISA", raising=False)


def kernels_that(built_with_cuda: bool, reason: str = "", threads: int | None = None):
    """A stand-in for facecore._C on another machine."""
    return types.SimpleNamespace(
        built_with_cuda=built_with_cuda,
        cuda_device_count=lambda: (0, reason),
        max_threads=lambda: torch.get_num_threads() if threads is None else threads,
    )


def test_this_machine_is_healthy(capsys):
    assert main.main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if line.startswith("FAIL")]
    for what in (
        "facecore",
        "python",
        "torch",
        "CPU kernels",
        "CUDA",
        "Triton",
        "SIMD",
        "threads",
        "OpenMP",
        "cache folder",
    ):
        assert [line for line in lines if line[6:].startswith(what)], f"no line about {what}"


def test_json_holds_the_same(capsys):
    assert main.main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert next(f["found"] for f in findings if f["what"] == "torch").startswith(torch.__version__)
    assert {f["status"] for f in findings} <= {"ok", "note", "problem"}


def test_an_unknown_option_is_bad_usage(capsys):
    assert main.main(["doctor", "--everything"]) == 2
    capsys.readouterr()


def test_a_folder_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FACECORE_CACHE", str(tmp_path / "file" / "cache"))
    assert main.main(["doctor"]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAIL")]
    assert "cache folder" in line and "set FACECORE_CACHE" in line


def test_absent_test_data_is_a_problem(monkeypatch):
    monkeypatch.setenv("FACECORE_TEST_DATA", "/a/folder/that/is/not/there")
    (finding,) = doctor.real_data()
    assert finding.status == "problem" and "is not a folder" in finding.found and finding.remedy


@pytest.mark.parametrize(
    ("built", "torch_cuda", "gpu", "status", "words"),
    [
        (True, "13.0", True, "ok", "2 x Device (sm_90)"),
        (False, "13.0", True, "problem", "facecore was built without CUDA"),
        (False, None, False, "note", "without CUDA kernels, and torch sees no GPU"),
        (True, None, False, "note", "torch is a CPU build"),
        (True, "13.0", False, "note", "driver version is insufficient"),
    ],
)
def test_cuda_says_which_of_the_three_is_missing(monkeypatch, built, torch_cuda, gpu, status, words):
    monkeypatch.setattr(doctor, "_C", kernels_that(built, "CUDA driver version is insufficient"))
    monkeypatch.setattr(torch.version, "cuda", torch_cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Device")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    (finding,) = doctor.cuda()
    assert finding.status == status and words in finding.found
    assert finding.remedy or status != "problem"


def triton_that(target=None, error=None):
    def get_current_target():
        if error is not None:
            raise error
        return target

    driver = types.SimpleNamespace(active=types.SimpleNamespace(get_current_target=get_current_target))
    return types.SimpleNamespace(__version__="3.7.1", runtime=types.SimpleNamespace(driver=driver))


@pytest.mark.parametrize(
    ("module", "gpu", "status", "words"),
    [
        (None, True, "note", "the losses run as plain PyTorch on the GPU"),
        (None, False, "note", "needed on a GPU only"),
        (triton_that(), False, "note", "3.7.1, not used: torch sees no GPU"),
        (triton_that(types.SimpleNamespace(backend="cuda", arch=90)), True, "ok", "3.7.1, compiles for cuda 90"),
        (triton_that(error=RuntimeError("0 active drivers")), True, "problem", "can use: 0 active drivers"),
    ],
)
def test_triton_is_there_and_usable_or_not(monkeypatch, module, gpu, status, words):
    monkeypatch.setitem(sys.modules, "triton", module)  # None: importing it fails
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: module)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    (finding,) = doctor.triton_kernels()
    assert finding.status == status and words in finding.found
    assert finding.remedy or status != "problem"


def test_a_triton_that_is_broken_is_a_problem_where_there_is_a_gpu(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: object())
    for gpu, status in ((True, "problem"), (False, "note")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        (finding,) = doctor.triton_kernels()
        assert finding.status == status and "cannot be imported" in finding.found and finding.remedy


def test_an_old_torch_is_a_problem(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "2.1.2+cu118")
    finding = list(doctor.versions())[-1]
    assert finding.status == "problem" and "older than 2.9" in finding.found


def test_threads_that_disagree(monkeypatch):
    other = torch.get_num_threads() + 3
    monkeypatch.setattr(doctor, "_C", kernels_that(False, threads=other))
    assert next(doctor.threads()).status == "problem"


def test_two_openmp_runtimes_are_seen():
    maps = """
7f01-7f02 r--p 00000000 fe:00 1  /env/lib/python3.11/site-packages/torch/lib/libgomp.so.1
7f02-7f03 r-xp 00000000 fe:00 1  /env/lib/python3.11/site-packages/torch/lib/libgomp.so.1
7f04-7f05 r-xp 00000000 fe:00 2  /env/lib/libiomp5.so
7f04-7f05 r-xp 00000000 fe:00 2  /env/lib/libgompas.txt/libother.so
"""
    assert doctor.openmp_runtimes(maps) == [
        "/env/lib/libiomp5.so",
        "/env/lib/python3.11/site-packages/torch/lib/libgomp.so.1",
    ]


def test_wrong_kernels_are_a_problem(monkeypatch):
    monkeypatch.setattr(doctor, "_kernel_works", lambda device: False)
    assert next(doctor.kernels()).status == "problem"


def test_a_check_that_fails_is_reported_and_the_rest_goes_on(monkeypatch):
    def broken():
        raise OSError("no such\nthing")

    monkeypatch.setattr(doctor, "simd", broken)
    findings = list(doctor.examine())
    (finding,) = [f for f in findings if f.what == "broken"]
    assert finding.status == "problem" and finding.found == "the check failed: OSError: no such thing"
    assert findings[-1].what == "test data"
