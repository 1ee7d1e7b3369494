"""The renderer: vertices, albedo, camera and light to pictures, by deferred shading."""

from __future__ import annotations

import dataclasses

import torch

from facecore import _C, ops
from facecore.ops._library import check_tensor
from facecore.render.cameras import Camera
from facecore.render.lighting import PhongLights, phong_shading
from facecore.structures import Fragments, Texture


@dataclasses.dataclass(frozen=True, eq=False)
class Rendering:
    """Pictures of one batch. All are 0 where nothing is drawn, but `image`, which shows the background there.

    image: [N, 3, H, W], not clamped; alpha: [N, H, W], 1 where covered, no gradient; fragments: the rasterizer's;
    albedo, normals (unit, camera axes): [N, 3, H, W]; shading: [N, 3, H, W], with SH light image = albedo * shading
    on the face, with Phong lights image / albedo is not defined and shading is None.
    """

    image: torch.Tensor
    alpha: torch.Tensor
    fragments: Fragments
    albedo: torch.Tensor
    shading: torch.Tensor | None
    normals: torch.Tensor


class Renderer(torch.nn.Module):
    """Draws meshes of one topology.

    Args:
        triangles: int32 [T, 3], counter-clockwise from outside; moved with the module, not part of its state_dict.
        height, width: of the pictures, in pixels.
        cull_backfaces: draw only triangles that face the camera.
    """

    triangles: torch.Tensor

    def __init__(self, triangles: torch.Tensor, height: int, width: int, *, cull_backfaces: bool = False) -> None:
        super().__init__()
        check_tensor("triangles", triangles, ("T", 3), (torch.int32,))
        if height < 1 or width < 1:
            raise ValueError(f"height and width must be at least 1, got {height} and {width}")
        self.height, self.width, self.cull_backfaces = height, width, cull_backfaces
        self.register_buffer("triangles", triangles, persistent=False)

    def forward(
        self,
        vertices_mm: torch.Tensor,
        albedo: torch.Tensor | Texture,
        camera: Camera,
        sh_coefficients: torch.Tensor | None = None,
        background: torch.Tensor | None = None,
        *,
        lights: PhongLights | None = None,
    ) -> Rendering:
        """Returns the pictures. Exactly one of sh_coefficients and lights is given.

        Args:
            vertices_mm: float32 or float64 [N, V, 3], object frame.
            albedo: reflectance in [0, 1] per vertex, [N, V, 3]; or a Texture of three channels, sampled at each pixel.
            camera: N cameras of this picture size.
            sh_coefficients: effective spherical-harmonics light in camera axes, [N, 9, 3].
            background: [N, 3, H, W], shown where nothing is drawn; None = black.
            lights: point lights in camera axes, for Phong shading.

        Differentiable (twice; once with a Texture) in vertices, albedo, camera, light and background; coverage itself
        has no gradient, so silhouettes move nothing. A covered pixel whose normals cancel is black. Computes in the
        inputs' dtype under autocast. Raises ValueError for wrong shapes, dtypes or devices.
        """
        self._check(vertices_mm, albedo, camera, background)
        if (sh_coefficients is None) == (lights is None):
            raise ValueError("give exactly one of sh_coefficients and lights")
        fragments = self.rasterize(vertices_mm, camera)
        normals = camera.rotate(ops.vertex_normals(vertices_mm, self.triangles))
        # where a texture is read, or the colour itself
        place = albedo.uv.expand(len(vertices_mm), -1, -1) if isinstance(albedo, Texture) else albedo
        # Attribute by attribute: one call for all would cost a copy to join them, and slices that no kernel reads well.
        normals, pixel_albedo = self._at_pixels(normals, fragments), self._at_pixels(place, fragments)
        covered = (fragments.triangle_id >= 0)[..., None]
        if isinstance(albedo, Texture):
            pixel_albedo = torch.where(covered, ops.uv_sample(albedo.image, pixel_albedo), 0.0)
        shading = None
        if sh_coefficients is not None:
            color, shading, normals = ops.surface_shading(normals, pixel_albedo, sh_coefficients)
        else:
            assert lights is not None
            normals = _unit_normals(normals, covered)
            positions = self._at_pixels(camera.to_camera(vertices_mm), fragments)
            color = _phong(positions, normals, pixel_albedo, covered, camera, lights)
            color = torch.where((normals != 0).any(-1, keepdim=True), color, 0.0)  # and nothing is covered elsewhere
        image = _channels_first(color)
        if background is not None:
            image = torch.where(covered.squeeze(-1)[:, None], image, background)
        return Rendering(
            image=image,
            alpha=covered.squeeze(-1).to(image.dtype),
            fragments=fragments,
            albedo=_channels_first(pixel_albedo),
            shading=None if shading is None else _channels_first(shading),
            normals=_channels_first(normals),
        )

    def rasterize(self, vertices_mm: torch.Tensor, camera: Camera) -> Fragments:
        """Returns only what covers each pixel, for masks and visibility."""
        clip = camera.to_clip(vertices_mm)
        return ops.rasterize(clip, self.triangles, self.height, self.width, cull_backfaces=self.cull_backfaces)

    def interpolate(self, attributes: torch.Tensor, fragments: Fragments) -> torch.Tensor:
        """Returns any vertex attribute as a picture: [N, V, C] -> [N, C, H, W], 0 where nothing is drawn."""
        return _channels_first(self._at_pixels(attributes, fragments))

    def _at_pixels(self, attributes: torch.Tensor, fragments: Fragments) -> torch.Tensor:
        return ops.interpolate(attributes, self.triangles, fragments.triangle_id, fragments.barycentric)

    def _check(
        self, vertices_mm: torch.Tensor, albedo: torch.Tensor | Texture, camera: Camera, background: torch.Tensor | None
    ) -> None:
        sizes = check_tensor("vertices_mm", vertices_mm, ("N", "V", 3))
        if isinstance(albedo, Texture):
            check_tensor("albedo.image", albedo.image, ("N", 3, "Hu", "Wu"), like=vertices_mm, sizes=sizes)
            check_tensor("albedo.uv", albedo.uv, ("V", 2), like=vertices_mm, sizes=sizes)
        else:
            check_tensor("albedo", albedo, ("N", "V", 3), like=vertices_mm, sizes=sizes)
        if (camera.height, camera.width) != (self.height, self.width) or len(camera) != sizes["N"]:
            raise ValueError(
                f"camera must hold {sizes['N']} cameras of {self.height} x {self.width} pixels, "
                f"got {len(camera)} of {camera.height} x {camera.width}"
            )
        if background is not None:
            shape = ("N", 3, self.height, self.width)
            check_tensor("background", background, shape, like=vertices_mm, sizes=sizes)


