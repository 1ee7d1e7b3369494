"""System 2: a morphable model's coefficients from photographs, R-Net and C-Net of Deng et al. 2019 (METHODS 4)."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from facecore.morphable import MorphableModel
from facecore.morphable.io import model_from_tensors
from facecore.nn import ConfidenceNet, EncoderFeatures, PointMaps, aggregate
from facecore.perception.manifest import RENDERS
from facecore.render import PerspectiveCamera, Renderer, Rendering, sh_from_prediction
from facecore.systems.point_encoder import POSE_SIZE, PointEncoder, fixed_linear, zero_linear
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.weakly_supervised_config import WeakModelConfig

FOCAL_SIZE = 224  # pixels: the picture that model.focal is given for (METHODS 4)
UNIT_MM = 100.0  # of the predicted shift (METHODS 1.1)
DEPTH_SHARE = 0.1  # of the distance: the predicted shift in depth of 1, a tenth in the face's size
DEPTH_LIMIT = 0.45  # of the distance: shifts approach it, at half of it is the near plane


@dataclasses.dataclass
class WeakCodes:
    """What R-Net says of N pictures: whitened coefficients identity [N, Ki], expression [N, Ke], albedo [N, Ka]; light
    [N, 9] or [N, 27]; pose [N, 6]: pitch, yaw, roll in radians, shift to the right and up in 100 mm, shift towards the
    eye in tenths of the distance."""

    identity: torch.Tensor
    expression: torch.Tensor
    albedo: torch.Tensor
    light: torch.Tensor
    pose: torch.Tensor

    @property
    def sh_coefficients(self) -> torch.Tensor:
        """Effective light [N, 9, 3], the ambient offset included (METHODS 1.5)."""
        return sh_from_prediction(self.light)


@dataclasses.dataclass
class WeakEncoding:
    """Codes, the encoder's maps, those of surface points, and what the heads and corrections read, [N, F + 6 P]."""

    codes: WeakCodes
    maps: EncoderFeatures
    points: PointMaps | None
    features: torch.Tensor


@dataclasses.dataclass
class WeakEstimate:
    """Decoded codes: vertices [N, V, 3] in mm, albedo [N, V, 3] (not clamped), the cameras."""

    codes: WeakCodes
    vertices: torch.Tensor
    albedo: torch.Tensor
    camera: PerspectiveCamera


