"""Toy perception networks: a "face" is a red square, and its landmarks are a drawing stretched to the square."""

from __future__ import annotations

import json
import pathlib
import struct
import warnings
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from torch import nn

from facecore.perception.manifest import file_hash

RED = (1.0, 0.0, 0.0)
SIZE = [64, 64]
ROLE_OUTPUTS: dict[str, dict[str, str | int]] = {
    "detector": {"boxes": "boxes", "scores": "scores"},
    "landmarks": {"points": 0},
    "segmentation": {"mask": 0},
    "recognition": {"embed": "embed", "pooled": "pooled"},
}


def drawing() -> torch.Tensor:
    """68 points float64 that fill the unit square: a contour, and rows for brows, nose, eyes and lips."""
    angle = torch.linspace(0, torch.pi, 17, dtype=torch.float64)
    contour = torch.stack((0.5 - 0.5 * angle.cos(), 0.2 + 0.8 * angle.sin()), 1)
    places = ((0.15, 0.85, 0.0, 10), (0.4, 0.6, 0.5, 9), (0.2, 0.8, 0.25, 12), (0.3, 0.7, 0.75, 20))
    rows = [
        torch.stack((torch.linspace(low, high, count), torch.full((count,), v)), 1).double()
        for low, high, v, count in places
    ]
    return torch.cat((contour, *rows))


def picture(height: int, width: int, *squares: tuple[int, int, int]) -> torch.Tensor:
    """Blue-grey with red squares (left, top, side)."""
    image = torch.full((3, height, width), 0.3)
    image[2] += torch.linspace(0, 0.2, width)
    for left, top, side in squares:
        image[:, top : top + side, left : left + side] = torch.tensor(RED)[:, None, None]
    return image


def landmarks_of(square: tuple[int, int, int]) -> torch.Tensor:
    """Where `locate` should find the points of a square."""
    left, top, side = square
    return drawing() * side + torch.tensor([left, top], dtype=torch.float64)


def red(images: torch.Tensor) -> torch.Tensor:
    return (images[:, 0] > 0.65) & (images[:, 1] < 0.25)


def detect(images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Boxes of the red squares; the score falls with the number in reading order."""
    labels, count = scipy.ndimage.label(red(images)[0].numpy())
    boxes = [
        [columns.start, rows.start, columns.stop, rows.stop] for rows, columns in scipy.ndimage.find_objects(labels)
    ]
    scores = [1.0 - 0.01 * i for i in range(count)]
    return {"boxes": torch.tensor(boxes, dtype=torch.float32).view(-1, 4), "scores": torch.tensor(scores)}


def locate(images: torch.Tensor) -> torch.Tensor:
    """The drawing in the red square in the middle, [1, 68, 2]."""
    labels, _ = scipy.ndimage.label(red(images)[0].numpy())
    middle = labels[labels.shape[0] // 2, labels.shape[1] // 2]
    if middle == 0:
        return torch.zeros(1, 68, 2)
    rows, columns = scipy.ndimage.find_objects(labels)[middle - 1]
    low = torch.tensor([columns.start, rows.start], dtype=torch.float32)
    high = torch.tensor([columns.stop, rows.stop], dtype=torch.float32)
    return (low + drawing().float() * (high - low))[None]


def segment(images: torch.Tensor) -> torch.Tensor:
    return red(images).float()


class Embedder(nn.Module):
    """A recognition network of a few weights; noise: in what it gives; batch: mixes the pictures of a batch."""

    def __init__(self, noise: float = 0.0, batch: bool = False, size: int = 4) -> None:
        super().__init__()
        self.noise, self.batch = noise, batch
        self.convolution = nn.Conv2d(3, size, 4, 4)
        self.linear = nn.Linear(size, 3)

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        pooled = self.convolution(images).relu().mean((2, 3))
        if self.batch:
            pooled = pooled - pooled.mean(0, keepdim=True) * 0.5
        embed = self.linear(pooled) + self.noise * torch.rand(1, 3)
        return {"embed": embed, "pooled": pooled}


class Points(nn.Module):
    """[N, 68, 2], from the mean colour."""

    def __init__(self, count: int = 68) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.linear = nn.Linear(3, 2 * count)
        self.count = count

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.linear(images.mean((2, 3))).view(-1, self.count, 2)


def write_manifest(path: pathlib.Path, role: str, format: str, file: str, /, **changes: Any) -> pathlib.Path:
    """A manifest for a file beside it (or for a function of this module), with the keys of `changes`."""
    source = pathlib.Path(__file__) if format == "callable" else path.parent / file
    content: dict[str, Any] = {
        "role": role,
        "format": format,
        "file": file,
        "sha256": file_hash(source) if source.is_file() else "0" * 64,
        "input_size": SIZE,
        "outputs": ROLE_OUTPUTS[role],
    }
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    return path


def write_toy_manifests(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Manifests of the three functions above, by role."""
    functions = {"detector": "detect", "landmarks": "locate", "segmentation": "segment"}
    return {
        role: write_manifest(folder / f"{role}.json", role, "callable", f"toy_perception:{name}", crop_factor=2.0)
        for role, name in functions.items()
    }


def write_torchscript(path: pathlib.Path, module: nn.Module) -> pathlib.Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch's own advice to exporters
        traced = torch.jit.trace(module.eval(), torch.rand(2, 3, *SIZE), strict=False, check_trace=False)
        traced.save(str(path))
    return path


# ---- ONNX, written by hand: a file of protocol-buffer fields (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _onnx_value(name: str, shape: list[int]) -> bytes:
    dims = b"".join(_field(1, _field(1, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, dims)))


def _onnx_tensor(name: str, array: np.ndarray) -> bytes:
    dims = b"".join(_field(1, size) for size in array.shape)
    return dims + _field(2, 1) + _field(8, name) + _field(9, struct.pack(f"<{array.size}f", *array.ravel().tolist()))


def write_onnx_points(path: pathlib.Path, points: Points) -> pathlib.Path:
    """`Points` as ONNX, for one picture: output `points` [1, 2 count]."""
    nodes = [
        (("image",), "mean", "GlobalAveragePool"),
        (("mean",), "flat", "Flatten"),
        (("flat", "weight"), "product", "MatMul"),
        (("product", "bias"), "points", "Add"),
    ]
    graph = b"".join(
        _field(1, b"".join(_field(1, name) for name in given) + _field(2, result) + _field(4, kind))
        for given, result, kind in nodes
    )
    weight, bias = points.linear.weight.detach().numpy().T, points.linear.bias.detach().numpy()
    graph += _field(2, "points")
    graph += _field(5, _onnx_tensor("weight", weight)) + _field(5, _onnx_tensor("bias", bias))
    graph += _field(11, _onnx_value("image", [1, 3, *SIZE])) + _field(12, _onnx_value("points", [1, 2 * points.count]))
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13)))
    return path
