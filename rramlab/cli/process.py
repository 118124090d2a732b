"""The process of one command: its streams, its signals until a command has begun, its exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from rramlab.base.errors import RramlabError, Stopped
from rramlab.cli.streams import outlets

_ENDING = (signal.SIGINT, signal.SIGTERM)
_STOPPED = "stopped by the user"


def run() -> NoReturn:
    """Answer the command line of this process, and end it."""
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for some among all packages takes 15 ms
    _raise.process = os.getpid()
    for number in _ENDING:
        if (
            signal.getsignal(number) is not signal.SIG_IGN
        ):  # whoever started it in the background, or with nohup, wants that
            signal.signal(number, _too_early)
    code = answer(sys.argv[1:])
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def answer(words: Sequence[str]) -> int:
    """Execute one command line and return its exit code. What it prints never decides about what it does."""
    with outlets() as (out, err):
        code = _answer(words)
        out.flush()
        if out.lost is not None:
            reason = getattr(out.lost, "strerror", None) or out.lost
            err.write(
                f"error: standard output can no longer be written ({reason}); a part of what the command said is lost. What it "
                "did is done and kept: do not repeat it for its words\n"
            )
            code = code or RramlabError.exit_code
    return code


def _answer(words: Sequence[str]) -> int:
    from rramlab.cli.output import Ended, print_json

    code: int | str | None = 0
    try:
        from rramlab.cli.app import app

        app(args=list(words))
    except Ended as end:
        code = end.code
    except (KeyboardInterrupt, Stopped):  # a further one, while the first was being answered
        code = Stopped.exit_code
        sys.stderr.write(f"error: {_STOPPED}\n")
    except SystemExit as end:
        # 130 is how typer ends when it is interrupted outside a command of ours.
        code = Stopped.exit_code if end.code == 130 else end.code
        # A usage error that typer found before any command began: it is in words on stderr already.
        if code and "--json" in words:
            print_json({"error": "usage: see stderr, or --help", "exit_code": code})
    return code if isinstance(code, int) else 0 if code is None else RramlabError.exit_code


def begun() -> None:
    """From now on there may be something to bring to an end: Ctrl-C and termination are exceptions."""
    for number in _ENDING:
        if signal.getsignal(number) is _too_early:
            signal.signal(number, _raise)


def stop_wished() -> bool:
    """Whether a signal has ended the command, even if what it interrupted has made another exception of that."""
    return _raise.wished


def _too_early(number: int, frame: object) -> NoReturn:
    """Nothing has begun. An exception in the middle of an import is swallowed by some packages, so the process ends here."""
    with contextlib.suppress(OSError):
        os.write(2, f"error: {_STOPPED}\n".encode())
    os._exit(Stopped.exit_code)


class _Raise:
    """Raise what a signal means, and remember that it did."""

    wished = False
    process = 0

    def __call__(self, number: int, frame: object) -> None:
        if os.getpid() != self.process:  # a worker that was forked ends as any process does
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            return
        self.wished = True
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(f"{_STOPPED} (terminated)")


_raise = _Raise()
