"""The one way an operator is registered with torch, checks its arguments and calls its kernel."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch

from facecore import _C

P = ParamSpec("P")
R = TypeVar("R")

_LIBRARY = torch.library.Library("facecore", "DEF")

FLOATS = (torch.float32, torch.float64)
INT32 = (torch.int32,)
_HALF_PRECISION = (torch.bfloat16, torch.float16)
_CPU, _EMULATED = -1, -2  # the host as Device of csrc/core/launch.h knows it
_host = _CPU


def emulate_cuda(enabled: bool) -> bool:
    """Lets CPU tensors go through the bodies that CUDA runs, one item after the other, and returns the setting before.

    For tests: so what a GPU computes is looked at without one. Slow; the warps of rasterize are all that it leaves out.
    """
    global _host
    before, _host = _host == _EMULATED, _EMULATED if enabled else _CPU
    return before


def takes_cuda_bodies(tensor: torch.Tensor) -> bool:
    """Whether kernels on this tensor's device are those of CUDA, with their workspaces."""
    return tensor.is_cuda or _host == _EMULATED


def gathers(tensor: torch.Tensor) -> bool:
    """Whether a gradient on this tensor's device has to be gathered: where atomics would add in any order, but may not.

    The CPU's kernels add in a fixed order always.
    """
    return takes_cuda_bodies(tensor) and torch.are_deterministic_algorithms_enabled()


def check_tensor(
    name: str,
    tensor: Any,
    shape: Sequence[int | str],
    dtypes: Sequence[torch.dtype] = FLOATS,
    *,
    like: torch.Tensor | None = None,
    sizes: dict[str, int] | None = None,
) -> dict[str, int]:
    """Checks one argument and binds the letters of `shape` to its sizes.

    `shape` mixes numbers with letters; a letter already in `sizes` must match. With `like`, the device must be the
    same, and the dtype too when both are floating point. Raises ValueError naming the argument, what was expected
    and what came.
    """
    sizes = {} if sizes is None else sizes
    check_tensors(**{name: tensor})
    expected = [sizes.get(s, s) if isinstance(s, str) else s for s in shape]
    got = tensor.shape
    if len(got) != len(expected) or any(not isinstance(e, str) and e != g for e, g in zip(expected, got)):
        pattern = ", ".join(str(e) for e in expected)
        raise ValueError(f"{name} must have shape [{pattern}], got {list(got)}")
    if tensor.dtype not in dtypes:
        names = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
        raise ValueError(f"{name} must have dtype {names}, got {str(tensor.dtype).removeprefix('torch.')}")
    if like is not None:
        if tensor.device != like.device:
            raise ValueError(f"{name} must be on {like.device} like the first argument, got {tensor.device}")
        if tensor.is_floating_point() and like.is_floating_point() and tensor.dtype != like.dtype:
            raise ValueError(f"{name} must have dtype {like.dtype} like the first argument, got {tensor.dtype}")
    for letter, size in zip(shape, got):
        if isinstance(letter, str):
            sizes[letter] = size
    return sizes


def check_tensors(**arguments: Any) -> None:
    """Raises ValueError naming the first argument that is not a tensor: torch's own errors would not."""
    for name, argument in arguments.items():
        if not isinstance(argument, torch.Tensor):
            raise ValueError(f"{name} must be a torch.Tensor, got {type(argument).__name__}")


def call(
    kernel: str,
    like: torch.Tensor,
    sizes: Sequence[int | float],
    inputs: Sequence[torch.Tensor | None],
    outputs: Sequence[torch.Tensor | None],
) -> None:
    """Calls `_C.<kernel>_<dtype of like>(device, *sizes, *inputs, *outputs)` on `like`'s device and current stream.

    Inputs of any strides are made contiguous here, and only here; outputs must be contiguous and are written in place.
    """
    function = getattr(_C, f"{kernel}_{str(like.dtype).removeprefix('torch.')}")
    kept = [None if t is None else t.contiguous() for t in inputs]  # holds the copies until the kernel has been queued
    if not all(t is None or t.is_contiguous() for t in outputs):
        raise RuntimeError(f"internal error: an output of {kernel} is not contiguous")
    addresses = [0 if t is None else t.data_ptr() for t in (*kept, *outputs)]
    if like.device.type == "cpu":
        function((_host, 0), *sizes, *addresses)
        return
    index = like.device.index
    with torch.cuda.device(index):
        function((index, torch._C._cuda_getCurrentRawStream(index)), *sizes, *addresses)


