"""Limits intersect and never widen; :func:`check` is the only comparison of an operation with them."""

from __future__ import annotations

from functools import reduce

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import Refused
from rramlab.base.units import Amperes, Seconds, Volts, show
from rramlab.macro.board import BoardTable
from rramlab.plan.operations import Contact, LoadGates, Multiply, Operation, PulseOp, Read, describe

# Worst-case conductance of one conducting cell in a read or multiply: the highest formed cell seen is 18.8 µS, and
# isolated outliers lie up to 20 µS above (design, section 7).
WORST_CELL_S = 40e-6


# What the limits on differences of line voltages compare.
_DIFFERENCES = {
    "sl_minus_bl": "SL − BL",
    "bl_minus_sl": "BL − SL",
    "wl_minus_bl": "WL − BL",
    "sl_minus_off_wl": "SL against the word lines that are off",
}


class Limits(BaseModel):
    """Upper bounds (``shortest_pulse`` is a lower one); None means no opinion, not no limit elsewhere.

    The last four bound *differences* of line voltages, which is what silicon feels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    electroform_voltage: Volts | None = Field(default=None, ge=0)
    set_voltage: Volts | None = Field(default=None, ge=0)
    reset_voltage: Volts | None = Field(default=None, ge=0)
    read_voltage: Volts | None = Field(default=None, ge=0)
    gate_voltage: Volts | None = Field(default=None, ge=0)
    shortest_pulse: Seconds | None = Field(default=None, ge=0)
    longest_pulse: Seconds | None = Field(default=None, ge=0)
    line_current: Amperes | None = Field(default=None, ge=0)
    supply_current: Amperes | None = Field(default=None, ge=0)
    pulses_per_cell: int | None = Field(default=None, ge=0)
    sl_minus_bl: Volts | None = Field(default=None, ge=0)
    bl_minus_sl: Volts | None = Field(default=None, ge=0)
    wl_minus_bl: Volts | None = Field(default=None, ge=0)
    sl_minus_off_wl: Volts | None = Field(default=None, ge=0)


_LOWER_BOUNDS = frozenset({"shortest_pulse"})


def intersect(*limits: Limits) -> Limits:
    """Return the tightest of each bound: associative, commutative, never wider than any argument."""
    return reduce(_both, limits, Limits())


def _both(a: Limits, b: Limits) -> Limits:
    tightest = {}
    for name in Limits.model_fields:
        bounds = [bound for bound in (getattr(a, name), getattr(b, name)) if bound is not None]
        if bounds:
            tightest[name] = max(bounds) if name in _LOWER_BOUNDS else min(bounds)
    return Limits(**tightest)


def of_board(board: BoardTable) -> Limits:
    """Return what the board's own table allows: silicon differences, currents, pulse widths."""
    return Limits(
        read_voltage=board.read_voltage_V,
        shortest_pulse=board.min_width_s,
        longest_pulse=board.max_width_s,
        line_current=board.max_line_current_A,
        supply_current=board.max_supply_current_A,
        sl_minus_bl=board.max_sl_minus_bl_V,
        bl_minus_sl=board.max_bl_minus_sl_V,
        wl_minus_bl=board.max_wl_minus_bl_V,
        sl_minus_off_wl=board.max_sl_minus_off_wl_V,
        gate_voltage=board.dac_full_scale_V,
    )


