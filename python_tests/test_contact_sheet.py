"""The pages that show what was prepared."""

from __future__ import annotations

import numpy as np
from PIL import Image
from toy_perception import picture, write_toy_manifests

from facecore.data import write_png
from facecore.data.contact_sheet import CAPTION, COLUMNS, ROWS, TILE, write_contact_sheets
from facecore.data.face_finder import load_face_finder
from facecore.data.prepare import Preparation


def test_pages(tmp_path):
    root, nets = tmp_path / "in", tmp_path / "nets"
    root.mkdir(), nets.mkdir()
    for i in range(10):
        write_png(root / f"p<{i}>.png", picture(100, 100, (20, 20, 40 + i)))
    write_png(root / "empty.png", picture(50, 50))
    paths = write_toy_manifests(nets)
    finder = load_face_finder(paths["detector"], paths["landmarks"])
    prepared = Preparation(root, tmp_path / "out", finder=lambda: finder, size=64).run()
    page = write_contact_sheets(prepared)
    text = page.read_text()
    assert "10 faces in 11 pictures; 10 are shown" in text and 'src="sheets/sheet-001.jpg"' in text
    assert "empty.png" in text and "no face found" in text
    sheet = np.asarray(Image.open(tmp_path / "out/sheets/sheet-001.jpg")).astype(int)
    assert sheet.shape == (2 * (TILE + CAPTION), COLUMNS * TILE, 3)
    tile = sheet[:TILE, :TILE]
    green = (tile[:, :, 1] > 150) & (tile[:, :, 0] < 140) & (tile[:, :, 2] < 140)
    rows, columns = green.nonzero()
    # 68 dots in the face's part of the crop: two fifths of the tile, around its middle
    assert 50 < green.sum() < 700 and abs(columns.mean() - TILE / 2) < 12 and abs(rows.mean() - TILE / 2) < 20
    assert (sheet[-CAPTION - TILE :, 2 * TILE :] > 240).all()  # nothing after the last face
    # fewer faces: one page, and no old page stays
    (tmp_path / "out/sheets/sheet-002.jpg").write_bytes(b"old")
    write_contact_sheets(prepared, limit=3)
    assert "3 are shown" in page.read_text() and ROWS * COLUMNS > 10
    assert [path.name for path in (tmp_path / "out/sheets").iterdir()] == ["sheet-001.jpg"]


def test_a_set_without_faces(tmp_path):
    (tmp_path / "in").mkdir()
    write_png(tmp_path / "in/empty.png", picture(50, 50))
    prepared = Preparation(tmp_path / "in", tmp_path / "out", finder=lambda: "install one").run()
    assert "install one" in write_contact_sheets(prepared).read_text()
