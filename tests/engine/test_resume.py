"""Exactly once, through crashes: whatever kills a run, no cell of it is pulsed twice."""

import os
import random
import signal
import time

import h5py
import numpy as np
import pytest
from workbench import SmallBench, child, forming_plan, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import DataError, InstrumentError, Refused, RramlabError
from rramlab.macro.cells import CellSelection
from rramlab.macro.pulses import Pulse, PulseReport
from rramlab.macro.regions import Region
from rramlab.plan.limits import Limits
from rramlab.plan.plan import Plan
from rramlab.plan.steps import Pilot, ReadStep
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
    with bench.open() as session:
        session.run(plain_plan(pulse_step("rows 0-1"), name="once"), arm="small-1")
    entry = crashed_second(
        bench, plain_plan(ReadStep(cells="rows 0-1"), pulse_step("rows 0-1", again=True), name="twice")
    )
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
        session.resume(the_run(session).id, arm="small-1")
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
        "  - reset: {cells: rows 0-7, voltage: 2 V, width: 1 us, gate: 1.6 V}\n"
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


class PowerLost(InstrumentError):
    """What the host sees when the board's supply fails in the middle of a pulse."""


def lose_power_in(session, number, rows):
    """In pulse ``number`` the board delivers the first ``rows`` rows, then its supply drops and comes back."""
    controller = session.bench.controllers["small-1"]
    original, seen = controller.pulse, []

    def pulse(op_id, kind, cells, amplitude, width_ns, gate, *rest):
        seen.append(1)
        if len(seen) != number:
            return original(op_id, kind, cells, amplitude, width_ns, gate, *rest)
        table = session.description.board
        if rows:
            done = cells.within(int(cells.rows[0]), int(cells.rows[0]) + rows)
            each = Pulse(table.dac_volts(amplitude), width_ns / 1e9, table.dac_volts(gate))
            controller.die.pulse(kind, done, each)
        controller.power_cycle()
        raise PowerLost("the link is gone")

    controller.pulse = pulse


@pytest.mark.parametrize("voltage", [3.75, 3.45])
@pytest.mark.parametrize("rows", [0, 3, 8])
def test_a_power_cycle_in_the_middle_of_a_pulse_within_one_session(tmp_path, voltage, rows):
    """The session is the same, the board is not: its empty memory must not pass for 'never received'."""
    window = {"formed_fraction": (0.95, 1) if voltage == 3.75 else (0.3, 0.8), "median": (8e-6, 18e-6)}
    form = pulse_step("one-of-pair(seed=3)", voltage=voltage, pilot=Pilot(rows=8, recheck_rows=99, **window))
    plan = plain_plan(form, ReadStep(), block_rows=8, name="form")
    # No partly formed cells: read noise would decide what they count as.
    whole = {"small-1": "model: {forming: {partial_V: 0}}"}
    with SmallBench(tmp_path, dies=whole).write().open() as session:
        lose_power_in(session, 3, rows)
        session.arm("small-1")
        with pytest.raises(PowerLost):
            session.run(plan)
        (entry,) = ledger_of(session).dangling()
        before = hidden(session).pulses.copy()
        conducts = hidden(session).conductance_S >= 2e-6
        (decided,) = session.resume(the_run(session).id).reconciled
        pulses, unknown = hidden(session).pulses, ledger_of(session).unknown()
        assert pulses.max() == 1
        assert decided["pulsed"] == np.count_nonzero(entry.cells.bits & conducts)
        assert np.array_equal(unknown.bits, entry.cells.bits & ~conducts)
        assert decided["unknown"] == unknown.count
        assert np.array_equal(pulses[unknown.bits], before[unknown.bits])
        expected = Region("one-of-pair(seed=3)").bound(session.macro.geometry).bits
        assert np.array_equal(ledger_of(session).pulse_counts() == 1, expected)
        assert np.array_equal(pulses == 1, expected & ~(unknown.bits & (before == 0)))
        assert the_run(session).record["status"] == "done"


