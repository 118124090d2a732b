"""Files that survive a crash, written under a temporary name, synced, renamed; and whose check sums tell damage.

A JSON object begins with the key ``sum``: BLAKE2b of 128 bits over all that follows its line
(``tail -c +47 FILE | b2sum -l 128``). Files of 0.1.0 have none and are read as they are.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
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


def digest(*parts: bytes | memoryview) -> str:
    """Return the check sum that every file here has: 32 hexadecimal digits."""
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(part)
    return found.hexdigest()


def as_changed(path: Path, remedy: str = "restore it from a copy") -> DataError:
    """Return the error of a file whose check sum differs."""
    return DataError(
        f"{path} is not as it was written: its check sum differs, so it is damaged or was edited; {remedy}"
    )


_HEAD = re.compile(rb'\{\n "sum": "([0-9a-f]{32})",\n')
_LIKE_HEAD = re.compile(rb'\{\n "[^"]{3}": "[^"]{32}"')  # the name of the sum, or one of its digits, is damaged


def write_json(path: Path, document: object, synced: bool = True) -> None:
    """Write ``document`` as readable JSON, atomically; an object, which has no key ``sum`` of its own, with its check sum."""
    try:
        data = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # it names a file whose name is not UTF-8
        data = (json.dumps(document, indent=1) + "\n").encode()
    if isinstance(document, dict) and document:
        rest = data.removeprefix(b"{\n")
        data = b'{\n "sum": "' + digest(rest).encode() + b'",\n' + rest
    write_through(path, lambda stream: stream.write(data), synced)


def read_whole(path: Path) -> bytes:
    """Return the text of a JSON file without its check sum, which is compared where there is one.

    Raises:
        DataError: the file is missing, unreadable, or not as it was written.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; restore it from a copy") from error
    head = _HEAD.match(data)
    if head is None:
        if _LIKE_HEAD.match(data):
            raise as_changed(path)
        return data  # of 0.1.0
    rest = data[head.end() :]
    if digest(rest) != head[1].decode():
        raise as_changed(path)
    return b"{\n" + rest


def _parsed(data: bytes) -> Any:
    return json.loads(data.decode())


def read_text(path: Path) -> str:
    """Read a text file that a person wrote: UTF-8, with or without the mark that Windows puts before it.

    Raises:
        DataError: it is missing, unreadable or in another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} cannot be read: it is not in UTF-8, line {line} holds the byte 0x{data[error.start]:02x}. Save it as UTF-8"
        ) from error


def read_json(path: Path, parse: Callable[[bytes], Any] = _parsed) -> Any:
    """Read a JSON file; see :func:`read_whole`. ``parse``: of bytes in UTF-8, with a ValueError for what is no JSON.

    Raises:
        DataError: the file is missing, unreadable, not JSON, or not as it was written.
    """
    data = read_whole(path)
    try:
        try:
            return parse(data)
        except ValueError:
            return _parsed(data)  # the name of a file that is not UTF-8 is refused by quicker parsers
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}; restore it from a copy") from error


def read_object(path: Path, *keys: str, parse: Callable[[bytes], Any] = _parsed) -> dict[str, Any]:
    """Read a JSON object that has ``keys``; see :func:`read_json`.

    Raises:
        DataError: it is missing, unreadable, not an object, lacks a key, or is not as it was written.
    """
    document = read_json(path, parse)
    missing = [key for key in keys if not isinstance(document, dict) or key not in document]
    if missing or not isinstance(document, dict):
        raise DataError(f"{path} is damaged: it has no {', '.join(missing) or 'keys'}; restore it from a copy")
    return document


def write_summed(path: Path, data: bytes) -> None:
    """Write bytes that are no text, atomically, their check sum after them."""
    write_atomic(path, data + bytes.fromhex(digest(data)))


def read_summed(path: Path, length: int) -> bytes:
    """Read the ``length`` bytes that :func:`write_summed` wrote, or as many that 0.1.0 wrote without a check sum.

    Raises:
        DataError: it is missing, unreadable, or not as it was written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; restore it from a copy") from error
    if len(data) != length and data[length:].hex() != digest(data[:length]):
        raise as_changed(path)
    return data[:length]
