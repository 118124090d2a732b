"""Runs with loops: a leading dimension in run.h5, and tables that other programs read."""

import csv
import json
import tracemalloc

import h5py
import numpy as np
import pytest

from rramlab.base.errors import DataError, UsageError
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ReadStep
from rramlab.runs.comparing import block_differences, compare_cells, last_map, result_differences
from rramlab.runs.export import export
from rramlab.runs.store import Run

PLAN = Plan(name="some", steps=(ReadStep(),), block_rows=4)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "runs", PLAN, "d-1", {}, {})


def add_cells(run, position, start=0, rows=4, value=5, repeats=1, dataset="read", **attributes):
    block = np.zeros((rows, 8), [("codes", np.uint16, (repeats,)), ("conductance", np.float32), ("valid", np.bool_)])
    block["codes"], block["conductance"], block["valid"] = value, value * 1e-6, True
    about = {"form": "cells", "rows": [start, start + rows], "shape": [8, 8], "repeats": repeats}
    run.append(position, dataset, block, **about, calibration="nominal", **attributes)


def add_curve(run, position, points=5, scale=1.0, dataset="sweep", **attributes):
    block = np.zeros(points, [("voltage", float), ("current", float), ("in_compliance", bool)])
    block["voltage"] = np.linspace(0, 0.2, points)
    block["current"] = block["voltage"] * 1e-5 * scale
    run.append(position, dataset, block, form="curve", kind="read", row=1, compliance_A=1e-4, **attributes)


def in_loop(number, label=None, inner=None):
    rounds = [number] if inner is None else [number, inner]
    return {"step": "003-001", "round": rounds, "labels": {} if label is None else {"voltage": [label, "V"]}}


def three_rounds(run):
    for number, volts in enumerate((1.8, 2.0, 2.2)):
        add_cells(run, f"003-{number:05d}-001.00000", 0, value=10 + number, **in_loop(number, volts))
        if number < 2:
            add_cells(run, f"003-{number:05d}-001.00001", 4, value=20 + number, **in_loop(number, volts))


def test_rounds_are_a_leading_dimension_with_labels_times_and_units(run):
    three_rounds(run)
    with h5py.File(run.consolidate()) as file:
        (name,) = file
        group = file[name]
        assert name == "step-003-001-read"
        assert group["conductance"].shape == (3, 8, 8)
        assert group["codes"].shape == (3, 1, 8, 8)
        assert group["codes"][:, 0, 0, 0].tolist() == [10, 11, 12]
        assert group["codes"][:, 0, 7, 0].tolist() == [20, 21, 0]
        assert group["valid"][:, 7, 0].tolist() == [True, True, False]  # the last round was cut off
        assert np.isnan(group["conductance"][2, 7, 0])
        assert [dimension.label for dimension in group["conductance"].dims] == ["round", "row", "column"]
        assert group["voltage"][()].tolist() == [1.8, 2.0, 2.2]
        assert group["voltage"].attrs["units"] == "V"
        assert group["loop_1"][()].tolist() == [0, 1, 2]
        assert group["time"].attrs["units"] == "s"
        assert group["time"].attrs["since"] == run.record["started_at"]
        assert np.all(np.diff(group["time"][()]) >= 0)
        assert set(group["conductance"].attrs["coordinates"].split()) == {"voltage", "loop_1", "time"}
        for item in (group["voltage"], group["time"], group["codes"]):
            assert all(len(dimension) == 1 for dimension in item.dims)


def test_nested_rounds_keep_the_numbers_of_both_loops(run):
    for outer in range(2):
        for inner in range(3):
            position = f"003-{outer:05d}-001-{inner:05d}-000.00000"
            add_cells(run, position, value=10 * outer + inner, **in_loop(outer, 1.0 + outer, inner))
    with h5py.File(run.consolidate()) as file:
        group = file["step-003-001-read"]
        assert group["loop_1"][()].tolist() == [0, 0, 0, 1, 1, 1]
        assert group["loop_2"][()].tolist() == [0, 1, 2, 0, 1, 2]
        assert group["codes"][:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 12]
        assert group["voltage"][()].tolist() == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]


