"""Each analysis finds what its data were made with, states how well it knows it, and refuses what shows nothing."""

import numpy as np
import pytest

from rramlab.base.errors import DataError, TooFewCells
from rramlab.calibration import adc, adccells, agreement, dac, linearity, lines, noise
from rramlab.calibration.adc import Look
from rramlab.calibration.uncertainty import UnitReading, reading, rectangular
from rramlab.drivers.driverfile import load_smu
from rramlab.macro.crossbar import LineResistances, lone_rows, transfer

LEVELS = np.concatenate([np.arange(0.02, 0.21, 0.02), np.arange(0.4, 2.1, 0.2)])


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory):
    return load_smu(tmp_path_factory.mktemp("bench"), "keysight-b2900").accuracy


def unit(siemens, count=4, specified=7e-4, scatter=0.0):
    amperes = siemens * 0.2
    return UnitReading(0.2, 0.2 * specified / 2**0.5, amperes, amperes * specified / 2**0.5, scatter, count)


# the unit's specification


def test_the_range_that_holds_a_reading_says_how_far_it_may_be_off(accuracy):
    assert accuracy.voltage_limit_V(0.2) == pytest.approx(0.2 * 150e-6 + 225e-6)
    assert accuracy.voltage_limit_V(0.21) == pytest.approx(0.21 * 200e-6 + 350e-6)
    assert accuracy.current_limit_A(2.4e-6) == pytest.approx(2.4e-6 * 250e-6 + 1.5e-9)
    assert accuracy.current_limit_A(-2.4e-6) == accuracy.current_limit_A(2.4e-6)


def test_a_limit_of_error_is_a_rectangle(accuracy):
    found = reading(np.full(4, 0.2), np.full(4, 1e-5), np.zeros(4, bool), accuracy, "it")
    assert found.siemens == pytest.approx(5e-5)
    volts, amperes = (
        rectangular(accuracy.voltage_limit_V(0.2)) / 0.2,
        rectangular(accuracy.current_limit_A(1e-5)) / 1e-5,
    )
    assert found.specified == pytest.approx(np.hypot(volts, amperes))
    assert found.scatter == 0


@pytest.mark.parametrize(
    ("volts", "amperes", "limited", "hint"),
    [
        (np.full(3, 0.2), np.full(3, 1e-4), np.array([0, 1, 0], bool), "its own limit in 1 of 3"),
        (np.full(3, 0.2), np.zeros(3), np.zeros(3, bool), "no conductance"),
        (np.zeros(0), np.zeros(0), np.zeros(0, bool), "nothing was measured"),
    ],
)
def test_readings_that_say_nothing_are_refused(accuracy, volts, amperes, limited, hint):
    with pytest.raises(DataError, match=hint):
        reading(volts, amperes, limited, accuracy, "resistor 0")


# the DAC


def test_the_dac_line_is_known_as_well_as_the_unit_knows_volts(accuracy):
    pulls = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        gain, offset = rng.normal(1, 3e-4), rng.normal(0, 3e-4)
        measured = np.empty_like(LEVELS)
        for low, high, entry in ((0, 0.2001, accuracy.voltage[0]), (0.2001, 9, accuracy.voltage[1])):
            here = (low <= LEVELS) & (high > LEVELS)
            share, shift = rng.uniform(-1, 1, 2) * (entry.ppm * 1e-6, entry.offset)
            measured[here] = (gain * LEVELS[here] + offset) * (1 + share) + shift
        found = dac.fit(LEVELS, measured + rng.normal(0, 5e-6, LEVELS.size), accuracy)
        pulls.append([(found.gain - gain) / found.gain_u, (found.offset_V - offset) / found.offset_u])
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 0.25)
    assert np.all((np.std(pulls, axis=0) > 0.8) & (np.std(pulls, axis=0) < 1.2))


@pytest.mark.parametrize(
    ("measured", "hint"),
    [(LEVELS * 0.5, "another channel"), (LEVELS[:3], "at least 5"), (LEVELS * 0, "another channel")],
)
def test_what_cannot_be_the_channel_is_refused(accuracy, measured, hint):
    with pytest.raises(DataError, match=hint):
        dac.fit(LEVELS[: measured.size], measured, accuracy)


