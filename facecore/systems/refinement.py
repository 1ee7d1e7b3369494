"""Analysis by synthesis: pose, light and codes of faces adjusted to photographs through facecore's own renderer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Protocol

import torch
from scipy.ndimage import distance_transform_edt

from facecore import losses
from facecore.data import five_points
from facecore.ops import sh_shading
from facecore.ops._library import check_tensor
from facecore.render import Renderer, Rendering, pixel_to_ndc
from facecore.systems.parameterization import FaceParameters
from facecore.systems.reconstruction import Reconstruction

LANDMARK_NOISE = 0.012  # NDC, 1 % of a face that fills 1.2 of the crop's 2 units: the sigma_px of METHODS 3
CONTOUR_WEIGHT = 0.3  # of points 0-16: detectors put them on the silhouette, which is another place on a turned head
GEOMETRY_SHARE = 0.4  # of the steps: landmarks alone, before pixels join
LIGHT_RIDGE = 0.05  # of the closed-form light, per pixel, towards typical light
# Typical effective light: shading near 1, no direction. Without it a bright light on a dark albedo explains a picture
# as well as a dim light on a light one; standard deviation of one coefficient.
LIGHT_AMBIENT, LIGHT_STD = 1.1, 0.3


class Diverged(RuntimeError):
    """The objective became NaN or infinite."""


@dataclasses.dataclass(frozen=True)
class RefinementWeights:
    """Weights of the objective; the landmark and prior terms are a negative log-likelihood, METHODS 3 'lam'.

    So is the photometric term: about the number of a mask's pixels at 160 x 160, for Laplacian noise whose scale stands
    for errors that neighbours share. Chosen with the rates and CODE_SCALE where the true shape is known, on 24 held-out
    renders from a trained `small`: refinement raises the gain in shape over the mean face from 25 to 43 %.
    """

    photometric: float = 10_000.0
    gradient_difference: float = 0.5
    landmark: float = 1.0
    prior: float = 1.0
    coverage: float = 1.0  # relative to `photometric`: of a mask pixel that lies LANDMARK_NOISE outside the face
    learning_rate: float = 0.06


class Progress(Protocol):
    def __call__(self, step: int, total: int, loss: float) -> None: ...


@dataclasses.dataclass(frozen=True)
class Observation:
    """What the photographs show: floating point. Raises ValueError for other shapes or dtypes.

    images: [N, 3, H, W] in [0, 1]. mask: [N, H, W], visible face skin. Landmarks in pixels of the images, each with a
    weight, 0 = unknown: 68 points [N, 68, 2] and 5 points [N, 5, 2].
    """

    images: torch.Tensor
    mask: torch.Tensor
    landmarks: torch.Tensor
    landmark_weight: torch.Tensor
    five_points: torch.Tensor
    five_point_weight: torch.Tensor

    def __post_init__(self) -> None:
        sizes = check_tensor("images", self.images, ("N", 3, "H", "W"))
        for name, shape in (
            ("mask", ("N", "H", "W")),
            ("landmarks", ("N", 68, 2)),
            ("landmark_weight", ("N", 68)),
            ("five_points", ("N", 5, 2)),
            ("five_point_weight", ("N", 5)),
        ):
            check_tensor(name, getattr(self, name), shape, like=self.images, sizes=sizes)

    def landmarks_ndc(self) -> torch.Tensor:
        return pixel_to_ndc(self.landmarks, *self.images.shape[-2:])

    def five_points_ndc(self) -> torch.Tensor:
        return pixel_to_ndc(self.five_points, *self.images.shape[-2:])


@dataclasses.dataclass
class Refined:
    """The refined faces, and the photometric error [N] before and after in the same frozen mask."""

    reconstruction: Reconstruction
    error_before: torch.Tensor
    error_after: torch.Tensor


def colour_error(rendering: Rendering, images: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean absolute colour difference over the mask, [N] in [0, 1]; a mask pixel that nothing covers counts as 1.

    An empty mask gives 0.
    """
    difference = (rendering.image.clamp(0, 1) - images).abs().mean(1)
    difference = torch.where(rendering.alpha > 0, difference, torch.ones_like(difference))
    return (difference * mask).sum((1, 2)) / mask.sum((1, 2)).clamp_min(1)


