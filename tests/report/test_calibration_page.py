"""The calibration report: its values with uncertainties, its verdicts, what it says of what is missing; it stands alone."""

import re
from datetime import timedelta

import numpy as np
import pytest
from calibrated import BOARD, DIE, IDENTITY, MEASURED, Recorded
from looking import Looked, assert_alone

from rramlab.base.errors import DataError
from rramlab.drivers.bench import describe_bench
from rramlab.records.sections import DacSection
from rramlab.report.calibration.diefigures import formed_by
from rramlab.report.calibration.findings import gather
from rramlab.report.calibration.judging import parts
from rramlab.report.calibration.page import page, pictures
from rramlab.report.calibration.values import interval, known_to, spell
from rramlab.report.markup import tag
from rramlab.report.pictures import Picture

NOW = MEASURED + timedelta(days=3)
BOARD_SECTIONS = ("dac", "adc", "lines", "linearity", "agreement")
DIE_SECTIONS = ("forming", "noise", "wires")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A bench with every section measured; nobody changes it."""
    return Recorded(tmp_path_factory.mktemp("bench") / "lab")


@pytest.fixture(autouse=True)
def sketched(request, monkeypatch):
    """Leave the pictures' insides out, which take most of the time, but for the tests that ask for them as ``drawn``."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(Picture, "svg", lambda self: tag("svg", role="img", aria_label=self.alt))


@pytest.fixture
def drawn():
    """The page comes with its pictures."""


def report_of(bench, *names, now=NOW):
    found = gather(bench.description, names, now)
    text = page(found)
    looked = Looked(text)
    assert looked.errors == []
    assert_alone(text)
    return looked


def verdicts(bench, *names, now=NOW):
    return {each.name: each.judgement.words for each in parts(gather(bench.description, names, now))}


def test_a_whole_calibration_is_told_in_full_and_stands_alone(recorded, drawn):
    looked = report_of(recorded)
    expected = {f"{BOARD}-{name}" for name in BOARD_SECTIONS} | {f"{DIE}-{name}" for name in DIE_SECTIONS}
    assert expected | {"verdicts", "origins", f"{BOARD}-{DIE}-budget"} == set(looked.sections)
    assert "All sections hold" in looked.text
    for said in (
        recorded.board.id,
        recorded.die.id,
        recorded.run.id,
        "rramlab 0.1.0",
        "2027-02-23, 90 d",
        "25 °C ± 5 °C",
    ):
        assert said in looked.text
    assert "Keysight Technologies B2902A, serial number MY5678, firmware 3.4.2011.5100" in looked.text
    assert all(looked.pictures)
    assert len(looked.pictures) == 14


def test_values_stand_with_their_uncertainty_and_interval(recorded):
    text = report_of(recorded).text
    assert "mean 3.4356 V 5.6 mV 3.4246 to 3.4466 V" in text
    assert "standard deviation between cells 110.7 mV 4.0 mV 102.9 to 118.5 mV" in text
    assert "slope, product over sum 1.000070 0.000025 1.000021 to 1.000119" in text
    assert "wire from cell to cell 1.0200 Ω 4.0 mΩ 1.0122 to 1.0278 Ω" in text
    assert "read noise, one read, of the conductance 2.000% 0.010% 1.980% to 2.020%" in text
    assert "1% 4 " in text  # reads for a mean within 1 %, of reads that scatter by 2 %


def test_the_voltages_for_wanted_shares_are_those_of_the_curve(recorded):
    curve = recorded.die.record.forming.curve
    text = report_of(recorded).text
    for share in (0.05, 0.5, 0.9):
        u = curve.voltage_u(share, 5.6e-3, 4e-3)
        assert f"for {share:.0%} of the cells {spell(curve.voltage_V(share), u, 'V')}" in text


def test_every_table_has_heads_and_every_picture_of_a_record_its_own_name(recorded):
    found = gather(recorded.description, (), NOW)
    text = page(found)
    assert text.count("<table>") == text.count("<thead>") > 10
    heads = [attributes for tag, attributes in Looked(text).elements if tag == "th"]
    assert all(head.get("scope") in ("col", "row") for head in heads)
    names = [picture.name for group in pictures(found).values() for picture in group]
    assert len(names) == len(set(names))


def test_pictures_have_no_colour_but_those_of_the_page(recorded, drawn):
    """So that they are as readable in the dark: every role stands out from both backgrounds."""
    for group in pictures(gather(recorded.description, (), NOW)).values():
        for picture in group:
            assert re.findall(r"(?:fill|stroke): ?#[0-9a-f]{3,6}", picture.svg()) == [], picture.name


def test_a_page_is_light_and_dark_and_links_have_its_colours(recorded):
    text = page(gather(recorded.description, (), NOW))
    assert "@media screen and (prefers-color-scheme: dark)" in text
    assert "a { color: var(--one); }" in text
    assert 'href="#SIM-0009-dac"' in text


