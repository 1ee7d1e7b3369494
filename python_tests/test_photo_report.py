"""The report of a folder of photographs: one line for each kind of damage, and the share that may be left out."""

from __future__ import annotations

import pathlib

import pytest

from facecore.data.photo_report import PhotoReport, reason_of


def make_report(num_skipped: int, num_listed: int = 10) -> PhotoReport:
    root = pathlib.Path("/set")
    report = PhotoReport(root, num_listed, num_listed - num_skipped, num_listed - num_skipped)
    for i in range(num_skipped):
        path = root / "AFW" / f"face_{i}.jpg"
        report.skipped.append((path, f"{path.with_suffix('.mat')} is not a readable MATLAB file (end of file)"))
    return report


def test_the_same_damage_of_many_pictures_is_one_line() -> None:
    report = make_report(5)
    report.skipped.append((pathlib.Path("/set/a.jpg"), "no landmarks (put a .pts beside it)"))
    lines = str(report).splitlines()
    assert lines[0] == "/set: 5 faces in 5 pictures, persons unknown"
    first = "/set/AFW/face_0.jpg, /set/AFW/face_1.jpg, /set/AFW/face_2.jpg, ..."
    assert lines[1] == f"  skipped 5: *.mat is not a readable MATLAB file (end of file): {first}"
    assert lines[2] == "  skipped 1: no landmarks (put a .pts beside it): /set/a.jpg"


def test_the_share_that_may_be_left_out() -> None:
    make_report(0).refuse_more_than(0.0)
    make_report(2).refuse_more_than(0.2)
    with pytest.raises(ValueError, match=r"/set: 3 of 10 pictures cannot be used \(30.0%\), more than 20.0%") as caught:
        make_report(3).refuse_more_than(0.2)
    assert "skipped 3: *.mat is not a readable MATLAB file" in str(caught.value)
    for empty in (make_report(10), make_report(0, 0)):
        with pytest.raises(ValueError, match="no usable photograph of"):
            empty.refuse_more_than(1.0)
    assert make_report(0, 0).skipped_share == 1.0


def test_a_reason_does_not_repeat_the_picture() -> None:
    path = pathlib.Path("/set/a.jpg")
    assert reason_of(ValueError("/set/a.jpg cannot be decoded"), path) == "cannot be decoded"
    assert reason_of(ValueError("no landmarks"), path) == "no landmarks"
