"""``sim serve``: the simulated bench on sockets and a terminal, as a host meets a real one."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rramlab.base.errors import UsageError
from rramlab.cli.options import BenchPath, DieName, Json
from rramlab.cli.output import Output, command, note_bench

if TYPE_CHECKING:
    from rramlab.sim.emulator.faults import WireFaults


@command
def serve(
    host: Annotated[
        str,
        typer.Option(
            "--host",
            help="Address to listen on. Others can reach all but 127.0.0.1: those need a token, or an isolated network.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="TCP port of the board; 0: any that is free.")
    ] = 0,
    smu_port: Annotated[
        int, typer.Option("--smu-port", min=0, max=65000, help="Of the first SMU, the others follow; 0: any.")
    ] = 0,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="A file with the token that a host of the board must know.")
    ] = None,
    token_env: Annotated[
        str | None, typer.Option("--token-env", metavar="NAME", help="The same: an environment variable that holds it.")
    ] = None,
    isolated_network: Annotated[
        bool,
        typer.Option("--isolated-network", help="Nobody but this bench's hosts is on the network: no token is needed."),
    ] = False,
    pty: Annotated[
        bool, typer.Option("--pty", help="Also serve the board on a pseudo-terminal, as a serial port.")
    ] = False,
    write: Annotated[
        Path | None, typer.Option("--write-host", metavar="DIR", help="Make DIR/bench.yaml for a host of this bench.")
    ] = None,
    pace: Annotated[
        float, typer.Option("--pace", min=0, help="Real seconds a simulated second of pulses takes; 0: none at all.")
    ] = 0.0,
    bit_rate: Annotated[
        float, typer.Option("--bit-rate", min=0, help="Of the board's links, bit/s; 0: no limit.")
    ] = 0.0,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="NAME=SHARE",
            help="Share of frames that are hit: drop, damage, duplicate, late, split, stall, disconnect, reboot, amnesia; "
            "seed=N draws others.",
        ),
    ] = None,
    forget: Annotated[bool, typer.Option("--forget", help="The board has no memory of operation ids.")] = False,
    die: DieName = None,
    bench: BenchPath = None,
    as_json: Json = False,
) -> None:
    """Serve the simulated board, its die and its SMUs until Ctrl-C. Each start is a power-up of the board."""
    from rramlab.drivers.bench import describe_bench
    from rramlab.drivers.wire.token import token_of
    from rramlab.sim.emulator.serving import serve_bench, write_host

    out = Output(as_json)
    description = describe_bench(bench, die)
    note_bench(description)
    token = token_of(token_file, token_env, flags=True)
    known = (
        {"token_file": str(token_file.absolute())} if token_file else {"token_env": token_env} if token_env else None
    )
    with description.ownership:
        served = serve_bench(
            description, host, port, smu_port, pty, parse_faults(faults or []), pace, bit_rate / 8, forget, token,
            isolated_network,
        )  # fmt: skip
        with served.server as server:
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    signal.signal(number, lambda *_: server.stop())
            path = write_host(served, description, write, pty, known) if write is not None else None
            table = out.table(
                "instrument", "address", title=f"{description.file.name}: die {description.file.dies[0].id}"
            )
            table.add_row(f"board {description.file.controller.board}", served.tcp)
            if served.terminal:
                table.add_row("the same", served.terminal)
            for name, address in served.smus.items():
                table.add_row(name, address)
            out.say(table)
            if path is not None:
                out.say(f"A host's bench: {path}; try: rramlab bench check --bench {path.parent}")
            out.say("Serving until Ctrl-C.")
            out.finish(
                {
                    "tcp": served.tcp,
                    "terminal": served.terminal,
                    "smus": served.smus,
                    "host_bench": str(path) if path else None,
                }
            )
            server.serve()
    out.say("The board is in its safe state and off.")


def parse_faults(pairs: list[str]) -> WireFaults:
    """Read ``name=share`` as written on a command line.

    Raises:
        UsageError: no such fault, or no share.
    """
    from pydantic import ValidationError

    from rramlab.base.yamlfile import explain
    from rramlab.protocols.files import parse_assignments
    from rramlab.sim.emulator.faults import WireFaults

    try:
        return WireFaults.model_validate_strings(parse_assignments(pairs))
    except ValidationError as error:
        raise UsageError(f"--fault: {explain(error.errors()[0], WireFaults)}") from None