def refine(
    face: FaceParameters,
    observation: Observation,
    iterations: int,
    weights: RefinementWeights = RefinementWeights(),
    progress: Progress | None = None,
) -> Refined:
    """Adjusts `face` in place over `iterations` steps of Adam and returns the result.

    The first 40 % of the steps fit the landmarks alone (nothing is rendered); then the light is solved for in closed
    form and all parameters follow landmarks and pixels together. The mask is frozen: the observation's, inside the
    coverage of the face as it comes in; what the face leaves of it pulls it back. Deterministic on a CPU. Raises
    ValueError for a negative number of steps, Diverged when the objective is not finite.
    """
    if iterations < 0:
        raise ValueError(f"iterations must be at least 0, got {iterations}")
    images = observation.images
    renderer = Renderer(face.triangles, *images.shape[-2:]).to(images.device)
    with torch.no_grad():
        before = _render(renderer, face, images)
        mask = observation.mask * before.alpha
        error_before = colour_error(before, images, mask)
    geometry_steps = round(GEOMETRY_SHARE * iterations)
    _descend(face, geometry_steps, weights, lambda: _geometry_loss(face, observation, weights), progress, iterations, 0)
    if iterations:
        solve_light(face, observation)

    def loss() -> torch.Tensor:
        rendering, vertices_ndc = _draw(renderer, face, images)
        region = observation.mask * rendering.alpha.detach()
        photometric = losses.reconstruction_loss(
            rendering.image, images, region, norm="l1", gradient_weight=weights.gradient_difference
        )
        uncovered = weights.coverage * _uncovered_loss(renderer, rendering, vertices_ndc, mask)
        pixels = photometric * len(images) + uncovered
        return weights.photometric * pixels + _geometry_loss(face, observation, weights)

    _descend(face, iterations - geometry_steps, weights, loss, progress, iterations, geometry_steps)
    with torch.no_grad():
        error_after = colour_error(_render(renderer, face, images), images, mask)
        return Refined(face.reconstruction(*images.shape[-2:]), error_before, error_after)


def _render(renderer: Renderer, face: FaceParameters, images: torch.Tensor) -> Rendering:
    return _draw(renderer, face, images)[0]


def _draw(renderer: Renderer, face: FaceParameters, images: torch.Tensor) -> tuple[Rendering, torch.Tensor]:
    """The pictures, and the vertices on them in NDC, [N, V, 2]."""
    decoded = face.decode()
    camera = face.camera(*images.shape[-2:])
    rendering = renderer(decoded.vertices, decoded.albedo, camera, face.sh_coefficients)
    return rendering, camera.ndc(decoded.vertices)


