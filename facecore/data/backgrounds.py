"""Random backgrounds for rendered faces: gradients, noise, stripes, blocks, or parts of the user's photographs."""

from __future__ import annotations

import os
import pathlib

import torch
from torch.nn import functional

from facecore.data.enlarging import enlarged
from facecore.data.images import is_image_file, read_image
from facecore.render.affine import warp

GRIDS = (2, 3, 5, 9, 17, 33)  # knots per side of the noise at each scale
NUM_UNIFORM = 16 + 3 * sum(size * size for size in GRIDS)  # numbers that one background takes
PHOTO_SIZE = 160  # short side at which the user's photographs are kept


def draw_backgrounds(
    uniform: torch.Tensor, height: int, width: int, photographs: list[torch.Tensor] | None = None
) -> torch.Tensor:
    """Backgrounds [N, 3, height, width] in [0, 1] from uniform numbers [N, NUM_UNIFORM].

    With `photographs` ([3, H, W] uint8 each), half are random parts of them. Of the others 30 % are smooth gradients,
    40 % noise at several scales, 15 % stripes, 15 % blocks.
    """
    numbers, grids = uniform[:, :16], _grids(uniform[:, 16:])
    kind = torch.bucketize(numbers[:, 0].contiguous(), numbers.new_tensor([0.3, 0.7, 0.85]))
    result = uniform.new_empty(len(uniform), 3, height, width)
    for number, draw in enumerate((_gradient, _noise, _stripes, _blocks)):
        rows = (kind == number).nonzero()[:, 0]
        if len(rows):
            result[rows] = _muted(draw(numbers[rows], [grid[rows] for grid in grids], height, width), numbers[rows])
    for i in (numbers[:, 1] < 0.5).nonzero()[:, 0].tolist() if photographs else ():
        result[i] = _photo_part(numbers[i], photographs or [], height, width)
    return result


def load_backgrounds(folder: str | os.PathLike[str]) -> list[torch.Tensor]:
    """The photographs below a folder as uint8 [3, H, W] with a short side of 160 pixels, in the order of their paths.

    Raises ValueError if there is none, or for one that cannot be read.
    """
    paths = sorted(path for path in pathlib.Path(folder).rglob("*") if is_image_file(path))
    if not paths:
        raise ValueError(f"{folder} has no pictures for backgrounds; give a folder of JPEG or PNG files")
    photographs = []
    for path in paths:
        image = read_image(path)
        factor = PHOTO_SIZE / min(image.shape[1:])
        size = [max(round(side * factor), PHOTO_SIZE) for side in image.shape[1:]]
        small = functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        photographs.append((small.clamp(0, 1) * 255).round().to(torch.uint8))
    return photographs


def _grids(uniform: torch.Tensor) -> list[torch.Tensor]:
    parts = uniform.split([3 * size * size for size in GRIDS], dim=1)
    return [part.reshape(-1, 3, size, size) for part, size in zip(parts, GRIDS)]


def _gradient(numbers: torch.Tensor, grids: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    return enlarged(grids[0], height, width)


def _noise(numbers: torch.Tensor, grids: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    """A sum over scales with random amplitudes, from nearly smooth to rough."""
    amplitude = numbers[:, 2 : 2 + len(grids)] ** 2
    amplitude = amplitude / amplitude.sum(1, keepdim=True).clamp_min(1e-6)
    total = torch.zeros_like(grids[-1])
    for scale, grid in enumerate(grids):  # added up on the finest grid, enlarged once
        total += amplitude[:, scale, None, None, None] * (enlarged(grid, GRIDS[-1], GRIDS[-1]) - 0.5)
    return 0.5 + 1.6 * enlarged(total, height, width)


def _stripes(numbers: torch.Tensor, grids: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    """Two smooth colourings in bands of random width and direction."""
    along_v, along_u = torch.meshgrid(
        torch.arange(height, device=numbers.device) / height,
        torch.arange(width, device=numbers.device) / width,
        indexing="ij",
    )
    angle, frequency, phase = 3.1416 * numbers[:, 8], 2 + 18 * numbers[:, 9] ** 2, 6.2832 * numbers[:, 10]
    position = angle.cos()[:, None, None] * along_u + angle.sin()[:, None, None] * along_v
    wave = (6.2832 * frequency[:, None, None] * position + phase[:, None, None]).sin()[:, None]
    sharpness = 1 + 20 * numbers[:, 11, None, None, None]
    blend = (0.5 + sharpness * wave).clamp(0, 1)
    return torch.lerp(enlarged(grids[0], height, width), enlarged(grids[1], height, width), blend)


def _blocks(numbers: torch.Tensor, grids: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    """Patches of one colour, as walls, windows and shelves are, over a smooth one."""
    coarse, fine = (functional.interpolate(grid, (height, width), mode="nearest") for grid in grids[2:4])
    smooth = enlarged(grids[0], height, width)
    share = numbers[:, 8:10, None, None, None]
    return torch.lerp(torch.lerp(smooth, coarse, share[:, 0]), fine, 0.5 * share[:, 1])


def _muted(image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """Saturation, contrast and brightness drawn once more: most real backgrounds are dull."""
    saturation, contrast, shift = (numbers[:, k, None, None, None] for k in (12, 13, 14))
    grey = image.mean(1, keepdim=True)
    coloured = torch.lerp(grey, image, saturation)
    return ((coloured - 0.5) * (0.4 + 1.2 * contrast) + 0.5 + 0.6 * (shift - 0.5)).clamp(0, 1)


def _photo_part(numbers: torch.Tensor, photographs: list[torch.Tensor], height: int, width: int) -> torch.Tensor:
    """A random part of a random photograph, half to all of its short side wide, mirrored half of the time."""
    draw = numbers[2:8].double().cpu()
    photograph = photographs[min(int(draw[0] * len(photographs)), len(photographs) - 1)]
    rows, columns = photograph.shape[1:]
    scale = max(height / rows, width / columns) * (1 + float(draw[1]))  # crop pixels per photograph pixel
    room_u, room_v = columns - width / scale, rows - height / scale
    matrix = torch.tensor(
        [[scale, 0.0, -scale * room_u * float(draw[2])], [0.0, scale, -scale * room_v * float(draw[3])]]
    ).double()
    if draw[4] < 0.5:
        matrix[0] = torch.tensor([0.0, 0.0, width]).double() - matrix[0]
    return warp(photograph[None].to(numbers.device).float() / 255, matrix[None], height, width)[0].to(numbers.dtype)
