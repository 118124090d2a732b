"""The bytes of every message are those of docs/wire.md, by an encoder that shares nothing with rramlab."""

import json
import math
import runpy
from pathlib import Path

import numpy as np
import pytest

from rramlab.drivers.controller import History, Identity, Status, Sums
from rramlab.drivers.wire import messages, operations
from rramlab.drivers.wire.frames import Decoder, Frame, Kind, Parts, decode, encode
from rramlab.drivers.wire.messages import Opcode
from rramlab.drivers.wire.token import proof
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import PulseReport
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference
from rramlab.plan.limits import Limits

GOLDEN = Path(__file__).parent.parent / "golden"
WIRE = json.loads((GOLDEN / "wire.json").read_text(encoding="utf-8"))
GEOMETRY = Geometry(WIRE["rows"], WIRE["columns"])


def bits(rows):
    return np.array([[bit == "1" for bit in row] for row in rows])


def identity(f):
    limits = {name: value for name, value in f["limits"].items() if value is not None}
    if "pulses_per_cell" in limits:
        limits["pulses_per_cell"] = int(limits["pulses_per_cell"])
    return Identity(
        f["protocol"],
        f["firmware"],
        f["board_serial"],
        f["nonce"],
        Geometry(f["rows"], f["columns"]),
        Limits(**limits),
        frozenset(f["capabilities"]),
        f["temperature"],
    )


def report(f):
    if f["state"] in ("never", "forgotten"):
        return f["id"], History(f["state"])
    return f["id"], PulseReport(CellSelection(bits(f["done"])), f["state"] == "broken off")


def pulse(f):
    selection = CellSelection(bits(f["cells"]))
    return operations.PulseRequest(
        f["nonce"], f["id"], f["kind"], f["amplitude"], f["gate"], f["width_ns"], f["together"], selection
    )


def target(f):
    if f["what"] == "nothing":
        return None
    if f["what"].startswith("cell"):
        return RoutedCell(f["first"], f["second"], "sl" if "source" in f["what"] else "bl")
    return RoutedReference(f["first"]) if f["what"] == "reference" else RoutedDac(f["first"])


def multiply(f):
    return operations.MultiplyRequest(f["slot"], f["bits"], bits([f["columns"]])[0], np.array(f["inputs"], np.uint8))


def status(f):
    return Status(f["live"], f["routed"], f["temperature"], f["frames"], f["damaged"], tuple(f["errors"]))


def sums(f):
    return Sums(np.array(f["sums"], np.int32), f["conversions"], np.array(f["saturated"], np.int64))


def read(f):
    return operations.ReadRequest(f["repeats"], f["bias"], f["first_row"], bits(f["cells"]), f["isolated"])


def reference(f):
    resistor = None if f["resistor"] == "open" else f["resistor"]
    return operations.ReferenceRequest(f["repeats"], f["bias"], resistor, f["range"] == "multiply", GEOMETRY.columns)


def proven(side, f):
    return proof(f["token"].encode(), side, bytes.fromhex(f["of_host"]), bytes.fromhex(f["of_board"]))


def packed(message):
    """What rramlab makes of a golden message's fields."""
    f, kind, opcode = message["fields"], message["kind"], message["opcode"]
    match kind, opcode:
        case "ERROR", _:
            return messages.pack_error(f["code"], f["text"])
        case "REQUEST" | "REPLY", "CHALLENGE":
            return bytes.fromhex(f["of_host" if kind == "REQUEST" else "of_board"])
        case "REQUEST" | "REPLY", "PROVE":
            return proven("host" if kind == "REQUEST" else "board", f)
        case "REPLY", "HELLO":
            return messages.pack_hello(identity(f), f["next_sequence"])
        case "REPLY", "STATUS":
            return messages.pack_status(status(f))
        case "REPLY", "HEARTBEAT":
            return messages.pack_beat(f["sequence"] if f["busy"] else None)
        case "REPLY", "PULSE" | "HISTORY":
            return operations.pack_report(*report(f))
        case "REPLY", "READ" | "READ_REFERENCE":
            return operations.pack_codes(np.array(f["codes"], np.uint16))
        case "REPLY", "MULTIPLY":
            return operations.pack_sums(sums(f))
        case "REQUEST", "PULSE":
            return operations.pack_pulse(pulse(f))
        case "REQUEST", "HISTORY" | "ACKNOWLEDGE":
            return operations.pack_id(f["id"])
        case "REQUEST", "READ":
            return operations.pack_read(read(f))
        case "REQUEST", "READ_REFERENCE":
            return operations.pack_reference(reference(f))
        case "REQUEST", "LOAD_GATES":
            return operations.pack_gates(f["slot"], bits(f["rows"]), np.array(f["phase"], np.int16))
        case "REQUEST", "MULTIPLY":
            return operations.pack_multiply(multiply(f))
        case "REQUEST", "ROUTE":
            return operations.pack_route(operations.RouteRequest(f["nonce"], f["id"], target(f), f["bias"]))
        case _:
            assert not f
            return b""


