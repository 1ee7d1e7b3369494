"""A morphable model fitted to the landmarks of several photographs of one person (METHODS 3, multi-image fitting)."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import torch

from facecore.morphable import MorphableModel
from facecore.ops._library import check_tensor
from facecore.render.cameras import MEAN_SCALE, MM_PER_UNIT
from facecore.render.pose_fit import nearest_pose
from facecore.render.rotation import matrix_to_euler

MAX_ITERATIONS = 30
TOLERANCE = 1e-3  # relative change of the objective at which the fit ends
TURNS = 3  # of a round: expressions, identity, poses
REACH_GROWTH, MIN_REACH = 1.6, 0.5  # see _Problem.turns
MIN_LANDMARKS = 6  # five points tell a pose of a known face, hardly a shape
SIGMA = 0.01  # standard deviation of a landmark over the size of the landmarks' box


@dataclasses.dataclass(frozen=True, eq=False)
class LandmarkFit:
    """One identity in M photographs.

    identity: the model's coefficients [Ki]; expression: [M, Ke]; pose: codes [M, 6] of METHODS 1.3.
    objective: float64 [iterations + 1], the first of the mean face in its best pose; never rises.
    residual: RMS distance of the landmarks over the size of their box, [M].
    """

    identity: torch.Tensor
    expression: torch.Tensor
    pose: torch.Tensor
    objective: torch.Tensor
    residual: torch.Tensor

    @property
    def iterations(self) -> int:
        return len(self.objective) - 1


@torch.no_grad()
def fit_landmarks(
    model: MorphableModel,
    landmarks_ndc: torch.Tensor,
    weight: torch.Tensor | None = None,
    *,
    identity: torch.Tensor | None = None,
    ridge: float = 1.0,
    max_iterations: int = MAX_ITERATIONS,
    tolerance: float = TOLERANCE,
) -> LandmarkFit:
    """Identity, expressions and poses that explain the 68 landmarks of photographs of one person.

    Args:
        model: any morphable model with its 68 landmarks.
        landmarks_ndc: float [M, 68, 2], q of METHODS 1.3 (y up), each photograph in its own frame.
        weight: [M, 68], 0 = unknown; None = all 1.
        identity: coefficients [Ki] that are known and stay; None = they are found, too.
        ridge: weight of the model's prior, 1 = as likely as it says, 0 = none (the paper's).
        max_iterations, tolerance: see the objective.

    Minimises sum_jk w_jk |q_jk - f_j Pi R_j s_k - t_j|^2 / sigma_j^2 + ridge (|z_id|^2 + sum_j |z_exp,j|^2) with the
    coefficients z in standard deviations from the prior's mean and sigma_j = 1 % of the box of photograph j's
    landmarks, by turns: the expressions, the identity that all share, and the poses, each in closed form; a pose is
    kept where a new one does not lower the objective. Ends when a round of the three lowers it by less than `tolerance`
    of itself, or after max_iterations rounds. Computed in float64 on the CPU; deterministic; no
    gradient. Raises ValueError for wrong shapes, points that are not finite, negative weights, a photograph with fewer
    than six known points, or known points that all lie in one place.
    """
    if identity is not None:
        check_tensor("identity", identity, (model.num_identity,))
    problem = _Problem.of(model, landmarks_ndc, weight, ridge, identity)
    if max_iterations < 1 or not tolerance >= 0:
        raise ValueError(f"max_iterations must be at least 1, tolerance at least 0, got {max_iterations}, {tolerance}")
    state = problem.start()
    objective = [problem.objective(state)]
    ends_of_rounds = itertools.islice(problem.turns(state), TURNS - 1, TURNS * max_iterations, TURNS)
    for state in ends_of_rounds:
        objective.append(problem.objective(state))
        if objective[-2] - objective[-1] <= tolerance * objective[-1]:
            break
    prior, like = model.prior, model.template
    scale = (state.scale / MEAN_SCALE).log()[:, None]
    expression = prior.expression_mean.double().cpu() + state.expression * prior.expression_std.double().cpu()
    found = prior.identity_mean.double().cpu() + state.identity * prior.identity_std.double().cpu()
    return LandmarkFit(
        identity=(found if identity is None else identity.detach()).to(like),
        expression=expression.to(like),
        pose=torch.cat([matrix_to_euler(state.rotation), scale, state.offset], 1).to(like),
        objective=torch.tensor(objective, dtype=torch.float64),
        residual=problem.residual(state).to(like),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _State:
    """Whitened coefficients and cameras: q = scale * (rotation s)_xy + offset, s in units of 100 mm."""

    identity: torch.Tensor  # [Ki]
    expression: torch.Tensor  # [M, Ke]
    rotation: torch.Tensor  # [M, 3, 3]
    scale: torch.Tensor  # [M]
    offset: torch.Tensor  # [M, 2]

    @property
    def linear(self) -> torch.Tensor:
        """f Pi R, [M, 2, 3]."""
        return self.scale[:, None, None] * self.rotation[:, :2]

    def beyond(self, other: _State, reach: float) -> _State:
        """The coefficients `reach` times as far beyond these as these are from the other's; the cameras stay."""
        return dataclasses.replace(
            self,
            identity=torch.lerp(other.identity, self.identity, 1 + reach),
            expression=torch.lerp(other.expression, self.expression, 1 + reach),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class _Problem:
    """The landmarks and the model at them, in float64; precision: weight / sigma^2."""

    mean: torch.Tensor  # [68, 3]
    identity: torch.Tensor  # [Ki, 68, 3]
    expression: torch.Tensor  # [Ke, 68, 3]
    target: torch.Tensor  # [M, 68, 2]
    precision: torch.Tensor  # [M, 68]
    size: torch.Tensor  # of the landmarks' boxes, [M]
    ridge: float
    known_identity: torch.Tensor | None = None  # whitened [Ki]

    @classmethod
    def of(
        cls,
        model: MorphableModel,
        target: torch.Tensor,
        weight: torch.Tensor | None,
        ridge: float,
        known_identity: torch.Tensor | None = None,
    ) -> _Problem:
        check_tensor("landmarks_ndc", target, ("M", 68, 2))
        weight = torch.ones_like(target[..., 0]) if weight is None else weight
        check_tensor("weight", weight, (len(target), 68))
        if not 0 <= ridge < float("inf"):
            raise ValueError(f"ridge must be a number of at least 0, got {ridge}")
        target, weight = target.detach().double().cpu(), weight.detach().double().cpu()
        size = _check_points(target, weight)
        target = torch.where(weight[..., None] > 0, target, 0.0)
        points, prior = model.landmarks68, model.prior
        identity, expression = (
            (basis[:, points] * std[:, None, None]).double().cpu() / MM_PER_UNIT
            for basis, std in (
                (model.identity_basis, prior.identity_std),
                (model.expression_basis, prior.expression_std),
            )
        )
        mean = model.mean_shape()[points].double().cpu() / MM_PER_UNIT
        precision = weight / (SIGMA * size[:, None]).square()
        if known_identity is not None:
            known_identity = prior.whiten("identity", known_identity.detach().to(model.template)).double().cpu()
        return cls(mean, identity, expression, target, precision, size, ridge, known_identity)

    def start(self) -> _State:
        """The mean expression in each photograph, of the mean face or of the known one."""
        count = len(self.target)
        identity = self.mean.new_zeros(len(self.identity)) if self.known_identity is None else self.known_identity
        face = self.mean + torch.einsum("k,kpc->pc", identity, self.identity)
        pose = nearest_pose(face.expand(count, -1, -1), self.target, self.precision)
        expression = self.mean.new_zeros(count, len(self.expression))
        return self.with_poses(_State(identity, expression, *pose))

    def turns(self, state: _State) -> Iterator[_State]:
        """The state after each turn, without end: expressions, identity, poses; none of them raises the objective.

        Shape and pose pull each other along a valley, in steps that shrink slowly. So a round first looks for its poses
        further along the way that the coefficients went, and looks ever further while that pays.
        """
        reach = 1.0
        while True:
            before = state
            state = self.with_expressions(state)
            yield state
            state = self.with_identity(state)
            yield state
            further = self.with_poses(state.beyond(before, reach))
            pays = self.objective(further) < self.objective(state)
            reach = reach * REACH_GROWTH if pays else max(reach / 2, MIN_REACH)
            state = further if pays else self.with_poses(state)
            yield state

    def shapes(self, state: _State) -> torch.Tensor:
        """[M, 68, 3]."""
        own = state.expression @ self.expression.flatten(1)
        return self.mean + torch.einsum("k,kpc->pc", state.identity, self.identity) + own.view(-1, *self.mean.shape)

    def errors(self, state: _State, shapes: torch.Tensor | None = None) -> torch.Tensor:
        """Squared distances of the landmarks, [M, 68]."""
        shapes = self.shapes(state) if shapes is None else shapes
        projected = shapes @ state.linear.mT + state.offset[:, None]
        return (self.target - projected).square().sum(2)

    def objective(self, state: _State) -> float:
        prior = state.identity.square().sum() + state.expression.square().sum()
        return float((self.precision * self.errors(state)).sum() + self.ridge * prior)

    def residual(self, state: _State) -> torch.Tensor:
        """RMS distance over the box's size, [M]; by the weights."""
        mean = (self.precision * self.errors(state)).sum(1) / self.precision.sum(1)
        return mean.sqrt() / self.size

    def with_poses(self, state: _State) -> _State:
        """A new pose where it lowers the objective; its scale is the least-squares one of its rotation."""
        shapes = self.shapes(state)
        rotation, _, _ = nearest_pose(shapes, self.target, self.precision)
        share = self.precision / self.precision.sum(1, keepdim=True)
        turned = shapes @ rotation[:, :2].mT
        centre, target_centre = (torch.einsum("mp,mpc->mc", share, points) for points in (turned, self.target))
        x, q = turned - centre[:, None], self.target - target_centre[:, None]
        scale = (share * (x * q).sum(2)).sum(1) / (share * x.square().sum(2)).sum(1)
        new = dataclasses.replace(state, rotation=rotation, scale=scale, offset=target_centre - scale[:, None] * centre)
        before, after = ((self.precision * self.errors(s, shapes)).sum(1) for s in (state, new))
        better = (after < before) & (scale > 0)
        return dataclasses.replace(
            state,
            rotation=torch.where(better[:, None, None], new.rotation, state.rotation),
            scale=torch.where(better, new.scale, state.scale),
            offset=torch.where(better[:, None], new.offset, state.offset),
        )

    def with_expressions(self, state: _State) -> _State:
        """The best expression of each photograph: (G^T W G + ridge) z = G^T W r with G = f Pi R A_exp."""
        if not len(self.expression):
            return state
        linear, count = state.linear, len(self.target)
        neutral = dataclasses.replace(state, expression=torch.zeros_like(state.expression))
        rest = self.target - self.shapes(neutral) @ linear.mT - state.offset[:, None]
        design = (self.expression.flatten(0, 1) @ linear.mT).view(count, len(self.expression), -1)  # [M, Ke, 2 * 68]
        weighted = design * self.precision.repeat_interleave(2, 1)[:, None]
        solution = self._solve(weighted @ design.mT, weighted @ rest.flatten(1)[..., None])
        return dataclasses.replace(state, expression=solution)

    def with_identity(self, state: _State) -> _State:
        """The best identity of all photographs: normal equations summed over them, landmark by landmark; a known one
        stays."""
        if self.known_identity is not None:
            return state
        linear = state.linear
        others = dataclasses.replace(state, identity=torch.zeros_like(state.identity))
        rest = self.target - self.shapes(others) @ linear.mT - state.offset[:, None]
        squares = (linear.mT @ linear).flatten(1)
        metric = (self.precision.T @ squares).view(-1, 3, 3)  # of a landmark: sum_j w_j (f Pi R)^T (f Pi R)
        pull = torch.einsum("mp,mpc->pc", self.precision, rest @ linear)
        measured = torch.einsum("kpc,pcd->kpd", self.identity, metric).flatten(1)
        basis = self.identity.flatten(1)
        solution = self._solve((measured @ basis.T)[None], (basis @ pull.flatten())[None, :, None])
        return dataclasses.replace(state, identity=solution[0])

    def _solve(self, normal: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """z [N, K] with (normal + ridge) z = right; the shortest one where many solve it, as hardly a ridge decides."""
        normal = normal + self.ridge * torch.eye(normal.shape[1], dtype=normal.dtype)
        factor, failed = torch.linalg.cholesky_ex(normal)
        if self.ridge == 0 or bool(failed.any()):
            return (torch.linalg.pinv(normal, hermitian=True) @ right)[..., 0]
        return torch.cholesky_solve(right, factor)[..., 0]


def _check_points(target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The size of each photograph's box of known landmarks, mean of width and height, [M]; refuses what has none."""
    if len(target) == 0:
        raise ValueError("landmarks_ndc must hold at least one photograph")
    if not bool(((weight >= 0) & (weight < float("inf"))).all()):
        raise ValueError("weight must hold numbers of at least 0")
    known = weight > 0
    if not bool(torch.isfinite(target[known]).all()):
        raise ValueError("landmarks_ndc has points that are not finite; give them the weight 0")
    few = (known.sum(1) < MIN_LANDMARKS).nonzero()[:, 0].tolist()
    if few:
        raise ValueError(f"photograph {few[0]} has fewer than {MIN_LANDMARKS} known landmarks; leave it out")
    low = torch.where(known[..., None], target, float("inf")).amin(1)
    high = torch.where(known[..., None], target, -float("inf")).amax(1)
    size = (high - low).mean(1)
    if not bool((size > 0).all()):
        raise ValueError(f"all landmarks of photograph {int(size.argmin())} lie in one place; leave it out")
    return size
