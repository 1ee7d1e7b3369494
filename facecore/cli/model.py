"""`facecore model`: lists, shows and converts morphable models."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Annotated, Any, Literal

import tyro

from facecore.cli.errors import UsageError
from facecore.cli.parsing import check_exists, in_options, parse_options
from facecore.errors import OptionError
from facecore.morphable import MorphableModel, load

DESCRIPTION = """Lists, shows and converts morphable models.

Example: facecore model convert ICT-FaceKit ict_face.npz --region face --refine 1

MODEL is 'procedural' (built in) or a path; the kind of a file or folder is recognised from its content."""

NUM_MODES = ("num_identity", "num_expression", "num_albedo")
LINEAR_OPTIONS = "--landmarks --num-identity --num-expression --num-albedo"
KINDS = (
    ("procedural", "built in, nothing to download", "--num-vertices"),
    ("facecore .npz", "what 'facecore model convert' writes", ""),
    (
        "ICT-FaceKit",
        "npz conversion, or a clone of github.com/ICT-VGL/ICT-FaceKit (MIT licence)",
        "--region --refine --albedo",
    ),
    (
        "BFM 2009 (.mat)",
        "the Basel Face Model, its 300W-LP cut (BFM.mat) and its Deep3D cut (BFM_model_front.mat or its parts' folder)",
        LINEAR_OPTIONS,
    ),
    ("BFM 2017, 2019 (.h5)", "statismo's layout; needs h5py", LINEAR_OPTIONS),
    ("FLAME (.pkl, .npz)", "identity and expressions, without joints and albedo", LINEAR_OPTIONS),
    ("eos (.bin)", "such as the Surrey Face Model", f"{LINEAR_OPTIONS} --expressions"),
)


@dataclasses.dataclass(frozen=True)
class ModelList:
    """The kinds of models that can be read, and their options.

    Example: facecore model list
    """

    json: bool = False
    """Print as JSON."""


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """How to read the model; an option that its kind does not have is refused."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """'procedural', or the path of a model."""
    num_vertices: int | None = None
    """Procedural: about how many vertices."""
    region: Literal["narrow", "face", "head"] | None = None
    """ICT: which part of the head (default face)."""
    refine: Literal[0, 1] | None = None
    """ICT: 1 adds edge midpoints and quad centres (default 0)."""
    albedo: Literal["procedural", "none"] | None = None
    """ICT: whether to attach the built-in albedo (default procedural)."""
    landmarks: pathlib.Path | None = None
    """BFM, FLAME, eos: file of the 68 vertices (.npy, .txt, .json from 0, .mat from 1), where the model names none."""
    expressions: pathlib.Path | None = None
    """eos: file of blendshapes."""
    num_identity: int | None = None
    """BFM, FLAME, eos: identity modes to keep (default all; Deep3D's parts 80)."""
    num_expression: int | None = None
    """BFM, FLAME, eos: expression modes to keep (default all; Deep3D's parts 64)."""
    num_albedo: int | None = None
    """BFM, eos: albedo modes to keep (default all; Deep3D's parts 80)."""


@dataclasses.dataclass(frozen=True)
class ModelShow(LoadOptions):
    """The parts and sizes of a model.

    Example: facecore model show ICT-FaceKit --region face --json
    """

    json: bool = False
    """Print as JSON."""


@dataclasses.dataclass(frozen=True)
class ModelConvert(LoadOptions):
    """Writes a model as a facecore npz, which loads quickly and carries everything.

    Example: facecore model convert ICT-FaceKit ict_face.npz --refine 1
    """

    out: Annotated[tyro.conf.Positional[pathlib.Path], tyro.conf.arg(metavar="OUT")] = dataclasses.field(kw_only=True)
    """The file to write, ending in .npz."""
    name: str | None = None
    """The name to store (default: the model's own)."""


ModelCommand = (
    Annotated[ModelList, tyro.conf.subcommand("list")]
    | Annotated[ModelShow, tyro.conf.subcommand("show")]
    | Annotated[ModelConvert, tyro.conf.subcommand("convert")]
)


def main(argv: list[str]) -> int:
    command: Any = parse_options(
        ModelCommand,
        argv,
        prog="facecore model",
        description=DESCRIPTION,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )
    return run(command)


def run(args: ModelList | ModelShow | ModelConvert) -> int:
    """Runs one sub-command; returns the exit code. Raises ValueError, OSError or UsageError with one line."""
    if isinstance(args, ModelList):
        _list(args)
    elif isinstance(args, ModelConvert):
        _convert(args)
    else:
        summary = describe(_load(args))
        print(json.dumps(summary, indent=1) if args.json else _table(list(summary.items())))
    return 0


def describe(model: MorphableModel) -> dict[str, Any]:
    """What the model holds, as plain values; sizes in mm."""
    size = (model.template.max(0).values - model.template.min(0).values).tolist()
    prior = "a few weights in [0, 1] at a time" if model.prior.blendshapes is not None else "normal"
    return {
        "name": model.name,
        "vertices": model.num_vertices,
        "triangles": model.num_triangles,
        "identity modes": model.num_identity,
        "expression modes": model.num_expression,
        "expression prior": prior,
        "albedo modes": model.num_albedo,
        "albedo source": model.albedo_source or "none",
        "mirror map": model.mirror_map is not None,
        "uv": model.uv is not None,
        "regions": {name: int(mask.sum()) for name, mask in model.regions.items()},
        "size (mm)": [round(length, 1) for length in size],
        "source": model.source or "not given",
        "content hash": model.content_hash(),
    }


def _load(args: LoadOptions) -> MorphableModel:
    if args.model != "procedural":
        check_exists(MODEL=args.model)
    check_exists(landmarks=args.landmarks, expressions=args.expressions)
    options: dict[str, Any] = {
        key: getattr(args, key)
        for key in ("num_vertices", "region", "refine", "landmarks", "expressions", *NUM_MODES)
        if getattr(args, key) is not None
    }
    if args.albedo is not None:
        options["albedo"] = None if args.albedo == "none" else args.albedo
    try:
        return load(args.model, **options)
    except OptionError as error:
        raise UsageError(in_options(str(error))) from error


def _list(args: ModelList) -> None:
    if args.json:
        fields = ("kind", "what", "options")
        print(json.dumps([dict(zip(fields, kind)) for kind in KINDS], indent=1))
    else:
        print(_table([(kind, what + (f"; options {options}" if options else "")) for kind, what, options in KINDS]))


def _convert(args: ModelConvert) -> None:
    if args.out.suffix != ".npz":
        raise UsageError(f"OUT must end in .npz, got {args.out}")
    model = _load(args)
    if args.name is not None:
        model = dataclasses.replace(model, name=args.name)
    model.save(args.out)
    megabytes = args.out.stat().st_size / 1e6
    print(f"{args.out}: {model.name}, {model.num_vertices} vertices, {megabytes:.1f} MB")


def _table(rows: list[tuple[str, Any]]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, dict):
            return ", ".join(f"{key} {count}" for key, count in value.items()) or "none"
        return " x ".join(map(str, value)) if isinstance(value, list) else str(value)

    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:<{width}}  {text(value)}" for key, value in rows)
