"""A bench with source-measure units: which are let in, which are named and why not, and that none is left on."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
import threading
from types import SimpleNamespace

import pytest
from serial.tools import list_ports
from tabletop import DIE, change, on_the_table, put, smu
from typer.testing import CliRunner

import rramlab as package
from rramlab.base.errors import BenchLocked, InstrumentError, UsageError
from rramlab.cli.app import app
from rramlab.drivers import bench as bench_module
from rramlab.drivers.bench import Bench, describe_bench
from rramlab.drivers.lock import BenchLock
from rramlab.drivers.wire import exchange
from rramlab.macro.geometry import Geometry
from rramlab.sim.controller import SimulatedController
from rramlab.sim.emulator import serving
from rramlab.sim.routes import Terminals

FAMILIES = {
    "keysight-b2900": ("B2902A", "Keysight"),
    "keithley-2400": ("2400", "KEITHLEY"),
    "keithley-2450": ("2450", "KEITHLEY"),
    "keithley-2600": ("2636B", "Keithley"),
}
everyone = pytest.mark.parametrize("driver", FAMILIES)


def rramlab(*words, typed=None):
    result = CliRunner().invoke(app, [str(word) for word in words], input=typed)
    return result.exit_code, result.stdout, result.stderr


def opening(folder):
    """Open and close a bench; return what stands on it meanwhile."""
    with Bench(describe_bench(folder)) as bench:
        return dict(bench.smu_identities)


def refused(folder, kind=InstrumentError):
    """Return what is said when a bench does not open; it is free again afterwards."""
    with pytest.raises(kind) as caught:
        opening(folder)
    lock = BenchLock(folder / "data")
    lock.acquire()
    lock.release()
    return str(caught.value)


def says(text, *words):
    for word in words:
        assert word in text, word


# let in ---------------------------------------------------------------------------------------------------------------


@everyone
@pytest.mark.parametrize("place", ["in memory", "on TCP"])
def test_a_unit_is_identified_by_its_driver_file(tmp_path, driver, place):
    put(tmp_path / "board", smu("left", driver, serial='"12345"'))
    if place == "in memory":
        found = opening(tmp_path / "board")["left"]
    else:
        with on_the_table(tmp_path / "board") as table:
            found = opening(table.host(tmp_path / "host"))["left"]
    model, maker = FAMILIES[driver]
    assert (found.model, found.serial) == (model, "12345")
    assert maker.lower() in found.text.lower()


@everyone
def test_opening_energises_nothing(tmp_path, driver, monkeypatch):
    """Nothing is forced at the unit's terminals, no operation reaches the board."""
    done = []
    for what in ("force_voltage", "force_current"):
        monkeypatch.setattr(Terminals, what, lambda *_, what=what: done.append(what))
    for what in ("pulse", "read", "multiply", "load_gates"):
        monkeypatch.setattr(SimulatedController, what, lambda *_, what=what, **__: done.append(what))
    opening(put(tmp_path, smu("left", driver)))
    assert not done


def test_several_units_have_their_own_identities(tmp_path):
    found = opening(put(tmp_path, *(smu(f"u{at}", driver) for at, driver in enumerate(FAMILIES))))
    assert [each.model for each in found.values()] == [model for model, _ in FAMILIES.values()]
    assert len({each.serial for each in found.values()}) == len(FAMILIES)


# another than the one in the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["in memory", "on TCP"])
@pytest.mark.parametrize("driver", ["keithley-2400", "keysight-b2900", "keithley-2450"])
def test_another_model_at_the_address_is_named_with_what_was_sent_and_answered(tmp_path, driver, place):
    """The driver file is for one family, what answers is of another."""
    other = {"keithley-2400": "2450", "keysight-b2900": "2400", "keithley-2450": "B2902A"}[driver]
    put(tmp_path / "board", smu("left", driver, options=f'{{model: "{other}"}}'))
    if place == "in memory":
        said = refused(tmp_path / "board")
    else:
        with on_the_table(tmp_path / "board") as table:
            said = refused(table.host(tmp_path / "host"))
            says(said, table.smus["left"])
    says(said, "SMU 'left'", driver, "'*IDN?", other, "expected the identity", "Check that the driver file")


