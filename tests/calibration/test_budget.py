"""The budget of uncertainties of a read: its rows, their sum, and that the sum is what a bench with such errors scatters by."""

import math
from dataclasses import replace

import numpy as np
import pytest
from calibrated import BOARD, Recorded

from rramlab.calibration.budget import of_read, read_code_S
from rramlab.macro.calibration import BoardCalibration
from rramlab.records.applied import calibration_of
from rramlab.records.files import newest

G = 12e-6
CODE_S = 6.25e-9


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return Recorded(tmp_path_factory.mktemp("bench") / "lab")


@pytest.fixture(scope="module")
def budget(recorded):
    def of(conductance_S=G, repeats=64, **more):
        given = {"noise": recorded.die.record.noise, "accuracy": recorded.accuracy, **more}
        return of_read(conductance_S, repeats, recorded.board.record.adc, CODE_S, **given)

    return of


def row(budget, begins):
    (found,) = [each for each in budget.rows if each.name.startswith(begins)]
    return found


def test_what_all_conductances_share_is_what_the_record_says_of_the_scale(recorded, budget):
    said = recorded.board.record.adc.scale_uncertainty
    assert budget().scale == pytest.approx(said, rel=1e-6)
    assert budget(accuracy=None).scale == pytest.approx(said, rel=1e-12)
    assert budget(conductance_S=1e-6, repeats=1).scale == pytest.approx(said, rel=1e-6)


def test_limits_of_error_come_from_the_unit_at_what_it_measured(recorded, budget):
    found, best = budget(), recorded.board.record.adc.references[0]
    amperes = best.voltage / best.resistance.value
    current, voltage = row(found, "current of the unit"), row(found, "voltage of the unit")
    assert current.size == recorded.accuracy.current_limit_A(amperes)
    assert voltage.size == recorded.accuracy.voltage_limit_V(best.voltage)
    for each, measured in ((current, amperes), (voltage, best.voltage)):
        assert (each.kind, each.law, each.divisor) == ("B", "rectangular", math.sqrt(3))
        assert each.uncertainty_S == pytest.approx(each.size / math.sqrt(3) / measured * G)
    assert row(found, "scatter").kind == "A"
    assert row(found, "scatter").freedom == best.readings - 1


def test_the_sum_is_that_of_variances_and_the_shares_are_of_it(budget):
    found = budget()
    assert found.combined_S == pytest.approx(math.sqrt(sum(each.uncertainty_S**2 for each in found.rows)))
    assert found.expanded_S == 2 * found.combined_S
    assert sum(found.share(each) for each in found.rows) == pytest.approx(1)


def test_more_reads_average_noise_and_rounding_and_nothing_else(budget):
    one, many = budget(repeats=1), budget(repeats=100)
    for before, after in zip(one.rows, many.rows, strict=True):
        factor = 10 if before.name.startswith(("noise", "rounding")) else 1
        assert before.uncertainty_S == pytest.approx(factor * after.uncertainty_S)


def test_rounding_of_a_cell_without_noise_to_speak_of_does_not_average(budget):
    quiet = budget(conductance_S=10e-9, repeats=100)
    assert row(quiet, "rounding").uncertainty_S == pytest.approx(CODE_S / math.sqrt(12))


def test_without_a_measured_noise_the_figure_is_assumed_and_said_so(budget):
    noise = row(budget(noise=None), "noise")
    assert (noise.kind, noise.size) == ("B", 0.02)
    assert "assumed" in noise.source


def test_a_driver_file_that_allows_more_than_the_record_does_not_stand_for_it(recorded, budget):
    worse = recorded.accuracy.model_copy(
        update={"voltage": tuple(each.model_copy(update={"ppm": 5000.0}) for each in recorded.accuracy.voltage)}
    )
    found = budget(accuracy=worse)
    assert row(found, "scale").size == recorded.board.record.adc.scale_uncertainty


def test_few_readings_show_in_the_degrees_of_freedom(recorded, budget):
    adc = recorded.board.record.adc
    few = adc.references[0].model_copy(
        update={"readings": 5, "resistance": adc.references[0].resistance.model_copy(update={"uncertainty": 2000.0})}
    )
    lone = adc.model_copy(update={"references": (few,)})
    noise, accuracy = recorded.die.record.noise, recorded.accuracy
    assert of_read(G, 1024, lone, CODE_S, noise, accuracy).freedom == pytest.approx(4, rel=0.01)
    assert budget().freedom > 1000


def test_one_code_is_what_the_calibration_makes_of_it(recorded):
    kept = newest(recorded.folder, "board", BOARD)
    calibration = calibration_of(kept, recorded.description.board)
    table = recorded.description.board
    codes = table.zero_code + np.array([[1000, 1001]], np.uint16)
    flat = replace(calibration, read_gain=np.full(16, calibration.read_gain.mean()))
    bias = table.dac_code(table.read_voltage_V)
    low, high = flat.conductance(codes, np.array([3, 3]), bias).astype(np.float64)
    assert read_code_S(calibration) == pytest.approx(high - low, rel=1e-3)
    assert read_code_S(BoardCalibration.nominal(table)) == pytest.approx(table.read_step_S, rel=1e-3)


def test_the_combined_uncertainty_is_what_benches_with_such_errors_scatter_by(recorded, budget):
    """Draw the errors of many benches, and let each read the same cell the way a session does."""
    random, benches, repeats = np.random.default_rng(11), 8_000, 400
    found, reference = budget(repeats=repeats), recorded.board.record.adc.references[0]
    volts, amperes = reference.voltage, reference.voltage / reference.resistance.value

    def off_by(begins):
        each = row(found, begins)
        if each.law == "rectangular":
            return random.uniform(-each.size, each.size, benches)
        return random.normal(0, each.size, benches)

    read_A = (amperes + off_by("current of the unit")) * (1 + off_by("scatter"))
    read_V = volts + off_by("voltage of the unit")
    scale = (read_A / read_V) / (amperes / volts)  # a resistor that reads high makes all conductances high
    cell = G * (1 + random.normal(0, row(found, "noise").size, (repeats, benches)))
    codes = np.round(cell / CODE_S * (1 + off_by("gain")) + off_by("offset")).mean(axis=0)
    assert np.std(codes * CODE_S * scale) == pytest.approx(found.combined_S, rel=0.03)
