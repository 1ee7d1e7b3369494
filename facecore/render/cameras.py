"""Cameras: millimetres in the object frame to clip space, pixels and normalised coordinates. docs/conventions.md."""

from __future__ import annotations

import dataclasses
import math

import torch

from facecore.ops._library import check_tensor
from facecore.render._camera import BaseCamera, ndc_to_pixel
from facecore.render.rotation import euler_to_matrix, matrix_from_300wlp, matrix_to_euler

MM_PER_UNIT = 100.0  # cameras compute in units of 100 mm inside, METHODS 1.1
MEAN_SCALE = 0.8  # f = MEAN_SCALE * exp(c_f), NDC units per 100 mm, METHODS 1.3
DEPTH_HALF_RANGE_MM = 500.0  # of the weak perspective camera: holds any head with neck and shoulders
MICROMETRES_PER_UNIT = 1e5  # BFM files are in micrometres, METHODS 1.1


@dataclasses.dataclass(frozen=True, eq=False)
class WeakPerspectiveCamera(BaseCamera):
    """q = scale * (R s)_xy / 100 mm + translation: parallel rays along the camera's z axis. METHODS 1.3.

    rotation: [N, 3, 3]; scale: [N], NDC units per 100 mm, positive; translation: [N, 2] in NDC.
    Clip space: w = 1 and z = -(R s)_z / 500 mm, so vertices up to 500 mm in front of or behind the origin are drawn.
    Raises ValueError for wrong shapes or dtypes.
    """

    rotation: torch.Tensor
    scale: torch.Tensor
    translation: torch.Tensor
    height: int
    width: int

    def __post_init__(self) -> None:
        self._check()
        check_tensor("scale", self.scale, (len(self),), like=self.rotation)
        check_tensor("translation", self.translation, (len(self), 2), like=self.rotation)

    @classmethod
    def from_pose(cls, pose: torch.Tensor, height: int, width: int) -> WeakPerspectiveCamera:
        """From pose codes [N, 6] = (pitch, yaw, roll, c_f, t_x, t_y): radians, scale = 0.8 exp(c_f), NDC."""
        check_tensor("pose", pose, ("N", 6))
        scale = MEAN_SCALE * torch.exp(pose[:, 3])
        return cls(euler_to_matrix(pose[:, :3]), scale, pose[:, 4:], height, width)

    @classmethod
    def from_300wlp(
        cls, pose_para: torch.Tensor, height: int, width: int, centroid_um: torch.Tensor | None = None
    ) -> WeakPerspectiveCamera:
        """From `Pose_Para` rows [N, 7] = (pitch, yaw, roll, tx, ty, tz, f) of 300W-LP files, METHODS 1.2.

        Their points are x = f R s + t with s in micrometres, 1-based pixels and y up. `centroid_um` [3] is the point of
        their frame, in micrometres, that is the origin here; None = the frames share the origin.
        """
        check_tensor("pose_para", pose_para, ("N", 7))
        rotation = matrix_from_300wlp(pose_para[:, :3])
        scale, offset = pose_para[:, 6], pose_para[:, 3:5]
        if centroid_um is not None:
            check_tensor("centroid_um", centroid_um, (3,), like=pose_para)
            offset = offset + scale[:, None] * (rotation * centroid_um).sum(-1)[:, :2]
        half = min(height, width) / 2.0
        center = offset.new_tensor([width / 2.0 + 0.5, height / 2.0 + 0.5])
        return cls(rotation, scale * (MICROMETRES_PER_UNIT / half), (offset - center) / half, height, width)

    def pose(self) -> torch.Tensor:
        """Returns the pose codes [N, 6]: the inverse of from_pose (yaw in [-pi/2, pi/2]). Differentiable."""
        log_scale = torch.log(self.scale / MEAN_SCALE)[:, None]
        return torch.cat([matrix_to_euler(self.rotation), log_scale, self.translation], 1)

    def to_camera(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Returns R s in mm: [N, P, 3] -> [N, P, 3]. The image offset is not part of it: depth is unobservable."""
        return self.rotate(points_mm)

    def ndc(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Returns normalised image coordinates q, y up, the shorter image side spanning [-1, 1]: -> [N, P, 2]."""
        return self._to_ndc(self.to_camera(points_mm))

    def _to_ndc(self, points_camera: torch.Tensor) -> torch.Tensor:
        return points_camera[..., :2] * (self.scale / MM_PER_UNIT)[:, None, None] + self.translation[:, None]

    def clip_matrix(self) -> torch.Tensor:
        """Returns [N, 4, 4]: (x, y, z, 1) in mm -> clip coordinates, w = 1, z = -(R s)_z / 500 mm."""
        shorter = min(self.height, self.width)
        scale, (right, up, backward) = self.scale[:, None] / MM_PER_UNIT, self.rotation.unbind(1)
        x_share, y_share = shorter / self.width, shorter / self.height
        zero = torch.zeros_like(self.scale)
        rows = [
            scale * x_share * right,
            scale * y_share * up,
            backward / -DEPTH_HALF_RANGE_MM,
            zero[:, None].expand(-1, 3),
        ]
        offset = [self.translation[:, 0] * x_share, self.translation[:, 1] * y_share, zero, torch.ones_like(zero)]
        return torch.cat([torch.stack(rows, 1), torch.stack(offset, 1)[:, :, None]], 2)

    def matrix(self) -> torch.Tensor:
        """Returns [N, 3, 4]: (x, y, z, 1) in mm -> (u, v, depth), no division.

        u, v in pixels; depth = -(R s)_z in mm, larger = farther.
        """
        half = min(self.height, self.width) / 2.0
        scale = (self.scale * (half / MM_PER_UNIT))[:, None]  # pixels per mm
        right, up, backward = self.rotation.unbind(1)
        center = ndc_to_pixel(self.translation, self.height, self.width)
        offsets = torch.cat([center, torch.zeros_like(center[:, :1])], 1)
        return torch.cat([torch.stack([scale * right, -scale * up, -backward], 1), offsets[:, :, None]], 2)

    def view_direction(self, points_camera: torch.Tensor) -> torch.Tensor:
        """Returns unit vectors from points in camera axes [N, ..., 3] towards the eye: always +z."""
        zero = torch.zeros_like(points_camera[..., 0])
        return torch.stack([zero, zero, torch.ones_like(zero)], -1)


@dataclasses.dataclass(frozen=True, eq=False)
class PerspectiveCamera(BaseCamera):
    """x_camera = R s + translation, eye at 0; depth d = -z; u = W/2 + focal x/d, v = H/2 - focal y/d. METHODS 1.3.

    rotation: [N, 3, 3]; translation: [N, 3] in mm, eye to object origin in camera axes (its z is negative for an
    object in front); focal: [N] in pixels; near, far: distances in mm between which surfaces are drawn.
    Points with d <= 0 lie behind the eye: `project` mirrors them, the rasterizer clips them.
    Raises ValueError for wrong shapes or dtypes, or unless 0 < near < far.
    """

    rotation: torch.Tensor
    focal: torch.Tensor
    translation: torch.Tensor
    height: int
    width: int
    near: float = 500.0
    far: float = 1500.0

    def __post_init__(self) -> None:
        self._check()
        check_tensor("translation", self.translation, (len(self), 3), like=self.rotation)
        check_tensor("focal", self.focal, (len(self),), like=self.rotation)
        if not 0.0 < self.near < self.far < math.inf:
            raise ValueError(f"near and far must satisfy 0 < near < far in mm, got {self.near} and {self.far}")

    @classmethod
    def from_pose(
        cls,
        angles: torch.Tensor,
        translation_mm: torch.Tensor,
        height: int = 224,
        width: int = 224,
        *,
        focal: float = 1015.0,
        distance: float = 1000.0,
        near: float = 500.0,
        far: float = 1500.0,
    ) -> PerspectiveCamera:
        """The weakly supervised system's form: S' = R s + t before an eye `distance` mm away on +z.

        angles: (pitch, yaw, roll) [N, 3] in radians; translation_mm: t [N, 3] in mm; focal in pixels.
        """
        sizes = check_tensor("angles", angles, ("N", 3))
        check_tensor("translation_mm", translation_mm, ("N", 3), like=angles, sizes=sizes)
        offset = torch.cat([translation_mm[:, :2], translation_mm[:, 2:] - distance], 1)
        focals = angles.new_full((sizes["N"],), focal)
        return cls(euler_to_matrix(angles), focals, offset, height, width, near, far)

    @classmethod
    def look_at(
        cls,
        eye: torch.Tensor,
        center: torch.Tensor,
        up: torch.Tensor,
        fov_y: torch.Tensor,
        height: int,
        width: int,
        *,
        near: float = 500.0,
        far: float = 1500.0,
    ) -> PerspectiveCamera:
        """The unsupervised regression system's form: an eye that looks at a point, as gluLookAt and gluPerspective.

        eye, center: [N, 3] in mm of the object frame; up: [N, 3], not parallel to the view; fov_y: [N], radians, the
        vertical field of view. focal = (H/2) / tan(fov_y / 2).
        """
        sizes = check_tensor("eye", eye, ("N", 3))
        for name, tensor in (("center", center), ("up", up)):
            check_tensor(name, tensor, ("N", 3), like=eye, sizes=sizes)
        check_tensor("fov_y", fov_y, ("N",), like=eye, sizes=sizes)
        backward = _unit(eye - center, "eye must differ from center")
        right = _unit(torch.linalg.cross(up, backward), "up must not be zero or parallel to the view")
        rotation = torch.stack([right, torch.linalg.cross(backward, right), backward], 1)
        translation = -(rotation * eye[:, None]).sum(-1)  # no matmul: autocast would lower its precision
        return cls(rotation, height / 2.0 / torch.tan(fov_y / 2.0), translation, height, width, near, far)

    def weak_perspective_pose(self) -> torch.Tensor:
        """Returns the pose codes [N, 6] of the weak perspective camera that draws the origin's surroundings alike.

        Differentiable; meaningless for an origin behind the eye.
        """
        depth = -self.translation[:, 2:]
        scale = self.focal[:, None] * (2.0 / min(self.height, self.width)) / depth  # NDC units per mm
        log_scale = torch.log(scale * (MM_PER_UNIT / MEAN_SCALE))
        return torch.cat([matrix_to_euler(self.rotation), log_scale, scale * self.translation[:, :2]], 1)

    def to_camera(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Returns R s + translation in mm, the eye at 0: [N, P, 3] -> [N, P, 3]."""
        return self.rotate(points_mm) + self.translation[:, None]

    def ndc(self, points_mm: torch.Tensor) -> torch.Tensor:
        """Returns normalised image coordinates q, y up, the shorter image side spanning [-1, 1]: -> [N, P, 2]."""
        points = self.to_camera(points_mm)
        scale = self.focal * (2.0 / min(self.height, self.width))
        return points[..., :2] * (scale[:, None] / -points[..., 2])[..., None]

    def clip_matrix(self) -> torch.Tensor:
        """Returns [N, 4, 4]: (x, y, z, 1) in mm -> clip coordinates as gluPerspective's, w = depth / 100 mm."""
        near, far = self.near / MM_PER_UNIT, self.far / MM_PER_UNIT
        x, y, z = (self._pose() / MM_PER_UNIT).unbind(1)
        focal = self.focal[:, None]
        z_offset = torch.nn.functional.pad(torch.full_like(focal, -2.0 * far * near / (far - near)), (3, 0))
        rows = [x * (focal * (2.0 / self.width)), y * (focal * (2.0 / self.height))]
        return torch.stack([*rows, z * (-(far + near) / (far - near)) + z_offset, -z], 1)

    def matrix(self) -> torch.Tensor:
        """Returns [N, 3, 4]: (x, y, z, 1) in mm -> (u d, v d, d) with d the depth in mm; divide by d for pixels."""
        x, y, z = self._pose().unbind(1)
        focal = self.focal[:, None]
        return torch.stack([focal * x - self.width / 2.0 * z, -focal * y - self.height / 2.0 * z, -z], 1)

    def _pose(self) -> torch.Tensor:
        """[N, 3, 4]: (x, y, z, 1) in mm -> camera axes in mm."""
        return torch.cat([self.rotation, self.translation[:, :, None]], 2)

    def view_direction(self, points_camera: torch.Tensor) -> torch.Tensor:
        """Returns unit vectors from points in camera axes [N, ..., 3] towards the eye at 0; 0 for a point there."""
        return -torch.nn.functional.normalize(points_camera, dim=-1)


def _unit(vectors: torch.Tensor, requirement: str) -> torch.Tensor:
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    if not torch.compiler.is_compiling() and bool((length <= 0).any()):
        raise ValueError(f"{requirement} in every image")
    return vectors / length


Camera = WeakPerspectiveCamera | PerspectiveCamera
