"""What a network is refused for when it is loaded."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from toy_perception import SIZE, Embedder, Points, write_manifest, write_onnx_points, write_torchscript

from facecore.perception import IdentityNetwork, NetworkDetector, NetworkLandmarks, NetworkSegmenter, read_manifest

ROLES = {
    "detector": NetworkDetector,
    "landmarks": NetworkLandmarks,
    "segmentation": NetworkSegmenter,
    "recognition": IdentityNetwork,
}


def load(folder, role: str, module: nn.Module, **changes):
    write_torchscript(folder / "net.pt", module)
    return ROLES[role](read_manifest(write_manifest(folder / "m.json", role, "torchscript", "net.pt", **changes)))


class Constant(nn.Module):
    """Gives zeros of one shape; the first dimension is the batch where it is None."""

    def __init__(self, *shape: int | None, value: float = 0.0) -> None:
        super().__init__()
        self.shape, self.value = shape, value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        shape = [images.shape[0] if size is None else size for size in self.shape]
        return torch.full(shape, self.value)


def test_right_networks_pass(tmp_path):
    load(tmp_path, "recognition", Embedder())
    load(tmp_path, "landmarks", Points())
    load(tmp_path, "segmentation", Constant(None, 19, 8, 8), face_classes=[1, 18])
    load(tmp_path, "segmentation", Constant(None, 8, 8))


FLAT = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 136))
WRONG_SHAPES = {
    "five points": ("landmarks", Points(5), {}, r"cannot be points: it must have shape \[N, 68, 2\].*got \[1, 5, 2\]"),
    "points as mask": ("segmentation", Points(), {}, r"cannot be mask: it must have shape \[N, H, W\]"),
    "too few classes": ("segmentation", Constant(None, 3, 8, 8), {"face_classes": [3]}, "cannot be mask"),
    "classes not named": ("segmentation", Constant(None, 3, 8, 8), {}, "cannot be mask"),
    "mask as embedding": (
        "recognition",
        Constant(None, 8, 8),
        {"outputs": {"embed": 0}},
        r"cannot be embed: it must have shape \[N, d\]",
    ),
    "boxes of five numbers": (
        "detector",
        Constant(4, 5),
        {"outputs": {"boxes": 0, "scores": 0}},
        r"cannot be boxes: it must have shape \[F, 4\]",
    ),
    "NaN": ("landmarks", Constant(None, 68, 2, value=float("nan")), {}, "must be finite floating point"),
    "another size": ("landmarks", FLAT, {"input_size": [32, 32]}, "fails on pictures of"),
}


@pytest.mark.parametrize("case", WRONG_SHAPES)
def test_wrong_outputs_are_refused_at_load(tmp_path, case):
    role, module, changes, message = WRONG_SHAPES[case]
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, role, module, **changes)
    assert str(tmp_path / "m.json") in str(error.value) and "\n" not in str(error.value)


def test_wrong_outputs_of_onnx_are_refused_at_load(tmp_path):
    pytest.importorskip("onnxruntime")
    for count in (68, 5):
        write_onnx_points(tmp_path / "p.onnx", Points(count))
        path = write_manifest(tmp_path / "m.json", "landmarks", "onnx", "p.onnx", outputs={"points": "points"})
        if count == 68:
            assert NetworkLandmarks(read_manifest(path)).locate(torch.rand(3, *SIZE)).points.shape == (68, 2)
            continue
        with pytest.raises(ValueError, match=r"cannot be points.*got \[1, 10\]"):
            NetworkLandmarks(read_manifest(path))


def test_networks_that_are_not_functions_of_the_picture_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"other numbers when it is run again \(embed\); save it in evaluation mode"):
        load(tmp_path, "recognition", Embedder(noise=0.1))
    with pytest.raises(ValueError, match="depends on its batch"):
        load(tmp_path, "recognition", Embedder(batch=True))


def test_recognition_needs_a_gradient(tmp_path):
    with pytest.raises(ValueError, match="embed must have a finite gradient to the picture, it is none"):
        load(tmp_path, "recognition", Constant(None, 3, value=1.0), outputs={"embed": 0})

    class Stepped(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)).round() + 0 * images.mean((2, 3))

    class Rooted(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (images.mean((2, 3)) * 0).sqrt() + 1

    with pytest.raises(ValueError, match="it is zero everywhere"):
        load(tmp_path, "recognition", Stepped(), outputs={"embed": 0})
    with pytest.raises(ValueError, match="it is not finite"):
        load(tmp_path, "recognition", Rooted(), outputs={"embed": 0})


def test_a_network_may_be_loaded_where_no_gradient_is_wanted(tmp_path):
    with torch.no_grad():
        load(tmp_path, "recognition", Embedder())


def test_a_network_for_another_role_is_refused(tmp_path):
    write_torchscript(tmp_path / "net.pt", Points())
    manifest = read_manifest(write_manifest(tmp_path / "m.json", "landmarks", "torchscript", "net.pt"))
    for role, kind in ROLES.items():
        if role != "landmarks":
            with pytest.raises(ValueError, match=f"describes a network for landmarks; one for {role} is needed"):
                kind(manifest)
