"""Alignment of faces, and the frozen recognition network behind losses."""

from __future__ import annotations

import pytest
import torch
from toy_perception import SIZE, Embedder, write_manifest, write_torchscript

from facecore.perception import align_faces, alignment, load_identity_network
from facecore.perception.alignment import ALIGNED_POINTS
from facecore.render.affine import apply_affine


def similarity(scale: float, angle: float, shift: tuple[float, float]) -> torch.Tensor:
    turn = torch.tensor(angle, dtype=torch.float64)
    linear = scale * torch.stack((torch.stack((turn.cos(), -turn.sin())), torch.stack((turn.sin(), turn.cos()))))
    return torch.cat((linear, torch.tensor([shift], dtype=torch.float64).T), 1)


def test_alignment_undoes_a_similarity():
    goal = torch.tensor(ALIGNED_POINTS, dtype=torch.float64)
    maps = torch.stack([similarity(2.0, 0.3, (40, -7)), similarity(0.7, -2.0, (5, 300))])
    found = alignment(apply_affine(maps, goal.expand(2, 5, 2)))
    torch.testing.assert_close(apply_affine(found, apply_affine(maps, goal.expand(2, 5, 2))), goal.expand(2, 5, 2))


def test_alignment_is_the_best_similarity(generator):
    points = torch.tensor(ALIGNED_POINTS, dtype=torch.float64) + torch.randn(5, 2, generator=generator).double()
    goal = torch.tensor(ALIGNED_POINTS, dtype=torch.float64)

    def error(matrix: torch.Tensor) -> float:
        return float((apply_affine(matrix, points) - goal).square().sum())

    best = alignment(points[None])[0]
    for change in (similarity(1.01, 0, (0, 0)), similarity(1, 0.01, (0, 0)), similarity(1, 0, (0.1, 0))):
        linear = change[:, :2] @ best[:, :2]
        assert error(torch.cat((linear, change[:, :2] @ best[:, 2:] + change[:, 2:]), 1)) > error(best)


def test_aligned_faces_have_their_points_in_place():
    """A bright spot at the nose appears at the nose of the aligned face, in both sizes."""
    to_picture = similarity(1.5, 0.4, (60, 20))
    points = apply_affine(to_picture, torch.tensor(ALIGNED_POINTS, dtype=torch.float64))
    v, u = torch.meshgrid(torch.arange(300) + 0.5, torch.arange(300) + 0.5, indexing="ij")
    nose = points[2]
    image = torch.exp(-((u - nose[0]) ** 2 + (v - nose[1]) ** 2) / 18).float().expand(1, 3, 300, 300)
    for height, width in ((112, 112), (160, 224), (112, 96)):
        aligned = align_faces(image, alignment(points[None]), height, width)
        weight = aligned[0, 0].double()
        found_v = float((weight.sum(1) * (torch.arange(height) + 0.5)).sum() / weight.sum())
        found_u = float((weight.sum(0) * (torch.arange(width) + 0.5)).sum() / weight.sum())
        middle = width / 2 + (ALIGNED_POINTS[2][0] - 56) * height / 112  # square pixels, cut off or widened equally
        assert found_u == pytest.approx(middle, abs=0.1)
        assert found_v == pytest.approx(ALIGNED_POINTS[2][1] * height / 112, abs=0.1)


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"five_points must have shape \[N, 5, 2\]"):
        alignment(torch.zeros(5, 2))
    with pytest.raises(ValueError, match="not all at one place"):
        alignment(torch.zeros(1, 5, 2))
    with pytest.raises(ValueError, match="images and align must have shapes"):
        align_faces(torch.zeros(2, 3, 8, 8), torch.zeros(1, 2, 3))


@pytest.fixture
def network(tmp_path):
    torch.manual_seed(0)
    write_torchscript(tmp_path / "e.pt", Embedder())
    return load_identity_network(write_manifest(tmp_path / "m.json", "recognition", "torchscript", "e.pt"))


def test_gradient_reaches_the_picture_and_nothing_else(network, generator):
    images = torch.rand(2, 3, 100, 90, generator=generator, requires_grad=True)
    points = torch.tensor(ALIGNED_POINTS).expand(2, 5, 2) * 0.6 + 10
    align = alignment(points).requires_grad_()
    features = network(images, align)
    assert features.embed.shape == (2, 3) and features.pooled.shape == (2, 4)
    features.embed.square().sum().backward()
    assert float(images.grad.abs().sum()) > 0 and align.grad is None
    assert all(parameter.grad is None for parameter in network.parameters())
    torch.testing.assert_close(network.embed(images, align), features.embed)
    torch.testing.assert_close(network.pooled(images, align), features.pooled)


def test_it_stays_frozen(network, tmp_path):
    assert list(network.parameters()) and not network.train().training and not network.network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    aligned = torch.rand(1, 3, *SIZE)
    torch.testing.assert_close(network.embed(aligned), network.network(aligned)["embed"])


def test_without_a_layer_before_it_the_embedding_is_both(tmp_path):
    write_torchscript(tmp_path / "e.pt", Embedder())
    path = write_manifest(tmp_path / "m.json", "recognition", "torchscript", "e.pt", outputs={"embed": "embed"})
    features = load_identity_network(path)(torch.rand(1, 3, *SIZE))
    assert torch.equal(features.embed, features.pooled)
