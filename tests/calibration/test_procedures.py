"""The procedures on simulated boards: they find what is hidden, through the commands of a bench and nothing else."""

import numpy as np
import pytest
from workbench import SmallBench, conducting_now

from rramlab.base.errors import DataError, RramlabError, TooFewCells, UsageError
from rramlab.base.folders import shipped
from rramlab.calibration.applying import apply
from rramlab.calibration.procedures import analyse, chosen, measure
from rramlab.drivers.bench import describe_bench
from rramlab.engine.session import Session
from rramlab.macro.gates import GatePattern
from rramlab.macro.placement import Tile
from rramlab.records.files import newest
from rramlab.runs.store import Run, find_run, list_runs

DIE = "small-1"
SMU = "smus: [{name: smu, driver: keysight-b2900, address: simulated}]\n"
LOSSY = "model: {wires: {solver: exact, segment_Ohm: 2.0}}"


class Desk:
    """A small bench of a harsh board, its die formed, with what they hide."""

    def __init__(self, folder, rows=64, columns=64, die="", figures=None, capabilities="", lowest="3 uS"):
        options = "{preset: harsh}"
        bench = SmallBench(
            folder, rows, columns, {DIE: die}, options, figures={"columns_per_adc": "8", **(figures or {})}
        ).write()
        with (folder / "bench.yaml").open("a") as file:
            file.write(SMU)
        if capabilities:
            path = folder / "drivers" / "small.yaml"
            text = path.read_text()
            line = next(each for each in text.splitlines() if each.startswith("capabilities:"))
            path.write_text(text.replace(line, f"capabilities: [{capabilities}]"))
        self.folder, self.bench = folder, bench
        self.description = describe_bench(folder)
        self.lowest = lowest

    def open(self):
        return Session(self.description, calibrating=True)

    def form(self):
        with self.open() as session:
            session.run("electroform", {"cells": "one-of-pair(seed=1)", "lowest": self.lowest}, arm=DIE)
            session.bench.controllers[DIE].wait(4 * 3600.0)
            session.run("read-array", {"repeats": "4"})
        return self

    def run(self, name, arm=None, **parameters):
        procedure = chosen(name, self.description.board.capabilities)
        result = measure(self.description, procedure, parameters, arm)
        return procedure, find_run(self.description.data / "runs", result.run_id)

    def calibrate(self, name, arm=None, **parameters):
        return analyse(self.description, *self.run(name, arm, **parameters))

    @property
    def board(self):
        with self.open() as session:
            return session.bench.controllers[DIE].board

    def newest(self, kind, owner):
        return newest(self.description.root, kind, owner)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Formed, its board calibrated; tests that change it make their own."""
    desk = Desk(tmp_path_factory.mktemp("desk")).form()
    desk.calibrate("dac")
    desk.calibrate("adc")
    return desk


def test_the_board_is_found_through_the_front_door(desk):
    truth, kept = desk.board, desk.newest("board", "SIM-0009")
    record = kept.record
    assert abs(record.dac.gain.value - truth._dac_gain) < 4 * record.dac.gain.uncertainty
    assert abs(record.dac.offset.value - truth._dac_offset_V) < 4 * record.dac.offset.uncertainty
    for name in ("read", "multiply"):
        gain, true_gain = kept.arrays[f"adc/{name}_gain"], getattr(truth, f"{name}_gain")
        assert np.abs(gain / gain.mean() / (true_gain / true_gain.mean()) - 1).max() < 8e-4
        assert np.abs(kept.arrays[f"adc/{name}_offset"] - getattr(truth, f"{name}_offset")).max() < 0.5
        spread = getattr(record.adc, name)
        assert abs(gain.mean() - true_gain.mean()) < 4 * spread.gain.uncertainty
    for reference in record.adc.references:
        known = float(truth.reference_Ohm[reference.resistor])
        assert abs(reference.resistance.value - known) < 3 * reference.resistance.uncertainty
    assert "Keysight" in record.adc.instruments[0]
    assert record.adc.runs[0].endswith(tuple("0123456789abcdef"))


def test_reads_are_those_of_the_cells_with_the_record_and_not_without(desk):
    def error(calibrating_policy):
        text = (desk.folder / "bench.yaml").read_text()
        description = describe_bench(desk.folder)
        assert "calibration_policy" in text
        with Session(description, calibrating=calibrating_policy) as session:
            seen = session.macro.read("all", repeats=400)
            cells = conducting_now(session)
            return float(np.std(seen[cells > 5e-6] / cells[cells > 5e-6]))

    assert error(False) < 3e-3
    kept = list((desk.folder / "calibration").glob("board-*"))
    hidden = [path.rename(path.with_name(f"not-{path.name}")) for path in kept]
    assert error(False) > 6e-3
    for path in hidden:
        path.rename(path.with_name(path.name.removeprefix("not-")))


def test_readings_that_are_no_measurement_are_left_out_and_named(desk):
    """One of a unit's readings beyond its range costs that reading, not the procedure."""
    path = desk.folder / "bench.yaml"
    text = path.read_text()
    path.write_text(text.replace("address: simulated}", "address: simulated, options: {faults: {over: 50}}}"))
    try:
        desk.description = describe_bench(desk.folder)
        for name, count in (("dac", 1), ("adc", 1), ("smu", 2)):
            done = desk.calibrate(name)
            assert len(done.left_out) >= count, name
            assert all("is no measurement" in said for said in done.left_out)
            run = find_run(desk.description.data / "runs", done.run)
            assert run.record["status"] == "failed"
            assert run.record["complete"]
            assert done.kept
        truth = desk.board
        assert abs(desk.newest("board", "SIM-0009").record.dac.gain.value - truth._dac_gain) < 1e-3
        blind = text.replace("address: simulated}", "address: simulated, options: {faults: {over: 1}}}")
        path.write_text(blind)
        desk.description = describe_bench(desk.folder)
        for name in ("dac", "adc", "smu"):
            with pytest.raises(DataError, match=r"measurement|levels"):
                desk.calibrate(name)
    finally:
        path.write_text(text)
        desk.description = describe_bench(desk.folder)


