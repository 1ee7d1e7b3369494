"""The square around a face that a network sees, and the exact map between it and the picture (METHODS 7, detector)."""

from __future__ import annotations

import dataclasses
import math

import torch

from facecore.data.landmarks import Landmarks
from facecore.render.affine import apply_affine, invert_affine

BOX_FACTOR = 1.5  # side of the crop over the mean of width and height of the landmarks' box (METHODS 7)

# From five points, the box of the 68 is estimated: its centre at eyes + mouth - nose (middles of the eyes and of the
# mouth, nose tip), which follows a turned head where the mean of the points does not; its size from the points'
# root-mean-square distance to their mean, as this fraction of it. Fitted to 2,000 faces of the ICT model at yaw +-45,
# pitch +-20 degrees and to 45 photographs: centre within 8 % (faces) and 10 % (photographs) of the box on average,
# size within 4 % (one standard deviation).
FIVE_POINT_SPREAD = 0.274


@dataclasses.dataclass(frozen=True)
class FaceCrop:
    """An upright crop of a picture: a square of the picture fills the short side of `height` x `width` pixels.

    centre: (u, v) of the square's centre in continuous pixels of the picture (METHODS 1.2).
    side: the square's side in pixels of the picture.
    height, width: size of the crop in pixels; where they differ, the longer one shows more of the picture.
    """

    centre: tuple[float, float]
    side: float
    height: int
    width: int

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (*self.centre, self.side))) or self.side <= 0:
            raise ValueError(f"a crop needs a finite centre and a positive side, got {self.centre} and {self.side}")
        if self.height < 1 or self.width < 1:
            raise ValueError(f"height and width must be positive, got {self.height} and {self.width}")

    @classmethod
    def from_landmarks(cls, landmarks: Landmarks | torch.Tensor, height: int, width: int) -> FaceCrop:
        """The crop of METHODS 7 around the box of 68 points, or around the box estimated from 5.

        Raises ValueError for another number of points or for points that fall together.
        """
        points = landmarks.points if isinstance(landmarks, Landmarks) else landmarks
        centre, side = landmark_boxes(points[None].double())
        if not float(side) > 0:
            raise ValueError("the landmarks must be finite and not all at one place to crop around them")
        return cls((float(centre[0, 0]), float(centre[0, 1])), BOX_FACTOR * float(side), height, width)

    @classmethod
    def whole(cls, image_height: int, image_width: int, height: int, width: int) -> FaceCrop:
        """The crop that holds a whole picture which is cropped already; what it lacks is filled from its edges."""
        side = max(image_height / height, image_width / width) * min(height, width)
        return cls((image_width / 2, image_height / 2), side, height, width)

    @property
    def scale(self) -> float:
        """Pixels of the crop per pixel of the picture."""
        return min(self.height, self.width) / self.side

    def resized(self, height: int, width: int, factor: float = 1.0) -> FaceCrop:
        """The same centre in another size, the square `factor` times as large."""
        return FaceCrop(self.centre, self.side * factor, height, width)

    def matrix(self) -> torch.Tensor:
        """Picture to crop, float64 [2, 3], in continuous pixels of both: (u', v') = matrix @ (u, v, 1)."""
        scale, (u, v) = self.scale, self.centre
        rows = [[scale, 0.0, self.width / 2 - scale * u], [0.0, scale, self.height / 2 - scale * v]]
        return torch.tensor(rows, dtype=torch.float64)

    def inverse(self) -> torch.Tensor:
        """Crop to picture, float64 [2, 3]."""
        return invert_affine(self.matrix())

    def to_crop(self, points: torch.Tensor) -> torch.Tensor:
        """Points [..., 2] of the picture as points of the crop, in the dtype of `points`. Differentiable."""
        return apply_affine(self.matrix().to(points), points)

    def to_image(self, points: torch.Tensor) -> torch.Tensor:
        """Points [..., 2] of the crop as points of the picture. Differentiable."""
        return apply_affine(self.inverse().to(points), points)

    def crop(self, image: torch.Tensor) -> torch.Tensor:
        """Resamples a picture [C, H, W] into the crop [C, height, width].

        Bilinear, with the filter widened where the crop is coarser than the picture, so that nothing aliases; beyond
        its border the picture goes on with its edge pixels. Differentiable in `image`, which must be floating point.
        """
        if image.ndim != 3 or not image.is_floating_point() or 0 in image.shape:
            raise ValueError(f"image must be floating point [C, H, W], got {image.dtype} {list(image.shape)}")
        (left, top), _ = self._corners()
        rows, columns = image.shape[1:]
        first_row, vertical = _resampling(top, 1 / self.scale, self.height, rows)
        first_column, horizontal = _resampling(left, 1 / self.scale, self.width, columns)
        part = image[:, first_row : first_row + vertical.shape[1], first_column : first_column + horizontal.shape[1]]
        return vertical.to(part) @ part @ horizontal.to(part).T

    def inside(self, image_height: int, image_width: int) -> torch.Tensor:
        """Which pixels of the crop have their centre inside the picture, bool [height, width]."""
        (left, top), step = self._corners()
        u = left + (torch.arange(self.width, dtype=torch.float64) + 0.5) * step
        v = top + (torch.arange(self.height, dtype=torch.float64) + 0.5) * step
        return ((v >= 0) & (v <= image_height))[:, None] & ((u >= 0) & (u <= image_width))[None, :]

    def _corners(self) -> tuple[tuple[float, float], float]:
        step = 1 / self.scale
        return (self.centre[0] - step * self.width / 2, self.centre[1] - step * self.height / 2), step


def landmark_boxes(points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Centre [N, 2] and mean of width and height [N] of the boxes of 68 points [N, 68, 2]; estimates for [N, 5, 2].

    Differentiable. The crop's side is BOX_FACTOR times the size. Raises ValueError for another shape.
    """
    if points.ndim != 3 or points.shape[1] not in (5, 68) or points.shape[2] != 2:
        raise ValueError(f"points must have shape [N, 68, 2] or [N, 5, 2], got {list(points.shape)}")
    if points.shape[1] == 68:
        low, high = points.amin(1), points.amax(1)
        return (low + high) / 2, (high - low).mean(1)
    eyes, mouth = points[:, 0:2].mean(1), points[:, 3:5].mean(1)
    spread = (points - points.mean(1, keepdim=True)).square().sum(2).mean(1).sqrt()
    return eyes + mouth - points[:, 2], spread / FIVE_POINT_SPREAD


def _resampling(start: float, step: float, count: int, length: int) -> tuple[int, torch.Tensor]:
    """One axis of the resampling: the first pixel needed, and weights float64 [count, needed], rows summing to 1.

    Output pixel i is centred at start + (i + 0.5) * step; the filter is a triangle of half-width max(step, 1) pixels.
    Pixels beyond the border count for the pixel at the border.
    """
    reach = max(step, 1.0)
    centre = start + (torch.arange(count, dtype=torch.float64) + 0.5) * step
    taps = torch.arange(math.ceil(2 * reach) + 1, dtype=torch.float64)
    index = (centre - reach - 0.5).ceil()[:, None] + taps
    weight = (1 - (index + 0.5 - centre[:, None]).abs() / reach).clamp(min=0)
    weight = weight / weight.sum(1, keepdim=True)
    index = index.clamp(0, length - 1).long()
    first = int(index.min())
    matrix = torch.zeros(count, int(index.max()) - first + 1, dtype=torch.float64)
    return first, matrix.scatter_add_(1, index - first, weight)
