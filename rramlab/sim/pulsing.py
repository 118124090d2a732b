"""What one pulse does to cells: breakdown, set, reset, wear, and disturb of the half-selected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rramlab.macro.cells import Bools, is_conducting
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.sim import randomness
from rramlab.sim.drive import Drive, Shots, breaking
from rramlab.sim.models import DieModel, Forming, Switching
from rramlab.sim.state import HIGH, LOW, PARTIAL, PRISTINE, STUCK, DieState

Floats = npt.NDArray[np.float64]
Cells = npt.NDArray[np.intp]  # flat indices into the array
_SIGMAS = 6.0  # no cell lies further out: what saves a draw that cannot matter


@dataclass(frozen=True, eq=False)
class Cellwise:
    """What every cell is born with: breakdown voltage (V), float32[rows, columns]; factor of each column's conductance."""

    breakdown_V: npt.NDArray[np.float32]
    column_factor: Floats


class Pulsing:
    """One pulse operation on a block of rows of a die's state."""

    def __init__(
        self, model: DieModel, seed: int, born: Cellwise, state: DieState, rows: slice, half: bool = False
    ) -> None:
        self.model, self.seed, self.born, self.state, self.rows = model, seed, born, state, rows
        self.columns = state.phase.shape[1]
        self.start = rows.start * self.columns
        self.size = (rows.stop - rows.start) * self.columns
        # Views: what is written here is written to the state.
        self.phase = state.phase[rows].reshape(-1)
        self.conductance_S = state.conductance_S[rows].reshape(-1)
        self.luck = state.luck[rows].reshape(-1)
        self.changed = np.zeros(self.size, np.bool_)
        self._compliance_A = 0.0
        self._aged: Callable[[], npt.NDArray[np.float32]] | None = None
        self._known: dict[int, npt.NDArray[np.uint64]] = {}  # words of what cells are born with
        self._words: dict[tuple[int, int], npt.NDArray[np.uint64]] = {}  # the last that were drawn
        self._half = half  # cells are half-selected: draws of their own, and no scatter from pulse to pulse

    def fire(
        self,
        kind: PulseKind,
        chosen: Bools,
        pulse: Pulse,
        drive: Drive,
        ends_ns: npt.NDArray[np.int64],
        aged: Callable[[], npt.NDArray[np.float32]],
    ) -> float:
        """Pulse every cell of ``chosen``, bool[rows of the block, columns]; return the energy (J) that cells took.

        The outcome depends on die, cell, that cell's pulse count, the cells driven with it and the pulse only.
        ``ends_ns``: int64[rows of the block], when each row is done. ``aged``: computes what the cells have become
        since they were programmed, float32[rows of the block, columns] in siemens.
        """
        if pulse.gate_V <= self.model.conductance.threshold_V:
            return 0.0  # no channel: the cell sees nothing
        flat = chosen.reshape(-1)
        self._aged = aged
        self._compliance_A = self.model.conductance.current(pulse.gate_V)
        pulses = self.state.pulses[self.rows].reshape(-1)
        current = self._reset_current(flat, pulse) if kind == "reset" else 0.0
        if kind != "reset":
            broken, partly = self._breaking(chosen, pulse, drive)
        for count, some in _by_count(flat, pulses):
            if kind == "reset":
                self._reset(some, count, pulse.amplitude_V, pulse.width_s)
            else:
                self._form(np.flatnonzero(some & broken), count, pulse.gate_V)
                self._form_partly(np.flatnonzero(some & partly), count)
                self._set(some, count, pulse.amplitude_V, pulse.width_s, pulse.gate_V)
                self._overstress(some, pulse)
            self._wear_out(some, count + 1)
        if kind != "reset":
            current = self._forming_current(flat, pulse)
        changed = self.changed.reshape(chosen.shape)
        np.copyto(self.state.programmed_ns[self.rows], ends_ns[:, None], where=changed)
        if self.state.disturb_ppm[self.rows].any():
            np.copyto(self.state.disturb_ppm[self.rows], 0, where=changed)
        self._disturb(kind, chosen, pulse, drive, ends_ns[:, None])
        return float(current * pulse.amplitude_V * pulse.width_s)

    # forming ------------------------------------------------------------------------------------------------------

    def _breaking(self, chosen: Bools, pulse: Pulse, drive: Drive) -> tuple[Bools, Bools]:
        """Return which chosen cells break down, and which fall short by little: bool[cells of the block] each."""
        forming = self.model.forming
        volts = np.float32(_effective_V(forming, pulse.amplitude_V, pulse.width_s))
        breakdown, flat = self.born.breakdown_V[self.rows].reshape(-1), chosen.reshape(-1)
        able = flat & (breakdown <= volts + np.float32(forming.partial_V))
        able &= (self.phase == PRISTINE) | (self.phase == PARTIAL)
        broken = able & (breakdown <= volts)
        partly = able ^ broken
        together = drive.cells_per_pulse or 1
        if together > 1 and drive.switch_Ohm is not None and able.any():
            lift = (self._compliance_A * drive.switch_Ohm[self.rows]).astype(np.float32)  # by one conducting cell, V
            shots = Shots(chosen, together)
            shorted = (self.phase == STUCK) & is_conducting(self.conductance_S)
            conducts = flat & ((self.phase == LOW) | shorted)
            # Most break down even if all the others of their shot conduct.
            enough = breakdown.reshape(chosen.shape) <= (volts - lift * np.float32(together - 1))[:, None]
            sure = broken & enough.reshape(-1)
            contested, broken = np.flatnonzero(broken ^ sure), sure
            if contested.size:
                broken[breaking(contested, conducts | sure, shots, breakdown, volts, lift)] = True
            partly = able & ~broken
            short = np.flatnonzero(partly)
            if short.size:
                row, first, after = shots.of(short)
                seen = volts - lift[row] * shots.count(conducts | broken, first, after)
                partly[short] = breakdown[short] <= seen + np.float32(forming.partial_V)
        return broken, partly & (self.phase == PRISTINE) if forming.partial_V else np.zeros_like(broken)

    def _form(self, cells: Cells, count: int, gate_V: float) -> None:
        if not cells.size:
            return
        self.conductance_S[cells] = self._low_S(cells, count, gate_V)
        self.phase[cells] = LOW
        self.changed[cells] = True

    def _low_S(self, cells: Cells, count: int, gate_V: float) -> npt.NDArray[np.float32]:
        """Draw low-resistance conductances and new luck: the law, a column share, and isolated high outliers."""
        law = self.model.conductance
        chance, rare, luck = self._draw(randomness.LOW_STATE, count, cells)
        self.luck[cells] = luck
        # In float64: single precision exponentials differ in the last bit from one processor to another.
        if law.law_S is not None:
            drawn = np.interp(chance, np.linspace(0, 1, len(law.law_S)), law.law_S)
        else:
            drawn = np.exp(randomness.ndtri(chance) * (law.ln_sigma * np.sqrt(1 - law.column_share))) * law.median_S
        factor = (self.born.column_factor * law.gate_factor(gate_V)).astype(np.float32)
        everywhere = np.broadcast_to(factor, (self.size // self.columns, self.columns)).reshape(-1)
        drawn *= everywhere if cells.size == self.size else everywhere[cells]
        outliers = np.flatnonzero(rare < law.outlier_share * 65536)
        height = rare[outliers] / (law.outlier_share * 65536) if outliers.size else 0.0
        drawn[outliers] += law.outlier_low_S + (law.outlier_high_S - law.outlier_low_S) * height
        return drawn.astype(np.float32)

    def _form_partly(self, cells: Cells, count: int) -> None:
        """Leave cells that fell short by little with a first, thin path."""
        if not cells.size:
            return
        forming = self.model.forming
        # No cell forms wholly and partly by the same pulse: the same words serve both.
        chance, _, self.luck[cells] = self._draw(randomness.LOW_STATE, count, cells)
        self.conductance_S[cells] = forming.partial_S * np.exp(forming.partial_ln_sigma * randomness.ndtri(chance))
        self.phase[cells] = PARTIAL
        self.changed[cells] = True

    def _overstress(self, some: Bools, pulse: Pulse) -> None:
        forming = self.model.forming
        volts = _effective_V(forming, pulse.amplitude_V, pulse.width_s)
        if volts < forming.overstress_V - _SIGMAS * forming.overstress_sigma_V:
            return
        cells = np.flatnonzero(some)
        threshold = forming.overstress_V + forming.overstress_sigma_V * self._normals(randomness.OVERSTRESS, cells)
        self._break(cells[volts >= threshold])

    def _break(self, cells: Cells) -> None:
        cells = cells[self.phase[cells] != STUCK]
        self.phase[cells] = STUCK
        self.conductance_S[cells] = self.model.forming.stuck_S
        self.changed[cells] = True

    # switching ----------------------------------------------------------------------------------------------------

    def _threshold_V(self, cells: Cells, count: int, kind: Literal["set", "reset"]) -> Floats:
        """Return each cell's threshold (V) for this pulse: the mean, its own departure, and the pulse's."""
        switching = self.model.switching
        if kind == "set":
            mean, sigma, cycle = switching.set_V, switching.set_sigma_V, switching.set_cycle_sigma_V
            own, now = randomness.SET_CELL, randomness.SET_PULSE
        else:
            mean, sigma, cycle = switching.reset_V, switching.reset_sigma_V, switching.reset_cycle_sigma_V
            own, now = randomness.RESET_CELL, randomness.RESET_PULSE
        threshold = np.full(cells.size, mean)
        if sigma:
            threshold += sigma * self._normals(own, cells)
        if cycle and not self._half:
            threshold += cycle * self._normals(now, cells, count)
        return threshold

    def _now_S(self, cells: Cells) -> Floats:
        """Return what cells conduct before the pulse (S), with what time and disturb have made of them."""
        aged = self.conductance_S if self._aged is None else self._aged().reshape(-1)
        return np.asarray(aged[cells], np.float64)

    def _reset(self, some: Bools, count: int, volts: float, width_s: float) -> None:
        """Draw low-resistance cells towards the high-resistance state, the further the more the voltage exceeds.

        ln G falls to a depth that is the square of the excess over ``reset_span_V``: small excesses make small steps,
        and further pulses of the same amplitude find little left to do.
        """
        switching = self.model.switching
        cells, seen = np.flatnonzero(some & (self.phase == LOW)), _effective_V(switching, volts, width_s)
        spread = switching.reset_sigma_V + switching.reset_cycle_sigma_V
        if not cells.size or seen < switching.reset_V - _SIGMAS * spread:
            return
        over = seen - self._threshold_V(cells, count, "reset")
        cells, over = cells[over > 0], over[over > 0]
        if not cells.size:
            return
        depth = np.minimum(over / switching.reset_span_V, 1.0) ** 2
        chance, coarse, luck = self._draw(randomness.HIGH_STATE, count, cells)
        bottom = np.log(switching.hrs_median_S) + switching.hrs_ln_sigma * randomness.ndtri(chance)
        before = np.log(self._now_S(cells))
        top = np.log(self._ceiling_S(cells, self.model.conductance.reference_gate_V))
        done = np.clip((top - before) / np.maximum(top - bottom, 1e-9), 0, 1)  # how deep it lies already
        further = np.clip((depth - done) / np.maximum(1 - done, 1e-9), 0, 1)
        scatter = switching.pulse_ln_sigma * randomness.tabulated(coarse) * np.minimum(1, 4 * further * (1 - further))
        after = np.minimum(before, before + further * (bottom - before) + scatter)
        moved = (after < before) | (depth >= 1)
        cells = cells[moved]
        self.conductance_S[cells] = np.exp(after[moved])
        self.phase[cells[depth[moved] >= 1]] = HIGH
        self.luck[cells] = luck[moved]
        self.changed[cells] = True

    def _set(self, some: Bools, count: int, volts: float, width_s: float, gate_V: float) -> None:
        """Switch high-resistance cells to a new low-resistance draw; lift low ones that the compliance exceeds."""
        switching = self.model.switching
        seen, spread = _effective_V(switching, volts, width_s), switching.set_sigma_V + switching.set_cycle_sigma_V
        if seen < switching.set_V - _SIGMAS * spread:
            return
        for phase in (LOW, HIGH):
            cells = np.flatnonzero(some & (self.phase == phase) & ~self.changed)
            if not cells.size:
                continue
            reached = cells[seen > self._threshold_V(cells, count, "set")]
            if phase == HIGH:
                self._form(reached, count, gate_V)
            elif switching.growth:
                self._grow(reached, count, gate_V)

    def _grow(self, cells: Cells, count: int, gate_V: float) -> None:
        """Lift cells towards what the compliance gives each; one that lies far below is set anew."""
        switching = self.model.switching
        if not cells.size:
            return
        before = self._now_S(cells)
        room = np.log(self._ceiling_S(cells, gate_V)) - np.log(before)
        self._form(cells[room > switching.redraw_ln], count, gate_V)
        near = (room > 0) & (room <= switching.redraw_ln)
        cells, room, before = cells[near], room[near], before[near]
        if not cells.size:
            return
        chance, _, self.luck[cells] = self._draw(randomness.GROWTH, count, cells)
        rise = switching.growth * room + np.minimum(room, switching.pulse_ln_sigma) * randomness.ndtri(chance)
        self.conductance_S[cells] = before * np.exp(np.maximum(rise, 0))
        self.changed[cells] = True

    def _ceiling_S(self, cells: Cells, gate_V: float) -> Floats:
        """Return the conductance (S) at which the compliance stops each cell's growth, a cell's own."""
        law = self.model.conductance
        own = np.exp(self.model.switching.ceiling_ln_sigma * self._normals(randomness.CEILING, cells))
        return np.asarray(law.typical_S * law.gate_factor(gate_V) * own * self.born.column_factor[cells % self.columns])

    def _wear_out(self, some: Bools, pulses: int) -> None:
        """Break cells whose life, lognormal in pulses, has come to its end."""
        switching = self.model.switching
        if np.log(pulses) < np.log(switching.endurance_pulses) - _SIGMAS * switching.endurance_ln_sigma:
            return
        cells = np.flatnonzero(some)
        life = switching.endurance_pulses * np.exp(switching.endurance_ln_sigma * self._normals(randomness.LIFE, cells))
        self._break(cells[pulses >= life])

    # half-selected cells ------------------------------------------------------------------------------------------

    def _disturb(
        self, kind: PulseKind, chosen: Bools, pulse: Pulse, drive: Drive, ends_ns: npt.NDArray[np.int64]
    ) -> None:
        """Stress the cells that share a line with pulsed ones, as the bias table has it."""
        if self._can_stress(kind, self.rows, drive.row_V, pulse):
            shots, together = drive.shots(chosen)[:, None], drive.cells_per_pulse or 1
            own = (np.cumsum(chosen, axis=1) - 1) // together
            # A cell that changed feels only the shots after its own: what came before was overwritten.
            left = np.where(self.changed.reshape(chosen.shape), shots - 1 - own, shots - 1)
            self._stress(kind, self.rows, np.where(chosen, left, shots), drive.row_V, pulse, ends_ns)
        everything = slice(0, len(self.state.phase))
        if self._can_stress(kind, everything, drive.column_V, pulse):
            times = np.repeat(chosen.sum(axis=0)[None], everything.stop, axis=0)
            times[self.rows] -= chosen
            self._stress(kind, everything, times, drive.column_V, pulse, ends_ns[-1:])

    def _can_stress(self, kind: PulseKind, rows: slice, volts: float, pulse: Pulse) -> bool:
        """Say whether ``volts`` can do anything to the half-selected cells of ``rows``."""
        if volts <= 0:
            return False
        phase = self.state.phase[rows]
        if kind == "reset":
            return bool((phase == LOW).any())
        weakest = float(self.born.breakdown_V.min())
        return bool((phase == HIGH).any()) or _effective_V(self.model.forming, volts, pulse.width_s) >= weakest

    def _stress(
        self,
        kind: PulseKind,
        rows: slice,
        times: npt.NDArray[np.int64],
        volts: float,
        pulse: Pulse,
        ends_ns: npt.NDArray[np.int64],
    ) -> None:
        """Apply ``volts`` so many ``times`` to each cell of ``rows``: a small shift, and whatever exceeds a threshold."""
        switching = self.model.switching
        ppm = round(1e6 * min(1.0, switching.disturb_rate * float(np.expm1(min(volts / switching.disturb_V, 50.0)))))
        phase = self.state.phase[rows]
        if ppm:
            felt = phase == (LOW if kind == "reset" else HIGH)
            shift = np.minimum(times * ppm, 1_000_000) * felt
            total = self.state.disturb_ppm[rows] + (-shift if kind == "reset" else shift)
            self.state.disturb_ppm[rows] = np.clip(total, -1_000_000, 1_000_000)
        half = Pulse(volts, pulse.width_s, pulse.gate_V)
        hit = times > 0
        other = Pulsing(self.model, self.seed, self.born, self.state, rows, half=True)
        pulses = self.state.pulses[rows].reshape(-1)
        if kind == "reset":
            for count, some in _by_count((hit & (phase == LOW)).reshape(-1), pulses):
                other._reset(some, count, volts, pulse.width_s)
        else:
            broken, _ = other._breaking(hit, half, Drive())
            for count, some in _by_count((hit & (phase == HIGH)).reshape(-1) | broken, pulses):
                other._form(np.flatnonzero(some & broken), count, pulse.gate_V)
                other._set(some & ~broken, count, volts, pulse.width_s, pulse.gate_V)
        switched = other.changed.reshape(hit.shape)
        np.copyto(self.state.programmed_ns[rows], ends_ns, where=switched)
        np.copyto(self.state.disturb_ppm[rows], 0, where=switched)

    # energy -------------------------------------------------------------------------------------------------------

    def _forming_current(self, flat: Bools, pulse: Pulse) -> float:
        """Sum the currents (A) after a forming or set pulse: G·V, limited by the compliance."""
        current = np.minimum(self.conductance_S * np.float32(pulse.amplitude_V), np.float32(self._compliance_A))
        return float(np.sum(current, where=flat, dtype=np.float64))

    def _reset_current(self, flat: Bools, pulse: Pulse) -> float:
        """Sum the currents (A) at the beginning of a reset pulse, when they are largest."""
        return float(np.sum(self.conductance_S, where=flat, dtype=np.float64)) * pulse.amplitude_V

    # draws --------------------------------------------------------------------------------------------------------

    def _draw(
        self, purpose: int, count: int, cells: Cells
    ) -> tuple[Floats, npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
        key = purpose + self._half * randomness.HALF, count
        if key not in self._words:
            self._words = {key: randomness.words(self.seed, *key, self.start, self.size)}
        words = self._words[key]
        return randomness.split(words if cells.size == self.size else words[cells])

    def _normals(self, purpose: int, cells: Cells, count: int | None = None) -> Floats:
        """Draw for some cells of the block; without ``count``: what they are born with."""
        if count is not None:
            return randomness.normals_of(randomness.words(self.seed, purpose, count, self.start, self.size)[cells])
        if purpose not in self._known:
            self._known[purpose] = randomness.words(self.seed, purpose, 0, self.start, self.size)
        return randomness.normals_of(self._known[purpose][cells])


def _effective_V(part: Forming | Switching, volts: float, width_s: float) -> float:
    """Return the voltage (V) that is worth as much at the reference width."""
    return float(volts + part.width_slope_V * np.log10(width_s / part.reference_width_s))


def _by_count(chosen: Bools, pulses: npt.NDArray[np.uint32]) -> Iterator[tuple[int, Bools]]:
    """Split chosen cells, bool[cells], by the number of pulses that they have had."""
    counts = pulses[chosen]
    if not counts.size:
        return
    lowest, highest = int(counts.min()), int(counts.max())
    if lowest == highest:
        yield lowest, chosen
        return
    for count in np.unique(counts).tolist():
        yield count, chosen & (pulses == count)
