"""Nothing crosses the guard that should not: arming, limits, contact, pilot block, wear."""

from datetime import timedelta

import numpy as np
import pytest
from workbench import HostClock, SmallBench, forming_plan, hidden, ledger_of, plain_plan, pulse_step, tampered

import rramlab
from rramlab.base.errors import OutOfLimits, Refused, SourceRef, UsageError
from rramlab.macro.pulses import Pulse
from rramlab.macro.regions import Region
from rramlab.plan.limits import Limits
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ContactStep, ExpectStep, GateStep, MultiplyStep, ReadStep, Window
from rramlab.runs.store import Run


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        yield opened


@pytest.fixture
def shipped(tmp_path):
    with rramlab.open_bench(tmp_path) as opened:
        yield opened


def untouched(session):
    state = hidden(session)
    return not state.pulses.any() and state.conversions == 0 and state.clock_s == 0


def refuse(session, what, *words, arm=None, **more):
    """Refused with exit code 3, nothing energised, nothing intended."""
    with pytest.raises(Refused) as caught:
        session.run(what, arm=arm, **more)
    assert caught.value.exit_code == 3
    assert untouched(session)
    assert not ledger_of(session).history()
    for word in words:
        assert word in str(caught.value)


def test_an_unarmed_electroform_is_refused(shipped):
    refuse(shipped, "electroform", "--arm sim-0001")


@pytest.mark.parametrize("kind", ["electroform", "set", "reset"])
def test_every_pulse_needs_arming(session, kind):
    if kind == "set":  # has nothing to do on pristine cells
        session.run(plain_plan(pulse_step("row 0")), arm="small-1")
    before = hidden(session).pulses.copy()
    plan = plain_plan(pulse_step("row 0", kind, voltage=2.0))
    with pytest.raises(Refused, match="--arm small-1") as caught:
        session.run(plan)
    assert caught.value.exit_code == 3
    assert np.array_equal(hidden(session).pulses, before)
    session.run(plan, arm="small-1")
    assert ledger_of(session).pulse_counts(kind).sum() == 16


def test_arming_a_run_arms_that_run_only(session):
    plan = plain_plan(pulse_step("row 0", "reset", voltage=2.0))
    session.run(plan, arm="small-1")
    with pytest.raises(Refused, match="--arm small-1"):
        session.run(plan)
    with pytest.raises(Refused, match="armed"):
        session.macro.pulse("reset", "row 0", Pulse(2.0, 1e-6, 1.6))
    assert hidden(session).pulses.max() == 1


def test_a_run_that_was_armed_and_failed_leaves_nothing_armed(session):
    with pytest.raises(OutOfLimits):
        session.run(forming_plan(gate=0.8), arm="small-1")
    (run,) = session.runs.iterdir()
    pulses = hidden(session).pulses.copy()
    with pytest.raises(Refused, match="--arm small-1"):
        session.resume(run.name)
    with pytest.raises(Refused, match="--arm small-1"):
        session.run(plain_plan(pulse_step("row 9", "reset", voltage=2.0)))
    assert np.array_equal(hidden(session).pulses, pulses)


def test_a_session_that_was_armed_stays_armed(session):
    session.arm("small-1")
    plan = plain_plan(pulse_step("row 0", "reset", voltage=2.0))
    session.run(plan)
    session.run(plan, arm="small-1")
    session.run(plan)
    assert hidden(session).pulses[0].max() == 3


def test_arming_the_wrong_die_for_one_run_does_not_outlast_it(session):
    with pytest.raises(Refused, match="small-2"):
        session.run("read-array", arm="small-2")
    with pytest.raises(Refused, match="--arm small-1"):
        session.run(forming_plan())
    assert untouched(session)


def test_arming_another_die_is_refused(session):
    refuse(session, forming_plan(), "small-2", "small-1", arm="small-2")


