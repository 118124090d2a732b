"""Who works on a bench until it is stopped: a command, a session in a process, a session in a notebook's kernel."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from importlib.util import find_spec
from pathlib import Path

from campaign import processes
from campaign.processes import Child

from rramlab.base.errors import RramlabError
from rramlab.base.host import STATE
from stopping.desk import BEGUN, FOUND, Desk

# Beside what every campaign's processes have imported before they are forked.
_MORE = (
    "rramlab.cli.app",
    "rramlab.cli.run",
    "rramlab.cli.calibrate",
    "rramlab.cli.deploy",
    "rramlab.cli.train",
    "rramlab.calibration.procedures",
    "rramlab.protocols.files",
    "rramlab.training.experiment",
    "rramlab.training.deploying",
    "rramlab.sim.backend",
    "rich.progress",
    "sklearn.datasets",
    "stopping.desk",
)
_SILENCE_S = 120.0
_PROBE_S = 3.0  # so long without a reply, and a kernel is asked for something else
STOPPED = (4, 130)  # exit codes of a command that was stopped: in words, or by Python itself before it had begun


def preload() -> None:
    """Have the processes of this campaign forked from one that has imported what they need."""
    processes.preload(*_MORE)


def notebook_lacks() -> str:
    """Return what is missing for a notebook's kernel, empty if nothing is."""
    missing = [name for name in ("ipykernel", "jupyter_client") if find_spec(name) is None]
    return f"no {' and no '.join(missing)} (pip install ipykernel jupyter_client)" if missing else ""


class Busy:
    """A host at work: it is stopped by ``signal``, or ``kill``; ``end`` waits for it, and returns how it ended and its words.

    It ended ``done``, ``stopped``, ``killed``, ``failed``, ``defect`` or ``hung``. ``found``: what a look at the session that
    is still open has found.
    """

    found: dict | None = None

    def signal(self, number: int) -> None:
        raise NotImplementedError

    def end(self) -> tuple[str, str]:
        raise NotImplementedError


class Command(Busy):
    """``rramlab`` with some words, in a process forked where all is imported."""

    def __init__(self, words: list[str], folder: Path, by_row: bool) -> None:
        self._said = folder / "said.txt"
        self._child = Child(_command, words, str(folder), str(self._said), by_row)
        self.killed = False
        assert self._child.next(_SILENCE_S) == ("begun",)

    def kill(self) -> None:
        self.killed = True
        self._child.kill()

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.signal(number)

    def end(self) -> tuple[str, str]:
        try:
            told = self._child.next(_SILENCE_S)
        except TimeoutError as error:
            self._child.kill()
            return "hung", str(error)
        self._child.kill()
        said = self._said.read_text(encoding="utf-8", errors="replace")
        if told is None:
            if not self.killed and "stopped by the user" in said:  # before a command had begun: it ends at once
                return "stopped", said
            return ("killed", "") if self.killed else ("defect", f"the process is gone without a word; {said}")
        _, code, trace = told
        if trace:
            return "defect", trace
        if "Traceback (most recent call last)" in said:
            return "defect", said
        return "done" if code == 0 else "stopped" if code in STOPPED else "failed", said


def _command(tell, words, folder, said, by_row):
    os.environ[STATE] = str(Path(folder) / "state")
    os.environ["PYTHONUNBUFFERED"] = "1"
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(file, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    _write_rows(by_row)
    sys.argv = ["rramlab", *words]
    code, trace = 0, ""
    tell.send(("begun",))
    try:
        from rramlab.cli import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except KeyboardInterrupt:
        code = 130  # before the command had begun
    except BaseException:  # noqa: BLE001  # a defect, whatever it is: told whole
        trace = traceback.format_exc()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    tell.send(("ended", code, trace))


def _write_rows(by_row):
    """Let a simulated die's file be written after each row, so that a kill in the middle of a pulse finds it half done."""
    if not by_row:
        return
    from rramlab.sim.controller import SimulatedController

    begin = SimulatedController.__init__

    def begun(self, *arguments, **more):
        begin(self, *arguments, **more)
        self.pace = lambda nanoseconds: self.persist() is None

    SimulatedController.__init__ = begun


class InProcess(Busy):
    """A session in a process of its own: opened, used, looked at, and after an interruption gone on with, by one script."""

    def __init__(self, work: str, folder: Path, known: list[str]) -> None:
        self._folder = folder
        self._child = Child(_session, work, str(folder), known)
        assert self._child.next(_SILENCE_S) == ("begun",)

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._child.signal(number)

    def end(self) -> tuple[str, str]:
        try:
            told = self._child.next(_SILENCE_S)
        except TimeoutError as error:
            self._child.kill()
            return "hung", str(error)
        if told is None:
            return "defect", "the process is gone without a word"
        how, said, self.found = told
        return how, said

    def go_on(self) -> tuple[str, str]:
        """Go on in the session that was interrupted, and close it."""
        (self._folder / _GO_ON).touch()
        told = self.end()
        self._child.kill()
        return told


_GO_ON = "go-on"  # a file: no signal is on its way any more


def _session(tell, work, folder, known):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminated)
    desk = Desk(folder, work, known)
    tell.send(("begun",))
    how, said = _tried(lambda: (desk.open(), desk.do()))
    while True:
        try:
            found = desk.look()
            tell.send((how, said, found))
            break
        except KeyboardInterrupt:  # a second one, that came late
            how = "stopped"
    while not (Path(folder) / _GO_ON).exists():
        with contextlib.suppress(KeyboardInterrupt, RramlabError):
            time.sleep(0.001)
    how, said = _tried(lambda: (desk.open(), desk.do()))
    if how == "stopped":  # a termination that came while nothing was done is said again, for it may have been lost
        how, said = _tried(lambda: (desk.open(), desk.do()))
    found = desk.look()
    closed = _tried(desk.close)
    tell.send((how, said, found) if how != "done" else (*closed, found))


