"""System 0: semi-supervised, nonlinear, disentangled face reconstruction with graph convolutions (METHODS 2)."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from facecore.mesh import laplacian
from facecore.nn import MeshDecoder, MeshDiscriminator, PointMaps, ResNetEncoder, SurfacePoints
from facecore.render import Renderer, Rendering, WeakPerspectiveCamera, sh_from_prediction
from facecore.structures import SparseMatrix
from facecore.systems.assets import FaceAssets
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.semi_supervised_config import ModelConfig

POSE_SIZE = 6  # pitch, yaw, roll, c_f, t_x, t_y (METHODS 2.1)
LIGHT_SIZE = 27
UNIT_MM = 100.0  # systems work in units of 100 mm (METHODS 1.1)
POINT_SCALE = 4.0  # of point positions as features: their spread over pictures is then about 1
ALBEDO_MARGIN = 0.02  # keeps the mean albedo off 0 and 1, where its logit is infinite


@dataclasses.dataclass
class Codes:
    """What the encoder says of N pictures: c_id [N, 128], c_exp [N, 64], pose code [N, 6], light [N, 27]."""

    identity: torch.Tensor
    expression: torch.Tensor
    pose: torch.Tensor
    light: torch.Tensor

    def __getitem__(self, index: slice | torch.Tensor) -> Codes:
        return Codes(*(getattr(self, f.name)[index] for f in dataclasses.fields(self)))

    @property
    def sh_coefficients(self) -> torch.Tensor:
        """Effective light [N, 9, 3], the ambient offset included (METHODS 1.5)."""
        return sh_from_prediction(self.light)


@dataclasses.dataclass
class Estimate:
    """A decoded face: vertices [N, V, 3] mm, albedo [N, V, 3], camera, and the codes it came from."""

    codes: Codes
    vertices: torch.Tensor
    albedo: torch.Tensor
    camera: WeakPerspectiveCamera

    def landmarks_ndc(self, landmarks68: torch.Tensor) -> torch.Tensor:
        """The 68 vertices projected, [N, 68, 2] in NDC q of METHODS 1.3."""
        return self.camera.ndc(self.vertices[:, landmarks68])


class SemiSupervised(nn.Module):
    """Encoder, four heads, shape and albedo decoders, shape discriminator.

    Pictures are [N, 3, S, S] in [0, 1], S = config.image_size. Shapes are decoded as a displacement from the template
    in units of sigma_s; the albedo as a change of the mean albedo before a sigmoid. The expression code 0 is the
    expressionless face.
    """

    template: torch.Tensor
    triangles: torch.Tensor
    landmarks68: torch.Tensor
    mirror_map: torch.Tensor
    albedo_logit: torch.Tensor
    point_vertices: torch.Tensor
    mean_positions: torch.Tensor

    def __init__(self, config: ModelConfig, assets: FaceAssets) -> None:
        super().__init__()
        self.config, self.assets = config, assets
        self.config_hash = ""  # of the training's whole configuration; set by whoever trains or loads
        self.register_buffer("template", assets.template.clone(), persistent=False)
        self.register_buffer("triangles", assets.triangles.clone(), persistent=False)
        self.register_buffer("landmarks68", assets.landmarks68.clone(), persistent=False)
        self.register_buffer("mirror_map", assets.mirror_map.clone(), persistent=False)
        mean = assets.albedo_mean.clamp(ALBEDO_MARGIN, 1 - ALBEDO_MARGIN)
        self.register_buffer("albedo_logit", torch.logit(mean), persistent=False)
        self.shape_scale = assets.shape_scale
        self.encoder = ResNetEncoder(depth=config.encoder_depth, weights=config.encoder_weights)
        # Channels-last is what CPUs and tensor cores convolve fastest.
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.encoder_precision = torch.float32  # of convolutions in training; see StageConfig.encoder_precision
        features = self.encoder.num_features
        self.point_maps: SurfacePoints | None = None
        if config.surface_points:
            self._add_point_maps(config)
            features += 2 * config.surface_points
        self.identity_head = nn.Linear(features, config.identity_size)
        self.expression_head = nn.Linear(features, config.expression_size)
        self.pose_head = _zero_linear(features, POSE_SIZE)
        self.light_head = _zero_linear(features, LIGHT_SIZE)
        hierarchy = assets.hierarchy
        terms, kind = config.num_terms, config.laplacian
        self.shape_decoder = MeshDecoder(
            hierarchy, config.identity_size + config.expression_size, config.shape_channels, num_terms=terms, kind=kind
        )
        self.albedo_decoder = MeshDecoder(
            hierarchy, config.identity_size, config.albedo_channels, num_terms=terms, kind=kind
        )
        self.discriminator = MeshDiscriminator(hierarchy, config.critic_channels, num_terms=terms, kind=kind)
        self.renderer = Renderer(assets.triangles, config.image_size, config.image_size)
        self._random_walk = laplacian(hierarchy.levels[0], "random_walk")

    def _add_point_maps(self, config: ModelConfig) -> None:
        points = spread_points(self.template, self.landmarks68, config.surface_points)
        self.register_buffer("point_vertices", points)
        mean = self.camera(torch.zeros(1, POSE_SIZE)).ndc(self.template[points][None])
        self.register_buffer("mean_positions", mean, persistent=False)
        self.point_maps = SurfacePoints(config.surface_points, self.encoder.widths)

    @property
    def random_walk(self) -> SparseMatrix:
        """I - D^-1 A of the finest level, on the module's device."""
        if self._random_walk.device != self.template.device:
            self._random_walk = self._random_walk.to(self.template.device)
        return self._random_walk

    def model_parameters(self) -> list[nn.Parameter]:
        """Everything but the discriminator, in a fixed order."""
        return [p for name, p in self.named_parameters() if not name.startswith("discriminator.")]

    def encode(self, images: torch.Tensor) -> Codes:
        """[N, 3, S, S] in [0, 1] -> codes."""
        return self.encode_with_points(images)[0]

    def encode_with_points(self, images: torch.Tensor) -> tuple[Codes, PointMaps | None]:
        """Codes, and the maps of the surface points where the configuration has them; images as for encode."""
        size = self.config.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(f"images must have shape [N, 3, {size}, {size}], got {list(images.shape)}")
        features, points = self._head_features(images)
        heads = (self.identity_head, self.expression_head, self.pose_head, self.light_head)
        return Codes(*(head(features) for head in heads)), points

    def head_features(self, images: torch.Tensor) -> torch.Tensor:
        """What the linear heads see of [N, 3, S, S] pictures: pooled features, then positions of the surface points."""
        return self._head_features(images)[0]

    def _head_features(self, images: torch.Tensor) -> tuple[torch.Tensor, PointMaps | None]:
        images = images.contiguous(memory_format=torch.channels_last)
        mixed = self.training and self.encoder_precision != torch.float32
        points = None
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
            maps = self.encoder.features(images)
            if self.point_maps is not None:
                points = self.point_maps(maps)
        features = maps.pooled.float()
        if points is not None:
            offset = (points.positions - self.mean_positions) * POINT_SCALE
            features = torch.cat([features, offset.flatten(1)], 1)
        return features, points

    def decode_displacement(self, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        """(s_hat - s_tmpl) / sigma_s, [N, V, 3]."""
        return self.shape_decoder(torch.cat([identity, expression], dim=1))

    def decode_shape(self, identity: torch.Tensor, expression: torch.Tensor | None = None) -> torch.Tensor:
        """Vertices [N, V, 3] in mm; without an expression code, the neutral face."""
        if expression is None:
            expression = identity.new_zeros(len(identity), self.config.expression_size)
        return self.template + self.shape_scale * self.decode_displacement(identity, expression)

    def decode_albedo(self, identity: torch.Tensor) -> torch.Tensor:
        """[N, V, 3] in (0, 1)."""
        return torch.sigmoid(self.albedo_logit + self.albedo_decoder(identity))

    def camera(self, pose: torch.Tensor) -> WeakPerspectiveCamera:
        return WeakPerspectiveCamera.from_pose(pose, self.config.image_size, self.config.image_size)

    def decode(self, codes: Codes) -> Estimate:
        vertices = self.decode_shape(codes.identity, codes.expression)
        return Estimate(codes, vertices, self.decode_albedo(codes.identity), self.camera(codes.pose))

    def slice(self, estimate: Estimate, index: slice) -> Estimate:
        """Some of the pictures of an estimate."""
        codes = estimate.codes[index]
        return Estimate(codes, estimate.vertices[index], estimate.albedo[index], self.camera(codes.pose))

    def render(self, estimate: Estimate, background: torch.Tensor | None = None) -> Rendering:
        return self.renderer(
            estimate.vertices, estimate.albedo, estimate.camera, estimate.codes.sh_coefficients, background
        )

    def forward(self, images: torch.Tensor) -> Estimate:
        return self.decode(self.encode(images))

    @torch.no_grad()
    def reconstruct(self, images: torch.Tensor) -> Reconstruction:
        """Reconstructs N crops [N, 3, S, S] in [0, 1]; the module must be in eval mode."""
        if self.training:
            raise ValueError("call .eval() before .reconstruct(): batch statistics would mix the pictures")
        return self.to_reconstruction(self(images))

    def to_reconstruction(self, estimate: Estimate) -> Reconstruction:
        codes = estimate.codes
        return Reconstruction(
            vertices=estimate.vertices,
            neutral_vertices=self.decode_shape(codes.identity),
            triangles=self.triangles,
            albedo=estimate.albedo,
            camera=estimate.camera,
            pose=codes.pose,
            sh_coefficients=codes.sh_coefficients,
            codes={"identity": codes.identity, "expression": codes.expression},
            landmarks68=self.landmarks68,
        )


def spread_points(vertices: torch.Tensor, first: torch.Tensor, count: int) -> torch.Tensor:
    """`count` vertices int64: `first`, then ever the one that is farthest from all before.

    Raises ValueError when count is less than len(first) or more than there are vertices.
    """
    if not len(first) <= count <= len(vertices):
        raise ValueError(
            f"surface_points must be 0 or from {len(first)} (the landmarks) to {len(vertices)} (the vertices), "
            f"got {count}"
        )
    distance = torch.cdist(vertices, vertices[first]).amin(1)
    chosen = first.tolist()
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = torch.minimum(distance, (vertices - vertices[chosen[-1]]).norm(dim=1))
    return torch.tensor(chosen, device=vertices.device)


def _zero_linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    """Pose and light start at the mean pose and the ambient offset (METHODS 2.1)."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
