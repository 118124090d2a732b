"""``rramlab sim serve`` as a process, and the commands of a host that works with it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import yaml
from workbench import SmallBench

from rramlab.base.arrays import load_arrays
from rramlab.base.errors import InstrumentError
from rramlab.drivers.controller import History
from rramlab.drivers.links import open_link
from rramlab.drivers.wire.client import WireController
from rramlab.runs.ledger import Ledger

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and terminals")

DIE = "small-1"


def controller_at(address):
    return WireController(lambda: open_link(address, 3_000_000, b"\0"))


def state_of(bench, die=DIE):
    return load_arrays(bench / "data" / "dies" / die / "die.npz")


# start and end ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_leaves_the_safe_state(serve, bench, number):
    with serve(bench) as serving:
        controller = controller_at(serving.document["tcp"])
        assert controller.hello().board_serial == "SIM-0009"
        controller.close()
        code, said = serving.end(number)
    assert code == 0
    assert "safe state" in said
    assert not (bench / "data" / "bench.holder.json").exists()


def test_a_person_reads_the_address_while_it_serves(bench):
    """Without --json, and through a pipe: the table is there before the end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rramlab", "sim", "serve", "--bench", bench, "--pty"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        printed = ""
        while "Ctrl-C" not in printed:
            line = process.stdout.readline()
            assert line, printed
            printed += line
        assert "tcp://127.0.0.1:" in printed
        assert "/dev/" in printed
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_the_same_board_is_on_tcp_and_on_the_terminal(serve, bench):
    with serve(bench, "--pty") as serving:
        by_tcp, by_terminal = (controller_at(serving.document[name]) for name in ("tcp", "terminal"))
        assert by_tcp.hello() == by_terminal.hello()
        by_tcp.close()
        by_terminal.close()


def test_every_start_is_a_power_up(serve, bench):
    nonces = []
    for _ in range(2):
        with serve(bench) as serving:
            controller = controller_at(serving.document["tcp"])
            nonces.append(controller.hello().boot_nonce)
            controller.close()
            assert serving.end()[0] == 0
    assert nonces[0] != nonces[1]


@pytest.mark.parametrize(("words", "remembered"), [((), True), (("--forget",), False)])
def test_a_board_remembers_operations_unless_it_is_to_forget(serve, bench, host, rramlab, words, remembered):
    with serve(bench, "--write-host", host) as serving:
        assert rramlab("run", "contact", "--bench", host)[0] == 0
        plan = host / "protocols"
        plan.mkdir()
        (plan / "one.yaml").write_text(
            "name: one\ndescription: one row\nsteps:\n  - contact\n"
            "  - electroform: {cells: row 3, voltage: 3.75 V, width: 1 us, gate: 1.6 V}\n"
        )
        assert rramlab("run", "one", "--bench", host, "--arm", DIE)[0] == 0
        assert serving.end()[0] == 0
    with serve(bench, *words) as serving:
        controller = controller_at(serving.document["tcp"])
        # The host has acknowledged it: the board knows that there was such an id, or not even that.
        expected = History.FORGOTTEN if remembered else History.NEVER
        assert controller.history(1) is expected
        controller.close()


def test_a_board_that_comes_back_is_made_safe_however_often_that_was_tried(serve, bench):
    """Each attempt opens the link anew, and says in words what is wrong until that succeeds."""
    with serve(bench) as serving:
        address = serving.document["tcp"]
        controller = controller_at(address)
    for _ in range(2):  # it is gone
        with pytest.raises(InstrumentError, match="cannot be reached"):
            controller.safe_state()
    with serve(bench, "--port", address.rpartition(":")[2]):
        controller.safe_state()
        assert not controller.status().live
        controller.close()


# refusals -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--fault", "nonsense=0.1"), "nonsense"),
        (("--fault", "drop=2"), "drop"),
        (("--fault", "drop"), "drop"),
        (("--pace", "-1"), "pace"),
    ],
)
def test_a_bad_option_is_a_usage_error(rramlab, bench, words, said):
    code, _, error = rramlab("sim", "serve", "--bench", bench, *words)
    assert code == 2
    assert said in error
    assert not (bench / "data" / "dies").exists()


# who may --------------------------------------------------------------------------------------------------------------------

TOKEN = "a token that nobody can guess"


@pytest.mark.parametrize("host_name", ["0.0.0.0", "::"])
def test_other_computers_are_served_only_at_a_persons_word(rramlab, bench, host_name):
    code, document, error = rramlab("sim", "serve", "--bench", bench, "--host", host_name)
    assert code == 3
    for words in ("nothing is served", "--token-file", "--token-env", "--isolated-network"):
        assert words in error
        assert words in document["error"]
    assert not (bench / "data" / "dies").exists()


def test_an_isolated_network_is_served_without_a_token(serve, bench):
    with serve(bench, "--host", "0.0.0.0", "--isolated-network") as serving:
        controller = controller_at(serving.document["tcp"].replace("0.0.0.0", "127.0.0.1"))
        assert controller.hello().board_serial == "SIM-0009"
        controller.close()


