"""System 1: a composite of identity and residual shape from a recognition network, Liu et al. 2018 (METHODS 3)."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import torch
from torch import nn

from facecore.morphable import MorphableModel
from facecore.nn import Readings, SphereFace
from facecore.perception import align_faces, alignment
from facecore.perception.point_recognition import PointRecognition
from facecore.systems.aligned_system import AlignedFaceSystem
from facecore.systems.facing import facing_reconstruction
from facecore.systems.joint_recognition_config import JointModelConfig
from facecore.systems.point_encoder import fixed_linear
from facecore.systems.reconstruction import Reconstruction

CODE_RANGE = 3.0  # standard deviations that a code of 1 stands for (METHODS 3)
SOLVED_RANGE = 0.95  # of the codes that heads are solved for: where the tangent ends
_TENSORS = ("template", "albedo_mean", "triangles", "landmarks68")
_PLAIN = ("num_identity", "num_expression", "morphable_name", "morphable_hash")
_ALIGNMENT = {"alignment": "five points"}  # checkpoints without it learned from the middle of crops


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
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {name: getattr(self, name) for name in _TENSORS}, plain | _ALIGNMENT

    @classmethod
    def from_tensors(cls, tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> JointAssets:
        """The assets that to_tensors took apart. Raises KeyError for what is missing, the kind of alignment too."""
        for name in _ALIGNMENT:
            plain[name]
        values: dict[str, Any] = {name: tensors[name] for name in _TENSORS} | {name: plain[name] for name in _PLAIN}
        return cls(**values)


class JointCodes(NamedTuple):
    """identity: c_Id [N, Ki]; expression: c_Res [N, Ke]; both in [-1, 1], thirds of three standard deviations."""

    identity: torch.Tensor
    expression: torch.Tensor


class JointRecognition(AlignedFaceSystem):
    """A recognition network, two parallel layers to the codes, two linear decoders.

    Pictures are [N, 3, S, S] in [0, 1]; see AlignedFaceSystem. s = s_mean + W_Id c_Id + W_Res c_Res + b; column k of a
    weight matrix is a learned basis vector. Albedo is not estimated: reconstructions have the model's mean albedo.
    """

    template: torch.Tensor
    albedo_mean: torch.Tensor
    triangles: torch.Tensor
    landmarks68: torch.Tensor

    def __init__(self, config: JointModelConfig, assets: JointAssets) -> None:
        super().__init__()
        self.config, self.assets = config, assets
        for name in _TENSORS:
            self.register_buffer(name, getattr(assets, name).clone(), persistent=False)
        self.identity_size, self.expression_size = assets.num_identity, assets.num_expression
        self.encoder: SphereFace | PointRecognition = (
            PointRecognition(
                config.surface_points, config.point_features, embed=1
            )  # the codes have layers of their own
            if config.encoder == "point-recognition"
            else SphereFace(config.width)
        )
        features, more = self.encoder.num_readings
        self.identity_head = nn.Linear(features, self.identity_size)
        self.expression_head = nn.Linear(features, self.expression_size)
        if more:
            self.identity_correction = fixed_linear(more, self.identity_size)
            self.expression_correction = fixed_linear(more, self.expression_size)
        self.set_usual_points(self.template[self.landmarks68], config.image_size)
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

    def code_heads(self) -> tuple[nn.Linear, ...]:
        return self.identity_head, self.expression_head

    def corrections(self) -> tuple[nn.Linear, ...]:
        return (self.identity_correction, self.expression_correction) if self.encoder.num_readings[1] else ()

    def activations_of(self, codes: JointCodes) -> torch.Tensor:
        """What the heads should say for codes, before the hyperbolic tangent, [N, Ki + Ke]."""
        return torch.cat(codes, 1).clamp(-SOLVED_RANGE, SOLVED_RANGE).atanh()

    def encode(self, images: torch.Tensor, landmarks: torch.Tensor | None = None) -> JointCodes:
        """Codes of crops [N, 3, S, S]. landmarks: 68 points [N, 68, 2] or five [N, 5, 2], in pixels of the crops.

        Differentiable in the pictures. Raises ValueError for other shapes.
        """
        return self.codes(self.encoder.read(self.align(images, landmarks)))

    def codes(self, readings: Readings) -> JointCodes:
        """Of what the recognition network read."""
        said = [head(readings.features) for head in self.code_heads()]
        if corrections := self.corrections():
            said = [own + more(readings.corrections) for own, more in zip(said, corrections)]
        return JointCodes(said[0].tanh(), said[1].tanh())

    def head_features(self, images: torch.Tensor, landmarks: torch.Tensor | None = None) -> torch.Tensor:
        """What the recognition network reads of crops for heads and corrections side by side; see `encode`."""
        return torch.cat(self.encoder.read(self.align(images, landmarks)), 1)

    def align(self, images: torch.Tensor, landmarks: torch.Tensor | None = None) -> torch.Tensor:
        """Crops as the recognition network takes them; see `encode`."""
        align = alignment(self.points_of(images, landmarks, self.config.image_size))
        return align_faces(images, align, *self.encoder.input_size)

    def decode_shape(self, identity: torch.Tensor, expression: torch.Tensor | None = None) -> torch.Tensor:
        """Vertices [N, V, 3] in mm; without an expression the identity's own shape."""
        shape = self.template.flatten() + self.identity_decoder(identity)
        if expression is not None:
            shape = shape + self.expression_decoder(expression)
        return shape.view(len(identity), -1, 3)

    def decode_albedo(self, identity: torch.Tensor) -> torch.Tensor:
        """The mean albedo, [N, V, 3]."""
        return self.albedo_mean.expand(len(identity), -1, -1)

    def forward(self, images: torch.Tensor, landmarks: torch.Tensor | None = None) -> tuple[JointCodes, torch.Tensor]:
        """Codes, and vertices [N, V, 3]; see `encode`."""
        codes = self.encode(images, landmarks)
        return codes, self.decode_shape(*codes)

    @torch.no_grad()
    def reconstruct(self, images: torch.Tensor, landmarks: torch.Tensor | None = None) -> Reconstruction:
        """Reconstructs N crops [N, 3, S, S] in [0, 1], looking straight ahead; the module must be in eval mode.
        landmarks: see `encode`."""
        if self.training:
            raise ValueError("call .eval() before .reconstruct()")
        codes, vertices = self(images, landmarks)
        return facing_reconstruction(
            vertices,
            self.decode_shape(codes.identity),
            self.decode_albedo(codes.identity).clone(),
            codes._asdict(),
            triangles=self.triangles,
            landmarks68=self.landmarks68,
            size=self.config.image_size,
        )
