"""Exactly once, through crashes: whatever kills a run, no cell of it is pulsed twice."""

import os
import random
import signal
import time

import h5py
import numpy as np
import pytest
from workbench import SmallBench, child, forming_plan, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import Refused, RramlabError
from rramlab.macro.cells import CellSelection
from rramlab.macro.pulses import PulseReport
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep
from rramlab.runs.store import Run, list_runs

CELLS = "one-of-pair(seed=3)"


def undisturbed(tmp_path, plan):
    """What the same die is after the same plan when nothing happens to it."""
    with SmallBench(tmp_path / "undisturbed").write().open() as session:
        session.run(plan, arm="small-1")
        state = hidden(session)
        return state.conductance_S.copy(), state.pulses.copy()


def the_run(session):
    return list_runs(session.runs)[0]


def check_whole(session, expected):
    """Every selected cell exactly one pulse, the die as if nothing had happened, the run readable."""
    state = hidden(session)
    conductance, pulses = expected
    assert np.array_equal(state.pulses, pulses)
    assert np.array_equal(ledger_of(session).pulse_counts(), pulses)
    assert np.array_equal(state.conductance_S, conductance)
    assert not ledger_of(session).dangling()
    run = the_run(session)
    assert run.record["status"] == "done"
    with h5py.File(run.folder / "run.h5") as file:
        (name,) = (name for name in file if name.endswith("-read"))
        assert file[name]["valid"][()].all()
        read = file[name]["conductance"][()]
    assert np.all(np.abs(read - conductance) < 0.15 * conductance + 6 * 6.25e-9)


RUN = """
import sys
sys.path.insert(0, ".")
import rramlab
from workbench import forming_plan
with rramlab.open_bench(sys.argv[1]) as session:
    tell = lambda progress: print(progress.done, flush=True)
    if sys.argv[2] == "new":
        session.run(forming_plan(), arm="small-1", listen=tell)
    else:
        session.resume(sys.argv[2], arm="small-1", listen=tell)
"""


