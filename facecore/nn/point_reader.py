"""A network that finds points of the face first, so that linear heads read shape of it."""

from __future__ import annotations

import abc
import math
from typing import NamedTuple

import torch
from torch import nn

from facecore.nn.recognition import EmbeddingNetwork, Readings, RecognitionFeatures
from facecore.nn.resnet import ResNetEncoder
from facecore.nn.surface_points import PointFeatures, PointMaps, SurfacePoints, beyond_turn, point_readings
from facecore.render.rotation import euler_to_matrix

NUM_LANDMARKS = 68  # the first of the points


class Sight(NamedTuple):
    """points: of N faces, NDC; turn: pitch and yaw in radians, [N, 2]; readings: see EmbeddingNetwork."""

    points: PointMaps
    turn: torch.Tensor
    readings: Readings


class PointReader(EmbeddingNetwork, abc.ABC):
    """Square pictures of faces that stand upright, in one place and of one size, to embeddings, by a ResNet and maps of
    surface points.

    Beyond METHODS: pooled features tell shape only after long training, positions of points almost at once. Heads read
    pooled features, positions and what the finest map shows there; and, once solved by least squares, what pitch and
    yaw leave of the positions. One linear layer gives `embed`, which is `pooled`, too. Random weights: train it before
    anything is concluded from it.

    Args:
        size: height and width of the pictures, pixels.
        points: number of surface points, the 68 landmarks first. `set_mean_points` says where the mean face has them.
        features: numbers read of each.
        embed: length of the embedding.
        depth: of the ResNet, 18, 34 or 50.

    Raises ValueError for fewer than 68 points, features or embed below 1, another depth.
    """

    mean_points: torch.Tensor
    mean_positions: torch.Tensor

    def __init__(self, size: int, points: int, features: int, embed: int, depth: int = 18) -> None:
        super().__init__()
        if points < NUM_LANDMARKS or features < 1 or embed < 1:
            raise ValueError(f"points must be at least 68, features and embed 1, got {points}, {features}, {embed}")
        self.input_size = (size, size)
        self.encoder = ResNetEncoder(depth)
        self.point_maps = SurfacePoints(points, self.encoder.widths)
        self.point_features = PointFeatures(self.encoder.widths[0], features)
        # Channels-last is what CPUs and tensor cores convolve fastest.
        self.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.point_maps.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        count = self.encoder.num_features + (2 + features) * points
        self.num_corrections = 6 * points
        self.head = nn.Linear(count, embed)
        self.correction = nn.Linear(self.num_corrections, embed, bias=False).requires_grad_(False)
        self.turn_head = nn.Linear(count, 2)
        for layer in (self.correction, self.turn_head):
            nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.turn_head.bias)
        self.register_buffer("mean_points", torch.zeros(points, 3))
        self.register_buffer("mean_positions", torch.zeros(1, points, 2))
        self.set_mean_points(_any_points(points))

    @abc.abstractmethod
    def place(self, seen: torch.Tensor) -> torch.Tensor:
        """Where pictures show points of an upright face, as they are seen from far away [N, P, 2], mm, y up; the first
        68 are the landmarks. NDC, [N, P, 2]."""

    def expected(self, turn: torch.Tensor) -> torch.Tensor:
        """Where pictures show the points of the mean face when it is turned by pitch and yaw [N, 2], NDC, [N, P, 2]."""
        rotation = euler_to_matrix(torch.cat([turn, torch.zeros_like(turn[:, :1])], 1))
        return self.place((self.mean_points @ rotation.transpose(1, 2))[..., :2])

    @torch.no_grad()
    def set_mean_points(self, points: torch.Tensor) -> None:
        """Where the mean face has the surface points, [P, 3] mm: x to the right, y up, z to the camera."""
        self.mean_points.copy_(points)
        self.mean_positions.copy_(self.expected(self.mean_points.new_zeros(1, 2)))

    @property
    def num_readings(self) -> tuple[int, int]:
        return self.head.in_features, self.num_corrections

    def see(self, images: torch.Tensor) -> Sight:
        """Faces [N, 3, size, size], RGB in [0, 1]. Differentiable once. Raises ValueError for other shapes."""
        if images.ndim != 4 or images.shape[1:] != (3, *self.input_size):
            height, width = self.input_size
            raise ValueError(f"images must have shape [N, 3, {height}, {width}], got {list(images.shape)}")
        maps = self.encoder.features(images.contiguous(memory_format=torch.channels_last))
        points = self.point_maps(maps)
        features = point_readings(maps, points, self.point_features, self.mean_positions)
        turn = self.turn_head(features)
        known = turn.detach()
        corrections = beyond_turn(points.positions - self.expected(known), known)
        return Sight(points, turn, Readings(features, corrections))

    def read(self, images: torch.Tensor) -> Readings:
        return self.see(images).readings

    def embed(self, readings: Readings) -> torch.Tensor:
        embed: torch.Tensor = self.head(readings.features) + self.correction(readings.corrections)
        return embed

    def forward(self, images: torch.Tensor) -> RecognitionFeatures:
        """See `see`. In training mode the images of a batch influence each other."""
        embed = self.embed(self.read(images))
        return RecognitionFeatures(embed, embed)


def _any_points(count: int) -> torch.Tensor:
    """Points of no face, before there is one: a Fibonacci lattice on half a sphere, [P, 3] mm."""
    index = torch.arange(count) + 0.5
    z, angle = index / count, index * (math.pi * (1 + 5**0.5))
    radius = (1 - z * z).sqrt()
    return 100 * torch.stack([radius * angle.cos(), radius * angle.sin(), z], 1)
