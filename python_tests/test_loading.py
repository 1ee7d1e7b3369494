"""Batches made by worker processes: equal to those of one process, resumable anywhere, errors in one line."""

from __future__ import annotations

import os
import pathlib
import pickle
import signal
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from PIL import Image

from facecore.data import PhotoBatch, PhotoBatches, PhotoFolder, PhotoStream, RenderedPhotos, default_workers
from facecore.morphable import load

COUNT, END = 6, 30


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """Two pictures each of four persons, with landmarks."""
    rng = np.random.default_rng(0)
    points = rng.uniform((20, 30), (80, 90), (68, 2))
    for i in range(8):
        folder = tmp_path / "photos" / f"person{i // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(rng.integers(0, 255, (7, 7, 3), dtype=np.uint8)).resize((100, 120))
        pixels.save(folder / f"{i}.jpg")
        (folder / f"{i}.txt").write_text("\n".join(f"{x} {y}" for x, y in points + rng.normal(size=points.shape)))
    return tmp_path / "photos"


def batches(root: pathlib.Path, *, decode: bool = True, **options: int) -> PhotoBatches:
    photos = PhotoFolder(root, height=40, width=40, seed=3, decode=decode)
    return PhotoBatches(photos, seed=11, count=COUNT, **options)


def equal(one: PhotoBatch, other: PhotoBatch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True))


@pytest.fixture
def close() -> Iterator[Callable[[PhotoStream], PhotoStream]]:
    opened: list[PhotoStream] = []
    yield lambda stream: opened.append(stream) or stream  # type: ignore[func-returns-value]
    for stream in opened:
        stream.close()


@pytest.mark.parametrize("decode", [True, False], ids=["cached", "decoded by workers"])
def test_the_number_of_processes_changes_nothing(root, close, decode, thread_count):
    """Bit for bit, though a worker has one thread and this process two, and whatever the global generator says."""
    thread_count(2)
    made = batches(root, decode=decode)
    expected = [made[i] for i in range(3)]
    for num_workers in (0, 1, 2):
        torch.manual_seed(num_workers)
        stream = close(PhotoStream(made, END, num_workers=num_workers))
        assert all(equal(stream.at(i), expected[i]) for i in range(3))
    assert not equal(expected[0], expected[1])


def test_resuming_anywhere_is_exact(root, close):
    made = batches(root)
    stream = close(PhotoStream(made, END, num_workers=2))
    for iteration in (0, 1, 17, 18, 5, END - 1):
        assert equal(stream.at(iteration), made[iteration])
    for wrong in (-1, END):
        with pytest.raises(ValueError, match=rf"iteration must be in \[0, {END}\)"):
            stream.at(wrong)


def test_the_parts_of_several_processes_are_the_batch_of_one(root):
    whole = batches(root, per_identity=3)  # more than a person has: pictures come twice, augmented differently
    index = whole.photos.sample(torch.Generator().manual_seed(0), COUNT, 3).tolist()
    assert len(set(index)) < COUNT
    for iteration in range(4):
        parts = [batches(root, per_identity=3, rank=rank, world_size=2)[iteration] for rank in range(2)]
        joined = PhotoBatch(*(torch.cat(pair) for pair in zip(*(vars(part).values() for part in parts))))
        assert equal(joined, whole[iteration])


def test_parts_of_a_batch_are_made_once(root, monkeypatch):
    """A process of two that accumulates over three parts: its half of the batch is drawn once, then cut."""
    whole, own = batches(root), batches(root, rank=1, world_size=2)
    made: list[int] = []
    batch = own.photos.batch
    monkeypatch.setattr(own.photos, "batch", lambda *arguments: made.append(arguments[1]) or batch(*arguments))
    stream = PhotoStream(own, END)
    for iteration in (4, 5):
        parts = [stream.part(iteration, slice(i, i + 1), "cpu") for i in range(3, 6)]
        joined = PhotoBatch(*(torch.cat(pieces) for pieces in zip(*(vars(part).values() for part in parts))))
        assert equal(joined, whole[iteration][3:])
    assert made == [4, 5]