def test_the_budget_says_kind_distribution_divisor_and_share_of_each(recorded):
    text = report_of(recorded).text
    assert "voltage of the unit, limit of error resistor 0, 20 kΩ at 199.7 mV" in text
    assert "B rectangular ± 255 uV √3 60.1 uS/V 8.85 nS" in text
    assert "A normal 2.00% 8 12 uS 30 nS" in text
    assert "half a code; averaged over 64 reads B rectangular 0.5 codes √3 × 8" in text
    assert "combined standard uncertainty" in text
    assert "expanded uncertainty, k = 2" in text
    assert re.search(r"G = 12\.000 uS ± 6\d nS \(0\.5\d%\)", text)


def test_what_was_not_measured_is_said_with_what_to_type(tmp_path):
    bench = Recorded(tmp_path / "lab", leave_out=("lines", "wires", "agreement", "noise", "forming"))
    looked = report_of(bench)
    assert f"lines of board {BOARD}: not measured; rramlab calibrate lines" in looked.text
    assert f"agreement of board {BOARD}: not measured; rramlab calibrate smu" in looked.text
    assert f"{BOARD}-lines" not in looked.sections
    assert f"die {DIE}: there is no record of it" in looked.text
    assert "noise of reads was not measured of this die" in looked.text
    assert (
        "! What was measured holds Not measured: Lines, Board against source-measure unit, all of die small-1."
        in looked.text
    )


def test_without_converters_there_is_no_budget_and_that_is_said(tmp_path):
    looked = report_of(Recorded(tmp_path / "lab", leave_out=("adc", "agreement", "forming")))
    assert "There is no budget of a read: the converters of SIM-0009 were not measured" in looked.text
    assert f"forming of die {DIE}: not measured; rramlab calibrate forming --arm {DIE}" in looked.text
    assert f"{BOARD}-{DIE}-budget" not in looked.sections


def test_of_a_die_alone_there_is_no_budget(recorded):
    looked = report_of(recorded, recorded.die.id)
    assert "it rests on a board's record, which is not part of this report" in looked.text
    assert {each for each in looked.sections if each.startswith(BOARD)} == set()


def test_an_expired_record_is_marked_where_nobody_can_miss_it(recorded):
    now = MEASURED + timedelta(days=120)
    looked = report_of(recorded, now=now)
    assert "✗ 7 of 8 sections do not hold" in looked.text
    assert "✗ Expired This section is 120 days old, it holds for 90" in looked.text
    assert "Measure it again: rramlab calibrate dac" in looked.text
    assert (
        "It rests on sections that do not hold DAC: expired. Converters: expired. Noise of reads: expired."
        in looked.text
    )
    words = verdicts(recorded, now=now)
    assert (words["dac"], words["agreement"]) == ("expired", "expired, agrees")
    assert words["forming"] == "valid"  # of cells that nobody has pulsed yet
    assert looked.text.count("a read of 12 µS") == 0  # no figure in the head that does not hold


def test_a_temperature_outside_the_window_is_said_by_the_last_run(tmp_path):
    bench = Recorded(tmp_path / "lab", temperature=41.0)
    assert set(verdicts(bench).values()) == {"out of window", "out of window, agrees"}
    text = report_of(bench).text
    assert f"at 41 °C: what the board said at its last run, {bench.run.id}" in text
    assert "was measured at 25 °C and holds within 5 °C of that; it is 41 °C now" in text


def test_without_a_run_the_temperature_is_not_judged(tmp_path):
    bench = Recorded(tmp_path / "lab")
    (bench.run.folder / "run.json").unlink()
    assert set(verdicts(bench).values()) == {"valid", "valid, agrees"}
    assert "the board's temperature is not known" in report_of(bench).text


def test_what_was_measured_on_another_board_is_foreign(tmp_path):
    bench = Recorded(tmp_path / "lab", forming={"board": "SIM-0077"})
    assert verdicts(bench)["forming"] == "foreign"
    assert "✗ Foreign This section was measured on board SIM-0077; on the bench is SIM-0009" in report_of(bench).text


def test_a_record_of_what_is_not_on_the_bench_is_foreign(tmp_path):
    bench = Recorded(tmp_path / "lab")
    path = bench.folder / "bench.yaml"
    path.write_text(path.read_text().replace(f"board: {BOARD}", "board: SIM-0001"))
    found = gather(describe_bench(bench.folder), (bench.board.id,), NOW)
    assert {each.judgement.words for each in parts(found)} == {"foreign", "foreign, agrees"}
    assert f"is of board {BOARD}, which is not on this bench" in Looked(page(found)).text


def test_a_unit_and_a_board_that_disagree_are_said_to(tmp_path):
    bench = Recorded(tmp_path / "lab", agreement={"agrees": False})
    assert verdicts(bench)["agreement"] == "disagrees"
    assert "✗ Disagrees This section finds that board and unit disagree" in report_of(bench).text


