"""Flipped bits: what becomes of a file in which one is other than it was written."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rramlab.base.errors import DataError, UsageError


@contextmanager
def flipped(path: Path, bit: int) -> Iterator[None]:
    """Have one bit of a file flipped for a while."""
    data = path.read_bytes()
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
        yield
    finally:
        path.write_bytes(data)


def bits_of(path: Path, most: int, seed: int = 1) -> list[int]:
    """Return all bits of a file, or a sample of them."""
    count = 8 * path.stat().st_size
    return list(range(count)) if count <= most else sorted(random.Random(seed).sample(range(count), most))


def believed(path: Path, bits: list[int], read: Callable[[], Any]) -> list[int]:
    """Return which flipped bits change what ``read`` returns without a word; each is refused by name, or changes nothing."""
    whole, wrong = read(), []
    for bit in bits:
        with flipped(path, bit):
            try:
                found = read()
            except (DataError, UsageError) as error:
                found = whole if path.name in str(error) else error  # without its name nobody knows what to restore
        if found != whole:
            wrong.append(bit)
    return wrong
