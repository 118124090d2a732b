"""A record that was changed by hand says so, and is used again when a person has accepted it by name."""

import random
import re
import warnings

import numpy as np
import pytest
from test_records import BOARD, COMMON, DIE, NOW, adc, board_record, columns, dac, die_record
from turned import flipped
from workbench import SmallBench

from rramlab.base.errors import DataError, Refused, Uncalibrated, UsageError
from rramlab.calibration.context import Context
from rramlab.drivers.bench import describe_bench
from rramlab.macro.board import BoardTable
from rramlab.records.applied import faults_of, in_force, lines_of
from rramlab.records.files import BoardRecord, Kept, accept, find, history, newest, save
from rramlab.records.forming import forming_of
from rramlab.records.sections import LinesSection, WiresSection
from rramlab.records.values import Resistance
from rramlab.runs.store import list_runs


@pytest.fixture
def table(tmp_path):
    return describe_bench(SmallBench(tmp_path / "bench").write().folder).board


def edit(kept, before, after, count=1):
    text = kept.path.read_text(encoding="utf-8")
    assert before in text
    kept.path.write_text(text.replace(before, after, count), encoding="utf-8")
    return Kept.load(kept.path)


def test_a_record_as_it_was_written_is_whole(tmp_path):
    kept = board_record(tmp_path)
    assert (kept.state, kept.fault, kept.notes) == ("whole", "", ())
    assert re.search(r"^sum: '[0-9a-f]{32}'$", kept.path.read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# What is known", "# Our best board. What is known"),
        (
            "gain: {value: 1.0002, uncertainty: 0.0001}",
            "gain:\n    uncertainty: 1e-4  # by the unit\n    value: 1.00020",
        ),
        ("board: 'SIM-0009'", 'board:    "SIM-0009"'),
        ("kind: 'board'\n", "kind: board\n\n\n"),
    ],
)
def test_what_is_only_laid_out_otherwise_or_commented_on_raises_no_alarm(tmp_path, before, after):
    assert edit(board_record(tmp_path), before, after).state == "whole"


NUMBERS = re.compile(r"(?<=[ {])-?\d+\.?\d*(?:e-\d+)?(?=[ ,}\n])")


def test_every_edited_number_is_seen(tmp_path, table):
    """With ``require`` nothing is done by it; with ``warn`` it is a fault that is said; with ``none`` it is not used."""
    kept = board_record(tmp_path)
    text = kept.path.read_text(encoding="utf-8")
    places = list(NUMBERS.finditer(text))
    assert len(places) > 25
    for place in places:
        number = float(place[0])
        kept.path.write_text(
            text[: place.start()] + f"{number * 1.001 + (not number):.9g}" + text[place.end() :], encoding="utf-8"
        )
        try:
            found = Kept.load(kept.path)
        except (UsageError, DataError):
            continue  # it cannot be what it says
        assert found.state == "changed", place
        with pytest.raises(Refused, match=f"calibrate accept {kept.id}"):
            in_force(tmp_path, BOARD, table, 25.0, "require")
        with pytest.warns(Uncalibrated, match="changed since it was written"):
            assert in_force(tmp_path, BOARD, table, 25.0, "warn").kept is not None
        assert in_force(tmp_path, BOARD, table, 25.0, "none").kept is None


def test_no_flipped_bit_of_a_record_is_believed(tmp_path, table):
    kept, refused = board_record(tmp_path), []
    for path, most in ((kept.path, 400), (kept.path.with_suffix(".h5"), 60)):
        for bit in random.Random(2).sample(range(8 * path.stat().st_size), most):
            with flipped(path, bit):
                try:
                    found = in_force(tmp_path, BOARD, table, 25.0, "require")
                except (UsageError, DataError, Refused) as error:
                    refused.append(str(error))
                    continue
                assert found.kept.record == kept.record  # in a comment, or how it is laid out
                for name, values in kept.arrays.items():
                    assert np.array_equal(found.kept.arrays[name], values)
    assert len(refused) > 300
    assert all(kept.id in each for each in refused)


def test_a_record_of_0_1_0_has_no_check_sum_and_is_used(tmp_path, table):
    kept = edit(board_record(tmp_path), "sum: ", "# ")
    assert kept.state == "unsummed"
    assert faults_of(kept, tmp_path, BOARD, 25.0) == ()
    assert in_force(tmp_path, BOARD, table, 25.0, "require").kept.id == kept.id
    assert kept.notes == (f"{kept.path.name} has no check sum (written by 0.1.0)",)
    after = board_record(tmp_path, {"dac": dac(gain=1.0009)}, {}, kept)
    assert after.state == "whole"
    assert after.record.adc == kept.record.adc


