"""Random hostile inputs to the picture and mesh operators: run under sanitizers by test_sanitizers.py.

python hostile_inputs.py COUNT SEED: prints 'done' after COUNT rounds. Every round draws sizes (0 included), coordinates
over many orders of magnitude with NaN, infinities and denormals among them, indices out of range, an instruction set
and a number of threads, or the bodies of CUDA's kernels, whose gradients are added or gathered. Only a refusal by
ValueError is expected; what is computed is not looked at.
"""

from __future__ import annotations

import sys

import torch

from facecore import _C, ops
from facecore.ops._library import emulate_cuda
from facecore.ops.rasterize import _rasterize_backward
from facecore.structures import Fragments, UVMap

BAD_NUMBERS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e38, -1e38, 3e-45, 1e-30, 1e30)


class Draw:
    """Hostile tensors of one round."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator
        self.dtype = torch.float64 if self.below(2) else torch.float32

    def below(self, end: int) -> int:
        return int(torch.randint(0, end, (1,), generator=self.generator))

    def numbers(self, *shape: int) -> torch.Tensor:
        values = torch.randn(shape, generator=self.generator) * 10 ** (4 * torch.rand(1, generator=self.generator) - 2)
        if values.numel() and self.below(3):
            for _ in range(self.below(6)):
                values.view(-1)[self.below(values.numel())] = BAD_NUMBERS[self.below(len(BAD_NUMBERS))]
        return values.to(self.dtype).requires_grad_()

    def indices(self, count: int, end: int, bad: bool = True) -> torch.Tensor:
        values = torch.randint(0, max(1, end), (count, 3), generator=self.generator).int()
        if bad and count and (end == 0 or self.below(3) == 0):
            for _ in range(1 + self.below(5)):
                values.view(-1)[self.below(3 * count)] = (-1, end, 2**31 - 1, -(2**31))[self.below(4)]
        return values

    def pixel_ids(self, n: int, height: int, width: int, count: int) -> torch.Tensor:
        ids = torch.randint(-3, count + 3, (n, height, width), generator=self.generator).int()
        if ids.numel() and self.below(2):
            ids.view(-1)[self.below(ids.numel())] = 2**31 - 1
        return ids

    def uv_map(self, v: int, triangles: torch.Tensor) -> UVMap:
        """A table of which nothing fits together: corners that are no vertices, lists that point anywhere."""
        height, width, entries = self.below(20), self.below(70), self.below(200)
        filled = self.indices(height * width, v, bad=bool(self.below(2))).view(height, width, 3)
        holes = torch.rand(height, width, 1, generator=self.generator) < 0.2
        barycentric = self.numbers(height, width, 3).detach()
        if self.below(2):
            barycentric = barycentric.softmax(-1)
        return UVMap(
            triangle_id=self.pixel_ids(1, height, width, len(triangles))[0],
            barycentric=barycentric,
            triangles=triangles,
            uv=self.numbers(v, 2).detach(),
            uv_triangles=triangles,
            corners=torch.where(holes, -1, filled),
            vertex_start=self.indices(v + 1, entries)[:, 0].contiguous(),
            vertex_texels=self.indices(entries, 3 * height * width)[:, 0].contiguous(),
        )


def gradients(output: torch.Tensor, *inputs: torch.Tensor) -> None:
    if output.requires_grad and all(x.numel() for x in inputs):
        torch.autograd.grad(output, inputs, torch.randn_like(output), allow_unused=True)


def one_round(draw: Draw) -> None:
    n, v, t, c = draw.below(3), draw.below(40), draw.below(90), 1 + draw.below(20)
    height, width = draw.below(70), draw.below(140)
    vertices = draw.numbers(n, v, 4)
    if draw.below(2):
        with torch.no_grad():
            vertices[..., 3] = vertices[..., 3].abs() + 0.1
    triangles = draw.indices(t, v)
    fragments = ops.rasterize(vertices, triangles, height, width, cull_backfaces=bool(draw.below(2)))
    gradients(fragments.barycentric, vertices)
    ids = draw.pixel_ids(n, height, width, t)
    grad = draw.numbers(n, height, width, 3).detach()
    _rasterize_backward(grad, vertices.detach(), triangles, ids)
    attributes, barycentric = draw.numbers(n, v, c), draw.numbers(n, height, width, 3)
    gradients(ops.interpolate(attributes, triangles, ids, barycentric), attributes, barycentric)
    points = draw.numbers(n, v, 3)
    try:
        gradients(ops.vertex_normals(points, triangles), points)
    except ValueError:  # indices that are no vertices
        gradients(ops.vertex_normals(points, draw.indices(t if v else 0, v, bad=False)), points)
    uv_operators(draw, vertices, triangles, fragments)
    normals, light = draw.numbers(n, height, 3), draw.numbers(n, 9, 3)
    gradients(ops.sh_shading(normals, light), normals, light)
    albedo = draw.numbers(n, height, 3)
    gradients(torch.cat(ops.surface_shading(normals, albedo, light), -1), normals, albedo, light)


def uv_operators(draw: Draw, vertices: torch.Tensor, triangles: torch.Tensor, fragments: Fragments) -> None:
    (n, height, width), v, c = fragments.triangle_id.shape, vertices.shape[1], draw.below(20)
    texture = draw.numbers(n, c, 1 + draw.below(8), 1 + draw.below(16))
    uv = draw.numbers(*((v, 2), (n, v, 2), (n, draw.below(9), draw.below(40), 2))[draw.below(3)])
    gradients(ops.uv_sample(texture, uv), texture, uv)
    image, seen = draw.numbers(n, c, height, width), None
    if draw.below(3):
        ids = draw.pixel_ids(n, height, width, len(triangles)) if draw.below(2) else fragments.triangle_id
        depth = draw.numbers(n, height, width) if draw.below(2) else fragments.z_ndc
        seen = Fragments(ids, fragments.barycentric, depth)
    gradients(ops.uv_unwrap(image, vertices, draw.uv_map(v, triangles), seen)[0], image, vertices)


def main() -> None:
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    generator = torch.Generator().manual_seed(seed)
    for i in range(count):
        draw = Draw(generator)
        _C.limit_simd_level(draw.below(3))
        torch.set_num_threads(1 + i % 2)
        emulate_cuda(i % 3 == 2)
        torch.use_deterministic_algorithms(draw.below(2) == 1)
        one_round(draw)
    print("done")


if __name__ == "__main__":
    main()
