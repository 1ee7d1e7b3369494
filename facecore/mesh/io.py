"""Mesh files: OBJ, PLY and OFF in millimetres, GLB and glTF in metres as the format demands."""

from __future__ import annotations

import os
import pathlib
import warnings
from typing import Any

import numpy as np
import PIL.Image
import torch
import trimesh

from facecore.files import write_atomically
from facecore.mesh._obj import read_obj
from facecore.mesh.mesh import Mesh

_METRE = 1000.0  # mm
_METRE_FORMATS = (".glb", ".gltf")
_FORMATS = (".obj", ".ply", ".off", *_METRE_FORMATS)  # not .stl: its triangles share no vertices


def load_mesh(path: str | os.PathLike[str]) -> Mesh:
    """The one mesh in a file, in mm, vertices in the file's order.

    Polygons are split into triangles. Texture coordinates come along where each vertex has one pair; an OBJ with
    texture seams is loaded without them, with a UserWarning. All objects of an OBJ are one mesh. Raises
    FileNotFoundError, and ValueError naming the file when it has another format, cannot be read, or holds no mesh
    or, in the other formats, several.
    """
    path = pathlib.Path(path)
    if path.suffix.lower() not in _FORMATS:
        raise ValueError(f"{path}: cannot read {path.suffix or 'a file without ending'}; use {', '.join(_FORMATS)}")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        if path.suffix.lower() == ".obj":
            vertices, triangles, uv, has_seams = read_obj(path)
            if has_seams:
                warnings.warn(f"{path}: has texture seams; loaded without texture coordinates", stacklevel=2)
        else:
            vertices, triangles, uv = _read_with_trimesh(path)
        pairs = None if uv is None else torch.from_numpy(uv)
        return Mesh(torch.from_numpy(vertices), torch.from_numpy(triangles), pairs)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def save_obj(
    path: str | os.PathLike[str],
    vertices_mm: torch.Tensor,
    triangles: torch.Tensor,
    colors: torch.Tensor | None = None,
    *,
    uv: torch.Tensor | None = None,
    texture: torch.Tensor | None = None,
) -> None:
    """Writes a Wavefront OBJ in mm, atomically; with a texture also STEM.mtl and STEM_texture.png beside it.

    Args:
        path: name of the file, ending in .obj; its folder must exist.
        vertices_mm: floating point [V, 3].
        triangles: integer [T, 3], counter-clockwise seen from outside.
        colors: display (sRGB) colours [V, 3], clamped to [0, 1], written with 8 bits behind each `v`. May be None.
        uv, texture: coordinates [V, 2], v upwards, and a display image [3, H, W], clamped to [0, 1], row 0 near v = 1;
            both or neither, and not together with colors.

    Raises ValueError naming the file for a wrong argument.
    """
    path, vertices = _checked_target(path, ".obj"), _checked_vertices(path, vertices_mm, triangles)
    mesh = _trimesh(path, vertices, triangles, uv, texture, colors)
    if colors is not None:
        mesh.visual = trimesh.visual.ColorVisuals(
            mesh, vertex_colors=_to_bytes(_checked_colors(path, colors, vertices))
        )
    content, extra = trimesh.exchange.obj.export_obj(
        mesh, include_normals=False, return_texture=True, mtl_name=f"{path.stem}.mtl", header="millimetres"
    )
    for name, data in extra.items():
        write_atomically(path.with_name(name), data)
    write_atomically(path, content.encode())