def test_arming_one_die_does_not_arm_its_neighbour(tmp_path):
    with SmallBench(tmp_path, dies={"a": "", "b": ""}).write().open() as session:
        with pytest.raises(Refused, match="--arm b"):
            session.run(forming_plan(), arm="a", die="b")
        assert not hidden(session, "b").pulses.any()
        with pytest.raises(UsageError, match="a, b"):
            session.run(forming_plan(), arm="a")


def test_harmless_plans_need_no_arming(session):
    session.run(Plan(name="r", steps=(ContactStep(), ReadStep(), GateStep(), MultiplyStep())))
    assert not hidden(session).pulses.any()
    assert hidden(session).conversions > 0


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ({"cells": "row 0", "voltage": 4.1}, "electroform_voltage"),
        ({"cells": "row 0", "voltage": 4.6}, "voltage"),
        ({"cells": "row 0", "gate": 3.4}, "gate_voltage"),
        ({"cells": "row 0", "kind": "set", "voltage": 2.6}, "set_voltage"),
        ({"cells": "row 0", "kind": "reset", "voltage": 2.6}, "reset_voltage"),
        ({"cells": "row 0", "width": 1e-8}, "shortest_pulse"),
        ({"cells": "row 0", "width": 1e-2}, "longest_pulse"),
        ({"cells": "row 0", "cells_per_pulse": 101}, "line_current"),
    ],
)
def test_a_value_over_a_limit_is_refused_with_the_limit_and_the_line(session, step, name):
    source = SourceRef("p.yaml", 17, 5)
    refuse(session, plain_plan(pulse_step(**step, source=source)), name, "p.yaml:17:5", arm="small-1")


def test_a_voltage_over_the_limit_in_a_protocol_names_its_line(small_bench, session):
    path = small_bench.folder / "protocols" / "mine.yaml"
    path.parent.mkdir()
    path.write_text(
        "name: mine\ndescription: some\nlimits: {set_voltage: 1.5 V}\nsteps:\n  - contact\n"
        "  - set: {cells: row 0, voltage: 1.6 V, width: 1 us, gate: 1.6 V}\n",
        encoding="utf-8",
    )
    refuse(session, "mine", "set_voltage", "1.5 V", "1.6 V", f"{path}:6:", arm="small-1")


def test_the_whole_plan_is_checked_before_the_first_operation(session):
    """The fault is in the last step; the first must not have happened."""
    plan = plain_plan(ReadStep(), pulse_step("row 0"), pulse_step("row 1", "reset", voltage=2.6))
    refuse(session, plan, "reset_voltage", arm="small-1")


def test_a_plans_own_limits_count(session):
    plan = plain_plan(pulse_step("row 0"), limits=Limits(electroform_voltage=3.7))
    refuse(session, plan, "electroform_voltage", "3.7 V", arm="small-1")


def test_a_plan_does_not_widen_the_benchs_limits(session):
    plan = plain_plan(pulse_step("row 0", voltage=4.2), limits=Limits(electroform_voltage=5.0))
    refuse(session, plan, "electroform_voltage", "4 V", arm="small-1")


def test_data_dependent_regions_are_checked_at_their_worst(tmp_path):
    """``conducting`` could be every cell: the currents, slots and voltages of that case are what is compared."""
    with SmallBench(tmp_path).write().open() as session:
        plan = plain_plan(pulse_step("conducting & row 0", "reset", voltage=2.6))
        refuse(session, plan, "reset_voltage", arm="small-1")


def test_a_region_off_the_die_is_refused_before_anything(session):
    with pytest.raises(UsageError, match="off the die"):
        session.run(plain_plan(pulse_step("rows 0-32")), arm="small-1")
    assert untouched(session)


# contact ------------------------------------------------------------------------------------------------------


def test_a_pulse_without_a_contact_test_is_refused(session):
    plan = Plan(name="p", steps=(pulse_step("row 0"),))
    refuse(session, plan, "contact", arm="small-1")
    late = Plan(name="p", steps=(pulse_step("row 0"), ContactStep()))
    refuse(session, late, "contact", arm="small-1")
    session.run(Plan(name="c", steps=(ContactStep(),)))
    session.run(plan, arm="small-1")
    assert hidden(session).pulses.sum() == 16


