"""300W-LP as the labelled half: labels that fit the augmented picture, what is refused, training on it."""

from __future__ import annotations

import pathlib

import pytest
import scipy.io
import torch
from dataset_files import SIZE, write_300wlp
from model_files import bfm_300wlp_fields, deep3d_fields, small_truth
from test_semi_supervised import overlay_values

from facecore.cli.main import main
from facecore.data import Augmentation, LabelledPhotos, ParameterPhotos, ShapeBatch, open_dataset
from facecore.data.face_parameters import moved_camera
from facecore.losses import skin_probability
from facecore.morphable import MorphableModel, load
from facecore.render import Renderer, WeakPerspectiveCamera
from facecore.systems.semi_supervised_config import PRESETS
from facecore.systems.semi_supervised_training import SemiSupervisedTrainer
from facecore.training.config import overlay, write_yaml

INDEX = torch.tensor([0, 4, 2, 2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Six pictures of three originals, one of them a mirrored copy, and the model that they belong to."""
    root = tmp_path_factory.mktemp("labelled")
    write_300wlp(root / "300W_LP")
    scipy.io.savemat(root / "BFM.mat", {"model": bfm_300wlp_fields(small_truth())})
    return root


@pytest.fixture(scope="module")
def model(folder) -> MorphableModel:
    return load(folder / "BFM.mat")


def open_photos(folder: pathlib.Path, mirror: float = 0.0, **options) -> ParameterPhotos:
    sizes = SIZE | {"augmentation": Augmentation(mirror=mirror), "flipped": True} | options
    photos = open_dataset("300w-lp", folder / "300W_LP", **sizes)
    assert isinstance(photos, ParameterPhotos)
    return photos


@pytest.mark.parametrize("key", [None, 3], ids=["plain", "augmented"])
def test_labels_fit_the_picture(folder, model, key):
    """The files' own points, moved with the picture as photographs' are, against projections of the labelled face.

    0.01 pixel of 32: what float32 lengths of 300 mm leave.
    """
    labelled = LabelledPhotos(open_photos(folder), model)
    batch, photos = labelled.batch(INDEX, key), labelled.photos.batch(INDEX, key)
    assert isinstance(batch, ShapeBatch) and batch.image.equal(photos.image)
    exact = [0, 2, 3]  # the mirrored copy has its pt2d alone, which the test's files move by 7 pixels
    torch.testing.assert_close(batch.landmarks[exact], photos.landmarks[exact], atol=0.01, rtol=0)
    if key is not None:
        assert float((batch.landmarks[2] - batch.landmarks[3]).abs().max()) > 0.2  # the same face, moved differently
    vertices = model.shape(batch.identity, batch.expression)
    camera = WeakPerspectiveCamera.from_pose(batch.pose, 32, 32)
    torch.testing.assert_close(camera.project(vertices[:, model.landmarks68]), batch.landmarks, atol=0.01, rtol=0)
    raw_identity, raw_expression, _ = small_truth().raw()
    for coefficients, raw, std in (
        (batch.identity, raw_identity, small_truth().identity_std),
        (batch.expression, raw_expression, small_truth().expression_std),
    ):
        expected = torch.from_numpy(raw / std).float().expand(len(INDEX), -1)
        torch.testing.assert_close(coefficients, expected, atol=1e-4, rtol=0)


def test_the_mask_is_skin_that_the_face_covers(folder, model):
    labelled = LabelledPhotos(open_photos(folder), model)
    batch, photos = labelled.batch(INDEX, 1), labelled.photos.batch(INDEX, 1)
    camera = WeakPerspectiveCamera.from_pose(batch.pose, 32, 32)
    vertices = model.shape(batch.identity, batch.expression)
    drawn = Renderer(model.triangles, 32, 32)(vertices, torch.ones_like(vertices), camera, torch.ones(4, 9, 3))
    assert batch.mask.equal(photos.mask * drawn.alpha.round())
    assert 0 < float(batch.mask.sum()) < float(photos.mask.sum()) < photos.mask.numel()
    assert float((skin_probability(batch.image) > 0.5)[batch.mask > 0].float().mean()) > 0.9  # but for resampling


def test_a_cropped_model_has_the_same_labels(folder, model):
    """Shape restricted to the vertices of a part of the model (METHODS 2.2): the frame's new origin moves the pose."""
    mask = model.template[:, 1] > model.template[:, 1].min() + 5
    mask[model.landmarks68] = True
    part = model.crop(mask & mask[model.require("mirror_map")])
    assert part.num_vertices < model.num_vertices
    whole, cropped = (LabelledPhotos(open_photos(folder), one).batch(INDEX, 2) for one in (model, part))
    torch.testing.assert_close(cropped.landmarks, whole.landmarks, atol=0.01, rtol=0)
    assert cropped.identity.equal(whole.identity) and not cropped.pose.equal(whole.pose)


def test_what_does_not_fit_is_refused(folder, model, tmp_path):
    with pytest.raises(ValueError, match=r"mirror must be 0, got 0\.5.*Flip"):
        LabelledPhotos(open_photos(folder, mirror=0.5), model)
    scipy.io.savemat(tmp_path / "BFM_model_front.mat", deep3d_fields(small_truth()))
    with pytest.raises(ValueError, match=r"'bfm-deep3d' does not fit the parameter files of .*BFM\.mat"):
        LabelledPhotos(open_photos(folder), load(tmp_path / "BFM_model_front.mat"))
    with pytest.raises(ValueError, match="has no expressions"):
        LabelledPhotos(open_photos(folder), load(folder / "BFM.mat", num_expression=0))
    with pytest.raises(ValueError, match="does not know its origin"):
        LabelledPhotos(open_photos(folder), load("procedural", num_vertices=2500))
    camera = WeakPerspectiveCamera.from_pose(torch.zeros(1, 6), 32, 32)
    with pytest.raises(ValueError, match="matrix must turn and scale alone"):
        moved_camera(camera, torch.tensor([[-1.0, 0.0, 32.0], [0.0, 1.0, 0.0]]), 32, 32)


def make_config(folder: pathlib.Path, out: str = "unused", **stages: float):
    values = overlay_values(out, {"decoder_iterations": 0, "encoder_iterations": 0} | stages)
    values["model"]["morphable"] = str(folder / "BFM.mat")
    values["data"]["labelled"] = str(folder / "300W_LP")
    return overlay(PRESETS["quick"], values)


def make_trainer(folder, model, workers: int | None = None) -> SemiSupervisedTrainer:
    config = overlay(make_config(folder), {"data": {"workers": workers}})
    return SemiSupervisedTrainer(config, model, None, open_photos(folder))


def test_every_stage_learns_from_photographs(folder, model):
    trainer = make_trainer(folder, model)
    pairs = trainer.objective.labelled.batches.index(0)
    originals = trainer.labelled.identity[pairs]
    assert len(pairs) == 4 and bool((originals[0::2] != originals[1::2]).all())
    for stage in ("warmup", "hybrid"):
        terms = trainer.step(trainer.schedule.first(stage))
        assert {"shape", "pair", "landmark", "labelled_pose", "labelled_code", "surface_points"} <= set(terms)
        assert not {"labelled_albedo", "labelled_light"} & set(terms)  # which no file knows
        assert all(bool(value.isfinite()) for value in terms.values())


def test_pairs_exchange_expressions(folder, model):
    """The targets of L_pair: A's identity with B's expression, both by the files' coefficients."""
    from facecore.systems.semi_supervised_losses import Truth

    trainer = make_trainer(folder, model)
    batch = trainer.objective._labelled(0, trainer._share)
    batch.expression[0] += 1  # the test's files all hold one face
    truth = Truth.of(batch, trainer.morphable, trainer.system)
    expected = model.shape(batch.identity, batch.expression[[1, 0, 3, 2]])
    shapes = truth.swapped * trainer.system.shape_scale + trainer.system.template
    torch.testing.assert_close(shapes, expected, atol=1e-3, rtol=0)


def test_loading_processes_and_shares_change_nothing(folder, model):
    from facecore.training.distributed import WHOLE, Share

    trainers = [make_trainer(folder, model, workers) for workers in (0, 1)]
    try:
        own, loaded = (trainer.objective._labelled(1, WHOLE) for trainer in trainers)
        shares = [trainers[0].objective._labelled(1, Share(i, 2)) for i in range(2)]
        for name, value in vars(own).items():
            assert value.equal(getattr(loaded, name)), name
            assert value.equal(torch.cat([getattr(share, name) for share in shares])), name
    finally:
        trainers[1].objective.labelled.close()


def test_the_discriminator_sees_expressions_of_the_files(folder, model, monkeypatch):
    """METHODS 2.3: real shapes take their expression from the rows of the data set, their identity from the prior."""
    trainer = make_trainer(folder, model)
    row = trainer.labelled.expressions()[0]
    trainer.objective.terms("hybrid", trainer.schedule.first("hybrid"))
    seen: list[torch.Tensor] = []
    shape = MorphableModel.shape

    def watched(self: MorphableModel, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        seen.append(expression)
        return shape(self, identity, expression)

    monkeypatch.setattr(MorphableModel, "shape", watched)
    trainer.shapes.learn(trainer.objective.fakes, 0)
    assert len(seen) == 1 and seen[0].equal(row.expand(len(seen[0]), -1))


def test_the_command_trains_and_goes_on(folder, tmp_path, capsys):
    def run(config, *more: str) -> int:
        write_yaml(tmp_path / "run.yaml", config)
        return main(["train", "--config", str(tmp_path / "run.yaml"), "--run.out", str(tmp_path / "run"), *more])

    config = make_config(folder, warmup_iterations=1, hybrid_iterations=1)
    assert run(config) == 0
    assert "6 photographs, versions of 3" in capsys.readouterr().out
    longer = overlay(config, {"data": {"labelled": None}})
    assert run(longer, "--run.resume") == 1
    assert "on other labelled photographs" in capsys.readouterr().err
    wrong = overlay(config, {"model": {"morphable": "procedural"}})
    assert run(wrong, "--run.out", str(tmp_path / "other")) == 2
    assert "--data.labelled: its files belong to" in capsys.readouterr().err
