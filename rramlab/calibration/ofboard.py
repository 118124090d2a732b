"""What a board is: its DAC, its converters, and whether both agree with a source-measure unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rramlab.base.errors import DataError
from rramlab.calibration import adc, agreement, dac, linearity
from rramlab.calibration.bycells import cell_readings, column_spread, staircase, staircase_inputs
from rramlab.calibration.context import Context, Found, refuse_other_unit
from rramlab.calibration.gathering import blocks_of, cells_of, curves, looks, repeats_of, unit_readings
from rramlab.calibration.uncertainty import UnitReading
from rramlab.macro.board import BoardTable
from rramlab.records.sections import (
    AdcSection,
    AgreementSection,
    ColumnSpread,
    DacSection,
    LinearitySection,
    MeasuredReference,
)
from rramlab.records.values import Number, Resistance, Voltage

RESISTOR_TOLERANCE = (
    0.02  # of a reference resistor from its nominal value, and of the unit: far beyond what both promise
)
MOST_STRAY = 0.1  # between columns or cells that are measured in two ways; cells of another die differ by more


def dac_line(context: Context) -> Found:
    accuracy, unit = context.accuracy("low")
    levels = [*curves(context.run, "low"), *curves(context.run, "high")]
    asked = [float(layer.labels["level"][0]) for layer, _ in levels]
    for (layer, curve), volts in zip(levels, asked, strict=True):
        if curve["in_compliance"].any():
            raise DataError(
                f"{layer.blocks[0].attributes['target']} at {volts:g} V: the source-measure unit was at its own limit, so what "
                "it shows is the limit. Nothing was written"
            )
    table = context.table
    nominal = np.array([table.dac_volts(table.dac_code(volts)) for volts in asked])
    measured = np.array([float(curve["voltage"].mean()) for _, curve in levels])
    found = dac.fit(nominal, measured, accuracy)
    channel = int(str(levels[0][0].blocks[0].attributes["target"]).split()[-1])
    section = DacSection(
        **context.common(DacSection, unit),
        channel=channel,
        levels=nominal.size,
        highest=max(asked),
        gain=Number(value=found.gain, uncertainty=found.gain_u),
        offset=Voltage(value=found.offset_V, uncertainty=found.offset_u),
        residual=found.residual_V,
    )
    result = Found()
    result.add("board", "dac", section, nominal_V=(nominal, "V"), measured_V=(measured, "V"),
               covariance=(found.covariance, "1"))  # fmt: skip
    return result


def converters(context: Context) -> Found:
    line = context.section("dac")
    accuracy, unit = context.accuracy("resistors")
    refuse_other_unit(line, "dac", unit)
    readings = unit_readings(context.run, "resistors", accuracy)
    references = {int(name.split()[-1]): each for name, each in readings.items()}
    for index in range(len(context.table.reference_Ohm)):
        if index not in references:
            raise DataError(
                f"no reading of reference resistor {index} is a measurement, so there is nothing to compare the converters "
                "with. Nothing was written. Look at the unit, then calibrate anew"
            )
    _refuse_other_resistors(references, context.table)
    names = ("zero", "levels", "second")
    found_looks = looks(context.run, (*names, *(f"{name}-multiply" for name in names)), context.table)
    straight = line.gain.value, line.offset.value
    fits = {
        "read": adc.fit(found_looks, references, straight, context.table, multiply=False),
        "multiply": adc.fit(found_looks, references, straight, context.table, multiply=True),
    }
    best = min(references.values(), key=lambda each: each.relative)
    section = AdcSection(
        **context.common(AdcSection, unit),
        dac_gain=line.gain,
        dac_offset=line.offset,
        method="reference resistors",
        references=tuple(
            MeasuredReference(
                resistor=index,
                resistance=Resistance(value=1 / each.siemens, uncertainty=each.relative / each.siemens),
                voltage=each.volts,
                readings=each.count,
            )
            for index, each in sorted(references.items())
        ),
        scale_uncertainty=best.relative,
        read=_of_range(fits["read"]),
        multiply=_of_range(fits["multiply"]),
    )
    result = Found()
    arrays: dict[str, tuple[Any, str]] = {}
    for name, each in fits.items():
        arrays |= {
            f"{name}_gain": (each.gain, "1"),
            f"{name}_offset": (each.offset, "1"),
            f"{name}_residual": (each.residual, "1"),
            f"{name}_before": (each.before, "1"),
            f"{name}_level": (each.level, "1"),
        }
    result.add("board", "adc", section, **arrays)
    return result


def _of_range(found: adc.RangeFit) -> ColumnSpread:
    uncertainties = found.mean_gain_u, found.column_u, found.offset_u
    return column_spread(found.gain, found.offset, *uncertainties, found.residual_rms)


def _refuse_other_resistors(references: dict[int, UnitReading], table: BoardTable) -> None:
    """The scale is the unit's: one that is wrong altogether shows in nothing but the resistors' nominal values.

    Raises:
        DataError: a resistor is not what the board's file says.
    """
    for index, measured in references.items():
        nominal = table.reference_Ohm[index]
        if abs(measured.siemens * nominal - 1) > RESISTOR_TOLERANCE:
            raise DataError(
                f"the source-measure unit reads {1 / measured.siemens:.5g} Ω for reference resistor {index}, the board's "
                f"file says {nominal:g} Ω; expected within {RESISTOR_TOLERANCE:.0%}. The unit's scale, its path or the "
                "file is wrong. Nothing was written: all conductances would be wrong by as much"
            )


def products(context: Context) -> Found:
    context.section("adc")
    table, calibration = context.table, context.calibration
    single_blocks = blocks_of(context.run, "single")
    single = cells_of(single_blocks, calibration)
    rows = np.flatnonzero(~np.isnan(single).all(axis=1))
    columns, measured = staircase(context, calibration)
    inputs = staircase_inputs(context, rows.size)
    found = linearity.fit(inputs, single[rows][:, columns], measured, table.multiply_full_scale_S)
    strays = float(np.std(found.products_S[-1] / found.sums_S[-1] - found.slope))
    if strays > MOST_STRAY:
        raise DataError(
            f"products differ from the sums of single reads by {strays:.0%} from column to column: another die came into "
            "the socket half-way, or columns are defective. Nothing was written. Run rramlab contact, then calibrate anew"
        )
    section = LinearitySection(
        **context.common(LinearitySection),
        columns=columns.size,
        lines=len(inputs),
        slope=Number(value=found.slope, uncertainty=found.slope_u),
        offset=found.offset_S / table.multiply_step_S,
        residual=found.residual,
    )
    result = Found()
    result.add("board", "linearity", section, sums_S=(found.sums_S.mean(axis=1), "S"),
               products_S=(found.products_S.mean(axis=1), "S"), residual_S=(found.residual_S, "S"))  # fmt: skip
    return result


def both_ways(context: Context) -> Found:
    adc_section = context.section("adc")
    accuracy, unit = context.accuracy("unit")
    calibration = context.calibration
    blocks = blocks_of(context.run, "board")
    seen = cells_of(blocks, calibration)
    rows, columns, readings = cell_readings(context, accuracy)
    values = seen[rows, columns]
    one_read = context.read_noise / math.sqrt(repeats_of(blocks))
    found = agreement.fit(values, values * one_read, readings, adc_section.scale_uncertainty)
    refuse_other_unit(adc_section, "adc", unit)
    if found.ratio.std() > MOST_STRAY:
        raise DataError(
            f"what board and unit measure of the same cells differs by {found.ratio.std():.0%} from cell to cell: a die was "
            "exchanged half-way, or the unit's path leads to other cells. Nothing was written. "
            "Run rramlab contact, then calibrate anew"
        )
    section = AgreementSection(
        **context.common(AgreementSection, unit),
        cells=len(readings),
        ratio=Number(value=found.mean, uncertainty=found.mean_u),
        spread=float(found.ratio.std(ddof=1)),
        expected_spread=float(np.sqrt(np.mean(found.ratio_u**2))),
        largest_deviation=found.deviation,
        agrees=found.agrees,
    )
    result = Found()
    result.add("board", "agreement", section, board_S=(values, "S"), unit_S=([each.siemens for each in readings], "S"),
               ratio_u=(found.ratio_u, "1"))  # fmt: skip
    return result
