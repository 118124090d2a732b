"""The analogue product of a simulated macro: bit planes, row groups, read noise, converters; vectorised throughout.

White read noise that is independent for every cell and conversion, and added before the converter clips and rounds,
needs no sample a cell: the noise of a column current is Gaussian with variance Σ v²σ², which a second matrix product
gives exactly in law.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rramlab.macro.gates import GatePattern

Floats = npt.NDArray[np.float32]
# Bytes of intermediates that stay in a processor's second-level cache.
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Frontend:
    """One gate pattern on one state of the die, ready to multiply. Units are ADC codes.

    ``signal``: float32[groups, lines, columns], codes a driven cell, zero where the pattern connects nothing.
    ``variance``: the same shape, squared codes a driven cell.
    ``active``: float32[groups, 1, columns], 1 where the column is converted in that group.
    ``base``: float32[columns], zero code plus offset. ``top``: highest code.
    """

    signal: Floats
    variance: Floats
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
        """Gather the cells of ``pattern`` in the asked ``columns``; groups that no phase drives are left out.

        ``codes_per_siemens``, ``base``: float64[n], of the asked columns.
        """
        rows = pattern.rows.shape[1]
        count = -(-rows // lines_at_once)
        cells = np.where(pattern.cells[:, columns], conductance_S[:, columns], 0.0) * codes_per_siemens
        padded = np.zeros((count * lines_at_once, len(columns)), np.float32)
        padded[:rows] = cells
        signal = padded.reshape(count, lines_at_once, len(columns))
        driven = pattern.active_groups(lines_at_once)
        used = np.flatnonzero(driven.any(axis=0))
        active = driven[pattern.phase[columns]][:, used].T[:, None, :]
        signal = np.ascontiguousarray(signal[used])
        return cls(
            signal,
            np.square(signal * np.float32(read_noise)),
            active.astype(np.float32),
            base.astype(np.float32),
            top,
        )

    @property
    def conversions_per_plane(self) -> int:
        return int(np.count_nonzero(self.active))

    def noise_per_vector(self, bits: int) -> int:
        """Noise positions that one input vector takes from the die's counter."""
        groups, _, columns = self.signal.shape
        return int(groups * bits * columns)

    def multiply(
        self, x: npt.NDArray[np.uint8], bits: int, noise: Floats | None
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return shift-added codes int32[batch, columns] and saturated conversions int64[columns].

        ``x``: uint8[batch, groups, lines]. ``noise``: float32[batch, groups, bits, columns], standard normal.
        """
        batch, groups, lines = x.shape
        columns = self.signal.shape[2]
        planes = (x[:, :, None, :] >> np.arange(bits, dtype=np.uint8)[:, None]) & 1
        volts = planes.transpose(1, 0, 2, 3).reshape(groups, batch * bits, lines).astype(np.float32)
        codes = volts @ self.signal
        if noise is not None:
            spread = volts @ self.variance
            np.sqrt(spread, out=spread)
            spread *= noise.transpose(1, 0, 2, 3).reshape(groups, batch * bits, columns)
            codes += spread
        codes += self.base
        np.rint(codes, out=codes)
        saturated = np.zeros(columns, np.int64)
        if codes.min() <= 0 or codes.max() >= self.top:
            clipped = ((codes <= 0) | (codes >= self.top)) & (self.active > 0)
            saturated = np.count_nonzero(clipped, axis=(0, 1)).astype(np.int64)
            np.clip(codes, 0, self.top, out=codes)
        codes *= self.active
        weights = np.exp2(np.arange(bits)).astype(np.float32)
        # Exact in float32: 255 × 16383 < 2²⁴ for one group; groups are added as integers.
        shifted = np.einsum("gbpc,p->gbc", codes.reshape(groups, batch, bits, columns), weights)
        return shifted.astype(np.int32).sum(axis=0, dtype=np.int32), saturated

    def chunk(self, bits: int) -> int:
        """Vectors to multiply at once so that intermediates stay in cache."""
        groups, lines, columns = self.signal.shape
        vector = 4 * groups * bits * (lines + 3 * columns)
        return max(1, _CHUNK_BYTES // int(vector))
