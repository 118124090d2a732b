"""One contract for every MacroController: in process, over TCP, a terminal, a VISA socket and a serial port's URL."""

import contextlib

import numpy as np
import pytest
from emulated import KINDS, cells, process, pulse, read_all, read_code, row_pace, same, served, simulated, truth
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from workbench import SmallBench

from rramlab.base.errors import InstrumentError
from rramlab.drivers.bench import describe_bench
from rramlab.drivers.controller import PROTOCOL_VERSION, History
from rramlab.drivers.links import open_link
from rramlab.drivers.wire.client import WireController
from rramlab.macro.cells import CellSelection
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference
from rramlab.sim.backend import simulated_board, state_file
from rramlab.sim.die import SimulatedDie
from rramlab.sim.routes import CellLoad, DacOutput, Resistor


def gates(table, rows=range(20), off=(), phases=1):
    """A pattern that drives ``rows`` in every phase; ``off``: pairs that are off."""
    on = np.zeros((phases, table.geometry.rows), np.bool_)
    for phase in range(phases):
        on[phase, list(rows)] = True
        on[phase, phase] = True
    pairs = np.arange(table.geometry.columns // 2, dtype=np.int16) % phases
    pairs[list(off)] = -1
    return on, np.repeat(pairs, 2)


def vectors(count, rows, bits=4, seed=3):
    return np.random.default_rng(seed).integers(0, 1 << bits, (count, rows), np.uint8)


# identity -------------------------------------------------------------------------------------------------------------


def test_it_says_who_it_is_and_energises_nothing(bench):
    before = truth(bench.behind)
    identity = bench.host.hello()
    assert identity == bench.twin.hello()
    assert identity.protocol == PROTOCOL_VERSION
    assert identity.board_serial == "B-1"
    assert identity.geometry == bench.table.geometry
    assert identity.capabilities == bench.table.capabilities
    assert identity.limits.sl_minus_bl == bench.table.max_sl_minus_bl_V
    assert identity.limits.electroform_voltage is None  # no opinion stays none over any link
    assert same(truth(bench.behind), before)


def test_the_nonce_changes_at_every_power_up(bench):
    nonces = {bench.host.hello().boot_nonce}
    for forget in (True, False, True):
        bench.reboot(forget)
        nonces.add(bench.host.hello().boot_nonce)
    assert len(nonces) == 4


# pulses ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["electroform", "set", "reset"])
def test_a_pulse_reports_what_it_did_and_does_what_it_does_in_process(bench, kind):
    for controller in (bench.host, bench.twin):
        if kind != "electroform":
            pulse(controller, bench.table, 1, "rows 0-9")
    report = pulse(bench.host, bench.table, 2, "checkerboard", kind)
    assert report.done == cells("checkerboard", bench.table)
    assert not report.truncated
    pulse(bench.twin, bench.table, 2, "checkerboard", kind)
    assert same(truth(bench.behind), truth(bench.twin))
    assert bench.behind.die.state.pulses.sum() == report.done.count + (kind != "electroform") * 160


def test_a_known_id_returns_its_history_and_pulses_nothing(bench):
    first = pulse(bench.host, bench.table, 5, "rows 2-7")
    before = truth(bench.behind)
    for region in ("rows 2-7", "rows 8-9"):  # whatever the retry says: the id decides
        again = pulse(bench.host, bench.table, 5, region)
        assert (again.done, again.truncated) == (first.done, False)
    assert same(truth(bench.behind), before)


def test_a_forgotten_id_is_refused(bench):
    pulse(bench.host, bench.table, 5, "row 0")
    bench.host.acknowledge(5)
    before = truth(bench.behind)
    for op_id in (5, 4):
        with pytest.raises(InstrumentError, match="nothing was pulsed"):
            pulse(bench.host, bench.table, op_id, "row 1")
    assert same(truth(bench.behind), before)


def test_a_full_memory_is_refused_until_the_host_acknowledges(bench):
    room = bench.table.operation_memory
    for op_id in range(1, room + 1):
        pulse(bench.host, bench.table, op_id, "cell (0, 0)", "reset")
    with pytest.raises(InstrumentError, match=r"[Aa]cknowledge"):
        pulse(bench.host, bench.table, room + 1, "row 1")
    assert not bench.behind.die.state.pulses[1].any()
    bench.host.acknowledge(room - 1)
    assert bench.host.history(room - 1) is History.FORGOTTEN
    assert bench.host.history(room) == cells("cell (0, 0)", bench.table)
    pulse(bench.host, bench.table, room + 1, "row 1")
    assert bench.behind.die.state.pulses[1].all()


def test_an_acknowledgement_may_be_repeated(bench):
    pulse(bench.host, bench.table, 1, "row 0")
    pulse(bench.host, bench.table, 2, "row 1")
    for op_id in (1, 1, 0, 1):
        bench.host.acknowledge(op_id)
    assert bench.host.history(2) == cells("row 1", bench.table)


def test_history_knows_never_and_forgotten_apart(bench):
    assert bench.host.history(5) is History.NEVER
    pulse(bench.host, bench.table, 5, "row 0")
    assert bench.host.history(5) == cells("row 0", bench.table)
    assert bench.host.history(4) is History.FORGOTTEN
    assert bench.host.history(6) is History.NEVER
    bench.host.acknowledge(5)
    assert bench.host.history(5) is History.FORGOTTEN


@pytest.mark.parametrize("forget", [False, True])
def test_what_is_remembered_of_a_pulse_after_a_loss_of_power(bench, forget):
    pulse(bench.host, bench.table, 5, "row 3")
    bench.reboot(forget)
    bench.host.hello()
    assert bench.host.history(5) == (History.NEVER if forget else cells("row 3", bench.table))


def test_a_host_that_has_not_noticed_a_loss_of_power_is_refused(wired):
    pulse(wired.host, wired.table, 1, "row 0")
    before = truth(wired.behind)
    wired.reboot(True)
    with pytest.raises(InstrumentError, match="switched off"):
        pulse(wired.host, wired.table, 2, "row 1")
    with pytest.raises(InstrumentError, match="switched off"):
        wired.host.route(RoutedCell(0, 0), 0)
    assert same(truth(wired.behind), before)
    wired.host.hello()
    pulse(wired.host, wired.table, 2, "row 1")  # it knows now
    assert wired.behind.die.state.pulses[1].all()


@pytest.mark.parametrize(
    ("kind", "volts", "width_ns", "gate", "together"),
    [
        ("electroform", 4.7, 1000, 1.6, 8),
        ("electroform", 3.75, 20, 1.6, 8),
        ("set", 2.0, 2_000_000, 1.6, 8),
        ("electroform", 3.75, 1000, 3.9, 8),
        ("electroform", 3.75, 1000, 1.6, 100),
        ("electroform", 3.75, 1000, 1.6, 0),
        ("reset", 3.5, 1000, 1.6, 8),
    ],
)
def test_a_pulse_above_a_limit_is_refused_by_the_board(bench, kind, volts, width_ns, gate, together):
    before, table = truth(bench.behind), bench.table
    with pytest.raises(InstrumentError, match="B-1 refused") as refusal:
        bench.host.pulse(
            1, kind, CellSelection.everything(table.geometry), table.dac_code(volts), width_ns, table.dac_code(gate), together
        )  # fmt: skip
    with pytest.raises(InstrumentError) as expected:
        bench.twin.pulse(
            1, kind, CellSelection.everything(table.geometry), table.dac_code(volts), width_ns, table.dac_code(gate), together
        )  # fmt: skip
    assert str(expected.value) in str(refusal.value)  # the board's own words
    assert same(truth(bench.behind), before)
    assert bench.host.history(1) is History.NEVER


# reads ----------------------------------------------------------------------------------------------------------------


def test_reads_give_the_codes_that_they_give_in_process(bench):
    for controller in (bench.host, bench.twin):
        pulse(controller, bench.table, 1, "one-of-pair(seed=3)")
    for region, repeats in (("all", 1), ("all", 3), ("checkerboard & rows 3-20", 2), ("cell (31, 15)", 5)):
        selected = cells(region, bench.table)
        found = bench.host.read(selected, repeats, read_code(bench.table))
        assert found.dtype == np.uint16
        assert found.shape == (repeats, selected.count)
        assert np.array_equal(found, bench.twin.read(selected, repeats, read_code(bench.table)))
    assert same(truth(bench.behind), truth(bench.twin))


@settings(max_examples=12)
@given(bits=hnp.arrays(np.bool_, (32, 16)), repeats=st.integers(1, 3))
def test_any_selection_is_read(bench, bits, repeats):
    if not bits.any():
        bits = np.eye(32, 16, dtype=np.bool_)
    found = bench.host.read(CellSelection(bits), repeats, read_code(bench.table))
    assert np.array_equal(found, bench.twin.read(CellSelection(bits), repeats, read_code(bench.table)))


def lossy(table):
    """A board and die with wires, twice; formed in part."""
    both = [simulated(table, figures={"wires": {"solver": "fast", "segment_Ohm": 40.0}}) for _ in range(2)]
    for each in both:
        pulse(each, table, 1, "one-of-pair(seed=3)")
    return both


@pytest.mark.parametrize("kind", ["in process", *KINDS])
def test_isolated_reads_give_the_codes_that_they_give_in_process(small_table, kind):
    """On lines with resistance, where they differ from other reads, and in whatever blocks of rows they are sent."""
    behind, twin = lossy(small_table)
    with contextlib.ExitStack() as last:
        host = behind if kind == "in process" else last.enter_context(served(behind)).host(kind)
        for region, repeats in (("all", 1), ("checkerboard & rows 3-20", 2), ("cell (31, 15)", 5), ("rows 2-9", 900)):
            selected, code = cells(region, small_table), read_code(small_table)
            found = host.read(selected, repeats, code, isolated=True)
            assert np.array_equal(found, twin.read(selected, repeats, code, isolated=True))
        plain = host.read(cells("all", small_table), 1, read_code(small_table))
        alone = host.read(cells("all", small_table), 1, read_code(small_table), isolated=True)
        assert not np.array_equal(plain, alone)


def test_a_read_is_not_repeated_from_memory(bench):
    """A retried read is a new read, as in life."""
    assert not np.array_equal(read_all(bench.host, bench.table, 2), read_all(bench.host, bench.table, 2))


def test_a_read_above_the_read_voltage_is_refused(bench):
    before = truth(bench.behind)
    with pytest.raises(InstrumentError, match="B-1 refused: a read at 1"):
        bench.host.read(cells("all", bench.table), 1, bench.table.dac_code(1.0) + 1)
    assert same(truth(bench.behind), before)


@pytest.mark.parametrize("resistor", [0, 1, None])
@pytest.mark.parametrize("multiply", [False, True])
def test_reference_reads_give_the_codes_that_they_give_in_process(bench, resistor, multiply):
    for repeats, volts in ((1, 0.2), (3, 0.1), (2, 0.0)):
        code = bench.table.dac_code(volts)
        found = bench.host.read_reference(resistor, multiply, repeats, code)
        assert found.dtype == np.uint16
        assert found.shape == (repeats, 16)
        level, _ = bench.behind.board.reference_level(resistor, multiply, code)
        assert np.array_equal(found, np.tile(np.rint(level), (repeats, 1)))
        bench.twin.read_reference(resistor, multiply, repeats, code)
    assert same(truth(bench.behind), truth(bench.twin))


def test_a_reference_read_that_is_longer_than_a_frame_comes_whole(bench):
    repeats = 4096  # 128 KiB
    found = bench.host.read_reference(0, False, repeats, read_code(bench.table))
    assert np.array_equal(found, bench.twin.read_reference(0, False, repeats, read_code(bench.table)))


def test_a_reference_read_is_a_new_one_each_time(bench):
    clock = bench.behind.die.state.clock_ns
    for _ in range(3):
        bench.host.read_reference(0, False, 1, 0)
    spans = bench.behind.die.state.clock_ns - clock
    bench.twin.read_reference(0, False, 1, 0)
    assert spans == 3 * bench.twin.die.state.clock_ns > 0


def test_a_reference_read_of_what_is_not_there_or_too_high_is_refused(bench):
    before, full = truth(bench.behind), read_code(bench.table)
    for arguments, words in (
        ((2, False, 1, full), "no reference resistor 2"),
        ((0, False, 1, bench.table.dac_code(0.3)), "read_voltage"),
        ((0, True, 0, full), "repeats"),
        ((None, True, 4097, full), "repeats"),
    ):
        with pytest.raises(InstrumentError, match=words):
            bench.host.read_reference(*arguments)
    assert same(truth(bench.behind), before)


# products -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phases", [1, 3])
@pytest.mark.parametrize("count", [1, 200])
def test_products_are_what_they_are_in_process(bench, phases, count):
    rows, phase = gates(bench.table, off=(1, 6), phases=phases)
    columns = np.array([0, 1, 5, 8, 15])
    x = vectors(count, int(rows.any(axis=0).sum()))
    for controller in (bench.host, bench.twin):
        pulse(controller, bench.table, 1, "all")
        controller.load_gates(3, rows, phase)
    found, expected = (each.multiply(x, 4, 3, columns) for each in (bench.host, bench.twin))
    assert found.codes.dtype == np.int32
    assert found.codes.shape == (count, 5)
    assert np.array_equal(found.codes, expected.codes)
    assert found.conversions == expected.conversions > 0
    assert np.array_equal(found.saturated, expected.saturated)


def test_a_slot_that_is_empty_or_does_not_exist_is_refused(bench):
    with pytest.raises(InstrumentError, match="slot 2 is empty"):
        bench.host.multiply(vectors(1, 20), 4, 2, np.arange(4))
    with pytest.raises(InstrumentError, match="does not exist"):
        bench.host.load_gates(bench.table.gate_slots, *gates(bench.table))


def test_inputs_that_do_not_fit_are_refused(bench):
    bench.host.load_gates(0, *gates(bench.table, off=(0,)))
    for x, bits, columns, words in (
        (vectors(2, 19), 4, np.arange(2, 6), "drives 20 rows"),
        (vectors(2, 20), 9, np.arange(2, 6), "9 bits"),
        (vectors(2, 20), 4, np.arange(4), "turns off"),
    ):
        with pytest.raises(InstrumentError, match=words):
            bench.host.multiply(x, bits, 0, columns)


def test_slots_hold_their_own_patterns_and_the_last_one_loaded(bench):
    for slot, driven in ((0, range(5)), (1, range(9)), (0, range(12))):
        bench.host.load_gates(slot, *gates(bench.table, driven))
    assert bench.host.multiply(vectors(3, 12), 4, 0, np.arange(16)).codes.shape == (3, 16)
    assert bench.host.multiply(vectors(3, 9), 4, 1, np.arange(16)).codes.shape == (3, 16)


# routes, status, safe state -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "load"),
    [
        (RoutedCell(3, 2, "sl"), CellLoad),
        (RoutedCell(31, 15, "bl"), CellLoad),
        (RoutedReference(1), Resistor),
        (RoutedDac(7), DacOutput),
    ],
)
def test_a_route_connects_and_opens_again(bench, target, load):
    bench.host.route(target, bench.table.dac_code(1.6))
    assert isinstance(bench.behind.load, load)
    assert bench.host.status().routed
    with pytest.raises(InstrumentError, match="path is closed"):
        read_all(bench.host, bench.table)
    with pytest.raises(InstrumentError, match="path is closed"):
        bench.host.read_reference(0, False, 1, 0)
    with pytest.raises(InstrumentError, match="path is closed"):
        pulse(bench.host, bench.table, 1, "row 0")
    bench.host.route(None, 0)
    assert bench.behind.load is None
    assert not bench.host.status().routed
    read_all(bench.host, bench.table)


