"""A session runs plans and keeps what they did; whatever fails, the bench ends in its safe state."""

import json
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from workbench import SmallBench, forming_plan, hidden, ledger_of, plain_plan, pulse_step

import rramlab
from rramlab.base.errors import DataError, InstrumentError, OutOfLimits, RramlabError, UsageError
from rramlab.engine import station
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ExpectStep, GateStep, MultiplyStep, ReadStep, Window
from rramlab.runs.ledger import Ledger
from rramlab.runs.store import Run
from rramlab.sim.controller import SimulatedController
from rramlab.sim.state import STUCK


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        yield opened


def test_single_shot_forming_of_the_shipped_die(tmp_path):
    """Exactly one pulse for each selected cell, in the ledger and in the die; about all of them conduct."""
    with rramlab.open_bench(tmp_path) as session:
        result = session.run("electroform", arm="sim-0001")
        state, ledger = hidden(session), ledger_of(session)
        one_of_pair = ledger.pulse_counts()
        assert np.array_equal(one_of_pair, state.pulses)
        assert np.all(one_of_pair[:, 0::2] + one_of_pair[:, 1::2] == 1)
        assert result.pulses == 512 * 256
        assert result.passed
        assert result.checks[0]["what"] == "the pilot block"
        formed = state.conductance_S[one_of_pair == 1]
        assert (formed >= 2e-6).mean() > 0.99
        assert np.all(state.conductance_S[(one_of_pair == 0) & (state.phase != STUCK)] < 2e-6)
        assert np.count_nonzero(state.phase == STUCK) < 20
        assert not ledger.dangling()
        folder = Run(session.runs / result.run_id).folder
    with h5py.File(folder / "run.h5") as file:
        (name,) = (name for name in file if name.endswith("-read"))
        read = file[name]["conductance"][()]
        assert file[name]["valid"][()].all()
    truth = state.conductance_S
    # two per cent noise, half a per cent gain, an offset of a code or so
    assert np.all(np.abs(read - truth) < 0.15 * truth + 6 * 6.25e-9)
    assert np.median(read[truth > 2e-6]) == pytest.approx(12.2e-6, rel=0.02)


def test_half_forming_at_3_45_volts(tmp_path):
    with rramlab.open_bench(tmp_path) as session:
        given_ = {"voltage": "3.45 V", "expected": 0.55, "cells": "rows 0-63"}
        result = session.run("electroform", given_, arm="sim-0001")
        # The 400 measured cells were driven one by one; eight at once lift their bit line by up to 14 mV.
        assert result.checks[-1]["formed_fraction"] == pytest.approx(0.53, abs=0.02)
        assert hidden(session).pulses[:64].min() == hidden(session).pulses.max() == 1


def test_a_run_keeps_everything_it_depends_on(session):
    result = session.run(forming_plan(), arm="small-1")
    run = Run(session.runs / result.run_id)
    assert run.record["status"] == "done"
    assert run.plan == forming_plan()
    for name in ("bench.yaml", "board.yaml", "plan.json", "provenance.json", "run.h5"):
        assert (run.folder / name).stat().st_size > 0
    about = json.loads((run.folder / "provenance.json").read_text())
    assert about["board_serial"] == "SIM-0009"
    assert about["rramlab"] == rramlab.__version__


def test_every_row_block_of_a_read_is_kept(session):
    """With blocks of one row, the consolidated read still holds every row."""
    result = session.run(Plan(name="r", steps=(ReadStep(repeats=3),), block_rows=1))
    run = Run(session.runs / result.run_id)
    assert len(list(run.blocks("read"))) == 32
    with h5py.File(run.folder / "run.h5") as file:
        group = file["step-000-read"]
        assert group["valid"][()].all()
        assert group["codes"].shape == (3, 32, 16)
        codes = group["codes"][()].astype(float)
        expected = (codes.mean(axis=0) - 64) * 6.25e-9
        assert group["conductance"][()] == pytest.approx(expected, rel=1e-3, abs=1e-10)


def test_products_of_a_plan_are_kept(session):
    session.run(forming_plan("all", block_rows=8), arm="small-1")
    plan = Plan(name="m", steps=(GateStep(rows="rows 0-7"), MultiplyStep(batch=50, bits=2)))
    result = session.run(plan)
    assert result.conversions == 50 * 2 * 16
    with h5py.File(Run(session.runs / result.run_id).folder / "run.h5") as file:
        found = {name: file[name] for name in file}
        (group,) = found.values()
        product = group["product"][()]
        assert group["sums"].shape == (50, 16)
    truth = 3 * hidden(session).conductance_S[:8].sum(axis=0)
    assert product.mean(axis=0) == pytest.approx(truth, rel=0.03)


