"""Photographs with parameter files: the parameters of a sample fit its crop; expressions of a whole set."""

from __future__ import annotations

import pathlib

import pytest
import scipy.io
import torch
from dataset_files import SIZE, write_300wlp
from model_files import bfm_300wlp_fields, small_truth

from facecore.data import ParameterPhotos, open_dataset
from facecore.morphable import load


def test_parameters_of_a_sample_fit_its_crop(tmp_path: pathlib.Path) -> None:
    photos = open_dataset("300w-lp", write_300wlp(tmp_path / "300W_LP"), **SIZE)
    assert isinstance(photos, ParameterPhotos)
    scipy.io.savemat(tmp_path / "BFM.mat", {"model": bfm_300wlp_fields(small_truth())})
    model = load(tmp_path / "BFM.mat")
    vertices = photos.parameters(2).vertices(model).double()
    pixels = photos.camera(2, model).project(vertices[None, model.landmarks68])[0]
    torch.testing.assert_close(pixels.float(), photos.batch(torch.tensor([2])).landmarks[0], atol=1e-3, rtol=0)
    rows = photos.expressions(model)
    assert rows.shape == (3, 2)  # photographs, not their rotations
    torch.testing.assert_close(
        rows[0].double() * torch.from_numpy(small_truth().expression_std),
        torch.from_numpy(small_truth().raw()[1]),
        atol=1e-4,
        rtol=0,
    )


def test_a_file_that_is_damaged_later_is_an_error(tmp_path: pathlib.Path) -> None:
    photos = open_dataset("300w-lp", write_300wlp(tmp_path / "300W_LP"), **SIZE)
    assert isinstance(photos, ParameterPhotos)
    photos.path(1).with_suffix(".mat").write_bytes(b"")
    with pytest.raises(ValueError, match=r"AFW_1_1_5.mat"):
        photos.parameters(1)
