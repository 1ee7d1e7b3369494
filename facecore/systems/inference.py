"""From pictures on disk to reconstructed faces: find, crop, estimate, refine."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable

import torch

from facecore.data import FaceCrop, Landmarks, LandmarkSource, five_points, read_image
from facecore.data.face_finder import FaceFinder, segment_face
from facecore.data.masks import MASK_THRESHOLD, face_mask, read_mask
from facecore.data.search import find_mask
from facecore.morphable import MorphableModel
from facecore.perception import FaceSegmenter
from facecore.render import fit_weak_perspective, pixel_to_ndc
from facecore.systems.aligned_system import AlignedFaceSystem
from facecore.systems.decoding import FaceSource
from facecore.systems.landmark_fit import fit_landmarks
from facecore.systems.loading import System
from facecore.systems.parameterization import (
    CodeParameters,
    CoefficientParameters,
    FaceParameters,
    PerspectiveParameters,
    PosedFace,
)
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.refinement import Observation, Progress, Refined, refine, solve_light, typical_light
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.unsupervised_regression import UnsupervisedRegression
from facecore.systems.weakly_supervised import WeaklySupervised


@dataclasses.dataclass(frozen=True)
class FaceInput:
    """One face of one picture. image: [3, H, W] in [0, 1], the whole picture; landmarks in its pixels, or None.

    mask: [H, W] of the whole picture, or None for the skin-probability mask.
    """

    path: pathlib.Path
    image: torch.Tensor
    crop: FaceCrop
    landmarks: Landmarks | None
    mask: torch.Tensor | None = None

    def cropped(self, size: int) -> torch.Tensor:
        """[3, size, size]."""
        return self.crop.resized(size, size).crop(self.image).clamp(0, 1)


@dataclasses.dataclass(frozen=True)
class FoundFace:
    """Where a face is in which picture. The pixels are read when they are needed: a folder may hold any number."""

    path: pathlib.Path
    crop: FaceCrop
    landmarks: Landmarks | None
    mask: pathlib.Path | None = None
    segmenter: FaceSegmenter | None = None

    def read(self) -> FaceInput:
        """Reads the picture and its mask, which the segmenter makes where there is none. Raises ValueError naming the
        file."""
        image = read_image(self.path)
        mask = None if self.mask is None else read_mask(self.mask, image.shape[1:])
        if mask is None and self.segmenter is not None:
            mask = segment_face(self.segmenter, image, self.crop)
        return FaceInput(self.path, image, self.crop, self.landmarks, mask)


def find_faces(
    path: pathlib.Path,
    source: LandmarkSource | None,
    size: int,
    *,
    masks: pathlib.Path | None,
    assume_cropped: bool,
    root: pathlib.Path | None = None,
    finder: Callable[[], FaceFinder | str] | None = None,
    segmenter: FaceSegmenter | None = None,
) -> list[FoundFace]:
    """The faces of a picture: those with given landmarks; without any, one face as a whole with assume_cropped, else
    those that the finder finds, the largest first.

    source: of the given landmarks; None = they are not looked for. root: the folder that was searched (default: the
    picture's own); masks have the paths relative to it (`find_mask`). finder: called when it is needed; gives a text
    where there is none: what to do, for the error message. segmenter: for faces without a mask.
    The picture is decoded once here, so that a damaged one shows now, and let go. Raises ValueError naming the file:
    unreadable, not a picture, no landmarks or no face, landmarks that make no crop, no mask of its name.
    """
    image = read_image(path)
    image_size = image.shape[1:]
    height, width = image_size
    found = [] if source is None else source.find(path, (height, width))
    mask = None
    if masks is not None:
        mask = find_mask(masks, path, path.parent if root is None else root)
        if mask is None:
            raise ValueError(
                f"{path}: no mask {path.stem}.png in {masks}; write one, or leave --masks out for the "
                "skin-probability mask"
            )
        read_mask(mask, image_size)
    if not found and assume_cropped:
        return [FoundFace(path, FaceCrop.whole(height, width, size, size), None, mask, segmenter)]
    if not found:
        found = _detected(path, image, "" if finder is None else finder())
    return [FoundFace(path, crop_around(path, points, size), points, mask, segmenter) for points in found]


def _detected(path: pathlib.Path, image: torch.Tensor, finder: FaceFinder | str) -> list[Landmarks]:
    if isinstance(finder, str):
        raise ValueError(
            f"{path}: no landmarks; put {path.stem}.pts (68 or 5 points) beside it, give --landmarks, or "
            "--assume-cropped if the picture shows the face alone" + (f"; {finder}" if finder else "")
        )
    faces = finder.find(image, path)
    if not faces:
        raise ValueError(f"{path}: no face found; give --landmarks, or --assume-cropped if it shows a face alone")
    return [face.landmarks for face in faces]


def crop_around(path: pathlib.Path, landmarks: Landmarks, size: int) -> FaceCrop:
    """`FaceCrop.from_landmarks` whose ValueError names the picture."""
    try:
        return FaceCrop.from_landmarks(landmarks, size, size)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def observe(faces: list[FaceInput], size: int) -> Observation:
    """Crops of one size with masks and landmarks, as refinement takes them.

    Without a mask of its own, a face has the skin-probability mask; a grey picture, which has no skin colour, counts
    whole. Nothing outside the picture counts.
    """
    images = torch.stack([face.cropped(size) for face in faces])
    mask = torch.zeros_like(images[:, 0])
    n = len(faces)
    points, weight = torch.zeros(n, 68, 2), torch.zeros(n, 68)
    five, five_weight = torch.zeros(n, 5, 2), torch.zeros(n, 5)
    for i, face in enumerate(faces):
        crop = face.crop.resized(size, size)
        mask[i] = face_mask(crop, face.image, face.mask, images[i]) > MASK_THRESHOLD
        if face.landmarks is None:
            continue
        in_crop = crop.to_crop(face.landmarks.points).float()
        if face.landmarks.kind == "68":
            points[i], weight[i] = in_crop, 1.0
        else:
            five[i], five_weight[i] = in_crop, 1.0
    return Observation(images, mask, points, weight, five, five_weight)


def start_from_mean_face(model: MorphableModel, observation: Observation) -> CoefficientParameters:
    """The mean face of the model posed by the landmarks; a face without landmarks looks straight ahead."""
    n = len(observation.images)
    mean = model.mean_shape()[model.landmarks68].expand(n, -1, -1)
    pose = posed_by_landmarks(mean, torch.zeros(n, 6).to(observation.images), observation)
    return CoefficientParameters(model, pose, typical_light(pose.new_zeros(n, 9, 3)))


def posed_by_landmarks(points: torch.Tensor, pose: torch.Tensor, observation: Observation) -> torch.Tensor:
    """Pose codes [N, 6] in which the 68 points [N, 68, 3] of each face lie near its landmarks, 68 or five of them; the
    given pose where a face has none."""
    height, width = observation.images.shape[-2:]
    pose = pose.clone()
    for i in range(len(pose)):
        for own, pixels, weight in (
            (points[i], observation.landmarks[i], observation.landmark_weight[i]),
            (five_points(points[i]), observation.five_points[i], observation.five_point_weight[i]),
        ):
            if bool(weight.any()):
                ndc = pixel_to_ndc(pixels[None], height, width)
                pose[i] = fit_weak_perspective(own[None].float(), ndc, weight[None])[0]
    return pose


def aligning_points(observation: Observation, system: AlignedFaceSystem, size: int) -> torch.Tensor:
    """The five points by which the system aligns each face, [N, 5, 2] in pixels of its own crops of `size`: the usual
    ones where a face has no landmarks."""
    scale = size / observation.images.shape[-1]
    points = system.usual_points.repeat(len(observation.images), 1, 1)
    for known, given in (
        (observation.five_point_weight, observation.five_points),
        (observation.landmark_weight, five_points(observation.landmarks)),
    ):
        points = torch.where((known > 0).all(1)[:, None, None], scale * given.to(points), points)
    return points


def with_fitted_expressions(model: MorphableModel, neutral: Reconstruction, observation: Observation) -> Reconstruction:
    """Faces of the model with the expressions that explain their 68 landmarks, the identity held (METHODS 6); the
    neutral face where these are not known."""
    targets, codes = observation.landmarks_ndc(), neutral.codes
    expression = codes["expression"].clone()
    for i in observation.landmark_weight.bool().any(1).nonzero().flatten().tolist():
        weight = observation.landmark_weight[i : i + 1]
        fit = fit_landmarks(model, targets[i : i + 1], weight, identity=codes["identity"][i])
        expression[i] = fit.expression[0]
    vertices = model.shape(codes["identity"], expression)
    return dataclasses.replace(neutral, vertices=vertices, codes=codes | {"expression": expression})


def reconstruct_faces(
    faces: list[FaceInput],
    source: FaceSource,
    *,
    size: int,
    iterations: int = 0,
    observation: Observation | None = None,
    progress: Progress | None = None,
) -> Refined:
    """Estimates each face by a trained system, or starts from a morphable model's mean face, then refines.

    size: side of the crop on which pixels are compared. observation: what to fit, by default everything that the
    faces carry. Returns the reconstruction with its camera on the size x size crop.
    """
    observation = observe(faces, size) if observation is None else observation
    if isinstance(source, MorphableModel):
        return refine(start_from_mean_face(source, observation), observation, iterations, progress=progress)
    small = torch.stack([face.cropped(source.config.image_size) for face in faces])
    return refine(estimate(source, small, observation), observation, iterations, progress=progress)


@torch.no_grad()
def estimate(source: System, images: torch.Tensor, observation: Observation) -> FaceParameters:
    """What a trained system says of crops [N, 3, S, S] of its own size, as parameters that can be drawn and refined.

    observation: the same crops at any size. A system that estimates no pose and no light (one of them no expression
    either) gets them from what is observed: landmarks, then pixels.
    """
    if isinstance(source, SemiSupervised):
        return CodeParameters(source, source.encode(images))
    if isinstance(source, WeaklySupervised):
        return PerspectiveParameters(source, source.encode(images).codes)
    if isinstance(source, AlignedFaceSystem):
        face = source.reconstruct(images, aligning_points(observation, source, images.shape[-1]))
        if isinstance(source, UnsupervisedRegression):
            face = with_fitted_expressions(source.morphable, face, observation)
    else:
        face = source.reconstruct(images)
    if source.estimates_view:
        return PosedFace(face, face.pose)
    parameters = PosedFace(face, posed_by_landmarks(face.landmarks_3d, face.pose, observation))
    solve_light(parameters, observation)
    return parameters
