"""Codes and siemens: the DAC never exceeds what was asked, reads and products convert back exactly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rramlab.macro.calibration import BoardCalibration
from rramlab.macro.gates import GatePattern
from rramlab.macro.pulses import Pulse


@given(st.floats(0, 5))
def test_a_dac_code_never_exceeds_the_voltage(table, volts):
    code = table.dac_code(volts)
    step = table.dac_full_scale_V / (2**table.dac_bits - 1)
    assert volts - 1.001 * step <= table.dac_volts(code) <= volts * (1 + 1e-12)


@pytest.mark.parametrize("volts", [-0.1, 5.01, float("inf")])
def test_a_voltage_beyond_the_dac_is_refused_not_clipped(table, volts):
    with pytest.raises((ValueError, OverflowError)):
        table.dac_code(volts)


def test_read_codes_become_siemens(table):
    codes = np.array([[table.zero_code, table.zero_code + 1000], [table.zero_code, table.zero_code + 1002]], np.uint16)
    calibration = BoardCalibration.nominal(table)
    bias = table.dac_code(table.read_voltage_V)
    found = calibration.conductance(codes, np.array([0, 5]), bias)
    assert found.dtype == np.float32
    expected = 1001 * 6.25e-9 * (table.read_voltage_V / table.dac_volts(bias))  # the DAC makes the code below 0.2 V
    assert found == pytest.approx([0, expected], rel=1e-6)
    half = calibration.conductance(codes, np.array([0, 5]), bias // 2)
    assert half == pytest.approx(2 * found, rel=1e-3)


def test_a_calibrated_dac_and_converter_are_taken_off(table):
    """What an imperfect board would give for a known current converts back to it, on both ranges."""
    rng = np.random.default_rng(3)
    gain, offset = rng.normal(1, 0.01, (2, 512)), rng.normal(0, 3, (2, 512))
    found = BoardCalibration("r", table, gain[0], offset[0], gain[1], offset[1], 1.002, 3e-4)
    bias = table.dac_code(table.read_voltage_V)
    volts = 1.002 * table.dac_volts(bias) + 3e-4
    columns, siemens = np.arange(512), rng.uniform(5e-6, 50e-6, 512)
    level = siemens * volts / table.read_voltage_V / table.read_step_S * gain[0] + offset[0] + table.zero_code
    codes = np.stack([np.floor(level), np.ceil(level)]).astype(np.uint16)
    assert found.conductance(codes, columns, bias) == pytest.approx(siemens, abs=table.read_step_S)
    groups = np.full(512, 2, np.int32)
    at_once = siemens * volts / table.input_V / table.multiply_step_S * gain[1] + groups * (offset[1] + table.zero_code)
    sums = np.rint(at_once * 64).astype(np.int32)[None] // 64
    assert found.products(sums, columns, groups, 1)[0] == pytest.approx(siemens, abs=table.multiply_step_S)


@given(st.floats(0.01, 5), st.floats(0.95, 1.05), st.floats(-5e-3, 5e-3))
def test_a_calibrated_code_exceeds_the_voltage_by_neither_reckoning(table, volts, gain, offset_V):
    ones = np.ones(512)
    found = BoardCalibration("r", table, ones, ones, ones, ones, gain, offset_V)
    code = found.dac_code(volts)
    assert code <= table.dac_code(volts)
    assert code == 0 or found.volts(code) <= volts * (1 + 1e-12)
    step = 1.001 * table.dac_volts(1)
    assert code == table.dac_code(volts) or found.volts(code) > volts - gain * step - 1e-12


def test_products_take_every_zero_code_off(table):
    """Sums of nothing but zero codes are a product of zero, whatever bits and groups."""
    rows = np.zeros((512,), np.bool_)
    rows[[0, 70, 500]] = True  # three groups of 64 lines
    pattern = GatePattern.lines(rows, np.ones(256, np.bool_))
    calibration, columns = BoardCalibration.nominal(table), np.arange(512)
    groups = pattern.groups_of(columns, 64)
    for bits in (1, 4, 8):
        sums = np.full((2, 512), (2**bits - 1) * 3 * table.zero_code, np.int32)
        assert np.all(calibration.products(sums, columns, groups, bits) == 0)
        sums += 1000
        expected = 1000 * 1e-3 / 2**14 * (0.2 / table.input_V)  # the DAC makes the code below 0.2 V
        assert calibration.products(sums, columns, groups, bits) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_impossible_pulses_are_refused(place, bad):
    values = [1.0, 1e-6, 1.0]
    values[place] = bad
    with pytest.raises(ValueError, match="expected a finite number"):
        Pulse(*values)


def test_each_phase_has_the_zero_codes_of_its_own_groups(table):
    kept = np.zeros((512, 256), np.bool_)
    kept[:, 0] = True  # eight groups of 64 lines
    kept[[3, 100], 1] = True  # two
    kept[511, 2] = True  # one
    pattern = GatePattern.of_pairs(kept)
    columns = np.arange(6)
    sums = (15 * table.zero_code * np.array([[8, 8, 2, 2, 1, 1]])).astype(np.int32)
    assert np.all(BoardCalibration.nominal(table).products(sums, columns, pattern.groups_of(columns, 64), 4) == 0)


def test_many_products_are_converted_as_each_alone(table):
    """More of them than one block holds."""
    rng = np.random.default_rng(1)
    columns, ones = np.arange(table.geometry.columns), np.ones(table.geometry.columns)
    calibration = BoardCalibration(
        "r", table, ones, 0 * ones, rng.normal(1, 0.01, ones.size), rng.normal(0, 3, ones.size)
    )
    groups, sums = rng.integers(1, 9, ones.size).astype(np.int32), rng.integers(0, 1 << 20, (150, ones.size), np.int32)
    alone = [calibration.products(each[None], columns, groups, 4) for each in sums]
    assert np.array_equal(calibration.products(sums, columns, groups, 4), np.concatenate(alone))
