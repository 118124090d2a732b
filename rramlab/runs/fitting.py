"""Whether what a plan will measure can be kept: names of files, and of what stands in them, before the first volt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from rramlab.base.errors import SourceRef, UsageError
from rramlab.plan.plan import AFTER, BEFORE, Plan, leaves
from rramlab.plan.programming import ProgramStep
from rramlab.plan.steps import ForEachStep, RepeatStep, Step
from rramlab.runs.store import folder_name

LONGEST_NAME = 255  # of a file, in bytes: what every usual file system takes; where the disk says less, that holds
_LONGEST_PATH = {"nt": 259}  # of a file with its folders, where the system does not say
_ROUND = len("-0000000")  # what a loop adds to the position of a step
_OPERATION = len(".00000") + 3  # what an operation does, with room for more than 100,000 of them
_WRITING = len("..00000000.tmp") + len(".json")  # what a block's file is called while it is written
_OWN = ("contact", "pilot", BEFORE, AFTER)  # data sets that the engine names
_MOST = 2**63  # whole numbers from here on are stored nowhere


def refuse_unkeepable(plan: Plan, runs: Path) -> None:
    """See that all that a run of ``plan`` can measure has a place in a new folder under ``runs``.

    Raises:
        UsageError: a data set's or the plan's name is too long for a file there, or a label cannot be stored: where it was
            written, what was found, and what is expected.
    """
    name_most, path_most = _limits(runs)
    folder = folder_name("0" * 19, plan.name)
    if len(folder) > name_most:
        _refuse(
            f"the name {_short(plan.name)} of a plan makes a folder of {len(folder)} characters", name_most, SourceRef()
        )
    above = len(os.fsencode(runs.absolute() / folder / "blocks")) + 1
    for dataset, step, length in _data_sets(plan):
        if length > name_most:
            _refuse(
                f"the data set {_short(dataset)} makes files of {length} characters, with the step's place in front",
                name_most,
                step.source,
            )
        if above + length > path_most:
            _refuse(
                f"the data set {_short(dataset)} makes paths of {above + length} characters in {runs}",
                path_most,
                step.source,
            )
    _refuse_unstorable("plan's name", plan.name, SourceRef())
    _check_labels(plan.steps)


def _data_sets(plan: Plan) -> Iterator[tuple[str, Step, int]]:
    """Yield each data set with its step and the length of the longest name that a file of it has."""
    for each in leaves(plan.steps):
        position = len(each.path) + each.path.count("-") * _ROUND + _OPERATION
        position += _ROUND if isinstance(each.step, ProgramStep) else 0
        for dataset in (getattr(each.step, "name", ""), *_OWN):
            yield dataset, each.step, position + 1 + len(os.fsencode(dataset)) + _WRITING


def _limits(runs: Path) -> tuple[int, int]:
    """Return how long the name of a file under ``runs`` may be, and its whole path, in bytes."""
    there = runs.absolute()
    while not there.exists():
        there = there.parent
    most = LONGEST_NAME, _LONGEST_PATH.get(os.name, 4095)
    if not hasattr(os, "pathconf"):
        return most
    found = []
    for name, usual in zip(("PC_NAME_MAX", "PC_PATH_MAX"), most, strict=True):
        try:
            said = os.pathconf(there, name)
        except (OSError, ValueError):
            said = -1
        found.append(min(usual, said) if said > 0 else usual)
    return found[0], found[1]


def _check_labels(steps: tuple[Step, ...]) -> None:
    for step in steps:
        match step:
            case RepeatStep():
                _check_labels(step.steps)
            case ForEachStep():
                for each in step.rounds:
                    _refuse_unstorable(f"value of {step.name!r}", each.value, step.source)
                    _check_labels(each.steps)


def _refuse_unstorable(what: str, value: float | int | str, source: SourceRef) -> None:
    """HDF5 has no text with NUL, no file has half a character, and whole numbers have 64 bits."""
    if isinstance(value, str):
        wrong = next((each for each in value if not each.isprintable() and each != " "), None)
        if wrong is not None:
            raise UsageError(
                f"found the {what} {_short(value)} with the character {wrong!r}, expected text that can be printed: what is "
                "measured could not be kept under it; nothing was energised",
                source,
            )
    elif isinstance(value, int) and abs(value) >= _MOST:
        raise UsageError(f"found the {what} {value}, expected a whole number of 64 bits; nothing was energised", source)


def _refuse(what: str, most: int, source: SourceRef) -> None:
    raise UsageError(
        f"{what}; this disk takes {most}, and nothing that is measured could be kept. Nothing was energised. Choose a shorter "
        "name, or a bench folder with a shorter path",
        source,
    )


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:32]}…{text[-4:]}")
