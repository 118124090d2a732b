"""A host killed in a pulse train or while it holds a route: how long until the lines are at 0 V and the path is open."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

from workbench import SmallBench, forming_plan

from campaign.processes import Child, EmulatedBench, work
from rramlab.base.arrays import load_arrays
from rramlab.drivers.bench import describe_bench
from rramlab.plan.plan import Plan
from rramlab.plan.steps import RouteStep
from rramlab.sim.emulator.faults import WireFaults

DIE = "small-1"
WHAT = ("pulse train", "held route")
PACE = 20000.0  # 11 µs of a row become 0.22 s: 28 rows in one operation take 6 s
_HOLD_S = 30.0
_WAIT_S = 15.0
_LATEST_S = 2.0  # after the beginning of the train or of the route
_SMU = "smus:\n  - {name: unit, driver: keysight-b2900, address: simulated}\n"


def one(number: int, seed: int, folder: Path):
    """Kill one host in ``folder`` and return what the board did as a JSON object."""
    if folder.exists():
        shutil.rmtree(folder)
    chance = random.Random(f"{seed}/{number}")
    what, by_terminal = WHAT[number % 2], number // 2 % 2 == 1
    bench = SmallBench(folder / "bench").write()
    with (bench.folder / "bench.yaml").open("a", encoding="utf-8") as stream:
        stream.write(_SMU)
    shutil.copytree(folder / "bench" / "drivers", folder / "host" / "drivers")
    if what == "pulse train":
        contact, forming, *_ = forming_plan(block_rows=64).steps
        pilot = forming.pilot.model_copy(update={"recheck_rows": 256})  # all that is left in one operation
        plan = Plan(name="form", steps=(contact, forming.model_copy(update={"pilot": pilot})))
        begins = "pulse"
    else:
        cell = f"{chance.randrange(bench.rows)}, {chance.randrange(bench.columns)}"
        plan, begins = Plan(name="hold", steps=(RouteStep(cell=cell, voltage=0.1, hold=_HOLD_S),)), "route"
    board = EmulatedBench(folder / "bench", folder / "host", by_terminal, WireFaults(), PACE, log=True)
    try:
        host = Child(work, board.host, plan, DIE)
        try:
            _wait(board, begins, lambda found: begins == "route" or found > 4 * bench.columns // 2)
            after_s = chance.uniform(0.05, _LATEST_S)
            time.sleep(after_s)
            killed = host.kill()
        finally:
            host.kill()
        at, found = _wait(board, "safe", lambda found: True, killed)
        time.sleep(0.5)  # two rows and more, had the train gone on
        code = board.end()
    except BaseException:
        board.kill()
        raise
    state = load_arrays(describe_bench(folder / "bench").data / "dies" / DIE / "die.npz")
    more = int(state["pulses"].sum()) - found["pulses"]
    outcome = {
        "number": number,
        "what": what,
        "link": "pty" if by_terminal else "tcp",
        "killed_after_s": round(after_s, 4),
        "safe_after_s": round(at - killed, 4),
        "pulses_later": more,
        **found,
    }
    dead = not (found["live"] or found["routed"] or more) and found["dead_man"] and code == 0
    outcome["passed"] = dead and at - killed <= describe_bench(folder / "bench").board.dead_man_s
    if outcome["passed"]:
        shutil.rmtree(folder)
    return outcome


def _wait(board, what, wanted, since=0.0):
    """Wait for an entry of the board's log after ``since``; return when it was and what it says."""
    while (entry := board.next(_WAIT_S)) is not None:
        name, at, found = entry
        if name == what and at > since and wanted(found):
            return at, found
    raise RuntimeError(f"the emulated bench ended before {what!r}")
