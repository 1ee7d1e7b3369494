"""The HTML page: self-contained, well-formed, escaped, with every panel of every face."""

from __future__ import annotations

import base64
import dataclasses
import html.parser
import io
import os
import re

import pytest
import torch
from faces import SIZE, make_face
from PIL import Image

from facecore.data import FaceCrop, Landmarks
from facecore.evaluation.panels import WHITE, draw_over_picture, panels, shape_view, unclipped_grey, wider_camera
from facecore.evaluation.report import PANEL, Report, describe_face

CROP = FaceCrop((130.3, 88.7), 90.5, SIZE, SIZE)
CAPTIONS = ["input", "overlay", "shape, front", "shape, three quarters", "albedo", "light", "landmarks"]
VOID = {"meta", "img"}


class Checker(html.parser.HTMLParser):
    """Fails on tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def picture(generator):
    return torch.rand(3, 180, 240, generator=generator)


def own_landmarks(face):
    return Landmarks(CROP.to_image(face.landmarks_2d[0].double()))


def test_page(tmp_path, picture):
    report = Report("A <title>", "Some & more")
    face = make_face(seed=1)
    links = {"GLB": "a #1? 100%.glb"}
    report.add_face("name <b>", face, picture, CROP, landmarks=own_landmarks(face), links=links, credit="by & of")
    report.add_face("second", make_face(seed=2), picture, CROP, numbers={"time": "3 s", "count": 1234567})
    report.add_table("Errors", ["what", "value"], [["shape <mm>", 1.23456789], ["n", 3]], text="lower is better")
    report.write(tmp_path / "index.html")
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text.replace("<!doctype html>", ""))
    assert checker.open == []
    for escaped in ("A &lt;title&gt;", "Some &amp; more", "name &lt;b&gt;", "by &amp; of", "shape &lt;mm&gt;"):
        assert escaped in text
    for shown in (
        "1.235",
        "1,234,567",
        'href="a%20%231%3F%20100%25.glb"',
        "prefers-color-scheme: dark",
        "lower is better",
    ):
        assert shown in text
    assert [image["alt"] for image in checker.images] == 2 * CAPTIONS
    for image in checker.images:
        address, encoded = image["src"].split(",")
        assert address == "data:image/webp;base64"
        assert Image.open(io.BytesIO(base64.b64decode(encoded))).size == (PANEL, PANEL)


def test_page_needs_nothing_else(picture):
    report = Report("page")
    report.add_face("face", make_face(), picture, CROP)
    assert not re.search(r"<script|<link|https?://|url\(", report.html())


def test_names_that_are_no_utf8(tmp_path, picture):
    """A file of another encoding is linked by its bytes, and shown as far as text can."""
    name = os.fsdecode(b"caf\xe9.glb")
    report = Report("title", "text")
    report.add_face("caf\udce9", make_face(seed=1), picture, CROP, links={"GLB": name})
    report.write(tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="caf%E9.glb"' in page and "caf?" in page


def test_panels_show_the_face(picture):
    face = make_face()
    shown = panels(face, picture, CROP, own_landmarks(face), size=96)
    assert list(shown) == CAPTIONS
    for caption, panel in shown.items():
        assert panel.shape == (4, 96, 96) and torch.isfinite(panel).all(), caption
        assert 0 <= float(panel.min()) and float(panel.max()) <= 1.0, caption
    for caption in ("shape, front", "albedo", "light"):
        alpha = shown[caption][3]
        assert float(alpha[48, 48]) == 1 and float(alpha[0, 0]) == 0, caption
        assert bool((shown[caption][:3] <= alpha + 1e-6).all()), f"{caption}: colours are multiplied by alpha"
    assert torch.equal(shown["overlay"][:, 0, 0], shown["input"][:, 0, 0])
    assert not torch.equal(shown["overlay"][:, 48, 48], shown["input"][:, 48, 48])


def test_bright_light_is_shown_unclipped(picture):
    face = make_face()
    bright = dataclasses.replace(face, sh_coefficients=4 * face.sh_coefficients)
    panel = panels(bright, picture, CROP)["light"]
    shown = panel[:3, panel[3] == 1]
    assert float((shown > 0.999).float().mean()) < 0.03 and float(shown.max()) > 0.9
    assert unclipped_grey(dataclasses.replace(face, sh_coefficients=0.01 * face.sh_coefficients)) == WHITE


def test_shapes_fill_their_picture_and_share_a_scale():
    face = make_face()
    heights = []
    for yaw in (0.0, 0.7):
        rows = shape_view(face, yaw, 200)[3].amax(1) > 0.5
        heights.append(int(rows.sum()))
    assert heights[0] == heights[1] and 180 <= heights[0] <= 190  # 94 % of 200


def test_wider_camera_keeps_points_where_they_are():
    face = make_face(2)
    wide = CROP.resized(300, 300, 1.7)
    for camera in (face.camera, make_face(2, perspective=True).camera):
        expected = CROP.to_image(camera.project(face.landmarks_3d))
        torch.testing.assert_close(
            wide.to_image(wider_camera(camera, 1.7, 300).project(face.landmarks_3d)), expected, rtol=0, atol=1e-3
        )


def test_numbers():
    face = make_face()
    picture = torch.full((3, 180, 240), 0.5)
    shifted = Landmarks(CROP.to_image(face.landmarks_2d[0].double()) + torch.tensor([3.0, 4.0]))
    box = shifted.points.amax(0) - shifted.points.amin(0)
    numbers = describe_face(face, picture, CROP, shifted)
    assert numbers["landmark distance"] == f"{100 * 5 / float(box.prod().sqrt()):.1f} % of the box"
    assert numbers["yaw"] == f"{float(face.pose[0, 1].rad2deg()):+.1f}°"
    width = float((face.landmarks_3d[0, 0] - face.landmarks_3d[0, 16]).norm())
    assert numbers["face width"] == f"{width:.0f} mm"
    assert "landmark distance" not in describe_face(face, picture, CROP)
    outside = FaceCrop((-900.0, -900.0), 50.0, SIZE, SIZE)
    assert "colour difference" not in describe_face(face, picture, outside)


def test_landmarks_and_face_of_another_device(device, picture):
    """As a run on a GPU has them: everything comes to the CPU to be drawn."""
    face = make_face().to(device)
    landmarks = Landmarks(own_landmarks(make_face()).points.to(device))
    assert describe_face(face, picture.to(device), CROP, landmarks)["landmark distance"] == "0.0 % of the box"


def test_bad_arguments(picture):
    with pytest.raises(ValueError, match="of one face, got 2"):
        Report("x").add_face("x", make_face(2), picture, CROP)
    with pytest.raises(ValueError, match="every row must have 2 values"):
        Report("x").add_table("x", ["a", "b"], [["only one"]])


def test_pictures_keep_their_shape_in_a_narrow_column():
    """The img tags carry width and height, so a style that sets the width alone would stretch them."""
    style = Report("title", "introduction").html().split(".panels", 1)[1].split("figure img {", 1)[1].split("}", 1)[0]
    assert "width: 100%" in style and "height: auto" in style


def test_the_picture_is_seen_through_a_hole(picture):
    """As through an open mouth: not the inside of the other side of the head."""
    face = dataclasses.replace(make_face(), albedo=torch.ones_like(make_face().albedo))
    near = face.vertices[0, face.triangles.long()].mean(1)
    hole = (near[:, 2] > 0) & (near[:, :2].norm(dim=1) < 30.0)
    pierced = dataclasses.replace(face, triangles=face.triangles[~hole].contiguous())
    centre = CROP.to_image(face.camera.project(torch.tensor([[[0.0, 0.0, 80.0]]]))[0].double())[0].long()
    window = (slice(None), slice(int(centre[1]) - 3, int(centre[1]) + 3), slice(int(centre[0]) - 3, int(centre[0]) + 3))
    assert not torch.equal(draw_over_picture(face, picture, CROP)[window], picture[window])
    assert torch.equal(draw_over_picture(pierced, picture, CROP)[window], picture[window])
