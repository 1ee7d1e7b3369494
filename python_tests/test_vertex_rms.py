"""Root-mean-square distances of corresponding vertices: by hand, and between pairs."""

from __future__ import annotations

import pytest
import torch

from facecore.evaluation.vertex_rms import pairwise_rms, vertex_rms


def test_by_hand():
    """Distances 3 and 4 and 0: the root of 25 / 3; the mean distance would be 7 / 3."""
    first = torch.zeros(1, 3, 3, dtype=torch.float64)
    second = first.clone()
    second[0, 0, 0], second[0, 1, 2] = 3.0, -4.0
    assert vertex_rms(first, second).item() == pytest.approx((25 / 3) ** 0.5, abs=1e-12)
    assert vertex_rms(first, first).item() == 0


def test_pairs_in_order(generator):
    shift = torch.tensor([0.0, 1.0, 3.0, 7.0])
    faces = torch.rand(1, 20, 3, generator=generator).repeat(4, 1, 1)
    faces[:, :, 1] += shift[:, None]
    torch.testing.assert_close(pairwise_rms(faces), torch.tensor([1.0, 3.0, 7.0, 2.0, 6.0, 4.0]), rtol=1e-5, atol=1e-5)
    assert pairwise_rms(faces[:1]).shape == (0,)


@pytest.mark.parametrize("shape", [(1, 2, 3), (2, 3, 3), (1, 3, 2), (1, 0, 3)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"must both be \[N, V >= 1, 3\]"):
        vertex_rms(torch.zeros(shape), torch.zeros(shape if shape[1] == 0 else (1, 3, 3)))
