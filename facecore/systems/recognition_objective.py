"""What a recognition network learns: coefficients of renders, then to tell persons apart (METHODS 7)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from facecore.data import LabelledBatch
from facecore.losses import identification_loss
from facecore.morphable import MorphableModel
from facecore.nn import EmbeddingNetwork
from facecore.perception import align_faces, alignment
from facecore.perception.alignment import five_points
from facecore.perception.point_recognition import PointRecognition
from facecore.systems.coefficient_metric import CoefficientMetric
from facecore.systems.reader_points import ReaderPoints, weighted_points
from facecore.systems.shared_terms import Terms


class RecognitionObjective(nn.Module):
    """Renders to the error of their coefficients; aligned faces and who they show to the softmax over cosines with an
    additive margin."""

    def __init__(
        self, network: EmbeddingNetwork, model: MorphableModel, num_persons: int, margin: float, scale: float
    ) -> None:
        super().__init__()
        self.network, self.margin, self.scale = network, margin, scale
        self.model, self.metric = model, CoefficientMetric(model)
        embed = network.head.out_features
        self.coefficients = nn.Linear(embed, model.num_identity + model.num_albedo)
        self.persons = nn.Linear(embed, num_persons, bias=False)
        nn.init.normal_(self.persons.weight)
        self.points = ReaderPoints(network, model) if isinstance(network, PointRecognition) else None

    def forward(self, seen: torch.Tensor | LabelledBatch, person: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the share of known faces that are nearest to their own person.

        seen: aligned faces, which are told apart by person int64 [N], -1 = unknown; or renders, whose coefficients are
        learned: nobody is told apart.
        """
        if isinstance(seen, LabelledBatch):
            return self.labelled(seen), person.new_zeros((), dtype=torch.float32)
        embed = functional.normalize(self.network(seen).embed, dim=1)
        cosines = embed @ functional.normalize(self.persons.weight, dim=1).T
        right = (cosines.detach().argmax(1) == person).sum() / (person >= 0).sum().clamp_min(1)
        return identification_loss(cosines, person, margin=self.margin, scale=self.scale), right

    def labelled(self, batch: LabelledBatch) -> torch.Tensor:
        """Error of what an affine map of the embedding makes of the coefficients, over its variance; of a
        PointRecognition, too, where it sees the points and how the face is turned."""
        faces = self.aligned(batch)
        terms: Terms = {}
        if isinstance(self.network, PointRecognition) and self.points is not None:
            sight = self.network.see(faces)
            embed, terms = (
                self.network.embed(sight.readings),
                self.points.terms(sight, batch, self.points.aligned(batch)),
            )
        else:
            embed = self.network(faces).embed
        difference = self.coefficients(embed) - self.truth(batch)
        return self.code_error(difference).mean() + weighted_points(terms)

    def aligned(self, batch: LabelledBatch) -> torch.Tensor:
        """Renders as the network takes them."""
        return align_faces(batch.image, alignment(five_points(batch.landmarks)), *self.network.input_size)

    def truth(self, batch: LabelledBatch) -> torch.Tensor:
        """Whitened identity and albedo coefficients, [N, Ki + Ka]."""
        prior = self.model.prior
        return torch.cat([prior.whiten("identity", batch.identity), prior.whiten("albedo", batch.albedo)], 1)

    def code_error(self, difference: torch.Tensor) -> torch.Tensor:
        """Of differences of whitened identity and albedo coefficients [N, Ki + Ka], by what they make, [N]."""
        identity, albedo = difference.split([self.model.num_identity, self.model.num_albedo], 1)
        shape = functional.pad(identity, (0, self.model.num_expression))
        return self.metric.shape_error(shape) + self.metric.albedo_error(albedo)
