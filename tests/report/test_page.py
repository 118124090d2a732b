"""The report of a run: what it says of every kind of run, that it stands alone, and that nothing in it can be forged."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from looking import Looked, assert_alone
from typer.testing import CliRunner
from workbench import SmallBench, child, forming_plan, plain_plan, pulse_step, without_outcome

from rramlab.base.errors import OutOfLimits, Refused, Stopped
from rramlab.cli.app import app
from rramlab.plan.plan import Plan
from rramlab.plan.steps import (
    ContactStep,
    ExpectStep,
    ForEachStep,
    GateStep,
    MultiplyStep,
    ProgramStep,
    ReadStep,
    ReferenceStep,
    RepeatStep,
    Round,
    RouteStep,
    SweepStep,
    Until,
    WaitStep,
    Window,
)
from rramlab.report.findings import gather
from rramlab.report.markup import tag
from rramlab.report.page import page
from rramlab.report.pictures import Picture
from rramlab.runs.store import Run, find_run

DIE = "small-1"
SMU = (
    'smus:\n  - {name: left, driver: keithley-2400, address: simulated, serial: "1234567", options: {model: "2400"}}\n'
)


class Lab:
    """A small bench whose runs are reported."""

    def __init__(self, folder):
        self.bench = SmallBench(folder).write()
        path = self.bench.folder / "bench.yaml"
        path.write_text(path.read_text().replace("dies:\n", f"{SMU}dies:\n"))
        self.data = self.bench.folder / "data"

    def run(self, *plans, error=None, **more):
        """Execute plans in one session; the last one ends with ``error``, if one is expected. Return the last run."""
        with self.bench.open() as session:
            session.arm(DIE)
            for number, plan in enumerate(plans):
                if error is not None and number == len(plans) - 1:
                    with pytest.raises(error):
                        session.run(plan, **more)
                else:
                    session.run(plan)
        return find_run(self.data / "runs", "last")

    def findings(self, run, busy=False):
        return gather(run, self.data / "dies" / DIE / "ledger.db", busy)

    def page(self, run, busy=False):
        text = page(self.findings(run, busy))
        looked = Looked(text)
        assert looked.errors == []
        assert_alone(text)
        return looked


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """A bench on which an electroforming was done, and that run; nobody changes them."""
    lab = Lab(tmp_path_factory.mktemp("formed"))
    return lab, lab.run(forming_plan())


@pytest.fixture(autouse=True)
def sketched(request, monkeypatch):
    """Leave the pictures' insides out, which take most of the time, but for the tests that ask for them as ``drawn``."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(Picture, "svg", lambda self: tag("svg", role="img", aria_label=self.alt))


@pytest.fixture
def drawn():
    """The page comes with its pictures."""


@pytest.fixture
def lab(tmp_path):
    return Lab(tmp_path / "lab")


def test_an_electroforming_is_told_in_full(formed, drawn):
    lab, run = formed
    looked = lab.page(run)
    assert "Done: all" in looked.text
    assert {"checks", "die", "pulses", "contact", "timeline", "bounds", "provenance", "files"} <= set(looked.sections)
    found = lab.findings(run)
    pulsed = found.given.counts > 0
    assert np.count_nonzero(pulsed) == 256  # one of each pair
    assert np.nanmax(found.before_S) < 2e-6  # read by the contact test, before any pulse
    assert np.median(found.after_S[pulsed]) > 8e-6
    assert "256 on 256 cells" in looked.text
    assert any(label.startswith("Map of the die before") for label in looked.pictures)
    assert any(label.startswith("Map of the die after: 512 of 512 cells read") for label in looked.pictures)
    assert "SIM-0009" in looked.text
    assert "3.75 V" in looked.text


def test_a_share_that_is_not_whole_is_not_said_to_be(formed):
    lab, run = formed
    found = lab.findings(run)
    rows, columns = np.nonzero(found.given.counts)
    found.after_S[rows[0], columns[0]] = 1e-7
    assert "99.6%" in Looked(page(found)).text


