"""torch.autocast around the losses: half precision is taken as float32, gradients in the dtype of the arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import scipy.sparse
import torch

from facecore import losses
from facecore.structures import SparseMatrix

HALVES = [torch.bfloat16, torch.float16]
MODULES = {"Loss", "CenterLoss"}
NO_GRADIENT = {"skin_attention", "skin_mask"}
MEANS_OF_SCORES = {"patch_adversarial_loss", "wgan_div_generator_loss", "wgan_div_loss"}  # of any dtype


class Case(NamedTuple):
    """call(*differentiable, **constants): float32 tensors, whose numbers both half precisions hold."""

    call: Callable[..., torch.Tensor]
    differentiable: tuple[torch.Tensor, ...]
    constants: Mapping[str, Any] = MappingProxyType({})


def numbers(*shape: int) -> torch.Tensor:
    """Multiples of 1/64 in (0, 1)."""
    return torch.randint(1, 64, shape, generator=torch.Generator().manual_seed(sum(shape))) / 64


def critic(samples: torch.Tensor) -> torch.Tensor:
    return (samples * samples).sum(1)


def wgan_critic_loss(real: torch.Tensor, fake: torch.Tensor, mix: torch.Tensor) -> torch.Tensor:
    return losses.wgan_div_critic_loss(critic, real, fake, mix=mix)


def wgan_loss(fake: torch.Tensor) -> torch.Tensor:
    return losses.wgan_div_loss(critic, fake)


def make_cases() -> dict[str, Case]:
    """One for each public function of facecore.losses."""
    pictures = (numbers(2, 3, 4, 6), numbers(2, 3, 4, 6).flip(3))
    weights, valid = numbers(2, 4, 6), numbers(2, 4, 6) > 0.3
    shapes, codes = (numbers(2, 5, 3), numbers(2, 5, 3).flip(1)), numbers(4, 7)
    labels, mirror = torch.tensor([0, 2, -1, 2]), torch.tensor([1, 0, 2, 4, 3])
    matrix = SparseMatrix.from_scipy(scipy.sparse.random(5, 5, 0.5, random_state=2).tocsr(), dtype=torch.float32)
    marks, image = (numbers(2, 68, 2), numbers(2, 68, 2).flip(1)), pictures[:1]
    return {
        "batch_distribution_loss": Case(losses.batch_distribution_loss, (codes,)),
        "center_loss": Case(losses.center_loss, (codes,), {"labels": labels, "centers": numbers(3, 7)}),
        "coefficient_loss": Case(losses.coefficient_loss, (codes, numbers(7), numbers(7).flip(0))),
        "flattening_loss": Case(losses.flattening_loss, shapes[:1], {"region": numbers(5)}),
        "gradient_difference_loss": Case(losses.gradient_difference_loss, pictures, {"mask": weights}),
        "identification_loss": Case(losses.identification_loss, (codes,), {"labels": labels}),
        "identity_loss": Case(losses.identity_loss, (codes, codes.flip(1))),
        "landmark_loss": Case(losses.landmark_loss, marks, {"weight": numbers(2, 68)}),
        "landmark_structure_loss": Case(losses.landmark_structure_loss, marks, {"weight": numbers(2, 68)}),
        "patch_adversarial_loss": Case(losses.patch_adversarial_loss, (numbers(2, 2, 3, 3),), {"real": True}),
        "photometric_loss": Case(losses.photometric_loss, pictures, {"mask": valid, "attention": weights}),
        "reconstruction_loss": Case(losses.reconstruction_loss, pictures, {"mask": valid, "coverage": weights}),
        "shape_loss": Case(losses.shape_loss, shapes, {"scale": numbers(5, 3)}),
        "skin_attention": Case(losses.skin_attention, image),
        "skin_mask": Case(losses.skin_mask, image),
        "skin_probability": Case(losses.skin_probability, image),
        "smoothness_loss": Case(losses.smoothness_loss, shapes[:1], {"random_walk_laplacian": matrix}),
        "softmax_identification_loss": Case(
            losses.softmax_identification_loss, (codes,), {"labels": labels, "margin": 0.25, "scale": 2.0}
        ),
        "symmetry_loss": Case(losses.symmetry_loss, shapes[:1], {"mirror_map": mirror}),
        "texture_symmetry_loss": Case(losses.texture_symmetry_loss, image, {"valid": valid}),
        "wgan_div_critic_loss": Case(wgan_critic_loss, (), {"real": codes, "fake": codes.flip(1), "mix": numbers(4)}),
        "wgan_div_generator_loss": Case(losses.wgan_div_generator_loss, (codes[0],)),
        "wgan_div_loss": Case(wgan_loss, (codes,)),
    }


CASES = make_cases()
OTHER_FORMS = {  # of functions that take another way for other arguments
    "symmetry_loss by a matrix": CASES["symmetry_loss"]._replace(
        constants={"mirror_map": CASES["smoothness_loss"].constants["random_walk_laplacian"]}
    ),
    "CenterLoss": Case(losses.CenterLoss(3, 7), (numbers(4, 7),), {"labels": torch.tensor([0, 2, -1, 2])}),
}


def moved(value: Any, device: torch.device, half: torch.dtype | None = None) -> Any:
    if isinstance(value, SparseMatrix):
        return value.to(device)
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(device, half if half is not None and value.is_floating_point() else None)


def value_and_gradients(
    call: Callable[..., torch.Tensor], differentiable: list[torch.Tensor], constants: dict[str, Any]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    leaves = [tensor.detach().requires_grad_() for tensor in differentiable]
    value = call(*leaves, **constants)
    if not leaves or not value.requires_grad:
        return value, []
    return value, list(torch.autograd.grad(value.square().sum(), leaves))


def check_as_in_float32(
    case: Case, device: torch.device, dtypes: list[torch.dtype], constants: dict[str, Any], autocast: torch.dtype
) -> int:
    """Compares the loss under autocast, of arguments of these dtypes, with it in float32; how many gradients it has."""
    full = [tensor.to(device) for tensor in case.differentiable]
    full_constants = {name: moved(value, device) for name, value in case.constants.items()}
    call = case.call.to(device) if isinstance(case.call, torch.nn.Module) else case.call
    expected, wanted = value_and_gradients(call, full, full_constants)
    with torch.autocast(device.type, autocast):
        got, gradients = value_and_gradients(call, [t.to(d) for t, d in zip(full, dtypes, strict=True)], constants)
    assert got.dtype == expected.dtype and torch.equal(got, expected)  # the same float32 numbers go into the same code
    assert [gradient.dtype for gradient in gradients] == dtypes[: len(wanted)]
    for gradient, want, dtype in zip(gradients, wanted, dtypes):
        assert torch.equal(gradient, want.to(dtype)) and gradient.any()
    return len(wanted)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("name", [*CASES, *OTHER_FORMS])
def test_half_precision_is_taken_as_float32(device, name, half):
    case = (CASES | OTHER_FORMS)[name]
    constants = {key: moved(value, device, half) for key, value in case.constants.items()}
    count = check_as_in_float32(case, device, [half] * len(case.differentiable), constants, half)
    assert count == (0 if name in NO_GRADIENT else len(case.differentiable))


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if len(case.differentiable) > 1])
def test_half_precision_beside_float32(device, name):
    """As a network's result under autocast beside a photograph, or the other way round."""
    case = CASES[name]
    constants = {key: moved(value, device) for key, value in case.constants.items()}
    for place in range(len(case.differentiable)):
        dtypes = [torch.bfloat16 if i == place else torch.float32 for i in range(len(case.differentiable))]
        check_as_in_float32(case, device, dtypes, constants, torch.bfloat16)


