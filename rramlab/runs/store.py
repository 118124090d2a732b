"""A run: one executed plan, as a folder of whole blocks that are consolidated into ``run.h5``."""

from __future__ import annotations

import io
import os
import re
import secrets
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.base.files import read_object, write_atomic, write_json
from rramlab.base.numbers import shown
from rramlab.base.times import now
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.plan.operations import Read
from rramlab.plan.plan import Plan
from rramlab.runs.curves import whole

Status = Literal["running", "done", "failed", "stopped", "refused"]
_STAMP = "%Y%m%d-%H%M%S-%f"
_LEFT = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # what write_through calls a file that is not yet whole
_BEGAN = time.time()  # of this process
_PLACE = re.compile(r"[0-9-]+\.[0-9]+")  # path of a step with round numbers, and number of the operation
_BLOCK = re.compile(rf"({_PLACE.pattern})-(.+)")


class DamagedBlock(UserWarning):
    """The description of a block cannot be read: the block counts as not there."""


class PassedOver(UserWarning):
    """Runs that ``last`` could have meant, but that cannot go on."""


@dataclass(frozen=True)
class Block:
    """One array of a run: ``position`` (step and operation), the data set it belongs to, and its attributes."""

    position: str
    dataset: str
    path: Path
    attributes: dict[str, Any]

    @property
    def step(self) -> str:
        """The path of the step that it is of, without round numbers: how a step is called wherever it is named."""
        return str(self.attributes.get("step") or self.position.split(".")[0])

    def load(self) -> npt.NDArray[Any]:
        """Read the array.

        Raises:
            DataError: the block is damaged.
        """
        try:
            data = self.path.read_bytes()
            if zlib.crc32(data) != self.attributes["crc32"]:
                raise ValueError("its checksum differs")
            array = np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
            return whole(array) if self.attributes.get("form") == "curve" else array
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
        cls,
        runs: Path,
        plan: Plan,
        die: str,
        texts: dict[str, str],
        about: dict[str, Any],
        operation: int = 0,
        key: str = "",
    ) -> Run:
        """Make the folder of a new run. It is one as soon as it has its ``run.json``, which is written last.

        ``texts``: file name → content of everything the run depends on (bench, board, protocol). ``about``: provenance.
        ``operation``: the last operation of the die's ledger before it. ``key``: see :func:`find_key`.
        """
        folder = runs / folder_name(_stamp(runs), plan.name)
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
                "started_at": now(),
                "reason": "",
                "operation": operation,
                **({"key": key} if key else {}),
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
    def provenance(self) -> dict[str, Any]:
        """What the run was begun with: program, board, temperature, instruments.

        Raises:
            DataError: it is missing or damaged.
        """
        return read_object(self.folder / "provenance.json", "board_serial", "temperature_C")

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

    @property
    def before_single_shot(self) -> bool:
        """Whether 0.1.0 began it, for which electroforming the same cells again was nothing that must be said.

        Raises:
            DataError: plan or provenance is missing or damaged.
        """
        plan = read_object(self.folder / "plan.json", "steps")
        return _forms_without_a_word(plan["steps"]) and self.provenance.get("rramlab") == "0.1.0"

    def check_there(self) -> None:
        """See that the folder is where it was: nothing is pulsed of which no run would tell.

        Raises:
            DataError: it is gone.
        """
        if not (self.folder / "run.json").exists():
            raise DataError(
                f"the folder {self.folder} of run {self.id} is gone or was moved while the run went on: nothing more is pulsed "
                "and nothing is written there. The ledger of the die knows what was pulsed. Put the folder back and resume the "
                "run, or start a new one for what is left"
            )

    def update(self, **changes: Any) -> None:
        """Change entries of ``run.json``."""
        write_json(self.folder / "run.json", {**self.record, **changes})

    def resumed(self, about: dict[str, Any]) -> None:
        """Write down with what the run goes on; what an earlier process left half written is removed."""
        remove_leftovers(self.folder)
        number = len(list(self.folder.glob("provenance*.json")))
        write_json(self.folder / f"provenance-{number}.json", about)

    def finish(self, status: Status, reason: str = "", **results: Any) -> None:
        """Write down how the run ended."""
        self.update(status=status, reason=reason, finished_at=now(), **results)

    def freeze(self, step: int | str, cells: CellSelection) -> None:
        """Write the resolved selection of a step down, so that a resume means the same cells.

        ``step``: its path with round numbers, "003" or "003-00002-001"; or the index of a step outside loops.
        """
        self.check_there()
        write_atomic(self._selection(step), cells.packed())

    def frozen(self, step: int | str, geometry: Geometry) -> CellSelection | None:
        """Return the selection that :meth:`freeze` wrote for a step, or None."""
        path = self._selection(step)
        try:
            return CellSelection.from_packed(path.read_bytes(), geometry) if path.exists() else None
        except ValueError as error:
            raise DataError(f"the frozen selection {path} is damaged: {error}") from error

    def _selection(self, step: int | str) -> Path:
        name = f"{step:03d}" if isinstance(step, int) else step
        return self.folder / "selections" / f"{name}.bits"

    def judge(self, position: str, found: dict[str, Any]) -> None:
        """Write down what was found at a place of the plan, so that a resume goes the way that the run went.

        Raises:
            DataError: the run's folder is gone.
        """
        self.check_there()
        write_json(self.folder / "judgements" / f"{position}.json", found)

    def judged(self, position: str) -> dict[str, Any] | None:
        """Return what :meth:`judge` wrote, or None."""
        path = self.folder / "judgements" / f"{position}.json"
        return read_object(path) if path.exists() else None

    def judged_places(self) -> Iterator[str]:
        """Yield the places of operations that :meth:`judge` has written of; not those where a loop was judged."""
        for path in (self.folder / "judgements").glob("*.json"):
            if _PLACE.fullmatch(path.stem):
                yield path.stem

    def append(self, position: str, dataset: str, block: npt.NDArray[Any], **attributes: Any) -> None:
        """Add one array, or measure it anew. It exists while its ``.json`` does: the array is written, synced and renamed
        before that, and the ``.json`` of an older one removed before the array is touched.

        Raises:
            DataError: the run's folder is gone.
        """
        self.check_there()
        folder, stem = self.folder / "blocks", f"{position}-{dataset}"
        stream = io.BytesIO()
        np.save(stream, block, allow_pickle=False)
        data = stream.getvalue()
        (folder / f"{stem}.json").unlink(missing_ok=True)
        write_atomic(folder / f"{stem}.npy", data)
        write_json(
            folder / f"{stem}.json",
            {
                "position": position,
                "dataset": dataset,
                "written_at": now(),
                "crc32": zlib.crc32(data),
                **attributes,
            },
        )

    def append_cells(
        self, position: str, read: Read, block: npt.NDArray[Any], calibration: str, operation: int, **attributes: Any
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
            bias=read.bias,
            conversions=read.cells.count * read.repeats,
            operation=operation,
            calibration=calibration,
            **({"isolated": True} if read.isolated else {}),
            **attributes,
        )

    def has(self, position: str, dataset: str) -> bool:
        """Return whether the block is there; one whose description is damaged is not, and a warning says so."""
        path = self.folder / "blocks" / f"{position}-{dataset}.json"
        return path.exists() and _block(path) is not None

    def blocks(self, dataset: str | None = None) -> Iterator[Block]:
        """Yield the whole blocks in order of step, round and operation."""
        for path in sorted((self.folder / "blocks").glob("*.json"), key=_order):
            found = _block(path)
            if found is not None and dataset in (None, found.dataset):
                yield found

    def block_names(self) -> Iterator[tuple[str, str]]:
        """Yield position and data set of every block, by the names of their files: no block is read."""
        for path in (self.folder / "blocks").glob("*.json"):
            if found := _BLOCK.fullmatch(path.stem):
                yield found[1], found[2]

    def block(self, position: str, dataset: str) -> Block:
        """Return one block.

        Raises:
            DataError: it is not there, or its description is damaged.
        """
        path = self.folder / "blocks" / f"{position}-{dataset}.json"
        found = _block(path) if path.exists() else None
        if found is None:
            raise DataError(f"run {self.id} has no block {position} of {dataset}")
        return found

    def consolidate(self) -> Path:
        """Gather all whole blocks into ``run.h5``; can be repeated at any time, the blocks stay."""
        from rramlab.runs.hdf5 import consolidate

        remove_leftovers(self.folder)
        return consolidate(self)


