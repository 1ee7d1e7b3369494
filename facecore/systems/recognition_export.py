"""A trained recognition network as a file with a manifest, as losses, encoders and evaluations take it."""

from __future__ import annotations

import json
import pathlib

from safetensors.torch import save

from facecore.files import write_atomically
from facecore.perception.manifest import RENDERS, RENDERS_AND_PHOTOGRAPHS, file_hash
from facecore.systems.recognition_training import RecognitionTrainer

NETWORK, MANIFEST = "network.safetensors", "manifest.json"


def export_network(trainer: RecognitionTrainer, folder: pathlib.Path) -> pathlib.Path:
    """Writes network.safetensors and manifest.json; returns the manifest's path."""
    model = trainer.config.model
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in trainer.network.state_dict().items()}
    write_atomically(folder / NETWORK, save(state))
    manifest = {
        "role": "recognition",
        "format": "state-dict",
        "file": NETWORK,
        "sha256": file_hash(folder / NETWORK),
        "input_size": list(trainer.network.input_size),
        "architecture": model.architecture,
        "options": {"width": model.width} if model.architecture == "sphereface" else {},
        "outputs": {"embed": "embed", "pooled": "pooled"},
        "trained_on": RENDERS if trainer.photos is None else RENDERS_AND_PHOTOGRAPHS,
    }
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=2) + "\n").encode())
    return folder / MANIFEST
