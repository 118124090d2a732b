"""What is stopped: set, reset, write-verify, calibration, deployment and training, each on a bench prepared for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from workbench import SmallBench, forming_plan

import rramlab
from rramlab.base.folders import shipped
from rramlab.runs.store import list_runs

SMALL, WHOLE = "small-1", "sim-0001"
CHOSEN, CORNER = "rows 0-27", "rows 28-31"
PROGRAMMED = "rows 0-3"
BUDGET = 50  # pulses a cell of write-verify
TRAINING, EPOCHS = "stopped", 2
_BLOCK_ROWS = {"set": 1, "reset": 1, "write-verify": 2, "electroform-ramp": 4}


@dataclass(frozen=True)
class Work:
    """Something that takes a while on a bench.

    ``protocol`` and ``given``: what is run, of the works that are one run; ``procedure``: of those that are a calibration.
    ``most``: pulses that a cell may get; ``once``: each chosen cell gets exactly one, and comes out as if undisturbed;
    ``ramp``: it gets each voltage at most once.
    """

    name: str
    die: str = SMALL
    protocol: str = ""
    given: dict[str, str] = field(default_factory=dict)
    procedure: str = ""
    most: int = 0
    once: bool = False
    ramp: bool = False

    @property
    def armed(self) -> list[str]:
        return ["--arm", self.die] if self.most else []

    def words(self, bench: Path) -> list[str]:
        """Return the command as it is typed."""
        given = [word for key, value in self.given.items() for word in ("--set", f"{key}={value}")]
        match self.name:
            case "deployment":
                words = ["deploy", TRAINING, "--method", "reset"]
            case "training":
                words = ["train", "digits", "--name", TRAINING, "--epochs", str(EPOCHS), "--in-the-loop", "weights"]
                given = ["--set", "read_every=4"]
            case _:
                words = ["calibrate", self.procedure] if self.procedure else ["run", self.protocol]
        return [*words, *given, *self.armed, "--bench", str(bench), "--json"]

    def again(self, bench: Path, known: set[str], said: str) -> list[str]:
        """Return what a person types next, nothing when all is done.

        ``known``: runs from before; ``said``: the last refusal, empty if there was none. A protocol's run that was begun is
        resumed. The other commands are repeated as they are; where they refuse and say how to go on, that is done.
        """
        newest, rest = self.newest(bench, known), ["--bench", str(bench), "--json"]
        if self.name == "training":
            return [*self.words(bench), *(["--resume"] if "--resume" in said else [])]
        if self.procedure:
            if newest and "rramlab resume" in said:
                return ["resume", newest, *self.armed, *rest]
            return (
                ["calibrate", self.procedure, "--run", newest, *rest]
                if newest and "--run" in said
                else self.words(bench)
            )
        if not newest:
            return self.words(bench)
        return ["resume", newest, *self.armed, *rest] if self.unfinished(bench, known) else []

    def newest(self, bench: Path, known: set[str], status: tuple[str, ...] = ()) -> str:
        """Return the id of the newest run of this work's protocol, empty where there is none. ``status``: of these alone."""
        runs = [run for run in list_runs(bench / "data" / "runs") if run.id not in known]
        found = [
            run.id
            for run in runs
            if run.record["name"] == self.protocol and (run.record["status"] in status or not status)
        ]
        return found[-1] if self.protocol and found else ""

    def unfinished(self, bench: Path, known: set[str]) -> str:
        return self.newest(bench, known, ("running", "stopped", "failed"))

    def prepare(self, bench: Path) -> None:
        """Make the bench's folder, and do what comes before this work."""
        if self.die == WHOLE:
            _prepare_whole(bench, trained=self.name == "deployment")
        else:
            _prepare_small(bench, reset=self.name == "set")


WORKS = {
    work.name: work
    for work in (
        Work("set", protocol="set", given={"cells": CHOSEN}, most=1, once=True),
        Work("reset", protocol="reset", given={"cells": CHOSEN}, most=1, once=True),
        Work("write-verify", protocol="write-verify", given={"cells": PROGRAMMED, "budget": str(BUDGET)}, most=BUDGET),
        # A ramp from 3 to 3.75 V in steps of 50 mV.
        Work(
            "calibration", protocol="electroform-ramp", given={"cells": CORNER}, procedure="forming", most=16, ramp=True
        ),
        Work("deployment", WHOLE, most=1, once=True),
        Work("training", WHOLE),
    )
}


def _prepare_small(bench: Path, reset: bool) -> None:
    SmallBench(bench).write()
    (bench / "protocols").mkdir()
    for name, rows in _BLOCK_ROWS.items():
        text = (shipped().path / "protocols" / f"{name}.yaml").read_text(encoding="utf-8")
        changed = text.replace("limits:\n", f"block_rows: {rows}\nlimits:\n", 1)
        assert changed != text
        (bench / "protocols" / f"{name}.yaml").write_text(changed, encoding="utf-8")
    with rramlab.open_bench(bench) as session:
        session.run(forming_plan(f"one-of-pair(seed=3) & {CHOSEN}", block_rows=28), arm=SMALL)
        if reset:
            session.run("reset", {"cells": CHOSEN}, arm=SMALL)


def _prepare_whole(bench: Path, trained: bool) -> None:
    from rramlab.training import load_dataset, load_recipe
    from rramlab.training.deploying import checkpoints
    from rramlab.training.experiment import Experiment

    bench.mkdir(parents=True)
    shutil.copy(shipped().path / "bench.yaml", bench / "bench.yaml")
    with rramlab.open_bench(bench) as session:
        session.run("electroform", arm=WHOLE)
        if not trained:
            return
        data = load_dataset("digits")
        recipe = load_recipe("digits").changed({"epochs": 1})
        folder = checkpoints(session.description.data) / TRAINING
        Experiment.begin(folder, recipe, session.macros, data).train(data, resume=False)
