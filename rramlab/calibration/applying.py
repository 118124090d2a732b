"""Old data by a better record: the raw codes of a run become siemens anew."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.macro.board import BoardTable
from rramlab.macro.calibration import BoardCalibration
from rramlab.records.applied import calibration_of
from rramlab.records.files import Kept
from rramlab.runs.store import Block, Run


def apply(run: Run, kept: Kept, table: BoardTable) -> int:
    """Convert every read and product of a run by the record ``kept``; return how many blocks that were.

    The codes stay as they are, and so does what was judged by the older conversion. Each block is replaced whole, so that
    one that is interrupted can be done again.

    Raises:
        DataError: the record is of another board, or a block is damaged.
    """
    serial = run.provenance["board_serial"]
    if kept.record.kind != "board" or kept.record.owner != serial:
        raise DataError(
            f"run {run.id} was made on board {serial!r}, the record {kept.id} is not of that; nothing was changed"
        )
    kept.refuse_changed("No code was converted by it")
    if kept.record.sections.get("adc") is None:
        raise DataError(
            f"the record {kept.id} has no section 'adc', so no code can be converted by it; nothing was changed"
        )
    if run.record["status"] == "running":
        raise DataError(
            f"run {run.id} goes on, or was killed; nothing was changed. Finish it first: rramlab resume {run.id}"
        )
    calibration, changed = calibration_of(kept, table), 0
    for block in run.blocks():
        array = _converted(block, calibration)
        if array is not None:
            attributes = {name: value for name, value in block.attributes.items() if name != "crc32"}
            run.append(block.position, block.dataset, array, **{**attributes, "calibration": kept.id})
            changed += 1
    run.update(calibration=kept.id)
    run.consolidate()
    return changed


def _converted(block: Block, calibration: BoardCalibration) -> npt.NDArray[Any] | None:
    about, table = block.attributes, calibration.table
    match about["form"]:
        case "cells":
            array = block.load().copy()
            valid = array["valid"]
            volts = table.contact_voltage_V if about.get("bias") == "contact" else table.read_voltage_V
            columns = np.nonzero(valid)[1]
            codes = array["codes"][valid].T
            array["conductance"][valid] = calibration.conductance(codes, columns, table.dac_code(volts))
            return array
        case "products":
            array = block.load().copy()
            columns, groups = np.array(about["columns"], np.intp), np.array(about["groups"], np.int32)
            array["product"] = calibration.products(array["sums"], columns, groups, int(about["bits"]))
            return array
        case _:
            return None
