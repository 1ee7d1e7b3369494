"""Random spherical-harmonics light for rendered training pictures, and how much of a light is directional."""

from __future__ import annotations

import math

import torch

from facecore import ops

BAND_0 = 0.5 * math.sqrt(math.pi)  # H_0 of METHODS 1.5, 0.886227
# Mean over the sphere of H_b^2, for a b of each band: pi/4, pi/3, pi/8. Different H_b are orthogonal.
BAND_MEAN_SQUARE = (math.pi / 4, math.pi / 3, math.pi / 8)
# A distant light on a matte surface, max(0, n.l), cut after band 2: 1/4 + 1/2 x + 5/32 (3x^2 - 1) with x = n.l, as
# factors of the Legendre polynomials P_0, P_1, P_2. Its smallest value is -0.04, hence the least ambient light below.
LAMBERT = (1 / 4, 1 / 2, 5 / 16)
LEAST_AMBIENT = 0.25  # of the ambient light at which a third of the energy is directional; keeps the shading positive
PEAK = 1.6  # brightest shading of a face
NUM_UNIFORM = 17  # numbers that one light takes


def band_energy(sh_coefficients: torch.Tensor) -> torch.Tensor:
    """Energy of each band of a light, [N, 3] for effective coefficients [N, 9, 3].

    The energy of a band is the mean over the sphere of directions of the square of the shading that the band causes,
    summed over the colours: sum of g^2 times BAND_MEAN_SQUARE, since the H_b are orthogonal. Differentiable.
    """
    squares = sh_coefficients.square().sum(2)
    bands = (squares[:, 0], squares[:, 1:4].sum(1), squares[:, 4:9].sum(1))
    return torch.stack([band * scale for band, scale in zip(bands, BAND_MEAN_SQUARE)], dim=1)


def directional_share(sh_coefficients: torch.Tensor) -> torch.Tensor:
    """The share of the energy in bands 1 and 2, [N], of effective coefficients [N, 9, 3]; 0 for no light."""
    energy = band_energy(sh_coefficients)
    return energy[:, 1:].sum(1) / energy.sum(1).clamp_min(torch.finfo(energy.dtype).tiny)


def distant_light(direction: torch.Tensor) -> torch.Tensor:
    """Coefficients [N, 9] of a white light from unit `direction` [N, 3] on a matte surface, cut after band 2.

    By the addition theorem sum over a band of H_b(n) H_b(l) = (2 band + 1) * BAND_MEAN_SQUARE * P_band(n.l).
    """
    units = torch.eye(9, dtype=direction.dtype, device=direction.device).view(9, 3, 3).transpose(0, 1).contiguous()
    basis = ops.sh_shading(direction.expand(3, -1, -1), units)  # picture i, channel c: H_(3i + c)
    values = basis.permute(1, 0, 2).reshape(-1, 9)
    factors = [
        LAMBERT[band] / ((2 * band + 1) * BAND_MEAN_SQUARE[band]) for band in range(3) for _ in range(2 * band + 1)
    ]
    return values * values.new_tensor(factors)


def draw_lights(uniform: torch.Tensor, normals: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Random lights, effective coefficients [N, 9, 3], from uniform numbers [N, NUM_UNIFORM].

    A main light from the front or a side, a weaker second one, and ambient light, each slightly coloured. In half of
    the pictures at least a third of the energy (`directional_share`) is directional. The mean shading over the normals
    [N, P, 3] (camera axes) with weights [N, P] is uniform in [0.65, 1.15], less where the brightest place among those
    of a weight above 0.2 would exceed 1.6: a photographer would not let the face be overexposed either.
    """
    u = uniform.unbind(1)
    main = distant_light(_direction(u[0], u[1], 75.0))
    fill = distant_light(_direction(u[2], u[3], 90.0)) * (0.3 * u[4])[:, None]
    light = main[:, :, None] * _colour(uniform[:, 5:8])[:, None] + fill[:, :, None] * _colour(uniform[:, 8:11])[:, None]
    # Ambient light up to which a third of the energy stays directional: E_1 + E_2 = E_0 / 2.
    energy = band_energy(light)
    white = math.sqrt(3.0)  # the energy counts three colours
    limit = ((2 * energy[:, 1:].sum(1)).sqrt() - energy[:, 0].sqrt()) / white
    strong = LEAST_AMBIENT + (0.9 - LEAST_AMBIENT) * u[11]
    ambient = torch.where(u[12] < 0.5, strong * limit, limit * (1 + 6 * u[11] ** 2))
    band0 = light[:, :1] + (ambient[:, None] / BAND_0 * _colour(uniform[:, 13:16]))[:, None]
    light = torch.cat((band0, light[:, 1:]), dim=1)
    shading = ops.sh_shading(normals, light).mean(2)
    mean = (shading * weight).sum(1) / weight.sum(1)
    peak = torch.where(weight > 0.2, shading, 0.0).amax(1)
    exposure = torch.minimum((0.65 + 0.5 * u[16]) / mean, PEAK / peak)
    return light * exposure[:, None, None]


def _direction(azimuth: torch.Tensor, elevation: torch.Tensor, widest: float) -> torch.Tensor:
    """Unit vectors [N, 3] in camera axes: azimuth within +-`widest` degrees of the camera, elevation -30 to 65."""
    turn = torch.deg2rad((2 * azimuth - 1) * widest)
    rise = torch.deg2rad(-30 + 95 * elevation)
    return torch.stack((rise.cos() * turn.sin(), rise.sin(), rise.cos() * turn.cos()), dim=1)


def _colour(uniform: torch.Tensor) -> torch.Tensor:
    """A slight cast, [N, 3] of mean 1: warm to cool within 15 %, green to magenta within 4 %."""
    temperature = 0.15 * (uniform[:, 0] + uniform[:, 1] - 1)  # triangular: strong casts are rare
    tint = 0.04 * (2 * uniform[:, 2] - 1)
    colour = torch.stack((1 + temperature - tint / 2, 1 + tint, 1 - temperature - tint / 2), dim=1)
    return colour / colour.mean(1, keepdim=True)
