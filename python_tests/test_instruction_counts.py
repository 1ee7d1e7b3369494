"""How many instructions the kernels of a rendering step take: a guard against getting slower that no noise disturbs.

The kernels are counted by callgrind at AVX2 (it does not know AVX-512), on one thread. The counts are compared with
instruction_counts.json where the extension comes from the compiler of the record; elsewhere the kernels only run.
FACECORE_RECORD_COUNTS=1 pytest python_tests/test_instruction_counts.py writes the record anew.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checks import at_level

from facecore import _C, ops
from facecore.mesh import Mesh, build_uv_map
from facecore.ops import _library

HERE = pathlib.Path(__file__).resolve().parent
RECORD = HERE / "instruction_counts.json"
# The counts of one machine repeat to 1e-4; what may differ between machines is the C library's copying and filling.
TOLERANCE = 0.03
ROWS, SIZE, TEXELS = 193, 224, 256  # 37,249 vertices, 73,728 triangles in a picture of 224 x 224


@dataclasses.dataclass
class Call:
    """A call of one kernel: the offsets of its arguments in the file of buffers, and what it wrote."""

    kernel: str
    sizes: list[int]
    offsets: list[int | None]
    outputs: list[tuple[int, torch.Tensor]]


class Recorder:
    """Stands in for facecore.ops._library.call, and calls it."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.buffers = bytearray()

    def __call__(self, kernel: str, like: torch.Tensor, sizes: Any, inputs: Any, outputs: Any) -> None:
        inputs = [None if x is None else x.contiguous() for x in inputs]
        before = [self._keep(x) for x in inputs]
        written = [(self._keep(None if x is None else x.zero_()), x) for x in outputs]  # zeros or overwritten
        _library.call(kernel, like, sizes, inputs, outputs)
        name = f"{kernel}_{str(like.dtype).removeprefix('torch.')}"
        results = [(offset, x.clone()) for offset, x in written if x is not None]
        self.calls.append(Call(name, [*sizes], [*before, *(offset for offset, _ in written)], results))

    def _keep(self, tensor: torch.Tensor | None) -> int | None:
        if tensor is None:
            return None
        self.buffers.extend(bytes(-len(self.buffers) % mmap.PAGESIZE))
        offset = len(self.buffers)
        self.buffers.extend(tensor.detach().numpy().tobytes())
        return offset


def sheet() -> Mesh:
    """A bent sheet that fills the picture; its first two coordinates make its layout, too."""
    v, u = torch.meshgrid(torch.linspace(-0.9, 0.9, ROWS), torch.linspace(-0.9, 0.9, ROWS), indexing="ij")
    corner = torch.arange(ROWS - 1).view(-1, 1) * ROWS + torch.arange(ROWS - 1)
    cells = torch.stack((corner, corner + 1, corner + ROWS, corner + 1, corner + ROWS + 1, corner + ROWS), -1)
    points = torch.stack((u, v, 0.4 * u.square() - 0.3 * v.square()), -1).reshape(-1, 3)
    return Mesh(points, cells.reshape(-1, 3), uv=0.5 * points[:, :2] + 0.5, fix_winding=False)


def rendering_step(mesh: Mesh) -> Callable[[], None]:
    """Forward and backward of a picture of the mesh and of its texture."""
    uv_map = build_uv_map(mesh, TEXELS, TEXELS)
    vertices = torch.cat((mesh.vertices, torch.ones(len(mesh.vertices), 1)), 1).unsqueeze(0).requires_grad_()
    light = torch.linspace(-1, 1, 27).view(1, 9, 3).requires_grad_()

    def step() -> None:
        fragments = ops.rasterize(vertices, mesh.triangles, SIZE, SIZE)
        normals = ops.vertex_normals(vertices[..., :3], mesh.triangles)
        attributes = torch.cat((normals, ops.sh_shading(normals, light)), -1)
        pixels = ops.interpolate(attributes, mesh.triangles, fragments.triangle_id, fragments.barycentric)
        picture = ops.surface_shading(pixels[..., :3], pixels[..., 3:], light)[0]
        texture, valid = ops.uv_unwrap(picture.permute(0, 3, 1, 2).contiguous(), vertices, uv_map, fragments)
        assert (fragments.triangle_id >= 0).float().mean() > 0.8 and valid.float().mean() > 0.7
        texture.square().sum().backward()

    return step