def test_a_contact_test_is_remembered_across_sessions_and_grows_old(small_bench, monkeypatch):
    clock = HostClock(monkeypatch)
    plan = Plan(name="p", steps=(pulse_step("row 0", "reset", voltage=2.0),))
    with small_bench.open() as session:
        session.run("contact")
    with small_bench.open() as session:
        session.arm("small-1")
        session.run(plan)
        guard = session.stations["small-1"].guard
        for age, allowed in (
            (timedelta(minutes=59), True),
            (timedelta(minutes=61), False),
        ):
            guard.contact_passed()
            clock.go_on(age)
            before = hidden(session).pulses.sum()
            if allowed:
                session.run(plan)
                assert hidden(session).pulses.sum() == before + 16
            else:
                with pytest.raises(Refused, match="contact"):
                    session.run(plan)
                assert hidden(session).pulses.sum() == before


@pytest.mark.parametrize("fault", ["open row", "open column", "short", "leak"])
def test_a_bad_line_fails_the_contact_test_and_forbids_pulses(session, fault):
    conductance = hidden(session).conductance_S
    if fault == "open row":
        conductance[5] = 0
    elif fault == "open column":
        conductance[:, 7] = 0
    elif fault == "short":
        conductance[3, 4] = 150e-6
    else:
        conductance[9] = 3e-6
    with pytest.raises(OutOfLimits) as caught:
        session.run(forming_plan(), arm="small-1")
    assert caught.value.exit_code == 5
    assert {"open row": "5", "open column": "7", "short": "(3, 4)", "leak": "9"}[fault] in str(caught.value)
    assert not hidden(session).pulses.any()
    with pytest.raises(Refused, match="contact"):
        session.run(Plan(name="p", steps=(pulse_step("row 0"),)), arm="small-1")
    assert not hidden(session).pulses.any()


def test_a_failed_contact_test_takes_back_an_earlier_pass(session):
    session.run("contact")
    tampered(session).conductance_S[:, 7] = 0
    with pytest.raises(OutOfLimits):
        session.run("contact")
    with pytest.raises(Refused, match="contact"):
        session.run(Plan(name="p", steps=(pulse_step("row 0"),)), arm="small-1")


def test_another_die_in_the_socket_is_noticed(session):
    session.run(forming_plan("checkerboard & cols 0-7", block_rows=32), arm="small-1")
    state = hidden(session)
    tampered(session).conductance_S[:] = state.conductance_S[:, ::-1].copy()
    with pytest.raises(OutOfLimits, match="another die"):
        session.run("contact")
    with pytest.raises(Refused, match="contact"):
        session.run(Plan(name="p", steps=(pulse_step("row 0", "reset", voltage=2.0),)), arm="small-1")


def test_a_formed_and_pruned_die_still_passes_its_contact_test(session):
    session.run(forming_plan(block_rows=32), arm="small-1")
    session.run("prune", {"cells": "rows 0-15"}, arm="small-1")
    result = session.run("contact")
    assert result.contact["passed"]


def test_the_contact_test_stays_at_a_tenth_of_a_volt(session, monkeypatch):
    controller = session.bench.controllers["small-1"]
    seen = []
    read = controller.read

    def spy(cells, repeats, bias, *more):
        seen.append(session.description.board.dac_volts(bias))
        return read(cells, repeats, bias, *more)

    monkeypatch.setattr(controller, "read", spy)
    session.run("contact")
    assert seen
    assert max(seen) <= 0.1


# pilot block --------------------------------------------------------------------------------------------------


def test_forming_many_rows_without_a_pilot_block_is_refused(session):
    refuse(session, plain_plan(pulse_step("rows 0-4")), "pilot", arm="small-1")
    session.run(plain_plan(pulse_step("rows 0-3")), arm="small-1")
    assert hidden(session).pulses.sum() == 4 * 16