def test_after_a_power_cycle_a_plan_without_its_own_contact_test_waits_for_one(tmp_path):
    with SmallBench(tmp_path).write().open() as session:
        session.arm("small-1")
        session.macro.contact()
        lose_power_in(session, 1, 1)
        plan = Plan(name="p", steps=(pulse_step("rows 0-3"),), block_rows=2)
        with pytest.raises(PowerLost):
            session.run(plan)
        before = hidden(session).pulses.copy()
        run = next(run for run in list_runs(session.runs) if run.record["name"] == "p")
        with pytest.raises(Refused, match="contact"):
            session.resume(run.id)
        assert np.array_equal(hidden(session).pulses, before)
        session.macro.contact()
        session.resume(run.id)
        assert np.array_equal(hidden(session).pulses[:4, 0], [1, 0, 1, 1])


def test_a_single_pulse_decides_what_a_power_cycle_left(tmp_path):
    """Not only a run: the next single pulse, too, asks the board anew what it knows."""
    with SmallBench(tmp_path).write().open() as session:
        session.arm("small-1")
        session.macro.contact()
        lose_power_in(session, 1, 1)
        form = Pulse(3.75, 1e-6, 1.6)
        with pytest.raises(PowerLost):
            session.macro.pulse("electroform", "rows 0-1", form)
        with pytest.raises(Refused, match="contact"):
            session.macro.pulse("electroform", "row 2", form)
        assert not ledger_of(session).dangling()
        assert ledger_of(session).unknown() == CellSelection(np.arange(32)[:, None] + np.zeros((1, 16)) == 1)
        session.macro.contact()
        session.macro.pulse("electroform", "row 2", form)
        assert np.array_equal(hidden(session).pulses[:4, 0], [1, 0, 1, 0])


def test_unknown_cells_are_left_out_of_expectations_and_counted(tmp_path):
    """The check after the read is of the cells whose pulse is certain; the others stand beside it."""
    with SmallBench(tmp_path).write().open() as session:
        lose_power_in(session, 3, 2)
        plan = forming_plan(block_rows=4)
        with pytest.raises(PowerLost):
            session.run(plan, arm="small-1")
        result = session.resume(the_run(session).id, arm="small-1")
        unknown = ledger_of(session).unknown().count
        assert 2 * 8 <= unknown <= 2 * 8 + 1  # two rows had their pulse, and conduct
        assert result.passed
        assert result.checks[-1]["unknown"] == unknown
        # The whole operation that power was lost in: of its cells only those that conduct are known to be pulsed.
        assert result.checks[-1]["left_out"] == 4 * 8
        assert result.checks[-1]["cells"] == 32 * 8 - 4 * 8
        assert result.checks[-1]["formed_fraction"] > 0.9


def test_half_forming_is_resumed_past_a_block_that_power_was_lost_in(tmp_path):
    """Of such a block the cells that conduct are known, the others are not: it cannot be judged, and does not stop a resume."""
    window = {"formed_fraction": (0.3, 0.75), "median": (8e-6, 18e-6)}
    step = pulse_step("all", voltage=3.45, pilot=Pilot(rows=8, recheck_rows=4, **window))
    with SmallBench(tmp_path).write().open() as session:
        lose_power_in(session, 2, 4)
        with pytest.raises(PowerLost):
            session.run(plain_plan(step, block_rows=4), arm="small-1")
        result = session.resume(the_run(session).id, arm="small-1")
        assert result.passed
        assert any("power was lost" in check["reason"] for check in result.checks)
        assert ledger_of(session).doubtful().count == 4 * 16
        assert hidden(session).pulses.max() == 1


def stopped_at(session, number, plan):
    """Run ``plan`` until its pulse ``number`` fails; return the run."""
    controller = session.bench.controllers["small-1"]
    original, seen = controller.pulse, []

    def pulse(*arguments, **more):
        seen.append(1)
        if len(seen) == number:
            raise InstrumentError("the link is gone")
        return original(*arguments, **more)

    controller.pulse = pulse
    with pytest.raises(InstrumentError):
        session.run(plan, arm="small-1")
    del controller.pulse
    return next(run for run in list_runs(session.runs) if run.record["name"] == plan.name)