def check(
    operation: Operation,
    limits: Limits,
    board: BoardTable,
) -> None:
    """Compare one operation with the limits and with what the board can do.

    Raises:
        Refused: naming the limit, the value and the operation; nothing has been energised by it.
    """
    source = operation.source
    for name, what, value, unit in _quantities(operation, board):
        bound = getattr(limits, name)
        if bound is None:
            continue
        if (value < bound) if name in _LOWER_BOUNDS else (value > bound):
            side = "at least" if name in _LOWER_BOUNDS else "at most"
            raise Refused(
                f"{describe(operation)}: {what} is {show(value, unit)}, the limit {name} allows {side} "
                f"{show(bound, unit)}; nothing was energised. Change the value: a limit is never widened by a protocol",
                source,
            )
    if isinstance(operation, PulseOp) and operation.cells_per_pulse < 1:
        raise Refused(
            f"{describe(operation)}: found {operation.cells_per_pulse} cells a pulse, expected at least 1; nothing was "
            "energised",
            source,
        )
    if (
        isinstance(operation, PulseOp)
        and max(operation.pulse.amplitude_V, operation.pulse.gate_V) > board.dac_full_scale_V
    ):
        raise Refused(
            f"{describe(operation)}: the amplitude or gate is beyond the range of the board's DAC, 0 to "
            f"{show(board.dac_full_scale_V, 'V')}; nothing was energised",
            source,
        )
    # Without sl_select a board drives all columns of a selected row when it forms or sets, wanted or not.
    if (
        isinstance(operation, PulseOp)
        and operation.kind != "reset"
        and "sl_select" not in board.capabilities
        and not operation.cells.bits[operation.cells.rows].all()
    ):
        raise Refused(
            f"{describe(operation)}: board {board.name} cannot select columns when it forms or sets (no sl_select), and the "
            "region leaves some out; nothing was energised. Choose whole rows",
            source,
        )
    if isinstance(operation, (LoadGates, Multiply)) and operation.slot >= board.gate_slots:
        raise Refused(
            f"{describe(operation)}: slot {operation.slot} does not exist, the board has {board.gate_slots}", source
        )


def _quantities(operation: Operation, board: BoardTable) -> list[tuple[str, str, float, str]]:
    """List (limit, what, value, unit) for an operation, its line voltages by the board's bias table."""
    if isinstance(operation, PulseOp):
        pulse = operation.pulse
        current = operation.cells_per_pulse * board.forming_current_A
        worst = board.bias.pulse(operation.kind).worst_V(pulse.amplitude_V, pulse.gate_V)
        return [
            ("shortest_pulse", "the pulse width", pulse.width_s, "s"),
            ("longest_pulse", "the pulse width", pulse.width_s, "s"),
            ("gate_voltage", "the gate voltage", pulse.gate_V, "V"),
            ("line_current", f"the sum of currents of {operation.cells_per_pulse} cells on one line", current, "A"),
            ("supply_current", f"the sum of currents of {operation.cells_per_pulse} cells", current, "A"),
            (f"{operation.kind}_voltage", f"the {operation.kind} voltage", pulse.amplitude_V, "V"),
            *((name, f"{_DIFFERENCES[name]}, by the board's bias table,", volts, "V") for name, volts in worst.items()),
        ]
    if isinstance(operation, (Read, Contact)):
        contact = isinstance(operation, Contact) or operation.bias == "contact"
        volts = board.contact_voltage_V if contact else board.read_voltage_V
        widest = int(np.count_nonzero(operation.cells.bits, axis=1).max())
        if board.bias.read.unselected.sl == "sense":  # every source line takes current, asked for or not
            widest = board.geometry.columns
        return [
            ("read_voltage", "the read voltage", volts, "V"),
            ("line_current", f"the current of {widest} cells of one row", volts * WORST_CELL_S * widest, "A"),
        ]
    if isinstance(operation, Multiply):
        columns = int(np.count_nonzero(operation.pattern.enabled))
        if board.bias.multiply.unselected.sl == "sense":
            columns = board.geometry.columns
        line = board.read_voltage_V * WORST_CELL_S * columns
        lines = min(board.lines_at_once, int(np.count_nonzero(operation.pattern.driven)))
        return [
            ("read_voltage", "the input voltage", board.read_voltage_V, "V"),
            ("line_current", f"the current of {columns} columns on one bit line", line, "A"),
            ("supply_current", f"the current of {lines} bit lines", line * lines, "A"),
        ]
    return []
