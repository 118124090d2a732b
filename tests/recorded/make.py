"""Make ``tests/recorded/0.1.0`` anew, with the code of version 0.1.0: ``python tests/recorded/make.py``.

The code is taken from this repository's history (the commit below), so the command does the same in any later checkout. Each
folder of ``0.1.0`` is a bench as that version left it, killed processes included; the ``.json`` beside it is what the same
version says of it, what each unfinished run of it ends in, and what a repeat of each finished one gives. What was made is
committed and not made again: a later version is held to these files.

Paths are relative to the bench and names of machine and user are replaced, so that nothing of where it was made is kept.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COMMIT = "13b825a55a519cd8210fc1e5f338454976b5608c"
TARGET = HERE / "0.1.0"
DIE = "small-1"
SMU = "smus:\n  - {name: unit, driver: keysight-b2900, address: simulated}\n"
FORM = {"voltage": 3.75, "width": 1e-6, "gate": 1.6}
RESET = {"voltage": 2.0, "width": 1e-6, "gate": 3.0}
SET = {"voltage": 2.0, "width": 1e-6, "gate": 1.6}
WINDOW = {"formed_fraction": (0.9, 1.0), "median": (8e-6, 18e-6)}


def main() -> None:
    """Make all of it in a temporary folder, then put it in the place of what was there. Names given: those alone."""
    wanted = sys.argv[1:] or list(CASES)
    with tempfile.TemporaryDirectory() as folder:
        code, work = Path(folder) / "code", Path(folder) / "work"
        archive = subprocess.run(
            ["git", "archive", COMMIT], cwd=HERE.parents[1], check=True, capture_output=True
        ).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            packed.extractall(code, filter="data")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, (code, code / "tests", HERE))),
            "OMP_NUM_THREADS": "1",
            "LOGNAME": "technician",
        }

        def call(*words: str, killed: bool = False) -> None:
            done = subprocess.run(
                [sys.executable, str(HERE / "make.py"), *words], cwd=work, env=environment, check=False
            )
            expected = -signal.SIGKILL if killed else 0
            if done.returncode != expected:
                raise SystemExit(f"{' '.join(words)}: ended with {done.returncode}, expected {expected}")

        work.mkdir()
        TARGET.mkdir(exist_ok=True)
        if "expansions" in wanted or not sys.argv[1:]:
            call("--expand")
            shutil.copy(work / "expansions.json", TARGET)
        for name in [each for each in wanted if each != "expansions"]:
            (work / name).mkdir()
            for number, (_, killed) in enumerate(CASES[name]):
                call("--make", name, str(number), killed=killed)
            _tidy(work / name)
            call("--look", name)
            shutil.rmtree(TARGET / name, ignore_errors=True)
            shutil.copytree(work / name, TARGET / name)
            shutil.copy(work / f"{name}.json", TARGET / f"{name}.json")


def _tidy(folder: Path) -> None:
    """Leave what git keeps: no empty folder, and no index that SQLite makes anew. What a run says of its place is replaced."""
    for path in folder.glob("data/runs/*/provenance*.json"):
        path.write_text(path.read_text(encoding="utf-8").replace(str(folder.resolve()), "/lab"), encoding="utf-8")
    for path in [*folder.rglob("*.db-shm")]:
        path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


# What follows is executed in processes of its own, with the code of the commit --------------------------------------


def make(name: str, number: int) -> None:
    """Execute one part of a case in its folder. Paths that are written down are relative to it."""
    import platform
    import socket

    from rramlab.base import folders

    os.chdir(name)
    sys.argv = ["rramlab"]
    socket.gethostname = lambda: "bench-pc"
    platform.platform = lambda *_: "Linux"
    elsewhere = folders.shipped()
    folders.places = lambda root: [folders.Located(Path(), "bench"), elsewhere]
    CASES[name][number][0]()


def small(die: str = DIE, options: str = "", unit: bool = True, **more: Any) -> None:
    """Make the small bench, with a source-measure unit."""
    from workbench import SmallBench

    SmallBench(Path(), dies={die: options}, **more).write()
    if unit:
        path = Path("bench.yaml")
        path.write_text(path.read_text().replace("dies:\n", f"{SMU}dies:\n"))


def protocols(name: str) -> Path:
    """Return a shipped protocol; it lies in the bench's own folder while it is asked for."""
    from rramlab.base.folders import shipped

    Path("protocols").mkdir(exist_ok=True)
    return Path(shutil.copy(shipped().path / "protocols" / f"{name}.yaml", "protocols"))


