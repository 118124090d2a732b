"""Write ``wire.json``: every message of docs/wire.md with its exact bytes, from an encoder that knows that page alone.

It shares no code with rramlab, so what both agree on is what the page says. The macro is one of 4 × 4 cells.

    python tests/drivers/golden/make_wire.py
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import struct
import zlib
from pathlib import Path

FILE = Path(__file__).with_name("wire.json")
ROWS = COLUMNS = 4
VERSION = 1
KINDS = {"REQUEST": 1, "REPLY": 2, "ERROR": 3, "NAK": 4, "PART": 5}
OPCODES = {
    "none": 0x0000,
    "HELLO": 0x0001,
    "STATUS": 0x0002,
    "HEARTBEAT": 0x0003,
    "SAFE_STATE": 0x0004,
    "CHALLENGE": 0x0005,
    "PROVE": 0x0006,
    "PULSE": 0x0010,
    "HISTORY": 0x0011,
    "ACKNOWLEDGE": 0x0012,
    "READ": 0x0020,
    "READ_REFERENCE": 0x0022,
    "LOAD_GATES": 0x0030,
    "MULTIPLY": 0x0031,
    "ROUTE": 0x0040,
}
PULSE_KINDS = {"electroform": 0, "set": 1, "reset": 2}
STATES = {"never": 0, "forgotten": 1, "done": 2, "broken off": 3}
TARGETS = {
    "nothing": 0,
    "cell, SMU on the source line": 1,
    "cell, SMU on the bit line": 2,
    "reference": 3,
    "channel": 4,
}
RANGES = {"read": 0, "multiply": 1}
CAPABILITIES = ("sl_select", "per_row_wl", "reference_resistors", "smu_route", "reference_reads", "isolated_reads")
LIMITS = (
    "electroform_voltage",
    "set_voltage",
    "reset_voltage",
    "read_voltage",
    "gate_voltage",
    "shortest_pulse",
    "longest_pulse",
    "line_current",
    "supply_current",
    "pulses_per_cell",
    "sl_minus_bl",
    "bl_minus_sl",
    "wl_minus_bl",
    "sl_minus_off_wl",
    "smu_voltage",
    "smu_current",
)


def stuffed(data):
    """COBS by its rules: each group is its length plus one and its bytes; 255 is 254 bytes with no zero after them."""
    out, group = bytearray(), bytearray()
    for byte in data:
        if byte == 0:
            out += bytes([len(group) + 1]) + group
            group.clear()
            continue
        if len(group) == 254:
            out += b"\xff" + group
            group.clear()
        group.append(byte)
    return bytes(out + bytes([len(group) + 1]) + group)


def frame(kind, opcode, sequence, payload):
    body = struct.pack("<BBHI", VERSION, KINDS[kind], OPCODES[opcode], sequence) + payload
    return stuffed(body + struct.pack("<I", zlib.crc32(body))) + b"\0"


def text(words):
    data = words.encode("utf-8")
    return struct.pack("<H", len(data)) + data


def bitmap(rows):
    """``rows``: strings of 0 and 1. One bit a cell, row by row, the most significant bit first, zeros at the end."""
    bits = "".join(rows)
    bits += "0" * (-len(bits) % 8)
    return bytes(int(bits[k : k + 8], 2) for k in range(0, len(bits), 8))


def identity(f):
    levels = [math.nan if value is None else value for value in (f["limits"][name] for name in LIMITS)]
    capabilities = sum(1 << CAPABILITIES.index(name) for name in f["capabilities"])
    return (
        struct.pack("<HHH", f["protocol"], f["rows"], f["columns"])
        + struct.pack("<QI", f["nonce"], f["next_sequence"])
        + struct.pack("<dI", f["temperature"], capabilities)
        + struct.pack(f"<H{len(levels)}d", len(levels), *levels)
        + text(f["firmware"])
        + text(f["board_serial"])
    )


def status(f):
    head = struct.pack("<BdII", f["live"] | f["routed"] << 1, f["temperature"], f["frames"], f["damaged"])
    return head + b"".join(text(line) for line in f["errors"])


def report(f):
    return struct.pack("<BQ", STATES[f["state"]], f["id"]) + bitmap(f.get("done", ()))


def pulse(f):
    return (
        struct.pack("<QQB", f["nonce"], f["id"], PULSE_KINDS[f["kind"]])
        + struct.pack("<HHIH", f["amplitude"], f["gate"], f["width_ns"], f["together"])
        + bitmap(f["cells"])
    )


def read(f):
    head = struct.pack("<HHHHH", f["repeats"], f["bias"], f["first_row"], len(f["cells"]), 1 if f["isolated"] else 0)
    return head + bitmap(f["cells"])


def read_reference(f):
    resistor = 0xFFFF if f["resistor"] == "open" else f["resistor"]
    return struct.pack("<HHHBB", f["repeats"], f["bias"], resistor, RANGES[f["range"]], 0)


def load_gates(f):
    head = struct.pack("<HH", f["slot"], len(f["rows"]))
    return head + bitmap(f["rows"]) + struct.pack(f"<{COLUMNS}h", *f["phase"])


def multiply(f):
    inputs = f["inputs"]
    return (
        struct.pack("<HBBHI", f["slot"], f["bits"], 0, len(inputs[0]), len(inputs))
        + bitmap([f["columns"]])
        + b"".join(bytes(vector) for vector in inputs)
    )


def sums(f):
    return (
        struct.pack("<QI", f["conversions"], len(f["sums"]))
        + struct.pack(f"<{len(f['saturated'])}q", *f["saturated"])
        + b"".join(struct.pack(f"<{len(vector)}i", *vector) for vector in f["sums"])
    )


def route(f):
    return struct.pack("<QQBHHH", f["nonce"], f["id"], TARGETS[f["what"]], f["first"], f["second"], f["bias"])


def proof(side, f):
    challenges = bytes.fromhex(f["of_host"]) + bytes.fromhex(f["of_board"])
    return hmac.digest(f["token"].encode(), b"rramlab " + side + challenges, hashlib.sha256)


REQUESTS = {
    "CHALLENGE": lambda f: bytes.fromhex(f["of_host"]),
    "PROVE": lambda f: proof(b"host", f),
    "PULSE": pulse,
    "HISTORY": lambda f: struct.pack("<Q", f["id"]),
    "ACKNOWLEDGE": lambda f: struct.pack("<Q", f["id"]),
    "READ": read,
    "READ_REFERENCE": read_reference,
    "LOAD_GATES": load_gates,
    "MULTIPLY": multiply,
    "ROUTE": route,
}
REPLIES = {
    "CHALLENGE": lambda f: bytes.fromhex(f["of_board"]),
    "PROVE": lambda f: proof(b"board", f),
    "HELLO": identity,
    "STATUS": status,
    "HEARTBEAT": lambda f: struct.pack("<BI", f["busy"], f["sequence"]),
    "PULSE": report,
    "HISTORY": report,
    "READ": lambda f: struct.pack(f"<{len(f['codes'])}H", *f["codes"]),
    "READ_REFERENCE": lambda f: struct.pack(f"<{len(f['codes'])}H", *f["codes"]),
    "MULTIPLY": sums,
}


def payload_of(kind, opcode, f):
    if kind == "ERROR":
        return struct.pack("<H", f["code"]) + text(f["text"])
    if kind == "PART":
        return struct.pack("<II", f["offset"], f["total"]) + bytes.fromhex(f["data"])
    layout = {"REQUEST": REQUESTS, "REPLY": REPLIES}.get(kind, {}).get(opcode)
    return layout(f) if layout else b""


def vector(name, kind, opcode, sequence, /, **fields):
    payload = payload_of(kind, opcode, fields)
    return {
        "name": name,
        "kind": kind,
        "opcode": opcode,
        "sequence": sequence,
        "fields": fields,
        "payload": payload.hex(),
        "frame": frame(kind, opcode, sequence, payload).hex(),
    }


NONCE = 0x0123_4567_89AB_CDEF
LEVELS = (4.0, 2.5, 2.5, 0.3, 3.3, 1e-7, None, 0.006, 0.05, 10.0, 4.2, 2.8, 3.6, 4.2, None, 1e-4)


def messages():
    """Every message once at least: each opcode's request and reply, refusals, damage, an answer in parts."""
    cells = ("1010", "0101", "1111", "0000")
    yield vector("HELLO asks", "REQUEST", "HELLO", 1)
    yield vector(
        "HELLO answers",
        "REPLY",
        "HELLO",
        1,
        protocol=1,
        rows=ROWS,
        columns=COLUMNS,
        nonce=NONCE,
        next_sequence=2,
        temperature=25.5,
        capabilities=["sl_select", "smu_route"],
        limits=dict(zip(LIMITS, LEVELS, strict=True)),
        firmware="rram-fw 1.0 µ",
        board_serial="B-0042",
    )
    yield vector(
        "HELLO answers, no limits and no names, every capability",
        "REPLY",
        "HELLO",
        0xFFFF_FFFF,
        protocol=1,
        rows=ROWS,
        columns=COLUMNS,
        nonce=0x7FFF_FFFF_FFFF_FFFF,
        next_sequence=0,
        temperature=-40.0,
        capabilities=list(CAPABILITIES),
        limits=dict.fromkeys(LIMITS),
        firmware="",
        board_serial="",
    )
    yield vector("STATUS asks", "REQUEST", "STATUS", 2)
    calm = {"temperature": 24.25, "frames": 2, "damaged": 0, "errors": []}
    yield vector("STATUS answers, all well", "REPLY", "STATUS", 2, live=False, routed=False, **calm)
    yield vector(
        "STATUS answers, lines live, two errors",
        "REPLY",
        "STATUS",
        3,
        live=True,
        routed=True,
        temperature=31.0,
        frames=70_000,
        damaged=513,
        errors=["set at 2.80 V is above 2.50 V", "silence of 0.5 s: lines at 0 V, Ω"],
    )
    yield vector("HEARTBEAT asks", "REQUEST", "HEARTBEAT", 256)
    yield vector("HEARTBEAT answers, idle", "REPLY", "HEARTBEAT", 256, busy=0, sequence=0)
    yield vector(
        "HEARTBEAT answers, a request in flight", "REPLY", "HEARTBEAT", 0x0100_0100, busy=1, sequence=0x0100_00FF
    )
    yield vector("SAFE_STATE asks", "REQUEST", "SAFE_STATE", 0)
    yield vector("SAFE_STATE answers", "REPLY", "SAFE_STATE", 0)
    known = {"of_host": bytes(range(16)).hex(), "of_board": bytes(range(240, 256)).hex()}
    yield vector("CHALLENGE asks", "REQUEST", "CHALLENGE", 1, of_host=known["of_host"])
    yield vector("CHALLENGE answers", "REPLY", "CHALLENGE", 1, of_board=known["of_board"])
    token = "a token that nobody can guess"
    yield vector("PROVE asks", "REQUEST", "PROVE", 2, token=token, **known)
    yield vector("PROVE answers", "REPLY", "PROVE", 2, token=token, **known)
    for number, kind in enumerate(PULSE_KINDS):
        yield vector(
            f"PULSE asks, {kind}",
            "REQUEST",
            "PULSE",
            5 + number,
            nonce=NONCE,
            id=1000 + number,
            kind=kind,
            amplitude=49_151,
            gate=20_971,
            width_ns=1_000,
            together=2,
            cells=cells,
        )
    yield vector("PULSE answers, done", "REPLY", "PULSE", 5, state="done", id=1000, done=cells)
    stopped = ("1010", "0101", "0000", "0000")
    yield vector("PULSE answers, broken off", "REPLY", "PULSE", 6, state="broken off", id=1001, done=stopped)
    yield vector("HISTORY asks", "REQUEST", "HISTORY", 8, id=1001)
    yield vector("HISTORY answers, done", "REPLY", "HISTORY", 8, state="done", id=1000, done=cells)
    yield vector("HISTORY answers, broken off", "REPLY", "HISTORY", 8, state="broken off", id=1001, done=stopped)
    yield vector("HISTORY answers, never received", "REPLY", "HISTORY", 9, state="never", id=2**40)
    yield vector("HISTORY answers, forgotten", "REPLY", "HISTORY", 10, state="forgotten", id=3)
    yield vector("ACKNOWLEDGE asks", "REQUEST", "ACKNOWLEDGE", 11, id=1001)
    yield vector("ACKNOWLEDGE answers", "REPLY", "ACKNOWLEDGE", 11)
    odd = ("1001", "0110", "1100")
    for name, sequence, asked in (
        ("the array", 12, {"repeats": 1, "first_row": 0, "isolated": False, "cells": cells}),
        ("three rows from row 1", 13, {"repeats": 2, "first_row": 1, "isolated": False, "cells": odd}),
        ("the same, isolated", 16, {"repeats": 2, "first_row": 1, "isolated": True, "cells": odd}),
    ):
        yield vector(f"READ asks, {name}", "REQUEST", "READ", sequence, bias=5243, **asked)
    yield vector(
        "READ answers", "REPLY", "READ", 13, codes=[0, 1, 255, 256, 16_383, 8_192, 0, 1, 254, 257, 16_383, 8_191]
    )
    long = [0x2101 + k % 200 for k in range(160)]
    yield vector("READ answers, 320 bytes without a zero", "REPLY", "READ", 14, codes=long)
    yield vector("READ answers, no cell", "REPLY", "READ", 15, codes=[])
    for number, (resistor, span) in enumerate(((0, "read"), (259, "multiply"), ("open", "read"))):
        yield vector(
            f"READ_REFERENCE asks, {resistor} in the {span} range",
            "REQUEST",
            "READ_REFERENCE",
            30 + number,
            repeats=2 if number else 4096,
            bias=2621,
            resistor=resistor,
            range=span,
        )
    yield vector(
        "READ_REFERENCE answers", "REPLY", "READ_REFERENCE", 31, codes=[64, 8_064, 0, 16_383, 65, 8_063, 1, 16_382]
    )
    gates = {"rows": ["1100", "0011"], "phase": [0, 0, 1, 1]}
    yield vector("LOAD_GATES asks, two phases", "REQUEST", "LOAD_GATES", 16, slot=7, **gates)
    off = {"rows": ["1111"], "phase": [-1, -1, 0, 0]}
    yield vector("LOAD_GATES asks, a pair off", "REQUEST", "LOAD_GATES", 17, slot=0, **off)
    three = {"rows": ["1000", "0100", "0010"], "phase": [2, 2, 0, 0]}
    yield vector("LOAD_GATES asks, 12 bits of rows", "REQUEST", "LOAD_GATES", 18, slot=258, **three)
    yield vector("LOAD_GATES answers", "REPLY", "LOAD_GATES", 16)
    inputs = [[0, 1, 2, 15], [15, 8, 4, 0], [3, 3, 3, 3]]
    asked = {"slot": 7, "bits": 4, "columns": "1011", "inputs": inputs}
    yield vector("MULTIPLY asks", "REQUEST", "MULTIPLY", 19, **asked)
    answer = {"conversions": 72, "saturated": [0, 1, 0], "sums": [[0, -1, 70_000], [-70_000, 5, 6], [1, 2, 3]]}
    yield vector("MULTIPLY answers", "REPLY", "MULTIPLY", 19, **answer)
    for number, what in enumerate(TARGETS):
        first, second = (3, 2) if what.startswith("cell") else (number % 4, 0)
        yield vector(
            f"ROUTE asks, {what}",
            "REQUEST",
            "ROUTE",
            20 + number,
            nonce=NONCE if number else 0,
            id=1100 if number == 2 else 0,
            what=what,
            first=first if number else 0,
            second=second,
            bias=13_107 if number else 0,
        )
    yield vector("ROUTE answers", "REPLY", "ROUTE", 21)
    refusals = {
        1: ("none", "there is no opcode 0x0000"),
        2: ("READ", "the bitmap has 1 byte; 2 are needed"),
        3: ("PULSE", "set at 2.80 V is above 2.50 V"),
        4: ("PULSE", "wrong nonce"),
        5: ("READ", "busy"),
        6: ("ROUTE", ""),
        7: ("HELLO", "this board asks for a token"),
    }
    for code, (opcode, words) in refusals.items():
        yield vector(f"ERROR {code}", "ERROR", opcode, 40 + code, code=code, text=words)
    yield vector("NAK, nothing good yet", "NAK", "none", 0)
    yield vector("NAK after request 513", "NAK", "none", 513)
    whole = REPLIES["MULTIPLY"](answer)
    for start in range(0, len(whole), 40):
        part = {"offset": start, "total": len(whole), "data": whole[start : start + 40].hex()}
        yield vector(f"PART of MULTIPLY's answer from byte {start}", "PART", "MULTIPLY", 19, **part)