def _terminated(number, frame):
    raise KeyboardInterrupt  # a script's own; a session has another while it is open


def _tried(do):
    """Do it, and say how it ended."""
    try:
        do()
    except KeyboardInterrupt:
        return "stopped", ""
    except RramlabError as error:
        return "stopped" if error.exit_code in STOPPED else "failed", f"{type(error).__name__}: {error}"
    except BaseException:  # noqa: BLE001  # a defect, whatever it is: told whole
        return "defect", traceback.format_exc()
    return "done", ""


def _found(folder):
    path = folder / FOUND
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    path.unlink()
    return found


class Kernel:
    """A notebook's kernel, for many cases one after the other."""

    def __init__(self, most: int = 40) -> None:
        """``most``: cases before it is started anew."""
        self._most, self._served = most, 0
        self._manager = self._client = None
        self._folder = tempfile.mkdtemp(prefix="rramlab-kernel-")

    def start(self) -> None:
        from jupyter_client import KernelManager

        self.stop()
        places = {"JUPYTER_RUNTIME_DIR": self._folder, "IPYTHONDIR": self._folder}
        os.environ["JUPYTER_RUNTIME_DIR"] = self._folder
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(env={**os.environ, **places, "OMP_NUM_THREADS": "1"})
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=_SILENCE_S)
        self._served = 0
        # After the kernel's own path: array.py beside this package must not hide the standard library's.
        how, said = self.cell(
            f"import sys; sys.path += [each for each in {sys.path!r} if each not in sys.path]\n"
            "from stopping.hosts import imported; imported()\nfrom stopping.desk import Desk"
        )
        if how != "done":
            raise RuntimeError(f"the kernel cannot import what it needs: {said}")

    def stop(self) -> None:
        if self._manager is not None:
            self._client.stop_channels()
            self._manager.shutdown_kernel(now=True)
            self._manager = self._client = None

    def next_case(self) -> None:
        """Be ready for another case: in a kernel that is alive and not too old."""
        if self._manager is None or self._served >= self._most or not self._manager.is_alive():
            self.start()
        self._served += 1

    def begin(self, code: str) -> str:
        return self._client.execute(code, store_history=True, allow_stdin=False, stop_on_error=False)

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()

    def wait(self, message: str) -> tuple[str, str]:
        """Wait for a cell's reply and return how it ended: done, stopped, failed, defect or hung.

        An interrupt may hit the kernel itself while it sends the reply, which then never comes: the answer to a later cell
        tells so.
        """
        latest = time.monotonic() + _SILENCE_S
        probes = []
        while time.monotonic() < latest:
            reply = self._reply()
            if reply is None:
                probes.append(self.begin("pass"))
            elif reply["parent_header"].get("msg_id") == message:
                return _ending(reply["content"])
            elif reply["parent_header"].get("msg_id") in probes:
                return "stopped", "the kernel lost its reply to the interrupt"
        self.stop()
        return "hung", f"the kernel has not answered within {_SILENCE_S:g} s"

    def _reply(self):
        from queue import Empty

        try:
            return self._client.get_shell_msg(timeout=_PROBE_S)
        except Empty:
            return None

    def cell(self, code: str) -> tuple[str, str]:
        return self.wait(self.begin(code))


def _ending(content):
    if content["status"] == "ok":
        return "done", ""
    name, value = content.get("ename", ""), content.get("evalue", "")
    if name in ("KeyboardInterrupt", "Stopped"):
        return "stopped", value
    if name in {each.__name__ for each in _errors(RramlabError)}:
        return "failed", f"{name}: {value}"
    return "defect", "\n".join(content.get("traceback", [])) or f"{name}: {value}"


def _errors(kind):
    yield kind
    for each in kind.__subclasses__():
        yield from _errors(each)


def imported() -> None:
    """Import what a first cell of a notebook would, so that it is not what is interrupted."""
    import importlib

    for name in _MORE:
        importlib.import_module(name)


class InKernel(Busy):
    """The cells of a notebook: the session is opened in one, used in the next, looked at in a third."""

    def __init__(self, kernel: Kernel, work: str, folder: Path, known: list[str]) -> None:
        self._kernel, self._folder = kernel, folder
        kernel.next_case()
        how, said = kernel.cell(f"desk = Desk({str(folder)!r}, {work!r}, {known!r})\ndesk.open()")
        if how != "done":
            raise RuntimeError(f"the session could not be opened: {said}")
        self._message = kernel.begin("desk.do()")
        _await_line(folder / BEGUN)

    def signal(self, number: int) -> None:
        assert number == signal.SIGINT
        self._kernel.interrupt()

    def end(self) -> tuple[str, str]:
        told = self._kernel.wait(self._message)
        if told[0] != "hung":
            self._look()
        return told

    def _look(self):
        for _ in range(3):  # a second interrupt may come late, and hit the look
            how, said = self._kernel.cell("desk.note()")
            if how != "stopped":
                break
        self.found = _found(self._folder) or {"failed": said or how}

    def go_on(self) -> tuple[str, str]:
        """Go on in the session that was interrupted, and close it."""
        told = self._kernel.cell("desk.open(); desk.do()")
        if told[0] == "hung":
            return told
        self._look()
        closed = self._kernel.cell("desk.close()")
        return told if told[0] != "done" else closed


def _await_line(path: Path) -> None:
    latest = time.monotonic() + _SILENCE_S
    while not path.exists():
        if time.monotonic() > latest:
            raise TimeoutError(f"{path} has not appeared within {_SILENCE_S:g} s")
        time.sleep(0.0001)
