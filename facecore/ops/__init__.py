"""Differentiable operators on meshes and pictures, for CPU and CUDA tensors of any strides."""

from facecore.ops._debug import set_debug as set_debug  # a switch, not an operator: not in __all__
from facecore.ops.chebyshev_conv import chebyshev_conv
from facecore.ops.interpolate import interpolate
from facecore.ops.rasterize import rasterize
from facecore.ops.sh_shading import sh_shading
from facecore.ops.sparse_matmul import sparse_matmul
from facecore.ops.surface_shading import surface_shading
from facecore.ops.uv_sample import uv_sample
from facecore.ops.uv_unwrap import uv_unwrap
from facecore.ops.vertex_normals import vertex_normals

__all__ = [
    "chebyshev_conv",
    "interpolate",
    "rasterize",
    "sh_shading",
    "sparse_matmul",
    "surface_shading",
    "uv_sample",
    "uv_unwrap",
    "vertex_normals",
]
