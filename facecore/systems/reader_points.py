"""Surface points of the faces that a PointReader sees: which there are, where renders have them, what is learned."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from facecore.data import LabelledBatch
from facecore.morphable import MorphableModel
from facecore.nn import PointMaps, spread_points, surface_point_loss
from facecore.nn.point_reader import NUM_LANDMARKS, PointReader, Sight
from facecore.perception.alignment import ALIGNED_SIZE, align_points
from facecore.render import WeakPerspectiveCamera, pixel_to_ndc
from facecore.systems.point_encoder import seen_on_mean_face
from facecore.systems.shared_terms import PointShapes, Terms

TURN_WEIGHT = 0.5  # of pitch and yaw, beside the points


class ReaderPoints:
    """The surface points of a network on the faces of a morphable model; tells the network where the mean face has
    them."""

    def __init__(self, network: PointReader, model: MorphableModel) -> None:
        mean = model.mean_shape()
        placed = network.place(torch.cat([mean[model.landmarks68], mean])[None, :, :2])[0, NUM_LANDMARKS:]
        usable = seen_on_mean_face(mean, model.triangles, placed)
        vertices = spread_points(mean, model.landmarks68, len(network.mean_points), usable)
        network.set_mean_points(mean[vertices])
        self._shapes = PointShapes(model, vertices)

    def pixels(self, batch: LabelledBatch) -> torch.Tensor:
        """Where renders have the points, hidden or not, [N, P, 2] in their pixels."""
        camera = WeakPerspectiveCamera.from_pose(batch.pose, *batch.image.shape[-2:])
        return camera.project(self._shapes(batch.identity, batch.expression))

    def aligned(self, batch: LabelledBatch) -> torch.Tensor:
        """Where the renders' aligned faces have them, NDC, [N, P, 2]."""
        return pixel_to_ndc(align_points(self.pixels(batch)), ALIGNED_SIZE, ALIGNED_SIZE)

    def terms(self, sight: Sight, batch: LabelledBatch, positions: torch.Tensor) -> Terms:
        """Of the faces of renders, which come first among those seen. surface_points: see surface_point_loss;
        positions: NDC [N, P, 2]; turn: squared error of pitch and yaw, radians."""
        n = len(batch)
        points = PointMaps(*(part[:n] for part in sight.points)) if n < len(sight.turn) else sight.points
        turn = (sight.turn[:n] - batch.pose[:, :2]).square().sum(1).mean()
        return {"surface_points": surface_point_loss(points, positions), "turn": turn}


def weighted_points(terms: Terms) -> torch.Tensor | float:
    """What ReaderPoints.terms add to an objective; 0 where there are none."""
    return terms["surface_points"] + TURN_WEIGHT * terms["turn"] if terms else 0.0


class ReaderHeads:
    """A PointReader as solved_heads.solve_on_renders takes a system: its embedding is the codes.

    prepare: of pictures, and where `aligned` their 68 points, to what the network sees.
    """

    def __init__(self, network: PointReader, prepare: Callable[..., torch.Tensor], *, aligned: bool) -> None:
        self.network, self.prepare, self.aligned = network, prepare, aligned
        self.encoder, self.template = network.encoder, network.mean_points

    @property
    def training(self) -> bool:
        return self.network.training

    def eval(self) -> None:
        self.network.eval()

    def code_heads(self) -> tuple[nn.Linear, ...]:
        return (self.network.head,)

    def corrections(self) -> tuple[nn.Linear, ...]:
        return (self.network.correction,)

    def head_features(self, *given: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.network.read(self.prepare(*given)), 1)
