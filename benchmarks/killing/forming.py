"""One run of forming a region that is killed at random moments, and gone on with until it is done."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from campaign.forming import CELLS as LEAN_CELLS
from campaign.forming import DIE, VOLTAGES_V, plan_of
from campaign.processes import Child
from workbench import SmallBench

from killing.judging import Left, judge, look
from killing.watched import WHAT, Board, work
from rramlab.base.arrays import load_arrays
from rramlab.base.errors import RramlabError
from rramlab.base.folders import shipped
from rramlab.drivers.bench import describe_bench
from rramlab.runs.store import list_runs
from rramlab.sim.backend import open_simulated

MOST_ATTEMPTS = 12
COMMAND_CELLS = "one-of-pair(seed=7)"  # of the shipped protocol
FULL_DIE = "sim-0001"
_SILENCE_S = 60.0
_BLOCKS = (1, 2, 4, 8)
_MORE_KILLS = (0, 0, 1, 1, 2, 3)  # beside the first one, in attempts to go on
_AIMED = 0.6  # share of the kills that wait for something to begin; the others come at any time
_OFTEN = {
    "enrolling": 2,
    "intent": 3,
    "pulse": 3,
    "outcome": 3,
    "block": 2,
}  # how much more often than others these are waited for
_HURRY = 0.7  # what a kill comes earlier by when it came too late
_ONCE = ("enrolling", "new run")  # not in an attempt to go on


@dataclass(frozen=True)
class Mode:
    """How a run is made. ``command``: ``rramlab run electroform --arm …`` as typed; else a session in a forked process."""

    command: bool
    full: bool
    voltage_V: float
    block_rows: int
    by_row: bool

    @classmethod
    def of(cls, number: int, chance: random.Random) -> Mode:
        """Of ten runs two are the command on a small die, one on a whole die, and seven sessions."""
        place = number % 10
        if place < 7:
            return cls(False, False, VOLTAGES_V[number // 10 % 2], chance.choice(_BLOCKS), chance.random() < 0.5)
        return cls(True, place == 9, VOLTAGES_V[0], 64 if place == 9 else chance.choice(_BLOCKS), False)

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in astuple(self))

    @property
    def die(self) -> str:
        return FULL_DIE if self.full else DIE

    @property
    def cells(self) -> str:
        return COMMAND_CELLS if self.command else LEAN_CELLS

    @property
    def plan(self):
        return plan_of(self.voltage_V, self.block_rows)

    def bench(self, folder: Path) -> Path:
        """Make the bench's folder."""
        if self.full:
            folder.mkdir(parents=True)
            shutil.copy(shipped().path / "bench.yaml", folder / "bench.yaml")
        else:
            SmallBench(folder).write()
        if self.command:
            (folder / "protocols").mkdir()
            text = (shipped().path / "protocols" / "electroform.yaml").read_text(encoding="utf-8")
            changed = text.replace("limits:\n", f"block_rows: {self.block_rows}\nlimits:\n", 1)
            assert changed != text
            (folder / "protocols" / "electroform.yaml").write_text(changed, encoding="utf-8")
        return folder

    def start(self, bench: Path, shown: Path):
        """Start a process that begins the run, or goes on with it."""
        if not self.command:
            return Child(work, bench, self.plan, self.die, shown, self.by_row)
        known = list_runs(bench / "data" / "runs")
        words = ["resume", known[-1].id] if known else ["run", "electroform"]
        return Command([*words, "--arm", self.die, "--bench", str(bench)], shown.with_suffix(".stderr"))


class Command:
    """The real command in a process of its own, heard as :class:`Child` is. ``said``: file of what it writes to stderr."""

    def __init__(self, words: list[str], said: Path) -> None:
        self._said, self._told = said, [("begun",)]
        self._begun = time.perf_counter()
        with said.open("wb") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "rramlab", *words],
                stdout=subprocess.DEVNULL,
                stderr=stream,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    def next(self, timeout_s: float):
        if self._told:
            return self._told.pop()
        if self._begun is None:
            return None
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the command has not ended within {timeout_s:g} s") from None
        total_s, self._begun = time.perf_counter() - self._begun, None
        if code == -signal.SIGKILL:
            return None
        said = self._said.read_text(encoding="utf-8", errors="replace").strip()
        return ("failed", said) if code else ("done", total_s, None)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Nominal:
    """An undisturbed run. ``arrays``: the die's state file after it. ``opening_s``: until there is a run's folder.

    ``begun``, ``seconds``: [what, inner], how often each thing began and how long it took in all; None of a command.
    """

    arrays: dict
    opening_s: float
    total_s: float
    begun: np.ndarray | None
    seconds: np.ndarray | None


