"""One case: a work that is stopped at a random moment, once or twice, gone on with, and judged."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rramlab.base.errors import RramlabError
from rramlab.base.host import STATE
from rramlab.drivers.bench import describe_bench
from rramlab.drivers.controller import History
from rramlab.runs.ledger import view_ledger
from rramlab.runs.store import list_runs
from rramlab.sim.backend import open_simulated
from stopping.hosts import Command, InKernel, InProcess, Kernel
from stopping.judging import Stand, judge, stand
from stopping.works import SMALL, WORKS, Work

PARTS = {
    "kills": "a command, killed",
    "interrupts": "a command, or a session in a script, interrupted or terminated",
    "notebook": "a session in a notebook's kernel, interrupted",
}
MOST_ATTEMPTS = 16
_AGAIN = 0.25  # share of the cases that are stopped once more, while they go on
_AIMED = 0.5  # share of the stops that wait for a file to change; the others come at any time
_JUST_AFTER_S = 0.003  # and come within so long
_TWICE_WITHIN_S = 0.03
_HURRY = 0.7  # what a stop comes earlier by when it came too late


@dataclass(frozen=True)
class Calm:
    """An undisturbed work. ``before``, ``after``: how all was. ``seconds``, ``changes``: of it, by who did it."""

    known: list[str]
    before: Stand
    after: Stand


class Slot:
    """The one place where all cases of a process lie, one after the other: what is outside of a bench's folder may know it.

    Prepared benches are kept beside it, and copied into it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.folder = root, root / "slot"
        self._calm: dict[str, Calm] = {}
        self._courses: dict[tuple[str, str], tuple[float, int]] = {}

    @property
    def bench(self) -> Path:
        return self.folder / "bench"

    def lay(self, work: Work) -> None:
        """Put the bench that is prepared for a work into the slot, with all that is known of it elsewhere."""
        kept = self.root / f"prepared-{work.name}"
        shutil.rmtree(self.folder, ignore_errors=True)
        os.environ[STATE] = str(self.folder / "state")
        if not kept.exists():
            (self.folder / "state").mkdir(parents=True)
            work.prepare(self.bench)
            self.folder.rename(kept)
        shutil.copytree(kept, self.folder)

    def stand(self, work: Work, known: list[str]) -> Stand:
        """Look at everything; what cannot be read is a finding, not the end of the campaign."""
        try:
            return stand(self.bench, work.die, self.root / "copy", known, work.ramp)
        except (RramlabError, OSError, KeyError, ValueError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error

    def stranded(self, work: Work) -> int:
        """Return how many operations are left intended that the board never received, by its own memory, in a copy."""
        description = describe_bench(self.bench)
        die = Path("dies") / work.die
        with view_ledger(description.data / die / "ledger.db") as ledger:
            dangling = [entry.op_id for entry in ledger.dangling()]
        if not dangling:
            return 0
        copy = self.root / "board"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(description.data / die, copy / die)
        controller = open_simulated(description.file, description.board, copy).controllers[work.die]
        return sum(controller.history(each) is History.NEVER for each in dangling)

    def calm(self, work: Work) -> Calm:
        if work.name not in self._calm:
            self.lay(work)
            known = [run.id for run in list_runs(self.bench / "data" / "runs")]
            before = self.stand(work, known)
            self._finish(Command(work.words(self.bench), self.folder, False))
            self._calm[work.name] = Calm(known, before, self.stand(work, known))
        return self._calm[work.name]

    def course(self, who: str, work: Work, begin: Callable[[], object]) -> tuple[float, int]:
        """Return how long an undisturbed work takes whoever does it, in s, and how many changes of files are seen."""
        key = who, work.name
        if key not in self._courses:
            self.lay(work)
            host, watch = begin(), Watch(self.bench, work.die)
            begun = time.perf_counter()
            changes, ended = 0, []
            import threading

            waiting = threading.Thread(target=lambda: ended.append(host.end()), daemon=True)
            waiting.start()
            while waiting.is_alive():
                changes += watch.changed()
                time.sleep(0.0002)
            seconds = time.perf_counter() - begun
            if ended[0][0] != "done":
                raise RuntimeError(f"the undisturbed {work.name} by {who} ended {ended[0]}")
            if hasattr(host, "go_on"):
                host.go_on()
            self._courses[key] = seconds, changes
        return self._courses[key]

    @staticmethod
    def _finish(host) -> None:
        how, said = host.end()
        if how != "done":
            raise RuntimeError(f"an undisturbed work ended {how}: {said}")


class Unreadable(Exception):
    """What a stop has left cannot be looked at."""


class Watch:
    """Sees from outside that a work goes on: files of its die, its runs, trainings and records change."""

    def __init__(self, bench: Path, die: str) -> None:
        data = bench / "data"
        self._die, self._runs = data / "dies" / die, data / "runs"
        self._others = [data / "checkpoints", data / "deployments", bench / "calibration"]
        self._last = self._now()

    def changed(self) -> bool:
        now = self._now()
        changed, self._last = now != self._last, now
        return changed

    def _now(self):
        newest = max((each.name for each in os.scandir(self._runs)), default="") if self._runs.exists() else ""
        files = [self._die / "ledger.db", self._die / "ledger.db-wal", self._die / "last_read.npz"]
        files += [self._runs / newest / name for name in ("", "blocks", "run.json")]
        files += [each for folder in self._others if folder.exists() for each in (folder, *folder.iterdir())]
        found = []
        for each in files:
            try:
                about = each.stat()
                found.append((about.st_size, about.st_mtime_ns, about.st_ino))
            except OSError:
                found.append(None)
        return found


def one(part: str, number: int, seed: int, slot: Slot, kernel: Kernel | None, failures: Path) -> dict:
    """Do one case and return its outcome as a JSON object; the slot is kept under ``failures`` when something is wrong."""
    begun = time.monotonic()
    names = list(WORKS)
    work = WORKS[names[number % len(names)]]
    chance = random.Random(f"{seed}/{part}/{number}")
    calm = slot.calm(work)
    case = _Case(part, number, work, calm, slot, kernel, chance)
    outcome = case.run()
    if not outcome["passed"]:
        shutil.rmtree(failures / f"{part}-{number}", ignore_errors=True)
        failures.mkdir(parents=True, exist_ok=True)
        shutil.copytree(slot.folder, failures / f"{part}-{number}")
    return {"number": number, **outcome, "seconds": round(time.monotonic() - begun, 2)}


class _Case:
    def __init__(self, part, number, work, calm, slot, kernel, chance):
        self.part, self.work, self.calm, self.slot, self.kernel, self.chance = part, work, calm, slot, kernel, chance
        # Of the interrupts every other one is of a command as it is typed.
        self.by = {"kills": "command", "notebook": "kernel"}.get(part) or ("command", "script")[
            number // len(WORKS) % 2
        ]
        self.by_row = part == "kills" and work.die == SMALL and chance.random() < 0.5
        self.signals = self._drawn_signals()
        self.due = 1 + (part != "notebook" and self.by == "command" and chance.random() < _AGAIN)
        self.stops, self.looks, self.ended, self.failures, self.missed = [], [], [], [], 0
        self.shown: list[dict] = []

    def _drawn_signals(self):
        if self.part == "kills":
            return ["SIGKILL"]
        kinds = [["SIGINT"], ["SIGINT"], ["SIGINT", "SIGINT"]]
        return self.chance.choice(kinds if self.part == "notebook" else [*kinds, ["SIGTERM"]])

    def run(self) -> dict:
        done = False
        while len(self.ended) < MOST_ATTEMPTS and not done:
            if self.ended == [] or (self.ended == ["done"] and not self.stops):
                if self.ended:  # it was done before it was stopped: once more
                    self.missed, self.ended = self.missed + 1, []
                    if self.missed > 6:
                        break
                self.slot.lay(self.work)
            how = self._by_command() if self.by == "command" else self._by_session()
            done = how == "done" and bool(self.stops) and not self._to_analyse
            if how in ("hung", "defect") or self.failures:
                break
        if self.by != "command" and self.work.procedure and done:
            done = self._analysed()
        return self._outcome(done)

    # ------------------------------------------------------------------------------------------------------------------

    def _by_command(self) -> str:
        """Type the command, or what follows from how it ended; stop it, where one is still due."""
        known, bench = set(self.calm.known), self.slot.bench
        words = self.work.words(bench) if not self.ended else self.work.again(bench, known, self._refusal())
        if not words:
            return self._note("done", "", False)
        due = len(self.stops) < self.due
        course = self.slot.course(self.by, self.work, self._calm_command) if due else (0.0, 0)
        if due and not self.ended:
            self.slot.lay(self.work)
        host = Command(words, self.slot.folder, self.by_row)
        # A run of a calibration that is resumed is not yet analysed.
        self._to_analyse = bool(self.work.procedure) and words[0] == "resume"
        if due:
            self._stop(host, course)
        how, said = host.end()
        return self._note(how, said, due)

    def _calm_command(self):
        return Command(self.work.words(self.slot.bench), self.slot.folder, False)

    def _refusal(self) -> str:
        return self._said if self.ended and self.ended[-1] == "failed" else ""

    _said, _to_analyse = "", False

    def _by_session(self) -> str:
        """Let a session begin and stop it; then look, and go on in the same session."""
        course = self.slot.course(self.by, self.work, self._host)
        self.slot.lay(self.work)
        host = self._host()
        self._stop(host, course)
        how, said = host.end()
        if how == "done":
            host.go_on()
            return self._note(how, said, True)
        if host.found is not None:
            self.looks.append(host.found)
        self._note(how, said, True)
        if how in ("hung", "defect"):
            return how
        how, said = host.go_on()
        if host.found is not None:
            self.looks.append(host.found)
        return self._note(how, said, False)

    def _host(self):
        arguments = self.work.name, self.slot.folder, self.calm.known
        return InProcess(*arguments) if self.by == "script" else InKernel(self.kernel, *arguments)

    def _note(self, how, said, stopped) -> str:
        self.ended.append(how)
        self._said = said
        expected = ("killed", "stopped") if stopped else ()
        if how == "failed" and self._goes_on(said):
            return how
        if how != "done" and how not in expected:
            self.failures.append(said[-3000:] or how)
        if how in ("killed", "stopped") and stopped:
            self._stand()
            if how == "stopped" and self.by == "command":
                self.looks.append({"open": False, "stranded": self.slot.stranded(self.work)})
        return how

    def _goes_on(self, said) -> bool:
        """Whether a refusal says how to go on, which is then done: as the commands of trainings and ramps do."""
        hints = [hint for hint in ("--resume", "rramlab resume", "--run ") if hint in said]
        return self.by == "command" and len(self.stops) > 0 and bool(hints) and self.ended.count("failed") < 9

    def _stand(self):
        try:
            self.stops.append(self.slot.stand(self.work, self.calm.known))
        except Unreadable as error:
            self.failures.append(str(error))
            self.stops.append(self.calm.before)

    def _stop(self, host, course) -> None:
        seconds, changes = course
        hurry = _HURRY**self.missed
        aimed = changes > 1 and self.chance.random() < _AIMED
        if aimed:
            watch = Watch(self.slot.bench, self.work.die)
            wanted = self.chance.randint(1, max(1, round(changes * hurry)))
            latest = time.perf_counter() + seconds
            while wanted and time.perf_counter() < latest:
                wanted -= watch.changed()
            time.sleep(self.chance.random() * _JUST_AFTER_S)
        else:
            time.sleep(self.chance.random() * seconds * hurry)
        for place, name in enumerate(self.signals):
            if place:
                time.sleep(self.chance.random() * _TWICE_WITHIN_S)
            host.kill() if name == "SIGKILL" else host.signal(getattr(signal, name))
        self.shown.append({"aimed": aimed})

    def _analysed(self) -> bool:
        """Let the calibration be made of the run that a session has measured."""
        run = self.work.newest(self.slot.bench, set(self.calm.known))
        words = ["calibrate", self.work.procedure, "--run", run, "--bench", str(self.slot.bench), "--json"]
        how, said = Command(words, self.slot.folder, False).end()
        if how != "done":
            self.failures.append(said[-3000:])
        return how == "done"

    def _outcome(self, done) -> dict:
        try:
            end = self.slot.stand(self.work, self.calm.known)
        except Unreadable as error:
            self.failures.append(str(error))
            end = self.calm.before
        calm = self.calm
        violations = judge(end, self.stops, self.looks, calm.before, calm.after, self.work.most, self.work.once, done)
        self.failures += [each["failed"] for each in self.looks if "failed" in each]
        violations["failed"] = len(self.failures)
        return {
            "passed": not any(violations.values()),
            "part": self.part,
            "work": self.work.name,
            "by": self.by,
            "by_row": self.by_row,
            "signals": self.signals,
            "stops": [
                {**shown, "dangling": each.left.undecided, "pulses": int((each.pulses - calm.before.pulses).sum())}
                for shown, each in zip(self.shown, self.stops, strict=False)
            ],
            "looks": self.looks,
            "ended": self.ended,
            "missed": self.missed,
            "failures": self.failures,
            "violations": violations,
            "pulses": int((end.pulses.astype(np.int64) - calm.before.pulses).sum()),
            "unknown": int(np.count_nonzero(end.left.unknown)),
        }
