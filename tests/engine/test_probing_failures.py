"""Sweeps whose path, unit or record fails: nothing false is kept, nothing is found out in the middle of a plan."""

import numpy as np
import pytest
from probes import put_on_the_table
from workbench import SmallBench, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import DataError, InstrumentError, OutOfLimits, Refused
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ExpectStep, SweepStep, Window


@pytest.mark.parametrize("kind", ["read", "set"])
def test_a_curve_of_a_path_that_was_opened_is_not_kept(tmp_path, kind):
    with SmallBench(tmp_path).write().open() as session:
        units, _ = put_on_the_table(session, "smu")
        controller, unit = session.bench.controllers["small-1"], units["smu"]
        session.run(plain_plan(pulse_step("cell (3, 7)")), arm="small-1")
        sweep = unit.sweep

        def cut(program, tick=None):
            found = sweep(program, tick)
            controller.route(None, 0)  # as the dead man's switch does, or a loss of power
            return found

        unit.sweep = cut
        step = SweepStep(cell="(3, 7)", purpose=kind, voltage=0.2 if kind == "read" else 1.0, points=5)
        with pytest.raises(InstrumentError, match="opened the path of cell"):
            session.run(plain_plan(step), arm="small-1")
        counted = ledger_of(session).pulse_counts()[3, 7]
        assert counted == 1 + (kind == "set")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"points": 1300, "both_ways": True}, "number of levels"),
        ({"dwell": 1e-9}, "dwell"),
        ({"compliance": 1e-15}, "compliance"),
    ],
)
def test_what_the_units_file_forbids_is_refused_before_the_first_pulse(tmp_path, change, words):
    bench = SmallBench(tmp_path).write()
    path = bench.folder / "bench.yaml"
    smu = "smus:\n  - {name: smu, driver: keysight-b2900, address: simulated}\n"
    path.write_text(path.read_text() + smu)
    with bench.open() as session:
        plan = plain_plan(pulse_step("row 0"), SweepStep(cell="(3, 7)", voltage=0.2, **change))
        with pytest.raises(Refused, match=words):
            session.run(plan, arm="small-1")
        assert not hidden(session).pulses.any()


def test_a_cell_whose_curve_was_lost_is_not_judged_by_what_it_was_before(tmp_path):
    with SmallBench(tmp_path).write().open() as session:
        put_on_the_table(session, "smu")
        window = Window(formed_fraction=(0.0, 0.0))
        sweep = SweepStep(cell="(3, 7)", purpose="electroform", voltage=3.9, points=5, dwell=1e-3)
        session.macro.read()
        plan = plain_plan(sweep, ExpectStep(cells="cell (3, 7)", window=window))
        keep = "rramlab.engine.performing.Performer._keep"
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(keep, lambda *_: (_ for _ in ()).throw(OSError("the disk is gone")))
            with pytest.raises(DataError, match="disk"):
                session.run(plan, arm="small-1")
        from rramlab.runs.store import list_runs

        run = next(run for run in list_runs(session.runs) if run.record["status"] == "failed")
        with pytest.raises(OutOfLimits, match="not read since"):
            session.resume(run.id, arm="small-1")
        assert hidden(session).pulses[3, 7] == 1


def test_an_empty_plan_of_probes_needs_no_unit(tmp_path):
    with SmallBench(tmp_path).write().open() as session:
        assert session.run(Plan(name="nothing", steps=())).sweeps == []
        assert np.count_nonzero(hidden(session).pulses) == 0