def save_glb(
    path: str | os.PathLike[str],
    vertices_mm: torch.Tensor,
    triangles: torch.Tensor,
    colors: torch.Tensor | None = None,
    *,
    uv: torch.Tensor | None = None,
    texture: torch.Tensor | None = None,
) -> None:
    """Writes a binary glTF 2.0 in metres, atomically, with a non-metallic material. Arguments as in `save_obj`.

    glTF takes vertex colours as linear light and textures as sRGB. So `colors`, display values like all colours here,
    are converted by the sRGB curve and stored as float32: a viewer shows what was given. Raises ValueError naming the
    file for a wrong argument.
    """
    path, vertices = _checked_target(path, ".glb"), _checked_vertices(path, vertices_mm, triangles)
    mesh = _trimesh(path, vertices / _METRE, triangles, uv, texture, colors)
    if colors is not None:
        # An attribute with a leading underscore passes through trimesh in its own dtype, where COLOR_0 becomes bytes.
        mesh.vertex_attributes["_COLOR"] = _srgb_to_linear(_checked_colors(path, colors, vertices)).astype(np.float32)

    def finish(tree: dict[str, Any]) -> None:
        (primitive,) = tree["meshes"][0]["primitives"]
        if "_COLOR" in primitive["attributes"]:
            primitive["attributes"]["COLOR_0"] = primitive["attributes"].pop("_COLOR")
        if "material" not in primitive:  # the default of the format is a metal, which looks black
            tree["materials"] = [{"pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0}}]
            primitive["material"] = 0

    scene = trimesh.Scene()
    scene.add_geometry(mesh, node_name=path.stem, geom_name=path.stem)
    write_atomically(path, trimesh.exchange.gltf.export_glb(scene, include_normals=True, tree_postprocessor=finish))


def _read_with_trimesh(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(vertices in mm, triangles, uv or None) of the one mesh of a file."""
    try:
        scene = trimesh.load_scene(path, process=False)
    except Exception as error:  # trimesh lets whatever its parsers meet pass through
        raise ValueError(f"cannot be read as {path.suffix[1:].upper()} ({error})") from error
    meshes = [item for item in scene.geometry.values() if isinstance(item, trimesh.Trimesh) and len(item.faces)]
    if len(meshes) != 1:
        raise ValueError(f"must hold exactly one triangle mesh, found {len(meshes)}; export the face alone")
    mesh = scene.to_mesh()  # with the file's transforms applied
    vertices = np.array(mesh.vertices, dtype=np.float64)
    if path.suffix.lower() in _METRE_FORMATS:
        vertices *= _METRE
    uv = getattr(mesh.visual, "uv", None)
    uv = None if uv is None or len(uv) != len(vertices) else np.array(uv[:, :2], dtype=np.float64)
    return vertices, np.array(mesh.faces, dtype=np.int64), uv


def _trimesh(
    path: pathlib.Path,
    vertices: np.ndarray,
    triangles: torch.Tensor,
    uv: torch.Tensor | None,
    texture: torch.Tensor | None,
    colors: torch.Tensor | None,
) -> trimesh.Trimesh:
    mesh = trimesh.Trimesh(vertices, triangles.detach().cpu().numpy(), process=False)
    if (uv is None) != (texture is None):
        raise ValueError(f"{path}: uv and texture must be given together")
    if uv is None or texture is None:
        return mesh
    if colors is not None:
        raise ValueError(f"{path}: give either colors or a texture, not both")
    if list(uv.shape) != [len(vertices), 2]:
        raise ValueError(f"{path}: uv must have shape [{len(vertices)}, 2], got {list(uv.shape)}")
    if texture.ndim != 3 or texture.shape[0] != 3:
        raise ValueError(f"{path}: texture must have shape [3, H, W], got {list(texture.shape)}")
    image = PIL.Image.fromarray(_to_bytes(_finite(path, "texture", texture).transpose(1, 2, 0)))
    material: trimesh.visual.material.Material
    if path.suffix.lower() == ".obj":
        material = trimesh.visual.material.SimpleMaterial(
            image=image, diffuse=(255, 255, 255, 255), specular=(0, 0, 0, 255), name=f"{path.stem}_texture"
        )
    else:
        material = trimesh.visual.material.PBRMaterial(
            name=path.stem, baseColorTexture=image, metallicFactor=0.0, roughnessFactor=1.0
        )
    mesh.visual = trimesh.visual.TextureVisuals(uv=_finite(path, "uv", uv), material=material)
    return mesh


def _checked_target(path: str | os.PathLike[str], ending: str) -> pathlib.Path:
    target = pathlib.Path(path)
    if target.suffix.lower() != ending:
        raise ValueError(f"{target}: the name must end in {ending}")
    if not target.parent.is_dir():
        raise ValueError(f"{target}: the folder {target.parent} does not exist; make it first")
    return target


def _checked_vertices(path: pathlib.Path, vertices: torch.Tensor, triangles: torch.Tensor) -> np.ndarray:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or len(vertices) == 0:
        raise ValueError(f"{path}: vertices_mm must have shape [V, 3] with V > 0, got {list(vertices.shape)}")
    if triangles.ndim != 2 or triangles.shape[1] != 3 or len(triangles) == 0:
        raise ValueError(f"{path}: triangles must have shape [T, 3] with T > 0, got {list(triangles.shape)}")
    if triangles.is_floating_point() or triangles.min() < 0 or triangles.max() >= len(vertices):
        raise ValueError(f"{path}: triangles must be integers from 0 to {len(vertices) - 1}")
    return _finite(path, "vertices_mm", vertices)


def _checked_colors(path: pathlib.Path, colors: torch.Tensor, vertices: np.ndarray) -> np.ndarray:
    if list(colors.shape) != [len(vertices), 3]:
        raise ValueError(f"{path}: colors must have shape [{len(vertices)}, 3], got {list(colors.shape)}")
    return _finite(path, "colors", colors).clip(0.0, 1.0)


def _finite(path: pathlib.Path, name: str, value: torch.Tensor) -> np.ndarray:
    if not value.is_floating_point() or not bool(torch.isfinite(value).all()):
        raise ValueError(f"{path}: {name} must be floating point and finite")
    return value.detach().cpu().double().numpy()


def _to_bytes(colors: np.ndarray) -> np.ndarray:
    return np.rint(colors.clip(0.0, 1.0) * 255.0).astype(np.uint8)


def _srgb_to_linear(colors: np.ndarray) -> np.ndarray:
    """Display value to linear light, IEC 61966-2-1."""
    return np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
