"""A run whose steps become other operations than when it began goes on right, or is refused by name; never in silence.

Another version, or a file that was changed, makes running numbers mean other operations.
"""

from dataclasses import replace

import numpy as np
import pytest
from probes import put_on_the_table
from workbench import SmallBench, copy_bench, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import InstrumentError, OutOfLimits, Refused
from rramlab.engine import runner
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.macro.routes import RoutedReference
from rramlab.plan.operations import (
    Expect,
    Multiply,
    PulseOp,
    Read,
    ReferenceRead,
    Route,
    Sweep,
    Unchanged,
    Wait,
    pulse_of,
)
from rramlab.plan.programming import WriteVerify
from rramlab.plan.steps import (
    ExpectStep,
    ForEachStep,
    GateStep,
    MultiplyStep,
    Pilot,
    ProgramStep,
    ReadStep,
    ReferenceStep,
    RepeatStep,
    Round,
    RouteStep,
    SweepStep,
    WaitStep,
    Window,
)
from rramlab.runs.ledger import LedgerView
from rramlab.runs.store import find_run

DIE = "small-1"
SET = {"voltage": 2.0, "width": 1e-6, "gate": 1.6}
RESET = {"voltage": 2.0, "width": 1e-6, "gate": 3.0}
LADDER = {"start": 0.8, "to": 2.4, "step": 0.05, "width": 1e-6}
FORMED = {"formed_fraction": (0.5, 1.0), "median": (6e-6, 18e-6)}


def reset(cells="rows 0-7", **changes):
    return pulse_step(cells, "reset", **{**RESET, **changes})


def program(**changes):
    ladders = {"set": {**LADDER, "gate": 1.6}, "reset": {**LADDER, "gate": 3.0}}
    return ProgramStep(**{"cells": "rows 0-3", "target": 12e-6, "tolerance": 0.4e-6, "budget": 5, **ladders, **changes})


# Each kind of step that pulses, with something after it that would hide what was left out. Rows 0-3 are formed.
PLANS = {
    "electroform": (pulse_step("rows 8-15", pilot=Pilot(rows=2, recheck_rows=2, **FORMED)), ReadStep()),
    "electroform beside others": (pulse_step("rows 8-15 & cols 0-3", bystanders=8, pilot=Pilot(rows=2, **FORMED)),),
    "reset": (reset("rows 0-7 & cols 0-5", bystanders=8), ReadStep(cells="rows 0-7")),
    "set": (pulse_step("rows 0-3", "set", **SET), ReadStep(cells="rows 0-3"), pulse_step("rows 0-1", "set", **SET)),
    "of what conducts": (ReadStep(), reset("conducting", bystanders=8), ReadStep(name="after"), reset("rows 4-7")),
    "repeat": (
        RepeatStep(times=3, steps=(reset("rows 0-3", bystanders=8), pulse_step("rows 0-3", "set", **SET), ReadStep())),
    ),
    "for_each": (
        ForEachStep(
            name="v",
            rounds=tuple(Round(value=v, steps=(reset("rows 0-3", voltage=v), ReadStep())) for v in (1.0, 1.5, 2.0)),
        ),
    ),
    "sweep": (
        SweepStep(cell="(1, 1)", purpose="reset", voltage=1.5, points=5, dwell=1e-5),
        SweepStep(cell="(2, 1)", purpose="reset", voltage=1.5, points=5, dwell=1e-5, name="second"),
        reset("rows 4-7"),
    ),
    "program": (program(), ReadStep(cells="rows 0-3")),
    "program in a loop": (RepeatStep(times=2, steps=(program(budget=2), reset("rows 0-3"))),),
}


def look(op):
    return Read(op.cells, 1, "look")


def one_read_more(found):
    """The trial: a read of bystanders more, and every pulse has the number of another."""
    return [each for op in found for each in ((look(op), op) if pulse_of(op) else (op,))]


def a_read_more_at_the_end(found):
    return [*found, look(found[-1])] if found and pulse_of(found[-1]) else found


