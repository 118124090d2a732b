"""What a calibration report is about: records, the bench that they are judged for, and the units behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from rramlab.base.errors import DataError, UsageError
from rramlab.base.times import wall
from rramlab.drivers.bench import BenchDescription
from rramlab.drivers.smu.smufile import Accuracy
from rramlab.macro.board import BoardTable
from rramlab.records.files import FOLDER, BoardRecord, DieRecord, Kept, find, newest
from rramlab.runs.store import Run, list_runs


@dataclass(frozen=True)
class Findings:
    """``records``: what is reported. ``board``, ``dies``: on the bench. ``in_force``: the newest record of each owner.
    ``absent``: whose there is none. ``temperature_C``: of the board when it last began a run, ``as_of``.
    ``accuracies``: what data sheets promise, by what a unit says it is.
    """

    records: tuple[Kept, ...]
    board: str
    dies: tuple[str, ...]
    table: BoardTable
    in_force: Mapping[tuple[str, str], Kept]
    absent: tuple[tuple[str, str], ...]
    accuracies: Mapping[str, Accuracy]
    temperature_C: float | None
    as_of: str
    now: datetime
    problems: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()  # of the problems: records that are damaged, of which nothing is told here

    def label(self, kept: Kept) -> str:
        """Return how the parts of a record are named: by whose it is or, where that is not clear, by its own name."""
        same = [each for each in self.records if each.record.owner == kept.record.owner]
        return kept.record.owner if len(same) == 1 else kept.id

    @property
    def boards(self) -> list[tuple[Kept, BoardRecord]]:
        return [(kept, kept.record) for kept in self.records if isinstance(kept.record, BoardRecord)]

    @property
    def of_dies(self) -> list[tuple[Kept, DieRecord]]:
        return [(kept, kept.record) for kept in self.records if isinstance(kept.record, DieRecord)]


def gather(description: BenchDescription, names: Sequence[str] = (), now: datetime | None = None) -> Findings:
    """Read the records called ``names``, or those in force of the board and the dies on the bench.

    Raises:
        DataError, UsageError: there is none, or it is not what it should be.
    """
    root, board = description.root, description.file.controller.board
    dies = tuple(each.id for each in description.file.dies)
    absent: list[tuple[str, str]] = []
    unreadable: list[str] = []
    if names:
        records = list({kept.id: kept for kept in (find(root, name) for name in names)}.values())
    else:
        records = []
        for kind, owner in _owners(board, dies):
            try:
                kept = newest(root, kind, owner)
            except (DataError, UsageError) as error:  # the others are reported all the same
                unreadable.append(str(error))
                continue
            if kept is None:
                absent.append((kind, owner))
            else:
                records.append(kept)
        if not records and unreadable:
            raise DataError("; ".join(unreadable))
        if not records:
            raise DataError(
                f"there is no record of board {board!r} or of {', '.join(repr(die) for die in dies)} in {root / FOLDER}, so "
                "there is nothing to report. Make one with: rramlab calibrate all"
            )
    in_force: dict[tuple[str, str], Kept] = {}
    for each in records:
        try:
            in_force[each.record.kind, each.record.owner] = newest(root, each.record.kind, each.record.owner) or each
        except (DataError, UsageError) as error:
            in_force[each.record.kind, each.record.owner] = each
            unreadable.append(str(error))
    problems = list(unreadable)
    last = _last_run(description.data / "runs", board, problems)
    return Findings(
        tuple(records),
        board,
        dies,
        description.board,
        in_force,
        tuple(absent),
        _accuracies(description, records, problems),
        None if last is None else float(last.provenance["temperature_C"]),
        "" if last is None else last.id,
        now or wall(),
        tuple(problems),
        tuple(unreadable),
    )


def _owners(board: str, dies: Sequence[str]) -> list[tuple[Literal["board", "die"], str]]:
    return [("board", board), *(("die", die) for die in dies)]


def _last_run(runs: Path, board: str, problems: list[str]) -> Run | None:
    """Return the last run on a board: its temperature is the last that anybody knows."""
    for run in reversed(list_runs(runs)):
        try:
            if run.provenance["board_serial"] == board:
                return run
        except DataError as error:
            problems.append(str(error))
    return None


def _accuracies(description: BenchDescription, records: Sequence[Kept], problems: list[str]) -> dict[str, Accuracy]:
    """Return what the driver files on the bench say of the units that the records' runs were made with."""
    found: dict[str, Accuracy] = {}
    runs = {run for kept in records for section in kept.record.sections.values() for run in section.runs}
    for name in sorted(runs):
        if not (description.data / "runs" / name).is_dir():
            continue  # the record is of a run that was made elsewhere, or was put away
        try:
            about = Run(description.data / "runs" / name).provenance
        except DataError as error:
            problems.append(str(error))
            continue
        for unit, identity in dict(about.get("instruments") or {}).items():
            file = description.smu_files.get(str(unit))
            if file is not None and file.accuracy is not None:
                found[str(identity)] = file.accuracy
    return found
