"""Where a run is, how far it is, and what it did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any

from rramlab.base.errors import OutOfLimits
from rramlab.runs.store import Run

_MOST_SHOWN = 8  # flaws in an error


class State(Enum):
    """Where a run is. ``DONE``, ``FAILED``, ``STOPPED`` and ``REFUSED`` end it; all but ``DONE`` can be resumed."""

    CREATED = "created"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    REFUSED = "refused"


TRANSITIONS: dict[State, frozenset[State]] = {
    State.CREATED: frozenset({State.RUNNING, State.REFUSED}),
    State.RUNNING: frozenset({State.DONE, State.FAILED, State.STOPPED, State.REFUSED}),
    State.FAILED: frozenset({State.RUNNING}),
    State.STOPPED: frozenset({State.RUNNING}),
    State.REFUSED: frozenset({State.RUNNING}),
    State.DONE: frozenset(),
}


@dataclass(frozen=True)
class Progress:
    """Told before each operation. ``done`` of ``total`` operations; the total is the worst case of the plan.

    ``eta_s``: how long the rest will take at worst, None while that cannot be told. ``pulsed``: cells that the run has
    pulsed and read since; ``formed``: how many of them conduct; ``mean_S``: what those conduct, None where there are none.
    """

    run: str
    step: int
    steps: int
    done: int
    total: int
    message: str
    eta_s: float | None = None
    pulsed: int = 0
    formed: int = 0
    mean_S: float | None = None


Listener = Callable[[Progress], None]


@dataclass
class RunResult:
    """What a run did. ``checks``: every ``expect``, pilot and bystander judgement, in order; ``programs``: write-verify;
    ``loops``: how each loop with ``until`` ended, which is no check: ``passed`` says whether it came to what was wanted.
    A judgement has ``rests_on`` where cells that it is about were read in earlier runs: those, and how old the reads were.

    ``sweeps``, ``routes``: a summary of every curve and of everything measured at a source-measure unit, see
    :func:`rramlab.engine.probing.summary`; a sweep whose curve was lost has ``lost``. ``references``: of every read of a
    reference resistor (None: of open inputs) the mean over the columns and their spread, in codes.

    ``flaws``: what the plan asked for and the run does not have as it should: points that are no measurement, curves and
    reads that are lost. Each has ``position``, ``dataset`` and, in words, ``reason``; a run with one does not end well.
    """

    run_id: str
    die: str
    folder: str
    pulses: int = 0
    conversions: int = 0
    saturated: int = 0
    checks: list[dict[str, Any]] = field(default_factory=list)
    contact: dict[str, Any] | None = None
    products: list[dict[str, Any]] = field(default_factory=list)
    sweeps: list[dict[str, Any]] = field(default_factory=list)
    routes: list[dict[str, Any]] = field(default_factory=list)
    references: list[dict[str, Any]] = field(default_factory=list)
    programs: list[dict[str, Any]] = field(default_factory=list)
    loops: list[dict[str, Any]] = field(default_factory=list)
    bystanders: int = 0  # how often cells beside those that were pulsed were found unchanged
    lost: list[dict[str, Any]] = field(
        default_factory=list
    )  # reads whose block is gone and whose cells were pulsed since
    reconciled: list[dict[str, Any]] = field(default_factory=list)
    flaws: list[dict[str, Any]] = field(default_factory=list)
    key: str = ""  # that it was begun under
    already_done: bool = False  # when it was asked for: nothing was done now

    @classmethod
    def of(cls, run: Run) -> RunResult:
        """Return what a run that is done has come to, by its record."""
        record = run.record
        known = {each.name: record[each.name] for each in fields(cls) if each.name in record}
        saturated = sum(int(each["saturated"]) for each in known.get("products", ()))
        about: dict[str, Any] = {
            "run_id": run.id,
            "folder": str(run.folder),
            "saturated": saturated,
            "already_done": True,
        }
        return cls(**known, **about)

    @property
    def passed(self) -> bool:
        return not self.flaws and all(check["passed"] for check in self.checks)


def result_of(run: Run) -> RunResult:
    """Return what a run that is over did, by its record."""
    record = run.record
    known = {each.name: record[each.name] for each in fields(RunResult) if each.name in record}
    return RunResult(**{**known, "run_id": run.id, "die": run.die, "folder": str(run.folder)})


class Flawed(OutOfLimits):
    """A plan was carried out to its end, but not all that it asked for was measured, or is still there.

    ``result``: what the run did.
    """

    def __init__(self, result: RunResult) -> None:
        self.result = result
        self.run = result.run_id
        shown = [str(each["reason"]) for each in result.flaws[:_MOST_SHOWN]]
        more = len(result.flaws) - len(shown)
        listed = "; ".join([*shown, *([f"and {more:,} more, see its record"] if more else [])])
        super().__init__(
            f"run {result.run_id} was carried out to its end, but not all that it asked for was measured: {listed}. "
            "What was measured is kept, and no pulse is given again: a resume would end as this does"
        )