# the converters


def looks(
    table, gain, offset, resistors=(5e-5, 1e-5), dac_line=(1.0003, -2e-4), top=0.2, multiply=False, noise_codes=0.0
):
    """What converters of ``gain`` and ``offset`` make of two resistors, as a board would show it."""
    rng = np.random.default_rng(0)
    step, at = (table.multiply_step_S, table.input_V) if multiply else (table.read_step_S, table.read_voltage_V)
    most = (1 << table.adc_bits) - 1

    def look(resistor, volts):
        nominal = table.dac_volts(table.dac_code(volts))
        siemens = 0.0 if resistor is None else resistors[resistor]
        level = table.zero_code + offset + gain * (dac_line[0] * nominal + dac_line[1]) * siemens / at / step
        codes = np.clip(np.rint(level + rng.normal(0, noise_codes, level.size) if noise_codes else level), 0, most)
        return Look(resistor, multiply, nominal, codes, int(codes.min()), int(codes.max()))

    levels = np.arange(top, 0.01, -0.0037)
    return [look(None, 0.0), *(look(0, volts) for volts in levels), *(look(1, volts) for volts in levels[::6])]


@pytest.mark.parametrize("multiply", [False, True])
def test_gain_and_offset_of_every_column_are_found(table, multiply):
    rng = np.random.default_rng(4)
    gain, offset = rng.normal(1.003, 0.01, 512), rng.normal(0.3, 2.0, 512)
    found = adc.fit(
        looks(table, gain, offset, multiply=multiply), {0: unit(5e-5), 1: unit(1e-5)}, (1.0003, -2e-4), table, multiply
    )
    relative = found.gain / found.gain.mean() / (gain / gain.mean()) - 1
    assert np.percentile(np.abs(relative), 95) < 5e-4
    assert np.percentile(np.abs(found.offset - offset), 95) < 0.5
    assert 0.7 < np.std(relative) / found.column_u < 1.3
    assert 0.7 < np.std(found.offset - offset) / found.offset_u < 1.3
    assert abs(found.gain.mean() / gain.mean() - 1) < 1e-4
    assert found.residual_rms == pytest.approx(0.289, abs=0.03)


def test_the_scale_is_that_of_the_resistor_as_the_unit_has_measured_it(table):
    ones, zeros = np.ones(512), np.zeros(512)
    seen = looks(table, ones, zeros + np.linspace(-2, 2, 512))
    high = adc.fit(seen, {0: unit(5e-5 * 1.01), 1: unit(1e-5 * 1.01)}, (1.0003, -2e-4), table, False)
    assert high.gain.mean() == pytest.approx(1 / 1.01, rel=1e-4)


def test_what_no_gain_can_be_told_from_is_refused(table):
    ones, zeros = np.ones(512), np.zeros(512)
    known = {0: unit(5e-5), 1: unit(1e-5)}
    with pytest.raises(DataError, match="saturate on the read range with resistor 0 at"):
        adc.fit(
            looks(table, ones, zeros, resistors=(2e-4, 1e-5)), {0: unit(2e-4), 1: unit(1e-5)}, (1.0, 0.0), table, False
        )
    dead = ones.copy()
    dead[77] = 0.1
    with pytest.raises(DataError, match="column 77 does not follow"):
        adc.fit(looks(table, dead, zeros), known, (1.0003, -2e-4), table, False)
    with pytest.raises(DataError, match="disagree"):
        adc.fit(looks(table, ones, zeros), {0: unit(5e-5), 1: unit(1.1e-5)}, (1.0003, -2e-4), table, False)
    with pytest.raises(DataError, match="0 levels"):
        adc.fit([], known, (1.0, 0.0), table, True)


