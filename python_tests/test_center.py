"""CenterLoss: hand-computed values, the update rule of METHODS 1.11 by loops, distributed sums, bad inputs."""

from __future__ import annotations

import concurrent.futures
import threading

import pytest
import torch

from facecore.losses import CenterLoss


def test_loss_by_hand():
    loss = CenterLoss(3, 2)
    loss.centers[1] = torch.tensor([1.0, 1.0])
    features = torch.tensor([[1.0, 3.0], [2.0, 0.0], [9.0, 9.0]], requires_grad=True)
    value = loss(features, torch.tensor([1, 0, -1]))  # squared distances 4 and 4, the third person is unknown
    assert float(value.detach()) == pytest.approx((4 + 4) / (2 * 2))
    value.backward()
    assert features.grad.tolist() == [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]


def test_unknown_persons_may_be_nan():
    features = torch.full((2, 2), float("nan"), requires_grad=True)
    loss = CenterLoss(3, 2)
    value = loss(features, torch.tensor([-1, -1]))
    value.backward()
    loss.update(features, torch.tensor([-1, -1]))
    assert value == 0 and torch.equal(features.grad, torch.zeros(2, 2)) and torch.equal(loss.centers, torch.zeros(3, 2))


def updated_by_loops(centers: torch.Tensor, features: torch.Tensor, labels: list[int], rate: float) -> torch.Tensor:
    result = centers.clone()
    for j in range(centers.shape[0]):
        mine = [i for i, label in enumerate(labels) if label == j]
        step = sum((centers[j] - features[i] for i in mine), torch.zeros_like(centers[j])) / (1 + len(mine))
        result[j] = centers[j] - rate * step
    return result


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_update_is_the_rule(generator, rate):
    loss = CenterLoss(5, 3, rate)
    loss.centers.copy_(torch.randn(5, 3, generator=generator))
    features, labels = torch.randn(7, 3, generator=generator), [0, 2, 2, -1, 4, 2, 0]
    expected = updated_by_loops(loss.centers, features, labels, rate)
    loss.update(features.requires_grad_(), torch.tensor(labels))
    torch.testing.assert_close(loss.centers, expected)
    assert not loss.centers.requires_grad


def test_centers_reach_the_mean_of_each_person(generator):
    loss = CenterLoss(2, 3)
    features, labels = torch.randn(6, 3, generator=generator), torch.tensor([0, 0, 1, 1, 1, 1])
    for _ in range(60):
        loss.update(features, labels)
    torch.testing.assert_close(loss.centers, torch.stack([features[:2].mean(0), features[2:].mean(0)]))


def test_centers_are_saved(generator):
    loss = CenterLoss(2, 3)
    loss.update(torch.randn(2, 3, generator=generator), torch.tensor([0, 1]))
    other = CenterLoss(2, 3)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.centers, loss.centers) and not list(loss.parameters())


def test_gradients(generator):
    loss = CenterLoss(3, 2).double()
    features = torch.randn(4, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 2, -1, 0])
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), features)


def test_distributed_update_is_the_update_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch):
    """Two threads stand for two processes; all_reduce adds what both bring, as torch.distributed does."""
    features, labels = torch.arange(12.0).view(6, 2), torch.tensor([0, 1, 1, 2, 1, -1])
    parts = [slice(0, 4), slice(4, 6)]  # uneven on purpose
    barrier, lock, brought = threading.Barrier(2), threading.Lock(), []

    def all_reduce(tensor: torch.Tensor) -> None:
        with lock:
            brought.append(tensor.clone())
        barrier.wait()
        tensor.copy_(brought[0] + brought[1])
        if barrier.wait() == 0:
            brought.clear()
        barrier.wait()

    expected = CenterLoss(3, 2)
    expected.update(features, labels)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    losses = [CenterLoss(3, 2) for _ in parts]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda loss, part: loss.update(features[part], labels[part]), losses, parts))
    for loss in losses:
        torch.testing.assert_close(loss.centers, expected.centers)


def test_bad_inputs():
    loss = CenterLoss(3, 2)
    with pytest.raises(ValueError, match=r"features must have shape \[N, 2\]"):
        loss(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"labels must lie in \[-1, 3\)"):
        loss(torch.zeros(2, 2), torch.tensor([0, 3]))
    with pytest.raises(ValueError, match="labels must have dtype int64"):
        loss.update(torch.zeros(2, 2), torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match="must be at least 1"):
        CenterLoss(0, 2)
    with pytest.raises(ValueError, match="rate must be"):
        CenterLoss(3, 2, rate=0.0)