@pytest.mark.parametrize("how", ["run", "interactive"])
def test_a_run_is_not_resumed_over_cells_that_another_run_pulsed(tmp_path, how):
    with SmallBench(tmp_path).write().open() as session:
        plan = plain_plan(pulse_step("rows 0-7", "reset", voltage=2.0), block_rows=1, name="mine")
        run = stopped_at(session, 4, plan)
        assert np.array_equal(hidden(session).pulses[:5, 0], [1, 1, 1, 0, 0])
        session.arm("small-1")
        if how == "run":
            session.run(plain_plan(pulse_step("rows 3-4", "reset", voltage=2.0)))
        else:
            session.macro.pulse("reset", "cell (3, 5)", Pulse(2.0, 1e-6, 1.6))
        before, known = hidden(session).pulses.copy(), len(ledger_of(session).history())
        for _ in range(2):
            with pytest.raises(Refused, match="pulsed by run") as caught:
                session.resume(run.id)
            assert caught.value.exit_code == 3
        assert np.array_equal(hidden(session).pulses, before)
        assert len(ledger_of(session).history()) == known
        assert run.record["status"] == "refused"


def test_a_run_never_gets_past_a_cell_that_another_run_pulsed(tmp_path):
    with SmallBench(tmp_path).write().open() as session:
        plan = plain_plan(pulse_step("rows 0-7", "reset", voltage=2.0), block_rows=1, name="mine")
        run = stopped_at(session, 4, plan)
        session.run(plain_plan(pulse_step("cell (5, 3)", "reset", voltage=2.0)), arm="small-1")
        for _ in range(2):
            with pytest.raises(Refused, match="pulsed by run"):
                session.resume(run.id, arm="small-1")
        # Refused before the first operation: not even the rows that nobody else touched are pulsed.
        assert not hidden(session).pulses[3:5].any()
        assert hidden(session).pulses[5].sum() == 1
        assert not hidden(session).pulses[6:].any()


def test_a_run_is_resumed_beside_cells_that_another_run_pulsed(tmp_path):
    with SmallBench(tmp_path).write().open() as session:
        plan = plain_plan(pulse_step("rows 0-7", "reset", voltage=2.0), block_rows=1, name="mine")
        run = stopped_at(session, 4, plan)
        # cells that the run has done already, and cells that are none of its own
        session.run(plain_plan(pulse_step("rows 0-2 | rows 8-9", "reset", voltage=2.0)), arm="small-1")
        session.resume(run.id, arm="small-1")
        assert np.array_equal(hidden(session).pulses[:11, 0], [2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0])


def test_a_lost_frozen_selection_is_an_error_not_a_new_choice(tmp_path):
    """Resolved anew, ``conducting`` would mean other cells than those that the run began with."""
    with SmallBench(tmp_path).write().open() as session:
        session.run(forming_plan(block_rows=32), arm="small-1")
        plan = plain_plan(pulse_step("conducting", "reset", voltage=2.0), block_rows=2, name="reset")
        run = stopped_at(session, 3, plan)
        (frozen,) = (run.folder / "selections").iterdir()
        kept = frozen.read_bytes()
        frozen.unlink()
        before = hidden(session).pulses.copy()
        with pytest.raises(DataError, match="selection"):
            session.resume(run.id, arm="small-1")
        assert np.array_equal(hidden(session).pulses, before)
        frozen.write_bytes(kept)
        session.resume(run.id, arm="small-1")
        assert np.array_equal(hidden(session).pulses, ledger_of(session).pulse_counts())
        assert ledger_of(session).pulse_counts("reset").max() == 1


