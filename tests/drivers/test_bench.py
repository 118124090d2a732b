"""The bench: described by its file, opened without energising, locked, and safe in the end whatever happens."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
from workbench import SmallBench, child, hidden

import rramlab
from rramlab.base.errors import BenchLocked, DataError, InstrumentError, Refused, UsageError
from rramlab.base.folders import shipped
from rramlab.drivers.bench import Bench, describe_bench
from rramlab.drivers.lock import BenchLock
from rramlab.sim.controller import SimulatedController

SHIPPED = (shipped().path / "bench.yaml").read_text(encoding="utf-8")


def test_the_shipped_bench_describes_itself(tmp_path):
    found = describe_bench(tmp_path)
    assert found.file.backend == "simulated"
    assert [die.id for die in found.file.dies] == ["sim-0001"]
    assert found.data == tmp_path.resolve() / "data"
    assert found.limits.electroform_voltage == 4.0
    assert found.limits.sl_minus_bl == 4.5
    assert not list(tmp_path.iterdir())  # describing writes nothing


def test_bench_limits_never_widen_the_boards(tmp_path):
    SmallBench(tmp_path, limits="{read_voltage: 1 V, line_current: 5 A, shortest_pulse: 1 ns}").write()
    found = describe_bench(tmp_path).limits
    assert found.read_voltage == 0.2
    assert found.line_current == pytest.approx(10e-3)
    assert found.shortest_pulse == pytest.approx(100e-9)


MISTAKES = [
    ("backend: simulated", "bakend: simulated", 3, "bakend"),
    ("  set_voltage: 2.5 V", "  set_voltag: 2.5 V", 15, "set_voltag"),
    ("  set_voltage: 2.5 V", "  set_voltage: 2.5 A", 15, "2.5 A"),
    ("  set_voltage: 2.5 V", "  set_voltage: 2.5", 15, "unit"),
    ("id: sim-0001", "id: ../evil", 12, "id"),
    ("calibration_policy: none", "calibration_policy: never", 19, "never"),
    ("limits:", "limits: [", 10, "YAML"),
    ("data: data", "data: data\ndata: other", 22, "data"),
]


@pytest.mark.parametrize(("old", "new", "line", "words"), MISTAKES)
def test_a_mistake_in_the_bench_file_is_named_with_its_place(tmp_path, old, new, line, words):
    assert SHIPPED.count(old) == 1
    (tmp_path / "bench.yaml").write_text(SHIPPED.replace(old, new), encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        describe_bench(tmp_path)
    assert words in str(caught.value)
    assert caught.value.source.file.endswith("bench.yaml")
    if words != "YAML":
        assert caught.value.source.line == line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "options", ["seeed: 3", "seed: -1", "preset: perfect", "seed: 18446744073709551616", "seed: x"]
)
def test_a_mistake_in_a_dies_options_is_a_usage_error_naming_the_file(tmp_path, options):
    bench = SmallBench(tmp_path, dies={"small-1": options}).write()
    with pytest.raises(UsageError, match=r"bench\.yaml"), bench.open():
        pass
    assert not list(tmp_path.glob("data/dies/*/*"))


def test_an_unknown_backend_lists_those_installed(tmp_path):
    (tmp_path / "bench.yaml").write_text(SHIPPED.replace("backend: simulated", "backend: zynq"), encoding="utf-8")
    with pytest.raises(UsageError, match=r"zynq.*simulated"), rramlab.open_bench(tmp_path):
        pass


def test_a_die_stands_once(tmp_path):
    text = SHIPPED.replace("  - id: sim-0001", "  - id: sim-0001\n  - id: sim-0001")
    (tmp_path / "bench.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match="twice"):
        describe_bench(tmp_path)


def test_another_die_can_be_put_on_the_simulated_table(tmp_path):
    assert [die.id for die in describe_bench(tmp_path, "sim-7").file.dies] == ["sim-7"]
    with pytest.raises(UsageError):
        describe_bench(tmp_path, "../evil")


def test_a_die_that_is_not_listed_takes_no_options_from_one_that_is(tmp_path):
    bench = SmallBench(tmp_path, dies={"listed": "seed: 5, preset: ideal"}).write()
    (entry,) = describe_bench(bench.folder, "another").file.dies
    assert (entry.id, entry.options) == ("another", {})
    (entry,) = describe_bench(bench.folder, "listed").file.dies
    assert entry.options == {"seed": 5, "preset": "ideal"}


def test_a_bench_that_requires_calibration_is_refused_without_it(tmp_path):
    bench = SmallBench(tmp_path, policy="require").write()
    with pytest.raises(Refused, match="calibration") as caught, bench.open():
        pass
    assert caught.value.exit_code == 3


def test_opening_energises_nothing_and_closing_neither(small_bench, monkeypatch):
    called = []
    for name in ("pulse", "read", "multiply", "load_gates"):
        monkeypatch.setattr(SimulatedController, name, lambda *a, _name=name, **k: called.append(_name))
    with small_bench.open() as session:
        state = hidden(session)
        assert (state.conversions, state.clock_s, int(state.pulses.sum())) == (0, 0, 0)
    assert not called


@pytest.mark.parametrize(
    ("change", "words"),
    [({"board_serial": "OTHER-1"}, "OTHER-1"), ({"protocol": 99}, "99"), ({"geometry": None}, "cells")],
)
def test_a_board_that_is_not_the_one_named_is_refused_and_the_bench_released(small_bench, monkeypatch, change, words):
    hello = SimulatedController.hello
    from rramlab.macro.geometry import Geometry

    change = {key: Geometry(8, 8) if value is None else value for key, value in change.items()}
    with monkeypatch.context() as patch:
        patch.setattr(SimulatedController, "hello", lambda self: dataclasses.replace(hello(self), **change))
        with pytest.raises(InstrumentError, match=words), small_bench.open():
            pass
    with small_bench.open():
        pass


def test_limits_that_the_controller_reports_count(small_bench, monkeypatch):
    hello = SimulatedController.hello

    def lower(self):
        identity = hello(self)
        return dataclasses.replace(identity, limits=identity.limits.model_copy(update={"set_voltage": 1.0}))

    monkeypatch.setattr(SimulatedController, "hello", lower)
    with small_bench.open() as session:
        assert session.bench.limits.set_voltage == 1.0
        assert session.stations["small-1"].guard.limits.set_voltage == 1.0


def test_a_locked_bench_names_its_holder(small_bench):
    with small_bench.open():
        with pytest.raises(BenchLocked, match=str(os.getpid())) as caught, small_bench.open():
            pass
        assert caught.value.exit_code == 1
    with small_bench.open():
        pass


HOLD = """
import sys, rramlab
with rramlab.open_bench(sys.argv[1]) as session:
    print("open", flush=True)
    sys.stdin.read() if len(sys.argv) > 2 else __import__("time").sleep(60)
