"""Pictures of one reconstructed face: over the photograph, and its shape, albedo, light and landmarks apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw

from facecore import ops
from facecore.data import FaceCrop, Landmarks
from facecore.render import Camera, PerspectiveCamera, Renderer, WeakPerspectiveCamera, euler_to_matrix
from facecore.structures import Texture

if TYPE_CHECKING:
    from facecore.systems.reconstruction import Reconstruction

WIDER = 1.7  # of the crop's side: holds a whole head where the crop holds the landmarks
VIEW = 1.4  # of the crop's side: what the panels show
LARGEST = 2048  # pixels: a face that is larger in its picture is drawn at this size and enlarged
SUPERSAMPLING = 2
SMOOTHED = 1024  # pixels: larger pictures are drawn without supersampling, which would take gigabytes
GREY = 0.78  # albedo of a shape without its colours
WHITE = 0.75  # albedo on which light is shown, less where that would be clipped
THREE_QUARTERS = math.radians(40.0)
# Light of the shape pictures: 0.20 + 0.62 n_z + 0.30 n_y - 0.18 n_x, from the basis of METHODS 1.5.
STUDIO_LIGHT: Mapping[int, float] = {0: 0.20 / 0.886227, 1: -0.30 / 1.772454, 2: 0.62 / 1.772454, 3: 0.18 / 1.772454}
OWN, GIVEN = (0, 200, 255), (255, 120, 0)  # colours of projected and of given landmarks
MARGIN = 0.94  # share of the picture that a shape fills


def draw_over_picture(face: Reconstruction, image: torch.Tensor, crop: FaceCrop) -> torch.Tensor:
    """The picture [3, H, W] in [0, 1] with the lit, coloured face drawn where the reconstruction says it is.

    Through the mouth and between the lids the picture is seen, not the inside of the face's other side.
    """
    height, width = image.shape[1:]
    size = min(LARGEST, max(64, math.ceil(crop.side * WIDER)))
    wide = crop.resized(size, size, WIDER)
    drawn = rgba(face, wider_camera(face.camera, WIDER, size), cull_backfaces=True)
    (left, top), (right, bottom) = wide.to_image(torch.tensor([[0.0, 0.0], [size, size]], dtype=torch.float64)).tolist()
    rows, columns = _pixels_between(top, bottom, height), _pixels_between(left, right, width)
    result = image.detach().cpu().float().clone()
    if not len(rows) or not len(columns):
        return result
    v, u = torch.meshgrid(rows.double() + 0.5, columns.double() + 0.5, indexing="ij")
    grid = wide.to_crop(torch.stack((u, v), -1)) * (2 / size) - 1
    layer = torch.nn.functional.grid_sample(drawn[None], grid[None].float(), align_corners=False)[0]
    window = (slice(None), slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1))
    result[window] = layer[:3] + (1 - layer[3]) * result[window]
    return result.clamp(0, 1)


def panels(
    face: Reconstruction, image: torch.Tensor, crop: FaceCrop, landmarks: Landmarks | None = None, size: int = 320
) -> dict[str, torch.Tensor]:
    """Square pictures [4, size, size] of one face, RGBA with colours multiplied by alpha, by caption.

    Input, overlay and landmarks show the crop with some more around it; shape is the untextured surface from the front
    and from three quarters, in the same scale; albedo and light are in the pose of the picture.
    """
    wide = crop.resized(size, size, VIEW)
    small = wide.crop(image.detach().cpu().float()).clamp(0, 1)
    camera = wider_camera(face.camera, VIEW, size)
    own = rgba(face, camera, cull_backfaces=True)
    return {
        "input": opaque(small),
        "overlay": opaque((own[:3] + (1 - own[3]) * small).clamp(0, 1)),
        "shape, front": shape_view(face, 0.0, size),
        "shape, three quarters": shape_view(face, THREE_QUARTERS, size),
        "albedo": rgba(face, camera, light=flat_light(face)),
        "light": rgba(face, camera, albedo=torch.full_like(face.albedo, unclipped_grey(face))),
        "landmarks": opaque(draw_landmarks(small, face, camera, wide, landmarks)),
    }


@torch.no_grad()
def unclipped_grey(face: Reconstruction) -> float:
    """The grey, WHITE at most, on which the light stays below 1 at 99 % of the vertices that face the camera."""
    normals = face.camera.rotate(ops.vertex_normals(face.vertices, face.triangles))
    shading = ops.sh_shading(normals, face.sh_coefficients).amax(-1)[normals[..., 2] > 0]
    return min(WHITE, 1 / max(1.0, float(shading.quantile(0.99)))) if len(shading) else WHITE


def wider_camera(camera: Camera, factor: float, size: int) -> Camera:
    """The camera of a square crop around the same centre, `factor` times as large, drawn with size x size pixels."""
    if isinstance(camera, PerspectiveCamera):
        focal = camera.focal * (size / (min(camera.height, camera.width) * factor))
        return dataclasses.replace(camera, focal=focal, height=size, width=size)
    return dataclasses.replace(
        camera, scale=camera.scale / factor, translation=camera.translation / factor, height=size, width=size
    )


def rgba(
    face: Reconstruction,
    camera: Camera,
    *,
    albedo: torch.Tensor | None = None,
    light: torch.Tensor | None = None,
    cull_backfaces: bool = False,
) -> torch.Tensor:
    """The face on nothing, [4, S, S] in [0, 1] on the CPU, colours multiplied by alpha, edges smoothed."""
    surface = face.surface if albedo is None else albedo
    lit = face.sh_coefficients if light is None else light
    return draw(face.vertices, face.triangles, surface, camera, lit, cull_backfaces=cull_backfaces)


def draw(
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    albedo: torch.Tensor | Texture,
    camera: Camera,
    light: torch.Tensor,
    *,
    cull_backfaces: bool = False,
) -> torch.Tensor:
    """One surface [1, V, 3] as `rgba` draws a face; albedo [1, V, 3] or a texture, light [1, 9, 3]."""
    scale = SUPERSAMPLING if camera.height <= SMOOTHED else 1
    fine = wider_camera(camera, 1.0, camera.height * scale)
    renderer = Renderer(triangles, fine.height, fine.width, cull_backfaces=cull_backfaces)
    with torch.no_grad():
        drawn = renderer(vertices, albedo, fine, light)
        layer = torch.cat([drawn.image[0].clamp(0, 1) * drawn.alpha, drawn.alpha])
        return torch.nn.functional.avg_pool2d(layer[None].float(), scale)[0].cpu()


def shape_view(face: Reconstruction, yaw: float, size: int) -> torch.Tensor:
    """The surface in grey from a given side, [4, size, size], centred; the scale does not depend on the side."""
    return surface_view(face.vertices, face.triangles, torch.full_like(face.albedo, GREY), yaw, size)


def surface_view(
    vertices: torch.Tensor,
    triangles: torch.Tensor,
    albedo: torch.Tensor,
    yaw: float,
    size: int,
    lighting: Mapping[int, float] = STUDIO_LIGHT,
) -> torch.Tensor:
    """A surface [1, V, 3] mm with any colours [1, V, 3], as `shape_view`; lighting: white SH coefficients by number."""
    low, high = vertices[0].amin(0), vertices[0].amax(0)
    center = (low + high) / 2
    points = vertices - center
    radius = float(torch.stack([points[..., [0, 2]].norm(dim=-1).max(), points[..., 1].abs().max()]).max())
    camera = WeakPerspectiveCamera(
        euler_to_matrix(vertices.new_tensor([[0.0, yaw, 0.0]])),
        vertices.new_tensor([MARGIN * 100.0 / radius]),
        vertices.new_zeros(1, 2),
        size,
        size,
    )
    light = vertices.new_zeros(1, 9, 3)
    for index, value in lighting.items():
        light[:, index] = value
    return draw(points, triangles, albedo, camera, light)


def flat_light(face: Reconstruction) -> torch.Tensor:
    """Effective coefficients of a shading that is 1 everywhere."""
    light = torch.zeros_like(face.sh_coefficients)
    light[:, 0] = 1 / 0.886227
    return light


def draw_landmarks(
    picture: torch.Tensor, face: Reconstruction, camera: Camera, crop: FaceCrop, landmarks: Landmarks | None
) -> torch.Tensor:
    """The crop [3, S, S], of that camera, with the face's 68 landmarks as dots and the given ones as rings."""
    size = picture.shape[-1]
    scale = SUPERSAMPLING
    canvas = Image.fromarray((picture * 255).round().byte().permute(1, 2, 0).numpy()).resize((size * scale,) * 2)
    brush = ImageDraw.Draw(canvas)
    radius = scale * max(1.2, size / 200)
    if landmarks is not None:
        for u, v in (crop.to_crop(landmarks.points) * scale).tolist():
            box = (u - 1.8 * radius, v - 1.8 * radius, u + 1.8 * radius, v + 1.8 * radius)
            brush.ellipse(box, outline=GIVEN, width=scale)
    for u, v in (camera.project(face.landmarks_3d)[0] * scale).tolist():
        brush.ellipse((u - radius, v - radius, u + radius, v + radius), fill=OWN)
    small = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), dtype=np.float32) / 255
    return torch.from_numpy(small).permute(2, 0, 1)


def _pixels_between(low: float, high: float, length: int) -> torch.Tensor:
    """The pixels of one axis that overlap [low, high]; empty where it lies outside the picture."""
    first = min(max(0, math.floor(low)), length)
    return torch.arange(first, max(first, min(length, math.ceil(high))))


def opaque(picture: torch.Tensor) -> torch.Tensor:
    """[3, H, W] -> [4, H, W]."""
    return torch.cat([picture, torch.ones_like(picture[:1])])
