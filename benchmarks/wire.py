"""The wire against a bare socket: reading the whole array, a small question, a throttled link."""

import sys

sys.path.append(sys.path.pop(0))  # this folder last: array.py here must not hide the standard library's

import multiprocessing
import os
import socket
import struct
import zlib

import numpy as np
from cobs import cobs
from figures import best, report

from rramlab.drivers.bench import describe_bench
from rramlab.drivers.links import open_link
from rramlab.drivers.wire.client import WireController
from rramlab.macro.cells import CellSelection
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.emulator.server import Server
from rramlab.sim.models import BoardModel, DieModel

LINK_BIT_S = 12e6
BLOCK_ROWS = 64  # of an answer, as the client asks
QUESTIONS = 2000
SMALL = 30  # bytes of a small request and of its answer, about
TABLE = describe_bench().board
ROWS, COLUMNS = TABLE.geometry.shape


def board():
    """A die without read noise: what is measured is the wire and the board's arithmetic."""
    die = SimulatedDie(TABLE.geometry, DieModel.preset("ideal"), 1)
    return SimulatedController(die, SimulatedBoard(TABLE, BoardModel.preset("ideal"), "B-1", 1))


def emulated(port, bytes_per_s):
    server = Server(board(), bytes_per_s=bytes_per_s)
    port.send(server.listen("127.0.0.1", 0)[1])
    server.serve()


def bare(port):
    """Answers whatever comes with a block of codes under COBS and a CRC; one-byte bodies are echoed."""
    listener = socket.create_server(("127.0.0.1", 0))
    port.send(listener.getsockname()[1])
    codes = np.arange(BLOCK_ROWS * COLUMNS, dtype=np.uint16)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held = b""
        while data := connection.recv(1 << 16):
            *frames, held = (held + data).split(b"\0")
            for frame in frames:
                body = cobs.decode(frame)
                assert zlib.crc32(body[:-4]) == struct.unpack("<I", body[-4:])[0]
                answer = struct.pack("<II", 1, 2) + codes.tobytes()
                connection.sendall(cobs.encode(answer + struct.pack("<I", zlib.crc32(answer))) + b"\0")


def echo(port):
    listener = socket.create_server(("127.0.0.1", 0))
    port.send(listener.getsockname()[1])
    connection, _ = listener.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def on_core(core):
    """Stay on one core where the system lets us: waking a process on another one costs more than most questions."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0) if core == 0 else range(os.cpu_count() or 1))
        os.sched_setaffinity(0, {cores[core % len(cores)]})


def placed(target, core, *arguments):
    on_core(core)
    target(*arguments)


def started(target, *arguments, core=1):
    """Run ``target`` in a process of its own; return the port it listens on."""
    ours, theirs = multiprocessing.Pipe()
    multiprocessing.Process(target=placed, args=(target, core, theirs, *arguments), daemon=True).start()
    return ours.recv()


def connected(port):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def bare_read(connection):
    """Ask for every block at once, take the answers as they come."""
    request = struct.pack("<HHHH", 1, 2, 3, 4) + bytes(BLOCK_ROWS * COLUMNS // 8)
    frame = cobs.encode(request + struct.pack("<I", zlib.crc32(request))) + b"\0"
    codes = np.empty((ROWS // BLOCK_ROWS, BLOCK_ROWS * COLUMNS), np.uint16)
    connection.sendall(frame * len(codes))
    held, done = b"", 0
    while done < len(codes):
        *frames, held = (held + connection.recv(1 << 16)).split(b"\0")
        for each in frames:
            body = cobs.decode(each)
            assert zlib.crc32(body[:-4]) == struct.unpack("<I", body[-4:])[0]
            codes[done] = np.frombuffer(body[8:-4], np.uint16)
            done += 1
    return codes


def bare_questions(connection):
    data = bytes(SMALL)
    for _ in range(QUESTIONS):
        connection.sendall(data)
        assert len(connection.recv(1 << 16)) == SMALL


def main():
    everything, bias = CellSelection.everything(TABLE.geometry), TABLE.dac_code(TABLE.read_voltage_V)

    def client(bytes_per_s=0.0, core=1):
        port = started(emulated, bytes_per_s, core=core)
        return WireController(lambda: open_link(f"tcp://127.0.0.1:{port}", 0, b"\0"))

    def questions(controller):
        for _ in range(QUESTIONS):
            controller.history(1)

    on_core(0)
    wire, peer, small = client(), connected(started(bare)), connected(started(echo))
    near, near_small = client(core=0), connected(started(echo, core=0))
    local = board()
    seconds = {
        "read": best(lambda: wire.read(everything, 1, bias), 15),
        "bare_read": best(lambda: bare_read(peer), 15),
        "read_in_process": best(lambda: local.read(everything, 1, bias), 15),
        "question": best(lambda: questions(wire)) / QUESTIONS,
        "bare_echo": best(lambda: bare_questions(small)) / QUESTIONS,
        "question_one_core": best(lambda: questions(near)) / QUESTIONS,
        "bare_echo_one_core": best(lambda: bare_questions(near_small)) / QUESTIONS,
    }
    throttled = client(LINK_BIT_S / 8)
    seconds["throttled_read"] = best(lambda: throttled.read(everything, 1, bias), 3)
    assert np.array_equal(wire.read(everything, 1, bias), local.read(everything, 1, bias))
    ideal_s = 2 * ROWS * COLUMNS / (LINK_BIT_S / 8)
    report(
        "wire",
        {
            "read_speed_to_bare": seconds["bare_read"] / seconds["read"],
            "read_speed_to_bare_board_excluded": seconds["bare_read"] / (seconds["read"] - seconds["read_in_process"]),
            "throttled_to_link": ideal_s / seconds["throttled_read"],
            "question_to_echo": seconds["question"] / seconds["bare_echo"],
            "question_to_echo_one_core": seconds["question_one_core"] / seconds["bare_echo_one_core"],
        },
        seconds,
        {
            "read_speed_to_bare": "the speed of a script that does COBS and CRC over a socket, nothing else",
            "read_speed_to_bare_board_excluded": "the same, less what the simulated board takes in process (at least 0.5)",
            "throttled_to_link": f"a link of {LINK_BIT_S / 1e6:g} Mbit/s that carries codes alone (at least 0.9)",
            "question_to_echo": "the round trip of as many bytes over a bare socket, a core each (at most 3)",
            "question_to_echo_one_core": "the same with both ends on one core, where waking the other costs nothing",
        },
    )


if __name__ == "__main__":
    main()
