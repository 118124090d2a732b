"""From bench.yaml to an emulated bench on sockets, and the bench.yaml with which a host reaches it."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rramlab.base.errors import UsageError
from rramlab.base.files import write_through
from rramlab.base.folders import ROOMS, listing
from rramlab.drivers.bench import BenchDescription
from rramlab.sim.backend import open_die, simulated_board, state_file
from rramlab.sim.emulator.faults import WireFaults
from rramlab.sim.emulator.server import Server, admitted
from rramlab.sim.routes import Terminals
from rramlab.sim.smus.inmemory import simulated_smu


@dataclass(frozen=True)
class Served:
    """An emulated bench and where its instruments are reached."""

    server: Server
    tcp: str
    terminal: str | None
    smus: dict[str, str]  # name -> address


def serve_bench(
    description: BenchDescription,
    host: str,
    port: int,
    smu_port: int,
    terminal: bool,
    faults: WireFaults,
    pace: float,
    bytes_per_s: float,
    forget: bool,
    token: bytes | None = None,
    isolated: bool = False,
) -> Served:
    """Put the bench's one die, its board and its SMUs on sockets; the board has just been switched on.

    ``smu_port``: of the first SMU, the others follow; 0 for any. ``forget``: the board has no memory of operation ids.
    ``token``, ``isolated``: see :class:`Server`. SMUs know no token: with one they are for this computer alone, unless the
    network is isolated.

    Raises:
        UsageError: the bench is real, has several dies, or a port is taken. Refused: others could reach it.
    """
    file = description.file
    if file.backend != "simulated":
        raise UsageError(f"{description.located.path} is a real bench; only a simulated one can be served")
    if len(file.dies) != 1:
        raise UsageError(f"the bench has {len(file.dies)} dies and a board one socket: choose the die with --die")
    (entry,) = file.dies
    with suppress(OSError):  # there is no such host: said where it is listened to
        admitted(host, isolated or token is not None)
    board = simulated_board(file, description.board)
    controller = open_die(entry, board, state_file(description.data, entry.id))
    controller.power_cycle(forget)
    server = Server(controller, faults, pace, bytes_per_s, token, isolated)
    try:
        at, number = server.listen(host, port)
        smu_host = host if isolated or token is None else "127.0.0.1"
        terminals = Terminals([controller])
        smus = {}
        for index, smu in enumerate(file.smus):
            emulated = simulated_smu(smu, description.smu_files[smu.name].model, terminals)
            smu_at, smu_number = server.listen_smu(emulated, smu_host, smu_port and smu_port + index)
            smus[smu.name] = _url(smu_at, smu_number)
        return Served(server, _url(at, number), server.terminal() if terminal else None, smus)
    except BaseException:
        server.close()
        raise


def _url(host: str, port: int) -> str:
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def write_host(
    served: Served,
    description: BenchDescription,
    folder: Path,
    by_terminal: bool,
    token: dict[str, str] | None = None,
) -> Path:
    """Write the bench.yaml of a host that works with this emulated bench: a folder of its own.

    This bench's own drivers and protocols are copied there, and what is known of the die here, its ledger above all: its
    life goes on under the host. ``token``: the key of bench.yaml that says where it is kept; not needed on a terminal.

    Raises:
        UsageError: there is a bench.yaml already; it is left as it is.
    """
    path = folder / "bench.yaml"
    if path.exists():
        raise UsageError(f"{path} exists; nothing was changed. Choose another folder for the host")
    from ruamel.yaml import YAML

    writer = YAML()  # round trip: limits stay as a person has written them
    document = writer.load(description.located.path.read_text(encoding="utf-8"))
    document["name"] = f"host of {description.file.name}"
    document["backend"] = "wire"
    document["controller"].pop("options", None)
    at_terminal = by_terminal and served.terminal is not None
    document["controller"]["address"] = served.terminal if at_terminal else served.tcp
    document["controller"].update({} if at_terminal or token is None else token)
    document["dies"] = [{"id": die.id} for die in description.file.dies]
    for smu in document.get("smus", []):
        smu.pop("options", None)
        smu["address"] = served.smus[smu["name"]]
    write_through(path, lambda stream: writer.dump(document, stream))
    for room in ROOMS:
        for name, own in listing(description.root, room).items():
            copy = folder / room / f"{name}.yaml"
            if own.origin == "bench" and not copy.exists():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(own.path, copy)
    for die in description.file.dies:
        state = state_file(description.data, die.id)
        known = folder / "data" / "dies" / die.id
        known.mkdir(parents=True, exist_ok=True)
        for kept in state.parent.iterdir():
            if kept != state and not (known / kept.name).exists():
                shutil.copyfile(kept, known / kept.name)
    return path