def damaged():
    """Bytes between two zeros that are no frame, and what is wrong with each."""
    body = struct.pack("<BBHI", VERSION, 1, OPCODES["SAFE_STATE"], 5)
    whole = body + struct.pack("<I", zlib.crc32(body))
    other = bytes([2]) + body[1:]
    yield "a bit of the opcode is wrong", stuffed(whole[:2] + bytes([whole[2] ^ 1]) + whole[3:])
    yield "a bit of the CRC is wrong", stuffed(whole[:-1] + bytes([whole[-1] ^ 0x80]))
    yield "the last byte is missing", stuffed(whole)[:-1]
    yield "a byte too many", stuffed(whole + b"\1")
    yield "no room for header and CRC", stuffed(whole[:7])
    yield "the CRC is right, the version is 2", stuffed(other + struct.pack("<I", zlib.crc32(other)))
    yield "the CRC is in big-endian order", stuffed(body + struct.pack(">I", zlib.crc32(body)))
    yield "a COBS group is longer than what follows", b"\x09\x01\x02"


def document():
    """The text of wire.json: a line a message."""
    parts = {"messages": messages(), "damaged": ({"name": name, "bytes": data.hex()} for name, data in damaged())}
    lines = {key: ",\n".join(json.dumps(item, ensure_ascii=False) for item in items) for key, items in parts.items()}
    lists = ",\n".join(f'"{key}": [\n{text}\n]' for key, text in lines.items())
    about = "Made by make_wire.py from docs/wire.md. Frames end with their zero. A limit of null is NaN: none."
    return f'{{"about": "{about}",\n"rows": {ROWS}, "columns": {COLUMNS},\n{lists}}}\n'


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