def test_an_older_record_is_reported_beside_the_one_in_force(tmp_path):
    bench = Recorded(tmp_path / "lab")
    old = bench.board
    bench.changes = {"dac": {"levels": 18}}
    bench.write(leave_out=("adc", "lines", "linearity", "agreement", *DIE_SECTIONS))
    words = verdicts(bench, old.id)
    assert words["dac"] == "superseded"
    assert words["adc"] == "valid"  # the new record has it from this one
    looked = report_of(bench, old.id, bench.board.id)
    assert {f"{old.id}-dac", f"{bench.board.id}-dac"} <= set(looked.sections)
    assert f"was measured anew since; {bench.board.id} is in force" in looked.text


def test_converters_measured_by_cells_have_no_resistors_and_one_row_for_their_scale(tmp_path):
    bench = Recorded(tmp_path / "lab", adc={"references": (), "method": "cells at the unit"})
    text = report_of(bench).text
    assert "fitted to cells, conducting and not, that the unit has measured" in text
    assert "scale, by the source-measure unit scale_uncertainty of section adc B normal 0.077%" in text


def test_runs_that_were_put_away_leave_the_scale_in_one_row_and_say_why(tmp_path):
    bench = Recorded(tmp_path / "lab")
    bench.run.folder.rename(tmp_path / "away")
    text = report_of(bench).text
    assert "scale, by the source-measure unit" in text
    assert "No driver file on this bench says how accurate the unit is" in text


def test_a_damaged_provenance_is_named_and_the_rest_is_told(tmp_path):
    bench = Recorded(tmp_path / "lab")
    (bench.run.folder / "provenance.json").write_text("{")
    looked = report_of(bench)
    assert "problems" in looked.sections
    assert "provenance.json" in looked.text


HOSTILE = '</td><script>alert(1)</script><img src="http://evil.example/x" onerror=alert(2)>'


def test_nothing_in_a_record_becomes_markup(tmp_path):
    bench = Recorded(tmp_path / "lab", dac={"instruments": (HOSTILE,), "software": HOSTILE})
    looked = report_of(bench)
    assert not [name for name, _ in looked.elements if name in ("script", "img")]
    assert "<script>alert(1)</script>" in looked.text


def test_a_bench_without_any_record_has_nothing_to_report(tmp_path):
    bench = Recorded(tmp_path / "lab", leave_out=(*BOARD_SECTIONS, *DIE_SECTIONS))
    with pytest.raises(DataError, match="rramlab calibrate all"):
        gather(bench.description)


@pytest.mark.parametrize(
    ("value", "u", "unit", "spelt", "of_u", "between"),
    [
        (3.43562428, 5.58e-3, "V", "3.4356 V", "5.6 mV", "3.4247 to 3.4466 V"),
        (4.0, 0.12, "Ω", "4.00 Ω", "120 mΩ", "3.76 to 4.24 Ω"),
        (1.00018973, 1.14e-4, "", "1.00019", "0.00011", "0.99997 to 1.00041"),
        (-156.9e-6, 111.7e-6, "V", "-160 uV", "110 uV", "-380 to 62 uV"),
        (999e-6, 10e-6, "V", "999 uV", "10 uV", "979 uV to 1.019 mV"),
        (2.00311, 0.00384, "%", "2.0031%", "0.0038%", "1.9956% to 2.0106%"),
        (0.5, 0.0, "", "0.5", "0", "0.5 to 0.5"),
    ],
)
def test_values_are_rounded_where_their_uncertainty_begins(value, u, unit, spelt, of_u, between):
    assert spell(value, u, unit) == spelt
    assert known_to(u, unit) == of_u
    assert interval(value, u, unit) == between


def test_the_share_formed_by_a_voltage_counts_every_cell_and_lies_in_its_interval():
    low = np.array([-np.inf, 3.1, 3.1, 3.2, 3.3])
    high = np.array([3.1, 3.2, 3.2, 3.3, np.inf])
    volts, share, least, most = formed_by(low, high)
    assert volts.tolist() == [3.1, 3.2, 3.3]
    assert share == pytest.approx([0.2, 0.6, 0.8])
    assert np.all((least < share) & (share < most) & (least >= 0) & (most <= 1))


def test_the_interval_of_a_share_holds_the_truth_as_often_as_it_says():
    random = np.random.default_rng(4)
    held = []
    for _ in range(400):
        early = random.random(100) < 0.3
        _, _, least, most = formed_by(np.where(early, 3.1, 3.2), np.where(early, 3.2, 3.3))
        held.append(least[1] <= 0.3 <= most[1])
    assert 0.92 < np.mean(held) < 0.98


def test_instruments_that_say_it_otherwise_are_shown_as_they_do(tmp_path):
    bench = Recorded(tmp_path / "lab", dac={"instruments": ("a unit of its own",)})
    assert isinstance(bench.board.record.dac, DacSection)
    text = report_of(bench).text
    assert "a unit of its own" in text
    assert IDENTITY not in text
