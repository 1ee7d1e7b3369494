"""The build: no libtorch, no CUDA needed, light imports, and files that agree on versions and dependencies."""

from __future__ import annotations

import ast
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

import facecore
from facecore import _C

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
SUPPORTED = ("3.10", "3.11", "3.12", "3.13")


def run_python(script: str, *arguments: str, cwd: pathlib.Path | None = None) -> str:
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result.stdout


def normalised(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def constraints() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (REPOSITORY / "constraints.txt").read_text().splitlines()]
    return {normalised(line): line for line in lines if line}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_extension_loads_without_torch():
    """So one wheel serves every torch version: nothing of libtorch is linked."""
    script = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("facecore._C", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
mapped = open("/proc/self/maps").read()
print(json.dumps({"torch": "torch" in sys.modules, "mapped": [n for n in ("libtorch", "libc10") if n in mapped]}))
"""
    assert json.loads(run_python(script, _C.__file__)) == {"torch": False, "mapped": []}


def test_importing_the_operators_is_light(tmp_path):
    """The operators must not drag in plotting, command line or optional packages."""
    script = "import json, sys, facecore.ops, facecore.reference; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run_python(script, cwd=tmp_path)))
    heavy = {"matplotlib", "skimage", "tensorboard", "trimesh", "triton", "tyro", "yaml", "safetensors", "h5py"}
    torch_alone = set(json.loads(run_python(script.replace("facecore.ops, facecore.reference", "torch"), cwd=tmp_path)))
    assert (loaded - torch_alone) & heavy == set()


def test_a_machine_without_a_gpu_is_told_why():
    count, reason = _C.cuda_device_count()
    assert count > 0 or reason, "no device and no reason"
    if not _C.built_with_cuda:
        assert (count, reason) == (0, "built without CUDA kernels")


def test_no_torch_at_build_time():
    assert not [r for r in PROJECT["build-system"]["requires"] if normalised(r) == "torch"]
    assert "torch" not in (REPOSITORY / "CMakeLists.txt").read_text().replace("no libtorch", "").lower()


def test_versions_agree():
    version = PROJECT["project"]["version"]
    assert facecore.__version__ == version
    assert f"\nversion: {version}\n" in (REPOSITORY / "CITATION.cff").read_text()


def test_python_versions_agree():
    classifiers = PROJECT["project"]["classifiers"]
    assert [c.split(" :: ")[-1] for c in classifiers if re.search(r"Python :: 3\.\d", c)] == list(SUPPORTED)
    assert PROJECT["project"]["requires-python"] == ">=3.10,<3.14"


def test_every_direct_dependency_is_constrained():
    project = PROJECT["project"]
    extras = [r for name in ("demo", "test", "benchmark", "triton") for r in project["optional-dependencies"][name]]
    names = {normalised(r) for r in project["dependencies"] + extras}
    pinned = constraints()
    assert names - set(pinned) == set()
    assert pinned["torch"] == "torch==2.13.0"
    loose = [
        line for line in pinned.values() if not re.fullmatch(r'[a-z0-9-]+==[\w.]+(; python_version >= "3\.11")?', line)
    ]
    assert loose == [], "constraints.txt pins exact versions and nothing else"


def test_dependencies_are_what_the_package_imports():
    """Optional ones are imported where they are used only, under try or with a message, and are extras."""
    imported = set()
    for path in (REPOSITORY / "facecore").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.split(".")[0])
    modules = {"pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage"}
    dependencies = {normalised(r) for r in PROJECT["project"]["dependencies"]}
    indirect = {"tensorboard"}  # imported by torch.utils.tensorboard
    unused = {name for name in dependencies - indirect if modules.get(name, name) not in imported}
    assert unused == set(), "dependencies that nothing imports"
    extras = PROJECT["project"]["optional-dependencies"]
    known = dependencies | {normalised(r) for requirements in extras.values() for r in requirements}
    declared = {modules.get(name, name) for name in known} | {"facecore"} | set(sys.stdlib_module_names)
    assert imported - declared == set(), "imports that no requirement brings"


def test_the_source_archive_holds_what_the_readme_links_to():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (REPOSITORY / "README.md").read_text())
    excluded = PROJECT["tool"]["scikit-build"]["sdist"]["exclude"]
    assert links
    assert [link for link in links for folder in excluded if link.startswith(folder)] == []


def test_constraints_satisfy_the_lower_bounds():
    project = PROJECT["project"]
    extras = [r for requirements in project["optional-dependencies"].values() for r in requirements]
    pinned = {name: line.split(";")[0].split("==")[1] for name, line in constraints().items()}
    checked = 0
    for requirement in project["dependencies"] + extras:
        name, _, bound = requirement.partition(">=")
        if bound and normalised(name) in pinned:
            checked += 1
            assert version(pinned[normalised(name)]) >= version(bound.partition(";")[0]), requirement
    assert checked >= len(project["dependencies"])


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def test_no_index_host_or_path_in_the_build_files():
    for name in ("constraints.txt", "pyproject.toml", ".ci/run"):
        text = (REPOSITORY / name).read_text()
        assert not re.search(r"--(extra-)?index-url|--find-links|https?://|file://", text), name


@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
def test_a_wrong_cuda_setting_is_refused_at_once(tmp_path):
    command = ["cmake", "-S", str(REPOSITORY), "-B", str(tmp_path), "-DFACECORE_CUDA=MAYBE"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode != 0
    assert "FACECORE_CUDA must be AUTO, ON or OFF, got 'MAYBE'" in " ".join(result.stderr.split())


@pytest.fixture
def broken_nvcc(tmp_path, monkeypatch):
    """An nvcc that compiles nothing, found before any other."""
    nvcc = tmp_path / "toolkit" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.write_text("#!/bin/sh\necho 'nvcc fatal: unsupported host compiler' >&2\nexit 1\n")
    nvcc.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(nvcc.parent.parent))
    monkeypatch.delenv("CUDACXX", raising=False)
    return nvcc


@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
@pytest.mark.parametrize("setting", ["AUTO", "ON"])
def test_an_nvcc_that_does_not_work_is_passed_over_or_named(broken_nvcc, tmp_path, setting):
    """Configuring goes on (to what only a build environment has, such as pybind11) under AUTO, and stops under ON."""
    command = ["cmake", "-S", str(REPOSITORY), "-B", str(tmp_path / "build"), f"-DFACECORE_CUDA={setting}"]
    result = subprocess.run(command, capture_output=True, text=True)
    output = " ".join((result.stdout + result.stderr).split())
    reason = f"{broken_nvcc} does not compile a trial program with this host compiler"
    if setting == "ON":
        assert result.returncode != 0
        assert f"FACECORE_CUDA=ON, but {reason}. Put a working nvcc on PATH" in output
    else:
        assert f"CUDA kernels are not built, because {reason}" in output
        assert "Found Python" in output


@pytest.mark.skipif(not shutil.which("cmake"), reason="cmake is not installed")
@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("11.7", "[] nvcc 11.7 is older than 11.8"),
        ("12.4.99", "[75-real;80-real;86-real;89-real;90]"),
        ("13.0.88", "[75-real;80-real;86-real;89-real;90-real;100-real;120]"),
    ],
)
def test_architectures_are_those_that_nvcc_knows(tmp_path, version, expected):
    script = tmp_path / "archs.cmake"
    script.write_text(
        f"include({REPOSITORY}/csrc/cuda.cmake)\nfacecore_cuda_archs({version} archs reason)\n"
        'message("[${archs}] ${reason}")\n'
    )
    result = subprocess.run(["cmake", "-P", str(script)], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == expected