def test_columns_by_cells_that_the_unit_has_measured():
    rng = np.random.default_rng(7)
    count, of_each = 64, 4
    gain, offset = rng.normal(1, 0.01, count), rng.normal(0, 2, count)
    columns = np.repeat(np.arange(count), of_each)
    siemens = np.where(np.tile([1, 1, 0, 0], count), rng.lognormal(np.log(12e-6), 0.15, count * of_each), 1e-7)
    codes_u = np.hypot(siemens / 6.25e-9 * 5e-4, 0.3)
    codes = gain[columns] * siemens / 6.25e-9 + offset[columns] + rng.normal(0, codes_u)
    found = adccells.fit(columns, codes, siemens, codes_u, count, 1 / 6.25e-9)
    assert np.std((found.gain - gain) / found.gain_u) == pytest.approx(1, abs=0.35)
    assert np.std((found.offset - offset) / found.offset_u) == pytest.approx(1, abs=0.35)
    with pytest.raises(TooFewCells, match="column 0, and 63 others"):
        adccells.fit(columns, codes, np.full(codes.size, 12e-6), codes_u, count, 1 / 6.25e-9)


# the lines


def network(noise_of, seed=1, segment=1.0, switch=125.0, shape=(96, 96), formed=0.5, repeats=(1, 1, 1)):
    rng = np.random.default_rng(seed)
    cells = np.where(rng.random(shape) < formed, 12.2e-6 * np.exp(0.1475 * rng.standard_normal(shape)), 1e-7)
    truth = LineResistances(
        switch * np.exp(0.04 * rng.standard_normal(shape[0])),
        switch * np.exp(0.04 * rng.standard_normal(shape[1])) + 10 * (switch > 0),
        segment,
    )
    blocks = np.arange(shape[1]) % 8 == np.arange(8)[:, None]
    light = np.zeros(shape)
    for block in blocks:
        light[:, block] = lone_rows(cells * block, truth)[:, block]
    seen = [light, lone_rows(cells, truth), transfer(cells, truth)]
    noisy = [
        each * (1 + noise_of * rng.standard_normal(shape) / count**0.5)
        for each, count in zip(seen, repeats, strict=True)
    ]
    return truth, cells, lines.LineReads(*noisy, blocks, repeats)


START = LineResistances.uniform((96, 96), 150.0, 150.0, 0.5)


def test_switches_and_wires_are_told_apart_exactly_where_nothing_scatters():
    truth, cells, reads = network(0.0)
    found = lines.fit(reads, START)
    assert found.segment_Ohm == pytest.approx(truth.segment_Ohm, rel=0.02)
    assert found.bl_Ohm == pytest.approx(truth.bl_Ohm, rel=0.02)
    assert found.sl_Ohm == pytest.approx(truth.sl_Ohm, rel=0.02)
    assert found.cells_S == pytest.approx(cells, rel=2e-3)


def test_their_uncertainties_are_honest():
    pulls = []
    for seed in range(6):
        truth, _, reads = network(0.01, seed)
        found = lines.fit(reads, START)
        pulls += [*(found.bl_Ohm - truth.bl_Ohm) / found.bl_u, *(found.sl_Ohm - truth.sl_Ohm) / found.sl_u]
    assert 0.75 < np.sqrt(np.mean(np.square(pulls))) < 1.25
    assert abs(np.mean(pulls)) < 0.2


def test_lines_without_resistance_are_found_to_have_none():
    _, _, reads = network(0.01, segment=0.0, switch=0.0)
    found = lines.fit(reads, START)
    assert abs(found.bl_Ohm.mean()) < 4 * np.sqrt(np.mean(found.bl_u**2) / 96)
    assert abs(found.segment_Ohm) < 4 * found.segment_u + 1e-3
    assert found.lines.bl_Ohm.min() >= 0  # what the network is solved with


def test_a_few_lines_without_cells_take_the_mean_of_the_others_and_many_are_refused():
    _, _, reads = network(0.0)
    empty = np.ones((96, 1))
    empty[90:] = 0.01
    found = lines.fit(lines.LineReads(reads.light * empty, reads.row * empty, reads.full * empty, reads.blocks), START)
    assert found.bl_Ohm[90:] == pytest.approx(found.bl_Ohm[:90].mean())
    assert found.bl_u[90:].min() > found.bl_u[:90].max()
    _, _, virgin = network(0.0, formed=0.0)
    with pytest.raises(TooFewCells, match="Form the die first"):
        lines.fit(virgin, START)