def test_a_stranger_at_the_address_is_asked_who_it_is_and_told_nothing_else(tmp_path):
    """It may be in the middle of somebody else's measurement."""
    heard, listener = [], socket.create_server(("127.0.0.1", 0))

    def stranger():
        connection, _ = listener.accept()
        with connection:
            while data := connection.recv(4096):
                heard.append(data)
                connection.sendall(b"ACME,Power supply 7,1,1.0\n")

    thread = threading.Thread(target=stranger)
    thread.start()
    put(tmp_path / "board", smu("left"))
    with on_the_table(tmp_path / "board") as table:
        host = table.host(tmp_path / "host")
        says(
            refused(change(host, (table.smus["left"], f"tcp://127.0.0.1:{listener.getsockname()[1]}"))), "ACME", "*IDN?"
        )
    thread.join(5)
    listener.close()
    assert b"".join(heard) == b"*IDN?\n"


def test_another_serial_number_is_named_with_both(tmp_path):
    put(tmp_path / "board", smu("left", serial="AAA"))
    with on_the_table(tmp_path / "board") as table:
        said = refused(change(table.host(tmp_path / "host"), ("AAA", "BBB")))
    says(said, "SMU 'left'", table.smus["left"], "'AAA'", "'BBB'", "bench.yaml", "nothing was energised", "Connect")


# late, garbled, silent, with an error in its queue --------------------------------------------------------------------


def faulty(folder, driver, faults):
    return put(folder, smu("left", driver, options=f"{{faults: {faults}}}"))


def impatient(monkeypatch, seconds=0.06):
    """Units are given this long to answer."""
    load = bench_module.load_smu

    def quick(root, name):
        file = load(root, name)
        return file.model_copy(update={"timing": file.timing.model_copy(update={"reply": seconds})})

    monkeypatch.setattr(bench_module, "load_smu", quick)


@everyone
def test_a_silent_unit_is_named_with_what_was_sent_and_what_to_try(tmp_path, driver, monkeypatch):
    impatient(monkeypatch)
    said = refused(faulty(tmp_path, driver, "{silent: true}"))
    says(said, "SMU 'left'", driver, "did not answer in time", "nothing came", "switched on", "address", "baud rate")


@everyone
def test_a_late_unit_is_named_and_not_misunderstood(tmp_path, driver, monkeypatch):
    impatient(monkeypatch)
    said = refused(faulty(tmp_path, driver, "{late_s: 0.2}"))
    says(said, "SMU 'left'", "did not answer in time")


@everyone
def test_a_unit_that_is_late_within_its_time_works(tmp_path, driver):
    assert opening(faulty(tmp_path, driver, "{late_s: 0.01}"))


@everyone
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_garbage_is_shown_with_what_was_sent(tmp_path, driver, nth):
    folder = faulty(tmp_path, driver, f"{{garbage: {nth}}}")
    said = refused(folder)
    says(said, "SMU 'left'", "was sent", "answered", "\\x", "baud rate, cable and earth")


@everyone
def test_an_error_that_waits_in_the_queue_is_reported_and_does_not_pass_for_one_of_ours(tmp_path, driver):
    folder = faulty(tmp_path, driver, "{queued: true}")
    with Bench(describe_bench(folder)) as bench:
        (entry,) = bench.smu_errors["left"]
        assert re.match(r"-?\d+ \S", entry)
        bench.smus["left"].reset()  # no error of its own
    code, out, _ = rramlab("bench", "check", "--bench", folder)
    assert code == 0
    assert entry in out
    assert json.loads(rramlab("bench", "check", "--bench", folder, "--json")[1])["smus"][0]["errors"] == [entry]


def test_a_unit_that_fails_in_the_middle_of_a_run_is_named(tmp_path):
    """Every seventh answer is garbled: it opens, and fails while it measures."""
    put(tmp_path, smu("left", "keithley-2450", options="{faults: {garbage: 7}}"))
    code, out, err = rramlab("route", "--reference", "0", "--count", "9", "--bench", tmp_path, "--json")
    assert code == 1
    says(json.loads(out)["error"], "SMU 'left'", "answered")
    assert "error:" in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("{faults: {lat: 1}}", ["'left'", "faults.lat"]),
        ("{faults: {garbage: often}}", ["faults.garbage"]),
        ("{model: 9999}", ["9999"]),
        ('{model: "9999"}', ["'9999'", "B2902A"]),
        ("{seed: -1}", ["seed"]),
        ("{colour: red}", ["colour", "faults, model, seed"]),
    ],
)
def test_options_that_are_none_are_a_usage_error(tmp_path, options, words):
    says(refused(put(tmp_path, smu("left", options=options)), UsageError), *words)


