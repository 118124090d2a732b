"""Errors for the person who will read them, each with the exit code that scripts rely on.

0 done; 1 failed; 2 usage; 3 refused by a limit or missing arming; 4 stopped by the user, safe; 5 a measurement
was out of its expected limits (design, section 9).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class SourceRef:
    """Where in a text file something was written; line and column count from 1, 0 means unknown."""

    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.file:
            return ""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


class RramlabError(Exception):
    """Something failed; the message says what happened, what it means and what to do next.

    ``run``: the id of the run that it ended, where there is one to go on with.
    """

    exit_code: ClassVar[int] = 1
    run: str = ""

    def __init__(self, message: str, source: SourceRef | None = None) -> None:
        self.source = source if source is not None and source.file else None
        super().__init__(f"{self.source}: {message}" if self.source else message)


class Uncalibrated(UserWarning):
    """Figures rest on nominal values where a calibration record was expected."""


class DataError(RramlabError):
    """A file is missing, damaged, or not what its name says."""


class TooFewCells(DataError):
    """Too few cells conduct for what was asked: the die is not formed, or not there."""


class BenchLocked(RramlabError):
    """Another process holds the bench."""


class InstrumentError(RramlabError):
    """An instrument refused, did not answer, or is not the one it should be."""


class UsageError(RramlabError):
    """The request cannot be understood: a misspelt key, a wrong unit, an unknown name."""

    exit_code: ClassVar[int] = 2


class InvalidValue(UsageError, ValueError):
    """A value handed to a function or class that cannot be: of another type, not finite, out of its range."""


class Refused(RramlabError):
    """A limit, a missing arming or a missing precondition forbids the request; nothing was energised by it."""

    exit_code: ClassVar[int] = 3


class Stopped(RramlabError):
    """The user stopped the run; the bench is in its safe state and the run can be resumed."""

    exit_code: ClassVar[int] = 4


class OutOfLimits(RramlabError):
    """A measurement was out of its expected limits (pilot block, ``expect``, contact test, verification)."""

    exit_code: ClassVar[int] = 5
