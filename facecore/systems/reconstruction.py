"""What every system answers: faces in millimetres, their colour, light and camera."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch

from facecore.ops._library import check_tensor
from facecore.render import Camera
from facecore.structures import Texture


@dataclasses.dataclass(frozen=True, eq=False)
class Reconstruction:
    """N reconstructed faces of one topology.

    vertices, neutral_vertices: float [N, V, 3], mm, object frame (origin at the template's centroid); the second
        without expression. triangles: int32 [T, 3]. albedo: [N, V, 3] in [0, 1].
    camera: of the crop that the system saw. pose: [N, 6] pitch, yaw, roll in radians, c_f, t_x, t_y (METHODS 1.2, 1.3).
    sh_coefficients: effective light in camera axes, [N, 9, 3].
    codes: the system's own latent codes by name, each [N, size].
    landmarks68: int64 [68], vertices.
    texture: the albedo over UV space, image [N, 3, Hu, Wu], where the system makes one; albedo is its value at the
        vertices.

    Raises ValueError when the sizes do not agree.
    """

    vertices: torch.Tensor
    neutral_vertices: torch.Tensor
    triangles: torch.Tensor
    albedo: torch.Tensor
    camera: Camera
    pose: torch.Tensor
    sh_coefficients: torch.Tensor
    codes: dict[str, torch.Tensor]
    landmarks68: torch.Tensor
    texture: Texture | None = None

    def __post_init__(self) -> None:
        sizes = check_tensor("vertices", self.vertices, ("N", "V", 3))
        for name, shape in (
            ("neutral_vertices", ("N", "V", 3)),
            ("albedo", ("N", "V", 3)),
            ("pose", ("N", 6)),
            ("sh_coefficients", ("N", 9, 3)),
        ):
            check_tensor(name, getattr(self, name), shape, like=self.vertices, sizes=sizes)
        check_tensor("triangles", self.triangles, ("T", 3), (torch.int32,), like=self.vertices)
        check_tensor("landmarks68", self.landmarks68, (68,), (torch.int64,), like=self.vertices)
        if len(self.camera) != sizes["N"]:
            raise ValueError(f"camera must hold {sizes['N']} cameras, one per face, got {len(self.camera)}")
        if self.texture is not None:
            check_tensor("texture.image", self.texture.image, ("N", 3, "Hu", "Wu"), like=self.vertices, sizes=sizes)
            check_tensor("texture.uv", self.texture.uv, ("V", 2), like=self.vertices, sizes=sizes)
        for name, code in self.codes.items():
            check_tensor(f"codes['{name}']", code, ("N", f"size of {name}"), like=self.vertices, sizes=sizes)

    def __len__(self) -> int:
        return self.vertices.shape[0]

    def __getitem__(self, index: slice | torch.Tensor) -> Reconstruction:
        """Some of the faces: a slice, or an int64 or bool tensor."""
        if not isinstance(index, (slice, torch.Tensor)):
            raise ValueError(f"index a reconstruction with a slice or a tensor, got {type(index).__name__}")
        return self._map(lambda tensor: tensor[index], self.camera[index])

    def to(self, device: torch.device | str | None = None) -> Reconstruction:
        """The same on another device."""
        moved = self._map(lambda tensor: tensor.to(device), self.camera.to(device))
        texture = moved.texture and moved.texture._replace(uv=moved.texture.uv.to(device))
        triangles, landmarks68 = self.triangles.to(device), self.landmarks68.to(device)
        return dataclasses.replace(moved, triangles=triangles, landmarks68=landmarks68, texture=texture)

    def detach(self) -> Reconstruction:
        return self._map(torch.Tensor.detach, self.camera.detach())

    def _map(self, function: Callable[[torch.Tensor], torch.Tensor], camera: Camera) -> Reconstruction:
        names = ("vertices", "neutral_vertices", "albedo", "pose", "sh_coefficients")
        codes = {name: function(code) for name, code in self.codes.items()}
        tensors = {name: function(getattr(self, name)) for name in names}
        texture = self.texture and self.texture._replace(image=function(self.texture.image))
        return dataclasses.replace(self, **tensors, camera=camera, codes=codes, texture=texture)

    @property
    def surface(self) -> torch.Tensor | Texture:
        """The albedo in as much detail as there is, as the renderer takes it."""
        return self.albedo if self.texture is None else self.texture

    @property
    def landmarks_3d(self) -> torch.Tensor:
        """The 68 vertices, [N, 68, 3] in mm."""
        return self.vertices[:, self.landmarks68]

    @property
    def landmarks_2d(self) -> torch.Tensor:
        """The 68 vertices projected, [N, 68, 2] in pixels of the crop."""
        return self.camera.project(self.landmarks_3d)