def test_a_real_address_on_a_simulated_bench_is_a_usage_error(tmp_path):
    """Otherwise simulated currents would pass for those of the unit at that address."""
    said = refused(put(tmp_path, smu("left", address="TCPIP::192.168.1.20::5025::SOCKET")), UsageError)
    says(said, "192.168.1.20", "'left'", "expected 'simulated'", "backend: wire")


# mistakes in bench.yaml -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        ([smu("left"), smu("left", "keysight-b2900")], 4, ["stands twice", "left"]),
        (
            [smu("left"), smu("right", "keithley-2401")],
            6,
            ["SMU 'right'", "no 'keithley-2401'", "known: keithley-2400"],
        ),
        ([smu("left", "macro-40nm")], 5, ["SMU 'left'", "macro-40nm.yaml", "'board', expected 'smu'"]),
        ([smu("left", channel=2)], 5, ["SMU 'left'", "channel 2", "keithley-2400", "has: 1"]),
        ([smu("left", "keithley-2600", channel=3)], 5, ["channel 3", "has: 1, 2"]),
        ([smu("left", channel=0)], 5, ["channel"]),
        ([smu("no/name")], 5, ["name"]),
        ([smu("left", address="")], 5, ["address"]),
        (["  - {name: left, driver: keithley-2400}\n"], 5, ["address", "missing"]),
        ([smu("left", adress="x")], 5, ["adress", "unknown key"]),
        ([smu("left", baud=0)], 5, ["baud"]),
    ],
)
def test_a_mistake_is_named_with_its_line_before_anything_is_opened(tmp_path, lines, place, words):
    put(tmp_path, *lines)
    with pytest.raises(UsageError) as caught:
        describe_bench(tmp_path)
    says(str(caught.value), *words)
    assert (caught.value.source.file, caught.value.source.line) == (str(tmp_path / "bench.yaml"), place)


def test_the_second_channel_of_a_unit_with_two_is_there(tmp_path):
    assert opening(put(tmp_path, smu("left", "keithley-2600", channel=2)))["left"].model == "2636B"


# left on, and safe in the end -----------------------------------------------------------------------------------------


@pytest.fixture
def served_unit(tmp_path, monkeypatch):
    """A board and a Keithley 2450 on sockets, and a way to look at the unit itself."""
    made, make = [], serving.simulated_smu

    def keep(*given):
        made.append(make(*given))
        return made[-1]

    monkeypatch.setattr(serving, "simulated_smu", keep)
    with on_the_table(put(tmp_path / "board", smu("left", "keithley-2450"))) as table:
        yield SimpleNamespace(table=table, host=table.host(tmp_path / "host"), unit=made[0])


def switched_on(address, volts="1.5"):
    """What a process leaves that was killed while it measured."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(f":SOUR:FUNC VOLT\n:SOUR:VOLT {volts}\n:OUTP ON\n*OPC?\n".encode())
        assert line.recv(100)


def test_a_unit_that_was_left_on_is_switched_off_on_opening(served_unit):
    switched_on(served_unit.table.smus["left"])
    assert served_unit.unit.output_on
    with Bench(describe_bench(served_unit.host)):
        assert not served_unit.unit.output_on


def test_a_unit_that_was_left_on_is_switched_off_though_the_board_is_another(served_unit):
    switched_on(served_unit.table.smus["left"])
    change(served_unit.host, ("SIM-0009", "SIM-0010"))
    says(refused(served_unit.host), "'SIM-0009'", "'SIM-0010'", "nothing was energised")
    assert not served_unit.unit.output_on


def test_estop_switches_a_unit_off_though_the_board_does_not_answer(served_unit):
    """A unit has no dead man's switch."""
    switched_on(served_unit.table.smus["left"])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
    change(served_unit.host, (served_unit.table.served.tcp, nobody))
    code, _, err = rramlab("estop", "--bench", served_unit.host)
    assert code == 1
    says(err, nobody, "cannot be reached")
    assert not served_unit.unit.output_on


