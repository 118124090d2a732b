"""Every protocol in protocols/ loads, and says truthfully what it would do."""

import pytest

from rramlab.base.errors import UsageError
from rramlab.base.folders import listing, shipped
from rramlab.macro.geometry import Geometry
from rramlab.plan.limits import intersect, of_board
from rramlab.plan.plan import Plan, bounds, worst_case
from rramlab.plan.steps import ContactStep, PulseStep, ReadStep
from rramlab.protocols.files import load_protocol, parse_assignments

NEEDED = {name: {"cells": "rows 0-7"} for name in ("prune", "set")}
NEEDED |= {name: {"cell": "(3, 7)"} for name in ("route", "sweep")}
SHIPPED = sorted(listing(shipped().path, "protocols"))


def plan_of(tmp_path, name, **given):
    return load_protocol(tmp_path, name).plan(Geometry(), {**NEEDED.get(name, {}), **given})


def test_those_a_technician_needs_are_there():
    assert {"electroform", "read-array", "prune", "set", "contact"} <= set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_it_loads_survives_json_and_obeys_the_shipped_board(tmp_path, table, name):
    plan = plan_of(tmp_path, name)
    assert plan.name == name
    assert plan.protocol == (shipped().path / "protocols" / f"{name}.yaml").read_text(encoding="utf-8")
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    expanded = worst_case(plan, table)
    found = bounds(expanded, table)
    assert found.time_s > 0
    assert intersect(of_board(table), plan.limits).read_voltage == 0.2


@pytest.mark.parametrize("name", SHIPPED)
def test_every_step_knows_its_line(tmp_path, name):
    for step in plan_of(tmp_path, name).steps:
        assert step.source.file.endswith(f"{name}.yaml")
        line = (
            (shipped().path / "protocols" / f"{name}.yaml")
            .read_text(encoding="utf-8")
            .splitlines()[step.source.line - 1]
        )
        assert step.kind in line


@pytest.mark.parametrize("name", sorted(NEEDED.keys() - {"route"}))  # which needs one of several
def test_a_parameter_without_default_must_be_given(tmp_path, name):
    with pytest.raises(UsageError, match=r"'cells?'.*--set cells?="):
        load_protocol(tmp_path, name).plan(Geometry())


def test_electroform_is_what_the_design_says(tmp_path):
    plan = plan_of(tmp_path, "electroform")
    contact, form, read, _ = plan.steps
    assert isinstance(contact, ContactStep)
    assert isinstance(form, PulseStep)
    assert isinstance(read, ReadStep)
    assert (form.kind, form.voltage, form.width, form.gate) == ("electroform", 3.75, 1e-6, 1.6)
    assert form.cells == "one-of-pair(seed=7)"
    assert form.pilot.rows == 4
    assert form.pilot.formed_fraction == pytest.approx((0.95, 1.0))
    assert form.pilot.median == pytest.approx((8e-6, 18e-6))
    assert plan.limits.pulses_per_cell == 1


def test_parameters_reach_every_place_that_refers_to_them(tmp_path):
    plan = plan_of(tmp_path, "electroform", voltage="3450 mV", expected="0.55", cells="rows 0-9 & one-of-pair(seed=3)")
    form, expect = plan.steps[1], plan.steps[3]
    assert form.voltage == pytest.approx(3.45, rel=1e-12)
    assert form.pilot.formed_fraction == pytest.approx((0.5, 0.6))
    assert expect.window.formed_fraction == pytest.approx((0.5, 0.6))
    assert form.cells == expect.cells == "rows 0-9 & one-of-pair(seed=3)"
    assert plan.parameters["voltage"] == "3.45 V"
    assert plan_of(tmp_path, "read-array", repeats="12").steps[0].repeats == 12


def test_a_region_parameter_within_a_longer_region_keeps_its_meaning(tmp_path, table):
    plan = plan_of(tmp_path, "prune", cells="row 0 | row 1")
    (reset,) = (each for step, each in worst_case(plan, table) if isinstance(step, PulseStep))
    assert {int(row) for operation in reset for row in operation.cells.rows} == {0, 1}


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("electroform", {"voltaeg": "3.5 V"}, ["voltaeg", "voltage"]),
        ("electroform", {"voltage": "3.5 A"}, ["voltage", "3.5 A", "V"]),
        ("electroform", {"voltage": "3.5"}, ["voltage", "unit"]),
        ("electroform", {"voltage": "4.2 V"}, ["voltage", "4.2 V", "at most 4 V"]),
        ("electroform", {"voltage": "2 V"}, ["voltage", "2 V", "at least 3 V"]),
        ("electroform", {"voltage": "nan V"}, ["voltage"]),
        ("electroform", {"width": "1 S"}, ["width", "1 S"]),
        ("electroform", {"expected": "1.5"}, ["expected", "1.5", "at most 1"]),
        ("electroform", {"expected": "nan"}, ["expected"]),
        ("electroform", {"expected": "half"}, ["expected", "half"]),
        ("electroform", {"cells": "raws 0-3"}, ["cells", "raws"]),
        ("electroform", {"cells": "rows 0-512"}, ["off the die"]),
        ("read-array", {"repeats": "2.5"}, ["repeats", "2.5"]),
        ("read-array", {"repeats": "0"}, ["repeats", "at least 1"]),
        ("read-array", {"repeats": "yes"}, ["repeats", "yes"]),
        ("contact", {"cells": "all"}, ["cells"]),
    ],
)
def test_a_wrong_parameter_is_named(tmp_path, name, given, words):
    with pytest.raises(UsageError) as caught:
        plan_of(tmp_path, name, **given)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


def test_assignments_on_the_command_line():
    assert parse_assignments(["voltage=3.5V", " cells = rows 0-3 "]) == {"voltage": "3.5V", "cells": "rows 0-3"}
    assert parse_assignments(["cells=one-of-pair(seed=7)"]) == {"cells": "one-of-pair(seed=7)"}
    for wrong in (["voltage"], ["=3"], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            parse_assignments(wrong)
