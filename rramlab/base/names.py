"""Names that become folders: dies, trainings, deployments."""

from __future__ import annotations

import re

from rramlab.base.errors import UsageError

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def checked(name: str, what: str) -> str:
    """Return ``name`` if it can be a folder's.

    Raises:
        UsageError: it would leave its folder, or hold characters that some file system refuses.
    """
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"found the {what} {name!r}, expected up to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
        )
    return name
