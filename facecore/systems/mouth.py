"""The inside of a mouth, which no face model holds: taken from one picture for the open lips of a face in another."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw

from facecore.data import FaceCrop
from facecore.evaluation.transfer_page import Seen
from facecore.systems.reconstruction import Reconstruction

LIPS, INNER_LIPS = slice(48, 68), slice(60, 68)  # iBUG points
ENLARGED = 1.15  # of the polygon: the face, which is drawn over it, opens a little wider than the points of its lips
SUPERSAMPLING = 4


def paste_mouth(below: Seen, face: Reconstruction, driver: Seen) -> torch.Tensor:
    """The picture `below` [3, H, W] with the driver's mouth where `face`, in that picture, opens its lips.

    The least-squares affine map between the 20 points of both faces' lips carries the pixels. Pixels outside of the
    inner lips stay to the bit. face: one face, with the camera of below.crop; drawn over the picture afterwards, it
    leaves to be seen what lies in its mouth.
    """
    image = below.image.detach().cpu().float()
    lips, from_lips = points_in_picture(face, below.crop), points_in_picture(driver.face, driver.crop)
    inner = lips[INNER_LIPS]
    polygon = inner.mean(0) + ENLARGED * (inner - inner.mean(0))
    low = polygon.amin(0).floor().clamp_min(0).long()
    high = torch.minimum(polygon.amax(0).ceil().long(), torch.tensor([image.shape[2], image.shape[1]]))
    width, height = (high - low).tolist()
    if width <= 0 or height <= 0:
        return image
    ones = torch.ones(20, 1, dtype=torch.float64)
    affine = torch.linalg.lstsq(torch.cat([lips[LIPS], ones], 1), from_lips[LIPS]).solution  # [3, 2]
    rows = torch.arange(height, dtype=torch.float64) + low[1] + 0.5
    columns = torch.arange(width, dtype=torch.float64) + low[0] + 0.5
    v, u = torch.meshgrid(rows, columns, indexing="ij")
    places = torch.stack([u, v, torch.ones_like(u)], -1) @ affine
    pixels = _sampled(
        driver.image.detach().cpu().float(), places, step=float(torch.linalg.det(affine[:2]).abs().sqrt())
    )
    weight = _filled(polygon - low, height, width)
    window = (slice(None), slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
    result = image.clone()
    result[window] = torch.where(weight > 0, weight * pixels + (1 - weight) * image[window], image[window])
    return result


def points_in_picture(face: Reconstruction, crop: FaceCrop) -> torch.Tensor:
    """The 68 points of one face in pixels of the picture that the crop was cut from, float64 [68, 2] on the CPU."""
    points = face.landmarks_2d[0].detach().cpu().double()
    return crop.resized(face.camera.height, face.camera.width).to_image(points)


def _sampled(image: torch.Tensor, places: torch.Tensor, step: float) -> torch.Tensor:
    """A picture [3, H, W] at places [h, w, 2] that lie `step` pixels apart, filtered where that is more than one."""
    low, high = places.amin((0, 1)), places.amax((0, 1))
    side = float((high - low).max()) + 4 * max(1.0, step)
    size = math.ceil(side / max(1.0, step))
    centre = ((low + high) / 2).tolist()
    crop = FaceCrop((centre[0], centre[1]), side, size, size)
    grid = crop.to_crop(places) * (2 / size) - 1
    return torch.nn.functional.grid_sample(crop.crop(image)[None], grid[None].float(), align_corners=False)[0]


def _filled(polygon: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """How much of each pixel lies inside a polygon [P, 2], float32 [height, width]."""
    canvas = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    corners = [(float(u) * SUPERSAMPLING - 0.5, float(v) * SUPERSAMPLING - 0.5) for u, v in polygon]
    ImageDraw.Draw(canvas).polygon(corners, fill=255)
    return torch.from_numpy(np.asarray(canvas.resize((width, height), Image.Resampling.BOX), dtype=np.float32) / 255)
