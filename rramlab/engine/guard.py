"""The one guard: every operation of every path crosses it, whole plans before their first volt."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np

from rramlab.base.errors import Refused
from rramlab.macro.board import BoardTable
from rramlab.macro.regions import Region
from rramlab.plan.limits import Limits, check, intersect
from rramlab.plan.operations import Operation, PulseOp
from rramlab.plan.plan import Bounds, Plan, bounds, worst_case
from rramlab.plan.steps import ContactStep, PulseStep, Step
from rramlab.runs.ledger import Ledger

CONTACT_KEY = "contact_passed_at"
CONTACT_VALID = timedelta(hours=1)
# An electroform step over more rows than this must begin with a pilot block.
ROWS_WITHOUT_PILOT = 4


class Guard:
    """Limits, arming, contact and wear of one die."""

    def __init__(self, die_id: str, limits: Limits, board: BoardTable, ledger: Ledger) -> None:
        self.die_id, self.board, self.ledger = die_id, board, ledger
        self.limits = limits
        self.armed = False

    def arm(self, die_id: str | None) -> None:
        """Allow destructive operations on the die that was named, by a person, as ``die_id``.

        Raises:
            Refused: it is not the die behind this guard.
        """
        if die_id is None:
            return
        if die_id != self.die_id:
            raise Refused(
                f"armed for die {die_id!r}, but the die on the bench is {self.die_id!r}; nothing was energised"
            )
        self.armed = True

    def admit_plan(self, plan: Plan, run: str | None = None) -> Bounds:
        """Check the whole plan at its worst case, and what it needs before a first pulse; return its bounds.

        ``run``: the run that goes on with this plan, whose own pulses are part of it.

        Raises:
            Refused: a limit, missing arming, no pilot block, or no recent contact test. UsageError: a region off the die.
        """
        expanded = check_worst_case(plan, self.limits, self.board)
        self._check_wear(plan, run)
        if plan.destructive:
            self._check_armed(plan.name)
            if not self._tests_contact_first(plan):
                self._check_contact()
        return bounds(expanded, self.board)

    def admit(self, operation: Operation, plan_limits: Limits | None = None) -> None:
        """Check one operation as it is sent.

        Raises:
            Refused: nothing was energised by it.
        """
        limits = intersect(self.limits, plan_limits) if plan_limits else self.limits
        pulses = self.ledger.pulse_counts() if isinstance(operation, PulseOp) else None
        check(operation, limits, self.board, pulses)
        if isinstance(operation, PulseOp):
            self._check_armed(operation.kind)
            self._check_contact()

    def contact_passed(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Write down that the contact test passed."""
        self.ledger.put(CONTACT_KEY, now().isoformat())

    def contact_failed(self) -> None:
        """Write down that the contact test failed: no pulse until it passes."""
        self.ledger.put(CONTACT_KEY, "")

    def _check_armed(self, what: str) -> None:
        if not self.armed:
            raise Refused(
                f"{what} changes die {self.die_id!r} for good and is not armed; nothing was energised. "
                f"Say which die you mean: --arm {self.die_id}"
            )

    def _check_contact(self) -> None:
        at = self.ledger.get(CONTACT_KEY)
        age = datetime.now(UTC) - datetime.fromisoformat(at) if at else None
        # A test in the future means that the clock was set back: it proves nothing about now.
        if age is None or not timedelta(0) <= age <= CONTACT_VALID:
            seen = f"the last one passed {at}" if at else "none has passed"
            raise Refused(
                f"die {self.die_id!r} has no contact test within the last {CONTACT_VALID.seconds // 60} minutes ({seen}); "
                "no pulse was sent. Run one first: rramlab run contact"
            )

    def _check_wear(self, plan: Plan, run: str | None) -> None:
        """Add the pulses of the whole plan to those of the ledger."""
        budget = intersect(self.limits, plan.limits).pulses_per_cell
        if budget is None:
            return
        pulses = self.ledger.pulse_counts()
        total = pulses.astype(np.int64)
        for entry in self.ledger.of_run(run) if run else ():
            total -= entry.spent.bits
        for step in plan.steps:
            if isinstance(step, PulseStep):
                bits = Region(step.cells).bound(self.board.geometry, pulses).bits
                total += bits
                worn = bits & (total > budget)
                if worn.any():
                    row, column = (int(index) for index in np.argwhere(worn)[0])
                    raise Refused(
                        f"{step.kind}: {np.count_nonzero(worn):,} cells, the first at ({row}, {column}), would exceed their "
                        f"wear budget of {budget} pulses, by the ledger and this plan; nothing was energised. Leave them "
                        "out, or use another die",
                        step.source,
                    )

    @staticmethod
    def _tests_contact_first(plan: Plan) -> bool:
        for step in plan.steps:
            if isinstance(step, ContactStep):
                return True
            if isinstance(step, PulseStep):
                return False
        return False


Expanded = list[tuple[Step, list[Operation]]]


def check_worst_case(plan: Plan, limits: Limits, board: BoardTable) -> Expanded:
    """Expand a plan at its worst case and check all that needs no die: what a dry run can say, too.

    Raises:
        Refused: a limit, a missing pilot block, or columns that the board cannot select. UsageError: a region off the die.
    """
    expanded = worst_case(plan, board)
    tightest = intersect(limits, plan.limits)
    without_pilot: set[int] = set()
    for step, each in expanded:
        for operation in each:
            check(operation, tightest, board)
        pulses = [operation for operation in each if isinstance(operation, PulseOp)]
        if isinstance(step, PulseStep):
            if step.kind == "electroform" and step.pilot is None:
                without_pilot |= {int(row) for operation in pulses for row in operation.cells.rows}
                _check_pilot(step, len(without_pilot))
            _check_columns(step, pulses, board)
    return expanded


def _check_pilot(step: PulseStep, rows: int) -> None:
    """``rows``: those that this step and the steps before it electroform without a pilot block."""
    if rows > ROWS_WITHOUT_PILOT:
        raise Refused(
            f"this electroforms cells in {rows} rows without a pilot block; nothing was energised. A wrong voltage would "
            "ruin the die: add 'pilot: {rows: 4, formed_fraction: …, median: …}' to the step",
            step.source,
        )


def _check_columns(step: PulseStep, pulses: list[PulseOp], board: BoardTable) -> None:
    """Without ``sl_select`` a board cannot leave out single columns when it forms or sets."""
    if "sl_select" in board.capabilities or step.kind == "reset":
        return
    if any(not operation.cells.bits[operation.cells.rows].all() for operation in pulses):
        raise Refused(
            f"board {board.name} cannot select columns when it forms or sets (no sl_select), and the region leaves some "
            "out; nothing was energised. Choose whole rows",
            step.source,
        )