@pytest.mark.parametrize("target", [RoutedCell(32, 0), RoutedCell(0, 16), RoutedReference(2), RoutedDac(8)], ids=str)
def test_a_route_to_what_is_not_there_is_refused(bench, target):
    with pytest.raises(InstrumentError, match="there is no"):
        bench.host.route(target, 0)
    assert bench.behind.load is None


def test_a_route_that_will_change_its_cell_is_remembered_as_a_pulse(bench):
    bench.host.route(RoutedCell(3, 2), bench.table.dac_code(1.6), op_id=9)
    assert bench.host.history(9) == cells("cell (3, 2)", bench.table)
    bench.host.safe_state()
    bench.host.route(RoutedCell(3, 2), bench.table.dac_code(1.6), op_id=9)  # a retry: left as it is
    assert bench.behind.load is None


def test_status_says_how_it_is(bench):
    status = bench.host.status()
    assert (status.live, status.routed) == (False, False)
    assert status.temperature_C == bench.behind.board.temperature_C
    assert status.errors == ()
    with pytest.raises(InstrumentError):
        bench.host.load_gates(999, *gates(bench.table))
    if bench.kind != "in process":
        status = bench.host.status()
        assert status.frames >= 3
        assert status.damaged == 0
        assert "999" in status.errors[0]
    assert bench.host.status().errors == ()