def test_board_and_unit_agree_once_calibrated(desk):
    section = desk.calibrate("smu").found.sections["board"]["agreement"]
    assert section.agrees
    assert section.ratio.value == pytest.approx(1, abs=3e-3)
    assert section.cells >= 30


def test_products_are_the_sums_of_reads(desk):
    section = desk.calibrate("linearity", rows="rows 0-7", steps="8").found.sections["board"]["linearity"]
    assert section.slope.value == pytest.approx(1, abs=2e-3)
    assert section.residual < 1e-3


def test_read_noise_is_found(desk):
    section = desk.calibrate("noise", reads="40").found.sections["die"]["noise"]
    assert abs(section.read.value - 0.02) < 5 * section.read.uncertainty
    assert section.cells >= 64
    assert section.repeats(0.002) == pytest.approx(100, rel=0.1)


def test_a_die_keeps_its_noise_when_its_curve_is_measured(tmp_path):
    desk = Desk(tmp_path, lowest="8 uS")
    with desk.open() as session:
        session.run("electroform", {"cells": "rows 0-31 & one-of-pair(seed=1)"}, arm=DIE)
    noise = desk.calibrate("noise", reads="20").die
    ramped = desk.calibrate("forming", arm=DIE, cells="rows 60-63").die
    assert ramped.record.noise == noise.record.noise
    assert abs(ramped.record.forming.mean.value - 3.433) < 5 * ramped.record.forming.mean.uncertainty
    assert {"forming/low_V", "noise/of_cell"} <= ramped.arrays.keys()


