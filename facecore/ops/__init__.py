"""Differentiable operators on meshes and pictures, for CPU and CUDA tensors of any strides."""

from facecore.ops._debug import set_debug as set_debug  # a switch, not an operator: not in __all__
from facecore.ops.chebyshev_conv import chebyshev_conv
from facecore.ops.interpolate import interpolate
from facecore.ops.rasterize import rasterize
from facecore.ops.sparse_matmul import sparse_matmul

__all__ = ["chebyshev_conv", "interpolate", "rasterize", "sparse_matmul"]