def by_rows(found):
    if not all(isinstance(op, (PulseOp, Read)) for op in found):
        return found
    return [replace(op, cells=part) for op in found for _, _, part in op.cells.blocks(1)]


def joined(found):
    """Pulses that follow one another as one."""
    made = []
    for op in found:
        last = made[-1] if made else None
        if isinstance(op, PulseOp) and isinstance(last, PulseOp) and (last.kind, last.pulse) == (op.kind, op.pulse):
            made[-1] = replace(last, cells=last.cells | op.cells)
        else:
            made.append(op)
    return made


def backwards(found):
    return found[::-1]


def without_what_is_compared(found):
    return [op for op in found if not isinstance(op, Unchanged) and getattr(op, "dataset", "").find("bystander") < 0]


def only_pulses(found):
    return [op for op in found if pulse_of(op)] or found


def other_bystanders(found):
    return [
        replace(op, cells=op.cells.within(0, int(op.cells.rows[-1])))
        if isinstance(op, Read) and op.dataset.startswith("bystanders") and op.cells.rows.size > 1
        else op
        for op in found
    ]


def of_pulses(make):
    def change(found):
        return [make(op) if isinstance(op, PulseOp) else op for op in found]

    return change


stronger = of_pulses(lambda op: replace(op, pulse=replace(op.pulse, amplitude_V=op.pulse.amplitude_V + 0.1)))
# Each pulse means the cells of the next row.
other_cells = of_pulses(lambda op: replace(op, cells=CellSelection(np.roll(op.cells.bits, 1, axis=0))))


CHANGES = (
    one_read_more, a_read_more_at_the_end, by_rows, joined, backwards, without_what_is_compared, only_pulses,
    other_bystanders, stronger, other_cells,
)  # fmt: skip


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """A bench whose rows 0-3 are formed; nobody changes it."""
    bench = SmallBench(tmp_path_factory.mktemp("formed") / "bench", rows=16, columns=8).write()
    with bench.open() as session:
        session.run(plain_plan(pulse_step("rows 0-3"), ReadStep(), name="form"), arm=DIE)
    return bench.folder


@pytest.fixture
def bench(formed, tmp_path):
    """Makes copies of it."""

    def made(name="bench"):
        copy_bench(formed, tmp_path / name)
        return SmallBench(tmp_path / name)

    return made


def broken_off(session, plan, pulses, delivered):
    """Run a plan whose link is lost at a pulse, counted with sweeps; return the run."""
    controller = session.bench.controllers[DIE]
    left, originals = [pulses], (controller.pulse, controller.route)

    def failing(original, counts):
        def call(*arguments, **more):
            if counts(arguments):
                left[0] -= 1
                if left[0] < 0:
                    if delivered and original is originals[0]:
                        original(*arguments, **more)
                    raise InstrumentError("the link is gone")
            return original(*arguments, **more)

        return call

    controller.pulse = failing(originals[0], lambda arguments: True)
    controller.route = failing(originals[1], lambda arguments: arguments[0] is not None and arguments[2:] != (0,))
    with pytest.raises(InstrumentError):
        session.run(plan, arm=DIE)
    controller.pulse, controller.route = originals
    return find_run(session.runs, "last")


def changed(monkeypatch, change):
    """Let every step expand otherwise from now on."""
    operations, pulses = runner.operations, WriteVerify.pulses
    monkeypatch.setattr(runner, "operations", lambda *given: iter(change(list(operations(*given)))))
    monkeypatch.setattr(WriteVerify, "pulses", lambda self, rows: change(pulses(self, rows)))


def resumed(session, run, patch, change):
    """Resume a run whose steps have become something else; return the result, and whether that was refused at first."""
    given = hidden(session).pulses.copy()
    changed(patch, change)
    try:
        return session.resume(run.id, arm=DIE), False
    except Refused as error:
        said = str(error)
    assert run.id in said
    assert "Nothing was pulsed" in said
    assert np.array_equal(hidden(session).pulses, given)
    assert run.record["status"] == "refused"
    patch.undo()
    return session.resume(run.id, arm=DIE), True  # with the version that began it


