"""`facecore train`: finds the system, or the network, that is to be trained: train_NAME.py."""

from __future__ import annotations

import importlib

from facecore.cli.training import first_says
from facecore.cli.training_settings import named_system

SYSTEMS = (
    "semi-supervised",
    "joint-recognition",
    "weakly-supervised",
    "conditional-estimation",
    "unsupervised-regression",
)
NETWORKS = ("recognition", "segmentation")


def main(argv: list[str]) -> int:
    return first_says(lambda: _train(argv))


def _train(argv: list[str]) -> int:
    network = argv[:1] and argv[0] in NETWORKS
    name, rest = (argv[0], argv[1:]) if network else (named_system(argv, SYSTEMS), argv)
    command = importlib.import_module(f"facecore.cli.train_{name.replace('-', '_')}")
    return int(command.COMMAND.main(rest))
