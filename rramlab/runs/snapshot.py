"""A die as it was when a run began, kept in the run's folder so that the run can be repeated."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from rramlab.base.arrays import read_archive, with_sum
from rramlab.base.errors import DataError
from rramlab.base.files import write_atomic
from rramlab.runs.store import Run

SNAPSHOT = Path("snapshot") / "die.zip"
DRIVERS = "drivers/"  # of the source-measure units that were on the bench, beside the files of the die
MOMENT = "ledger.json"  # what tells how the die's ledger was
SEEN = "seen.bits"  # which cells the session had read since their last pulse; snapshots of 0.1.0 have none
_LEVEL = 1
_SAMPLE = 16384  # bytes, which tell whether the rest can be made smaller: much of a die is noise that cannot
_WORTHWHILE = 0.75


def keep_snapshot(run: Run, files: Mapping[str, bytes]) -> None:
    """Write ``files``, by name, into ``snapshot/`` of the run's folder. Archives of arrays keep their arrays, bit for bit."""
    packed = {name: _repacked(data) if name.endswith(".npz") else data for name, data in files.items()}
    write_atomic(run.folder / SNAPSHOT, with_sum(_archive(packed)))


def _repacked(data: bytes) -> bytes:
    """Return an archive with the same members, each compressed where that pays."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return _archive({name: archive.read(name) for name in archive.namelist()})


def _archive(members: Mapping[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compresslevel=_LEVEL) as archive:
        for name, data in members.items():
            sample = data[len(data) // 2 :][:_SAMPLE]
            pays = len(zlib.compress(sample, _LEVEL)) < _WORTHWHILE * len(sample)
            archive.writestr(name, data, zipfile.ZIP_DEFLATED if pays else zipfile.ZIP_STORED)
    return stream.getvalue()


def load_snapshot(run: Run) -> dict[str, bytes]:
    """Return what :func:`keep_snapshot` wrote.

    Raises:
        DataError: there is none, or it is damaged.
    """
    path = run.folder / SNAPSHOT
    if not path.exists():
        raise DataError(
            f"run {run.id} has no snapshot of its die ({path}), so it cannot be repeated. Only a simulated die in the same "
            "process can be put back to what it was; a real one, or one behind a wire, has changed for good. A snapshot that "
            "was deleted can be restored from a copy"
        )
    try:
        with zipfile.ZipFile(io.BytesIO(read_archive(path))) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (
        DataError,
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(
            f"{path} is damaged ({error}); restore it from a copy: without it the run cannot be repeated"
        ) from error
