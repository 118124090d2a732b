"""Paths that the board opens by itself, and links that are lost: the host asks, says so at once, and goes on when it can."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tabletop import DIE, on_the_table, put, smu
from workbench import forming_plan

import rramlab
from rramlab.base.errors import InstrumentError
from rramlab.engine.probing import PathOpened
from rramlab.macro.gates import GatePattern
from rramlab.macro.placement import Tile
from rramlab.plan.plan import Plan
from rramlab.plan.steps import RouteStep

# Holds a path; says when it begins and how and when it ended.
HOLD = """
import json, sys, time
sys.path.insert(0, ".")
import rramlab
from rramlab.base.errors import RramlabError
from rramlab.plan.plan import Plan
from rramlab.plan.steps import RouteStep
folder, target = sys.argv[1:]
with rramlab.open_bench(folder) as session:
    controller = session.stations["small-1"].controller
    route = controller.route
    def routed(to, bias, op_id=0):
        route(to, bias, op_id)
        if to is not None:
            print("held", flush=True)
    controller.route = routed
    given = {"cell": "3,7"} if target == "cell" else {"dac": 6}
    began = time.monotonic()
    try:
        session.run(Plan(name="hold", steps=(RouteStep(hold=60.0, voltage=0.1, **given),)))
        print(json.dumps(["held to the end", "", 0]), flush=True)
    except RramlabError as error:
        print(json.dumps([type(error).__name__, str(error), time.monotonic() - began]), flush=True)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_host_that_was_held_up_does_not_go_on_holding_what_the_board_has_let_go_of(tmp_path):
    """Stopped for longer than the dead-man time; when it goes on it fails at once, and says what is known."""
    with on_the_table(put(tmp_path / "board", smu("left"))) as table:
        host = table.host(tmp_path / "host")
        process = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(host), "cell"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        try:
            assert process.stdout.readline() == "held\n", process.stderr.read()
            time.sleep(0.3)
            assert table.board.load is not None
            process.send_signal(signal.SIGSTOP)
            time.sleep(2.0)
            assert table.board.load is None  # the dead man's switch
            process.send_signal(signal.SIGCONT)
            resumed = time.monotonic()
            name, said, _ = json.loads(process.stdout.readline())
            took = time.monotonic() - resumed
            process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()
    assert name == "PathOpened"
    assert took < 5
    for words in (
        "opened the path of cell (3, 7)",
        "dead man's switch",
        "held up for",
        "output is off now",
        "not kept",
    ):
        assert words in said


@pytest.mark.parametrize("when", ["hold", "measure"])
def test_a_path_that_is_opened_under_a_host_that_lives_ends_the_operation_at_once(tmp_path, when):
    """The board was switched off for a moment, or another host made it safe."""
    board = put(tmp_path / "board", smu("left"))
    with on_the_table(board) as table, rramlab.open_bench(table.host(tmp_path / "host")) as session:
        controller = session.stations[DIE].controller
        beat, beats = controller.heartbeat, []

        def opened():
            beats.append(1)
            if len(beats) == 5:
                table.board.route(None, 0)
            beat()

        controller.heartbeat = opened
        began = time.monotonic()
        count, hold = (1, 60.0) if when == "hold" else (100, 0.0)
        plan = Plan(name="r", steps=(RouteStep(cell="3,7", voltage=0.1, count=count, hold=hold),))
        with pytest.raises(PathOpened, match="opened the path"):
            session.run(plan)
        assert time.monotonic() - began < 30
        assert not controller.status().routed
        del controller.heartbeat
        assert session.run(Plan(name="r", steps=(RouteStep(cell="3,7", count=1),))).routes[0]["points"] == 1


def test_gates_that_the_board_has_lost_are_refused_and_loaded_anew(tmp_path):
    """The board's own switch has cleared its slots: no product of an empty slot is taken for one."""
    with on_the_table(put(tmp_path / "board")) as table, rramlab.open_bench(table.host(tmp_path / "host")) as session:
        tile, gates = Tile("t", 0, 8, 4, 0, 0), GatePattern.lines(np.arange(32) < 8, np.arange(8) < 4)
        ones = np.ones((1, 8), np.uint8)
        first = session.macro.multiply(ones, 1, tile, gates)
        table.board.safe_state()
        with pytest.raises(InstrumentError, match="empty"):
            session.macro.multiply(ones, 1, tile, gates)
        assert session.macro.multiply(ones, 1, tile, gates).shape == first.shape


# links that are lost --------------------------------------------------------------------------------------------------


def test_a_session_whose_link_was_lost_says_so_and_goes_on_when_the_board_is_back(tmp_path):
    """An interrupt that reaches a whole process group ends the emulated board, too."""
    folder = put(tmp_path / "board")
    with on_the_table(folder) as table:
        host, address = table.host(tmp_path / "host"), table.served.tcp
        session = rramlab.open_bench(host)
        session.__enter__()
        session.arm(DIE)
        assert session.macro.read("row 0")[0].size
    try:
        with pytest.raises(InstrumentError):
            session.macro.read("row 0")
        for _ in range(2):
            with pytest.raises(InstrumentError, match=r"this session cannot go on.*cannot be reached"):
                session.macro.read("row 0")
        with on_the_table(folder, port=int(address.rpartition(":")[2])):
            assert session.macro.read("row 0")[0].size
            assert session.run(forming_plan("rows 0-3"), arm=DIE).pulses == 64
            session.close()
    finally:
        with suppress(InstrumentError):
            session.close()


def test_a_unit_whose_link_was_lost_is_reached_again(tmp_path):
    plan = Plan(name="r", steps=(RouteStep(reference=0, count=2),))
    board = put(tmp_path / "board", smu("left"))
    with on_the_table(board) as table, rramlab.open_bench(table.host(tmp_path / "host")) as session:
        assert session.run(plan).routes[0]["points"] == 2
        session.bench.smus["left"].link.close()
        with pytest.raises(InstrumentError):
            session.run(plan)
        assert session.run(plan).routes[0]["points"] == 2
