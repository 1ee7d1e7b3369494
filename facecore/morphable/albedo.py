"""Procedural skin albedo for any face mesh with 68 landmarks: a mean and whitened modes in display sRGB.

Colours are written in CIELAB (D65) and converted. What they rest on:
- Range of skin from light to dark by the individual typology angle atan((L* - 50) / b*): "very light" above 55 degrees
  to "dark" below -30 (Chardon et al., Int. J. Cosmetic Science 13, 1991; Del Bino et al., Pigment Cell Research 19,
  2006). Melanin here runs from L* = 72 (57 degrees) to L* = 34 (-51 degrees) over four standard deviations.
- Facial redness a* hardly differs between ethnic groups, while L* and b* do (Xiao et al., Skin Research and Technology
  23, 2017, doi:10.1111/srt.12295); chroma is largest at medium lightness. So a* stays near 11 along the melanin axis,
  b* rises from 14 to 18 and falls to 12, and yellowness is a mode of its own.
- More blood lowers L* and raises a* (haemoglobin absorbs green): Stamatas et al., Pigment Cell Research 17, 2004.
The absolute values between these facts, and the spatial maps, are choices.
"""

from __future__ import annotations

import numpy as np
import torch

from facecore.morphable.albedo_maps import FaceMaps, face_maps
from facecore.morphable.model import MorphableModel

_NAMED = (
    "melanin",
    "haemoglobin",
    "yellowness",
    "cheek_flush",
    "nose_redness",
    "lip_redness",
    "lip_lightness",
    "brow_darkness",
    "brow_thickness",
    "beard",
    "moustache",
    "under_eye",
    "eyelid",
    "eye_colour",
    "rim_tan",
)
# Even cosines over the frontal plane, (waves across, waves along the height), by decreasing strength.
_WAVES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (0, 3))
ALBEDO_NAMES: tuple[str, ...] = (
    *_NAMED,
    *(f"melanin_wave_{across}{along}" for across, along in _WAVES),
    *(f"blood_wave_{across}{along}" for across, along in _WAVES[:5]),
)

# CIELAB colours of the mean face.
_SKIN_LIGHT, _SKIN_MEDIUM, _SKIN_DARK = (72.0, 9.5, 14.0), (55.5, 11.5, 17.5), (34.0, 10.5, 12.5)
_LIPS, _BROW, _SCLERA, _IRIS, _PUPIL = (
    (46.0, 21.0, 14.0),
    (23.0, 5.0, 8.0),
    (84.0, 1.5, 4.0),
    (32.0, 6.0, 12.0),
    (9.0, 0.0, 0.0),
)
_SEAM = (30.0, 16.0, 11.0)
# Change of CIELAB for one standard deviation.
_BLOOD, _YELLOW = (-1.2, 1.7, 0.3), (0.0, -0.2, 1.7)
_STUBBLE = (-6.0, -1.4, -2.6)  # stubble under the skin: darker and bluish


