"""What time and temperature make of programmed cells: relaxation, drift, telegraph noise, temperature coefficient."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from rramlab.sim import randomness
from rramlab.sim.models import DieModel, Relaxation
from rramlab.sim.state import PRISTINE, STUCK, DieState

BOLTZMANN_EV = 8.617333e-5  # eV/K, CODATA 2018
_ZERO_C = 273.15
_BLOCK_CELLS = 1 << 15  # aged at once, in whole rows: so many that intermediates stay in cache

Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Traps:
    """Cells with a trap that switches. Flat indices, sorted by class of time constant; ``bounds`` delimit the classes."""

    cells: npt.NDArray[np.intp]
    phase: npt.NDArray[np.float64]  # where in its time slot a trap was at time zero, 0 … 1
    bounds: npt.NDArray[np.intp]
    slot_s: npt.NDArray[np.float64]  # of each class

    @classmethod
    def born(cls, model: DieModel, seed: int, cells: int) -> Traps:
        """Draw which cells have a trap and how fast it is: time constants even in log time, in classes of an octave."""
        noise = model.noise
        found = np.flatnonzero(randomness.uniforms(seed, randomness.TRAP, 0, 0, cells) < noise.telegraph_share)
        octaves = np.log2(noise.telegraph_longest_s / noise.telegraph_shortest_s)
        classes = int(np.ceil(octaves)) + 1
        when = randomness.uniforms(seed, randomness.TRAP_TIME, 0, 0, cells)[found] * octaves
        member = np.rint(when).astype(np.int64)
        order = np.argsort(member, kind="stable")
        found = found[order]
        phase = randomness.uniforms(seed, randomness.TRAP_PHASE, 0, 0, cells)[found]
        bounds = np.searchsorted(member[order], np.arange(classes + 1))
        return cls(found, phase, bounds, noise.telegraph_shortest_s * np.exp2(np.arange(classes)))

    def filled(self, seed: int, at_s: float) -> npt.NDArray[np.bool_]:
        """Return which traps are filled at a time (s): bool[traps].

        Time is cut in slots of the trap's time constant; in each slot a trap is filled or empty with equal
        probability, so its state is a function of time alone, however simulated time was passed.
        """
        state = np.zeros(len(self.cells), np.bool_)
        for index, slot_s in enumerate(self.slot_s.tolist()):
            part = slice(int(self.bounds[index]), int(self.bounds[index + 1]))
            if part.start == part.stop:
                continue
            position = at_s / slot_s + self.phase[part]
            first = int(at_s / slot_s)
            # The key has room for 2³³ slots of each class; after so many a trap does the same again.
            levels = [_telegraph(seed, index, slot, part.stop - part.start) for slot in (first, first + 1)]
            state[part] = np.where(position < first + 1, *levels)
        return state


@lru_cache(maxsize=128)  # the slots of slow traps last for many intervals
def _telegraph(seed: int, index: int, slot: int, count: int) -> npt.NDArray[np.bool_]:
    """Return which traps of a class are filled in one of its slots, were it theirs: bool[count], read-only."""
    words = randomness.words(seed, randomness.TELEGRAPH, (index << 33) | (slot % (1 << 33)), 0, count)
    levels = (words & np.uint64(1)).astype(np.bool_)
    levels.setflags(write=False)
    return levels


def acceleration(relaxation: Relaxation, temperature_C: float) -> float:
    """Return how much faster thermally activated change runs at a temperature than at the reference (Arrhenius)."""
    inverse = 1 / (relaxation.reference_C + _ZERO_C) - 1 / (temperature_C + _ZERO_C)
    return float(np.exp(np.clip(relaxation.activation_eV / BOLTZMANN_EV * inverse, -60, 60)))


def thermal_s(relaxation: Relaxation, state: DieState, times_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the time (s at the reference temperature) that is worth the die's past up to each of ``times_ns``."""
    rate = np.array([acceleration(relaxation, celsius) for celsius in state.history_C.tolist()])
    spans = np.diff(state.history_ns) / 1e9
    before = np.concatenate([[0.0], np.cumsum(spans * rate[:-1])])
    part = np.searchsorted(state.history_ns, times_ns, side="right") - 1
    return np.asarray(before[part] + (times_ns - state.history_ns[part]) / 1e9 * rate[part])


