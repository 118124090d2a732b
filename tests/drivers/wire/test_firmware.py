"""The board's side of docs/wire.md, frame by frame: what is executed, what is answered, what changes nothing."""

import numpy as np
import pytest
from desk import Desk, driven, error, gates_payload, pulse_payload, report, route_payload
from emulated import cells, same, simulated, truth

from rramlab.drivers.controller import History
from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.frames import Frame, Kind
from rramlab.drivers.wire.messages import Code, Opcode
from rramlab.macro.pulses import PulseReport
from rramlab.macro.routes import RoutedCell, RoutedReference

# pulses ---------------------------------------------------------------------------------------------------------------


def test_a_pulse_is_answered_with_what_is_done(desk, small_table):
    (answer,) = desk.ask(Opcode.PULSE, 1, pulse_payload(desk, 7, "rows 0-3"))
    assert (answer.kind, answer.opcode, answer.sequence) == (Kind.REPLY, Opcode.PULSE, 1)
    assert report(answer, desk) == (7, PulseReport(cells("rows 0-3", small_table)))
    assert np.array_equal(desk.behind.die.state.pulses, cells("rows 0-3", small_table).bits)


@pytest.mark.parametrize("sequence", [1, 2, 900])
def test_a_known_id_is_answered_and_pulses_nothing(desk, sequence):
    first = desk.ask(Opcode.PULSE, 1, pulse_payload(desk, 7, "rows 0-3"))
    before = truth(desk.behind)
    (again,) = desk.ask(Opcode.PULSE, sequence, pulse_payload(desk, 7, "rows 0-3"))
    assert again.payload == first[0].payload
    assert same(truth(desk.behind), before)


def test_the_nonce_of_another_power_up_pulses_nothing(desk):
    before = truth(desk.behind)
    payload = pulse_payload(desk, 7)
    desk.firmware.reboot(forget=True)
    code, text = error(desk.ask(Opcode.PULSE, 1, payload))
    assert code == Code.WRONG_NONCE
    assert "switched off" in text
    assert same(truth(desk.behind), before)
    assert desk.behind.history(7) is History.NEVER


def test_ids_that_cannot_be_used_are_refused(desk):
    desk.ask(Opcode.PULSE, 1, pulse_payload(desk, 7, "row 0"))
    desk.ask(Opcode.ACKNOWLEDGE, 2, operations.pack_id(7))
    before = truth(desk.behind)
    for op_id in (7, 6):
        assert error(desk.ask(Opcode.PULSE, 3, pulse_payload(desk, op_id, "row 1")))[0] == Code.REFUSED
    assert same(truth(desk.behind), before)


def test_a_board_remembers_at_least_64_ids_and_refuses_more_than_it_can(desk, small_table):
    room = small_table.operation_memory
    assert room >= 64
    for op_id in range(1, room + 1):
        desk.ask(Opcode.PULSE, op_id, pulse_payload(desk, op_id, "cell (0, 0)"))
    code, _ = error(desk.ask(Opcode.PULSE, 900, pulse_payload(desk, room + 1, "row 1")))
    assert code == Code.REFUSED
    assert not desk.behind.die.state.pulses[1].any()
    (known,) = desk.ask(Opcode.HISTORY, 901, operations.pack_id(1))
    assert report(known, desk) == (1, PulseReport(cells("cell (0, 0)", small_table)))


def test_history_of_what_was_never_received_and_of_what_is_forgotten(desk):
    assert report(*desk.ask(Opcode.HISTORY, 1, operations.pack_id(7)), desk) == (7, History.NEVER)
    desk.ask(Opcode.PULSE, 2, pulse_payload(desk, 7, "row 0"))
    desk.ask(Opcode.ACKNOWLEDGE, 3, operations.pack_id(7))
    assert report(*desk.ask(Opcode.HISTORY, 4, operations.pack_id(7)), desk) == (7, History.FORGOTTEN)


@pytest.mark.parametrize("op_id", [2**63 - 1, 2**63, 2**64 - 1])
def test_every_id_of_64_bits_is_taken_or_refused(small_table, tmp_path, op_id):
    desk = Desk(simulated(small_table, tmp_path / "die.npz"))
    (answer,) = desk.ask(Opcode.PULSE, 1, pulse_payload(desk, op_id, "row 0"))
    assert answer.kind in (Kind.REPLY, Kind.ERROR)
    pulsed = desk.behind.die.state.pulses[0].all()
    assert pulsed == (answer.kind == Kind.REPLY)


def test_the_boards_own_limits_hold_whatever_the_host_has_checked(desk):
    before = truth(desk.behind)
    for payload in (
        pulse_payload(desk, 1, volts=4.7),
        pulse_payload(desk, 2, together=200),
        pulse_payload(desk, 3, together=0),
        pulse_payload(desk, 4, kind="reset", volts=3.5),
    ):
        code, text = error(desk.ask(Opcode.PULSE, 1, payload))
        assert code == Code.REFUSED
        assert "B-1 refused" in text
    assert same(truth(desk.behind), before)
    (status,) = desk.ask(Opcode.STATUS, 2)
    assert len(messages.unpack_status(status.payload).errors) == 4
    (status,) = desk.ask(Opcode.STATUS, 3)
    assert messages.unpack_status(status.payload).errors == ()  # the answer empties the queue


# ordered requests -----------------------------------------------------------------------------------------------------


def test_a_repeated_ordered_request_is_answered_and_not_executed(desk, small_table):
    first = desk.ask(Opcode.LOAD_GATES, 5, gates_payload(4, small_table))
    assert desk.ask(Opcode.LOAD_GATES, 5, gates_payload(9, small_table)) == first
    assert driven(desk) == 4


