"""A run: one executed plan, as a folder of whole blocks that are consolidated into ``run.h5``."""

from __future__ import annotations

import io
import json
import os
import re
import secrets
import time
import warnings
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from rramlab.base.errors import DataError
from rramlab.base.files import (
    as_changed,
    digest,
    read_object,
    read_summed,
    read_whole,
    write_atomic,
    write_json,
    write_summed,
)
from rramlab.base.numbers import shown
from rramlab.base.order import as_made, time_now
from rramlab.base.times import MOVED_S, Clock, counted, wall, written
from rramlab.base.units import show_duration
from rramlab.macro.cells import CellSelection
from rramlab.macro.geometry import Geometry
from rramlab.plan.operations import Read
from rramlab.plan.plan import Plan
from rramlab.runs.curves import whole

Status = Literal["running", "done", "failed", "stopped", "refused"]
_LEFT = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # what write_through calls a file that is not yet whole
_BEGAN, _BEGAN_S = time.time(), counted()  # of this process
TEXTS = "texts"  # in provenance.json: the check sums of the texts beside it
_MOST_NAMED = 20
_LONGEST_NAME = 255  # bytes: no file has a longer one
_FORM = "%Y%m%d-%H%M%S-%f"
_STAMPED = re.compile(r"\d{8}-\d{6}-\d{3}(?=-)")
_PLACE = re.compile(r"[0-9-]+\.[0-9]+")  # path of a step with round numbers, and number of the operation
_BLOCK = re.compile(rf"({_PLACE.pattern})-(.+)")


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

    def since_s(self, began: datetime) -> float:
        """When it was written, in seconds since the run ``began``; of runs of 0.1.0 by the wall clock."""
        if "time_s" in self.attributes:
            return float(self.attributes["time_s"])
        return (datetime.fromisoformat(str(self.attributes["written_at"])) - began).total_seconds()

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
            if self.attributes.get("form") == "cells":
                first, stop = self.attributes["rows"]
                if len(array) != stop - first:
                    raise ValueError(f"it has {len(array)} rows, its description says {first} to {stop}")
            return whole(array) if self.attributes.get("form") == "curve" else array
        except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise DataError(
                f"the block {self.path} is damaged ({error}); the other blocks are not affected. Restore it from a copy, or "
                "delete it with its .json and consolidate what is left"
            ) from error


