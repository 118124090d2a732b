"""Asks the person at the terminal whether code that data name may run; see ``rramlab.base.trust``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from rramlab.base import trust
from rramlab.base.trust import Unconfirmed
from rramlab.cli.asking import ask

TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        help="Run code outside of rramlab that data name, and remember that for this folder and its content.",
    ),
]
T = TypeVar("T")


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
            if not (trust_code or ask(f"{error.what}, and {error.why}. It runs with all that you may do. Run it?")):
                raise
            trust.confirm(error.folder, error.code)
