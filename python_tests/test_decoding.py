"""Codes to shape and albedo: the same as the source's own decoders, by the names that reconstructions use."""

from __future__ import annotations

import pytest
import torch
from tiny_faces import make_faces, make_system

from facecore.morphable import load as load_model
from facecore.systems.decoding import decode_albedo, decode_shape
from facecore.systems.parameterization import CodeParameters, CoefficientParameters


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def system(morphable):
    return make_system(morphable)


def test_a_systems_reconstruction_comes_back_from_its_codes(system):
    faces = make_faces(system, 2)
    assert torch.equal(decode_shape(system, faces.codes), faces.vertices)
    assert torch.equal(decode_albedo(system, faces.codes), faces.albedo)


def test_a_refined_face_has_a_code_for_its_complexion(system):
    parameters = CodeParameters(system, system.encode(torch.rand(2, 3, 32, 32)))
    with torch.no_grad():
        parameters.codes["complexion"] += 1.0
    faces = parameters.reconstruction(32, 32)
    assert torch.equal(decode_albedo(system, faces.codes), faces.albedo)
    without = {name: code for name, code in faces.codes.items() if name != "complexion"}
    assert not torch.allclose(decode_albedo(system, without), faces.albedo, atol=1e-4)


def test_a_models_reconstruction_comes_back_from_its_coefficients(morphable):
    parameters = CoefficientParameters(morphable, torch.zeros(2, 6), torch.rand(2, 9, 3))
    with torch.no_grad():
        for whitened in parameters.whitened.values():
            whitened += 0.3
    faces = parameters.reconstruction(32, 32)
    assert torch.equal(decode_shape(morphable, faces.codes), faces.vertices)
    assert torch.equal(decode_albedo(morphable, faces.codes), faces.albedo)


def test_what_is_refused(system, morphable):
    codes = make_faces(system, 2).codes
    with pytest.raises(ValueError, match="codes must hold 'expression', got identity"):
        decode_shape(system, {"identity": codes["identity"]})
    with pytest.raises(ValueError, match=r"codes\['identity'\] must have shape \[N, 8\] for this source, got \[2, 7\]"):
        decode_shape(system, codes | {"identity": codes["identity"][:, :7]})
    with pytest.raises(ValueError, match="codes must hold 'albedo'"):
        decode_albedo(morphable, {})
    with pytest.raises(ValueError, match="makes a texture from the picture"):
        decode_albedo(make_system(morphable, texture=True), codes)
