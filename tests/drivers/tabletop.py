"""An emulated bench on sockets, served by a thread, and the bench of a host that works with it."""

from __future__ import annotations

import contextlib
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

from workbench import SmallBench

from rramlab.drivers.bench import BenchDescription, describe_bench
from rramlab.sim.controller import SimulatedController
from rramlab.sim.emulator.faults import WireFaults
from rramlab.sim.emulator.serving import Served, serve_bench, write_host

DIE = "small-1"


def smu(name="smu", driver="keithley-2400", address="simulated", **more):
    """One line of bench.yaml."""
    given = {"name": name, "driver": driver, "address": f'"{address}"', **more}
    return "  - {" + ", ".join(f"{key}: {value}" for key, value in given.items()) + "}\n"


def put(folder, *smus, **more):
    """Make a bench folder with a small die and these units; return the folder."""
    path = SmallBench(folder, **more).write().folder / "bench.yaml"
    if smus:
        path.write_text(path.read_text(encoding="utf-8").replace("dies:\n", f"smus:\n{''.join(smus)}dies:\n", 1))
    return folder


def change(folder, *pairs):
    """Replace texts in the bench.yaml of a folder; each must stand there once. Return the folder."""
    path = folder / "bench.yaml"
    text = path.read_text(encoding="utf-8")
    for old, new in pairs:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")
    return folder


@dataclass
class Table:
    """What is served. ``board``: the controller whose die holds the truth."""

    served: Served
    description: BenchDescription
    board: SimulatedController

    def host(self, folder: Path, by_terminal: bool = False) -> Path:
        """Write the bench of a host into ``folder``; return it."""
        return write_host(self.served, self.description, folder, by_terminal).parent

    @property
    def smus(self) -> dict[str, str]:
        """Addresses by name."""
        return self.served.smus


@contextmanager
def on_the_table(folder, faults=None, pace=0.0, terminal=False, port=0):
    """Serve the bench in ``folder`` until the block is left."""
    description = describe_bench(folder)
    served = serve_bench(description, "127.0.0.1", port, 0, terminal, faults or WireFaults(), pace, 0.0, False)
    thread = Thread(target=served.server.serve)
    thread.start()
    try:
        yield Table(served, description, served.server.firmware.controller)
    finally:
        served.server.stop()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(served.tcp.rpartition(":")[2]))):
            pass  # so that it looks up at once
        thread.join(10)
        assert not thread.is_alive()
        served.server.close()
