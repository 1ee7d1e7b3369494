"""facecore.evaluation.alignment."""

from __future__ import annotations

import pytest
import torch

from facecore.evaluation.alignment import (
    fit_similarity,
    regional_errors,
    similarity_align,
    vertex_distances,
    vertex_error,
)
from facecore.render import euler_to_matrix


def cloud(n: int = 4, v: int = 30) -> torch.Tensor:
    return 50 * torch.randn(n, v, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def test_undoes_any_similarity():
    points = cloud()
    angles = torch.tensor([[0.3, -1.2, 2.0], [0, 0, 3.1], [1.5, 0.2, 0], [0, 0, 0]], dtype=torch.float64)
    scale = torch.tensor([0.1, 3.0, 1.0, 7.0], dtype=torch.float64).view(4, 1, 1)
    moved = scale * points @ euler_to_matrix(angles).transpose(1, 2) + 1000.0
    # rounding of coordinates near 1e3
    torch.testing.assert_close(similarity_align(moved, points), points, rtol=0, atol=1e-9)
    assert float(vertex_error(moved, points).max()) < 1e-9


def test_does_not_mirror():
    points = cloud()
    assert float(vertex_error(points * torch.tensor([-1.0, 1, 1], dtype=torch.float64), points).min()) > 10


def test_is_least_squares():
    """No nearby similarity is better."""
    points, target = cloud(), cloud() + 5 * torch.randn(4, 30, 3, generator=torch.Generator().manual_seed(3)).double()
    aligned = similarity_align(points, target)
    best = (aligned - target).square().sum((1, 2))
    generator = torch.Generator().manual_seed(4)
    for _ in range(20):
        small = 0.01 * torch.randn(4, 3, generator=generator, dtype=torch.float64)
        other = aligned @ euler_to_matrix(small).transpose(1, 2) * (1 + small[:, :1, None]) + small[:, None]
        assert bool(((other - target).square().sum((1, 2)) >= best).all())


def test_hand_computed_error():
    target = torch.tensor([[[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]])
    points = target.clone()
    points[0, 4, 2], points[0, 5, 2] = 2.0, -2.0  # an octahedron stretched along z by 2
    # least-squares scale: <target, points> / <points, points> = (4 + 4) / (4 + 8) = 2/3
    expected = (4 * (1 / 3) + 2 * (1 / 3)) / 6
    assert float(vertex_error(points, target)) == pytest.approx(expected, abs=1e-6)


def test_rejects_bad_shapes():
    with pytest.raises(ValueError, match=r"must both be \[N, V >= 3, 3\]"):
        similarity_align(torch.zeros(1, 4, 3), torch.zeros(1, 5, 3))


def test_rigid_and_frozen_alignment():
    points = cloud()
    turn = euler_to_matrix(torch.tensor([[0.3, -1.2, 2.0]] * 4, dtype=torch.float64)).transpose(1, 2)
    moved = points @ turn + 3.0
    assert float(vertex_distances(moved, points, "rigid").max()) < 1e-9
    assert float(vertex_distances(1.1 * moved, points, "rigid").mean()) > 1
    assert bool((fit_similarity(1.1 * moved, points, "rigid").scale == 1).all())
    shifted = vertex_distances(points + torch.tensor([0.0, 3.0, 4.0]), points, "none")
    torch.testing.assert_close(shifted, torch.full_like(shifted, 5.0))
    with pytest.raises(ValueError, match="alignment must be 'similarity', 'rigid' or 'none'"):
        fit_similarity(points, points, "affine")


def test_some_vertices_can_decide_the_alignment():
    """What is outside of them keeps its error."""
    points = cloud()
    wrong = 2.0 * points
    wrong[:, 20:] += 10.0
    chosen = torch.arange(30) < 20
    distances = vertex_distances(wrong, points, fit_on=chosen)
    assert float(distances[:, :20].max()) < 1e-9
    torch.testing.assert_close(distances[:, 20:], torch.full((4, 10), 5 * 3**0.5, dtype=torch.float64))


def test_regional_errors_by_hand():
    distances = torch.tensor([[1.0, 2.0, 6.0]])
    found = regional_errors(distances, {"nose": torch.tensor([False, True, True])})
    assert {name: float(error) for name, error in found.items()} == {"all": 3.0, "nose": 4.0}
    with pytest.raises(ValueError, match="'nose' has no vertex"):
        regional_errors(distances, {"nose": torch.zeros(3, dtype=torch.bool)})
    with pytest.raises(ValueError, match=r"'nose' must be bool \[3\], got torch.bool \[4\]"):
        regional_errors(distances, {"nose": torch.zeros(4, dtype=torch.bool)})
