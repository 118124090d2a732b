"""What several test packages need: small benches on disk, plans to run on them, child processes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import rramlab
from rramlab.base import times
from rramlab.base.folders import shipped
from rramlab.macro.cells import CellSelection
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ContactStep, ExpectStep, Pilot, PulseStep, ReadStep, Window
from rramlab.runs.ledger import view_ledger
from rramlab.runs.ledger.copies import make_its_own
from rramlab.runs.ledger.witnesses import beside

FORM = {"voltage": 3.75, "width": 1e-6, "gate": 1.6}


def copy_bench(folder: Path, to: Path) -> Path:
    """Copy a bench with its simulated dies: the copies are other dies, whose ledgers go on by themselves."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    for ledger in to.rglob("ledger.db"):
        make_its_own(ledger)
    return to


def without_outcome(ledger: Path, op_id: int) -> None:
    """Make a closed ledger one whose operation ``op_id`` was intended, as a crash leaves it."""
    with view_ledger(ledger) as view:
        now = view.moment
        image = view.image(replace(now, dangling=(*now.dangling, op_id)))
    ledger.write_bytes(image)
    beside(ledger).unlink(missing_ok=True)


@dataclass
class SmallBench:
    """A bench folder with its own board file, so that the array is small."""

    folder: Path
    rows: int = 32
    columns: int = 16
    dies: dict[str, str] = field(default_factory=lambda: {"small-1": ""})  # id -> extra YAML of its options
    board_options: str = "{}"
    limits: str = "{electroform_voltage: 4.0 V, set_voltage: 2.5 V, reset_voltage: 2.5 V, gate_voltage: 3.3 V}"
    policy: str = "none"
    figures: dict[str, str] = field(default_factory=dict)  # key of the board file -> value

    def write(self) -> SmallBench:
        (self.folder / "drivers").mkdir(parents=True, exist_ok=True)
        text = (shipped().path / "drivers" / "macro-40nm.yaml").read_text(encoding="utf-8")
        figures = {
            "rows": str(self.rows),
            "columns": str(self.columns),
            "columns_per_adc": "4",
            "lines_at_once": "8",
            **self.figures,
        }
        for key, value in figures.items():
            text, count = re.subn(rf"^(  {key}: \{{value: )[^,]*", rf"\g<1>{value}", text, flags=re.MULTILINE)
            assert count == 1, key
        (self.folder / "drivers" / "small.yaml").write_text(text, encoding="utf-8")
        dies = "\n".join(f"  - {{id: {die}, options: {{{options}}}}}" for die, options in self.dies.items())
        (self.folder / "bench.yaml").write_text(
            "name: small bench\nbackend: simulated\n"
            f"controller: {{driver: small, board: SIM-0009, options: {self.board_options}}}\n"
            f"dies:\n{dies}\nlimits: {self.limits}\ncalibration_policy: {self.policy}\ndata: data\n",
            encoding="utf-8",
        )
        return self

    def open(self):
        return rramlab.open_bench(self.folder)


class HostClock:
    """The host's clocks, which a test sets; both go on by ``step`` whenever anybody looks at the one on the wall."""

    def __init__(self, monkeypatch):
        self.at, self.step, self.counted_s = datetime(2026, 3, 1, 12, tzinfo=UTC), timedelta(milliseconds=1), 1000.0
        clock = self

        class Wall(datetime):
            @classmethod
            def now(cls, tz=None):
                clock.go_on(clock.step)
                return clock.at.astimezone(tz)

        monkeypatch.setattr(times, "datetime", Wall)
        monkeypatch.setattr(times, "time", SimpleNamespace(monotonic=lambda: clock.counted_s))

    def go_on(self, by=timedelta(0), **more):
        """Let time pass."""
        by += timedelta(**more)
        self.at += by
        self.counted_s += by.total_seconds()

    def set_by(self, **by):
        """Set the clock on the wall; no time passes."""
        self.at += timedelta(**by)


def hidden(session, die=None):
    """The truth that only a test may look at: the state of the simulated die."""
    return session.bench.controllers[die or next(iter(session.stations))].die.state


def conducting_now(session, die=None):
    """What the cells conduct now, with all that time has made of them: float32[rows, columns]."""
    return session.bench.controllers[die or next(iter(session.stations))].die.conductance_S


def tampered(session, die=None):
    """Change the truth behind the die's back: its state, to be written to; what was computed of it is forgotten."""
    behind = session.bench.controllers[die or next(iter(session.stations))].die
    behind.version += 1
    return behind.state


def ledger_of(session, die=None):
    return session.stations[die or next(iter(session.stations))].ledger


def ones(geometry):
    return CellSelection.everything(geometry)


def pulse_step(cells="all", kind="electroform", **changes):
    """Without bystanders, so that a test can count what is done; those have tests of their own."""
    return PulseStep(kind=kind, cells=cells, **{**FORM, "bystanders": 0, **changes})


def forming_plan(cells="one-of-pair(seed=3)", block_rows=1, read=True, **changes):
    """Contact test, electroforming with a pilot block, a read and a check: many operations with small blocks."""
    window = {"formed_fraction": (0.9, 1.0), "median": (8e-6, 18e-6)}
    steps = [ContactStep(), pulse_step(cells, pilot=Pilot(rows=4, recheck_rows=8, **window), **changes)]
    if read:
        steps += [ReadStep(), ExpectStep(cells=cells, window=Window(**window))]
    return Plan(name="form", steps=tuple(steps), block_rows=block_rows)


def plain_plan(*steps, block_rows=64, name="plain", **more):
    return Plan(name=name, steps=(ContactStep(), *steps), block_rows=block_rows, **more)


def child(script, *arguments):
    """Start a Python process on ``script``; its stdout is read line by line."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
