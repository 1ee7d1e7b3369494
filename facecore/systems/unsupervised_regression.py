"""System 4: coefficients of a morphable model from recognition features, Genova et al. 2018 (METHODS 6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from facecore.morphable import MorphableModel
from facecore.nn.recognition import RecognitionFeatures
from facecore.perception import IdentityNetwork, alignment
from facecore.systems.aligned_system import AlignedFaceSystem
from facecore.systems.facing import facing_reconstruction
from facecore.systems.reconstruction import Reconstruction
from facecore.systems.unsupervised_regression_config import RegressionModelConfig


class RegressionCodes(NamedTuple):
    """Whitened coefficients: shape [N, Ki], texture [N, Ka]; 1 = one standard deviation of the model's prior."""

    shape: torch.Tensor
    texture: torch.Tensor

    def detach(self) -> RegressionCodes:
        return RegressionCodes(self.shape.detach(), self.texture.detach())


class UnsupervisedRegression(AlignedFaceSystem):
    """A frozen recognition network, and a decoder of two hidden layers from its features to shape and albedo.

    Pictures are [N, 3, S, S] in [0, 1]; see AlignedFaceSystem. Expression is not estimated either: reconstructions are
    neutral until something fits it. The state_dict holds the recognition network, too;
    `caution` says where that one has seen renders alone.
    """

    estimates_expression = False

    def __init__(self, config: RegressionModelConfig, morphable: MorphableModel, recognition: IdentityNetwork) -> None:
        super().__init__()
        self.config = config
        self.morphable = model = morphable
        model.require("albedo_mean")
        self.recognition = recognition
        height, width = recognition.input_size
        with torch.no_grad():
            parts = recognition.pooled(torch.zeros(1, 3, height, width))
        self.decoder = nn.Sequential(
            nn.Linear(parts.shape[1], config.width),
            nn.ReLU(),
            nn.Linear(config.width, config.width),
            nn.ReLU(),
            nn.Linear(config.width, model.num_identity + model.num_albedo),
        )
        self.set_usual_points(model.mean_neutral()[model.landmarks68], config.image_size)

    @property
    def caution(self) -> str:
        """What to say of results on photographs; see IdentityNetwork."""
        return self.recognition.caution

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> UnsupervisedRegression:
        super()._apply(fn, recurse)
        self.morphable = self.morphable.to(self.usual_points.device)
        return self

    def features(self, images: torch.Tensor, points: torch.Tensor) -> RecognitionFeatures:
        """What the recognition network says of pictures with five points [N, 5, 2] in their pixels.

        Differentiable in the pictures.
        """
        features: RecognitionFeatures = self.recognition(images, alignment(points))
        return features

    def regress(self, pooled: torch.Tensor) -> RegressionCodes:
        """Codes of features [N, F]."""
        shape, texture = self.decoder(pooled).split([self.morphable.num_identity, self.morphable.num_albedo], 1)
        return RegressionCodes(shape, texture)

    def encode(self, images: torch.Tensor, landmarks: torch.Tensor | None = None) -> RegressionCodes:
        """Codes of crops [N, 3, S, S]. landmarks: 68 points [N, 68, 2] or five [N, 5, 2], in pixels of the crops.

        Differentiable in the pictures. Raises ValueError for other shapes.
        """
        points = self.points_of(images, landmarks, self.config.image_size)
        return self.regress(self.features(images, points).pooled)

    def decode(self, codes: RegressionCodes) -> tuple[torch.Tensor, torch.Tensor]:
        """Vertices without expression [N, V, 3] in mm, and albedo [N, V, 3], which may leave [0, 1]."""
        coefficients = self.coefficients(codes)
        return self.morphable.shape(coefficients["identity"]), self.morphable.albedo(coefficients["albedo"])

    def coefficients(self, codes: RegressionCodes) -> dict[str, torch.Tensor]:
        """The morphable model's: identity, expression (none: 0) and albedo."""
        prior = self.morphable.prior
        identity = prior.unwhiten("identity", codes.shape)
        expression = identity.new_zeros(len(identity), self.morphable.num_expression)
        return {"identity": identity, "expression": expression, "albedo": prior.unwhiten("albedo", codes.texture)}

    def forward(self, images: torch.Tensor, landmarks: torch.Tensor | None = None) -> RegressionCodes:
        """See `encode`."""
        return self.encode(images, landmarks)

    @torch.no_grad()
    def reconstruct(self, images: torch.Tensor, landmarks: torch.Tensor | None = None) -> Reconstruction:
        """Reconstructs N crops [N, 3, S, S] in [0, 1], neutral and looking straight ahead; landmarks: see `encode`."""
        codes = self.encode(images, landmarks)
        vertices, albedo = self.decode(codes)
        return facing_reconstruction(
            vertices,
            vertices.clone(),
            albedo.clamp(0, 1),
            self.coefficients(codes),
            triangles=self.morphable.triangles,
            landmarks68=self.morphable.landmarks68,
            size=self.config.image_size,
        )
