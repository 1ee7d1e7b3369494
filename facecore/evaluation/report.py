"""One self-contained HTML page of faces, figures and tables: pictures inside the file, no scripts, light and dark."""

from __future__ import annotations

import base64
import html
import io
import math
import os
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

import facecore
from facecore.data import FaceCrop, Landmarks
from facecore.evaluation.panels import panels, rgba, wider_camera
from facecore.files import write_atomically

if TYPE_CHECKING:
    from facecore.systems.reconstruction import Reconstruction

Value = str | float | int
LONG = 40  # characters: a cell with more may be wrapped
PANEL = 320  # pixels; shown at half of that on a usual screen, at full size on a dense one

STYLE = """
:root { color-scheme: light dark; --ink: #1d2127; --soft: #68707c; --line: #dfe3e8; --paper: #fff; --tile: #eef0f3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --soft: #98a2b0; --line: #313843; --paper: #15181d; --tile: #20252d; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 32px 24px 48px; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; }
h1 { font-size: 26px; font-weight: 650; letter-spacing: -.01em; margin: 0 0 6px; }
h2 { font-size: 17px; font-weight: 600; margin: 0 0 12px; overflow-wrap: anywhere; }
p { margin: 0 0 10px; max-width: 75ch; }
section { border-top: 1px solid var(--line); margin-top: 28px; padding-top: 22px; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 6px; background: var(--tile); }
figcaption { color: var(--soft); font-size: 12.5px; margin-top: 4px; }
dl { display: flex; flex-wrap: wrap; gap: 4px 26px; margin: 14px 0 0; }
dl div { display: flex; gap: 7px; } dt { color: var(--soft); } dd { margin: 0; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: 4px 18px 4px 0; text-align: left; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; }
td { white-space: nowrap; } td.long { white-space: normal; min-width: 40ch; }
details summary { cursor: pointer; color: var(--soft); margin: 14px 0 8px; }
table + .panels, table + .figure, .panels + .figure { margin-top: 18px; }
.figure img { background: none; border-radius: 0; width: auto; max-width: 100%; }
a { color: inherit; text-underline-offset: 3px; }
.soft, footer { color: var(--soft); font-size: 13px; }
footer { margin-top: 36px; }
"""


