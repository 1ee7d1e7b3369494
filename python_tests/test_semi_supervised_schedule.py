"""Stages and learning rate by iteration."""

from __future__ import annotations

import pytest

from facecore.systems.semi_supervised_config import PRESETS, SemiSupervisedConfig
from facecore.systems.semi_supervised_schedule import Schedule
from facecore.training.config import overlay
from facecore.training.rates import FINAL_RATE, RAMP


def schedule(**stages: object) -> Schedule:
    counts = {"decoder_iterations": 100, "encoder_iterations": 200, "warmup_iterations": 10, "hybrid_iterations": 90}
    values = counts | {"texture_iterations": 50, "learning_rate": 1.0} | stages
    config: SemiSupervisedConfig = overlay(PRESETS["quick"], {"stages": values, "model": {"albedo_decoder": "both"}})
    return Schedule(config)


def test_stages_follow_each_other():
    plan = schedule()
    assert [plan.stage(i) for i in (0, 99, 100, 299, 300, 310, 399, 400, 449)] == [
        *("decoder", "decoder", "encoder", "encoder", "warmup", "hybrid", "hybrid", "texture", "texture")
    ]
    assert plan.total == 450 and plan.first("hybrid") == 310 and plan.count("texture") == 50
    with pytest.raises(ValueError, match="training ends after 450 iterations"):
        plan.stage(450)
    graph = Schedule(overlay(PRESETS["quick"], {"stages": {"texture_iterations": 50}}))
    assert graph.count("texture") == 0


def test_constant_rate_with_a_rise():
    """Stages A and B are one for the rate, C rises anew."""
    rate = schedule(schedule="constant", rise_steps=20).learning_rate
    assert [rate(i) for i in (300, 309, 319, 399)] == pytest.approx([0.05, 0.5, 1.0, 1.0])
    assert [rate(i) for i in (400, 419, 449)] == pytest.approx([0.05, 1.0, 1.0])
    assert schedule(schedule="constant").learning_rate(300) == 1.0


def test_heads_move_less_from_stage_a_on():
    plan = schedule(schedule="constant", head_rate=0.25)
    for iteration in (0, 99, 100, 299):
        assert plan.head_learning_rate(iteration) == plan.learning_rate(iteration)
    for iteration in (300, 310, 399):
        assert plan.head_learning_rate(iteration) == 0.25 * plan.learning_rate(iteration)


def test_cosine_ends_at_its_last_part():
    plan = schedule(schedule="cosine")
    rates = [plan.learning_rate(i) for i in range(300, 400)]
    assert rates[0] == 1.0 and rates == sorted(rates, reverse=True)
    assert rates[50] == pytest.approx((1 + FINAL_RATE) / 2) and rates[-1] < FINAL_RATE + 0.001
    assert plan.learning_rate(400) == 1.0 and plan.learning_rate(425) == pytest.approx((1 + FINAL_RATE) / 2)


def test_the_first_stages_have_rates_of_their_own():
    plan = schedule(decoder_learning_rate=2.0, encoder_learning_rate=3.0)
    assert plan.learning_rate(0) == pytest.approx(2.0 / RAMP) and plan.learning_rate(100) == pytest.approx(3.0 / RAMP)
    assert plan.learning_rate(200) == pytest.approx(3.0 * (1 + FINAL_RATE) / 2)