def test_labels_keep_their_kind(run):
    for number, word in enumerate(("low", "high")):
        labels = {"labels": {"level": [word, ""], "count": [number + 3, ""], "row": [2.5, "V"]}}
        add_cells(run, f"003-{number:05d}-001.00000", **{**in_loop(number), **labels})
    with h5py.File(run.consolidate()) as file:
        group = file["step-003-001-read"]
        assert group["level"].asstr()[()].tolist() == ["low", "high"]
        assert group["count"].dtype.kind == "i"
        assert group["row_label"][()].tolist() == [2.5, 2.5]  # "row" is a dimension
        assert group["row"].shape == (8,)


def test_looks_at_the_same_cells_do_not_replace_each_other(run):
    for number, value in enumerate((1, 2, 3)):
        add_cells(run, f"000.{2 * number:05d}", 0, value=value)
        if number < 2:
            add_cells(run, f"000.{2 * number + 1:05d}", 4, value=10 + value)
    with h5py.File(run.consolidate()) as file:
        group = file["step-000-read"]
        assert group["pass"][()].tolist() == [0, 1, 2]
        assert group["codes"][:, 0, 0, 0].tolist() == [1, 2, 3]
        assert group["codes"][:, 0, 4, 0].tolist() == [11, 12, 0]


def test_curves_of_one_length_are_stacked_and_others_stay_apart(run):
    for number in range(3):
        label = {**in_loop(number, 1.0), "column": number}
        add_curve(run, f"003-{number:05d}-001.00000", scale=number + 1, **label)
        add_curve(run, f"003-{number:05d}-002.00000", 3 + number, dataset="longer", **in_loop(number))
    with h5py.File(run.consolidate()) as file:
        group = file["step-003-001-sweep"]
        assert group["current"].shape == (3, 5)
        assert group["voltage_label"][()].tolist() == [1.0, 1.0, 1.0]
        assert group["column"][()].tolist() == [0, 1, 2]  # of which cell each is
        assert group.attrs["row"] == 1
        assert group["current"][2, 4] == pytest.approx(0.2 * 3e-5)
        assert sorted(len(each["current"]) for each in file["step-003-001-longer"].values()) == [3, 4, 5]


def test_the_thousandth_step_comes_after_the_one_before(run):
    for position in ("1000.00000", "999.00000", "002-00010-000.00000", "002-00009-000.00000"):
        add_cells(run, position)
    found = [block.position for block in run.blocks()]
    assert found == ["002-00009-000.00000", "002-00010-000.00000", "999.00000", "1000.00000"]


def test_a_damaged_description_of_a_block_is_refused_until_a_person_takes_the_block_away(run, tmp_path):
    add_cells(run, "000.00000", 0, value=1)
    add_cells(run, "000.00001", 4, value=2)
    described = run.folder / "blocks" / "000.00001-read.json"
    described.write_text(described.read_text()[:40])
    for use in (
        lambda: run.has("000.00001", "read"),
        lambda: list(run.blocks()),
        run.consolidate,
        lambda: export(run, "csv", tmp_path / "csv"),
    ):
        with pytest.raises(DataError, match=r"000\.00001-read\.json"):
            use()
    assert [block.position for block in run.readable([])] == ["000.00000"]
    described.unlink()
    described.with_suffix(".npy").unlink()
    with h5py.File(run.consolidate()) as file:
        assert file["step-000-read/valid"][()].sum() == 32
    add_cells(run, "000.00001", 4, value=3)
    assert run.has("000.00001", "read")


