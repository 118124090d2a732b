"""What a run has measured stays as it was measured, however often it is resumed."""

import numpy as np
import pytest
from workbench import SmallBench, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import DataError, InstrumentError
from rramlab.engine.results import Flawed
from rramlab.plan.plan import Plan
from rramlab.plan.programming import encode_array
from rramlab.plan.steps import (
    ContactStep,
    ExpectStep,
    GateStep,
    MultiplyStep,
    ProgramStep,
    ReadStep,
    RepeatStep,
    Window,
)
from rramlab.runs.store import find_run

DIE = "small-1"
SET = {"voltage": 2.0, "width": 1e-6, "gate": 1.6}
RESET = {"voltage": 2.0, "width": 1e-6, "gate": 3.0}
LADDER = {"start": 0.8, "to": 2.4, "step": 0.05, "width": 1e-6}


@pytest.fixture
def session(tmp_path):
    with SmallBench(tmp_path).write().open() as opened:
        opened.run(plain_plan(pulse_step("rows 0-3"), ReadStep(), name="form"), arm=DIE)
        yield opened


def broken_off(session, plan, pulses):
    """Run a plan whose link is lost at a pulse; return the run."""
    controller = session.bench.controllers[DIE]
    pulse, left = controller.pulse, [pulses]

    def failing(*arguments, **more):
        left[0] -= 1
        if left[0] < 0:
            raise InstrumentError("the link is gone")
        return pulse(*arguments, **more)

    controller.pulse = failing
    with pytest.raises(InstrumentError):
        session.run(plan, arm=DIE)
    controller.pulse = pulse
    return find_run(session.runs, "last")


def program(**changes):
    ladders = {"set": {**LADDER, "gate": 1.6}, "reset": {**LADDER, "gate": 3.0}}
    return ProgramStep(**{"cells": "rows 0-3", "target": 12e-6, "tolerance": 1e-6, "budget": 6, **ladders, **changes})


def test_a_resume_keeps_the_contact_map_that_was_measured_and_tests_once(session):
    loop = RepeatStep(
        times=4, steps=(ContactStep(), pulse_step("row 0", "reset", **RESET), pulse_step("row 0", "set", **SET))
    )
    run = broken_off(session, Plan(name="cycle", steps=(loop,)), 5)
    before = {block.position: block.path.read_bytes() for block in run.blocks("contact")}
    assert len(before) == 3
    controller = session.bench.controllers[DIE]
    read, whole = controller.read, []
    controller.read = lambda cells, *more: (whole.append(cells.count), read(cells, *more))[1]
    session.resume(run.id, arm=DIE)
    after = {block.position: block.path.read_bytes() for block in run.blocks("contact")}
    assert {position: after[position] for position in before} == before
    assert len(after) == 4
    assert whole == [512, 512]  # once for this attempt, and the fourth round's own


def test_a_resume_keeps_the_summaries_of_products(session):
    gate = GateStep(rows="rows 0-3", columns="all")
    plan = plain_plan(
        gate, MultiplyStep(inputs="ones", batch=2), pulse_step("row 0", "reset", **RESET), name="products"
    )
    run = broken_off(session, plan, 0)
    (before,) = run.record["products"]
    result = session.resume(run.id, arm=DIE)
    assert result.products == run.record["products"] == [before]


def test_a_region_without_data_means_all_its_cells_after_a_program_that_left_some_alone(session):
    targets = np.full((32, 16), np.nan)
    targets[0] = 12e-6
    step = program(cells="all - pristine", target=encode_array(targets))
    everything = plain_plan(step, ReadStep(cells="all - pristine"), ReadStep(name="whole"), name="program")
    run = find_run(session.runs, session.run(everything, arm=DIE).run_id)
    assert [int(block.load()["valid"].sum()) for block in run.blocks("read")] == [64]
    assert sum(int(block.load()["valid"].sum()) for block in run.blocks("whole")) == 512
    assert not (ledger_of(session).pulse_counts()[1:4] > 1).any()


def test_judging_everything_after_some_were_programmed_judges_everything(session):
    targets = np.full((32, 16), np.nan)
    targets[0] = 12e-6
    step = program(cells="rows 0-3", target=encode_array(targets))
    wide = ExpectStep(cells="rows 0-3", window=Window(formed_fraction=(0.0, 1.0)))
    result = session.run(plain_plan(step, ReadStep(cells="rows 0-3"), wide, name="program"), arm=DIE)
    assert result.checks[-1]["cells"] == 64


@pytest.mark.parametrize("damage", ["deleted", "damaged"])
@pytest.mark.parametrize("row", [0, 2])
def test_a_verification_that_is_lost_stops_the_resume_whichever_cells_it_was_of(session, damage, row):
    plan = Plan(name="program", steps=(ContactStep(), program()), block_rows=1)
    run = broken_off(session, plan, 9)
    first = next(block for block in run.blocks("program") if block.attributes["rows"][0] == row)
    if damage == "deleted":
        first.path.with_suffix(".json").unlink()
    else:
        first.path.write_bytes(first.path.read_bytes()[:-1] + b"?")
    before = hidden(session).pulses.copy()
    with pytest.raises(DataError, match=r"lost|damaged"):
        session.resume(run.id, arm=DIE)
    assert np.array_equal(hidden(session).pulses, before)


def test_bystanders_whose_read_is_lost_are_not_called_undisturbed(session):
    plan = plain_plan(
        pulse_step("rows 8-9", bystanders=32),
        pulse_step("rows 6-7", "reset", **RESET),
        pulse_step("row 1", "reset", **RESET),
    )
    run = broken_off(session, plan, 2)
    assert run.record["bystanders"] == 1
    for dataset in ("bystanders-before",):
        (block,) = run.blocks(dataset)
        block.path.with_suffix(".json").unlink()
    with pytest.raises(Flawed, match=r"bystanders-before.*is lost") as caught:
        session.resume(run.id, arm=DIE)
    result = caught.value.result
    assert result.bystanders == 0
    assert [each["dataset"] for each in result.lost] == ["bystanders-before"]
    assert not result.passed
    assert run.record["complete"]


def test_products_that_are_lost_are_not_made_up_by_those_of_cells_that_were_pulsed_since(session):
    plan = plain_plan(
        pulse_step("rows 8-9"),
        GateStep(rows="rows 8-9"),
        MultiplyStep(name="before"),
        pulse_step("row 8", "reset", **RESET),
        pulse_step("row 1", "reset", **RESET),
    )
    run = broken_off(session, plan, 2)
    (block,) = run.blocks("before")
    block.path.with_suffix(".json").unlink()
    with pytest.raises(Flawed, match="'before' is lost"):
        session.resume(run.id, arm=DIE)
    assert not list(run.blocks("before"))
