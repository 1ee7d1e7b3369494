"""Differentiable operators on meshes and pictures, for CPU and CUDA tensors of any strides."""

from facecore.ops.chebyshev_conv import chebyshev_conv
from facecore.ops.interpolate import interpolate
from facecore.ops.sparse_matmul import sparse_matmul

__all__ = ["chebyshev_conv", "interpolate", "sparse_matmul"]
