"""Limits intersect and never widen; :func:`check` is the only comparison of an operation with them."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import Refused
from rramlab.base.units import Amperes, Seconds, Volts, show
from rramlab.macro.board import BoardTable

if TYPE_CHECKING:  # a bench is described without any: only what is checked has operations
    from rramlab.plan.operations import Operation

# Worst-case conductance of one conducting cell in a read or multiply: the highest formed cell seen is 18.8 µS, and
# isolated outliers lie up to 20 µS above (design, section 7).
WORST_CELL_S = 40e-6


class Limits(BaseModel):
    """Upper bounds (``shortest_pulse`` is a lower one); None means no opinion, not no limit elsewhere.

    The last four bound *differences* of line voltages, which is what silicon feels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)
    electroform_voltage: Volts | None = Field(default=None, ge=0)
    set_voltage: Volts | None = Field(default=None, ge=0)
    reset_voltage: Volts | None = Field(default=None, ge=0)
    read_voltage: Volts | None = Field(default=None, ge=0)
    gate_voltage: Volts | None = Field(default=None, ge=0)
    shortest_pulse: Seconds | None = Field(default=None, ge=0)
    longest_pulse: Seconds | None = Field(default=None, ge=0)
    line_current: Amperes | None = Field(default=None, ge=0)
    supply_current: Amperes | None = Field(default=None, ge=0)
    smu_voltage: Volts | None = Field(default=None, ge=0)
    smu_current: Amperes | None = Field(default=None, ge=0)
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
    from rramlab.plan.demands import demands, impossible
    from rramlab.plan.operations import describe

    for name, what, value, unit in demands(operation, board):
        bound = getattr(limits, name)
        if bound is None:
            continue
        if (value < bound) if name in _LOWER_BOUNDS else (value > bound):
            side = "at least" if name in _LOWER_BOUNDS else "at most"
            raise Refused(
                f"{describe(operation)}: {what} is {show(value, unit)}, the limit {name} allows {side} "
                f"{show(bound, unit)}; nothing was energised. Change the value: a limit is never widened by a protocol",
                operation.source,
            )
    for reason in impossible(operation, board):
        raise Refused(f"{describe(operation)}: {reason}", operation.source)
