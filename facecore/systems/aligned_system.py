"""Systems that see faces aligned by five points, as recognition networks do, and estimate neither pose nor light."""

from __future__ import annotations

import torch

from facecore.data import five_points
from facecore.data.renders import framed_pose
from facecore.render import WeakPerspectiveCamera
from facecore.systems.face_system import FaceSystem


class AlignedFaceSystem(FaceSystem):
    """A FaceSystem whose `reconstruct` takes landmarks; without them faces are aligned by where the mean face has its
    points in a crop around its box. Reconstructions look straight ahead, until something fits pose and light."""

    usual_points: torch.Tensor
    aligned = True
    estimates_view = False

    def set_usual_points(self, landmarks_3d: torch.Tensor, size: int) -> None:
        """landmarks_3d: the mean face's, [68, 3] mm; size: height and width of the crops."""
        nothing = landmarks_3d.new_zeros(1, 3)
        pose = framed_pose(nothing, landmarks_3d[None], nothing[:, 0] + 1, nothing[:, :2])
        points = WeakPerspectiveCamera.from_pose(pose, size, size).project(landmarks_3d[None])
        self.register_buffer("usual_points", five_points(points)[0], persistent=False)

    def points_of(self, images: torch.Tensor, landmarks: torch.Tensor | None, size: int) -> torch.Tensor:
        """The five points [N, 5, 2] of crops [N, 3, size, size]. landmarks: 68 points [N, 68, 2], five, or None, in
        their pixels. Raises ValueError for other shapes."""
        n = len(images)
        if images.ndim != 4 or images.shape[1:] != (3, size, size):
            raise ValueError(f"images must have shape [N, 3, {size}, {size}], got {list(images.shape)}")
        if landmarks is None:
            return self.usual_points.expand(n, 5, 2)
        if landmarks.shape not in ((n, 68, 2), (n, 5, 2)):
            got = list(landmarks.shape)
            raise ValueError(f"landmarks must have shape [{n}, 68, 2] or [{n}, 5, 2] for {n} pictures, got {got}")
        return five_points(landmarks) if landmarks.shape[1] == 68 else landmarks
