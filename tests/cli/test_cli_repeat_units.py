"""``runs repeat`` of what a source-measure unit measured: its noise goes on from run to run, and begins again with none."""

import numpy as np
import pytest
from workbench import SmallBench, forming_plan, hidden, plain_plan

from rramlab.plan.steps import ReadStep, RepeatStep, RouteStep, SweepStep
from rramlab.runs.store import list_runs

DIE = "small-1"
UNITS = (
    "smus:\n  - {name: a, driver: keysight-b2900, address: simulated}\n"
    "  - {name: b, driver: keithley-2400, address: simulated}\n"
)
CELL = "(3, 7)"
READ = SweepStep(purpose="read", cell=CELL, voltage=0.2, points=11, smu="a")
PLANS = {
    "read sweep": (READ,),
    "forming sweep": (
        SweepStep(purpose="electroform", cell=CELL, voltage=3.3, compliance=2e-4, both_ways=True, smu="a"),
    ),
    "routes": tuple(
        RouteStep(**target, voltage=0.1, count=5, smu="b") for target in ({"reference": 0}, {"cell": CELL})
    ),
    "held channel": (RouteStep(dac=2, voltage=1.0, count=3, smu="a"),),
    "in a loop": (RepeatStep(times=3, steps=(READ, ReadStep(cells="row 3"))),),
}


@pytest.fixture
def bench(tmp_path):
    made = SmallBench(tmp_path / "lab").write()
    path = made.folder / "bench.yaml"
    path.write_text(path.read_text().replace("dies:\n", f"{UNITS}dies:\n"))
    return made


def curves(run):
    return [block.load() for block in run.blocks() if block.attributes["form"] == "curve"]


def test_whatever_came_before_in_the_session_a_run_is_repeated_bit_for_bit(rramlab, bench):
    with bench.open() as session:
        session.arm(DIE)
        session.run(forming_plan("one-of-pair(seed=3) - row 3"))
        for steps in PLANS.values():
            session.run(plain_plan(*steps))
    with bench.open() as session:
        session.run(plain_plan(*PLANS["routes"]))
    runs = list_runs(bench.folder / "data" / "runs")
    assert len(runs) == len(PLANS) + 2
    for run in runs:
        document = rramlab("runs", "repeat", run.id, "--bench", bench.folder, "--json").document
        assert document["equal"], document


def test_the_noise_of_a_unit_goes_on_in_the_next_session(bench):
    """Two sessions that did the same would otherwise measure the same errors, and their mean would hide them."""
    route = plain_plan(RouteStep(reference=0, voltage=0.1, count=5, smu="a"))
    for _ in range(2):
        with bench.open() as session:
            session.run(route)
    (first,), (second,) = (curves(run) for run in list_runs(bench.folder / "data" / "runs"))
    assert not np.isin(first["current"], second["current"]).any()


def test_two_benches_with_the_same_history_measure_the_same(bench, tmp_path):
    other = SmallBench(tmp_path / "other").write()
    (other.folder / "bench.yaml").write_text((bench.folder / "bench.yaml").read_text())
    with bench.open() as session:  # one session here, one for each run there
        for steps in PLANS.values():
            session.run(plain_plan(*steps), arm=DIE)
    for steps in PLANS.values():
        with other.open() as session:
            session.run(plain_plan(*steps), arm=DIE)
    here, there = (list_runs(each.folder / "data" / "runs") for each in (bench, other))
    for one, another in zip(here, there, strict=True):
        for a, b in zip(curves(one), curves(another), strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("seed", range(4))
def test_a_read_sweep_is_no_pulse_whatever_the_unit_makes_of_the_voltage(bench, seed):
    """Each unit has its own error: what is asked for at the read voltage is a little above it in half of them."""
    path = bench.folder / "bench.yaml"
    path.write_text(path.read_text().replace("address: simulated}", f"address: simulated, options: {{seed: {seed}}}}}"))
    with bench.open() as session:
        session.run(plain_plan(READ, READ.model_copy(update={"smu": "b"})))
        assert not hidden(session).pulses.any()
