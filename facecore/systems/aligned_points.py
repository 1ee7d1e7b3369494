"""Surface points of aligned faces: which there are, where renders have them, and what a network learns of them."""

from __future__ import annotations

import torch

from facecore.data import LabelledBatch
from facecore.morphable import MorphableModel
from facecore.nn import PointMaps, spread_points, surface_point_loss
from facecore.ops import vertex_normals
from facecore.perception.alignment import ALIGNED_SIZE, align_points
from facecore.perception.point_recognition import PointRecognition, Sight
from facecore.render import WeakPerspectiveCamera, pixel_to_ndc
from facecore.systems.shared_terms import PointShapes, Terms

IN_PICTURE = 0.9  # points of the mean face that lie farther from the middle (NDC) are often outside


class AlignedPoints:
    """The surface points of a PointRecognition on the faces of a morphable model; gives the network its mean points."""

    def __init__(self, network: PointRecognition, model: MorphableModel) -> None:
        mean = model.mean_shape()
        facing = vertex_normals(mean[None], model.triangles)[0, :, 2] > 0
        seen = mean[None, :, :2] * mean.new_tensor([1.0, -1.0])
        order = torch.cat([model.landmarks68, torch.arange(len(mean), device=mean.device)])
        aligned = pixel_to_ndc(align_points(seen[:, order]), ALIGNED_SIZE, ALIGNED_SIZE)[0, 68:]
        usable = facing & (aligned.abs().amax(1) < IN_PICTURE)
        vertices = spread_points(mean, model.landmarks68, len(network.mean_points), usable)
        network.set_mean_points(mean[vertices])
        self._shapes = PointShapes(model, vertices)

    def positions(self, batch: LabelledBatch) -> torch.Tensor:
        """Where the aligned faces of renders have the points, hidden or not, NDC, [N, P, 2]."""
        height, width = batch.image.shape[-2:]
        camera = WeakPerspectiveCamera.from_pose(batch.pose, height, width)
        pixels = camera.project(self._shapes(batch.identity, batch.expression))
        return pixel_to_ndc(align_points(pixels), ALIGNED_SIZE, ALIGNED_SIZE)

    def terms(self, sight: Sight, batch: LabelledBatch) -> Terms:
        """Of the faces of renders, which come first among those seen. surface_points: see surface_point_loss; turn:
        squared error of pitch and yaw, radians."""
        n = len(batch)
        points = PointMaps(*(part[:n] for part in sight.points)) if n < len(sight.turn) else sight.points
        turn = (sight.turn[:n] - batch.pose[:, :2]).square().sum(1).mean()
        return {"surface_points": surface_point_loss(points, self.positions(batch)), "turn": turn}
