"""System 3: the canonical crop, the chain, and what is made of its estimates."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_clips import MODEL, make_conditional, two_clips
from tiny_faces import write_portraits
from torch.nn import functional

from facecore.data import LabelledRenders
from facecore.morphable import load as load_model
from facecore.render import WeakPerspectiveCamera
from facecore.systems.aggregation import average_faces
from facecore.systems.conditional_estimation import ConditionalEstimation, canonical_crop, pose_of
from facecore.systems.conditional_estimation_config import ConditionalModelConfig, ConditionalWeights
from facecore.systems.conditional_estimation_losses import ConditionalObjective, stochastic_exchange
from facecore.systems.decoding import decode_shape
from facecore.systems.export import export_face
from facecore.systems.inference import find_faces, reconstruct_faces
from facecore.systems.transfer import Parts, relight, transfer
from facecore.training.config import overlay


@pytest.fixture(scope="module")
def morphable():
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module", params=[True, False], ids=["coupled", "uncoupled"])
def system(request, morphable) -> ConditionalEstimation:
    return make_conditional(morphable, coupled=request.param)


@pytest.fixture(scope="module")
def frames(morphable):
    return two_clips(morphable)


def bars(size: int) -> torch.Tensor:
    """A smooth picture without any symmetry, [1, 3, size, size]."""
    rows, columns = torch.meshgrid(*[torch.linspace(0, 1, size)] * 2, indexing="ij")
    return torch.stack([rows, columns, (3 * rows + 2 * columns).sin() / 2 + 0.5])[None]


def test_the_canonical_crop_of_the_canonical_view_is_the_picture():
    picture = bars(32)
    # bilinear at pixel centres, whose weights are 1 and 0 up to the rounding of grid coordinates
    torch.testing.assert_close(canonical_crop(picture, torch.zeros(1, 6)), picture, rtol=0, atol=1e-5)


def test_the_canonical_crop_by_hand():
    """A quarter turn reads what is a quarter turn further; a shift of two pixels reads two pixels on, black outside."""
    picture = bars(32)
    pose = torch.zeros(1, 6)
    pose[0, 2] = math.pi / 2  # counter-clockwise in the picture: turned back, its right side comes to the top
    torch.testing.assert_close(canonical_crop(picture, pose), picture.rot90(-1, (2, 3)), rtol=0, atol=1e-5)
    pose = torch.zeros(1, 6)
    pose[0, 4:] = torch.tensor([4.0, 2.0]) / 32  # 2 pixels to the right, 1 up
    moved = canonical_crop(picture, pose)
    torch.testing.assert_close(moved[..., 1:, :-2], picture[..., :-1, 2:], rtol=0, atol=1e-5)
    assert not moved[..., -2:].any() and not moved[..., 0, :].any()


def test_the_canonical_crop_undoes_a_pose_in_the_plane(morphable):
    """A face drawn in a pose, and the same drawn in the canonical one."""
    points = morphable.mean_neutral()[morphable.landmarks68][None]
    pose = torch.tensor([[0.1, 0.3, 0.4, 0.2, 0.1, -0.05]])
    canonical = pose * torch.tensor([1.0, 1, 0, 0, 0, 0])
    q = WeakPerspectiveCamera.from_pose(canonical, 64, 64).ndc(points)
    p = WeakPerspectiveCamera.from_pose(pose, 64, 64).ndc(points)
    # what the crop shows at q is what the picture shows at p: coordinates as colours
    rows, columns = torch.meshgrid(*[(torch.arange(64) + 0.5) / 32 - 1] * 2, indexing="ij")
    picture = torch.stack([columns, -rows, columns])[None]
    crop = canonical_crop(picture, pose)
    seen = functional.grid_sample(crop, (q * torch.tensor([1.0, -1.0]))[:, None], align_corners=False)[0, :2, 0].T
    # linear colours are bilinear exactly, but for the rounding of coordinates
    torch.testing.assert_close(seen, p[0], rtol=0, atol=1e-5)


def test_before_training_every_face_is_the_mean_face(morphable):
    torch.manual_seed(0)
    system = ConditionalEstimation(overlay(ConditionalModelConfig(), MODEL), morphable).eval()
    face = system.reconstruct(torch.rand(2, 3, 32, 32))
    assert not face.pose.any()
    torch.testing.assert_close(face.vertices, morphable.mean_shape().expand_as(face.vertices))
    assert torch.equal(face.sh_coefficients[:, 0], torch.full((2, 3), 0.8)) and not face.sh_coefficients[:, 1:].any()


def test_estimates(system, frames):
    with torch.no_grad():
        estimate = system(frames.image)
    assert estimate.viewpoint.shape == (8, 7)
    assert torch.equal(estimate.pose, estimate.viewpoint[:, [0, 1, 2, 6, 3, 4]])  # without t_z
    assert estimate.sh_coefficients.shape == (8, 9, 3)
    assert torch.equal(estimate.sh_coefficients[..., 0], estimate.sh_coefficients[..., 2])  # white
    assert 0 < float(estimate.reflectance.min()) and float(estimate.reflectance.max()) < 1
    if system.config.coupled:
        assert not estimate.unwrapped[~estimate.visible[:, None].expand_as(estimate.unwrapped)].any()
        share = estimate.visible.float().mean()
        assert 0.2 < float(share) < 0.95  # some texels are empty or turned away
    else:
        assert estimate.unwrapped is None and estimate.visible is None
    with pytest.raises(ValueError, match=r"images must have shape \[N, 3, 32, 32\]"):
        system(frames.image[..., :16])


def test_a_chain_is_conditional_and_the_uncoupled_networks_are_not(system, frames):
    """With another viewpoint the coupled system estimates another shape and light, the uncoupled one the same."""
    with torch.no_grad():
        before = system(frames.image)
        system.viewpoint_network.head[-1].bias.add_(0.1)
        after = system(frames.image)
        system.viewpoint_network.head[-1].bias.sub_(0.1)
    assert not torch.equal(before.viewpoint, after.viewpoint)
    for name in ("whitened", "reflectance", "light"):
        assert torch.equal(getattr(before, name), getattr(after, name)) != system.config.coupled, name


def test_gradients_reach_every_weight(system, frames):
    system.train().zero_grad()
    objective = ConditionalObjective(ConditionalWeights(), system)
    objective(frames, stochastic_exchange(torch.arange(8) ^ 1))["total"].backward()
    left = [name for name, p in system.named_parameters() if p.grad is None or not p.grad.any()]
    assert left == []
    assert not system.viewpoint_network.head[-1].weight.grad[5].any()  # t_z has no effect on the picture
    system.eval()


def test_a_detached_crop_gives_the_viewpoint_no_gradient(morphable, frames):
    for detach in (False, True):
        system = make_conditional(morphable, detach_crop=detach)
        viewpoint = system.estimate_viewpoint(frames.image).detach().requires_grad_()
        system.estimate_shape(frames.image, viewpoint).square().sum().backward()
        assert (viewpoint.grad is None) == detach


def test_pictures_are_reconstructed_in_the_system_s_own_view(tmp_path, morphable):
    """Pose and light are the networks', not fitted to the landmarks; the texture comes out with the meshes."""
    system = make_conditional(morphable)
    write_portraits(tmp_path, morphable, ["face"], size=64)
    (found,) = find_faces(tmp_path / "face.png", None, 32, masks=None, assume_cropped=True)
    picture = found.read()
    face = reconstruct_faces([picture], system, size=48).reconstruction
    direct = system.reconstruct(picture.cropped(32)[None])
    assert torch.equal(face.pose, direct.pose) and torch.equal(face.sh_coefficients, direct.sh_coefficients)
    assert face.camera.height == 48
    (tmp_path / "out").mkdir()
    files = export_face(tmp_path / "out", "face", face, picture.image, picture.crop)
    assert files.glb.is_file() and files.texture is not None and files.texture.is_file()


def test_light_expression_and_pose_are_transferred(morphable):
    system = make_conditional(morphable)
    faces = system.reconstruct(LabelledRenders(morphable, 32, 32).batch(torch.arange(2)).image)
    lit = transfer(system, faces[:1], faces[1:], Parts("identity", "identity", "driver"))
    assert torch.equal(lit.sh_coefficients, faces.sh_coefficients[1:]) and torch.equal(lit.vertices, faces.vertices[:1])
    assert torch.equal(lit.texture.image, faces.texture.image[:1])
    assert torch.equal(relight(faces, faces.sh_coefficients[:1]).sh_coefficients[1], faces.sh_coefficients[0])
    moved = transfer(system, faces[:1], faces[1:])
    codes = {"identity": faces.codes["identity"][:1], "expression": faces.codes["expression"][1:]}
    torch.testing.assert_close(moved.vertices, decode_shape(system, codes))
    assert len(average_faces(system, faces).reconstruction) == 1


def test_pose_of_viewpoint():
    assert pose_of(torch.arange(7.0)[None]).tolist() == [[0, 1, 2, 6, 3, 4]]
