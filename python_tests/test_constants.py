"""Tables of numbers kept as tensors: plain ones, whatever mode or default device was on when they were asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from facecore import losses, reference_losses
from facecore.losses._constants import tensor_table

CPU = torch.device("cpu")


def make_table():
    return tensor_table(np.arange(6.0).reshape(2, 3))


def test_is_made_once_per_device_and_dtype():
    table = make_table()
    first = table(CPU, torch.float32)
    assert first.dtype == torch.float32 and first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert table(CPU, torch.float32) is first
    assert table(CPU, torch.float64).dtype == torch.float64
    assert table(torch.device("meta"), torch.float64).is_meta
    assert table(torch.device("meta"), torch.float64) is table(torch.device("meta"), torch.float64)
    assert tensor_table(np.arange(3))(CPU, torch.int64).tolist() == [0, 1, 2]


def test_fake_tensors_are_neither_kept_nor_mixed_with_real_ones():
    table = make_table()
    for device in (CPU, torch.device("meta")):
        for _ in range(2):  # before and after a real one was kept
            with FakeTensorMode():
                assert isinstance(table(device, torch.float32), FakeTensor)
            assert type(table(device, torch.float32)) is torch.Tensor


@pytest.mark.parametrize("setting", [lambda: torch.device("meta"), torch.inference_mode], ids=["device", "inference"])
def test_settings_do_not_stay_in_it(setting):
    with setting():
        table = make_table()
        table(CPU, torch.float32), table(torch.device("meta"), torch.float32)
    for device in (CPU, torch.device("meta")):
        kept = table(device, torch.float32)
        assert kept.device == device and not kept.is_inference()


@pytest.mark.parametrize("library", [losses, reference_losses])
@pytest.mark.parametrize("name, shape", [("landmark_structure_loss", (2, 68, 2)), ("skin_probability", (1, 3, 4, 4))])
def test_losses_work_after_fake_tensors_and_with_a_default_device(library, name, shape):
    loss = getattr(library, name)
    leaves = [torch.rand(shape, requires_grad=True) for _ in range(2 if name.startswith("landmark") else 1)]
    expected = loss(*leaves)
    with FakeTensorMode() as mode:
        fake = loss(*(mode.from_tensor(leaf) for leaf in leaves))
        assert isinstance(fake, FakeTensor) and fake.shape == expected.shape
    with torch.device("meta"):
        assert torch.equal(loss(*leaves), expected)
    value = loss(*leaves)
    assert torch.equal(value, expected)
    value.sum().backward()


def test_a_compiled_graph_takes_them_twice_and_in_two_dtypes():
    def both(points, image):
        distances = reference_losses.landmark_structure_loss(points, points.flip(0))
        doubled = losses.landmark_structure_loss(points.double(), points.flip(0).double())
        again = losses.landmark_structure_loss(points, points.flip(0)) + losses.skin_probability(image).mean()
        return distances + doubled + again + reference_losses.skin_probability(image.double()).mean()

    inputs = (torch.rand(2, 68, 2, requires_grad=True), torch.rand(1, 3, 4, 4))
    compiled = torch.compile(both, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), both(*inputs))
