"""The recognition network as losses and encoders use it: aligned by landmarks, frozen, differentiable (METHODS 7)."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from typing import Any

import torch
from torch import nn

from facecore.nn.recognition import RecognitionFeatures
from facecore.perception.checks import check_network
from facecore.perception.manifest import RENDERS, Manifest, manifest_of, read_manifest
from facecore.perception.networks import Network, load_network, unfilled_network
from facecore.render.affine import warp

ALIGNED_SIZE = 112
# Left and right eye (in the picture), nose tip, left and right mouth corner in an aligned face of 112 x 112 pixels
# (METHODS 1.10: the positions for 96 x 112, x moved by 8).
ALIGNED_POINTS = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


def alignment(five_points: torch.Tensor) -> torch.Tensor:
    """The similarity [N, 2, 3] that brings five points [N, 5, 2] of pictures closest to those of an aligned face.

    Continuous pixels to continuous pixels; least squares over scale, turn and shift, without mirroring. float32 or
    float64; differentiable. Raises ValueError for another shape and, on the CPU, for points that fall together (on a
    GPU the host would have to wait for the answer: there the map is not finite).
    """
    if five_points.ndim != 3 or five_points.shape[1:] != (5, 2):
        raise ValueError(f"five_points must have shape [N, 5, 2], got {list(five_points.shape)}")
    goal = _aligned_points(five_points.device, five_points.dtype)
    goal_mean, mean = goal.mean(0), five_points.mean(1, keepdim=True)
    source, goal = five_points - mean, goal - goal_mean
    size = source.square().sum((1, 2))
    if not size.is_cuda and (bool((size <= 0).any()) or not bool(torch.isfinite(size).all())):
        raise ValueError("five_points must be finite and not all at one place")
    # as complex numbers, goal = factor * source; factor = sum(conj(source) goal) / sum |source|^2
    real = (source * goal).sum((1, 2)) / size
    imaginary = (source[..., 0] * goal[:, 1] - source[..., 1] * goal[:, 0]).sum(1) / size
    linear = torch.stack((torch.stack((real, -imaginary), 1), torch.stack((imaginary, real), 1)), 1)
    return torch.cat((linear, (goal_mean - mean @ linear.transpose(1, 2)).transpose(1, 2)), 2)


def align_faces(
    images: torch.Tensor, align: torch.Tensor, height: int = ALIGNED_SIZE, width: int = ALIGNED_SIZE
) -> torch.Tensor:
    """Pictures [N, 3, H, W] as aligned faces [N, 3, height, width] by maps [N, 2, 3] (`alignment`), black outside.

    The aligned face is scaled to the height, and cut off or widened at both sides to the width: 112 x 96 is the middle
    of 112 x 112 (METHODS 1.10). Bilinear; pictures much finer than the result should be
    made coarser before (`FaceCrop.crop`). Differentiable in `images`; `align` is taken as a constant.
    """
    if images.ndim != 4 or align.shape != (len(images), 2, 3):
        got = f"{list(images.shape)} and {list(align.shape)}"
        raise ValueError(f"images and align must have shapes [N, 3, H, W] and [N, 2, 3], got {got}")
    align = align.detach()
    scaled = align * (height / ALIGNED_SIZE)
    scaled[:, 0, 2] += (width - height) / 2
    return warp(images, scaled, height, width, padding_mode="zeros")


@functools.lru_cache(maxsize=8)
@torch.inference_mode(False)  # kept for later calls, so it must not become an inference tensor
def _aligned_points(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    return torch.tensor(ALIGNED_POINTS, device=device, dtype=dtype)


class IdentityNetwork(nn.Module):
    """A recognition network from a manifest.

    `embed(images, align)` and `pooled(images, align)` take RGB in [0, 1]; with align [N, 2, 3] pictures of any size
    [N, 3, H, W], without it aligned faces of `input_size`. Frozen: always in evaluation mode, no gradient to its
    weights. Differentiable in the images. identity: changes when results may. trained_on: the manifest's, in words.

    Raises ValueError where the manifest is refused: see `check_network`; ONNX gives no gradient.
    """

    def __init__(self, manifest: Manifest) -> None:
        super().__init__()
        if manifest.role != "recognition":
            raise ValueError(f"{manifest.path} describes a network for {manifest.role}; one for recognition is needed")
        network = load_network(manifest, needs_gradient=True)
        check_network(network)
        self._hold(network)

    def _hold(self, network: Network) -> None:
        manifest = network.manifest
        self._network, self.manifest = network, manifest
        self.network = network.module  # registered, so that .to(device) reaches it
        self.input_size, self.identity = manifest.input_size, f"recognition-{manifest.digest}"
        self.trained_on = manifest.trained_on

    @property
    def caution(self) -> str:
        """What to say of results on photographs: empty unless the network was trained on renders alone."""
        if self.trained_on != RENDERS:
            return ""
        return "its recognition network was trained on renders alone: on photographs its features say little"

    def facts(self) -> dict[str, Any]:
        """The manifest's values but its path, as JSON takes them: `from_facts` and the state_dict make the network
        again, without its files.

        Raises ValueError for a format whose code is not in facecore.
        """
        manifest = self.manifest
        if manifest.format != "state-dict":
            raise ValueError(
                f"{manifest.path}: a checkpoint carries weights, and the code of a {manifest.format} network is not "
                "among them; convert it to a state-dict with an architecture (perception.register_architecture)"
            )
        values = {f.name: getattr(manifest, f.name) for f in dataclasses.fields(manifest) if f.name != "path"}
        values |= {"outputs": dict(manifest.outputs), "options": dict(manifest.options)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> IdentityNetwork:
        """The network of `facts`; load_state_dict is to give its weights. Raises ValueError for facts of no network."""
        self = cls.__new__(cls)
        nn.Module.__init__(self)
        self._hold(unfilled_network(manifest_of(facts, pathlib.Path("the recognition network"))))
        return self

    def forward(self, images: torch.Tensor, align: torch.Tensor | None = None) -> RecognitionFeatures:
        """embed [N, d] and pooled [N, d_f] (the embedding itself where the network has no layer before it)."""
        if align is not None:
            images = align_faces(images, align, *self.input_size)
        outputs = self._network(images)
        return RecognitionFeatures(outputs["embed"], outputs.get("pooled", outputs["embed"]))

    def embed(self, images: torch.Tensor, align: torch.Tensor | None = None) -> torch.Tensor:
        """Embeddings [N, d], compared by their cosine."""
        return self(images, align).embed

    def pooled(self, images: torch.Tensor, align: torch.Tensor | None = None) -> torch.Tensor:
        """The features before the embedding, [N, d_f]."""
        return self(images, align).pooled

    def train(self, mode: bool = True) -> IdentityNetwork:
        """Stays in evaluation mode: the network is frozen."""
        return super().train(False)


def load_identity_network(path: str | os.PathLike[str]) -> IdentityNetwork:
    """`IdentityNetwork` of the manifest at `path`; raises ValueError in one line that names it."""
    return IdentityNetwork(read_manifest(path))