def lab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """CIELAB (D65, 2 degrees) to display sRGB in [0, 1], [..., 3] (CIE 15; IEC 61966-2-1); out of gamut is clipped."""
    lab = np.asarray(lab, dtype=np.float64)
    f_y = (lab[..., 0] + 16) / 116
    f = np.stack([f_y + lab[..., 1] / 500, f_y, f_y - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * np.array([0.95047, 1.0, 1.08883])
    matrix = np.array(
        [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
    )
    linear = np.clip(xyz @ matrix.T, 0.0, 1.0)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def procedural_albedo(
    template: torch.Tensor,
    triangles: torch.Tensor,
    landmarks68: torch.Tensor,
    regions: dict[str, torch.Tensor] | None = None,
    mirror_map: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A mean albedo and whitened modes for a face template in the object frame.

    The colours follow the landmarks alone, so one face gets one albedo at every resolution.

    Args:
        template: float [V, 3] mm, +y up, +z out of the face.
        triangles: int32 [T, 3]; their areas weight the vertices in `std`.
        landmarks68: int64 [68].
        regions: bool [V] masks. "eyes" says which vertices are eyeball; regions without it: the mesh has no eyeballs;
            None: whatever is seen between the lids is eyeball.
        mirror_map: int64 [V] or None; with it the result is exactly symmetric.

    Returns mean [V, 3] in [0, 1], basis [K, V, 3] of changes for one standard deviation, and std [K], the root mean
    square of each mode over the surface; K and the order are those of ALBEDO_NAMES. Coefficients are standard normal.
    Display sRGB. Deterministic. Raises ValueError when landmarks of one curve coincide.
    """
    vertices = template.detach().cpu().double().numpy()
    points = vertices[landmarks68.cpu().numpy()]
    eyes = None
    if regions is not None:
        eyes = regions["eyes"].cpu().numpy() if "eyes" in regions else np.zeros(len(vertices), dtype=bool)
    maps = face_maps(vertices, points, eyes)
    mean = _paint(maps, np.zeros(len(ALBEDO_NAMES)))
    basis = np.stack([_mode(maps, k) for k in range(len(ALBEDO_NAMES))])
    if mirror_map is not None:
        mirror = mirror_map.cpu().numpy()
        mean, basis = (mean + mean[mirror]) / 2, (basis + basis[:, mirror]) / 2
    area = _vertex_areas(vertices, triangles.cpu().numpy())
    std = np.sqrt(np.einsum("kvc,v->k", basis**2, area / area.sum()) / 3)

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(template)

    return tensor(mean), tensor(basis), tensor(std)


def attach_procedural_albedo(model: MorphableModel) -> MorphableModel:
    """The model with the procedural albedo of its template; albedo_source says "procedural"."""
    mean, basis, std = procedural_albedo(
        model.template, model.triangles, model.landmarks68, model.regions, model.mirror_map
    )
    return model.with_albedo(mean, basis, std, source="procedural", names=ALBEDO_NAMES)


def _mode(maps: FaceMaps, index: int) -> np.ndarray:
    """Change of colour for one standard deviation: half the chord between two sides of the mean."""
    # Melanin bends through colour space; its chord over +-2 standard deviations stays near both ends of the range.
    reach = 2.0 if ALBEDO_NAMES[index] == "melanin" else 1.0
    amounts = np.zeros(len(ALBEDO_NAMES))
    amounts[index] = reach
    return (_paint(maps, amounts) - _paint(maps, -amounts)) / (2 * reach)


def _paint(maps: FaceMaps, amounts: np.ndarray) -> np.ndarray:
    """The colour of each vertex, [V, 3], with the given amount of every mode: layers from the skin upwards."""
    of = dict(zip(ALBEDO_NAMES, amounts))
    melanin = of["melanin"] + 0.3 * of["rim_tan"] * (maps.across**2 + (maps.along - 0.5) ** 2 - 0.5)
    blood = of["haemoglobin"] + np.zeros(len(maps.lips))
    for across, along in _WAVES:
        pigment, flush = of[f"melanin_wave_{across}{along}"], of.get(f"blood_wave_{across}{along}", 0.0)
        if pigment or flush:
            wave = np.cos(np.pi * across * maps.across) * np.cos(np.pi * along * maps.along) / (across + along) ** 0.8
            melanin, blood = melanin + 0.16 * pigment * wave, blood + 0.6 * flush * wave
    blood = blood + (1.2 + 1.3 * of["cheek_flush"]) * maps.cheeks + (0.9 + 1.2 * of["nose_redness"]) * maps.nose
    skin = _skin(melanin, blood, of["yellowness"]) + _shadows(maps, of)
    lips = skin + np.array(_LIPS) - np.array(_SKIN_MEDIUM)
    lips = lips + of["lip_redness"] * np.array([-1.2, 3.2, 0.2]) + of["lip_lightness"] * np.array([3.2, 0.6, 0.4])
    eye, brow_tone = of["eye_colour"], of["brow_darkness"]
    margin = skin + np.array([-7.0, 4.0, -2.0]) + eye * np.array([2.0, 0.6, 0.0])
    brow = brow_tone * np.array([-6.0, -1.5, -3.0]) + of["melanin"] * np.array([-3.5, -0.5, -1.5])
    thickness = (0.4 + 0.22 * of["brow_thickness"]) * (maps.thick_brows - maps.brows)
    colour = lab_to_srgb(skin)
    for lab, opacity in (
        (lips, 0.9 * maps.lips),
        (np.array(_SEAM) + of["melanin"] * np.array([-2.0, 0.0, 0.0]), 0.7 * maps.seam),
        (margin, 0.7 * maps.lid_margin),
        (np.array(_SCLERA), maps.eyeball),
        (np.array(_IRIS) + eye * np.array([7.0, -3.0, -8.0]), maps.iris),
        (np.array(_PUPIL), maps.pupil),
        (np.array(_BROW) + brow, (0.74 + 0.07 * brow_tone) * (maps.brows + thickness)),
    ):
        there = np.flatnonzero(opacity)
        above = lab_to_srgb(np.broadcast_to(lab, colour.shape)[there])
        colour[there] += opacity[there, None] * (above - colour[there])
    return colour


def _skin(melanin: np.ndarray, blood: np.ndarray, yellowness: float) -> np.ndarray:
    """CIELAB of the bare skin, [V, 3]: a parabola through light, medium and dark at melanin -2, 0 and 2, plus blood."""
    light, medium, dark = (np.array(colour) for colour in (_SKIN_LIGHT, _SKIN_MEDIUM, _SKIN_DARK))
    t = np.clip(melanin / 2, -1.5, 1.5)[:, None]
    skin = medium + t * (dark - light) / 2 + t**2 * ((dark + light) / 2 - medium)
    return np.asarray(skin + blood[:, None] * np.array(_BLOOD) + yellowness * np.array(_YELLOW))


def _shadows(maps: FaceMaps, of: dict[str, float]) -> np.ndarray:
    """Changes of CIELAB in the skin: stubble, shadows under the eyes, lids; [V, 3]."""
    # Means and steps such that little of the distribution lies below no hair at all.
    stubble = (0.55 + 0.5 * of["beard"]) * maps.beard + (0.45 + 0.4 * of["moustache"]) * maps.moustache
    under = (1.0 + of["under_eye"]) * maps.under_eyes
    lid = (0.8 + of["eyelid"]) * maps.eyelids
    return (
        stubble[:, None] * np.array(_STUBBLE)
        + under[:, None] * np.array([-2.6, 0.6, -1.2])
        + lid[:, None] * np.array([-2.2, 0.8, -0.8])
    )


def _vertex_areas(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """A third of the area of the triangles at each vertex, [V] in mm^2."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(triangles.ravel(), weights=np.repeat(area, 3), minlength=len(vertices))
