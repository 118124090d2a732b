"""Damage, and good frames with anything in them: answered in words, never a crash."""

from dataclasses import replace

import numpy as np
import pytest
from desk import Desk, error, gates_payload, pulse_payload, request
from emulated import read_code, same, simulated, truth
from hypothesis import given, settings
from hypothesis import strategies as st

from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.frames import Decoder, Frame, Kind
from rramlab.drivers.wire.messages import Code, Opcode
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PULSE_KINDS
from rramlab.macro.routes import RoutedCell, RoutedReference


def test_damage_is_counted_and_answered_with_the_last_good_number(desk):
    decoder = Decoder()
    desk.bytes_in(b"\x05noise\0", decoder)
    assert desk.answers == [Frame(Kind.NAK, 0, 0)]
    desk.bytes_in(request(Opcode.HEARTBEAT, 41) + b"\x05noise\0" + request(Opcode.STATUS, 42), decoder)
    assert desk.answers[-2] == Frame(Kind.NAK, 0, 41)
    status = messages.unpack_status(desk.answers[-1].payload)
    assert (status.frames, status.damaged) == (2, 2)


@pytest.mark.parametrize("opcode", [0, 5, 0x0013, 0xFFFF])
def test_an_opcode_that_there_is_not_is_refused_under_its_own_number(desk, opcode):
    (answer,) = desk.ask(opcode, 9)
    assert (answer.opcode, answer.sequence) == (opcode, 9)
    assert error([answer])[0] == Code.UNKNOWN_OPCODE


@given(kind=st.integers(0, 255).filter(lambda kind: kind != Kind.REQUEST), opcode=st.sampled_from(list(Opcode)))
def test_only_requests_are_obeyed(small_table, kind, opcode):
    desk = Desk(simulated(small_table))
    before = truth(desk.behind)
    desk.firmware.receive(Frame(kind, opcode, 3, pulse_payload(desk, 7)), desk.take)
    assert same(truth(desk.behind), before)
    assert desk.answers == []


TINY = Geometry(4, 4)


@pytest.fixture(scope="module")
def tiny(small_table):
    return replace(small_table, geometry=TINY, columns_per_adc=4, lines_at_once=4)


def structured(desk):
    """Payloads with the layout of their opcode and anything in it."""
    nonce = st.just(desk.behind.hello().boot_nonce) | st.integers(0, 2**64 - 1)
    number, few = st.integers(0, 2**16 - 1), st.integers(0, 5)
    ids = st.integers(0, 2**64 - 1)
    bits = st.integers(0, 2**16 - 1).map(lambda value: value.to_bytes(2, "big"))
    selection = bits.map(lambda data: CellSelection.from_packed(data, TINY))
    widths = st.integers(0, 2**32 - 1) | st.just(1000)
    together = number | few
    pulses = st.builds(
        operations.PulseRequest, nonce, ids, st.sampled_from(PULSE_KINDS), number, number, widths, together, selection
    ).map(operations.pack_pulse)
    reads = st.tuples(few, number, st.just(0), st.just(4), st.integers(0, 2), bits).map(
        lambda f: b"".join(value.to_bytes(2, "little") for value in f[:5]) + f[5]
    )
    spans = st.booleans()
    references = st.builds(operations.ReferenceRequest, few, number, st.none() | few, spans, st.just(4)).map(
        operations.pack_reference
    )
    phases = st.lists(st.integers(-2, 3), min_size=4, max_size=4).map(lambda each: np.array(each, np.int16))
    rows = st.integers(0, 255).map(lambda value: np.unpackbits(np.array([value], np.uint8)).reshape(2, 4) > 0)
    gates = st.builds(operations.pack_gates, few, rows, phases)
    inputs = st.tuples(few, few).map(lambda shape: np.ones(shape, np.uint8))
    columns = st.integers(0, 15).map(lambda value: np.array([value >> place & 1 for place in range(4)], np.bool_))
    products = st.builds(operations.MultiplyRequest, few, st.integers(0, 255), columns, inputs).map(
        operations.pack_multiply
    )
    targets = st.none() | st.builds(RoutedCell, few, few) | st.builds(RoutedReference, few)
    routes = st.builds(operations.RouteRequest, nonce, ids, targets, number).map(operations.pack_route)
    shaped = {
        Opcode.PULSE: pulses,
        Opcode.READ: reads,
        Opcode.READ_REFERENCE: references,
        Opcode.LOAD_GATES: gates,
        Opcode.MULTIPLY: products,
        Opcode.ROUTE: routes,
        Opcode.HISTORY: ids.map(operations.pack_id),
        Opcode.ACKNOWLEDGE: ids.map(operations.pack_id),
    }
    return st.one_of(
        *(st.tuples(st.just(opcode), payload) for opcode, payload in shaped.items()),
        st.tuples(st.sampled_from(list(Opcode)), st.binary(max_size=60)),
    )


