"""Files that survive a crash: written under a temporary name, synced, renamed."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from rramlab.base.errors import DataError


def write_through(path: Path, write: Callable[[IO[bytes]], Any], synced: bool = True) -> None:
    """Let ``write`` fill a temporary file beside ``path``, sync it, and rename it over ``path``.

    ``synced``: False for what is worth nothing after a loss of power.

    A reader sees the old file or the whole new one. On any failure the temporary file is removed and the old
    file is untouched.
    """
    temporary = beside(path)
    try:
        with temporary.open("xb") as stream:
            write(stream)
            stream.flush()
            if synced:
                os.fsync(stream.fileno())
        temporary.replace(path)
        if synced:
            sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def beside(path: Path) -> Path:
    """Return a new temporary name in the folder of ``path``, which is made if it is not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def refuse_unwritable(path: Path, what: str) -> None:
    """See that the file ``path`` can be written before anything is done whose result must go there. Nothing is left behind.

    Raises:
        DataError: a folder has its name, or nothing can be written there. Nothing was done.
    """
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder; name a file")
        there = path.parent.absolute()
        while not there.exists():  # what is missing is made when it is written
            there = there.parent
        probe = beside(there / "probe")
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise DataError(
            f"{what} cannot be written to {path} ({error.strerror or error}); nothing was energised, nothing measured. Name "
            "another place, or make that one writable"
        ) from error


def sync_folder(folder: Path) -> None:
    """Make a rename last through a power cut; Windows has no such call and needs none."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_atomic(path: Path, data: bytes) -> None:
    """Replace ``path`` by ``data`` so that a reader sees either the old file or the whole new one."""
    write_through(path, lambda stream: stream.write(data))


def write_json(path: Path, document: object, synced: bool = True) -> None:
    """Write ``document`` as readable JSON, atomically."""
    data = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
    write_through(path, lambda stream: stream.write(data), synced)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}; restore it from a copy") from error


def read_object(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON object that has ``keys``.

    Raises:
        DataError: it is missing, unreadable, not an object, or lacks a key.
    """
    document = read_json(path)
    missing = [key for key in keys if not isinstance(document, dict) or key not in document]
    if missing or not isinstance(document, dict):
        raise DataError(f"{path} is damaged: it has no {', '.join(missing) or 'keys'}; restore it from a copy")
    return document
