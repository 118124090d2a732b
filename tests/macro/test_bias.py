"""The bias table: what half-selected cells see of a pulse, and the largest differences that any cell sees."""

from itertools import product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rramlab.base.errors import UsageError
from rramlab.base.folders import shipped
from rramlab.drivers.boardfile import load_board
from rramlab.macro.bias import Bias, BitLine, Lines
from rramlab.macro.pulses import PULSE_KINDS

amplitudes = st.floats(0.1, 4.5)
couplings = st.floats(0, 1)
LINES = ("ground", "amplitude", "inhibited", "sense", "float")
lines = st.builds(Lines, st.sampled_from(LINES), st.sampled_from(LINES), st.sampled_from(("off", "on", "gate")))
biases = st.builds(Bias, lines, lines)


def volts(level, amplitude):
    return {"ground": 0.0, "sense": 0.0, "amplitude": amplitude, "inhibited": amplitude / 2}[level]


def seen(kind, bl, sl, wl, amplitude, coupling):
    """Across one cell, in the pulse's direction: from the source line to the bit line, in a reset the other way."""
    if wl == "off":
        return 0.0
    if "float" in (bl, sl):
        return coupling * amplitude
    forward = volts(sl, amplitude) - volts(bl, amplitude)
    return -forward if kind == "reset" else forward


@given(st.sampled_from(PULSE_KINDS), biases, amplitudes, couplings)
def test_a_half_selected_cell_has_one_line_of_the_selected_and_one_of_the_others(kind, bias, amplitude, coupling):
    """A row's neighbour: its bit and word line, another source line. A column's: its source line, the others of another row."""
    chosen, others = bias.selected, bias.unselected
    row, column = bias.half_selected_V(kind, amplitude, coupling)
    assert row == pytest.approx(seen(kind, chosen.bl, others.sl, chosen.wl, amplitude, coupling))
    assert column == pytest.approx(seen(kind, others.bl, chosen.sl, others.wl, amplitude, coupling))


@given(st.sampled_from(PULSE_KINDS), amplitudes, couplings)
def test_the_shipped_table_lets_a_row_feel_the_coupling_and_a_column_nothing(table, kind, amplitude, coupling):
    row, column = table.bias.pulse(kind).half_selected_V(kind, amplitude, coupling)
    assert row == pytest.approx(coupling * amplitude)
    assert column == 0


def test_each_kind_of_pulse_has_its_own_entry(table):
    assert table.bias.pulse("electroform") is table.bias.electroform
    assert table.bias.pulse("set") is table.bias.set
    assert table.bias.pulse("reset") is table.bias.reset


def test_a_v_half_scheme_halves_both():
    forming = Bias(Lines("ground", "amplitude", "gate"), Lines("inhibited", "inhibited", "on"))
    assert forming.half_selected_V("electroform", 3.0, 0.1) == (1.5, 1.5)
    reset = Bias(Lines("amplitude", "ground", "gate"), Lines("inhibited", "inhibited", "on"))
    assert reset.half_selected_V("reset", 2.0, 0.1) == (1.0, 1.0)


def test_grounding_unselected_source_lines_in_reset_puts_all_of_it_on_a_row():
    bias = Bias(Lines("amplitude", "ground", "gate"), Lines("ground", "ground", "off"))
    assert bias.half_selected_V("reset", 2.0, 0.1) == (2.0, 0.0)


def test_a_voltage_against_the_pulse_is_negative():
    bias = Bias(Lines("ground", "amplitude", "gate"), Lines("amplitude", "ground", "on"))
    assert bias.half_selected_V("set", 2.0, 0.1) == (0.0, 0.0)
    bias = Bias(Lines("inhibited", "amplitude", "gate"), Lines("amplitude", "ground", "on"))
    assert bias.half_selected_V("set", 2.0, 0.1) == (-1.0, 0.0)


# what limits on differences are compared with -------------------------------------------------------------------


@given(biases, amplitudes, st.floats(0, 3.3))
def test_the_worst_differences_are_those_of_the_worst_of_the_four_kinds_of_cells(bias, amplitude, gate):
    """Selected, sharing a row, sharing a column, neither."""
    worst = bias.worst_V(amplitude, gate)
    forward, backward, over_wl, off = [0.0], [0.0], [0.0], [0.0]
    for row, column in product((bias.selected, bias.unselected), repeat=2):
        terminals = [volts(level, amplitude) for level in (row.bl, column.sl) if level != "float"]
        if "float" not in (row.bl, column.sl):
            forward.append(terminals[1] - terminals[0])
            backward.append(terminals[0] - terminals[1])
        if row.wl != "on":
            over_wl.append((gate if row.wl == "gate" else 0.0) - min(terminals, default=0.0))
        if row.wl == "off" and column.sl != "float":
            off.append(volts(column.sl, amplitude))
    assert worst == pytest.approx(
        {
            "sl_minus_bl": max(forward),
            "bl_minus_sl": max(backward),
            "wl_minus_bl": max(over_wl),
            "sl_minus_off_wl": max(off),
        }
    )


def test_the_worst_differences_of_the_shipped_table_are_the_pulses_own(table):
    for kind in ("electroform", "set"):
        worst = table.bias.pulse(kind).worst_V(3.75, 1.6)
        assert worst == {"sl_minus_bl": 3.75, "bl_minus_sl": 0.0, "wl_minus_bl": 1.6, "sl_minus_off_wl": 3.75}
    worst = table.bias.reset.worst_V(2.0, 3.0)
    assert worst == {"sl_minus_bl": 0.0, "bl_minus_sl": 2.0, "wl_minus_bl": 3.0, "sl_minus_off_wl": 0.0}


# in the board's file --------------------------------------------------------------------------------------------

TEXT = (shipped().path / "drivers" / "macro-40nm.yaml").read_text(encoding="utf-8")
RESET = "selected: {bl: amplitude, sl: ground, wl: gate}"


def load(folder, text):
    (folder / "drivers").mkdir(exist_ok=True)
    (folder / "drivers" / "mine.yaml").write_text(text, encoding="utf-8")
    return load_board(folder, "mine")[0].table().bias


@pytest.mark.parametrize("level", sorted(set(get_args(BitLine)) - {"read"}))
def test_a_boards_file_may_say_any_level_of_a_line(tmp_path, level):
    assert RESET in TEXT
    bias = load(tmp_path, TEXT.replace(RESET, f"selected: {{bl: {level}, sl: ground, wl: gate}}"))
    assert bias.reset.selected == Lines(level, "ground", "gate")


@pytest.mark.parametrize(
    "wrong",
    [
        "{bl: amplitude, sl: ground}",
        "{bl: amplitude, sl: ground, wl: gate, dl: off}",
        "{bl: gate, sl: ground, wl: gate}",
        "{bl: amplitude, sl: ground, wl: ground}",
        "3",
    ],
)
def test_lines_that_are_missing_or_do_not_exist_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match="reset"):
        load(tmp_path, TEXT.replace(RESET, f"selected: {wrong}"))
