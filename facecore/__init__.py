"""Fast, exact face-geometry operators for PyTorch, and the trainable 3D face reconstruction systems built on them."""

import torch as _torch  # noqa: F401  loads torch's OpenMP runtime before ours, so that there is only one

__version__ = "0.1.0"