def test_old_data_are_improved_by_a_better_record_their_codes_kept(tmp_path):
    desk = Desk(tmp_path).form()
    with desk.open() as session:
        session.run("read-array", {"repeats": "64"})
        session.run("multiply-ones", {"rows": "rows 0-7"})
        reads, products = [find_run(session.runs, path.name) for path in sorted(session.runs.iterdir())[-2:]]
        cells = conducting_now(session)
    desk.calibrate("dac")
    kept = desk.calibrate("adc").board
    conducts = cells > 5e-6

    def seen():
        whole = np.concatenate([block.load() for block in reads.blocks("read")])
        return whole["codes"], whole["conductance"]

    codes, before = seen()
    product = next(products.blocks("multiply")).load()["product"].copy()
    assert apply(reads, kept, desk.description.board) == len(list(reads.blocks()))
    assert apply(products, kept, desk.description.board) >= 1
    same, after = seen()
    assert np.array_equal(codes, same)
    assert np.std(after[conducts] / cells[conducts]) < 0.5 * np.std(before[conducts] / cells[conducts])
    assert {block.attributes["calibration"] for block in reads.blocks()} == {kept.id}
    assert reads.record["calibration"] == kept.id
    assert not np.array_equal(next(products.blocks("multiply")).load()["product"], product)


def test_a_record_of_another_board_is_not_applied(desk, tmp_path):
    other = Desk(tmp_path / "other").form()
    (run,) = [find_run(desk.description.data / "runs", path.name)
              for path in (desk.description.data / "runs").glob("*-electroform-*")]  # fmt: skip
    kept = other.calibrate("dac").board
    foreign = type(kept)(kept.path, kept.record.model_copy(update={"serial": "OTHER"}), kept.arrays)
    with pytest.raises(DataError, match="nothing was changed"):
        apply(run, foreign, desk.description.board)


def test_a_board_without_reference_resistors_is_calibrated_by_cells(tmp_path):
    desk = Desk(tmp_path, capabilities="sl_select, per_row_wl, smu_route, isolated_reads", die="preset: ideal",
                figures={"lines_at_once": "16"}).form()  # fmt: skip
    desk.calibrate("dac")
    done = desk.calibrate("adc")
    assert done.board.record.adc.method == "cells at the unit"
    truth = desk.board
    for name, most in (("read", 2e-3), ("multiply", 6e-3)):
        gain, true_gain = done.board.arrays[f"adc/{name}_gain"], getattr(truth, f"{name}_gain")
        assert np.percentile(np.abs(gain / true_gain - 1), 90) < most
        assert (
            np.percentile(np.abs(done.board.arrays[f"adc/{name}_offset"] - getattr(truth, f"{name}_offset")), 90) < 1.0
        )


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    desk = Desk(tmp_path_factory.mktemp("lossy"), 128, 128, die=LOSSY, lowest="1 uS").form()
    desk.calibrate("dac")
    desk.calibrate("adc")
    desk.calibrate("lines", repeats="64", columns="16")
    return desk


def test_switches_and_wires_are_found_separately(lossy):
    truth, kept = lossy.board, lossy.newest("board", "SIM-0009")
    die = lossy.newest("die", DIE)
    assert die.record.wires.segment.value == pytest.approx(2.0, rel=0.1)
    assert kept.record.lines.bit_line.value == pytest.approx(truth.bl_Ohm.mean(), rel=0.1)
    assert kept.record.lines.source_line.value == pytest.approx(truth.sl_Ohm.mean(), rel=0.1)
    assert np.median(np.abs(kept.arrays["lines/bl_Ohm"] / truth.bl_Ohm - 1)) < 0.1
    assert kept.record.lines.bit_line_spread.value == pytest.approx(truth.bl_Ohm.std(), rel=0.35)


