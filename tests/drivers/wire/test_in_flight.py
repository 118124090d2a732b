"""While a pulse takes its time: what the board answers, what waits, what ends it."""

from dataclasses import replace

import numpy as np
from desk import driven, error, gates_payload, pulse_payload, report, slow
from emulated import cells

from rramlab.drivers.controller import History
from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.frames import Decoder, Frame, Kind
from rramlab.drivers.wire.messages import Code, Opcode
from rramlab.macro.pulses import PulseReport


def ask(opcode, sequence, payload=b""):
    return lambda desk: desk.ask(opcode, sequence, payload)


def test_a_board_in_flight_answers_what_it_must_and_is_busy_for_the_rest(small_table):
    desk = slow(
        small_table,
        ask(Opcode.HELLO, 51),
        ask(Opcode.STATUS, 52),
        ask(Opcode.HEARTBEAT, 53),
        ask(Opcode.HISTORY, 54, operations.pack_id(7)),
        ask(Opcode.READ, 55, operations.pack_read(operations.ReadRequest(1, 0, 0, np.ones((1, 16), np.bool_)))),
        ask(Opcode.LOAD_GATES, 56, gates_payload(4, small_table)),
    )
    late = pulse_payload(desk, 8, "row 9")
    desk.meanwhile.append(ask(Opcode.PULSE, 57, late))
    desk.ask(Opcode.PULSE, 50, pulse_payload(desk, 7, "rows 0-5"))
    found = {answer.sequence: answer for answer in desk.answers}
    assert list(found) == [51, 52, 53, 54, 55, 56, 57, 50]
    assert {found[number].kind for number in (50, 51, 52, 53)} == {Kind.REPLY}
    assert messages.unpack_status(found[52].payload).live
    assert messages.unpack_beat(found[53].payload) == 50
    for number in (54, 55, 56, 57):
        assert error([found[number]])[0] == Code.BUSY
    assert report(found[50], desk) == (7, PulseReport(cells("rows 0-5", small_table)))
    assert not desk.behind.die.state.pulses[9].any()
    assert driven(desk) == 0
    (beat,) = desk.ask(Opcode.HEARTBEAT, 60)
    assert messages.unpack_beat(beat.payload) is None


def test_the_same_pulse_asked_again_in_flight_is_pulsed_and_answered_once(small_table):
    desk = slow(small_table)
    payload = pulse_payload(desk, 7, "rows 0-3")
    desk.meanwhile += [ask(Opcode.PULSE, 50, payload)] * 3
    desk.ask(Opcode.PULSE, 50, payload)
    assert [answer.sequence for answer in desk.answers] == [50]
    assert desk.behind.die.state.pulses.max() == 1


def test_the_answer_goes_to_where_it_was_asked_last(small_table):
    other = []
    desk = slow(small_table)
    payload = pulse_payload(desk, 7, "rows 0-3")
    again = Frame(Kind.REQUEST, Opcode.PULSE, 50, payload)
    desk.meanwhile.append(lambda desk: desk.firmware.receive(again, other.append))
    assert desk.ask(Opcode.PULSE, 50, payload) == []
    (data,) = other
    (answer,) = Decoder().feed(data)
    assert report(answer, desk) == (7, PulseReport(cells("rows 0-3", small_table)))


def test_a_safe_state_breaks_off_with_the_row_that_it_is_at(small_table):
    desk = slow(small_table, lambda desk: None, ask(Opcode.SAFE_STATE, 51))
    desk.ask(Opcode.LOAD_GATES, 49, gates_payload(4, small_table))
    desk.answers.clear()
    desk.ask(Opcode.PULSE, 50, pulse_payload(desk, 7))
    pulse, safe = desk.answers
    assert (pulse.opcode, safe.opcode) == (Opcode.PULSE, Opcode.SAFE_STATE)
    op_id, found = report(pulse, desk)
    assert op_id == 7
    assert found.truncated
    assert np.array_equal(found.done.bits, desk.behind.die.state.pulses > 0)
    done = found.done.bits.all(axis=1)
    assert 0 < done.sum() < 32
    assert not done[done.sum() :].any()  # rows in order
    assert driven(desk) == 0


