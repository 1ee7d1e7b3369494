"""Compiles a loss's Triton launch for a GPU that need not be there, and reads what the machine code uses."""

from __future__ import annotations

import pathlib
import re
import subprocess

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from facecore.losses._triton import Launch

POINTERS = {
    torch.bool: "*i1",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
}
CUOBJDUMP = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


def compiled(launch: Launch, capability: int) -> dict[str, str | bytes]:
    """The kernel's "ptx" and "cubin" for these arguments, specialised as a launch does: 1, None, multiples of 16."""
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(launch.kernel.params):
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr or value is None or (type(value) is int and value == 1):
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = POINTERS[value.dtype]
            attributes[(place,)] = [["tt.divisibility", 16]]
        elif type(value) is int:
            signature[parameter.name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0:
                attributes[(place,)] = [["tt.divisibility", 16]]
        else:
            signature[parameter.name] = parameter.annotation_type or "fp32"
    source = ASTSource(launch.kernel, signature, constants, attributes)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options={"num_warps": launch.num_warps}).asm


def resources(cubin: bytes, folder: pathlib.Path) -> dict[str, int]:
    """Per thread: REG registers, STACK and LOCAL bytes of memory that it spills to; SHARED bytes per program."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    command = [str(CUOBJDUMP), "-res-usage", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", text)}
