"""The demo's portrait: carried by scikit-image, with landmarks where they belong."""

from __future__ import annotations

import sys

import pytest
import torch

from facecore.data.landmarks import MIRROR_68
from facecore.data.portrait import load_portrait


@pytest.fixture(scope="module")
def portrait():
    pytest.importorskip("skimage")
    return load_portrait()


def test_the_picture_is_there_without_a_download(portrait, monkeypatch):
    def no_network(*arguments, **options):
        raise AssertionError("the portrait must not be downloaded")

    monkeypatch.setattr("socket.socket.connect", no_network)
    image = load_portrait().image
    assert image.shape == (3, 512, 512) and image.dtype == torch.float32
    assert 0 <= float(image.min()) < float(image.max()) <= 1
    torch.testing.assert_close(image, portrait.image)


def test_without_scikit_image_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    with pytest.raises(ImportError, match=r"pip install 'facecore\[demo\]'"):
        load_portrait()


def test_landmarks_are_those_of_a_face(portrait):
    points = portrait.landmarks.points
    assert points.shape == (68, 2)
    # A near-frontal face: mirrored landmarks are level, and symmetric about its axis, to a few pixels of 90.
    axis = points[8] - points[27]
    down = axis / axis.norm()
    along, across = (points - points[27]) @ down, (points - points[27]) @ torch.stack((down[1], -down[0]))
    mirrored = torch.tensor(MIRROR_68)
    assert float((along - along[mirrored]).abs().max()) < 6
    assert float((across + across[mirrored]).abs().max()) < 14
    order = [across[k] for k in (0, 36, 39, 42, 45, 16)]
    assert order == sorted(order) or order == sorted(order, reverse=True)


def test_landmarks_lie_on_what_they_name(portrait):
    """Lips are redder than the skin around them, irises darker: fails when points and picture are offset."""

    def color(u: float, v: float) -> torch.Tensor:
        return portrait.image[:, int(v) - 1 : int(v) + 2, int(u) - 1 : int(u) + 2].mean((1, 2))

    points = portrait.landmarks.points
    chin = color(*(0.5 * (points[57] + points[8])).tolist())
    lower_lip = color(*(0.5 * (points[57] + points[66])).tolist())
    redness = [float(c[0] - 0.5 * (c[1] + c[2])) for c in (lower_lip, chin)]
    assert redness[0] > redness[1]
    cheek = color(*(0.5 * (points[41] + points[48])).tolist())
    for eye in (points[36:42], points[42:48]):
        assert float(color(*eye.mean(0).tolist()).mean()) < 0.6 * float(cheek.mean())
