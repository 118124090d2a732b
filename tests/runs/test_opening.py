"""A sample of benchmarks/ledger.py: how long a ledger takes to open does not grow with a die's life."""

import sys
import time
from pathlib import Path

import pytest

from rramlab.macro.geometry import Geometry
from rramlab.runs.ledger import Ledger, view_ledger

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from ledger import LIMIT_RATIO, LIMIT_S, fill

pytestmark = pytest.mark.xdist_group("opening")  # they share ledgers

GEOMETRY = Geometry(32, 16)
FEW, MANY = 100, 2000


@pytest.fixture(scope="module")
def ledgers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ledgers")
    paths = {count: folder / str(count) / "ledger.db" for count in (FEW, MANY)}
    for count, path in paths.items():
        fill(path, "small-1", GEOMETRY, count)
    return paths


def write(path):
    Ledger(path, "small-1", GEOMETRY).close()


def view(path):
    with view_ledger(path) as ledger:
        assert ledger.last_id in (FEW, MANY)


def cpu(opening, path):
    """The least of several: other processes disturb."""
    found = []
    for _ in range(5):
        begun = time.process_time()
        opening(path)
        found.append(time.process_time() - begun)
    return min(found)


@pytest.mark.parametrize("opening", [write, view])
def test_opening_a_ledger_takes_as_long_for_an_old_die_as_for_a_young_one(ledgers, opening):
    few, many = (cpu(opening, ledgers[count]) for count in (FEW, MANY))
    assert many <= LIMIT_S
    assert many <= LIMIT_RATIO * few
