"""Names that people give: what each kind may be made of, and how that is said."""

from __future__ import annotations

import re
from pathlib import Path

from rramlab.base.errors import UsageError

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
    if not re.fullmatch(form, name):
        raise UsageError(f"found the {what} {name!r}, expected {IN_WORDS[form]}")
    return name
