"""A simulated die: cells that break down, form, set, reset and age at random, and remember it in a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from rramlab.base.errors import DataError, UsageError
from rramlab.base.units import show
from rramlab.base.yamlfile import explain
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.sim import randomness
from rramlab.sim.ageing import Ageing
from rramlab.sim.drive import Drive
from rramlab.sim.models import DieModel
from rramlab.sim.pulsing import Cellwise, Pulsing
from rramlab.sim.state import COLDEST_C, HOTTEST_C, STUCK, DieState, read_state, write_state

_ALONE = Drive()
# The file keeps the clock in nanoseconds, 63 bits: 292 years.
LONGEST_S = 9.0e9


class SimulatedDie:
    """The cells themselves. Its conductances are the hidden truth: only a controller may look at them."""

    def __init__(self, geometry: Geometry, model: DieModel, seed: int) -> None:
        self.geometry, self.model, self.seed = geometry, model, seed
        forming, law = model.forming, model.conductance
        chance = randomness.uniforms(seed, randomness.BREAKDOWN, 0, 0, geometry.cells)
        spread = law.ln_sigma * np.sqrt(law.column_share) if law.law_S is None else 0.0
        self._born = Cellwise(
            forming.breakdown(chance).astype(np.float32).reshape(geometry.shape),
            np.exp(spread * randomness.normals(seed, randomness.COLUMN, 0, 0, geometry.columns)),
        )
        pristine = forming.pristine_S * np.exp(
            forming.pristine_ln_sigma * randomness.normals(seed, randomness.PRISTINE, 0, 0, geometry.cells)
        )
        self.state = DieState.virgin(pristine.astype(np.float32).reshape(geometry.shape))
        self._noise = randomness.ShortNormals(seed, randomness.READ_NOISE)
        self._ageing = Ageing(model, seed, geometry.cells)
        self.version = 0  # rises whenever cells are pulsed, or made warmer or colder
        # Of the version and interval for which they hold: which rows are known, and what their cells conduct.
        self._now: tuple[tuple[int, int], npt.NDArray[np.bool_], npt.NDArray[np.float32]] | None = None
        self._settled = (-1, 0)
        self._bear_stuck_cells()

    def _bear_stuck_cells(self) -> None:
        forming = self.model.forming
        if forming.stuck_low_share or forming.stuck_high_share:
            chance = randomness.uniforms(self.seed, randomness.BORN, 0, 0, self.geometry.cells)
            high = (chance < forming.stuck_high_share).reshape(self.geometry.shape)
            low = (chance >= 1 - forming.stuck_low_share).reshape(self.geometry.shape)
            self.state.phase[high | low] = STUCK
            self.state.conductance_S[high] = forming.stuck_S

    @property
    def breakdown_V(self) -> npt.NDArray[np.float32]:
        """Of each cell, at the reference width: float32[rows, columns]."""
        return self._born.breakdown_V

    @property
    def conductance_S(self) -> npt.NDArray[np.float32]:
        """What each cell conducts now: float32[rows, columns], read-only."""
        return self.conductance_at(self._ageing.interval(self.state.clock_ns))

    @property
    def interval_ns(self) -> int:
        """Slow changes are folded into the conductances at multiples of this."""
        return self._ageing.interval_ns

    @property
    def settled(self) -> int:
        """The interval in which a cell was last programmed, or the temperature changed."""
        if self._settled[0] != self.version:
            last = max(int(self.state.programmed_ns.max()), int(self.state.history_ns[-1]))
            self._settled = self.version, self._ageing.interval(last)
        return self._settled[1]

    def cell_S(self, row: int, column: int) -> float:
        """Return what one cell conducts now (S), without looking at the others."""
        interval = self._ageing.interval(self.state.clock_ns)
        return float(self._ageing.conductance_S(self.state, interval, slice(row, row + 1))[0, column])

    def conductance_at(self, interval: int, rows: slice = slice(None)) -> npt.NDArray[np.float32]:
        """Return what some rows conduct in an interval of the clock: float32[rows, columns], read-only.

        Computed for the rows that are asked for, and again only when the state has changed.
        """
        key = (self.version, interval)
        if self._now is None or self._now[0] != key:
            shape = self.geometry.shape
            self._now = key, np.zeros(shape[0], np.bool_), np.empty(shape, np.float32)
        _, known, now = self._now
        if not known[rows].all():
            missing = (rows.start or 0) + np.flatnonzero(~known[rows])
            span = slice(int(missing[0]), int(missing[-1]) + 1)
            now[span], known[span] = self._ageing.conductance_S(self.state, interval, span), True
        part = now[rows]
        part.setflags(write=False)
        return part

    def row_loads_S(self, interval: int, rows: slice) -> npt.NDArray[np.float64]:
        """Return what all cells of each of some rows conduct together (S): float64[rows]."""
        return np.asarray(self.conductance_at(interval, rows).sum(axis=1, dtype=np.float64))

    def pulse(
        self,
        kind: PulseKind,
        cells: CellSelection,
        pulse: Pulse,
        drive: Drive = _ALONE,
        row_ns: npt.NDArray[np.int64] | None = None,
    ) -> float:
        """Give each selected cell one pulse; advance the clock; return the energy (J) that the cells took.

        ``row_ns``: how long each row takes, int64[rows]; by default the pulses alone.
        """
        rows = cells.rows
        if not rows.size:
            return 0.0
        block = slice(int(rows[0]), int(rows[-1]) + 1)
        chosen = cells.bits[block]
        spans = drive.shots(chosen) * round(pulse.width_s * 1e9) if row_ns is None else row_ns[block]
        ends = self.state.clock_ns + np.cumsum(spans)
        self.version += 1
        # Where pulses are felt along the columns, each row finds what those before it have left.
        step = 1 if drive.column_V > 0 else block.stop - block.start
        energy = 0.0
        for start in range(0, len(chosen), step):
            own = slice(start, start + step)
            part = slice(block.start + start, block.start + min(start + step, len(chosen)))
            fired = Pulsing(self.model, self.seed, self._born, self.state, part)
            begins = (ends - spans)[own] // self.interval_ns * self.interval_ns
            energy += fired.fire(kind, chosen[own], pulse, drive, ends[own], self._aged(part, begins))
            self.state.pulses[part] += chosen[own]
        self.state.clock_ns = int(ends[-1])
        self.state.meter.add(kind, int(spans.sum()), energy, int(np.count_nonzero(chosen)))
        return energy

    def stress(
        self, kind: PulseKind, row: int, column: int, volts: float, span_ns: int, gate_V: float, count: int
    ) -> None:
        """Let one cell feel a level of a sweep, which ends now. All levels of a sweep draw as its one pulse.

        ``count``: the pulses that the cell had before the sweep.
        """
        state, part = self.state, slice(row, row + 1)
        chosen = np.zeros((1, self.geometry.columns), np.bool_)
        chosen[0, column] = True
        ends = np.array([state.clock_ns])
        begins = np.maximum(ends - span_ns, 0) // self.interval_ns * self.interval_ns
        self.version += 1
        state.pulses[row, column] = count
        fired = Pulsing(self.model, self.seed, self._born, state, part)
        pulse = Pulse(volts, span_ns / 1e9, gate_V)
        energy = fired.fire(kind, chosen, pulse, _ALONE, ends, self._aged(part, begins))
        state.pulses[row, column] = count + 1
        state.meter.add(kind, span_ns, energy, 0)

    def _aged(self, rows: slice, at_ns: npt.NDArray[np.int64]) -> Callable[[], npt.NDArray[np.float32]]:
        """Return what computes, when it is needed, what programming has become by now: float32[rows, columns]."""
        return lambda: self.state.conductance_S[rows] * self._ageing.factor(self.state, at_ns[:, None], rows)

    def pass_time(self, span_ns: int) -> None:
        """Let simulated time pass."""
        self.state.clock_ns += span_ns

    def set_temperature(self, celsius: float) -> None:
        """Change the temperature from now on."""
        state = self.state
        if celsius != state.temperature_C:
            kept = state.history_ns < state.clock_ns  # what began just now has never been
            state.history_ns = np.append(state.history_ns[kept], np.int64(state.clock_ns))
            state.history_C = np.append(state.history_C[kept], celsius)
            self.version += 1

    def age(self, seconds: float, celsius: float | None = None) -> None:
        """Store the die for ``seconds`` at a temperature, then bring it back to the one it was at.

        Raises:
            UsageError: a time or temperature that cannot be; the die is as it was.
        """
        if not 0 <= seconds <= LONGEST_S - self.state.clock_ns / 1e9:
            lived = show(self.state.clock_s, "s")
            raise UsageError(
                f"a die that has lived {lived} cannot age by {show(seconds, 's')}: a life lasts at most "
                f"{show(LONGEST_S, 's')}; nothing was changed"
            )
        if celsius is not None and not COLDEST_C < celsius <= HOTTEST_C:
            raise UsageError(
                f"a die cannot be stored at {celsius} °C: expected above -273.15 and at most 400 °C; nothing was changed"
            )
        before = self.state.temperature_C
        self.set_temperature(before if celsius is None else celsius)
        self.pass_time(round(seconds * 1e9))
        self.set_temperature(before)

    def take_noise(self, conversions: int) -> npt.NDArray[np.float32]:
        """Return the standard normal of each of the next ``conversions`` and advance the counter."""
        begin = self.state.conversions
        self.state.conversions += conversions
        if not self.model.noise.read:
            return np.zeros(conversions, np.float32)  # nobody will look at them
        return self._noise.take(begin, conversions)

    def save(self, path: Path, **memory: npt.NDArray[Any]) -> None:
        """Write the state atomically. ``memory``: what the board must remember beside it, in the same file."""
        write_state(path, self.state, self.model.model_dump_json(), self.seed, memory)

    @classmethod
    def load(cls, path: Path, geometry: Geometry) -> tuple[SimulatedDie, dict[str, npt.NDArray[Any]]]:
        """Read a die back, and what the board remembered.

        Raises:
            DataError: the file is damaged, truncated, of another version or geometry; it is left as it is.
        """
        model, seed, state, memory = read_state(path, geometry)
        try:
            die = cls(geometry, DieModel.model_validate_json(model), seed)
        except (ValidationError, ValueError, OverflowError) as error:
            why = explain(error.errors()[0], DieModel) if isinstance(error, ValidationError) else error
            raise DataError(
                f"the state file {path} garbles the die's model or seed ({why}); it is left as it is"
            ) from error
        die.state = state
        return die, memory

    @property
    def virgin(self) -> bool:
        """No cell was ever pulsed."""
        return not self.state.pulses.any()
