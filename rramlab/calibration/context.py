"""What an analysis takes and what it gives: a run with its bench and records; sections of new records, with arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.calibration.gathering import blocks_of
from rramlab.drivers.bench import BenchDescription
from rramlab.drivers.smu.smufile import Accuracy
from rramlab.macro.board import BoardTable
from rramlab.macro.calibration import BoardCalibration
from rramlab.records.applied import calibration_of
from rramlab.records.files import Kept, newest
from rramlab.records.sections import Section
from rramlab.records.values import DAY_S
from rramlab.runs.provenance import collect
from rramlab.runs.store import Run

Whose = Literal["board", "die"]
ASSUMED_READ_NOISE = 0.02  # relative, of one read: the figure that the macro's authors use (design, section 7)
Arrays = dict[str, tuple[npt.NDArray[np.float64], str]]


@dataclass
class Found:
    """Sections of records by whose they are, and arrays beside them: ``section/name`` → (array, unit)."""

    sections: dict[Whose, dict[str, Section]] = field(default_factory=lambda: {"board": {}, "die": {}})
    arrays: dict[Whose, Arrays] = field(default_factory=lambda: {"board": {}, "die": {}})

    def add(self, whose: Whose, name: str, section: Section, **arrays: tuple[Any, str]) -> None:
        self.sections[whose][name] = section
        for key, (values, unit) in arrays.items():
            self.arrays[whose][f"{name}/{key}"] = np.asarray(values, np.float64), unit


def refuse_other_unit(section: Section, name: str, unit: str) -> None:
    """What rests on another section must have been measured with the same unit: then what that is wrong by cancels.

    Raises:
        DataError: it was another one.
    """
    if unit not in section.instruments:
        raise DataError(
            f"{name!r} was measured with {', '.join(section.instruments)}, this run with {unit}: two units are wrong by "
            "different amounts, which would not cancel. Nothing was written. Measure both with one unit: "
            f"rramlab calibrate {name} --set smu=…"
        )


@dataclass(frozen=True)
class Context:
    """What an analysis may use: the run, its bench, and the records in force of its board and die."""

    run: Run
    description: BenchDescription
    board: Kept | None
    die: Kept | None
    about: Mapping[str, Any]

    @classmethod
    def of(cls, run: Run, description: BenchDescription) -> Context:
        """Read what it may use.

        Raises:
            DataError: a record was changed by hand, and nobody has accepted that.
        """
        about = run.provenance
        root = description.root
        board, die = newest(root, "board", about["board_serial"]), newest(root, "die", run.die)
        for kept in (board, die):
            if kept is not None:
                kept.refuse_changed("Nothing was written: what is found would rest on it")
        return cls(run, description, board, die, about)

    @property
    def table(self) -> BoardTable:
        return self.description.board

    @property
    def calibration(self) -> BoardCalibration:
        """By the record in force now, whatever was in force when the run was made."""
        return BoardCalibration.nominal(self.table) if self.board is None else calibration_of(self.board, self.table)

    def accuracy(self, dataset: str) -> tuple[Accuracy, str]:
        """Return what the data sheet of the unit that measured a data set promises, and what the unit says it is.

        Raises:
            DataError: its driver file does not say.
        """
        name = str(blocks_of(self.run, dataset)[0].attributes["smu"])
        file = self.description.smu_files.get(name)
        if file is None or file.accuracy is None:
            raise DataError(
                f"the driver file of the source-measure unit {name!r} says nothing of its accuracy, so no uncertainty can be "
                "stated. Enter 'accuracy' from its data sheet in drivers/ (see drivers/README.md)"
            )
        return file.accuracy, str(self.about.get("instruments", {}).get(name, name))

    def common(self, model: type[Section], *instruments: str) -> dict[str, Any]:
        """Return what every section says."""
        return {
            "measured_at": datetime.fromisoformat(self.run.record["started_at"]),
            "board": self.about["board_serial"],
            "die": self.run.die,
            "runs": (self.run.id,),
            "instruments": instruments,
            "temperature": self.about["temperature_C"],
            "valid_for": model.days * DAY_S,
            "software": f"rramlab {collect()['rramlab']}",
        }

    @property
    def read_noise(self) -> float:
        """Relative, of one read: as measured of the die, else assumed."""
        noise_section = None if self.die is None else getattr(self.die.record, "noise", None)
        return ASSUMED_READ_NOISE if noise_section is None else float(noise_section.read.value)

    def section(self, name: str) -> Any:
        """Return a section of the board's record that this analysis rests on.

        Raises:
            DataError: there is none.
        """
        found = None if self.board is None else getattr(self.board.record, name)
        if found is None:
            raise DataError(
                f"board {self.about['board_serial']!r} has no {name!r} in its record, which this rests on. Measure that first: "
                f"rramlab calibrate {name}"
            )
        began = datetime.fromisoformat(self.run.record["started_at"])
        fault = found.fault(began, float(self.about["temperature_C"]))
        if fault is not None:
            raise DataError(
                f"the section {name!r} of board {self.about['board_serial']!r}, which this rests on, {fault}; nothing was "
                f"written. Measure that anew first: rramlab calibrate {name}"
            )
        return found
