"""Loops as a person writes them become the steps of a plan, each with its own line."""

import numpy as np
import pytest

from rramlab.base.errors import UsageError
from rramlab.macro.geometry import Geometry
from rramlab.macro.regions import Region
from rramlab.plan.plan import Plan
from rramlab.plan.steps import ForEachStep, ProgramStep, RepeatStep, WaitStep
from rramlab.protocols.files import load_protocol

HEAD = """\
name: mine
description: For a test.
parameters:
  top: {type: quantity, unit: V, default: 2 V, description: highest}
"""


def plan(tmp_path, steps, head=HEAD, **given):
    path = tmp_path / "mine.yaml"
    path.write_text(head + "steps:\n" + steps, encoding="utf-8")
    return load_protocol(tmp_path, str(path)).plan(Geometry(), given)


FOR_EACH = """\
  - for_each:
      values: {voltage: %s}
      steps:
        - reset: {cells: rows 0-3, voltage: "${voltage}", width: 1 us, gate: 3 V}
        - read: {cells: rows 0-3}
  - wait: {time: 10 s}
  - sweep: {cell: "(3, 7)", voltage: "${top}", kind: reset}
"""


@pytest.mark.parametrize(
    ("values", "volts"),
    [
        ("[1.8 V, 2 V, 2200 mV]", [1.8, 2.0, 2.2]),
        ("{from: 1 V, to: 1.2 V, step: 50 mV}", [1.0, 1.05, 1.1, 1.15, 1.2]),
        ("{from: 1.2 V, to: 1 V, step: 100 mV}", [1.2, 1.1, 1.0]),
        ("{from: 1 V, to: 1.27 V, step: 0.1 V}", [1.0, 1.1, 1.2]),
        ('{from: 1.9 V, to: "${top}", step: 50 mV}', [1.9, 1.95, 2.0]),
        ('["${top}", 1 V]', [2.0, 1.0]),
    ],
)
def test_for_each_is_a_round_for_each_value(tmp_path, values, volts):
    loop, wait, _ = plan(tmp_path, FOR_EACH % values).steps
    assert isinstance(loop, ForEachStep)
    assert loop.name == "voltage"
    assert [(each.value, each.unit) for each in loop.rounds] == [(value, "V") for value in volts]
    assert [each.steps[0].voltage for each in loop.rounds] == volts
    assert loop.source.line == 6
    assert [step.source.line for step in loop.rounds[-1].steps] == [9, 10]
    assert [step.source.column for step in loop.rounds[0].steps] == [11, 11]
    assert isinstance(wait, WaitStep)
    assert wait.time == 10


@pytest.mark.parametrize(
    ("values", "key", "found"),
    [
        ("[1, 2, 4]", "repeats", [1, 2, 4]),
        ("{from: 1, to: 9, step: 4}", "repeats", [1, 5, 9]),
        ("[rows 0-3, 'cols 1, 3']", "cells", ["rows 0-3", "cols 1, 3"]),
    ],
)
def test_numbers_and_words_are_values_too(tmp_path, values, key, found):
    steps = f"  - for_each: {{values: {{it: {values}}}, steps: [{{read: {{{key}: '${{it}}'}}}}]}}\n"
    (loop,) = plan(tmp_path, steps, head="name: mine\ndescription: x\n").steps
    assert [getattr(each.steps[0], key) for each in loop.rounds] == found
    assert [each.value for each in loop.rounds] == found
    assert {each.unit for each in loop.rounds} == {""}


def test_loops_in_loops_survive_json(tmp_path):
    made = plan(
        tmp_path,
        """\
  - repeat:
      times: 5
      until: {cells: rows 0-3, window: {formed_fraction: [0.5, 1]}}
      steps:
        - for_each:
            values: {v: [1 V, "${top}"]}
            steps:
              - for_each:
                  values: {w: [1 us, 2 us]}
                  steps:
                    - reset: {cells: rows 0-3, voltage: "${v}", width: "${w}", gate: 3 V}
        - read: {cells: rows 0-3}
""",
    )
    (repeat,) = made.steps
    assert isinstance(repeat, RepeatStep)
    assert repeat.times == 5
    assert repeat.until.window.formed_fraction == (0.5, 1)
    inner = repeat.steps[0].rounds[1].steps[0].rounds[1].steps[0]
    assert (inner.voltage, inner.width) == (2.0, pytest.approx(2e-6))
    assert inner.source.line == 16
    assert Plan.model_validate_json(made.model_dump_json()) == made


