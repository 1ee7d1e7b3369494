"""Contact sheets of a prepared set: its crops with landmarks and masks drawn over them, on pages to look at."""

from __future__ import annotations

import html
import io
import pathlib
import urllib.parse
from collections import Counter

import numpy as np
from PIL import Image, ImageDraw

from facecore.data.images import read_image
from facecore.data.landmarks import read_landmarks
from facecore.data.prepared_set import PreparedSet, Record
from facecore.evaluation.report import Report
from facecore.files import write_atomically

TILE, COLUMNS, ROWS = 160, 8, 6
CAPTION = 14  # pixels below a tile
HIDDEN = np.array([0.15, 0.25, 0.7])  # colour laid over what the mask leaves out
SHEETS = "sheets"


def write_contact_sheets(prepared: PreparedSet, limit: int = 480) -> pathlib.Path:
    """Writes sheets/sheet-001.jpg, ... and index.html, which shows them and lists what was skipped.

    limit: at most so many faces, evenly spread over the set. Returns the page's path.
    """
    faces = prepared.faces
    chosen = [faces[i * len(faces) // min(limit, len(faces))] for i in range(min(limit, len(faces)))]
    folder = prepared.root / SHEETS
    folder.mkdir(exist_ok=True)
    names: list[str] = []
    for start in range(0, len(chosen), COLUMNS * ROWS):
        content = io.BytesIO()
        _sheet(prepared.root, chosen[start : start + COLUMNS * ROWS]).save(content, format="JPEG", quality=88)
        names.append(f"sheet-{len(names) + 1:03d}.jpg")
        write_atomically(folder / names[-1], content.getvalue())
    for old in sorted(folder.glob("sheet-*.jpg")):
        if old.name not in names:
            old.unlink()
    page = prepared.root / "index.html"
    _report(prepared, len(chosen), names).write(page)
    return page


def _report(prepared: PreparedSet, shown: int, names: list[str]) -> Report:
    pictures, faces = len(prepared.records), prepared.faces
    report = Report("facecore data prepare", f"{len(faces)} faces in {pictures} pictures; {shown} are shown.")
    images = "".join(
        f'<p><img style="max-width:100%" alt="faces" src="{SHEETS}/{html.escape(urllib.parse.quote(name))}"></p>'
        for name in names
    )
    by = Counter(face["mask_from"] for face in faces)
    report.add_table(
        "Faces",
        ("mask from", "faces"),
        sorted(by.items()),
        "Dots: the 68 landmarks (or 5). Blue: what the mask leaves out.",
        images,
    )
    if prepared.skipped:
        report.add_table("Skipped", ("picture", "reason"), prepared.skipped)
    return report


def _sheet(root: pathlib.Path, faces: list[Record]) -> Image.Image:
    rows = -(-len(faces) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + CAPTION)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, face in enumerate(faces):
        left, top = number % COLUMNS * TILE, number // COLUMNS * (TILE + CAPTION)
        sheet.paste(_tile(root, face), (left, top))
        name = pathlib.PurePosixPath(face["crop"]).stem
        while name and draw.textlength(name) > TILE - 4:
            name = name[:-1]
        draw.text((left + 2, top + TILE + 1), name, fill="black")
    return sheet


def _tile(root: pathlib.Path, face: Record) -> Image.Image:
    pixels = read_image(root / face["crop"]).permute(1, 2, 0).numpy()
    mask = read_image(root / face["mask"])[0].numpy()[:, :, None]
    shown = pixels * (0.45 + 0.55 * mask) + 0.55 * HIDDEN * (1 - mask)
    tile = Image.fromarray((shown * 255).round().clip(0, 255).astype(np.uint8)).resize((TILE, TILE))
    draw, scale = ImageDraw.Draw(tile), TILE / pixels.shape[1]
    for u, v in (read_landmarks(root / face["points"])[0].points * scale).tolist():
        draw.ellipse((u - 1.2, v - 1.2, u + 1.2, v + 1.2), fill=(60, 255, 90))
    return tile
