"""Networks: Chebyshev graph convolution, mesh decoder and discriminator, ResNet encoder, surface points."""

from facecore.nn.chebyshev import ChebConv, SparseBuffers
from facecore.nn.mesh_decoder import MeshDecoder
from facecore.nn.mesh_discriminator import MeshDiscriminator
from facecore.nn.resnet import EncoderFeatures, ResNetEncoder
from facecore.nn.surface_points import PointMaps, SurfacePoints, surface_point_loss

__all__ = [
    "ChebConv",
    "EncoderFeatures",
    "MeshDecoder",
    "MeshDiscriminator",
    "PointMaps",
    "ResNetEncoder",
    "SparseBuffers",
    "SurfacePoints",
    "surface_point_loss",
]