def test_a_plan_in_other_row_blocks_gives_the_same_die(tmp_path):
    states = []
    for blocks in (1, 5, 32):
        with SmallBench(tmp_path / str(blocks)).write().open() as session:
            steps = forming_plan("one-of-pair(seed=5)").steps[1:]
            plan = plain_plan(
                *steps,
                pulse_step("checkerboard", "reset", voltage=2.0),
                pulse_step("rows 3-20 & checkerboard", "set", voltage=2.0),
                block_rows=blocks,
            )
            result = session.run(plan, arm="small-1")
            states.append((hidden(session).conductance_S, hidden(session).pulses, result.pulses))
            assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)
    for conductance, pulses, count in states[1:]:
        assert np.array_equal(conductance, states[0][0])
        assert np.array_equal(pulses, states[0][1])
        assert count == states[0][2]


regions = st.sampled_from(
    [
        "rows 0-3",
        "rows 2-3 & cols 0-7",
        "pristine & rows 0-3",
        "checkerboard & row 9",
        "cell (31, 15)",
        "~pristine & row 2",
    ]
)
OF = {"electroform": " & pristine", "set": " - pristine", "reset": ""}
pulse_steps = st.builds(
    lambda cells, kind, shots: pulse_step(
        f"({cells}){OF[kind]}",
        kind,
        voltage=3.6 if kind == "electroform" else 2.0,
        cells_per_pulse=shots,
    ),
    regions,
    st.sampled_from(["electroform", "set", "reset"]),
    st.none() | st.integers(1, 8),
)


@settings(max_examples=12)
@given(st.lists(st.lists(pulse_steps, min_size=1, max_size=3), min_size=1, max_size=3), st.integers(1, 8))
def test_the_ledger_replayed_gives_the_pulse_counts_of_the_die(tmp_path_factory, plans, block_rows):
    bench = SmallBench(tmp_path_factory.mktemp("replay")).write()
    for steps in plans:
        with bench.open() as session:
            session.run("contact")
            for step in steps:  # a step a plan: many forming steps in one plan want a pilot block
                session.run(Plan(name="p", steps=(step,), block_rows=block_rows), arm="small-1")
    with bench.open() as session:
        ledger = ledger_of(session)
        assert np.array_equal(ledger.pulse_counts(), hidden(session).pulses)
        by_kind = sum(ledger.pulse_counts(kind).astype(int) for kind in ("electroform", "set", "reset"))
        assert np.array_equal(by_kind, hidden(session).pulses)
        assert not ledger.dangling()


def test_the_last_read_is_remembered_by_the_next_session(small_bench):
    with small_bench.open() as session:
        session.run(forming_plan(block_rows=8), arm="small-1")
        known = session.stations["small-1"].state.conductance_S
        assert not np.isnan(known).any()
    with small_bench.open() as session:
        again = session.stations["small-1"].state
        assert np.array_equal(again.conductance_S, known)
        conducting = hidden(session).conductance_S >= 2e-6
        assert np.array_equal(again.conducting, conducting)
        session.run("prune", {"cells": "rows 0-7"}, arm="small-1")
        assert ledger_of(session).pulse_counts("reset").sum() == np.count_nonzero(conducting[:8])


def test_prune_resets_conducting_cells_only_and_says_what_is_left(session):
    session.run(forming_plan(block_rows=8), arm="small-1")
    before = hidden(session).conductance_S.copy()
    result = session.run("prune", {"cells": "rows 0-15"}, arm="small-1")
    after = hidden(session).conductance_S
    assert np.array_equal(after[16:], before[16:])
    assert np.array_equal(after[:16][before[:16] < 2e-6], before[:16][before[:16] < 2e-6])
    assert (after[:16] < 2e-6).mean() > 0.98
    assert result.checks[-1]["passed"]


def test_an_older_read_does_not_replace_a_newer_one_when_a_run_is_resumed(session):
    """A run failed after its read; the cells were formed and read since. Resuming must not bring the old read back."""
    plan = Plan(
        name="old", steps=(ReadStep(cells="rows 0-3"), ExpectStep(cells="rows 0-3", window=Window(median=(1, 2))))
    )
    with pytest.raises(OutOfLimits):
        session.run(plan)
    (old,) = session.runs.iterdir()
    session.run(plain_plan(pulse_step("rows 0-3"), ReadStep(cells="rows 0-3")), arm="small-1")
    with pytest.raises(OutOfLimits):
        session.resume(old.name)
    known = session.stations["small-1"].state.conductance_S[:4]
    truth = hidden(session).conductance_S[:4]
    assert np.all(np.isnan(known) | (np.abs(known - truth) < 0.2 * truth))


