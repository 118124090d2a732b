"""What a loop's figures are of: the cells that a person means, from the state before the first round on, over time waited."""

import csv

import h5py
import numpy as np
import pytest
from workbench import SmallBench, ledger_of, plain_plan, pulse_step

from rramlab.macro.cells import CellSelection
from rramlab.macro.regions import Region
from rramlab.plan.steps import ReadStep, RepeatStep, Until, WaitStep, Window
from rramlab.report.findings import gather
from rramlab.report.page import page
from rramlab.report.rounds import axes_of
from rramlab.report.runfigures import pictures, share_of
from rramlab.runs import LEDGER
from rramlab.runs.export import export
from rramlab.runs.store import Run

DIE = "small-1"


@pytest.fixture
def session(tmp_path):
    with SmallBench(tmp_path / "lab").write().open() as opened:
        opened.run("electroform", {"cells": "one-of-pair(seed=3)"}, arm=DIE)
        yield opened


def findings(session, result):
    return gather(Run(session.runs / result.run_id), session.die_folder(DIE) / LEDGER, False)


def table(session, result, name, folder):
    export(Run(session.runs / result.run_id), "csv", folder)
    (path,) = folder.glob(f"*-{name}.csv")
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_retention_follows_the_cells_that_conducted_at_the_first_read(session, tmp_path):
    result = session.run("retention", {"cells": "all", "reads": "4", "wait": "1 h"})
    found = findings(session, result)
    ((series,),) = found.reads.loops.values()
    pulsed = int((ledger_of(session).pulse_counts() > 0).sum())
    assert series.before is not None
    for point in (series.before, *series.points):
        assert 0.9 * pulsed <= point.followed <= pulsed
        assert 11e-6 < point.followed_S[1] < 14e-6  # and not halfway to the pristine ones
    (axis,) = axes_of([series])
    assert axis.label == "time waited (h)"
    assert axis.values == (0.0, 1.0, 2.0, 3.0, 4.0)
    assert axis.points[0] is series.before
    (conductance, share) = pictures(found)["rounds"]
    assert "cells that conducted at the first read" in conductance.caption
    assert "cells that conducted at the first read" in share.caption
    text = page(found)
    assert "4 h" in text
    assert "their median, quartiles" in text