class Run:
    """A run's folder ``data/runs/<id>/``. Every write is whole or absent, whenever the process dies.

    Its times are those of one clock a process that works on it: the wall clock as it was when that process began, and what
    was counted since.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._clock: Clock | None = None
        self._moved_s = 0.0  # by how much the wall clock was set, as far as the record says
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
        ledger: dict[str, Any] | None = None,
    ) -> Run:
        """Make the folder of a new run. It is one as soon as it has its ``run.json``, which is written last.

        ``texts``: file name → content of everything the run depends on (bench, board, protocol). ``about``: provenance.
        ``operation``: the last operation of the die's ledger before it. ``key``: see :func:`find_key`.
        ``ledger``: how far the ledger had come, for whoever asks whether it misses something.
        """
        folder = runs / folder_name(time_now(runs, _times(runs), _FORM).strftime(_FORM)[:-3], plan.name)
        (folder / "blocks").mkdir(parents=True)
        clock = Clock.start()
        sums = {}
        for name, text in texts.items():
            write_atomic(folder / name, text.encode())
            sums[name] = digest(text.encode())
        write_json(folder / "plan.json", plan.model_dump(mode="json"))
        write_json(folder / "provenance.json", {**about, TEXTS: sums})
        write_json(
            folder / "run.json",
            {
                "id": folder.name,
                "die": die,
                "name": plan.name,
                "status": "running",
                "started_at": written(clock.began),
                "reason": "",
                "operation": operation,
                **({"key": key} if key else {}),
                **({"ledger": ledger} if ledger else {}),
                "attempts": [_attempt(clock)],
            },
        )
        run = cls(folder)
        run._clock = clock
        return run

    @property
    def record(self) -> dict[str, Any]:
        """``run.json``: id, die, name, status, reason, times.

        ``attempts``: of each process that worked on it, when it began by the wall clock, how long after the run did, and how
        long it lasted where it could write that down. ``clock``: when the wall clock was set meanwhile, and by how much.
        """
        keys = ("id", "die", "name", "status", "started_at", "reason", "operation")
        return read_object(self.folder / "run.json", *keys, parse=from_json)  # faster than json: lists read thousands

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

    def text(self, name: str) -> str:
        """Return a text that the run depends on, as it was when the run began: ``bench.yaml``, ``board.yaml`` …

        Raises:
            DataError: it is missing, damaged or was changed.
        """
        path = self.folder / name
        try:
            data = path.read_bytes()
            text = data.decode()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read ({error}); restore it from a copy") from error
        sums = read_object(self.folder / "provenance.json").get(TEXTS, {})
        if sums.get(name, digest(data)) != digest(data):
            raise as_changed(path)
        return text

    @property
    def plan(self) -> Plan:
        """The plan as it was started with.

        Raises:
            DataError: plan.json is damaged.
        """
        try:
            return _plan_of(read_whole(self.folder / "plan.json"))
        except (DataError, ValueError) as error:
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

    @property
    def clock(self) -> Clock:
        """Of this process's work on the run; it begins with the first look, after all that was written before."""
        if self._clock is None:
            self._clock = Clock.start(self._gone_on_s())
        return self._clock

    def _gone_on_s(self) -> float:
        """Return how long the run has gone on: by the wall clock, but never less than what it says of itself."""
        record = self.record
        began = datetime.fromisoformat(record["started_at"])
        said: list[float] = [each["began_s"] + each.get("lasted_s", 0.0) for each in record.get("attempts", ())]
        said += [block.since_s(began) for block in self.readable([])]
        return max(0.0, (wall() - began).total_seconds(), *said)

    def watch_clock(self) -> None:
        """Write it down where the wall clock was set since this process began to work on the run."""
        if self._clock is None:
            return
        moved_s = self._clock.moved_s
        if abs(moved_s - self._moved_s) > MOVED_S:
            found = {"at": written(self._clock.now), "time_s": _rounded(self._clock.passed_s)}
            by_s, self._moved_s = moved_s - self._moved_s, moved_s
            self.update(clock=[*self.record.get("clock", []), {**found, "moved_s": _rounded(by_s)}])

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
        self._clock, self._moved_s = Clock.start(self._gone_on_s()), 0.0
        record = self.record
        before = record.get("attempts", [{"began_at": record["started_at"], "began_s": 0.0}])
        self.update(attempts=[*before, _attempt(self._clock)])

    def finish(self, status: Status, reason: str = "", **results: Any) -> None:
        """Write down how the run ended, and how long this process has worked on it."""
        clock = self.clock
        self.watch_clock()
        *before, last = self.record.get("attempts") or [_attempt(clock)]
        last = {**last, "lasted_s": _rounded(clock.passed_s - last["began_s"])}
        self.update(status=status, reason=reason, finished_at=written(clock.now), attempts=[*before, last], **results)

    def freeze(self, step: int | str, cells: CellSelection) -> None:
        """Write the resolved selection of a step down, so that a resume means the same cells.

        ``step``: its path with round numbers, "003" or "003-00002-001"; or the index of a step outside loops.
        """
        self.check_there()
        write_summed(self._selection(step), cells.packed())

    def frozen(self, step: int | str, geometry: Geometry) -> CellSelection | None:
        """Return the selection that :meth:`freeze` wrote for a step, or None."""
        path = self._selection(step)
        if not path.exists():
            return None
        try:
            length = len(CellSelection(np.zeros(geometry.shape, np.bool_)).packed())
            return CellSelection.from_packed(read_summed(path, length), geometry)
        except (DataError, ValueError) as error:
            raise DataError(
                f"the frozen selection {path} is damaged: {error}. It says which cells step {step} means, and which of them "
                "have had their pulse cannot be told without it; nothing was pulsed"
            ) from error

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
        when = {} if "written_at" in attributes else self._moment()
        (folder / f"{stem}.json").unlink(missing_ok=True)
        write_atomic(folder / f"{stem}.npy", data)
        write_json(
            folder / f"{stem}.json",
            {
                "position": position,
                "dataset": dataset,
                **when,
                "crc32": zlib.crc32(data),
                **attributes,
            },
        )

    def _moment(self) -> dict[str, Any]:
        self.watch_clock()
        clock = self.clock
        return {"written_at": written(clock.now), "time_s": _rounded(clock.passed_s)}

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
        """Return whether the block is there.

        Raises:
            DataError: its description is damaged.
        """
        path = self._description(position, dataset)
        return path.exists() and bool(_block(path))

    def blocks(self, dataset: str | None = None) -> Iterator[Block]:
        """Yield the whole blocks in order of step, round and operation.

        Raises:
            DataError: the description of one is damaged.
        """
        for path in self._descriptions():
            found = _block(path)
            if dataset in (None, found.dataset):
                yield found

    def block_names(self) -> Iterator[tuple[str, str]]:
        """Yield position and data set of every block, by the names of their files: no block is read."""
        for path in (self.folder / "blocks").glob("*.json"):
            if found := _BLOCK.fullmatch(path.stem):
                yield found[1], found[2]

    def readable(self, problems: list[str]) -> Iterator[Block]:
        """Yield the blocks whose descriptions can be read, in order; what is wrong with the others is put to ``problems``."""
        for path in self._descriptions():
            try:
                yield _block(path)
            except DataError as error:
                problems.append(str(error))

    def block(self, position: str, dataset: str) -> Block:
        """Return one block.

        Raises:
            DataError: it is not there, or its description is damaged.
        """
        path = self._description(position, dataset)
        if not path.exists():
            raise DataError(f"run {self.id} has no block {position} of {dataset}")
        return _block(path)

    def _description(self, position: str, dataset: str) -> Path:
        return self.folder / "blocks" / f"{position}-{dataset}.json"

    def _descriptions(self) -> list[Path]:
        return sorted((self.folder / "blocks").glob("*.json"), key=_order)

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
    began = min(_BEGAN, time.time() - (counted() - _BEGAN_S))  # also where the clock was set since
    for path in folder.rglob(".*.tmp"):
        with suppress(FileNotFoundError):  # renamed at this moment by whoever has written it
            if _LEFT.fullmatch(path.name) and path.is_file() and path.stat().st_mtime < began:
                path.unlink()


