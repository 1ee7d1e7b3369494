"""What a network must show when it is loaded: outputs of the right shape, the same twice, a gradient (METHODS 7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from facecore.perception.manifest import Manifest
from facecore.perception.networks import Network

REPEAT = 1e-5  # relative to the largest value: threads may add in another order, dropout changes far more
BATCH = 1e-3  # one picture alone or in a batch: other kernels, and bfloat16 inside a network; batch statistics differ


def probe_images(manifest: Manifest, count: int) -> torch.Tensor:
    """Smooth pictures [count, 3, *input_size] in [0, 1], always the same ones."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(count, 3, 8, 8, generator=generator)
    return torch.nn.functional.interpolate(coarse, manifest.input_size, mode="bilinear")


def run_checked(network: Network, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The outputs for images, whose shapes and values must be those of the role; ValueError that names the manifest."""
    manifest = network.manifest
    try:
        outputs = network(images)
    except (RuntimeError, TypeError, AttributeError, IndexError, KeyError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise ValueError(
            f"{manifest.path}: the network fails on pictures of {list(images.shape)} ({lines[-1][:160]}); "
            "check input_size and format"
        ) from error
    for name, value in outputs.items():
        expected, fits = _SHAPES[manifest.role, name]
        if not fits(value.shape, len(images), manifest):
            raise ValueError(
                f"{manifest.path}: the output {manifest.outputs[name]!r} cannot be {name}: it must have shape "
                f"{expected}, got {list(value.shape)}"
            )
        if not value.is_floating_point() or not torch.isfinite(value).all():
            raise ValueError(f"{manifest.path}: the output {manifest.outputs[name]!r} must be finite floating point")
    return outputs


def check_network(network: Network) -> None:
    """Runs a network on two pictures. Raises ValueError for wrong outputs, for results that differ from run to run or
    with the rest of the batch, and, for recognition, without a finite gradient to the picture."""
    manifest = network.manifest
    images = probe_images(manifest, 2)
    with torch.no_grad():
        first = run_checked(network, images[:1])
        _compare(manifest, first, run_checked(network, images[:1]), REPEAT, "gives other numbers when it is run again")
        run_checked(network, images[1:])
        if manifest.role != "recognition":
            return
        both = run_checked(network, images)
        _compare(manifest, first, {name: value[:1] for name, value in both.items()}, BATCH, "depends on its batch")
    for name in manifest.outputs:
        _check_gradient(network, images[:1], name)


@torch.enable_grad()  # also where a network is loaded within no_grad
def _check_gradient(network: Network, images: torch.Tensor, name: str) -> None:
    images = images.clone().requires_grad_()
    value = network(images)[name]
    problem = "none"
    if value.requires_grad:
        (gradient,) = torch.autograd.grad(value.square().sum(), images, allow_unused=True)
        if gradient is not None:
            if bool(torch.isfinite(gradient).all()) and bool(gradient.any()):
                return
            problem = "zero everywhere" if not bool(gradient.any()) else "not finite"
    raise ValueError(f"{network.manifest.path}: {name} must have a finite gradient to the picture, it is {problem}")


def _compare(
    manifest: Manifest,
    first: Mapping[str, torch.Tensor],
    second: Mapping[str, torch.Tensor],
    tolerance: float,
    problem: str,
) -> None:
    for name, value in first.items():
        other = second[name]
        limit = tolerance * float(value.abs().max()) if value.numel() else 0.0
        if other.shape != value.shape or float((other - value).abs().amax() if value.numel() else 0.0) > limit:
            raise ValueError(
                f"{manifest.path}: the network {problem} ({name}); save it in evaluation mode, without anything random"
            )


def _mask_fits(shape: torch.Size, count: int, manifest: Manifest) -> bool:
    channels = shape[1] if len(shape) == 4 else 1
    classes = max(manifest.face_classes, default=0)
    right = classes < channels if manifest.face_classes else channels == 1
    if len(shape) not in (3, 4) or shape[0] != count or not right or 0 in shape:
        return False
    vertical, horizontal = shape[-2] / manifest.input_size[0], shape[-1] / manifest.input_size[1]
    return abs(vertical / horizontal - 1) < 0.1  # a coarser picture, and not something of another shape


_SHAPES: dict[tuple[str, str], tuple[str, Callable[[torch.Size, int, Manifest], bool]]] = {
    ("landmarks", "points"): (
        "[N, 68, 2], [N, 68, 3] or [N, 136]",
        lambda s, n, _: tuple(s) in ((n, 68, 2), (n, 68, 3), (n, 136)),
    ),
    ("landmarks", "score"): ("[N] or [N, 1]", lambda s, n, _: tuple(s) in ((n,), (n, 1))),
    ("segmentation", "mask"): (
        "[N, H, W] or [N, 1, H, W], or [N, C, H, W] with C above every one of face_classes, H : W as input_size",
        _mask_fits,
    ),
    ("detector", "boxes"): ("[F, 4] or [1, F, 4]", lambda s, n, _: s[-1:] == (4,) and tuple(s[:-2]) in ((), (1,))),
    ("detector", "scores"): ("[F] or [1, F]", lambda s, n, _: len(s) == 1 or (len(s) == 2 and s[0] == 1)),
    ("detector", "points"): (
        "[F, 5, 2] or [1, F, 5, 2]",
        lambda s, n, _: s[-2:] == (5, 2) and tuple(s[:-3]) in ((), (1,)),
    ),
    ("recognition", "embed"): ("[N, d]", lambda s, n, _: len(s) == 2 and s[0] == n),
    ("recognition", "pooled"): ("[N, d]", lambda s, n, _: len(s) == 2 and s[0] == n),
}
