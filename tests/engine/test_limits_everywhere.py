"""No path, scalar or list, sends a value beyond the intersected limits; what exceeds them is refused and nothing is sent.

A board and a unit that only write down what reaches them stand under a real station with its guard and ledger. Bounds are
worked out here from what was sent, not from what was asked for.
"""

import os
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramlab.base.errors import Refused
from rramlab.drivers.controller import History, Identity, Status, Sums
from rramlab.drivers.smu.readings import Reading, SweepCurve
from rramlab.engine.guard import Guard
from rramlab.engine.interrupts import Interrupts
from rramlab.engine.station import Station
from rramlab.macro.calibration import BoardCalibration
from rramlab.macro.cells import CellSelection
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse, PulseReport
from rramlab.macro.regions import Region
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference
from rramlab.plan.limits import WORST_CELL_S, Limits, intersect, of_board
from rramlab.plan.operations import LoadGates, Multiply, PulseOp, Read, ReferenceRead, Route, Sweep
from rramlab.plan.plan import Plan
from rramlab.plan.steps import (
    GateStep,
    MultiplyStep,
    PulseStep,
    ReadStep,
    ReferenceStep,
    RouteStep,
    SweepStep,
    encode_pattern,
)
from rramlab.plan.worst import worst_case
from rramlab.runs.ledger import Ledger

GEOMETRY = Geometry(4, 8)
# Ten times as many with RRAMLAB_ALL_LIMITS=1 in the environment: after a change of the guard or of a limit.
EXAMPLES, LISTS = (10_000, 1_000) if os.environ.get("RRAMLAB_ALL_LIMITS") else (1_000, 200)
SLACK = 1 + 1e-9
# What each limit is drawn from: around what the operations below ask for, so that about half of them pass.
SCALES = {
    "electroform_voltage": 5.0, "set_voltage": 5.0, "reset_voltage": 5.0, "read_voltage": 0.4, "gate_voltage": 5.0,
    "shortest_pulse": 1e-5, "longest_pulse": 1e-3, "line_current": 4e-3, "supply_current": 4e-3, "smu_voltage": 5.0,
    "smu_current": 4e-3, "sl_minus_bl": 5.0, "bl_minus_sl": 5.0, "wl_minus_bl": 5.0, "sl_minus_off_wl": 5.0,
}  # fmt: skip


class Recorder:
    """Board and unit in one: writes down what reaches it, as codes and numbers."""

    def __init__(self, board, limits):
        self.board, self.limits = board, limits
        self.sent = []
        self.known = {}

    # board
    def hello(self):
        return Identity(1, "f", "B", 1, GEOMETRY, self.limits, self.board.capabilities, 25.0)

    def pulse(self, op_id, kind, cells, amplitude, width_ns, gate, cells_per_pulse, tick=None):
        self.sent.append(("pulse", kind, cells, amplitude, width_ns, gate, cells_per_pulse))
        return PulseReport(cells)

    def read(self, cells, repeats, bias, tick=None, isolated=False):
        self.sent.append(("read", cells, bias))
        return np.full((repeats, cells.count), 72, np.uint16)

    def read_reference(self, resistor, multiply, repeats, bias, tick=None):
        self.sent.append(("reference", bias))
        return np.full((repeats, GEOMETRY.columns), 72, np.uint16)

    def load_gates(self, slot, rows, phase):
        self.gates = GatePattern(rows, phase)

    def multiply(self, x, bits, slot, columns, tick=None):
        self.sent.append(("multiply", self.gates))
        return Sums(np.zeros((len(x), len(columns)), np.int32), 0, np.zeros(len(columns), np.int64))

    def route(self, target, bias, op_id=0):
        if target is not None:
            self.sent.append(("route", target, bias, op_id))

    def status(self):
        return Status(True, True, 25.0, 0, 0, ())

    def history(self, op_id, tick=None):
        return History.NEVER

    def acknowledge(self, op_id):
        pass

    def heartbeat(self):
        pass

    # unit
    def reset(self, tick=None):
        pass

    def safe_state(self, tick=None):
        return []

    def output(self, on, tick=None):
        pass

    def source_voltage(self, volts, tick=None):
        self.sent.append(("volts", [volts]))

    def source_current(self, amperes, tick=None):
        self.sent.append(("amperes", amperes))

    def compliance(self, amperes=None, volts=None, tick=None):
        self.sent.append(("compliance", amperes) if volts is None else ("volts", [volts]))

    def measure(self, tick=None):
        return Reading(0.0, 0.0, False)

    def sweep(self, program, tick=None):
        self.sent += [("volts", program.levels_V.tolist()), ("compliance", program.compliance_A)]
        nothing = np.zeros(len(program.levels_V))
        return SweepCurve(nothing, nothing, nothing > 0)


