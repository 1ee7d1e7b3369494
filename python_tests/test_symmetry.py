"""symmetry_loss and texture_symmetry_loss: hand-computed values, symmetric input, gradients, bad inputs."""

from __future__ import annotations

import math

import pytest
import scipy.sparse
import torch
from checks import check_matches_reference, check_registration

from facecore import reference_losses
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
    with pytest.raises(ValueError, match=r"texture must be floating point, got uint8: .* texture.float\(\) / 255"):
        texture_symmetry_loss(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="valid must have dtype bool"):
        texture_symmetry_loss(torch.zeros(1, 3, 4, 4), torch.ones(4, 4))
    with pytest.raises(ValueError, match="valid must have shape"):
        texture_symmetry_loss(torch.zeros(1, 3, 4, 4), torch.ones(4, 5, dtype=torch.bool))


def vertex_maps(count):
    mirror = torch.arange(count - 1, -1, -1)
    return {"involution": mirror, "shift": (torch.arange(count) + 1) % count, "to one": torch.zeros_like(mirror)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["involution", "shift", "to one"])
@pytest.mark.parametrize("shape", [(2, 7, 3), (1, 1, 1), (3, 1300, 3), (2, 600, 4)], ids=str)
def test_vertices_match_reference(dtype, kind, shape, generator):
    albedo = torch.rand(shape, generator=generator, dtype=dtype).requires_grad_()
    mirror = vertex_maps(shape[1])[kind]
    check_matches_reference(symmetry_loss, reference_losses.symmetry_loss, (albedo, mirror))


@pytest.mark.parametrize("channels", [3, 2])
def test_barycentric_map_matches_reference(channels, generator):
    weights = torch.rand(40, 40, generator=generator, dtype=torch.float64) * (
        torch.rand(40, 40, generator=generator) > 0.9
    )
    matrix = SparseMatrix.from_scipy(scipy.sparse.csr_matrix(weights.numpy()), dtype=torch.float64)
    albedo = torch.rand(5, 40, channels, generator=generator, dtype=torch.float64).requires_grad_()
    check_matches_reference(symmetry_loss, reference_losses.symmetry_loss, (albedo, matrix))


TEXTURES = [(2, 3, 4, 7), (1, 1, 1, 1), (2, 3, 5, 64), (1, 2, 3, 300), (3, 1, 2, 131), (0, 3, 4, 4)]


def texture_inputs(shape, kind, dtype):
    generator = torch.Generator().manual_seed(9)
    texture = torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    valid = torch.rand(shape[0], *shape[2:], generator=generator) > 0.4
    shared = torch.rand(shape[2:], generator=generator) > 0.4
    return texture, {"none": None, "each": valid, "shared": shared, "empty": torch.zeros_like(valid)}[kind]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["none", "each", "shared", "empty"])
@pytest.mark.parametrize("shape", TEXTURES, ids=str)
def test_texture_matches_reference(dtype, kind, shape):
    inputs = texture_inputs(shape, kind, dtype)
    check_matches_reference(texture_symmetry_loss, reference_losses.texture_symmetry_loss, inputs)


def test_texture_at_every_simd_level(simd_level):
    for dtype in (torch.float32, torch.float64):
        inputs = texture_inputs((2, 3, 5, 150), "each", dtype)
        check_matches_reference(texture_symmetry_loss, reference_losses.texture_symmetry_loss, inputs)


def test_same_bits_for_any_number_of_threads(generator):
    albedo = torch.rand(4, 3000, 3, generator=generator).requires_grad_()
    texture = torch.rand(4, 3, 70, 90, generator=generator).requires_grad_()
    threads, runs = torch.get_num_threads(), []
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            values = (symmetry_loss(albedo, torch.arange(2999, -1, -1)), texture_symmetry_loss(texture))
            runs.append((*values, *torch.autograd.grad(sum(values), (albedo, texture))))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for run in runs[1:] for a, b in zip(run, runs[0]))


def test_registration_and_refusal_of_a_second_derivative():
    albedo = torch.rand(2, 3, 3, dtype=torch.float64, requires_grad=True)
    check_registration(
        torch.ops.facecore.vertex_symmetry.default, lambda a, m, _: symmetry_loss(a, m), (albedo, MIRROR, 1 / 18)
    )
    inputs = texture_inputs((2, 3, 4, 5), "each", torch.float64)
    check_registration(torch.ops.facecore.texture_symmetry.default, texture_symmetry_loss, inputs)
    losses = [(lambda: symmetry_loss(albedo, MIRROR), albedo, "vertex")]
    losses.append((lambda: texture_symmetry_loss(*inputs), inputs[0], "texture"))
    for loss, leaf, name in losses:
        (grad,) = torch.autograd.grad(loss(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match=f"{name}_symmetry_backward has no derivative"):
            grad.sum().backward()


def test_a_vertex_that_there_is_not():
    with pytest.raises(ValueError, match=r"mirror_map must hold vertices in \[0, 3\), got 3 at 1"):
        symmetry_loss(torch.zeros(1, 3, 3), torch.tensor([0, 3, 1]))
    with pytest.raises(ValueError, match="got -1 at 0"):
        symmetry_loss(torch.zeros(1, 3, 3), torch.tensor([-1, 2, 1]))
