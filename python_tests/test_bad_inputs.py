"""What every picture and mesh operator does with input that is wrong, empty, too large or not a number."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from facecore import ops
from facecore.structures import Fragments, UVMap

SIZES = {"N": 2, "V": 7, "T": 5, "H": 6, "W": 9, "C": 3, "Hu": 4, "Wu": 8}
Arguments = dict[str, torch.Tensor]


def numbers(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def indices(end: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, max(1, end), shape, generator=torch.Generator().manual_seed(2)).int()


@dataclasses.dataclass(frozen=True)
class Operator:
    """An operator by the shapes of its tensors in letters ([T, 3] and [N, H, W] hold indices) and of its result."""

    function: Callable[..., torch.Tensor]
    shapes: dict[str, str]
    result: str

    def arguments(self, sizes: dict[str, int], device: torch.device | str = "cpu") -> Arguments:
        made = {}
        for name, letters in self.shapes.items():
            shape = [sizes[s] if s in sizes else int(s) for s in letters.split()]
            if name in ("triangles", "corners"):
                made[name] = indices(sizes["V"], *shape)
            elif name == "triangle_id":
                made[name] = indices(sizes["T"], *shape) if sizes["T"] else -torch.ones(shape, dtype=torch.int32)
            else:
                made[name] = numbers(*shape)
        return {name: tensor.to(device) for name, tensor in made.items()}


def unwrap(
    image: torch.Tensor,
    vertices_clip: torch.Tensor,
    corners: torch.Tensor,
    weights: torch.Tensor,
    triangles: torch.Tensor,
    triangle_id: torch.Tensor,
    z_ndc: torch.Tensor,
) -> torch.Tensor:
    """uv_unwrap with a table without lists of texels, which one thread does not read."""
    v = vertices_clip.shape[1] if isinstance(vertices_clip, torch.Tensor) and vertices_clip.ndim == 3 else SIZES["V"]
    on = vertices_clip.device if isinstance(vertices_clip, torch.Tensor) else "cpu"
    lists = [torch.zeros(n, dtype=torch.int32, device=on) for n in (v + 1, 0)]
    uv_map = UVMap(triangle_id, weights, triangles, weights, triangles, corners, *lists)  # three that it does not read
    return ops.uv_unwrap(image, vertices_clip, uv_map, Fragments(triangle_id, z_ndc, z_ndc))[0]


OPERATORS = {
    "rasterize": Operator(
        lambda vertices_clip, triangles: ops.rasterize(vertices_clip, triangles, 6, 9).barycentric,
        {"vertices_clip": "N V 4", "triangles": "T 3"},
        "N 6 9 3",
    ),
    "interpolate": Operator(
        ops.interpolate,
        {"attributes": "N V C", "triangles": "T 3", "triangle_id": "N H W", "barycentric": "N H W 3"},
        "N H W C",
    ),
    "vertex_normals": Operator(ops.vertex_normals, {"vertices": "N V 3", "triangles": "T 3"}, "N V 3"),
    "sh_shading": Operator(ops.sh_shading, {"normals": "N H W 3", "sh_coefficients": "N 9 3"}, "N H W 3"),
    "surface_shading": Operator(
        lambda normals, albedo, sh_coefficients: ops.surface_shading(normals, albedo, sh_coefficients)[0],
        {"normals": "N H W 3", "albedo": "N H W 3", "sh_coefficients": "N 9 3"},
        "N H W 3",
    ),
    "uv_sample": Operator(ops.uv_sample, {"texture": "N C Hu Wu", "uv": "N H W 2"}, "N H W C"),
    "uv_unwrap": Operator(
        unwrap,
        {
            "image": "N C H W",
            "vertices_clip": "N V 4",
            "corners": "Hu Wu 3",
            "weights": "Hu Wu 3",
            "triangles": "T 3",
            "triangle_id": "N H W",
            "z_ndc": "N H W",
        },
        "N C Hu Wu",
    ),
}
every_argument = pytest.mark.parametrize(
    ("name", "argument"),
    [pytest.param(name, x, id=f"{name}-{x}") for name, operator in OPERATORS.items() for x in operator.shapes],
)
REPORTED = {"weights": "uv_map.barycentric", "corners": "uv_map.corners"}  # under the name that the user knows


def refused(name: str, argument: str, value: Any, message: str, arguments: Arguments) -> None:
    """ValueError naming the argument; the first one sets what others must be like, so one of those may be named."""
    names = [REPORTED.get(x, x) for x in (OPERATORS[name].shapes if argument == next(iter(arguments)) else [argument])]
    pattern = rf"^(uv_map\.|fragments\.)?({'|'.join(names)}) {message}"
    with pytest.raises(ValueError, match=pattern):
        OPERATORS[name].function(**(arguments | {argument: value}))


@every_argument
def test_a_wrong_shape(device, name, argument):
    arguments = OPERATORS[name].arguments(SIZES, device)
    good = arguments[argument]
    if (name, argument) not in (
        ("sh_shading", "normals"),
        ("surface_shading", "normals"),
        ("uv_sample", "uv"),
    ):  # of these any number of dimensions
        refused(name, argument, good.unsqueeze(0), "must have shape", arguments)
    if OPERATORS[name].shapes[argument][-1].isdigit():
        refused(name, argument, good[..., :-1], "must have shape", arguments)
        refused(name, argument, torch.cat((good, good), -1), "must have shape", arguments)
    if sum(shape[0] == "N" for shape in OPERATORS[name].shapes.values()) > 1 and good.shape[0] == SIZES["N"]:
        refused(name, argument, good[:1], "must have (shape|2 images|1 images)", arguments)


@every_argument
def test_a_wrong_dtype(device, name, argument):
    arguments = OPERATORS[name].arguments(SIZES, device)
    good = arguments[argument]
    others = (torch.float16, torch.int32, torch.complex64) if good.is_floating_point() else (torch.int64, torch.float32)
    for dtype in others:
        refused(name, argument, good.to(dtype), "must have dtype", arguments)
    if good.is_floating_point() and sum(x.is_floating_point() for x in arguments.values()) > 1:
        refused(name, argument, good.float(), "must have dtype", arguments)


@every_argument
def test_a_wrong_device(device, name, argument):
    arguments = OPERATORS[name].arguments(SIZES, device)
    for other in ("meta", "cpu") if device.type == "cuda" else ("meta",):
        refused(name, argument, arguments[argument].to(other), "must be on", arguments)


@every_argument
def test_no_tensor(name, argument):
    refused(name, argument, 1.0, "must be a torch.Tensor, got float", OPERATORS[name].arguments(SIZES))


@pytest.mark.parametrize(
    ("name", "letter"),
    [(name, x) for name, op in OPERATORS.items() for x in SIZES if x in " ".join(op.shapes.values()).split()],
)
def test_a_size_of_zero(device, name, letter):
    """Nothing comes of nothing, without an error: an empty result, or one without content; and no gradient."""
    operator = OPERATORS[name]
    sizes = SIZES | {letter: 0}
    if name == "vertex_normals" and letter == "V":
        sizes["T"] = 0  # it refuses the triangles of no vertices
    arguments = operator.arguments(sizes, device)
    leaves = [x.requires_grad_() for x in arguments.values() if x.is_floating_point()]
    if name == "uv_sample" and letter in ("Hu", "Wu"):
        with pytest.raises(ValueError, match="texture must have 1 to 16384 texels a side"):
            operator.function(**arguments)
        return
    out = operator.function(**arguments)
    assert list(out.shape) == [sizes[s] if s in sizes else int(s) for s in operator.result.split()]
    if letter in ("V", "T") and name != "uv_unwrap":
        assert (out == 0).all()
    for grad in torch.autograd.grad(out.sum(), leaves, allow_unused=True):
        assert grad is None or (grad == 0).all() or (name, letter) == ("uv_unwrap", "T")  # its texels remain


def test_pictures_too_large_for_the_index_type():
    """Shapes alone: on the meta device, and with strides of 0, nothing of that size exists."""
    empty = {"device": "meta", "dtype": torch.float32}
    ids = torch.empty(1, 2**16, 2**15, device="meta", dtype=torch.int32)
    triangles = torch.empty(4, 3, device="meta", dtype=torch.int32)
    with pytest.raises(ValueError, match=r"triangle_id must have fewer than 2\^31 pixels an image, got shape"):
        ops.interpolate(torch.empty(1, 9, 3, **empty), triangles, ids, torch.empty(1, 2**16, 2**15, 3, **empty))
    many = torch.empty(2**31, 3, device="meta", dtype=torch.int32)
    with pytest.raises(ValueError, match=r"triangles must have fewer than 2\^31 rows, got 2147483648"):
        ops.rasterize(torch.empty(1, 9, 4, **empty), many, 8, 8)
    with pytest.raises(ValueError, match=r"triangles must have fewer than 2\^31 corners, got shape \[715827883, 3\]"):
        ops.vertex_normals(torch.empty(1, 9, 3, **empty), many[: 2**31 // 3 + 1])
    for height, width in ((16385, 8), (8, 16385)):
        with pytest.raises(ValueError, match="must be from 0 to 16384, got 16385"):
            ops.rasterize(torch.zeros(1, 9, 4), torch.zeros(4, 3, dtype=torch.int32), height, width)
        texture = torch.zeros(1, 1, 1, 1).expand(1, 1, height, width)
        with pytest.raises(ValueError, match="texture must have 1 to 16384 texels a side, got shape"):
            ops.uv_sample(texture, torch.zeros(7, 2))
        arguments = OPERATORS["uv_unwrap"].arguments(SIZES)
        large = {"triangle_id": arguments["triangle_id"][:, :1, :1].expand(2, height, width)}
        large |= {"image": arguments["image"][..., :1, :1].expand(2, 3, height, width)}
        large |= {"z_ndc": arguments["z_ndc"][:, :1, :1].expand(2, height, width)}
        with pytest.raises(ValueError, match="image must have at most 16384 pixels a side"):
            unwrap(**(arguments | large))
        table = {x: arguments[x][:1, :1].expand(height, width, 3) for x in ("corners", "weights")}
        with pytest.raises(ValueError, match=f"uv_map must have at most 16384 texels a side, got {height} x {width}"):
            unwrap(**(arguments | table))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_attribute_that_is_no_number_reaches_the_pixels_of_its_triangles_only(device, dtype, bad):
    made = OPERATORS["interpolate"].arguments(SIZES | {"H": 20, "W": 30}, device)
    triangles = torch.tensor([[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6]], dtype=torch.int32, device=device)
    attributes, barycentric = made["attributes"].to(dtype), made["barycentric"].to(dtype)
    ids = made["triangle_id"] - (made["triangle_id"] == 4).int() * 5  # the last one is uncovered
    broken = attributes.clone()
    broken[1, 0, 1] = bad
    spoiled = barycentric.clone()
    spoiled[ids < 0] = bad
    results = []
    for values, weights in ((attributes, barycentric), (broken, spoiled)):
        leaves = values.requires_grad_(), weights.requires_grad_()
        out = ops.interpolate(*leaves[:1], triangles, ids, leaves[1])
        results.append((out, *torch.autograd.grad(out.sum(), leaves)))
    reached = ids == 0
    reached[0] = False
    assert reached.any()
    for clean, mine in zip(*(r[::2] for r in results)):  # the values, and the gradient of barycentric
        assert torch.equal(mine[~reached], clean[~reached])
    assert not results[1][0][reached][:, 1].isfinite().any()
    torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-5, atol=1e-5)  # a sum over pixels in any order


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_normal_that_is_no_number_shades_its_own_point_only(device, dtype, bad):
    made = OPERATORS["sh_shading"].arguments(SIZES | {"H": 20, "W": 30}, device)
    normals, light = made["normals"].to(dtype), made["sh_coefficients"].to(dtype)
    broken = normals.clone()
    broken[1, 3, 17, 0] = bad
    others = torch.ones(normals.shape[:3], dtype=torch.bool, device=device)
    others[1, 3, 17] = False
    results = []
    for values in (normals, broken):
        leaf = values.requires_grad_()
        out = ops.sh_shading(leaf, light)
        results.append((out, *torch.autograd.grad(out.sum(), leaf)))
    for clean, mine in zip(*results):
        assert torch.equal(mine[others], clean[others])
