"""Linear morphable face models: one container, its prior, and a loader per format."""

from facecore.morphable.io import load
from facecore.morphable.model import MorphableModel
from facecore.morphable.prior import BlendshapePrior, Coefficients, Prior

__all__ = ["BlendshapePrior", "Coefficients", "MorphableModel", "Prior", "load"]
