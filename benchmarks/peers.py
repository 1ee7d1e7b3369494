"""Other libraries' operators behind the arguments of facecore's: what the suites pass to harness.peer.

Each function imports its library and returns a callable. Where a peer cannot give what is compared, the callable skips.
"""

from __future__ import annotations

import ctypes
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness import Provider

Function = Callable[..., Any]
LIBRARIES = "FACECORE_PEER_RASTERIZERS"  # paths of shared libraries, separated as in PATH: README.md


def need_cuda(tensor: torch.Tensor, name: str) -> None:
    if not tensor.is_cuda:
        pytest.skip(f"{name} runs on CUDA only")


def need_no_gradient(why: str) -> None:
    if torch.is_grad_enabled():
        pytest.skip(f"forward only: {why}")


def rasterize_nvdiffrast() -> Function:
    """Its barycentrics are (u, v) of the first two corners; the third makes them comparable. Row 0 is the bottom."""
    import nvdiffrast.torch

    contexts: list[Any] = []  # made at the first call: it needs a GPU

    def rasterize(vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
        need_cuda(vertices_clip, "nvdiffrast")
        if not contexts:
            contexts.append(nvdiffrast.torch.RasterizeCudaContext())
        out, _ = nvdiffrast.torch.rasterize(contexts[0], vertices_clip, triangles, (height, width), grad_db=False)
        u, v, triangle_id = out[..., 0].flip(1), out[..., 1].flip(1), out[..., 3].flip(1).int() - 1
        third = torch.where(triangle_id >= 0, 1 - u - v, torch.zeros_like(u))
        return triangle_id, torch.stack((u, v, third), -1), out[..., 2].flip(1)

    return rasterize


def rasterize_pytorch3d() -> Function:
    """x runs to the left, depth is w, ids count through the batch. On a CPU each pixel meets each triangle."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    def rasterize(vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
        images, count = vertices_clip.shape[0], triangles.shape[0]
        if not vertices_clip.is_cuda and images * count > 10_000:
            pytest.skip("pytorch3d's CPU loop over pixels and triangles: timed on at most 10,000 triangles")
        w = vertices_clip[..., 3:]
        place = vertices_clip[..., :2] / w * vertices_clip.new_tensor([-1.0, 1.0])
        meshes = Meshes(torch.cat((place, w), -1), triangles.long().expand(images, -1, -1))
        face, depth, barycentric, _ = rasterize_meshes(
            meshes, (height, width), faces_per_pixel=1, perspective_correct=True
        )
        face, first = face[..., 0], count * torch.arange(images, device=face.device).view(-1, 1, 1)
        covered = face >= 0
        return (
            torch.where(covered, face - first, -1).int(),
            torch.where(covered.unsqueeze(-1), barycentric[..., 0, :], 0.0),
            depth[..., 0],
        )

    return rasterize


def rasterize_drtk() -> Function:
    """Pixel centres at integers, y down, depth is w; the barycentrics are a second kernel."""
    import drtk

    def rasterize(vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
        need_cuda(vertices_clip, "drtk")
        x, y, _, w = vertices_clip.unbind(-1)
        points = torch.stack((0.5 * width * (1 + x / w) - 0.5, 0.5 * height * (1 - y / w) - 0.5, w), -1)
        triangle_id = drtk.rasterize(points, triangles, height, width)
        depth, barycentric = drtk.render(points, triangles, triangle_id)
        return triangle_id, barycentric.permute(0, 2, 3, 1), depth

    return rasterize


def rasterize_kaolin() -> Function:
    """It interpolates features a triangle's corners bring; unit vectors give barycentrics, linear on the screen."""
    from kaolin.render.mesh import rasterize as kaolin_rasterize

    def rasterize(vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
        need_cuda(vertices_clip, "kaolin")
        need_no_gradient("kaolin's barycentrics are linear on the screen, their gradient in w is another")
        corners = vertices_clip[:, triangles.long()]  # [N, T, 3, 4]
        depth = -corners[..., 3]
        unit = torch.eye(3, device=corners.device).expand(*corners.shape[:2], 3, 3).contiguous()
        place = (corners[..., :2] / corners[..., 3:]).contiguous()
        barycentric, face = kaolin_rasterize(height, width, depth.contiguous(), place, unit, backend="cuda")
        return face.int(), barycentric, depth

    return rasterize


def rasterize_libraries() -> dict[str, Provider]:
    """One provider for each shared library that the environment names; the file's stem is its name."""
    paths = [pathlib.Path(path) for path in os.environ.get(LIBRARIES, "").split(os.pathsep) if path]
    return {path.stem: Provider(lambda path=path: _rasterize_library(path)) for path in paths}


def _rasterize_library(path: pathlib.Path) -> Function:
    library = ctypes.CDLL(str(path))

    def call(symbol: Function, sizes: tuple[int, ...], *tensors: torch.Tensor) -> None:
        symbol(*(ctypes.c_int32(size) for size in sizes), *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors))

    class Rasterize(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, vertices: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
            sizes = (vertices.shape[1], triangles.shape[0], height, width)
            picture = (vertices.shape[0], height, width)
            triangle_id = triangles.new_empty(picture)
            barycentric, z_ndc = vertices.new_empty(*picture, 3), vertices.new_empty(picture)
            for image in zip(vertices, triangle_id, barycentric, z_ndc, strict=True):
                call(library.rasterize_forward, sizes, image[0], triangles, *image[1:])
            ctx.sizes = sizes
            ctx.save_for_backward(vertices, triangles, triangle_id, barycentric)
            ctx.mark_non_differentiable(triangle_id, z_ndc)
            return triangle_id, barycentric, z_ndc

        @staticmethod
        def backward(ctx: Any, _: Any, grad_barycentric: torch.Tensor, __: Any) -> Any:
            vertices, triangles, triangle_id, barycentric = ctx.saved_tensors
            grad_vertices = torch.empty_like(vertices)
            grads = grad_barycentric.contiguous()
            for image in zip(vertices, triangle_id, barycentric, grads, grad_vertices, strict=True):
                call(library.rasterize_backward, ctx.sizes, image[0], triangles, *image[1:])
            return grad_vertices, None, None, None

    def rasterize(vertices_clip: torch.Tensor, triangles: torch.Tensor, height: int, width: int) -> Any:
        if vertices_clip.is_cuda:
            pytest.skip(f"{path.stem} is called with CPU memory")
        if not hasattr(library, "rasterize_backward"):
            need_no_gradient(f"{path.stem} has no rasterize_backward")
        return Rasterize.apply(vertices_clip, triangles, height, width)

    return rasterize


def interpolate_nvdiffrast() -> Function:
    import nvdiffrast.torch

    def interpolate(
        attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
    ) -> torch.Tensor:
        need_cuda(attributes, "nvdiffrast")
        need_no_gradient("nvdiffrast takes two barycentrics, the gradient in the third is not its own")
        fragments = torch.cat((barycentric, (triangle_id + 1).unsqueeze(-1).to(barycentric)), -1)  # third is not read
        return nvdiffrast.torch.interpolate(attributes, fragments, triangles)[0]

    return interpolate


def interpolate_pytorch3d() -> Function:
    from pytorch3d.ops import interpolate_face_attributes

    def interpolate(
        attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
    ) -> torch.Tensor:
        first = triangles.shape[0] * torch.arange(attributes.shape[0], device=attributes.device).view(-1, 1, 1)
        face = torch.where(triangle_id >= 0, triangle_id + first, -1).unsqueeze(-1)
        corners = attributes[:, triangles.long()].flatten(0, 1)  # [N T, 3, C]
        return interpolate_face_attributes(face, barycentric.unsqueeze(-2), corners).squeeze(-2)

    return interpolate


def interpolate_drtk() -> Function:
    import drtk

    def interpolate(
        attributes: torch.Tensor, triangles: torch.Tensor, triangle_id: torch.Tensor, barycentric: torch.Tensor
    ) -> torch.Tensor:
        need_cuda(attributes, "drtk")
        out = drtk.interpolate(attributes, triangles, triangle_id, barycentric.permute(0, 3, 1, 2).contiguous())
        return torch.where((triangle_id >= 0).unsqueeze(-1), out.permute(0, 2, 3, 1), 0.0)

    return interpolate


def vertex_normals_kaolin() -> Function:
    from kaolin.ops.mesh import compute_vertex_normals, face_normals, index_vertices_by_faces

    def vertex_normals(vertices: torch.Tensor, triangles: torch.Tensor) -> torch.Tensor:
        index = triangles.long()
        unit = face_normals(index_vertices_by_faces(vertices, index), unit=True)
        normals = compute_vertex_normals(index, unit.unsqueeze(2).expand(-1, -1, 3, -1), vertices.shape[1])
        return torch.nn.functional.normalize(normals, dim=-1)

    return vertex_normals


def sh_shading_kaolin() -> Function:
    """Its basis is the orthonormal one; facecore's coefficients carry METHODS 1.5's factor of each band."""
    from kaolin.render.lighting import project_onto_sh9

    factors = torch.pi * torch.tensor([1.0] + [2 / 3**0.5] * 3 + [2 / 8**0.5] * 5).unsqueeze(-1)

    def sh_shading(normals: torch.Tensor, sh_coefficients: torch.Tensor) -> torch.Tensor:
        scaled = sh_coefficients * factors.to(sh_coefficients)
        return torch.einsum("n...b,nbc->n...c", project_onto_sh9(normals), scaled)

    return sh_shading


def uv_sample_nvdiffrast() -> Function:
    """Its textures have the channels last, and their first row at v = 0."""
    import nvdiffrast.torch

    def uv_sample(texture: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
        need_cuda(texture, "nvdiffrast")
        places = torch.stack((uv[..., 0], 1 - uv[..., 1]), -1)
        places = places if uv.ndim == 4 else places.unsqueeze(1)
        channels_last = texture.permute(0, 2, 3, 1).contiguous()
        colors = nvdiffrast.torch.texture(channels_last, places, filter_mode="linear", boundary_mode="clamp")
        return colors if uv.ndim == 4 else colors.squeeze(1)

    return uv_sample
