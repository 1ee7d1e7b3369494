"""The layout is a test: an operator's files share its stem, and imports point down only."""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from loss_launches import LAUNCHES

from facecore import losses, ops, reference
from facecore.evaluation.ablation_page import claims_table
from facecore.training.ablation import read_rows

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = REPOSITORY / "facecore"

# Lower imports nothing of higher; packages of one line may import each other.
LAYERS = (
    ("_C", "errors", "files", "structures"),
    ("ops", "reference", "reference_rasterize", "reference_uv"),
    ("losses", "mesh", "reference_losses"),
    ("render", "morphable", "nn", "perception"),
    ("training", "data", "evaluation"),
    ("systems",),
    ("cli",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}

ROOT_ENTRIES = {
    *("pyproject.toml", "CMakeLists.txt", "csrc", "facecore", "python_tests", "benchmarks", "README.md", "docs"),
    *("constraints.txt", "LICENSE", "CHANGELOG.md", "CITATION.cff"),
    *(".ci", ".clang-format", ".pre-commit-config.yaml", ".gitignore"),
}


def test_no_file_of_a_system_is_long():
    """400 lines: what is more belongs into a file of its own, or a layer down."""
    files = [*(PACKAGE / "systems").glob("*.py"), *(PACKAGE / "cli").glob("train*.py")]
    long = {path.name: count for path in files if (count := len(path.read_text().splitlines())) > 400}
    assert len(files) > 40 and not long


def test_the_table_of_the_systems_counts_right():
    """docs/systems.md: files, lines (within a tenth: small changes are none of the table), and the largest."""
    rows = re.findall(
        r"^\| \d `([a-z-]+)` .* \| (\d+) \| ([\d,]+) \| (\d+) \|$",
        (REPOSITORY / "docs" / "systems.md").read_text(),
        re.M,
    )
    assert len(rows) == 5
    for name, files, lines, largest in rows:
        found = sorted((PACKAGE / "systems").glob(f"{name.replace('-', '_')}*.py"))
        counts = [len(path.read_text().splitlines()) for path in found]
        assert len(counts) == int(files), name
        assert abs(sum(counts) - int(lines.replace(",", ""))) <= 0.1 * sum(counts), name
        assert abs(max(counts) - int(largest)) <= 0.1 * max(counts), name


def test_the_table_of_what_systems_share_counts_right():
    """Of docs/systems.md, too: names of a row are of facecore/systems, or of the folder that the row has named."""
    page = (REPOSITORY / "docs" / "systems.md").read_text()
    rows = re.findall(r"^\| (`.*) \| ([\d,]+) \| [^|]* \|$", page, re.M)
    assert len(rows) > 10
    for parts, lines in rows:
        folder, found = PACKAGE / "systems", []
        for name in re.findall(r"`([\w/]+(?:\.py)?)`", parts):
            path = REPOSITORY / name if "/" in name else PACKAGE / "systems" / name
            path = path if path.exists() else folder / name
            folder = path.parent
            found += sorted(path.glob("*.py")) if path.is_dir() else [path]
        count = sum(len(path.read_text().splitlines()) for path in found)
        assert abs(count - int(lines.replace(",", ""))) <= 0.05 * count, parts


ABLATIONS = sorted((REPOSITORY / "benchmarks" / "results").glob("ablation_*.jsonl"))


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: path.stem)
def test_the_tables_of_claims_are_those_of_the_rows(path):
    """docs/claims.md: what `facecore ablate --rows` makes."""
    system = path.stem.removeprefix("ablation_")
    module = importlib.import_module(f"facecore.systems.{system}_ablation")
    presets = importlib.import_module(f"facecore.systems.{system}_config").PRESETS
    table = claims_table(module.ablation(presets["ablation"]), read_rows(path))
    page = (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## \d `{system.replace('_', '-')}`\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    assert section.count("| claim |") == 1 and table in section


def test_every_table_of_claims_has_rows():
    page = (REPOSITORY / "docs" / "claims.md").read_text(encoding="utf-8")
    assert page.count("| claim |") == len(ABLATIONS) > 0


@pytest.mark.parametrize("page", ["graph_convolution.md", "losses.md", "rasterizer.md"])
def test_the_tables_of_times_are_those_of_the_rows(page, tmp_path):
    """What benchmarks/ratios.py makes of the machine whose rows the page shows."""
    shown = REPOSITORY / "docs" / page
    written = shutil.copy(shown, tmp_path / page)
    rows = REPOSITORY / "benchmarks" / "results" / "intel-r-xeon-r-processor-2-10ghz-2-cores.json"
    subprocess.run([sys.executable, REPOSITORY / "benchmarks" / "ratios.py", rows, written], check=True)
    assert written.read_text() == shown.read_text()


@pytest.mark.parametrize("op", ops.__all__)
def test_an_op_has_all_its_files(op):
    files = [
        *(f"csrc/ops/{op}.{suffix}" for suffix in ("h", "cpp")),
        f"csrc/ops/{'sparse_matmul' if op == 'chebyshev_conv' else op}.cu",  # its steps are sparse products
        f"facecore/ops/{op}.py",
        f"python_tests/test_{op}.py",
        f"benchmarks/bench_{op}.py",
    ]
    missing = [name for name in files if not (REPOSITORY / name).is_file()]
    assert not missing, f"facecore.ops.{op} lacks {missing}"


@pytest.mark.parametrize("op", ops.__all__)
def test_an_op_has_a_reference_with_its_arguments(op):
    function = getattr(reference, op, None)
    assert function is not None, f"facecore.reference lacks {op}"
    assert list(inspect.signature(function).parameters) == list(inspect.signature(getattr(ops, op)).parameters)


@pytest.mark.parametrize("op", [*ops.__all__, *(name for name in losses.__all__ if name != "Loss")])
def test_an_op_says_what_it_takes_and_how_it_differentiates(op):
    function = getattr(ops, op, None) or getattr(losses, op)
    text = inspect.getdoc(function) or ""
    assert "ifferentiable" in text, f"{op}: say in what it is differentiable"
    assert "eterministic" in text, f"{op}: say whether it is deterministic"
    assert "Raises" in text, f"{op}: say what it raises"
    absent = [name for name in inspect.signature(function).parameters if name not in text]
    assert not absent, f"{op}: the docstring does not speak of {absent}"


def test_every_op_source_belongs_to_an_op():
    stems = {path.stem for path in (REPOSITORY / "csrc/ops").iterdir()}
    public = {path.stem for path in (PACKAGE / "ops").glob("[a-z]*.py")}
    assert stems - public == set(), "sources in csrc/ops without facecore/ops/<stem>.py"
    assert public - set(ops.__all__) == set(), "operators that facecore.ops does not export"


def test_every_loss_source_has_its_python_file():
    stems = {path.stem for path in (REPOSITORY / "csrc/losses").glob("*")}
    assert stems - {path.stem for path in (PACKAGE / "losses").glob("*.py")} == set()


def test_every_triton_source_has_its_loss_and_its_tests():
    stems = {path.stem.removesuffix("_triton")[1:] for path in (PACKAGE / "losses").glob("_?*_triton.py")}
    assert stems - set(LAUNCHES) == {"reconstruction"}, "launches that tests compile: python_tests/loss_launches.py"
    files = [f"python_tests/interpreted_{stem}.py" for stem in stems]
    files += [f"facecore/losses/{stem.removeprefix('texture_')}.py" for stem in stems]
    assert [name for name in files if not (REPOSITORY / name).is_file()] == []


def test_nothing_else_at_the_top():
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a checkout: an unpacked archive may lie beside other things")
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert {line.split("/")[0] for line in listed.splitlines()} - ROOT_ENTRIES == set()


@pytest.mark.parametrize("name", sorted(RANK, key=lambda name: RANK[name]))
def test_imports_point_down(name):
    files = sorted((PACKAGE / name).rglob("*.py")) if (PACKAGE / name).is_dir() else list(PACKAGE.glob(f"{name}.py"))
    upward = [
        f"{path.relative_to(REPOSITORY)} imports facecore.{target}"
        for path in files
        for target in imported(path)
        if RANK[target] > RANK[name]
    ]
    assert not upward, f"{upward}; move the code, or import under TYPE_CHECKING if it is only a type"


def test_every_package_has_a_layer_and_a_docstring():
    folders = [path for path in PACKAGE.iterdir() if path.is_dir() and path.name[0] != "_"]
    assert [folder.name for folder in folders if not (folder / "__init__.py").is_file()] == []
    entries = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py") and path.name[0] != "_"}
    assert entries - set(RANK) == set(), "a new sub-package needs its place in LAYERS"


@pytest.mark.parametrize("folder", ["facecore", "csrc", "benchmarks", "python_tests"])
def test_the_first_line_says_what_a_file_is_for(folder):
    silent = [
        str(path.relative_to(REPOSITORY))
        for path in sorted((REPOSITORY / folder).rglob("*"))
        if path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh")
        and not path.read_text().startswith("//" if path.suffix != ".py" else '"""')
    ]
    assert silent == []


def imported(path: pathlib.Path) -> Iterator[str]:
    """The sub-packages of facecore that a file imports at run time, imports inside functions included."""
    tree = ast.parse(path.read_text())
    typing_only = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and ast.unparse(branch.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in branch.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "facecore":
            yield from (alias.name for alias in node.names if alias.name in RANK)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("facecore."):
            yield (node.module or "").split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("facecore."))


def test_no_file_holds_a_conflict():
    marker = re.compile(r"^(<{7}|>{7}) ", re.MULTILINE)
    folders = ("csrc", "facecore", "python_tests", "benchmarks", "docs")
    files = [*REPOSITORY.glob("*.*"), *(path for folder in folders for path in (REPOSITORY / folder).rglob("*.*"))]
    files = [path for path in files if path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh", ".md", ".toml")]
    assert len(files) > 100
    assert [str(path) for path in files if marker.search(path.read_text())] == []