PROGRAM = """\
  - program:
      cells: (rows 0-7) - pristine
      target: 12 uS
      tolerance: 1 uS
      budget: 50
      by: width
      set: {start: 100 ns, to: 1 ms, factor: 2, voltage: "${top}", gate: 1.6 V}
      reset: {start: 100 ns, to: 1 ms, factor: 2, voltage: 1.8 V, gate: 3 V}
"""


def test_write_verify_is_read_with_its_ladders(tmp_path):
    (step,) = plan(tmp_path, PROGRAM).steps
    assert isinstance(step, ProgramStep)
    assert step.target == pytest.approx(12e-6)
    assert (step.set.voltage, step.set.gate) == (2.0, 1.6)
    assert step.reset.pulse(1).width_s == pytest.approx(200e-9)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        (
            "start: 100 ns, to: 1 ms, factor: 2, voltage: 1.8",
            "start: 100, to: 1 ms, factor: 2, voltage: 1.8",
            13,
            "start",
        ),
        ("factor: 2, voltage: 1.8 V", "step: 50 mV, voltage: 1.8 V", 13, "step"),
        ("factor: 2, voltage: 1.8", "factor: 1, voltage: 1.8", 13, "factor"),
        ("by: width", "by: size", 11, "amplitude or width"),
        (
            "start: 100 ns, to: 1 ms, factor: 2, voltage: 1.8",
            "start: 1 ms, to: 1 us, factor: 2, voltage: 1.8",
            13,
            "rises",
        ),
    ],
)
def test_a_mistake_in_a_ladder_points_at_it(tmp_path, old, new, line, words):
    assert PROGRAM.count(old) == 1
    with pytest.raises(UsageError, match=words) as caught:
        plan(tmp_path, PROGRAM.replace(old, new))
    assert caught.value.source.line == line


def test_an_error_says_in_which_round_it_is(tmp_path):
    with pytest.raises(UsageError, match=r"where repeats is 0\)$") as caught:
        plan(
            tmp_path,
            "  - for_each:\n      values: {repeats: [2, 1, 0]}\n      steps:\n        - read: {repeats: '${repeats}'}\n",
            head="name: mine\ndescription: x\n",
        )
    assert (caught.value.source.line, caught.value.source.column) == (7, 18)


def test_rounds_are_bounded_one_loop_and_all_together(tmp_path, monkeypatch):
    loop = "  - for_each: {values: {a: {from: 1, to: %d, step: 1}}, steps: [{wait: {time: '${a} s'}}]}\n"
    with pytest.raises(UsageError, match="at most 100,000") as caught:
        plan(tmp_path, loop % 100_001, head="name: mine\ndescription: x\n")
    assert caught.value.source.line == 4
    monkeypatch.setattr("rramlab.protocols.building.MOST_ROUNDS", 10)
    with pytest.raises(UsageError, match="12 rounds up to here, expected at most 10") as caught:
        plan(tmp_path, 2 * (loop % 6), head="name: mine\ndescription: x\n")
    assert caught.value.source.line == 5


def cells_read(tmp_path, value, within):
    steps = f"  - for_each: {{values: {{part: [{value!r}]}}, steps: [{{read: {{cells: '{within}'}}}}]}}\n"
    (loop,) = plan(tmp_path, steps, head="name: mine\ndescription: x\n").steps
    return loop.rounds[0].steps[0].cells


@pytest.mark.parametrize(
    ("value", "within", "cells"),
    [
        ("row 0 | row 8", "row 0 & ${part}", "row 0 & (row 0 | row 8)"),
        ("~pristine", "all - ${part}", "all - (~pristine)"),
        ("rows 0-7 - row 3", "all - ${part}", "all - (rows 0-7 - row 3)"),
        ("row 0 | row 8", " ${part} ", "row 0 | row 8"),
        ("0-7", "rows ${part} - pristine", "rows 0-7 - pristine"),
        ("(3, 7)", "cell ${part}", "cell (3, 7)"),
        ("one-of-pair", "${part}(seed=7)", "one-of-pair(seed=7)"),
    ],
)
def test_a_word_within_a_region_keeps_its_meaning(tmp_path, value, within, cells):
    assert cells_read(tmp_path, value, within).strip() == cells


@pytest.mark.parametrize(
    ("value", "within"),
    [("0 | row 8", "row 0 & row ${part}"), ("3 - pristine", "all - rows ${part}"), ("~", "row 0 & ${part}row 1")],
)
def test_a_part_of_a_region_that_would_change_the_rest_is_refused(tmp_path, value, within):
    with pytest.raises(UsageError, match="within a longer region"):
        cells_read(tmp_path, value, within)