def read_csv(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_table_has_a_line_a_cell_and_round(run, tmp_path):
    three_rounds(run)
    add_cells(run, "004.00000", 0, value=7, repeats=2)
    add_cells(run, "004.00001", 4, value=8, repeats=1)
    found = {path.stem: read_csv(path) for path in export(run, "csv", tmp_path / "csv")}
    rounds = found["step-003-001-read"]
    assert len(rounds) == 3 * 32 + 2 * 32
    line = next(each for each in rounds if (each["row"], each["column"], each["round"]) == ("1", "2", "2"))
    assert (line["voltage_V"], line["code"], float(line["conductance_S"])) == ("2.2", "12", pytest.approx(12e-6))
    single = found["step-004-read"]
    assert len(single) == 64
    assert "round" not in single[0]
    assert (single[0]["code_0"], single[0]["code_1"]) == ("7", "7")
    assert (single[-1]["code_0"], single[-1]["code_1"]) == ("8", "")  # it was read once
    assert np.float32(single[0]["conductance_S"]) == np.float32(7e-6)


def test_curves_and_products_have_tables_of_their_own(run, tmp_path):
    add_curve(run, "000.00000")
    block = np.zeros((2, 3), [("sums", np.int32), ("product", np.float32)])
    block["sums"] = np.arange(6).reshape(2, 3)
    run.append("001.00000", "multiply", block, form="products", columns=[0, 1, 2], bits=1)
    found = {path.stem: read_csv(path) for path in export(run, "csv", tmp_path / "csv")}
    assert [float(line["voltage_V"]) for line in found["step-000-sweep"]] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert [(line["vector"], line["output"], line["sums"]) for line in found["step-001-multiply"]][3:5] == [
        ("1", "0", "3"),
        ("1", "1", "4"),
    ]


def test_arrays_are_those_of_the_consolidated_file(run, tmp_path):
    three_rounds(run)
    (path,) = export(run, "npz", tmp_path / "out.npz")
    (h5,) = export(run, "h5", tmp_path / "new" / "out.h5")
    assert not (run.folder / "run.h5").exists()
    with np.load(path) as arrays, h5py.File(h5) as file:
        units = json.loads(str(arrays["units"]))
        assert units["step-003-001-read/conductance"] == "S"
        for name in units:
            assert np.array_equal(arrays[name], file[name][()], equal_nan=arrays[name].dtype.kind == "f")


def test_an_export_holds_no_array_as_a_whole(run, tmp_path):
    """A loop reads one row a round, of 128: unpacked the rounds are 60 times what was read."""
    for number in range(128):
        about = {**in_loop(number), "conversions": 512}
        block = np.zeros((1, 512), [("codes", np.uint16, (1,)), ("conductance", np.float32), ("valid", np.bool_)])
        block["codes"], block["conductance"], block["valid"] = number, number * 1e-6, True
        run.append(f"003-{number:05d}-001.00000", "read", block, form="cells", rows=[number, number + 1],
                   shape=[128, 512], repeats=1, **about)  # fmt: skip
    tracemalloc.start()
    try:
        (path,) = export(run, "npz", tmp_path / "out.npz")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    with np.load(path) as arrays:
        found = arrays["step-003-001-read/conductance"]
    assert found.shape == (128, 128, 512)
    assert np.count_nonzero(np.isfinite(found)) == 128 * 512
    assert found[127, 127, 511] == np.float32(127e-6)
    assert most < found.nbytes / 2
    assert path.stat().st_size < found.nbytes / 50


def test_two_runs_are_compared_block_by_block_and_cell_by_cell(run, tmp_path):
    other = Run.create(tmp_path / "runs", PLAN, "d-1", {}, {})
    for each in (run, other):
        add_cells(each, "000.00000", 0, value=5)
        add_cells(each, "000.00001", 4, value=5 if each is run else 1)
    add_cells(run, "000.00002", 4)
    equal, differences = block_differences(run, other)
    assert equal == 1
    assert [(each.position, each.cells, each.conducting_unlike) for each in differences] == [
        ("000.00001", 32, 32),
        ("000.00002", 0, 0),
    ]
    assert {"codes", "conductance"} <= set(differences[0].what)
    assert differences[1].what == ("missing",)
    found = compare_cells(last_map(run), last_map(other))
    assert (found.cells, found.began_to_conduct, found.ceased_to_conduct) == (64, 0, 32)
    assert found.formed_fraction == (1.0, 0.5)
    assert found.median_S == (pytest.approx(5e-6), pytest.approx(5e-6))
    assert found.correlation is None  # the first does not vary


def test_correlation_is_that_of_the_cells_read_in_both(tmp_path):
    a = np.linspace(1e-6, 9e-6, 64, dtype=np.float32).reshape(8, 8)
    b = a * 2
    b[0] = np.nan
    found = compare_cells(a, b)
    assert found.cells == 56
    assert found.correlation == pytest.approx(1.0)


def test_a_damaged_block_cannot_be_exported_silently(run, tmp_path):
    add_cells(run, "000.00000")
    path = run.block("000.00000", "read").path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"000\.00000-read\.npy"):
        export(run, "csv", tmp_path / "csv")
    assert not (tmp_path / "csv").exists()