@pytest.mark.parametrize("moment", [(1, False), (2, True)])
@pytest.mark.parametrize("name", PLANS)
def test_no_cell_is_pulsed_twice_and_none_is_left_out(bench, monkeypatch, name, moment):
    plan = plain_plan(*PLANS[name], block_rows=2, name="mine")
    with bench("whole").open() as session:
        put_on_the_table(session)
        before = hidden(session).pulses.sum()
        session.run(plan, arm=DIE)
        expected = hidden(session).pulses.copy()
    assert expected.sum() > before
    refusals = 0
    for number, change in enumerate(CHANGES):
        with bench(f"changed-{number}").open() as session, monkeypatch.context() as patch:
            put_on_the_table(session)
            run = broken_off(session, plan, *moment)
            result, refused = resumed(session, run, patch, change)
            refusals += refused
            pulses = hidden(session).pulses
            assert np.array_equal(ledger_of(session).pulse_counts(), pulses), number
            if name.startswith("program"):  # as many as write-verify asked for after each of its reads, and no more
                others = before + (2 * 4 * 8 if "loop" in name else 0)
                assert pulses.sum() - others == sum(each["pulses"] for each in result.programs), number
            elif change is other_cells:  # where nothing of a step was done yet it means what it means now
                assert np.all(pulses <= expected.max())
            else:
                assert np.array_equal(pulses, expected), number
    assert refusals


STOPS = pulse_step("rows 0-1", "set", **SET), pulse_step("rows 2-3", "set", **SET)  # broken off at the second
LOOSE = Window(formed_fraction=(0.0, 1.0))


@pytest.mark.parametrize(
    ("step", "kind", "change"),
    [
        (ReadStep(cells="rows 0-1"), Read, {"repeats": 2}),
        (ReadStep(cells="rows 0-1"), Read, {"isolated": True}),
        (ReadStep(cells="rows 0-1"), Read, {"dataset": "other"}),
        (ReadStep(cells="rows 0-1", isolated=True), Read, {"isolated": False}),
        (ReferenceStep(resistor=0, repeats=2), ReferenceRead, {"voltage_V": 0.1}),
        (ReferenceStep(resistor=0, repeats=2), ReferenceRead, {"resistor": None}),
        (ReferenceStep(resistor=0, repeats=2), ReferenceRead, {"range": "multiply"}),
        (MultiplyStep(batch=3, bits=2), Multiply, {"bits": 3}),
        (MultiplyStep(batch=3, bits=2), Multiply, {"x": np.zeros((2, 16), np.uint8)}),
        (SweepStep(cell="(1, 1)", voltage=0.2, points=5, dwell=1e-5), Sweep, {"peak_V": 0.1}),
        (SweepStep(cell="(1, 1)", voltage=0.2, points=5, dwell=1e-5), Sweep, {"gate_V": 2.0}),
        (SweepStep(cell="(1, 1)", purpose="reset", voltage=1.5, points=5, dwell=1e-5), Sweep, {"peak_V": 1.4}),
        (SweepStep(cell="(1, 1)", purpose="reset", voltage=1.5, points=5, dwell=1e-5), Sweep, {"dwell_s": 1e-4}),
        (RouteStep(cell="(1, 1)"), Route, {"compliance_A": 1e-5}),
        (RouteStep(reference=0), Route, {"target": RoutedReference(1)}),
        (WaitStep(time=1.0), Wait, {"time_s": 2.0}),
        (
            ExpectStep(cells="rows 0-1", window=LOOSE, on_failure="continue"),
            Expect,
            {"window": Window(median=(0.0, 1.0))},
        ),
        (ExpectStep(cells="rows 0-1", window=LOOSE, on_failure="continue"), Expect, {"cells": "rows 0-3"}),
    ],
)
def test_what_was_measured_or_judged_by_another_operation_is_not_taken_for_this_one(
    bench, monkeypatch, step, kind, change
):
    if isinstance(change.get("cells"), str):
        change = {"cells": Region(change["cells"]).bound(Geometry(16, 8))}
    plan = plain_plan(GateStep(rows="rows 0-15"), ReadStep(name="first"), step, *STOPS)
    with bench().open() as session:
        put_on_the_table(session)
        run = broken_off(session, plan, 1 + (getattr(step, "purpose", "read") == "reset"), False)
        given = hidden(session).pulses.copy()
        with monkeypatch.context() as patch:
            changed(patch, lambda found: [_mark(op, kind, change) for op in found])
            with pytest.raises(Refused, match=rf"at 003\.00000 of the plan of run {run.id}"):
                session.resume(run.id, arm=DIE)
        assert np.array_equal(hidden(session).pulses, given)
        session.resume(run.id, arm=DIE)
        assert run.record["status"] == "done"