@pytest.mark.parametrize("kept", ["file", "variable"])
def test_a_host_that_is_written_knows_where_the_token_is_and_not_what(serve, bench, host, rramlab, monkeypatch, kept):
    """It works through its bench.yaml; without the token, or with another, it is told so and nothing is pulsed."""
    (bench / "token").write_text(TOKEN + "\n")
    monkeypatch.setenv("BOARD_TOKEN", TOKEN)
    words = ("--token-file", bench / "token") if kept == "file" else ("--token-env", "BOARD_TOKEN")
    with serve(bench, "--write-host", host, *words) as serving:
        assert TOKEN not in (host / "bench.yaml").read_text()
        assert rramlab("bench", "check", "--power-up", "--bench", host)[0] == 0
        code, document, _ = rramlab("run", "electroform", "--bench", host, "--arm", DIE)
        assert (code, document["pulses"]) == (0, 256)
        monkeypatch.setenv("BOARD_TOKEN", TOKEN[::-1])
        (bench / "token").write_text(TOKEN[::-1])
        code, document, _ = rramlab("run", "contact", "--bench", host)
        assert code == 1
        assert "does not accept the token" in document["error"]
        path = host / "bench.yaml"
        document = yaml.safe_load(path.read_text())
        document["controller"] = {
            key: value for key, value in document["controller"].items() if not key.startswith("token")
        }
        path.write_text(yaml.safe_dump(document))
        code, document, _ = rramlab("run", "contact", "--bench", host)
        assert code == 1
        assert "asks for a token" in document["error"]
        assert serving.end()[0] == 0
    assert not any(TOKEN in path.read_text(errors="replace") for path in (host / "data").rglob("*.json"))
    assert state_of(bench)["pulses"].sum() == 256


def test_a_units_socket_knows_no_token_and_stays_on_this_computer(serve, bench, host):
    with (bench / "bench.yaml").open("a") as stream:
        stream.write("smus:\n  - {name: unit, driver: keysight-b2900, address: simulated}\n")
    (bench / "token").write_text(TOKEN)
    with serve(bench, "--host", "0.0.0.0", "--token-file", bench / "token") as serving:
        assert serving.document["tcp"].startswith("tcp://0.0.0.0:")
        assert serving.document["smus"]["unit"].startswith("tcp://127.0.0.1:")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--token-file", "nowhere"), "cannot be read"),
        (("--token-env", "NO_SUCH_VARIABLE"), "no token"),
        (("--token-file", "short", "--token-env", "X"), "twice"),
    ],
)
def test_a_token_that_is_not_there_is_a_usage_error(rramlab, bench, words, said):
    code, _, error = rramlab("sim", "serve", "--bench", bench, *words)
    assert code == 2
    assert said in error
    assert not (bench / "data" / "dies").exists()


def test_a_terminal_asks_for_no_token(serve, bench, host, rramlab):
    (bench / "token").write_text(TOKEN)
    with serve(bench, "--pty", "--token-file", bench / "token", "--write-host", host) as serving:
        assert "token" not in (host / "bench.yaml").read_text()
        assert rramlab("bench", "check", "--power-up", "--bench", host)[0] == 0
        assert serving.end()[0] == 0


def test_a_port_that_is_taken_is_a_usage_error(serve, bench):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with serve(bench, "--port", port) as serving:
            serving.process.wait(30)
            assert serving.process.returncode == serving.document["exit_code"] == 2
            assert str(port) in serving.document["error"]
    with serve(bench) as serving:  # and the bench was let go
        assert serving.document["tcp"]


def test_of_several_dies_one_is_chosen(serve, tmp_path):
    bench = SmallBench(tmp_path / "two", dies={"a": "", "b": ""}).write().folder
    with serve(bench) as serving:
        serving.process.wait(30)
        assert serving.process.returncode == 2
        assert "--die" in serving.document["error"]
    with serve(bench, "--die", "b", "--write-host", tmp_path / "host") as serving:
        assert serving.document["tcp"]
    text = (tmp_path / "host" / "bench.yaml").read_text(encoding="utf-8")
    assert "id: b" in text
    assert "id: a" not in text


def test_a_real_bench_is_not_served(serve, bench, host):
    with serve(bench, "--write-host", host) as serving, serve(host) as other:
        other.process.wait(30)
        assert other.process.returncode == 2
        assert "real bench" in other.document["error"]
        assert serving.process.poll() is None


def test_a_bench_that_is_served_is_locked(serve, bench, rramlab):
    with serve(bench):
        code, document, _ = rramlab("bench", "check", "--bench", bench)
        assert code == 1
        assert "sim serve" in document["error"]