def nominal(mode: Mode, folder: Path) -> Nominal:
    """Do the run of ``mode`` undisturbed in ``folder``, an empty one."""
    bench, shown = mode.bench(folder / "bench"), folder / "shown"
    begun = time.perf_counter()
    child = mode.start(bench, shown)
    while not list((bench / "data" / "runs").glob("*/run.json")) and time.perf_counter() < begun + _SILENCE_S:
        time.sleep(0.001)
    opening_s = time.perf_counter() - begun
    while (said := child.next(_SILENCE_S)) is not None and said[0] == "begun":
        pass
    if said is None or said[0] != "done":
        raise RuntimeError(f"the undisturbed run of {mode} did not end as it should: {said}")
    child.kill()
    arrays = load_arrays(bench / "data" / "dies" / mode.die / "die.npz")
    counts = None if mode.command else Board(shown).begun.copy()
    return Nominal(arrays, opening_s, said[1], counts, said[2])


class Nominals:
    """Undisturbed runs, one of each mode, made when they are first asked for in folders of ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._of = cache(lambda mode: nominal(mode, folder / mode.name))

    def of(self, mode: Mode) -> Nominal:
        return self._of(mode)


def one(number: int, seed: int, folder: Path, nominals: Nominals, cycled: bool) -> dict:
    """Do one run in ``folder`` and return its outcome as a JSON object; the folder is left when something is wrong.

    ``cycled``: after each kill the board is switched off and on and has forgotten all operations.
    """
    begun = time.monotonic()
    if folder.exists():
        shutil.rmtree(folder)  # of a campaign that was stopped in the middle of it
    chance = random.Random(f"{seed}/{number}/{cycled}")
    mode = Mode.of(number, chance)
    bench = mode.bench(folder / "bench")
    usual = nominals.of(mode)
    due = 1 + chance.choice(_MORE_KILLS)
    kills, ended, failures, seen, missed = [], [], [], [], 0
    end = look(bench, mode.die, folder / "copy")
    while len(ended) < MOST_ATTEMPTS:
        if end.record.get("status") == "done":
            if kills:
                break
            shutil.rmtree(folder)  # it was done before it was killed: once more
            mode.bench(folder / "bench")
            missed, ended = missed + 1, []
        left_share = 1 - np.count_nonzero(end.done) / max(1, np.count_nonzero(usual.arrays["pulses"]))
        attempt = _Attempt(mode, bench, folder / f"shown-{len(ended)}", usual, chance, _HURRY**missed)
        how, said, where = attempt.work(len(kills) < due, left_share)
        ended.append(how)
        if how not in ("killed", "done"):
            failures.append(said)
        end, damage = _look(bench, mode, folder)
        failures += damage
        if how == "killed":
            kills.append({**where, **end.about, "status": end.record.get("status", "")})
            seen.append(end)
            if cycled:
                _cycle(bench, mode.die)
    violations = judge(end, seen, mode.cells, usual.arrays, cycled)
    violations["failed"] = len(failures)
    passed = not any(violations.values())
    outcome = {
        "number": number,
        "passed": passed,
        "by": "command" if mode.command else "session",
        "cells": int(np.count_nonzero(usual.arrays["pulses"])),
        "voltage_V": mode.voltage_V,
        "block_rows": mode.block_rows,
        "by_row": mode.by_row,
        "kills": kills,
        "ended": ended,
        "missed": missed,
        "failures": failures,
        "violations": violations,
        "gathered": (bench / "data" / "runs" / end.record.get("id", "none") / "run.h5").exists(),
        "unknown": int(np.count_nonzero(end.unknown)),
        "unknown_pulsed": int(np.count_nonzero(end.unknown & (end.pulses > 0))),
        "seconds": round(time.monotonic() - begun, 2),
    }
    if passed:
        shutil.rmtree(folder)
    return outcome


def _look(bench, mode, folder):
    """Look at what is left; what cannot be read is a finding, not the end of the campaign."""
    try:
        return look(bench, mode.die, folder / "copy"), []
    except (RramlabError, OSError, KeyError) as error:
        blank = np.zeros(describe_bench(bench).board.geometry.shape, np.bool_)
        nothing = Left(blank.astype(np.uint32), blank.astype(np.float32), blank, blank, blank)
        nothing.damage.append(f"{type(error).__name__}: {error}")
        return nothing, nothing.damage


def _cycle(bench, die):
    """Switch the board off and on: it has forgotten its operations and says so with another nonce."""
    description = describe_bench(bench)
    if description.data.exists():
        backend = open_simulated(description.file, description.board, description.data)
        backend.controllers[die].power_cycle()


class _Attempt:
    """One process, and the moment at which it is killed."""

    def __init__(self, mode, bench, shown, usual, chance, hurry):
        self.mode, self.bench, self.shown, self.usual, self.chance = mode, bench, shown, usual, chance
        self.hurry = hurry  # 1, less where earlier attempts were done before their kill

    def work(self, kill, left_share):
        """Let it work, or kill it; return how it ended, what it said, and where it was killed.

        ``left_share``: of the cells that have still to be pulsed.
        """
        board = Board(self.shown)
        resumed = bool(list_runs(self.bench / "data" / "runs"))
        child = self.mode.start(self.bench, self.shown)
        how, said, where = "killed", "", {"aimed": "", "what": "", "within": ""}
        try:
            if kill:
                child.next(_SILENCE_S)
                aim = self._aim(left_share, resumed)
                if aim is None:
                    self._sleep(resumed)
                else:
                    where["aimed"] = WHAT[aim[0]]
                    self._wait(board, *aim)
                child.kill()
                if not self.mode.command:
                    where["what"], where["within"] = board.doing
            while (heard := child.next(_SILENCE_S)) is not None:
                if heard[0] != "begun":
                    how, said = heard[0], str(heard[1])
        except TimeoutError as error:
            how, said = "hung", str(error)
        child.kill()
        return how, said, where

    def _sleep(self, resumed):
        """Wait for a moment of the whole course, drawn evenly; of a command four of five times for one that has a run."""
        usual, share = self.usual, self.chance.random() * self.hurry
        if not self.mode.command or resumed or self.chance.random() < 0.2:
            time.sleep(share * usual.total_s)
            return
        latest = time.perf_counter() + _SILENCE_S
        while not list_runs(self.bench / "data" / "runs") and time.perf_counter() < latest:
            time.sleep(0.001)
        time.sleep(share * (usual.total_s - usual.opening_s))

    @staticmethod
    def _weight(what, resumed):
        never = what in ("opening", "between these") or (resumed and what in _ONCE)
        return 0 if never else _OFTEN.get(what, 1)

    def _aim(self, left_share, resumed):
        """Choose what to wait for among the things that a run does: its place and number, and a delay in s."""
        usual = self.usual
        if usual.begun is None or self.chance.random() >= _AIMED:
            return None
        places = np.argwhere(usual.begun > 0).tolist()
        weights = [self._weight(WHAT[what], resumed) for what, _ in places]
        ((what, inner),) = self.chance.choices(places, weights)
        count = int(usual.begun[what, inner])
        many = count if count < 4 else max(1, round(count * left_share))
        span = usual.seconds[what, inner] / count
        return what, inner, self.chance.randint(1, many), self.chance.random() * span

    def _wait(self, board, what, inner, number, delay_s):
        """Wait for the beginning of something, by looking all the time: a signal comes some ten microseconds later."""
        latest = time.perf_counter() + 2 * self.usual.total_s + 1
        begun, closing = board.begun[what], board.begun[WHAT.index("closing")]
        while begun[inner] < number and time.perf_counter() < latest:
            if closing[0] and what != WHAT.index("closing"):
                return  # it came to its end without
        until = time.perf_counter() + delay_s
        while time.perf_counter() < until:
            pass
