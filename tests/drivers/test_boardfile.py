"""The board's driver file: every figure tagged, nothing contradictory accepted."""

import re

import pytest

from rramlab.base.errors import UsageError
from rramlab.base.folders import shipped
from rramlab.drivers.boardfile import load_board
from rramlab.macro.bias import Lines

TEXT = (shipped().path / "drivers" / "macro-40nm.yaml").read_text(encoding="utf-8")


def load(folder, text):
    (folder / "drivers").mkdir(exist_ok=True)
    (folder / "drivers" / "mine.yaml").write_text(text, encoding="utf-8")
    return load_board(folder, "mine")[0]


def test_the_shipped_board_is_the_published_one(table):
    assert table.geometry.shape == (512, 512)
    assert (table.dac_bits, table.adc_bits) == (16, 14)
    assert table.read_step_S == pytest.approx(6.25e-9)
    assert table.multiply_full_scale_S == pytest.approx(1e-3)
    assert table.lines_at_once == 64
    assert table.read_voltage_V == 0.2
    assert table.contact_voltage_V <= 0.1
    assert table.dead_man_s <= 1
    assert "sl_select" in table.capabilities


def test_every_figure_says_where_it_comes_from(tmp_path):
    figures = re.findall(r"\{value: .*\}", TEXT)
    assert len(figures) > 30
    for figure in figures:
        assert re.search(r"tag: (published|datasheet|assumed), source: \S", figure), figure
    for wrong in ("tag: guessed", "tga: assumed"):
        with pytest.raises(UsageError, match=r"mine\.yaml:\d+:\d+"):
            load(tmp_path, TEXT.replace("tag: assumed", wrong, 1))


def test_the_bias_table_is_that_of_the_design(tmp_path):
    bias = load(tmp_path, TEXT).bias
    for forming in (bias.electroform, bias.set):
        assert forming.selected == Lines("ground", "amplitude", "gate")
    assert (bias.reset.selected.bl, bias.reset.selected.sl) == ("amplitude", "ground")
    assert bias.reset.unselected.sl == "float"
    for sensing in (bias.read, bias.multiply):
        assert sensing.unselected.bl == "ground"  # driven, never floating
        assert sensing.unselected.wl == "on"
    assert load(tmp_path, TEXT).table().bias == bias


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("adc_rate:", "adc_rat:", "adc_rat"),
        ("value: 50 kHz", "value: 50 ks", "50 ks"),
        ("value: 50 kHz", "value: 50000", "unit"),
        ("dead_man: {value: 1 s", "dead_man: {value: 2 s", "dead-man"),
        ("contact_voltage: {value: 0.1 V", "contact_voltage: {value: 0.2 V", "contact voltage"),
        ("kind: board", "kind: smu", "kind"),
        ("[sl_select, per_row_wl", "[sl_selct, per_row_wl", "sl_selct"),
        ("[sl_select, per_row_wl,", "[sl_select,", "isolated_reads without per_row_wl"),
        ("[sl_select, per_row_wl,", "[per_row_wl,", "isolated_reads without sl_select"),
        ("rows: {value: 512", "rows: {value: many", "many"),
        ("{bl: amplitude, sl: ground, wl: gate}", "{bl: amplitude, sl: grund, wl: gate}", "grund"),
    ],
)
def test_a_mistake_in_a_board_file_is_named(tmp_path, old, new, words):
    assert old in TEXT
    with pytest.raises(UsageError) as caught:
        load(tmp_path, TEXT.replace(old, new, 1)).table()
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "old", ["columns: {value: 512", "rows: {value: 512", "lines_at_once: {value: 64", "adc_bits: {value: 14"]
)
@pytest.mark.parametrize("value", ["0", "-2"])
def test_an_impossible_figure_is_a_usage_error(tmp_path, old, value):
    text = TEXT.replace(old, f"{old.rsplit(' ', 1)[0]} {value}", 1)
    assert text != TEXT
    with pytest.raises(UsageError):
        load(tmp_path, text).table()


def test_a_bias_table_with_a_gap_is_refused(tmp_path):
    text = re.sub(r"  reset:\n.*\n.*\n", "", TEXT)
    assert text != TEXT
    with pytest.raises(UsageError, match="reset"):
        load(tmp_path, text).table()


def test_a_missing_board_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="macro-40mn"):
        load_board(tmp_path, "macro-40mn")
