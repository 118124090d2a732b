"""A cell, a reference resistor or a DAC channel at a source-measure unit: in which order, how often, and what is kept."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from probes import LOST, put_on_the_table, words
from workbench import SmallBench, conducting_now, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import InstrumentError, OutOfLimits, Refused, Stopped, UsageError
from rramlab.engine.results import Flawed
from rramlab.macro.routes import RoutedCell, RoutedDac, RoutedReference
from rramlab.plan.limits import Limits
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ContactStep, ExpectStep, ReadStep, RouteStep, SweepStep, Window
from rramlab.plan.worst import worst_case
from rramlab.runs.store import Run, find_run

DIE = "small-1"
PLACE = (3, 7)


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        yield opened


@pytest.fixture
def bench_unit(session):
    """A fake unit and what it and the board were told."""
    units, log = put_on_the_table(session)
    return units["smu"], log


def sweep_step(purpose="electroform", **changes):
    given = {"cell": "(3, 7)", "purpose": purpose, "compliance": 2e-4, "points": 21, "dwell": 1e-5}
    return SweepStep(**{**given, "voltage": 0.2 if purpose == "read" else 3.9, **changes})


def plan_of(*steps, **more):
    return Plan(name="probing", steps=steps, **more)


def blocks(session, dataset):
    return list(find_run(session.runs, "last").blocks(dataset))


# order ----------------------------------------------------------------------------------------------------------


def test_the_output_is_off_whenever_the_path_is_closed_or_opened(session, bench_unit):
    _, log = bench_unit
    session.run(plan_of(sweep_step("read")))
    assert words(log) == ["reset", "volts", "compliance", "route", "sweep", "half-way", "off", "route"]
    assert [value for what, value in log if what == "route"][-1] is None
    log.clear()
    session.run(plan_of(RouteStep(cell="3,7", count=2)))
    assert words(log) == [
        "reset", "volts", "compliance", "route", "volts", "on", "measure", "measure", "off", "route",
    ]  # fmt: skip
    assert [value for what, value in log if what == "volts"] == [0.0, 0.1]


@pytest.mark.parametrize("verb", ["sweep", "half-way", "off"])
def test_after_a_failure_the_unit_is_made_safe_before_the_path_is_opened(session, bench_unit, verb):
    smu, log = bench_unit
    smu.fail[verb] = LOST
    with pytest.raises(InstrumentError):
        session.run(plan_of(sweep_step("read")))
    told = words(log)
    after = told[told.index(verb) + 1 :]
    assert after[-1] == "route"
    assert log[-1] == ("route", None)
    if verb != "off":
        assert after == ["safe", "route"]
    assert not session.bench.controllers[DIE].status().routed


def test_a_unit_that_cannot_be_made_safe_does_not_keep_the_path_closed(session, bench_unit):
    smu, _ = bench_unit
    smu.fail["half-way"] = smu.fail["safe"] = LOST
    with pytest.raises(InstrumentError):
        session.run(plan_of(sweep_step("read")))
    assert not session.bench.controllers[DIE].status().routed


def test_a_route_that_the_board_refuses_leaves_the_output_off(session, bench_unit, monkeypatch):
    smu, log = bench_unit

    def refuse(target, bias, op_id=0):
        log.append(("route", target))
        if target is not None:
            raise InstrumentError("no")

    monkeypatch.setattr(session.stations[DIE].controller, "route", refuse)
    with pytest.raises(InstrumentError, match="no"):
        session.run(plan_of(RouteStep(cell="3,7")))
    assert "on" not in words(log)
    assert words(log)[-3:] == ["route", "safe", "route"]
    assert not smu.on


def test_the_board_hears_of_the_host_while_anything_waits(session, bench_unit):
    _, log = bench_unit
    session.run(plan_of(sweep_step("read", points=40)))
    assert [what for what, _ in log].count("beat") >= 40
    log.clear()
    session.run(plan_of(RouteStep(cell="3,7", voltage=0.0, hold=0.2)))
    assert words(log) == ["reset", "volts", "compliance", "route", "off", "route"]
    assert [what for what, _ in log].count("beat") >= 2


@pytest.mark.parametrize("step", [sweep_step("read"), RouteStep(cell="3,7", hold=60.0)])
def test_a_stop_now_comes_through_while_it_waits(session, bench_unit, step, monkeypatch):
    smu, log = bench_unit
    measure = smu.measure

    def impatient(*words_):
        session.interrupts.requests = 2
        return measure(*words_)

    monkeypatch.setattr(smu, "measure", impatient)
    beat = session.stations[DIE].controller.heartbeat

    def counted():
        beat()
        if len([what for what, _ in log if what == "beat"]) == 3:
            session.interrupts.requests = 2

    monkeypatch.setattr(session.stations[DIE].controller, "heartbeat", counted)
    with pytest.raises(Stopped):
        session.run(plan_of(step))
    assert words(log)[-2:] == ["safe", "route"]


def test_the_first_wish_to_stop_ends_a_hold(session, bench_unit, monkeypatch):
    smu, _ = bench_unit
    measure = smu.measure

    def once(*words_):
        session.interrupts.requests = 1
        return measure(*words_)

    monkeypatch.setattr(smu, "measure", once)
    with pytest.raises(Stopped):
        session.run(plan_of(RouteStep(cell="3,7", hold=600.0)))
    assert len(blocks(session, "route")) == 1  # what was measured is kept


# what it is to the die ------------------------------------------------------------------------------------------


def test_a_read_sweep_is_harmless_and_says_what_the_cell_conducts(session, bench_unit):
    before = conducting_now(session)[PLACE]
    result = session.run(plan_of(sweep_step("read")))
    assert not hidden(session).pulses.any()
    assert not ledger_of(session).history()
    (found,) = result.sweeps
    assert found["conductance_S"] == pytest.approx(before, rel=0.15)
    assert found["at_V"] == pytest.approx(0.2)
    assert (found["points"], found["in_compliance"], found["kind"]) == (21, 0, "read")


def test_a_forming_sweep_is_one_pulse_in_the_ledger(session, bench_unit):
    _, log = bench_unit
    session.run(plan_of(ContactStep(), ReadStep(), sweep_step(both_ways=True)), arm=DIE)
    (entry,) = ledger_of(session).history()
    assert (entry.kind, entry.outcome, entry.cells.count) == ("electroform", "done", 1)
    assert entry.pulse.amplitude_V == 3.9
    assert entry.pulse.width_s == pytest.approx(41 * 1e-5)
    assert entry.pulse.gate_V == 1.6
    assert np.array_equal(ledger_of(session).pulse_counts(), hidden(session).pulses)
    assert hidden(session).pulses[PLACE] == 1
    assert np.isnan(session.stations[DIE].conductance_S[PLACE])
    assert conducting_now(session)[PLACE] > 2e-6
    gate = session.description.board.dac_code(1.6)
    assert next(value for what, value in log if what == "route") == (RoutedCell(*PLACE), gate, entry.op_id)


@pytest.mark.parametrize(("purpose", "line"), [("electroform", "sl"), ("set", "sl"), ("reset", "bl")])
def test_the_line_that_is_driven_gives_the_direction(session, bench_unit, purpose, line):
    _, log = bench_unit
    if purpose == "set":
        session.run(plain_plan(pulse_step("row 3")), arm=DIE)
    session.run(plan_of(ContactStep(), sweep_step(purpose, voltage=2.0)), arm=DIE)
    target, *_ = next(value for what, value in log if what == "route")
    assert target == RoutedCell(*PLACE, line)


def refused(session, plan, *given, arm=DIE, log):
    before = hidden(session).pulses.copy()
    entries = len(ledger_of(session).history())
    with pytest.raises((Refused, UsageError)) as caught:
        session.run(plan, arm=arm)
    for word in given:
        assert word in str(caught.value)
    assert not log
    assert np.array_equal(hidden(session).pulses, before)
    assert len(ledger_of(session).history()) == entries


def test_a_sweep_that_stresses_is_held_to_everything_that_a_pulse_is(session, bench_unit):
    _, log = bench_unit
    contact, form = ContactStep(), sweep_step()
    refused(session, plan_of(contact, form), "--arm small-1", arm=None, log=log)
    refused(session, plan_of(form), "contact", log=log)
    refused(session, plan_of(contact, sweep_step("set", voltage=2.0)), "pristine", log=log)
    refused(session, plan_of(contact, sweep_step(voltage=4.1)), "electroform_voltage", log=log)
    refused(session, plan_of(contact, sweep_step(gate=3.4)), "gate_voltage", log=log)
    refused(session, plan_of(contact, sweep_step(compliance=0.02)), "line_current", log=log)
    tight = Limits(smu_current=1e-4)
    refused(session, plan_of(contact, sweep_step(), limits=tight), "smu_current", log=log)
    twice = plan_of(contact, sweep_step(), sweep_step(name="again"), limits=Limits(pulses_per_cell=1))
    refused(session, twice, "wear budget", log=log)
    rows = [sweep_step(cell=f"({row}, 0)", name=f"row{row}") for row in range(5)]
    refused(session, plan_of(contact, *rows), "pilot", log=log)
    session.run(plan_of(contact, *rows[:4]), arm=DIE)


def test_the_guard_asks_again_as_a_sweep_is_sent(session, bench_unit):
    _, log = bench_unit
    station = session.stations[DIE]
    (operation,) = worst_case(plan_of(sweep_step()), station.board)[0].operations
    with pytest.raises(Refused, match="armed"):
        station.sweep(operation, "r", "000.00000")
    assert not log
    assert not ledger_of(session).history()


# crashes --------------------------------------------------------------------------------------------------------


def test_a_sweep_that_broke_off_is_decided_by_the_board_and_not_repeated(session, bench_unit):
    smu, log = bench_unit
    smu.fail["half-way"] = LOST
    with pytest.raises(InstrumentError):
        session.run(plan_of(ContactStep(), sweep_step(), ReadStep()), arm=DIE)
    (entry,) = ledger_of(session).dangling()
    smu.fail.clear()
    log.clear()
    run = find_run(session.runs, "last")
    with pytest.raises(Flawed, match=r"cell \(3, 7\).*had its pulse and the curve is lost") as caught:
        session.resume(run.id, arm=DIE)
    assert "sweep" not in words(log)
    result = caught.value.result
    assert run.record["status"] == "failed"
    assert run.record["complete"]
    assert result.reconciled[0]["decided_by"] == "the controller's history"
    assert ledger_of(session).entry(entry.op_id).done.count == 1
    assert result.sweeps == [{"dataset": "sweep", "kind": "electroform", "lost": True, "row": 3, "column": 7}]
    assert hidden(session).pulses[PLACE] == 1


def test_a_sweep_whose_route_the_board_never_saw_is_done_after_all(session, bench_unit, monkeypatch):
    _, log = bench_unit
    station = session.stations[DIE]
    route = station.controller.route

    def lost(target, bias, op_id=0):
        if target is not None:
            raise InstrumentError("the link is gone")
        route(target, bias, op_id)

    monkeypatch.setattr(station.controller, "route", lost)
    with pytest.raises(InstrumentError):
        session.run(plan_of(ContactStep(), sweep_step()), arm=DIE)
    monkeypatch.setattr(station.controller, "route", route)
    log.clear()
    result = session.resume(find_run(session.runs, "last").id, arm=DIE)
    assert words(log).count("sweep") == 1
    assert result.sweeps[0]["points"] == 21
    assert hidden(session).pulses[PLACE] == 1
    assert ledger_of(session).pulse_counts().sum() == 1


def test_what_the_unit_itself_refuses_is_no_pulse(session, bench_unit):
    smu, _ = bench_unit
    smu.fail["sweep"] = Refused("more points than the unit takes; nothing was sent")
    with pytest.raises(Refused, match="more points"):
        session.run(plan_of(ContactStep(), sweep_step()), arm=DIE)
    assert not ledger_of(session).dangling()
    assert ledger_of(session).pulse_counts().sum() == 0 == hidden(session).pulses.sum()


def test_what_is_done_is_not_done_again_when_a_run_goes_on(session, bench_unit):
    _, log = bench_unit
    impossible = ExpectStep(cells="row 0", window=Window(formed_fraction=(1, 1)))
    steps = (
        ContactStep(),
        sweep_step(),
        sweep_step("read", name="look"),
        RouteStep(reference=1),
        ReadStep(),
        impossible,
    )
    with pytest.raises(OutOfLimits):
        session.run(plan_of(*steps), arm=DIE)
    first = find_run(session.runs, "last").record
    log.clear()
    with pytest.raises(OutOfLimits):
        session.resume(first["id"], arm=DIE)
    assert not words(log)
    again = Run(session.runs / first["id"]).record
    assert again["sweeps"] == first["sweeps"]
    assert again["routes"] == first["routes"]
    assert again["pulses"] == 1


def test_after_a_sweep_a_region_is_not_judged_by_what_was_read_before(session, bench_unit):
    window = Window(formed_fraction=(0, 1))
    steps = (ContactStep(), ReadStep(), sweep_step(), ExpectStep(cells="cell (3, 7)", window=window))
    with pytest.raises(OutOfLimits, match="not read since"):
        session.run(plan_of(*steps), arm=DIE)


# routes ---------------------------------------------------------------------------------------------------------


def test_a_reference_resistor_reads_what_the_board_file_says(session, bench_unit):
    _, log = bench_unit
    result = session.run(plan_of(RouteStep(reference=0, count=3)))
    (found,) = result.routes
    assert found["conductance_S"] == pytest.approx(1 / 20e3, rel=0.01)
    assert found["points"] == 3
    assert next(value for what, value in log if what == "route") == (RoutedReference(0), 0, 0)


def test_a_dac_channel_is_measured_without_drawing_current(session, bench_unit):
    _, log = bench_unit
    result = session.run(plan_of(RouteStep(dac=2, voltage=1.5)))
    (found,) = result.routes
    assert found["voltage_V"] == pytest.approx(1.5, abs=0.01)
    assert found["conductance_S"] is None
    assert ("amperes", 0.0) in log
    assert "volts" not in words(log)
    code = session.description.board.dac_code(1.5)
    assert next(value for what, value in log if what == "route") == (RoutedDac(2), code, 0)


def test_at_no_voltage_a_cell_is_connected_and_the_output_stays_off(session, bench_unit):
    _, log = bench_unit
    result = session.run(plan_of(RouteStep(cell="3,7", voltage=0.0)))
    assert "on" not in words(log)
    assert result.routes[0]["points"] == 0
    assert result.routes[0]["conductance_S"] is None


def test_several_units_must_be_named(session):
    _, log = put_on_the_table(session, "left", "right")
    refused(session, plan_of(RouteStep(reference=0)), "left", "right", arm=None, log=log)
    refused(session, plan_of(RouteStep(reference=0, smu="middle")), "middle", "left", arm=None, log=log)
    result = session.run(plan_of(RouteStep(reference=0, smu="right")))
    assert result.routes[0]["smu"] == "right"


def test_a_bench_without_a_unit_says_so(session):
    station = session.stations[DIE]
    station.smus = station.guard.smus = {}
    refused(session, plan_of(ContactStep(), sweep_step()), "bench.yaml", "smus", log=[])


def test_a_board_that_says_it_cannot_is_believed(session, bench_unit):
    _, log = bench_unit
    controller, hello = session.bench.controllers[DIE], session.bench.controllers[DIE].hello

    controller.hello = lambda: replace(hello(), capabilities=frozenset({"sl_select"}))
    refused(session, plan_of(RouteStep(cell="3,7")), "smu_route", arm=None, log=log)
    refused(session, plan_of(RouteStep(reference=0)), "reference_resistors", arm=None, log=log)


# what is kept ---------------------------------------------------------------------------------------------------


def test_compliance_is_kept_and_reported(session, bench_unit):
    steps = (ContactStep(), sweep_step(), sweep_step("read", name="look", compliance=1e-7))
    result = session.run(plan_of(*steps), arm=DIE)
    look = result.sweeps[1]
    (block,) = blocks(session, "look")
    limited = block.load()["in_compliance"]
    assert limited.any()
    assert look["in_compliance"] == np.count_nonzero(limited)
    assert look["max_current_A"] <= 1e-7 * (1 + 1e-9)
    with h5py.File(find_run(session.runs, "last").folder / "run.h5") as file:
        assert np.array_equal(file["step-002-look/in_compliance"][:], limited)


def test_curves_are_labelled_arrays_with_units(session, bench_unit):
    steps = (ContactStep(), sweep_step(both_ways=True), RouteStep(reference=1, count=4))
    session.run(plan_of(*steps), arm=DIE)
    with h5py.File(find_run(session.runs, "last").folder / "run.h5") as file:
        curve, route = file["step-001-sweep"], file["step-002-route"]
        for group, points in ((curve, 41), (route, 4)):
            for name, units in (("voltage", "V"), ("current", "A"), ("in_compliance", "1")):
                assert group[name].shape == (points,)
                assert group[name].attrs["units"] == units
                assert group[name].dims[0].label == "point"
        about = {name: curve.attrs[name] for name in ("kind", "row", "column", "compliance_A", "gate_V", "smu")}
        assert about == {
            "kind": "electroform", "row": 3, "column": 7, "compliance_A": 2e-4, "gate_V": 1.6, "smu": "smu",
        }  # fmt: skip
        assert route.attrs["target"] == "reference resistor 1"
        assert curve["voltage"][20] == pytest.approx(max(curve["voltage"]), abs=0.05) or curve["in_compliance"][20]


def test_the_direction_of_a_sweep_reaches_the_cell(tmp_path):
    """A formed cell that is swept the other way conducts less."""
    with SmallBench(tmp_path).write().open() as session:
        put_on_the_table(session)
        session.run(plain_plan(pulse_step("row 3", gate=1.2)), arm=DIE)
        before = conducting_now(session)[PLACE]
        session.run(plan_of(ContactStep(), sweep_step("reset", voltage=2.4, compliance=5e-3)), arm=DIE)
        assert conducting_now(session)[PLACE] < before / 2
