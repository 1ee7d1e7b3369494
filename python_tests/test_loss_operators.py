"""opcheck of every registered operator of facecore.losses on the CPU; arguments that are no tensors are named."""

from __future__ import annotations

import inspect
import pathlib
import re

import pytest
import scipy.sparse
import torch
from torch.utils.checkpoint import checkpoint

import facecore.losses
from facecore import losses
from facecore.losses._landmark_pairs import pair_matrix
from facecore.losses.skin import _numbers
from facecore.ops.sparse_matmul import matrix_arguments
from facecore.structures import SparseMatrix

CPU = torch.device("cpu")


def random(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def make_cases():
    """The arguments of each operator; floating-point ones that it is differentiated by require a gradient."""
    one, points = random(1)[0], [random(2, 5, 3), random(2, 5, 3) + 0.1]
    matrix = SparseMatrix.from_scipy(scipy.sparse.random(5, 5, 0.5, random_state=2).tocsr(), dtype=torch.float64)
    arrays, signs = matrix_arguments("matrix", matrix), torch.ones(1, 5, dtype=torch.int32)
    mirror, valid = torch.tensor([1, 0, 2, 4, 3]), random(2, 4, 6) > 0.3
    picture, other, weights = random(2, 3, 4, 6), random(2, 3, 4, 6) * 0.9, random(2, 4, 6)
    marks, pairs = [random(2, 68, 2), random(2, 68, 2) * 0.9], pair_matrix(CPU, torch.float64)
    skin, region, std = _numbers(CPU, torch.float64), random(5), random(5, 3) + 0.5
    planes = (weights, weights > 0.5, weights)
    photometric, walk = (1, False, 1.0, 0.5), (0.0, 1.0, 0.5)
    return {
        "picture_loss_v2": (picture, other, *planes, *photometric),
        "picture_loss_backward_v2": (
            one,
            picture,
            other,
            weights,
            None,
            weights,
            random(2, 3),
            *photometric,
            True,
            True,
        ),
        "smoothness_v2": (points[0], *arrays, *walk, True),
        "smoothness_backward_v2": (one, points[0], signs, *arrays, *walk),
        "vertex_symmetry": (points[0], mirror, 0.5),
        "vertex_symmetry_backward": (one, points[0], mirror, 0.5),
        "texture_symmetry": (picture, valid),
        "texture_symmetry_backward": (one, picture, valid, random(2)),
        "shape_loss": (*points, std, True, 0.5),
        "shape_loss_backward": (one, *points, std, True, 0.5, True, False),
        "flattening": (points[0], region),
        "flattening_backward": (one, points[0], region, random(2, 3)),
        "landmark_structure": (*marks, random(2, 68), pairs, True),
        "landmark_structure_backward": (one, random(2, 2, 68, 2), *marks),
        "skin_probability": (picture, skin),
        "skin_probability_backward": (random(2, 4, 6), picture, skin),
    }


CASES = make_cases()
CONSTANTS = {  # what no gradient is defined for: places of floating-point arguments
    "picture_loss_v2": (2, 4),
    "smoothness_v2": (3, 6),
    "shape_loss": (2,),
    "flattening": (1,),
    "landmark_structure": (2, 3),
    "skin_probability": (1,),
}


@pytest.mark.parametrize("name", CASES)
def test_opcheck(name):
    constant = CONSTANTS.get(name, ())
    arguments = [
        argument.clone().requires_grad_() if differentiable(name, argument) and place not in constant else argument
        for place, argument in enumerate(CASES[name])
    ]
    torch.library.opcheck(getattr(torch.ops.facecore, name).default, tuple(arguments))


def differentiable(name, argument):
    backward = "_backward" in name  # refuses a derivative, which opcheck would ask for
    return isinstance(argument, torch.Tensor) and argument.is_floating_point() and not backward


@pytest.mark.parametrize("name", [name for name in CASES if "_backward" not in name])
def test_under_activation_checkpointing(name):
    """The forward pass runs again in the backward pass, and what it saves can be taken out once only."""
    op, (first, *others) = getattr(torch.ops.facecore, name).default, CASES[name]
    leaf = first.clone().requires_grad_()

    def value(leaf):
        result = op(leaf, *others)
        return (result[0] if isinstance(result, tuple) else result).sum()

    (expected,) = torch.autograd.grad(value(leaf), leaf)
    (got,) = torch.autograd.grad(checkpoint(value, leaf, use_reentrant=False), leaf)
    assert torch.equal(got, expected) and got.any()


def test_every_operator_of_the_losses_is_here():
    folder = pathlib.Path(facecore.losses.__file__).parent
    names = [name for file in folder.glob("*.py") for name in re.findall(r'make_op\(\s*"(\w+)"', file.read_text())]
    assert sorted(names) == sorted(CASES)


@pytest.mark.parametrize(
    "name", [name for name in losses.__all__ if name.endswith(("_loss", "skin_mask", "_attention"))]
)
def test_what_is_no_tensor_is_named(name):
    function = getattr(losses, name)
    wanted = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    with pytest.raises(ValueError, match=r"must be a torch\.Tensor, got str"):
        function(**dict.fromkeys(wanted, "no tensor"))
