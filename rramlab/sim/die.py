"""A simulated die: cells that break down, form, set and reset at random, and remember it in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse, PulseKind
from rramlab.sim import randomness
from rramlab.sim.models import DieModel

STATE_VERSION = 1
PRISTINE, LOW, HIGH, STUCK = 0, 1, 2, 3  # never broken down; low- and high-resistance state; shorted for good


@dataclass
class DieState:
    """Everything that changes in a die's life."""

    phase: npt.NDArray[np.uint8]  # PRISTINE, LOW, HIGH or STUCK a cell
    conductance_S: npt.NDArray[np.float32]
    pulses: npt.NDArray[np.uint32]
    conversions: int = 0  # read noise is keyed by this counter
    clock_s: float = 0.0  # advances by the duration of operations only


class SimulatedDie:
    """The cells themselves. Its conductances are the hidden truth: only a controller may look at them."""

    def __init__(self, geometry: Geometry, model: DieModel, seed: int) -> None:
        self.geometry, self.model, self.seed = geometry, model, seed
        pristine = model.pristine_S * np.exp(
            model.pristine_ln_sigma * randomness.normals(seed, randomness.PRISTINE, 0, 0, geometry.cells)
        )
        self.state = DieState(
            np.full(geometry.shape, PRISTINE, np.uint8),
            pristine.astype(np.float32).reshape(geometry.shape),
            np.zeros(geometry.shape, np.uint32),
        )
        chance = randomness.uniforms(seed, randomness.BREAKDOWN, 0, 0, geometry.cells)
        self.breakdown_V = model.breakdown(chance).reshape(geometry.shape)
        spread = model.formed_ln_sigma * np.sqrt(model.column_share)
        self.column_factor = np.exp(spread * randomness.normals(seed, randomness.COLUMN, 0, 0, geometry.columns))

    def pulse(self, kind: PulseKind, cells: CellSelection, pulse: Pulse) -> None:
        """Give each selected cell one pulse. The outcome depends on die, cell, that cell's pulse count and pulse only."""
        rows = cells.rows
        if not rows.size:
            return
        block = slice(int(rows[0]), int(rows[-1]) + 1)
        chosen = cells.bits[block]
        for count in np.unique(self.state.pulses[block][chosen]).tolist():
            self._pulse(kind, block, chosen & (self.state.pulses[block] == count), count, pulse)
        self.state.pulses[block] += chosen

    def _pulse(self, kind: PulseKind, block: slice, chosen: npt.NDArray[np.bool_], count: int, pulse: Pulse) -> None:
        """Pulse cells that have all had ``count`` pulses before."""
        model, phase, conductance = self.model, self.state.phase[block], self.state.conductance_S[block]
        if kind == "reset":
            threshold = model.reset_V + model.reset_sigma_V * self._normals(randomness.RESET_THRESHOLD, count, block)
            falls = chosen & (phase == LOW) & (pulse.amplitude_V >= threshold)
            phase[falls] = HIGH
            conductance[falls] = self._high(block, count)[falls]
            return
        effective_V = pulse.amplitude_V + model.width_slope_V * np.log10(pulse.width_s / model.reference_width_s)
        breaks = chosen & (phase == PRISTINE) & (effective_V >= self.breakdown_V[block])
        threshold = model.set_V + model.set_sigma_V * self._normals(randomness.SET_THRESHOLD, count, block)
        rises = chosen & (phase == HIGH) & (pulse.amplitude_V >= threshold)
        lands = breaks | rises
        phase[lands] = LOW
        conductance[lands] = self._low(block, count, pulse.gate_V)[lands]
        if effective_V > model.overstress_V:
            phase[chosen] = STUCK
            conductance[chosen] = model.stuck_S

    def _low(self, block: slice, count: int, gate_V: float) -> npt.NDArray[np.float64]:
        """Draw low-resistance conductances: lognormal, a column share, and isolated high outliers."""
        model = self.model
        median = model.formed_median_S * (gate_V / model.reference_gate_V) ** model.gate_exponent
        spread = model.formed_ln_sigma * np.sqrt(1 - model.column_share)
        drawn = median * np.exp(spread * self._normals(randomness.LOW_STATE, count, block)) * self.column_factor
        chance = self._uniforms(randomness.OUTLIER, count, block)
        share = chance / model.outlier_share if model.outlier_share else np.ones_like(chance)
        extra = model.outlier_low_S + (model.outlier_high_S - model.outlier_low_S) * share
        return np.asarray(drawn + np.where(chance < model.outlier_share, extra, 0.0))

    def _high(self, block: slice, count: int) -> npt.NDArray[np.float64]:
        spread = self.model.hrs_ln_sigma * self._normals(randomness.HIGH_STATE, count, block)
        return np.asarray(self.model.hrs_median_S * np.exp(spread))

    def _normals(self, purpose: int, count: int, block: slice) -> npt.NDArray[np.float64]:
        start, cells = block.start * self.geometry.columns, (block.stop - block.start) * self.geometry.columns
        return randomness.normals(self.seed, purpose, count, start, cells).reshape(-1, self.geometry.columns)

    def _uniforms(self, purpose: int, count: int, block: slice) -> npt.NDArray[np.float64]:
        start, cells = block.start * self.geometry.columns, (block.stop - block.start) * self.geometry.columns
        return randomness.uniforms(self.seed, purpose, count, start, cells).reshape(-1, self.geometry.columns)

    def take_noise(self, conversions: int) -> npt.NDArray[np.float32]:
        """Return the standard normal of each of the next ``conversions`` and advance the counter."""
        drawn = randomness.noise(self.seed, self.state.conversions, conversions)
        self.state.conversions += conversions
        return drawn

    def save(self, path: Path, **memory: npt.NDArray[Any]) -> None:
        """Write the state atomically. ``memory``: what the board must remember beside it, in the same file."""
        own: dict[str, npt.NDArray[Any]] = {
            "version": np.array(STATE_VERSION),
            "seed": np.array(self.seed, np.uint64),
            "model": np.array(self.model.model_dump_json()),
            "phase": self.state.phase,
            "conductance_S": self.state.conductance_S,
            "pulses": self.state.pulses,
            "conversions": np.array(self.state.conversions, np.uint64),
            "clock_s": np.array(self.state.clock_s),
        }
        save_arrays(path, own | memory, compressed=False)

    @classmethod
    def load(cls, path: Path, geometry: Geometry) -> tuple[SimulatedDie, dict[str, npt.NDArray[Any]]]:
        """Read a die back, and what the board remembered.

        Raises:
            DataError: the file is damaged, truncated, of another version or geometry; it is left as it is.
        """
        try:
            arrays = load_arrays(path)
            version = int(arrays.pop("version"))
        except (DataError, KeyError, ValueError) as error:
            raise DataError(
                f"the state file {path} of the simulated die is damaged ({error}); nothing was energised and the file "
                "is left as it is. Restore it from a copy, or move it away to start with a virgin die under a new id"
            ) from error
        if version != STATE_VERSION:
            raise DataError(
                f"the state file {path} is of version {version}, this program reads {STATE_VERSION}; nothing was "
                "energised and the file is left as it is. Use the version of rramlab that wrote it"
            )
        try:
            die = cls(geometry, DieModel.model_validate_json(str(arrays.pop("model"))), int(arrays.pop("seed")))
            state = DieState(
                arrays.pop("phase"),
                arrays.pop("conductance_S"),
                arrays.pop("pulses"),
                int(arrays.pop("conversions")),
                float(arrays.pop("clock_s")),
            )
        except (KeyError, ValueError) as error:
            raise DataError(
                f"the state file {path} lacks or garbles an entry ({error}); it is left as it is"
            ) from error
        found = {array.shape for array in (state.phase, state.conductance_S, state.pulses)}
        if found != {geometry.shape}:
            raise DataError(
                f"the state file {path} holds cells {found}, the board says {geometry.shape}; it is left as it is"
            )
        die.state = state
        return die, arrays