@settings(max_examples=60)
@given(data=st.data())
def test_whatever_a_good_frame_holds_is_answered_once(tiny, data):
    """A reply or a refusal in words, never silence or a crash; refused pulses leave the die as it was."""
    desk = Desk(simulated(tiny))
    for sequence in range(1, 9):
        opcode, payload = data.draw(structured(desk))
        before = truth(desk.behind)
        (answer,) = desk.ask(opcode, sequence, payload)
        assert (answer.opcode, answer.sequence) == (opcode, sequence)
        assert answer.kind in (Kind.REPLY, Kind.ERROR)
        if answer.kind == Kind.ERROR:
            assert messages.unpack_error(answer.payload)[1]
            assert same(truth(desk.behind), before)


def test_a_request_for_more_than_the_board_can_hold_is_refused(desk, small_table):
    """A pattern that drives nothing takes inputs of no rows: 4 thousand million vectors are 11 bytes to ask for."""
    desk.ask(Opcode.LOAD_GATES, 1, gates_payload(0, small_table))
    head = operations.pack_multiply(operations.MultiplyRequest(0, 1, np.ones(16, np.bool_), np.zeros((0, 0), np.uint8)))
    payload = head[:6] + b"\xff\xff\xff\xff" + head[10:]
    assert error(desk.ask(Opcode.MULTIPLY, 2, payload))[0] in (Code.REFUSED, Code.BAD_PAYLOAD)


def test_an_answer_beyond_what_a_board_must_give_is_refused_in_words(desk, small_table):
    """67 MB of codes: the page lets a board refuse what is longer than 16 MiB."""
    long = operations.ReadRequest(65_535, read_code(small_table), 0, np.ones((32, 16), np.bool_))
    assert error(desk.ask(Opcode.READ, 1, operations.pack_read(long)))[0] == Code.REFUSED
    longer = operations.ReferenceRequest(65_535, read_code(small_table), 0, False, 16)
    assert error(desk.ask(Opcode.READ_REFERENCE, 2, operations.pack_reference(longer)))[0] == Code.REFUSED
    assert desk.ask(Opcode.HEARTBEAT, 3)[0].kind == Kind.REPLY


@pytest.mark.parametrize("flags", [2, 3, 0x0100, 0xFFFF])
def test_a_flag_that_there_is_not_is_no_read(desk, small_table, flags):
    payload = operations.pack_read(operations.ReadRequest(1, read_code(small_table), 0, np.ones((1, 16), np.bool_)))
    before = truth(desk.behind)
    unknown = payload[:8] + flags.to_bytes(2, "little") + payload[10:]
    assert error(desk.ask(Opcode.READ, 1, unknown))[0] == Code.BAD_PAYLOAD
    assert same(truth(desk.behind), before)


def test_a_read_above_the_read_voltage_is_refused(desk, small_table):
    bits = np.ones((1, 16), np.bool_)
    above = operations.ReadRequest(1, small_table.dac_code(1.0), 0, bits)
    assert error(desk.ask(Opcode.READ, 1, operations.pack_read(above)))[0] == Code.REFUSED
    allowed = operations.ReadRequest(1, read_code(small_table), 0, bits)
    assert desk.ask(Opcode.READ, 2, operations.pack_read(allowed))[0].kind == Kind.REPLY
