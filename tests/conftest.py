"""Fixtures for every test: the shipped board's figures, and small benches that are quick to work on."""

from __future__ import annotations

import functools
import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import typer.testing
from hypothesis import HealthCheck, settings
from workbench import SmallBench

from rramlab.base.host import STATE
from rramlab.drivers.bench import describe_bench
from rramlab.macro.geometry import Geometry

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Ledgers and runs sync before they go on, and no test pulls the plug: where there is room, files lie in memory, and nobody
# waits for a disk.
IN_MEMORY, ROOM = Path("/dev/shm"), 3 << 30
if IN_MEMORY.is_dir() and os.access(IN_MEMORY, os.W_OK) and shutil.disk_usage(IN_MEMORY).free > ROOM:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))

# Typer builds the tree of commands anew for every call: 40 ms of each of hundreds.
typer.testing._get_command = functools.cache(typer.testing._get_command)

settings.register_profile(
    "rramlab",
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("rramlab")


@pytest.fixture(scope="session", autouse=True)
def _state_of_fixtures(tmp_path_factory):
    """What is made once for several tests is not this computer's user's either."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE, str(tmp_path_factory.getbasetemp() / "state"))
        yield


@pytest.fixture(autouse=True)
def _state(tmp_path_factory, monkeypatch):
    """Each test is a computer's user of its own: what one test has witnessed or holds is nothing to another."""
    monkeypatch.setenv(STATE, str(tmp_path_factory.getbasetemp() / f"state-{secrets.token_hex(8)}"))


@pytest.fixture(autouse=True)
def _folder():
    """A test that works in a folder of its own leaves it: the folder in which commands are called is a bench to them."""
    before = Path.cwd()
    yield
    os.chdir(before)


@pytest.fixture(scope="session")
def table(tmp_path_factory):
    """The figures of the shipped board."""
    return describe_bench(tmp_path_factory.mktemp("shipped")).board


@pytest.fixture(scope="session")
def small_table(table):
    """The same board around an array of 32 × 16 cells, eight lines at once."""
    return replace(table, geometry=Geometry(32, 16), columns_per_adc=4, lines_at_once=8)


@pytest.fixture
def small_bench(tmp_path):
    """A bench folder whose die has 32 × 16 cells."""
    return SmallBench(tmp_path / "small").write()
