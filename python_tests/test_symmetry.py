"""symmetry_loss and texture_symmetry_loss: hand-computed values, symmetric input, gradients, bad inputs."""

from __future__ import annotations

import math

import pytest
import scipy.sparse
import torch

from facecore.losses import symmetry_loss, texture_symmetry_loss
from facecore.structures import SparseMatrix

MIRROR = torch.tensor([1, 0, 2])  # 0 and 1 are opposite, 2 lies on the middle line


def test_vertices_by_hand():
    albedo = torch.tensor([[[0.2, 0.2, 0.2], [0.5, 0.2, 0.2], [0.9, 0.9, 0.9]]])
    assert float(symmetry_loss(albedo, MIRROR)) == pytest.approx(2 * 0.3 / 9)
    symmetric = (albedo + albedo[:, MIRROR]) / 2
    assert symmetry_loss(symmetric, MIRROR) == 0


def test_sparse_map_is_the_same_as_the_permutation(generator):
    albedo = torch.rand(2, 3, 3, generator=generator, dtype=torch.float64)
    rows = scipy.sparse.csr_matrix(([1.0] * 3, ([0, 1, 2], MIRROR.tolist())), shape=(3, 3))
    matrix = SparseMatrix.from_scipy(rows, dtype=torch.float64)
    torch.testing.assert_close(symmetry_loss(albedo, matrix), symmetry_loss(albedo, MIRROR))


def test_texture_by_hand():
    texture = torch.tensor([[[[0.1, 0.5, 0.3]]]])
    assert float(texture_symmetry_loss(texture)) == pytest.approx(0.4 / 3)
    valid = torch.tensor([[True, True, True]])
    assert float(texture_symmetry_loss(texture, valid)) == pytest.approx(0.4 / 3)
    valid = torch.tensor([[True, True, False]])  # the outer texels lose their partner
    texture = texture.clone()
    texture[..., 2] = math.nan
    texture.requires_grad_()
    loss = texture_symmetry_loss(texture, valid)
    loss.backward()
    assert loss == 0 and torch.equal(texture.grad, torch.zeros_like(texture))


def test_texture_averages_images(generator):
    texture = torch.rand(2, 3, 4, 6, generator=generator, dtype=torch.float64)
    valid = torch.rand(2, 4, 6, generator=generator) > 0.3
    single = [texture_symmetry_loss(texture[i : i + 1], valid[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(texture_symmetry_loss(texture, valid), (single[0] + single[1]) / 2)


def test_gradients(generator):
    albedo = torch.rand(2, 3, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    texture = torch.rand(1, 2, 3, 5, generator=generator, dtype=torch.float64)
    valid = torch.rand(3, 5, generator=generator) > 0.3
    assert torch.autograd.gradcheck(lambda a: symmetry_loss(a, MIRROR), albedo)
    # an odd width has a middle column whose difference is 0 for every value, so the kink there has slope 0 too
    assert torch.autograd.gradcheck(lambda t: texture_symmetry_loss(t, valid), texture.requires_grad_())


def test_bad_inputs():
    albedo = torch.zeros(1, 3, 3)
    with pytest.raises(ValueError, match=r"mirror_map must have shape \[3\]"):
        symmetry_loss(albedo, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="mirror_map must have dtype int64"):
        symmetry_loss(albedo, MIRROR.int())
    with pytest.raises(ValueError, match=r"albedo must have shape \[N, V, C\]"):
        symmetry_loss(albedo[0], MIRROR)
    with pytest.raises(ValueError, match="valid must have dtype bool"):
        texture_symmetry_loss(torch.zeros(1, 3, 4, 4), torch.ones(4, 4))
    with pytest.raises(ValueError, match="valid must have shape"):
        texture_symmetry_loss(torch.zeros(1, 3, 4, 4), torch.ones(4, 5, dtype=torch.bool))
