"""``runs repeat``: the die's ledger is brought back to what it was, from what it is, and takes no room in a run."""

import json

import numpy as np
import pytest
from workbench import SmallBench, forming_plan, ledger_of, plain_plan, pulse_step

from rramlab.macro.cells import CellSelection
from rramlab.macro.pulses import Pulse
from rramlab.plan.operations import PulseOp
from rramlab.plan.steps import ReadStep
from rramlab.runs.ledger import Ledger
from rramlab.runs.snapshot import SNAPSHOT, keep_snapshot, load_snapshot
from rramlab.runs.store import list_runs

DIE = "small-1"
BUSY = plain_plan(pulse_step("rows 0-7", kind="reset", voltage=1.8, gate=3.0), ReadStep(cells="rows 0-7"))


@pytest.fixture
def bench(tmp_path):
    return SmallBench(tmp_path / "lab").write()


def runs_of(bench):
    return list_runs(bench.folder / "data" / "runs")


def pulsed(ledger, count):
    """Write operations of another run down, each on other cells: they cannot be packed well."""
    draw = np.random.default_rng(3)
    for number in range(count):
        cells = CellSelection(draw.random(ledger.geometry.shape) < 0.5)
        op_id = ledger.intend(PulseOp("reset", cells, Pulse(1.0, 1e-6, 3.0), 8), "other", f"000.{number:05d}", 1)
        ledger.finish(op_id, cells)


def test_a_long_life_makes_no_run_larger(bench):
    with bench.open() as session:
        session.run(plain_plan(ReadStep()))
        pulsed(ledger_of(session), 500)
        session.run(plain_plan(ReadStep()))
    few, many = ((run.folder / SNAPSHOT).stat().st_size for run in runs_of(bench))
    assert many < few + 2000


def test_every_run_of_a_life_is_repeated_with_the_ledger_that_it_had(rramlab, bench):
    with bench.open() as session:
        session.arm(DIE)
        session.run(forming_plan(block_rows=8))
        for _ in range(3):
            session.run(BUSY)
    for run in runs_of(bench):
        document = rramlab("runs", "repeat", run.id, "--bench", bench.folder, "--json").document
        assert document["equal"], document


def test_a_kept_repeat_has_the_life_up_to_its_run_and_no_more(rramlab, bench, tmp_path):
    with bench.open() as session:
        session.arm(DIE)
        for plan in (forming_plan(block_rows=8), BUSY, BUSY):
            session.run(plan)
        whole = ledger_of(session).history()
    run = runs_of(bench)[1]
    assert rramlab("runs", "repeat", run.id, "--bench", bench.folder, "--output", tmp_path / "kept").exit_code == 0
    with SmallBench(tmp_path / "kept").open() as session:
        kept = ledger_of(session).history()
    assert [(entry.op_id, entry.position, entry.cells) for entry in kept] == [
        (entry.op_id, entry.position, entry.cells) for entry in whole[: len(kept)]
    ]
    assert [entry.run for entry in kept[:-1]] == [entry.run for entry in whole[: len(kept) - 1]]
    assert kept[-1].op_id == whole[-2].op_id


def test_an_operation_that_was_in_doubt_then_is_in_doubt_again(tmp_path, bench):
    with bench.open() as session:
        ledger = ledger_of(session)
        cells = CellSelection(np.eye(32, 16, dtype=bool))
        lost = ledger.intend(PulseOp("reset", cells, Pulse(1.0, 1e-6, 3.0), 8), "other", "000.00000", 1)
        then = ledger.moment
        ledger.put("contact_passed_at", "later")
        ledger.finish(lost, CellSelection(np.zeros((32, 16), bool)), cells)
        pulsed(ledger, 2)
        (tmp_path / "then.db").write_bytes(ledger.image(then))
        geometry = ledger.geometry
    found = Ledger(tmp_path / "then.db", DIE, geometry)
    assert [entry.op_id for entry in found.dangling()] == [lost]
    assert found.last_id == lost
    assert found.pulse_counts().sum() == 16
    assert not found.unknown().count
    assert found.get("contact_passed_at") is None
    again = found.intend(PulseOp("reset", cells, Pulse(1.0, 1e-6, 3.0), 8), "other", "000.00001", 1)
    assert again == lost + 1
    found.close()


def test_without_the_ledger_of_its_die_a_run_cannot_be_repeated(rramlab, bench):
    with bench.open() as session:
        session.run(BUSY, arm=DIE)
    (run,) = runs_of(bench)
    folder = bench.folder / "data" / "dies" / DIE
    files = load_snapshot(run)
    moment = json.loads(files["ledger.json"])
    keep_snapshot(run, {**files, "ledger.json": json.dumps({**moment, "last_id": 7}).encode()})
    older = rramlab("runs", "repeat", run.id, "--bench", bench.folder)
    assert older.exit_code == 1
    assert "ends at operation 1" in older.stderr
    keep_snapshot(run, files)
    (folder / "ledger.db").rename(folder / "away")
    missing = rramlab("runs", "repeat", run.id, "--bench", bench.folder)
    assert missing.exit_code == 1
    assert "there is no ledger" in missing.stderr
    (folder / "away").rename(folder / "ledger.db")
    assert rramlab("runs", "repeat", run.id, "--bench", bench.folder).exit_code == 0


def test_a_snapshot_with_a_whole_ledger_is_as_good(rramlab, bench):
    """As older versions kept it."""
    with bench.open() as session:
        blank = ledger_of(session).image()
        session.run(BUSY, arm=DIE)
    (run,) = runs_of(bench)
    files = load_snapshot(run)
    del files["ledger.json"]
    keep_snapshot(run, {**files, "ledger.db": blank})
    assert rramlab("runs", "repeat", run.id, "--bench", bench.folder, "--json").document["equal"]
