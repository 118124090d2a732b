"""Calibration records: plain YAML with units in the bench folder, one file a measurement, the newest one in force."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import write_atomic
from rramlab.base.units import Seconds, Volts, show
from rramlab.base.yamlfile import load_model
from rramlab.macro.forming import FormingCurve

FOLDER = "calibration"


class Voltage(BaseModel):
    """A value and its standard uncertainty."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    value: Volts
    uncertainty: Volts = Field(ge=0)

    def __str__(self) -> str:
        return f"{show(self.value, 'V')} ± {show(self.uncertainty, 'V')}"


class FormingRecord(BaseModel):
    """The breakdown curve of a die: mean and standard deviation of its cells' breakdown voltages, and how it was found."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    die: str = Field(min_length=1)
    board: str = Field(min_length=1)  # the voltages are those that this board was asked for
    measured_at: datetime
    run: str
    mean: Voltage
    sigma: Voltage
    width: Seconds = Field(gt=0)
    gate: Volts = Field(ge=0)
    cells: int = Field(ge=1)
    formed: int = Field(ge=0)
    temperature_C: float
    software: str

    @field_validator("measured_at")
    @classmethod
    def _in_some_zone(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("found a time without its zone, expected one such as '2026-11-22T14:00:00+00:00'")
        return value

    @property
    def curve(self) -> FormingCurve:
        return FormingCurve(self.mean.value, self.sigma.value)


def save(root: Path, record: FormingRecord) -> Path:
    """Write a record into the bench folder beside the older ones; return its path."""
    stamp = record.measured_at.strftime("%Y%m%d-%H%M%S")
    path = root / FOLDER / f"{record.die}-forming-{stamp}.yaml"
    if path.exists():
        raise DataError(f"{path} is there already; a record is never overwritten")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _spelled(record).encode())
    return path


def _spelled(record: FormingRecord) -> str:
    def voltage(value: Voltage) -> str:
        return f"{{value: {show(value.value, 'V', 6)}, uncertainty: {show(value.uncertainty, 'V', 3)}}}"

    lines: dict[str, Any] = {
        "die": record.die,
        "board": record.board,
        "measured_at": f"'{record.measured_at.isoformat(timespec='seconds')}'",
        "run": record.run,
        "mean": voltage(record.mean),
        "sigma": voltage(record.sigma),
        "width": show(record.width, "s"),
        "gate": show(record.gate, "V"),
        "cells": record.cells,
        "formed": record.formed,
        "temperature_C": record.temperature_C,
        "software": record.software,
    }
    head = "# Breakdown voltages of the die's cells: normal, standard uncertainties. A new measurement is a new file.\n"
    return head + "".join(f"{key}: {value}\n" for key, value in lines.items())


def history(root: Path, die: str) -> Iterator[tuple[Path, FormingRecord]]:
    """Yield the forming records of a die, oldest first.

    Raises:
        UsageError: a record is not what it should be; with file, line and column.
    """
    for path in sorted((root / FOLDER).glob(f"{die}-forming-*.yaml")):
        record = load_model(path, FormingRecord)
        if record.die != die:
            raise UsageError(
                f"{path} says that it is of die {record.die!r}, its name says {die!r}: it was renamed or edited"
            )
        yield path, record


def newest(root: Path, die: str, board: str) -> FormingRecord:
    """Return the forming record in force for a die on a board.

    Raises:
        DataError: there is none, or the newest is of another board; how to get one.
    """
    found = list(history(root, die))
    remedy = f"Measure it on a sacrificial corner: rramlab calibrate forming --arm {die}"
    if not found:
        raise DataError(f"die {die!r} has no forming record in {root / FOLDER}; nothing was energised. {remedy}")
    path, record = found[-1]
    if record.board != board:
        raise DataError(
            f"{path} was measured on board {record.board!r}, on the bench is {board!r}, whose voltages may differ; nothing was "
            f"energised. {remedy}"
        )
    return record
