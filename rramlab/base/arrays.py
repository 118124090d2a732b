"""Archives of arrays (``.npz``): written atomically, read whole or not at all."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.base.files import write_atomic

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
    stream = io.BytesIO()
    write: Callable[..., None] = np.savez_compressed if compressed else np.savez
    write(stream, **arrays)
    write_atomic(path, stream.getvalue())


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
