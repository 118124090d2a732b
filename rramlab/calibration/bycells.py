"""The converters of a board without reference resistors, by cells that a source-measure unit has measured; products."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.calibration import adc, adccells
from rramlab.calibration.context import Context, Found, refuse_other_unit
from rramlab.calibration.gathering import blocks_of, cells_of, repeats_of, unit_readings
from rramlab.calibration.uncertainty import UnitReading
from rramlab.drivers.smu.smufile import Accuracy
from rramlab.macro.calibration import BoardCalibration
from rramlab.plan.steps import MultiplyStep, RepeatStep
from rramlab.records.sections import AdcSection, ColumnSpread
from rramlab.records.values import Number

_CELL = re.compile(r"cell \((\d+), (\d+)\)")


def cell_readings(
    context: Context, accuracy: Accuracy
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], list[UnitReading]]:
    """Return rows and columns of the cells that the unit has measured, and what it read."""
    found = unit_readings(context.run, "unit", accuracy)
    if not found:
        raise DataError("no reading of the source-measure unit is a measurement; nothing was written. Look at the unit")
    places = np.array([[int(part) for part in _match(name)] for name in found], np.intp)
    return places[:, 0], places[:, 1], list(found.values())


def _match(name: str) -> tuple[str, ...]:
    found = _CELL.match(name)
    if found is None:
        raise DataError(f"found a measurement of {name!r}, expected one of a cell")
    return found.groups()


def converters_by_cells(context: Context) -> Found:
    line = context.section("dac")
    accuracy, unit = context.accuracy("unit")
    refuse_other_unit(line, "dac", unit)
    table = context.table
    blocks = blocks_of(context.run, "board")
    nominal = BoardCalibration.nominal(table)
    rows, columns, readings = cell_readings(context, accuracy)
    bias = table.dac_code(table.read_voltage_V)
    volts = line.gain.value * table.dac_volts(bias) + line.offset.value
    codes = (
        cells_of(blocks, nominal)[rows, columns] / table.read_step_S * (table.dac_volts(bias) / table.read_voltage_V)
    )
    unit_S = np.array([each.siemens for each in readings])
    noise_codes = np.abs(codes) * np.hypot(
        context.read_noise / math.sqrt(repeats_of(blocks)), [each.scatter for each in readings]
    )
    per_S = volts / table.read_voltage_V / table.read_step_S
    found = adccells.fit(columns, codes, unit_S, np.hypot(noise_codes, adc.ROUNDING), table.geometry.columns, per_S)
    shared = max(each.specified for each in readings if each.siemens > adccells.LEAST_SPAN_S)
    of_reads = replace(nominal, read_gain=found.gain, read_offset=found.offset, dac_gain=line.gain.value,
                       dac_offset_V=line.offset.value)  # fmt: skip
    product = _other_range(context, of_reads)
    section = AdcSection(
        **context.common(AdcSection, unit),
        dac_gain=line.gain,
        dac_offset=line.offset,
        method="cells at the unit",
        scale_uncertainty=shared,
        read=_of_range(found, shared),
        multiply=_of_range(product, shared),
    )
    result = Found()
    result.add("board", "adc", section, read_gain=(found.gain, "1"), read_offset=(found.offset, "1"),
               multiply_gain=(product.gain, "1"), multiply_offset=(product.offset, "1"))  # fmt: skip
    return result


def _of_range(found: adccells.CellsFit, shared: float) -> ColumnSpread:
    return column_spread(found.gain, found.offset, shared, found.gain_u, found.offset_u, found.residual)


def column_spread(
    gain: npt.NDArray[np.float64],
    offset: npt.NDArray[np.float64],
    mean_gain_u: float,
    column_gain_u: float,
    offset_u: float,
    residual: float,
) -> ColumnSpread:
    """Sum up one range of the converters; gain and offset float64[columns].

    ``mean_gain_u``: relative, of the mean gain, which all columns share.
    """
    mean = float(gain.mean())
    return ColumnSpread(
        gain=Number(value=mean, uncertainty=mean * mean_gain_u),
        gain_spread=float(gain.std()),
        column_gain_uncertainty=column_gain_u,
        offset=float(offset.mean()),
        offset_spread=float(offset.std()),
        offset_uncertainty=offset_u,
        residual=residual,
    )


def _other_range(context: Context, of_reads: BoardCalibration) -> adccells.CellsFit:
    """Return gain and offset of the multiply range: products against sums of reads that are calibrated already."""
    table = context.table
    single_blocks = blocks_of(context.run, "single")
    single = cells_of(single_blocks, of_reads)
    rows = np.flatnonzero(~np.isnan(single).all(axis=1))
    columns, products = staircase(context, of_reads)
    inputs = staircase_inputs(context, rows.size).astype(np.float64)
    sums, codes = inputs @ single[rows][:, columns], products / table.multiply_step_S
    # Of one product and of the sum it is compared with: read noise of the cells, rounding.
    times = len(blocks_of(context.run, "staircase"))
    square = inputs @ single[rows][:, columns] ** 2 * context.read_noise**2
    scatter = np.sqrt(square * (1 / times + 1 / repeats_of(single_blocks))) / table.multiply_step_S
    flat = np.tile(columns, len(sums))
    spread = np.hypot(scatter, adc.ROUNDING / math.sqrt(times))
    return adccells.fit(
        flat, codes.ravel(), sums.ravel(), spread.ravel(), table.geometry.columns, 1 / table.multiply_step_S
    )


def staircase(context: Context, calibration: BoardCalibration) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Return the columns of the products with one more line at each step, and their means: float64[steps, columns].

    Raises:
        DataError: a conversion saturated.
    """
    blocks = blocks_of(context.run, "staircase")
    if saturated := sum(int(block.attributes["saturated"]) for block in blocks):
        raise DataError(
            f"{saturated} conversions saturated, so products are not what the lines carry. Multiply fewer rows: "
            '--set rows="rows 0-31"'
        )
    columns = np.array(blocks[0].attributes["columns"], np.intp)
    groups = np.array(blocks[0].attributes["groups"], np.int32)
    sums = np.mean([block.load()["sums"] for block in blocks], axis=0)
    bits = int(blocks[0].attributes["bits"])
    return columns, calibration.products(sums, columns, groups, bits).astype(np.float64)


def staircase_inputs(context: Context, rows: int) -> npt.NDArray[np.uint8]:
    loop = next(step for step in context.run.plan.steps if isinstance(step, RepeatStep))
    (step,) = loop.steps
    assert isinstance(step, MultiplyStep)
    return step.codes(rows)
