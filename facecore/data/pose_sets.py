"""Sets of one person's pictures that show different sides of the face (METHODS 4: five evenly spread yaws)."""

from __future__ import annotations

import torch


class PoseSets:
    """Draws sets of M pictures of one person whose yaws are spread over those that there are of the person.

    identity: int64 [N], -1 = unknown; yaw: float [N], any unit; size: M. Persons with fewer than M pictures are left
    out (`num_persons` says how many remain). Raises ValueError where nobody has M.
    """

    def __init__(self, identity: torch.Tensor, yaw: torch.Tensor, size: int) -> None:
        if size < 1:
            raise ValueError(f"size must be at least 1, got {size}")
        if identity.shape != yaw.shape or identity.ndim != 1:
            raise ValueError(f"identity and yaw must be [N], got {list(identity.shape)} and {list(yaw.shape)}")
        self.size = size
        self._members = []
        for person in identity[identity >= 0].unique().tolist():
            own = (identity == person).nonzero()[:, 0]
            if len(own) >= size:
                self._members.append(own[yaw[own].argsort(stable=True)])
        if not self._members:
            raise ValueError(
                f"nobody is on {size} photographs: put each person's into a folder, or make the sets smaller"
            )

    @property
    def num_persons(self) -> int:
        return len(self._members)

    def sample(self, generator: torch.Generator, count: int) -> torch.Tensor:
        """`count` sets, int64 [count, M], by rising yaw: a person's pictures are split by yaw into M equal parts, and
        one is drawn of each. Persons are distinct while there are enough."""
        rounds = range(-(-count // self.num_persons))
        order = [i for _ in rounds for i in torch.randperm(self.num_persons, generator=generator).tolist()]
        sets = []
        for person in order[:count]:
            members = self._members[person]
            edges = torch.linspace(0, len(members), self.size + 1, dtype=torch.float64).round().long()
            draw = torch.rand(self.size, generator=generator, dtype=torch.float64)
            sets.append(members[edges[:-1] + (draw * edges.diff()).long()])
        return torch.stack(sets) if sets else torch.zeros(0, self.size, dtype=torch.int64)
