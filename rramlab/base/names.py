"""Names that people give: what each kind may be made of, and how that is said."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from rramlab.base.errors import InvalidValue, UsageError
from rramlab.base.numbers import shown

Word = TypeVar("Word", bound=str)

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # becomes a folder: dies, trainings, deployments
KEY = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$"  # of a run, given by whoever schedules it
WORD = r"^[a-z][a-z0-9_-]*$"  # data sets, values of loops
PROTOCOL = r"^[a-z][a-z0-9-]*$"
CLASS = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"

IN_WORDS = {
    NAME: "up to 64 letters, digits, '.', '_' or '-', the first a letter or digit",
    KEY: "up to 128 letters, digits or . _ : / @ + -, the first a letter or digit",
    WORD: "lower-case letters, digits, '_' or '-', the first a letter",
    PROTOCOL: "lower-case letters, digits or '-', the first a letter",
    CLASS: "module:Class, such as our_lab.smus:OurUnit",
}


def text(value: object, what: str) -> str:
    """Return a text as it was given.

    Raises:
        InvalidValue: it is none.
    """
    if not isinstance(value, str):
        raise InvalidValue(f"{what} is {shown(value)}, expected text")
    return value


def one_of(value: object, what: str, known: Sequence[Word]) -> Word:
    """Return one of the words that are known.

    Raises:
        InvalidValue: it is none of them.
    """
    for word in known:
        if isinstance(value, str) and value == word:
            return word
    raise InvalidValue(f"the {what} is {shown(value)}, expected one of {', '.join(known)}")


# What Windows keeps for devices, with any ending.
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


def fresh(name: str, what: str, among: Path) -> str:
    """Return ``name`` if a new folder in ``among`` can be called so on every system, so that it can be copied to any.

    Raises:
        UsageError: as :func:`checked`; a name that Windows keeps for itself or cuts off; or one that differs from that of
            another folder there only by capitals, which are the same to Windows and macOS.
    """
    checked(name, what)
    if _DEVICES.fullmatch(name) or name.endswith("."):
        raise UsageError(
            f"found the {what} {name!r}, which is no folder's name on Windows; nothing was done. Choose another"
        )
    alike = [each.name for each in among.glob("*") if each.name != name and each.name.casefold() == name.casefold()]
    if alike:
        raise UsageError(
            f"found the {what} {name!r}, but there is {alike[0]!r} in {among}: where a disk does not tell capitals apart the "
            "two are one; nothing was done. Choose another"
        )
    return name


def checked(name: str, what: str, form: str = NAME) -> str:
    """Return ``name`` if it can be a folder's, or is of another of the forms above.

    Raises:
        UsageError: it is not: it would leave its folder, say, or hold characters that some file system refuses.
    """
    if not re.fullmatch(form, text(name, f"the {what}")):
        raise UsageError(f"found the {what} {shown(name)}, expected {IN_WORDS[form]}")
    return name