def test_a_stale_ordered_request_changes_nothing(desk, small_table):
    desk.ask(Opcode.PULSE, 1, pulse_payload(desk, 7, "row 0"))
    desk.ask(Opcode.LOAD_GATES, 9, gates_payload(4, small_table))
    desk.ask(Opcode.ROUTE, 10, route_payload(desk, RoutedReference(1)))
    held = desk.behind.load
    for opcode, payload in (
        (Opcode.LOAD_GATES, gates_payload(9, small_table)),
        (Opcode.ROUTE, route_payload(desk, None)),
        (Opcode.ROUTE, route_payload(desk, RoutedCell(0, 0))),
        (Opcode.ACKNOWLEDGE, operations.pack_id(7)),
    ):
        for sequence in (9, 3, 0, 2**32 - 1):
            assert error(desk.ask(opcode, sequence, payload))[0] == Code.STALE
    assert desk.behind.load is held
    assert desk.behind.history(7) == cells("row 0", small_table)
    desk.ask(Opcode.ROUTE, 11, route_payload(desk, None))
    assert driven(desk) == 4


@pytest.mark.parametrize("sequence", [0, 1, 2**31 - 1, 2**31, 2**31 + 5, 2**32 - 1])
def test_the_first_ordered_request_after_power_up_is_executed_whatever_its_number(desk, small_table, sequence):
    """None was executed before, so none is newer: a host that has counted far meets a board that was just switched on."""
    answers = desk.ask(Opcode.LOAD_GATES, sequence, gates_payload(4, small_table))
    assert answers == [Frame(Kind.REPLY, Opcode.LOAD_GATES, sequence)]
    assert driven(desk) == 4


def test_numbers_go_on_after_the_highest(desk, small_table):
    for rows, sequence in ((3, 2**32 - 2), (4, 2**32 - 1), (5, 0), (6, 1)):
        # A board that has heard numbers up to here takes them as newer, over the end of 32 bits.
        desk.ask(Opcode.LOAD_GATES, 2**31 - 1, gates_payload(2, small_table)) if rows == 3 else None
        assert desk.ask(Opcode.LOAD_GATES, sequence, gates_payload(rows, small_table))[0].kind == Kind.REPLY
        assert driven(desk) == rows
    (hello,) = desk.ask(Opcode.HELLO, 2)
    assert messages.unpack_hello(hello.payload)[1] == 3


def test_a_new_host_goes_on_from_the_newest_number(desk, small_table):
    desk.ask(Opcode.LOAD_GATES, 4000, gates_payload(4, small_table))
    (hello,) = desk.ask(Opcode.HELLO, 1)
    assert messages.unpack_hello(hello.payload)[1] == 4001


# routes, safe state ---------------------------------------------------------------------------------------------------


def test_a_route_is_held_and_opened(desk):
    assert desk.ask(Opcode.ROUTE, 1, route_payload(desk, RoutedReference(0)))[0].kind == Kind.REPLY
    (status,) = desk.ask(Opcode.STATUS, 2)
    assert messages.unpack_status(status.payload).routed
    desk.ask(Opcode.ROUTE, 3, route_payload(desk, None, nonce=0))  # opening needs no nonce
    (status,) = desk.ask(Opcode.STATUS, 4)
    assert not messages.unpack_status(status.payload).routed
    assert not messages.unpack_status(status.payload).live


def test_a_route_with_the_nonce_of_another_power_up_is_refused(desk):
    payload = route_payload(desk, RoutedCell(1, 2))
    desk.firmware.reboot(forget=False)
    assert error(desk.ask(Opcode.ROUTE, 1, payload))[0] == Code.WRONG_NONCE
    assert desk.behind.load is None


def test_a_route_that_will_change_the_cell_is_remembered_with_it(desk, small_table):
    desk.ask(Opcode.ROUTE, 1, route_payload(desk, RoutedCell(3, 2), op_id=12))
    (answer,) = desk.ask(Opcode.HISTORY, 2, operations.pack_id(12))
    assert report(answer, desk) == (12, PulseReport(cells("cell (3, 2)", small_table)))


def test_only_a_repetition_of_the_last_safe_state_is_answered_alone(desk):
    for sequence, opens in ((5, True), (5, False), (4, True), (0, True), (0, True)):
        desk.ask(Opcode.ROUTE, 100 + sequence, route_payload(desk, None))
        desk.firmware.controller.route(RoutedReference(0), 0)
        assert desk.ask(Opcode.SAFE_STATE, sequence) == [Frame(Kind.REPLY, Opcode.SAFE_STATE, sequence)]
        assert (desk.behind.load is None) == opens, sequence


def test_safe_state_clears_slots(desk, small_table):
    desk.ask(Opcode.LOAD_GATES, 1, gates_payload(4, small_table))
    desk.ask(Opcode.SAFE_STATE, 2)
    assert driven(desk) == 0


def test_a_pulse_or_route_from_before_a_safe_state_does_not_come_after_it(desk):
    """What arrives late changes nothing: the host was told that every line is at 0 V and believes it."""
    before = truth(desk.behind)
    assert desk.ask(Opcode.SAFE_STATE, 9)[0].kind == Kind.REPLY
    for opcode, payload in (
        (Opcode.ROUTE, route_payload(desk, RoutedCell(1, 1))),
        (Opcode.PULSE, pulse_payload(desk, 3, "row 0")),
    ):
        assert error(desk.ask(opcode, 8, payload))[0] == Code.STALE
    assert desk.behind.load is None
    assert same(truth(desk.behind), before)