def make_op(
    name: str,
    schema: str,
    kernel: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    setup: Callable[..., None] | None = None,
    backward: Callable[..., Any] | None = None,
    jvp: Callable[..., Any] | None = None,
    vmap: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Registers facecore::<name> for CPU and CUDA and returns the function to call.

    kernel(*args) computes; fake(*args) checks the arguments and returns empty results (the kernel calls it first, so
    eager, compiled and direct calls are protected alike). setup(ctx, inputs, output) saves what
    backward(ctx, *grads) needs; backward is made of other make_op functions or differentiable torch code, so that
    second derivatives compose. An op without a backward raises when it is differentiated: never a silent zero.

    Under torch.autocast half-precision arguments are taken as float32; their gradients come back in their own dtype.

    The returned function takes the fastest route of three: a plain autograd.Function in eager mode, a functorch
    style one under torch.func transforms, the registered operator under torch.compile and export.
    """
    qualified = f"facecore::{name}"
    _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
    for key in ("CPU", "CUDA"):
        _LIBRARY.impl(name, kernel, key)
    torch.library.register_fake(qualified, fake, lib=_LIBRARY)
    op = getattr(torch.ops.facecore, name).default
    if vmap is not None:
        torch.library.register_vmap(qualified, vmap, lib=_LIBRARY)
    if (setup is None) != (backward is None):
        raise ValueError(f"{qualified}: setup and backward come together")
    save = _no_setup if setup is None else setup
    backward = _refusal(qualified) if backward is None else backward
    torch.library.register_autograd(qualified, backward, setup_context=save, lib=_LIBRARY)

    class Eager(torch.autograd.Function):  # combined-context style: half the overhead of setup_context
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                output = op(*args)
            save(ctx, args, output)
            ctx.tensor_places = [i for i, argument in enumerate(args) if isinstance(argument, torch.Tensor)]
            return output

    class Functorch(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return op(*args)

        setup_context = staticmethod(save)

    for function in (Eager, Functorch):
        function.__name__ = f"{name}_{function.__name__}"
        function.backward = staticmethod(backward)  # type: ignore[method-assign]
        if jvp is not None:
            function.jvp = staticmethod(jvp)  # type: ignore[method-assign]
    if vmap is not None:
        Functorch.vmap = staticmethod(vmap)  # type: ignore[method-assign]

    @takes_halves_under_autocast
    def call_op(*args: Any) -> Any:
        if torch.compiler.is_compiling():
            return op(*args)
        if torch._C._are_functorch_transforms_active():
            if jvp is not None:
                _refuse_nested_forward_mode(qualified)
            return Functorch.apply(*args)
        return Eager.apply(*args)

    call_op.__name__ = name
    call_op.op = op  # type: ignore[attr-defined]
    return call_op


def _refuse_nested_forward_mode(name: str) -> None:
    """torch runs a custom jvp blind to an outer forward mode: the second derivative would be 0 without a word."""
    functorch = torch._C._functorch
    levels = functorch.get_interpreter_stack() or ()
    if sum(level.key() == functorch.TransformType.Jvp for level in levels) > 1:
        raise NotImplementedError(f"{name}: forward mode over forward mode is wrong in torch: take two reverses")


def wanted_gradients(ctx: Any) -> tuple[bool, ...]:
    """Which arguments of a make_op operator this very backward pass needs the gradients of, one bool per argument.

    ctx.needs_input_grad says which require one at all; torch.autograd.grad(..., inputs) often asks for fewer, as a
    gradient penalty does. Without eager autograd's graph at hand (compiled, torch.func) it is needs_input_grad.
    """
    wanted = list(ctx.needs_input_grad)
    if (places := getattr(ctx, "tensor_places", None)) is None:
        return tuple(wanted)
    for place, (node, _) in zip(places, ctx.next_functions):  # one edge per tensor argument
        if node is not None and wanted[place]:
            wanted[place] = _will_run(node)
    return tuple(wanted)


def _will_run(node: Any) -> bool:
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # how torch answers for a leaf that is among the inputs of torch.autograd.grad: it is wanted
        return True


def map_one_by_one(function: Callable[..., Any], info: Any, in_dims: Any, args: Any) -> Any:
    """A vmap rule: one call after the other, for arguments that an operator cannot take as more images of a batch."""
    calls = [
        function(*(a if dim is None else a.select(dim, i) for a, dim in zip(args, in_dims)))
        for i in range(info.batch_size)
    ]
    if isinstance(calls[0], torch.Tensor):
        return torch.stack(calls), 0
    return tuple(torch.stack(outputs) for outputs in zip(*calls)), (0,) * len(calls[0])


def map_images(function: Callable[..., Any], info: Any, in_dims: Any, args: Any) -> Any:
    """A vmap rule where only the first argument [N, ...] may be mapped: its maps are more images of the batch."""
    if any(dim is not None for dim in in_dims[1:]):
        return map_one_by_one(function, info, in_dims, args)
    mapped = args[0].movedim(in_dims[0], 0)
    return function(mapped.flatten(0, 1), *args[1:]).unflatten(0, mapped.shape[:2]), 0


def takes_halves_under_autocast(function: Callable[P, R]) -> Callable[P, R]:
    """The function, given half-precision tensors as float32 under torch.autocast on their device.

    A decorator of what checks dtypes before it calls a make_op operator, which is decorated by this itself.
    """

    @functools.wraps(function)
    def call_in_full_precision(*args: P.args, **options: P.kwargs) -> R:
        if torch._C._is_any_autocast_enabled():  # one cheap question in place of one for each argument
            args = tuple(_in_full_precision(argument) for argument in args)  # type: ignore[assignment]
            options = {name: _in_full_precision(value) for name, value in options.items()}  # type: ignore[assignment]
        return function(*args, **options)

    return call_in_full_precision


def _in_full_precision(argument: Any) -> Any:
    """Under torch.autocast, a half-precision tensor as float32; anything else as it is."""
    if (
        isinstance(argument, torch.Tensor)
        and argument.dtype in _HALF_PRECISION
        and torch.is_autocast_enabled(argument.device.type)
    ):
        return argument.float()
    return argument


def _no_setup(ctx: Any, inputs: Any, output: Any) -> None:
    return None


def _refusal(qualified: str) -> Callable[..., Any]:
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(f"{qualified} has no derivative; detach its result or its inputs")

    return backward