@cache
def board_of(shipped):
    return replace(shipped, geometry=GEOMETRY, columns_per_adc=4, lines_at_once=2)


def station_of(board, bench, hello, pulsed_before):
    """A station without files, its ledger in memory; ``pulsed_before``: every cell once, so that set has something to do."""
    recorder = Recorder(board, hello)
    ledger = Ledger(Path(":memory:"), "d", GEOMETRY)
    if pulsed_before:
        everything = CellSelection.everything(GEOMETRY)
        before = PulseOp("reset", everything, Pulse(1.0, 1e-6, 1.0), 8)
        ledger.finish(ledger.intend(before, "before", "000.00000", 1), everything)
    guard = Guard("d", intersect(of_board(board), bench, hello), board, ledger, recorder.hello(), {"u": None})
    guard.arm("d")
    guard.contact_passed()
    calibration = BoardCalibration.nominal(board)
    station = Station("d", recorder, ledger, guard, calibration, Path("nowhere"), Interrupts(), {"u": recorder})
    return station, recorder


def excess(sent, pulse_kind, limits, board):
    """Return what of ``sent`` is beyond ``limits``, each as (limit, value), from what was sent alone.

    ``pulse_kind``: of a sweep, which cannot be told from the outside.
    """
    found = []

    def at_most(name, value):
        bound = getattr(limits, name)
        if bound is not None and value > bound * SLACK:
            found.append((name, value))

    gate_V = 0.0
    for what, *values in sent:
        if what == "pulse":
            kind, cells, amplitude, width_ns, gate, shots = values
            volts, gate_V = board.dac_volts(amplitude), board.dac_volts(gate)
            at_most(f"{kind}_voltage", volts)
            at_most("gate_voltage", gate_V)
            at_most("wl_minus_bl", gate_V)
            at_most("bl_minus_sl" if kind == "reset" else "sl_minus_bl", volts)
            at_most("longest_pulse", (width_ns - 0.5) / 1e9)
            if limits.shortest_pulse is not None and (width_ns + 0.5) / 1e9 < limits.shortest_pulse:
                found.append(("shortest_pulse", width_ns))
            if kind != "reset":
                at_most("sl_minus_off_wl", volts)
            most = min(shots, int(cells.bits.sum(axis=1).max(initial=0)))
            at_most("line_current", most * board.forming_current_A)
            at_most("supply_current", most * board.forming_current_A)
        elif what == "read":
            cells, bias = values
            volts = board.dac_volts(bias)
            at_most("read_voltage", volts)
            at_most("line_current", volts * WORST_CELL_S * int(cells.bits.sum(axis=1).max()))
        elif what == "reference":
            at_most("read_voltage", board.dac_volts(*values))
        elif what == "multiply":
            (gates,) = values
            volts = board.read_voltage_V
            line = volts * WORST_CELL_S * int(gates.enabled.sum())
            at_most("read_voltage", volts)
            at_most("line_current", line)
            at_most("supply_current", line * min(board.lines_at_once, int(gates.driven.sum())))
        elif what == "route":
            target, bias, _ = values
            gate_V = board.dac_volts(bias)
            at_most("gate_voltage", gate_V)
            if isinstance(target, RoutedCell):
                at_most("wl_minus_bl", gate_V)
        elif what == "compliance":
            at_most("smu_current", values[0])
            if any(each[0] == "route" and isinstance(each[1], RoutedCell) for each in sent):
                at_most("line_current", values[0])
                at_most("supply_current", values[0])
        elif what == "amperes":
            assert values == [0.0]
        else:
            routed = [each[1] for each in sent if each[0] == "route"]
            for level in values[0]:
                assert level >= 0  # the direction is the line's, not the sign's
                at_most("smu_voltage", level)
                if routed and not isinstance(routed[0], RoutedDac):
                    at_most(f"{pulse_kind}_voltage", level)
                if routed and isinstance(routed[0], RoutedCell):
                    assert (routed[0].line == "bl") == (pulse_kind == "reset")
                    at_most("bl_minus_sl" if pulse_kind == "reset" else "sl_minus_bl", level)
                    if pulse_kind != "reset":
                        at_most("sl_minus_off_wl", level)
                    if pulse_kind == "read":
                        assert level <= board.read_voltage_V
    return found


