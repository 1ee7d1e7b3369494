"""Random numbers keyed by what they are for, so that a sample is the same in every process and every batching."""

from __future__ import annotations

import hashlib
import operator
from collections import Counter
from collections.abc import Sequence
from typing import SupportsIndex

import torch


def sample_generator(seed: SupportsIndex, *keys: SupportsIndex | str) -> torch.Generator:
    """Returns a CPU generator whose stream depends on `seed` and `keys` alone.

    Args:
        seed: the run's seed, any integer.
        keys: what the numbers are for: integers (an index, an epoch) and strings (a purpose), in order. An integer
            and the string of its digits are different keys.

    Equal arguments give equal streams in every process, on every machine and for every batch size; different
    arguments give unrelated ones (the state is a 63-bit BLAKE2b hash). Raises ValueError for a key of another type.
    """
    digest = hashlib.blake2b(digest_size=8)
    for key in (seed, *keys):
        digest.update(_encoded(key))
    return torch.Generator().manual_seed(int.from_bytes(digest.digest(), "little") >> 1)


def occurrences(numbers: Sequence[int]) -> list[int]:
    """How often each number occurred before, in its place: 0 for the first time."""
    seen: Counter[int] = Counter()
    result = []
    for number_ in numbers:
        result.append(seen[number_])
        seen[number_] += 1
    return result


def _encoded(key: SupportsIndex | str) -> bytes:
    """A prefix-free encoding: a letter for the type, the length, then the bytes."""
    if isinstance(key, str):
        letter, content = b"s", key.encode()
    else:
        try:
            letter, content = b"i", str(operator.index(key)).encode()
        except TypeError:
            raise ValueError(f"seed and keys must be integers or strings, got {type(key).__name__}") from None
    return letter + len(content).to_bytes(8, "little") + content