def test_many_small_forming_steps_are_no_way_around_the_pilot_block(session):
    steps = [pulse_step(f"rows {row}-{row + 3}") for row in range(0, 32, 4)]
    refuse(session, plain_plan(*steps), "pilot", arm="small-1")


def test_a_wrong_voltage_stops_at_the_pilot_block(shipped):
    with pytest.raises(OutOfLimits, match="pilot") as caught:
        shipped.run("electroform", {"voltage": "3.3 V"}, arm="sim-0001")
    assert caught.value.exit_code == 5
    assert "electroform.yaml" in str(caught.value)
    state = hidden(shipped)
    assert np.all(state.pulses[:4].sum(axis=1) == 256)
    assert not state.pulses[4:].any()
    assert np.array_equal(ledger_of(shipped).pulse_counts(), state.pulses)
    (folder,) = shipped.runs.iterdir()
    run = Run(folder)
    assert run.record["status"] == "failed"
    assert "pilot" in run.record["reason"]
    assert (folder / "run.h5").exists()
    assert [block.dataset for block in run.blocks()] == ["contact", "bystanders-before", "bystanders", "pilot"]
    # and going on with it does not get past the pilot block either
    with pytest.raises(OutOfLimits, match="pilot"):
        shipped.resume(run.id, arm="sim-0001")
    assert not state.pulses[4:].any()
    assert state.pulses.max() == 1


def test_a_wrong_median_stops_at_the_pilot_block_too(session):
    with pytest.raises(OutOfLimits, match="median"):
        session.run(forming_plan(gate=0.8), arm="small-1")
    assert not hidden(session).pulses[4:].any()


def test_the_block_check_on_the_way_stops_a_die_that_goes_bad(session, monkeypatch):
    """The compliance fails after row 15: the recheck stops the run, long before the last row."""
    die = session.bench.controllers["small-1"].die
    pulse = die.pulse

    def failing(kind, cells, each, drive, row_ns):
        if cells.rows.size and cells.rows[0] >= 16:
            die.state.pulses += cells.bits
            return 0.0
        return pulse(kind, cells, each, drive, row_ns)

    monkeypatch.setattr(die, "pulse", failing)
    with pytest.raises(OutOfLimits, match="block"):
        session.run(forming_plan(block_rows=1), arm="small-1")
    assert not die.state.pulses[25:].any()
    assert np.array_equal(ledger_of(session).pulse_counts(), die.state.pulses)


# wear ---------------------------------------------------------------------------------------------------------


def test_a_cell_is_electroformed_once(shipped):
    """The shipped protocol allows one pulse a cell: the second attempt is refused, the die as it was."""
    small = {"cells": "rows 0-7 & one-of-pair(seed=7)"}
    shipped.run("electroform", small, arm="sim-0001")
    state = hidden(shipped)
    before, pulses = state.conductance_S.copy(), state.pulses.copy()
    with pytest.raises(Refused, match="wear") as caught:
        shipped.run("electroform", small, arm="sim-0001")
    assert caught.value.exit_code == 3
    assert np.array_equal(state.conductance_S, before)
    assert np.array_equal(state.pulses, pulses)
    assert not ledger_of(shipped).dangling()
    shipped.run("electroform", {"cells": "rows 8-15 & one-of-pair(seed=7)"}, arm="sim-0001")
    assert state.pulses.max() == 1


def test_a_single_worn_cell_in_the_last_row_is_noticed_before_the_first_pulse(session):
    """The wear budget is of the whole plan: nothing of it is sent when one of its cells has none left."""
    session.run(plain_plan(pulse_step("cell (31, 0)")), arm="small-1")
    plan = forming_plan("all", block_rows=1).model_copy(update={"limits": Limits(pulses_per_cell=1)})
    with pytest.raises(Refused, match="wear"):
        session.run(plan, arm="small-1")
    assert hidden(session).pulses.sum() == 1


