"""The same plan gives the same die and the same ledger in process, over TCP and over a terminal."""

import contextlib
import re

import h5py
import numpy as np
import pytest
from emulated import KINDS, process, same, served, simulated
from workbench import SmallBench, forming_plan, hidden, ledger_of, plain_plan, pulse_step

import rramlab
from rramlab.base.errors import InstrumentError, UsageError
from rramlab.drivers.bench import describe_bench
from rramlab.plan.plan import Plan
from rramlab.plan.steps import GateStep, MultiplyStep, ReadStep
from rramlab.runs.store import Run
from rramlab.sim.backend import state_file
from rramlab.sim.die import SimulatedDie
from rramlab.sim.emulator.faults import WireFaults

DIE = "small-1"


def wire_bench(folder, address, **changes):
    """A host's bench folder: as the small bench, but its board is at an address."""
    SmallBench(folder, **changes).write()
    path = folder / "bench.yaml"
    text = path.read_text(encoding="utf-8").replace("backend: simulated", "backend: wire")
    text = re.sub(r"options: \{\}\}\n", f'address: "{address}"}}\n', text, count=1)
    text = text.replace(", options: {}}", "}")
    path.write_text(text, encoding="utf-8")
    return folder


def work(session):
    """Form with a pilot block, reset and set some again; return what the ledger counts, figures, what was read."""
    formed = session.run(forming_plan(block_rows=4), arm=DIE)
    plan = plain_plan(
        pulse_step("rows 0-7", "reset", voltage=2.0),
        pulse_step("(rows 4-11 & checkerboard) - pristine", "set", voltage=2.0),
        ReadStep(repeats=2),
        GateStep(rows="rows 0-9"),
        MultiplyStep(batch=20, bits=3),
        block_rows=8,
    )
    again = session.run(plan, arm=DIE)
    assert not ledger_of(session).dangling()
    with h5py.File(Run(session.runs / again.run_id).folder / "run.h5") as file:
        read = {name: file[name][what][()] for name in file for what in ("codes", "sums") if what in file[name]}
    assert len(read) == 3  # the contact test, the read, the products
    return ledger_of(session).pulse_counts(), (formed.pulses, again.pulses, again.conversions), read


@pytest.fixture(scope="module")
def in_process(tmp_path_factory):
    """What the plans do without a wire: their figures, and the state of the die behind them."""
    with SmallBench(tmp_path_factory.mktemp("in process")).write().open() as session:
        found = work(session)
        state = hidden(session)
        return found, state.pulses.copy(), state.conductance_S.copy(), state.clock_ns


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_plan_gives_the_same_die_over_any_link(tmp_path, in_process, kind):
    board = SmallBench(tmp_path / "board").write()
    with process(board.folder) as addresses:
        folder = wire_bench(tmp_path / "host", addresses[kind])
        with rramlab.open_bench(folder) as session:
            found = work(session)
    (counts, figures, read), pulses, conductance_S, clock_ns = in_process
    assert np.array_equal(found[0], counts)
    assert found[1] == figures
    assert same(found[2].values(), read.values())
    description = describe_bench(board.folder)
    die, _ = SimulatedDie.load(state_file(description.data, DIE), description.board.geometry)
    assert np.array_equal(die.state.pulses, pulses)
    assert np.array_equal(die.state.conductance_S, conductance_S)
    assert die.state.clock_ns == clock_ns
    assert np.array_equal(found[0], die.state.pulses)  # ledger and die agree


def test_a_lossy_link_changes_neither_ledger_nor_die(tmp_path, small_table, in_process):
    """Reads that are asked again pass a little simulated time: pulse counts are equal, conductances to what drifts."""
    from rramlab.sim.backend import open_simulated

    board = SmallBench(tmp_path / "board").write()
    description = describe_bench(board.folder)
    behind = open_simulated(description.file, description.board, description.data).controllers[DIE]
    with served(behind, WireFaults.everywhere(0.1, seed=11)) as emulated:
        with rramlab.open_bench(wire_bench(tmp_path / "host", emulated.addresses["tcp"])) as session:
            found = work(session)
        assert not behind.load
    (counts, figures, read), pulses, conductance_S, _ = in_process
    assert np.array_equal(found[0], counts)
    assert found[1] == figures
    assert [each.shape for each in found[2].values()] == [each.shape for each in read.values()]
    assert np.array_equal(behind.die.state.pulses, pulses)
    assert behind.die.state.conductance_S == pytest.approx(conductance_S, rel=1e-3)


def test_the_board_must_be_the_one_in_the_file(tmp_path, small_table):
    behind = simulated(small_table)  # board B-1; the file says SIM-0009
    with served(behind) as emulated:
        folder = wire_bench(tmp_path / "host", emulated.addresses["tcp"])
        with pytest.raises(InstrumentError, match=r"'B-1'.*'SIM-0009'"), rramlab.open_bench(folder):
            pass
    assert behind.die.state.pulses.max() == 0


def test_a_bench_whose_board_does_not_answer_says_where_it_looked(tmp_path):
    folder = wire_bench(tmp_path / "host", "tcp://127.0.0.1:1")
    with pytest.raises(InstrumentError, match=r"tcp://127.0.0.1:1 cannot be reached"), rramlab.open_bench(folder):
        pass


def test_a_wire_needs_an_address(tmp_path):
    folder = SmallBench(tmp_path).write().folder
    path = folder / "bench.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("backend: simulated", "backend: wire"), encoding="utf-8")
    with pytest.raises(UsageError, match="address"), rramlab.open_bench(folder):
        pass


def test_a_session_over_a_wire_leaves_the_safe_state(tmp_path):
    board = SmallBench(tmp_path / "board").write()
    with process(board.folder) as addresses:
        folder = wire_bench(tmp_path / "host", addresses["tcp"])
        with contextlib.suppress(ZeroDivisionError), rramlab.open_bench(folder) as session:
            session.run(Plan(name="r", steps=(GateStep(rows="rows 0-3"), ReadStep())))
            raise ZeroDivisionError
        with rramlab.open_bench(folder) as session:
            (controller,) = session.bench.controllers.values()
            status = controller.status()
            assert (status.live, status.routed) == (False, False)
            with pytest.raises(InstrumentError, match="empty"):
                controller.multiply(np.ones((1, 4), np.uint8), 1, 0, np.arange(16))
