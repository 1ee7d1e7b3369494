"""The encoder that several systems share: a ResNet, points of the face that it finds, and what linear heads read."""

from __future__ import annotations

import abc
import dataclasses

import torch
from torch import nn

from facecore.nn import (
    EncoderFeatures,
    PointFeatures,
    PointMaps,
    ResNetEncoder,
    SurfacePoints,
    beyond_turn,
    point_readings,
    spread_points,
)
from facecore.ops import vertex_normals
from facecore.render.cameras import Camera
from facecore.systems.encoder_config import EncoderConfig
from facecore.systems.face_system import FaceSystem

POSE_SIZE = 6
IN_PICTURE = 0.9  # points of the mean face that lie farther from the middle (NDC) are often outside


@dataclasses.dataclass
class Seen:
    """What the encoder makes of N pictures.

    maps: its feature maps. points: maps of the surface points, None without them. features: what heads read, [N, F]:
    pooled features, positions of the surface points, what the finest map shows there.
    """

    maps: EncoderFeatures
    points: PointMaps | None
    features: torch.Tensor


class PointEncoder(FaceSystem, abc.ABC):
    """A system whose codes are linear heads over a ResNet's features, and over surface points if it has them.

    A system sets the buffers template [V, 3], mm, triangles and landmarks68, then calls build_encoder, and makes one
    head for each code; code_heads are those that are solved by least squares (solved_heads.py), corrections maps of
    `less_pose` that add to them.
    """

    template: torch.Tensor
    triangles: torch.Tensor
    landmarks68: torch.Tensor
    point_vertices: torch.Tensor
    mean_positions: torch.Tensor
    config: EncoderConfig
    point_maps: SurfacePoints | None
    point_features: PointFeatures | None

    @abc.abstractmethod
    def camera(self, pose: torch.Tensor) -> Camera:
        """Of pose codes [N, 6] that begin with pitch, yaw, roll in radians; zeros: the mean pose."""

    @abc.abstractmethod
    def size_in_picture(self, pose: torch.Tensor) -> torch.Tensor:
        """How much larger than in the mean pose faces are in their pictures, [N]."""

    @abc.abstractmethod
    def code_heads(self) -> tuple[nn.Linear, ...]: ...

    @abc.abstractmethod
    def corrections(self) -> tuple[nn.Linear, ...]:
        """One for each of code_heads; none without surface points."""

    @abc.abstractmethod
    def head_features(self, images: torch.Tensor) -> torch.Tensor:
        """What the code heads read of pictures, and after it what the corrections do, [N, F + 6 P]."""

    def build_encoder(self, config: EncoderConfig) -> int:
        """Makes the encoder and its points; returns F."""
        self.encoder = ResNetEncoder(config.encoder_depth, config.encoder_weights, norm=config.encoder_norm)
        # Channels-last is what CPUs and tensor cores convolve fastest.
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.encoder_precision = torch.float32  # of convolutions in training
        self.point_maps = self.point_features = None
        count = config.surface_points
        if not count:
            return self.encoder.num_features
        mean = self.camera(torch.zeros(1, POSE_SIZE)).ndc(self.template[None])
        seen = seen_on_mean_face(self.template, self.triangles, mean[0])
        points = spread_points(self.template, self.landmarks68, count, seen)
        self.register_buffer("point_vertices", points)
        self.register_buffer("mean_positions", mean[:, points], persistent=False)
        self.register_load_state_dict_post_hook(_read_points)
        self.point_maps = SurfacePoints(count, self.encoder.widths)
        self.point_maps.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.point_features:
            self.point_features = PointFeatures(self.encoder.widths[0], config.point_features)
        return self.encoder.num_features + (2 + config.point_features) * count

    def see(self, images: torch.Tensor) -> Seen:
        """Of pictures [N, 3, S, S] in [0, 1]. Raises ValueError for another shape."""
        size = self.config.image_size
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, size, size):
            raise ValueError(f"images must have shape [N, 3, {size}, {size}], got {list(images.shape)}")
        images = images.contiguous(memory_format=torch.channels_last)
        mixed = self.training and self.encoder_precision != torch.float32
        points = None
        with torch.autocast(images.device.type, torch.bfloat16, enabled=mixed):
            maps = self.encoder.features(images)
            if self.point_maps is not None:
                points = self.point_maps(maps)
            features = maps.pooled.to(images.dtype)
            if points is not None:
                features = point_readings(maps, points, self.point_features, self.mean_positions)
        return Seen(maps, points, features)

    def less_pose(self, positions: torch.Tensor, pose: torch.Tensor) -> torch.Tensor:
        """`beyond_turn` of the points' distances from those of the mean face in the estimated pose, in units of the
        face's size, [N, 6 P]."""
        expected = self.camera(pose).ndc(self.template[self.point_vertices].expand(len(pose), -1, -1))
        return beyond_turn((positions - expected) / self.size_in_picture(pose)[:, None, None], pose[:, :2])


def seen_on_mean_face(vertices: torch.Tensor, triangles: torch.Tensor, ndc: torch.Tensor) -> torch.Tensor:
    """Which vertices [V, 3] of the mean face look forward and lie in its picture, where it has them at ndc [V, 2];
    bool [V]."""
    facing = vertex_normals(vertices[None], triangles)[0, :, 2] > 0
    return facing & (ndc.abs().amax(1) < IN_PICTURE)


def fixed_linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    """A map that adds nothing until it is solved (solved_heads.solve_code_heads)."""
    layer = nn.Linear(num_inputs, num_outputs, bias=False)
    nn.init.zeros_(layer.weight)
    return layer.requires_grad_(False)


def zero_linear(num_inputs: int, num_outputs: int) -> nn.Linear:
    """A head that says 0 of every picture until it is trained."""
    layer = nn.Linear(num_inputs, num_outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _read_points(module: nn.Module, _: object) -> None:
    """A checkpoint may have chosen other vertices than this version would."""
    assert isinstance(module, PointEncoder)
    mean = module.template[module.point_vertices][None]
    module.mean_positions = module.camera(mean.new_zeros(1, POSE_SIZE)).ndc(mean)