@pytest.mark.parametrize("phases", [1, 4])
def test_compensated_products_are_those_of_the_bare_cells_at_no_further_conversion(lossy, phases):
    rng = np.random.default_rng(phases)
    x = rng.integers(0, 16, (64, 128)).astype(np.uint8)
    gates = GatePattern(
        np.ones((1, 128), bool) if phases == 1 else rng.random((phases, 128)) < 0.5,
        np.repeat(np.arange(64) % phases, 2).astype(np.int16),
    )
    with lossy.open() as session:
        macro = session.macro
        cells = conducting_now(session).astype(np.float64)
        wanted = x @ ((cells[:, 0::2] - cells[:, 1::2]) * gates.cells[:, 0::2])
        errors, conversions = [], []
        for macro.compensated in (False, True):
            before = macro.conversions
            found = macro.multiply(x, 4, Tile("t", 0, 128, 64, 0, 0), gates)
            errors.append(np.sqrt(np.mean((found - wanted) ** 2)))
            conversions.append(macro.conversions - before)
        assert errors[0] > 5 * errors[1]
        assert conversions[0] == conversions[1]
        weights = macro.weights(Tile("t", 0, 128, 64, 0, 0), repeats=64)
        assert np.std(weights - (cells[:, 0::2] - cells[:, 1::2])) < 0.03 * np.std(cells[:, 0::2] - cells[:, 1::2])


def test_compensation_is_made_anew_once_cells_were_pulsed(tmp_path):
    desk = Desk(tmp_path, 32, 32, die=LOSSY, lowest="1 uS").form()
    desk.calibrate("lines", columns="8")
    with desk.open() as session:
        session.macro.compensated = True
        first = session.macro.compensation
        assert session.macro.compensation is first
        session.run("reset", {"cells": "row 0 & conducting"}, arm=DIE)
        assert session.macro.compensation is not first
        assert session.macro.compensation.cells_S[0].mean() < 0.5 * first.cells_S[0].mean()


def test_compensation_by_the_bench_file_needs_lines_that_were_measured(tmp_path):
    desk = Desk(tmp_path, 32, 32, die=LOSSY, lowest="1 uS").form()
    path = tmp_path / "bench.yaml"
    path.write_text(path.read_text() + "compensation: yes\n")
    with Session(describe_bench(tmp_path)) as session, pytest.raises(DataError, match="rramlab calibrate lines"):
        session.macro.read("all")
    assert desk.newest("die", DIE) is None


# bad input


def test_a_virgin_die_has_too_few_cells_and_nothing_is_written(tmp_path):
    desk = Desk(tmp_path)
    for name in ("noise", "lines", "smu", "linearity"):
        with pytest.raises(TooFewCells, match="rramlab run electroform"):
            desk.run(name)
    assert not list((tmp_path / "calibration").glob("*.yaml"))


def test_converters_need_the_dac_first(tmp_path):
    with pytest.raises(DataError, match="rramlab calibrate dac"):
        Desk(tmp_path).calibrate("adc")


def test_a_converter_that_saturates_is_refused_and_nothing_written(tmp_path):
    desk = Desk(tmp_path, figures={"read_step": "2 nS"})  # a range of 33 µS, and a resistor of 50 µS
    desk.calibrate("dac")
    before = sorted((tmp_path / "calibration").iterdir())
    with pytest.raises(DataError, match="saturate on the read range"):
        desk.calibrate("adc")
    assert sorted((tmp_path / "calibration").iterdir()) == before


def test_a_unit_at_its_own_limit_is_refused(tmp_path):
    desk = Desk(tmp_path)
    desk.calibrate("dac")
    path = tmp_path / "protocols"
    path.mkdir()
    text = (shipped().path / "protocols" / "calibrate-adc.yaml").read_text()
    (path / "calibrate-adc.yaml").write_text(text.replace("compliance: 1 mA", "compliance: 1 uA"))
    with pytest.raises(DataError, match="at its own limit"):
        desk.calibrate("adc")


def test_a_die_that_was_exchanged_half_way_is_noticed(tmp_path, monkeypatch):
    desk = Desk(tmp_path, die=LOSSY, lowest="1 uS").form()
    procedure, run = desk.run("lines")
    blocks = list(run.blocks("full"))
    array = blocks[0].load().copy()
    array["codes"] = array["codes"][:, ::-1]
    attributes = {name: value for name, value in blocks[0].attributes.items() if name != "crc32"}
    run.append(blocks[0].position, "full", array, **attributes)
    with pytest.raises(DataError, match="another die"):
        analyse(desk.description, procedure, run)
    assert not list((tmp_path / "calibration").glob("*.yaml"))