def test_totals_are_of_the_run_over_all_attempts(tmp_path):
    plan = forming_plan(block_rows=4)
    with SmallBench(tmp_path / "whole").write().open() as session:
        whole = session.run(plan, arm="small-1")
    with SmallBench(tmp_path / "parts").write().open() as session:
        run = stopped_at(session, 3, plan)
        first = run.record
        assert first["status"] == "failed"
        assert first["pulses"] == 8 * 8
        assert first["conversions"] == 32 * 16 + 4 * 8  # contact test, pilot block
        controller = session.bench.controllers["small-1"]
        read, seen = controller.read, []

        def fail_late(*arguments, **more):
            seen.append(1)
            if len(seen) == 6:
                raise InstrumentError("the link is gone")
            return read(*arguments, **more)

        controller.read = fail_late
        with pytest.raises(InstrumentError):
            session.resume(run.id, arm="small-1")
        del controller.read
        second = run.record
        assert second["pulses"] > first["pulses"]
        assert second["conversions"] == sum(block.attributes["conversions"] for block in run.blocks())
        result = session.resume(run.id, arm="small-1")
        last = run.record
        assert last["pulses"] == result.pulses == whole.pulses == 32 * 8
        assert last["conversions"] == result.conversions == whole.conversions
        assert last["status"] == "done"
        assert len(list(run.folder.glob("provenance*.json"))) == 3


def test_a_resume_does_not_count_the_runs_own_pulses_twice(tmp_path):
    """One pulse a cell is the budget, and half of the run has spent its own already."""
    with SmallBench(tmp_path).write().open() as session:
        plan = forming_plan(block_rows=4).model_copy(update={"limits": Limits(pulses_per_cell=1)})
        run = stopped_at(session, 4, plan)
        session.resume(run.id, arm="small-1")
        check_whole(session, undisturbed(tmp_path, plan))


def test_a_plan_that_forms_pristine_cells_and_sets_them_is_resumed(tmp_path):
    """Resumed, the cells are pristine no more; what the plan does to them is what it was admitted for."""
    plan = plain_plan(
        pulse_step("pristine & rows 0-3"), pulse_step("rows 0-3", "set", voltage=2.0), block_rows=1, name="both"
    )
    for number in (2, 5, 6):
        with SmallBench(tmp_path / str(number)).write().open() as session:
            run = stopped_at(session, number, plan)
            session.resume(run.id, arm="small-1")
            assert np.all(hidden(session).pulses[:4] == 2)
            assert not hidden(session).pulses[4:].any()


# the memory of the board ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["before finish", "before acknowledge", "acknowledged, not saved"])
def test_the_boards_memory_never_fills_up_by_repeated_kills(tmp_path, where):
    """Each session is killed around the end of its first pulse; the board has room for two operations."""
    bench = SmallBench(tmp_path, figures={"operation_memory": "2"}).write()
    state_file = tmp_path / "data" / "dies" / "small-1" / "die.npz"
    for row in range(8):
        with bench.open() as session:
            session.arm("small-1")
            session.macro.contact()
            controller, ledger = session.bench.controllers["small-1"], ledger_of(session)

            session.stations["small-1"].reconcile()

            def die(*arguments):
                raise Crash

            if where == "before finish":
                ledger.finish = die
            elif where == "before acknowledge":
                controller.acknowledge = die
            try:
                session.macro.pulse("reset", f"row {row}", Pulse(2.0, 1e-6, 1.6))
            except Crash:
                assert where != "acknowledged, not saved"
            else:
                assert where == "acknowledged, not saved"
            for broken in (ledger, controller):
                vars(broken).pop("finish", None), vars(broken).pop("acknowledge", None)
            as_killed = state_file.read_bytes()
        state_file.write_bytes(as_killed)  # what the session saved as it closed was never written
    with bench.open() as session:
        session.run("read-array")
        assert np.all(hidden(session).pulses[:8] == 1)
        assert np.array_equal(hidden(session).pulses, ledger_of(session).pulse_counts())
        assert not ledger_of(session).unknown().count
