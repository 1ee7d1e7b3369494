"""rasterize: facecore, and the peers that are here; its definition in plain PyTorch is timed on a coarse mesh only.

The mesh is a bent half ellipsoid with the vertex count, triangle count and screen coverage of a face in its crop; the
ICT face itself, one subdivision finer, where FACECORE_TEST_DATA names the folder that has it.
"""

from __future__ import annotations

import os
import pathlib
from typing import Any

import peers
import pytest
import torch
from grid import bent_grid, to_clip
from harness import MODES, Suite, peer

from facecore import morphable, ops, reference
from facecore.render import WeakPerspectiveCamera

DATA = os.environ.get("FACECORE_TEST_DATA")


def make_inputs(
    device: torch.device, generator: torch.Generator, *, images: int, rows: int, columns: int, height: int, width: int
) -> tuple[Any, ...]:
    """The grid of rows x columns vertices; rows = 0: the ICT face."""
    if rows == 0:
        vertices_clip, triangles = ict_face(images, height, width)
    else:
        mesh = bent_grid(rows, columns)
        vertices_clip, triangles = to_clip(mesh, images), mesh.triangles
    return vertices_clip.to(device).requires_grad_(), triangles.to(device), height, width


def ict_face(images: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """37,280 vertices and 73,840 triangles, turned by 11 degrees, as large as in a network's crop."""
    model = morphable.load(pathlib.Path(str(DATA)) / "ict_facekit.npz", region="face", refine=1)
    pose = torch.tensor([0.0, 0.2, 0.0, 0.1, 0.0, 0.0]).expand(images, 6)
    camera = WeakPerspectiveCamera.from_pose(pose, height, width)
    return camera.to_clip(model.mean_shape().expand(images, -1, -1)).contiguous(), model.triangles


def definition(vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
    if triangles.shape[0] > 2000:
        pytest.skip("the definition passes over the picture once per triangle: timed on the coarse case only")
    return reference.rasterize(vertices_clip, triangles, height, width)


def agree(got: Any, expected: Any) -> torch.Tensor:
    """The same triangle at 99 % of pixels (rasterizers differ at edges), and there the same barycentrics.

    Returns where, [N, H, W, 1]: the gradients are compared there.
    """
    same = got[0] == expected[0]
    assert same.float().mean() > 0.99, f"triangle ids differ at {(~same).sum().item()} pixels"
    torch.testing.assert_close(got[1][same], expected[1][same], rtol=0, atol=1e-2)
    return same.unsqueeze(-1)


COARSE = {"images": 1, "rows": 20, "columns": 20, "height": 64, "width": 64}
MESHES = {"face_5k": {"rows": 71, "columns": 71}, "face_37k": {"rows": 193, "columns": 193}}
suite = Suite(
    op="rasterize",
    providers={
        "facecore": ops.rasterize,
        "reference": definition,
        "nvdiffrast": peer("nvdiffrast.torch", peers.rasterize_nvdiffrast),
        "pytorch3d": peer("pytorch3d", peers.rasterize_pytorch3d),
        "drtk": peer("drtk", peers.rasterize_drtk),
        "kaolin": peer("kaolin", peers.rasterize_kaolin),
        **peers.rasterize_libraries(),
    },
    cases={
        "coarse_b1": COARSE,
        **{
            f"{name}_{size}_b{images}": {"images": images, "height": size, "width": size} | mesh
            for name, mesh in MESHES.items()
            for size, images in ((224, 1), (224, 8), (224, 32), (256, 1), (256, 8), (512, 1), (512, 8))
        },
        **({"ict_37k_224_b1": {"images": 1, "rows": 0, "columns": 0, "height": 224, "width": 224}} if DATA else {}),
    },
    make_inputs=make_inputs,
    modes=(*MODES[:2], "backward"),
    check_sizes=COARSE,
    agree=agree,
    quick=("face_5k_224_b1", "face_37k_224_b1", "face_37k_224_b8", "face_37k_512_b1"),
)
bench_rasterize = suite.benchmark()
