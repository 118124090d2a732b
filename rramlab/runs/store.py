"""A run: one executed plan, as a folder of whole blocks that are consolidated into ``run.h5``."""

from __future__ import annotations

import io
import os
import re
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.base.files import read_object, write_atomic, write_json
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.plan.operations import Read
from rramlab.plan.plan import Plan

Status = Literal["running", "done", "failed", "stopped", "refused"]


@dataclass(frozen=True)
class Block:
    """One array of a run: ``position`` (step and operation), the data set it belongs to, and its attributes."""

    position: str
    dataset: str
    path: Path
    attributes: dict[str, Any]

    def load(self) -> npt.NDArray[Any]:
        """Read the array.

        Raises:
            DataError: the block is damaged.
        """
        try:
            data = self.path.read_bytes()
            if zlib.crc32(data) != self.attributes["crc32"]:
                raise ValueError("its checksum differs")
            return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"the block {self.path} is damaged ({error}); the other blocks are not affected. Restore it from a copy, or "
                "delete it with its .json and consolidate what is left"
            ) from error


class Run:
    """A run's folder ``data/runs/<id>/``. Every write is whole or absent, whenever the process dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        if not (folder / "run.json").exists():
            raise DataError(f"there is no run {folder.name!r} in {folder.parent}; list them with: rramlab runs list")

    @classmethod
    def create(
        cls, runs: Path, plan: Plan, die: str, texts: dict[str, str], about: dict[str, Any], operation: int = 0
    ) -> Run:
        """Make the folder of a new run.

        ``texts``: file name → content of everything the run depends on (bench, board, protocol). ``about``: provenance.
        ``operation``: the last operation of the die's ledger before it.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3]
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", plan.name).strip("-")
        folder = runs / f"{stamp}-{name}-{secrets.token_hex(2)}"
        (folder / "blocks").mkdir(parents=True)
        for name, text in texts.items():
            write_atomic(folder / name, text.encode())
        write_atomic(folder / "plan.json", plan.model_dump_json(indent=1).encode())
        write_json(folder / "provenance.json", about)
        write_json(
            folder / "run.json",
            {
                "id": folder.name,
                "die": die,
                "name": plan.name,
                "status": "running",
                "started_at": _now(),
                "reason": "",
                "operation": operation,
            },
        )
        return cls(folder)

    @property
    def record(self) -> dict[str, Any]:
        """``run.json``: id, die, name, status, reason, times."""
        return read_object(self.folder / "run.json", "id", "die", "name", "status", "started_at", "reason", "operation")

    @property
    def die(self) -> str:
        return str(self.record["die"])

    @property
    def plan(self) -> Plan:
        """The plan as it was started with.

        Raises:
            DataError: plan.json is damaged.
        """
        try:
            return Plan.model_validate_json((self.folder / "plan.json").read_bytes())
        except (OSError, ValueError) as error:
            path = self.folder / "plan.json"
            raise DataError(
                f"{path} is damaged; restore it from a copy, or start a new run for what is left"
            ) from error

    def update(self, **changes: Any) -> None:
        """Change entries of ``run.json``."""
        write_json(self.folder / "run.json", {**self.record, **changes})

    def resumed(self, about: dict[str, Any]) -> None:
        """Write down with what the run goes on."""
        number = len(list(self.folder.glob("provenance*.json")))
        write_json(self.folder / f"provenance-{number}.json", about)

    def finish(self, status: Status, reason: str = "", **results: Any) -> None:
        """Write down how the run ended."""
        self.update(status=status, reason=reason, finished_at=_now(), **results)

    def freeze(self, step: int, cells: CellSelection) -> None:
        """Write the resolved selection of a step down, so that a resume means the same cells."""
        write_atomic(self.folder / "selections" / f"{step:03d}.bits", cells.packed())

    def frozen(self, step: int, geometry: Geometry) -> CellSelection | None:
        """Return the selection that :meth:`freeze` wrote for a step, or None."""
        path = self.folder / "selections" / f"{step:03d}.bits"
        try:
            return CellSelection.from_packed(path.read_bytes(), geometry) if path.exists() else None
        except ValueError as error:
            raise DataError(f"the frozen selection {path} is damaged: {error}") from error

    def append(self, position: str, dataset: str, block: npt.NDArray[Any], **attributes: Any) -> None:
        """Add one array. It exists once its ``.json`` does: the array is written, synced and renamed before that."""
        folder, stem = self.folder / "blocks", f"{position}-{dataset}"
        stream = io.BytesIO()
        np.save(stream, block, allow_pickle=False)
        data = stream.getvalue()
        write_atomic(folder / f"{stem}.npy", data)
        write_json(
            folder / f"{stem}.json",
            {
                "position": position,
                "dataset": dataset,
                "written_at": _now(),
                "crc32": zlib.crc32(data),
                **attributes,
            },
        )

    def append_cells(
        self, position: str, read: Read, block: npt.NDArray[Any], calibration: str, operation: int
    ) -> None:
        """Add what a read of cells gave: a structured array[rows spanned, columns], see the engine's station.

        ``operation``: the last operation of the ledger before the read.
        """
        start = int(read.cells.rows[0])
        self.append(
            position,
            read.dataset,
            block,
            form="cells",
            rows=[start, start + len(block)],
            shape=list(read.cells.geometry.shape),
            repeats=read.repeats,
            conversions=read.cells.count * read.repeats,
            operation=operation,
            calibration=calibration,
        )

    def has(self, position: str, dataset: str) -> bool:
        return (self.folder / "blocks" / f"{position}-{dataset}.json").exists()

    def blocks(self, dataset: str | None = None) -> Iterator[Block]:
        """Yield the whole blocks in order of step and operation."""
        for path in sorted((self.folder / "blocks").glob("*.json")):
            found = _block(path)
            if dataset is None or found.dataset == dataset:
                yield found

    def block(self, position: str, dataset: str) -> Block:
        """Return one block.

        Raises:
            DataError: it is not there, or its description is damaged.
        """
        if not self.has(position, dataset):
            raise DataError(f"run {self.id} has no block {position} of {dataset}")
        return _block(self.folder / "blocks" / f"{position}-{dataset}.json")

    def consolidate(self) -> Path:
        """Gather all whole blocks into ``run.h5``; can be repeated at any time, the blocks stay."""
        from rramlab.runs.hdf5 import consolidate

        return consolidate(self)


