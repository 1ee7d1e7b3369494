"""Small data sets of the tests' own in the layouts of 300W-LP and CelebA, and parameter files by the files' rules."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import scipy.io
from model_files import Truth, bfm_300wlp_fields, small_truth
from PIL import Image

HEIGHT, WIDTH = 450, 420  # of the pictures of 300W-LP
POSE = np.array([0.3, -0.7, 0.15, 190.0, 205.0, -80.0, 1.3e-3])  # radians, pixels, pixels per micrometre
SIZE = {"height": 32, "width": 32}  # of the crops


def rotation_of_3ddfa(pitch: float, yaw: float, roll: float) -> np.ndarray:
    """FORMATS B4, written out: R = Rx Ry Rz of their matrices."""
    (sx, sy, sz), (cx, cy, cz) = np.sin([pitch, yaw, roll]), np.cos([pitch, yaw, roll])
    turn_x = np.array([[1, 0, 0], [0, cx, sx], [0, -sx, cx]])
    turn_y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    turn_z = np.array([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]])
    return np.asarray(turn_x @ turn_y @ turn_z)


def file_fields(truth: Truth, pose: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
    """A parameter file of the truth's face, and all its vertices in 1-based pixels with y down, by the files' rules."""
    fields = bfm_300wlp_fields(truth)
    shape_para, exp_para, tex_para = (values * 1e3 for values in truth.raw())
    flat = fields["shapeMU"][:, 0].astype(np.float64) + fields["expMU"][:, 0]
    flat = flat + fields["shapePC"].astype(np.float64) @ shape_para + fields["expPC"].astype(np.float64) @ exp_para
    posed = pose[6] * flat.reshape(-1, 3) @ rotation_of_3ddfa(*pose[:3]).T + pose[3:6]
    posed[:, 1] = HEIGHT + 1 - posed[:, 1]
    content = {
        "Pose_Para": pose[None],
        "Shape_Para": shape_para[:, None],
        "Exp_Para": exp_para[:, None],
        "Tex_Para": tex_para[:, None],
        "Illum_Para": np.arange(10.0)[None],
        "Color_Para": np.ones((1, 7), dtype=np.float32),
        "roi": np.array([[1, -2, 300, 400]], dtype=np.int16),
        "pt3d_68": posed[truth.landmarks68].T,
    }
    return content, posed


def write_picture(path: pathlib.Path, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    smooth = np.random.default_rng(seed).integers(0, 255, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(smooth).resize((width, height)).save(path)


def write_300wlp(root: pathlib.Path) -> pathlib.Path:
    """Two photographs of AFW with two rotations each, one of them mirrored too, one of IBUG; `Code` to be left out."""
    fields = file_fields(small_truth(), POSE)[0]
    flat = {key: value for key, value in fields.items() if key != "pt3d_68"} | {"pt2d": fields["pt3d_68"][:2] + 7}
    names = ("AFW/AFW_1_1_0", "AFW/AFW_1_1_5", "AFW/AFW_1_2_0", "AFW/AFW_1_2_1", "AFW_Flip/AFW_1_1_0")
    for seed, name in enumerate((*names, "IBUG/IBUG_image_003_1_0")):
        write_picture(root / f"{name}.jpg", seed=seed)
        scipy.io.savemat(root / f"{name}.mat", flat)
        if "Flip" not in name:
            (root / "landmarks" / name).parent.mkdir(parents=True, exist_ok=True)
            points = {"pts_3d": fields["pt3d_68"][:2].T, "pts_2d": fields["pt3d_68"][:2].T + 7}
            scipy.io.savemat(root / "landmarks" / f"{name}_pts.mat", points)
    write_picture(root / "Code" / "example.jpg")
    return root


def write_celeba(root: pathlib.Path, count: int = 12) -> pathlib.Path:
    """img_align_celeba, 178 x 218; person 7 has pictures 1 to 3; 1 to 8 train, 9 and 10 valid, the rest test."""
    points = np.array([69, 109, 106, 113, 77, 142, 73, 152, 108, 154])  # of the published 000001.jpg
    names = [f"{i + 1:06d}.jpg" for i in range(count)]
    for seed, name in enumerate(names):
        write_picture(root / "img_align_celeba" / name, 218, 178, seed)
    (root / "Anno").mkdir()
    (root / "Eval").mkdir()
    columns = (
        "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y"
    )
    rows = [f"{name}  " + "  ".join(map(str, points)) for name in names]
    (root / "Anno/list_landmarks_align_celeba.txt").write_text("\n".join([str(count), columns, *rows]) + "\n")
    persons = [f"{name} {7 if i < 3 else 100 + i}" for i, name in enumerate(names)]
    (root / "Anno/identity_CelebA.txt").write_text("\n".join(persons))
    parts = [f"{name} {0 if i < 8 else 1 if i < 10 else 2}" for i, name in enumerate(names)]
    (root / "Eval/list_eval_partition.txt").write_text("\n".join(parts))
    return root
