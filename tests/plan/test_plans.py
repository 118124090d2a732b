"""Plans are data: they survive JSON, expand the same way every time, and say their worst case."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError
from workbench import forming_plan, plain_plan, pulse_step

from rramlab.base.errors import SourceRef, UsageError
from rramlab.macro.cells import CellState
from rramlab.macro.gates import GatePattern
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.plan.limits import Limits
from rramlab.plan.operations import Contact, Expect, LoadGates, Multiply, PulseOp, Read
from rramlab.plan.plan import Plan, operations, selection
from rramlab.plan.steps import (
    ContactStep,
    ExpectStep,
    GateStep,
    MultiplyStep,
    Pilot,
    PulseStep,
    ReadStep,
    ReferenceStep,
    Window,
    decode_pattern,
    encode_pattern,
)
from rramlab.plan.worst import bounds, worst_case

positive = st.floats(1e-9, 1e3)
fractions = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda pair: tuple(sorted(pair)))
PILOT = {"rows": 4, "formed_fraction": [0.9, 1], "median": [8e-6, 18e-6]}
narrow = st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)).map(lambda pair: (pair[0], pair[0] + pair[1]))
sources = st.builds(SourceRef, st.sampled_from(["", "a.yaml"]), st.integers(0, 99), st.integers(0, 99))
regions = st.sampled_from(
    ["all", "rows 0-3 & ~col 2", "one-of-pair(seed=7)", "pristine | conducting", "bits(eNpjYAAAAAIAAQ==)"]
)
patterns = hnp.arrays(np.bool_, (6, 4)).filter(np.any).map(GatePattern.of_pairs).map(encode_pattern)
steps = st.one_of(
    st.builds(
        PulseStep,
        kind=st.just("electroform"),
        cells=regions,
        voltage=positive,
        width=positive,
        gate=positive,
        cells_per_pulse=st.none() | st.integers(1, 9),
        pilot=st.none()
        | st.builds(Pilot, formed_fraction=narrow, median=st.just((8e-6, 18e-6)), rows=st.integers(1, 16)),
        source=sources,
    ),
    st.builds(
        PulseStep,
        kind=st.sampled_from(["set", "reset"]),
        cells=regions,
        voltage=positive,
        width=positive,
        gate=positive,
    ),
    st.builds(ReadStep, cells=regions, repeats=st.integers(1, 9), isolated=st.booleans(), source=sources),
    st.builds(ReferenceStep, resistor=st.integers(0, 3) | st.just("open"), source=sources),
    st.builds(GateStep, slot=st.integers(0, 9), rows=regions, columns=regions),
    st.builds(GateStep, slot=st.integers(0, 9), pattern=patterns),
    st.builds(
        MultiplyStep, batch=st.integers(1, 9), bits=st.integers(1, 8), inputs=st.sampled_from(["ones", "random"])
    ),
    st.just(ContactStep()),
    st.builds(ExpectStep, cells=regions, window=st.builds(Window, formed_fraction=fractions)),
)
plans = st.builds(
    Plan,
    name=st.text(min_size=1, max_size=9),
    steps=st.lists(steps, max_size=5).map(tuple),
    block_rows=st.integers(1, 64),
    limits=st.builds(Limits, electroform_voltage=st.none() | positive, pulses_per_cell=st.none() | st.integers(0, 9)),
    protocol=st.text(max_size=20),
    parameters=st.dictionaries(st.text(min_size=1, max_size=5), positive | st.text(max_size=5), max_size=3),
)


@given(plans)
def test_a_plan_survives_json(plan):
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


@given(hnp.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 9))).filter(np.any))
def test_a_gate_pattern_survives_json_form(kept):
    pattern = GatePattern.of_pairs(kept)
    assert decode_pattern(encode_pattern(pattern)) == pattern


def test_unknown_keys_in_plan_json_are_refused():
    with pytest.raises(ValidationError):
        Plan.model_validate_json('{"name": "x", "steps": [], "block_row": 3}')
    with pytest.raises(ValidationError):
        Plan.model_validate_json('{"name": "x", "steps": [{"kind": "read", "repeat": 3}]}')


GEOMETRY = Geometry(32, 16)
FORMED = {"formed_fraction": (0.9, 1), "median": (8e-6, 18e-6)}


def expand(step, board, block_rows, state=None):
    cells = selection(step, GEOMETRY, state or CellState.virgin(GEOMETRY))
    return list(operations(step, cells, board, block_rows, {}))


@given(
    st.integers(1, 40),
    st.sampled_from(["all", "rows 3-21", "one-of-pair(seed=7)", "checkerboard - rows 8-16", "cell (31, 15)"]),
)
def test_every_cell_of_a_pulse_step_is_pulsed_once_in_row_order(small_table, block_rows, cells):
    found = expand(pulse_step(cells, "set", voltage=2), small_table, block_rows)
    total = sum(operation.cells.bits.astype(int) for operation in found)
    assert np.array_equal(total, Region(cells).bound(GEOMETRY).bits)
    lines = [row for operation in found for row in operation.cells.rows]
    assert lines == sorted(set(lines))
    assert all(np.ptp(operation.cells.rows) < block_rows for operation in found)


@given(st.integers(1, 40), st.integers(1, 12), st.sampled_from(["all", "rows 5-31", "checkerboard - rows 1-4"]))
def test_a_pilot_block_comes_first_is_read_and_judged_before_the_rest(small_table, block_rows, rows, cells):
    step = pulse_step(cells, pilot=Pilot(rows=rows, recheck_rows=8, **FORMED))
    found = expand(step, small_table, block_rows)
    first, read, judged = found[:3]
    assert isinstance(first, PulseOp)
    assert isinstance(read, Read)
    assert isinstance(judged, Expect)
    assert len(first.cells.rows) == rows
    assert first.cells == read.cells == judged.cells
    assert judged.stop
    pulses = [operation for operation in found if isinstance(operation, PulseOp)]
    total = sum(operation.cells.bits.astype(int) for operation in pulses)
    assert np.array_equal(total, Region(cells).bound(GEOMETRY).bits)


def test_the_last_block_is_judged_again_every_so_many_rows(small_table):
    step = pulse_step(pilot=Pilot(rows=4, recheck_rows=8, **FORMED))
    unchecked = 0
    judged = 0
    for operation in expand(step, small_table, 2)[3:]:
        if isinstance(operation, PulseOp):
            unchecked += len(operation.cells.rows)
            latest = operation.cells
        elif isinstance(operation, Expect):
            assert operation.cells == latest
            unchecked = 0
            judged += 1
        assert unchecked <= 8
    assert judged >= 3


@given(st.integers(1, 40))
def test_reads_cover_the_region_once_in_blocks(small_table, block_rows):
    found = expand(ReadStep(cells="rows 3-30", repeats=3), small_table, block_rows)
    total = sum(operation.cells.bits.astype(int) for operation in found)
    assert np.array_equal(total, Region("rows 3-30").bound(GEOMETRY).bits)
    assert {operation.repeats for operation in found} == {3}


def test_expansion_is_deterministic(small_table):
    plan = forming_plan("one-of-pair(seed=9)", block_rows=3)
    first, second = (
        [
            (type(op).__name__, getattr(op, "cells", None))
            for each in worst_case(plan, small_table)
            for op in each.operations
        ]
        for _ in range(2)
    )
    assert first == second


def test_bounds_add_up_the_worst_case(small_table):
    plan = plain_plan(
        pulse_step("rows 0-1"), pulse_step("conducting & rows 0-3", "reset", voltage=2.0), ReadStep(repeats=2)
    )
    found = bounds(worst_case(plan, small_table), small_table)
    assert found.pulses == 2 * 16 + 4 * 16
    assert found.cells == 4 * 16
    assert found.pulses_per_cell == 2
    assert found.max_voltage_V == 3.75
    assert found.conversions >= 2 * 32 * 16
    assert found.time_s > 0
    assert found.energy_J > 0


def test_more_work_is_never_cheaper(small_table):
    def cost(*steps):
        return bounds(worst_case(plain_plan(*steps), small_table), small_table)

    for less, more in (
        ((ReadStep(),), (ReadStep(repeats=2),)),
        ((pulse_step("rows 0-3"),), (pulse_step("rows 0-7"),)),
        ((GateStep(), MultiplyStep()), (GateStep(), MultiplyStep(batch=2))),
        ((GateStep(), MultiplyStep()), (GateStep(), MultiplyStep(bits=2))),
    ):
        small, large = cost(*less), cost(*more)
        assert large.time_s > small.time_s
        assert large.energy_J > small.energy_J


def test_a_multiply_is_counted_in_bits_groups_and_columns(small_table):
    """8 lines at once: 32 rows are 4 groups; 16 columns; every one a conversion a bit and vector."""
    plan = Plan(name="m", steps=(GateStep(rows="rows 0-9", columns="cols 0-7"), MultiplyStep(batch=3, bits=4)))
    assert bounds(worst_case(plan, small_table), small_table).conversions == 3 * 4 * 2 * 8


def test_a_plan_knows_what_it_does():
    assert plain_plan(pulse_step("row 0")).destructive
    assert not plain_plan(ReadStep()).destructive


def test_a_multiply_without_its_gate_step_is_refused(small_table):
    with pytest.raises(UsageError, match="slot 3"):
        worst_case(Plan(name="m", steps=(GateStep(slot=2), MultiplyStep(slot=3))), small_table)


def test_each_step_becomes_its_operation(small_table):
    plan = Plan(
        name="m", steps=(ContactStep(), GateStep(slot=1), MultiplyStep(slot=1, inputs="random", bits=3, batch=5))
    )
    (contact,), (load,), (multiply,) = (each.operations for each in worst_case(plan, small_table))
    assert isinstance(contact, Contact)
    assert contact.cells.count == GEOMETRY.cells
    assert isinstance(load, LoadGates)
    assert load.slot == 1
    assert isinstance(multiply, Multiply)
    assert multiply.x.shape == (5, 32)
    assert multiply.x.max() < 8
    assert len(np.unique(multiply.x)) == 8


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ("rows 0-3", "cols 0-2"),
        ("cell (0, 0)", "all"),
        ("rows 0-99", "all"),
        ("row 0 & row 1", "all"),
        ("rows 0-3 - cell (2, 2)", "all"),  # no whole row
        ("checkerboard", "all"),
        ("rows 0-3", "cols 0-7 & rows 0-30"),
        ("all", "row 0"),  # a row is no column
        ("conducting", "all"),  # whatever a read says, a gate line is not chosen by it
        ("rows 0-3", "~pristine"),
        ("rows 0-3 | (row 5 & unknown)", "all"),
        ("all - (conducting & row 3)", "all"),
    ],
)
def test_gates_by_region_are_whole_lines_and_pairs_on_the_die(small_table, rows, columns):
    with pytest.raises(UsageError) as caught:
        worst_case(
            Plan(name="m", steps=(GateStep(rows=rows, columns=columns, source=SourceRef("g.yaml", 4, 2)),)), small_table
        )
    assert "g.yaml:4:2" in str(caught.value)


def test_a_region_off_the_die_names_its_step(small_table):
    step = ReadStep(cells="rows 0-32", source=SourceRef("r.yaml", 7, 5))
    with pytest.raises(UsageError, match=r"r\.yaml:7:5.*off the die"):
        worst_case(Plan(name="r", steps=(step,)), small_table)


def test_windows_around_an_expected_value():
    assert Window(formed_fraction={"expected": 0.5, "within": 0.05}).formed_fraction == pytest.approx((0.45, 0.55))
    assert Window(formed_fraction={"expected": 1.0, "within": 0.05}).formed_fraction == pytest.approx((0.95, 1.0))


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"formed_fraction": (0.9, 0.1)},
        {"formed_fraction": (0.1, 1.1)},
        {"formed_fraction": {"expected": 0.5}},
        {"formed_fraction": {"expected": 0.5, "within": -0.1}},
        {"formed_fraction": {"expected": float("nan"), "within": 0.05}},
        {"formed_fraction": {"expected": 0.5, "within": float("nan")}},
        {"formed_fraction": {"expected": None, "within": 0.05}},
        {"formed_fraction": {"expected": [1], "within": 0.05}},
        {"formed_fraction": {"expected": 5, "within": 0.05}},
        {"median": (2e-6, 1e-6)},
        {"median": (float("nan"), 1e-6)},
        {"median": (0, float("inf"))},
    ],
)
def test_a_window_that_would_let_anything_pass_is_refused(window):
    with pytest.raises(ValidationError):
        Window(**window)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": 17}, "rows"),
        ({"rows": 0}, "rows"),
        ({"recheck_rows": 257}, "recheck_rows"),
        ({"recheck_rows": 0}, "recheck_rows"),
        ({"formed_fraction": (0, 1)}, "at most 0.5"),
        ({"formed_fraction": (0.25, 0.8)}, "at most 0.5"),
        ({"formed_fraction": {"expected": 0.5, "within": 0.26}}, "at most 0.5"),
        ({"formed_fraction": None}, "expected both"),
        ({"median": None}, "expected both"),
    ],
)
def test_a_pilot_block_that_judges_nothing_is_refused(changes, words):
    """It would be as large as the die, or anything would pass it."""
    step = {"kind": "electroform", "cells": "all", "voltage": 3.75, "width": 1e-6, "gate": 1.6}
    good = {"rows": 16, "recheck_rows": 256, "formed_fraction": (0.5, 1), "median": (8e-6, 18e-6)}
    Plan.model_validate({"name": "x", "steps": [{**step, "pilot": good}]})
    with pytest.raises(ValidationError, match=words):
        Plan.model_validate({"name": "x", "steps": [{**step, "pilot": {**good, **changes}}]})


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "set", "cells": "all", "voltage": 0, "width": 1e-6, "gate": 1},
        {"kind": "set", "cells": "all", "voltage": float("nan"), "width": 1e-6, "gate": 1},
        {"kind": "set", "cells": "everything", "voltage": 1, "width": 1e-6, "gate": 1},
        {"kind": "set", "cells": "all", "voltage": 1, "width": -1e-6, "gate": 1},
        {"kind": "set", "cells": "all", "voltage": 1, "width": 1e-6, "gate": 1, "pilot": PILOT},
        {"kind": "melt", "cells": "all", "voltage": 1, "width": 1e-6, "gate": 1},
        {"kind": "read", "repeats": 0},
        {"kind": "read", "name": "../x"},
        {"kind": "multiply", "bits": 9},
        {"kind": "multiply", "batch": 0},
        {"kind": "gate", "slot": -1},
        {"kind": "gate", "rows": "all", "pattern": {}},
        {"kind": "gate", "pattern": {"rows": 3}},
    ],
)
def test_impossible_steps_are_refused(step):
    with pytest.raises(ValidationError):
        Plan.model_validate({"name": "x", "steps": [step]})