def test_no_label_takes_the_place_of_a_coordinate_or_of_another_label(run):
    names = ("loop_1", "round", "time", "pass", "row", "row_label", "code")
    for number in range(2):
        labels = {name: [f"{name} {number}", ""] for name in names}
        add_cells(run, f"003-{number:05d}-001.00000", **{**in_loop(number), "labels": labels})
        add_cells(run, f"003-{number:05d}-001.00001", **{**in_loop(number), "labels": labels})  # a second look
    with h5py.File(run.consolidate()) as file:
        group = file["step-003-001-read"]
        assert group["loop_1"][()].tolist() == [0, 0, 1, 1]
        assert group["round"][()].tolist() == [0, 1, 2, 3]
        assert group["pass"][()].tolist() == [0, 1, 0, 1]
        assert group["time"].attrs["units"] == "s"
        words = [item.asstr()[2] for item in group.values() if h5py.check_string_dtype(item.dtype)]
        assert sorted(words) == sorted(f"{name} 1" for name in names)
        coordinates = group["codes"].attrs["coordinates"].split()
        assert len(coordinates) == len(set(coordinates)) == len(names) + 3


def test_a_table_names_no_column_twice(run, tmp_path):
    labels = {name: [1.0, ""] for name in ("code", "code_0", "row", "loop_1")}
    add_cells(run, "003-00000-001.00000", repeats=2, **{**in_loop(0), "labels": labels})
    (path,) = export(run, "csv", tmp_path / "csv")
    head = path.read_text().splitlines()[0].split(",")
    assert len(head) == len(set(head)) == 3 + 4 + 2 + 3


@pytest.mark.parametrize("form", ["csv", "npz", "h5"])
def test_an_export_replaces_no_file(run, tmp_path, form):
    add_cells(run, "000.00000")
    add_curve(run, "001.00000")
    output = tmp_path / ("out" if form == "csv" else f"out.{form}")
    there = output / "step-001-sweep.csv" if form == "csv" else output
    there.parent.mkdir(exist_ok=True)
    there.write_text("mine")
    with pytest.raises(UsageError, match=there.name):
        export(run, form, output)
    assert there.read_text() == "mine"
    assert list(there.parent.glob("*.csv")) == ([there] if form == "csv" else [])
    there.rename(there.with_name("other"))
    assert export(run, form, output)


@pytest.mark.parametrize(("start", "rows"), [(5, 1), (6, 2)])
def test_rounds_of_few_rows_take_the_room_of_those_rows(run, start, rows):
    for number in range(8):
        about = {**in_loop(number), "conversions": rows * 8}
        block = np.zeros((rows, 8), [("codes", np.uint16, (1,)), ("conductance", np.float32), ("valid", np.bool_)])
        block["codes"], block["valid"] = number, True
        run.append(f"003-{number:05d}-001.00000", "read", block, form="cells", rows=[start, start + rows],
                   shape=[4096, 8], repeats=1, **about)  # fmt: skip
    with h5py.File(run.consolidate()) as file:
        group = file["step-003-001-read"]
        assert group["codes"].shape == (8, 1, 4096, 8)
        assert group["codes"][:, 0, start, 7].tolist() == list(range(8))
        assert group["valid"][:].sum() == 8 * rows * 8
        head = 16  # of what is packed, and its check sum
        assert group["codes"].id.get_storage_size() <= 8 * (rows * 8 * 2 + head)
        assert group["conductance"].id.get_storage_size() <= 8 * (rows * 8 * 4 + head)


def test_what_a_power_cut_lost_is_a_result_that_can_differ(run, tmp_path):
    other = Run.create(tmp_path / "runs", PLAN, "d-1", {}, {})
    run.finish("done", lost=[])
    other.finish("done", lost=[{"position": "000.00000", "dataset": "read", "cells": 3}])
    assert result_differences(run, other) == ["lost"]