def _mark(op, kind, change):
    return replace(op, **change) if isinstance(op, kind) and getattr(op, "dataset", "") != "first" else op


@pytest.mark.parametrize("name", ["reset", "sweep", "program", "repeat"])
def test_a_ledger_that_does_not_know_what_the_run_has_done_is_refused(bench, monkeypatch, name):
    """What was read after a pulse says that it was sent, whatever an older copy of the ledger says."""
    plan = plain_plan(*PLANS[name], ExpectStep(window=Window(median=(1.0, 2.0))), block_rows=2)
    with bench().open() as session:
        put_on_the_table(session)
        with pytest.raises(OutOfLimits):
            session.run(plan, arm=DIE)
        run = find_run(session.runs, "last")
        given = hidden(session).pulses.copy()
        monkeypatch.setattr(LedgerView, "of_run", lambda self, run, position=None: iter(()))
        with pytest.raises(Refused, match=run.id):
            session.resume(run.id, arm=DIE)
        assert np.array_equal(hidden(session).pulses, given)


def test_the_refusal_says_what_stands_where_and_what_to_do(bench, monkeypatch):
    with bench().open() as session:
        run = broken_off(session, plain_plan(*STOPS), 1, False)
        changed(monkeypatch, stronger)
        with pytest.raises(Refused) as caught:
            session.resume(run.id, arm=DIE)
    for words in (
        "set of 16 cells in rows 0-1 at 2.1 V, 1 us, gate 1.6 V stands at 001.00000",
        f"of the plan of run {run.id} now, where the run has the set of 16 cells in rows 0-1 at 2 V, 1 us, gate 1.6 V",
        "(operation 2 of the ledger)", "Nothing was pulsed", "start a new run for what is left",
    ):  # fmt: skip
        assert words in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_resume_of_what_is_unchanged_compares_and_goes_on(bench):
    """Whatever stands in a plan: nothing of it is taken for something else."""
    steps = (
        GateStep(rows="rows 0-15"), MultiplyStep(batch=2), ReadStep(repeats=2), ReadStep(isolated=True, name="alone"),
        ReferenceStep(resistor="open", voltage=0.0), ReferenceStep(resistor=1, range="multiply"), RouteStep(dac=0),
        RouteStep(cell="(1, 1)"), WaitStep(time=0.1), ExpectStep(cells="rows 0-3", window=LOOSE),
        SweepStep(cell="(1, 1)", voltage=0.2, points=5, dwell=1e-5), program(budget=2),
        *(step for name in ("electroform beside others", "reset", "repeat", "for_each", "sweep") for step in PLANS[name]),
        ExpectStep(window=Window(median=(1.0, 2.0))),
    )  # fmt: skip
    plan = plain_plan(*steps, block_rows=2)
    with bench().open() as session:
        put_on_the_table(session)
        with pytest.raises(OutOfLimits):
            session.run(plan, arm=DIE)
        run = find_run(session.runs, "last")
        given = hidden(session).pulses.copy()
        with pytest.raises(OutOfLimits):
            session.resume(run.id, arm=DIE)
        assert np.array_equal(hidden(session).pulses, given)
