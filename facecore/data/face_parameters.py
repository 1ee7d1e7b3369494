"""Parameter files of 300W-LP and AFLW2000-3D: pose, shape, expression, light and points of one face. FORMATS B4."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any

import numpy as np
import torch

from facecore.data.crop import FaceCrop
from facecore.files import read_matlab
from facecore.morphable import MorphableModel
from facecore.render import WeakPerspectiveCamera, ndc_to_pixel, pixel_to_ndc
from facecore.render.affine import apply_affine
from facecore.render.rotation import matrix_from_300wlp, matrix_to_euler

MICROMETRES_PER_MM = 1e3  # of the files
_ONE_BASED = -0.5  # pixel indices that start at 1: u = x - 0.5 (METHODS 1.2)


@dataclasses.dataclass(frozen=True, eq=False)
class FaceParameters:
    """The face of one picture, float64, as its file has it except for points, which are in continuous pixels.

    pose: Pose_Para [7] = (pitch, yaw, roll, tx, ty, tz, scale), radians, pixels, pixels per micrometre; its rotation is
    the transpose of what facecore means by the same angles: use `rotation`, `angles`, `camera`. shape, expression,
    texture: raw coefficients of shapePC [199], expPC [29], texPC [199] (or None), in units of those bases, not of
    their standard deviations. illumination: Illum_Para [10] = ambient RGB, directional RGB, theta, phi, ks, exponent;
    colour: Color_Para [7] = gain RGB, offset RGB, contrast; roi: the box in the original photograph, int64 [4]; each
    may be None. points68: (u, v) [68, 2] of pt3d_68 or pt2d, or None; depth68: [68], pt3d_68's third row, pixels,
    relative, larger = nearer, or None; points21: AFLW's 21 marks [21, 2], or None, of which `visible21` bool [21] are
    seen.
    """

    path: pathlib.Path
    pose: torch.Tensor
    shape: torch.Tensor
    expression: torch.Tensor
    texture: torch.Tensor | None = None
    illumination: torch.Tensor | None = None
    colour: torch.Tensor | None = None
    roi: torch.Tensor | None = None
    points68: torch.Tensor | None = None
    depth68: torch.Tensor | None = None
    points21: torch.Tensor | None = None
    visible21: torch.Tensor | None = None

    def rotation(self) -> torch.Tensor:
        """The head's rotation in facecore's convention, [3, 3]: s' = R s (METHODS 1.2)."""
        return matrix_from_300wlp(self.pose[None, :3])[0]

    def angles(self) -> torch.Tensor:
        """(pitch, yaw, roll) in radians in facecore's convention, [3]; yaw in [-pi/2, pi/2]."""
        return matrix_to_euler(self.rotation()[None])[0]

    def camera(self, height: int, width: int, model: MorphableModel) -> WeakPerspectiveCamera:
        """The camera of a picture of that size for vertices of `model`, a batch of one.

        The model's centroid moves the file's translation: t' = t + f R c. Raises ValueError when the model does not
        know where its origin lies in the frame of its file.
        """
        return WeakPerspectiveCamera.from_300wlp(self.pose[None], height, width, _origin(model) * MICROMETRES_PER_MM)

    def coefficients(self, model: MorphableModel) -> tuple[torch.Tensor, torch.Tensor]:
        """Identity [1, Ki] and expression [1, Ke] for `model.shape`: raw coefficient / std, in the model's dtype.

        model: the 300W-LP cut of the Basel Face Model, with all modes or the first. Raises ValueError for a model with
        more modes than the file has coefficients.
        """
        _origin(model)
        result = []
        for name, raw, std in (
            ("identity", self.shape, model.identity_std),
            ("expression", self.expression, model.expression_std),
        ):
            if len(std) > len(raw):
                raise ValueError(
                    f"the model '{model.name}' has {len(std)} {name} modes, {self.path} has {len(raw)} coefficients; "
                    "they belong to the 300W-LP cut of the Basel Face Model (BFM.mat)"
                )
            result.append((raw[: len(std)].to(std.device) / std.double()).to(std.dtype)[None])
        return result[0], result[1]

    def vertices(self, model: MorphableModel) -> torch.Tensor:
        """The face in millimetres in the model's frame, [V, 3]."""
        return model.shape(*self.coefficients(model))[0]

    def project(self, model: MorphableModel, height: int, width: int) -> torch.Tensor:
        """All vertices in continuous pixels of a picture of that size, float64 [V, 2]."""
        vertices = self.vertices(model).double().cpu()
        return self.camera(height, width, model).project(vertices[None])[0]


