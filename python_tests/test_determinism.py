"""Every operator twice under torch.use_deterministic_algorithms(True): results and derivatives have the same bits."""

from __future__ import annotations

import pytest
import torch
from operator_cases import CASES, ONCE_DIFFERENTIABLE

from facecore import ops


def test_every_operator_has_a_case():
    assert sorted(CASES) == sorted(ops.__all__)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_two_runs_give_the_same_bits(device, deterministic, case):
    function, inputs = case(device)
    runs = []
    for _ in range(2):
        leaves = [x.clone().requires_grad_() for x in inputs]
        out = function(*leaves)
        twice = case not in ONCE_DIFFERENTIABLE
        grads = torch.autograd.grad(out.pow(3).sum(), leaves, create_graph=twice)
        second = torch.autograd.grad(sum(g.pow(2).sum() for g in grads), leaves) if twice else ()
        runs.append((out, *grads, *second))
    assert all(x.abs().max() > 0 for x in runs[0])
    for got, want in zip(*runs):
        assert torch.equal(got, want)