def test_a_plan_that_alone_exceeds_the_wear_budget_is_refused_at_once(session):
    plan = plain_plan(
        pulse_step("rows 0-1"), pulse_step("row 1", "reset", voltage=2.0), limits=Limits(pulses_per_cell=1)
    )
    refuse(session, plan, "wear", arm="small-1")


def test_the_benchs_wear_budget_counts_every_kind(tmp_path):
    with SmallBench(tmp_path, limits="{pulses_per_cell: 2}").write().open() as session:
        steps = pulse_step("row 0"), pulse_step("row 0", "reset", voltage=2.0)
        session.run(plain_plan(*steps), arm="small-1")
        with pytest.raises(Refused, match="wear"):
            session.run(plain_plan(pulse_step("row 0", "set", voltage=2.0)), arm="small-1")
        assert hidden(session).pulses.max() == 2


# capabilities -------------------------------------------------------------------------------------------------


def test_a_board_that_cannot_select_columns_forms_whole_rows_only(tmp_path):
    bench = SmallBench(tmp_path).write()
    path = tmp_path / "drivers" / "small.yaml"
    path.write_text(path.read_text().replace("[sl_select, ", "[").replace(", isolated_reads]", "]"))
    with bench.open() as session:
        refuse(session, plain_plan(pulse_step("rows 0-3 & one-of-pair(seed=7)")), "sl_select", arm="small-1")
        session.run(plain_plan(pulse_step("rows 0-3")), arm="small-1")
        assert hidden(session).pulses.sum() == 4 * 16


# expect -------------------------------------------------------------------------------------------------------


def expecting(window, **more):
    return Plan(name="e", steps=(ReadStep(), ExpectStep(cells="all", window=window, **more)))


def test_expect_compares_the_last_read(session):
    session.run(plain_plan(pulse_step("rows 0-3")), arm="small-1")
    share = 4 / 32
    result = session.run(expecting(Window(formed_fraction=(share, share), median=(8e-6, 18e-6))))
    assert result.passed
    (check,) = result.checks
    assert check["formed_fraction"] == pytest.approx(share)
    assert check["cells"] == 512
    truth = np.median(hidden(session).conductance_S[:4])
    assert check["median_S"] == pytest.approx(truth, rel=0.02)


@pytest.mark.parametrize("window", [Window(formed_fraction=(0.2, 1)), Window(median=(20e-6, 30e-6))])
def test_expect_stops_the_run_or_only_says_so(session, window):
    session.run(plain_plan(pulse_step("rows 0-3")), arm="small-1")
    with pytest.raises(OutOfLimits) as caught:
        session.run(expecting(window))
    assert caught.value.exit_code == 5
    result = session.run(expecting(window, on_failure="continue"))
    assert not result.passed
    assert result.checks[0]["reason"]


def test_expect_of_cells_that_were_not_read_since_their_pulse_does_not_pass(session):
    plan = plain_plan(
        ReadStep(), pulse_step("rows 0-3"), ExpectStep(cells="all", window=Window(formed_fraction=(0, 1)))
    )
    with pytest.raises(OutOfLimits, match="not read"):
        session.run(plan, arm="small-1")


def test_conducting_of_a_die_never_read_is_refused_not_guessed(session):
    plan = plain_plan(pulse_step("conducting", "reset", voltage=2.0))
    with pytest.raises(Refused, match="not read since"):
        session.run(plan, arm="small-1")
    assert not hidden(session).pulses.any()


