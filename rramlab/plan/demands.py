"""What an operation demands of a board: the quantities that limits bound, and what a board cannot do at all."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rramlab.base.units import show
from rramlab.macro.board import BoardTable
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference
from rramlab.plan.limits import WORST_CELL_S
from rramlab.plan.operations import (
    Contact,
    LoadGates,
    Multiply,
    Operation,
    PulseOp,
    Read,
    ReferenceRead,
    Route,
    Sweep,
    capability_of,
)
from rramlab.plan.probesteps import SweepKind
from rramlab.plan.stepmodel import MOST_REPEATS

# What a board cannot do without each capability.
_WITHOUT = {
    "isolated_reads": "a read cannot cut the other rows and columns off",
    "reference_reads": "no reference resistor reaches its converters",
    "reference_resistors": "no reference resistor reaches a source-measure unit",
    "smu_route": "nothing of it reaches a source-measure unit",
}

# What the limits on differences of line voltages compare.
_DIFFERENCES = {
    "sl_minus_bl": "SL − BL",
    "bl_minus_sl": "BL − SL",
    "wl_minus_bl": "WL − BL",
    "sl_minus_off_wl": "SL against the word lines that are off",
}


def impossible(operation: Operation, board: BoardTable) -> Iterator[str]:
    """Yield what the board itself cannot do, or must not be asked for, whatever the limits say."""
    needed = capability_of(operation)
    if needed is not None and needed not in board.capabilities:
        yield (
            f"board {board.name} has no {needed}, so {_WITHOUT[needed]}; nothing was energised. If it has, enter that under "
            "'capabilities' in the board's file"
        )
    if isinstance(operation, PulseOp):
        yield from _impossible_pulse(operation, board)
    if isinstance(operation, (LoadGates, Multiply)) and operation.slot >= board.gate_slots:
        yield f"slot {operation.slot} does not exist, the board has {board.gate_slots}"
    if isinstance(operation, Sweep) and operation.gate_V > board.dac_full_scale_V:
        yield _beyond_dac("gate", board)
    if isinstance(operation, Route) and operation.bias_V > board.dac_full_scale_V:
        yield _beyond_dac("gate or channel", board)
    if isinstance(operation, ReferenceRead) and not 1 <= operation.repeats <= MOST_REPEATS:
        yield f"found {operation.repeats} repeats, expected 1 to {MOST_REPEATS}; nothing was energised"
    if isinstance(operation, (Route, ReferenceRead)):
        yield from _missing(operation, board)
    harmless_V = _harmless_V(operation)
    if harmless_V > board.read_voltage_V:
        yield (
            f"{show(harmless_V, 'V')} is above the board's read voltage of {show(board.read_voltage_V, 'V')}, so it would be "
            "no read; nothing was energised. Stay at or below it, or say with 'kind' which pulse a sweep is meant as"
        )


def _impossible_pulse(operation: PulseOp, board: BoardTable) -> Iterator[str]:
    if operation.cells_per_pulse < 1:
        yield f"found {operation.cells_per_pulse} cells a pulse, expected at least 1; nothing was energised"
    if max(operation.pulse.amplitude_V, operation.pulse.gate_V) > board.dac_full_scale_V:
        yield _beyond_dac("amplitude or gate", board)
    # Without sl_select a board drives all columns of a selected row when it forms or sets, wanted or not.
    if (
        operation.kind != "reset"
        and "sl_select" not in board.capabilities
        and operation.cells.count < operation.cells.rows.size * operation.cells.shape[1]
    ):
        yield (
            f"board {board.name} cannot select columns when it forms or sets (no sl_select), and the region leaves some out; "
            "nothing was energised. Choose whole rows"
        )


def _beyond_dac(what: str, board: BoardTable) -> str:
    return (
        f"the {what} is beyond the range of the board's DAC, 0 to {show(board.dac_full_scale_V, 'V')}; nothing was "
        "energised"
    )


def _missing(operation: Route | ReferenceRead, board: BoardTable) -> Iterator[str]:
    """Yield what is said of a resistor or target that the board does not have."""
    match operation:
        case Route(target=RoutedReference(index)) | ReferenceRead(resistor=int(index)) if not (
            0 <= index < len(board.reference_Ohm)
        ):
            what, known = "reference resistor", len(board.reference_Ohm)
        case Route(target=RoutedDac(index)) if index >= board.dac_channels:
            what, known = "DAC channel", board.dac_channels
        case _:
            return
    yield f"board {board.name} has no {what} {index}, it has {known}, counted from 0; nothing was energised"


def _harmless_V(operation: Operation) -> float:
    """Return the voltage that an operation chooses and that must be one of a read, 0 for all others."""
    match operation:
        case ReferenceRead(voltage_V=voltage_V):
            return voltage_V
        case Sweep(purpose="read", peak_V=peak_V):
            return peak_V
        case Route(target=RoutedCell() | RoutedReference(), voltage_V=voltage_V):
            return voltage_V
        case _:
            return 0.0


def demands(operation: Operation, board: BoardTable) -> list[tuple[str, str, float, str]]:
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
        # Every source line takes current, asked for or not; in an isolated read those that are read.
        every = board.bias.read.unselected.sl == "sense" and not (isinstance(operation, Read) and operation.isolated)
        widest = board.geometry.columns if every else int(operation.cells.per_row.max())
        return [
            ("read_voltage", "the read voltage", volts, "V"),
            ("line_current", f"the current of {widest} cells of one row", volts * WORST_CELL_S * widest, "A"),
        ]
    if isinstance(operation, ReferenceRead):
        return [("read_voltage", "the voltage on the resistor", operation.voltage_V, "V")]
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
    if isinstance(operation, Sweep):
        return _of_cell(operation.purpose, operation.peak_V, operation.gate_V, operation.compliance_A, board)
    if isinstance(operation, Route):
        return _of_route(operation, board)
    return []


def _of_cell(
    purpose: SweepKind, volts: float, gate_V: float, compliance_A: float, board: BoardTable
) -> list[tuple[str, str, float, str]]:
    """List what one cell at a source-measure unit is compared with; a read has the direction of a set."""
    worst = board.bias.pulse("set" if purpose == "read" else purpose).worst_V(volts, gate_V)
    return [
        ("smu_voltage", "the highest voltage of the source-measure unit", volts, "V"),
        ("smu_current", "its compliance", compliance_A, "A"),
        ("line_current", "the compliance, on one line,", compliance_A, "A"),
        ("supply_current", "the compliance", compliance_A, "A"),
        ("gate_voltage", "the gate voltage", gate_V, "V"),
        (f"{purpose}_voltage", f"the {purpose} voltage", volts, "V"),
        *((name, f"{_DIFFERENCES[name]}, by the board's bias table,", each, "V") for name, each in worst.items()),
    ]


def _of_route(operation: Route, board: BoardTable) -> list[tuple[str, str, float, str]]:
    match operation.target:
        case RoutedCell():
            return _of_cell("read", operation.voltage_V, operation.gate_V, operation.compliance_A, board)
        case RoutedReference():
            return [
                ("smu_voltage", "the voltage of the source-measure unit", operation.voltage_V, "V"),
                ("smu_current", "its compliance", operation.compliance_A, "A"),
                ("read_voltage", "the voltage", operation.voltage_V, "V"),
            ]
        case RoutedDac():  # what it feeds is not known here, so it is held to the bound of a word line
            return [
                ("gate_voltage", "the voltage of the channel", operation.voltage_V, "V"),
                ("smu_voltage", "the voltage limit of the source-measure unit", operation.protection_V, "V"),
            ]