def test_a_die_that_was_exchanged_between_reads_of_noise_is_noticed(tmp_path):
    desk = Desk(tmp_path).form()
    procedure, run = desk.run("noise", reads="20")
    for block in list(run.blocks("noise"))[10:]:
        array = block.load().copy()
        array["codes"][array["valid"]] = np.random.default_rng(1).permutation(array["codes"][array["valid"]])
        run.append(block.position, "noise", array, **{k: v for k, v in block.attributes.items() if k != "crc32"})
    with pytest.raises(DataError, match="another die came into the socket"):
        analyse(desk.description, procedure, run)


def test_a_die_that_was_exchanged_in_the_midst_of_a_ramp_is_noticed(tmp_path):
    desk = Desk(tmp_path)
    procedure, run = desk.run("forming", arm=DIE, cells="rows 60-63")
    block = list(run.blocks("ramp"))[-1]
    array = block.load().copy()
    array["conductance"][:] = 1e-7
    run.append(block.position, "ramp", array, **{k: v for k, v in block.attributes.items() if k != "crc32"})
    with pytest.raises(DataError, match="a formed cell stays formed"):
        analyse(desk.description, procedure, run)


def test_a_run_keeps_the_records_of_board_and_die_as_text(tmp_path):
    desk = Desk(tmp_path)
    kept = [
        desk.calibrate("dac").board,
        desk.calibrate("adc").board,
        desk.calibrate("forming", arm=DIE, cells="rows 60-63").die,
    ]
    with desk.open() as session:
        run = find_run(session.runs, session.run("read-array").run_id)
    for each in kept[1:]:
        assert (run.folder / f"calibration-{each.path.name}").read_text() == each.path.read_text()


def test_a_unit_whose_scale_is_wrong_is_noticed_by_the_resistors(tmp_path):
    desk = Desk(tmp_path)
    desk.calibrate("dac")
    procedure, run = desk.run("adc")
    for block in list(run.blocks("resistors")):
        curve = block.load().copy()
        curve["current"] *= 2
        run.append(block.position, "resistors", curve, **{k: v for k, v in block.attributes.items() if k != "crc32"})
    with pytest.raises(DataError, match="the board's file says"):
        analyse(desk.description, procedure, run)


def test_sections_that_rest_on_one_another_are_measured_with_one_unit(tmp_path):
    desk = Desk(tmp_path)
    path = tmp_path / "bench.yaml"
    second = "{name: second, driver: keithley-2450, address: simulated}"
    path.write_text(path.read_text().replace("smus: [", f"smus: [{second}, "))
    desk.description = describe_bench(tmp_path)
    desk.calibrate("dac", smu="smu")
    with pytest.raises(DataError, match="two units"):
        desk.calibrate("adc", smu="second")
    assert desk.calibrate("adc", smu="smu").board is not None


def test_an_old_run_does_not_put_a_newer_measurement_out_of_force(tmp_path):
    desk = Desk(tmp_path)
    procedure, old = desk.run("dac")
    desk.calibrate("dac")
    with pytest.raises(DataError, match="the older would be put in force"):
        analyse(desk.description, procedure, old)


