"""`facecore model`: output, exit codes, one-line errors."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable

import pytest

from facecore.cli.main import main
from facecore.morphable import load


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "list"]) == 0
    text = capsys.readouterr().out
    assert "procedural" in text and "ICT-FaceKit" in text
    assert main(["model", "list", "--json"]) == 0
    assert [row["kind"] for row in json.loads(capsys.readouterr().out)] == [
        "procedural",
        "facecore .npz",
        "ICT-FaceKit",
        "BFM 2009 (.mat)",
        "BFM 2017, 2019 (.h5)",
        "FLAME (.pkl, .npz)",
        "eos (.bin)",
    ]


def test_convert_and_show(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine.npz"
    assert main(["model", "convert", "procedural", str(out), "--num-vertices", "2500", "--name", "mine"]) == 0
    assert "mine, 2500 vertices" in capsys.readouterr().out
    assert main(["model", "show", str(out)]) == 0
    table = capsys.readouterr().out
    assert "vertices          2500" in table and "mirror map        yes" in table
    assert main(["model", "show", str(out), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    model = load("procedural", num_vertices=2500)
    assert shown["name"] == "mine" and shown["content hash"] == model.content_hash() == load(out).content_hash()


def test_ict_options(data_dir: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(data_dir / "ict_facekit.npz")
    assert main(["model", "show", path, "--region", "narrow", "--albedo", "none", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["vertices"] == 6706 and shown["albedo modes"] == 0 and shown["albedo source"] == "none"


def test_options_of_linear_models(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    import scipy.io
    from model_files import bfm2009_fields, small_truth

    scipy.io.savemat(tmp_path / "bfm.mat", bfm2009_fields(small_truth()))
    (tmp_path / "landmarks.txt").write_text(" ".join(map(str, small_truth().landmarks68)))
    paths = [str(tmp_path / name) for name in ("bfm.mat", "mine.npz", "landmarks.txt")]
    assert main(["model", "convert", *paths[:2], "--landmarks", paths[2], "--num-identity", "2"]) == 0
    capsys.readouterr()
    model = load(tmp_path / "mine.npz")
    assert model.num_identity == 2 and np.array_equal(model.landmarks68.numpy(), small_truth().landmarks68)
    assert main(["model", "show", paths[0]]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "facecore model convert MODEL OUT.npz --landmarks FILE" in captured.err
    assert "landmarks=" not in captured.err  # Python's spelling


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "nothing.npz"], 2, "MODEL nothing.npz: no such file or folder"),
        (["show", "procedural", "--refine", "1"], 2, "the procedural model has no option refine"),
        (["show", "procedural", "--num-vertices", "5"], 2, "--num-vertices must be an integer from 2500 to 40000"),
        (["show", "procedural", "--landmarks", "x.txt"], 2, "--landmarks x.txt: no such file or folder"),
        (["convert", "procedural", "out.pkl"], 2, "OUT must end in .npz, got out.pkl"),
    ],
)
def test_errors_are_one_line(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and message in captured.err


def test_a_full_disk_is_said_and_leaves_nothing(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], full_disk: Callable[[int], None]
) -> None:
    full_disk(200_000)
    code = main(["model", "convert", "procedural", str(tmp_path / "mine.npz"), "--num-vertices", "2500"])
    errors = capsys.readouterr().err
    assert code == 1 and errors.count("\n") == 1
    assert f"cannot write the model {tmp_path / 'mine.npz'}: " in errors
    assert "make room or choose another folder" in errors
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["convert"]])
def test_help_has_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", *command, "--help"]) == 0
    assert "Example: facecore model" in capsys.readouterr().out
    assert main(["model", "show"]) == 2