def bounds_of(most):
    some = st.dictionaries(st.sampled_from(sorted(SCALES)), st.floats(0.05, 1), max_size=most)
    return some.map(lambda shares: Limits(**{name: share * SCALES[name] for name, share in shares.items()}))


cells_ = st.lists(st.booleans(), min_size=32, max_size=32).map(
    lambda bits: CellSelection(np.array(bits, np.bool_).reshape(GEOMETRY.shape))
)
one_cell = st.tuples(st.integers(0, 3), st.integers(0, 7))
kinds = st.sampled_from(["electroform", "set", "reset"])
purposes = st.sampled_from(["read", "electroform", "set", "reset"])
volts_ = st.floats(0.01, 5)
gates = st.floats(0, 5.5)
currents = st.floats(1e-6, 4e-3)


def only(row, column):
    bits = np.zeros(GEOMETRY.shape, np.bool_)
    bits[row, column] = True
    return CellSelection(bits)


pulses = st.builds(PulseOp, kinds, cells_, st.builds(Pulse, volts_, st.floats(1e-7, 2e-3), gates), st.integers(1, 20))
sweeps = st.builds(
    lambda purpose, at, share, *more: Sweep(purpose, only(*at), share * (0.25 if purpose == "read" else 5), *more, smu="u"),
    purposes, one_cell, st.floats(0.01, 1), st.integers(2, 9), st.just(1e-6), currents, gates, st.booleans(),
)  # fmt: skip
targets = st.one_of(
    one_cell.map(lambda at: RoutedCell(*at)),
    st.integers(0, 2).map(RoutedReference),
    st.integers(0, 8).map(RoutedDac),
)
routes = st.builds(
    lambda target, share, *more: Route(target, share * (5 if isinstance(target, RoutedDac) else 0.25), *more, smu="u"),
    targets, st.floats(0, 1), currents, gates, st.integers(1, 2),
)  # fmt: skip
reads = st.builds(
    Read,
    cells_.filter(lambda cells: cells.count),
    st.just(1),
    bias=st.sampled_from(["read", "contact"]),
    isolated=st.booleans(),
)
references = st.builds(ReferenceRead, st.none() | st.integers(0, 2), st.floats(0, 0.25))
patterns = st.builds(
    lambda rows, pairs: GatePattern.lines(np.array(rows, np.bool_), np.array(pairs, np.bool_)),
    st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
    st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
)
multiplies = patterns.map(lambda pattern: Multiply(0, pattern, np.ones((1, int(pattern.driven.sum())), np.uint8), 1))
operations_ = st.one_of(pulses, sweeps, routes, reads, references, multiplies)


def send(station, operation, limits):
    match operation:
        case PulseOp():
            station.pulse(operation, "r", "000.00000", limits)
        case Sweep():
            station.sweep(operation, "r", "000.00000", limits)
        case Route():
            station.route(operation, limits)
        case Read():
            station.read(operation, limits)
        case ReferenceRead():
            station.reference_read(operation, limits)
        case Multiply():
            station.load_gates(LoadGates(0, operation.pattern), limits)
            station.multiply(operation, np.flatnonzero(operation.pattern.enabled), limits)


