"""The breakdown curve of a die: its fit, and the voltage for a wanted share of the cells."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import SmallBench, hidden

from rramlab.base.errors import DataError
from rramlab.calibration.forming import Ramp, fit, ramp_of
from rramlab.macro.forming import MEASURED_SKEW, FormingCurve
from rramlab.runs.store import find_run

DIE = "small-1"


def ramp(breakdown_V, first=3.0, last=3.8, step=0.05):
    edges = np.concatenate([[-np.inf], np.arange(first, last + step / 2, step), [np.inf]])
    place = np.searchsorted(edges, breakdown_V)
    return Ramp(edges[place - 1], edges[place])


def test_the_fit_finds_what_the_cells_were_drawn_from_with_honest_uncertainties():
    pulls = []
    for seed in range(60):
        draw = np.random.default_rng(seed).normal(3.433, 0.114, 400)
        found = fit(ramp(draw))
        pulls.append([(found.mean_V - 3.433) / found.mean_u, (found.sigma_V - 0.114) / found.sigma_u])
    spread = np.std(pulls, axis=0)
    assert np.all((spread > 0.75) & (spread < 1.25))
    assert np.all(np.abs(np.mean(pulls, axis=0)) < 0.45)


def test_cells_that_never_form_count_too():
    draw = np.random.default_rng(1).normal(3.433, 0.114, 4000)
    found = fit(ramp(draw, last=3.5))
    assert found.formed < 0.8 * found.cells
    assert abs(found.mean_V - 3.433) < 4 * found.mean_u
    assert found.mean_u < 0.01


@pytest.mark.parametrize(
    "breakdown", [np.full(400, 3.42), np.full(400, 2.0), np.full(400, 4.5), np.linspace(3.2, 3.6, 20)]
)
def test_a_ramp_that_shows_no_curve_is_refused_with_a_remedy(breakdown):
    with pytest.raises(DataError, match="more cells, begin lower"):
        fit(ramp(breakdown))


@given(st.floats(0.01, 0.99), st.floats(2.0, 4.0), st.floats(0.01, 0.5), st.sampled_from([-0.5, -0.21, 0.0, 0.3]))
def test_voltage_and_share_are_inverse(share, mean, sigma, skew):
    curve = FormingCurve(mean, sigma, skew)
    assert curve.fraction(curve.voltage_V(share)) == pytest.approx(share, rel=1e-6)


@given(st.floats(-3, 3), st.floats(-3, 3))
def test_a_higher_voltage_never_forms_less(one, other):
    curve = FormingCurve(3.4, 0.1)
    low, high = sorted((3.4 + 0.1 * one, 3.4 + 0.1 * other))
    assert curve.fraction(low) <= curve.fraction(high)


def test_the_curve_has_the_skew_that_was_measured():
    quantiles = np.array([FormingCurve(0.0, 1.0).voltage_V(share) for share in (np.arange(20_000) + 0.5) / 20_000])
    assert np.mean(quantiles) == pytest.approx(0, abs=2e-3)
    assert np.std(quantiles) == pytest.approx(1, abs=0.01)
    assert np.mean(quantiles**3) == pytest.approx(MEASURED_SKEW, abs=0.02)


def test_the_uncertainty_of_a_voltage_grows_towards_the_ends():
    curve = FormingCurve(3.433, 0.114)
    assert curve.voltage_u(0.5, 0.006, 0.004) == pytest.approx(0.006, rel=0.01)
    assert curve.voltage_u(0.01, 0.006, 0.004) > 1.5 * curve.voltage_u(0.5, 0.006, 0.004)


def test_a_ramp_on_the_die_finds_its_curve(tmp_path):
    with SmallBench(tmp_path, rows=64, columns=128).write().open() as session:
        parameters = {"cells": "rows 60-63", "step": "50 mV"}
        result = session.run("electroform-ramp", parameters, arm=DIE)
        found = fit(ramp_of(find_run(session.runs, result.run_id)))
        assert found.cells == 512
        assert abs(found.mean_V - 3.433) < 5 * found.mean_u + 0.01  # the converter's own error comes on top
        assert 0.08 < found.sigma_V < 0.15
        assert not hidden(session).pulses[:60].any()


def test_another_run_is_no_ramp(tmp_path):
    with SmallBench(tmp_path).write().open() as session:
        result = session.run("read-array")
        with pytest.raises(DataError, match="electroform-ramp"):
            ramp_of(find_run(session.runs, result.run_id))