def test_a_heartbeat_changes_nothing(bench):
    bench.host.route(RoutedReference(0), 0)
    before, load = truth(bench.behind), bench.behind.load
    for _ in range(5):
        bench.host.heartbeat()
    assert bench.behind.load is load
    assert same(truth(bench.behind), before)


def test_safe_state_opens_the_path_clears_slots_and_may_be_repeated(bench):
    bench.host.load_gates(0, *gates(bench.table))
    bench.host.route(RoutedCell(3, 2), bench.table.dac_code(1.6))
    for _ in range(3):
        bench.host.safe_state()
        status = bench.host.status()
        assert (status.live, status.routed) == (False, False)
        assert bench.behind.load is None
    with pytest.raises(InstrumentError, match="empty"):
        bench.host.multiply(vectors(1, 20), 4, 0, np.arange(4))
    bench.host.load_gates(0, *gates(bench.table))  # it goes on after it
    bench.host.multiply(vectors(1, 20), 4, 0, np.arange(4))


def test_safe_state_works_after_an_error(bench):
    bench.host.route(RoutedReference(0), 0)
    with pytest.raises(InstrumentError):
        read_all(bench.host, bench.table)
    bench.host.safe_state()
    assert bench.behind.load is None


# tick, close ----------------------------------------------------------------------------------------------------------


