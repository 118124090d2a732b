"""What could not be kept is refused before the first volt: names too long for the disk, texts that no file can hold."""

import os

import numpy as np
import pytest
from workbench import SmallBench, hidden, ledger_of, plain_plan, pulse_step

from rramlab.base.errors import UsageError
from rramlab.plan.plan import Plan
from rramlab.plan.programming import AmplitudeLadder, ProgramStep
from rramlab.plan.steps import ForEachStep, ReadStep, RepeatStep
from rramlab.plan.steps import Round as Turn
from rramlab.runs.fitting import LONGEST_NAME, refuse_unkeepable
from rramlab.runs.store import list_runs

DIE = "small-1"
LADDER = AmplitudeLadder(start=0.8, to=2.4, step=0.4, width=1e-6, gate=1.8)


@pytest.fixture
def session(tmp_path):
    with SmallBench(tmp_path, rows=8, columns=8, figures={"lines_at_once": "4"}).write().open() as opened:
        yield opened


def longest(make, runs):
    """Return how long the name in ``make(name)`` may be, by what is refused."""

    def fits(length):
        try:
            refuse_unkeepable(make("n" * length), runs)
        except UsageError:
            return False
        return True

    assert fits(1)
    return max(length for length in range(1, 400) if fits(length))


def plain(name):
    return plain_plan(pulse_step("row 0"), ReadStep(name=name))


def looped(name):
    step = ReadStep(name=name)
    for _ in range(3):
        step = RepeatStep(times=1, steps=(step,))
    return plain_plan(pulse_step("row 0"), step)


def program(name):
    step = ProgramStep(cells="row 1", target=12e-6, tolerance=4e-6, budget=2, set=LADDER, reset=LADDER, name=name)
    return plain_plan(pulse_step("row 1"), ForEachStep(name="value", rounds=(Turn(value=1, steps=(step,)),)))


@pytest.mark.parametrize("make", [plain, looped, program])
def test_the_longest_name_that_is_taken_can_be_kept_and_one_more_is_refused(session, make):
    most = longest(make, session.runs)
    before = hidden(session).pulses.copy()
    with pytest.raises(UsageError, match="Nothing was energised"):
        session.run(make("n" * (most + 1)), arm=DIE)
    assert np.array_equal(hidden(session).pulses, before)
    assert not list_runs(session.runs)
    result = session.run(make("n" * most), arm=DIE)
    (run,) = list_runs(session.runs)
    assert list(run.blocks("n" * most))
    assert (run.folder / "run.h5").exists()
    names = [len(os.fsencode(path.name)) for path in (run.folder / "blocks").iterdir()]
    assert max(names) <= LONGEST_NAME
    assert result.pulses


def test_232_letters_are_too_many(session):
    with pytest.raises(UsageError, match=r"the data set 'n+…nnnn' makes files of 2\d\d characters.*takes 255"):
        session.run(plain_plan(pulse_step("row 0"), ReadStep(name="n" * 232)), arm=DIE)
    assert not ledger_of(session).history()


def labelled(value):
    return plain_plan(pulse_step("row 0"), ForEachStep(name="v", rounds=(Turn(value=value, steps=(ReadStep(),)),)))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (plain_plan(pulse_step("row 0"), name="p" * 300), "folder of 325 characters"),
        (plain_plan(pulse_step("row 0"), name="a\0b"), "can be printed"),
        (labelled("a\0b"), "'a.x00b'"),
        (labelled("\udc80"), "printed"),
        (labelled(2**70), "64 bits"),
    ],
    ids=["plan", "nul in the plan's name", "nul", "half a character", "large"],
)
def test_what_no_file_can_hold_is_refused_before_the_first_pulse(session, plan, words):
    with pytest.raises(UsageError, match=words):
        session.run(plan, arm=DIE)
    assert not hidden(session).pulses.any()
    assert not list_runs(session.runs)


def test_a_path_that_the_system_cannot_hold_is_refused(session, monkeypatch):
    plan = plain_plan(pulse_step("row 0"))
    monkeypatch.setattr("rramlab.runs.fitting._limits", lambda runs: (255, 120))
    with pytest.raises(UsageError, match="makes paths of"):
        session.run(plan, arm=DIE)
    assert not hidden(session).pulses.any()


def test_long_labels_and_long_plans_are_kept_whole(session):
    cells = ", ".join(f"({row}, {column})" for row in range(8) for column in range(8))
    text = "cells " + ", ".join([cells] * 200)  # more than an attribute of HDF5 was ever able to hold
    assert len(text) > 1 << 16
    steps = ReadStep(cells=text), ForEachStep(name="where", rounds=(Turn(value=text, steps=(ReadStep(name="inner"),)),))
    result = session.run(Plan(name="long", steps=steps))
    import h5py

    with h5py.File(f"{result.folder}/run.h5") as file:
        assert text in file.attrs["plan"].decode()
        assert file["step-001-000-inner/where"].asstr()[0] == text
