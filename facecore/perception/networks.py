"""Loading a perception network from any of its formats, behind one call (METHODS 7)."""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from facecore.nn.recognition import RecognitionNet
from facecore.nn.segmentation import SegmentationNet
from facecore.nn.sphereface import SphereFace
from facecore.nn.state_dict import read_state_dict, state_dict_problems
from facecore.perception.manifest import Manifest
from facecore.perception.point_recognition import PointRecognition

_architectures: dict[str, Callable[..., nn.Module]] = {
    "small-recognition": RecognitionNet,
    "small-segmentation": SegmentationNet,
    "sphereface": SphereFace,
    "point-recognition": PointRecognition,
}


def register_architecture(name: str, build: Callable[..., nn.Module]) -> None:
    """Makes `architecture = name` of a manifest mean `build(**options)`, a module on normalised pictures.

    Raises ValueError if the name is taken by another.
    """
    if _architectures.setdefault(name, build) is not build:
        raise ValueError(f"name must be new, got {name!r}, which is registered already")


def build_architecture(name: str, **options: Any) -> nn.Module:
    """A network of random weights. Raises ValueError for a name that is not registered."""
    if name not in _architectures:
        raise ValueError(f"name must be one of {', '.join(architectures())}, got {name!r}")
    return _architectures[name](**options)


def architectures() -> tuple[str, ...]:
    """The names of the registered architectures."""
    return tuple(sorted(_architectures))


class Network:
    """A network on RGB pictures in [0, 1]: normalises, calls, and gives the role's outputs by name.

    manifest: what it is. differentiable: whether its outputs have a gradient to the pictures (an ONNX runtime has
    none). module: the torch module behind it, None where there is none.
    """

    def __init__(
        self, manifest: Manifest, call: Callable[[torch.Tensor], Any], *, differentiable: bool, module: nn.Module | None
    ) -> None:
        self.manifest, self.differentiable, self.module = manifest, differentiable, module
        self._call = call
        self._constants: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The outputs of images float32 [N, 3, *input_size]. Raises ValueError for another shape or a lacking output.

        Differentiable in `images` where `differentiable` says so.
        """
        height, width = self.manifest.input_size
        if images.ndim != 4 or images.shape[1:] != (3, height, width) or images.dtype != torch.float32:
            got = f"{images.dtype} {list(images.shape)}"
            raise ValueError(f"images must be float32 [N, 3, {height}, {width}], got {got}")
        ordered = images.flip(1) if self.manifest.channel_order == "BGR" else images
        mean, std = self._normalisation(images.device)
        result = self._call((ordered - mean) / std)
        return {name: _pick(self.manifest, result, key) for name, key in self.manifest.outputs.items()}

    @torch.inference_mode(False)  # kept for later calls, so they must not become inference tensors
    def _normalisation(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation [3, 1, 1], copied to a device once."""
        if device not in self._constants:
            mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in (self.manifest.mean, self.manifest.std))
            self._constants[device] = mean.to(device, torch.float32), std.to(device, torch.float32)
        return self._constants[device]


def load_network(manifest: Manifest, *, needs_gradient: bool = False) -> Network:
    """Loads the network of a manifest, frozen and in evaluation mode.

    needs_gradient: refuse a format that has none.
    Raises ValueError in one line for a file that is missing, another (by its hash) or not of its format; ImportError
    with a remedy where onnxruntime is absent.
    """
    if needs_gradient and manifest.format == "onnx":
        raise ValueError(
            f"{manifest.path}: the role {manifest.role} needs a gradient to the picture, and an ONNX runtime gives "
            "none; convert the network to TorchScript or to a state-dict with an architecture"
        )
    return _LOADERS[manifest.format](manifest)


