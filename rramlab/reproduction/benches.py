"""A simulated bench for one number of a reproduction: virgin dies of their own on a board of its own, calibrated, formed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from rramlab.base.files import write_atomic, write_json
from rramlab.calibration.procedures import analyse, chosen, measure
from rramlab.drivers.bench import BenchDescription, describe_bench
from rramlab.engine.session import Session
from rramlab.plan.plan import Plan
from rramlab.plan.steps import WaitStep
from rramlab.runs import LEDGER
from rramlab.runs.ledger.copies import make_its_own
from rramlab.runs.store import find_run
from rramlab.training.recipes import Recipe

PUBLISHED = "published"  # the die model of the paper's memory; others by the name of their own
CALIBRATED = ("dac", "adc")  # what a board whose records are required must have
REST_S = 3600.0  # assumed: what a bench would wait for cells to settle
WINDOW = {"lowest": "2uS", "highest": "30uS"}  # medians that other memories may come to; the protocol's is the paper's


def virgin(
    folder: Path, dies: Sequence[str], memory: str = PUBLISHED, model: Mapping[str, object] | None = None
) -> BenchDescription:
    """Return the calibrated bench of ``folder`` with virgin dies; what stood there is thrown away.

    On the simulated bench a name is a die: the same names give the same dies in every folder. ``model``: figures of the dies
    that differ from the memory's.
    """
    if folder.exists():
        shutil.rmtree(folder)
    write_atomic(folder / "bench.yaml", _text(dies, memory, model or {}).encode())
    _calibrate(describe_bench(folder, dies[0]), dies[0])
    return describe_bench(folder, dies)


def formed(
    folder: Path,
    dies: Sequence[str],
    recipe: Recipe,
    memory: str = PUBLISHED,
    model: Mapping[str, object] | None = None,
) -> BenchDescription:
    """Return the bench of ``folder`` with every die formed as ``recipe`` says, one pulse a cell at most.

    Forming that was interrupted is done again, on dies that are virgin again.

    Raises:
        OutOfLimits: the dies did not form as they should.
    """
    done = folder / "formed.json"
    if not done.exists():
        description = virgin(folder, dies, memory, model)
        parameters = {**recipe.forming_parameters(), **({} if memory == PUBLISHED else WINDOW)}
        with Session(description) as session:
            pulses = {die: session.run("electroform", parameters, arm=die, die=die).pulses for die in dies}
        rest(description, memory)
        write_json(done, {"pulses": pulses})
    return describe_bench(folder, dies)


def again(formed: Path, folder: Path, dies: Sequence[str]) -> BenchDescription:
    """Return a bench in ``folder`` with everything that the one in ``formed`` has; what stood there is thrown away."""
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(formed, folder)
    description = describe_bench(folder, dies)
    for die in dies:
        make_its_own(description.data / "dies" / die / LEDGER)
    return description


def rest(description: BenchDescription, memory: str) -> None:
    """Leave dies alone after their last pulse, for ``REST_S`` of bench time, where their memory is one that drifts.

    What is read a minute after a phase-change cell was written is a tenth less when the last sample has been computed.
    """
    if memory == PUBLISHED:
        return
    with Session(description) as session:
        for die in session.stations:
            session.run(Plan(name="rest", steps=(WaitStep(time=REST_S),)), die=die)


def _text(dies: Sequence[str], memory: str, model: Mapping[str, object]) -> str:
    """Return a bench file. JSON is YAML, and says names of any kind without a doubt."""
    return json.dumps(
        {
            "name": "reproduction",
            "backend": "simulated",
            "controller": {"driver": "macro-40nm", "board": f"{dies[0]}-board"},
            "smus": [{"name": "smu", "driver": "keysight-b2900", "address": "simulated"}],
            "dies": [{"id": die, "options": {"preset": memory, **({"model": model} if model else {})}} for die in dies],
            "limits": {
                "electroform_voltage": "4.0 V",
                "set_voltage": "2.5 V",
                "reset_voltage": "2.5 V",
                "gate_voltage": "3.3 V",
            },
            "calibration_policy": "require",
        },
        indent=1,
    )


def _calibrate(description: BenchDescription, die: str) -> None:
    """Measure the board through one of its dies, and write its record."""
    for name in CALIBRATED:
        procedure = chosen(name, description.board.capabilities)
        result = measure(description, procedure, {}, arm=die)
        analyse(description, procedure, find_run(description.data / "runs", result.run_id))
