"""``run.h5``: the blocks of a run as labelled arrays that h5py and xarray open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rramlab.base.errors import DataError
from rramlab.base.files import beside

if TYPE_CHECKING:
    from rramlab.runs.store import Block, Run

_PRODUCTS = (("sums", "1"), ("product", "S"))
_CURVE = (("voltage", "V"), ("current", "A"), ("in_compliance", "1"))
# What a curve was: its cell or target, which pulse a sweep counts as, and what the source-measure unit was set to.
_ABOUT = ("kind", "row", "column", "target", "peak_V", "compliance_A", "gate_V", "smu")


def consolidate(run: Run) -> Path:
    """Write ``run.h5`` beside the blocks, under a temporary name first.

    One group a step and data set, ``step-002-read``: ``codes`` uint16[repeat, row, column] with ``reads``
    uint16[row, column] and ``valid`` bool[row, column], and ``conductance`` float32[row, column] in siemens derived from
    them; ``sums`` int32[vector, output] of a multiply with ``product``, float32, siemens × code; ``voltage`` and
    ``current`` float64[point] of a sweep or route with ``in_compliance``, bool, and what it was as attributes. Each data
    set has ``units``.
    """
    import h5py

    groups: dict[str, list[Block]] = {}
    for block in run.blocks():
        groups.setdefault(f"step-{block.position.split('.')[0]}-{block.dataset}", []).append(block)
    target = run.folder / "run.h5"
    temporary = beside(target)
    try:
        with h5py.File(temporary, "w") as file:
            record = run.record
            file.attrs.update({key: str(record[key]) for key in ("id", "die", "name", "status", "started_at")})
            file.attrs["plan"] = (run.folder / "plan.json").read_text(encoding="utf-8")
            for group, blocks in groups.items():
                _write_group(file, group, blocks)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    except OSError as error:
        raise DataError(f"{target} could not be written ({error}); the blocks of the run are whole") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _write_group(file: Any, name: str, blocks: list[Block]) -> None:
    group = file.create_group(name)
    group.attrs["calibration"] = sorted({str(block.attributes.get("calibration", "")) for block in blocks})
    match blocks[0].attributes["form"]:
        case "products":
            _write_tables(group, blocks, _PRODUCTS, ("vector", "output"))
        case "curve":
            _write_tables(group, blocks, _CURVE, ("point",))
        case _:
            _write_cells(group, blocks)


def _scales(file: Any, dataset: Any, dimensions: tuple[str, ...]) -> None:
    for axis, dimension in enumerate(dimensions):
        key = f"{dimension}_{dataset.shape[axis]}"
        if key not in file:
            scale = file.create_dataset(key, data=np.arange(dataset.shape[axis]))
            scale.attrs["units"] = "1"
            scale.make_scale(dimension)
        dataset.dims[axis].label = dimension
        dataset.dims[axis].attach_scale(file[key])


def _write_cells(group: Any, blocks: list[Block]) -> None:
    """Assemble row blocks: a later block of the same cells (a resumed read) replaces an earlier one.

    A cell has ``reads`` codes; those beyond, where another cell was read more often, are 0.
    """
    rows, columns = blocks[0].attributes["shape"]
    repeats = max(int(block.attributes["repeats"]) for block in blocks)
    codes = np.zeros((repeats, rows, columns), np.uint16)
    reads = np.zeros((rows, columns), np.uint16)
    valid = np.zeros((rows, columns), np.bool_)
    siemens = np.full((rows, columns), np.nan, np.float32)
    for block in blocks:
        array = block.load()
        start, stop = block.attributes["rows"]
        mask = array["valid"]
        count = array["codes"].shape[2]
        codes[:, start:stop][:, mask] = 0
        codes[:count, start:stop][:, mask] = array["codes"][mask].T
        reads[start:stop][mask] = count
        siemens[start:stop][mask] = array["conductance"][mask]
        valid[start:stop] |= mask
    for name, data, units, dimensions in (
        ("codes", codes, "1", ("repeat", "row", "column")),
        ("reads", reads, "1", ("row", "column")),
        ("valid", valid, "1", ("row", "column")),
        ("conductance", siemens, "S", ("row", "column")),
    ):
        dataset = group.create_dataset(name, data=data, compression="lzf")
        dataset.attrs["units"] = units
        _scales(group, dataset, dimensions)


def _write_tables(
    group: Any, blocks: list[Block], fields: tuple[tuple[str, str], ...], dimensions: tuple[str, ...]
) -> None:
    """Write each block by itself, ``fields`` of (name, units), in a group of its position where there are several."""
    for block in blocks:
        array = block.load()
        inner = group if len(blocks) == 1 else group.create_group(block.position)
        inner.attrs.update({key: block.attributes[key] for key in _ABOUT if key in block.attributes})
        for name, units in fields:
            dataset = inner.create_dataset(name, data=array[name])
            dataset.attrs["units"] = units
            _scales(inner, dataset, dimensions)