class WeaklySupervised(PointEncoder):
    """R-Net: a ResNet and five linear heads that start at 0, the mean face looking straight ahead; and C-Net, if the
    configuration has one.

    Pictures are [N, 3, S, S] in [0, 1]. The morphable model is carried whole: `morphable`.
    perception_trained_on: of the recognition network of L_per, see Manifest; "" = there was none.
    """

    config: WeakModelConfig
    perception_trained_on = ""

    def __init__(self, config: WeakModelConfig, morphable: MorphableModel, *, confidence: bool = True) -> None:
        super().__init__()
        self.config = config
        self._morphable = morphable
        self.register_buffer("template", morphable.mean_shape().clone(), persistent=False)
        self.register_buffer("triangles", morphable.triangles.clone(), persistent=False)
        self.register_buffer("landmarks68", morphable.landmarks68.clone(), persistent=False)
        self.identity_size, self.expression_size = morphable.num_identity, morphable.num_expression
        features = self.build_encoder(config)
        sizes = {"identity": morphable.num_identity, "expression": morphable.num_expression}
        sizes["albedo"] = morphable.num_albedo
        for name, size in sizes.items():
            self.add_module(f"{name}_head", zero_linear(features, size))
            if config.surface_points:
                self.add_module(f"{name}_correction", fixed_linear(6 * config.surface_points, size))
        self.light_head = zero_linear(features, 9 if config.light == "white" else 27)
        self.pose_head = zero_linear(features, POSE_SIZE)
        self.confidence_net: ConfidenceNet | None = None
        if confidence:
            count = morphable.num_identity if config.confidence == "elementwise" else 1
            width, pooled = self.encoder.widths[0], self.encoder.num_features
            self.confidence_net = ConfidenceNet(width, pooled, count, config.confidence_width)
        size = config.image_size
        # the loss counts what faces the camera (METHODS 4)
        self.renderer = Renderer(morphable.triangles, size, size, cull_backfaces=True)

    @property
    def caution(self) -> str:
        if self.perception_trained_on != RENDERS:
            return ""
        return "the recognition network of its L_per was trained on renders alone: of photographs it says little"

    @property
    def morphable(self) -> MorphableModel:
        """The model, on the module's device and in its dtype."""
        place = self.template.device, self.template.dtype
        if (self._morphable.device, self._morphable.dtype) != place:
            self._morphable = self._morphable.to(*place)
        return self._morphable

    def code_heads(self) -> tuple[nn.Linear, ...]:
        return self._linears("head")

    def corrections(self) -> tuple[nn.Linear, ...]:
        return () if self.point_maps is None else self._linears("correction")

    def _linears(self, kind: str) -> tuple[nn.Linear, ...]:
        """Of the coefficients: identity, expression, albedo."""
        return tuple(getattr(self, f"{part}_{kind}") for part in ("identity", "expression", "albedo"))

    def regression_parameters(self) -> list[nn.Parameter]:
        """R-Net's, in a fixed order."""
        return [p for name, p in self.named_parameters() if not name.startswith("confidence_net.")]

    def camera(self, pose: torch.Tensor, height: int | None = None, width: int | None = None) -> PerspectiveCamera:
        """Of pose codes [N, 6] of WeakCodes, for pictures of another size that show the same; default: S x S."""
        distance = self.config.distance_mm
        height, width = height or self.config.image_size, width or self.config.image_size
        shift = torch.cat([UNIT_MM * pose[:, 3:5], distance * _depth(pose)[:, None]], 1)
        return PerspectiveCamera.from_pose(
            pose[:, :3],
            shift,
            height,
            width,
            focal=self.config.focal * min(height, width) / FOCAL_SIZE,
            distance=distance,
            near=distance / 2,
            far=1.5 * distance,
        )

    def size_in_picture(self, pose: torch.Tensor) -> torch.Tensor:
        return 1 / (1 - _depth(pose))

    def encode(self, images: torch.Tensor) -> WeakEncoding:
        """[N, 3, S, S] in [0, 1] -> codes, maps and features."""
        seen = self.see(images)
        heads = (*self.code_heads(), self.light_head, self.pose_head)
        codes = WeakCodes(*(head(seen.features) for head in heads))
        features = seen.features
        if seen.points is not None:
            less_pose = self.less_pose(seen.points.positions, codes.pose.detach())
            corrected = (codes.identity, codes.expression, codes.albedo)
            codes.identity, codes.expression, codes.albedo = (
                code + correction(less_pose) for code, correction in zip(corrected, self.corrections())
            )
            features = torch.cat([features, less_pose], 1)
        return WeakEncoding(codes, seen.maps, seen.points, features)

    def head_features(self, images: torch.Tensor) -> torch.Tensor:
        return self.encode(images).features

    def confidence(self, maps: EncoderFeatures) -> torch.Tensor:
        """C-Net's, [N, Ki] or [N, 1]. Raises ValueError for a system without C-Net."""
        if self.confidence_net is None:
            raise ValueError("this system has no confidence network: it was trained with confidence-iterations 0")
        return self.confidence_net(maps.layer1, maps.pooled)

    def decode(self, codes: WeakCodes) -> WeakEstimate:
        model, prior = self.morphable, self.morphable.prior
        identity, expression = (
            prior.unwhiten("identity", codes.identity),
            prior.unwhiten("expression", codes.expression),
        )
        albedo = model.albedo(prior.unwhiten("albedo", codes.albedo))
        return WeakEstimate(codes, model.shape(identity, expression), albedo, self.camera(codes.pose))

    def render(self, estimate: WeakEstimate, background: torch.Tensor | None = None) -> Rendering:
        codes = estimate.codes
        return self.renderer(estimate.vertices, estimate.albedo, estimate.camera, codes.sh_coefficients, background)

    def forward(self, images: torch.Tensor) -> WeakEstimate:
        return self.decode(self.encode(images).codes)

    @torch.no_grad()
    def reconstruct(self, images: torch.Tensor) -> Reconstruction:
        """Reconstructs N crops [N, 3, S, S] in [0, 1]; the module must be in eval mode."""
        self._check_eval()
        return self.to_reconstruction(self(images))

    @torch.no_grad()
    def reconstruct_set(self, images: torch.Tensor) -> tuple[Reconstruction, torch.Tensor]:
        """Reconstructs M crops of one person with one identity, aggregated by C-Net (METHODS 4); everything else is
        each picture's own. Returns the faces and the confidences, [M, Ki] or [M, 1].

        Raises ValueError for no picture, and for a system without C-Net.
        """
        self._check_eval()
        if len(images) == 0:
            raise ValueError("images must hold at least one picture of the person")
        encoding = self.encode(images)
        confidence = self.confidence(encoding.maps)
        codes = encoding.codes
        codes.identity = aggregate(codes.identity, confidence).expand_as(codes.identity)
        return self.to_reconstruction(self.decode(codes)), confidence

    def _check_eval(self) -> None:
        if self.training:
            raise ValueError("call .eval() before .reconstruct(): batch statistics would mix the pictures")

    def to_reconstruction(self, estimate: WeakEstimate) -> Reconstruction:
        codes, prior = estimate.codes, self.morphable.prior
        coefficients = {
            part: prior.unwhiten(part, getattr(codes, part)) for part in ("identity", "expression", "albedo")
        }
        return Reconstruction(
            vertices=estimate.vertices,
            neutral_vertices=self.morphable.shape(coefficients["identity"]),
            triangles=self.triangles,
            albedo=estimate.albedo.clamp(0, 1),
            camera=estimate.camera,
            pose=estimate.camera.weak_perspective_pose(),
            sh_coefficients=codes.sh_coefficients.contiguous(),
            codes=coefficients,
            landmarks68=self.landmarks68,
        )


def _depth(pose: torch.Tensor) -> torch.Tensor:
    """Shift towards the eye over the distance, [N]: never as far as the planes between which faces are drawn."""
    return DEPTH_LIMIT * torch.tanh(pose[:, 5] * (DEPTH_SHARE / DEPTH_LIMIT))


def from_assets(
    config: WeakModelConfig, tensors: dict[str, torch.Tensor], plain: dict[str, Any], *, confidence: bool
) -> WeaklySupervised:
    """The untrained system over the model that `assets_of` took apart."""
    system = WeaklySupervised(config, model_from_tensors(tensors, plain), confidence=confidence)
    system.perception_trained_on = str(plain.get("perception_trained_on", ""))
    return system
