"""The codec on any stream: every message survives, no damage gets through, garbage is forgotten."""

import contextlib
import itertools
import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from cobs import cobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import geometries, selections

from rramlab.drivers.controller import History, Identity, Status, Sums
from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.frames import MOST_PAYLOAD, Decoder, Frame, Kind, Parts, decode, encode, reply
from rramlab.drivers.wire.layout import Malformed
from rramlab.drivers.wire.messages import Opcode
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PULSE_KINDS, PulseReport
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference
from rramlab.plan.limits import Limits
from rramlab.sim.emulator.faults import WireFaults
from rramlab.sim.emulator.streams import Channel

u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
payloads = st.one_of(
    st.binary(max_size=700),
    st.builds(lambda byte, size: bytes([byte]) * size, u8, st.sampled_from([1, 242, 253, 254, 255, 508, 65_536])),
)
frames = st.builds(Frame, u8, u16, u32, payloads)
levels = st.none() | st.floats(0, 1e3)
few_bytes = st.sampled_from([b"\0", b"\1", b"\xff", b"\xfe"]) | st.binary(min_size=1, max_size=3)
garbage = st.lists(few_bytes, max_size=200).map(b"".join) | st.binary(max_size=400)
GOOD = Frame(Kind.REQUEST, Opcode.PULSE, 77, bytes(range(256)))
MOST_ENCODED = 65_807  # docs/wire.md: bytes between two zeros