# noise


def series(cells=1500, reads=80, white=0.02, switching=0.05, amplitude=0.04, seed=0, drift=0.0):
    rng = np.random.default_rng(seed)
    siemens = 12e-6 * np.exp(0.15 * rng.standard_normal(cells)) * np.ones((reads, 1))
    traps = rng.random(cells) < switching
    when = rng.integers(10, reads - 10, cells)
    siemens = siemens * np.where(traps & (np.arange(reads)[:, None] >= when), 1 - amplitude, 1.0)
    siemens = siemens * (1 + white * rng.standard_normal(siemens.shape)) * (1 + drift * np.arange(reads)[:, None])
    return np.rint(siemens / 6.25e-9) * 6.25e-9, int(traps.sum())


def test_white_noise_is_found_beside_cells_that_switch_and_all_that_drift():
    pulls = []
    for seed in range(20):
        values, _ = series(seed=seed, drift=1e-5)
        found = noise.fit(values, 6.25e-9)
        pulls.append((found.white - 0.02) / found.white_u)
    assert abs(np.mean(pulls)) < 1
    assert 0.6 < np.std(pulls) < 1.5


def test_cells_that_switch_are_counted_and_few_others():
    values, traps = series(amplitude=0.06)
    found = noise.fit(values, 6.25e-9)
    assert abs(found.switched - traps) <= 0.1 * traps + 1
    assert found.amplitude == pytest.approx(0.06, rel=0.1)
    quiet = noise.fit(series(switching=0.0)[0], 6.25e-9)
    assert quiet.switched <= 2
    assert quiet.share_u > 0


def test_too_few_reads_or_cells_are_refused():
    values, _ = series(cells=40, reads=40)
    for few in (values[:10], values[:, :10]):
        with pytest.raises(TooFewCells, match="form"):
            noise.fit(few, 6.25e-9)


# products, and both ways


def test_a_product_that_bends_is_seen():
    rng = np.random.default_rng(0)
    cells = np.where(rng.random((64, 32)) < 0.5, 12e-6, 1e-7)
    inputs = np.tril(np.ones((64, 64), np.uint8))
    straight = linearity.fit(inputs, cells, 1.001 * (inputs @ cells) + 1e-7, 1e-3)
    assert straight.slope == pytest.approx(1.001)
    assert straight.offset_S == pytest.approx(1e-7)
    assert straight.residual < 1e-9
    sums = inputs @ cells
    bent = linearity.fit(inputs, cells, sums - 0.05 * sums**2 / sums.max(), 1e-3)
    assert bent.residual > 1e-3
    with pytest.raises(TooFewCells, match="form the die first"):
        linearity.fit(inputs, np.zeros((64, 32)), np.zeros((64, 32)), 1e-3)


def test_board_and_unit_agree_within_what_the_unit_promises_and_no_further():
    rng = np.random.default_rng(0)
    siemens = rng.lognormal(np.log(12e-6), 0.15, 32)
    units = [unit(each, scatter=3e-4) for each in siemens]
    board_u = siemens * 6e-4
    good = agreement.fit(siemens * (1 + 5e-4) + rng.normal(0, board_u), board_u, units, 7e-4)
    assert good.agrees
    assert good.mean == pytest.approx(1.0005, abs=3e-4)
    one_switched = siemens.copy()
    one_switched[3] *= 0.96
    assert agreement.fit(one_switched, board_u, units, 7e-4).agrees
    assert agreement.fit(one_switched, board_u, units, 7e-4).deviation > 20
    assert not agreement.fit(siemens * 1.01, board_u, units, 7e-4).agrees
    with pytest.raises(TooFewCells, match="at least 8"):
        agreement.fit(siemens[:5], board_u[:5], units[:5], 7e-4)
