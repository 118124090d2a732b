"""Benches to damage: one that was closed, one whose process was killed, one on which a network was trained and deployed."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from campaign.processes import Child
from workbench import SmallBench, forming_plan, plain_plan, pulse_step

import rramlab
from rramlab.base.folders import shipped
from rramlab.base.host import STATE
from rramlab.macro.pulses import Pulse
from rramlab.plan.steps import ExpectStep, ReadStep, RepeatStep, Until, Window
from rramlab.runs.store import list_runs

SMALL, WHOLE, BOARD = "small-1", "sim-0001", "SIM-0009"
TRAINING, ADAPTED, DEPLOYMENT = "trained", "trained-adapted", "deployed"
FORMED = "one-of-pair(seed=3) & rows 0-15"
_SILENCE_S = 120.0
_LIFE = 80  # pulses, so that the ledger has pages that its log does not repeat
_SMU = "smus: [{name: smu, driver: keysight-b2900, address: simulated}]\n"


@dataclass(frozen=True)
class Scene:
    """A prepared bench. ``folder``: with ``bench/`` and ``state/``, the user's state folder."""

    name: str
    folder: Path

    @property
    def bench(self) -> Path:
        return self.folder / "bench"

    @property
    def die(self) -> str:
        return WHOLE if self.name == "learning" else SMALL

    @property
    def runs(self) -> Path:
        return self.bench / "data" / "runs"

    def ids(self) -> list[str]:
        return [run.id for run in list_runs(self.runs)]


def lay(name: str, kept: Path, folder: Path) -> Scene:
    """Put a scene into ``folder``, where it is prepared if it is not in ``kept``: files may name the place."""
    shutil.rmtree(folder, ignore_errors=True)
    os.environ[STATE] = str(folder / "state")
    if not kept.exists():
        (folder / "state").mkdir(parents=True)
        PREPARE[name](folder / "bench")
        unfinished = kept.with_name(f"{kept.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(folder, unfinished)
        unfinished.rename(kept)
    else:
        shutil.copytree(kept, folder)
    return Scene(name, folder)


def _written(bench: Path) -> None:
    SmallBench(bench, board_options="{preset: harsh}").write()
    with (bench / "bench.yaml").open("a", encoding="utf-8") as file:
        file.write(_SMU)


def closed(bench: Path) -> None:
    """Calibrate, form, reset, loop, sweep and multiply; then close."""
    from rramlab.calibration.procedures import analyse, chosen, measure
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.store import find_run

    _written(bench)
    description = describe_bench(bench)

    def calibrate(name: str, arm: str | None = None, **given: object) -> None:
        procedure = chosen(name, description.board.capabilities)
        result = measure(description, procedure, given, arm)
        analyse(description, procedure, find_run(description.data / "runs", result.run_id))

    calibrate("dac")
    calibrate("adc", step="20 mV")
    with rramlab.open_bench(bench) as session:
        session.run(_forming(block_rows=4), arm=SMALL)
        session.run("prune", {"cells": "rows 8-11"}, arm=SMALL)
        session.run(_loop())
        session.run("sweep", {"cell": "cell (0, 1)", "points": "21"})
        session.run("multiply-ones", {"rows": "rows 0-7", "batch": "4"})
        session.macro.read("row 3")
    calibrate("forming", arm=SMALL, cells="rows 28-31")
    with rramlab.open_bench(bench) as session:
        session.run("write-verify", {"cells": "row 1", "budget": "12"}, arm=SMALL)
    calibrate("noise", reads="20", cells=FORMED)
    _policy(bench, "require")


def _policy(bench: Path, policy: str) -> None:
    path = bench / "bench.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("calibration_policy: none", f"calibration_policy: {policy}"), encoding="utf-8")


def _forming(block_rows: int):
    """Without a window on the median: lines and converters are harsh."""
    plan = forming_plan(FORMED, block_rows, read=False)
    contact, forming = plan.steps
    pilot = forming.pilot.model_copy(update={"formed_fraction": (0.5, 1.0), "median": (1e-6, 40e-6)})
    return plan.model_copy(update={"steps": (contact, forming.model_copy(update={"pilot": pilot}), ReadStep())})


def _loop():
    """Rounds that end by a judgement, and an expectation."""
    window = Window(formed_fraction=(0.0, 1.0))
    until = Until(cells="rows 0-3", window=Window(formed_fraction=(0.99, 1.0)))
    repeat = RepeatStep(times=3, steps=(ReadStep(cells="rows 0-7"),), until=until)
    return plain_plan(repeat, ExpectStep(cells="rows 0-7", window=window), name="loop")


def killed(bench: Path) -> None:
    """A life that is in the ledger's file; then two runs in its log, of which one is killed in the middle of a pulse."""
    _written(bench)
    with rramlab.open_bench(bench) as session:
        session.run(_forming(block_rows=4), arm=SMALL)
        session.arm(SMALL)
        for number in range(_LIFE):
            session.macro.pulse("reset", f"row {12 + number % 4}", Pulse(1.5, 1e-6, 3.0))
    child = Child(_until_killed, str(bench))
    while child.next(_SILENCE_S) is not None:
        pass
    child.kill()
    assert (bench / "data" / "dies" / SMALL / "ledger.db-wal").stat().st_size > 0


def _until_killed(tell, bench):
    with rramlab.open_bench(bench) as session:
        session.run("prune", {"cells": "rows 8-11"}, arm=SMALL)
        (controller,) = session.bench.controllers.values()
        pulse, seen = controller.pulse, []

        def pulsed(*arguments, **more):
            seen.append(1)
            if len(seen) == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return pulse(*arguments, **more)

        controller.pulse = pulsed
        session.run(second_plan(), arm=SMALL)
    tell.send("not killed")


def second_plan():
    """Reset cells, a row at a time: the run that is killed, and resumed."""
    step = pulse_step(f"{FORMED} & rows 0-7", "reset", voltage=2.0, gate=3.0)
    return plain_plan(step, ReadStep(), block_rows=1, name="second")


def learning(bench: Path) -> None:
    """A network trained, adapted and deployed on a whole die."""
    from rramlab.training import load_dataset, load_recipe
    from rramlab.training.deploying import checkpoints, put_on_chip
    from rramlab.training.experiment import Experiment

    bench.mkdir(parents=True)
    shutil.copy(shipped().path / "bench.yaml", bench / "bench.yaml")
    data, recipe = load_dataset("digits"), load_recipe("digits").changed({"epochs": 1})
    with rramlab.open_bench(bench) as session:
        session.run("electroform", arm=WHOLE)
        folder = checkpoints(session.description.data)
        trained = Experiment.begin(folder / TRAINING, recipe, session.macros, data)
        trained.train(data, resume=False)
        adapted = Experiment.begin(folder / ADAPTED, recipe, session.macros, data, trained)
        adapted.train(data, resume=False)
        put_on_chip(session, trained, (), DEPLOYMENT)
    shutil.rmtree(bench / "data" / "runs")  # large, and looked at in another scene


PREPARE: dict[str, Callable[[Path], None]] = {"closed": closed, "killed": killed, "learning": learning}
