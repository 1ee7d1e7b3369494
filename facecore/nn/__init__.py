"""Networks: Chebyshev graph convolution, mesh decoder and discriminator, ResNet encoder."""

from facecore.nn.chebyshev import ChebConv, SparseBuffers
from facecore.nn.mesh_decoder import MeshDecoder
from facecore.nn.mesh_discriminator import MeshDiscriminator
from facecore.nn.resnet import EncoderFeatures, ResNetEncoder

__all__ = ["ChebConv", "EncoderFeatures", "MeshDecoder", "MeshDiscriminator", "ResNetEncoder", "SparseBuffers"]
