"""What README.md says is true: its example runs, its tables name what there is, its links lead somewhere."""

from __future__ import annotations

import pathlib
import re

import torch

from facecore import ops
from facecore.cli.main import COMMANDS

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text()


def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, torch.Tensor] = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["image"].shape == (1, 224, 224, 3)
    gradient = names["vertices"].grad
    assert gradient is not None and torch.isfinite(gradient).all() and float(gradient.abs().max()) > 0


def test_the_operator_table_is_complete():
    table = README[README.index("| `facecore.ops` |") : README.index("Coverage is decided")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == sorted(ops.__all__, key=table.index)
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(ops.__all__)


def test_the_commands_exist():
    named = set(re.findall(r"(?:`|&& )facecore ([a-z]+)\b", README))
    assert named <= set(COMMANDS), f"README.md names commands that do not exist: {named - set(COMMANDS)}"
    assert set(re.findall(r"^\| `facecore (\w+)` \|", README, re.MULTILINE)) == set(COMMANDS)


def test_the_check_runs_the_commands_of_the_readme():
    script = (REPOSITORY / ".ci/run").read_text()
    for command in ("pip install -c constraints.txt '.[demo]'", "pip install -c constraints.txt '.[test]'"):
        assert f"```bash\n{command} && " in README and f'"{command}"' in script


def test_links_lead_somewhere():
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert targets and [target for target in targets if not (REPOSITORY / target).exists()] == []