@pytest.mark.parametrize("name", sorted(set(CASES) - MEANS_OF_SCORES))
def test_without_autocast_half_precision_is_refused_on_the_cpu(name):
    case = CASES[name]
    constants = {key: moved(value, torch.device("cpu"), torch.bfloat16) for key, value in case.constants.items()}
    with (
        torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_available()),  # of another device
        pytest.raises(ValueError, match=r"dtype|must both be float32 or float64"),
    ):
        case.call(*(tensor.bfloat16() for tensor in case.differentiable), **constants)


@pytest.mark.parametrize("name", ["reconstruction_loss", "coefficient_loss", "smoothness_loss"])
def test_one_graph_under_autocast_and_without(device, name):
    """What is compiled without autocast must not be taken under it, nor the other way round."""
    torch._dynamo.reset()
    case = CASES[name]._replace(call=torch.compile(CASES[name].call, fullgraph=True, backend="aot_eager"))
    constants = {key: moved(value, device) for key, value in case.constants.items()}
    for dtype in (torch.float32, torch.bfloat16, torch.float32):
        assert check_as_in_float32(case, device, [dtype] * len(case.differentiable), constants, torch.bfloat16)


def test_centers_move_by_codes_of_half_precision(device):
    codes, labels = CASES["center_loss"].differentiable[0].to(device), torch.tensor([0, 2, -1, 2], device=device)
    full, half = (losses.CenterLoss(3, 7).to(device) for _ in range(2))
    full.update(codes, labels)
    with torch.autocast(device.type, torch.bfloat16):
        half.update(codes.bfloat16(), labels)
    assert half.centers.any() and torch.equal(half.centers, full.centers)


def test_every_loss_is_here():
    assert set(CASES) == set(losses.__all__) - MODULES