def read_face_parameters(path: str | os.PathLike[str]) -> FaceParameters:
    """Reads one `.mat` of 300W-LP or AFLW2000-3D.

    Pose_Para, Shape_Para and Exp_Para must be there, in their sizes 7, up to 199 and up to 29; the rest is optional.
    Raises ValueError, naming the file, for a damaged one, for wrong sizes, for numbers that are not finite, and for a
    scale that is not positive.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not a file; check the name of the parameter file")
    fields = read_matlab(path)
    try:
        pose = _vector(fields, "Pose_Para", 7)
        if not pose[6] > 0:
            raise ValueError(f"Pose_Para must end with a positive scale, got {float(pose[6])}")
        roi = _optional(fields, "roi", 4)
        return FaceParameters(
            path=path,
            pose=pose,
            shape=_vector(fields, "Shape_Para", 199, at_most=True),
            expression=_vector(fields, "Exp_Para", 29, at_most=True),
            texture=_optional(fields, "Tex_Para", 199, at_most=True),
            illumination=_optional(fields, "Illum_Para", 10),
            colour=_optional(fields, "Color_Para", 7),
            roi=None if roi is None else roi.long(),
            **_point_fields(fields),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}; get the file again, or remove it with its picture") from None


def crop_camera(camera: WeakPerspectiveCamera, crop: FaceCrop) -> WeakPerspectiveCamera:
    """The camera of a crop of the picture that `camera` belongs to."""
    return moved_camera(camera, crop.matrix(), crop.height, crop.width)


def moved_camera(camera: WeakPerspectiveCamera, matrix: torch.Tensor, height: int, width: int) -> WeakPerspectiveCamera:
    """The camera of a picture of that size into which `matrix` takes the one that `camera` belongs to.

    matrix: [2, 3], a shift, a turn and a scale in continuous pixels. Raises ValueError for one that mirrors or shears:
    no camera sees that.
    """
    cos, sin = matrix[:, 0].to(camera.scale).unbind()  # times the scale
    along = matrix.new_tensor([-1.0, 1.0]) * matrix[:, 0].flip(0)
    if not torch.allclose(matrix[:, 1], along, rtol=0, atol=1e-9 * float(along.norm())):
        raise ValueError(f"matrix must turn and scale alone, got {matrix[:, :2].tolist()}")
    factor = torch.hypot(cos, sin)
    turn = torch.eye(3).to(camera.rotation)
    turn[:2, :2] = torch.stack([cos, sin, -sin, cos]).view(2, 2) / factor  # in a frame with y up
    before, after = min(camera.height, camera.width), min(height, width)
    centre = apply_affine(matrix.to(camera.scale), ndc_to_pixel(camera.translation, camera.height, camera.width))
    scale, translation = camera.scale * (factor * before / after), pixel_to_ndc(centre, height, width)
    return WeakPerspectiveCamera(turn @ camera.rotation, scale, translation, height, width)


def _origin(model: MorphableModel) -> torch.Tensor:
    if model.origin is None:
        raise ValueError(
            f"the model '{model.name}' does not know its origin in the frame of its file; load the 300W-LP cut of the "
            "Basel Face Model (BFM.mat)"
        )
    return model.origin.double().cpu()


def _point_fields(fields: dict[str, Any]) -> dict[str, torch.Tensor | None]:
    """68 points of either data set, with depth where there is one, and AFLW's 21, of which -1 marks the hidden."""
    result: dict[str, torch.Tensor | None] = {}
    points = _matrix(fields, "pt3d_68", (3, 68))
    if points is not None:
        result = {"points68": points[:2].T + _ONE_BASED, "depth68": points[2]}
    of_aflw = "pt2d" in fields and np.shape(fields["pt2d"]) == (2, 21)
    flat = _matrix(fields, "pt2d", (2, 21) if of_aflw else (2, 68))
    if flat is not None and of_aflw:
        result |= {"points21": flat.T + _ONE_BASED, "visible21": ~(flat == -1).any(dim=0)}
    elif flat is not None and points is None:
        result["points68"] = flat.T + _ONE_BASED
    return result


def _optional(fields: dict[str, Any], name: str, length: int, *, at_most: bool = False) -> torch.Tensor | None:
    return _vector(fields, name, length, at_most=at_most) if name in fields else None


def _vector(fields: dict[str, Any], name: str, length: int, *, at_most: bool = False) -> torch.Tensor:
    value = _tensor(fields, name).flatten()
    if not (0 < len(value) <= length if at_most else len(value) == length):
        raise ValueError(f"{name} must have {'at most ' if at_most else ''}{length} entries, got {len(value)}")
    return value


def _matrix(fields: dict[str, Any], name: str, shape: tuple[int, int]) -> torch.Tensor | None:
    if name not in fields:
        return None
    value = _tensor(fields, name)
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {list(shape)}, got {list(value.shape)}")
    return value


def _tensor(fields: dict[str, Any], name: str) -> torch.Tensor:
    if name not in fields:
        raise ValueError(f"{name} is missing")
    value = np.asarray(fields[name])
    if value.dtype.kind not in "iuf" or not np.isfinite(value).all():
        raise ValueError(f"{name} must hold finite numbers, got {value.dtype} {list(value.shape)}")
    return torch.from_numpy(value.astype(np.float64))
