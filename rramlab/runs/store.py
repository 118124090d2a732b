"""A run: one executed plan, as a folder of whole blocks that are consolidated into ``run.h5``."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.base.files import read_json, write_atomic, write_json, write_through
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
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
            return np.asarray(np.load(self.path, allow_pickle=False))
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"the block {self.path} is damaged ({error}); the other blocks are not affected") from error


class Run:
    """A run's folder ``data/runs/<id>/``. Every write is whole or absent, whenever the process dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        if not (folder / "run.json").exists():
            raise DataError(f"there is no run {folder.name!r} in {folder.parent}; list them with: rramlab runs list")

    @classmethod
    def create(cls, runs: Path, plan: Plan, die: str, texts: dict[str, str], about: dict[str, Any]) -> Run:
        """Make the folder of a new run.

        ``texts``: file name → content of everything the run depends on (bench, board, protocol).
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
            {"id": folder.name, "die": die, "name": plan.name, "status": "running", "started_at": _now(), "reason": ""},
        )
        return cls(folder)

    @property
    def record(self) -> dict[str, Any]:
        """``run.json``: id, die, name, status, reason, times."""
        return dict(read_json(self.folder / "run.json"))

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
            raise DataError(f"the plan of run {self.id} cannot be read: {error}") from error

    def update(self, **changes: Any) -> None:
        """Change entries of ``run.json``."""
        write_json(self.folder / "run.json", {**self.record, **changes})

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
        write_through(folder / f"{stem}.npy", lambda stream: np.save(stream, block, allow_pickle=False))
        write_json(
            folder / f"{stem}.json", {"position": position, "dataset": dataset, "written_at": _now(), **attributes}
        )

    def has(self, position: str, dataset: str) -> bool:
        return (self.folder / "blocks" / f"{position}-{dataset}.json").exists()

    def blocks(self, dataset: str | None = None) -> Iterator[Block]:
        """Yield the whole blocks in order of step and operation."""
        for path in sorted((self.folder / "blocks").glob("*.json")):
            attributes = dict(read_json(path))
            found = Block(
                attributes.pop("position"), attributes.pop("dataset"), path.with_name(f"{path.stem}.npy"), attributes
            )
            if dataset is None or found.dataset == dataset:
                yield found

    def block(self, position: str, dataset: str) -> Block:
        """Return one block.

        Raises:
            DataError: it is not there.
        """
        for found in self.blocks(dataset):
            if found.position == position:
                return found
        raise DataError(f"run {self.id} has no block {position} of {dataset}")

    def consolidate(self) -> Path:
        """Gather all whole blocks into ``run.h5``; can be repeated at any time, the blocks stay."""
        from rramlab.runs.hdf5 import consolidate

        return consolidate(self)


def list_runs(runs: Path) -> list[Run]:
    """Return every run of a bench, oldest first."""
    return [Run(folder) for folder in sorted(runs.glob("*")) if (folder / "run.json").exists()]


def find_run(runs: Path, name: str) -> Run:
    """Return the run called ``name`` (its id, an unambiguous beginning of it, or ``last``).

    Raises:
        DataError: none, or several.
    """
    known = list_runs(runs)
    if name == "last" and known:
        return known[-1]
    found = [run for run in known if run.id == name] or [run for run in known if run.id.startswith(name)]
    if len(found) != 1:
        what = "several runs begin with" if found else "there is no run"
        raise DataError(f"{what} {name!r} in {runs}{os.linesep}known: {', '.join(run.id for run in known) or 'none'}")
    return found[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
