"""Which reflectance each frame of a clip is drawn with, and the losses of conditional estimation."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tiny_clips import MODEL, make_conditional, two_clips

from facecore.data import LabelledRenders, RenderedPhotos
from facecore.evaluation.claims_conditional import counted_renders
from facecore.mesh import mirror_texture
from facecore.morphable import load as load_model
from facecore.systems.coefficient_metric import CoefficientMetric
from facecore.systems.conditional_estimation import ConditionalEstimation
from facecore.systems.conditional_estimation_config import ConditionalModelConfig, ConditionalWeights
from facecore.systems.conditional_estimation_losses import (
    ConditionalObjective,
    clips_of_one_frame,
    draw_partners,
    exchanged_photometric_loss,
    full_exchange,
    stochastic_exchange,
)
from facecore.training.config import overlay


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def frames(morphable):
    return two_clips(morphable)


def test_partners_are_other_frames_of_the_clip():
    clip = torch.tensor([0, 0, 0, 0, 1, 1, 2, -1, -1])
    counts = torch.zeros(9, 9)
    for iteration in range(300):
        partner = draw_partners(clip, 5, iteration)
        assert torch.equal(partner, draw_partners(clip, 5, iteration))
        counts[torch.arange(9), partner] += 1
    alone = [6, 7, 8]  # a clip of one frame, and two frames of no clip
    assert counts[alone, alone].tolist() == [300, 300, 300]
    assert not counts.diagonal()[:6].any() and counts[4, 5] == counts[5, 4] == 300
    # 100 each expected, standard deviation 8
    assert counts[:4, :4][~torch.eye(4, dtype=torch.bool)].sub(100).abs().max() < 41
    shifted = draw_partners(clip[2:], 5, 0, first=2)  # a frame's draw is keyed by its place in the whole batch
    assert shifted[2:4].tolist() == [3, 2]


def test_exchanges_of_the_constraints():
    partner = torch.tensor([1, 0, 2])

    def renders(*arguments: str) -> list[tuple[int, int, bool]]:
        return list(zip(*(part.tolist() for part in stochastic_exchange(partner, *arguments))))

    straight, other = [(0, 0), (1, 1), (2, 2)], [(0, 1), (1, 0), (2, 2)]
    assert renders() == [(*p, False) for p in other] + [(*p, True) for p in straight]
    assert renders("both", "j") == [(*p, False) for p in other] + [(*p, True) for p in other]
    assert renders("consistency") == [(*p, False) for p in other]
    assert renders("symmetry") == [(*p, False) for p in straight] + [(*p, True) for p in straight]
    assert renders("none") == [(*p, False) for p in straight]
    with pytest.raises(ValueError, match="got 'neither' and 'i'"):
        stochastic_exchange(partner, "neither")
    everything = full_exchange(torch.tensor([4, -1, 4]))
    pairs = [(0, 0), (0, 2), (1, 1), (2, 0), (2, 2)]
    assert list(zip(*(part.tolist() for part in everything))) == [
        (*pair, mirrored) for mirrored in (False, True) for pair in pairs
    ]


@pytest.mark.parametrize("count", [2, 4, 8, 16])
def test_renders_of_a_step_grow_linearly(morphable, count):
    """METHODS 5: 2 N renders of one clip of N frames, instead of 2 N^2; counted at the renderer."""
    system = make_conditional(morphable)
    clip = torch.zeros(count, dtype=torch.int64)
    frames = RenderedPhotos(morphable, 32, 32, persons=1, pictures=count).batch(torch.arange(count))
    objective = ConditionalObjective(ConditionalWeights(), system)
    expected = {"stochastic": 2 * count, "full": 2 * count**2}
    for name, exchange in (
        ("stochastic", stochastic_exchange(draw_partners(clip, 0, 0))),
        ("full", full_exchange(clip)),
    ):
        with torch.no_grad(), counted_renders(system.renderer) as drawn:
            objective(frames, exchange)
        assert drawn.pictures == expected[name] == len(exchange.frame)


def test_photometric_loss_by_hand(morphable, frames):
    """L_ph of METHODS 5, eq. 8, frame by frame."""
    system = make_conditional(morphable)
    partner = draw_partners(frames.identity, 0, 0)
    with torch.no_grad():
        estimate = system(frames.image)
        loss = exchanged_photometric_loss(system, estimate, frames.image, frames.mask, stochastic_exchange(partner))
        total = 0.0
        for i, j in enumerate(partner.tolist()):
            for reflectance in (estimate.reflectance[j], mirror_texture(estimate.reflectance[i])):
                swapped = dataclasses.replace(estimate, reflectance=reflectance.expand(8, -1, -1, -1))
                rendering = system.render(swapped)
                region = (rendering.alpha[i] * frames.mask[i]) > 0
                total += float((rendering.image[i] - frames.image[i]).abs()[:, region].mean())
    torch.testing.assert_close(loss, torch.tensor(total / 8))


def test_the_stochastic_exchange_estimates_the_full_one(morphable, frames):
    """Over all partners: j = i counts in eq. 7 alone, so the two differ by no more than that share of the terms."""
    system = make_conditional(morphable)
    images, masks, clip = frames.image, frames.mask, frames.identity
    with torch.no_grad():
        estimate = system(images)

        def loss(exchange):
            return float(exchanged_photometric_loss(system, estimate, images, masks, exchange))

        own = torch.arange(8)
        others = [own - own % 4 + (own + step) % 4 for step in (1, 2, 3)]
        plain = [loss(stochastic_exchange(other, "consistency")) for other in others]
        mirrored = [loss(stochastic_exchange(other, "both", "j")) - p for other, p in zip(others, plain)]
        alone = loss(stochastic_exchange(own, "symmetry"))
        expected = (sum(plain) + sum(mirrored) + alone) / 4
        # sums of float32 errors in another order
        assert math.isclose(loss(full_exchange(clip)), expected, rel_tol=1e-5)


def test_clips_of_one_frame():
    assert clips_of_one_frame(torch.tensor([0, 1, 2, -1]), 4)
    assert clips_of_one_frame(torch.tensor([-1, -1]), 4)
    assert clips_of_one_frame(torch.tensor([0, 0, 1]), 1)
    assert not clips_of_one_frame(torch.tensor([0, 0, 1]), 2)


def test_regularisation_sums_where_told(morphable, frames):
    system = make_conditional(morphable)
    with torch.no_grad():
        mean, total = (
            ConditionalObjective(ConditionalWeights(photometric=0, reg_reduction=reduction), system)(frames, None)
            for reduction in ("mean", "sum")
        )
    count = system.identity_size + system.expression_size
    torch.testing.assert_close(total["regularisation"], count * mean["regularisation"])
    assert "photometric" not in mean
    with pytest.raises(ValueError, match="exchange must be given"):
        ConditionalObjective(ConditionalWeights(), system)(frames, None)


def test_labelled_terms_by_hand(morphable):
    """Of the mean face, looking straight ahead, which an untrained system gives."""
    torch.manual_seed(0)
    system = ConditionalEstimation(overlay(ConditionalModelConfig(), MODEL), morphable).eval()
    batch = LabelledRenders(morphable, 32, 32).batch(torch.arange(3))
    with torch.no_grad():
        terms = ConditionalObjective(ConditionalWeights(), system)(batch, None)
    metric, prior = CoefficientMetric(morphable), morphable.prior
    known = [prior.whiten(part, getattr(batch, part)) for part in ("identity", "expression")]
    torch.testing.assert_close(terms["labelled_shape"], metric.shape_error(torch.cat(known, 1)).mean())
    torch.testing.assert_close(terms["labelled_pose"], batch.pose.square().sum(1).mean())
    torch.testing.assert_close(terms["total"], terms["labelled_shape"] + terms["labelled_pose"])