def test_progress_is_told_before_every_operation(session):
    told = []
    session.run(forming_plan(block_rows=4), arm="small-1", listen=told.append)
    assert [each.done for each in told] == sorted(each.done for each in told)
    assert told[0].done == 0
    assert told[-1].done <= told[-1].total
    assert any("electroform" in each.message for each in told)


def test_a_plan_takes_no_parameters_and_a_protocol_takes_its_own(session):
    with pytest.raises(UsageError, match="parameters"):
        session.run(Plan(name="r", steps=(ReadStep(),)), {"cells": "all"})
    result = session.run("read-array", {"cells": "rows 0-1", "repeats": 3})
    assert result.conversions == 2 * 16 * 3


# failures -----------------------------------------------------------------------------------------------------


def count_safe_states(session):
    controller = session.bench.controllers["small-1"]
    original, calls = controller.safe_state, []

    def safe_state():
        calls.append(1)
        original()

    controller.safe_state = safe_state
    return calls


@pytest.mark.parametrize("where", ["pulse", "read", "multiply"])
@pytest.mark.parametrize("error", [InstrumentError("the link is gone"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_whatever_fails_the_bench_is_made_safe_and_the_run_says_so(small_bench, where, error):
    with small_bench.open() as session:
        controller = session.bench.controllers["small-1"]
        calls = count_safe_states(session)

        def fail(*arguments, **more):
            raise error

        steps = (pulse_step("rows 0-3"), ReadStep(), GateStep(), MultiplyStep())
        session.run("contact")
        setattr(controller, where, fail)
        with pytest.raises(type(error)):
            session.run(Plan(name="f", steps=steps), arm="small-1")
        assert calls
        (run,) = (run for run in map(Run, session.runs.iterdir()) if run.record["name"] == "f")
        assert run.record["status"] == ("stopped" if isinstance(error, KeyboardInterrupt) else "failed")
        assert run.record["reason"]
        assert (run.folder / "run.h5").exists()
        delattr(controller, where)
        session.resume(run.id, arm="small-1")
        assert Run(run.folder).record["status"] == "done"
        assert hidden(session).pulses.max() == 1
        assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)


def test_the_bench_is_safe_after_the_session_even_if_the_caller_fails(small_bench):
    calls = []

    def work():
        with small_bench.open() as session:
            calls.append(count_safe_states(session))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert calls[0]
    with small_bench.open():
        pass


def test_a_safe_state_that_fails_does_not_hide_why_the_run_failed(small_bench):
    session = small_bench.open()
    session.__enter__()
    controller = session.bench.controllers["small-1"]

    def gone(*arguments, **more):
        raise InstrumentError("the link is gone")

    session.run("contact")
    controller.read = controller.safe_state = gone
    with pytest.raises(RramlabError) as caught:
        session.run(Plan(name="r", steps=(ReadStep(),)))
    chain, error = [], caught.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    assert any("the link is gone" in text for text in chain)
    del controller.read, controller.safe_state
    session.close()


def test_a_done_run_is_not_resumed_and_an_unknown_one_is_named(session):
    result = session.run("contact")
    with pytest.raises(UsageError, match="done"):
        session.resume(result.run_id)
    with pytest.raises(RramlabError, match="nothing-like-it"):
        session.resume("nothing-like-it")


def test_a_run_of_another_die_is_not_resumed_here(tmp_path):
    bench = SmallBench(tmp_path, dies={"a": ""}).write()
    with bench.open() as session, pytest.raises(OutOfLimits):
        session.run(forming_plan(voltage=3.0), arm="a")
    with SmallBench(tmp_path, dies={"b": ""}).write().open() as session:
        (run,) = session.runs.iterdir()
        with pytest.raises(UsageError, match="'a'"):
            session.resume(run.name, arm="b")
        assert not hidden(session).pulses.any()


# safe first ---------------------------------------------------------------------------------------------------


@pytest.fixture
def order(monkeypatch):
    """Names of what is written and of every safe state, in the order in which they happen."""
    events = []

    def watch(where, name, what):
        original = getattr(where, name)

        def watched(*arguments, **more):
            events.append(what)
            return original(*arguments, **more)

        monkeypatch.setattr(where, name, watched)

    watch(SimulatedController, "safe_state", "safe")
    watch(station, "save_last_read", "last_read")
    watch(Run, "finish", "run.json")
    watch(Run, "consolidate", "run.h5")
    watch(Ledger, "close", "ledger closed")
    return events


@pytest.mark.parametrize("error", [InstrumentError("the link is gone"), RuntimeError("a bug"), KeyboardInterrupt()])
def test_a_run_that_fails_is_made_safe_before_anything_is_written(small_bench, order, error):
    with small_bench.open() as session:
        controller = session.bench.controllers["small-1"]

        def fail(*arguments, **more):
            order.clear()
            raise error

        controller.pulse = fail
        with pytest.raises(type(error)):
            session.run(forming_plan(), arm="small-1")
        assert order[:4] == ["safe", "last_read", "run.json", "run.h5"]


def test_a_session_is_made_safe_before_its_interactive_run_is_written(small_bench, order):
    with small_bench.open() as session:
        session.macro.read("rows 0-3")
        order.clear()
    assert order[0] == "safe"
    assert [each for each in order if each != "safe"] == ["last_read", "run.json", "run.h5", "ledger closed"]
    assert "safe" not in order[order.index("ledger closed") :]


def test_what_was_measured_is_written_even_if_the_safe_state_fails(small_bench, monkeypatch):
    with small_bench.open() as session:
        controller = session.bench.controllers["small-1"]

        def gone(*arguments, **more):
            raise InstrumentError("the link is gone")

        controller.pulse = controller.safe_state = gone
        with pytest.raises(InstrumentError):
            session.run(forming_plan(), arm="small-1")
        (run,) = (Run(folder) for folder in session.runs.iterdir())
        assert run.record["status"] == "failed"
        assert (run.folder / "run.h5").exists()
        del controller.pulse, controller.safe_state


def test_a_session_whose_records_cannot_be_written_is_released_all_the_same(small_bench, monkeypatch):
    session = small_bench.open()
    session.__enter__()
    calls = count_safe_states(session)
    session.macro.read("row 0")

    def full(*arguments, **more):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(station, "save_last_read", full)
        with pytest.raises(OSError, match="no space"):
            session.close()
    assert calls
    with small_bench.open() as again:  # not locked, the ledger not in use
        again.macro.read("row 0")


def test_a_run_whose_end_cannot_be_written_is_made_safe(small_bench, monkeypatch):
    with small_bench.open() as session:
        calls = count_safe_states(session)

        def full(*arguments, **more):
            raise OSError("no space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(station, "save_last_read", full)
            with pytest.raises(DataError, match="no space"):
                session.run("read-array")
        assert calls


# a lost ledger --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", ["last_read", "run"])
def test_a_die_that_was_worked_on_is_not_virgin_when_its_ledger_is_gone(small_bench, trace):
    with small_bench.open() as session:
        session.run(plain_plan(pulse_step("rows 0-3")), arm="small-1")
        folder, runs = session.die_folder("small-1"), session.runs
    ledger = folder / "ledger.db"
    kept = ledger.read_bytes()
    ledger.unlink()
    if trace == "run":
        (folder / "last_read.npz").unlink()
    else:
        shutil.rmtree(runs)
    with pytest.raises(DataError, match="no ledger") as caught, small_bench.open():
        pass
    assert "small-1" in str(caught.value)
    assert not ledger.exists()  # none was made in its place
    ledger.write_bytes(kept)
    with small_bench.open() as session:
        assert ledger_of(session).pulse_counts().sum() == 4 * 16


def test_an_empty_ledger_file_is_not_a_virgin_die(small_bench):
    with small_bench.open() as session:
        session.run(plain_plan(pulse_step("rows 0-3")), arm="small-1")
        ledger = session.die_folder("small-1") / "ledger.db"
    ledger.write_bytes(b"")
    with pytest.raises(DataError, match="empty"), small_bench.open():
        pass
    with pytest.raises(DataError, match="empty"), small_bench.open():  # and no second attempt gets past it
        pass


def test_a_new_die_beside_one_that_was_worked_on_is_enrolled(tmp_path):
    with SmallBench(tmp_path, dies={"a": ""}).write().open() as session:
        session.run("read-array")
    with SmallBench(tmp_path, dies={"b": ""}).write().open() as session:
        session.run("read-array")
        assert not ledger_of(session).history()


def test_a_session_that_cannot_open_lets_the_ledger_go(small_bench):
    """In a notebook the process lives on: once the file that was damaged is gone, the bench opens."""
    with small_bench.open() as session:
        session.macro.read("row 0")
        path = session.die_folder("small-1") / "last_read.npz"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match="last_read"), small_bench.open():
        pass
    path.unlink()
    with small_bench.open() as session:
        assert np.isfinite(session.macro.read("row 0")[0]).all()
