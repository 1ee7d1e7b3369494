"""Several photographs of one person to one face: the average of METHODS 2.3, the trusted mean of METHODS 4, the mean of
recognition features of METHODS 8.1."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch

from facecore.evaluation.vertex_rms import vertex_rms
from facecore.mesh import Mesh, build_uv_map
from facecore.nn import aggregate
from facecore.ops import uv_sample, uv_unwrap
from facecore.render import Renderer
from facecore.structures import Texture
from facecore.systems.decoding import FaceSource, decode_albedo, decode_shape
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.unsupervised_regression import UnsupervisedRegression
from facecore.systems.weakly_supervised import WeaklySupervised

HIDDEN_WEIGHT = 1e-3  # of a texel that a picture does not show: decides only where no picture shows it


@dataclasses.dataclass(frozen=True, eq=False)
class Aggregated:
    """One face from M photographs of a person.

    reconstruction: of one face; its pose, light and camera are those of photograph `reference`.
    reference: the photograph in which the face is turned least from the camera.
    distance_mm, neutral_distance_mm: RMS over the vertices between each single face and the aggregated one, [M], with
        and without expression, in the canonical frame (nothing is aligned).
    confidence: mean over the identity coefficients of how far each photograph was trusted, [M]; None for an average.
    """

    reconstruction: Reconstruction
    reference: int
    distance_mm: torch.Tensor
    neutral_distance_mm: torch.Tensor
    confidence: torch.Tensor | None = None

    def describe(self) -> str:
        """In one line: how far the single faces lie from the aggregated one."""
        joined = "average" if self.confidence is None else "aggregated one"
        return (
            f"the {len(self.distance_mm)} single faces lie {float(self.distance_mm.mean()):.2f} mm (mean vertex RMS) "
            f"from the {joined}, {float(self.neutral_distance_mm.mean()):.2f} mm without expression"
        )


def concatenate(faces: Sequence[Reconstruction]) -> Reconstruction:
    """Faces of one topology as one batch; all codes, textures and cameras of one kind.

    Raises ValueError for none, or for faces that differ in triangles, codes, size of crop or texture coordinates.
    """
    if not faces:
        raise ValueError("faces must hold at least one reconstruction")
    first = faces[0]
    for face in faces[1:]:
        same = torch.equal(face.triangles, first.triangles) and face.codes.keys() == first.codes.keys()
        same = same and type(face.camera) is type(first.camera) and (face.texture is None) == (first.texture is None)
        size = (face.camera.height, face.camera.width) == (first.camera.height, first.camera.width)
        if not (same and size):
            raise ValueError("faces must be of one system: the same triangles, codes and size of crop")
    names = ("vertices", "neutral_vertices", "albedo", "pose", "sh_coefficients")
    tensors: dict[str, Any] = {name: torch.cat([getattr(face, name) for face in faces]) for name in names}
    fields = [field.name for field in dataclasses.fields(first.camera)]
    parts = {name: [getattr(face.camera, name) for face in faces] for name in fields}
    of_cameras: dict[str, Any] = {
        name: torch.cat(part) for name, part in parts.items() if isinstance(part[0], torch.Tensor)
    }
    texture = None
    if first.texture is not None:
        images = [face.texture.image for face in faces if face.texture is not None]
        texture = first.texture._replace(image=torch.cat(images))
    return dataclasses.replace(
        first,
        **tensors,
        camera=dataclasses.replace(first.camera, **of_cameras),
        codes={name: torch.cat([face.codes[name] for face in faces]) for name in first.codes},
        texture=texture,
    )


@torch.no_grad()
def average_faces(source: FaceSource, faces: Reconstruction) -> Aggregated:
    """The average of M photographs of one person (METHODS 2.3).

    vertices and neutral_vertices are means over the photographs, in the canonical frame. The codes are means; the
    albedo is decoded from the mean code, where there is a texture it is the mean of the textures, weighted by how
    squarely each photograph shows a texel (`texture_weights`). Deterministic on a CPU. Raises ValueError for no face.
    """
    if len(faces) == 0:
        raise ValueError("faces must hold at least one face to average")
    reference = frontal(faces)
    codes = {name: code.mean(0, keepdim=True) for name, code in faces.codes.items()}
    texture = None if faces.texture is None else average_texture(faces)
    average = dataclasses.replace(
        faces[reference : reference + 1],
        vertices=faces.vertices.mean(0, keepdim=True),
        neutral_vertices=faces.neutral_vertices.mean(0, keepdim=True),
        albedo=(decode_albedo(source, codes) if texture is None else uv_sample(*texture)).clamp(0, 1),
        codes=codes,
        texture=texture,
    )
    return Aggregated(
        average,
        reference,
        vertex_rms(faces.vertices, average.vertices.expand_as(faces.vertices)),
        vertex_rms(faces.neutral_vertices, average.neutral_vertices.expand_as(faces.vertices)),
    )


@torch.no_grad()
def aggregate_faces(system: WeaklySupervised, faces: Reconstruction, images: torch.Tensor) -> Aggregated:
    """One identity from M photographs of a person, each coefficient trusted as C-Net says (METHODS 4).

    faces: the system's own of the crops `images` [M, 3, S, S]. Expression, pose and light are those of the reference
    photograph, the albedo is the mean. Deterministic on a CPU. Raises ValueError for no face, or without C-Net.
    """
    if len(faces) == 0:
        raise ValueError("faces must hold at least one face to aggregate")
    confidence = system.confidence(system.encode(images).maps)
    reference = frontal(faces)
    codes = {
        "identity": aggregate(faces.codes["identity"], confidence)[None],
        "expression": faces.codes["expression"][reference : reference + 1],
        "albedo": faces.codes["albedo"].mean(0, keepdim=True),
    }
    joined = dataclasses.replace(
        faces[reference : reference + 1],
        vertices=decode_shape(system, codes),
        neutral_vertices=system.morphable.shape(codes["identity"]),
        albedo=decode_albedo(system, codes).clamp(0, 1),
        codes=codes,
    )
    neutral = joined.neutral_vertices.expand_as(faces.vertices)
    in_place = system.morphable.shape(codes["identity"].expand(len(faces), -1), faces.codes["expression"])
    return Aggregated(
        joined,
        reference,
        vertex_rms(faces.vertices, in_place),
        vertex_rms(faces.neutral_vertices, neutral),
        confidence.mean(1),
    )


@torch.no_grad()
def average_features(
    system: UnsupervisedRegression, faces: Reconstruction, images: torch.Tensor, points: torch.Tensor
) -> Aggregated:
    """One face from M photographs of a person: that of the mean of their recognition features (METHODS 8.1).

    faces: the system's own of the crops `images` [M, 3, S, S] with five points [M, 5, 2]. Expression, pose and light
    are those of the reference photograph. Deterministic on a CPU. Raises ValueError for no face.
    """
    if len(faces) == 0:
        raise ValueError("faces must hold at least one face to average")
    pooled = system.features(images, points).pooled.mean(0, keepdim=True)
    reference = frontal(faces)
    own = faces[reference : reference + 1]
    codes = system.coefficients(system.regress(pooled)) | {"expression": own.codes["expression"]}
    joined = dataclasses.replace(
        own,
        vertices=decode_shape(system, codes),
        neutral_vertices=system.morphable.shape(codes["identity"]),
        albedo=decode_albedo(system, codes).clamp(0, 1),
        codes=codes,
    )
    in_place = system.morphable.shape(codes["identity"].expand(len(faces), -1), faces.codes["expression"])
    neutral = joined.neutral_vertices.expand_as(faces.vertices)
    return Aggregated(
        joined, reference, vertex_rms(faces.vertices, in_place), vertex_rms(faces.neutral_vertices, neutral)
    )


def frontal(faces: Reconstruction) -> int:
    """The face that is turned least from the camera."""
    return int((faces.pose[:, 0].cos() * faces.pose[:, 1].cos()).argmax())


def average_texture(faces: Reconstruction) -> Texture:
    """The mean [1, 3, Hu, Wu] of the textures of M faces by `texture_weights`; the plain mean where none shows a texel.

    Raises ValueError for faces without textures.
    """
    if faces.texture is None:
        raise ValueError("faces must have textures to average them; this system has an albedo at the vertices")
    weight = texture_weights(faces).clamp_min(HIDDEN_WEIGHT)[:, None]
    mean = (faces.texture.image * weight).sum(0, keepdim=True) / weight.sum(0, keepdim=True)
    return faces.texture._replace(image=mean)


def texture_weights(faces: Reconstruction) -> torch.Tensor:
    """How squarely each picture shows each texel, [M, Hu, Wu]: the cosine between the normal and the view direction
    where the texel is visible, else 0."""
    if faces.texture is None:
        raise ValueError("faces must have textures to weight them; this system has an albedo at the vertices")
    mesh = Mesh(faces.neutral_vertices.mean(0), faces.triangles)
    uv_map = build_uv_map(mesh, *faces.texture.image.shape[2:], uv=faces.texture.uv)
    renderer = Renderer(faces.triangles, faces.camera.height, faces.camera.width).to(faces.vertices.device)
    drawn = renderer(faces.vertices, faces.albedo, faces.camera, faces.sh_coefficients)
    toward_camera = drawn.normals[:, 2:3].contiguous()
    clip = faces.camera.to_clip(faces.vertices)
    seen, valid = uv_unwrap(toward_camera, clip, uv_map.to(dtype=clip.dtype), drawn.fragments)
    return torch.where(valid, seen[:, 0].clamp(0, 1), 0.0)
