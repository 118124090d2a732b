"""What a record means for a session: the conversion that follows from it, whether it holds, and what the bench says of that."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rramlab.base.errors import DataError, Refused, Uncalibrated
from rramlab.base.times import wall
from rramlab.macro.board import BoardTable
from rramlab.macro.calibration import BoardCalibration
from rramlab.macro.crossbar import LineResistances
from rramlab.macro.geometry import Geometry
from rramlab.records.files import FOLDER, BoardRecord, DieRecord, Kept, newest
from rramlab.records.sections import AdcSection

Policy = Literal["require", "warn", "none"]
_REMEDY = "Calibrate it: rramlab calibrate all"


def calibration_of(kept: Kept, table: BoardTable) -> BoardCalibration:
    """Return the conversion that a board's record gives.

    Raises:
        DataError: its arrays do not fit the board.
    """
    record = kept.record
    assert isinstance(record, BoardRecord)
    nominal, adc, dac = BoardCalibration.nominal(table), record.adc, record.dac
    found: dict[str, Any] = {}
    for name in AdcSection.arrays:
        values = getattr(nominal, name) if adc is None else kept.arrays[f"adc/{name}"]
        if values.shape != (table.geometry.columns,):
            raise DataError(
                f"{kept.path} has {name} for {values.size} columns, the board has {table.geometry.columns}: it is of another "
                f"board, or damaged. {_REMEDY}"
            )
        found[name] = values
    if adc is not None:
        found["read_line"] = adc.dac_gain.value, adc.dac_offset.value
    gain, offset_V = (1.0, 0.0) if dac is None else (dac.gain.value, dac.offset.value)
    return BoardCalibration(kept.id, table, **found, dac_gain=gain, dac_offset_V=offset_V)


def lines_of(root: Path, serial: str, die: str, geometry: Geometry, temperature_C: float) -> LineResistances | None:
    """Return the resistances of switches and wires; None where they were not measured, or hold no longer."""
    of_board, of_die = newest(root, "board", serial), newest(root, "die", die)
    now = wall()
    for kept, name in ((of_board, "lines"), (of_die, "wires")):
        section = None if kept is None else getattr(kept.record, name)
        if kept is None or section is None or section.fault(now, temperature_C) is not None:
            return None
        kept.refuse_changed("What the lines take is not given back by it")
    assert of_board is not None
    assert of_die is not None
    assert isinstance(of_die.record, DieRecord)
    assert of_die.record.wires is not None
    if (
        of_board.arrays["lines/bl_Ohm"].size != geometry.rows
        or of_board.arrays["lines/sl_Ohm"].size != geometry.columns
    ):
        raise DataError(f"{of_board.path} has lines of another board than one of {geometry}: it was edited. {_REMEDY}")
    bl_Ohm, sl_Ohm = (np.maximum(of_board.arrays[f"lines/{name}"], 0) for name in ("bl_Ohm", "sl_Ohm"))
    return LineResistances(bl_Ohm, sl_Ohm, max(0.0, of_die.record.wires.segment.value))


@dataclass(frozen=True)
class InForce:
    """The conversion of a session, the record behind it, and what is wrong with that: empty where nothing is."""

    calibration: BoardCalibration
    kept: Kept | None
    faults: tuple[str, ...]


def faults_of(
    kept: Kept | None, root: Path, serial: str, temperature_C: float, now: datetime | None = None
) -> tuple[str, ...]:
    """Return what is wrong with the record of a board: missing, changed by hand, expired, or of another temperature."""
    if kept is None:
        return (f"board {serial!r} has no calibration record in {root / FOLDER}",)
    now = now or wall()
    record = kept.record
    assert isinstance(record, BoardRecord)
    found = [kept.fault] if kept.fault else []
    missing = [name for name in ("adc", "dac") if getattr(record, name) is None]
    found += [f"{kept.path.name} has no section {name!r}" for name in missing]
    for name in ("adc", "dac"):
        section = getattr(record, name)
        fault = None if section is None else section.fault(now, temperature_C)
        if fault is not None:
            found.append(f"the section {name!r} of {kept.path.name} {fault}")
    return tuple(found)


def refuse_faults(faults: tuple[str, ...], policy: Policy) -> None:
    """See that a bench which requires a calibration that holds has one.

    Raises:
        Refused: something is wrong with it.
    """
    if faults and policy == "require":
        raise Refused(
            f"the bench requires a calibration that holds, and {'; '.join(faults)}; nothing was energised. {_REMEDY}; or set "
            "calibration_policy to 'warn' or 'none' in bench.yaml to work without"
        )


def in_force(root: Path, serial: str, table: BoardTable, temperature_C: float, policy: Policy) -> InForce:
    """Return what a session converts with, as the bench's policy says.

    ``require``: a record that holds, or nothing is done. ``warn``: the newest record, whatever is wrong with it, and a warning
    that says so. ``none``: a record that holds, else the board's nominal figures.

    Raises:
        Refused: it is required and does not hold. UsageError, DataError: the record is not what it should be.
    """
    kept = newest(root, "board", serial)
    faults = faults_of(kept, root, serial, temperature_C)
    refuse_faults(faults, policy)
    if faults and policy == "warn":
        told = (
            "conductances are converted with the board's nominal figures"
            if kept is None
            else f"it is used all the same ({kept.id})"
        )
        warnings.warn(f"{'; '.join(faults)}: {told}. {_REMEDY}", Uncalibrated, stacklevel=3)
    if kept is None or (faults and policy == "none"):
        return InForce(BoardCalibration.nominal(table), None, faults)
    return InForce(calibration_of(kept, table), kept, faults)
