"""Photographs of each iteration, as a training's settings ask for them: this process's share, loaded ahead."""

from __future__ import annotations

import torch

from facecore.data import LabelledPhotos, PhotoBatches, PhotoFolder, PhotoStream, PictureSource, default_workers
from facecore.data.batches import Batch
from facecore.training import distributed


def open_stream(
    source: PictureSource[Batch],
    seed: int,
    sizes: tuple[int, int],
    purpose: str,
    *,
    workers: int | None,
    device: torch.device,
    iterations: int,
) -> PhotoStream[Batch]:
    """Files are loaded ahead by processes; rendered photographs are made when asked for, where the model is.

    sizes: photographs of a batch, of all processes, and of a person; workers: None = what suits the device.
    """
    share = distributed.own_share()
    batches = PhotoBatches(source, seed, *sizes, share.index, share.count, purpose)
    if not isinstance(source, PhotoFolder | LabelledPhotos):
        return PhotoStream(batches, iterations)
    workers = default_workers(device) if workers is None else workers
    return PhotoStream(batches, iterations, num_workers=workers, pin_memory=device.type == "cuda")