def _phong(
    positions: torch.Tensor,
    normals: torch.Tensor,
    albedo: torch.Tensor,
    covered: torch.Tensor,
    camera: Camera,
    lights: PhongLights,
) -> torch.Tensor:
    """Phong colours of pixels [N, H, W, 3]; uncovered ones are moved off the eye, which has no direction."""
    positions = torch.where(covered, positions, -1.0)
    view = camera.view_direction(positions)
    flat = [tensor.flatten(1, 2) for tensor in (positions, normals, albedo, view)]
    return phong_shading(flat[0], flat[1], flat[2], flat[3], lights).view_as(positions)


def _unit_normals(normals: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """Unit normals [N, H, W, 3]; 0 where uncovered, where no derivative of any order divides by zero."""
    squared = (normals * normals).sum(-1, keepdim=True)
    usable = covered & (squared > _C.normal_epsilon**2)
    # A factor of one channel is chosen instead of a result of three: where() is slow.
    return normals * torch.where(usable, torch.rsqrt(torch.where(usable, squared, 1.0)), 0.0)


def _channels_first(pixels: torch.Tensor) -> torch.Tensor:
    """[N, H, W, C] -> [N, C, H, W] without a copy: the result is in channels_last memory format."""
    return pixels.permute(0, 3, 1, 2)
