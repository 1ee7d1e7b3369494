"""The page of a transfer: rows, sheet, animation, distances, and that long sequences stay small."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from faces import SIZE, make_face
from PIL import Image

from facecore.data import FaceCrop, read_image
from facecore.evaluation.transfer_page import TILE, Seen, TransferPage, evenly, row_of_panels

CROP = FaceCrop((60.0, 60.0), 80.0, SIZE, SIZE)


def seen(value: float, seed: int = 0, offset: float = 0.0) -> Seen:
    """A picture of one grey, and a face moved sideways by `offset` mm."""
    face = make_face(seed=seed)
    shift = torch.tensor([offset, 0.0, 0.0])
    face = dataclasses.replace(face, vertices=face.vertices + shift, neutral_vertices=face.neutral_vertices + 2 * shift)
    return Seen(torch.full((3, 120, 120), value), CROP, face)


def fill(page: TransferPage, frames: int, people: int, driven: bool) -> None:
    for i in range(frames):
        page.add(
            i,
            f"frame {i}",
            [seen(0.2)] * people,
            seen(0.4) if driven else None,
            [seen(0.6 + 0.1 * k + 0.02 * i, offset=3.0 * k) for k in range(people)],
            links=[{"PNG": f"{k}/{i}.png"} for k in range(people)],
        )


def test_row_of_panels():
    assert list(row_of_panels(seen(0.2), None, seen(0.6))) == ["identity", "result", "shape of the result"]
    panels = row_of_panels(seen(0.2), seen(0.4), seen(0.6))
    assert list(panels) == ["identity", "driver", "result", "shape of the driver", "shape of the result"]
    for name, value in (("identity", 0.2), ("driver", 0.4), ("result", 0.6)):
        # a filter of weights that sum to 1, in float32
        torch.testing.assert_close(panels[name][:3], torch.full((3, 320, 320), value), rtol=0, atol=1e-5)


def test_sheet_and_animation_of_several_people(tmp_path):
    page = TransferPage("t", "Text.", ["anna", "ben"], 3, driven=True)
    fill(page, 3, 2, True)
    written = page.write(tmp_path, ".gif", 10.0)
    assert [path.name for path in written] == ["sheet.png", "animation.gif", "index.html"]
    assert page.count == 6
    sheet = read_image(tmp_path / "sheet.png")
    assert sheet.shape == (3, 3 * TILE, 4 * TILE)
    middle = sheet[0, TILE // 2 :: TILE, TILE // 2 :: TILE]
    expected = torch.tensor([[1.0, 0.4, 0.4, 0.4], [0.2, 0.6, 0.62, 0.64], [0.2, 0.7, 0.72, 0.74]])
    torch.testing.assert_close(middle, expected, rtol=0, atol=0.5 / 255 + 1e-5)
    with Image.open(tmp_path / "animation.gif") as animation:
        assert animation.size == (3 * TILE, TILE), "driver, and the result of each"
    text = (tmp_path / "index.html").read_text()
    assert text.count("<section>") == 6 + 3 and 'src="animation.gif"' in text
    assert "anna driven by frame 2" in text and 'href="1/2.png"' in text
    distances = page.distances()
    assert list(distances.values()) == pytest.approx([3.0, 6.0], abs=1e-4)
    assert "near 0" in text


def test_relighting_has_no_drivers(tmp_path):
    page = TransferPage("t", "", ["anna"], 2, driven=False)
    fill(page, 2, 1, False)
    written = page.write(tmp_path, ".webp", 10.0)
    assert [path.name for path in written] == ["sheet.png", "animation.webp", "index.html"]
    assert read_image(tmp_path / "sheet.png").shape == (3, TILE, 3 * TILE)
    with Image.open(tmp_path / "animation.webp") as animation:
        assert animation.size == (2 * TILE, TILE), "identity and result"
    assert page.distances() == {}


def test_one_result_has_neither_sheet_nor_animation(tmp_path):
    page = TransferPage("t", "", ["anna"], 1, driven=True)
    fill(page, 1, 1, True)
    assert [path.name for path in page.write(tmp_path, ".webp", 10.0)] == ["index.html"]


def test_evenly():
    assert evenly(3, 5) == [0, 1, 2]
    assert evenly(10, 5) == [0, 2, 4, 6, 8]
    assert evenly(1000, 7)[0] == 0 and len(set(evenly(1000, 7))) == 7


def test_a_long_sequence_keeps_its_pace(tmp_path, monkeypatch):
    monkeypatch.setattr("facecore.evaluation.transfer_page.MOST_FRAMES", 3)
    monkeypatch.setattr("facecore.evaluation.transfer_page.MOST_ROWS", 2)
    monkeypatch.setattr("facecore.evaluation.transfer_page.MOST_COLUMNS", 4)
    monkeypatch.setattr("facecore.evaluation.transfer_page.TILE", 16)
    page = TransferPage("t", "Text.", ["anna"], 6, driven=True)
    fill(page, 6, 1, True)
    page.write(tmp_path, ".png", 10.0)
    with Image.open(tmp_path / "animation.png") as animation:
        assert (animation.n_frames, animation.info["duration"]) == (3, 200)
    assert read_image(tmp_path / "sheet.png").shape == (3, 32, 5 * 16)
    text = (tmp_path / "index.html").read_text()
    assert "The page shows 2 of 6 frames." in text and "frame 3" in text and "frame 1<" not in text
