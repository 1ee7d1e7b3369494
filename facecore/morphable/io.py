"""Reading and writing morphable models: the facecore npz, and `load`, which recognises every kind by its content."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import os
import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

from facecore.errors import OptionError
from facecore.morphable.model import MorphableModel
from facecore.morphable.prior import BlendshapePrior, Prior
from facecore.morphable.recognise import (
    BFM_300WLP,
    BFM_2009,
    DEEP3D,
    EOS,
    FACECORE,
    FLAME,
    FORMAT,
    ICT,
    STATISMO,
    recognise,
)

FORMAT_VERSION = 1
_TENSORS = (
    "template",
    "triangles",
    "identity_basis",
    "identity_std",
    "expression_basis",
    "expression_std",
    "landmarks68",
    "albedo_mean",
    "albedo_basis",
    "albedo_std",
    "mirror_map",
    "uv",
    "origin",
)
_NAMES = ("identity_names", "expression_names", "albedo_names")
_PRIOR = ("identity_mean", "identity_std", "expression_mean", "expression_std", "albedo_mean", "albedo_std")
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, KeyError, ValueError, TypeError, NotImplementedError)


def model_arrays(model: MorphableModel) -> dict[str, np.ndarray]:
    """Every array of the model by its name in the file; all that decides a result, so `content_hash` reads it too."""
    arrays = {key: getattr(model, key) for key in _TENSORS if getattr(model, key) is not None}
    arrays |= {f"region/{key}": mask for key, mask in model.regions.items()}
    arrays |= {f"prior/{key}": getattr(model.prior, key) for key in _PRIOR}
    blendshapes = model.prior.blendshapes
    if blendshapes is not None:
        arrays |= {"blendshapes/partner": blendshapes.partner, "blendshapes/scaled_by": blendshapes.scaled_by}
        arrays["blendshapes/rule"] = torch.tensor([blendshapes.activity, blendshapes.symmetry], dtype=torch.float64)
    result = {key: value.detach().cpu().numpy() for key, value in arrays.items()}
    return result | {key: np.array(getattr(model, key), dtype=np.str_) for key in _NAMES}


def save_model(model: MorphableModel, path: str | os.PathLike[str]) -> None:
    """Writes the facecore npz atomically (temporary name in the same folder, then rename).

    Raises ValueError for another ending, OSError with the file's name when it cannot be written.
    """
    target = pathlib.Path(path)
    if target.suffix != ".npz":
        raise ValueError(f"the file name must end in .npz, got {target.name}")
    header = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "name": model.name,
        "albedo_source": model.albedo_source,
        "source": model.source,
        "content_hash": model.content_hash(),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.savez(file, header=np.array(json.dumps(header)), **model_arrays(model))  # type: ignore[arg-type]
            os.chmod(temporary, 0o644)
            os.replace(temporary, target)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        # numpy's own message on a full disk ("12 requested and 4 written") has neither a number nor a name
        reason = error.strerror or f"the disk is full or the file too large ({error})"
        raise OSError(f"cannot write the model {target}: {reason}; make room or choose another folder") from error


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
    """Turns whatever a damaged file makes a reader raise into one ValueError that names the file and the remedy."""
    try:
        yield
    except _BROKEN as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"{path} is damaged or incomplete ({reason}); get or write the file again") from error


def read_model(path: pathlib.Path) -> MorphableModel:
    """Reads a facecore npz; ValueError when it is damaged, of a newer version, or was changed after writing."""
    with reading(path):
        with np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"]))
            arrays = {key: file[key] for key in file.files if key != "header"}
        if header["version"] > FORMAT_VERSION:
            raise ValueError(f"format version {header['version']}, this facecore reads up to {FORMAT_VERSION}")
        model = _from_arrays(header, arrays)
        if model.content_hash() != header["content_hash"]:
            raise ValueError("the arrays do not match the hash written with them")
    return model


def model_to_tensors(model: MorphableModel) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors by name, on the CPU, and JSON values, from which `model_from_tensors` makes the same model."""
    arrays = model_arrays(model)
    plain: dict[str, Any] = {key: arrays.pop(key).tolist() for key in _NAMES}
    plain |= {key: getattr(model, key) for key in ("name", "albedo_source", "source")}
    return {key: torch.from_numpy(value) for key, value in arrays.items()}, plain