@pytest.mark.parametrize(
    "cells", ["conducting", "~conducting", "rows 0-3 - conducting", "conducting | row 5", "rows 0-8 & ~conducting"]
)
def test_a_region_of_conducting_cells_with_unread_ones_is_refused(session, cells):
    """``~conducting`` of a cell that nobody looked at would pulse formed cells."""
    session.run(plain_plan(pulse_step("rows 0-3"), ReadStep(cells="rows 0-7")), arm="small-1")
    session.arm("small-1")
    session.run(plain_plan(pulse_step("row 2", "reset", voltage=2.0)))  # and is not read again
    pulses, known = hidden(session).pulses.copy(), len(ledger_of(session).history())
    source = SourceRef("p.yaml", 17, 5)
    plan = plain_plan(pulse_step(cells, "reset", voltage=2.0, source=source))
    with pytest.raises(Refused, match=r"p\.yaml:17:5.*not read since") as caught:
        session.run(plan)
    assert caught.value.exit_code == 3
    for what in (cells, Region(cells)):
        with pytest.raises(Refused, match="not read since"):
            session.macro.pulse("reset", what, Pulse(2.0, 1e-6, 1.6))
        with pytest.raises(Refused, match="not read since"):
            session.macro.read(what)
    assert np.array_equal(hidden(session).pulses, pulses)
    assert len(ledger_of(session).history()) == known


def test_unread_cells_that_do_not_matter_do_not_stop_anything(session):
    session.arm("small-1")
    session.run(plain_plan(pulse_step("rows 0-3"), ReadStep(cells="rows 0-3")))
    conducts = hidden(session).conductance_S[:4] >= 2e-6
    session.run(plain_plan(pulse_step("rows 0-3 & conducting", "reset", voltage=2.0)))
    expected = np.zeros((32, 16), np.uint32)
    expected[:4] = 1 + conducts
    assert np.array_equal(hidden(session).pulses, expected)
    session.macro.pulse("reset", "rows 4-7 | (rows 4-7 & conducting)", Pulse(2.0, 1e-6, 1.6))
    assert np.all(hidden(session).pulses[4:8] == 1)


# set ----------------------------------------------------------------------------------------------------------


def test_a_set_pulse_on_pristine_cells_is_refused(session):
    """It would electroform them, past the pilot block and the voltage that forming is allowed."""
    refuse(session, plain_plan(pulse_step("row 0", "set", voltage=2.0)), "pristine", arm="small-1")
    session.run(plain_plan(pulse_step("rows 0-1")), arm="small-1")
    before, clock = hidden(session).pulses.copy(), hidden(session).clock_s
    for cells in ("rows 0-2", "all", "~unknown", "cell (2, 0)", "pristine & rows 2-3"):
        with pytest.raises(Refused, match="pristine") as caught:
            session.run(plain_plan(pulse_step(cells, "set", voltage=2.0)), arm="small-1")
        assert caught.value.exit_code == 3
    assert hidden(session).clock_s == clock
    session.arm("small-1")
    for cells in ("row 2", "rows 1-2", "all"):
        with pytest.raises(Refused, match="pristine"):
            session.macro.pulse("set", cells, Pulse(2.0, 1e-6, 1.6))
    assert hidden(session).clock_s == clock
    assert np.array_equal(hidden(session).pulses, before)
    session.run(plain_plan(pulse_step("all - pristine", "set", voltage=2.0)))
    session.macro.pulse("set", "row 1", Pulse(2.0, 1e-6, 1.6))
    assert np.array_equal(hidden(session).pulses[:3, 0], [2, 3, 0])


def test_the_shipped_set_protocol_leaves_pristine_cells_out(session):
    session.run(plain_plan(pulse_step("rows 0-1")), arm="small-1")
    session.run("set", {"cells": "rows 0-3"}, arm="small-1")
    counts = ledger_of(session).pulse_counts("set")
    assert np.all(counts[:2] == 1)
    assert not counts[2:].any()
    assert not hidden(session).pulses[2:].any()


def test_a_set_counts_the_plans_own_forming(session):
    """Form, then set: the cells are pristine now, and will not be when their turn comes."""
    session.run(plain_plan(pulse_step("rows 0-1"), pulse_step("rows 0-1", "set", voltage=2.0)), arm="small-1")
    assert np.all(hidden(session).pulses[:2] == 2)
    wrong = plain_plan(pulse_step("row 3", "set", voltage=2.0), pulse_step("row 3"))
    with pytest.raises(Refused, match="pristine"):
        session.run(wrong, arm="small-1")
    assert not hidden(session).pulses[3].any()


