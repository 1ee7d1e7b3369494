"""Complete, trainable face reconstruction systems, and what they return."""

from facecore.systems.loading import load
from facecore.systems.semi_supervised import SemiSupervised

__all__ = ["SemiSupervised", "load"]
