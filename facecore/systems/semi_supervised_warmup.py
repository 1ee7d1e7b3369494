"""Stages before the paper's own: decoders, then encoder learn the morphable model's coefficients, cheaply and apart.

From random weights the encoder gets no useful gradient until the decoders answer to their codes, and the decoders none
until the codes say something: at first neither moves (the paper's 20k warm-up iterations pass through that plateau).
Here coefficients are embedded in the code space. First the decoders learn to decode them (no picture is needed), then
the encoder to estimate them from renders (nothing is decoded), and the two meet in the stages of METHODS 2.3.
"""

from __future__ import annotations

import torch

from facecore import losses
from facecore.data import LabelledBatch, ShapeBatch, sample_generator
from facecore.morphable import Coefficients, MorphableModel
from facecore.render import pixel_to_ndc
from facecore.systems.coefficient_metric import CoefficientMetric
from facecore.systems.semi_supervised import SemiSupervised
from facecore.systems.semi_supervised_codes import Codes
from facecore.systems.semi_supervised_losses import pose_term
from facecore.systems.shared_terms import Terms, light_term
from facecore.training.distributed import Share


class CodeEmbedding:
    """Orthonormal maps between whitened coefficients and codes, fixed by the seed.

    c_id holds albedo and identity coefficients (both decoders read it), c_exp expression weights over their standard
    deviation, so that no expression is code 0. Where a code is shorter, the last modes are left out.
    """

    def __init__(self, model: MorphableModel, identity_size: int, expression_size: int, seed: int) -> None:
        self.model = model
        num_identity = model.num_albedo + model.num_identity
        self.identity_map = _orthonormal(num_identity, identity_size, seed, "identity").to(model.device)
        self.expression_map = _orthonormal(model.num_expression, expression_size, seed, "expression").to(model.device)
        self.metric = CoefficientMetric(model)
        prior = model.prior
        stds = torch.cat([prior.identity_std, prior.expression_std])
        basis = torch.cat([model.identity_basis, model.expression_basis])[:, model.landmarks68]
        self._landmark_basis = stds[:, None, None] * basis  # [Ki + Ke, 68, 3]
        self._landmark_neutral = model.mean_neutral()[model.landmarks68]

    def codes(
        self, identity: torch.Tensor, expression: torch.Tensor, albedo: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients of N faces -> c_id [N, 128], c_exp [N, 64]."""
        whitened_albedo, whitened_shape = self._whitened_albedo(albedo), self._whitened_shape(identity, expression)
        count = self.model.num_identity
        in_identity = torch.cat([whitened_albedo, whitened_shape[:, :count]], 1)
        return in_identity @ self.identity_map, whitened_shape[:, count:] @ self.expression_map

    def decoded(self, identity: torch.Tensor, expression: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """c_id, c_exp -> whitened coefficients: albedo [N, Ka], shape (identity, expression) [N, Ki + Ke]."""
        in_identity = identity @ self.identity_map.T
        albedo, in_shape = in_identity.split([self.model.num_albedo, self.model.num_identity], 1)
        return albedo, torch.cat([in_shape, expression @ self.expression_map.T], 1)

    def code_term(self, codes: Codes, batch: ShapeBatch) -> torch.Tensor:
        """Mean squared error of the shape, and of a known albedo, that the codes' coefficients make, over its variance.

        A quadratic form in the coefficients (CoefficientMetric): nothing is decoded.
        """
        albedo, shape = self.decoded(codes.identity, codes.expression)
        true_shape = self._whitened_shape(batch.identity, batch.expression)
        shape_error = self.metric.shape_error(shape - true_shape).mean()
        if not isinstance(batch, LabelledBatch):
            return shape_error
        true_albedo = self._whitened_albedo(batch.albedo)
        return shape_error + self.metric.albedo_error(albedo - true_albedo).mean()

    def code_error(self, difference: torch.Tensor) -> torch.Tensor:
        """The same for differences of codes, c_id and c_exp side by side, [N, 128 + 64] -> [N]."""
        identity_size = self.identity_map.shape[1]
        albedo, shape = self.decoded(difference[:, :identity_size], difference[:, identity_size:])
        return self.metric.shape_error(shape) + self.metric.albedo_error(albedo)

    def codes_of(self, batch: LabelledBatch) -> torch.Tensor:
        """c_id and c_exp of a batch side by side, [N, 128 + 64]."""
        return torch.cat(self.codes(batch.identity, batch.expression, batch.albedo), 1)

    def landmarks(self, codes: Codes) -> torch.Tensor:
        """The 68 points of the codes' coefficients, [N, 68, 3] mm."""
        _, shape = self.decoded(codes.identity, codes.expression)
        return self._landmark_neutral + torch.einsum("nk,kpc->npc", shape, self._landmark_basis)

    def _whitened_shape(self, identity: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
        prior = self.model.prior
        return torch.cat([prior.whiten("identity", identity), expression / prior.expression_std], 1)

    def _whitened_albedo(self, albedo: torch.Tensor) -> torch.Tensor:
        return self.model.prior.whiten("albedo", albedo)


def encoder_terms(system: SemiSupervised, embedding: CodeEmbedding, codes: Codes, batch: LabelledBatch) -> Terms:
    """Codes, landmarks, pose and light of a labelled batch, without decoding."""
    size = system.config.image_size
    predicted = system.camera(codes.pose).ndc(embedding.landmarks(codes))
    target = pixel_to_ndc(batch.landmarks, size, size)
    return {
        "labelled_code": embedding.code_term(codes, batch),
        "landmark": losses.landmark_loss(predicted, target) + losses.landmark_structure_loss(predicted, target),
        "labelled_pose": pose_term(codes, batch),
        "labelled_light": light_term(codes.sh_coefficients, batch.sh_coefficients),
    }


def decoder_terms(
    system: SemiSupervised,
    model: MorphableModel,
    embedding: CodeEmbedding,
    count: int,
    generator: torch.Generator,
    share: Share,
) -> Terms:
    """L_shp and the albedo difference of a share of `count` random faces decoded from their embedded coefficients."""
    sample: Coefficients = model.sample(count, generator)
    identity, expression, albedo = (t[share.rows(count)].to(model.device) for t in sample)
    code_identity, code_expression = embedding.codes(identity, expression, albedo)
    truth = (model.shape(identity, expression) - system.template) / system.shape_scale
    terms = {"shape": losses.shape_loss(system.decode_displacement(code_identity, code_expression), truth)}
    if not system.textured:  # a texture is made from a picture too
        terms["labelled_albedo"] = (system.decode_albedo(code_identity) - model.albedo(albedo)).abs().mean()
    return terms


def _orthonormal(rows: int, columns: int, seed: int, name: str) -> torch.Tensor:
    """[rows, columns] with orthonormal rows; rows beyond `columns` are 0."""
    square = torch.randn(columns, columns, generator=sample_generator(seed, "embedding", name), dtype=torch.float64)
    result = torch.zeros(rows, columns)
    count = min(rows, columns)
    result[:count] = torch.linalg.qr(square)[0][:count].float()
    return result