def test_who_is_in_a_batch_is_known_without_it(root):
    made = batches(root)
    for iteration in range(3):
        assert made.photos.identity[made.index(iteration)].equal(made[iteration].identity)


def test_rendered_photographs_come_in_the_same_batches():
    photos = RenderedPhotos(load("procedural", num_vertices=2500), 32, 32, persons=3, pictures=2)
    stream = PhotoStream(PhotoBatches(photos, seed=11, count=4), END)
    assert equal(stream.at(2), photos.batch(stream.batches.index(2)))
    half = PhotoStream(PhotoBatches(photos, seed=11, count=4, rank=1, world_size=2), END).at(2)
    torch.testing.assert_close(half.image, stream.at(2).image[2:], rtol=0, atol=1e-5)  # other matrix products
    assert half.identity.equal(stream.at(2).identity[2:])


def test_it_can_be_sent_to_a_process_that_starts_afresh(root):
    """As macOS starts its workers: everything is pickled."""
    made = batches(root)
    assert equal(pickle.loads(pickle.dumps(made))[3], made[3])


def test_an_error_of_a_worker_is_one_line(root, close):
    made = batches(root, decode=False)
    for path in root.rglob("*.jpg"):
        path.write_bytes(path.read_bytes()[:-200])
    stream = close(PhotoStream(made, END, num_workers=1))
    with pytest.raises(ValueError, match=r"\.jpg cannot be decoded") as caught:
        stream.at(0)
    assert "\n" not in str(caught.value)


def test_a_killed_worker_is_reported(root, close):
    stream = close(PhotoStream(batches(root), 10_000, num_workers=1))
    stream.at(0)
    assert stream._iterator is not None
    worker = stream._iterator._workers[0]  # type: ignore[attr-defined]  # DataLoader gives no public access
    os.kill(worker.pid, signal.SIGKILL)
    worker.join()
    with pytest.raises(ChildProcessError, match="a loading process ended"):
        for iteration in range(1, 10_000):
            stream.at(iteration)
    assert stream.at(1).image.shape == (COUNT, 3, 40, 40)  # and goes on with new ones


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_the_workers_alone(root, close, number):
    """It goes to every process of the terminal or job; training finishes its iteration and saves first."""
    made = batches(root)
    stream = close(PhotoStream(made, END, num_workers=1))
    stream.at(0)
    assert stream._iterator is not None
    os.kill(stream._iterator._workers[0].pid, number)  # type: ignore[attr-defined]
    assert all(equal(stream.at(i), made[i]) for i in range(1, END))


def test_closing_ends_the_processes(root):
    with PhotoStream(batches(root), END, num_workers=2) as stream:
        stream.at(0)
        assert stream._iterator is not None
        workers = list(stream._iterator._workers)  # type: ignore[attr-defined]
    for worker in workers:
        worker.join(10)
    assert not any(worker.is_alive() for worker in workers)


def test_wrong_arguments_are_refused(root):
    for options, message in (
        ({"world_size": 4}, "6 photographs do not divide among 4 processes"),
        ({"rank": 1}, r"rank must be in \[0, 1\), got 1"),
        ({"per_identity": 0}, "per_identity must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            batches(root, **options)
    with pytest.raises(ValueError, match="num_workers must be at least 0"):
        PhotoStream(batches(root), END, num_workers=-1)


def test_a_cpu_keeps_its_cores():
    assert default_workers("cpu") == 0 and 1 <= default_workers("cuda") <= 8


def test_pinned_batches(root):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: torch cannot lock pages")
    for num_workers in (0, 1):
        with PhotoStream(batches(root), END, num_workers=num_workers, pin_memory=True) as stream:
            assert stream.at(0).image.is_pinned()