class Ageing:
    """The conductances of a die at a time."""

    def __init__(self, model: DieModel, seed: int, cells: int) -> None:
        self.model, self.seed = model, seed
        self.interval_ns = max(1, round(model.relaxation.interval_s * 1e9))
        self.traps = Traps.born(model, seed, cells)

    def interval(self, clock_ns: int) -> int:
        """Return the number of the interval in which slow changes are taken as frozen."""
        return clock_ns // self.interval_ns

    def conductance_S(self, state: DieState, interval: int, rows: slice = slice(None)) -> Floats32:
        """Return what each cell of some rows conducts in an interval: float32[rows, columns]."""
        at_ns = interval * self.interval_ns
        relaxation, noise = self.model.relaxation, self.model.noise
        now: Floats32 = state.conductance_S[rows].copy()
        first, step = rows.start or 0, max(1, _BLOCK_CELLS // now.shape[1])
        for start in range(0, len(now), step):
            block = now[start : start + step]
            block *= self.factor(state, np.array([[at_ns]], np.int64), slice(first + start, first + start + len(block)))
        warmer = state.temperature_C - relaxation.reference_C
        if warmer and relaxation.temperature_coefficient:
            now *= np.float32(max(1 + relaxation.temperature_coefficient * warmer, 0.01))
        if noise.telegraph_share and noise.telegraph_amplitude:
            low = self.traps.cells[self.traps.filled(self.seed, at_ns / 1e9)]
            low -= first * now.shape[1]
            own = low[(low >= 0) & (low < now.size)]
            now.reshape(-1)[own] *= np.float32(1 - noise.telegraph_amplitude)
        return now

    def factor(self, state: DieState, at_ns: npt.NDArray[np.int64], rows: slice = slice(None)) -> Floats32:
        """Return what time and disturb have made of each cell for good, relative to when it was programmed.

        ``at_ns``: int64[rows or 1, 1]. Returns float32[rows, columns].
        """
        relaxation = self.model.relaxation
        phase = state.phase[rows]
        alive = (phase != PRISTINE) & (phase != STUCK)
        programmed = _programmed(state.programmed_ns[rows], alive)
        living = alive.astype(np.float32)
        exponent = state.disturb_ppm[rows] * 1e-6
        if relaxation.relax_mean or relaxation.relax_ln_sigma:
            exponent += self._relaxed(np.maximum(at_ns - programmed, 0) / 1e9, state.luck[rows], living)
        if relaxation.drift or relaxation.drift_sigma:
            exponent -= self._drifted(state, at_ns, programmed, rows, living)
        # In float64: single precision exponentials differ in the last bit from one processor to another.
        factor: Floats32 = np.exp(exponent).astype(np.float32)
        return factor

    def _relaxed(
        self, age_s: npt.NDArray[np.float64], luck: npt.NDArray[np.uint16], living: Floats32
    ) -> npt.NDArray[np.float64]:
        """Return ln G gained by relaxation: log time between start and end, a direction of its own for each cell."""
        r = self.model.relaxation
        progress = np.log1p(age_s / r.relax_start_s) / np.log1p(r.relax_end_s / r.relax_start_s)
        way = randomness.tabulated(luck)
        way *= np.float32(r.relax_ln_sigma)
        way -= np.float32(r.relax_mean)
        way *= living
        return np.asarray(np.minimum(progress, 1) * way)

    def _drifted(
        self,
        state: DieState,
        at_ns: npt.NDArray[np.int64],
        programmed: npt.NDArray[np.int64],
        rows: slice,
        living: Floats32,
    ) -> npt.NDArray[np.float64]:
        """Return ln G lost by drift, with thermally accelerated time since each cell was programmed."""
        r = self.model.relaxation
        # Drawn anew each time: kept, it would be a tenth of a die's memory.
        start = (rows.start or 0) * living.shape[1]
        exponent = randomness.ShortNormals(self.seed, randomness.DRIFT).take(start, living.size).reshape(living.shape)
        exponent *= np.float32(r.drift_sigma)
        exponent += np.float32(r.drift)
        exponent *= living
        if len(state.history_ns) == 1:
            since = (at_ns - programmed) * (acceleration(r, state.temperature_C) / 1e9)
        else:
            then = thermal_s(r, state, programmed.reshape(-1)).reshape(programmed.shape)
            since = thermal_s(r, state, at_ns.reshape(-1)).reshape(at_ns.shape) - then
        return np.asarray(np.log1p(np.maximum(since, 0) / r.drift_start_s) * exponent)


def _programmed(programmed_ns: npt.NDArray[np.int64], alive: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return when each living cell was programmed: int64[rows, columns], or [rows, 1] where a row's cells were together.

    As by forming: logarithms of time are then taken once a row.
    """
    last = (programmed_ns * alive).max(axis=1, keepdims=True)
    return np.asarray(last) if ((programmed_ns == last) | ~alive).all() else programmed_ns
