"""A trained perception network as a file with a manifest, as losses, encoders, commands and evaluations take it."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from safetensors.torch import save
from torch import nn

from facecore.files import write_atomically
from facecore.perception.manifest import RENDERS, RENDERS_AND_PHOTOGRAPHS, file_hash

NETWORK, MANIFEST = "network.safetensors", "manifest.json"


def export_network(network: nn.Module, folder: pathlib.Path, *, photographs: bool, **described: Any) -> pathlib.Path:
    """Writes network.safetensors and manifest.json; returns the manifest's path.

    photographs: whether they were among what it is trained on; described: role, architecture, options, input_size,
    outputs and what else the manifest is to say.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    write_atomically(folder / NETWORK, save(state))
    manifest = described | {
        "format": "state-dict",
        "file": NETWORK,
        "sha256": file_hash(folder / NETWORK),
        "trained_on": RENDERS_AND_PHOTOGRAPHS if photographs else RENDERS,
    }
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return folder / MANIFEST