def test_a_person_accepts_an_edit_and_the_record_says_who_and_why(tmp_path, table):
    first = board_record(tmp_path)
    kept = edit(first, "valid_for: 90 d", "valid_for: 300 d  # we know this board", 2)
    accepted = accept(tmp_path, kept.id, " A. Turing ", "two years of\nchecks")
    assert accepted.state == "whole"
    (word,) = accepted.record.accepted
    assert (word.record, word.by, word.reason) == (kept.id, "A. Turing", "two years of checks")
    assert accepted.record.dac.valid_for == 300 * 86400
    assert "# we know this board" in accepted.path.read_text()
    assert in_force(tmp_path, BOARD, table, 25.0, "require").kept.id == kept.id
    assert "A. Turing" in str(accepted.notes)
    again = edit(accepted, "valid_for: 300 d", "valid_for: 301 d")
    assert again.state == "changed"
    twice = accept(tmp_path, again.id, "B", "it's 301")
    assert [each.by for each in twice.record.accepted] == ["A. Turing", "B"]
    assert edit(twice, "by: 'B'", "by: 'C'").state == "changed"  # the word is part of what is summed
    after = board_record(tmp_path, {"dac": dac(gain=1.0009)}, {}, accept(tmp_path, kept.id, "D", "so it is"))
    assert [each.by for each in after.record.accepted] == ["A. Turing", "C", "D"]  # adc is taken over


def test_there_is_nothing_to_accept_in_a_whole_record_nor_without_a_word(tmp_path):
    kept = board_record(tmp_path)
    with pytest.raises(UsageError, match="nothing to accept"):
        accept(tmp_path, kept.id, "A", "b")
    edit(kept, "90 d", "91 d")
    for by, reason in (("", "b"), ("A", " ")):
        with pytest.raises(UsageError, match="--by NAME --reason TEXT"):
            accept(tmp_path, kept.id, by, reason)
    assert find(tmp_path, kept.id).state == "changed"


def test_a_record_whose_keys_stand_on_one_line_is_not_rewritten(tmp_path):
    kept = board_record(tmp_path)
    text = kept.path.read_text().replace("sum: '", "sum:\n  '").replace("90 d", "91 d")
    kept.path.write_text(text.replace("kind: 'board'\n", "? kind\n: 'board'\n"))
    done = accept(tmp_path, kept.id, "A", "b")
    assert (done.state, done.record.dac.valid_for) == ("whole", 91 * 86400)


def test_arrays_of_another_time_cannot_be_accepted(tmp_path):
    kept = board_record(tmp_path)
    path = kept.path.with_suffix(".h5")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="restore both"):
        accept(tmp_path, kept.id, "A", "b")


def test_nothing_that_is_changed_is_built_on(tmp_path, table):
    """No new record takes it over, no pulse is planned by it, no line is compensated by it."""
    board = edit(board_record(tmp_path), "uncertainty: 0.0001", "uncertainty: 0.0002")
    count = len(list(history(tmp_path, "board", BOARD)))
    with pytest.raises(DataError, match="Nothing was written"):
        save(tmp_path, BoardRecord(serial=BOARD, written_at=NOW), {"dac": dac()}, {}, board)
    assert len(list(history(tmp_path, "board", BOARD))) == count
    die = die_record(tmp_path)
    assert forming_of(tmp_path, DIE, BOARD).mean.value == 3.43
    edit(die, "mean: {value: 3.43 V", "mean: {value: 3.53 V")
    with pytest.raises(DataError, match="Nothing was energised"):
        forming_of(tmp_path, DIE, BOARD)
    accept(tmp_path, die.id, "A", "measured by hand")
    assert forming_of(tmp_path, DIE, BOARD).mean.value == 3.53


def resistance(value):
    return Resistance(value=value, uncertainty=value / 100)


def test_lines_of_a_changed_record_are_not_given_back(tmp_path, table: BoardTable):
    rows, cols = table.geometry.shape
    lines = LinesSection(
        **COMMON, bit_line=resistance(100.0), bit_line_spread=resistance(1.0), source_line=resistance(100.0),
        source_line_spread=resistance(1.0), cells=9,
    )  # fmt: skip
    arrays = {f"lines/{name}": (np.full(size, 100.0), "Ohm") for name, size in
              (("bl_Ohm", rows), ("bl_u", rows), ("sl_Ohm", cols), ("sl_u", cols))}  # fmt: skip
    board_record(tmp_path, {"lines": lines}, arrays)
    die = die_record(tmp_path, wires=WiresSection(**COMMON, segment=resistance(1.0), cells=9))
    assert lines_of(tmp_path, BOARD, DIE, table.geometry, 25.0) is not None
    edit(die, "value: 1 Ω", "value: 3 Ω")
    with pytest.raises(DataError, match="calibrate accept"):
        lines_of(tmp_path, BOARD, DIE, table.geometry, 25.0)


def test_an_analysis_does_not_rest_on_a_changed_record(small_bench):
    kept = board_record(small_bench.folder, {"dac": dac(), "adc": adc()}, columns())
    description = describe_bench(small_bench.folder)
    with small_bench.open() as session:
        session.run("contact")
    (run,) = list_runs(description.data / "runs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Context.of(run, description).board.id == kept.id
    edit(kept, "offset_spread: 1\n", "offset_spread: 2\n")
    with pytest.raises(DataError, match="Nothing was written"):
        Context.of(run, description)
    assert newest(small_bench.folder, "board", BOARD).state == "changed"
