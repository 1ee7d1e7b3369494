"""Kept results: found again, computed again when damaged or when the picture changed."""

from __future__ import annotations

import numpy as np
import pytest

from facecore.perception import PerceptionCache


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"picture")
    return path


def counting():
    calls = []

    def compute():
        calls.append(1)
        return {"points": np.arange(6.0).reshape(3, 2), "name": np.array(len(calls))}

    return compute, calls


def test_results_are_kept_by_content(tmp_path, picture):
    cache, (compute, calls) = PerceptionCache(tmp_path / "cache"), counting()
    first = cache.get("net-1", picture, compute)
    again = PerceptionCache(tmp_path / "cache").get("net-1", picture.rename(tmp_path / "moved.png"), compute)
    assert len(calls) == 1 and np.array_equal(first["points"], again["points"]) and again["name"] == 1
    cache.get("net-2", tmp_path / "moved.png", compute)  # another network
    (tmp_path / "moved.png").write_bytes(b"another picture")
    cache.get("net-1", tmp_path / "moved.png", compute)
    assert len(calls) == 3


DAMAGE = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "text": lambda content: b"hello",
    "one bit of the numbers": lambda content: content.replace(np.float64(5.0).tobytes(), np.float64(5.5).tobytes()),
    "another archive": lambda content: _archive(),
}


def _archive() -> bytes:
    import io

    content = io.BytesIO()
    np.savez(content, points=np.zeros(3))
    return content.getvalue()


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_entries_are_computed_again(tmp_path, picture, case):
    cache, (compute, calls) = PerceptionCache(tmp_path / "cache"), counting()
    cache.get("net", picture, compute)
    (entry,) = (path for path in (tmp_path / "cache").rglob("*") if path.is_file())
    sound = entry.read_bytes()
    entry.write_bytes(DAMAGE[case](sound))
    assert entry.read_bytes() != sound
    assert np.array_equal(cache.get("net", picture, compute)["points"], np.arange(6.0).reshape(3, 2))
    assert len(calls) == 2 and cache.damaged == 1
    cache.get("net", picture, compute)
    assert len(calls) == 2 and cache.hits == 1  # it was replaced


def test_nothing_is_kept_of_a_failure(tmp_path, picture):
    cache = PerceptionCache(tmp_path / "cache")

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.get("net", picture, fail)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