def _forms_without_a_word(node: Any) -> bool:
    """Return whether a stored plan has an electroform step that does not say whether ``again`` holds."""
    if isinstance(node, list):
        return any(map(_forms_without_a_word, node))
    if not isinstance(node, dict):
        return False
    if node.get("kind") == "electroform" and "again" not in node:
        return True
    return any(_forms_without_a_word(node.get(key)) for key in ("steps", "rounds"))


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed had begun to write in ``folder``; a younger file may be somebody's work."""
    for path in folder.rglob(".*.tmp"):
        with suppress(FileNotFoundError):  # renamed at this moment by whoever has written it
            if _LEFT.fullmatch(path.name) and path.is_file() and path.stat().st_mtime < _BEGAN:
                path.unlink()


def folder_name(stamp: str, plan: str) -> str:
    """Return what the folder of a new run is called."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", plan).strip("-")
    return f"{stamp}-{name}-{secrets.token_hex(2)}"


def _stamp(runs: Path) -> str:
    """Return a time for a new run's name that is after every other's, also where the clock was set back."""
    at = datetime.now(UTC)
    for folder in sorted(runs.glob("*"), reverse=True):
        try:
            newest = datetime.strptime("-".join(folder.name.split("-")[:3]), _STAMP).replace(tzinfo=UTC)
        except ValueError:
            continue  # not named by this function
        at = max(at, newest + timedelta(milliseconds=1))
        break
    return at.strftime(_STAMP)[:-3]


def _block(path: Path) -> Block | None:
    try:
        attributes = read_object(path, "position", "dataset", "form", "crc32")
    except DataError as error:
        warnings.warn(
            f"{error}. Its block counts as not there: a resumed run measures it again", DamagedBlock, stacklevel=3
        )
        return None
    position, dataset = str(attributes.pop("position")), str(attributes.pop("dataset"))
    return Block(position, dataset, path.with_name(f"{path.stem}.npy"), attributes)


def _order(path: Path) -> tuple[list[int], str]:
    """Sort by numbers, not letters: step 1000 comes after step 999."""
    position = re.match(r"[0-9.-]*", path.stem)
    return in_order(position[0] if position else ""), path.stem


def in_order(position: str) -> list[int]:
    """Return what positions are compared by: their numbers."""
    return [int(number) for number in re.findall(r"[0-9]+", position)]


def list_runs(runs: Path) -> list[Run]:
    """Return every run of a bench, oldest first."""
    return [Run(folder) for folder in sorted(runs.glob("*")) if (folder / "run.json").exists()]


def find_run(runs: Path, name: str, unfinished: bool = False) -> Run:
    """Return the run called ``name`` (its id, an unambiguous beginning of it, or ``last``).

    ``unfinished``: ``last`` means the last one that can go on: not done, with a plan that is more than a held route. Later
    ones that are passed over are named in a warning.

    Raises:
        DataError: none, or several.
    """
    known = list_runs(runs)
    if name == "last" and known:
        return _last_unfinished(runs, known) if unfinished else known[-1]
    found = [run for run in known if run.id == name] or [run for run in known if run.id.startswith(name)]
    if len(found) != 1:
        what = "several runs begin with" if found else "there is no run"
        raise DataError(
            f"{what} {shown(name)} in {runs}{os.linesep}known: {', '.join(run.id for run in known) or 'none'}"
        )
    return found[0]


def find_key(runs: Path, die: str, key: str) -> Run | None:
    """Return the run of a die that was begun under a key, None where there is none.

    Raises:
        DataError: there are several, or the record of a run is damaged: nobody can tell then whether it is that one.
    """
    return only_one([run for run in under_key(runs, key) if run.die == die], key)


def only_one(found: list[Run], key: str) -> Run | None:
    """Return the run of a key.

    Raises:
        DataError: there are several.
    """
    if len(found) > 1:
        raise DataError(
            f"{len(found)} runs in {found[0].folder.parent} have the key {key!r}: {', '.join(run.id for run in found)}; a key "
            "is of one run, so some of them are copies. Move those out of the folder"
        )
    return found[0] if found else None


def under_key(runs: Path, key: str) -> list[Run]:
    """Return every run that was begun under a key, whatever its die.

    Raises:
        DataError: the record of a run is damaged.
    """
    found = []
    for run in list_runs(runs):
        try:
            if run.record.get("key") == key:
                found.append(run)
        except DataError as error:
            raise DataError(
                f"whether a run was begun under the key {key!r} cannot be told: {error}. Nothing was energised. If the run is "
                f"none of that key, its folder can be moved out of {runs}"
            ) from error
    return found


def _last_unfinished(runs: Path, known: list[Run]) -> Run:
    passed: list[str] = []
    for run in reversed(known):
        record = run.record  # a run that cannot be read is not passed over in silence
        if record["status"] == "done":
            continue
        why = "interactive" if record["name"] == "interactive" else "a route that was held" if _only_routes(run) else ""
        if why:
            passed.append(f"{run.id} ({why})")
            continue
        if passed:
            warnings.warn(
                f"passed over, with nothing to go on with: {', '.join(passed)}; going on with {run.id}",
                PassedOver,
                stacklevel=3,
            )
        return run
    hint = f". Passed over: {', '.join(passed)}; connect a route again with: rramlab route" if passed else ""
    raise DataError(f"there is nothing to resume: every run in {runs} that can go on is done{hint}")


def _only_routes(run: Run) -> bool:
    """Connecting, measuring and releasing once more is a new run; the old one has nothing left to do."""
    try:
        steps = run.plan.steps
    except DataError:
        return False  # the resume says what is wrong with it
    return bool(steps) and all(step.kind == "route" for step in steps)
