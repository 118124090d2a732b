"""The command line. Commands import what they need when they run, so that ``--help`` is quick."""

from __future__ import annotations


def main() -> None:
    """Entry point of the command ``rramlab``."""
    import os
    import signal
    import sys

    from rramlab.base.errors import Stopped
    from rramlab.cli.output import Ended, print_json

    process = os.getpid()

    def terminated(number: int, frame: object) -> None:
        if os.getpid() == process:
            raise Stopped("stopped by the user (terminated)")
        signal.signal(number, signal.SIG_DFL)  # a worker that was forked ends as any process does
        signal.raise_signal(number)

    if signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN:  # what was ignored stays so
        signal.signal(signal.SIGTERM, terminated)
    code: int | str | None = 0
    try:
        from rramlab.cli.app import app

        app()
    except Ended as end:
        code = end.code
    except (KeyboardInterrupt, Stopped):  # a further one, while the first was being answered
        code = Stopped.exit_code
        sys.stderr.write("error: stopped by the user\n")
    except SystemExit as end:
        # 130 is how typer ends when it is interrupted outside a command of ours.
        code = Stopped.exit_code if end.code == 130 else end.code
        # A usage error that typer found before any command began: it is in words on stderr already.
        if code and "--json" in sys.argv:
            print_json({"error": "usage: see stderr, or --help", "exit_code": code})
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
