"""The entry point ``wire``: a macro controller and source-measure units at their addresses."""

from __future__ import annotations

from pathlib import Path

from rramlab.base.errors import UsageError
from rramlab.drivers.bench import Backend, BenchFile, SmuEntry
from rramlab.drivers.links import Link, open_link
from rramlab.drivers.trace import REPLAY, ReplayLink, Trace
from rramlab.drivers.wire.client import WireController
from rramlab.macro.board import BoardTable


def open_wire(bench: BenchFile, board: BoardTable, data: Path, trace: Trace | None) -> Backend:
    """Say how to reach controller and units. A board has one socket: the bench has one die.

    Raises:
        UsageError: no address, or several dies.
    """
    address, baud = bench.controller.address, bench.controller.baud
    if address is None:
        raise UsageError(
            "bench.yaml: the controller has no address; expected address: tcp://HOST:PORT, a serial port such as "
            "/dev/ttyUSB0 or COM3, or a VISA resource"
        )
    if len(bench.dies) != 1:
        raise UsageError(
            f"bench.yaml lists {len(bench.dies)} dies, and the board at {address} has one socket; list the die that is in it"
        )
    return Backend(
        lambda: {bench.dies[0].id: WireController(lambda: reach(address, baud, b"\0", trace))},
        lambda entry, model, terminator: reach_smu(entry, terminator, trace),
    )


def reach_smu(entry: SmuEntry, terminator: bytes, trace: Trace | None) -> Link:
    """Open the link to a source-measure unit at a real address."""
    return reach(entry.address, entry.baud, terminator, trace)


def reach(address: str, baud: int, terminator: bytes, trace: Trace | None) -> Link:
    """Open any address, a log to be replayed included; what passes is logged where there is a trace."""
    link: Link = ReplayLink(address) if address.startswith(REPLAY) else open_link(address, baud, terminator)
    return trace.tap(link) if trace is not None else link
