"""Triangle meshes: validation, Laplacians, resolution hierarchies, UV layout, files."""

from facecore.mesh.mesh import Mesh

__all__ = ["Mesh"]
