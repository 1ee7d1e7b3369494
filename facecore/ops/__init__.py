"""Differentiable operators on meshes and pictures, for CPU and CUDA tensors of any strides."""

from facecore.ops.interpolate import interpolate

__all__ = ["interpolate"]
