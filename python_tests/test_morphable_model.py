"""MorphableModel: shapes against sums written out, priors against their moments, crops, refusals."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
import torch
from grid_faces import COLUMNS, ROWS, grid_model

from facecore.morphable import BlendshapePrior, MorphableModel, Prior, load

# -- shapes and colours ------------------------------------------------------------------------------------------------


def test_shape_is_the_sum_of_its_modes(generator: torch.Generator) -> None:
    model = grid_model(torch.float64)
    identity = torch.randn(5, 4, generator=generator, dtype=torch.float64)
    expression = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    expected = torch.stack(
        [
            model.template
            + sum(w * m for w, m in zip(identity[n], model.identity_basis))
            + sum(w * m for w, m in zip(expression[n], model.expression_basis))
            for n in range(5)
        ]
    )
    torch.testing.assert_close(model.shape(identity, expression), expected, rtol=1e-12, atol=1e-12)
    neutral = model.shape(identity)
    torch.testing.assert_close(neutral, model.shape(identity, torch.zeros_like(expression)), rtol=1e-12, atol=1e-12)
    assert model.shape(identity[:0], expression[:0]).shape == (0, model.num_vertices, 3)


def test_a_model_may_have_no_expressions(generator: torch.Generator, tmp_path: pathlib.Path) -> None:
    model = grid_model(expression_basis=torch.zeros(0, 99, 3), expression_std=torch.zeros(0), prior=Prior.normal(4, 0))
    drawn = model.sample(2, generator)
    torch.testing.assert_close(model.shape(drawn.identity, drawn.expression), model.shape(drawn.identity))
    assert torch.equal(model.mean_shape(), model.template)
    model.save(tmp_path / "model.npz")
    assert load(tmp_path / "model.npz").content_hash() == model.content_hash()


def test_albedo_is_linear_and_clamps_only_on_request() -> None:
    model = grid_model(torch.float64)
    coefficients = torch.tensor([[0.0, 0.0], [30.0, -20.0]], dtype=torch.float64)
    linear = model.albedo(coefficients)
    torch.testing.assert_close(linear[0], model.albedo_mean, rtol=0, atol=0)
    assert model.albedo_basis is not None and model.albedo_mean is not None
    expected = model.albedo_mean + 30 * model.albedo_basis[0] - 20 * model.albedo_basis[1]
    torch.testing.assert_close(linear[1], expected, rtol=1e-12, atol=1e-12)
    clamped = model.albedo(coefficients, clamp=True)
    assert linear.max() > 1 and float(clamped.max()) == 1 and float(clamped.min()) == 0


def test_gradients() -> None:
    model = grid_model(torch.float64)
    inputs = tuple(torch.rand(2, k, dtype=torch.float64, requires_grad=True) for k in (4, 3))
    assert torch.autograd.gradcheck(model.shape, inputs)
    assert torch.autograd.gradcheck(model.albedo, (torch.rand(2, 2, dtype=torch.float64, requires_grad=True),))


def test_autocast_does_not_lower_the_precision(generator: torch.Generator) -> None:
    model = grid_model()
    coefficients = model.sample(3, generator)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shape = model.shape(coefficients.identity, coefficients.expression)
        albedo = model.albedo(coefficients.albedo)
    assert torch.equal(shape, model.shape(coefficients.identity, coefficients.expression))
    assert torch.equal(albedo, model.albedo(coefficients.albedo))


def test_mean_shapes() -> None:
    model = grid_model(torch.float64)
    torch.testing.assert_close(model.mean_neutral(), model.template, rtol=0, atol=1e-12)
    expected = model.template + torch.einsum("k,kvc->vc", model.prior.expression_mean, model.expression_basis)
    torch.testing.assert_close(model.mean_shape(), expected, rtol=0, atol=1e-12)
    assert float((model.mean_shape() - model.mean_neutral()).abs().max()) > 0.1  # 0.25 of random modes


def test_bases_share_one_buffer() -> None:
    for model in (grid_model(), grid_model(torch.float64)):
        behind = model.identity_basis.data_ptr() + model.identity_basis.numel() * model.identity_basis.element_size()
        assert behind == model.expression_basis.data_ptr()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_moves_to_a_gpu() -> None:
    model = grid_model()
    moved = model.to("cuda")
    drawn = moved.sample(3, torch.Generator().manual_seed(1))
    same = model.sample(3, torch.Generator().manual_seed(1))
    assert drawn.identity.is_cuda and moved.content_hash() == model.content_hash()
    there, here = moved.shape(drawn.identity, drawn.expression), model.shape(same.identity, same.expression)
    torch.testing.assert_close(there.cpu(), here, rtol=1e-5, atol=1e-4)  # mm; sums of 7 products of order 10


# -- priors ------------------------------------------------------------------------------------------------------------


def test_blendshape_moments_are_those_of_the_samples() -> None:
    rule = BlendshapePrior(torch.tensor([1, 0, 2, 3, 4]), torch.tensor([-1, -1, -1, 2, -1]), 0.3, 0.7)
    prior = Prior.with_blendshapes(2, rule)
    count = 200_000
    weights = prior.sample(count, torch.Generator().manual_seed(3)).expression
    assert float(weights.min()) == 0 and float(weights.max()) <= 1
    # Standard errors of a mean are below 0.29 / sqrt(count) = 6.5e-4; five of them.
    torch.testing.assert_close(weights.mean(0), prior.expression_mean, rtol=0, atol=3.3e-3)
    torch.testing.assert_close(weights.std(0), prior.expression_std, rtol=0, atol=3.3e-3)
    left, right = weights[:, 0], weights[:, 1]
    assert torch.equal(left > 0, right > 0)  # both sides are active together
    shared = float((left == right)[left > 0].double().mean())
    assert abs(shared - 0.7) < 0.01  # binomial standard error 0.002
    assert bool((weights[:, 3] <= weights[:, 2]).all())  # scaled by mode 2


def test_normal_moments(generator: torch.Generator) -> None:
    prior = dataclasses.replace(
        Prior.normal(1, 1, 1), identity_mean=torch.tensor([2.0]), albedo_std=torch.tensor([3.0])
    )
    drawn = prior.sample(100_000, generator)
    for values, mean, std in ((drawn.identity, 2, 1), (drawn.expression, 0, 1), (drawn.albedo, 0, 3)):
        assert abs(float(values.mean()) - mean) < 5 * std / 100_000**0.5
        assert abs(float(values.std()) - std) < 5 * std / 200_000**0.5


def test_samples_follow_the_generator() -> None:
    model = grid_model()
    first, again = (model.sample(3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again))
    other = model.sample(3, torch.Generator().manual_seed(6))
    assert not torch.equal(first.identity, other.identity)
    assert [tuple(part.shape) for part in first] == [(3, 4), (3, 3), (3, 2)]
    assert grid_model(albedo=False).sample(2, torch.Generator()).albedo.shape == (2, 0)
    assert grid_model(torch.float64).sample(2, torch.Generator()).identity.dtype == torch.float64


@pytest.mark.parametrize(
    ("partner", "scaled_by", "match"),
    [([1, 2, 0], [-1] * 3, "involution"), ([0, 1, 5], [-1] * 3, "indices"), ([0, 1, 2], [1, 2, -1], "chains")],
)
def test_impossible_blendshapes_are_refused(partner: list[int], scaled_by: list[int], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        BlendshapePrior(torch.tensor(partner), torch.tensor(scaled_by), 0.5, 0.5)


def test_whitened_coefficients_have_the_priors_moments() -> None:
    """By hand: a mean of 0.5 and a standard deviation of 2; exact binary numbers, so exactly."""
    prior = dataclasses.replace(
        Prior.normal(1, 2), expression_mean=torch.tensor([0.5, 0.0]), expression_std=torch.tensor([2.0, 1.0])
    )
    coefficients, whitened = torch.tensor([[4.5, -1.0]]), torch.tensor([[2.0, -1.0]])
    assert torch.equal(prior.whiten("expression", coefficients), whitened)
    assert torch.equal(prior.unwhiten("expression", whitened), coefficients)


# -- what is refused ---------------------------------------------------------------------------------------------------


def _nan(model: MorphableModel, field: str) -> torch.Tensor:
    broken: torch.Tensor = getattr(model, field).clone()
    broken.view(-1)[3] = float("nan")
    return broken


BROKEN = {
    "template_shape": (lambda m: {"template": m.template[:, :2]}, r"template must be float \[V, 3\]"),
    "template_nan": (lambda m: {"template": _nan(m, "template")}, "template must be finite"),
    "identity_nan": (lambda m: {"identity_basis": _nan(m, "identity_basis")}, "identity_basis must be finite"),
    "identity_shape": (lambda m: {"identity_basis": m.identity_basis[:, :-1]}, "identity_basis must have shape"),
    "identity_dtype": (lambda m: {"identity_basis": m.identity_basis.double()}, "identity_basis must be torch.float32"),
    "std_zero": (lambda m: {"identity_std": torch.zeros(4)}, "identity_std must be positive"),
    "std_count": (lambda m: {"expression_std": torch.ones(2)}, "expression_std must have shape"),
    "triangle_dtype": (lambda m: {"triangles": m.triangles.long()}, "triangles must be torch.int32"),
    "triangle_range": (lambda m: {"triangles": m.triangles + 1}, "triangles must hold indices from 0 to 98"),
    "triangle_degenerate": (lambda m: {"triangles": m.triangles[:, [0, 0, 1]]}, "three different vertices"),
    "landmark_range": (lambda m: {"landmarks68": m.landmarks68 + 50}, "landmarks68 must hold indices"),
    "landmark_count": (lambda m: {"landmarks68": m.landmarks68[:67]}, "landmarks68 must have 68 entries"),
    "mirror": (lambda m: {"mirror_map": m.mirror_map.roll(1)}, "involution"),
    "region": (lambda m: {"regions": {"lips": torch.ones(3, dtype=torch.bool)}}, "region 'lips' must be bool"),
    "uv": (lambda m: {"uv": m.uv[:5]}, "uv must have shape"),
    "albedo_range": (lambda m: {"albedo_mean": m.albedo_mean * 255}, "divide values of 0 to 255 by 255"),
    "albedo_part": (lambda m: {"albedo_std": None}, r"missing: \['albedo_std'\]"),
    "prior": (lambda m: {"prior": Prior.normal(5, 3, 2)}, "prior.identity_mean must have 4 entries"),
    "prior_dtype": (lambda m: {"prior": m.prior.to(dtype=torch.float64)}, "prior must be torch.float32"),
    "names": (lambda m: {"identity_names": ("a",)}, "identity_names must have 4 entries"),
    "name": (lambda m: {"name": ""}, "name must not be empty"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_models_are_refused(case: str) -> None:
    change, match = BROKEN[case]
    model = grid_model()
    with pytest.raises(ValueError, match=match):
        dataclasses.replace(model, **change(model))


def test_missing_parts_are_named() -> None:
    model = grid_model(albedo=False, mirror_map=None, uv=None)
    with pytest.raises(ValueError, match="the model 'grid' has no albedo; attach one"):
        model.albedo(torch.zeros(1, 0))
    for part in ("mirror_map", "uv"):
        with pytest.raises(ValueError, match=f"the model 'grid' has no {part}; "):
            model.require(part)
    with pytest.raises(ValueError, match=r"no region 'lips'; it has \['left'\]"):
        model.region("lips")


@pytest.mark.parametrize(
    ("identity", "expression", "match"),
    [
        (torch.zeros(2, 5), None, r"identity must have shape \[N, 4\], got \[2, 5\]"),
        (torch.zeros(4), None, r"identity must have shape \[N, 4\], got \[4\]"),
        (torch.zeros(2, 4).double(), None, "identity must be torch.float32"),
        (torch.zeros(2, 4), torch.zeros(2, 4), r"expression must have shape \[N, 3\]"),
        (torch.zeros(2, 4), torch.zeros(3, 3), "one batch size, got 2, 3"),
    ],
)
def test_wrong_coefficients_are_refused(identity: torch.Tensor, expression: torch.Tensor | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        grid_model().shape(identity, expression)


def test_inverted_winding_is_normalised() -> None:
    model = grid_model()
    inverted = dataclasses.replace(model, triangles=model.triangles[:, [1, 0, 2]])
    corners = inverted.template[inverted.triangles.long()]
    normals = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert bool((normals[:, 2] > 0).all())  # the grid looks towards +z everywhere


# -- crop --------------------------------------------------------------------------------------------------------------


def test_crop_remaps_every_part(generator: torch.Generator) -> None:
    model = grid_model()
    mask = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    mask[-1] = False  # the landmarks lie on vertices 11 to 78
    mask = mask.reshape(-1)
    part = model.crop(mask, recentre=False, name="part")
    assert part.name == "part" and part.num_vertices == 88 and part.num_triangles == 7 * 10 * 2
    assert part.mirror_map is not None and part.uv is not None and model.uv is not None
    drawn = model.sample(3, generator)
    whole = model.shape(drawn.identity, drawn.expression)
    torch.testing.assert_close(part.shape(drawn.identity, drawn.expression), whole[:, mask], rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(part.albedo(drawn.albedo), model.albedo(drawn.albedo)[:, mask], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(part.template[part.landmarks68], model.template[model.landmarks68])
    torch.testing.assert_close(part.template[part.mirror_map], part.template * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.equal(part.regions["left"], model.regions["left"][mask]) and torch.equal(part.uv, model.uv[mask])
    edges = {tuple(sorted(edge)) for edge in part.triangles[:, [0, 1]].tolist()}
    kept = torch.nonzero(mask).flatten()
    whole_edges = {tuple(sorted(edge)) for edge in model.triangles[:, [0, 1]].tolist()}
    assert {(int(kept[a]), int(kept[b])) for a, b in edges} <= whole_edges
    assert float(model.crop(mask).template.mean(0).abs().max()) < 1e-4  # mm; float32 mean of values of order 50


def test_crop_drops_vertices_without_triangles() -> None:
    mask = torch.ones(ROWS, COLUMNS, dtype=torch.bool)
    mask[-1, 1:5] = mask[-1, 6:] = (
        False  # of the last row, 0 and 5 stay: 5 with a triangle to its upper left, 0 with none
    )
    model = grid_model(mirror_map=None)
    part = model.crop(mask.reshape(-1))
    assert part.num_vertices == int(mask.sum()) - 1
    assert set(part.triangles.flatten().tolist()) == set(range(part.num_vertices))


def test_crop_refuses_to_cut_landmarks_or_symmetry() -> None:
    model = grid_model()
    mask = torch.ones(model.num_vertices, dtype=torch.bool)
    mask[:22] = False
    with pytest.raises(ValueError, match=r"cuts off landmarks \[0, 1, 2"):
        model.crop(mask)
    one_sided = torch.ones(model.num_vertices, dtype=torch.bool)
    one_sided[-3:] = False
    with pytest.raises(ValueError, match="both vertices of every mirrored pair"):
        model.crop(one_sided)
    assert dataclasses.replace(model, mirror_map=None).crop(one_sided).num_vertices == model.num_vertices - 3
    with pytest.raises(ValueError, match=r"mask must be bool \[99\]"):
        model.crop(torch.arange(10))


def test_the_origin_in_the_source_follows_a_crop() -> None:
    model = grid_model(origin=torch.tensor([1.0, 2.0, 3.0]))
    mask = torch.ones(model.num_vertices, dtype=torch.bool)
    mask[-COLUMNS:] = False  # the uppermost row, no landmark among it
    assert model.origin is not None
    for recentre in (True, False):
        part = model.crop(mask, recentre=recentre)
        assert part.origin is not None
        torch.testing.assert_close(part.template + part.origin, model.template[mask] + model.origin)
    with pytest.raises(ValueError, match=r"origin must have shape \[3\]"):
        grid_model(origin=torch.zeros(2))
