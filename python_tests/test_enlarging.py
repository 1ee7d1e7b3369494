"""Random grids as pictures: against torch's bilinear enlargement, and exact cases."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from facecore.data.enlarging import enlarged


@pytest.mark.parametrize("shape", [(2, 2), (3, 5), (33, 33), (1, 4), (5, 1)])
@pytest.mark.parametrize("size", [(96, 96), (7, 31), (1, 1), (4, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_bilinear_interpolation(shape: tuple[int, int], size: tuple[int, int], dtype: torch.dtype) -> None:
    grid = torch.rand(3, 2, *shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    expected = functional.interpolate(grid.double(), size, mode="bilinear", align_corners=True)
    # a place among the knots, and so a weight, is off by the rounding of a number as large as the last knot's
    atol = 4 * max(shape) * torch.finfo(dtype).eps
    torch.testing.assert_close(enlarged(grid, *size).double(), expected, rtol=0, atol=atol)


def test_knots_keep_their_values_and_lie_between_them() -> None:
    grid = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]]]])
    expected = torch.tensor([[0.0, 0.5, 1.0], [1.0, 1.75, 2.5], [2.0, 3.0, 4.0]])
    assert torch.equal(enlarged(grid, 3, 3)[0, 0], expected)


def test_differentiable_after_a_use_without_gradients() -> None:
    with torch.inference_mode():
        enlarged(torch.rand(1, 1, 4, 7), 11, 13)
    grid = torch.rand(1, 1, 4, 7, dtype=torch.float64, requires_grad=True)
    enlarged(grid.float(), 11, 13).sum().backward()
    assert torch.autograd.gradcheck(lambda x: enlarged(x, 5, 6), grid)


def test_no_grids() -> None:
    assert enlarged(torch.zeros(0, 3, 5, 5), 8, 9).shape == (0, 3, 8, 9)