class Report:
    """Collects faces and tables, then writes the page. Pictures are encoded when added, so photographs can be freed."""

    def __init__(self, title: str, introduction: str = "") -> None:
        self.title, self.introduction = title, introduction
        self._sections: list[str] = []
        self._has_faces = False

    def add_face(
        self,
        name: str,
        face: Reconstruction,
        image: torch.Tensor,
        crop: FaceCrop,
        *,
        landmarks: Landmarks | None = None,
        numbers: Mapping[str, Value] | None = None,
        links: Mapping[str, str] | None = None,
        credit: str = "",
    ) -> None:
        """Adds one face: input, overlay, shape, albedo, light, landmarks, and numbers about it.

        Args:
            name: heading. face: a reconstruction of one face. image: the whole picture, [3, H, W] in [0, 1].
            crop: which part of it the system saw. landmarks: those that were given, in pixels of the picture.
            numbers: more of them. links: text to the path of a file, relative to the page. credit: of the photograph.
        """
        if len(face) != 1:
            raise ValueError(f"face must be a reconstruction of one face, got {len(face)}; take one by face[i : i + 1]")
        self._has_faces = True
        drawn = panels(face, image, crop, landmarks, PANEL)
        values = describe_face(face, image, crop, landmarks) | dict(numbers or {})
        self.add_pictures(name, drawn, numbers=values, links=links, credit=credit)

    def add_pictures(
        self,
        heading: str,
        drawn: Mapping[str, torch.Tensor],
        *,
        numbers: Mapping[str, Value] | None = None,
        links: Mapping[str, str] | None = None,
        credit: str = "",
    ) -> None:
        """Adds a row of pictures by caption under a heading: RGBA [4, H, W] in [0, 1], colours multiplied by alpha.

        numbers: below them. links: text to the path of a file, relative to the page. credit: of the photograph.
        """
        parts = [f"<h2>{html.escape(heading)}</h2>", pictures(drawn)]
        if numbers:
            parts.append(_list(numbers))
        if links:
            joined = " · ".join(
                f'<a href="{html.escape(urllib.parse.quote(os.fsencode(address)))}">{html.escape(text)}</a>'
                for text, address in links.items()
            )
            parts.append(f"<p>{joined}</p>")
        if credit:
            parts.append(f'<p class="soft">{html.escape(credit)}</p>')
        self._sections.append(f"<section>{''.join(parts)}</section>")

    def add_table(
        self, heading: str, columns: Sequence[str], rows: Sequence[Sequence[Value]], text: str = "", more: str = ""
    ) -> None:
        """Adds a table under a heading; numbers are shown with four significant digits. more: HTML below it, made by
        `table` and `figure`."""
        self.add_section(heading, table(columns, rows, heading) + more, text)

    def add_section(self, heading: str, content: str, text: str = "") -> None:
        """Adds HTML made by `table`, `figure` and `pictures` under a heading and a text."""
        head = f"<h2>{html.escape(heading)}</h2>" + (f'<p class="soft">{html.escape(text)}</p>' if text else "")
        self._sections.append(f"<section>{head}{content}</section>")

    def add_html(self, heading: str, content: str, *, first: bool = False) -> None:
        """Adds HTML under a heading, made by `picture`, `table` and `figure`. first: before what is there already."""
        section = f"<section><h2>{html.escape(heading)}</h2>{content}</section>"
        self._sections.insert(0 if first else len(self._sections), section)

    def html(self) -> str:
        introduction = f"<p>{html.escape(self.introduction)}</p>" if self.introduction else ""
        legend = (
            "<p>Landmarks: blue dots are the face's own 68 points projected, orange rings those given. "
            "Light is shown on a grey surface, a darker one where it is bright. Lengths in millimetres, angles in "
            "degrees.</p>"
        )
        footer = f"{legend if self._has_faces else ''}<p>facecore {facecore.__version__}</p>"
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
            f"<header><h1>{html.escape(self.title)}</h1>{introduction}</header>\n"
            + "\n".join(self._sections)
            + f"\n<footer>{footer}</footer>\n</body>\n</html>\n"
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the page, whole or not at all. Its folder must exist.

        What no UTF-8 text can hold, such as a file's name in another encoding, shows as `?`; links to such files work.
        """
        write_atomically(path, self.html().encode(errors="replace"))


def table(columns: Sequence[str], rows: Sequence[Sequence[Value]], name: str, *, folded: str = "") -> str:
    """A table as HTML; folded: the line behind which it hides until it is asked for. name: for the error message."""
    if wrong := [row for row in rows if len(row) != len(columns)]:
        raise ValueError(f"{name}: every row must have {len(columns)} values, got {wrong[0]}")
    head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f"<details><summary>{html.escape(folded)}</summary>{whole}</details>" if folded else whole


def picture(caption: str, image: torch.Tensor) -> str:
    """A picture [3, H, W] in [0, 1] as HTML, the pixels inside."""
    return f'<div class="figure">{_figure(caption, torch.cat([image, torch.ones_like(image[:1])]))}</div>'


def linked_picture(caption: str, address: str) -> str:
    """A picture that stays a file of its own, as HTML; address: relative to the page."""
    name, source = html.escape(caption), html.escape(urllib.parse.quote(os.fsencode(address)))
    return f'<figure class="figure"><img alt="{name}" src="{source}"><figcaption>{name}</figcaption></figure>'


def figure(caption: str, svg: bytes) -> str:
    """A drawing as HTML, the picture inside."""
    address = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    name = html.escape(caption)
    return f'<figure class="figure"><img alt="{name}" src="{address}"><figcaption>{name}</figcaption></figure>'


def describe_face(
    face: Reconstruction, image: torch.Tensor, crop: FaceCrop, landmarks: Landmarks | None = None
) -> dict[str, Value]:
    """Numbers about one reconstruction.

    Angles in degrees; widths in mm between landmarks 0 and 16, and 36 and 45; the mean absolute difference between the
    drawn face and the picture, in percent of full scale; and with 68 given landmarks the mean distance to them, in
    percent of the box (root of width times height of the given points).
    """
    pitch, yaw, roll = (math.degrees(float(angle)) for angle in face.pose[0, :3])
    points = face.landmarks_3d[0]
    size = min(face.camera.height, 256)
    seen = crop.resized(size, size)
    drawn = rgba(face, wider_camera(face.camera, 1.0, size))
    covered = (drawn[3] > 0.99) & seen.inside(*image.shape[1:])
    difference = (drawn[:3] - seen.crop(image.detach().cpu().float())).abs().mean(0)
    values: dict[str, Value] = {
        "pitch": f"{pitch:+.1f}°",
        "yaw": f"{yaw:+.1f}°",
        "roll": f"{roll:+.1f}°",
        "face width": f"{float((points[0] - points[16]).norm()):.0f} mm",
        "outer eye corners": f"{float((points[36] - points[45]).norm()):.0f} mm",
        "vertices": f"{face.vertices.shape[1]:,}",
    }
    if bool(covered.any()):
        values["colour difference"] = f"{100 * float(difference[covered].mean()):.1f} %"
    if landmarks is not None and landmarks.kind == "68":
        given = seen.to_crop(landmarks.points).float().cpu()
        own = wider_camera(face.camera, 1.0, size).project(face.landmarks_3d)[0].cpu()
        box = (given.amax(0) - given.amin(0)).prod().sqrt()
        values["landmark distance"] = f"{100 * float((own - given).norm(dim=1).mean() / box):.1f} % of the box"
    return values


def pictures(drawn: Mapping[str, torch.Tensor]) -> str:
    """RGBA pictures [4, H, W], colours multiplied by alpha, by caption, side by side as HTML."""
    return f'<div class="panels">{"".join(_figure(caption, picture) for caption, picture in drawn.items())}</div>'


def _figure(caption: str, picture: torch.Tensor) -> str:
    return (
        f'<figure><img alt="{html.escape(caption)}" width="{picture.shape[2]}" height="{picture.shape[1]}" '
        f'src="{_data_address(picture)}"><figcaption>{html.escape(caption)}</figcaption></figure>'
    )


def _data_address(picture: torch.Tensor) -> str:
    """RGBA [4, H, W], colours multiplied by alpha, as a WebP data address."""
    color = picture[:3] / picture[3:].clamp_min(1e-6)
    pixels = (torch.cat([color, picture[3:]]).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format="WEBP", quality=88, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def _list(values: Mapping[str, Value]) -> str:
    items = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in values.items())
    return f"<dl>{items}</dl>"


def _cell(value: Value) -> str:
    text = _text(value)
    return f'<td class="long">{text}</td>' if len(text) > LONG else f"<td>{text}</td>"


def _text(value: Value) -> str:
    return html.escape(value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else f"{value:.4g}")
