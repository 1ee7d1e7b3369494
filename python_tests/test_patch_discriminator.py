"""The picture discriminator and the history of drawn pictures."""

from __future__ import annotations

import pytest
import torch

from facecore.nn import PatchDiscriminator, PictureHistory


def test_logits_of_patches():
    discriminator = PatchDiscriminator()
    assert discriminator(torch.rand(2, 3, 224, 224)).shape == (2, 2, 56, 56)
    weights = sum(p.numel() for p in discriminator.parameters())
    assert weights == (27 * 96 + 96) + (864 * 64 + 64) + (576 * 32 + 32) + (32 * 32 + 32) + (32 * 2 + 2)


def test_a_patch_sees_its_part_of_the_picture_alone():
    """Receptive field: 3 + 2 * 2 for the strides, the pool and the last 3x3 4 * 2 each, 23 pixels."""
    picture = torch.rand(1, 3, 64, 64, requires_grad=True)
    PatchDiscriminator()(picture)[0, 0, 8, 8].backward()
    seen = picture.grad.abs().amax((0, 1)) > 0
    rows = seen.any(1).nonzero().flatten()
    assert int(rows.max() - rows.min()) + 1 <= 23


def test_history_fills_then_exchanges_half():
    history, generator = PictureHistory(6, 1, 1, 1), torch.Generator().manual_seed(0)

    def batch(first: int) -> torch.Tensor:
        return torch.arange(first, first + 4.0).view(4, 1, 1, 1)

    assert history.mix(batch(0), generator).flatten().tolist() == [0, 1, 2, 3]
    assert history.mix(batch(4), generator).flatten().tolist() == [4, 5, 6, 7]  # takes in 4 and 5, is full then
    assert sorted(history.pictures.flatten().tolist()) == [0, 1, 2, 3, 4, 5]
    mixed = history.mix(batch(8), generator).flatten().tolist()
    old, new = {value for value in mixed if value < 8}, {value for value in mixed if value >= 8}
    assert old < {0, 1, 2, 3, 4, 5} and len(old) == len(new) == 2
    assert all(mixed[value - 8] == value for value in map(int, new)), "what stays, stays in its place"
    assert sorted(history.pictures.flatten().tolist()) == sorted({0, 1, 2, 3, 4, 5, 8, 9, 10, 11} - set(mixed))


def test_every_place_of_a_batch_comes_into_the_history():
    """In stage C the renders stand before the photographs: neither may be shown old, or new, alone."""
    history, generator = PictureHistory(4, 1, 1, 1), torch.Generator().manual_seed(0)
    fakes = torch.arange(4.0).view(4, 1, 1, 1)
    history.mix(torch.full((4, 1, 1, 1), -1.0), generator)
    kept: set[float] = set()
    for _ in range(20):
        history.mix(fakes, generator)
        kept |= set(history.pictures.flatten().tolist())
    assert kept >= {0.0, 1.0, 2.0, 3.0}


def test_history_is_part_of_the_state():
    history, other = PictureHistory(4, 3, 2, 2), PictureHistory(4, 3, 2, 2)
    history.mix(torch.rand(3, 3, 2, 2), torch.Generator())
    other.load_state_dict(history.state_dict())
    assert other.pictures.equal(history.pictures) and int(other.count) == 3
    fakes = torch.rand(4, 3, 2, 2)
    first, second = (one.mix(fakes, torch.Generator().manual_seed(1)) for one in (history, other))
    assert first.equal(second)


def test_fakes_are_constants_of_the_history():
    fakes = torch.rand(2, 3, 2, 2, requires_grad=True)
    assert not PictureHistory(4, 3, 2, 2).mix(fakes, torch.Generator()).requires_grad
    with pytest.raises(ValueError, match="size must be at least 1 picture, got 0"):
        PictureHistory(0, 3, 2, 2)
