"""An isolated read in a session: kept as what it was, and never taken for what its cells conduct in use."""

import csv

import h5py
import numpy as np
import pytest
from workbench import SmallBench, hidden, plain_plan, pulse_step

from rramlab.base.errors import OutOfLimits, Refused
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ExpectStep, ForEachStep, ReadStep, Round, Window
from rramlab.runs.comparing import last_map
from rramlab.runs.export import export
from rramlab.runs.store import Run, find_run

DIE = "small-1"
LOSSY = {DIE: "model: {wires: {solver: exact, segment_Ohm: 200 Ohm}}"}
ALONE = ReadStep(cells="rows 0-7", isolated=True, name="alone")


@pytest.fixture
def session(tmp_path):
    """A die on lossy lines, its first rows formed."""
    with SmallBench(tmp_path, dies=LOSSY).write().open() as opened:
        opened.run(plain_plan(pulse_step("rows 0-3"), ReadStep()), arm=DIE)
        yield opened


def done(session, *steps, **more):
    return find_run(session.runs, session.run(Plan(name="look", steps=steps, **more)).run_id)


def test_blocks_and_groups_say_so_and_others_do_not(session, tmp_path):
    run = done(session, ReadStep(cells="rows 0-7"), ALONE, block_rows=4)
    assert [block.attributes.get("isolated") for block in run.blocks("alone")] == [True, True]
    assert all("isolated" not in block.attributes for block in run.blocks("read"))
    with h5py.File(run.folder / "run.h5") as file:
        assert file["step-001-alone"].attrs["isolated"]
        assert "isolated" not in file["step-000-read"].attrs
        siemens = file["step-001-alone/conductance"][:8]
        assert not np.array_equal(siemens, file["step-000-read/conductance"][:8])
    tables = {path.stem: path for path in export(run, "csv", tmp_path / "csv")}
    with tables["step-001-alone"].open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    found = [float(line["conductance_S"]) for line in lines]
    assert np.allclose(np.array(found, np.float32).reshape(8, 16), siemens)


def test_it_is_no_last_read_of_its_cells(session):
    before = session.stations[DIE].conductance_S.copy()
    run = done(session, ALONE)
    assert np.array_equal(session.stations[DIE].conductance_S, before, equal_nan=True)
    done(session, ReadStep(cells="rows 0-7"))
    assert not np.array_equal(session.stations[DIE].conductance_S, before, equal_nan=True)
    both = done(session, ReadStep(cells="rows 0-3"), ALONE)
    block = next(both.blocks("read")).load()
    assert np.array_equal(last_map(both)[:4], block["conductance"])  # where both were read
    assert np.isfinite(last_map(run)[:8]).all()


def test_an_expectation_after_it_judges_what_was_read_before(session):
    """On lines this lossy the two differ by more than the window is wide."""
    read_S = session.stations[DIE].conductance_S[:4]
    alone_S = np.stack([block.load()["conductance"] for block in done(session, ALONE).blocks()])[0, :4]
    middle = float(np.median(read_S[read_S > 2e-6]))
    near = Window(median=(middle * 0.999, middle * 1.001))
    assert not 0.999 < np.median(alone_S[alone_S > 2e-6]) / middle < 1.001
    result = session.run(Plan(name="judge", steps=(ALONE, ExpectStep(cells="rows 0-3", window=near))))
    assert result.passed


def test_a_loop_over_it_is_one_array(session):
    rounds = tuple(Round(value=n, steps=(ReadStep(cells="rows 0-3", isolated=True, repeats=n),)) for n in (1, 2))
    run = done(session, ForEachStep(name="count", rounds=rounds))
    with h5py.File(run.folder / "run.h5") as file:
        group = file["step-000-000-read"]
        assert group["codes"].shape == (2, 2, 32, 16)
        assert group.attrs["isolated"]


def test_what_was_read_is_not_read_again_when_a_run_goes_on(session):
    impossible = ExpectStep(cells="row 0", window=Window(median=(0.5, 0.6)))
    before = session.stations[DIE].conductance_S.copy()
    with pytest.raises(OutOfLimits):
        session.run(Plan(name="look", steps=(ALONE, impossible), block_rows=4))
    run, clock = find_run(session.runs, "last"), hidden(session).clock_ns
    codes = [block.load()["codes"] for block in run.blocks()]
    with pytest.raises(OutOfLimits):
        session.resume(run.id)
    assert hidden(session).clock_ns == clock
    assert all(np.array_equal(a.load()["codes"], b) for a, b in zip(Run(run.folder).blocks(), codes, strict=True))
    assert np.array_equal(session.stations[DIE].conductance_S, before, equal_nan=True)
    next(run.blocks()).path.write_bytes(b"gone")
    with pytest.raises(OutOfLimits):
        session.resume(run.id)
    assert hidden(session).clock_ns > clock
    assert np.array_equal(session.stations[DIE].conductance_S, before, equal_nan=True)


def test_a_protocol_can_ask_for_it_and_a_board_without_it_is_refused(session, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\ndescription: x\nsteps:\n  - read: {cells: rows 0-7, isolated: yes}\n")
    run = find_run(session.runs, session.run(str(path)).run_id)
    assert all(block.attributes["isolated"] for block in run.blocks())
    drivers = session.description.root / "drivers" / "small.yaml"
    text = drivers.read_text(encoding="utf-8")
    session.close()
    drivers.write_text(text.replace(", isolated_reads]", "]"), encoding="utf-8")
    with SmallBench.open(SmallBench(session.description.root)) as other, pytest.raises(Refused) as caught:
        other.run(str(path))
    assert "no isolated_reads" in str(caught.value)
    assert caught.value.source.line == 4