# single pulses from Python ------------------------------------------------------------------------------------


def test_forming_row_by_row_from_python_is_no_way_around_the_pilot_block(session):
    session.arm("small-1")
    session.macro.contact()
    form = Pulse(3.75, 1e-6, 1.6)
    for row in range(4):
        session.macro.pulse("electroform", f"row {row} & cols 0-7", form)
    session.macro.pulse("electroform", "rows 0-3 & cols 8-15", form)  # the same rows once more
    with pytest.raises(Refused, match="pilot") as caught:
        session.macro.pulse("electroform", "cell (4, 0)", form)
    assert caught.value.exit_code == 3
    assert hidden(session).pulses.sum() == ledger_of(session).pulse_counts().sum() == 4 * 16
    session.macro.pulse("reset", "rows 0-7", Pulse(2.0, 1e-6, 1.6))  # which forms nothing
    session.run(forming_plan("rows 8-31", block_rows=8, read=False))  # a plan with its pilot block may
    assert np.all(ledger_of(session).pulse_counts("electroform")[8:] == 1)


def test_a_refused_single_pulse_does_not_use_up_the_rows(session):
    session.arm("small-1")
    session.macro.contact()
    form = Pulse(3.75, 1e-6, 1.6)
    for _ in range(3):
        with pytest.raises(Refused, match="pilot"):
            session.macro.pulse("electroform", "rows 10-31", form)
        with pytest.raises(Refused, match="electroform_voltage"):
            session.macro.pulse("electroform", "rows 20-22", Pulse(4.1, 1e-6, 1.6))
    session.macro.pulse("electroform", "rows 0-3", form)
    assert hidden(session).pulses.sum() == 4 * 16


def test_single_pulses_obey_the_benchs_wear_budget(tmp_path):
    with SmallBench(tmp_path, limits="{pulses_per_cell: 2}").write().open() as session:
        session.arm("small-1")
        session.macro.contact()
        for _ in range(2):
            session.macro.pulse("reset", "rows 0-1", Pulse(2.0, 1e-6, 1.6))
        with pytest.raises(Refused, match="wear"):
            session.macro.pulse("reset", "rows 1-2", Pulse(2.0, 1e-6, 1.6))
        assert hidden(session).pulses.sum() == 2 * 2 * 16


def test_cells_that_this_plan_forms_count_as_worn_where_pristine_ones_are_left_out(session):
    """``row 0 - pristine`` is empty now and holds the row once the plan has formed it: refused before the first pulse."""
    plan = plain_plan(
        pulse_step("row 0"), pulse_step("row 0 - pristine", "reset", voltage=2.0), limits=Limits(pulses_per_cell=1)
    )
    refuse(session, plan, "wear", arm="small-1")


# power ----------------------------------------------------------------------------------------------------------


def test_a_contact_test_is_of_one_board_since_its_power_up(small_bench):
    plan = Plan(name="p", steps=(pulse_step("row 0", "reset", voltage=2.0),))
    with small_bench.open() as session:
        session.run("contact")
        session.bench.controllers["small-1"].power_cycle()
    with small_bench.open() as session:
        refused_for_contact(session, plan)
        session.run("contact")
        session.run(plan, arm="small-1")
    other = SmallBench(small_bench.folder).write()
    bench = other.folder / "bench.yaml"
    bench.write_text(bench.read_text().replace("SIM-0009", "SIM-0010"))
    with other.open() as session:
        refused_for_contact(session, plan)


