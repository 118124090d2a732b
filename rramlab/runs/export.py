"""A run's data for other programs: tidy tables, NumPy arrays, or the consolidated HDF5 file."""

from __future__ import annotations

import csv
import io
import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rramlab.base.arrays import InParts, save_in_parts
from rramlab.base.errors import UsageError
from rramlab.base.files import write_through
from rramlab.runs.hdf5 import write_h5
from rramlab.runs.store import Run

Format = Literal["csv", "npz", "h5"]
_KINDS = ("conductance", "product", "current", "codes")  # a table's group has one of these; cells have codes as well
_MOST_BYTES = 1 << 22  # of an array that are unpacked at once
Table = tuple[list[str], Iterator[tuple[Any, ...]]]


def export(run: Run, form: Format, output: Path) -> list[Path]:
    """Write all whole blocks of a run; return the files. The run's own folder is left as it is.

    ``csv``: ``output`` is a folder, with one table a data set: a line a cell and round, with row, column, round, the labels
    and coordinates of its loops, conductance in S and its codes; a line a point of a curve; a line a vector and output of
    a product; a line a repeat and column of a reference read. ``npz``: every array of the HDF5 file by its path, their
    units as JSON in the array ``units``. ``h5``: that file, see :func:`rramlab.runs.hdf5.write_h5`.

    Raises:
        UsageError: ``output`` cannot take it, or a file to be written is there already; nothing was written. DataError: a
            block is damaged.
    """
    if form == "csv" and output.exists() and not output.is_dir():
        raise UsageError(f"{output} is a file; CSV is one table a data set: name a folder")
    if form != "csv" and output.is_dir():
        raise UsageError(f"{output} is a folder; name the file to be written, such as {output / run.id}.{form}")
    if form != "csv":
        _refuse_existing([output])
    if form == "h5":
        output.parent.mkdir(parents=True, exist_ok=True)
        return [write_h5(run, output)]
    with tempfile.TemporaryDirectory() as folder:
        gathered = write_h5(run, Path(folder) / "run.h5")
        return _npz(gathered, output) if form == "npz" else _csv(gathered, output)


def _refuse_existing(paths: list[Path]) -> None:
    there = [str(path) for path in paths if path.exists()]
    if there:
        what = "is there already and is" if len(there) == 1 else "are there already and are"
        raise UsageError(f"{', '.join(there)} {what} left alone; export to a new name, or move what is there away")


def _npz(gathered: Path, output: Path) -> list[Path]:
    import h5py

    found: dict[str, Any] = {}
    with h5py.File(gathered) as file:
        file.visititems(lambda name, item: found.update({name: item} if isinstance(item, h5py.Dataset) else {}))
        units = np.array(json.dumps({name: str(item.attrs["units"]) for name, item in found.items()}))
        arrays = ((name, _in_parts(item)) for name, item in found.items())
        save_in_parts(output, (*arrays, ("units", InParts(units.dtype, (), [units]))))
    return [output]


def _in_parts(item: Any) -> InParts:
    """Return an array of the HDF5 file: what no round touched is not stored there, and unpacked may fill the memory."""
    import h5py

    if h5py.check_string_dtype(item.dtype):  # NumPy has text of fixed length, and would need pickle for any other
        text = item.asstr()[()].astype(np.str_)
        return InParts(text.dtype, text.shape, [text])
    leading = next(
        axis for axis in range(item.ndim + 1) if math.prod(item.shape[axis:]) * item.dtype.itemsize <= _MOST_BYTES
    )
    return InParts(item.dtype, item.shape, (item[at] for at in np.ndindex(item.shape[:leading])))


def _csv(gathered: Path, output: Path) -> list[Path]:
    import h5py

    written: list[Path] = []
    with h5py.File(gathered) as file:
        tables: dict[str, Any] = {}

        def take(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group) and set(_KINDS) & set(item):
                tables[name.replace("/", "-")] = item

        file.visititems(take)
        _refuse_existing([output / f"{name}.csv" for name in tables])
        output.mkdir(parents=True, exist_ok=True)
        for name, group in tables.items():
            head, lines = _table(group)
            path = output / f"{name}.csv"

            def write(stream: Any, head: list[str] = head, lines: Iterator[tuple[Any, ...]] = lines) -> None:
                text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
                table = csv.writer(text)
                table.writerow(head)
                table.writerows(lines)
                text.detach()  # the file below is closed by whoever opened it

            write_through(path, write)
            written.append(path)
    return written


def _table(group: Any) -> Table:
    if "conductance" in group:
        return _cells(group)
    if "product" in group:
        return _points(group, ("sums", "product"), ("vector", "output"))
    if "current" in group:
        return _points(group, ("voltage", "current", "in_compliance", "good"), ("point",))
    return _points(group, ("codes",), ("repeat", "column"))


def _rounds(group: Any) -> tuple[list[str], Iterator[tuple[Any, tuple[Any, ...]]]]:
    """Return the names of the coordinates of the dimension ``round``, and for each place (index or none, their values)."""
    if "round" not in group:
        waited = [float(group.attrs["waited_s"])] if "waited_s" in group.attrs else []
        return ["waited_s" for _ in waited], iter([(None, tuple(waited))])
    data = next(group[name] for name in _KINDS if name in group)
    names = str(data.attrs["coordinates"]).split()
    import h5py

    columns = []
    for name in names:
        item = group[name]
        columns.append((item.asstr() if h5py.check_string_dtype(item.dtype) else item)[()].tolist())
    heads = [f"{name}_{unit}" if (unit := str(group[name].attrs["units"])) != "1" else name for name in names]
    return ["round", *heads], ((index, (index, *values)) for index, values in enumerate(zip(*columns, strict=True)))


def _cells(group: Any) -> Table:
    repeats = group["codes"].shape[-3]
    heads, places = _rounds(group)

    def lines() -> Iterator[tuple[Any, ...]]:
        for place, about in places:
            at = () if place is None else (place,)
            valid, reads = group["valid"][(*at, ...)], group["reads"][(*at, ...)]
            rows, columns = np.nonzero(valid)
            siemens = group["conductance"][(*at, ...)][valid]
            codes = group["codes"][(*at, ...)][:, valid].T.astype(object)
            codes[np.arange(repeats) >= reads[valid][:, None]] = ""  # this cell was read less often than others
            # 9 digits tell every float32 from its neighbours.
            shown = np.char.mod("%.9g", siemens).tolist()
            for row, column, value, read in zip(rows.tolist(), columns.tolist(), shown, codes.tolist(), strict=True):
                yield (row, column, *about, value, *read)

    names = ["code"] if repeats == 1 else [f"code_{number}" for number in range(repeats)]
    return ["row", "column", *heads, "conductance_S", *names], lines()


def _points(group: Any, fields: tuple[str, ...], dimensions: tuple[str, ...]) -> Table:
    """One line a value of the fields, with its place along the dimensions: a point of a curve, or a vector and output."""
    heads, places = _rounds(group)
    shape = group[fields[0]].shape[-len(dimensions) :]

    def lines() -> Iterator[tuple[Any, ...]]:
        index = list(np.ndindex(*shape))
        for place, about in places:
            at = () if place is None else (place,)
            columns = [group[name][(*at, ...)].ravel().tolist() for name in fields]
            for where, *values in zip(index, *columns, strict=True):
                yield (*where, *about, *values)

    units = [str(group[name].attrs["units"]) for name in fields]
    named = [f"{name}_{unit}" if unit != "1" else name for name, unit in zip(fields, units, strict=True)]
    return [*dimensions, *heads, *named], lines()
