"""Records of calibration: written with units, never changed, read back as they were, refused when they were edited."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import HostClock, SmallBench

from rramlab.base.errors import DataError, Refused, Uncalibrated, UsageError
from rramlab.base.yamlfile import load_model
from rramlab.records.applied import calibration_of, faults_of, in_force
from rramlab.records.comparing import compare
from rramlab.records.files import BoardRecord, DieRecord, Kept, find, history, newest, save
from rramlab.records.forming import forming_of
from rramlab.records.sections import AdcSection, ColumnSpread, DacSection, FormingSection, NoiseSection
from rramlab.records.values import Number, Voltage, spelled

NOW = datetime.now(UTC).replace(microsecond=0)
BOARD, DIE = "SIM-0009", "small-1"
COMMON = {
    "measured_at": NOW, "board": BOARD, "die": DIE, "runs": ("r-1",), "temperature": 25.0, "valid_for": 90 * 86400.0,
    "software": "rramlab 0.1.0",
}  # fmt: skip


def dac(gain=1.0002, **changes):
    return DacSection(
        **{**COMMON, **changes}, channel=0, levels=19, highest=2.0, gain=Number(value=gain, uncertainty=1e-4),
        offset=Voltage(value=-1.2e-4, uncertainty=9e-5), residual=1e-5,
    )  # fmt: skip


def adc(**changes):
    spread = ColumnSpread(
        gain=Number(value=0.999, uncertainty=2e-4), gain_spread=0.005, column_gain_uncertainty=2e-5, offset=0.1,
        offset_spread=1.0, offset_uncertainty=0.07, residual=0.28,
    )  # fmt: skip
    return AdcSection(
        **{**COMMON, **changes}, method="reference resistors", scale_uncertainty=8e-4, read=spread, multiply=spread,
        dac_gain=Number(value=1.0001, uncertainty=1e-4), dac_offset=Voltage(value=1e-4, uncertainty=9e-5),
    )  # fmt: skip


def forming(**changes):
    return FormingSection(
        **{**COMMON, **changes}, mean=Voltage(value=3.43, uncertainty=0.006), width=1e-6, gate=1.6, cells=400,
        sigma=Voltage(value=0.112, uncertainty=0.004), formed=398,
    )  # fmt: skip


def columns(count=16, seed=0):
    rng = np.random.default_rng(seed)
    found = {f"{name}_offset": rng.normal(0, 1, count) for name in ("read", "multiply")}
    for name in ("read", "multiply"):
        gain = rng.normal(1, 0.01, count)
        found[f"{name}_gain"] = gain * (0.999 / gain.mean())  # as the section says
    return {f"adc/{name}": (values, "1") for name, values in found.items()}


def board_record(root, sections=None, arrays=None, before=None):
    sections = {"dac": dac(), "adc": adc()} if sections is None else sections
    arrays = (columns() if "adc" in sections else {}) if arrays is None else arrays
    return save(root, BoardRecord(serial=BOARD, written_at=NOW), sections, arrays, before)


def die_record(root, **sections):
    return save(root, DieRecord(die=DIE, written_at=NOW), sections or {"forming": forming()}, {}, None)


def test_a_record_is_read_back_as_it_was_with_its_arrays(tmp_path):
    kept = board_record(tmp_path)
    again = Kept.load(kept.path)
    assert again.record == kept.record
    assert again.record.dac == dac()
    for name, (values, _) in columns().items():
        assert np.array_equal(again.arrays[name], values)
    assert newest(tmp_path, "board", BOARD).id == kept.id
    assert newest(tmp_path, "board", "OTHER") is None


def test_a_person_can_read_it(tmp_path):
    text = board_record(tmp_path).path.read_text()
    for words in ("gain: {value: 1.0002, uncertainty: 0.0001}", "offset: {value: -120 uV, uncertainty: 90 uV}",
                  "temperature: 25 °C", "valid_for: 90 d", "highest: 2 V"):  # fmt: skip
        assert words in text


def test_a_new_measurement_is_a_new_file_and_keeps_what_was_not_measured_again(tmp_path):
    first = board_record(tmp_path)
    second = board_record(tmp_path, {"dac": dac(gain=1.0009)}, {}, first)
    assert list(history(tmp_path, "board", BOARD)) == [first.path, second.path]
    assert second.record.adc == first.record.adc
    assert second.record.dac.gain.value == 1.0009
    assert np.array_equal(second.arrays["adc/read_gain"], first.arrays["adc/read_gain"])
    assert Kept.load(first.path).record == first.record
    third = board_record(tmp_path, {"adc": adc()}, columns(seed=1), second)
    assert not np.array_equal(third.arrays["adc/read_gain"], first.arrays["adc/read_gain"])
    assert third.record.dac.gain.value == 1.0009


@given(
    st.floats(0.96, 1.04), st.floats(0, 1e3, allow_subnormal=False),
    st.floats(1, 3650 * 86400), st.floats(-55, 125), st.text("abc é'\"#:{}[]", min_size=1, max_size=12),
)  # fmt: skip
def test_values_survive_being_spelled(tmp_path_factory, value, uncertainty, valid_for, temperature, instrument):
    section = dac(gain=value, valid_for=valid_for, temperature=temperature, instruments=(instrument,))
    section = section.model_copy(update={"offset": Voltage(value=(value - 1) / 2, uncertainty=uncertainty)})
    path = tmp_path_factory.mktemp("spelled") / "section.yaml"
    path.write_text(spelled(section), encoding="utf-8")
    again = load_model(path, DacSection)
    assert again.instruments == section.instruments
    assert again.offset.value == pytest.approx((value - 1) / 2, rel=1e-8, abs=1e-15)
    for one, other in ((again.gain.value, value), (again.offset.uncertainty, uncertainty), (again.valid_for, valid_for),
                       (again.temperature, temperature)):  # fmt: skip
        assert one == pytest.approx(other, rel=1e-8)


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        ("value: 3.43 V", "value: 3.43", "with its unit"),
        ("value: 3.43 V", "value: 3.43 A", "'A'"),
        ("temperature: 25 °C", "temperature: 25", "with its unit"),
        ("cells: 400", "cells: many", "cells"),
        ("  board:", "  bord:", "bord"),
        ("+00:00'\n  board", "'\n  board", "zone"),
        ("die: 'small-1'\nforming", "die: 'small-2'\nforming", "renamed or edited"),
        ("uncertainty: 6 mV", "uncertainty: -6 mV", "uncertainty"),
    ],
)
def test_a_record_that_was_edited_is_refused_with_its_line(tmp_path, before, after, hint):
    path = die_record(tmp_path).path
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(UsageError, match=hint) as caught:
        newest(tmp_path, "die", DIE)
    assert path.name in str(caught.value)


def test_arrays_that_are_gone_or_changed_are_refused(tmp_path):
    kept = board_record(tmp_path)
    companion = kept.path.with_suffix(".h5")
    data = companion.read_bytes()
    companion.write_bytes(data[:-1] + b"x")
    with pytest.raises(DataError, match="not as it was"):
        Kept.load(kept.path)
    companion.unlink()
    with pytest.raises(DataError, match=r"Restore .* from a copy"):
        Kept.load(kept.path)


def test_a_record_of_a_clock_that_was_wrong_does_not_drag_later_ones_along(tmp_path, monkeypatch):
    """Each says what the clock said, and the one that was made last is in force."""
    clock, made = HostClock(monkeypatch), []
    for days in (0, 26_000, -26_000, -1, 1):
        clock.set_by(days=days)
        at = clock.at
        made.append(board_record(tmp_path, {"dac": dac()}, {}, made[-1] if made else None))
        assert made[-1].record.written_at - at < timedelta(seconds=1)
        assert f"-{at:%Y%m%d}-" in made[-1].id
        assert newest(tmp_path, "board", BOARD).id == made[-1].id
    other = die_record(tmp_path)
    assert newest(tmp_path, "die", DIE).id == other.id
    assert [path.stem for path in history(tmp_path, "board", BOARD)] == [each.id for each in made]


def test_records_of_a_die_whose_name_begins_like_anothers_are_told_apart(tmp_path):
    save(tmp_path, DieRecord(die="die-1", written_at=NOW), {"forming": forming(die="die-1")}, {}, None)
    save(tmp_path, DieRecord(die="die-1-b", written_at=NOW), {"forming": forming(die="die-1-b")}, {}, None)
    assert [Kept.load(path).record.die for path in history(tmp_path, "die", "die-1")] == ["die-1"]


def test_find_names_what_there_is(tmp_path):
    kept = board_record(tmp_path)
    assert find(tmp_path, kept.id[:-2]).id == kept.id
    with pytest.raises(DataError, match=kept.id):
        find(tmp_path, "nothing")


def test_two_records_are_compared_in_their_uncertainties(tmp_path):
    first, second = board_record(tmp_path), board_record(tmp_path, {"dac": dac(gain=1.0006), "adc": adc()})
    rows = {row.name: row for row in compare(first, second)}
    assert rows["dac.gain"].deviation == pytest.approx(4e-4 / (2**0.5 * 1e-4))
    assert "dac.offset" in rows


def test_the_curve_in_force_is_of_this_die_on_this_board(tmp_path):
    with pytest.raises(DataError, match="rramlab calibrate forming"):
        forming_of(tmp_path, DIE, BOARD)
    die_record(tmp_path)
    assert forming_of(tmp_path, DIE, BOARD) == forming()
    with pytest.raises(DataError, match=f"'{BOARD}'"):
        forming_of(tmp_path, DIE, "SIM-0001")


def test_repeats_for_an_accuracy():
    section = NoiseSection(
        **COMMON, cells=100, reads=20, watched=19.0, read=Number(value=0.02, uncertainty=1e-4),
        telegraph_share=Number(value=0.05, uncertainty=0.01), median=12e-6,
    )  # fmt: skip
    assert [section.repeats(accuracy) for accuracy in (0.05, 0.02, 0.01, 0.001)] == [1, 1, 4, 400]


OLD = {"measured_at": NOW - timedelta(days=91)}


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        ("gain: {value: 1.0002", "gain: {value: 10", "within 5% of 1"),
        ("gain: {value: 1.0002", "gain: {value: -1", "within 5% of 1"),
        ("offset: {value: -120 uV", "offset: {value: 1 V", "at most 0.05 V"),
        ("highest: 2 V", "highest: 200 kV", "highest"),
        ("residual: 10 uV", "residual: -10 uV", "residual"),
        ("valid_for: 90 d", "valid_for: 9e30 d", "valid_for"),
        ("gain: {value: 0.999,", "gain: {value: 1.2,", "one of the two was edited"),
        ("adc:\n  measured_at", "adc:\n  valid: yes\n  measured_at", "valid"),
        ("board: 'SIM-0009'", "board: 'SIM-0777'", "SIM-0777"),
        ("serial: 'SIM-0009'", "serial: 'SIM'", "renamed or edited"),
        ("file: 'board-", "file: 'another-board-", "another record's"),
    ],
)
def test_what_no_board_can_be_is_refused_and_how_to_go_on_is_said(tmp_path, before, after, hint):
    older = board_record(tmp_path)
    kept = board_record(tmp_path)
    text = kept.path.read_text()
    assert before in text
    kept.path.write_text(text.replace(before, after, 1))
    with pytest.raises((UsageError, DataError), match=hint) as caught:
        newest(tmp_path, "board", BOARD)
    assert f"{older.path.name} is in force then" in str(caught.value)
    for suffix in (".yaml", ".h5"):
        kept.path.with_suffix(suffix).unlink()
    assert newest(tmp_path, "board", BOARD).id == older.id


def test_a_section_without_its_arrays_is_no_calibration(tmp_path):
    kept = board_record(tmp_path)
    text = kept.path.read_text()
    start, stop = text.index("arrays:"), text.index("serial:")
    kept.path.write_text(text[:start] + text[stop:])
    with pytest.raises(DataError, match="no array adc/read_gain"):
        newest(tmp_path, "board", BOARD)


def test_a_record_of_a_time_to_come_does_not_hold():
    assert "to come" in dac(measured_at=NOW + timedelta(days=400)).fault(NOW, 25.0)
    assert dac(measured_at=NOW + timedelta(minutes=5)).fault(NOW, 25.0) is None  # two clocks


def test_two_records_of_one_moment_do_not_replace_each_other(tmp_path):
    kept = [board_record(tmp_path) for _ in range(5)]
    assert len({each.id for each in kept}) == 5
    assert list(history(tmp_path, "board", BOARD)) == [each.path for each in kept]


def test_a_curve_that_was_edited_beyond_what_can_be_is_refused():
    for changes in ({"sigma": Voltage(value=-0.11, uncertainty=0.01)}, {"mean": Voltage(value=0.0, uncertainty=0.01)}):
        with pytest.raises(ValueError, match="found breakdown"):
            FormingSection.model_validate({**forming().model_dump(), **{k: v.model_dump() for k, v in changes.items()}})


@pytest.mark.parametrize(
    ("sections", "hint"),
    [
        (None, "no calibration record"),
        ({"dac": dac(), "adc": adc(**OLD)}, "91 days old"),
        ({"dac": dac(temperature=40.0), "adc": adc()}, "25 °C now"),
        ({"dac": dac()}, "no section 'adc'"),
    ],
)
def test_what_is_missing_expired_or_of_another_temperature_is_refused_or_said(tmp_path, small_table, sections, hint):
    if sections is not None:
        board_record(tmp_path, sections)
    (fault,) = faults_of(newest(tmp_path, "board", BOARD), tmp_path, BOARD, 25.0)
    assert hint in fault
    with pytest.raises(Refused, match="rramlab calibrate all") as caught:
        in_force(tmp_path, BOARD, small_table, 25.0, "require")
    assert hint in str(caught.value)
    with pytest.warns(Uncalibrated, match=hint):
        used = in_force(tmp_path, BOARD, small_table, 25.0, "warn")
    assert (used.kept is None) == (sections is None)  # with a warning the record is used all the same
    assert in_force(tmp_path, BOARD, small_table, 25.0, "none").calibration.record == "nominal"


def test_a_record_that_holds_is_used_whatever_the_policy(tmp_path, small_table):
    kept = board_record(tmp_path)
    for policy in ("require", "warn", "none"):
        found = in_force(tmp_path, BOARD, small_table, 27.0, policy)
        assert found.faults == ()
        assert found.calibration.record == kept.id
        assert found.calibration.dac_gain == 1.0002
        assert found.calibration.read_line == (1.0001, 1e-4)
        assert np.array_equal(found.calibration.read_gain, columns()["adc/read_gain"][0])


def test_a_record_of_a_board_with_other_columns_is_refused(tmp_path, small_table):
    kept = board_record(tmp_path, arrays=columns(count=12))
    with pytest.raises(DataError, match="12 columns, the board has 16"):
        calibration_of(kept, small_table)


def test_a_session_converts_with_the_record_and_keeps_its_name_with_the_codes(tmp_path):
    bench = SmallBench(tmp_path, policy="require").write()
    kept = board_record(tmp_path)
    with bench.open() as session:
        session.macro.read("row 0")
        (run,) = list((tmp_path / "data" / "runs").iterdir())
        block = next(run.glob("blocks/*.json")).read_text()
    assert kept.id in block
    assert kept.id in (run / "provenance.json").read_text()


def test_a_board_that_got_warm_since_is_refused_at_the_next_run(tmp_path):
    bench = SmallBench(tmp_path, policy="require").write()
    board_record(tmp_path)
    with bench.open() as session:
        session.run("read-array")
        session.bench.controllers[DIE].board.temperature_C = 40.0
        with pytest.raises(Refused, match="40 °C now"):
            session.run("read-array")
