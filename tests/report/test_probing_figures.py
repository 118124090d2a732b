"""Pictures of curves and of contact tests are written for whatever was measured."""

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from rramlab.engine.contact import judge
from rramlab.macro.cells import CellState
from rramlab.macro.geometry import Geometry
from rramlab.report.probing import save_contact, save_curve

CURVE = [("voltage", np.float64), ("current", np.float64), ("in_compliance", np.bool_)]


def curve_of(volts, siemens=1e-5, limit_A=np.inf):
    found = np.zeros(len(volts), CURVE)
    found["voltage"] = volts
    found["current"] = np.clip(found["voltage"] * siemens, -limit_A, limit_A)
    found["in_compliance"] = np.abs(found["voltage"] * siemens) >= limit_A
    return found


@pytest.fixture
def seen(monkeypatch):
    """The figures that were drawn, to look into."""
    drawn = []
    save = Figure.savefig

    def spy(figure, *given, **more):
        drawn.append(figure)
        save(figure, *given, **more)

    monkeypatch.setattr(Figure, "savefig", spy)
    return drawn


def labels(axes):
    return [line.get_label() for line in axes.lines]


@pytest.mark.parametrize(
    ("volts", "limit_A"),
    [
        (np.linspace(0, 1, 21), np.inf),
        (np.concatenate([np.linspace(0, 2, 30), np.linspace(2, 0, 30)]), 1e-5),
        (np.linspace(0, -1, 5), 2e-6),
        (np.zeros(2), np.inf),
        (np.array([0.0, 1.0]), 1e-9),
    ],
)
def test_a_curve_is_drawn_linear_and_logarithmic(tmp_path, seen, volts, limit_A):
    save_curve(curve_of(volts, limit_A=limit_A), tmp_path / "c.png", "die a, cell (1, 2), read sweep", limit_A)
    assert matplotlib.image.imread(tmp_path / "c.png").shape[:2] == (460, 1056)
    (figure,) = seen
    linear, logarithmic = figure.axes
    assert "die a, cell (1, 2)" in figure.get_suptitle()
    assert ("in compliance" in labels(linear)) == np.isfinite(limit_A)
    assert logarithmic.get_yscale() == ("log" if volts.any() else "linear")


def test_points_in_compliance_are_the_ones_marked(tmp_path, seen):
    curve = curve_of(np.linspace(0, 1, 11), limit_A=5e-6)
    save_curve(curve, tmp_path / "c.png", "t", 5e-6)
    (marked,) = [line for line in seen[0].axes[0].lines if line.get_label() == "in compliance"]
    assert marked.get_xdata().tolist() == curve["voltage"][curve["in_compliance"]].tolist()


def test_what_a_contact_test_found_is_marked_where_it_is(tmp_path, seen):
    rng = np.random.default_rng(1)
    conductance = rng.normal(0.1e-6, 0.01e-6, (64, 32)).astype(np.float32)
    conductance[5] = 0
    conductance[20] = 3e-6
    conductance[3, 4] = 150e-6
    conductance[:, 9] = 0
    state = CellState.virgin(Geometry(64, 32))
    found = judge(conductance, np.zeros((64, 32), np.bool_), state).as_json()
    save_contact(conductance, found, 0.1, tmp_path / "c.png", "die a, contact test failed")
    rows, columns = seen[0].axes

    def marked(axes, label):
        return [list(line.get_xdata()) for line in axes.lines if line.get_label() == label]

    assert marked(rows, "leaking: 1") == [[20]]
    assert marked(rows, "open: 1") == [[5]]
    assert marked(rows, "with a shorted cell: 1") == [[3]]
    assert marked(columns, "open: 1") == [[9]]
    assert marked(columns, "with a shorted cell: 1") == [[4]]
    currents = rows.lines[0].get_ydata()
    assert currents[20] == pytest.approx(300, rel=0.05)  # nA


def test_a_healthy_die_has_no_marks(tmp_path, seen):
    conductance = np.full((8, 8), 0.1e-6, np.float32)
    found = judge(conductance, np.zeros((8, 8), np.bool_), CellState.virgin(Geometry(8, 8))).as_json()
    save_contact(conductance, found, 0.1, tmp_path / "c.png", "t")
    assert [len(axes.lines) for axes in seen[0].axes] == [2, 2]
