"""`facecore evaluate`: the protocols of METHODS 8.1 on meshes, pictures and features of any method, and on systems."""

from __future__ import annotations

from typing import Annotated

import tyro

from facecore.cli.evaluate_meshes import Correspondence, DenseNme, PointToPlane, Rmse
from facecore.cli.evaluate_pictures import LandmarkNme, Photometric, VerificationPairs
from facecore.cli.evaluate_recognisability import RecognisabilityOfFaces
from facecore.cli.evaluate_sweeps import Expressions, PoseSweep
from facecore.cli.evaluate_systems import HeldOut, LearnedBases
from facecore.cli.parsing import parse_options

DESCRIPTION = """Measures predictions against the truth by a named protocol. Writes results.json (every number with \
every setting, the version and the commit) and index.html (tables, curves, error maps) to --out.

Example: facecore evaluate point-to-plane predictions/ scans/ --out micc
         facecore evaluate held-out --checkpoint runs/small/model.safetensors --count 200

Predictions that are missing or damaged are counted, listed and skipped; more than --largest-missing of them make the \
exit code 1. 'facecore evaluate PROTOCOL --help' shows the options of a protocol."""

EvaluateCommand = (
    Annotated[PointToPlane, tyro.conf.subcommand("point-to-plane")]
    | Annotated[Rmse, tyro.conf.subcommand("rmse")]
    | Annotated[Correspondence, tyro.conf.subcommand("correspondence")]
    | Annotated[DenseNme, tyro.conf.subcommand("dense-nme")]
    | Annotated[LandmarkNme, tyro.conf.subcommand("landmarks")]
    | Annotated[PoseSweep, tyro.conf.subcommand("pose-sweep")]
    | Annotated[Expressions, tyro.conf.subcommand("expressions")]
    | Annotated[VerificationPairs, tyro.conf.subcommand("verification")]
    | Annotated[Photometric, tyro.conf.subcommand("photometric")]
    | Annotated[HeldOut, tyro.conf.subcommand("held-out")]
    | Annotated[LearnedBases, tyro.conf.subcommand("bases")]
    | Annotated[RecognisabilityOfFaces, tyro.conf.subcommand("recognisability")]
)


def main(argv: list[str]) -> int:
    command: PointToPlane | LandmarkNme | HeldOut = parse_options(
        EvaluateCommand,
        argv,
        prog="facecore evaluate",
        description=DESCRIPTION,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    return command.run()
