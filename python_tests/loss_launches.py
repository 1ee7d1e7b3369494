"""What one training step launches of each loss's Triton kernels, for the tests that compile them without a GPU."""

from __future__ import annotations

from collections.abc import Callable

import torch

from facecore.losses import _triton
from facecore.losses._triton import Launch

# Uninitialised tensors on the CPU, of the sizes of a real batch: enough to compile from.
IMAGES, VERTICES, PICTURE, TEXTURE = 8, 37249, (224, 224), (256, 256)


def shape(dtype: torch.dtype, exact: torch.dtype) -> list[Launch]:
    from facecore.losses import _shape_triton as kernels

    predicted, target = torch.empty(2, IMAGES, VERTICES, 3, dtype=dtype)
    weight, value, options = torch.empty(VERTICES, 3, dtype=exact), torch.empty((), dtype=exact), (True, 0.5)
    grads = (torch.empty_like(predicted), torch.empty_like(target))
    return [
        *kernels.value_launches(predicted, target, weight, options, value),
        *kernels.gradient_launches(value, predicted, target, None, (False, 0.5), grads),
    ]


def smoothness(dtype: torch.dtype, exact: torch.dtype) -> list[Launch]:
    from facecore.losses import _smoothness_triton as kernels

    x, value = torch.empty(IMAGES, VERTICES, 3, dtype=dtype), torch.empty((), dtype=exact)
    nonzeros = 7 * VERTICES
    starts, columns = torch.empty(VERTICES + 1, dtype=torch.int32), torch.empty(nonzeros, dtype=torch.int32)
    matrix = (starts, columns, torch.empty(nonzeros, dtype=exact))
    signs = torch.empty(2, VERTICES, 16, dtype=torch.int8)
    return [
        *kernels.value_launches(x, matrix, (1.0, -1.0, 0.5), value, signs),
        *kernels.gradient_launches(value, signs, matrix, (0.0, 1.0, 0.5), torch.empty_like(x)),
    ]


def symmetry(dtype: torch.dtype, exact: torch.dtype) -> list[Launch]:
    from facecore.losses import _symmetry_triton as kernels

    albedo, value = torch.empty(IMAGES, VERTICES, 3, dtype=dtype), torch.empty((), dtype=exact)
    mirror = torch.empty(VERTICES, dtype=torch.int64)
    return [
        *kernels.value_launches(albedo, mirror, 0.5, value),
        *kernels.gradient_launches(value, albedo, mirror, 0.5, torch.empty_like(albedo)),
    ]


def texture_symmetry(dtype: torch.dtype, exact: torch.dtype) -> list[Launch]:
    from facecore.losses import _texture_symmetry_triton as kernels

    texture, value = torch.empty(IMAGES, 3, *TEXTURE, dtype=dtype), torch.empty((), dtype=exact)
    valid, scales = torch.empty(TEXTURE, dtype=torch.bool), torch.empty(IMAGES, dtype=exact)
    return [
        *kernels.value_launches(texture, valid, value, scales),
        *kernels.gradient_launches(value, texture, valid, scales, torch.empty_like(texture)),
    ]


def flattening(dtype: torch.dtype, exact: torch.dtype) -> list[Launch]:
    from facecore.losses import _flattening_triton as kernels

    albedo, value = torch.empty(IMAGES, VERTICES, 3, dtype=dtype), torch.empty((), dtype=exact)
    region, centers = torch.empty(VERTICES, dtype=torch.bool), torch.empty(IMAGES, 3, dtype=exact)
    return [
        *kernels.value_launches(albedo, region, value, centers),
        *kernels.gradient_launches(value, albedo, region, centers, torch.empty_like(albedo)),
    ]


def landmark(dtype: torch.dtype, exact: torch.dtype) -> list[Launch]:
    from facecore.losses import _landmark_triton as kernels

    predicted, target = torch.empty(2, IMAGES, 68, 2, dtype=dtype)
    weight, pairs = torch.empty(IMAGES, 68, dtype=dtype), torch.empty(68, 68, dtype=exact)
    gradient = torch.empty(2, IMAGES, 68, 2, dtype=exact)
    return kernels.value_launches(predicted, target, weight, pairs, torch.empty((), dtype=exact), gradient)


def skin(dtype: torch.dtype, exact: torch.dtype) -> list[Launch]:
    from facecore.losses import _skin_triton as kernels

    image, gaussians = torch.empty(IMAGES, 3, *PICTURE, dtype=dtype), torch.empty(8, 13, dtype=exact)
    probability = torch.empty(IMAGES, *PICTURE, dtype=exact)
    return [
        *kernels.value_launches(image, gaussians, probability),
        *kernels.gradient_launches(probability, image, gaussians, torch.empty_like(image)),
    ]


LAUNCHES: dict[str, Callable[[torch.dtype, torch.dtype], list[Launch]]] = {
    "flattening": flattening,
    "landmark": landmark,
    "shape": shape,
    "skin": skin,
    "smoothness": smoothness,
    "symmetry": symmetry,
    "texture_symmetry": texture_symmetry,
}


def of_step(loss: str, dtype: torch.dtype) -> list[Launch]:
    """All launches of a loss's forward and backward pass, but the shared one that adds the parts up."""
    launches = LAUNCHES[loss](dtype, _triton.sum_dtype(dtype))
    return [launch for launch in launches if launch.kernel.__name__ != "_finish_total"]
