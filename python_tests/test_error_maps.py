"""Colours of errors, the maps of the smallest and the largest error, and curves."""

from __future__ import annotations

import pytest
import torch
from meshes import sphere

from facecore.evaluation.error_maps import (
    COLOURS,
    UNCOUNTED,
    ErrorMap,
    ExtremeMaps,
    colour_scale,
    colours_of,
    draw_curves,
    error_maps,
    round_limit,
)

BALL = sphere(3, 80.0)


def test_colours_by_hand():
    found = colours_of(torch.tensor([0.0, 0.5, 1.0, 3.0, 99.0]), 3.0)
    first, second = torch.tensor(COLOURS[0]), torch.tensor(COLOURS[1])
    torch.testing.assert_close(found[0], first)
    torch.testing.assert_close(found[1], (first + second) / 2)
    torch.testing.assert_close(found[2], second)
    torch.testing.assert_close(found[3:], torch.tensor([COLOURS[-1]] * 2))
    with pytest.raises(ValueError, match="limit must be positive"):
        colours_of(torch.zeros(1), 0.0)


def test_a_map_shows_where_the_error_is():
    """The image's right half of a ball is wrong; what does not count is grey."""
    right = BALL.vertices[:, 0] > 0
    maps = error_maps(BALL.vertices, BALL.triangles, 5.0 * right, 5.0, size=64)
    front = maps["front"]
    assert list(maps) == ["front", "three quarters"] and front.shape == (4, 64, 64)
    left_pixel, right_pixel = front[:3, 32, 16], front[:3, 32, 48]
    assert float(left_pixel[2]) > float(left_pixel[0]) and float(right_pixel[0]) > float(right_pixel[2])  # blue, red
    grey = error_maps(BALL.vertices, BALL.triangles, 5.0 * right, 5.0, ~right, size=64)["front"][:3, 32, 48]
    assert float(grey.std()) < 1e-3 and abs(float(grey[0]) - UNCOUNTED) < 0.3


@pytest.mark.parametrize(("high", "limit"), [(0.9, 1.0), (1.0, 1.0), (1.1, 2.0), (3.0, 5.0), (0.07, 0.1), (0.0, 0.01)])
def test_limits_are_round(high, limit):
    assert round_limit(torch.full((50,), high)) == pytest.approx(limit)


def test_the_extremes_are_kept():
    maps = ExtremeMaps()
    assert maps.draw() == {}
    for number, error in enumerate((2.0, 1.0, 3.0, 2.5)):
        surface = ErrorMap(BALL.vertices, BALL.triangles, torch.full((BALL.num_vertices,), error))
        maps.add(error, f"face {number}", surface)
    captions = list(maps.draw())
    assert captions[0] == "smallest error, face 1, front" and captions[2] == "largest error, face 2, front"
    assert captions[4] == "from 0 to 5 mm and more"
    alone = ExtremeMaps()
    alone.add(2.0, "x", surface)
    assert list(alone.draw())[:2] == ["only error, x, front", "only error, x, three quarters"]


def test_scale_runs_from_the_first_colour_to_the_last():
    ((caption, strip),) = colour_scale(2.0, 64).items()
    assert caption == "from 0 to 2 mm and more" and strip.shape == (4, 8, 64)
    torch.testing.assert_close(strip[:3, 0, 0], torch.tensor(COLOURS[0]))
    torch.testing.assert_close(strip[:3, 0, -1], torch.tensor(COLOURS[-1]))


def test_curves_are_svg():
    svg = draw_curves({"one <&>": [(0.0, 0.0), (1.0, 0.5)], "two": [(0.0, 0.2), (2.0, 1.0)]}, "x", "y")
    assert svg.startswith(b"<?xml") and b"one &lt;&amp;&gt;" in svg and b"two" in svg
