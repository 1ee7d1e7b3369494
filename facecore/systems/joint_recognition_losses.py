"""What system 1 minimises in each phase: codes, then shapes and persons together (METHODS 3)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from facecore.data import LabelledBatch
from facecore.losses import identification_loss
from facecore.morphable import MorphableModel
from facecore.perception.point_recognition import PointRecognition
from facecore.systems.coefficient_metric import CoefficientMetric
from facecore.systems.joint_recognition import CODE_RANGE, JointRecognition
from facecore.systems.joint_recognition_config import JointRecognitionConfig
from facecore.systems.reader_points import ReaderPoints, weighted_points
from facecore.systems.shared_terms import Terms


class JointBatch(NamedTuple):
    """Pictures, renders first, with what is to be learned of them.

    image: [N, 3, S, S]; points: five of each, [N, 5, 2]; identity [N, Ki], expression [N, Ke]: coefficients; person:
    int64 [N], -1 = unknown; renders: of the first ones everything that is known.
    """

    image: torch.Tensor
    points: torch.Tensor
    identity: torch.Tensor
    expression: torch.Tensor
    person: torch.Tensor
    renders: LabelledBatch


class JointObjective(nn.Module):
    """Pictures with their coefficients and persons to the loss of a phase."""

    def __init__(
        self, config: JointRecognitionConfig, system: JointRecognition, morphable: MorphableModel, num_persons: int
    ) -> None:
        super().__init__()
        self.weights, self.system, self.morphable = config.weights, system, morphable
        self.metric = CoefficientMetric(morphable) if config.stages.code_error == "shape" else None
        self.points: ReaderPoints | None = None
        if isinstance(system.encoder, PointRecognition):
            self.points = ReaderPoints(system.encoder, morphable)
        self.classifier = nn.Linear(system.identity_size, num_persons)

    def forward(self, stage: str, batch: JointBatch, share: torch.Tensor | float = 1.0) -> Terms:
        """Terms by name, and their weighted sum `total`. share: factor of the means over pictures, of which processes
        may have different numbers; renders are equally many in all."""
        if stage == "encoder":
            return self.phase_one(batch, share)
        return {name: share * value for name, value in self.phase_three(stage, batch).items()}

    def phase_one(self, batch: JointBatch, share: torch.Tensor | float = 1.0) -> Terms:
        """Codes; of a network that finds points, these and the turn of the renders, too."""
        encoder, faces = self.system.encoder, self.system.align(batch.image, batch.points)
        terms: Terms = {}
        if isinstance(encoder, PointRecognition) and self.points is not None:
            sight = encoder.see(faces)
            codes = self.system.codes(sight.readings)
            terms = self.points.terms(sight, batch.renders, self.points.aligned(batch.renders))
        else:
            codes = self.system.codes(encoder.read(faces))
        target = self.system.codes_of(self.morphable, batch.identity, batch.expression)
        error = share * self.code_error(torch.cat(codes, 1) - torch.cat(target, 1)).mean()
        return terms | {"code": error, "total": error + weighted_points(terms)}

    def phase_three(self, stage: str, batch: JointBatch) -> Terms:
        """Shapes and persons."""
        codes = self.system.encode(batch.image, batch.points)
        truth = self.morphable.shape(batch.identity, batch.expression)
        distance = (self.system.decode_shape(*codes) - truth).square().sum(2).mean()
        recognition = identification_loss(self.classifier(codes.identity), batch.person)
        weight = self.weights.reconstruction if stage == "joint" else self.weights.final_reconstruction
        total = weight * distance + self.weights.recognition * recognition
        return {"reconstruction": distance, "recognition": recognition, "total": total}

    def code_error(self, difference: torch.Tensor) -> torch.Tensor:
        """What phase I minimises of differences of codes [N, Ki + Ke], [N]."""
        if self.metric is None:
            return difference.square().sum(1)
        return self.metric.shape_error(CODE_RANGE * difference)