def model_from_tensors(tensors: dict[str, torch.Tensor], plain: dict[str, Any]) -> MorphableModel:
    """The model that `model_to_tensors` took apart. Raises TypeError or KeyError for what is missing."""
    return _from_tensors(plain, tensors, {key: plain[key] for key in _NAMES})


def _from_arrays(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> MorphableModel:
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items() if value.dtype.kind != "U"}
    return _from_tensors(header, tensors, {key: arrays[key] for key in _NAMES})


def _from_tensors(header: dict[str, Any], tensors: dict[str, torch.Tensor], names: Mapping[str, Any]) -> MorphableModel:
    blendshapes = None
    if "blendshapes/partner" in tensors:
        activity, symmetry = tensors["blendshapes/rule"].tolist()
        partner, scaled_by = tensors["blendshapes/partner"], tensors["blendshapes/scaled_by"]
        blendshapes = BlendshapePrior(partner, scaled_by, activity, symmetry)
    moments: dict[str, Any] = {key: tensors[f"prior/{key}"] for key in _PRIOR}
    fields: dict[str, Any] = {key: tensors[key] for key in _TENSORS if key in tensors}
    fields |= {key: tuple(map(str, names[key])) for key in _NAMES}
    return MorphableModel(
        name=header["name"],
        prior=Prior(**moments, blendshapes=blendshapes),
        regions={key.split("/", 1)[1]: value for key, value in tensors.items() if key.startswith("region/")},
        albedo_source=header["albedo_source"],
        source=header["source"],
        **fields,
    )


def load(path_or_name: str | os.PathLike[str], **options: Any) -> MorphableModel:
    """Loads a morphable model; its kind is recognised from the content, not from the name of the file.

    path_or_name: "procedural" (option num_vertices); a facecore .npz (no options); the ICT face model as npz or as a
    checkout of ICT-FaceKit (options region="face" | "narrow" | "head", refine=0 | 1, albedo="procedural" | None); and,
    with the options landmarks= (a file of the 68 vertices, `read_landmark_vertices`) and num_identity=,
    num_expression=, num_albedo= (modes to keep): BFM 2009 (.mat), its cuts of 300W-LP (BFM.mat) and of the Deep3D
    family (BFM_model_front.mat, or the folder of the files it is made of), BFM 2017 and 2019 (.h5), FLAME (.pkl, .npz)
    and eos models (.bin, option expressions=). docs/data.md says where they come from.
    Raises FileNotFoundError when there is no such file, ValueError with a one-line remedy for an unknown kind, a
    damaged file or an option that the kind does not have.
    """
    if str(path_or_name) == "procedural":
        return _call("procedural:procedural_model", (), options, "the procedural model")
    path = pathlib.Path(path_or_name)
    if not path.exists():
        raise FileNotFoundError(f"no model at {path}; give an existing file or folder, or 'procedural'")
    kind = recognise(path)
    if kind:
        return _call(_LOADERS[kind], (path,), options, kind)
    supported = ", ".join(_LOADERS)
    raise ValueError(f"{path} is not a morphable model of a known kind; supported kinds: 'procedural', {supported}")


_LOADERS = {  # module:function, imported when such a file comes
    FACECORE: "io:read_model",
    ICT: "ict:load_ict",
    BFM_2009: "bfm2009:load_bfm2009",
    BFM_300WLP: "bfm_300wlp:load_bfm_300wlp",
    DEEP3D: "deep3d:load_deep3d",
    STATISMO: "statismo:load_statismo",
    FLAME: "flame:load_flame",
    EOS: "eos:load_eos",
}


def _call(loader_name: str, arguments: tuple[Any, ...], options: dict[str, Any], kind: str) -> MorphableModel:
    module, function = loader_name.split(":")
    loader: Callable[..., MorphableModel] = getattr(importlib.import_module(f"facecore.morphable.{module}"), function)
    accepted = list(inspect.signature(loader).parameters)[len(arguments) :]
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise OptionError(f"{kind} has no option {', '.join(unknown)}; it takes {', '.join(accepted) or 'none'}")
    return loader(*arguments, **options)
