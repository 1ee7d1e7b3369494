"""Models of claims 0a and 0b: fewer modes, and shapes beyond the model."""

from __future__ import annotations

import pytest
import torch

from facecore.data import LabelledRenders
from facecore.morphable import load
from facecore.morphable.variants import first_identity_modes, with_local_bumps


@pytest.fixture(scope="module")
def model():
    return load("procedural", num_vertices=2500)


def test_fewer_modes_are_the_first(model):
    small = first_identity_modes(model, 7)
    assert small.num_identity == 7 and small.identity_names == model.identity_names[:7]
    drawn = small.sample(2, torch.Generator().manual_seed(0))
    padded = torch.cat([drawn.identity, torch.zeros(2, model.num_identity - 7)], 1)
    torch.testing.assert_close(small.shape(drawn.identity, drawn.expression), model.shape(padded, drawn.expression))
    with pytest.raises(ValueError, match="count must be 1 to"):
        first_identity_modes(model, 0)


def test_bumps_are_local_and_as_high_as_said(model):
    rich = with_local_bumps(model, 3, radius_mm=5.0, height_mm=1.5, seed=2)
    assert rich.num_identity == model.num_identity + 3 and rich.content_hash() != model.content_hash()
    for k in range(3):
        identity = torch.zeros(1, rich.num_identity)
        identity[0, model.num_identity + k] = 2.0
        moved = (rich.shape(identity)[0] - rich.template).norm(dim=1)
        peak = int(moved.argmax())
        assert float(moved[peak]) == pytest.approx(3.0, rel=1e-4)  # coefficient 2 times 1.5 mm
        far = (rich.template - rich.template[peak]).norm(dim=1) > 25.0
        assert float(moved[far].max()) < 1e-4  # five radii: exp(-12.5) of 3 mm
    again = with_local_bumps(model, 3, radius_mm=5.0, height_mm=1.5, seed=2)
    assert again.content_hash() == rich.content_hash()
    for arguments, message in (({"count": 0}, "at least 1 bump"), ({"radius_mm": 0.0}, "must be positive")):
        with pytest.raises(ValueError, match=message):
            with_local_bumps(model, **arguments)


def test_bumps_can_be_rendered(model):
    batch = LabelledRenders(with_local_bumps(model, 4), 32, 32).batch(torch.arange(2))
    assert batch.identity.shape == (2, model.num_identity + 4) and bool(batch.identity[:, -4:].any())
