"""A point that is no measurement is marked: the others stay, nothing is repeated, and the run does not end well."""

import csv
import json

import h5py
import numpy as np
import pytest
from probes import LOST, put_on_the_table, words
from workbench import hidden, ledger_of

from rramlab.base.errors import InstrumentError, OutOfLimits
from rramlab.engine.results import Flawed
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ContactStep, ForEachStep, ReadStep, RouteStep, SweepStep
from rramlab.plan.steps import Round as Turn
from rramlab.runs.export import export
from rramlab.runs.store import Run, find_run

DIE = "small-1"


@pytest.fixture
def session(small_bench):
    with small_bench.open() as opened:
        yield opened


@pytest.fixture
def bench_unit(session):
    units, log = put_on_the_table(session)
    return units["smu"], log


def forming(cell="(3, 7)", **changes):
    given = {"purpose": "electroform", "voltage": 3.9, "compliance": 2e-4, "points": 21, "dwell": 1e-5}
    return SweepStep(cell=cell, **{**given, **changes})


def plan_of(*steps):
    return Plan(name="probing", steps=(ContactStep(), *steps))


def last(session):
    return find_run(session.runs, "last")


def flawed(session, plan):
    with pytest.raises(Flawed) as caught:
        session.run(plan, arm=DIE)
    assert caught.value.exit_code == 5
    return caught.value


def test_one_over_range_point_of_a_pulse_is_named_and_the_curve_is_kept(session, bench_unit):
    smu, log = bench_unit
    smu.bad = {17: "+9.900000E+37"}
    error = flawed(session, plan_of(forming(), ReadStep(cells="row 3")))
    for word in ("electroform sweep of cell (3, 7)", "point 17 of 21", "3.315 V", "+9.900000E+37"):
        assert word in str(error)
    run = last(session)
    assert run.record["status"] == "failed"
    assert str(error) == run.record["reason"]
    (flaw,) = run.record["flaws"]
    assert (flaw["position"], flaw["point"], flaw["said"]) == ("001.00000", 17, "+9.900000E+37")
    assert flaw["level_V"] == pytest.approx(3.315)
    curve = run.block("001.00000", "sweep").load()
    assert np.flatnonzero(~curve["good"]).tolist() == [17]
    assert np.isfinite(curve["current"][curve["good"]]).all()
    assert list(run.blocks("read"))  # the rest of the plan was carried out
    log.clear()
    with pytest.raises(Flawed) as again:
        session.resume(run.id, arm=DIE)
    assert "sweep" not in words(log)
    assert "lost" not in str(again.value)
    assert str(again.value) == str(error)
    assert ledger_of(session).pulse_counts().sum() == 1 == hidden(session).pulses[3, 7]


def test_the_point_is_marked_in_every_form_that_the_run_is_given_away_in(session, bench_unit, tmp_path):
    bench_unit[0].bad = {4: "nan"}
    flawed(session, plan_of(forming()))
    with h5py.File(last(session).folder / "run.h5") as file:
        group = file["step-001-sweep"]
        assert np.flatnonzero(~group["good"][:]).tolist() == [4]
        assert np.isnan(group["current"][4])
        assert group["good"].attrs["units"] == "1"
    (path,) = [each for each in export(last(session), "csv", tmp_path / "out") if "sweep" in each.name]
    with path.open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["good"] for line in lines].count("False") == 1
    assert (lines[4]["good"], lines[4]["current_A"]) == ("False", "nan")
    export(last(session), "npz", tmp_path / "out.npz")
    assert not np.load(tmp_path / "out.npz")["step-001-sweep/good"][4]


def test_figures_of_a_curve_leave_the_point_out(session, bench_unit):
    smu, _ = bench_unit
    smu.bad = {20: "9.91E37"}  # the peak, which a sweep one way is judged by
    error = flawed(session, plan_of(forming(), ReadStep(cells="row 3")))
    (found,) = error.result.sweeps
    assert found["bad"] == [{"point": 20, "level_V": 3.9, "said": "9.91E37"}]
    assert found["points"] == 21
    assert found["at_V"] < 3.9
    assert np.isfinite([found["max_current_A"], found["conductance_S"] or 0.0]).all()
    assert json.loads(json.dumps(last(session).record, allow_nan=False))


def test_a_good_run_says_nothing_of_points(session, bench_unit):
    result = session.run(plan_of(forming()), arm=DIE)
    assert result.passed
    assert "bad" not in result.sweeps[0]
    assert "bad" not in last(session).block("001.00000", "sweep").attributes


def test_readings_of_a_route_are_marked_one_by_one(session, bench_unit):
    smu, _ = bench_unit
    smu.bad = {1: "9.9E37"}
    error = flawed(session, plan_of(RouteStep(reference=0, count=4), RouteStep(reference=1, count=2, name="other")))
    first, other = error.result.routes
    assert first["conductance_S"] == pytest.approx(1 / 20e3, rel=0.01)
    assert "bad" not in other
    assert "point 1 of 4" in str(error)
    assert "'route' of reference resistor 0" in str(error)


