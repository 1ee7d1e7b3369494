"""The recognition network as losses and encoders use it: aligned by landmarks, frozen, differentiable (METHODS 7)."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Collection
from typing import Any

import torch
from torch import nn

from facecore.nn.recognition import RecognitionFeatures
from facecore.perception.alignment import align_faces
from facecore.perception.checks import check_network
from facecore.perception.manifest import RENDERS, Manifest, manifest_of, read_manifest
from facecore.perception.networks import Network, load_network, unfilled_network


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

    @property
    def origin(self) -> dict[str, str]:
        """Which network it is and what it has seen, as the rows of results say it."""
        return {"recognition": self.identity, "recognition_trained_on": self.trained_on}

    def check_judge(self, trained_with: Collection[str]) -> None:
        """Raises ValueError where the network took part in the training of what it is to judge (METHODS 7).

        trained_with: `identity` of each network that did.
        """
        if self.identity in trained_with:
            raise ValueError(
                f"{self.manifest.path} is a network that the system was trained with; give another one, trained apart "
                "('facecore train recognition --preset small-sphereface' has another architecture)"
            )

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