def refused_for_contact(session, plan):
    before = hidden(session).pulses.copy()
    with pytest.raises(Refused, match="contact"):
        session.run(plan, arm="small-1")
    session.arm("small-1")
    with pytest.raises(Refused, match="contact"):
        session.macro.pulse("reset", "row 0", Pulse(2.0, 1e-6, 1.6))
    session.stations["small-1"].guard.armed = False
    assert np.array_equal(hidden(session).pulses, before)


def test_a_power_cycle_within_the_session_ends_the_contact_tests_validity(session):
    session.run("contact")
    session.bench.controllers["small-1"].power_cycle()
    refused_for_contact(session, Plan(name="p", steps=(pulse_step("row 0", "reset", voltage=2.0),)))


# the range of the board -----------------------------------------------------------------------------------------


def test_a_voltage_beyond_the_dac_is_refused_and_leaves_no_intent(tmp_path):
    """The limits allow 4 V; this board's DAC ends at 3.5 V."""
    with SmallBench(tmp_path, figures={"dac_full_scale": "3.5 V"}).write().open() as session:
        session.arm("small-1")
        session.macro.contact()
        with pytest.raises(Refused, match="DAC") as caught:
            session.macro.pulse("electroform", "row 0", Pulse(3.75, 1e-6, 1.6))
        assert caught.value.exit_code == 3
        with pytest.raises(Refused, match="DAC"):
            session.run(forming_plan())
        assert not hidden(session).pulses.any()
        assert not ledger_of(session).history()
        session.macro.pulse("electroform", "row 0", Pulse(3.4, 1e-6, 1.6))
        assert hidden(session).pulses.sum() == 16


def test_a_voltage_beyond_the_dac_in_the_last_step_is_refused_before_the_first(tmp_path):
    with SmallBench(tmp_path, figures={"dac_full_scale": "3.5 V"}).write().open() as session:
        plan = plain_plan(pulse_step("row 0", voltage=3.4), pulse_step("row 1", voltage=3.75))
        refuse(session, plan, "DAC", arm="small-1")


def test_a_board_without_sl_select_refuses_single_pulses_of_part_of_a_row(tmp_path):
    bench = SmallBench(tmp_path).write()
    path = tmp_path / "drivers" / "small.yaml"
    path.write_text(path.read_text().replace("[sl_select, ", "[").replace(", isolated_reads]", "]"))
    with bench.open() as session:
        session.arm("small-1")
        session.macro.contact()
        with pytest.raises(Refused, match="sl_select"):
            session.macro.pulse("electroform", "row 0 & cols 0-7", Pulse(3.75, 1e-6, 1.6))
        assert not ledger_of(session).history()
        session.macro.pulse("electroform", "row 0", Pulse(3.75, 1e-6, 1.6))
        with pytest.raises(Refused, match="sl_select"):
            session.macro.pulse("set", "cell (0, 3)", Pulse(2.0, 1e-6, 1.6))
        session.macro.pulse("reset", "cell (0, 3)", Pulse(2.0, 1e-6, 1.6))
        assert hidden(session).pulses.sum() == 17


def test_a_pilot_block_that_judges_nothing_is_refused_in_a_protocol(small_bench, session):
    path = small_bench.folder / "protocols" / "mine.yaml"
    path.parent.mkdir()
    good = "{rows: 4, formed_fraction: [0.9, 1.0], median: [8 uS, 18 uS]}"
    text = (
        "name: mine\ndescription: some\nsteps:\n  - contact\n"
        f"  - electroform: {{cells: all, voltage: 3.75 V, width: 1 us, gate: 1.6 V, pilot: {good}}}\n"
    )
    for old, new in (
        ("rows: 4", "rows: 32"),
        ("[0.9, 1.0]", "[0, 1]"),
        (", median: [8 uS, 18 uS]", ""),
        ("formed_fraction: [0.9, 1.0], ", ""),
    ):
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(UsageError, match="pilot") as caught:
            session.run("mine", arm="small-1")
        assert caught.value.source.line == 5
    assert untouched(session)
    path.write_text(text, encoding="utf-8")
    session.run("mine", arm="small-1")