def fed(decoder, data, cuts):
    """Feed ``data`` in pieces."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [frame for a, b in itertools.pairwise(places) for frame in decoder.feed(data[a:b])]


# frames ---------------------------------------------------------------------------------------------------------------


@given(frames)
def test_a_frame_comes_back_as_it_was_and_holds_no_zero(frame):
    data = encode(frame)
    assert data.index(0) == len(data) - 1
    assert decode(data[:-1]) == frame


@given(st.lists(frames, max_size=5), st.lists(st.integers(0, 10**6), max_size=12))
def test_frames_are_found_whatever_pieces_they_arrive_in(sent, cuts):
    decoder = Decoder()
    assert fed(decoder, b"".join(map(encode, sent)), cuts) == sent
    assert (decoder.frames, decoder.damaged) == (len(sent), 0)


def test_frames_are_found_byte_by_byte():
    decoder, data = Decoder(), b"\0" + encode(GOOD) + b"\0\0" + encode(Frame(Kind.NAK, 0, 0))
    assert [frame for byte in data for frame in decoder.feed(bytes([byte]))] == [GOOD, Frame(Kind.NAK, 0, 0)]


@pytest.mark.parametrize("size", [0, 1, 253, 254, 255, MOST_PAYLOAD - 1, MOST_PAYLOAD])
@pytest.mark.parametrize("byte", [b"\0", b"\x5a"])
def test_payloads_up_to_the_most_pass(size, byte):
    frame = Frame(Kind.REPLY, Opcode.READ, 5, byte * size)
    data = encode(frame)
    assert len(data) - 1 <= MOST_ENCODED
    assert Decoder().feed(data) == [frame]


@pytest.mark.parametrize("byte", [b"\0", b"\x5a"])
def test_a_longer_payload_is_no_frame(byte):
    decoder = Decoder()
    frame = Frame(Kind.REQUEST, Opcode.PULSE, 5, byte * (MOST_PAYLOAD + 1))
    with pytest.raises(ValueError, match="65,537"):
        encode(frame)
    body = struct.pack("<BBHI", 1, frame.kind, frame.opcode, frame.sequence) + frame.payload
    long = cobs.encode(body + struct.pack("<I", zlib.crc32(body))) + b"\0"
    assert decoder.feed(long + encode(GOOD)) == [None, GOOD]


@given(frames.filter(lambda frame: len(frame.payload) < 1000), st.data())
def test_no_flipped_bits_get_through(frame, data):
    sent = encode(frame)
    flips = data.draw(st.sets(st.integers(0, 8 * len(sent) - 1), min_size=1, max_size=3))
    damaged = bytearray(sent)
    for place in flips:
        damaged[place // 8] ^= 1 << place % 8
    assert not any(Decoder().feed(bytes(damaged) + b"\0"))


def test_no_single_flipped_bit_of_a_pulse_gets_through():
    sent = encode(GOOD)
    for place in range(8 * len(sent)):
        damaged = bytearray(sent)
        damaged[place // 8] ^= 1 << place % 8
        assert not any(Decoder().feed(bytes(damaged) + b"\0")), place


@given(frames.filter(lambda frame: len(frame.payload) < 1000), st.integers(1, 10**6))
def test_a_frame_that_lost_its_end_gives_nothing(frame, cut):
    sent = encode(frame)
    assert not any(Decoder().feed(sent[: cut % (len(sent) - 1)] + b"\0"))


@given(garbage, st.lists(st.integers(0, 10**6), max_size=6))
def test_after_any_garbage_one_of_two_good_frames_is_found(noise, cuts):
    """What the garbage left without its zero may cost the first; never the second."""
    second = Frame(Kind.REQUEST, Opcode.HEARTBEAT, 78)
    found = fed(Decoder(), noise + encode(GOOD) + encode(second), cuts)
    assert found[-1] == second
    assert [frame for frame in found if frame is not None] in ([GOOD, second], [second])


@given(garbage)
def test_a_zero_in_front_saves_even_the_first_frame(noise):
    assert Decoder().feed(noise + b"\0" + encode(GOOD))[-1] == GOOD


@given(garbage)
def test_the_decoder_counts_what_it_gives(noise):
    decoder = Decoder()
    found = decoder.feed(noise + b"\0")
    assert (decoder.frames, decoder.damaged) == (len(found) - found.count(None), found.count(None))


def peak_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_garbage_without_end_costs_one_frame_and_no_memory():
    decoder, chunk = Decoder(), b"\x5a" * 4096
    found = []

    def flood():
        for _ in range(2000):  # 8 MB
            found.extend(decoder.feed(chunk))

    assert peak_of(flood) < 1_000_000
    assert found == []
    assert decoder.feed(b"\0") == [None]
    assert decoder.feed(encode(GOOD)) == [GOOD]


class Endless:
    """A stream that never sends a zero."""

    def fileno(self):
        raise AssertionError("not asked for")

    def take(self):
        return b"\x5a" * 4096

    def give(self, data):
        return len(data)

    def close(self):
        pass


def test_garbage_without_end_costs_the_emulated_board_no_memory():
    """It holds what comes until a zero, to let faults befall whole frames; not more than a frame can be."""
    channel = Channel(Endless(), WireFaults(split=0.1), random.Random(0))
    assert peak_of(lambda: [channel.take() for _ in range(1000)]) < 1_000_000  # 4 MB come


# answers in parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, MOST_PAYLOAD, MOST_PAYLOAD + 1, 3 * MOST_PAYLOAD])
def test_an_answer_of_any_length_arrives(size):
    payload = np.random.default_rng(1).integers(0, 256, size, np.uint8).tobytes()
    decoder = Decoder()
    found = decoder.feed(reply(Opcode.READ, 9, payload))
    assert decoder.damaged == 0
    assert all((frame.opcode, frame.sequence) == (Opcode.READ, 9) for frame in found)
    assert all(len(frame.payload) <= MOST_PAYLOAD for frame in found)
    if size <= MOST_PAYLOAD:
        assert found == [Frame(Kind.REPLY, Opcode.READ, 9, payload)]
        return
    assert {frame.kind for frame in found} == {Kind.PART}
    rng = np.random.default_rng(2)
    shuffled = [found[index].payload for index in rng.permutation(len(found))]
    parts = Parts()
    answers = [parts.add(part) for part in [shuffled[0], *shuffled]]  # one comes twice
    assert answers[-1] == payload
    assert set(answers[:-1]) <= {None, payload}


@given(st.binary(max_size=7))
def test_a_part_without_its_head_is_refused(data):
    with pytest.raises(ValueError, match="expected"):
        Parts().add(data)


# messages -------------------------------------------------------------------------------------------------------------

identities = st.builds(
    Identity,
    u16,
    texts,
    texts,
    st.integers(0, 2**63 - 1),  # the highest nonce there is
    geometries,
    st.builds(
        lambda values, count: Limits(**{**values, "pulses_per_cell": count}),
        st.fixed_dictionaries(dict.fromkeys(messages.LIMITS, levels)),
        st.none() | st.integers(0, 2**31),
    ),
    st.frozensets(st.sampled_from(messages.CAPABILITIES)),
    st.floats(-55, 150),
)


@given(identities, u32)
def test_identities(identity, sequence):
    assert messages.unpack_hello(messages.pack_hello(identity, sequence)) == (identity, sequence)


@given(st.builds(Status, st.booleans(), st.booleans(), st.floats(-55, 150), u32, u32, st.lists(texts).map(tuple)))
def test_statuses(status):
    assert messages.unpack_status(messages.pack_status(status)) == status


@given(st.sampled_from(list(messages.Code)), texts)
def test_errors(code, text):
    assert messages.unpack_error(messages.pack_error(code, text)) == (code, text)


@given(st.none() | u32)
def test_heartbeats(working_on):
    assert messages.unpack_beat(messages.pack_beat(working_on)) == working_on


@given(u64, u64, st.sampled_from(PULSE_KINDS), u16, u16, u32, u16, selections())
def test_pulses(nonce, op_id, kind, amplitude, gate, width, together, cells):
    request = operations.PulseRequest(nonce, op_id, kind, amplitude, gate, width, together, cells)
    assert operations.unpack_pulse(operations.pack_pulse(request), cells.geometry) == request


@given(u64, st.one_of(st.sampled_from(list(History)), st.builds(PulseReport, selections(), st.booleans())))
def test_reports(op_id, found):
    geometry = found.done.geometry if isinstance(found, PulseReport) else Geometry(4, 4)
    assert operations.unpack_report(operations.pack_report(op_id, found), geometry) == (op_id, found)


@given(st.data(), geometries, st.integers(1, 3), u16, st.booleans())
def test_reads_and_their_codes(data, geometry, repeats, bias, isolated):
    first = data.draw(st.integers(0, geometry.rows - 1))
    rows = data.draw(st.integers(1, geometry.rows - first))
    bits = data.draw(hnp.arrays(np.bool_, (rows, geometry.columns)))
    request = operations.ReadRequest(repeats, bias, first, bits, isolated)
    found = operations.unpack_read(operations.pack_read(request), geometry)
    assert (found.repeats, found.bias, found.first_row, found.isolated) == (repeats, bias, first, isolated)
    assert np.array_equal(found.bits, bits)
    assert np.array_equal(found.cells(geometry).bits[first : first + rows], bits)
    assert found.cells(geometry).count == request.count == np.count_nonzero(bits)
    codes = data.draw(hnp.arrays(np.uint16, (repeats, request.count)))
    assert np.array_equal(operations.unpack_codes(operations.pack_codes(codes), request), codes)


@given(geometries, u16, u16, st.none() | st.integers(0, 2**16 - 2), st.booleans())
def test_reference_reads(geometry, repeats, bias, resistor, multiply):
    request = operations.ReferenceRequest(repeats, bias, resistor, multiply, geometry.columns)
    assert operations.unpack_reference(operations.pack_reference(request), geometry) == request


@pytest.mark.parametrize(("place", "value"), [(6, 2), (6, 255), (7, 1)])
def test_a_reference_read_of_no_known_range_is_malformed(place, value):
    payload = bytearray(operations.pack_reference(operations.ReferenceRequest(1, 0, 0, False, 4)))
    payload[place] = value
    with pytest.raises(Malformed):
        operations.unpack_reference(bytes(payload), FOUR)


@given(st.data(), geometries, u16, st.integers(0, 5))
def test_gate_patterns(data, geometry, slot, phases):
    rows = data.draw(hnp.arrays(np.bool_, (phases, geometry.rows)))
    phase = data.draw(hnp.arrays(np.int16, (geometry.columns,)))
    found_slot, found_rows, found_phase = operations.unpack_gates(operations.pack_gates(slot, rows, phase), geometry)
    assert found_slot == slot
    assert np.array_equal(found_rows, rows)
    assert np.array_equal(found_phase, phase)


@given(st.data(), geometries, u16, u8)
def test_multiplies_and_their_sums(data, geometry, slot, bits):
    columns = data.draw(hnp.arrays(np.bool_, (geometry.columns,)))
    x = data.draw(hnp.arrays(np.uint8, st.tuples(st.integers(0, 4), st.integers(0, geometry.rows))))
    request = operations.MultiplyRequest(slot, bits, columns, x)
    found = operations.unpack_multiply(operations.pack_multiply(request), geometry)
    assert (found.slot, found.bits) == (slot, bits)
    assert np.array_equal(found.columns, columns)
    assert np.array_equal(found.x, x)
    count = int(np.count_nonzero(columns))
    sums = Sums(
        data.draw(hnp.arrays(np.int32, (len(x), count))), data.draw(u64), data.draw(hnp.arrays(np.int64, (count,)))
    )
    answer = operations.unpack_sums(operations.pack_sums(sums), request)
    assert answer.conversions == sums.conversions
    assert np.array_equal(answer.codes, sums.codes)
    assert np.array_equal(answer.saturated, sums.saturated)


targets = st.one_of(
    st.none(),
    st.builds(RoutedCell, u16, u16, st.sampled_from(["sl", "bl"])),
    st.builds(RoutedReference, u16),
    st.builds(RoutedDac, u16),
)


@given(st.builds(operations.RouteRequest, u64, u64, targets, u16))
def test_routes(request):
    assert operations.unpack_route(operations.pack_route(request)) == request


FOUR = Geometry(4, 4)
unpackers = [
    messages.unpack_hello,
    messages.unpack_status,
    messages.unpack_error,
    messages.unpack_beat,
    operations.unpack_id,
    operations.unpack_route,
    lambda payload: operations.unpack_pulse(payload, FOUR),
    lambda payload: operations.unpack_report(payload, FOUR),
    lambda payload: operations.unpack_read(payload, FOUR),
    lambda payload: operations.unpack_reference(payload, FOUR),
    lambda payload: operations.unpack_gates(payload, FOUR),
    lambda payload: operations.unpack_multiply(payload, FOUR),
]


@settings(max_examples=400)
@given(st.sampled_from(unpackers), st.binary(max_size=200) | st.integers(0, 200).map(bytes))
def test_any_payload_is_understood_or_said_to_be_malformed(unpack, payload):
    """ValueError covers what a payload says of a geometry or limits that cannot be; nothing else comes out."""
    with contextlib.suppress(ValueError):
        unpack(payload)


@pytest.mark.parametrize(
    "short",
    [
        lambda data: operations.unpack_pulse(data, FOUR),
        lambda data: operations.unpack_read(data, FOUR),
        lambda data: operations.unpack_reference(data, FOUR),
        lambda data: operations.unpack_gates(data, FOUR),
        operations.unpack_id,
        operations.unpack_route,
    ],
)
@pytest.mark.parametrize("size", [0, 3, 300])
def test_a_payload_of_the_wrong_length_is_malformed(short, size):
    with pytest.raises(Malformed):
        short(bytes(size))