def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    step, recorder = rendering_step(sheet()), Recorder()
    with monkeypatch.context() as patch:
        for name, module in [*sys.modules.items()]:
            if name.startswith("facecore.ops.") and name != _library.__name__ and hasattr(module, "call"):
                patch.setattr(module, "call", recorder)
        step()
    return recorder


def replay(recorder: Recorder, folder: pathlib.Path, valgrind: str) -> tuple[dict[str, int], int]:
    """Instructions by kernel, and the instruction set that the driver ran at."""
    (folder / "buffers.bin").write_bytes(recorder.buffers)
    calls = [{"kernel": c.kernel, "sizes": c.sizes, "offsets": c.offsets} for c in recorder.calls]
    (folder / "calls.json").write_text(json.dumps(calls))
    out = folder / "callgrind.out"
    tool = [valgrind, "--tool=callgrind", f"--callgrind-out-file={out}", "--combine-dumps=yes"]
    driver = [sys.executable, "-I", "-S", str(HERE / "replay_kernels.py"), _C.__file__, str(folder)]
    environment = os.environ | {"FACECORE_ISA": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*tool, *driver], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    parts = [int(x) for x in re.findall(r"^totals: (\d+)$", out.read_text(), re.MULTILINE)]
    assert len(parts) == 2 * len(recorder.calls) + 1, parts
    counts = {call.kernel: count for call, count in zip(recorder.calls, parts[1::2])}
    assert len(counts) == len(recorder.calls), "a kernel was called twice"
    check_results(recorder, (folder / "results.bin").read_bytes())
    return counts, json.loads((folder / "driver.json").read_text())["simd_level"]


def check_results(recorder: Recorder, buffers: bytes) -> None:
    """That the counted kernels did the same work: valgrind rounds fused products and reciprocals in its own way."""
    for call in recorder.calls:
        for offset, want in call.outputs:
            got = torch.frombuffer(bytearray(buffers[offset : offset + want.nbytes]), dtype=want.dtype)
            scale = max(1.0, float(want.abs().max())) if want.is_floating_point() else 1.0
            torch.testing.assert_close(got / scale, want.flatten() / scale, rtol=0, atol=1e-4, equal_nan=True)


def deviations(counts: dict[str, int], expected: dict[str, int]) -> list[str]:
    """What differs from the record by more than the tolerance."""
    return [
        f"{name}: {count} instructions, recorded {expected[name]} ({100 * (count / expected[name] - 1):+.1f} %)"
        for name, count in counts.items()
        if abs(count - expected[name]) > TOLERANCE * expected[name]
    ]


def test_a_slower_kernel_is_found():
    expected = json.loads(RECORD.read_text())["counts"]
    assert {"rasterize_float32", "rasterize_backward_float32"} <= expected.keys()
    for name, count in expected.items():
        assert deviations(expected | {name: round(1.02 * count)}, expected) == []
        for factor in (0.96, 1.04):
            (found,) = deviations(expected | {name: round(factor * count)}, expected)
            assert found.startswith(f"{name}: ")


def test_instruction_counts(monkeypatch, tmp_path, thread_count):
    valgrind = shutil.which("valgrind")
    if valgrind is None or platform.machine() != "x86_64":
        pytest.skip("instructions are counted on x86-64 where valgrind is installed")
    thread_count(1)
    with at_level(1):
        recorder = recorded(monkeypatch)
    counts, simd_level = replay(recorder, tmp_path, valgrind)
    got = {"compiler": _C.compiler, "simd_level": simd_level, "counts": counts}
    print(json.dumps(got, indent=2))
    if os.environ.get("FACECORE_RECORD_COUNTS"):
        RECORD.write_text(json.dumps(got, indent=2) + "\n")
    record = json.loads(RECORD.read_text())
    assert counts.keys() == record["counts"].keys()
    if all(got[key] == record[key] for key in ("compiler", "simd_level")):
        found = deviations(counts, record["counts"])
        assert not found, f"{found}; if that is meant, FACECORE_RECORD_COUNTS=1 writes the record anew"
