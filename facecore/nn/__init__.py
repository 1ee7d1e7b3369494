"""Networks: Chebyshev graph convolution, mesh and texture decoders, discriminators, encoders, points, recognition."""

from facecore.nn.chebyshev import ChebConv, SparseBuffers
from facecore.nn.confidence import ConfidenceNet, aggregate
from facecore.nn.mesh_decoder import MeshDecoder
from facecore.nn.mesh_discriminator import MeshDiscriminator
from facecore.nn.patch_discriminator import PatchDiscriminator, PictureHistory
from facecore.nn.recognition import EmbeddingNetwork, Readings, RecognitionFeatures, RecognitionNet
from facecore.nn.resnet import EncoderFeatures, ResNetEncoder
from facecore.nn.segmentation import SegmentationNet
from facecore.nn.sphereface import SphereFace
from facecore.nn.strided import BranchedRegressor, StridedRegressor, StridedTrunk
from facecore.nn.surface_points import (
    PointFeatures,
    PointMaps,
    SurfacePoints,
    beyond_turn,
    point_readings,
    spread_points,
    surface_point_loss,
)
from facecore.nn.texture_decoder import TextureDecoder
from facecore.nn.texture_unet import TextureUNet

__all__ = [
    "BranchedRegressor",
    "ChebConv",
    "ConfidenceNet",
    "EmbeddingNetwork",
    "EncoderFeatures",
    "MeshDecoder",
    "MeshDiscriminator",
    "PatchDiscriminator",
    "PictureHistory",
    "PointFeatures",
    "PointMaps",
    "Readings",
    "RecognitionFeatures",
    "RecognitionNet",
    "ResNetEncoder",
    "SegmentationNet",
    "SparseBuffers",
    "SphereFace",
    "StridedRegressor",
    "StridedTrunk",
    "SurfacePoints",
    "TextureDecoder",
    "TextureUNet",
    "aggregate",
    "beyond_turn",
    "point_readings",
    "spread_points",
    "surface_point_loss",
]