def test_a_route_without_any_measurement_has_no_figures(session, bench_unit):
    bench_unit[0].bad = {0: "9.9E37", 1: "9.9E37"}
    error = flawed(session, plan_of(RouteStep(reference=0, count=2)))
    assert error.result.routes[0]["conductance_S"] is None


def test_a_unit_that_measures_nothing_gives_no_further_pulse_until_a_person_says_so(session, bench_unit):
    """One bad point goes on; a unit that is blind would spend one cell after the other."""
    smu, log = bench_unit
    smu.bad = dict.fromkeys(range(21), "nan")
    values = tuple(Turn(value=f"({row}, 0)", steps=(forming(f"({row}, 0)"),)) for row in range(3))
    with pytest.raises(OutOfLimits, match="No point of it is a measurement") as caught:
        session.run(plan_of(ForEachStep(name="cell", rounds=values)), arm=DIE)
    assert not isinstance(caught.value, Flawed)
    assert words(log).count("sweep") == 1
    smu.bad = {}
    with pytest.raises(Flawed) as after:
        session.resume(last(session).id, arm=DIE)
    assert words(log).count("sweep") == 3
    assert len(after.value.result.sweeps) == 3
    assert ledger_of(session).pulse_counts().sum() == 3


@pytest.mark.parametrize("what", ["queue", "off"])
def test_a_curve_whose_points_came_outlives_what_fails_afterwards(session, bench_unit, what):
    smu, log = bench_unit
    smu.fail[what] = LOST
    with pytest.raises(InstrumentError):
        session.run(plan_of(forming()), arm=DIE)
    assert np.isfinite(last(session).block("001.00000", "sweep").load()["current"]).all()
    assert not ledger_of(session).dangling()
    smu.fail.clear()
    log.clear()
    with pytest.raises(Flawed, match=f"after its points had come: {LOST}") as caught:
        session.resume(last(session).id, arm=DIE)
    assert "sweep" not in words(log)
    assert caught.value.result.sweeps[0]["problem"] == str(LOST)
    assert hidden(session).pulses[3, 7] == 1


def test_points_that_cannot_be_told_apart_are_kept_as_the_unit_answered_them(session, bench_unit, monkeypatch):
    smu, _ = bench_unit
    sweep = smu.sweep

    def cut(program, tick=None):
        found = sweep(program, tick)
        object.__setattr__(found, "bad", dict.fromkeys(range(21), ""))
        object.__setattr__(found, "answer", "1,2,3;garbled")
        return found

    monkeypatch.setattr(smu, "sweep", cut)
    with pytest.raises(
        OutOfLimits, match="its 21 points cannot be told from one another in the answer '1,2,3;garbled'"
    ):
        session.run(plan_of(forming()), arm=DIE)
    assert last(session).block("001.00000", "sweep").attributes["answer"] == "1,2,3;garbled"


def test_curves_of_older_runs_are_good_in_every_point(session, bench_unit):
    session.run(plan_of(forming()), arm=DIE)
    run = last(session)
    block = run.block("001.00000", "sweep")
    old = np.zeros(21, [("voltage", float), ("current", float), ("in_compliance", bool)])
    for name in old.dtype.names:
        old[name] = block.load()[name]
    run.append(
        "001.00000", "sweep", old, **{k: v for k, v in block.attributes.items() if k not in ("crc32", "written_at")}
    )
    assert Run(run.folder).block("001.00000", "sweep").load()["good"].all()
    run.consolidate()
    with h5py.File(run.folder / "run.h5") as file:
        assert file["step-001-sweep/good"][:].all()


# what else is lost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", [SweepStep(cell="(3, 7)", voltage=0.2, points=5, name="look"),
                                  RouteStep(cell="(3, 7)", name="look")], ids=["sweep", "route"])  # fmt: skip
def test_a_harmless_measurement_that_is_lost_is_not_made_up_by_one_after_the_pulse(session, bench_unit, look):
    smu, log = bench_unit
    plan = plan_of(look, forming(), forming("(4, 7)", name="other"))
    smu.fail["half-way"] = None
    calls = iter([None] * (2 if look.kind == "sweep" else 1))

    def fails(what, value=None):
        log.append((what, value))
        if what == "half-way" and next(calls, LOST) is LOST:
            raise LOST

    smu._told = fails
    with pytest.raises(InstrumentError):
        session.run(plan, arm=DIE)
    run = last(session)
    run.block("001.00000", "look").path.with_suffix(".json").unlink()
    smu._told = lambda what, value=None: log.append((what, value))
    with pytest.raises(Flawed) as caught:
        session.resume(run.id, arm=DIE)
    reasons = [flaw["reason"] for flaw in caught.value.result.flaws]
    assert "the block 001.00000 of 'look' is lost, and 1 of its cells were pulsed since" in reasons
    assert not run.has("001.00000", "look")