def test_every_table_has_heads_and_every_picture_words(formed):
    lab, run = formed
    text = page(lab.findings(run))
    looked = Looked(text)
    assert all(label for label in looked.pictures)
    assert text.count("<table>") == text.count("<thead>") > 4
    heads = [attributes for tag, attributes in looked.elements if tag == "th"]
    assert all(head.get("scope") in ("col", "row") for head in heads)
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert text.startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("steps", "section", "said"),
    [
        ((ReadStep(),), "die", "Done; nothing was checked"),
        ((ReadStep(isolated=True, name="alone"),), "die", "alone, isolated"),
        ((ContactStep(),), "contact", "the contact test passed"),
        ((RouteStep(cell="(3, 8)", voltage=0.1, count=3),), "probed", "cell (3, 8)"),
        ((SweepStep(cell="(3, 7)", voltage=0.2, points=11),), "probed", "read sweep of cell (3, 7)"),
        ((GateStep(rows="rows 0-7"), MultiplyStep(batch=4, inputs="random", seed=1)), "products", "Products of 4 vectors"),
        ((ReferenceStep(resistor=1, repeats=2), ReferenceStep(resistor="open")), "references", "open inputs"),
        ((WaitStep(time=1.0),), "bounds", "This run read no cell"),
    ],
    ids=["read", "isolated read", "contact", "route", "sweep", "multiply", "reference", "no data"],
)  # fmt: skip
def test_a_run_that_changes_nothing(lab, drawn, steps, section, said):
    looked = lab.page(lab.run(Plan(name="plain", steps=steps)))
    assert section in looked.sections
    assert said in looked.text + " ".join(looked.pictures)
    assert "pulses" not in looked.sections


def test_a_forming_sweep_shows_its_curve_and_its_pulse(lab, drawn):
    sweep = SweepStep(cell="(3, 7)", purpose="electroform", voltage=3.9, points=20, both_ways=True, compliance=2e-4)
    looked = lab.page(lab.run(plain_plan(sweep)))
    assert any(label.startswith("Current over voltage") for label in looked.pictures)
    assert "electroform sweep of cell (3, 7)" in looked.text
    assert "1 on 1 cell " in looked.text
    assert "hatched: not known" in looked.text  # the cell was not read by the board since


def test_a_failed_run_says_why_and_what_to_do(lab):
    run = lab.run(forming_plan(voltage=3.1), error=OutOfLimits)
    looked = lab.page(run)
    assert "Failed: a measurement was not as expected" in looked.text
    assert "✗ failed" in looked.text
    assert f"rramlab resume {run.id} --arm {DIE}" in looked.text
    assert "expected 0.9 to 1" in looked.text


def test_a_contact_test_that_failed_shows_where(lab):
    with lab.bench.open() as session:
        controller = session.bench.controllers[DIE]
        read = controller.read

        def dead_row(cells, repeats, bias, *more):
            codes = read(cells, repeats, bias, *more)
            codes[:, np.nonzero(cells.bits)[0] == 5] = 0
            return codes

        controller.read = dead_row
        with pytest.raises(OutOfLimits):
            session.run(Plan(name="contact", steps=(ContactStep(),)))
    looked = lab.page(find_run(lab.data / "runs", "last"))
    assert "Failed: a measurement was not as expected" in looked.text
    assert "open rows 1: 5" in looked.text


def test_a_stopped_run_can_be_resumed(lab):
    def stop(progress):
        if progress.done == 6:
            raise Stopped("stopped by the user")

    run = lab.run(forming_plan(), error=Stopped, listen=stop)
    looked = lab.page(run)
    assert "Stopped by the user" in looked.text
    assert f"rramlab resume {run.id} --arm {DIE}" in looked.text


def test_a_refused_run_says_what_forbade_it(lab):
    plan = forming_plan()

    def interfere(progress):
        """Another run pulses the cells of this one while it is stopped."""
        if progress.done == 3:
            raise Stopped("stopped by the user")

    run = lab.run(plan, error=Stopped, listen=interfere)
    with lab.bench.open() as session:
        session.arm(DIE)
        session.run(plain_plan(pulse_step("rows 8-9")))
        with pytest.raises(Refused):
            session.resume(run.id)
    looked = lab.page(run)
    assert "Refused: a limit" in looked.text
    assert str(run.record["reason"]) in looked.text


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
from workbench import SmallBench, forming_plan
from pathlib import Path
bench = SmallBench(Path({folder!r}))
with bench.open() as session:
    session.arm("small-1")
    session.run(forming_plan(), listen=lambda told: os._exit(9) if told.done == 12 else None)
