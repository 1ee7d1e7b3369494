"""Whether a reconstruction is recognised as the person of its photograph, by a network of its own (METHODS 8.1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.stats import wasserstein_distance

from facecore.data.batches import PhotoSource
from facecore.data.landmarks import five_points
from facecore.data.studio_views import StudioViews
from facecore.evaluation.verification import cosine
from facecore.perception import IdentityNetwork, alignment

if TYPE_CHECKING:
    from facecore.systems.reconstruction import Reconstruction

RANKS = (1, 5)
BATCH = 20
ROWS = 512  # of a table of similarities, at a time
MOST_PAIRS = 5_000_000  # of which an earth mover's distance is made


@dataclasses.dataclass(frozen=True, eq=False)
class Recognisability:
    """Of N photographs and the render of the face of each.

    similarity: cosine between the two, [N]; same, different: between photographs of one person and of two, [pairs] of
    known persons; photographs, renders: embeddings [N, d]; person: [N].
    """

    photographs: np.ndarray
    renders: np.ndarray
    person: np.ndarray
    similarity: np.ndarray
    same: np.ndarray
    different: np.ndarray

    def summary(self) -> dict[str, float]:
        """Mean similarity, recall_1 and recall_5 in percent (`recall`), and the earth mover's distances to the
        similarities of photographs of one person and of different persons, where there are such pairs."""
        result = {"similarity": float(self.similarity.mean())}
        shares = recall(self.photographs, self.renders, self.person)
        result |= {f"recall_{rank}": 100 * share for rank, share in zip(RANKS, shares)}
        for name in ("same", "different"):
            pairs = getattr(self, name)
            result[f"photographs_{name}"] = float(pairs.mean()) if len(pairs) else float("nan")
            distance = wasserstein_distance(self.similarity, pairs) if len(pairs) else float("nan")
            result[f"emd_{name}"] = float(distance)
        return result


@torch.no_grad()
def measure_recognisability(
    reconstruct: Callable[[torch.Tensor, torch.Tensor], Reconstruction],
    trained_with: Collection[str],
    evaluator: IdentityNetwork,
    photos: PhotoSource,
    views: StudioViews,
    count: int,
    *,
    progress: Callable[[int], object] | None = None,
) -> Recognisability:
    """Compares the first `count` photographs with renders of their faces, each in the same view and light.

    Args:
        reconstruct: pictures [N, 3, H, W] and five points [N, 5, 2] to faces of the views' model.
        trained_with: `identity` of each recognition network that took part in the training.
        evaluator: another network.
        photos: with landmarks.
        views: its `fixed` view straight ahead is the one.
        progress: called with the number of photographs after each batch.

    Deterministic on the CPU. Raises ValueError for a network of the training, for a photograph without landmarks, or
    for fewer than two photographs.
    """
    evaluator.check_judge(trained_with)
    if not 2 <= count <= len(photos):
        raise ValueError(f"count must be from 2 to the {len(photos)} photographs, got {count}")
    own, drawn = [], []
    for index in torch.arange(count).split(BATCH):
        batch = photos.batch(index, None).to(views.model.device)
        points = batch.aligning_points()
        face = reconstruct(batch.image, points)
        render = views.render(face.vertices, face.albedo, views.ahead(len(index)))
        own.append(evaluator.embed(batch.image, alignment(points)).cpu())
        drawn.append(evaluator.embed(render.image, alignment(five_points(render.landmarks))).cpu())
        if progress is not None:
            progress(len(index))
    photographs, renders = torch.cat(own).numpy(), torch.cat(drawn).numpy()
    person = photos.identity[:count].numpy()
    same, different = pair_similarities(photographs, person)
    return Recognisability(photographs, renders, person, cosine(photographs, renders), same, different)


def recall(
    photographs: np.ndarray, renders: np.ndarray, person: np.ndarray, ranks: Sequence[int] = RANKS
) -> tuple[float, ...]:
    """Share of renders among whose `rank` nearest photographs, by cosine, one shows the right person; for each rank.

    photographs, renders: embeddings [N, d]; row i of both is of one face. person: [N], -1 = nobody known, who is right
    in his own photograph alone. The photograph that was reconstructed is among those looked through. Raises ValueError
    for numbers that differ or a feature of zeros.
    """
    if not photographs.shape == renders.shape or len(person) != len(renders) or photographs.ndim != 2:
        got = f"{list(photographs.shape)}, {list(renders.shape)} and {list(person.shape)}"
        raise ValueError(f"photographs and renders must be [N, d], person [N], got {got}")
    drawn, shown, number = _unit(renders), _unit(photographs), np.arange(len(person))
    nearer = np.zeros(len(person), dtype=np.int64)  # photographs nearer to a render than the nearest right one
    for first in range(0, len(person), ROWS):
        own = number[first : first + ROWS, None]
        similarity = drawn[own[:, 0]] @ shown.T
        right = (person[own] == person) & (person[own] >= 0) | (own == number)
        best = np.where(right, similarity, -np.inf).argmax(1)[:, None]  # of equal ones the first
        level = np.take_along_axis(similarity, best, 1)
        before = (similarity > level) | (similarity == level) & (number < best)
        nearer[own[:, 0]] = before.sum(1)
    return tuple(float((nearer < rank).mean()) for rank in ranks)


def pair_similarities(
    photographs: np.ndarray, person: np.ndarray, most: int = MOST_PAIRS
) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of pairs of photographs [N, d] of one known person, and of two, each [pairs]: all of them, or where these
    are more than `most`, about so many, evenly spaced."""
    features, owner = _unit(photographs)[person >= 0], person[person >= 0]
    count = len(owner)
    alike = sum(number * (number - 1) // 2 for number in np.unique(owner, return_counts=True)[1].tolist())
    steps = [max(1, -(-pairs // most)) for pairs in (alike, count * (count - 1) // 2 - alike)]
    found: tuple[list[np.ndarray], list[np.ndarray]] = [], []
    for first in range(0, count, ROWS):
        similarity = features[first : first + ROWS] @ features.T
        own = np.arange(first, first + len(similarity))[:, None]
        later, same = np.arange(count) > own, owner[own] == owner
        for parts, step, chosen in zip(found, steps, (later & same, later & ~same)):
            parts.append(similarity[chosen][::step])
    same_person, different = (np.concatenate(parts) if parts else np.zeros(0) for parts in found)
    return same_person, different


def _unit(features: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    if not (length > 0).all():
        raise ValueError("a feature of zeros has no direction; leave its photograph out")
    return np.asarray(features / length)
