"""Procedural albedo: colours against published facts, places against landmarks, symmetry, every resolution alike."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib

import numpy as np
import pytest
import torch

from facecore.morphable import MorphableModel, load
from facecore.morphable.albedo import ALBEDO_NAMES, attach_procedural_albedo, lab_to_srgb, procedural_albedo


@pytest.fixture(scope="module")
def small() -> MorphableModel:
    return load("procedural", num_vertices=2500)


@pytest.fixture(scope="module", params=["procedural", "ict"])
def model(request: pytest.FixtureRequest) -> MorphableModel:
    if request.param == "procedural":
        small: MorphableModel = request.getfixturevalue("small")
        return small
    data_dir: pathlib.Path = request.getfixturevalue("data_dir")
    return load(data_dir / "ict_facekit.npz")


def srgb_to_lab(colour: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of display sRGB; the inverse of lab_to_srgb, written separately (IEC 61966-2-1, CIE 15)."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    matrix = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    ratio = linear @ matrix.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def painted(model: MorphableModel, **amounts: float) -> np.ndarray:
    """Colours [V, 3] with the given coefficients, all others 0."""
    coefficients = torch.zeros(1, model.num_albedo)
    for name, amount in amounts.items():
        coefficients[0, ALBEDO_NAMES.index(name)] = amount
    return model.albedo(coefficients)[0].double().numpy()


def lightness(model: MorphableModel, region: torch.Tensor, **amounts: float) -> float:
    return float(srgb_to_lab(painted(model, **amounts).clip(0, 1))[region.numpy()][:, 0].mean())


def test_colour_conversion() -> None:
    corners = np.array(np.meshgrid(*[[0.0, 0.02, 0.4, 1.0]] * 3)).reshape(3, -1).T
    assert np.abs(lab_to_srgb(srgb_to_lab(corners)) - corners).max() < 2e-6  # matrices have seven decimals
    # Known value: sRGB (1, 0, 0) is CIELAB (53.24, 80.09, 67.20), Lindbloom's calculator.
    assert np.abs(srgb_to_lab(np.array([1.0, 0.0, 0.0])) - [53.24, 80.09, 67.20]).max() < 0.02
    assert np.abs(lab_to_srgb(np.array([120.0, 0.0, 0.0])) - 1).max() < 1e-12  # out of gamut


def test_form(model: MorphableModel) -> None:
    assert model.albedo_source == "procedural" and model.albedo_names == ALBEDO_NAMES and model.num_albedo >= 20
    assert model.albedo_mean is not None and model.albedo_basis is not None and model.albedo_std is not None
    assert 0.02 < float(model.albedo_mean.min()) and float(model.albedo_mean.max()) < 0.95
    area = torch.from_numpy(_areas(model))
    rms = ((model.albedo_basis.double() ** 2).mean(2) @ (area / area.sum())).sqrt()
    torch.testing.assert_close(model.albedo_std.double(), rms, rtol=1e-5, atol=0)
    assert float(model.albedo_std.min()) > 5e-4  # every mode does something
    flat = model.albedo_basis.flatten(1).double()
    singular = torch.linalg.svdvals(torch.nn.functional.normalize(flat, dim=1))
    assert float(singular.min()) > 0.02  # and none repeats the others


def _areas(model: MorphableModel) -> np.ndarray:
    corners = model.template.double()[model.triangles.long()]
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1) / 6
    result = torch.zeros(model.num_vertices, dtype=torch.float64)
    return result.index_add_(0, model.triangles.long().flatten(), area.repeat_interleave(3)).numpy()


def test_melanin_spans_the_typology_angles(model: MorphableModel) -> None:
    """From "very light" (above 55 degrees) to "dark" (below -30) within +-2.2 standard deviations."""

    def angle(melanin: float) -> float:
        skin = srgb_to_lab(painted(model, melanin=melanin).clip(0, 1))[model.region("skin").numpy()]
        light, _, yellow = np.median(skin, axis=0)
        return math.degrees(math.atan2(light - 50, yellow))

    angles = [angle(melanin) for melanin in (-2.2, -1.0, 0.0, 1.0, 2.2)]
    assert all(a > b for a, b in itertools.pairwise(angles))
    assert angles[0] > 53 and angles[-1] < -40
    assert 5 < angle(0.0) < 28  # the mean is "tan"


def test_samples_are_skin(model: MorphableModel) -> None:
    """Redness of real facial skin is a* 5 to 20 and its b* 5 to 25 in every group (Xiao et al. 2017)."""
    drawn = model.sample(200, torch.Generator().manual_seed(2)).albedo
    colour = model.albedo(drawn).double().numpy()
    outside = ((colour < 0) | (colour > 1)).mean()
    assert outside < 2e-3
    skin = srgb_to_lab(np.median(colour[:, model.region("skin").numpy()], axis=1))
    assert 8.0 < skin[:, 0].std() < 12.0 and skin[:, 0].min() > 20 and skin[:, 0].max() < 86
    assert (np.abs(skin[:, 1] - 11.5) < 8).all() and (np.abs(skin[:, 2] - 16) < 11).all()


def test_features_are_where_the_landmarks_are(model: MorphableModel) -> None:
    assert model.albedo_mean is not None
    lab = srgb_to_lab(model.albedo_mean.double().numpy())
    lips, brows, skin = (model.region(name).numpy() for name in ("lips", "brows", "skin"))
    usual = np.median(lab[skin], axis=0)
    assert lab[lips][:, 1].mean() > usual[1] + 5 and lab[lips][:, 0].mean() < usual[0] - 5  # redder, darker
    assert lab[brows][:, 0].mean() < usual[0] - 12
    vertices, points = model.template.numpy(), model.template[model.landmarks68].numpy()
    forehead = vertices[:, 1] > points[17:27, 1].max() + 15
    assert np.abs(lab[forehead] - usual).max() < 6  # nothing is painted there
    between = np.linalg.norm(vertices - (points[21] + points[22]) / 2, axis=1) < 5
    assert between.any() and np.abs(lab[between][:, 0] - usual[0]).max() < 12  # two brows, not one
    cheeks = painted(model, cheek_flush=2) - painted(model)
    top = vertices[np.abs(cheeks).sum(axis=1).argmax()]
    assert points[27, 1] > top[1] > points[48, 1] and abs(top[0]) > abs(points[35, 0])


def test_eyes_are_painted_on_eyeballs_only(small: MorphableModel, data_dir: pathlib.Path) -> None:
    eyes = small.region("eyes").numpy()
    assert small.albedo_mean is not None
    lab = srgb_to_lab(small.albedo_mean.double().numpy())
    assert lab[eyes][:, 0].max() > 75 and lab[eyes][:, 0].min() < 35  # sclera and iris
    assert lab[~eyes][:, 0].max() < 65
    ict = load(data_dir / "ict_facekit.npz")  # its face region has holes for the eyes
    assert ict.albedo_mean is not None and float(ict.albedo_mean.max()) < 0.75 and "eyes" not in ict.regions
    geometric = procedural_albedo(small.template, small.triangles, small.landmarks68)[0]
    assert float(geometric.max()) > 0.7  # without regions: whatever is between the lids


@pytest.mark.parametrize(("name", "region", "sign"), [("brow_darkness", "brows", -1), ("lip_lightness", "lips", 1)])
def test_named_modes_act_on_their_region(model: MorphableModel, name: str, region: str, sign: int) -> None:
    inside = model.region(region)
    change = lightness(model, inside, **{name: 1.5}) - lightness(model, inside)
    assert sign * change > 2
    assert abs(lightness(model, model.region("skin"), **{name: 1.5}) - lightness(model, model.region("skin"))) < 0.5


def test_exact_symmetry(model: MorphableModel) -> None:
    assert model.mirror_map is not None and model.albedo_mean is not None and model.albedo_basis is not None
    assert torch.equal(model.albedo_mean[model.mirror_map], model.albedo_mean)
    assert torch.equal(model.albedo_basis[:, model.mirror_map], model.albedo_basis)


def test_one_face_has_one_albedo_at_every_resolution(data_dir: pathlib.Path) -> None:
    coarse = load(data_dir / "ict_facekit.npz")
    fine = load(data_dir / "ict_facekit.npz", refine=1)
    assert coarse.albedo_mean is not None and fine.albedo_mean is not None
    assert coarse.albedo_basis is not None and fine.albedo_basis is not None
    torch.testing.assert_close(fine.albedo_mean[: coarse.num_vertices], coarse.albedo_mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(fine.albedo_basis[:, : coarse.num_vertices], coarse.albedo_basis, rtol=0, atol=1e-4)
    assert coarse.albedo_std is not None and fine.albedo_std is not None
    # Linear interpolation between vertices lowers the root mean square of the narrowest modes a little.
    torch.testing.assert_close(fine.albedo_std, coarse.albedo_std, rtol=0.03, atol=0)


def test_scale_follows_the_face(small: MorphableModel) -> None:
    bigger = procedural_albedo(
        small.template * 1.3, small.triangles, small.landmarks68, small.regions, small.mirror_map
    )
    assert small.albedo_mean is not None
    # Lid and lip outlines have one length in mm, the greatest depth behind them, that does not scale.
    difference = (bigger[0] - small.albedo_mean).abs().max(dim=1).values
    assert float((difference > 0.01).double().mean()) < 0.01


def test_attaching_replaces_the_albedo(small: MorphableModel) -> None:
    bare = dataclasses.replace(
        small,
        albedo_mean=None,
        albedo_basis=None,
        albedo_std=None,
        albedo_names=(),
        albedo_source=None,
        prior=dataclasses.replace(small.prior, albedo_mean=torch.zeros(0), albedo_std=torch.zeros(0)),
    )
    assert bare.num_albedo == 0
    again = attach_procedural_albedo(bare)
    assert again.content_hash() == small.content_hash()


def test_coinciding_landmarks_are_refused(small: MorphableModel) -> None:
    same = small.landmarks68.clone()
    same[49] = same[48]
    with pytest.raises(ValueError, match="different vertices"):
        procedural_albedo(small.template, small.triangles, same)