class Enough(Exception):
    """Raised by a tick."""


class Ticks:
    def __init__(self, most):
        self.count, self.most = 0, most

    def __call__(self):
        self.count += 1
        if self.count >= self.most:
            raise Enough


def test_tick_is_called_during_a_long_product_and_may_raise(bench):
    bench.host.load_gates(0, *gates(bench.table))
    ticks = Ticks(10**9)
    bench.host.multiply(vectors(300, 20), 4, 0, np.arange(16), ticks)
    assert ticks.count
    with pytest.raises(Enough):
        bench.host.multiply(vectors(300, 20), 4, 0, np.arange(16), Ticks(1))
    bench.host.safe_state()  # nothing of it is left in the way
    assert read_all(bench.host, bench.table).shape == (1, 512)


def test_tick_may_raise_in_a_read_and_the_next_answers_are_right(wired):
    with pytest.raises(Enough):
        wired.host.read(cells("all", wired.table), 400, read_code(wired.table), Ticks(1))
    wired.host.status()
    # The board took that read: from here, the twin reads what the board reads.
    wired.twin.die.state.__dict__.update(wired.behind.die.state.__dict__)
    assert np.array_equal(read_all(wired.host, wired.table), read_all(wired.twin, wired.table))


@pytest.mark.parametrize("kind", KINDS)
def test_tick_is_called_while_a_pulse_takes_its_time_and_may_break_it_off(small_table, kind):
    behind = simulated(small_table)
    with served(behind, pace=row_pace(small_table, 0.03)) as board:
        host, ticks = board.host(kind), Ticks(10**9)
        report = pulse(host, small_table, 1, "rows 0-7", tick=ticks)
        assert report.done == cells("rows 0-7", small_table)
        assert ticks.count >= 2
        with pytest.raises(Enough):
            pulse(host, small_table, 2, "rows 8-31", tick=Ticks(2))
        host.safe_state()
        done = host.history(2)
        assert isinstance(done, CellSelection)
        assert np.array_equal(done.bits, behind.die.state.pulses.astype(bool) & cells("rows 8-31", small_table).bits)
        assert 0 < done.count < 24 * 16
        assert not host.status().live