def run(
    name: str, block_rows: int | None = None, arm: str | None = None, die: str | None = None, **parameters: Any
) -> str:
    """Run a shipped protocol in a session of its own."""
    import rramlab

    path = protocols(name)
    with rramlab.open_bench(Path(), die) as session:
        plan = session.plan(str(path), {key.replace("_", "-"): value for key, value in parameters.items()})
        if block_rows:
            plan = plan.model_copy(update={"block_rows": block_rows})
        try:
            return session.run(plan, arm=arm, die=die).run_id
        finally:
            shutil.rmtree("protocols")


def execute(plan: Any, arm: str = DIE, listen: Any = None, **more: Any) -> None:
    """Execute a plan in a session of its own; that it fails is part of the record."""
    import rramlab
    from rramlab.base.errors import RramlabError

    with rramlab.open_bench(Path()) as session:
        try:
            session.run(plan, arm=arm, **({"listen": listen} if listen else {}), **more)
        except RramlabError as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")


def formed(cells: str = "one-of-pair(seed=3)", block_rows: int = 64) -> None:
    run("electroform", block_rows=block_rows, arm=DIE, cells=cells)


def killed_in(owner: Any, name: str, number: int, first: bool = True) -> None:
    """Kill this process in the call ``number`` of a method, before it does anything (``first``) or when it is done."""
    original, seen = getattr(owner, name), []

    def killing(*arguments: Any, **more: Any) -> Any:
        seen.append(1)
        if len(seen) < number:
            return original(*arguments, **more)
        if not first:
            original(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    setattr(owner, name, killing)


def killed_at_row(number: int) -> None:
    """Kill this process when the board has pulsed so many rows, each of which is in the die's file."""
    from rramlab.sim.controller import SimulatedController

    original, seen = SimulatedController.pulse, []

    def pulse(self: Any, *arguments: Any, **more: Any) -> Any:
        def pace(nanoseconds: int) -> bool:
            self.persist()
            seen.append(1)
            if len(seen) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return True

        self.pace = pace
        return original(self, *arguments, **more)

    SimulatedController.pulse = pulse


def plan(*steps: Any, block_rows: int = 64, name: str = "plain") -> Any:
    from rramlab.plan.plan import Plan
    from rramlab.plan.steps import ContactStep

    return Plan(name=name, steps=(ContactStep(), *steps), block_rows=block_rows)


def pulses(kind: str, cells: str, bystanders: int = 0, **more: Any) -> Any:
    from rramlab.plan.steps import PulseStep

    return PulseStep(
        kind=kind,
        cells=cells,
        bystanders=bystanders,
        **{**{"electroform": FORM, "set": SET, "reset": RESET}[kind], **more},
    )


def forming(block_rows: int = 2, cells: str = "one-of-pair(seed=3)", bystanders: int = 8) -> Any:
    """Contact, electroforming with a pilot block, a read and a check: many operations."""
    from rramlab.plan.steps import ExpectStep, Pilot, ReadStep, Window

    step = pulses("electroform", cells, bystanders, pilot=Pilot(rows=4, recheck_rows=8, **WINDOW))
    return plan(step, ReadStep(), ExpectStep(cells=cells, window=Window(**WINDOW)), block_rows=block_rows, name="form")


def program(cells: str = "rows 0-3 - pristine", budget: int = 12) -> Any:
    from rramlab.plan.programming import AmplitudeLadder, ProgramStep
    from rramlab.plan.steps import ReadStep

    return (
        ProgramStep(
            cells=cells, target=11e-6, tolerance=1.5e-6, budget=budget, repeats=2,
            set=AmplitudeLadder(start=1.0, to=2.2, step=0.1, width=1e-6, gate=1.8),
            reset=AmplitudeLadder(start=1.0, to=2.2, step=0.1, width=1e-6, gate=3.0),
        ),
        ReadStep(cells=cells, name="after"),
    )  # fmt: skip


def loops(cells: str = "rows 0-7") -> Any:
    """A ``for_each`` with a loop in it, and a ``repeat`` that ends by what is read."""
    from rramlab.plan.steps import ExpectStep, ForEachStep, ReadStep, RepeatStep, Round, Until, WaitStep, Window

    used = f"{cells} - pristine"

    def body(volts: float) -> tuple[Any, ...]:
        return (
            pulses("reset", used, voltage=volts),
            ReadStep(cells=used, name="after-reset"),
            pulses("set", used, bystanders=8),
            WaitStep(time=10.0),
            ReadStep(cells=used, name="after-set", repeats=2),
        )

    return (
        ForEachStep(
            name="voltage",
            rounds=tuple(
                Round(value=volts, unit="V", steps=(RepeatStep(times=2, steps=body(volts)),)) for volts in (1.8, 2.0)
            ),
        ),
        RepeatStep(
            times=4,
            until=Until(cells=used, window=Window(formed_fraction=(0.0, 0.02))),
            steps=(
                pulses("reset", f"{used} & conducting", voltage=1.3),
                ReadStep(cells=used, name="falling"),
                ExpectStep(cells=used, window=Window(formed_fraction=(0.0, 1.0)), on_failure="continue"),
            ),
        ),
    )


def finished() -> None:
    """One run of every kind, one after the other, on one die."""
    import numpy as np

    import rramlab
    from rramlab.macro.gates import GatePattern
    from rramlab.macro.pulses import Pulse
    from rramlab.plan.steps import (
        ExpectStep,
        GateStep,
        MultiplyStep,
        ReadStep,
        ReferenceStep,
        RouteStep,
        Window,
        encode_pattern,
    )

    small()
    run("contact")
    formed(block_rows=8)
    run("read-array", repeats=3)
    run("reset", arm=DIE, cells="rows 0-7")
    run("set", arm=DIE, cells="rows 0-7")
    run("prune", arm=DIE, cells="rows 8-9")
    run("endurance", arm=DIE, cells="rows 0-1", rounds=2, cycles=3)
    run("retention", cells="rows 16-19", wait="1 h", reads=3, repeats=2)
    run("relaxation", arm=DIE, cells="rows 12-13", repeats=2)
    run("read-noise", cells="rows 4-5", reads=6)
    run("multiply-ones", rows="rows 0-7", batch=4)
    run("write-verify", block_rows=2, arm=DIE, cells="rows 20-23", budget=12, step="100 mV")
    run("sweep", cell="(20, 1)", points=21)
    run("sweep", arm=DIE, cell="(20, 1)", kind="reset", voltage="1.5 V", points=16, both_ways=True)
    run("sweep", arm=DIE, cell="(20, 1)", kind="set", voltage="1.8 V", points=16)
    run(
        "electroform-ramp",
        arm=DIE,
        cells="rows 28-31 & cols 0-15 & pristine",
        **{"from": "3.3 V", "to": "3.6 V", "step": "100 mV"},
    )
    run("route", cell="(16, 2)", count=3)
    random = np.random.default_rng(7)
    pattern = GatePattern(random.random((3, 32)) < 0.5, np.repeat(random.integers(-1, 3, 8).astype(np.int16), 2))
    execute(
        plan(
            GateStep(slot=0, rows="rows 0-11", columns="cols 0-7"),
            GateStep(slot=1, pattern=encode_pattern(pattern)),
            MultiplyStep(slot=0, inputs="staircase", batch=6, bits=4, name="stairs"),
            MultiplyStep(slot=1, inputs="random", seed=5, batch=5, bits=3, name="random"),
            RouteStep(reference=0, voltage=0.2, count=2, compliance=1e-3, name="resistor"),
            RouteStep(dac=0, voltage=0.5, count=2, name="channel"),
            ReferenceStep(resistor="open", voltage=0.0, repeats=2, name="zero"),
            ReferenceStep(resistor=0, range="multiply", voltage=0.1, repeats=2, name="level"),
            ReadStep(cells="rows 24-27 & cols 2-9", isolated=True, repeats=2, name="alone"),
            ReadStep(cells="cells (3, 7), (9, 5), (17, 0)", name="three"),
            ExpectStep(
                cells="rows 24-27", window=Window(median=(20e-6, 30e-6), hint="It never is."), on_failure="continue"
            ),
            block_rows=8,
            name="harmless",
        )
    )
    with rramlab.open_bench(Path()) as session:
        session.arm(DIE)
        macro = session.macro
        macro.contact()
        macro.read("rows 24-25", repeats=2)
        macro.pulse("reset", "rows 24-25 - pristine", Pulse(2.0, 1e-6, 3.0))
        macro.read("rows 24-25")
        macro.pulse("set", "row 24 - pristine", Pulse(2.0, 1e-6, 1.6))
    execute(plan(*loops("rows 4-7"), block_rows=2, name="loops"))
    execute(
        plan(
            pulses("reset", "rows 26-27 - pristine"),
            ReadStep(cells="rows 26-27"),
            ExpectStep(cells="rows 26-27", window=Window(formed_fraction=(0.9, 1.0), hint="Look at the die.")),
            pulses("set", "rows 26-27 - pristine"),
            name="fails",
        )
    )


def interrupted_at(number: int) -> Callable[[Any], None]:
    """Return a listener that sends Ctrl-C when it is told of operation ``number``."""
    seen: list[int] = []

    def listen(progress: Any) -> None:
        seen.append(1)
        if len(seen) == number:
            os.kill(os.getpid(), signal.SIGINT)

    return listen


def stopped() -> None:
    small(unit=False)
    execute(forming(), listen=interrupted_at(12))


def killed_before() -> None:
    """The intent is committed, and the frame is never handed over."""
    from rramlab.sim.controller import SimulatedController

    small(unit=False)
    killed_in(SimulatedController, "pulse", 4)
    execute(forming())


def killed_after() -> None:
    """The die has had its pulses, and the outcome is not written."""
    from rramlab.runs.ledger import Ledger

    small(unit=False)
    killed_in(Ledger, "finish", 4)
    execute(forming())


def killed_half() -> None:
    """In the second of four rows of an operation."""
    small(unit=False)
    killed_at_row(4 + 4 + 2)
    execute(forming(block_rows=4))


def switched_off() -> None:
    """The board has forgotten what it did."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.sim.backend import open_simulated

    description = describe_bench(Path())
    open_simulated(description.file, description.board, description.data).controllers[DIE].power_cycle()


def begin_formed() -> None:
    small()
    formed()


def killed_in_verify() -> None:
    from rramlab.runs.ledger import Ledger

    killed_in(Ledger, "finish", 6)
    execute(plan(*program(), block_rows=2, name="verify"))


def killed_between_verifications() -> None:
    """After a pulse was entered, before the next read of it."""
    from rramlab.sim.controller import SimulatedController

    killed_in(SimulatedController, "read", 9)
    execute(plan(*program("rows 0-7 - pristine"), block_rows=4, name="verify"))


def killed_in_loop() -> None:
    killed_at_row(4 * 8 + 8 + 3)
    execute(plan(*loops(), block_rows=4, name="loops"))


def killed_in_until() -> None:
    """In the loop that ends by what is read, a round of which is judged already."""
    from rramlab.runs.ledger import Ledger

    killed_in(Ledger, "finish", 18)
    execute(plan(*loops(), block_rows=4, name="loops"))


def regions() -> Any:
    """Steps whose cells depend on what the die is."""
    from rramlab.plan.steps import Pilot, ReadStep

    return plan(
        ReadStep(cells="all", name="first"),
        pulses("reset", "rows 0-7 & conducting", bystanders=8),
        ReadStep(cells="rows 0-7 & conducting", name="of-conducting"),
        pulses("electroform", "rows 8-15 & pristine", pilot=Pilot(rows=4, recheck_rows=8, **WINDOW)),
        ReadStep(cells="rows 8-15 & pristine", name="of-pristine"),
        pulses("set", "(rows 0-15 - pristine) - conducting"),
        ReadStep(cells="(rows 0-15 - pristine) - conducting", name="last"),
        block_rows=2,
        name="regions",
    )


def killed_frozen() -> None:
    killed_at_row(8 + 3)
    execute(regions())


def killed_in_sweep() -> None:
    """The unit has swept, and its curve went with the process."""
    from rramlab.plan.steps import ReadStep, SweepStep
    from rramlab.runs.ledger import Ledger

    killed_in(Ledger, "finish", 1)
    steps = (
        SweepStep(cell="(0, 1)", purpose="reset", voltage=1.5, points=11, name="down"),
        ReadStep(cells="row 0"),
        SweepStep(cell="(0, 1)", purpose="set", voltage=1.8, points=11, name="up"),
    )
    execute(plan(*steps, name="sweeps"))


def killed_by_block() -> None:
    """The ledger knows the pulses of an operation, and the block that was read after it was not written."""
    from rramlab.runs.store import Run

    small(unit=False)
    killed_in(Run, "append", 9)
    execute(forming())


def killed_interactive() -> None:
    import rramlab
    from rramlab.macro.pulses import Pulse
    from rramlab.sim.controller import SimulatedController

    with rramlab.open_bench(Path()) as session:
        session.arm(DIE)
        session.macro.contact()
        session.macro.read("rows 0-3")
        killed_in(SimulatedController, "pulse", 1, first=False)
        session.macro.pulse("reset", "rows 0-3 - pristine", Pulse(2.0, 1e-6, 3.0))


def killed_again() -> None:
    """Gone on with, and killed once more."""
    import rramlab
    from rramlab.runs.store import list_runs

    killed_at_row(9)
    with rramlab.open_bench(Path()) as session:
        session.resume(list_runs(session.runs)[0].id, arm=DIE)


def command(*words: str) -> Any:
    """Give a command of the version that is recorded, in this process."""
    from typer.testing import CliRunner

    from rramlab.cli.app import app

    sys.argv = ["rramlab", *words]
    result = CliRunner().invoke(app, [*words, "--json"])
    if result.exit_code:
        raise SystemExit(f"{' '.join(words)}: {result.output} {result.stderr}")
    return json.loads(result.stdout)


def bank() -> None:
    """Four dies of one bench, made with seeds of their own; three are worked on, one was stored for a year."""
    small("first", unit=False)
    command("sim", "new", "bank", "--count", "3", "--seed", "11", "--enter", "--set", "noise.read=0.01")
    for die in ("first", "bank-01", "bank-02"):
        run("electroform", arm=die, die=die, cells="one-of-pair(seed=3)")
    run("reset", arm="bank-01", die="bank-01", cells="rows 0-3")
    command("sim", "age", "bank-02", "--for", "1 y", "--at", "85")
    run("read-array", die="bank-02")


def bank_killed() -> None:
    import rramlab

    killed_at_row(3)
    with rramlab.open_bench(Path(), "bank-03") as session:
        session.run(forming(block_rows=4), arm="bank-03", die="bank-03")


def shipped_bench() -> None:
    command("init", ".")


def calibrated() -> None:
    """Records of board and die as the procedures write them, on a harsh board."""
    import numpy as np

    from rramlab.calibration.procedures import analyse, chosen, measure, spread
    from rramlab.drivers.bench import describe_bench
    from rramlab.engine.session import Session
    from rramlab.macro.cells import is_conducting
    from rramlab.macro.regions import Region
    from rramlab.runs.store import find_run

    small(board_options="{preset: harsh}", rows=32, columns=32, figures={"columns_per_adc": "8"})
    run("electroform", arm=DIE, cells="one-of-pair(seed=1) & rows 0-27", lowest="3 uS")
    run("read-array", repeats=4)
    description = describe_bench(Path())
    given: dict[str, dict[str, Any]] = {
        "dac": {},
        "adc": {"step": "20 mV"},
        "noise": {"cells": "rows 0-3 & conducting", "reads": 16},
        "linearity": {"rows": "rows 0-7", "repeats": 16, "steps": 8, "times": 4},
        "lines": {"columns": 8, "repeats": 2},
        "smu": {"count": 2, "repeats": 64, "isolated": "yes"},
        "forming": {"cells": "rows 28-31", "step": "100 mV"},
    }
    with Session(description) as session:
        few = spread(is_conducting(np.nan_to_num(session.stations[DIE].conductance_S)), 10)
    given["smu"]["cells"] = Region.of(few).text
    for name, parameters in given.items():
        procedure = chosen(name, description.board.capabilities)
        protocols(procedure.protocol)
        arm = DIE if procedure.destructive else None
        result = measure(description, procedure, parameters, arm)
        analyse(description, procedure, find_run(description.data / "runs", result.run_id))
    shutil.rmtree("protocols")


def calibration_killed() -> None:
    """A procedure is killed half-way: its run goes on, and is analysed then."""
    from rramlab.calibration.procedures import chosen, measure
    from rramlab.drivers.bench import describe_bench
    from rramlab.runs.store import Run

    description = describe_bench(Path())
    procedure = chosen("dac", description.board.capabilities)
    protocols(procedure.protocol)
    killed_in(Run, "append", 7)
    measure(description, procedure, {}, None)


RECIPE = """\
name: tiny
description: a small perceptron on scikit-learn's digits
dataset: digits
network: tiny-mlp
forming: one-of-pair
kept: 0.5
activation_bits: 4
read_noise: 0.02
epochs: 3
batch: 60
learning_rate: 0.5
threads: 1
"""


def learn(*words: str) -> Any:
    from contents import register_network

    register_network()
    return command(*words)


def trained() -> None:
    """A training that is done, deployed by gates and by reset."""
    small(rows=64, columns=32, unit=False, figures={"columns_per_adc": "4"})
    Path("tiny.yaml").write_text(RECIPE)
    run("electroform", arm=DIE, cells="one-of-pair(seed=7)")
    learn("train", "tiny.yaml", "--name", "done")
    learn("deploy", "done", "--name", "by-gates")
    learn("deploy", "done", "--name", "by-reset", "--method", "reset", "--arm", DIE)


def training() -> None:
    """Formed, and a training that is done, to be deployed."""
    small(rows=64, columns=32, unit=False, figures={"columns_per_adc": "4"})
    Path("tiny.yaml").write_text(RECIPE)
    run("electroform", arm=DIE, cells="one-of-pair(seed=7)")
    learn("train", "tiny.yaml", "--name", "done")


def training_killed() -> None:
    """Killed at the end of its second epoch."""
    from rramlab.training.checkpoint import Checkpoint

    killed_in(Checkpoint, "save", 2)
    learn("train", "tiny.yaml", "--name", "half", "--seed", "4")


def deployment_killed() -> None:
    killed_at_row(30)
    learn("deploy", "done", "--name", "by-reset", "--method", "reset", "--arm", DIE)


# Name of a folder -> what makes it, part by part, each in a process of its own; and whether that process is killed.
CASES: dict[str, list[tuple[Callable[[], None], bool]]] = {
    "init": [(shipped_bench, False)],
    "finished": [(finished, False)],
    "stopped": [(stopped, False)],
    "killed-before": [(killed_before, True)],
    "killed-after": [(killed_after, True)],
    "killed-half": [(killed_half, True)],
    "killed-forgotten": [(killed_half, True), (switched_off, False)],
    "killed-twice": [(killed_before, True), (killed_again, True)],
    "killed-by-block": [(killed_by_block, True)],
    "killed-in-verify": [(begin_formed, False), (killed_in_verify, True)],
    "killed-between-verifications": [(begin_formed, False), (killed_between_verifications, True)],
    "killed-in-loop": [(begin_formed, False), (killed_in_loop, True)],
    "killed-in-until": [(begin_formed, False), (killed_in_until, True)],
    "killed-frozen": [(begin_formed, False), (killed_frozen, True)],
    "killed-in-sweep": [(begin_formed, False), (killed_in_sweep, True)],
    "killed-interactive": [(begin_formed, False), (killed_interactive, True)],
    "bank": [(bank, False), (bank_killed, True)],
    "calibrated": [(calibrated, False), (calibration_killed, True)],
    "trained": [(trained, False)],
    "training": [(training, False), (training_killed, True), (deployment_killed, True)],
}


def steps() -> dict[str, tuple[list[Any], int]]:
    """Return every kind of step, in plans without loops, and the rows of a block: those of the first are sent before."""
    import numpy as np

    from rramlab.macro.gates import GatePattern
    from rramlab.plan.programming import encode_array
    from rramlab.plan.steps import (
        ExpectStep,
        GateStep,
        MultiplyStep,
        Pilot,
        ReadStep,
        ReferenceStep,
        RouteStep,
        SweepStep,
        WaitStep,
        Window,
        encode_pattern,
    )

    pattern = GatePattern(
        np.arange(96).reshape(3, 32) % 5 > 1, np.repeat(np.array([0, 1, 2, 0, -1, 1, 2, 2], np.int16), 2)
    )
    target = np.full((32, 16), np.nan, np.float32)
    target[3:9, 2:5] = 11e-6
    pilot = Pilot(rows=4, recheck_rows=8, **WINDOW)
    pairs = "one-of-pair(seed=3)"
    every = [
        *(SweepStep(cell="(9, 4)", purpose=kind, voltage=volts, points=11, both_ways=kind == "set", name=kind)
          for kind, volts in (("read", 0.2), ("electroform", 3.5), ("set", 1.8), ("reset", 1.5))),
        SweepStep(cell="(0, 0)", voltage=0.1, dwell=2e-3, compliance=1e-5, gate=2.5, smu="unit"),
    ]  # fmt: skip
    return {
        "contact": ([], 64),
        "read": ([ReadStep()], 64),
        "read-in-blocks": ([ReadStep(cells="all", repeats=3, name="mine")], 8),
        "read-of-a-region": ([ReadStep(cells="rows 3-9 & cols 0-5 | cell (30, 1)")], 4),
        "read-of-nothing": ([ReadStep(cells="rows 0-3 - rows 0-5")], 4),
        "read-isolated": ([ReadStep(cells="cols 0-3", isolated=True)], 16),
        "reference": (
            [
                ReferenceStep(resistor="open", voltage=0.0),
                ReferenceStep(resistor=0, repeats=4, name="first"),
                ReferenceStep(resistor=1, range="multiply", voltage=0.05),
            ],
            64,
        ),
        "gate-and-multiply": (
            [
                GateStep(rows="rows 0-11", columns="cols 4-11"),
                MultiplyStep(batch=3),
                GateStep(slot=3, pattern=encode_pattern(pattern)),
                MultiplyStep(slot=3, inputs="staircase", batch=5, bits=4, name="stairs"),
                MultiplyStep(inputs="random", seed=9, batch=2, bits=8),
            ],
            4,
        ),
        "sweep": (every, 64),
        "route": (
            [
                RouteStep(cell="(5, 6)"),
                RouteStep(cell="(5, 6)", voltage=0.0, hold=1.0, gate=2.0, smu="unit"),
                RouteStep(reference=1, voltage=0.2, count=3, compliance=1e-3),
                RouteStep(dac=0, voltage=0.5),
            ],
            64,
        ),
        "wait": ([WaitStep(time=3600.0)], 64),
        "expect": (
            [
                ReadStep(),
                ExpectStep(cells="rows 0-7", window=Window(**WINDOW)),
                ExpectStep(window=Window(formed_fraction=(0, 0.1)), on_failure="continue"),
            ],
            8,
        ),
        "program": ([*program("rows 2-9 & cols 0-7")], 4),
        "program-of-an-array": ([program("all")[0].model_copy(update={"target": encode_array(target)})], 4),
        "electroform": ([pulses("electroform", pairs)], 64),
        "electroform-in-blocks": ([pulses("electroform", pairs)], 4),
        "electroform-with-bystanders": ([pulses("electroform", pairs, 32)], 8),
        "electroform-all-with-bystanders": ([pulses("electroform", "rows 4-19", 6)], 8),
        "electroform-few-at-once": ([pulses("electroform", pairs, cells_per_pulse=3)], 64),
        "electroform-with-a-pilot": ([pulses("electroform", pairs, pilot=pilot)], 64),
        "electroform-with-a-pilot-in-blocks": ([pulses("electroform", pairs, pilot=pilot)], 2),
        "electroform-with-a-pilot-and-bystanders": (
            [pulses("electroform", pairs, 8, pilot=pilot, cells_per_pulse=2)],
            4,
        ),
        "electroform-of-scattered-rows": ([pulses("electroform", "rows 1, 5-6, 17, 30 & cols 2-9", 4, pilot=pilot)], 4),
        "electroform-of-pristine": ([pulses("electroform", "pristine", 32, pilot=pilot)], 16),
        "reset": ([pulses("reset", "rows 0-7 - pristine", 32)], 4),
        "reset-of-conducting": ([pulses("reset", "conducting", 16)], 8),
        "set": ([pulses("set", "checkerboard", 32)], 16),
        "set-of-one-cell": ([pulses("set", "cell (3, 7)", 32)], 64),
    }


def executions() -> dict[str, Any]:
    """Return plans whose operations depend on what is read, or stand in loops: they are executed."""
    electroform = forming(block_rows=8).steps[1]
    few = electroform.model_copy(update={"cells": "one-of-pair(seed=3) & rows 0-7"})

    return {
        "form": forming(block_rows=4),
        "verify": plan(electroform, *program(), block_rows=2),
        "loops": plan(electroform, *loops("rows 0-3"), block_rows=4),
        "regions": plan(few, *regions().steps[1:], block_rows=2),
    }


def expand() -> None:
    """Write down how each kind of step becomes operations."""
    import contents
    from workbench import SmallBench

    bench = SmallBench(Path("expansions")).write()
    found: dict[str, Any] = {"fingerprint": contents.fingerprint(), "expanded": {}, "executed": {}}
    for name, (chosen, block_rows) in steps().items():
        whole = plan(*chosen, block_rows=block_rows, name=name)
        found["expanded"][name] = {
            "plan": json.loads(whole.model_dump_json(exclude_none=True)),
            "operations": contents.expanded(whole, bench),
        }
    for name, whole in executions().items():
        own = SmallBench(Path(f"expansion-{name}")).write()
        found["executed"][name] = {
            "plan": json.loads(whole.model_dump_json(exclude_none=True)),
            **contents.executed(whole, own),
        }
    write(Path("expansions.json"), found)


def write(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def look(name: str) -> None:
    """Write down what this version says of a case, and what it makes of copies of it."""
    import contents

    if name == "training" or name == "trained":
        contents.register_network()
    folder = Path(name)
    found: dict[str, Any] = {
        "fingerprint": contents.fingerprint(),
        **contents.everything(folder, Path(f"{name}-scratch")),
    }
    write(Path(f"{name}.json"), found)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--make", name, number]:
            make(name, int(number))
        case ["--expand"]:
            expand()
        case ["--look", name]:
            look(name)
        case _:
            main()