def test_a_word_parameter_within_a_region_keeps_its_meaning_also_by_way_of_a_loop(tmp_path):
    head = "name: mine\ndescription: x\nparameters:\n  it: {type: word, default: row 0 | row 8, description: x}\n"
    steps = """\
  - read: {cells: "row 0 & ${it}"}
  - repeat: {times: 2, until: {cells: "all & ${it}", window: {formed_fraction: [0, 1]}}, steps: [{read: {cells: all}}]}
  - for_each: {values: {part: ["row 0 & ${it}"]}, steps: [{read: {cells: "all - ${part}"}}]}
"""
    read, repeat, loop = plan(tmp_path, steps, head=head).steps
    assert read.cells == "row 0 & (row 0 | row 8)"
    assert repeat.until.cells == "all & (row 0 | row 8)"
    assert loop.rounds[0].steps[0].cells == "all - (row 0 & (row 0 | row 8))"


def test_a_file_name_with_a_dash_is_no_part_of_a_region(tmp_path):
    (tmp_path / "half-die.txt").write_text("\n".join(["1" * 512] * 256 + ["0" * 512] * 256))
    assert "bits(" in cells_read(tmp_path, "half-die", "row 0 & mask(${part}.txt)")


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ("[30 s, 10 min, 2 h, 1 d]", [30, 600, 7200, 86400]),
        ("{from: 30 s, to: 2 min, step: 0.5 min}", [30, 60, 90, 120]),
    ],
)
def test_times_go_in_minutes_hours_and_days_too(tmp_path, values, seconds):
    steps = f"  - for_each: {{values: {{pause: {values}}}, steps: [{{wait: {{time: '${{pause}}'}}}}]}}\n"
    (loop,) = plan(tmp_path, steps, head="name: mine\ndescription: x\n").steps
    assert [(each.value, each.unit) for each in loop.rounds] == [(each, "s") for each in seconds]
    assert [each.steps[0].time for each in loop.rounds] == seconds


PLAIN = "name: mine\ndescription: For a test.\n"
EACH_CELL = """\
  - for_each:
      values: {here: %s}
      steps:
        - read: {cells: "${here}"}
"""


@pytest.mark.parametrize(
    ("values", "regions"),
    [
        ("{cells: 'cells (3, 7), (0, 2)'}", ["cell (0, 2)", "cell (3, 7)"]),
        ("{cells: row 1 & cols 4-5}", ["cell (1, 4)", "cell (1, 5)"]),
    ],
)
def test_for_each_goes_through_the_cells_of_a_region(tmp_path, values, regions):
    (loop,) = plan(tmp_path, EACH_CELL % values, PLAIN).steps
    assert [each.value for each in loop.rounds] == regions
    assert [each.steps[0].cells for each in loop.rounds] == regions


@pytest.mark.parametrize("count", [1, 32, 100, 512])
def test_for_each_takes_every_column_once_evenly_spread(tmp_path, count):
    (loop,) = plan(tmp_path, EACH_CELL % f"{{columns: {count}}}", PLAIN).steps
    found = [Region(each.steps[0].cells).bound(Geometry()) for each in loop.rounds]
    assert sum(each.bits.astype(int) for each in found).min() == 1
    assert sum(each.count for each in found) == Geometry().cells
    for each in found:
        columns = np.flatnonzero(each.bits[0])
        assert columns.size <= count
        assert np.unique(np.diff(columns)).size <= 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("{cells: conducting}", "depend on no data"),
        ("{cells: rows 0-999}", "off the die"),
        ("{cells: all}", "262,144 cells"),
        ("{columns: 0}", "1 to 512"),
        ("{columns: 513}", "1 to 512"),
        ("{columns: some}", "how many columns"),
    ],
)
def test_cells_and_columns_that_cannot_be_gone_through_are_refused(tmp_path, values, words):
    with pytest.raises(UsageError, match=words) as caught:
        plan(tmp_path, EACH_CELL % values, PLAIN)
    assert (caught.value.source.line, caught.value.source.file) == (5, str(tmp_path / "mine.yaml"))


def test_a_staircase_drives_one_line_more_at_each_step(tmp_path):
    steps = "  - gate: {rows: rows 0-63, columns: all}\n  - multiply: {inputs: staircase, batch: 16, bits: 2}\n"
    codes = plan(tmp_path, steps, PLAIN).steps[1].codes(64)
    assert (codes > 0).sum(axis=1).tolist() == list(range(4, 65, 4))
    assert set(np.unique(codes)) == {0, 3}
    assert all(np.all(np.diff(row.astype(int)) <= 0) for row in codes)
