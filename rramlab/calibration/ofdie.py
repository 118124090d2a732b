"""What a die is: its breakdown curve, its noise, and the lines that lead to its cells."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.base.units import parse
from rramlab.calibration import forming, lines, noise
from rramlab.calibration.context import Context, Found
from rramlab.calibration.gathering import blocks_of, cells_of, refuse_swapped, repeats_of, series_of
from rramlab.macro.calibration import BoardCalibration
from rramlab.macro.cells import is_conducting
from rramlab.macro.crossbar import LineResistances
from rramlab.records.applied import calibration_of
from rramlab.records.files import find
from rramlab.records.sections import FormingSection, LinesSection, NoiseSection, WiresSection
from rramlab.records.values import Number, Resistance, Voltage

MOST_SWITCHING = 0.5  # of the cells: traps and relaxation move far fewer (assumed)


def breakdown(context: Context) -> Found:
    ramp = _in_volts_of_the_die(context, forming.ramp_of(context.run))
    found = forming.fit(ramp)
    parameters = context.run.plan.parameters
    section = FormingSection(
        **context.common(FormingSection),
        mean=Voltage(value=found.mean_V, uncertainty=found.mean_u),
        sigma=Voltage(value=found.sigma_V, uncertainty=found.sigma_u),
        width=parse(parameters["width"], "s"),
        gate=parse(parameters["gate"], "V"),
        cells=found.cells,
        formed=found.formed,
    )
    result = Found()
    result.add("die", "forming", section, low_V=(ramp.low_V, "V"), high_V=(ramp.high_V, "V"))
    return result


def _in_volts_of_the_die(context: Context, ramp: forming.Ramp) -> forming.Ramp:
    """Turn what the DAC was asked for into what it put out, by its line: then the curve is the die's alone."""
    used, now, root = context.about.get("calibration", "nominal"), context.calibration, context.description.root
    asked = BoardCalibration.nominal(context.table)
    if used != "nominal":
        asked = calibration_of(find(root, str(used)), context.table)

    def out(volts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        inside = np.isfinite(volts)
        levels, place = np.unique(volts[inside], return_inverse=True)
        found = volts.copy()
        found[inside] = np.array([now.volts(asked.dac_code(float(level))) for level in levels])[place]
        return found

    return forming.Ramp(out(ramp.low_V), out(ramp.high_V))


def noise_of_reads(context: Context) -> Found:
    times, series = series_of(context.run, "noise", context.calibration)
    refuse_swapped(series[: len(series) // 4].mean(axis=0), series[-(len(series) // 4) :].mean(axis=0), "at the end")
    series = series[:, is_conducting(series.astype(np.float32)).all(axis=0)]
    found = noise.fit(series, context.table.read_step_S)
    if found.share > MOST_SWITCHING:
        raise DataError(
            f"{found.share:.0%} of the cells changed their level while they were watched, expected a few: another die came "
            "into the socket half-way, or it was formed minutes ago. Nothing was written. Let it rest, run rramlab contact, "
            "measure anew"
        )
    watched = parse(context.run.plan.parameters["wait"], "s") * (len(times) - 1)
    section = NoiseSection(
        **context.common(NoiseSection),
        cells=found.cells,
        reads=len(times),
        watched=max(watched, 1e-3),
        read=Number(value=found.white, uncertainty=found.white_u),
        telegraph_share=Number(value=found.share, uncertainty=found.share_u),
        telegraph_amplitude=None
        if found.amplitude is None or found.amplitude_u is None
        else Number(value=found.amplitude, uncertainty=found.amplitude_u),
        median=float(np.median(series)),
    )
    result = Found()
    result.add("die", "noise", section, of_cell=(found.of_cell, "1"), steps=(found.steps, "1"),
               threshold=([found.threshold], "1"))  # fmt: skip
    return result


def line_resistances(context: Context) -> Found:
    table, calibration = context.table, context.calibration
    light_blocks = blocks_of(context.run, "light")
    together: dict[tuple[int, ...], list[Any]] = {}
    for block in light_blocks:
        together.setdefault(tuple(block.attributes.get("round", ())), []).append(block)
    light = np.full(table.geometry.shape, np.nan)
    connected = []
    for blocks in together.values():
        part = cells_of(blocks, calibration)
        columns = ~np.isnan(part).all(axis=0)
        light[:, columns] = part[:, columns]
        connected.append(columns)
    seen = {
        name: cells_of(blocks_of(context.run, name), calibration)
        for name in ("full-before", "row-before", "row", "full")
    }
    refuse_swapped(seen["full-before"], seen["full"], "at the end")
    row, full = ((seen[f"{name}-before"] + seen[name]) / 2 for name in ("row", "full"))
    if np.isnan(light).any() or np.isnan(row).any() or np.isnan(full).any():
        raise DataError(
            f"run {context.run.id} has not read all cells in every load; go on with it: rramlab resume {context.run.id}"
        )
    refuse_swapped(light, row, "in the second read")
    repeats = repeats_of(light_blocks)
    start = LineResistances.uniform(
        table.geometry.shape,
        table.switch_resistance_Ohm,
        table.switch_resistance_Ohm + table.tia_resistance_Ohm,
        table.wire_resistance_Ohm,
    )
    found = lines.fit(
        lines.LineReads(light, row, full, np.array(connected), (repeats, 2 * repeats, 2 * repeats)), start
    )
    common = context.common(LinesSection)
    section = LinesSection(
        **common,
        bit_line=Resistance(value=float(found.bl_Ohm.mean()), uncertainty=found.bl_mean_u),
        bit_line_spread=_mean_spread(found.bl_Ohm, found.bl_u, found.bl_mean_u),
        source_line=Resistance(value=float(found.sl_Ohm.mean()), uncertainty=found.sl_mean_u),
        source_line_spread=_mean_spread(found.sl_Ohm, found.sl_u, found.sl_mean_u),
        cells=found.used,
    )
    result = Found()
    result.add("board", "lines", section, bl_Ohm=(found.bl_Ohm, "Ω"), bl_u=(found.bl_u, "Ω"),
               sl_Ohm=(found.sl_Ohm, "Ω"), sl_u=(found.sl_u, "Ω"))  # fmt: skip
    wires = WiresSection(
        **common, segment=Resistance(value=found.segment_Ohm, uncertainty=found.segment_u), cells=found.used
    )
    result.add("die", "wires", wires, loss_light=(_loss(light, found.cells_S), "1"), loss_row=(_loss(row, found.cells_S), "1"),
               loss_full=(_loss(full, found.cells_S), "1"))  # fmt: skip
    return result


def _loss(seen_S: npt.NDArray[np.float64], cells_S: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what share of the cells' conductance a read shows, by column: float64[columns]."""
    return np.asarray(seen_S.sum(axis=0) / cells_S.sum(axis=0))


def _mean_spread(values: npt.NDArray[np.float64], each_u: npt.NDArray[np.float64], shared_u: float) -> Resistance:
    """Return the spread between lines, what each measurement scatters by by itself taken off."""
    own = float(values.var(ddof=1) - np.mean(each_u**2) + shared_u**2)
    spread = math.sqrt(max(own, 0.0))
    return Resistance(value=spread, uncertainty=float(values.std(ddof=1)) / math.sqrt(2 * (values.size - 1)))
