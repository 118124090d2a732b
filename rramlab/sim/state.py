"""What changes in a die's life, and the file that keeps it between commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError
from rramlab.macro.geometry import Geometry

STATE_VERSION = 2
# Never broken down; low- and high-resistance state; broken for good; partly formed.
PRISTINE, LOW, HIGH, STUCK, PARTIAL = 0, 1, 2, 3, 4
PHASES = ("pristine", "low resistance", "high resistance", "stuck", "partly formed")
KINDS = ("electroform", "set", "reset", "read", "multiply")  # of operations, as the meter counts them

MOST_S = 10.0  # beyond any draw of a model
COLDEST_C, HOTTEST_C = -273.15, 400.0  # what a die may be stored at: above the first

Arrays = dict[str, npt.NDArray[Any]]


@dataclass
class Meter:
    """Simulated time, energy and events (pulses or conversions) of each kind of operation."""

    time_ns: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(KINDS), np.int64))
    energy_J: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(KINDS)))
    events: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(KINDS), np.int64))

    def add(self, kind: str, time_ns: int, energy_J: float, events: int) -> None:
        index = KINDS.index(kind)
        self.time_ns[index] += time_ns
        self.energy_J[index] += energy_J
        self.events[index] += events


@dataclass
class DieState:
    """Everything that changes in a die's life. Arrays are [rows, columns]."""

    phase: npt.NDArray[np.uint8]  # PRISTINE, LOW, HIGH, STUCK or PARTIAL
    conductance_S: npt.NDArray[np.float32]  # as it was programmed, at the reference temperature
    pulses: npt.NDArray[np.uint32]
    programmed_ns: npt.NDArray[np.int64]  # clock when the conductance was programmed
    luck: npt.NDArray[np.uint16]  # random bits of that moment: how the cell relaxes
    disturb_ppm: npt.NDArray[np.int32]  # of ln G by half-selection since then; integers add up in any order
    clock_ns: int = 0  # advances by the duration of operations only; integers add up in any order
    conversions: int = 0  # read noise is keyed by this counter
    # The temperature from each moment on: int64[n] and float64[n].
    history_ns: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(1, np.int64))
    history_C: npt.NDArray[np.float64] = field(default_factory=lambda: np.full(1, 25.0))
    meter: Meter = field(default_factory=Meter)

    @classmethod
    def virgin(cls, conductance_S: npt.NDArray[np.float32]) -> DieState:
        shape = conductance_S.shape
        return cls(
            np.full(shape, PRISTINE, np.uint8),
            conductance_S,
            np.zeros(shape, np.uint32),
            np.zeros(shape, np.int64),
            np.full(shape, 1 << 15, np.uint16),
            np.zeros(shape, np.int32),
        )

    @property
    def clock_s(self) -> float:
        return self.clock_ns / 1e9

    @property
    def temperature_C(self) -> float:
        return float(self.history_C[-1])

    def arrays(self) -> Arrays:
        """Return what a file holds of it."""
        return {
            "phase": self.phase,
            "conductance_S": self.conductance_S,
            "pulses": self.pulses,
            "programmed_ns": self.programmed_ns,
            "luck": self.luck,
            "disturb_ppm": self.disturb_ppm,
            "clock_ns": np.array(self.clock_ns, np.int64),
            "conversions": np.array(self.conversions, np.uint64),
            "history_ns": self.history_ns,
            "history_C": self.history_C,
            "meter_time_ns": self.meter.time_ns,
            "meter_energy_J": self.meter.energy_J,
            "meter_events": self.meter.events,
        }

    @classmethod
    def taken(cls, arrays: Arrays, geometry: Geometry) -> DieState:
        """Take the state out of ``arrays`` and leave the rest there.

        Raises:
            KeyError, ValueError: an entry is missing, or not what it should be.
        """
        cells = {
            name: checked(arrays.pop(name), dtype, geometry.shape, name)
            for name, dtype in (
                ("phase", np.uint8),
                ("conductance_S", np.float32),
                ("pulses", np.uint32),
                ("programmed_ns", np.int64),
                ("luck", np.uint16),
                ("disturb_ppm", np.int32),
            )
        }
        if cells["phase"].max() >= len(PHASES):
            raise ValueError(f"a cell is in phase {cells['phase'].max()}, there are {len(PHASES)}")
        if not ((cells["conductance_S"] > 0) & (cells["conductance_S"] <= MOST_S)).all():
            raise ValueError(f"a conductance is not a positive number of at most {MOST_S:g} S")
        clock = int(checked(arrays.pop("clock_ns"), np.int64, (), "clock_ns"))
        conversions = int(checked(arrays.pop("conversions"), np.uint64, (), "conversions"))
        count = (arrays["history_ns"].size,)
        history_ns = checked(arrays.pop("history_ns"), np.int64, count, "history_ns")
        history_C = checked(arrays.pop("history_C"), np.float64, count, "history_C")
        if not count[0] or history_ns[0] != 0 or np.any(np.diff(history_ns) < 0) or history_ns[-1] > clock:
            raise ValueError("the history of temperatures is not in order")
        if not ((history_C > COLDEST_C) & (history_C <= HOTTEST_C)).all():
            raise ValueError("a temperature in the history cannot be")
        if cells["programmed_ns"].min() < 0 or cells["programmed_ns"].max() > clock:
            raise ValueError("a cell was programmed at a time that the clock has not seen")
        size = (len(KINDS),)
        meter = Meter(
            checked(arrays.pop("meter_time_ns"), np.int64, size, "meter_time_ns"),
            checked(arrays.pop("meter_energy_J"), np.float64, size, "meter_energy_J"),
            checked(arrays.pop("meter_events"), np.int64, size, "meter_events"),
        )
        if not np.isfinite(meter.energy_J).all():
            raise ValueError("an energy of the meter is not a number")
        return cls(
            **cells, clock_ns=clock, conversions=conversions, history_ns=history_ns, history_C=history_C, meter=meter
        )


