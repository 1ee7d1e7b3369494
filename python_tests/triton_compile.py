"""Compiles a loss's Triton launch for a GPU that need not be there, and reads what the machine code uses."""

from __future__ import annotations

import dataclasses
import pathlib
import re
import subprocess

import triton
from triton.backends.compiler import GPUTarget

from facecore.losses._triton import Launch

CUOBJDUMP = pathlib.Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"


@dataclasses.dataclass(frozen=True)
class AbsentGpu:
    """What Triton asks of a driver. The device has the number of its capability: Triton keeps kernels by device."""

    capability: int

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.capability, 32)

    def get_current_device(self) -> int:
        return self.capability

    def get_current_stream(self, device: int) -> int:
        return 0


def compiled(launch: Launch, capability: int) -> dict[str, str | bytes]:
    """The kernel's "ptx" and "cubin", made and specialised as a launch with these very arguments would."""
    driver = triton.runtime.driver
    driver.set_active(AbsentGpu(capability))
    try:
        kernel = launch.kernel.warmup(grid=(launch.programs,), **launch.arguments, num_warps=launch.num_warps)
    finally:
        driver.set_active(None)  # it then looks for a real one again; reset_active() fails where there is none
    return kernel.asm


def resources(cubin: bytes, folder: pathlib.Path) -> dict[str, int]:
    """Per thread: REG registers, STACK and LOCAL bytes of memory that it spills to; SHARED bytes per program."""
    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    command = [str(CUOBJDUMP), "-res-usage", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(number) for name, number in re.findall(r"\b(REG|STACK|LOCAL|SHARED):(\d+)", text)}