def test_a_unit_that_is_not_heard_is_switched_off_all_the_same(served_unit, monkeypatch):
    """Its answers are lost; what it is told arrives."""
    impatient(monkeypatch)
    switched_on(served_unit.table.smus["left"])
    served_unit.unit.faults = dataclasses.replace(served_unit.unit.faults, silent=True)
    says(refused(served_unit.host), "SMU 'left'", "did not answer in time")
    assert not served_unit.unit.output_on


def test_leaving_the_bench_switches_units_off(served_unit):
    with Bench(describe_bench(served_unit.host)) as bench:
        unit = bench.smus["left"]
        unit.reset()
        unit.source_voltage(0.1)
        unit.output(True)
        assert served_unit.unit.output_on
    assert not served_unit.unit.output_on


def test_safe_state_is_tried_on_every_instrument_and_says_which_failed(tmp_path):
    with Bench(describe_bench(put(tmp_path, smu("first"), smu("second", "keithley-2450")))) as bench:
        tried = []

        def fails(name, error):
            def safe_state():
                tried.append(name)
                raise error

            return safe_state

        things = {"first": bench.smus["first"], "board": bench.controllers[DIE]}
        for name, thing in things.items():
            thing.safe_state = fails(name, OSError(f"{name} is gone") if name == "board" else InstrumentError("no"))
        switched = bench.smus["second"].safe_state
        bench.smus["second"].safe_state = lambda: (tried.append("second"), switched())
        with pytest.raises(InstrumentError) as caught:
            bench.safe_state()
        assert sorted(tried) == ["board", "first", "second"]
        assert tried[-1] == "board"  # nothing drives the path any more when it is opened
        says(str(caught.value), "SMU 'first'", f"the controller of die '{DIE}'", "board is gone", "by hand")
        assert "second" not in str(caught.value)
        for thing in things.values():
            del thing.safe_state


def test_all_instruments_that_do_not_open_are_named_at_once(tmp_path):
    put(tmp_path / "board", smu("left"), smu("right"))
    with on_the_table(tmp_path / "board") as table:
        host = table.host(tmp_path / "host")
    said = refused(host)  # everything was switched off meanwhile
    says(said, "3 instruments could not be opened", *table.smus.values(), table.served.tcp)


# the board ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"board_serial": "SIM-0010"}, ["'SIM-0010'", "'SIM-0009'", "Connect the right board"]),
        ({"geometry": Geometry(64, 16)}, ["(64, 16)", "(32, 16)", "small.yaml"]),
        ({"protocol": 9}, ["protocol 9", "Update the firmware"]),
    ],
)
def test_another_board_over_a_wire_is_refused_and_told_nothing(tmp_path, monkeypatch, changed, words):
    hello, told = SimulatedController.hello, []
    monkeypatch.setattr(SimulatedController, "hello", lambda self: dataclasses.replace(hello(self), **changed))
    with on_the_table(put(tmp_path / "board")) as table:
        host = table.host(tmp_path / "host")
        monkeypatch.setattr(SimulatedController, "safe_state", lambda self: told.append("safe state"))
        says(refused(host), *words)
        assert not told  # it may be at work for somebody else
        monkeypatch.undo()


def test_a_board_at_whose_address_a_unit_answers_says_what_it_was_sent(tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "_PATIENCE_S", 0.3)
    with on_the_table(put(tmp_path / "board", smu("left"))) as table:
        host = table.host(tmp_path / "host")
        change(host, (table.served.tcp, table.smus["left"]))
        said = refused(host)
    says(said, table.smus["left"], "HELLO was sent", "0 good", "the address is the macro controller's")


def test_a_unit_at_whose_address_the_board_answers_says_what_it_was_sent(tmp_path, monkeypatch):
    impatient(monkeypatch)
    with on_the_table(put(tmp_path / "board", smu("left"))) as table:
        host = table.host(tmp_path / "host")
        change(host, (table.smus["left"], table.served.tcp))
        says(refused(host), "SMU 'left'", table.served.tcp, "'*IDN?", "did not answer", "address")


def test_two_hosts_of_one_folder_do_not_share_a_unit(tmp_path):
    put(tmp_path, smu("left"))
    with Bench(describe_bench(tmp_path)), pytest.raises(BenchLocked):
        opening(tmp_path)


# bench check, bench discover ------------------------------------------------------------------------------------------


