"""Every protocol in protocols/ loads, and says truthfully what it would do."""

import pytest
from workbench import SmallBench

from rramlab.base.errors import UsageError
from rramlab.base.folders import listing, shipped
from rramlab.macro.geometry import Geometry
from rramlab.plan.limits import intersect, of_board
from rramlab.plan.plan import Plan, leaves
from rramlab.plan.steps import ContactStep, PulseStep, ReadStep
from rramlab.plan.worst import bounds, worst_case
from rramlab.protocols.files import load_protocol, parse_assignments

SHIPPED = sorted(listing(shipped().path, "protocols"))
HARMLESS = {
    "contact", "read-array", "read-noise", "retention", "multiply-ones", "route", "calibrate-dac", "calibrate-adc",
    "calibrate-adc-cells", "calibrate-smu", "calibrate-lines", "calibrate-linearity",
}  # fmt: skip


def plan_of(tmp_path, name, **given):
    protocol = load_protocol(tmp_path, name)
    return protocol.plan(Geometry(), {**protocol.examples(), **given})


def test_those_a_technician_needs_are_there():
    assert set(SHIPPED) == HARMLESS | {
        "electroform", "electroform-ramp", "prune", "set", "reset", "write-verify", "endurance", "relaxation", "sweep",
    }  # fmt: skip


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
    lines = (shipped().path / "protocols" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    for step in (each.step for each in leaves(plan_of(tmp_path, name).steps)):
        assert step.source.file.endswith(f"{name}.yaml")
        assert step.kind in lines[step.source.line - 1]


@pytest.mark.parametrize("name", SHIPPED)
def test_it_says_whether_it_changes_the_die_and_every_assumption(tmp_path, name):
    protocol = load_protocol(tmp_path, name)
    assert protocol.changes == ("no" if name in HARMLESS else "depends" if name == "sweep" else "yes")
    if protocol.changes != "depends":
        assert plan_of(tmp_path, name).destructive == (protocol.changes == "yes")
    for key, parameter in protocol.file.parameters.items():
        if key.endswith(("width", "gate")):
            assert "assumed" in parameter.description, key
        if parameter.type in ("quantity", "integer", "number"):
            assert parameter.minimum is not None, key
            assert parameter.maximum is not None, key


@pytest.mark.parametrize("name", ["prune", "set", "reset", "write-verify", "endurance", "relaxation", "sweep"])
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
    (reset,) = (each for each in worst_case(plan, table) if isinstance(each.step, PulseStep))
    assert reset.cells.rows.tolist() == [0, 1]


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


CELLS = {
    "electroform": "rows 0-3",
    "electroform-ramp": "rows 28-31",
    "endurance": "rows 0-1 & cols 0-3",
    "read-array": "all",
    "read-noise": "rows 0-1",
    "retention": "rows 0-1",
}
SMALLER = {
    "endurance": {"rounds": 2, "cycles": 2},
    "read-noise": {"reads": 5},
    "retention": {"reads": 3},
    "route": {"reference": "0"},
    "write-verify": {"cells": "row 0", "budget": 5},
    "sweep": {"cell": "(3, 7)"},
    "electroform-ramp": {"step": "150 mV"},
    "multiply-ones": {"rows": "rows 0-3"},
    "calibrate-smu": {"cells": "cells (0, 0), (1, 5)", "count": 1, "repeats": 4},
    "calibrate-adc-cells": {"cells": "row 0", "rows": "rows 0-3", "count": 1, "repeats": 16},
    "calibrate-linearity": {"rows": "rows 0-3", "steps": 8, "times": 2},
    "calibrate-lines": {"columns": 4},
}


def given_for(name, protocol):
    cells = {"cells": CELLS.get(name, "rows 0-1")} if "cells" in protocol.file.parameters else {}
    return {**cells, **SMALLER.get(name, {})}


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """A session on a small bench, with a source-measure unit, whose first rows are formed."""
    bench = SmallBench(tmp_path_factory.mktemp("shipped") / "small").write()
    with (bench.folder / "bench.yaml").open("a") as file:
        file.write("smus: [{name: smu, driver: keysight-b2900, address: simulated}]\n")
    with bench.open() as session:
        assert session.run("electroform", arm="small-1", parameters={"cells": "rows 0-3"}).passed
        yield session


@pytest.mark.parametrize("name", [name for name in SHIPPED if name != "electroform"])
def test_it_runs_on_a_simulated_die(formed, name):
    protocol = load_protocol(formed.description.root, name)
    result = formed.run(name, arm="small-1", parameters=given_for(name, protocol))
    assert result.passed, result.checks
    assert (result.pulses > 0) == (name not in HARMLESS | {"sweep"})
