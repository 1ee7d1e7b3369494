"""Pluggable networks that look at pictures: face detector, landmarks, segmentation, recognition (METHODS 7)."""

from facecore.perception.alignment import align_faces, alignment
from facecore.perception.cache import PerceptionCache
from facecore.perception.identity_network import IdentityNetwork, load_identity_network
from facecore.perception.manifest import Manifest, read_manifest
from facecore.perception.networks import architectures, register_architecture
from facecore.perception.offline import (
    FaceBoxes,
    FaceDetector,
    FaceSegmenter,
    LandmarkDetector,
    LandmarkEstimate,
    NetworkDetector,
    NetworkLandmarks,
    NetworkSegmenter,
)

__all__ = [
    "FaceBoxes",
    "FaceDetector",
    "FaceSegmenter",
    "IdentityNetwork",
    "LandmarkDetector",
    "LandmarkEstimate",
    "Manifest",
    "NetworkDetector",
    "NetworkLandmarks",
    "NetworkSegmenter",
    "PerceptionCache",
    "align_faces",
    "alignment",
    "architectures",
    "load_identity_network",
    "read_manifest",
    "register_architecture",
]
