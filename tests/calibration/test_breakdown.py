"""The breakdown curve of a die: its fit, its record, and forming a wanted share of the cells with it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from workbench import SmallBench, hidden

from rramlab.base.errors import DataError, UsageError
from rramlab.calibration.forming import Ramp, fit, ramp_of
from rramlab.calibration.records import FormingRecord, history, newest, save
from rramlab.macro.forming import FormingCurve
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


@given(st.floats(0.01, 0.99), st.floats(2.0, 4.0), st.floats(0.01, 0.5))
def test_voltage_and_share_are_inverse(share, mean, sigma):
    curve = FormingCurve(mean, sigma)
    assert curve.fraction(curve.voltage_V(share)) == pytest.approx(share, rel=1e-6)


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


def record(**changes):
    return FormingRecord.model_validate(
        {
            "die": DIE,
            "board": "SIM-0009",
            "measured_at": "2026-11-22T14:00:00+00:00",
            "run": "r-1",
            "mean": {"value": 3.43, "uncertainty": 0.006},
            "sigma": {"value": 0.112, "uncertainty": 0.004},
            "width": 1e-6,
            "gate": 1.6,
            "cells": 400,
            "formed": 398,
            "temperature_C": 25.0,
            "software": "0.1.0",
            **changes,
        }
    )


def test_a_record_is_read_back_as_it_was_and_old_ones_stay(tmp_path):
    first, second = record(), record(measured_at="2026-11-23T09:00:00+00:00", run="r-2")
    save(tmp_path, second)
    path = save(tmp_path, first)
    assert [each for _, each in history(tmp_path, DIE)] == [first, second]
    assert newest(tmp_path, DIE, "SIM-0009") == second
    with pytest.raises(DataError, match="never overwritten"):
        save(tmp_path, first)
    assert "value: 3.43 V" in path.read_text()


@pytest.mark.parametrize(
    ("before", "after", "hint"),
    [
        ("value: 3.43 V", "value: 3.43", "with its unit"),
        ("value: 3.43 V", "value: 3.43 A", "'A'"),
        ("cells: 400", "cells: many", "cells"),
        ("board:", "bord:", "bord"),
        ("+00:00", "", "zone"),
        ("die: small-1", "die: small-2", "renamed or edited"),
    ],
)
def test_a_record_that_was_edited_is_refused_with_its_line(tmp_path, before, after, hint):
    path = save(tmp_path, record())
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(UsageError, match=hint) as caught:
        newest(tmp_path, DIE, "SIM-0009")
    assert path.name in str(caught.value)


def test_a_record_of_another_board_or_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="rramlab calibrate forming"):
        newest(tmp_path, DIE, "SIM-0009")
    save(tmp_path, record())
    with pytest.raises(DataError, match="'SIM-0009'"):
        newest(tmp_path, DIE, "SIM-0001")