"""


def test_a_bench_is_locked_across_processes_until_its_holder_dies(small_bench):
    holder = child(HOLD, small_bench.folder)
    try:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(BenchLocked, match=rf"process {holder.pid}\b"), small_bench.open():
            pass
        assert json.loads((small_bench.folder / "data" / "bench.holder.json").read_text())["pid"] == holder.pid
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with small_bench.open() as session:
        assert not hidden(session).pulses.any()


def two_dies(folder):
    return SmallBench(folder, dies={"a": "", "b": "", "c": ""}).write()


def test_safe_state_is_tried_on_all_even_if_one_raises(tmp_path):
    with Bench(describe_bench(two_dies(tmp_path).folder)) as bench:
        tried = []
        for die, controller in bench.controllers.items():

            def safe(die=die):
                tried.append(die)
                if die != "c":
                    raise OSError(f"link of {die} is gone")

            controller.safe_state = safe
        with pytest.raises(InstrumentError) as caught:
            bench.safe_state()
        assert sorted(tried) == ["a", "b", "c"]
        assert "'a'" in str(caught.value)
        assert "'b'" in str(caught.value)
        assert "'c'" not in str(caught.value)
        for controller in bench.controllers.values():
            del controller.safe_state


def test_a_bench_whose_link_cannot_be_closed_is_still_released(tmp_path):
    folder = two_dies(tmp_path).folder
    bench = Bench(describe_bench(folder))
    bench.__enter__()
    closed = []
    for die, controller in bench.controllers.items():

        def close(die=die):
            closed.append(die)
            raise OSError("the link is gone")

        controller.close = close
    with pytest.raises((OSError, InstrumentError)):
        bench.close()
    assert sorted(closed) == ["a", "b", "c"]
    with Bench(describe_bench(folder)):
        pass


def test_every_die_has_its_own_state_and_ledger(tmp_path):
    with two_dies(tmp_path).open() as session:
        assert sorted(session.macros) == ["a", "b", "c"]
        with pytest.raises(UsageError, match="a, b, c"):
            _ = session.macro
        assert not (hidden(session, "a").conductance_S == hidden(session, "b").conductance_S).all()
    assert sorted(path.parent.name for path in Path(tmp_path).glob("data/dies/*/ledger.db")) == ["a", "b", "c"]


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_a_damaged_state_file_is_refused_and_left_as_it_is(small_bench, damage):
    with small_bench.open():
        pass
    path = small_bench.folder / "data" / "dies" / "small-1" / "die.npz"
    good = path.read_bytes()
    bad = {"truncated": good[: len(good) // 2], "garbage": bytes(range(256)) * 40, "empty": b""}[damage]
    path.write_bytes(bad)
    with pytest.raises(DataError, match=r"die\.npz") as caught, small_bench.open():
        pass
    assert caught.value.exit_code == 1
    assert path.read_bytes() == bad
    path.write_bytes(good)
    with small_bench.open():
        pass


def test_a_missing_state_file_is_not_replaced_by_a_virgin_die(small_bench):
    with small_bench.open():
        pass
    path = small_bench.folder / "data" / "dies" / "small-1" / "die.npz"
    path.unlink()
    with pytest.raises(DataError, match="ledger"), small_bench.open():
        pass
    assert not path.exists()


LOOK = """
import sys
from pathlib import Path
from rramlab.drivers.lock import BenchLock
lock = BenchLock(Path(sys.argv[1]))
print("begun", flush=True)
while True:
    lock.holder()
"""


def test_whoever_looks_makes_nothing_and_keeps_nobody_out(small_bench):
    data = small_bench.folder / "data"
    assert BenchLock(data).holder() is None
    assert not data.exists()
    with small_bench.open():
        pass
    watchers = [child(LOOK, data) for _ in range(2)]
    try:
        assert [watcher.stdout.readline() for watcher in watchers] == ["begun\n"] * 2
        for _ in range(100):
            lock = BenchLock(data)
            assert lock.holder() is None  # those who look are no holders
            lock.acquire()
            lock.release()
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()


def test_a_holder_whose_name_is_not_there_or_cannot_be_read_holds_it_nevertheless(small_bench):
    lock = BenchLock(small_bench.folder / "data")
    lock.acquire()
    holder = small_bench.folder / "data" / "bench.holder.json"
    for content in (None, "{"):
        holder.unlink(missing_ok=True)
        if content:
            holder.write_text(content)
        assert BenchLock(small_bench.folder / "data").holder() == {}
        with pytest.raises(BenchLocked, match="process unknown"):
            BenchLock(small_bench.folder / "data").acquire()
    lock.release()
    assert BenchLock(small_bench.folder / "data").holder() is None
