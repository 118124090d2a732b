"""Boards for the tests of the wire: a small die, a server on a thread or in a process, hosts on every kind of link."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from rramlab.drivers.links import open_link
from rramlab.drivers.wire.client import WireController
from rramlab.macro.cells import CellSelection
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.plan import cost
from rramlab.plan.operations import PulseOp
from rramlab.sim.board import SimulatedBoard
from rramlab.sim.controller import SimulatedController
from rramlab.sim.die import SimulatedDie
from rramlab.sim.emulator.faults import WireFaults
from rramlab.sim.emulator.server import Server
from rramlab.sim.models import BoardModel, DieModel

BAUD = 3_000_000
VOLTS = {"electroform": 3.75, "set": 2.0, "reset": 2.0}
KINDS = ["tcp", "pty", "visa", "pyvisa-py", "serial url"]
if os.name != "posix":
    KINDS.remove("pty")


def simulated(table, path=None, serial="B-1", figures=None):
    """The same virgin die on the same board at every call; ``figures``: of the die that differ."""
    board = SimulatedBoard(table, BoardModel.preset("published"), serial, 5)
    die = SimulatedDie(table.geometry, DieModel.preset("published", figures or {}), 1)
    return SimulatedController(die, board, path)


def cells(text, table):
    return Region(text).bound(table.geometry)


def pulse(controller, table, op_id, region="all", kind="electroform", volts=None, tick=None):
    """Send one operation with figures that the board allows."""
    selected = region if isinstance(region, CellSelection) else cells(region, table)
    amplitude, gate = table.dac_code(VOLTS[kind] if volts is None else volts), table.dac_code(1.6)
    return controller.pulse(op_id, kind, selected, amplitude, 1000, gate, 8, tick)


def row_pace(table, seconds):
    """The pace at which :func:`pulse` takes ``seconds`` for a whole row."""
    operation = PulseOp("electroform", CellSelection.everything(table.geometry), Pulse(3.75, 1e-6, 1.6), 8)
    return seconds / (cost.pulse_ns(operation, table).max() / 1e9)


def first_rows(table, rows):
    """A gate pattern of one phase that drives the first ``rows`` rows into every column."""
    return (np.arange(table.geometry.rows) < rows)[None, :], np.zeros(table.geometry.columns, np.int16)


def read_code(table):
    return table.dac_code(table.read_voltage_V)


def read_all(controller, table, repeats=1):
    return controller.read(CellSelection.everything(table.geometry), repeats, read_code(table))


def truth(controller):
    """A copy of what only a test may see of a die: pulses of each cell, conductances, the clock."""
    state = controller.die.state
    return state.pulses.copy(), state.conductance_S.copy(), state.clock_ns


def same(found, expected):
    return all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


@dataclass
class Emulated:
    """A served board. ``behind``: its controller, whose die holds the truth."""

    server: Server
    behind: SimulatedController
    thread: threading.Thread
    port: int
    addresses: dict[str, str]
    hosts: list[WireController] = field(default_factory=list)

    def host(self, kind="tcp"):
        address = self.addresses[kind]
        controller = WireController(lambda: open_link(address, BAUD, b"\0"))
        self.hosts.append(controller)
        return controller

    def switch_off(self):
        """Close every link from the board's side. Idempotent."""
        if self.thread.is_alive():
            self.server.stop()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                pass  # so that it looks up at once
            self.thread.join(10)
            assert not self.thread.is_alive()
            self.server.close()


def addresses(port, terminal):
    found = {
        "tcp": f"tcp://127.0.0.1:{port}",
        "visa": f"TCPIP::127.0.0.1::{port}::SOCKET",
        "pyvisa-py": f"TCPIP::127.0.0.1::{port}::SOCKET@py",
        "serial url": f"socket://127.0.0.1:{port}",
    }
    return found if terminal is None else {**found, "pty": terminal}


@contextmanager
def served(behind, faults: WireFaults | None = None, pace=0.0, bytes_per_s=0.0) -> Iterator[Emulated]:
    """Serve a controller on a thread."""
    server = Server(behind, faults, pace, bytes_per_s)
    _, port = server.listen("127.0.0.1", 0)
    terminal = server.terminal() if "pty" in KINDS else None
    thread = threading.Thread(target=server.serve)
    thread.start()
    board = Emulated(server, behind, thread, port, addresses(port, terminal))
    try:
        yield board
    finally:
        board.switch_off()
        for host in board.hosts:
            host.close()


SERVE = """
import sys
from pathlib import Path
from threading import Thread
from rramlab.drivers.bench import describe_bench
from rramlab.sim.emulator.faults import WireFaults
from rramlab.sim.emulator.serving import serve_bench

terminal = sys.argv[2] == "True"
served = serve_bench(describe_bench(Path(sys.argv[1])), "127.0.0.1", 0, 0, terminal, WireFaults(), 0.0, 0.0, False)
print(served.tcp, served.terminal, flush=True)
thread = Thread(target=served.server.serve)
thread.start()
sys.stdin.readline()  # until the test closes it, or is gone
served.server.stop()
thread.join()
served.server.close()
"""


@contextmanager
def process(folder) -> Iterator[dict[str, str]]:
    """Serve a bench folder from a process of its own; its die's state is in the folder when the block is left."""
    words = [sys.executable, "-c", SERVE, str(folder), str("pty" in KINDS)]
    pipe = subprocess.PIPE
    running = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    try:
        line = running.stdout.readline().split()
        assert line, running.stderr.read()
        tcp, terminal = line
        yield addresses(tcp.rpartition(":")[2], None if terminal == "None" else terminal)
    finally:
        _, errors = running.communicate("\n", timeout=30)
    assert running.returncode == 0, errors
