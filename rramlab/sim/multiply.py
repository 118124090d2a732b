"""The analogue product of a simulated macro: bit planes, row groups, read noise, converters; vectorised throughout.

White read noise that is independent for every cell and conversion, and added before the converter clips and rounds,
needs no sample a cell: the noise of a column current is Gaussian with variance Σ v²σ², which a second matrix product
gives exactly in law.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rramlab.macro.gates import GatePattern

Floats = npt.NDArray[np.float32]
# Bytes of intermediates that are worked on at once: large enough for the matrix product, small enough for caches.
_CHUNK_BYTES = 1 << 22


@dataclass(frozen=True, eq=False)
class Frontend:
    """One gate pattern on one state of the die, ready to multiply. Units are ADC codes.

    ``cells``: float32[2, groups, lines, columns], signal (codes a driven cell, zero where the pattern connects nothing)
    and variance (squared codes a driven cell), for one matrix product gives both.
    ``active``: float32[groups, 1, columns], 1 where the column is converted in that group.
    ``base``: float32[columns], zero code plus offset. ``top``: highest code.

    Signal and variance lie on grids of powers of two, so fine that every sum is exact in float32: the codes do not
    depend on the order of summation, and so not on batch, processor or library.
    """

    cells: Floats
    active: Floats
    base: Floats
    top: int

    @classmethod
    def build(
        cls,
        conductance_S: Floats,
        pattern: GatePattern,
        columns: npt.NDArray[np.intp],
        codes_per_siemens: npt.NDArray[np.float64],
        base: npt.NDArray[np.float64],
        read_noise: float,
        lines_at_once: int,
        top: int,
    ) -> Frontend:
        """Gather the cells of ``pattern`` in the asked ``columns``; without groups that no phase drives, nor unused lines.

        ``conductance_S``: float32[rows, columns], as the lines show the cells. ``codes_per_siemens``, ``base``:
        float64[n], of the asked columns.
        """
        rows = pattern.rows.shape[1]
        count = -(-rows // lines_at_once)
        padded = np.zeros((count * lines_at_once, len(columns)), np.float32)
        np.multiply(
            conductance_S[:, columns], codes_per_siemens.astype(np.float32), out=padded[:rows],
            where=pattern.cells[:, columns],
        )  # fmt: skip
        driven = pattern.active_groups(lines_at_once)
        used = np.flatnonzero(driven.any(axis=0))
        active = driven[pattern.phase[columns]][:, used].T[:, None, :]
        lines = lines_used(np.flatnonzero(pattern.driven), lines_at_once)
        signal = padded.reshape(count, lines_at_once, len(columns))[used, :lines]
        variance = np.square(signal * np.float32(read_noise))
        cells = np.stack([_on_grid(signal), _on_grid(variance)])
        return cls(cells, active.astype(np.float32), base.astype(np.float32), top)

    @property
    def groups(self) -> int:
        return int(self.cells.shape[1])

    @property
    def lines(self) -> int:
        return int(self.cells.shape[2])

    @property
    def columns(self) -> int:
        return int(self.cells.shape[3])

    @cached_property
    def conversions_per_plane(self) -> int:
        return int(np.count_nonzero(self.active))

    def noise_per_vector(self, bits: int) -> int:
        """Noise positions that one input vector takes from the die's counter."""
        return self.groups * bits * self.columns

    def multiply(
        self, x: npt.NDArray[np.uint8], bits: int, noise: Floats | None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64] | None]:
        """Return shift-added codes int32[batch, columns]; saturated conversions int64[columns], None if there are none.

        ``x``: uint8[batch, groups, lines]. ``noise``: float32[batch, groups, bits, columns], standard normal.
        """
        batch, groups, lines = x.shape
        columns = self.columns
        if bits > 1:
            planes = (x.transpose(1, 0, 2)[:, :, None, :] >> np.arange(bits, dtype=np.uint8)[:, None]) & 1
        else:
            planes = x.transpose(1, 0, 2) & 1
        volts = planes.reshape(groups, batch * bits, lines).astype(np.float32)
        # Each in one piece: what follows runs through memory without gaps, three times as fast.
        codes, spread = np.matmul(volts, self.cells).reshape(2, groups, batch, bits, columns)
        if noise is not None:
            np.sqrt(spread, out=spread)
            spread *= noise.transpose(1, 0, 2, 3)
            codes += spread
        codes += self.base
        np.rint(codes, out=codes)
        saturated = None
        if codes.min() <= 0 or codes.max() >= self.top:
            clipped = ((codes <= 0) | (codes >= self.top)) & (self.active[:, None] > 0)
            saturated = np.count_nonzero(clipped, axis=(0, 1, 2)).astype(np.int64)
            np.clip(codes, 0, self.top, out=codes)
        if self.conversions_per_plane < groups * columns:
            codes *= self.active[:, None]
        # Exact in float32: 255 × 16383 < 2²⁴ for one group; groups are added as integers.
        if bits > 1:
            codes = np.einsum("gbpc,p->gbc", codes, np.exp2(np.arange(bits)).astype(np.float32))
        summed = codes.reshape(groups, batch, columns).astype(np.int32)
        return (summed[0] if groups == 1 else summed.sum(axis=0, dtype=np.int32)), saturated

    def chunk(self, bits: int) -> int:
        """Vectors to multiply at once so that intermediates stay in cache."""
        vector = 4 * self.groups * bits * (self.lines + 3 * self.columns)
        return max(1, _CHUNK_BYTES // int(vector))


def lines_used(rows: npt.NDArray[np.intp], lines_at_once: int) -> int:
    """Return how many lines a group needs: up to the last one that the driven ``rows`` have in any group."""
    return 1 + int((rows % lines_at_once).max(initial=-1))


def _on_grid(values: Floats) -> Floats:
    """Round values, float32[groups, lines, columns] ≥ 0, to a power of two such that any sum over lines is exact.

    The largest sum over a column's lines takes 24 bits, a float32's mantissa: an error of at most 2⁻²⁴ of it a cell.
    """
    largest = float(values.sum(axis=1, dtype=np.float64).max(initial=0.0))
    if largest == 0:
        return values
    # One bit to spare, for rounding may lift a sum of many cells.
    step = np.float32(2.0 ** (np.ceil(np.log2(largest)) - 23))
    scaled = values / step
    np.rint(scaled, out=scaled)
    scaled *= step
    return scaled