def test_cells_that_stop_to_conduct_are_still_followed(session):
    result = session.run("retention", {"cells": "rows 0-3", "reads": "2", "wait": "1 h"})
    run = Run(session.runs / result.run_id)
    (last,) = [each for each in run.blocks("retained") if each.attributes["round"] == [1]]
    array = last.load().copy()
    conducting = np.argwhere(array["conductance"] > 2e-6)
    for row, column in conducting[: len(conducting) // 2 + 2]:
        array["conductance"][row, column] = 0.1e-6
    about = {key: value for key, value in last.attributes.items() if key not in ("crc32", "written_at")}
    run.append(last.position, "retained", array, **about)
    ((series,),) = findings(session, result).reads.loops.values()
    first, then = series.points
    assert then.followed == first.followed
    assert then.followed_S[1] < 2e-6 < first.followed_S[1]
    assert share_of(series, then)[0] < share_of(series, then)[1] / 2


@pytest.mark.parametrize("form", ["csv", "h5"])
def test_the_time_waited_is_a_coordinate_of_every_round_and_of_the_first_read(session, tmp_path, form):
    result = session.run("retention", {"cells": "row 0", "reads": "3", "wait": "1 h"})
    if form == "csv":
        rounds = table(session, result, "retained", tmp_path / "out")
        assert sorted({(line["round"], line["waited_s"]) for line in rounds}) == [
            ("0", "3600.0"), ("1", "7200.0"), ("2", "10800.0"),
        ]  # fmt: skip
        (path,) = (tmp_path / "out").glob("*-first.csv")
        with path.open(newline="") as stream:
            assert {line["waited_s"] for line in csv.DictReader(stream)} == {"0.0"}
        return
    with h5py.File(f"{result.folder}/run.h5") as file:
        group = file["step-001-001-retained"]
        assert group["waited"][:].tolist() == [3600.0, 7200.0, 10800.0]
        assert group["waited"].attrs["units"] == "s"
        assert "waited" in group["conductance"].attrs["coordinates"].split()
        assert file["step-000-first"].attrs["waited_s"] == 0.0


def test_only_waits_that_have_passed_count_whatever_ends_a_loop(session):
    """How often a loop with a condition went round is not in its plan."""
    never = Until(cells="row 0", window=Window(formed_fraction=(0.0, 1.0)))
    early = RepeatStep(times=5, until=never, steps=(WaitStep(time=60.0), ReadStep(cells="row 0", name="early")))
    late = RepeatStep(times=2, steps=(ReadStep(cells="row 0", name="late"), WaitStep(time=30.0)))
    result = session.run(plain_plan(early, late))
    with h5py.File(f"{result.folder}/run.h5") as file:
        assert file["step-001-001-early/waited"][:].tolist() == [60.0]
        assert file["step-002-000-late/waited"][:].tolist() == [60.0, 90.0]


def test_in_a_run_without_waits_nothing_is_said_of_them(session, tmp_path):
    result = session.run(plain_plan(RepeatStep(times=2, steps=(ReadStep(cells="row 0"),))))
    assert "waited_s" not in table(session, result, "read", tmp_path / "out")[0]
    with h5py.File(f"{result.folder}/run.h5") as file:
        assert "waited" not in file["step-001-000-read"]


def test_cycles_are_followed_by_the_cells_that_conducted_in_the_first_round(session):
    """A pulsed cell that never conducted is no part of the window between the two states."""
    session.run(plain_plan(pulse_step("rows 8-9 & pristine", voltage=3.3)), arm=DIE)
    result = session.run("endurance", {"cells": "rows 8-9", "rounds": "2", "cycles": "1"}, arm=DIE)
    (loop,) = findings(session, result).reads.loops.values()
    by_name = {series.dataset: series for series in loop}
    high, low = by_name["after-set"], by_name["after-reset"]
    assert high.follows == low.follows == "first round"
    for series in (high, low):
        for point in series.points:
            assert point.followed == high.points[0].followed < point.cells
    assert low.points[0].followed_S[1] < 2e-6 < high.points[0].followed_S[0]
    assert low.before is None


def test_while_cells_are_formed_those_that_conduct_are_shown_at_each_read(session):
    bits = ledger_of(session).pulse_counts() == 0
    bits[:20] = bits[24:] = False
    given = {"cells": Region.of(CellSelection(bits)).text, "from": "3.2 V", "step": "200 mV"}
    result = session.run("electroform-ramp", given, arm=DIE)
    ((ramp,),) = findings(session, result).reads.loops.values()
    assert ramp.follows == "each read"
    assert [point.followed for point in ramp.points] == [point.conducting for point in ramp.points]
    assert ramp.points[-1].followed_S[1] == pytest.approx(ramp.points[-1].median_conducting_S)


def test_relaxation_begins_with_the_read_at_once(session):
    result = session.run("relaxation", {"cells": "rows 0-1", "repeats": "4"}, arm=DIE)
    ((series,),) = findings(session, result).reads.loops.values()
    (axis,) = axes_of([series])
    assert axis.values == pytest.approx((0.0, 0.1, 1.0, 10.0, 100.0, 1000.0))
    assert axis.label == "time waited (s)"
    assert series.before.followed == series.points[0].followed > 0


def test_a_read_before_a_pulse_is_not_what_a_loop_after_it_begins_with(session):
    steps = (
        ReadStep(cells="row 0", name="before"),
        pulse_step("row 0 - pristine", "reset", voltage=2.0, gate=3.0),
        RepeatStep(times=2, steps=(WaitStep(time=3600.0), ReadStep(cells="row 0", name="after"))),
    )
    ((series,),) = findings(session, session.run(plain_plan(*steps), arm=DIE)).reads.loops.values()
    assert series.before is None
    assert axes_of([series])[0].values == (1.0, 2.0)
