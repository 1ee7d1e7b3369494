"""Sets of one person's pictures that show different sides of the face (METHODS 4: five evenly spread yaws)."""

from __future__ import annotations

import torch


class PoseSets:
    """Draws sets of M pictures of one person whose yaws are spread evenly from the least to the greatest of the person.

    identity: int64 [N], -1 = unknown; yaw: float [N], any unit; size: M. Persons with fewer than M pictures are left
    out (`num_persons` says how many remain). Raises ValueError where nobody has M.
    """

    def __init__(self, identity: torch.Tensor, yaw: torch.Tensor, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if identity.shape != yaw.shape or identity.ndim != 1:
            raise ValueError(f"identity and yaw must be [N], got {list(identity.shape)} and {list(yaw.shape)}")
        self.size = size
        self._members: list[tuple[torch.Tensor, torch.Tensor]] = []
        for person in identity[identity >= 0].unique().tolist():
            own = (identity == person).nonzero()[:, 0]
            if len(own) >= size:
                self._members.append((own, yaw[own].double()))
        if not self._members:
            raise ValueError(
                f"nobody is on {size} photographs: put each person's into a folder, or make the sets smaller"
            )

    @property
    def num_persons(self) -> int:
        return len(self._members)

    def sample(self, generator: torch.Generator, count: int) -> torch.Tensor:
        """`count` sets, int64 [count, M]: see `_one_set`. Persons are distinct while there are enough."""
        rounds = range(-(-count // self.num_persons))
        order = [i for _ in rounds for i in torch.randperm(self.num_persons, generator=generator).tolist()]
        sets = [self._one_set(person, generator) for person in order[:count]]
        return torch.stack(sets) if sets else torch.zeros(0, self.size, dtype=torch.int64)

    def _one_set(self, person: int, generator: torch.Generator) -> torch.Tensor:
        """[M], one of each of M equally wide parts of the person's yaws, by rising part; for a part that has none, the
        picture nearest to its middle of those that are left."""
        members, yaw = self._members[person]
        least, width = yaw.min(), (yaw.max() - yaw.min()) / self.size
        part = ((yaw - least) / width.clamp_min(torch.finfo(yaw.dtype).tiny)).long().clamp_max(self.size - 1)
        draw = torch.rand(self.size, generator=generator, dtype=torch.float64)
        chosen = torch.full((self.size,), -1)
        for i in range(self.size):
            own = (part == i).nonzero()[:, 0]
            if len(own):
                chosen[i] = own[int(draw[i] * len(own))]
        for i in (chosen < 0).nonzero()[:, 0].tolist():
            distance = (yaw - (least + (i + 0.5) * width)).abs()
            distance[chosen[chosen >= 0]] = torch.inf
            chosen[i] = distance.argmin()
        return members[chosen]
