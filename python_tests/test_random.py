"""Random numbers keyed by sample."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from facecore.data import sample_generator
from facecore.data.random import occurrences


def draw(*keys) -> list[float]:
    return torch.rand(4, generator=sample_generator(*keys), dtype=torch.float64).tolist()


def test_equal_keys_give_equal_streams_whatever_their_integer_type():
    assert draw(3, "pose", 7) == draw(3, "pose", 7)
    assert draw(3, "pose", 7) == draw(np.int32(3), "pose", torch.tensor(7))


def test_different_keys_give_different_streams():
    keys = [(s, k, i) for s in range(4) for k in ("a", "b") for i in range(50)]
    keys += [(1,), (1, 2), (12,), (1, "2"), (-1,), (1, "", "a"), (1, "a", "")]
    assert len({tuple(draw(*key)) for key in keys}) == len(keys)


def test_first_draws_are_uniform_over_consecutive_indices():
    values = torch.tensor([draw(0, i)[0] for i in range(1000)])
    # the mean of 1000 uniform numbers has standard deviation 0.0091: five of them
    assert abs(values.mean() - 0.5) < 0.046
    assert abs(torch.corrcoef(torch.stack((values[1:], values[:-1])))[0, 1]) < 0.16  # five standard deviations


def test_stream_does_not_depend_on_the_process(tmp_path):
    code = "from facecore.data import sample_generator as s; print(s(5, 'x', 2).initial_seed())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert int(result.stdout) == sample_generator(5, "x", 2).initial_seed()


def test_refuses_other_keys():
    with pytest.raises(ValueError, match="integers or strings, got float"):
        sample_generator(0, 1.5)  # type: ignore[arg-type]


def test_occurrences_count_from_zero():
    assert occurrences([4, 2, 4, 4, 2, 7]) == [0, 0, 1, 2, 1, 0]