def equal(one, other):
    """Whether two messages hold the same; arrays by value and type."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, operations.ReadRequest | operations.MultiplyRequest | Sums):
        return equal(tuple(vars(one).values()), tuple(vars(other).values()))
    return one == other


def unpacked(message):
    """What rramlab reads in a golden payload, and what it should read."""
    f, payload = message["fields"], bytes.fromhex(message["payload"])
    match message["kind"], message["opcode"]:
        case "ERROR", _:
            return messages.unpack_error(payload), (f["code"], f["text"])
        case "REPLY", "HELLO":
            return messages.unpack_hello(payload), (identity(f), f["next_sequence"])
        case "REPLY", "STATUS":
            return messages.unpack_status(payload), status(f)
        case "REPLY", "HEARTBEAT":
            return messages.unpack_beat(payload), f["sequence"] if f["busy"] else None
        case "REPLY", "PULSE" | "HISTORY":
            return operations.unpack_report(payload, GEOMETRY), report(f)
        case "REPLY", "READ":
            asked = operations.ReadRequest(1, 0, 0, np.ones((1, len(f["codes"])), np.bool_))
            return operations.unpack_codes(payload, asked), np.array([f["codes"]], np.uint16)
        case "REPLY", "READ_REFERENCE":
            asked = operations.ReferenceRequest(2, 0, 0, False, GEOMETRY.columns)
            return operations.unpack_codes(payload, asked), np.array(f["codes"], np.uint16).reshape(2, -1)
        case "REPLY", "MULTIPLY":
            (request,) = (m for m in WIRE["messages"] if m["name"] == "MULTIPLY asks")
            return operations.unpack_sums(payload, multiply(request["fields"])), sums(f)
        case "REQUEST", "PULSE":
            return operations.unpack_pulse(payload, GEOMETRY), pulse(f)
        case "REQUEST", "HISTORY" | "ACKNOWLEDGE":
            return operations.unpack_id(payload), f["id"]
        case "REQUEST", "READ":
            return operations.unpack_read(payload, GEOMETRY), read(f)
        case "REQUEST", "READ_REFERENCE":
            return operations.unpack_reference(payload, GEOMETRY), reference(f)
        case "REQUEST", "LOAD_GATES":
            expected = f["slot"], bits(f["rows"]), np.array(f["phase"], np.int16)
            return operations.unpack_gates(payload, GEOMETRY), expected
        case "REQUEST", "MULTIPLY":
            return operations.unpack_multiply(payload, GEOMETRY), multiply(f)
        case "REQUEST", "ROUTE":
            return operations.unpack_route(payload), operations.RouteRequest(f["nonce"], f["id"], target(f), f["bias"])
        case _:
            return payload, b""


def named(items):
    return [pytest.param(item, id=item["name"]) for item in items]


carried = [message for message in WIRE["messages"] if message["kind"] != "PART"]
read_as = [
    message for message in carried if message["opcode"] not in ("CHALLENGE", "PROVE")
]  # those are bytes as they are


def test_the_file_is_what_the_script_makes():
    document = runpy.run_path(str(GOLDEN / "make_wire.py"))["document"]
    assert (GOLDEN / "wire.json").read_text(encoding="utf-8") == document()


def test_every_message_of_the_page_is_in_the_file():
    found = {(message["kind"], message["opcode"]) for message in WIRE["messages"]}
    assert {(kind, opcode.name) for kind in ("REQUEST", "REPLY") for opcode in Opcode} <= found
    assert {kind.name for kind in Kind} == {kind for kind, _ in found}
    assert {m["fields"]["code"] for m in WIRE["messages"] if m["kind"] == "ERROR"} == set(messages.Code)


@pytest.mark.parametrize("message", named(WIRE["messages"]))
def test_frames_have_the_bytes_of_the_page(message):
    opcode = 0 if message["opcode"] == "none" else Opcode[message["opcode"]]
    frame = Frame(Kind[message["kind"]], opcode, message["sequence"], bytes.fromhex(message["payload"]))
    data = bytes.fromhex(message["frame"])
    assert encode(frame) == data
    assert decode(data[:-1]) == frame


@pytest.mark.parametrize("message", named(carried))
def test_messages_are_packed_as_the_page_says(message):
    assert packed(message).hex() == message["payload"]


@pytest.mark.parametrize("message", named(read_as))
def test_messages_are_read_as_the_page_says(message):
    found, expected = unpacked(message)
    assert equal(found, expected)


def test_a_limit_that_a_board_does_not_have_is_not_a_number():
    (hello,) = (m for m in WIRE["messages"] if m["name"] == "HELLO answers")
    found, _ = messages.unpack_hello(bytes.fromhex(hello["payload"]))
    assert found.limits.longest_pulse is None
    assert found.limits.electroform_voltage == 4.0
    again, _ = messages.unpack_hello(messages.pack_hello(found, 2))
    assert again == found
    assert not any(isinstance(value, float) and math.isnan(value) for value in dict(found.limits).values())


def test_a_later_version_may_append_limits():
    """``count`` says how many there are; those that this version does not know are passed over."""
    (hello,) = (m for m in WIRE["messages"] if m["name"] == "HELLO answers")
    payload, place = bytes.fromhex(hello["payload"]), 30
    assert payload[place : place + 2] == b"\x10\0"
    longer = payload[:place] + b"\x11\0" + payload[place + 2 : place + 130] + bytes(8) + payload[place + 130 :]
    assert messages.unpack_hello(longer) == messages.unpack_hello(payload)


def test_parts_make_the_answer_whole_in_any_order():
    whole = bytes.fromhex(next(m["payload"] for m in WIRE["messages"] if m["name"] == "MULTIPLY answers"))
    pieces = [bytes.fromhex(m["payload"]) for m in WIRE["messages"] if m["kind"] == "PART"]
    for order in (pieces, pieces[::-1]):
        parts = Parts()
        assert [parts.add(piece) for piece in order] == [None] * (len(order) - 1) + [whole]


@pytest.mark.parametrize("damage", named(WIRE["damaged"]))
def test_a_damaged_frame_is_counted_and_gives_nothing(damage):
    decoder = Decoder()
    assert decoder.feed(bytes.fromhex(damage["bytes"]) + b"\0") == [None]
    assert (decoder.frames, decoder.damaged) == (0, 1)