def checked(array: npt.NDArray[Any], dtype: type, shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    if array.dtype != dtype or array.shape != shape:
        raise ValueError(f"{name} is {array.dtype}{array.shape}, expected {np.dtype(dtype)}{shape}")
    return array


def write_state(path: Path, state: DieState, model: str, seed: int, memory: Arrays) -> None:
    """Replace ``path`` in one rename. ``model``: the die's, as JSON. ``memory``: what the board must remember beside it."""
    own: Arrays = {
        "version": np.array(STATE_VERSION),
        "seed": np.array(seed, np.uint64),
        "model": np.array(model),
        **state.arrays(),
    }
    save_arrays(path, own | memory, compressed=False)


def read_state(path: Path, geometry: Geometry) -> tuple[str, int, DieState, Arrays]:
    """Return model (JSON), seed, state, and what the board remembered.

    Raises:
        DataError: the file is damaged, truncated, of another version or geometry; it is left as it is.
    """
    try:
        arrays = load_arrays(path)
        version = int(arrays.pop("version"))
    except (DataError, KeyError, ValueError, TypeError) as error:
        raise DataError(
            f"the state file {path} of the simulated die is damaged ({error}); nothing was energised and the file "
            "is left as it is. Restore it from a copy, or move it away to start with a virgin die under a new id"
        ) from error
    if version != STATE_VERSION:
        raise DataError(
            f"the state file {path} is of version {version}, this program reads {STATE_VERSION}; nothing was "
            "energised and the file is left as it is. Use the version of rramlab that wrote it, or a new die id"
        )
    try:
        model, seed = str(arrays.pop("model")), int(arrays.pop("seed"))
        found = arrays["phase"].shape
        if found != geometry.shape:
            raise ValueError(f"it holds {found} cells, the board says {geometry.shape}")
        return model, seed, DieState.taken(arrays, geometry), arrays
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"the state file {path} lacks or garbles an entry ({error}); it is left as it is") from error
