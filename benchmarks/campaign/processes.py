"""The emulated bench and its host as processes that can be killed, and what they tell the one who kills them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import traceback
from pathlib import Path

import rramlab
from rramlab.base.errors import RramlabError
from rramlab.drivers.bench import describe_bench
from rramlab.runs.store import list_runs
from rramlab.sim.emulator.faults import WireFaults
from rramlab.sim.emulator.serving import serve_bench, write_host

# Forked from one process that has everything imported: a start takes hundredths of a second instead of most of one.
_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOADED = (
    "rramlab.engine.session",
    "rramlab.runs.hdf5",
    "rramlab.drivers.wire.backend",
    "rramlab.sim.emulator.serving",
    "rramlab.sim.smus.instruments",
    "ruamel.yaml",
    "serial",
    "h5py",
)
_CONTEXT.set_forkserver_preload(list(_PRELOADED))


def preload(*more: str) -> None:
    """Have more modules imported where processes are forked; before the first of them."""
    _CONTEXT.set_forkserver_preload([*_PRELOADED, *more])


class Child:
    """A process and what it sends: ``function(tell, *arguments)``."""

    def __init__(self, function, *arguments):
        self._heard, tell = _CONTEXT.Pipe(duplex=False)
        self._process = _CONTEXT.Process(target=function, args=(tell, *arguments), daemon=True)
        self._process.start()
        tell.close()

    def next(self, timeout_s):
        """Return what it sends next, None once it has ended.

        Raises:
            TimeoutError: it sent nothing.
        """
        if not self._heard.poll(timeout_s):
            raise TimeoutError(f"process {self._process.pid} has said nothing for {timeout_s:g} s")
        try:
            return self._heard.recv()
        except (EOFError, OSError):
            return None

    def kill(self):
        """SIGKILL; return when that was, by ``time.monotonic``."""
        at = time.monotonic()
        self._process.kill()
        self._process.join()
        return at

    def signal(self, number):
        os.kill(self._process.pid, number)

    def end(self, timeout_s=20.0):
        """SIGTERM; return the exit code."""
        self._process.terminate()
        self._process.join(timeout_s)
        code = self._process.exitcode
        self._process.kill()
        self._process.join()
        return code


class EmulatedBench:
    """A simulated bench on sockets, in a process; switched on again it may be elsewhere and have forgotten.

    ``bench``, ``host``: folders, of the emulated bench and of the host that works with it. ``log``: it tells what its lines do.
    """

    def __init__(self, bench: Path, host: Path, by_terminal: bool, faults: WireFaults, pace: float, log: bool = False):
        self.bench, self.host, self.by_terminal = bench, host, by_terminal
        self._made_with = faults, pace, log
        self._counts = _CONTEXT.Array("Q", 2, lock=False)
        self.frames = self.damaged = 0  # that boards received, all power-ups together
        self.port, self.address = 0, ""
        self._child = None
        self.start()

    def start(self, forget=False, same_port=False):
        """Switch on, and give the host the address where the board is now."""
        port = self.port if same_port else 0
        self._child = Child(
            _serve, self.bench, self.host, port, self.by_terminal, forget, self._counts, *self._made_with
        )
        answer = self._child.next(30)
        if answer is None or answer[0] != "serving":
            raise RuntimeError(f"the emulated bench in {self.bench} did not start: {answer}")
        _, address, self.port = answer
        if address != self.address and self.address:
            path = self.host / "bench.yaml"
            path.write_text(path.read_text(encoding="utf-8").replace(self.address, address), encoding="utf-8")
        self.address = address

    def next(self, timeout_s):
        """Return what the board logs next: ``(what, when, …)``."""
        return self._child.next(timeout_s)

    def kill(self):
        """SIGKILL: what was not yet in the state file has not happened to the die."""
        self._child.kill()
        self._count()

    def cut_power(self):
        """Let the board lose its supply for a moment, and its memory of operation ids; die and links stay as they are."""
        self._child.signal(signal.SIGUSR1)

    def end(self):
        """Switch off in order; return the exit code."""
        code = self._child.end()
        self._count()
        return code

    def _count(self):
        self.frames, self.damaged = self.frames + self._counts[0], self.damaged + self._counts[1]
        self._counts[:] = [0, 0]


def _serve(tell, bench, host, port, by_terminal, forget, counts, faults, pace, log):
    """The process of an emulated bench, as ``rramlab sim serve`` is one."""
    description = describe_bench(bench)
    served = serve_bench(description, "127.0.0.1", port, 0, by_terminal, faults, pace, 0.0, forget)
    server, firmware = served.server, served.server.firmware
    receive = firmware.receive

    def counted(frame, send):
        counts[frame is None] += 1
        receive(frame, send)

    cuts = []

    def watch():
        if cuts:
            cuts.clear()
            firmware.reboot(forget=True)
        looked_after()

    looked_after = firmware.watch
    firmware.receive, firmware.watch = counted, watch
    signal.signal(signal.SIGUSR1, lambda *_: cuts.append(1))  # power is cut where the loop looks after the switch
    if log:
        _log(tell, firmware)
    with server:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: server.stop())
        if not (host / "bench.yaml").exists():
            write_host(served, description, host, by_terminal)
        tell.send(("serving", served.terminal or served.tcp, int(served.tcp.rpartition(":")[2])))
        server.serve()


def _log(tell, firmware):
    """Tell when a pulse train or a route begins, and when the lines have come to 0 V: by the controller itself."""
    controller = firmware.controller
    pulse, route, safe_state = controller.pulse, controller.route, controller.safe_state
    pulsing = []

    def logged_pulse(op_id, kind, cells, *rest):
        pulsing.append(op_id)
        tell.send(("pulse", time.monotonic(), int(cells.count)))
        try:
            return pulse(op_id, kind, cells, *rest)
        finally:
            pulsing.pop()

    def logged_route(target, *rest):
        route(target, *rest)
        tell.send(("route", time.monotonic(), controller.status().routed))

    def logged_safe_state():
        safe_state()
        now, status = time.monotonic(), controller.status()
        found = {
            "live": status.live or bool(pulsing),
            "routed": status.routed,
            "pulses": int(controller.die.state.pulses.sum()),
            "dead_man": any("dead man" in text for text in firmware.errors),
        }
        tell.send(("safe", now, found))

    controller.pulse, controller.route, controller.safe_state = logged_pulse, logged_route, logged_safe_state


def work(tell, host, plan, arm):
    """The process of a host: start the plan, or go on with the run that there is, and tell how far it is."""
    tell.send(("operation", -1, 0))
    try:
        with rramlab.open_bench(host) as session:
            (controller,) = session.bench.controllers.values()

            def listen(progress):
                tell.send(("operation", progress.done, controller.resent))

            known = list_runs(session.runs)
            result = (
                session.resume(known[0].id, arm=arm, listen=listen)
                if known
                else session.run(plan, arm=arm, listen=listen)
            )
        tell.send(("done", sum(each["unknown"] for each in result.reconciled), ""))
    except RramlabError as error:
        tell.send(("failed", type(error).__name__, str(error)))
    except BaseException:  # noqa: BLE001  # a defect, whatever it is: told whole
        tell.send(("defect", "", traceback.format_exc()))
