"""Complete, trainable face reconstruction systems, and what they return."""

from facecore.systems.conditional_estimation import ConditionalEstimation
from facecore.systems.joint_recognition import JointRecognition
from facecore.systems.loading import System, load
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.unsupervised_regression import UnsupervisedRegression
from facecore.systems.weakly_supervised import WeaklySupervised

__all__ = [
    "ConditionalEstimation",
    "JointRecognition",
    "SemiSupervised",
    "System",
    "UnsupervisedRegression",
    "WeaklySupervised",
    "load",
]
