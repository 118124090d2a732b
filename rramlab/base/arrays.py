"""Archives of arrays (``.npz``): written atomically, read whole or not at all."""

from __future__ import annotations

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
from rramlab.base.files import write_through

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


def save_arrays(path: Path, arrays: Arrays, compressed: bool = True) -> None:
    """Replace ``path`` by an archive of ``arrays``; a reader sees the old file or the whole new one."""
    write: Callable[..., None] = np.savez_compressed if compressed else np.savez
    write_through(path, lambda stream: write(stream, **arrays))


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
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _DAMAGE as error:
        what = error.strerror if isinstance(error, OSError) and error.strerror else "not a whole archive of arrays"
        raise DataError(f"{path} cannot be read: {what}") from error
