"""facecore.training.adam against torch's plain loop."""

from __future__ import annotations

import copy

import pytest
import torch

from facecore.training.adam import Adam

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def parameter_with_gradient(of_parameter, of_gradient, *shape):
    generator = torch.Generator().manual_seed(len(shape))
    parameter = torch.nn.Parameter(torch.randn(shape, generator=generator).to(memory_format=of_parameter))
    gradient = torch.randn(shape, generator=generator)
    return parameter, gradient.to(memory_format=of_gradient)


@pytest.mark.parametrize("of_gradient", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("of_parameter", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("shape", [(8, 6, 3, 3), (8, 6, 1, 1), (8, 1, 3, 5), (1, 4, 2, 2)])
def test_steps_are_right_for_every_layout(of_parameter, of_gradient, shape):
    mine, gradient = parameter_with_gradient(of_parameter, of_gradient, *shape)
    plain = torch.nn.Parameter(mine.detach().clone(memory_format=torch.contiguous_format))
    optimizers = [Adam([mine], lr=0.1), torch.optim.Adam([plain], lr=0.1, foreach=False)]
    for scale in (1.0, -0.3, 2.0):
        mine.grad, plain.grad = scale * gradient, scale * gradient.contiguous()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(mine.detach(), plain.detach(), rtol=1e-5, atol=1e-6)  # float32, three steps of 0.1
    assert mine.stride() == torch.empty(shape).to(memory_format=of_parameter).stride()


@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (2, 3, 4)])
def test_other_numbers_of_dimensions(shape):
    mine, gradient = parameter_with_gradient(torch.contiguous_format, torch.contiguous_format, *shape)
    plain = torch.nn.Parameter(mine.detach().clone())
    mine.grad, plain.grad = gradient, gradient.clone()
    Adam([mine], lr=0.1).step()
    torch.optim.Adam([plain], lr=0.1, foreach=False).step()
    torch.testing.assert_close(mine.detach(), plain.detach())


@pytest.mark.parametrize("largest", [0.5, 1e6])
def test_clipped_step_is_clipping_and_a_step(largest):
    ours = [parameter_with_gradient(torch.channels_last, torch.channels_last, 6, 4, 3, 3) for _ in range(2)]
    theirs = [(torch.nn.Parameter(p.detach().clone()), g.clone()) for p, g in ours]
    optimizer = Adam([p for p, _ in ours], lr=0.1)
    other = torch.optim.Adam([p for p, _ in theirs], lr=0.1, foreach=False)
    for scale in (1.0, 0.1, 3.0):
        for parameter, gradient in (*ours, *theirs):
            parameter.grad = scale * gradient
        norm = torch.nn.utils.get_total_norm([p.grad for p, _ in ours])
        optimizer.clipped_step(norm, largest)
        assert not hasattr(optimizer, "grad_scale")  # a plain step afterwards is a plain step
        torch.nn.utils.clip_grad_norm_([p for p, _ in theirs], largest)
        other.step()
    for (mine, _), (plain, _) in zip(ours, theirs):
        torch.testing.assert_close(mine.detach(), plain.detach(), rtol=1e-4, atol=1e-5)  # clipping adds 1e-6 to norm


def test_clipped_step_in_double_precision():
    mine = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    mine.grad = torch.tensor([3.0, 4.0], dtype=torch.float64)
    plain = torch.nn.Parameter(mine.detach().clone())
    plain.grad = mine.grad / 5
    Adam([mine], lr=0.1).clipped_step(mine.grad.norm(), 1.0)
    torch.optim.Adam([plain], lr=0.1).step()
    torch.testing.assert_close(mine, plain)


def test_moments_of_another_layout_are_laid_out_anew():
    """A state that was saved contiguous, in a model whose convolutions are channels-last."""
    mine, gradient = parameter_with_gradient(torch.channels_last, torch.channels_last, 4, 3, 2, 2)
    plain = torch.nn.Parameter(mine.detach().clone(memory_format=torch.contiguous_format))
    other = torch.optim.Adam([plain], lr=0.1, foreach=False)
    plain.grad = gradient.contiguous()
    other.step()
    with torch.no_grad():
        mine.copy_(plain)
    optimizer = Adam([mine], lr=0.1)
    saved = copy.deepcopy(other.state_dict())
    optimizer.load_state_dict(saved | {"param_groups": optimizer.state_dict()["param_groups"]})
    mine.grad, plain.grad = -0.5 * gradient, -0.5 * gradient.contiguous()
    optimizer.step()
    other.step()
    torch.testing.assert_close(mine.detach(), plain.detach(), rtol=1e-5, atol=1e-6)
    assert optimizer.state[mine]["exp_avg"].stride() == mine.stride()


def test_a_parameter_with_gaps_is_refused():
    parameter = torch.nn.Parameter(torch.zeros(4, 6)[:, ::2])
    parameter.grad = torch.ones(4, 3)
    with pytest.raises(ValueError, match=r"must be dense in memory, got strides \(6, 2\)"):
        Adam([parameter]).step()


def test_no_gradient_is_copied_that_lies_as_its_parameter():
    parameter, gradient = parameter_with_gradient(torch.channels_last, torch.channels_last, 64, 32, 3, 3)
    parameter.grad = gradient
    optimizer = Adam([parameter])
    optimizer.step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
        optimizer.step()
    assert "aten::clone" not in {event.key for event in profiler.key_averages()}


def test_states_are_those_of_torch():
    """A checkpoint of either serves the other."""
    parameter, gradient = parameter_with_gradient(torch.channels_last, torch.channels_last, 6, 4, 3, 3)
    parameter.grad = gradient
    optimizer, other = Adam([parameter], lr=0.1), torch.optim.Adam([parameter], lr=0.1, fused=True)
    optimizer.step()
    other.load_state_dict(optimizer.state_dict())
    assert set(other.state[parameter]) == {"step", "exp_avg", "exp_avg_sq"}
    torch.testing.assert_close(other.state[parameter]["exp_avg"], 0.1 * gradient)
