"""Loss, the module form: frozen options, options of a call, moving with the module, bad options."""

from __future__ import annotations

import pytest
import torch

from facecore.losses import Loss, photometric_loss, symmetry_loss


def test_is_the_function_with_its_options(generator):
    rendered, image = torch.rand(2, 1, 3, 4, 4, generator=generator)
    loss = Loss(photometric_loss, norm="l1")
    assert torch.equal(loss(rendered, image), photometric_loss(rendered, image, norm="l1"))
    assert torch.equal(loss(rendered, image, norm="l2"), photometric_loss(rendered, image, norm="l2"))
    assert "photometric_loss, norm='l1'" in repr(loss)
    assert not loss.state_dict()


def test_tensors_move_with_the_module():
    loss = Loss(symmetry_loss, mirror_map=torch.tensor([1, 0])).to("meta")
    assert loss.options["mirror_map"].device.type == "meta"


def test_an_unknown_option():
    with pytest.raises(ValueError, match="photometric_loss has no option exponent"):
        Loss(photometric_loss, exponent=2)
