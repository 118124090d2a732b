"""Boards in process and at the end of every kind of link."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from desk import Desk
from emulated import KINDS, Emulated, served, simulated

from rramlab.drivers.controller import MacroController
from rramlab.macro.board import BoardTable
from rramlab.sim.controller import SimulatedController


@dataclass
class Bench:
    """A controller under test. ``behind``: what a board knows of itself; ``twin``: the same board and die, in process."""

    kind: str
    table: BoardTable
    host: MacroController
    behind: SimulatedController
    twin: SimulatedController
    reboot: Callable[[bool], None]
    board: Emulated | None = None


@pytest.fixture(params=["in process", *KINDS])
def bench(request, small_table):
    """Every implementation of MacroController in turn."""
    behind, twin = simulated(small_table), simulated(small_table)
    if request.param == "in process":
        yield Bench(request.param, small_table, behind, behind, twin, behind.power_cycle)
        behind.close()
        return
    with served(behind) as board:
        host = board.host(request.param)
        yield Bench(request.param, small_table, host, behind, twin, board.server.firmware.reboot, board)


@pytest.fixture(params=KINDS)
def wired(request, small_table):
    """Every kind of link in turn."""
    behind, twin = simulated(small_table), simulated(small_table)
    with served(behind) as board:
        host = board.host(request.param)
        yield Bench(request.param, small_table, host, behind, twin, board.server.firmware.reboot, board)


@pytest.fixture
def desk(small_table):
    """A firmware without a link."""
    return Desk(simulated(small_table))


@pytest.fixture(scope="session", autouse=True)
def _no_pause_of_pyserial():
    """Closing a ``socket://`` port sleeps for 0.3 s, once a test."""
    from serial.urlhandler import protocol_socket

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocol_socket, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))
        yield