# a host -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [(), ("--pty",)])
def test_a_host_checks_forms_and_stops(serve, bench, host, rramlab, words):
    with serve(bench, "--write-host", host, *words) as serving:
        assert serving.document["host_bench"] == str(host / "bench.yaml")
        code, document, _ = rramlab("bench", "check", "--power-up", "--bench", host)
        assert code == 0
        assert document["instruments"][0]["board"] == "SIM-0009"
        assert rramlab("run", "electroform", "--bench", host)[0] == 3  # not armed
        code, document, _ = rramlab("run", "electroform", "--bench", host, "--arm", DIE)
        assert code == 0
        assert document["pulses"] == 256
        assert rramlab("estop", "--bench", host)[:2] == (0, {"signalled": None, "safe": True})
        assert serving.end()[0] == 0
    assert state_of(bench)["pulses"].sum() == 256


def test_the_hosts_source_measure_unit_is_on_a_socket_of_its_own(serve, bench, host, rramlab):
    with (bench / "bench.yaml").open("a") as stream:
        stream.write("smus:\n  - {name: unit, driver: keysight-b2900, address: simulated}\n")
    with serve(bench, "--write-host", host) as serving:
        assert serving.document["smus"]["unit"] in (host / "bench.yaml").read_text()
        assert serving.document["smus"]["unit"] != serving.document["tcp"]
        code, document, _ = rramlab("run", "route", "--bench", host, "--set", "reference=0", "--set", "count=3")
        assert code == 0, document
        (found,) = document["routes"]
        assert found["points"] == 3
        assert 1e-9 < found["conductance_S"] < 1e-2


def test_the_host_that_is_written_needs_nothing_else(serve, bench, tmp_path, rramlab):
    """The command says: try rramlab bench check. It works, although the bench has a driver file of its own."""
    with serve(bench, "--write-host", tmp_path / "fresh"):
        code, document, _ = rramlab("bench", "check", "--power-up", "--bench", tmp_path / "fresh")
        assert code == 0, document


def test_a_host_bench_that_exists_is_left_as_it_is(serve, bench, host):
    (host / "bench.yaml").write_text("mine\n")
    with serve(bench, "--write-host", host) as serving:
        serving.process.wait(30)
        assert serving.process.returncode == 2
        assert str(host / "bench.yaml") in serving.document["error"]
    assert (host / "bench.yaml").read_text() == "mine\n"


def test_estop_stops_a_host_in_a_pulse_train_and_it_goes_on_later(serve, bench, host, rramlab, until):
    """The bench waits for its pulses (about 11 s in all); the train is cut short, and no cell gets a second pulse."""
    with serve(bench, "--write-host", host, "--pace", 30_000):
        words = [sys.executable, "-m", "rramlab", "run", "electroform", "--bench", str(host), "--arm", DIE]
        working = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: (bench / "data/dies" / DIE / "die.npz").exists() and state_of(bench)["pulses"].sum() >= 48)
            code, document, _ = rramlab("estop", "--bench", host)
            assert code == 0
            assert document == {"signalled": working.pid, "safe": True}
            working.communicate(timeout=30)
            assert working.returncode == 4
        finally:
            working.kill()
            working.communicate()
        before = state_of(bench)["pulses"].sum()
        assert 0 < before < 256
    with serve(bench) as serving:
        path = host / "bench.yaml"
        path.write_text(re.sub(r"tcp://[\d.:]+", serving.document["tcp"], path.read_text()))
        code, document, _ = rramlab("resume", "last", "--bench", host, "--arm", DIE)
        assert code == 0, document
        assert serving.end()[0] == 0
    pulses = state_of(bench)["pulses"]
    assert pulses.max() == 1
    assert pulses.sum() == 256


def test_a_bad_line_changes_nothing_for_the_host(serve, bench, host, rramlab):
    """A tenth of the frames suffer something: the die is the same, bit for bit, as one behind a good line."""
    calm = bench.with_name("calm")
    shutil.copytree(bench, calm)
    assert rramlab("run", "electroform", "--bench", calm, "--arm", DIE)[0] == 0
    faults = [word for name in ("drop", "damage", "duplicate", "late", "split") for word in ("--fault", f"{name}=0.02")]
    with serve(bench, "--write-host", host, *faults, "--fault", "seed=5") as serving:
        assert rramlab("run", "electroform", "--bench", host, "--arm", DIE)[0] == 0
        assert serving.end()[0] == 0
    assert np.array_equal(state_of(bench)["pulses"], state_of(calm)["pulses"])
    assert np.array_equal(state_of(bench)["conductance_S"], state_of(calm)["conductance_S"])


def test_the_hosts_ledger_is_its_own(serve, bench, host, rramlab):
    with serve(bench, "--write-host", host):
        assert rramlab("run", "electroform", "--bench", host, "--arm", DIE)[0] == 0
    assert not (bench / "data" / "dies" / DIE / "ledger.db").exists()
    ledger = Ledger(
        host / "data" / "dies" / DIE / "ledger.db", DIE, SmallBench(bench).open().description.board.geometry
    )
    try:
        assert np.array_equal(ledger.pulse_counts(), state_of(bench)["pulses"])
        assert not ledger.dangling()
    finally:
        ledger.close()
    assert not json.loads((next((host / "data" / "runs").iterdir()) / "run.json").read_text())["reason"]
