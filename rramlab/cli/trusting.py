"""Asks the person at the terminal whether code that data name may run; see ``rramlab.base.trust``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, TypeVar

import typer

from rramlab.base import trust
from rramlab.base.trust import Unconfirmed

TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Run code outside of rramlab that data name, and remember that for this folder and its content.",
    ),
]
T = TypeVar("T")
# In and out of the terminal that a command was started from, whatever its streams are.
_TERMINAL = ("CONIN$", "CONOUT$") if os.name == "nt" else ("/dev/tty", "/dev/tty")


def confirmed(make: Callable[[], T], trust_code: bool) -> T:
    """Return what ``make`` makes; for each piece of code that it needs and nobody confirmed a person is asked.

    ``make`` is called again after each answer: it changes nothing before it has what it needs.

    Raises:
        Unconfirmed: there is no terminal and no ``--trust-code``, or the person said no.
    """
    while True:
        try:
            return make()
        except Unconfirmed as error:
            if not (trust_code or asked(f"{error.what}, and {error.why}. It runs with all that you may do. Run it?")):
                raise
            trust.confirm(error.folder, error.code)


def asked(question: str) -> bool:
    """Ask the person at the terminal that this command was started from; no where there is none, or no answer."""
    try:
        with ExitStack() as opened:
            there = opened.enter_context(open(_TERMINAL[1], "w", encoding="utf-8", errors="backslashreplace"))  # noqa: PTH123
            here = opened.enter_context(open(_TERMINAL[0], encoding="utf-8", errors="replace"))  # noqa: PTH123
            if os.name == "posix" and os.tcgetpgrp(here.fileno()) != os.getpgrp():
                return False  # in the background the question would stop the command
            there.write(f"{question} [y/N] ")
            there.flush()
            return here.readline().strip().lower() in {"y", "yes"}
    except OSError:
        return False
