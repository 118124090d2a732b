"""What a run was made with: enough for another person to repeat it."""

from __future__ import annotations

import getpass
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("numpy", "scipy", "h5py", "pydantic", "torch")


def collect() -> dict[str, Any]:
    """Return program, machine and versions as plain data; imports none of the packages it names."""
    return {
        "rramlab": _version("rramlab"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": _user(),
        "command": sys.argv,
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run without a user entry
        return "unknown"