SEEN = {"sent": 0, "refused": 0}


@pytest.fixture(scope="module", autouse=True)
def _both_outcomes():
    """The tests below mean something only if much is refused and much is not."""
    yield
    assert min(SEEN.values()) > sum(SEEN.values()) / 10, SEEN


@settings(max_examples=EXAMPLES)
@given(operations_, bounds_of(3), bounds_of(2), bounds_of(2), st.booleans())
def test_no_single_operation_sends_what_is_beyond_a_limit(table, operation, bench, hello, protocol, pulsed_before):
    board = board_of(table)
    station, recorder = station_of(board, bench, hello, pulsed_before)
    entries = len(station.ledger.history())
    purpose = operation.purpose if isinstance(operation, Sweep) else "read"
    try:
        send(station, operation, protocol)
    except Refused:
        SEEN["refused"] += 1
        assert not recorder.sent
        assert len(station.ledger.history()) == entries
    else:
        SEEN["sent"] += 1
        assert not excess(recorder.sent, purpose, intersect(of_board(board), bench, hello, protocol), board)
    finally:
        station.ledger.close()


def step_of(operation):
    """The step that means an operation, where there is one."""
    match operation:
        case PulseOp(kind, cells, pulse, shots) if cells.count:
            volts, width, gate = pulse.amplitude_V, pulse.width_s, pulse.gate_V
            region = Region.of(cells).text
            return [PulseStep(kind=kind, cells=region, voltage=volts, width=width, gate=gate, cells_per_pulse=shots)]
        case Sweep(target=cell) as found:
            return [SweepStep(
                cell=f"({cell.row}, {cell.column})", purpose=found.purpose, voltage=found.peak_V, points=found.points,
                dwell=found.dwell_s, compliance=found.compliance_A, gate=found.gate_V, both_ways=found.both_ways,
            )]  # fmt: skip
        case Route(target=target) as found:
            match target:
                case RoutedCell(row, column):
                    where = {"cell": f"({row}, {column})"}
                case RoutedReference(index):
                    where = {"reference": index}
                case RoutedDac(index):
                    where = {"dac": index}
            given_ = {"compliance": found.compliance_A, "gate": found.gate_V, "count": found.count}
            return [RouteStep(**where, **given_, voltage=found.voltage_V)]
        case Read(cells, isolated=isolated):
            return [ReadStep(cells=Region.of(cells).text, isolated=isolated)]
        case ReferenceRead(resistor=resistor, voltage_V=volts):
            return [ReferenceStep(resistor="open" if resistor is None else resistor, voltage=volts)]
        case Multiply(pattern=pattern):
            return [GateStep(pattern=encode_pattern(pattern)), MultiplyStep()]
    return []


@settings(max_examples=LISTS)
@given(st.lists(operations_, min_size=1, max_size=4), bounds_of(2), bounds_of(1), bounds_of(1))
def test_no_list_of_steps_sends_what_is_beyond_a_limit(table, wanted, bench, hello, protocol):
    """A plan is refused whole, before its first operation; of one that is admitted nothing is refused later."""
    board = board_of(table)
    station, recorder = station_of(board, bench, hello, True)
    plan = Plan(name="p", steps=tuple(step for each in wanted for step in step_of(each)), limits=protocol, block_rows=2)
    tightest = intersect(of_board(board), bench, hello, protocol)
    try:
        station.guard.admit_plan(plan)
    except Refused:
        SEEN["refused"] += 1
        assert not recorder.sent
    else:
        SEEN["sent"] += 1
        for each in worst_case(plan, board):
            for operation in each.operations:
                recorder.sent.clear()
                send(station, operation, protocol)
                purpose = operation.purpose if isinstance(operation, Sweep) else "read"
                assert not excess(recorder.sent, purpose, tightest, board)
    finally:
        station.ledger.close()
