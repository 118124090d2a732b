"""``run.h5``: the blocks of a run as labelled arrays that every reader of HDF5 opens.

Whatever reads it finds damage: the values have HDF5's own check sums (Fletcher's, and those of its newer metadata). What
neither covers, short texts of variable length and the references to dimensions, a check sum over the whole file does: it stands
after the end of what HDF5 reads, and rramlab compares it, see :func:`damage`.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import HDF5_FORM, PACKED
from rramlab.base.errors import DataError
from rramlab.base.files import digest, read_whole, write_through
from rramlab.runs.rounds import Layer, data_sets, layers
from rramlab.runs.waits import Waits, waits_of

if TYPE_CHECKING:
    from rramlab.runs.store import Block, Run

_CELLS = (
    ("codes", np.uint16, "1", ("repeat", "row", "column")),
    ("reads", np.uint16, "1", ("row", "column")),
    ("valid", np.bool_, "1", ("row", "column")),
    ("conductance", np.float32, "S", ("row", "column")),
)
_CHUNK_ROWS = 64  # at most
_CHUNK_BYTES = 1 << 20  # at most, of an array that is no map of cells
_MARK = b"rramlab sum of all before it: "  # then BLAKE2b of 128 bits, hexadecimal, and a line's end
_SAID = "sum"  # attribute of the file: that the mark follows
_NUMBERED = re.compile(r"(?:loop|code)_[0-9]+")  # coordinates, and columns of an exported table
_PRODUCTS = (("sums", "1"), ("product", "S"))
_CURVE = (("voltage", "V"), ("current", "A"), ("in_compliance", "1"), ("good", "1"))
_REFERENCE = (("codes", "1"),)
# What a curve was: its cell or target, which pulse a sweep counts as, and what the source-measure unit was set to; of a
# product: how many bits its inputs had, and which gate pattern it ran through; of a reference read: which resistor (or
# ``open``), in which range of the converters, at what voltage.
_ABOUT = (
    "kind", "row", "column", "target", "peak_V", "compliance_A", "gate_V", "smu", "bits", "gates", "resistor", "range",
    "voltage_V",
)  # fmt: skip
_UNITS = {"peak_V": "V", "compliance_A": "A", "gate_V": "V", "voltage_V": "V"}


def consolidate(run: Run) -> Path:
    """Write ``run.h5`` beside the blocks; see :func:`write_h5`."""
    return write_h5(run, run.folder / "run.h5")


def write_h5(run: Run, target: Path) -> Path:
    """Write all whole blocks of a run into one file, which is put together in memory.

    One group a step and data set, ``step-002-read``: ``codes`` uint16[repeat, row, column] with ``reads``
    uint16[row, column] and ``valid`` bool[row, column], and ``conductance`` float32[row, column] in siemens derived from
    them (the attribute ``isolated``: while other cells were cut off); ``sums`` int32[vector, output] of a multiply with
    ``product``, float32, siemens × code; ``voltage`` and ``current`` float64[point] of a sweep or route with
    ``in_compliance`` and ``good``, bool (not good: that point is no measurement), and what it was as attributes; ``codes``
    uint16[repeat, column] of a reference read, and what it was.

    A step in a loop, ``step-003-001-read``, has a leading dimension ``round`` with coordinates: ``loop_1`` (the number of
    the round in the outermost loop), ``loop_2`` …; one for each label of a ``for_each``, with its unit; ``time`` in s since
    the run began, when the round was written; in a run with waits ``waited`` in s, for how long it had waited by then, on a
    simulated bench, too. Where the same cells were read several times in a step, as for a bystander check or write-verify,
    each look is one place along that dimension, and ``pass`` is its number. Products or curves of unequal shape are groups
    named by their position instead. Each data set has ``units`` and dimension scales. A group's attribute ``waited_s`` is
    how long the run had waited before its first read.

    Raises:
        DataError: a block is damaged, or the file cannot be written.
    """
    import h5py

    stream = io.BytesIO()  # HDF5 ends the process where a disk is full
    try:
        with h5py.File(stream, "w", libver=HDF5_FORM) as file:
            record = run.record
            file.attrs.update({key: str(record[key]) for key in ("id", "die", "name", "status", "started_at")})
            plan = read_whole(run.folder / "plan.json")  # the longest text; of fixed length it has a check sum, too
            file.attrs.create("plan", np.bytes_(plan), dtype=h5py.string_dtype("utf-8", len(plan)))
            file.attrs[_SAID] = "after the end"
            waits = waits_of(run)
            for name, blocks in data_sets(run.blocks()).items():
                _write_group(file.create_group(name), blocks, str(record["started_at"]), waits)
        data = stream.getbuffer()
        mark = _MARK + digest(data).encode() + b"\n"
        write_through(target, lambda file: (file.write(data), file.write(mark)))
    except OSError as error:
        raise DataError(
            f"{target} could not be written ({error}); the blocks of the run are whole. Once that is mended: rramlab runs "
            f"consolidate {run.id}"
        ) from error
    return target


def damage(path: Path) -> str:
    """Return what is wrong with a file that :func:`write_h5` wrote, empty if nothing is.

    Files of 0.1.0 have no check sum: of those it is only seen whether HDF5 can read them.
    """
    try:
        data = memoryview(path.read_bytes())
    except OSError as error:
        return f"{path} cannot be read: {error.strerror or error}"
    length = len(_MARK) + 33
    said, changed = bytes(data[-length:]), f"{path} is not as it was written: its check sum differs"
    if said == _MARK + digest(data[:-length]).encode() + b"\n":
        return ""
    if sum(one == other for one, other in zip(said, _MARK, strict=False)) > len(_MARK) // 2:
        return changed
    import h5py

    try:
        with h5py.File(path, "r") as file:
            marked = _SAID in file.attrs  # and yet there is no mark: it was written anew by another program, or cut
            file.visititems(lambda _, item: item[()] if isinstance(item, h5py.Dataset) else None)
    except Exception as error:  # noqa: BLE001  # whatever h5py makes of damage
        return f"{path} is damaged: {error}"
    return changed if marked else ""


def _write_group(group: Any, blocks: list[Block], began: str, waits: Waits | None) -> None:
    if waits is not None:
        group.attrs["waited_s"] = waits.before(blocks[0].position)
    group.attrs["calibration"] = sorted({str(block.attributes.get("calibration", "")) for block in blocks})
    found = layers(blocks)
    looped = any(layer.rounds for layer in found)
    match blocks[0].attributes["form"]:
        case "cells":
            if all(block.attributes.get("isolated") for block in blocks):
                group.attrs["isolated"] = True
            several = looped or len(found) > 1
            own = [name for name, *_ in _CELLS] + list(_CELLS[0][-1])
            names = _write_rounds(group, found, began, own, waits) if several else ()
            _write_cells(group, found, several, names)
        case "products":
            _write_tables(group, found, _PRODUCTS, ("vector", "output"), looped, began, waits)
        case "reference":
            _write_tables(group, found, _REFERENCE, ("repeat", "column"), looped, began, waits)
        case _:
            _write_tables(group, found, _CURVE, ("point",), looped, began, waits)


def _write_rounds(
    group: Any, found: list[Layer], began: str, own: Sequence[str], waits: Waits | None
) -> tuple[str, ...]:
    """Write the dimension ``round`` and what tells its places apart; return the names of those coordinates.

    ``own``: names of the group's data sets and dimensions. A label that is called so, or as another coordinate, gets an
    ending.
    """
    coordinates: dict[str, tuple[Sequence[Any], str]] = {}
    taken = {"round", "pass", "time", "waited", "code", *_ABOUT, *own}  # code: a column of an exported table
    for level in range(max(len(layer.rounds) for layer in found)):
        coordinates[f"loop_{level + 1}"] = [layer.rounds[level] for layer in found], "1"
    if any(layer.number for layer in found):
        coordinates["pass"] = [layer.number for layer in found], "1"
    for name, (_, unit) in found[0].labels.items():
        key = name
        while key in taken or key in coordinates or _NUMBERED.fullmatch(key):
            key += "_label"
        coordinates[key] = [layer.labels[name][0] for layer in found], unit or "1"
    for key in _ABOUT:
        each = [_said(layer.blocks[0], key) for layer in found]
        if len(set(map(str, each))) > 1 and None not in each:
            coordinates[key] = each, _UNITS.get(key, "1")
    start = datetime.fromisoformat(began)
    coordinates["time"] = [layer.since_s(start) for layer in found], "s"
    if waits is not None:
        coordinates["waited"] = [waits.before(layer.blocks[0].position) for layer in found], "s"
    _scale(group, "round", len(found))
    for name, (values, unit) in coordinates.items():
        _label(group, _values(group, name, _column(values), unit), ("round",))
    group["time"].attrs["since"] = began
    return tuple(coordinates)


def _column(values: Sequence[Any]) -> Any:
    """Return values of one kind as h5py stores them: integers, floats, or text."""
    if all(isinstance(value, (int, float)) for value in values):
        return np.array(values)
    import h5py

    return np.array([str(value) for value in values], h5py.string_dtype())


def _values(group: Any, name: str, values: npt.NDArray[Any], units: str) -> Any:
    """Write an array; text of variable length, which HDF5 can neither pack nor sum, is left to the sum of the whole file."""
    import h5py

    packed = {}
    if values.size and not h5py.check_string_dtype(values.dtype):
        whole = values.size * values.dtype.itemsize <= _CHUNK_BYTES
        packed = {**PACKED, "chunks": values.shape if whole else True}
    dataset = group.create_dataset(name, data=values, **packed)
    _say(dataset, units)
    return dataset


def _say(dataset: Any, units: str) -> None:
    dataset.attrs["units"] = units
    if (
        dataset.dtype == np.bool_
    ):  # h5py and newer libraries of netCDF know it; to others, as xarray spells it, it is 0 and 1
        dataset.attrs["dtype"] = "bool"


def _scale(group: Any, dimension: str, size: int) -> None:
    if dimension not in group:
        _values(group, dimension, np.arange(size), "1").make_scale(dimension)


def _label(group: Any, dataset: Any, dimensions: tuple[str, ...], coordinates: tuple[str, ...] = ()) -> None:
    for axis, dimension in enumerate(dimensions):
        _scale(group, dimension, dataset.shape[axis])
        dataset.dims[axis].label = dimension
        dataset.dims[axis].attach_scale(group[dimension])
    if coordinates:
        dataset.attrs["coordinates"] = " ".join(coordinates)  # as the CF conventions name them, for xarray


def _write_cells(group: Any, found: list[Layer], several: bool, coordinates: tuple[str, ...]) -> None:
    """Write each layer where its rows are; a cell has ``reads`` codes, those beyond are 0.

    A chunk has as many rows as the tallest layer spans: what no layer touches is not stored.
    """
    rows, columns = found[0].blocks[0].attributes["shape"]
    repeats = max(int(block.attributes["repeats"]) for layer in found for block in layer.blocks)
    sizes = {"repeat": repeats, "row": rows, "column": columns}
    chunks = {"repeat": 1, "row": min(max(map(_span, found)), _CHUNK_ROWS), "column": columns}
    lead = (len(found),) if several else ()
    written = {}
    for name, dtype, units, dimensions in _CELLS:
        written[name] = dataset = group.create_dataset(
            name,
            shape=(*lead, *(sizes[each] for each in dimensions)),
            dtype=dtype,
            chunks=(*(1 for _ in lead), *(chunks[each] for each in dimensions)),
            fillvalue=np.nan if dtype is np.float32 else None,
            **PACKED,
        )
        _say(dataset, units)
        _label(group, dataset, (*(("round",) if several else ()), *dimensions), coordinates)
    for place, layer in enumerate(found):
        start, arrays = _assembled(layer, repeats, columns)
        for name, array in arrays.items():
            at = (*((place,) if several else ()), ..., slice(start, start + array.shape[-2]), slice(None))
            written[name][at] = array


def _rows(layer: Layer) -> tuple[int, int]:
    """Return the first row of a layer, and the one after its last."""
    spans = [block.attributes["rows"] for block in layer.blocks]
    return min(int(start) for start, _ in spans), max(int(stop) for _, stop in spans)


def _span(layer: Layer) -> int:
    start, stop = _rows(layer)
    return stop - start


def _assembled(layer: Layer, repeats: int, columns: int) -> tuple[int, dict[str, npt.NDArray[Any]]]:
    """Put the row blocks of a layer together; return the first row and the arrays from there on."""
    start, stop = _rows(layer)
    shape = (stop - start, columns)
    codes = np.zeros((repeats, *shape), np.uint16)
    reads = np.zeros(shape, np.uint16)
    valid = np.zeros(shape, np.bool_)
    siemens = np.full(shape, np.nan, np.float32)
    for block in layer.blocks:
        array = block.load()
        first = int(block.attributes["rows"][0]) - start
        here = slice(first, first + len(array))
        mask, count = array["valid"], array["codes"].shape[2]
        np.copyto(codes[:count, here], np.moveaxis(array["codes"], 2, 0), where=mask)
        np.copyto(reads[here], count, where=mask)
        np.copyto(siemens[here], array["conductance"], where=mask)
        valid[here] |= mask
    return start, {"codes": codes, "reads": reads, "valid": valid, "conductance": siemens}


def _write_tables(
    group: Any,
    found: list[Layer],
    fields: tuple[tuple[str, str], ...],
    dimensions: tuple[str, ...],
    looped: bool,
    began: str,
    waits: Waits | None,
) -> None:
    """Write tables of ``fields`` (name, units): rounds of one shape stacked, others in groups of their position."""
    blocks = [layer.blocks[0] for layer in found]
    arrays = [block.load() for block in blocks]
    alike = len(
        {
            (array.shape, str(array.dtype), str(block.attributes.get("columns")))
            for array, block in zip(arrays, blocks, strict=True)
        }
    )
    if looped and alike == 1:
        names = _write_rounds(group, found, began, [*dimensions, *(name for name, _ in fields)], waits)
        _describe(group, blocks)
        for name, units in fields:
            dataset = _values(group, name, np.stack([_field(array, name) for array in arrays]), units)
            _label(group, dataset, ("round", *dimensions), names)
        return
    for block, array in zip(blocks, arrays, strict=True):
        inner = group if len(blocks) == 1 else group.create_group(block.position)
        _describe(inner, [block])
        inner.attrs.update({name: value for name, (value, _) in _labels(block).items()})
        for name, units in fields:
            dataset = _values(inner, name, _field(array, name), units)
            _label(inner, dataset, dimensions)


def _field(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Return one field; where each place has several values, as repeats, their dimension comes first."""
    values = array[name]
    return np.moveaxis(values, -1, 0) if values.ndim > array.ndim else values


def _said(block: Block, key: str) -> Any:
    """Return what a block is described by, None where it has no such attribute; HDF5 has no word for no resistor."""
    value = block.attributes.get(key)
    return "open" if value is None and key == "resistor" and key in block.attributes else value


def _labels(block: Block) -> dict[str, tuple[Any, str]]:
    return {f"label_{name}": tuple(label) for name, label in block.attributes.get("labels", {}).items()}


def _describe(group: Any, blocks: list[Block]) -> None:
    """Say what the blocks have in common."""
    for key in _ABOUT:
        values = {str(_said(block, key)) for block in blocks}
        if len(values) == 1 and _said(blocks[0], key) is not None:
            group.attrs[key] = _said(blocks[0], key)
