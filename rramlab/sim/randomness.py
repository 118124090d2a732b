"""Counter-based randomness: a draw depends on what it is for, never on the order in which draws are made.

Philox's raw words are used and never a rejection sampler, so position n of a stream is always the same number.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

# What a stream of random words is for; part of its key.
BREAKDOWN, PRISTINE, COLUMN, OUTLIER = 1, 2, 3, 4
LOW_STATE, HIGH_STATE, SET_THRESHOLD, RESET_THRESHOLD = 10, 11, 12, 13
READ_NOISE = 20
BOARD_GAIN, BOARD_READ_OFFSET, BOARD_MULTIPLY_OFFSET, BOARD_RANGE = 30, 31, 32, 33


def words(seed: int, purpose: int, draw: int, start: int, count: int) -> npt.NDArray[np.uint64]:
    """Return words ``start`` … of one stream: uint64[count]. ``draw``: such as a cell's pulse count."""
    philox = np.random.Philox(key=np.array([seed, (purpose << 40) | draw], np.uint64), counter=start // 4)
    skip = start % 4
    return philox.random_raw(skip + count)[skip:]


def uniforms(seed: int, purpose: int, draw: int, start: int, count: int) -> npt.NDArray[np.float64]:
    """Return numbers in (0, 1), 53 bits each, never 0 or 1."""
    raw = words(seed, purpose, draw, start, count)
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normals(seed: int, purpose: int, draw: int, start: int, count: int) -> npt.NDArray[np.float64]:
    """Return standard normals by inverting the distribution function."""
    return np.asarray(ndtri(uniforms(seed, purpose, draw, start, count)))


@cache
def _table() -> npt.NDArray[np.float32]:
    """Inverse normals at the middles of 65,536 equal probabilities.

    Tail error: no value beyond ±4.33 (a true normal exceeds that once in 65,000); the variance is 0.99998.
    """
    table = np.asarray(ndtri((np.arange(65536) + 0.5) / 65536), np.float32)
    table.setflags(write=False)
    return table


def noise(seed: int, start: int, count: int) -> npt.NDArray[np.float32]:
    """Return the read noise of conversions ``start`` … of a die: float32[count], standard normal from 16-bit words."""
    first = start // 4
    raw = words(seed, READ_NOISE, 0, first, (start + count + 3) // 4 - first)
    skip = start % 4
    halves: npt.NDArray[np.uint16] = raw.astype("<u8", copy=False).view("<u2")[skip : skip + count]
    drawn: npt.NDArray[np.float32] = np.take(_table(), halves)
    return drawn
