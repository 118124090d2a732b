"""Counter-based randomness: a draw depends on what it is for, never on the order in which draws are made.

Philox's raw words are used and never a rejection sampler, so position n of a stream is always the same number.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

# What a stream of random words is for; part of its key.
BREAKDOWN, PRISTINE, COLUMN, BORN, OVERSTRESS, LIFE = 1, 2, 3, 4, 5, 6
LOW_STATE, HIGH_STATE, SET_CELL, RESET_CELL, SET_PULSE, RESET_PULSE, GROWTH = 10, 11, 12, 13, 14, 15, 17
READ_NOISE = 20
BOARD_GAIN, BOARD_READ_OFFSET, BOARD_MULTIPLY_OFFSET, BOARD_RANGE, BOARD_DAC, BOARD_BL, BOARD_SL = range(30, 37)
BOARD_REFERENCE = 37
TRAP, TRAP_TIME, TRAP_PHASE, TELEGRAPH, DRIFT = 40, 41, 42, 43, 44
CEILING = 50
HALF = 100  # added where a cell is half-selected

Floats = npt.NDArray[np.float64]


def ndtri(chance: npt.ArrayLike) -> Floats:
    """Return the normal deviates that are reached with ``chance``: float64, of its shape."""
    from scipy.special import ndtri as inverse  # 0.1 s, which a die that is only looked at, or made safe, does without

    return np.asarray(inverse(chance))


def words(seed: int, purpose: int, draw: int, start: int, count: int) -> npt.NDArray[np.uint64]:
    """Return words ``start`` … of one stream: uint64[count]. ``draw``: such as a cell's pulse count."""
    philox = np.random.Philox(key=np.array([seed, (purpose << 40) | draw], np.uint64), counter=start // 4)
    skip = start % 4
    return philox.random_raw(skip + count)[skip:]


def uniforms(seed: int, purpose: int, draw: int, start: int, count: int) -> Floats:
    """Return numbers in (0, 1), 53 bits each, never 0 or 1."""
    return _fine(words(seed, purpose, draw, start, count))


def normals(seed: int, purpose: int, draw: int, start: int, count: int) -> Floats:
    """Return standard normals by inverting the distribution function."""
    return normals_of(words(seed, purpose, draw, start, count))


def normals_of(raw: npt.NDArray[np.uint64]) -> Floats:
    """Return of each word the standard normal that :func:`normals` makes of it."""
    return ndtri(_fine(raw))


def _fine(raw: npt.NDArray[np.uint64]) -> Floats:
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def split(raw: npt.NDArray[np.uint64]) -> tuple[Floats, npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """Return of each word an independent uniform in (0, 1), of 32 bits, and twice 16 bits."""
    raw = raw.astype("<u8", copy=False)
    fine = raw.view("<u4")[1::2] + 0.5
    fine *= 2.0**-32
    return fine, raw.view("<u2")[1::4], raw.view("<u2")[0::4]


@cache
def _table() -> npt.NDArray[np.float32]:
    """Inverse normals at the middles of 65,536 equal probabilities.

    Tail error: no value beyond ±4.33 (a true normal exceeds that once in 65,000); the variance is 0.99998.
    """
    table = np.asarray(ndtri((np.arange(65536) + 0.5) / 65536), np.float32)
    table.setflags(write=False)
    return table


def tabulated(halves: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Return the standard normal that belongs to each 16-bit word."""
    return _table().take(halves)


class ShortNormals:
    """A stream of standard normals from 16-bit words, four to a word: position n is always the same number.

    Going on from where the last draw ended is cheap, any other place costs a new generator.
    """

    def __init__(self, seed: int, purpose: int) -> None:
        self._key = np.array([seed, purpose << 40], np.uint64)
        self._next = -1

    def take(self, start: int, count: int) -> npt.NDArray[np.float32]:
        """Return positions ``start`` …: float32[count]."""
        first, skip = divmod(start, 4)
        if first != self._next:
            self._philox = np.random.Philox(key=self._key, counter=first // 4)
            self._philox.random_raw(first % 4, output=False)
        words = (skip + count + 3) // 4
        raw = self._philox.random_raw(words)
        # A word that is used in part belongs to the next draw, too.
        self._next = first + words if (skip + count) % 4 == 0 else -1
        return tabulated(raw.astype("<u8", copy=False).view("<u2")[skip : skip + count])
