"""The entry point ``wire``: a macro controller and source-measure units at their addresses."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from rramlab.base.errors import UsageError
from rramlab.drivers.addresses import places
from rramlab.drivers.bench import Backend, BenchFile
from rramlab.drivers.links import Link, TcpLink, open_link
from rramlab.drivers.lock import HostLock
from rramlab.drivers.trace import REPLAY, ReplayLink, Trace
from rramlab.drivers.wire.client import WireController
from rramlab.drivers.wire.token import token_of
from rramlab.macro.board import BoardTable


def open_wire(bench: BenchFile, board: BoardTable, data: Path, trace: Trace | None) -> Backend:
    """Say how to reach controller and units. A board has one socket: the bench has one die.

    Raises:
        UsageError: no address, or several dies.
    """
    entry = bench.controller
    address, baud = entry.address, entry.baud
    if address is None:
        raise UsageError(
            "bench.yaml: the controller has no address; expected address: tcp://HOST:PORT, a serial port such as "
            "/dev/ttyUSB0 or COM3, or a VISA resource"
        )
    if len(bench.dies) != 1:
        raise UsageError(
            f"bench.yaml lists {len(bench.dies)} dies, and the board at {address} has one socket; list the die that is in it"
        )
    links = Links(trace)
    token = token_of(entry.token_file, entry.token_env)
    return Backend(
        lambda: {bench.dies[0].id: WireController(lambda: links.open(address, baud, b"\0"), token)},
        lambda entry, model, terminator: links.open(entry.address, entry.baud, terminator),
    )


class Links:
    """Opens the links of one bench, and has what they lead to for it alone on this computer as long as one is open.

    Two units at one address, the channels of one instrument, share what can be opened only once.
    """

    def __init__(self, trace: Trace | None) -> None:
        self._trace = trace
        self._open: dict[str, _Shared] = {}  # by place

    def open(self, address: str, baud: int, terminator: bytes) -> Link:
        """Open any address, a log to be replayed included; what passes is logged where there is a trace.

        Raises:
            BenchLocked: another process, or another bench, works with what is there; nothing was opened. And as ``open_link``.
        """
        with ExitStack() as last:  # undone where opening fails, and when the link is closed
            known = []
            for place in places(address):
                shared = self._open.get(place)
                if shared is None:
                    shared = _Shared(HostLock("links", place, address))
                    shared.lock.acquire()
                    self._open[place] = shared
                shared.users += 1
                last.callback(self._let_go, place)
                known.append(shared)
            link = next((each.link for each in known if each.link is not None), None)
            if link is None:
                link = ReplayLink(address) if address.startswith(REPLAY) else open_link(address, baud, terminator)
                if isinstance(link, (TcpLink, ReplayLink)) or not known:
                    last.callback(link.close)  # each has its own
                else:
                    for each in known:
                        each.link = link
            owned: Link = _Owned(link, last.pop_all().close)
        return self._trace.tap(owned) if self._trace is not None else owned

    def _let_go(self, place: str) -> None:
        shared = self._open[place]
        shared.users -= 1
        if not shared.users:
            del self._open[place]
            try:
                if shared.link is not None:
                    shared.link.close()
            finally:
                shared.lock.release()


class _Shared:
    """What several links of a bench have in common. ``link``: the one that there is, where more cannot be opened."""

    def __init__(self, lock: HostLock) -> None:
        self.lock = lock
        self.link: Link | None = None
        self.users = 0


class _Owned:
    """A link that lets go of what it leads to when it is closed."""

    def __init__(self, link: Link, let_go: Callable[[], None]) -> None:
        self.name, self.read, self.write = link.name, link.read, link.write
        self._let_go = let_go

    def close(self) -> None:
        let_go, self._let_go = self._let_go, _nothing
        let_go()


def _nothing() -> None:
    """It is closed already."""