def _block(path: Path) -> Block:
    attributes = read_object(path, "position", "dataset", "form", "crc32")
    position, dataset = str(attributes.pop("position")), str(attributes.pop("dataset"))
    return Block(position, dataset, path.with_name(f"{path.stem}.npy"), attributes)


def list_runs(runs: Path) -> list[Run]:
    """Return every run of a bench, oldest first."""
    return [Run(folder) for folder in sorted(runs.glob("*")) if (folder / "run.json").exists()]


def find_run(runs: Path, name: str, unfinished: bool = False) -> Run:
    """Return the run called ``name`` (its id, an unambiguous beginning of it, or ``last``).

    ``unfinished``: ``last`` means the last one that has a plan and is not done.

    Raises:
        DataError: none, or several.
    """
    known = list_runs(runs)
    if name == "last" and known:
        if not unfinished:
            return known[-1]
        for run in reversed(known):
            record = run.record  # a run that cannot be read is not passed over in silence
            if record["status"] != "done" and record["name"] != "interactive":
                return run
        raise DataError(f"there is nothing to resume: every run in {runs} that has a plan is done")
    found = [run for run in known if run.id == name] or [run for run in known if run.id.startswith(name)]
    if len(found) != 1:
        what = "several runs begin with" if found else "there is no run"
        raise DataError(f"{what} {name!r} in {runs}{os.linesep}known: {', '.join(run.id for run in known) or 'none'}")
    return found[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