"""


def test_a_killed_run_is_told_from_what_it_wrote(lab):
    script = KILLED.format(tests=str(Path(__file__).parents[1]), folder=str(lab.bench.folder))
    process = child(script)
    process.communicate(timeout=60)
    assert process.returncode == 9
    run = find_run(lab.data / "runs", "last")
    looked = lab.page(run)
    assert "Interrupted: its process is gone" in looked.text
    assert f"rramlab resume {run.id} --arm {DIE}" in looked.text
    assert "pulses" in looked.sections
    assert "The bench is in use" in lab.page(run, busy=True).text


def test_a_pulse_that_nobody_decided_is_counted_as_unknown(lab):
    run = lab.run(plain_plan(pulse_step("row 0"), ReadStep()))
    without_outcome(lab.data / "dies" / DIE / "ledger.db", 1)
    assert "cells unknown 16" in lab.page(run).text


def test_what_was_pulsed_after_its_last_read_is_not_drawn(lab):
    found = lab.findings(lab.run(plain_plan(ReadStep(), pulse_step("rows 0-1"))))
    assert np.isnan(found.after_S[:2]).all()
    assert np.isfinite(found.after_S[2:]).all()
    assert np.isfinite(found.before_S).all()
    assert "480 of 512 cells read" in Looked(page(found)).text


def test_an_interactive_run_needs_no_plan(lab):
    with lab.bench.open() as session:
        session.macro.read("rows 0-3")
    looked = lab.page(find_run(lab.data / "runs", "last"))
    assert "interactive" in looked.text
    assert "rramlab resume" not in looked.text
    assert "64 of 512 cells read" in looked.text


def test_a_voltage_ramp_is_drawn_over_the_voltage(lab):
    volts = (3.1, 3.4, 3.7)
    rounds = tuple(
        Round(
            value=value, unit="V", steps=(pulse_step("rows 0-3", voltage=value, again=True), ReadStep(cells="rows 0-3"))
        )
        for value in volts
    )
    run = lab.run(plain_plan(ForEachStep(name="voltage", rounds=rounds)))
    looked = lab.page(run)
    assert "Share of conducting cells over the voltage, step 001" in looked.text
    (series,) = lab.findings(run).reads.loops["001"]
    shares = [point.conducting / point.cells for point in series.points]
    assert [point.labels["voltage"] for point in series.points] == [[value, "V"] for value in volts]
    assert shares[0] < 0.2 < shares[1] < 0.8 < shares[2]


def test_cycles_are_drawn_together_and_decades_of_waiting_logarithmically(lab, drawn):
    from rramlab.report.rounds import axes_of

    cycle = RepeatStep(
        times=5,
        steps=(
            pulse_step("rows 0-3", kind="reset", voltage=1.8, gate=3.0),
            ReadStep(cells="rows 0-3", name="low"),
            pulse_step("rows 0-3", kind="set", voltage=1.8),
            ReadStep(cells="rows 0-3", name="high"),
        ),
    )
    times = (0.1, 1.0, 10.0, 100.0)
    series = ForEachStep(
        name="time",
        rounds=tuple(
            Round(value=time, unit="s", steps=(WaitStep(time=time), ReadStep(cells="rows 0-3", repeats=16)))
            for time in times
        ),
    )
    run = lab.run(plain_plan(pulse_step("rows 0-3"), cycle, series))
    found = lab.findings(run)
    low, high = found.reads.loops["002"]
    assert (low.dataset, high.dataset) == ("low", "high")
    assert [len(each.points) for each in (low, high)] == [5, 5]
    assert all(a.quartiles_S[1] < b.quartiles_S[1] for a, b in zip(low.points, high.points, strict=True))
    (retention,) = found.reads.loops["003"]
    (axis,) = axes_of([retention])
    assert axis.logarithmic
    assert axis.values == pytest.approx((0.0, 0.1, 1.1, 11.1, 111.1))  # from the read before the loop on
    assert axis.label == "time waited (s)"
    assert all(0.005 < point.noise < 0.05 for point in retention.points)  # the simulated die's reads scatter by 2 %
    looked = lab.page(run)
    assert "Conductance over the round, step 002" in looked.text
    assert "Conductance over the time waited, step 003" in looked.text


def test_bystanders_are_not_drawn_from_round_to_round(lab):
    cycle = RepeatStep(
        times=3,
        steps=(
            pulse_step("rows 0-3", kind="reset", voltage=1.8, gate=3.0, bystanders=8),
            ReadStep(cells="rows 0-3", name="low"),
        ),
    )
    run = lab.run(plain_plan(pulse_step("rows 0-3"), cycle))
    assert {"bystanders", "bystanders-before"} <= {block.dataset for block in run.blocks()}
    (series,) = lab.findings(run).reads.loops["002"]
    assert series.dataset == "low"
    looked = lab.page(run)
    assert [each for each in looked.pictures if "over 3 rounds" in each and "bystanders" in each] == []
    assert "Data set bystanders" not in looked.text
    assert "step 002-000: bystanders" in looked.text  # in the table of all that was read


def test_a_step_and_a_round_are_called_alike_on_the_console_in_the_report_and_in_the_data(lab):
    """They count from 0, as rows and columns do."""
    check = ExpectStep(cells="row 3", window=Window(formed_fraction=(0, 0.5)))
    rounds = tuple(
        Round(value=value, unit="s", steps=(WaitStep(time=value), ReadStep(cells="row 3"), check))
        for value in (1.0, 2.0)
    )
    run = lab.run(plain_plan(ForEachStep(name="time", rounds=rounds)))
    looked = lab.page(run)
    shown = CliRunner().invoke(app, ["runs", "show", run.id, "--bench", str(lab.bench.folder)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for said in (looked.text, shown.output):
        assert "step 001-001: read" in said
        assert "region row 3, round 0: time 1 s" in said
        assert "region row 3, round 1: time 2 s" in said
        assert "round 2" not in said
    assert "000 contact" in looked.text  # the timeline
    with h5py.File(run.consolidate()) as file:
        assert file["step-001-001-read/loop_1"][:].tolist() == [0, 1]


def test_what_a_check_rests_on_of_earlier_runs_is_said_on_the_console_and_in_the_report(lab):
    earlier = lab.run(plain_plan(ReadStep(cells="rows 0-3")))
    window = Window(formed_fraction=(0, 1))
    loop = RepeatStep(times=2, steps=(ReadStep(cells="row 0"),), until=Until(cells="rows 0-1", window=window))
    run = lab.run(plain_plan(loop, ExpectStep(cells="rows 0-3", window=window)))
    looked = lab.page(run)
    shown = CliRunner().invoke(app, ["runs", "show", run.id, "--bench", str(lab.bench.folder)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    for said in (looked.text, re.sub(r"\s+", " ", shown.output)):
        assert f"region rows 0-3: 48 of its 64 cells were last read in run {earlier.id}, up to" in said
        assert f"the end of loop 001, round 0: 16 of its 32 cells were last read in run {earlier.id}, up to" in said
    assert "last read in run" not in lab.page(earlier).text


def test_write_verify_shows_how_cells_came_into_tolerance(lab):
    ladder = {"start": 1.0, "to": 2.4, "step": 0.1, "width": 1e-6}
    program = ProgramStep(
        cells="rows 0-1", target=12e-6, tolerance=1e-6, budget=10, set={**ladder, "gate": 1.6}, reset={**ladder, "gate": 3.0}
    )  # fmt: skip
    run = lab.run(plain_plan(pulse_step("rows 0-1"), program))
    (series,) = lab.findings(run).reads.loops["002"]
    reached = [point.reached for point in series.points]
    assert all(point.cells == 32 for point in series.points)
    assert reached[-1] > reached[0]
    looked = lab.page(run)
    assert "Cells in tolerance over the verification" in looked.text
    assert f"program 32 {run.record['programs'][0]['reached']}" in looked.text


def test_a_failed_check_of_a_run_that_went_on_is_not_done_well(lab):
    check = ExpectStep(cells="row 0", window=Window(formed_fraction=(0.5, 1)), on_failure="continue")
    looked = lab.page(lab.run(plain_plan(ReadStep(), check)))
    assert "Done, but 1 of 1 checks failed" in looked.text


HOSTILE = '</pre></details><script>alert(1)</script><img src="http://evil.example/x" onerror=alert(2)>\x1b[31m&lt;'


def test_nothing_in_a_file_becomes_markup(lab):
    run = lab.run(Plan(name="<b>evil</b>", steps=(ReadStep(cells="row 0"),), protocol=HOSTILE))
    record = json.loads((run.folder / "run.json").read_text())
    record.update(status="failed", reason=HOSTILE, checks=[{"what": HOSTILE, "passed": False, "reason": HOSTILE}])
    (run.folder / "run.json").write_text(json.dumps(record))
    text = page(lab.findings(run))
    looked = Looked(text)
    assert looked.errors == []
    assert not [tag for tag, _ in looked.elements if tag in ("script", "img", "b")]
    assert not [attributes for _, attributes in looked.elements if any(name.startswith("on") for name in attributes)]
    assert "<script>alert(1)</script>" in looked.text
    assert "\x1b" not in text


def test_without_its_ledger_a_run_is_told_from_its_own_record(lab):
    run = lab.run(forming_plan())
    (lab.data / "dies" / DIE / "ledger.db").unlink()
    looked = lab.page(run)
    assert "The die's ledger is not there or cannot be read" in looked.text
    assert "the run's own record says 256 pulses" in looked.text
    assert any(label.startswith("Map of the die after") for label in looked.pictures)
    (lab.data / "dies" / DIE / "ledger.db").mkdir()
    looked = lab.page(run)
    assert "ledger.db cannot be read" in looked.text
    assert "the run's own record says 256 pulses" in looked.text


@pytest.mark.parametrize(("often", "said"), [(1, "compared once;"), (1200, "compared 1,200 times;")])
def test_how_often_cells_beside_were_compared_is_said(lab, often, said):
    run = lab.run(forming_plan())
    run.update(bystanders=often)
    assert said in lab.page(run).text


def test_a_damaged_block_is_named_and_the_others_are_shown(lab):
    run = lab.run(plain_plan(ReadStep(), block_rows=8))
    blocks = sorted((run.folder / "blocks").glob("001*.npy"))
    blocks[0].write_bytes(b"\x93NUMPY")
    blocks[1].with_suffix(".json").write_text("{")
    (run.folder / "plan.json").write_text("{}")
    (run.folder / "provenance.json").unlink()
    looked = lab.page(run)
    assert "problems" in looked.sections
    assert blocks[0].name in looked.text
    assert blocks[1].stem in looked.text
    assert "step 001: read 1 256 " in looked.text  # two of the four blocks


def test_the_command_writes_the_page_and_every_figure(formed, tmp_path):
    lab, run = formed
    called = CliRunner().invoke(
        app, ["report", run.id[:20], "--bench", str(lab.bench.folder), "--output", str(tmp_path / "r.html"),
              "--figures", str(tmp_path / "figures"), "--json"],
    )  # fmt: skip
    assert called.exit_code == 0, called.output
    document = json.loads(called.stdout)
    assert document["run"] == run.id
    assert document["verdict"].startswith("Done: all")
    assert Path(document["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    names = {Path(each).name for each in document["figures"]}
    assert {"map-before.png", "map-before.pdf", "map-after.png", "histogram.pdf", "contact.png"} <= names
    for each in document["figures"]:
        start = {"png": b"\x89PNG", "pdf": b"%PDF"}[each.rpartition(".")[2]]
        assert Path(each).read_bytes().startswith(start)


def test_the_command_leaves_the_ledger_as_it_was_and_makes_no_lock(formed):
    lab, run = formed
    folder = lab.data / "dies" / DIE
    (lab.data / "bench.lock").unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    called = CliRunner().invoke(app, ["report", "last", "--bench", str(lab.bench.folder)])
    assert called.exit_code == 0, called.output
    assert (run.folder / "report.html").exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    assert not (lab.data / "bench.lock").exists()


def test_a_run_that_is_not_there_is_said_so(formed):
    lab, _ = formed
    called = CliRunner().invoke(app, ["report", "nothing", "--bench", str(lab.bench.folder)])
    assert called.exit_code == 1
    assert "there is no run" in called.output


def test_a_block_that_is_not_what_it_says_is_left_out(lab):
    run = lab.run(Plan(name="odd", steps=(ReadStep(cells="rows 0-3"),)))
    Run(run.folder).append("000.00001", "read", np.zeros(1), form="cells", rows=[0, 1], shape=[32, 16], operation=0)
    assert "is not what its description says" in lab.page(run).text
