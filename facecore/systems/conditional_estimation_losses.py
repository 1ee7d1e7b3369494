"""What system 3 minimises: frames drawn with exchanged reflectances, landmarks, coefficients (METHODS 5)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import nn

from facecore import losses
from facecore.data import LabelledBatch, PhotoBatch, five_points, sample_generator
from facecore.mesh import mirror_texture
from facecore.render import pixel_to_ndc
from facecore.structures import Texture
from facecore.systems.coefficient_metric import CoefficientMetric
from facecore.systems.conditional_estimation import (
    CanonicalReader,
    ConditionalEstimate,
    ConditionalEstimation,
    canonical_positions,
    pose_of,
)
from facecore.systems.conditional_estimation_config import ConditionalWeights, Constraint
from facecore.systems.reader_points import ReaderPoints
from facecore.systems.shared_terms import Terms, weighted_total

CHANNELS = 3  # E is a mean over pixels and channels, photometric_loss one over pixels


class Exchange(NamedTuple):
    """Which pictures are drawn: render k shows frame[k] in the reflectance of frame source[k], mirrored or not.

    frame, source: int64 [R]; mirrored: bool [R]; numbers of frames are places in the batch.
    """

    frame: torch.Tensor
    source: torch.Tensor
    mirrored: torch.Tensor

    def __len__(self) -> int:
        return len(self.frame)

    def to(self, device: torch.device | str) -> Exchange:
        return Exchange(*(part.to(device) for part in self))


def draw_partners(clip: torch.Tensor, seed: int, iteration: int, first: int = 0) -> torch.Tensor:
    """For each frame another of its clip in the batch, each with the same probability, int64 [N]; itself if alone.

    clip: int64 [N] on the CPU, the number of each frame's clip, -1 = a clip of its own. The draw of a frame depends on
    (seed, iteration, first + its place) and on who shares its clip. METHODS 5.
    """
    partners = torch.arange(len(clip))
    for i, own in enumerate(clip.tolist()):
        others = (clip == own).nonzero()[:, 0]
        others = others[others != i]
        if own < 0 or len(others) == 0:
            continue
        generator = sample_generator(seed, "partner", iteration, first + i)
        partners[i] = others[torch.randint(len(others), (), generator=generator)]
    return partners


def stochastic_exchange(
    partner: torch.Tensor, constraint: Constraint = "both", flip_source: Literal["i", "j"] = "i"
) -> Exchange:
    """The renders of L_ph (METHODS 5, eq. 8), 2 N or N of N frames, first those that are not mirrored.

    partner: int64 [N] of `draw_partners`. constraint both: R_j and mirrored R_i (or with flip_source "j" R_j);
    consistency: R_j; symmetry: R_i and mirrored R_i; none: R_i. Raises ValueError for another constraint or source.
    """
    if constraint not in ("both", "consistency", "symmetry", "none") or flip_source not in ("i", "j"):
        raise ValueError(
            "constraint must be both, consistency, symmetry or none, and flip_source i or j, got "
            f"{constraint!r} and {flip_source!r}"
        )
    own = torch.arange(len(partner))
    straight = partner if constraint in ("both", "consistency") else own
    sources = [straight]
    if constraint in ("both", "symmetry"):
        sources.append(partner if constraint == "both" and flip_source == "j" else own)
    mirrored = torch.arange(len(sources)).repeat_interleave(len(own)) > 0
    return Exchange(own.repeat(len(sources)), torch.cat(sources), mirrored)


def full_exchange(clip: torch.Tensor) -> Exchange:
    """Every frame of a clip in every reflectance of it, straight and mirrored: 2 n^2 renders of n frames (eq. 7).

    clip: int64 [N], -1 = a clip of its own. First those that are not mirrored.
    """
    own = torch.arange(len(clip))
    together = ((clip[:, None] == clip) & (clip[:, None] >= 0)) | (own[:, None] == own)
    frame, source = together.nonzero().unbind(1)
    mirrored = torch.arange(2).repeat_interleave(len(frame)) > 0
    return Exchange(frame.repeat(2), source.repeat(2), mirrored)


def exchanged_photometric_loss(
    system: ConditionalEstimation,
    estimate: ConditionalEstimate,
    images: torch.Tensor,
    masks: torch.Tensor,
    exchange: Exchange,
) -> torch.Tensor:
    """L_ph: the mean of E over the renders that are not mirrored, plus that over the mirrored ones, if there are any.

    E is the mean absolute colour difference over the channels and the pixels of mask * coverage. images [N, 3, H, W],
    masks [N, H, W] of the N frames; exchange: on any device, with one kind of renders or as many of both. With
    `stochastic_exchange` that is eq. 8, with `full_exchange` what eq. 8 is an estimate of (and where all clips have n
    frames, eq. 7 over n N). Differentiable in the estimate; the coverage is held fixed.
    """
    kinds = 1 + int(exchange.mirrored.any())
    frame, source, mirrored = exchange.to(images.device)
    # index_select, whose gradient adds in one order; that of x[index] does not with several threads
    reflectance = estimate.reflectance.index_select(0, source)
    if kinds == 2:
        reflectance = torch.where(mirrored[:, None, None, None], mirror_texture(reflectance), reflectance)
    rendering = system.renderer(
        estimate.vertices.index_select(0, frame),
        Texture(reflectance, system.uv),
        system.camera(estimate.pose.index_select(0, frame)),
        estimate.sh_coefficients.index_select(0, frame),
    )
    region = rendering.alpha.detach() * masks[frame]
    return losses.photometric_loss(rendering.image, images[frame], region, norm="l1") * (kinds / CHANNELS)


def landmark_term(system: ConditionalEstimation, estimate: ConditionalEstimate, batch: PhotoBatch) -> torch.Tensor:
    """L_kp: absolute coordinate differences in NDC over 68 points; over five where only those are known."""
    predicted = estimate.camera.ndc(estimate.vertices[:, system.landmarks68])
    size = system.config.image_size
    points, five = (pixel_to_ndc(part, size, size) for part in (batch.landmarks, batch.five_points))
    of_68 = losses.landmark_loss(predicted, points, batch.landmark_weight, norm="l1")
    return of_68 + losses.landmark_loss(five_points(predicted), five, batch.five_point_weight, norm="l1")


class ConditionalObjective(nn.Module):
    """Batches to losses. A module, so that torch's DistributedDataParallel can wrap it."""

    def __init__(self, weights: ConditionalWeights, system: ConditionalEstimation) -> None:
        super().__init__()
        self.weights, self.system = weights, system
        self.metric = CoefficientMetric(system.morphable)
        self.points: ReaderPoints | None = None
        if isinstance(system.shape_network, CanonicalReader):
            self.points = ReaderPoints(system.shape_network, system.morphable)

    def forward(self, batch: LabelledBatch | PhotoBatch, exchange: Exchange | None) -> Terms:
        """Terms by name, and their weighted sum `total`: of labelled renders the warm-up's, of frames those of
        METHODS 5, for which an exchange must be given."""
        terms = self.labelled_terms(batch) if isinstance(batch, LabelledBatch) else self.clip_terms(batch, exchange)
        return terms | {"total": weighted_total(terms, self.weights)}

    def labelled_terms(self, batch: LabelledBatch) -> Terms:
        """Viewpoint and shape against what is known; nothing is rendered."""
        system, network = self.system, self.system.shape_network
        viewpoint = system.estimate_viewpoint(batch.image)
        terms: Terms = {}
        if isinstance(network, CanonicalReader) and self.points is not None:
            # no gradient through the crop: the points that are to be found would have to move with it
            sight = network.see(system.shape_input(batch.image, viewpoint.detach()))
            whitened = network.embed(sight.readings)
            terms = self.points.terms(sight, batch, self.positions(batch, viewpoint))
        else:
            whitened = system.estimate_shape(batch.image, viewpoint)
        return terms | {
            "labelled_shape": self.metric.shape_error(whitened - self.truth(batch)).mean(),
            "labelled_pose": (pose_of(viewpoint) - batch.pose).square().sum(1).mean(),
        }

    def truth(self, batch: LabelledBatch) -> torch.Tensor:
        """Whitened identity and expression of renders, [N, Ki + Ke]."""
        prior = self.system.morphable.prior
        return torch.cat([prior.whiten("identity", batch.identity), prior.whiten("expression", batch.expression)], 1)

    def positions(self, batch: LabelledBatch, viewpoint: torch.Tensor) -> torch.Tensor:
        """Where what f_s sees has the surface points, NDC, [N, P, 2]; no gradient to the viewpoint."""
        assert self.points is not None
        points = pixel_to_ndc(self.points.pixels(batch), *batch.image.shape[-2:])
        return canonical_positions(points, pose_of(viewpoint.detach())) if self.system.config.coupled else points

    def clip_terms(self, batch: PhotoBatch, exchange: Exchange | None) -> Terms:
        """L_ph, L_kp and L_rg; nothing is drawn where L_ph has no weight. Raises ValueError without an exchange."""
        estimate = self.system(batch.image)
        terms = {
            "landmark": landmark_term(self.system, estimate, batch),
            "regularisation": losses.coefficient_loss(estimate.whitened, reduction=self.weights.reg_reduction),
        }
        if self.weights.photometric:
            if exchange is None:
                raise ValueError("exchange must be given: which reflectance each frame is drawn with")
            terms["photometric"] = exchanged_photometric_loss(self.system, estimate, batch.image, batch.mask, exchange)
        return terms


def clips_of_one_frame(clip: torch.Tensor, frames: int) -> bool:
    """Whether a batch never holds two frames of one clip, so that each is exchanged with itself.

    clip: int64 [number of samples], -1 = unknown; frames: of a clip in a batch.
    """
    known = clip[clip >= 0]
    return frames < 2 or len(known) == 0 or int(torch.bincount(known).max()) < 2
