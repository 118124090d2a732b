"""The breakdown curve in force of a die."""

from __future__ import annotations

from pathlib import Path

from rramlab.base.errors import DataError
from rramlab.base.times import wall
from rramlab.records.files import FOLDER, DieRecord, newest
from rramlab.records.sections import FormingSection


def forming_of(root: Path, die: str, board: str) -> FormingSection:
    """Return what is known of at which voltage a die's cells form, on a board.

    Raises:
        DataError: it was not measured, or on another board; how to get one.
    """
    kept = newest(root, "die", die)
    section = kept.record.forming if kept is not None and isinstance(kept.record, DieRecord) else None
    remedy = f"Measure it on a sacrificial corner: rramlab calibrate forming --arm {die}"
    if kept is None or section is None:
        raise DataError(f"die {die!r} has no breakdown curve in {root / FOLDER}; nothing was energised. {remedy}")
    kept.refuse_changed("Nothing was energised")
    if section.board != board:
        raise DataError(
            f"the breakdown curve in {kept.path} was measured on board {section.board!r}, on the bench is {board!r}, whose "
            f"voltages may differ; nothing was energised. {remedy}"
        )
    fault = section.fault(wall(), section.temperature)
    if fault is not None:
        raise DataError(f"the breakdown curve in {kept.path} {fault}; nothing was energised. {remedy}")
    return section
