"""Training losses: scalars of pictures, landmarks, shapes and codes."""

from facecore.losses.adversarial import (
    patch_adversarial_loss,
    wgan_div_critic_loss,
    wgan_div_generator_loss,
    wgan_div_loss,
)
from facecore.losses.batch_distribution import batch_distribution_loss
from facecore.losses.center import CenterLoss, center_loss
from facecore.losses.coefficient import coefficient_loss
from facecore.losses.flattening import flattening_loss
from facecore.losses.gradient_difference import gradient_difference_loss
from facecore.losses.identification import identification_loss, softmax_identification_loss
from facecore.losses.identity import identity_loss
from facecore.losses.landmark import landmark_loss, landmark_structure_loss
from facecore.losses.modules import Loss
from facecore.losses.photometric import photometric_loss
from facecore.losses.reconstruction import reconstruction_loss
from facecore.losses.shape import shape_loss
from facecore.losses.skin import skin_attention, skin_mask, skin_probability
from facecore.losses.smoothness import smoothness_loss
from facecore.losses.symmetry import symmetry_loss, texture_symmetry_loss

__all__ = [
    "CenterLoss",
    "Loss",
    "batch_distribution_loss",
    "center_loss",
    "coefficient_loss",
    "flattening_loss",
    "gradient_difference_loss",
    "identification_loss",
    "identity_loss",
    "landmark_loss",
    "landmark_structure_loss",
    "patch_adversarial_loss",
    "photometric_loss",
    "reconstruction_loss",
    "shape_loss",
    "skin_attention",
    "skin_mask",
    "skin_probability",
    "smoothness_loss",
    "softmax_identification_loss",
    "symmetry_loss",
    "texture_symmetry_loss",
    "wgan_div_critic_loss",
    "wgan_div_generator_loss",
    "wgan_div_loss",
]
