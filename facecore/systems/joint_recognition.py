"""System 1: a composite of identity and residual shape from a recognition network, Liu et al. 2018 (METHODS 3)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from facecore.morphable import MorphableModel
from facecore.nn import SphereFace
from facecore.nn.sphereface import EMBED
from facecore.systems.face_system import FaceSystem
from facecore.systems.facing import facing_reconstruction
from facecore.systems.joint_recognition_config import JointModelConfig
from facecore.systems.reconstruction import Reconstruction

CODE_RANGE = 3.0  # standard deviations that a code of 1 stands for (METHODS 3)
_TENSORS = ("template", "albedo_mean", "triangles", "landmarks68")
_PLAIN = ("num_identity", "num_expression", "morphable_name", "morphable_hash")


@dataclasses.dataclass(frozen=True)
class JointAssets:
    """What a checkpoint carries of its morphable model.

    template: mean neutral shape [V, 3], mm; albedo_mean [V, 3]; triangles int32 [T, 3]; landmarks68 int64 [68].
    """

    template: torch.Tensor
    albedo_mean: torch.Tensor
    triangles: torch.Tensor
    landmarks68: torch.Tensor
    num_identity: int
    num_expression: int
    morphable_name: str
    morphable_hash: str

    @classmethod
    def from_morphable(cls, model: MorphableModel) -> JointAssets:
        model = model.to("cpu")
        return cls(
            template=model.mean_neutral(),
            albedo_mean=model.albedo(model.prior.albedo_mean[None])[0].clamp(0, 1),
            triangles=model.triangles,
            landmarks68=model.landmarks68,
            num_identity=model.num_identity,
            num_expression=model.num_expression,
            morphable_name=model.name,
            morphable_hash=model.content_hash(),
        )

    def to_tensors(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Tensors and plain values, from which from_tensors makes the same assets."""
        return {name: getattr(self, name) for name in _TENSORS}, {name: getattr(self, name) for name in _PLAIN}

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> JointAssets:
        """The assets that to_tensors took apart. Raises KeyError for what is missing."""
        values: dict[str, Any] = {name: tensors[name] for name in _TENSORS} | {name: plain[name] for name in _PLAIN}
        return cls(**values)


class JointCodes(NamedTuple):
    """identity: c_Id [N, Ki]; expression: c_Res [N, Ke]; both in [-1, 1], thirds of three standard deviations."""

    identity: torch.Tensor
    expression: torch.Tensor


class JointRecognition(FaceSystem):
    """SphereFace-20, two parallel layers to the codes, two linear decoders.

    Pictures are [N, 3, 112, 112] in [0, 1]. s = s_mean + W_Id c_Id + W_Res c_Res + b; column k of a weight matrix is a
    learned basis vector. Pose, albedo and light are not estimated: reconstructions look straight ahead, with the
    model's mean albedo, until something fits them.
    """

    template: torch.Tensor
    albedo_mean: torch.Tensor
    triangles: torch.Tensor
    landmarks68: torch.Tensor
    estimates_view = False

    def __init__(self, config: JointModelConfig, assets: JointAssets) -> None:
        super().__init__()
        self.config, self.assets = config, assets
        for name in _TENSORS:
            self.register_buffer(name, getattr(assets, name).clone(), persistent=False)
        self.identity_size, self.expression_size = assets.num_identity, assets.num_expression
        self.encoder = SphereFace(config.width)
        self.identity_head = nn.Linear(EMBED, self.identity_size)
        self.expression_head = nn.Linear(EMBED, self.expression_size)
        size = self.template.numel()
        self.identity_decoder = nn.Linear(self.identity_size, size)
        self.expression_decoder = nn.Linear(self.expression_size, size)

    @torch.no_grad()
    def solve_decoders(self, model: MorphableModel) -> None:
        """Phase II in closed form: the bases of the morphable model, times what a code of 1 stands for."""
        for decoder, vectors in zip((self.identity_decoder, self.expression_decoder), self.basis_vectors_of(model)):
            decoder.weight.copy_(vectors.flatten(1).T)
        self.identity_decoder.bias.zero_()
        # the template has the mean identity, and no expression
        self.expression_decoder.bias.copy_(model.prior.expression_mean @ model.expression_basis.flatten(1))

    @torch.no_grad()
    def basis_vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What codes of 1 add to the face, [Ki, V, 3] and [Ke, V, 3] mm: the learned bases."""
        identity, expression = (
            decoder.weight.T.reshape(decoder.in_features, -1, 3)
            for decoder in (self.identity_decoder, self.expression_decoder)
        )
        return identity, expression

    @staticmethod
    def basis_vectors_of(model: MorphableModel) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of a morphable model: its modes over three standard deviations."""
        prior = model.prior
        return (
            CODE_RANGE * prior.identity_std[:, None, None] * model.identity_basis,
            CODE_RANGE * prior.expression_std[:, None, None] * model.expression_basis,
        )

    def codes_of(self, model: MorphableModel, identity: torch.Tensor, expression: torch.Tensor) -> JointCodes:
        """The codes that coefficients should have: over three standard deviations, cut at 1."""
        prior = model.prior
        return JointCodes(
            (prior.whiten("identity", identity) / CODE_RANGE).clamp(-1, 1),
            (prior.whiten("expression", expression) / CODE_RANGE).clamp(-1, 1),
        )

    def encode(self, images: torch.Tensor) -> JointCodes:
        """Codes of crops [N, 3, 112, 112]. Raises ValueError for another shape."""
        size = self.config.image_size
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images must have shape [N, 3, {size}, {size}], got {list(images.shape)}")
        height, width = SphereFace.input_size
        faces = images
        if size != height:
            faces = functional.interpolate(images, (height, height), mode="bilinear", antialias=size > height)
        margin = (height - width) // 2
        features = self.encoder(faces[..., margin : margin + width]).embed
        return JointCodes(self.identity_head(features).tanh(), self.expression_head(features).tanh())

    def decode_shape(self, identity: torch.Tensor, expression: torch.Tensor | None = None) -> torch.Tensor:
        """Vertices [N, V, 3] in mm; without an expression the identity's own shape."""
        shape = self.template.flatten() + self.identity_decoder(identity)
        if expression is not None:
            shape = shape + self.expression_decoder(expression)
        return shape.view(len(identity), -1, 3)

    def decode_albedo(self, identity: torch.Tensor) -> torch.Tensor:
        """The mean albedo, [N, V, 3]."""
        return self.albedo_mean.expand(len(identity), -1, -1)

    def forward(self, images: torch.Tensor) -> tuple[JointCodes, torch.Tensor]:
        """Codes, and vertices [N, V, 3]."""
        codes = self.encode(images)
        return codes, self.decode_shape(*codes)

    @torch.no_grad()
    def reconstruct(self, images: torch.Tensor) -> Reconstruction:
        """Reconstructs N crops [N, 3, S, S] in [0, 1], looking straight ahead; the module must be in eval mode."""
        if self.training:
            raise ValueError("call .eval() before .reconstruct()")
        codes, vertices = self(images)
        return facing_reconstruction(
            vertices,
            self.decode_shape(codes.identity),
            self.decode_albedo(codes.identity).clone(),
            codes._asdict(),
            triangles=self.triangles,
            landmarks68=self.landmarks68,
            size=self.config.image_size,
        )