def test_a_ramp_that_was_cut_off_is_gone_on_with_and_one_that_is_over_is_analysed(tmp_path):
    desk = Desk(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        append, calls = Run.append_cells, []

        def cut(run, position, read, *given, **more):
            calls.append(read.dataset)
            if calls.count("ramp") == 6:
                raise RramlabError("cut off")
            return append(run, position, read, *given, **more)

        patch.setattr(Run, "append_cells", cut)
        with pytest.raises(RramlabError, match="cut off"):
            desk.run("forming", arm=DIE, cells="rows 60-63")
    (begun,) = list_runs(desk.description.data / "runs")
    _, run = desk.run("forming", arm=DIE, cells="rows 60-63")
    assert run.id == begun.id
    assert run.record["status"] == "done"
    with desk.open() as session:
        pulsed = session.stations[DIE].ledger.pulse_counts()
    again = desk.calibrate("forming", cells="rows 60-63")  # killed before its analysis: no pulse, so no arming
    assert again.run == begun.id
    with desk.open() as session:
        assert np.array_equal(session.stations[DIE].ledger.pulse_counts(), pulsed)
    with pytest.raises(DataError, match="never pulsed"):
        desk.run("forming", arm=DIE, cells="rows 60-63")


def test_a_corner_is_ramped_once_and_only_where_a_record_can_be_written(tmp_path):
    desk = Desk(tmp_path)
    (tmp_path / "calibration").write_text("no folder")
    with pytest.raises(DataError, match="nothing was energised"):
        desk.run("forming", arm=DIE, cells="rows 60-63")
    (tmp_path / "calibration").unlink()
    desk.calibrate("forming", arm=DIE, cells="rows 60-63")
    with pytest.raises(DataError, match="0 of the 256 cells"):
        desk.run("forming", arm=DIE, cells="rows 60-63")


def test_cells_of_one_row_agree_too_for_each_is_read_alone(tmp_path):
    desk = Desk(tmp_path, 32, 64, die=LOSSY, lowest="1 uS").form()
    for name in ("dac", "adc"):
        desk.calibrate(name)
    with desk.open() as session:
        conducts = conducting_now(session)[3] > 5e-6
    columns = ", ".join(f"(3, {column})" for column in np.flatnonzero(conducts)[:12])
    section = desk.calibrate("smu", cells=f"cells {columns}").found.sections["board"]["agreement"]
    assert section.agrees
    assert section.ratio.value == pytest.approx(1, abs=3e-3)


def test_a_calibration_that_was_stopped_goes_on_where_one_is_required(tmp_path):
    desk = Desk(tmp_path)
    path = tmp_path / "bench.yaml"
    path.write_text(path.read_text().replace("calibration_policy: none", "calibration_policy: require"))
    desk.description = describe_bench(tmp_path)
    _, run = desk.run("dac")
    assert run.provenance["calibrating"]


def test_a_run_of_something_else_is_not_analysed(desk):
    runs = desk.description.data / "runs"
    (run,) = [find_run(runs, path.name) for path in runs.glob("*-electroform-*")]
    with pytest.raises(DataError, match="expected one of 'calibrate-dac'"):
        analyse(desk.description, chosen("dac", frozenset()), run)


def test_a_run_that_was_broken_off_is_finished_first(desk):
    runs = desk.description.data / "runs"
    procedure, run = desk.run("dac")
    run.update(status="stopped")
    with pytest.raises(DataError, match=f"rramlab resume {run.id}"):
        analyse(desk.description, procedure, find_run(runs, run.id))


def test_lines_read_under_one_load_only_are_refused(tmp_path):
    desk = Desk(tmp_path, 32, 32, die=LOSSY, lowest="1 uS").form()
    with pytest.raises(DataError, match="load does not differ"):
        desk.calibrate("lines", columns="32")


def test_an_unknown_procedure_is_named_beside_those_that_are_known():
    with pytest.raises(UsageError, match="dac, adc"):
        chosen("gain", frozenset())


def test_a_unit_whose_file_says_nothing_of_accuracy_is_refused(tmp_path):
    desk = Desk(tmp_path)
    text = (shipped().path / "drivers" / "keysight-b2900.yaml").read_text()
    start, stop = text.index("accuracy:"), text.index("timing:")
    (tmp_path / "drivers" / "keysight-b2900.yaml").write_text(text[:start] + text[stop:])
    desk.description = describe_bench(tmp_path)
    with pytest.raises(DataError, match="says nothing of its accuracy"):
        desk.calibrate("dac")
