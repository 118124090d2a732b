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
    found = calibration.conductance(codes, np.array([0, 5]), table.read_voltage_V)
    assert found.dtype == np.float32
    assert found == pytest.approx([0, 1001 * 6.25e-9], rel=1e-6)
    half = calibration.conductance(codes, np.array([0, 5]), table.read_voltage_V / 2)
    assert half == pytest.approx(2 * found, rel=1e-6)


def test_products_take_every_zero_code_off(table):
    """Sums of nothing but zero codes are a product of zero, whatever bits and groups."""
    rows = np.zeros((512,), np.bool_)
    rows[[0, 70, 500]] = True  # three groups of 64 lines
    pattern = GatePattern.lines(rows, np.ones(256, np.bool_))
    calibration = BoardCalibration.nominal(table)
    for bits in (1, 4, 8):
        sums = np.full((2, 512), (2**bits - 1) * 3 * table.zero_code, np.int32)
        assert np.all(calibration.products(sums, np.arange(512), pattern, bits) == 0)
        sums += 1000
        expected = 1000 * 1e-3 / 2**14 * (0.2 / table.input_V)  # the DAC makes the code below 0.2 V
        assert calibration.products(sums, np.arange(512), pattern, bits) == pytest.approx(expected, rel=1e-6)


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
    assert np.all(BoardCalibration.nominal(table).products(sums, columns, pattern, 4) == 0)
