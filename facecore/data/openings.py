"""What shows through the openings of a face mesh: eyeballs and the inside of the mouth, not the background."""

from __future__ import annotations

import torch

from facecore import ops
from facecore.render import WeakPerspectiveCamera
from facecore.structures import Fragments

NUM_UNIFORM = 8  # numbers that one face takes
IRIS_MM, PUPIL_MM = 5.9, 2.2  # radii
MOUTH_DEPTH_MM = 12.0  # of the surface behind the lips
EYE, MOUTH = 0, 1


class Openings:
    """The inner boundary loops of a mesh at the eyes and the mouth, closed by fans of triangles.

    landmarks68 tells which loop is what: the region of the nearest landmark. The outer rim (the loop with the longest
    way round) and loops elsewhere stay open. A mesh with closed eyes and lips has none.
    """

    def __init__(self, template: torch.Tensor, triangles: torch.Tensor, landmarks68: torch.Tensor) -> None:
        loops = boundary_loops(triangles)
        lengths = [float((template[loop] - template[loop.roll(1)]).norm(dim=1).sum()) for loop in loops]
        outer = max(range(len(loops)), key=lengths.__getitem__, default=-1)
        self.loops: list[torch.Tensor] = []
        kinds = []
        for number, loop in enumerate(loops):
            nearest = int((template[landmarks68] - template[loop].mean(0)).norm(dim=1).argmin())
            if number != outer and nearest >= 36:
                self.loops.append(loop)
                kinds.append(EYE if nearest < 48 else MOUTH)
        self.kind = torch.tensor(kinds, dtype=torch.int64, device=template.device)
        sizes = [len(loop) for loop in self.loops]
        self.of_vertex = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes, dtype=torch.int64))
        self.of_vertex = self.of_vertex.to(template.device)
        self.triangles = _fans(sizes).to(template.device)

    def fill(
        self,
        image: torch.Tensor,
        fragments: Fragments,
        vertices_mm: torch.Tensor,
        camera: WeakPerspectiveCamera,
        sh_coefficients: torch.Tensor,
        uniform: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Pictures [N, 3, H, W] with eyes and mouths painted in, and where, bool [N, H, W].

        fragments: of the face itself; what lies in front of an opening stays. uniform: [N, NUM_UNIFORM] in [0, 1).
        """
        n, _, height, width = image.shape
        if not self.loops or n == 0:
            return image, image.new_zeros(n, height, width, dtype=torch.bool)
        points, offsets = self._fan_vertices(vertices_mm)
        drawn = ops.rasterize(camera.to_clip(points), self.triangles, height, width)
        shown = (drawn.triangle_id >= 0) & ((fragments.triangle_id < 0) | (drawn.z_ndc < fragments.z_ndc))
        picture, row, column = shown.nonzero().unbind(1)  # few pixels: everything else is done for them alone
        triangle = drawn.triangle_id[picture, row, column].long()
        corners = offsets[picture[:, None], self.triangles[triangle].long()]
        offset = (corners * drawn.barycentric[picture, row, column, :, None]).sum(1)
        # The fan's triangle k starts at rim vertex k, so the vertices' loops are the triangles' too.
        is_eye = (self.kind[self.of_vertex] == EYE)[triangle]
        numbers = uniform[picture]
        colour = torch.where(is_eye[:, None], _eye_colour(offset, numbers), _mouth_colour(offset, numbers))
        forward = camera.rotation[:, None, :, 2].contiguous()  # the face's own direction stands for the eyes' normals
        light = ops.sh_shading(forward, sh_coefficients).clamp(0.1, 1.2)[:, 0]
        image = image.clone()
        image[picture, :, row, column] = colour * light[picture]
        return image, shown

    def _fan_vertices(self, vertices_mm: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rim vertices, then one centre per loop, [N, P, 3], and their offsets from their loop's centre."""
        rims = [vertices_mm[:, loop] for loop in self.loops]
        centres = torch.stack([rim.mean(1) for rim in rims], dim=1)
        depth = torch.where(self.kind == MOUTH, MOUTH_DEPTH_MM, 0.0).to(vertices_mm)
        behind = centres - torch.nn.functional.pad(depth[:, None], (2, 0))
        offsets = torch.cat(rims, dim=1) - centres[:, self.of_vertex]
        return torch.cat((*rims, behind), dim=1), torch.cat((offsets, torch.zeros_like(centres)), dim=1)


def boundary_loops(triangles: torch.Tensor) -> list[torch.Tensor]:
    """The closed chains of edges that only one triangle has, int64 each, along the triangles' winding.

    A vertex where two loops touch belongs to one of them; the other is left out.
    """
    t = triangles.long().cpu()
    edges = torch.cat((t[:, [0, 1]], t[:, [1, 2]], t[:, [2, 0]])).tolist()
    directed = {(a, b) for a, b in edges}
    following = {a: b for a, b in edges if (b, a) not in directed}
    loops = []
    while following:
        start, after = next(iter(following.items()))
        loop = [start]
        while after in following and after != start:
            loop.append(after)
            after = following[after]
        for vertex in loop:
            del following[vertex]
        if after == start and len(loop) > 2:
            loops.append(torch.tensor(loop, device=triangles.device))
    return loops


def _fans(sizes: list[int]) -> torch.Tensor:
    """Triangles int32 [sum(sizes), 3] over all rims followed by the centres; counter-clockwise from outside."""
    total, start, triangles = sum(sizes), 0, []
    for number, size in enumerate(sizes):
        rim = torch.arange(start, start + size)
        # Along the triangles of the face a hole's rim runs clockwise as seen from outside.
        triangles.append(torch.stack((rim, torch.full_like(rim, total + number), rim.roll(-1)), dim=1))
        start += size
    return torch.cat(triangles).int() if triangles else torch.zeros(0, 3, dtype=torch.int32)


def _eye_colour(offset: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """White, iris and pupil around a direction of gaze, [P, 3], at `offset` [P, 3] mm from the eye's middle."""
    gaze = (uniform[:, :2] - 0.5) * offset.new_tensor([5.0, 2.5])
    distance = (offset[:, :2] - gaze).norm(dim=1, keepdim=True)
    brown, blue = offset.new_tensor([0.30, 0.18, 0.10]), offset.new_tensor([0.38, 0.48, 0.55])
    iris = torch.lerp(brown, blue, uniform[:, 2:3] ** 2) * (0.5 + 0.6 * uniform[:, 3:4])
    white = offset.new_tensor([0.85, 0.80, 0.77]) * (1 - 0.02 * offset[:, :1].abs())
    colour = torch.where(distance < IRIS_MM, iris, white)
    return torch.where(distance < PUPIL_MM, 0.03, colour)


def _mouth_colour(offset: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Upper teeth over a dark inside, [P, 3]; some faces show no teeth."""
    inside = offset.new_tensor([0.25, 0.09, 0.08]) * (0.4 + 0.9 * uniform[:, 4:5])
    teeth = offset.new_tensor([0.80, 0.75, 0.68]) * (0.7 + 0.3 * uniform[:, 5:6])
    shows = (offset[:, 1:2] > 6 * uniform[:, 6:7] - 3) & (uniform[:, 7:8] < 0.7)
    return torch.where(shows, teeth, inside)
