"""What an evaluation writes: strict JSON with every setting, and a page."""

from __future__ import annotations

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import torch

import facecore
from facecore.evaluation.point_to_plane import PointToPlaneSettings
from facecore.evaluation.published import POINT_TO_PLANE, WARNING
from facecore.evaluation.results import Evaluation, flatten, summarise, text_table, to_plain
from facecore.training import facts


def evaluation() -> Evaluation:
    return Evaluation(
        protocol="point-to-plane",
        settings={"path": pathlib.Path("a/b"), "method": PointToPlaneSettings(), "angles": (1, 2)},
        summary=[{"group": "indoor", "mean": 1.25, "std": None}],
        rows=[{"prediction": "x <b>", "error_mm": np.float32(1.25), "ok": True}],
        total=3,
        skipped=[("y", "damaged"), ("z", "no prediction of it")],
        published=POINT_TO_PLANE,
        curves={"all": [(0.0, 0.0), (1.0, 1.0)]},
        axes=("mm", "share"),
        pictures={"front": torch.ones(4, 8, 8)},
        notes=["a note"],
    )


def test_both_files_hold_everything(tmp_path):
    evaluation().write(tmp_path / "new/folder")
    assert sorted(path.name for path in (tmp_path / "new/folder").iterdir()) == ["index.html", "results.json"]
    plain = json.loads((tmp_path / "new/folder/results.json").read_text())
    assert plain["facecore"] == facecore.__version__ and plain["commit"] == facts.commit()
    assert plain["settings"]["path"] == "a/b" and plain["settings"]["method"]["icp"]["trim"] == 0.03
    assert plain["rows"] == [{"prediction": "x <b>", "error_mm": 1.25, "ok": True}]
    assert plain["skipped"] == [{"what": "y", "why": "damaged"}, {"what": "z", "why": "no prediction of it"}]
    assert plain["total"] == 3 and plain["curves"] == {"all": [[0.0, 0.0], [1.0, 1.0]]}
    page = (tmp_path / "new/folder/index.html").read_text()
    for shown in ("1 of 3 evaluated, 2 missing or skipped", "method.icp.trim", "damaged", "x &lt;b&gt;", "a note"):
        assert shown in page
    assert WARNING.split(":")[0] in page and page.count("svg+xml") == 1 and page.count("image/webp") == 1


def test_outside_a_checkout_the_environment_says_the_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "REPOSITORY", tmp_path)
    monkeypatch.setenv("FACECORE_COMMIT", "0123456789ab")
    assert facts.commit() == "0123456789ab"
    monkeypatch.delenv("FACECORE_COMMIT")
    assert facts.commit() == "unknown"


def test_nothing_infinite_is_written(tmp_path):
    broken = dataclasses.replace(evaluation(), summary=[{"mean": float("nan")}])
    with pytest.raises(ValueError, match="NaN or infinite"):
        broken.write(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_the_page_says_what_to_install(tmp_path, monkeypatch):
    def absent(*arguments: object) -> bytes:
        raise ImportError("curves need matplotlib: pip install 'facecore[benchmark]'")

    monkeypatch.setattr("facecore.evaluation.results.draw_curves", absent)
    evaluation().write(tmp_path)
    assert "curves need matplotlib" in (tmp_path / "index.html").read_text()


def test_summary_by_hand():
    """Ann 1 and 3, Bob 5: means 2 and 5 of two subjects; another group apart."""
    rows = [
        {"group": "indoor", "subject": "ann", "error": 1.0},
        {"group": "indoor", "subject": "ann", "error": 3.0},
        {"group": "indoor", "subject": "bob", "error": 5.0},
        {"group": "outdoor", "subject": "bob", "error": 7.0},
    ]
    indoor, outdoor = summarise(rows, "error")
    assert indoor["group"] == "indoor" and indoor["subjects"] == 2 and indoor["comparisons"] == 3
    assert indoor["mean"] == pytest.approx(3.5) and indoor["std"] == pytest.approx(4.5**0.5)
    assert indoor["largest"] == 5 and indoor["median"] == pytest.approx(3.5)
    assert outdoor["mean"] == 7 and outdoor["std"] is None
    with pytest.raises(ValueError, match="nothing was evaluated"):
        summarise([], "error")


def test_plain_values():
    assert to_plain({1: np.int64(2), "t": torch.tensor([1.5]), "b": np.bool_(True), "n": None}) == {
        "1": 2,
        "t": [1.5],
        "b": True,
        "n": None,
    }
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def test_text_table():
    lines = text_table([{"what": "long name", "mean_mm": 1.23456}, {"what": "x", "n": 3}]).splitlines()
    assert lines[0].split() == ["what", "mean", "mm", "n"]
    assert lines[1].split() == ["long", "name", "1.235"] and lines[2].split() == ["x", "3"]
