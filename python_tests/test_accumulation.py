"""A batch in parts gives what the whole gives where nothing crosses the batch; no torchrun needed."""

from __future__ import annotations

import distributed_training
import pytest
import torch

from facecore.data import PhotoFolder, write_png
from facecore.morphable import load as load_model
from facecore.systems.semi_supervised_schedule import STAGES
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.training.distributed import Share


@pytest.fixture(scope="module")
def whole():
    return distributed_training.make(distributed_training.settings())


@pytest.fixture(scope="module")
def parts():
    return distributed_training.make(distributed_training.settings(accumulate=4))


def test_gradients_of_four_parts_are_the_whole_batchs(whole, parts):
    """1e-5 of each stage's gradient: 2e-6 at most was seen, the rounding of sums in another order.

    1e-3 of the texture's: one colour of one pixel may fall on the other side of a kink, which was 2e-4 on one machine.
    A part that is left out is a quarter.
    """
    expected, result = distributed_training.gradients(whole), distributed_training.gradients(parts)
    assert set(expected) == set(result)
    for stage in STAGES:
        names = [name for name in expected if name.startswith(stage)]
        a, b = (torch.cat([g[name].flatten() for name in names]) for g in (expected, result))
        assert float((b - a).norm() / a.norm()) < (1e-3 if stage == "texture" else 1e-5), stage


@pytest.mark.parametrize("stage", ["hybrid", "texture"])
def test_discriminators_and_centres_learn_from_the_whole_batch(whole, parts, stage):
    """A step of each: losses, the discriminators' gradients, the history and the centres do not show the parts."""
    iteration = whole.schedule.first(stage)
    expected, result = whole.step(iteration), parts.step(iteration)
    assert set(expected) == set(result) and any(name.endswith("critic") for name in result)
    for name, value in expected.items():
        torch.testing.assert_close(result[name], value, rtol=1e-3, atol=1e-6, msg=name)
    centers = [trainer.identity_loss.center.centers for trainer in (whole, parts)]
    torch.testing.assert_close(*centers, rtol=1e-4, atol=1e-6)
    adversary = "patches" if stage == "texture" else "system"
    pairs = zip(*(getattr(trainer, adversary).discriminator.parameters() for trainer in (whole, parts)))
    a, b = (torch.cat([p.grad.flatten() for p in side]) for side in zip(*pairs))
    assert float((b - a).norm() / a.norm()) < 1e-3  # stage C follows a step of Adam, which enlarges rounding
    histories = [trainer.patches.history for trainer in (whole, parts)]
    torch.testing.assert_close(histories[0].pictures, histories[1].pictures, rtol=0, atol=1e-3)
    assert int(histories[0].count) == int(histories[1].count) == (6 if stage == "texture" else 0)


def test_a_photograph_that_comes_again_is_the_same_in_every_share(tmp_path):
    """Three photographs for eight places: each comes again, in another share, too, augmented as in the whole."""
    for i in range(3):
        noise = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(i))
        write_png(tmp_path / f"{i}.png", noise)
    photos = PhotoFolder(tmp_path, height=32, width=32, assume_cropped=True)
    model = load_model("procedural", num_vertices=2500)
    objective = SemiSupervisedTrainer(distributed_training.settings(), model, photos).objective
    batch = objective._photos(3)
    images = batch.image.flatten(1)
    assert float((torch.cdist(images, images) + torch.eye(8)).min()) > 0.1  # no two are augmented alike
    shares = [objective._photos(3, Share(i, 4)) for i in range(4)]
    for field in ("image", "mask", "landmarks", "identity"):
        pieces = torch.cat([getattr(share, field) for share in shares])
        torch.testing.assert_close(pieces, getattr(batch, field), rtol=0, atol=1e-6)
