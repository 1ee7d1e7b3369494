"""A small symmetric face model on a curved grid."""

from __future__ import annotations

from typing import Any

import torch

from facecore.morphable import BlendshapePrior, MorphableModel, Prior

ROWS, COLUMNS = 9, 11  # of a curved grid; the middle column is the plane of symmetry


def grid_model(dtype: torch.dtype = torch.float32, *, albedo: bool = True, **changes: Any) -> MorphableModel:
    """A small symmetric model with random modes: 99 vertices, 4 identity, 3 expression, 2 albedo modes."""
    generator = torch.Generator().manual_seed(7)
    y, x = torch.meshgrid(torch.arange(ROWS) - 4.0, torch.arange(COLUMNS) - 5.0, indexing="ij")
    template = 10 * torch.stack([x, y, -0.1 * (x**2 + y**2)], dim=2).reshape(-1, 3)
    template -= template.mean(0)
    index = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    triangles = torch.stack([torch.stack([a, b, c], -1), torch.stack([a, c, d], -1)]).reshape(-1, 3).int()
    count = len(template)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    fields: dict[str, Any] = {
        "name": "grid",
        "template": template,
        "triangles": triangles,
        "identity_basis": random(4, count, 3),
        "identity_std": torch.ones(4),
        "expression_basis": random(3, count, 3),
        "expression_std": torch.tensor([1.0, 2.0, 3.0]),
        "landmarks68": torch.arange(68) + 11,
        "prior": Prior.with_blendshapes(4, BlendshapePrior(torch.tensor([1, 0, 2]), torch.tensor([-1] * 3), 0.5, 0.8)),
        "mirror_map": index.flip(1).reshape(-1),
        "regions": {"left": template[:, 0] > 0},
        "uv": torch.rand(count, 2, generator=generator),
        "source": "a test",
    }
    model = MorphableModel(**(fields | changes))
    if albedo:
        mean, basis = torch.rand(count, 3, generator=generator), 0.1 * random(2, count, 3)
        model = model.with_albedo(mean, basis, torch.ones(2), source="test")
    return model.to(dtype=dtype)
