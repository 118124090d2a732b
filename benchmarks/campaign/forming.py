"""One run of forming a region while frames are lost and one side is killed; judged by the die itself."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import numpy as np
from workbench import SmallBench, forming_plan, hidden

from campaign.processes import Child, EmulatedBench, work
from rramlab.base.arrays import load_arrays
from rramlab.drivers.bench import describe_bench
from rramlab.plan import cost
from rramlab.plan.plan import operations, selection
from rramlab.plan.steps import ExpectStep, ReadStep, Window
from rramlab.runs.ledger import Ledger
from rramlab.runs.store import list_runs
from rramlab.sim.emulator.faults import WireFaults

# Who is killed: the host, the board's process (which remembers operation ids afterwards, or not: what was not yet in its
# state file has not happened), or the board's supply: it comes back at once, without memory, and the die is as it was.
VICTIMS = ("host", "board", "forgetful board", "supply")
CELLS = "one-of-pair(seed=3)"
DIE = "small-1"
VOLTAGES_V = (3.75, 3.45)
MOST_ATTEMPTS = 10
PACE = 1000.0  # 11 µs of a row become 11 ms
_OVERHEAD_S = 0.004  # of an operation beside its pulses: frames, a synced file
_SILENCE_S = 60.0
_BLOCKS = (1, 2, 4, 8)
_SECOND_KILL = 0.2  # share of the runs that are hit once more, in an attempt to go on
PROMISES = {
    "twice": "cells that had more than one pulse",
    "outside": "pulsed cells that nobody chose",
    "lost": "cells that the ledger calls pulsed and the die does not",
    "unreported": "pulsed cells that the ledger calls neither pulsed nor unknown",
    "forgotten": "cells of the region that in the end are neither pulsed nor unknown",
    "undecided": "operations without an outcome",
    "unnamed": "unknown cells that the run's record does not count",
    "otherwise": "pulsed cells that are not as in a run without faults",
    "ended": "runs that did not come to their end",
    "defects": "exceptions that are no error of rramlab's own, hosts that hang, boards that do not switch off in order",
}


def plan_of(voltage_V: float, block_rows: int = 1):
    """Return the plan that forms the region: at 3.45 V half of the cells do not conduct afterwards and so prove nothing."""
    plan = forming_plan(CELLS, block_rows, read=voltage_V == VOLTAGES_V[0], voltage=voltage_V)
    if voltage_V == VOLTAGES_V[0]:
        return plan
    contact, forming = plan.steps
    pilot = forming.pilot.model_copy(update={"formed_fraction": (0.3, 0.8), "recheck_rows": 99})
    expect = ExpectStep(cells=CELLS, window=Window(formed_fraction=(0.3, 0.8)))
    return plan.model_copy(update={"steps": (contact, forming.model_copy(update={"pilot": pilot}), ReadStep(), expect)})


def references(folder: Path):
    """Return what the same die is after each plan when nothing happens to it: voltage -> float32[rows, columns], in S.

    ``folder``: an empty one.
    """
    found = {}
    for voltage_V in VOLTAGES_V:
        with SmallBench(folder / str(voltage_V)).write().open() as session:
            session.run(plan_of(voltage_V), arm=DIE)
            found[voltage_V] = hidden(session).conductance_S.copy()
    return found


def one(number: int, seed: int, folder: Path, expected_S, share: float = 0.01):
    """Do one run in ``folder`` and return its outcome as a JSON object; the folder is left when something is wrong.

    ``expected_S``: of :func:`references`. ``share``: of the frames, in both directions, that suffer a fault.
    """
    begun = time.monotonic()
    if folder.exists():
        shutil.rmtree(folder)  # of a campaign that was stopped in the middle of it
    chance = random.Random(f"{seed}/{number}")
    victim, by_terminal = VICTIMS[number % 4], number // 4 % 2 == 1
    voltage_V = VOLTAGES_V[number // 8 % 2]
    plan = plan_of(voltage_V, chance.choice(_BLOCKS))
    SmallBench(folder / "bench").write()
    shutil.copytree(folder / "bench" / "drivers", folder / "host" / "drivers")
    faults = WireFaults.everywhere(share, seed=chance.randrange(1 << 32))
    board = EmulatedBench(folder / "bench", folder / "host", by_terminal, faults, PACE)
    due = [victim] + [chance.choice(VICTIMS)] * (chance.random() < _SECOND_KILL)
    spans = _nominal(plan, describe_bench(folder / "bench").board)
    kills, attempts = [], []
    try:
        while len(attempts) < MOST_ATTEMPTS and not _done(folder):
            attempt, kill = _attempt(plan, board, due[0] if due else None, spans, chance)
            attempts.append(attempt)
            if kill is not None:
                kills.append(kill)
                due.pop(0)
        code = board.end()
    except BaseException:
        board.kill()
        raise
    found = judge(folder, plan, expected_S[voltage_V])
    found["violations"]["defects"] = sum(each["ended"] in ("defect", "hung") for each in attempts) + (code != 0)
    passed = not any(found["violations"].values())
    if passed:
        shutil.rmtree(folder)
    return {
        "number": number,
        "passed": passed,
        "victim": victim,
        "link": "pty" if by_terminal else "tcp",
        "voltage_V": voltage_V,
        "block_rows": plan.block_rows,
        "kills": kills,
        "attempts": attempts,
        "frames": board.frames,
        "damaged": board.damaged,
        "resent": sum(each["resent"] for each in attempts),
        **found,
        "seconds": round(time.monotonic() - begun, 2),
    }


def _nominal(plan, board):
    """Return how long each operation of the plan takes, about, in s; first the opening of the bench."""
    spans = [0.05]
    for step in plan.steps:
        for each in operations(step, selection(step, board.geometry, None), board, plan.block_rows, {}):
            pulsing = cost.of(each, board).time_s * PACE if cost.of(each, board).pulses else 0.0
            spans.append(pulsing + _OVERHEAD_S)
    return np.array(spans)


def _moment(spans, chance):
    """Draw a moment, uniform over the nominal course of the run: the operation, -1 for the opening, and s after its start."""
    ends = np.cumsum(spans)
    at = chance.random() * ends[-1]
    index = int(np.searchsorted(ends, at))
    return index - 1, float(at - ends[index] + spans[index])


def _attempt(plan, board, victim, spans, chance):
    """Let a host work until it ends, one way or another. ``victim``: who is killed at a random moment, or nobody.

    Returns how it ended, and the kill where there was one.
    """
    operation, delay_s = _moment(spans, chance)
    at_once, same_port = chance.random() < 0.5, chance.random() < 0.5
    forget = victim == "forgetful board"
    host = Child(work, board.host, plan, DIE)
    kill, ended, reason, resent = None, "killed", "", 0
    try:
        while (said := host.next(_SILENCE_S)) is not None:
            if said[0] != "operation":
                ended, reason = said[0], ": ".join(str(part) for part in said[1:] if part)[:400]
                continue
            resent = max(resent, said[2])
            if victim is None or kill is not None or said[1] < operation:
                continue
            time.sleep(delay_s)
            kill = {"victim": victim, "operation": said[1], "after_s": round(delay_s, 4)}
            if victim == "host":
                host.kill()
                break
            if victim == "supply":
                board.cut_power()
                continue
            board.kill()
            # Switched on again at once, where the host may find it; or when the host has given up.
            kill["restarted"] = "at once" if at_once else "later"
            if at_once:
                board.start(forget, same_port=True)
    except TimeoutError as error:
        ended, reason = "hung", str(error)
    host.kill()
    if kill is not None and kill.get("restarted") == "later":
        board.start(forget, same_port)
    return {"ended": ended, "reason": reason, "resent": resent}, kill


def _done(folder):
    return any(run.record["status"] == "done" for run in list_runs(folder / "host" / "data" / "runs"))


def judge(folder, plan, expected_S):
    """Compare the die's hidden state with the ledger of the host; ``violations``: counts of what is not as promised."""
    description = describe_bench(folder / "bench")
    geometry = description.board.geometry
    die = load_arrays(description.data / "dies" / DIE / "die.npz")
    pulses = die["pulses"]
    region = selection(plan.steps[1], geometry, None).bits
    runs = list_runs(folder / "host" / "data" / "runs")
    ledger = Ledger(folder / "host" / "data" / "dies" / DIE / "ledger.db", DIE, geometry)
    try:
        done = np.zeros(geometry.shape, np.bool_)
        for entry in ledger.history():
            done |= entry.done.bits
        unknown, dangling = ledger.unknown().bits, len(ledger.dangling())
    finally:
        ledger.close()
    record = runs[0].record if runs else {}
    named = record["checks"][-1]["unknown"] if record.get("checks") else 0
    violations = {
        "twice": pulses > 1,
        "outside": (pulses > 0) & ~region,
        "lost": done & (pulses == 0),
        "unreported": (pulses > 0) & ~(done | unknown),
        "forgotten": region & ~(done | unknown),
        "otherwise": (pulses > 0) & (die["conductance_S"] != expected_S),
    }
    counted = {name: int(np.count_nonzero(bits)) for name, bits in violations.items()}
    count = int(np.count_nonzero(unknown))
    return {
        "violations": {
            **counted,
            "undecided": dangling,
            "unnamed": abs(count - named),
            "ended": int(not _done(folder)),
        },
        "unknown": count,
        "unknown_pulsed": int(np.count_nonzero(unknown & (pulses > 0))),
        "reconciled_names": sum(each["unknown"] for each in record.get("reconciled", [])),
    }
