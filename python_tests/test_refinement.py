"""Analysis by synthesis: recovers known faces, counts errors as it says, and what it sees of a picture."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from facecore.data import five_points
from facecore.morphable import MorphableModel
from facecore.morphable import load as load_model
from facecore.render import Renderer, Rendering, WeakPerspectiveCamera
from facecore.systems.assets import FaceAssets
from facecore.systems.inference import (
    start_from_mean_face,
)
from facecore.systems.parameterization import CodeParameters, CoefficientParameters
from facecore.systems.refinement import (
    LANDMARK_NOISE,
    Diverged,
    Observation,
    RefinementWeights,
    _uncovered_loss,
    colour_error,
    refine,
    typical_light,
)
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_config import ModelConfig

SIZE = 72
POSES = torch.tensor([[0.10, -0.35, 0.08, 0.25, 0.05, -0.04], [-0.15, 0.30, -0.05, 0.15, -0.06, 0.05]])


@dataclasses.dataclass
class Scene:
    """Renders of faces with known parameters, and what refinement is told of them."""

    observation: Observation
    vertices: torch.Tensor
    pose: torch.Tensor


@pytest.fixture(scope="module")
def model() -> MorphableModel:
    return load_model("procedural", num_vertices=2500)


@pytest.fixture(scope="module")
def scene(model: MorphableModel) -> Scene:
    sample = model.sample(2, torch.Generator().manual_seed(5))
    vertices, albedo = model.shape(sample.identity, sample.expression), model.albedo(sample.albedo)
    light = typical_light(torch.zeros(2, 9, 3))
    light[:, 3], light[:, 2] = 0.25, 0.15
    camera = WeakPerspectiveCamera.from_pose(POSES, SIZE, SIZE)
    with torch.no_grad():
        rendering = Renderer(model.triangles, SIZE, SIZE)(vertices, albedo, camera, light)
    observation = Observation(
        images=rendering.image.clamp(0, 1),
        mask=rendering.alpha,
        landmarks=camera.project(vertices[:, model.landmarks68]),
        landmark_weight=torch.ones(2, 68),
        five_points=torch.zeros(2, 5, 2),
        five_point_weight=torch.zeros(2, 5),
    )
    return Scene(observation, vertices, POSES)


@pytest.fixture(scope="module")
def system(model: MorphableModel) -> SemiSupervised:
    torch.manual_seed(0)
    config = ModelConfig(
        num_vertices=2500,
        image_size=32,
        encoder_depth=18,
        identity_size=16,
        expression_size=8,
        factors=(4, 4),
        shape_channels=(16, 16, 8),
        albedo_channels=(8, 8, 8),
        critic_channels=(8, 8),
        num_terms=3,
    )
    return SemiSupervised(config, FaceAssets.from_morphable(model, config.factors)).eval()


def landmark_error(result, scene: Scene) -> torch.Tensor:
    """Mean distance in percent of the box, [N]."""
    given = scene.observation.landmarks
    box = (given.amax(1) - given.amin(1)).prod(1).sqrt()
    return 100 * (result.landmarks_2d - given).norm(dim=-1).mean(1) / box


def test_recovers_pose_and_lowers_both_errors(model, scene):
    """From the mean face posed by its landmarks; the faces are one standard deviation from it."""
    before = refine(start_from_mean_face(model, scene.observation), scene.observation, 0)
    after = refine(start_from_mean_face(model, scene.observation), scene.observation, 60)
    assert bool((landmark_error(after.reconstruction, scene) < 1.0).all())
    assert bool(
        (landmark_error(after.reconstruction, scene) < 0.5 * landmark_error(before.reconstruction, scene)).all()
    )
    assert bool((after.error_after < 0.5 * after.error_before).all())
    angles = (after.reconstruction.pose - scene.pose)[:, :3].abs()
    assert float(angles.max()) < 0.07, angles  # 4 degrees: shape explains part of a rotation under weak perspective


def test_no_iterations_change_nothing(model, scene):
    face = start_from_mean_face(model, scene.observation)
    start = [tensor.detach().clone() for tensor, _ in face.parameters()]
    result = refine(face, scene.observation, 0)
    assert all(torch.equal(tensor, before) for (tensor, _), before in zip(face.parameters(), start))
    assert torch.equal(result.error_before, result.error_after)
    torch.testing.assert_close(result.reconstruction.vertices, model.mean_shape().expand(2, -1, -1), atol=1e-4, rtol=0)


def test_is_deterministic(model, scene):
    one, other = (refine(start_from_mean_face(model, scene.observation), scene.observation, 6) for _ in range(2))
    for name in ("vertices", "albedo", "pose", "sh_coefficients"):
        assert torch.equal(getattr(one.reconstruction, name), getattr(other.reconstruction, name)), name
    assert torch.equal(one.error_after, other.error_after)


def test_faces_of_one_batch_do_not_disturb_each_other(model, scene):
    both = refine(start_from_mean_face(model, scene.observation), scene.observation, 10)
    alone = Observation(*(tensor[1:] for tensor in vars(scene.observation).values()))
    single = refine(start_from_mean_face(model, alone), alone, 10)
    # float32 sums in another order, through ten steps of Adam, which enlarges differences of tiny gradients
    torch.testing.assert_close(both.reconstruction.pose[1:], single.reconstruction.pose, atol=2e-3, rtol=0)
    torch.testing.assert_close(both.error_after[1:], single.error_after, atol=2e-3, rtol=0)


@pytest.mark.parametrize("iterations", [1, 5])
def test_progress_counts_every_step(model, scene, iterations):
    seen: list[tuple[int, int]] = []
    refine(
        start_from_mean_face(model, scene.observation),
        scene.observation,
        iterations,
        progress=lambda step, total, loss: seen.append((step, total)),
    )
    assert seen == [(step, iterations) for step in range(1, iterations + 1)]


def test_bad_arguments(model, scene):
    face = start_from_mean_face(model, scene.observation)
    with pytest.raises(ValueError, match="iterations must be at least 0, got -1"):
        refine(face, scene.observation, -1)
    with pytest.raises(ValueError, match=r"mask must have shape \[2, 72, 72\], got \[2, 72, 71\]"):
        dataclasses.replace(scene.observation, mask=scene.observation.mask[:, :, :-1])
    broken = dataclasses.replace(scene.observation, landmarks=scene.observation.landmarks * float("nan"))
    face = CoefficientParameters(model, POSES, typical_light(torch.zeros(2, 9, 3)))
    with pytest.raises(Diverged, match="the refinement diverged; use fewer steps"):
        refine(face, broken, 3)


def test_colour_error_by_hand():
    """Four pixels: outside the mask; 0.3 off on average; right; masked but covered by nothing, though equally black."""
    image = torch.zeros(1, 3, 2, 2)
    image[0, :, 0, 1] = torch.tensor([0.1, 0.2, 0.6])
    image[0, :, 0, 0] = 0.9
    images = torch.zeros(1, 3, 2, 2)
    alpha = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
    mask = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]])
    rendering = dataclasses.replace(_rendering(alpha), image=image)
    torch.testing.assert_close(colour_error(rendering, images, mask), torch.tensor([(0.3 + 0 + 1) / 3]))
    assert float(colour_error(rendering, images, torch.zeros(1, 2, 2))) == 0
    bright = dataclasses.replace(rendering, image=image + 5)  # compared as displayed: clamped to 1
    assert float(colour_error(bright, images, mask)) == pytest.approx(1)


def _rendering(alpha: torch.Tensor) -> Rendering:
    empty = {field.name: None for field in dataclasses.fields(Rendering)}
    return Rendering(**(empty | {"alpha": alpha}))


def test_the_frozen_mask_is_the_first_coverage(model, scene):
    """A face that shrinks away from its first coverage is charged for the pixels that it gives up."""

    class Shrunk(CoefficientParameters):
        def parameters(self):
            # one step of learning rate 0.03 * 40 takes a large part of log f away: the face becomes small
            return [(self.pose, 40.0)]

    face = Shrunk(model, POSES, typical_light(torch.zeros(2, 9, 3)))
    far = dataclasses.replace(scene.observation, landmarks=SIZE / 2 + 0.2 * (scene.observation.landmarks - SIZE / 2))
    result = refine(face, far, 3)
    camera = result.reconstruction.camera
    rendering = Renderer(model.triangles, SIZE, SIZE)(
        result.reconstruction.vertices, result.reconstruction.albedo, camera, result.reconstruction.sh_coefficients
    )
    lost = (scene.observation.mask * (rendering.alpha == 0)).sum((1, 2)) / scene.observation.mask.sum((1, 2))
    assert bool((lost > 0.2).all()), "the face was meant to move"
    assert bool((result.error_after > 0.9 * lost).all())


def test_uncovered_pixels_pull_the_nearest_surface_by_hand():
    """A square over the left half of 4 x 4 pixels. The mask holds a row of the right half: columns 2 and 3."""
    vertices = torch.tensor([[[-1.0, -1, 0], [0, -1, 0], [0, 1, 0], [-1, 1, 0]]]).requires_grad_()
    camera = WeakPerspectiveCamera(torch.eye(3)[None], torch.full((1,), 100.0), torch.zeros(1, 2), 4, 4)
    renderer = Renderer(torch.tensor([[0, 1, 2], [0, 2, 3]], dtype=torch.int32), 4, 4)
    rendering = renderer(vertices, torch.ones_like(vertices), camera, typical_light(torch.zeros(1, 9, 3)))
    assert rendering.alpha[0].tolist() == [[1.0, 1.0, 0.0, 0.0]] * 4
    mask = torch.zeros(1, 4, 4)
    mask[0, 1] = 1.0
    loss = _uncovered_loss(renderer, rendering, camera.ndc(vertices), mask)
    # Both look at column 1, a pixel's width of 0.5 NDC away and two; four pixels in the mask.
    torch.testing.assert_close(loss, torch.tensor((0.5 + 1.0) / 4 / LANDMARK_NOISE))
    (grad,) = torch.autograd.grad(loss, vertices)
    assert float(grad[..., 0].sum()) < 0, "a step against it moves the square to the right"
    mask[0, 1, 2:] = 0.0
    assert float(_uncovered_loss(renderer, rendering, camera.ndc(vertices), mask)) == 0
    hidden = dataclasses.replace(rendering, alpha=torch.zeros_like(rendering.alpha))  # there is nothing to pull
    assert float(_uncovered_loss(renderer, hidden, camera.ndc(vertices), torch.ones(1, 4, 4))) == 0


def test_a_face_keeps_the_pixels_it_came_in_with(model, scene):
    """Landmarks that ask for a face 12 % smaller: without the coverage term it leaves its mask, with it hardly."""
    center = scene.observation.landmarks.mean(1, keepdim=True)
    smaller = dataclasses.replace(
        scene.observation,
        landmarks=center + 0.88 * (scene.observation.landmarks - center),
        landmark_weight=torch.full((2, 68), 0.03),
    )
    lost = []
    for coverage in (0.0, 1.0):
        face = CoefficientParameters(model, POSES, typical_light(torch.zeros(2, 9, 3)))
        first = refine(CoefficientParameters(model, POSES, typical_light(torch.zeros(2, 9, 3))), smaller, 0)
        result = refine(face, smaller, 60, RefinementWeights(coverage=coverage))
        frozen = smaller.mask * _alpha(model, first.reconstruction)
        lost.append(float((frozen * (1 - _alpha(model, result.reconstruction))).sum() / frozen.sum()))
    assert lost[0] > 0.01 and lost[1] < 0.3 * lost[0], lost


def _alpha(model, face):
    return Renderer(model.triangles, SIZE, SIZE)(face.vertices, face.albedo, face.camera, face.sh_coefficients).alpha


def test_codes_of_a_trained_system_are_refined_without_touching_its_weights(system, scene):
    weights = {name: tensor.clone() for name, tensor in system.state_dict().items()}
    codes = system.encode(torch.nn.functional.interpolate(scene.observation.images, size=32))
    result = refine(CodeParameters(system, codes), scene.observation, 20)
    assert bool((result.error_after < result.error_before).all())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in system.state_dict().items())
    assert all(parameter.grad is None for parameter in system.parameters())
    assert set(result.reconstruction.codes) == {"identity", "complexion", "expression"}


def test_unrefined_codes_are_the_systems_own_answer(system, scene):
    images = torch.nn.functional.interpolate(scene.observation.images, size=32)
    own, same = system.reconstruct(images), refine(CodeParameters(system, system.encode(images)), scene.observation, 0)
    for name in ("vertices", "neutral_vertices", "albedo", "pose", "sh_coefficients"):
        assert torch.equal(getattr(own, name), getattr(same.reconstruction, name)), name


def test_parameters_decode_their_own_landmarks_and_reconstruction(model, system):
    torch.manual_seed(3)
    coefficients = CoefficientParameters(model, POSES, torch.rand(2, 9, 3))
    codes = CodeParameters(system, system.encode(torch.rand(2, 3, 32, 32)))
    for face in (coefficients, codes):
        with torch.no_grad():
            assert float(face.penalty()) == 0, "the start is the most probable face"
            for tensor, _ in face.parameters():
                tensor += 0.1 * torch.randn_like(tensor)
            decoded, landmarks = face.decode(), face.decode_landmarks()
            assert float(face.penalty()) > 0
        result = face.reconstruction(20, 30)
        torch.testing.assert_close(decoded.vertices[:, result.landmarks68], landmarks, atol=1e-3, rtol=0)  # mm
        assert torch.equal(result.vertices, decoded.vertices) and torch.equal(result.albedo, decoded.albedo)
        assert (result.camera.height, result.camera.width) == (20, 30)
        assert not result.pose.requires_grad and not result.sh_coefficients.requires_grad


def test_start_is_posed_by_whatever_landmarks_there_are(model, scene):
    unknown = torch.zeros(2, 68)
    five = dataclasses.replace(
        scene.observation,
        landmarks=torch.zeros(2, 68, 2),
        landmark_weight=unknown,
        five_points=five_points(scene.observation.landmarks),
        five_point_weight=torch.ones(2, 5),
    )
    mean = model.mean_shape()[model.landmarks68]
    for observation, angles in ((scene.observation, slice(0, 3)), (five, slice(2, 3))):  # five points: a frontal face
        pose = start_from_mean_face(model, observation).pose.detach()
        assert float((pose - scene.pose)[:, angles].abs().max()) < 0.2  # rad; the mean face is another person
        predicted = WeakPerspectiveCamera.from_pose(pose, SIZE, SIZE).project(mean.expand(2, -1, -1))
        assert float((predicted - scene.observation.landmarks).norm(dim=-1).mean()) < 0.06 * SIZE
    nothing = dataclasses.replace(scene.observation, landmark_weight=unknown)
    assert torch.equal(start_from_mean_face(model, nothing).pose.detach(), torch.zeros(2, 6))