def folder_name(stamp: str, plan: str) -> str:
    """Return what the folder of a new run is called."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", plan).strip("-")
    return f"{stamp}-{name}-{secrets.token_hex(2)}"


def duration_s(record: dict[str, Any]) -> float | None:
    """Return from begin to end of a run by its record, pauses included; None where nobody wrote that down."""
    if not record.get("finished_at"):
        return None
    try:
        if last := (record.get("attempts") or [{}])[-1]:
            return float(last["began_s"]) + float(last["lasted_s"])
        began, ended = (datetime.fromisoformat(str(record[key])) for key in ("started_at", "finished_at"))
    except (ValueError, KeyError, TypeError):
        return None
    seconds = (ended - began).total_seconds()
    return seconds if seconds >= 0 else None  # of 0.1.0, by a clock that was set back


def clock_moves(record: dict[str, Any]) -> list[str]:
    """Say when the computer's clock was set while the run went on, and by how much."""
    said = []
    for move in record.get("clock") or ():
        how = f"{show_duration(abs(move['moved_s']))} {'forward' if move['moved_s'] > 0 else 'back'}"
        said.append(
            f"the computer's clock was set {how} when the run was {show_duration(move['time_s'])} old; the run's times go on "
            "as they were counted"
        )
    return said


def _attempt(clock: Clock) -> dict[str, Any]:
    return {"began_at": written(clock.began), "began_s": _rounded(clock.before_s)}


def _rounded(seconds: float) -> float:
    """Return seconds as they are written down: to the microsecond."""
    return round(seconds, 6)