def kill_at(process, operations, delay):
    """SIGKILL once ``operations`` were told, a moment later; returns whether it was still at work."""
    for line in process.stdout:
        if line.strip().isdigit() and int(line) >= operations:
            break
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
@pytest.mark.parametrize(("seed", "power_cycle"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_killed_run_goes_on_where_it_was(tmp_path, seed, power_cycle):
    plan = forming_plan()
    bench = SmallBench(tmp_path / "killed").write()
    moments = random.Random(seed)
    killed = kill_at(child(RUN, bench.folder, "new"), moments.randrange(2, 40), moments.random() * 0.01)
    if power_cycle:
        with bench.open() as session:
            session.bench.controllers["small-1"].power_cycle()
    with bench.open() as session:
        run = the_run(session)
        pulses_before = hidden(session).pulses.copy()
        assert killed
        assert run.record["status"] == "running"
        with pytest.raises(Refused, match="armed"):
            session.resume(run.id)
        result = session.resume(run.id, arm="small-1")
        expected = undisturbed(tmp_path, plan)
        unknown = ledger_of(session).unknown().bits
        assert sum(item["unknown"] for item in result.reconciled) == np.count_nonzero(unknown)
        if not power_cycle or not unknown.any():
            check_whole(session, expected)
        else:
            assert hidden(session).pulses.max() == 1
            assert np.array_equal(hidden(session).pulses[~unknown], expected[1][~unknown])
            assert np.array_equal(hidden(session).pulses[unknown], pulses_before[unknown])


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_run_killed_again_and_again_ends_the_same(tmp_path):
    bench = SmallBench(tmp_path / "killed").write()
    moments = random.Random(99)
    what = "new"
    for step in (6, 17):
        kill_at(child(RUN, bench.folder, what), step, moments.random() * 0.01)
        (what,) = (run.id for run in list_runs(bench.folder / "data" / "runs"))
    with bench.open() as session:
        session.resume(what, arm="small-1")
        check_whole(session, undisturbed(tmp_path, forming_plan()))


class Crash(BaseException):
    """Stands for the process being killed: nothing but the ledger and the die's own state survives."""


def crash_in(session, number, delivered):
    """Let pulse ``number`` of the session crash before or after it reached the die."""
    controller = session.bench.controllers["small-1"]
    original, seen = controller.pulse, []

    def pulse(*arguments, **more):
        seen.append(1)
        if len(seen) == number:
            if delivered:
                original(*arguments, **more)
            raise Crash
        return original(*arguments, **more)

    controller.pulse = pulse


def crashed(bench, number, delivered, plan):
    with bench.open() as session:
        crash_in(session, number, delivered)
        with pytest.raises(Crash):
            session.run(plan, arm="small-1")
    with bench.open() as session:
        (entry,) = ledger_of(session).dangling()
        # what is intended counts as spent until it is decided
        assert np.all(ledger_of(session).pulse_counts()[entry.cells.bits] == 1)
        return entry


@pytest.mark.parametrize("delivered", [True, False])
@pytest.mark.parametrize("number", [1, 2, 17, 29])
def test_a_dangling_pulse_is_decided_by_the_controllers_history(tmp_path, number, delivered):
    plan = forming_plan()
    bench = SmallBench(tmp_path / "crashed").write()
    entry = crashed(bench, number, delivered, plan)
    with bench.open() as session:
        result = session.resume(the_run(session).id, arm="small-1")
        (decided,) = result.reconciled
        assert decided["operation"] == entry.op_id
        assert decided["pulsed"] == (entry.cells.count if delivered else 0)
        assert decided["unknown"] == 0
        check_whole(session, undisturbed(tmp_path, plan))


def test_a_later_run_settles_what_an_earlier_one_left(tmp_path):
    plan = forming_plan()
    bench = SmallBench(tmp_path / "crashed").write()
    crashed(bench, 5, True, plan)
    with bench.open() as session:
        result = session.run("read-array")
        assert len(result.reconciled) == 1
        assert not ledger_of(session).dangling()
        session.resume(the_run(session).id, arm="small-1")
        check_whole(session, undisturbed(tmp_path, plan))


@pytest.mark.parametrize(("voltage", "window"), [(3.75, (0.9, 1.0)), (3.45, (0.3, 0.8))])
@pytest.mark.parametrize("delivered", [True, False])
def test_after_a_power_cycle_what_cannot_be_proven_is_unknown_and_not_pulsed_again(
    tmp_path, voltage, window, delivered
):
    """A cell that was pristine and conducts has had its pulse; one that does not conduct proves nothing."""
    plan = forming_plan(voltage=voltage, read=False)
    forming = plan.steps[1]
    wider = forming.pilot.model_copy(update={"formed_fraction": window, "recheck_rows": 99})
    wide = forming.model_copy(update={"pilot": wider})
    plan = plan.model_copy(update={"steps": (plan.steps[0], wide), "block_rows": 4})
    bench = SmallBench(tmp_path / "crashed", rows=64).write()
    entry = crashed(bench, 3, delivered, plan)
    with bench.open() as session:
        session.bench.controllers["small-1"].power_cycle()
    with bench.open() as session:
        conducts = hidden(session).conductance_S >= 2e-6
        result = session.resume(the_run(session).id, arm="small-1")
        (decided,) = result.reconciled
        proven = entry.cells.bits & conducts
        unknown = ledger_of(session).unknown()
        assert decided["pulsed"] == np.count_nonzero(proven)
        assert np.array_equal(unknown.bits, entry.cells.bits & ~conducts)
        assert decided["unknown"] == unknown.count
        if voltage == 3.45 or not delivered:
            assert unknown.count
        if delivered and voltage == 3.45:
            assert np.count_nonzero(proven)
        pulses = hidden(session).pulses
        assert pulses.max() == 1
        assert np.all(pulses[unknown.bits] == (1 if delivered else 0))
        selected = ledger_of(session).pulse_counts() > 0
        assert np.all(selected[:, 0::2] ^ selected[:, 1::2])  # every selected cell accounted for, once
        assert np.all(pulses[selected & ~unknown.bits] == 1)
        # and the region word finds them
        assert session.macro.read("unknown")[unknown.bits].size == unknown.count
        again = session.macro.read("unknown")
        assert np.array_equal(~np.isnan(again), unknown.bits)


def test_a_cell_pulsed_before_proves_nothing_by_conducting(tmp_path):
    """Formed before, formed again, crash, power cycle: conducting says nothing about the second pulse."""
    bench = SmallBench(tmp_path).write()
    plan = plain_plan(pulse_step("rows 0-1"), name="twice")
    with bench.open() as session:
        session.run(plan, arm="small-1")
    entry = crashed_second(bench, plan)
    with bench.open() as session:
        session.bench.controllers["small-1"].power_cycle()
    with bench.open() as session:
        run = next(run for run in list_runs(session.runs) if run.record["status"] != "done")
        (decided,) = session.resume(run.id, arm="small-1").reconciled
        assert decided["pulsed"] == 0
        assert decided["unknown"] == entry.cells.count
        assert hidden(session).pulses.max() == 1


def crashed_second(bench, plan):
    with bench.open() as session:
        crash_in(session, 1, False)
        with pytest.raises(Crash):
            session.run(plan, arm="small-1")
        (entry,) = ledger_of(session).dangling()
        return entry


def test_a_partly_delivered_pulse_is_completed_and_no_more(tmp_path):
    """The controller stopped after half of its rows and says so: the rest, and only the rest, is pulsed on resume."""
    plan = forming_plan(block_rows=8)
    bench = SmallBench(tmp_path / "half").write()
    with bench.open() as session:
        controller = session.bench.controllers["small-1"]
        original = controller.pulse

        def half(op_id, kind, cells, *rest):
            if cells.rows[0] >= 4:
                cells = CellSelection(cells.bits & (np.arange(32)[:, None] < cells.rows[0] + 2))
                original(op_id, kind, cells, *rest)
                return PulseReport(cells, truncated=True)
            return original(op_id, kind, cells, *rest)

        controller.pulse = half
        with pytest.raises(RramlabError, match="not pulsed"):
            session.run(plan, arm="small-1")
        assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)
        del controller.pulse
        session.resume(the_run(session).id)
        check_whole(session, undisturbed(tmp_path, plan))


def test_a_resumed_run_means_the_cells_it_meant_at_first(tmp_path):
    """``conducting`` is resolved once: a cell that the first attempt reset still belongs to the region on resume."""
    bench = SmallBench(tmp_path).write()
    with bench.open() as session:
        session.run(forming_plan(block_rows=32), arm="small-1")
        conducting = hidden(session).conductance_S >= 2e-6
    plan = plain_plan(pulse_step("conducting", "reset", voltage=2.0), block_rows=2, name="reset")
    with bench.open() as session:
        crash_in(session, 6, True)
        with pytest.raises(Crash):
            session.run(plan, arm="small-1")
    with bench.open() as session:
        session.run("read-array")  # now fewer cells conduct than the run meant
        run = next(run for run in list_runs(session.runs) if run.record["name"] == "reset")
        session.resume(run.id, arm="small-1")
        assert np.array_equal(ledger_of(session).pulse_counts("reset"), conducting)
        assert np.array_equal(hidden(session).pulses, conducting * 1 + ledger_of(session).pulse_counts("electroform"))


def test_resume_reads_the_plan_it_was_started_with_never_the_protocol(tmp_path):
    bench = SmallBench(tmp_path / "bench").write()
    protocol = bench.folder / "protocols" / "mine.yaml"
    protocol.parent.mkdir()
    text = (
        "name: mine\ndescription: some\nblock_rows: 1\nsteps:\n  - contact\n"
        "  - set: {cells: rows 0-7, voltage: 2 V, width: 1 us, gate: 1.6 V}\n"
    )
    protocol.write_text(text)
    with bench.open() as session:
        crash_in(session, 3, True)
        with pytest.raises(Crash):
            session.run("mine", arm="small-1")
    protocol.write_text(text.replace("rows 0-7", "rows 0-31"))
    with bench.open() as session:
        session.resume(the_run(session).id, arm="small-1")
        assert hidden(session).pulses.sum() == 8 * 16
        assert hidden(session).pulses.max() == 1
        protocol.unlink()


def test_reads_that_were_kept_are_not_taken_again(tmp_path):
    """A resumed run reuses its whole blocks; only what is missing is read."""
    bench = SmallBench(tmp_path).write()
    plan = Plan(name="r", steps=(ReadStep(),), block_rows=4)
    with bench.open() as session:
        controller = session.bench.controllers["small-1"]
        original, seen = controller.read, []

        def read(*arguments, **more):
            if len(seen) == 5:
                raise Crash
            seen.append(1)
            return original(*arguments, **more)

        controller.read = read
        with pytest.raises(Crash):
            session.run(plan)
        del controller.read
        before = hidden(session).conversions
        blocks = {block.position: block.load() for block in the_run(session).blocks()}
        assert len(blocks) == 5
        session.resume(the_run(session).id)
        assert hidden(session).conversions - before == 3 * 4 * 16
        for block in Run(the_run(session).folder).blocks():
            if block.position in blocks:
                assert np.array_equal(block.load()["codes"], blocks[block.position]["codes"])
        assert len(list(the_run(session).blocks())) == 8
