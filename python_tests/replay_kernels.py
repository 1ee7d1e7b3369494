"""Calls the extension's kernels with recorded arguments, without torch: test_instruction_counts.py counts them.

python replay_kernels.py EXTENSION FOLDER: FOLDER holds calls.json and buffers.bin, and gets results.bin, the buffers as
the kernels leave them, and driver.json. Callgrind is told to end a part of its counts before and after every kernel, so
every second part is one kernel and the few thousand instructions of a call from Python.
"""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import json
import mmap
import pathlib
import sys
from collections.abc import Callable

# A request to valgrind is a sequence of instructions that does nothing elsewhere. As a function of the address of
# (request, 5 arguments): mov rax, rdi; rol rdi, 3; rol rdi, 13; rol rdi, 61; rol rdi, 51; xchg rbx, rbx; ret
REQUEST = bytes.fromhex("4889f8 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db c3")
DUMP_COUNTS = ord("C") << 24 | ord("T") << 16  # CALLGRIND_DUMP_STATS


def make_mark() -> Callable[[], object]:
    """A function that ends a part of callgrind's counts, on x86-64."""
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(REQUEST)
    code = ctypes.c_char.from_buffer(memory)
    arguments = (ctypes.c_uint64 * 6)(DUMP_COUNTS)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.addressof(code))

    def mark(code: object = code) -> None:  # holds the code
        function(ctypes.addressof(arguments))

    return mark


def load(extension: str) -> object:
    """facecore._C alone: importing the package would load torch, which takes minutes under callgrind."""
    loader = importlib.machinery.ExtensionFileLoader("_C", extension)
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("_C", extension, loader=loader))
    loader.exec_module(module)
    return module


def main() -> None:
    extension, folder = load(sys.argv[1]), pathlib.Path(sys.argv[2])
    calls = json.loads((folder / "calls.json").read_text())
    mark = make_mark()
    with (folder / "buffers.bin").open("rb") as file:
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)  # page by page, so every buffer is aligned
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for call in calls:
        kernel = getattr(extension, call["kernel"])
        addresses = [0 if offset is None else start + offset for offset in call["offsets"]]
        arguments = ((-1, 0), *call["sizes"], *addresses)
        mark()
        kernel(*arguments)
        mark()
    (folder / "results.bin").write_bytes(memory)
    (folder / "driver.json").write_text(json.dumps({"simd_level": extension.simd_level()}))


if __name__ == "__main__":
    main()