def _block(path: Path) -> Block:
    try:
        attributes = read_object(path, "position", "dataset", "form", "crc32")
        position, dataset = str(attributes.pop("position")), str(attributes.pop("dataset"))
        if path.stem != f"{position}-{dataset}":
            raise DataError(f"{path} says that it is of {position}-{dataset}: it is damaged or was renamed")
    except DataError as error:
        raise DataError(
            f"the description of a block is damaged: {error}. Without it nobody can tell which cells the values are of. "
            f"Restore it from a copy; or delete it and {path.with_suffix('.npy').name}: the block counts as not there then, a "
            "resumed run measures it again where that can be done, and the others are not affected"
        ) from error
    return Block(position, dataset, path.with_name(f"{path.stem}.npy"), attributes)


def _order(path: Path) -> tuple[list[int], str]:
    """Sort by numbers, not letters: step 1000 comes after step 999."""
    position = re.match(r"[0-9.-]*", path.stem)
    return in_order(position[0] if position else ""), path.stem


def in_order(position: str) -> list[int]:
    """Return what positions are compared by: their numbers."""
    return [int(number) for number in re.findall(r"[0-9]+", position)]


def list_runs(runs: Path) -> list[Run]:
    """Return every run of a bench, in the order in which they began."""
    found = []
    for name in _in_order(runs):
        with suppress(DataError):  # a folder of something else
            found.append(Run(runs / name))
    return found


def _plan_of(text: bytes) -> Plan:
    """Read a plan; pydantic's own parser refuses the name of a file that is not UTF-8, Python's reads it.

    Raises:
        ValueError: it is none.
    """
    try:
        return Plan.model_validate_json(text)
    except ValueError:
        return Plan.model_validate(json.loads(text))


def find_run(runs: Path, name: str, unfinished: bool = False) -> Run:
    """Return the run called ``name`` (its id, an unambiguous beginning of it, or ``last``).

    ``unfinished``: ``last`` means the last one that can go on: not done, with a plan that is more than a held route. Later
    ones that are passed over are named in a warning.

    Raises:
        DataError: none, or several.
    """
    if name == "last":
        latest = (Run(runs / each) for each in reversed(_in_order(runs)) if _is_run(runs / each))
        if unfinished:
            return _last_unfinished(runs, latest)
        for run in latest:
            return run
    elif len(name.encode(errors="replace")) <= _LONGEST_NAME and Path(name).name == name and _is_run(runs / name):
        return Run(runs / name)
    known = [each for each in _in_order(runs) if _is_run(runs / each)]
    found = [each for each in known if each.startswith(name)]
    if len(found) != 1:
        what = "several runs begin with" if found else "there is no run"
        raise DataError(f"{what} {shown(name)} in {runs}{os.linesep}known: {_listed(found or known)}")
    return Run(runs / found[0])


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


def _times(runs: Path) -> dict[str, str]:
    """Return the folders in ``runs`` with the times that their names begin with; those of people have none, and come first."""
    try:
        names = [entry.name for entry in os.scandir(runs) if entry.is_dir()]
    except FileNotFoundError:
        return {}
    return {name: found[0] if (found := _STAMPED.match(name)) else "" for name in names}


def _in_order(runs: Path) -> list[str]:
    return as_made(runs, _times(runs))


def _is_run(folder: Path) -> bool:
    try:
        return (folder / "run.json").exists()
    except (OSError, ValueError):  # no folder is called so
        return False


def _listed(names: list[str]) -> str:
    """Name the last few runs: there may be thousands."""
    more = len(names) - _MOST_NAMED
    return (", ".join(names[-_MOST_NAMED:]) or "none") + (f", and {more:,} before them" if more > 0 else "")


def _last_unfinished(runs: Path, latest: Iterator[Run]) -> Run:
    passed: list[str] = []
    one = False
    for run in latest:
        one = True
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
    if not one:
        raise DataError(f"there is no run 'last' in {runs}{os.linesep}known: none")
    hint = f". Passed over: {', '.join(passed)}; connect a route again with: rramlab route" if passed else ""
    raise DataError(f"there is nothing to resume: every run in {runs} that can go on is done{hint}")


def _only_routes(run: Run) -> bool:
    """Connecting, measuring and releasing once more is a new run; the old one has nothing left to do."""
    try:
        steps = run.plan.steps
    except DataError:
        return False  # the resume says what is wrong with it
    return bool(steps) and all(step.kind == "route" for step in steps)
