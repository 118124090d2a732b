"""What is shipped of the measurement is right, and simulated dies are like it: a small sample of benchmarks/twin.py."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from workbench import ones

from rramlab.macro.cells import CONDUCTING_THRESHOLD_S
from rramlab.macro.geometry import Geometry
from rramlab.macro.pulses import Pulse
from rramlab.sim import measured
from rramlab.sim.die import SimulatedDie
from rramlab.sim.models import DieModel

FULL, SMALL = Geometry(), Geometry(64, 64)


def formed(geometry, seed, volts=3.75):
    """Return the conductances of a die whose cells were each driven alone, as the measured ones were."""
    die = SimulatedDie(geometry, DieModel(), seed)
    die.pulse("electroform", ones(geometry), Pulse(volts, 1e-6, 1.6))
    return die.conductance_S


def test_quantiles_rise_on_the_measuring_grid():
    quantiles = np.array(measured.QUANTILES_uS)
    assert len(quantiles) == 101
    assert np.all(np.diff(quantiles) > 0)
    assert np.allclose(quantiles / 0.00625, np.rint(quantiles / 0.00625), atol=1e-6)
    assert (quantiles[0], quantiles[50], quantiles[100]) == (7.59375, 12.18125, 18.75625)


def test_a_rebuilt_sample_has_the_published_moments():
    cells = measured.conductances()
    assert (cells.shape, cells.dtype) == ((1430,), np.float64)
    assert np.median(cells) == pytest.approx(12.2e-6, rel=0.005)
    assert np.log(cells).std() == pytest.approx(0.1475, rel=0.02)
    assert stats.kstest(np.log(cells / 12.2e-6) / 0.1475, "norm").pvalue > 0.05


@pytest.mark.parametrize("count", [1, 2, 37, 100_000])
def test_a_sample_of_any_size_keeps_to_the_quantiles(count):
    cells = measured.conductances(count)
    assert cells.shape == (count,)
    assert cells.min() >= measured.QUANTILES_uS[0] * 1e-6
    assert cells.max() <= measured.QUANTILES_uS[100] * 1e-6
    assert np.median(cells) == pytest.approx(measured.QUANTILES_uS[50] * 1e-6, rel=0.01)


def test_a_sample_of_no_cells_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        measured.conductances(0)


def test_the_formed_shares_are_those_of_the_breakdown_law():
    """The table counts the steps up to a voltage; the law spreads a step's cells over the 20 mV around it."""
    shares, volts = np.array(measured.BREAKDOWN_LAW).T
    assert (shares[0], shares[-1]) == (0, 1)
    for at, count in measured.FORMED:
        low, high = np.interp([at - 0.0101, at + 0.0101], volts, shares)
        assert low <= count / measured.BREAKDOWN_CELLS <= high


@pytest.mark.parametrize(("volts", "count"), measured.FORMED)
def test_a_die_forms_within_the_exact_band_of_the_measured_cells(volts, count):
    share = np.mean(formed(FULL, 21, volts) >= CONDUCTING_THRESHOLD_S)
    band = stats.binomtest(count, measured.BREAKDOWN_CELLS).proportion_ci(0.95, "exact")
    assert band.low <= share <= band.high


def test_formed_cells_are_not_told_from_the_measured_ones():
    target, p_values = measured.conductances(), []
    for seed in range(20):
        cells = formed(SMALL, seed)
        taken = np.random.default_rng(seed).choice(cells[cells >= CONDUCTING_THRESHOLD_S], len(target), replace=False)
        p_values.append(stats.ks_2samp(taken, target).pvalue)
    assert np.mean(np.array(p_values) > 0.05) >= 0.9


def test_the_difference_of_a_pair_spreads_as_that_of_two_measured_cells():
    cells = formed(FULL, 22)
    assert (cells[:, 0::2] - cells[:, 1::2]).std() == pytest.approx(2.6e-6, rel=0.05)
    assert np.sqrt(2) * measured.conductances().std() == pytest.approx(2.6e-6, rel=0.05)


def test_neighbours_are_independent():
    """Within four σ of chance, at lags along rows (columns share a factor that is modelled)."""
    share = (formed(FULL, 23, 3.45) >= CONDUCTING_THRESHOLD_S).astype(np.float64)
    logs = np.log(formed(FULL, 23).astype(np.float64))
    for values in (share, logs):
        z = (values - values.mean()) / values.std()
        for lag in range(1, 9):
            assert abs((z[:, lag:] * z[:, :-lag]).mean()) < 4 / np.sqrt(z[:, lag:].size)


def test_the_quantiles_are_those_of_the_data():
    folder = os.environ.get("RRAMLAB_DATA")
    path = Path(folder or ".") / "measured" / "esgnn.npz"
    if not folder or not path.is_file():
        pytest.skip("RRAMLAB_DATA names no folder with measured/esgnn.npz: the measured data are not shipped")
    with np.load(path) as data:
        both = [data[name].ravel() for name in ("conductance_input_uS", "conductance_hidden_uS")]
        volts = data["breakdown_voltage_V"]
    cells = np.concatenate(both)
    cells = cells[cells > 0]
    assert cells.size == measured.CONDUCTANCE_CELLS
    # Half a step by rounding to the grid.
    assert np.abs(np.quantile(cells, np.linspace(0, 1, 101)) - measured.QUANTILES_uS).max() <= 0.00313
    assert stats.ks_2samp(measured.conductances() * 1e6, cells).statistic < 0.006
    assert volts.size == measured.BREAKDOWN_CELLS
    for at, count in measured.FORMED:
        assert np.count_nonzero(volts <= at + 1e-6) == count
    for share, at in measured.BREAKDOWN_LAW:
        assert np.count_nonzero(volts < at) == round(share * measured.BREAKDOWN_CELLS)
