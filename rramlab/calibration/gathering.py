"""From a run's blocks to what the analyses take; conductances are converted anew from the codes, by the record in force."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.calibration.adc import Look
from rramlab.calibration.uncertainty import UnitReading, reading
from rramlab.drivers.smu.smufile import Accuracy
from rramlab.macro.board import BoardTable
from rramlab.macro.calibration import BoardCalibration
from rramlab.macro.cells import is_conducting
from rramlab.runs.curves import Curve, measured
from rramlab.runs.rounds import Layer, layers
from rramlab.runs.store import Block, Run
from rramlab.runs.waits import waits_of

Floats = npt.NDArray[np.float64]
# More cells than this share that conduct in one read and not in the next: another die came into the socket.
SWAPPED = 0.05


def blocks_of(run: Run, dataset: str) -> list[Block]:
    """Return the blocks of a data set.

    Raises:
        DataError: there is none: it is a run of another protocol, or was stopped.
    """
    found = list(run.blocks(dataset))
    if not found:
        raise DataError(
            f"run {run.id} ({run.record['name']}, {run.record['status']}) holds no {dataset!r}; it cannot be analysed"
        )
    return found


def cells_of(blocks: list[Block], calibration: BoardCalibration) -> Floats:
    """Return the mean of the reads of each cell, float64[rows, columns] in siemens; NaN where none was read."""
    total: Floats | None = None
    bias = calibration.table.dac_code(calibration.table.read_voltage_V)
    for block in blocks:
        array = block.load()
        if total is None:
            total = np.full(block.attributes["shape"], np.nan)
        valid = array["valid"]
        columns = np.nonzero(valid)[1]
        start = int(block.attributes["rows"][0])
        total[start : start + len(array)][valid] = calibration.conductance(array["codes"][valid].T, columns, bias)
    assert total is not None
    return total


def repeats_of(blocks: list[Block]) -> int:
    return min(int(block.attributes["repeats"]) for block in blocks)


def series_of(run: Run, dataset: str, calibration: BoardCalibration) -> tuple[Floats, Floats]:
    """Return single reads of every cell that was read in each round: times in s from the first, float64[reads, cells]."""
    found = layers(blocks_of(run, dataset))
    rounds = [cells_of(layer.blocks, calibration) for layer in found]
    common = np.all([~np.isnan(each) for each in rounds], axis=0)
    began = datetime.fromisoformat(run.record["started_at"])
    clock = np.array([layer.since_s(began) for layer in found])
    waits = waits_of(run)
    waited = np.array([0.0 if waits is None else waits.before(layer.blocks[0].position) for layer in found])
    # A simulated bench has its waits at once; on a real one the clock has them, too.
    return np.maximum(clock - clock[0], waited - waited[0]), np.stack([each[common] for each in rounds])


def curves(run: Run, dataset: str) -> Iterator[tuple[Layer, Curve]]:
    """Yield what the unit measured at each route, with its place in the loop: the readings that are measurements.

    A route without any is left out.
    """
    for layer in layers(blocks_of(run, dataset)):
        block = layer.blocks[0].load()
        known = measured(block)
        if len(known) or not len(block):
            yield layer, known


def unit_readings(run: Run, dataset: str, accuracy: Accuracy) -> dict[str, UnitReading]:
    """Return what the unit read of each target, by the name that its block says."""
    found = {}
    for layer, curve in curves(run, dataset):
        target = str(layer.blocks[0].attributes["target"])
        found[target] = reading(curve["voltage"], curve["current"], curve["in_compliance"], accuracy, target)
    return found


def looks(run: Run, datasets: tuple[str, ...], table: BoardTable) -> list[Look]:
    """Return what the converters made of the reference resistors."""
    found = []
    for dataset in datasets:
        for block in blocks_of(run, dataset):
            codes, about = block.load()["codes"], block.attributes
            found.append(
                Look(
                    about["resistor"],
                    about["range"] == "multiply",
                    table.dac_volts(table.dac_code(float(about["voltage_V"]))),
                    codes.mean(axis=1),
                    int(codes.min()),
                    int(codes.max()),
                )
            )
    return found


def refuse_swapped(first: Floats, other: Floats, when: str) -> None:
    """Compare which cells conduct in two reads of the same cells.

    Raises:
        DataError: so many differ that another die came into the socket.
    """
    known = ~np.isnan(first) & ~np.isnan(other)
    if not known.any():
        return
    share = float(np.mean(_conducting(first[known]) != _conducting(other[known])))
    if share > SWAPPED:
        raise DataError(
            f"{share:.0%} of the cells conduct {when} unlike before: another die came into the socket half-way, or the "
            "contact was lost. Nothing was written. Check the die's label, run rramlab contact, and calibrate anew"
        )


def _conducting(siemens: Floats) -> npt.NDArray[np.bool_]:
    return np.asarray(is_conducting(siemens.astype(np.float32)))