def test_bench_check_shows_boards_and_units(tmp_path):
    with on_the_table(put(tmp_path / "board", smu("left", "keysight-b2900", serial='"MY123"'))) as table:
        host = table.host(tmp_path / "host")
        code, out, _ = rramlab("bench", "check", "--bench", host, "--power-up")
        assert code == 0
        says(out, "SIM-0009", "32 × 16", "25.0 °C", table.served.tcp, "left", "B2902A", "MY123", table.smus["left"])
        says(out, "must have at power-up", "DAC at zero scale", "nothing was energised")
        code, out, _ = rramlab("bench", "check", "--bench", host, "--power-up", "--json")
        found = json.loads(out)
    assert code == 0
    (board,), (unit,) = found["instruments"], found["smus"]
    assert (board["die"], board["board"], board["rows"], board["columns"]) == (DIE, "SIM-0009", 32, 16)
    assert board["address"] == table.served.tcp
    assert (unit["name"], unit["model"], unit["serial"], unit["driver"]) == (
        "left",
        "B2902A",
        "MY123",
        "keysight-b2900",
    )
    assert (unit["address"], unit["errors"]) == (table.smus["left"], [])
    assert found["limits"]["smu_voltage"] > 1
    assert found["power_up_confirmed"] is True
    assert len(found["power_up"]) == 3


@pytest.mark.parametrize(("answer", "code"), [("--power-up", 0), ("--no-power-up", 5)])
def test_bench_check_takes_the_answer_about_hardware_at_power_up(tmp_path, answer, code):
    put(tmp_path, smu("left"))
    found, out, err = rramlab("bench", "check", "--bench", tmp_path, answer, "--json")
    assert found == code
    document = json.loads(out)
    if code:
        assert document["exit_code"] == 5
        says(document["error"], "SIM-0009", "at power-up", "do not put a die into its socket")
        says(err, "do not put a die")
    else:
        assert document["power_up_confirmed"] is True


def test_bench_discover_with_nothing_to_be_found(monkeypatch):
    monkeypatch.setattr(list_ports, "comports", list)
    monkeypatch.setattr("pyvisa.ResourceManager.list_resources", lambda *_: ())
    code, out, _ = rramlab("bench", "discover")
    assert code == 0
    says(out, "Neither a serial port nor a VISA resource", "tcp://HOST:PORT")
    found = json.loads(rramlab("bench", "discover", "--json")[1])
    assert (found["serial_ports"], found["visa_resources"]) == ([], [])


def test_bench_discover_lists_ports_and_resources_as_addresses(monkeypatch):
    class Port(SimpleNamespace):
        def __lt__(self, other):
            return self.device < other.device

    monkeypatch.setattr(
        list_ports,
        "comports",
        lambda: [Port(device="/dev/ttyUSB1", description=None), Port(device="/dev/ttyUSB0", description="FT232 [A]")],
    )
    monkeypatch.setattr("pyvisa.ResourceManager.list_resources", lambda *_: ("USB0::0x957::0x8B18::MY1::INSTR",))
    code, out, _ = rramlab("bench", "discover")
    assert code == 0
    says(out, "/dev/ttyUSB0", "FT232 [A]", "/dev/ttyUSB1", "USB0::0x957::0x8B18::MY1::INSTR")
    found = json.loads(rramlab("bench", "discover", "--json")[1])
    assert found["serial_ports"] == [
        {"address": "/dev/ttyUSB0", "description": "FT232 [A]"},
        {"address": "/dev/ttyUSB1", "description": ""},
    ]
    assert found["visa_resources"] == ["USB0::0x957::0x8B18::MY1::INSTR"]


def test_bench_discover_says_what_visa_cannot_do(monkeypatch):
    monkeypatch.setattr(list_ports, "comports", list)

    def fails(*_):
        raise OSError("no bus")

    monkeypatch.setattr("pyvisa.ResourceManager.list_resources", fails)
    code, out, _ = rramlab("bench", "discover")
    assert code == 0
    says(out, "cannot list its resources", "no bus")


def test_a_session_over_sockets_measures_through_the_unit(tmp_path):
    with on_the_table(put(tmp_path / "board", smu("left", "keysight-b2900"))) as table:
        host = table.host(tmp_path / "host")
        with package.open_bench(host) as session:
            (found,) = session.run("route", parameters={"reference": "1"}).routes
    assert found["conductance_S"] == pytest.approx(1e-5, rel=0.01)
