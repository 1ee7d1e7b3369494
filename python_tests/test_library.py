"""facecore.ops._library: registration, refusals, and what it relies on in torch and in the process."""

from __future__ import annotations

import operator
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import torch

import facecore
from facecore import ops
from facecore.ops import _library
from facecore.ops._library import check_tensor, make_op
from facecore.structures import SparseMatrix

PACKAGE = pathlib.Path(facecore.__file__).parent
ONLY_IN_CUDA_BUILDS = {"._C._cuda_getCurrentRawStream"}


def cubed_kernel(x: torch.Tensor) -> torch.Tensor:
    return cubed_fake(x).copy_(x.detach() ** 3)


def cubed_fake(x: torch.Tensor) -> torch.Tensor:
    check_tensor("x", x, ("N",))
    return torch.empty_like(x)


def save_inputs(ctx, inputs, output):
    ctx.save_for_backward(*inputs)


def cubed_backward(ctx, grad):
    (x,) = ctx.saved_tensors
    return grad * 3 * x**2


cubed = make_op(
    "test_cubed", "(Tensor x) -> Tensor", cubed_kernel, cubed_fake, setup=save_inputs, backward=cubed_backward
)
constant = make_op("test_constant", "(Tensor x) -> Tensor", cubed_kernel, cubed_fake)


def test_every_private_name_of_torch_exists():
    """A torch version that drops one must fail here, by name, and not inside a training run."""
    sources = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    names = set(re.findall(r"\btorch((?:\.\w+)*\._\w+(?:\.\w+)*)", sources))
    assert {"._C._AutoDispatchBelowAutograd", ".autograd.forward_ad._current_level"} <= names
    if torch.version.cuda is None:
        names -= ONLY_IN_CUDA_BUILDS
    assert [name for name in sorted(names) if not exists(name)] == []


def exists(name: str) -> bool:
    try:
        operator.attrgetter(name[1:])(torch)
    except AttributeError:
        return False
    return True


