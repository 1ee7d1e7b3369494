"""Entry point of the `facecore` command: finds the sub-command, turns errors into one line and an exit code."""

from __future__ import annotations

import importlib
import sys

from facecore.errors import OptionError

COMMANDS = {
    "doctor": "what was found on this machine: torch, CUDA, kernels, threads; remedies",
    "demo": "train a small model on synthetic faces, then reconstruct a photograph; writes index.html",
    "train": "train a system, or a recognition or segmentation network",
    "reconstruct": "photographs to faces: GLB, OBJ, NPZ, overlay, index.html",
    "fit": "landmarks of several photographs of a person to one face of a morphable model",
    "transfer": "expression, pose and light from one face to another; new light; sequences",
    "evaluate": "errors by the protocols of the field: meshes, landmarks, verification, held-out renders, poses",
    "compare": "trained systems on the same renders, as one table",
    "ablate": "train variants that differ in one thing; which claims of the paper hold",
    "data": "prepare photographs for training; check what training would read; features of faces",
    "model": "list, show and convert morphable models",
    "benchmark": "time every kernel beside other implementations, or compare two such runs; writes index.html",
}
DONE, FAILED, BAD_USAGE = 0, 1, 2


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns 0 done, 1 failed, 2 bad usage. --debug shows the traceback of an error."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return DONE
    if arguments[0] == "--version":
        from facecore import __version__

        print(f"facecore {__version__}")
        return DONE
    name = arguments.pop(0)
    if name not in COMMANDS:
        print(f"facecore: no command '{name}'; choose one of {', '.join(COMMANDS)}", file=sys.stderr)
        return BAD_USAGE
    try:
        result: int = importlib.import_module(f"facecore.cli.{name}").main(arguments)
        return result
    except SystemExit:  # how --help ends
        return DONE
    except KeyboardInterrupt:
        print(f"facecore {name}: stopped", file=sys.stderr)
        return FAILED
    except Exception as error:
        if debug:
            raise
        reason = " ".join(str(error).split())
        if not isinstance(error, (ValueError, OSError, RuntimeError, ImportError)):  # nobody meant to raise it
            reason = f"{type(error).__name__}: {reason}; this is a bug: report it with the output of --debug"
        print(f"facecore {name}: {reason}", file=sys.stderr)
        return BAD_USAGE if isinstance(error, OptionError) else FAILED


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        ["usage: facecore COMMAND [OPTIONS]", "", *lines, "", "'facecore COMMAND --help' shows options and an example."]
    )


if __name__ == "__main__":
    sys.exit(main())