def test_closing_twice_is_no_error(bench):
    bench.host.close()
    bench.host.close()


def test_a_link_that_was_closed_says_so(wired):
    wired.host.close()
    with pytest.raises(InstrumentError, match=r"lost|closed"):
        wired.host.status()


def test_a_second_host_goes_on_where_the_first_one_stopped(wired):
    """Numbers of ordered requests are the board's: a new host's are not stale."""
    for slot in range(3):
        wired.host.load_gates(slot, *gates(wired.table))
    wired.host.close()
    second = wired.board.host(wired.kind)
    second.load_gates(0, *gates(wired.table, range(7)))
    assert second.multiply(vectors(2, 7), 4, 0, np.arange(4)).codes.shape == (2, 4)


# a board in a process of its own --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_board_in_another_process_does_what_it_does_in_process(tmp_path, kind):
    bench = SmallBench(tmp_path / "served").write()
    description = describe_bench(bench.folder)
    table, entry = description.board, description.file.dies[0]

    def work(controller):
        done = [pulse(controller, table, 1, "one-of-pair(seed=3)"), pulse(controller, table, 2, "rows 0-9", "reset")]
        controller.load_gates(0, *gates(table))
        sums = controller.multiply(vectors(40, 20), 4, 0, np.arange(16))
        codes = read_all(controller, table, 2)
        controller.safe_state()
        return [each.done.bits for each in done], codes, sums.codes, sums.saturated, np.array(sums.conversions)

    with process(bench.folder) as addresses:
        host = WireController(lambda: open_link(addresses[kind], 3_000_000, b"\0"))
        found = work(host)
        host.close()
    from rramlab.sim.backend import made_of
    from rramlab.sim.controller import SimulatedController

    _, model, seed = made_of(entry)
    twin = SimulatedController(SimulatedDie(table.geometry, model, seed), simulated_board(description.file, table))
    assert same(found, work(twin))
    die, _ = SimulatedDie.load(state_file(description.data, entry.id), table.geometry)
    assert np.array_equal(die.state.pulses, twin.die.state.pulses)
    assert np.array_equal(die.state.conductance_S, twin.die.state.conductance_S)