def test_no_safe_state_is_confirmed_before_the_operation_is_over(small_table):
    """Asked twice under one number, while a row is energised: neither answer may come before that row has ended."""
    desk = slow(small_table)

    def twice(desk):
        desk.ask(Opcode.SAFE_STATE, 51)
        desk.ask(Opcode.SAFE_STATE, 51)

    desk.meanwhile.append(twice)
    desk.ask(Opcode.PULSE, 50, pulse_payload(desk, 7))
    first, *others = [answer.opcode for answer in desk.answers]
    assert first == Opcode.PULSE
    assert set(others) == {Opcode.SAFE_STATE}


def test_history_says_that_an_operation_was_broken_off(small_table):
    """The report of an id is the same from PULSE, asked again, and from HISTORY: state 3 where it was broken off."""
    desk = slow(small_table, ask(Opcode.SAFE_STATE, 51))
    payload = pulse_payload(desk, 7)
    desk.ask(Opcode.PULSE, 50, payload)
    first = report(desk.answers[0], desk)
    assert first[1].truncated
    assert report(*desk.ask(Opcode.PULSE, 52, payload), desk) == first
    assert report(*desk.ask(Opcode.HISTORY, 53, operations.pack_id(7)), desk) == first


def test_power_lost_in_flight_is_not_answered_and_the_rows_are_remembered(small_table):
    desk = slow(small_table, lambda desk: None, lambda desk: desk.firmware.reboot(forget=False))
    nonce = desk.behind.hello().boot_nonce
    payload = pulse_payload(desk, 7)
    assert desk.ask(Opcode.PULSE, 50, payload) == []
    assert desk.behind.hello().boot_nonce != nonce
    assert error(desk.ask(Opcode.PULSE, 1, payload))[0] == Code.WRONG_NONCE
    (answer,) = desk.ask(Opcode.HISTORY, 2, operations.pack_id(7))
    _, found = report(answer, desk)
    assert np.array_equal(found.done.bits, desk.behind.die.state.pulses > 0)
    assert 0 < found.done.count < small_table.geometry.cells


def test_a_board_without_a_memory_says_never_after_power_was_lost(small_table):
    desk = slow(small_table, lambda desk: None, lambda desk: desk.firmware.reboot(forget=True))
    desk.ask(Opcode.PULSE, 50, pulse_payload(desk, 7))
    (answer,) = desk.ask(Opcode.HISTORY, 2, operations.pack_id(7))
    assert report(answer, desk) == (7, History.NEVER)


def test_silence_breaks_off_and_a_heartbeat_holds_it_off(small_table):
    table = replace(small_table, dead_man_s=0.15)
    silent = slow(table)
    silent.ask(Opcode.PULSE, 50, pulse_payload(silent, 7))
    _, found = report(silent.answers[0], silent)
    assert found.truncated
    assert found.done.count < table.geometry.cells
    (status,) = silent.ask(Opcode.STATUS, 51)
    assert any("dead man" in text for text in messages.unpack_status(status.payload).errors)
    alive = slow(table, *[ask(Opcode.HEARTBEAT, 60 + beat) for beat in range(10**3)])
    alive.ask(Opcode.PULSE, 50, pulse_payload(alive, 7, "rows 0-11"))
    assert report(alive.answers[-1], alive)[1] == PulseReport(cells("rows 0-11", table))


def test_damaged_frames_are_no_sign_of_life(small_table):
    desk = slow(replace(small_table, dead_man_s=0.15))
    desk.meanwhile += [lambda desk: desk.firmware.receive(None, desk.take)] * 10**3
    desk.ask(Opcode.PULSE, 50, pulse_payload(desk, 7))
    assert report(desk.answers[-1], desk)[1].truncated
