"""Archives of arrays (``.npz``): written atomically, read whole or not at all.

The check sums of a zip archive are over its members one by one: a flipped bit in its directory can hide some of them. So there
is one more, over all of it, as the archive's comment. Archives of 0.1.0 have none.
"""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import dtype_to_descr, write_array_header_1_0

from rramlab.base.errors import DataError
from rramlab.base.files import as_changed, digest, write_atomic, write_through

# What numpy and zipfile raise for damage, by where in the file it lies.
_DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    EOFError,
    TypeError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    tokenize.TokenError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)

Arrays = dict[str, npt.NDArray[Any]]

# How arrays are packed in HDF5 files: read by every build of HDF5, which LZF is not, and with check sums. A higher level takes
# more time than it saves room.
PACKED: dict[str, Any] = {"compression": "gzip", "compression_opts": 1, "shuffle": True, "fletcher32": True}
# The oldest form of HDF5 files whose metadata all have check sums, too.
HDF5_FORM = ("v110", "v110")


_COMMENT = b"rramlab sum of what is before it: "
_LENGTH = len(_COMMENT) + 32


def with_sum(archive: bytes) -> bytes:
    """Return a zip archive without a comment with its check sum as its comment."""
    told = archive[:-2] + _LENGTH.to_bytes(2, "little")
    return told + _COMMENT + digest(told).encode()


def read_archive(path: Path) -> bytes:
    """Read a zip archive and compare its check sum, where it has one.

    Raises:
        OSError: it cannot be read. DataError: it is not as it was written.
    """
    data = path.read_bytes()
    said = data[-_LENGTH:]
    alike = sum(one == other for one, other in zip(said, _COMMENT, strict=False))
    end = data.rfind(b"PK\5\6", -2 * (_LENGTH + 22))  # the directory's last record says how long the comment is
    cut = end >= 0 and int.from_bytes(data[end + 20 : end + 22], "little") != len(data) - end - 22
    if (cut or alike > len(_COMMENT) // 2) and said != _COMMENT + digest(memoryview(data)[:-_LENGTH]).encode():
        raise as_changed(path)
    return data


def save_arrays(path: Path, arrays: Arrays, compressed: bool = True) -> None:
    """Replace ``path`` by an archive of ``arrays``; a reader sees the old file or the whole new one."""
    write: Callable[..., None] = np.savez_compressed if compressed else np.savez
    stream = io.BytesIO()
    write(stream, **arrays)
    write_atomic(path, with_sum(stream.getvalue()))


@dataclass(frozen=True)
class InParts:
    """An array that need not be in memory: its type and shape, and what it is made of, in C order, part by part."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    parts: Iterable[npt.NDArray[Any]]


def save_in_parts(path: Path, arrays: Iterable[tuple[str, InParts]]) -> None:
    """Write a compressed archive as :func:`save_arrays` does, with no more than one part of one array in memory."""

    def write(stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    head = {"descr": dtype_to_descr(array.dtype), "fortran_order": False, "shape": array.shape}
                    write_array_header_1_0(file, head)
                    for part in array.parts:
                        file.write(np.ascontiguousarray(part, array.dtype).data)

    write_through(path, write)


def load_arrays(path: Path) -> Arrays:
    """Read every array of an archive, each checked against its checksum.

    Raises:
        DataError: the file is missing, truncated or damaged.
    """
    try:
        data = read_archive(path)
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            if data[-22:-18] == b"PK\5\6" and int.from_bytes(data[-12:-10], "little") != len(file.files):
                raise ValueError("its directory does not list all that is in it")
            return {name: file[name] for name in file.files}
    except _DAMAGE as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else "not a whole archive of arrays"
        raise DataError(f"{path} cannot be read: {what}") from error
