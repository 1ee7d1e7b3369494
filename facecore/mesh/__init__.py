"""Triangle meshes: validation, Laplacians, resolution hierarchies, UV layout, files."""

from facecore.mesh.hierarchy import Hierarchy, build_hierarchy
from facecore.mesh.io import load_mesh, save_glb, save_obj
from facecore.mesh.laplacian import check_spectrum, laplacian, spectral_radius
from facecore.mesh.mesh import Mesh
from facecore.mesh.proximity import ClosestPoints, closest_points
from facecore.mesh.uv import build_uv_map, cylindrical_uv, mirror_texture

__all__ = [
    "ClosestPoints",
    "Hierarchy",
    "Mesh",
    "build_hierarchy",
    "build_uv_map",
    "check_spectrum",
    "closest_points",
    "cylindrical_uv",
    "laplacian",
    "load_mesh",
    "mirror_texture",
    "save_glb",
    "save_obj",
    "spectral_radius",
]