def _load_torchscript(manifest: Manifest) -> Network:
    file = manifest.network_file()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's own advice to exporters
            module = torch.jit.load(str(file), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{file} is not a TorchScript file ({_first_line(error)})") from error
    return _of_module(manifest, module)


def _load_state_dict(manifest: Manifest) -> Network:
    file = manifest.network_file()
    network = unfilled_network(manifest)
    assert network.module is not None
    state = read_state_dict(file)
    if problems := state_dict_problems(state, network.module.state_dict()):
        raise ValueError(f"{file} does not hold the weights of {manifest.architecture}: {problems}")
    network.module.load_state_dict(state, strict=False)  # counters of batch norms may be absent
    return network


def unfilled_network(manifest: Manifest) -> Network:
    """The network of a state-dict manifest before its weights, which somebody else has; its file is not looked at.

    Raises ValueError for an architecture that is not registered, or that does not take the options.
    """
    build = _architectures.get(manifest.architecture)
    if build is None:
        raise ValueError(
            f"{manifest.path}: architecture must be a registered one ({', '.join(architectures())}), got "
            f"{manifest.architecture!r}; register it by facecore.perception.register_architecture"
        )
    try:
        return _of_module(manifest, build(**manifest.options))
    except TypeError as error:
        raise ValueError(f"{manifest.path}: options do not fit {manifest.architecture}: {error}") from error


def _load_callable(manifest: Manifest) -> Network:
    module_name, _, name = manifest.file.partition(":")
    if not module_name or not name:
        raise ValueError(f"{manifest.path}: file of a callable must be module:function, got {manifest.file!r}")
    try:
        spec = importlib.util.find_spec(module_name)
    except (ImportError, ValueError, AttributeError) as error:
        raise ValueError(f"{manifest.path}: {manifest.file} cannot be imported ({_first_line(error)})") from error
    if spec is None:
        raise ValueError(f"{manifest.path}: {manifest.file} cannot be imported (no module named {module_name!r})")
    source = pathlib.Path(spec.origin or "")
    if source.suffix != ".py" or not source.is_file():
        raise ValueError(f"{manifest.path}: {manifest.file} must be a function in a Python source file")
    manifest.check_hash(source)  # before anything of the file runs
    try:
        function = getattr(importlib.import_module(module_name), name)
    except Exception as error:  # whatever the module raises while it is imported
        raise ValueError(f"{manifest.path}: {manifest.file} cannot be imported ({_first_line(error)})") from error
    if not callable(function):
        raise ValueError(f"{manifest.path}: {manifest.file} must be a function in a Python source file")
    if isinstance(function, nn.Module):
        return _of_module(manifest, function)
    return Network(manifest, function, differentiable=True, module=None)


def _load_onnx(manifest: Manifest) -> Network:
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise ImportError(f"{manifest.path}: ONNX files need onnxruntime; pip install 'facecore[onnx]'") from error
    file = manifest.network_file()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class below Exception
        raise ValueError(f"{file} is not an ONNX file that onnxruntime takes ({_first_line(error)})") from error
    if len(session.get_inputs()) != 1:
        raise ValueError(f"{file} must take one picture, it takes {len(session.get_inputs())} inputs")
    given, names = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]

    def call(images: torch.Tensor) -> dict[str, torch.Tensor]:
        try:
            arrays = session.run(None, {given: images.detach().cpu().contiguous().numpy()})
        except Exception as error:
            reason = _first_line(error)
            raise ValueError(f"{file} does not run on pictures of {list(images.shape)} ({reason})") from error
        return {name: torch.as_tensor(array) for name, array in zip(names, arrays)}

    return Network(manifest, call, differentiable=False, module=None)


_LOADERS = {
    "torchscript": _load_torchscript,
    "state-dict": _load_state_dict,
    "callable": _load_callable,
    "onnx": _load_onnx,
}


def _of_module(manifest: Manifest, module: nn.Module) -> Network:
    module.eval()
    for parameter in module.parameters():  # a ScriptModule has no requires_grad_ of its own
        parameter.requires_grad_(False)
    return Network(manifest, module, differentiable=True, module=module)


def _pick(manifest: Manifest, result: Any, key: str | int) -> torch.Tensor:
    """One output by its name or number."""
    if isinstance(result, torch.Tensor):
        result = (result,)
    if isinstance(result, Mapping):
        names = list(result)
        value = result.get(key) if isinstance(key, str) else (result[names[key]] if 0 <= key < len(names) else None)
    elif isinstance(key, str):
        names = list(getattr(result, "_fields", ()))
        value = getattr(result, key) if key in names else None
    else:
        names = list(range(len(result)))
        value = result[key] if key in names else None
    if not isinstance(value, torch.Tensor):
        raise ValueError(f"{manifest.path}: the network has no output {key!r}; it gives {', '.join(map(str, names))}")
    return value


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:160] if lines else type(error).__name__
