"""Random things in front of a rendered face: blobs, bars, hands, glasses, hair. Their outline is known exactly."""

from __future__ import annotations

import math

import torch

from facecore.data.crop import landmark_boxes
from facecore.data.enlarging import enlarged
from facecore.data.landmarks import five_points

KINDS = ("blob", "bar", "hand", "glasses", "hair")
KIND_SHARE = (0.2, 0.1, 0.2, 0.25, 0.25)
NUM_PARTS = 6  # an occluder is a union of up to six rounded shapes
TEXTURE_GRIDS = (3, 16)
NUM_UNIFORM = 24 + sum(size * size for size in TEXTURE_GRIDS)  # numbers that one occluder takes

# A part: centre u, v; half axes a, b; angle of the first axis; exponent p; inner radius r (0 = filled). A point with
# coordinates x, y along the axes is covered if r^p <= |x/a|^p + |y/b|^p < 1: an ellipse for p = 2, a bar for large p.
CENTRE_U, CENTRE_V, HALF_A, HALF_B, ANGLE, POWER, INNER = range(7)
NUM_PARAMETERS = 7


def draw_occluders(
    uniform: torch.Tensor, landmarks: torch.Tensor, height: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """One occluder for each face: colours [N, 3, height, width] in [0, 1] and where it is, bool [N, height, width].

    uniform: numbers in [0, 1), [N, NUM_UNIFORM]; landmarks: the faces' 68 points in pixels, [N, 68, 2]. An occluder
    hides part of a face, at most about half. A pixel is covered if its centre is.
    """
    numbers = uniform[:, :24]
    kind = torch.bucketize(numbers[:, 0].contiguous(), torch.tensor(KIND_SHARE, device=uniform.device).cumsum(0)[:-1])
    parts = uniform.new_zeros(len(uniform), NUM_PARTS, NUM_PARAMETERS)
    parts[..., HALF_A : HALF_B + 1], parts[..., POWER] = 1.0, 2.0
    parts[..., CENTRE_U : CENTRE_V + 1] = -1e6  # a part that is not used lies far away
    for number, place in enumerate((_blob, _bar, _hand, _glasses, _hair)):
        rows = (kind == number).nonzero()[:, 0]
        if len(rows):
            made = place(numbers[rows], landmarks[rows])
            parts[rows[:, None], torch.arange(made.shape[1], device=rows.device)] = made
    return _texture(uniform, kind, height, width), covered(parts, height, width)


def covered(parts: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Which pixel centres lie in the union of the parts [N, K, NUM_PARAMETERS], bool [N, height, width]."""
    u = torch.arange(width, device=parts.device, dtype=parts.dtype) + 0.5
    v = torch.arange(height, device=parts.device, dtype=parts.dtype) + 0.5
    p = parts[..., None, None, :]
    du, dv = u - p[..., CENTRE_U], v[:, None] - p[..., CENTRE_V]
    cos, sin = p[..., ANGLE].cos(), p[..., ANGLE].sin()
    along, across = (cos * du + sin * dv).abs() / p[..., HALF_A], (cos * dv - sin * du).abs() / p[..., HALF_B]
    power = p[..., POWER]
    radius = (power * along.log()).exp_() + (power * across.log()).exp_()  # faster than pow()
    return ((radius < 1) & (radius >= p[..., INNER].pow(power))).any(1)


def _part(
    centre: torch.Tensor,
    half_a: torch.Tensor,
    half_b: torch.Tensor,
    angle: torch.Tensor,
    power: float = 2.0,
    inner: torch.Tensor | None = None,
) -> torch.Tensor:
    inner = torch.zeros_like(angle) if inner is None else inner
    return torch.stack((centre[:, 0], centre[:, 1], half_a, half_b, angle, torch.full_like(angle, power), inner), dim=1)


def _at_landmark(number: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    index = (number * 68).long().clamp_max(67)
    return landmarks[torch.arange(len(landmarks), device=landmarks.device), index]


def _blob(n: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """One ellipse around any landmark."""
    size = landmark_boxes(landmarks)[1]
    half = size * (0.1 + 0.17 * n[:, 2])
    return _part(_at_landmark(n[:, 1], landmarks), half, half * (0.5 + 0.5 * n[:, 3]), math.pi * n[:, 4])[:, None]


def _bar(n: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """A straight bar through any landmark, as a microphone stand, a strand of hair or a seat belt."""
    size = landmark_boxes(landmarks)[1]
    half = size * (0.03 + 0.08 * n[:, 2])
    return _part(_at_landmark(n[:, 1], landmarks), size * (0.5 + n[:, 3]), half, math.pi * n[:, 4], 8.0)[:, None]


def _hand(n: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """A palm beside or below the face and five fingers that reach over a landmark of the lower face."""
    size = landmark_boxes(landmarks)[1] * (0.8 + 0.3 * n[:, 2])
    choices = torch.tensor([2, 4, 6, 8, 10, 12, 14, 30, 48, 51, 54, 57], device=landmarks.device)
    target = landmarks[torch.arange(len(n), device=n.device), choices[(n[:, 1] * 12).long().clamp_max(11)]]
    pointing = math.pi * (-1.0 + n[:, 3])  # v is down: from pointing left over up to right
    direction = torch.stack((pointing.cos(), pointing.sin()), dim=1)
    palm = target - direction * (size * (0.25 + 0.15 * n[:, 4]))[:, None]
    parts = [_part(palm, 0.2 * size, 0.17 * size, pointing, 2.5)]
    spread = 0.08 + 0.15 * n[:, 5]
    for finger in range(4):
        turned = pointing + (finger - 1.5) * spread
        side = torch.stack((-pointing.sin(), pointing.cos()), dim=1) * ((finger - 1.5) * 0.085 * size)[:, None]
        length = size * (0.13 + 0.05 * n[:, 6 + finger] - 0.015 * abs(finger - 1.4))
        root = palm + side + 0.16 * size[:, None] * direction
        parts.append(_finger(root, turned, length, 0.04 * size))
    thumb = pointing + torch.where(n[:, 10] < 0.5, -1.0, 1.0) * (0.9 + 0.4 * n[:, 11])
    return torch.stack([*parts, _finger(palm, thumb, 0.16 * size, 0.045 * size)], dim=1)


def _finger(root: torch.Tensor, angle: torch.Tensor, half: torch.Tensor, thickness: torch.Tensor) -> torch.Tensor:
    centre = root + torch.stack((angle.cos(), angle.sin()), dim=1) * half[:, None]
    return _part(centre, half, thickness, angle, 4.0)


def _glasses(n: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """Two rims (a third of the time dark lenses), a bridge and two temples along the line of the eyes."""
    five = five_points(landmarks)
    across = five[:, 1] - five[:, 0]
    # At a turned head the eyes come together; the rims' height follows the face's height instead.
    wide = across.norm(dim=1)
    tall = (landmarks[:, 8] - landmarks[:, 27]).norm(dim=1)
    angle = torch.atan2(across[:, 1], across[:, 0])
    half_a, half_b = wide * (0.33 + 0.1 * n[:, 1]), tall * (0.15 + 0.06 * n[:, 2])
    inner = torch.where(n[:, 3] < 0.33, 0.0, 0.78 + 0.14 * n[:, 4])
    lowered = five[:, :2] + (landmarks[:, 8] - landmarks[:, 27])[:, None] * 0.03
    rims = [_part(lowered[:, side], half_a, half_b, angle, 2.0 + 2.0, inner) for side in range(2)]
    thin = wide * (0.02 + 0.02 * n[:, 5])
    bridge = _part(lowered.mean(1), (wide / 2 - half_a).clamp_min(0.02) + thin, thin, angle, 8.0)
    temples = []
    for side, contour, sign in ((0, 0, -1.0), (1, 16, 1.0)):
        outward = sign * across / wide.clamp_min(1e-6)[:, None]
        start = lowered[:, side] + outward * half_a[:, None]
        end = torch.lerp(start, landmarks[:, contour], 0.9)
        line = end - start
        temples.append(
            _part((start + end) / 2, line.norm(dim=1) / 2 + thin, thin, torch.atan2(line[:, 1], line[:, 0]), 8.0)
        )
    return torch.stack([*rims, bridge, *temples], dim=1)


def _hair(n: torch.Tensor, landmarks: torch.Tensor) -> torch.Tensor:
    """A cap of hair (or a hat) down to somewhere above the brows, two strands beside the face, often a fringe."""
    left, right, chin = landmarks[:, 0], landmarks[:, 16], landmarks[:, 8]
    brows = landmarks[:, 17:27].mean(1)
    up = brows - chin
    tall = up.norm(dim=1)
    up = up / tall.clamp_min(1e-6)[:, None]
    across = torch.stack((-up[:, 1], up[:, 0]), dim=1)
    wide = ((right - left) * across).sum(1).abs()
    angle = torch.atan2(across[:, 1], across[:, 0])
    middle = torch.lerp((left + right) / 2, brows, 0.5)
    high = tall * (0.3 + 0.15 * n[:, 1])
    cap = _part(middle + up * (tall * 0.18 + high * (0.9 + 0.5 * n[:, 2]))[:, None], 0.75 * wide, high, angle, 2.5)
    parts = [cap]
    for side, start in ((-1.0, left), (1.0, right)):
        length = tall * (0.15 + 0.5 * n[:, 3])
        outward = side * across * ((right - left) * across).sum(1).sign()[:, None]
        centre = start + outward * (0.08 * wide)[:, None] + up * (0.35 * tall - length)[:, None]
        parts.append(_part(centre, length, wide * (0.06 + 0.08 * n[:, 4]), angle + math.pi / 2, 3.0))
    fringe = middle + up * (0.28 * tall)[:, None] + across * ((n[:, 5] - 0.5) * wide)[:, None]
    length = torch.where(n[:, 6] < 0.5, tall * (0.12 + 0.15 * n[:, 7]), 0.02 * tall)
    parts.append(_part(fringe, 0.35 * wide, length, angle + 0.8 * (n[:, 8] - 0.5), 2.5))
    return torch.stack(parts, dim=1)


def _texture(uniform: torch.Tensor, kind: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Colours [N, 3, height, width]: a base colour times variation; skin tones for hands, hair colours."""
    n = uniform[:, 16:24]
    colour = n[:, 0:3]
    light, dark = n.new_tensor([0.92, 0.74, 0.64]), n.new_tensor([0.36, 0.22, 0.16])
    skin = torch.lerp(dark, light, n[:, 3:4]) * (0.95 + 0.1 * colour)
    colour = torch.where((kind == KINDS.index("hand"))[:, None], skin, colour)
    colour = torch.where((kind == KINDS.index("glasses"))[:, None], colour * 0.4 * n[:, 4:5], colour)
    shade = n[:, 3:4] ** 1.5
    hair = torch.lerp(n.new_tensor([0.04, 0.03, 0.03]), n.new_tensor([0.72, 0.56, 0.36]), shade)
    hair = torch.where(n[:, 4:5] < 0.25, colour, hair)  # a hat or a scarf
    colour = torch.where((kind == KINDS.index("hair"))[:, None], hair, colour)
    grids = uniform[:, 24:].split([size * size for size in TEXTURE_GRIDS], dim=1)
    variation = torch.ones_like(n[:, 0])[:, None, None, None]
    for grid, size, amplitude in zip(grids, TEXTURE_GRIDS, (1.2, 0.8)):
        smooth = enlarged(grid.reshape(-1, 1, size, size), height, width)
        strength = amplitude * (0.3 + 0.7 * n[:, 5, None, None, None])
        variation = variation * (1 + strength * (smooth - 0.5))
    return (colour[:, :, None, None] * variation).clamp(0, 1)
