"""The contact test finds what is wrong with lines, bits and converters, and nothing where nothing is."""

from contextlib import suppress

import numpy as np
import pytest
from workbench import SmallBench, forming_plan, ledger_of

from rramlab.base.errors import OutOfLimits
from rramlab.engine.contact import ContactReport, judge
from rramlab.macro.cells import CellState
from rramlab.macro.geometry import Geometry
from rramlab.runs.store import find_run

DIE = "small-1"
CODE_S = 12.5e-9
PRESETS = ("published", "ideal", "harsh")


def bench(tmp_path, preset="published", faults="{}", seed=1, **more):
    options = f"preset: {preset}, seed: {seed}"
    return SmallBench(
        tmp_path, dies={DIE: options}, board_options=f"{{{options}, faults: {faults}}}", **more
    ).write()  # fmt: skip


def verdict(session):
    """The report of a contact test, passed or not."""
    with suppress(OutOfLimits):
        session.run("contact")
    return find_run(session.runs, "last").record["contact"]


def whole(found):
    return {name: value for name, value in found.items() if value and name not in ("passed", "verdict", "conversions")}


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("seed", range(8))
def test_a_healthy_virgin_die_gives_no_alarm(tmp_path, preset, seed):
    with bench(tmp_path, preset, seed=seed, rows=64, columns=32).open() as session:
        found = verdict(session)
        assert found["passed"], found["verdict"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_healthy_whole_die_gives_no_alarm_before_or_after_forming(tmp_path, preset):
    lossy = {"median": (1e-6, 18e-6), "formed_fraction": (0.5, 1.0)} if preset == "harsh" else {}
    whole_die = {"columns_per_adc": "32", "lines_at_once": "64"}
    with bench(tmp_path, preset, rows=512, columns=512, figures=whole_die).open() as session:
        assert verdict(session)["passed"]
        plan = forming_plan("one-of-pair(seed=7)", block_rows=64, read=False)
        form = plan.steps[1]
        pilot = form.pilot.model_copy(update={"recheck_rows": 256, **lossy})
        steps = (plan.steps[0], form.model_copy(update={"pilot": pilot, "cells": "one-of-pair(seed=7) & rows 0-255"}))
        session.run(plan.model_copy(update={"steps": steps}), arm=DIE)
        found = verdict(session)
        assert found["passed"], found["verdict"]


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    ("faults", "found"),
    [
        ("{open_rows: [7]}", {"open_rows": [7]}),
        ("{open_columns: [9]}", {"open_columns": [9]}),
        ("{shorts: [[3, 4]]}", {"shorted_cells": [[3, 4]]}),
        ("{stuck_rows: [5]}", {"stuck_rows": [5]}),
        ("{saturated_adcs: [1]}", {"saturated_columns": [4, 5, 6, 7]}),
        ("{stuck_rows: [5], open_columns: [9]}", {"stuck_rows": [5], "open_columns": [9]}),
        ("{saturated_adcs: [1], open_rows: [7]}", {"saturated_columns": [4, 5, 6, 7], "open_rows": [7]}),
    ],
)
def test_each_fault_is_reported_as_what_it_is(tmp_path, preset, faults, found):
    with bench(tmp_path, preset, faults).open() as session:
        assert whole(verdict(session)) == found


def test_a_stuck_bit_is_found_where_its_row_was_formed(tmp_path):
    with bench(tmp_path, columns=512).open() as session:
        session.run(forming_plan("row 5", block_rows=32, read=False), arm=DIE)
    with bench(tmp_path, faults="{stuck_rows: [5]}", columns=512).open() as session:
        assert verdict(session)["stuck_rows"] == [5]


def test_it_says_what_a_finding_means(tmp_path):
    with bench(tmp_path, faults="{stuck_rows: [5]}").open() as session:
        text = verdict(session)["verdict"]
    assert "always on: 5" in text
    assert "every other row" in text


@pytest.mark.parametrize("faults", ["{}", "{open_rows: [7]}"])
def test_what_it_read_is_kept_passed_or_not(tmp_path, faults):
    with bench(tmp_path, faults=faults).open() as session:
        verdict(session)
        run = find_run(session.runs, "last")
        (block,) = run.blocks("contact")
        array = block.load()
        assert array.shape == (32, 16)
        assert (array["conductance"][7].mean() < 0.04e-6) == (faults != "{}")
        assert (run.folder / "run.h5").exists()
        # It is no read of cells: what they conduct is not taken from it.
        assert np.isnan(session.stations[DIE].conductance_S).all()
        assert not ledger_of(session).history()


def test_columns_that_are_all_saturated_hide_everything_else():
    shape = Geometry(8, 4).shape
    found = judge(np.full(shape, 2e-4, np.float32), np.ones(shape, np.bool_), CellState.virgin(Geometry(8, 4)))
    assert found == ContactReport((), (), (), (), (), (0, 1, 2, 3))
    assert not found.passed


@pytest.mark.parametrize("offset", [-20, -8, 0, 8, 20])
def test_an_offset_neither_opens_a_column_nor_hides_an_open_one(offset):
    """A column whose ADC is off by more than a pristine cell reads."""
    rng = np.random.default_rng(5)
    codes = rng.normal(8, 0.8, (512, 512)).round()
    codes[:, 3] = 0
    codes[:, 3:5] += offset
    state = CellState.virgin(Geometry(512, 512))
    found = judge((codes * CODE_S).astype(np.float32), np.zeros(codes.shape, np.bool_), state)
    assert 4 not in found.open_columns
    assert (3 in found.open_columns) == (offset <= 0)
    assert not found.stuck_rows
    assert not found.open_rows