def test_derivatives_of_both_orders():
    x = torch.randn(5, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    assert torch.autograd.gradcheck(cubed, (x,))
    assert torch.autograd.gradgradcheck(cubed, (x,))


def test_every_route_agrees():
    x = torch.tensor([1.0, 2.0, -3.0])
    expected = 3 * x**2
    torch._dynamo.reset()
    routes = {
        "functorch": torch.func.grad(lambda x: cubed(x).sum())(x),
        "eager": torch.autograd.grad(cubed(x.requires_grad_()).sum(), x)[0],
        "registered": torch.autograd.grad(cubed.op(x).sum(), x)[0],
        "compiled": torch.autograd.grad(torch.compile(cubed, fullgraph=True, backend="aot_eager")(x).sum(), x)[0],
    }
    for name, got in routes.items():
        torch.testing.assert_close(got, expected, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_autocast_takes_half_precision_as_float32(device, dtype, compiled):
    torch._dynamo.reset()
    function = torch.compile(cubed, fullgraph=True, backend="aot_eager") if compiled else cubed
    x = torch.tensor([1.0, 2.0, -3.0], dtype=dtype, device=device).requires_grad_()
    with torch.autocast(device.type, dtype=dtype):
        out = function(x)
    assert out.dtype == torch.float32
    (grad,) = torch.autograd.grad(out.sum(), x)
    assert grad.dtype == dtype
    assert grad.tolist() == [3, 12, 27]
    with torch.autocast(device.type, dtype=dtype):  # double precision was asked for by name: it is kept
        assert cubed(x.detach().double()).dtype == torch.float64
    with pytest.raises(ValueError, match=f"x must have dtype float32 or float64, got {str(dtype)[6:]}"):
        cubed(x)


def test_autocast_of_another_device_changes_nothing():
    with (
        torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_available()),
        pytest.raises(ValueError, match="x must have dtype float32 or float64, got bfloat16"),
    ):
        cubed(torch.ones(2, dtype=torch.bfloat16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_operators_follow_layers_under_autocast(device, dtype):
    """A layer under autocast gives half precision; the operators after it compute in float32."""
    linear = torch.nn.Linear(4, 4).to(device)
    laplacian = SparseMatrix.from_scipy(scipy.sparse.eye(5)).to(device)
    weight = torch.ones(3, 4, 2, device=device, requires_grad=True)
    triangles = torch.tensor([[0, 1, 2]], dtype=torch.int32, device=device)
    triangle_id = torch.zeros(1, 2, 2, dtype=torch.int32, device=device)
    barycentric = torch.full((1, 2, 2, 3), 1 / 3, device=device)
    features = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(1)).to(device)
    with torch.autocast(device.type, dtype=dtype):
        half = linear(features)
        convolved = ops.chebyshev_conv(half, laplacian, weight)
        pixels = ops.interpolate(half, triangles, triangle_id, barycentric)
        full = half.detach().float()
        assert torch.equal(convolved, ops.chebyshev_conv(full, laplacian, weight))
        assert torch.equal(pixels, ops.interpolate(full, triangles, triangle_id, barycentric))
    assert half.dtype == dtype
    assert convolved.dtype == pixels.dtype == torch.float32
    grads = torch.autograd.grad(convolved.sum() + pixels.sum(), (half, weight, linear.weight))
    assert [grad.dtype for grad in grads] == [dtype, torch.float32, torch.float32]
    assert all(grad.abs().max() > 0 for grad in grads)


@pytest.mark.parametrize("function", [constant, constant.op], ids=["eager", "registered"])
def test_an_op_without_a_gradient_refuses(function):
    """Never a silent zero: opcheck alone does not notice a missing gradient."""
    x = torch.ones(3, requires_grad=True)
    torch.testing.assert_close(constant(x.detach()), torch.ones(3))
    with pytest.raises(RuntimeError, match="facecore::test_constant has no derivative"):
        function(x).sum().backward()


def test_forward_mode_without_a_rule_refuses():
    """torch's own registration would return a zero tangent without an error."""
    with torch.autograd.forward_ad.dual_level():
        x = torch.autograd.forward_ad.make_dual(torch.ones(3), torch.ones(3))
        with pytest.raises(RuntimeError, match="jvp"):
            cubed(x)


def test_a_backward_needs_a_setup():
    with pytest.raises(ValueError, match="facecore::test_no_setup: setup and backward come together"):
        make_op("test_no_setup", "(Tensor x) -> Tensor", cubed_kernel, cubed_fake, backward=cubed_backward)


@pytest.mark.parametrize(
    "route",
    [cubed, cubed.op, torch.compile(cubed, backend="eager", dynamic=False)],
    ids=["eager", "registered", "compiled"],
)
def test_every_route_checks_its_arguments(route):
    torch._dynamo.reset()
    with pytest.raises(Exception, match=r"x must have shape \[N\], got \[2, 2\]"):
        route(torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("tensor", "arguments", "message"),
    [
        (None, {"shape": ("N",)}, "x must be a torch.Tensor, got NoneType"),
        (torch.zeros(2), {"shape": ("N", 3)}, r"x must have shape \[N, 3\], got \[2\]"),
        (torch.zeros(2), {"shape": ("N",), "sizes": {"N": 4}}, r"x must have shape \[4\], got \[2\]"),
        (torch.zeros(2, dtype=torch.int32), {"shape": ("N",)}, "x must have dtype float32 or float64, got int32"),
        (torch.zeros(2), {"shape": ("N",), "like": torch.zeros(1, dtype=torch.float64)}, "dtype torch.float64 like"),
        (torch.zeros(2, device="meta"), {"shape": ("N",), "like": torch.zeros(1)}, "x must be on cpu like the first"),
    ],
)
def test_check_tensor_names_the_argument(tensor, arguments, message):
    with pytest.raises(ValueError, match=message):
        check_tensor("x", tensor, **arguments)


X, INDICES = torch.zeros(1, 3, 3), torch.zeros(1, 3, dtype=torch.int32)
MATRIX = SparseMatrix.from_scipy(scipy.sparse.eye(3))


@pytest.mark.parametrize("other", [np.zeros((1, 3, 3), np.float32), [[[0.0]]], None], ids=["array", "list", "None"])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (ops.rasterize, {"triangles": INDICES, "height": 4, "width": 4}, "vertices_clip"),
        (ops.rasterize, {"vertices_clip": torch.zeros(1, 3, 4), "height": 4, "width": 4}, "triangles"),
        (ops.interpolate, {"triangles": INDICES, "triangle_id": INDICES[None], "barycentric": X[None]}, "attributes"),
        (ops.interpolate, {"attributes": X, "triangle_id": INDICES[None], "barycentric": X[None]}, "triangles"),
        (ops.interpolate, {"attributes": X, "triangles": INDICES, "barycentric": X[None]}, "triangle_id"),
        (ops.interpolate, {"attributes": X, "triangles": INDICES, "triangle_id": INDICES[None]}, "barycentric"),
        (ops.vertex_normals, {"triangles": INDICES}, "vertices"),
        (ops.vertex_normals, {"vertices": X}, "triangles"),
        (ops.sh_shading, {"sh_coefficients": torch.zeros(1, 9, 3)}, "normals"),
        (ops.sh_shading, {"normals": X}, "sh_coefficients"),
        (ops.surface_shading, {"albedo": X, "sh_coefficients": torch.zeros(1, 9, 3)}, "normals"),
        (ops.surface_shading, {"normals": X, "sh_coefficients": torch.zeros(1, 9, 3)}, "albedo"),
        (ops.surface_shading, {"normals": X, "albedo": X}, "sh_coefficients"),
        (ops.sparse_matmul, {"matrix": MATRIX}, "x"),
        (ops.chebyshev_conv, {"laplacian": MATRIX, "weight": X}, "x"),
        (ops.chebyshev_conv, {"laplacian": MATRIX, "x": X}, "weight"),
        (ops.chebyshev_conv, {"laplacian": MATRIX, "x": X, "weight": X}, "bias"),
    ],
)
def test_operators_name_an_argument_that_is_no_tensor(function, arguments, name, other):
    if name == "bias" and other is None:
        assert function(**arguments, bias=None).shape == (1, 3, 3)
        return
    with pytest.raises(ValueError, match=f"^{name} must be a torch.Tensor, got (ndarray|list|NoneType)$"):
        function(**arguments, **{name: other})


def test_check_tensor_binds_letters():
    assert check_tensor("x", torch.zeros(2, 5, 3), ("N", "V", 3), sizes={"N": 2}) == {"N": 2, "V": 5}


def test_outputs_must_be_contiguous():
    with pytest.raises(RuntimeError, match="an output of interpolate is not contiguous"):
        _library.call("interpolate", torch.zeros(1), (), (), (torch.zeros(3, 2).T,))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_one_openmp_runtime_is_mapped(tmp_path):
    """Two runtimes cost 80 times the run time of small kernels, and torch.set_num_threads would not bind ours."""
    script = """
import re
import facecore.ops
from facecore import _C
import torch
torch.set_num_threads(1)
maps = open("/proc/self/maps").read()
print(sorted(set(re.findall(r"\\S*(?:libgomp|libomp|libiomp)[^/\\s]*$", maps, re.MULTILINE))))
print(_C.max_threads())
"""
    command = [sys.executable, "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    lines = result.stdout.split("\n")
    assert len(re.findall(r"'", lines[0])) == 2, f"expected one OpenMP runtime, mapped are {lines[0]}"
    assert lines[1] == "1", "torch.set_num_threads does not bind facecore's threads"