def _uncovered_loss(
    renderer: Renderer, rendering: Rendering, vertices_ndc: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Mean over the mask of how far its uncovered pixels lie outside the face, in LANDMARK_NOISE, summed over faces.

    Coverage has no gradient of its own. Here each uncovered pixel of the mask pulls the surface point that is seen at
    the nearest covered pixel, so that a face cannot leave the pixels which it is to explain.
    """
    seen_at_all = (rendering.alpha > 0).flatten(1).any(1)[:, None, None]
    uncovered = (mask > 0) & (rendering.alpha == 0) & seen_at_all
    fragments = rendering.fragments._replace(barycentric=rendering.fragments.barycentric.detach())
    seen = renderer.interpolate(vertices_ndc, fragments).permute(0, 2, 3, 1)  # [N, H, W, 2]
    total = vertices_ndc.new_zeros(())
    for n in uncovered.flatten(1).any(1).nonzero().flatten().tolist():
        row, column = torch.nonzero(uncovered[n], as_tuple=True)
        empty = (rendering.alpha[n] == 0).cpu().numpy()
        nearest = distance_transform_edt(empty, return_distances=False, return_indices=True)
        nearest_row, nearest_column = torch.from_numpy(nearest).long().to(mask.device)[:, row, column]
        center = pixel_to_ndc(torch.stack([column, row], -1).to(mask.dtype) + 0.5, *mask.shape[1:])
        distance = (seen[n, nearest_row, nearest_column] - center).norm(dim=-1)
        total = total + distance.sum() / (LANDMARK_NOISE * mask[n].sum())
    return total


def _geometry_loss(face: FaceParameters, observation: Observation, weights: RefinementWeights) -> torch.Tensor:
    """Negative log-likelihood of the landmarks plus the prior, summed over the faces."""
    height, width = observation.images.shape[-2:]
    points = face.decode_landmarks()
    predicted = face.camera(height, width).ndc(points)
    trust = torch.ones(68, dtype=points.dtype, device=points.device)
    trust[:17] = CONTOUR_WEIGHT
    squared = (predicted - observation.landmarks_ndc()).square().sum(-1) * observation.landmark_weight * trust
    squared5 = (five_points(predicted) - observation.five_points_ndc()).square().sum(-1) * observation.five_point_weight
    misfit = (squared.sum() + squared5.sum()) / LANDMARK_NOISE**2
    light = ((face.sh_coefficients - typical_light(face.sh_coefficients)) / LIGHT_STD).square().sum()
    return weights.landmark * misfit + weights.prior * (face.penalty() + light)


def _descend(
    face: FaceParameters,
    steps: int,
    weights: RefinementWeights,
    loss: Callable[[], torch.Tensor],
    progress: Progress | None,
    total: int,
    done: int,
) -> None:
    """`steps` steps of Adam; the learning rate falls to 0 along a cosine."""
    if steps == 0:
        return
    parameters = face.parameters()
    tensors = [tensor for tensor, _ in parameters]
    optimizer = torch.optim.Adam(
        [{"params": [tensor], "lr": weights.learning_rate * rate} for tensor, rate in parameters], betas=(0.9, 0.99)
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        value = loss()
        if not bool(torch.isfinite(value)):
            raise Diverged("the refinement diverged; use fewer steps, or check that the landmarks fit the picture")
        # Not value.backward(): the networks of a trained system need no gradients.
        for tensor, gradient in zip(tensors, torch.autograd.grad(value, tensors)):
            tensor.grad = gradient
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(done + step + 1, total, float(value.detach()))


def typical_light(like: torch.Tensor) -> torch.Tensor:
    """White light of LIGHT_AMBIENT on band 0, [N, 9, 3], for as many faces as `like`."""
    light = torch.zeros_like(like)
    light[:, 0] = LIGHT_AMBIENT
    return light.detach()


@torch.no_grad()
def solve_light(face: FaceParameters, observation: Observation) -> None:
    """Sets the light to the ridge least-squares solution of image = albedo * (H g) over the visible skin."""
    images = observation.images
    rendering = _render(Renderer(face.triangles, *images.shape[-2:]).to(images.device), face, images)
    region = observation.mask * rendering.alpha
    n = len(images)
    normals = rendering.normals.flatten(2).transpose(1, 2)  # [N, P, 3]
    unit = torch.eye(9, dtype=images.dtype, device=images.device)
    basis = torch.stack([sh_shading(normals, unit[b].view(1, 9, 1).expand(n, 9, 3))[..., 0] for b in range(9)], -1)
    share = (region / region.sum((1, 2), keepdim=True).clamp_min(1)).flatten(1)[..., None]
    ridge = LIGHT_RIDGE * torch.eye(9, dtype=torch.float64, device=images.device)
    typical = typical_light(face.sh_coefficients).double()
    solutions = []
    for channel in range(3):
        design = (basis * rendering.albedo[:, channel].flatten(1)[..., None]).double()
        target = images[:, channel].flatten(1)[..., None].double()
        weighted = (design * share).transpose(1, 2)
        pull = ridge @ typical[:, :, channel : channel + 1]
        solutions.append(torch.linalg.solve(weighted @ design + ridge, weighted @ target + pull))
    face.sh_coefficients.copy_(torch.cat(solutions, -1))
