"""Writes one reconstructed face: GLB, OBJ, NPZ and the picture with the face drawn over it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
import torch

from facecore.data import FaceCrop, write_png
from facecore.evaluation.panels import draw_over_picture
from facecore.mesh import save_glb, save_obj
from facecore.render import Camera, PerspectiveCamera
from facecore.systems.reconstruction import Reconstruction


@dataclasses.dataclass(frozen=True)
class ExportedFace:
    """The files of one face."""

    name: str
    glb: pathlib.Path
    obj: pathlib.Path
    npz: pathlib.Path
    overlay: pathlib.Path
    texture: pathlib.Path | None


def output_names(pictures: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for the result of each picture: its stem; with the extension where stems collide; then numbered.

    The same picture may come several times, once for each of its faces. Names differ in more than upper and lower
    case, for file systems that do not tell these apart.
    """
    paths = [pathlib.Path(picture) for picture in pictures]
    files_of_stem: dict[str, set[pathlib.Path]] = {}
    for path in paths:
        files_of_stem.setdefault(path.stem.lower(), set()).add(path)
    names = [path.stem if len(files_of_stem[path.stem.lower()]) == 1 else path.name for path in paths]
    plain, taken = {name.lower() for name in names}, set()
    result = []
    for name in names:
        candidate, number = name, 1
        while candidate.lower() in taken or (number > 1 and candidate.lower() in plain):
            number += 1
            candidate = f"{name}-{number}"
        taken.add(candidate.lower())
        result.append(candidate)
    return result


def picture_matrix(camera: Camera, crop: FaceCrop) -> torch.Tensor:
    """Projection matrices float64 [N, 3, 4] from millimetres to pixels of the picture that the crop was cut from.

    (a, b, c) = matrix @ (x, y, z, 1); u = a / c, v = b / c. The last row of a weak perspective camera is (0, 0, 0, 1).
    """
    to_crop = camera.matrix().double()
    if not isinstance(camera, PerspectiveCamera):
        to_crop[:, 2] = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(to_crop)
    affine = torch.eye(3, dtype=torch.float64)
    affine[:2] = crop.resized(camera.height, camera.width).inverse()
    return affine.to(to_crop.device) @ to_crop


def face_arrays(face: Reconstruction, image: torch.Tensor, crop: FaceCrop) -> dict[str, np.ndarray]:
    """The arrays of NAME.npz for a reconstruction of one face; see export_face."""
    matrix = picture_matrix(face.camera, crop)[0]
    points = face.landmarks_3d[0].double()
    projected = points @ matrix[:, :3].T + matrix[:, 3]
    tensors = {
        "vertices": face.vertices[0],
        "neutral_vertices": face.neutral_vertices[0],
        "triangles": face.triangles,
        "albedo": face.albedo[0],
        "landmarks_2d": projected[:, :2] / projected[:, 2:],
        "landmarks_3d": face.landmarks_3d[0],
        "camera": matrix,
        "pose": face.pose[0],
        "sh_coefficients": face.sh_coefficients[0],
        "codes": torch.cat([code[0] for code in face.codes.values()]) if face.codes else face.pose.new_zeros(0),
    }
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
    arrays["code_names"] = np.array(list(face.codes), dtype=np.str_)
    arrays["code_sizes"] = np.array([code.shape[1] for code in face.codes.values()], dtype=np.int64)
    arrays["image_size"] = np.array(image.shape[1:], dtype=np.int64)
    return arrays


def export_face(
    folder: str | os.PathLike[str],
    name: str,
    face: Reconstruction,
    image: torch.Tensor,
    crop: FaceCrop,
    *,
    overlay: tuple[str, torch.Tensor] | None = None,
) -> ExportedFace:
    """Writes NAME.glb, NAME.obj, NAME.npz and NAME_overlay.png: all of them, or none when the disk is full.

    Args:
        folder: exists.
        name: from `output_names`.
        face: a reconstruction of one face; its camera is that of the crop, at any resolution.
        image: the whole picture, float [3, H, W] in [0, 1].
        crop: which part of the picture the system saw.
        overlay: the picture with the face drawn over it, where it is made already, and what follows NAME in its name.

    The GLB is in metres (as glTF demands), the OBJ in millimetres; both carry the albedo as vertex colours, or, where
    the face has one, as a texture: inside of the GLB, for the OBJ as NAME.mtl and NAME_texture.png. The NPZ
    holds, in millimetres of the object frame and without pickled objects: vertices, neutral_vertices [V, 3], triangles
    int32 [T, 3], albedo [V, 3], landmarks_3d [68, 3], landmarks_2d [68, 2] (the same vertices projected, in pixels of
    the picture), camera float64 [3, 4] (see picture_matrix), pose [6], sh_coefficients [9, 3], codes (one vector:
    code_names, in that order, with code_sizes entries each) and image_size (H, W).

    Raises ValueError for several faces, another image shape or values that are not finite.
    """
    if len(face) != 1:
        raise ValueError(f"face must be a reconstruction of one face, got {len(face)}; take one by face[i : i + 1]")
    folder = pathlib.Path(folder)
    textured = face.texture is not None
    overlay_end, drawn = overlay or ("_overlay.png", None)
    ends = (".glb", ".obj", ".npz", overlay_end, *(["_texture.png"] if textured else []))
    glb, obj, npz, overlay_file, *texture = [folder / f"{name}{end}" for end in ends]
    files = ExportedFace(name, glb, obj, npz, overlay_file, texture[0] if texture else None)
    arrays = face_arrays(face, image, crop)
    bad = [key for key, array in arrays.items() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    if bad:
        raise ValueError(f"{name}: the reconstruction has NaN or infinity in {', '.join(bad)}; nothing was written")
    color = {"colors": face.albedo[0]}
    if face.texture is not None:
        color = {"uv": face.texture.uv, "texture": face.texture.image[0]}
    try:
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=folder) as unfinished:
            parts = [pathlib.Path(unfinished) / path.name for path in (files.glb, files.obj, files.npz, files.overlay)]
            save_glb(parts[0], face.vertices[0], face.triangles, **color)
            save_obj(parts[1], face.vertices[0], face.triangles, **color)
            np.savez_compressed(parts[2], **arrays)  # type: ignore[arg-type]  # mypy takes the arrays for allow_pickle
            write_png(parts[3], draw_over_picture(face, image, crop) if drawn is None else drawn)
            for part in sorted(pathlib.Path(unfinished).iterdir()):
                os.replace(part, folder / part.name)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder / f"{name}.*")) from error
    return files
