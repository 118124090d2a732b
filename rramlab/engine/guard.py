"""The one guard: every operation of every path crosses it, whole plans before their first volt."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping

import numpy as np

from rramlab.base.errors import Refused, SourceRef, UsageError
from rramlab.base.times import age_s, counted, stamp
from rramlab.base.units import show
from rramlab.drivers.controller import Identity
from rramlab.drivers.smu.smufile import SmuFile
from rramlab.engine.wear import (
    Past,
    SingleShot,
    check_cells,
    check_known,
    check_single_shot,
    check_unformed,
    check_wear,
)
from rramlab.macro.board import BoardTable
from rramlab.macro.cells import Bools
from rramlab.plan.limits import Limits, check, intersect
from rramlab.plan.operations import Operation, PulseOp, Route, Sweep, capability_of, describe, pulse_of
from rramlab.plan.plan import Plan, leaves
from rramlab.plan.steps import ContactStep
from rramlab.plan.worst import Bounds, StepAtWorst, bounds, worst_case
from rramlab.runs import CONTACT_KEY
from rramlab.runs.ledger import Ledger
from rramlab.runs.store import Run

CONTACT_VALID_S = 3600.0
# An electroform step over more rows than this must begin with a pilot block.
ROWS_WITHOUT_PILOT = 4


class Guard:
    """Limits, arming, contact and wear of one die."""

    def __init__(
        self,
        die_id: str,
        limits: Limits,
        board: BoardTable,
        ledger: Ledger,
        identity: Identity,
        smus: Mapping[str, SmuFile | None] | None = None,
        owned: Callable[[], None] = lambda: None,
    ) -> None:
        """``owned``: raises where the bench may be another's by now; asked before every operation."""
        self._owned = owned
        # The source-measure units on the bench, by name, with their driver files.
        self.smus: Mapping[str, SmuFile | None] = smus or {}
        self.die_id, self.board, self.ledger = die_id, board, ledger
        self.limits = limits
        self.identity = identity  # of the controller as it said last
        self.armed = False
        # By what is counted: a contact test that the run itself has made holds until it ends.
        self.run_began_s: float | None = None
        self._contact_passed_s: float | None = None  # in this session
        self.single_shot: SingleShot = "always"
        self._without_pilot: set[int] = set()  # rows electroformed one by one in this session

    def met(self, identity: Identity) -> None:
        """Take what the controller says of itself now; its limits may have become tighter, never wider."""
        self.identity, self.limits = identity, intersect(self.limits, identity.limits)

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

    def admit_plan(self, plan: Plan, run: Run | None = None, seen: Bools | None = None) -> Bounds:
        """Check the whole plan at its worst case, and what it needs before a first pulse; return its bounds.

        ``run``: that goes on with this plan, whose own pulses are part of it. ``seen``: bool[rows, columns], cells that were
        read in this session since their last pulse; None: no cell.

        Raises:
            Refused: a limit, missing arming, no pilot block, or no recent contact test. UsageError: a region off the die,
            or no such source-measure unit.
        """
        expanded = check_worst_case(plan, self.limits, self.board, self.smus)
        for each in expanded:
            for operation in each.operations:
                self._check_capability(operation)
        self._check_history(plan, expanded, run, seen)
        if plan.destructive:
            self.ledger.refuse_doubt()
            self._check_armed(plan.name)
            if not self._tests_contact_first(plan):
                self._check_contact()
        return bounds(expanded, self.board)

    def admit(
        self,
        operation: Operation,
        plan_limits: Limits | None = None,
        planned: bool = True,
        seen: Bools | None = None,
    ) -> None:
        """Check one operation as it is sent.

        ``planned``: it is of a plan, which has crossed :meth:`admit_plan`; otherwise it is single, from Python. ``seen``: as in
        :meth:`admit_plan`.

        Raises:
            Refused, UsageError: nothing was energised by it. BenchLocked: the bench may be another process's.
        """
        self._owned()
        limits = intersect(self.limits, plan_limits) if plan_limits else self.limits
        check(operation, limits, self.board)
        self._check_capability(operation)
        if isinstance(operation, (Sweep, Route)):
            check_unit(operation, self.smus)
        pulse = pulse_of(operation)
        if pulse is not None:
            pulses = self.ledger.pulse_counts()
            check_cells(pulse.kind, pulse.cells.bits, pulses, limits.pulses_per_cell, pulse.source)
            if isinstance(operation, Sweep) and pulse.kind == "electroform":
                check_unformed(operation.cells, pulses > 0, operation.source)
            if isinstance(operation, PulseOp):
                self._check_single_shot(operation, pulses > 0, seen)
            self._check_armed(pulse.kind)
            self._check_contact()
            if pulse.kind == "electroform" and not planned:
                rows = self._without_pilot | {int(row) for row in pulse.cells.rows}
                _check_pilot(len(rows), pulse.source)
                self._without_pilot = rows

    def contact_passed(self) -> None:
        """Write down that the contact test passed, on this board since its last power-up."""
        found = {**stamp(), "board": self.identity.board_serial, "nonce": self.identity.boot_nonce}
        self.ledger.put(CONTACT_KEY, json.dumps(found))
        self._contact_passed_s = counted()

    def contact_failed(self) -> None:
        """Write down that the contact test failed: no pulse until it passes."""
        self.ledger.put(CONTACT_KEY, "")
        self._contact_passed_s = None

    def _check_capability(self, operation: Operation) -> None:
        """What the board's file says of it is checked with the limits; this is what the board says itself."""
        needed = capability_of(operation)
        if needed is not None and needed not in self.identity.capabilities:
            raise Refused(
                f"{describe(operation)}: board {self.identity.board_serial} reports no {needed}; nothing was energised. Is the "
                "right file named as its driver in bench.yaml?",
                operation.source,
            )

    def _check_armed(self, what: str) -> None:
        if not self.armed:
            raise Refused(
                f"{what} changes die {self.die_id!r} for good and is not armed; nothing was energised. "
                f"Say which die you mean: --arm {self.die_id}"
            )

    def _check_contact(self) -> None:
        known = self.ledger.get(CONTACT_KEY)
        found = json.loads(known) if known else {}
        same = (found.get("board"), found.get("nonce")) == (self.identity.board_serial, self.identity.boot_nonce)
        began_s, passed_s = self.run_began_s, self._contact_passed_s
        own = began_s is not None and passed_s is not None and passed_s >= began_s
        age = (
            age_s(found) if found else None
        )  # None: a clock was set back or begun anew, which proves nothing about now
        if not same or not (own or (age is not None and age <= CONTACT_VALID_S)):
            seen = f"the last one passed {found['at']} on board {found['board']}" if found else "none has passed"
            raise Refused(
                f"die {self.die_id!r} has no contact test within the last {CONTACT_VALID_S / 60:.0f} minutes and since the "
                f"board and this computer were switched on ({seen}); no pulse was sent. Run one first: rramlab contact"
            )

    def _check_history(self, plan: Plan, expanded: list[StepAtWorst], run: Run | None, seen: Bools | None) -> None:
        """Compare the whole plan with what the cells have been through, by the ledger, its own steps added up."""
        budget = intersect(self.limits, plan.limits).pulses_per_cell
        check_wear(plan, expanded, budget, Past.of(self.ledger, run, seen), self.single_shot)

    def _check_single_shot(self, operation: PulseOp, formed: Bools, seen: Bools | None) -> None:
        """A cell is electroformed once in its life, on every path, unless a person says ``again`` of what was read since."""
        if operation.kind != "electroform":
            if operation.again:
                raise UsageError(
                    f"found 'again' for a {operation.kind} pulse, expected it with electroform only: {operation.kind} may be "
                    "repeated as it is; nothing was energised",
                    operation.source,
                )
            return
        cells, unknown = operation.cells.bits, self.ledger.unknown().bits
        if self.single_shot == "always":
            looked = np.zeros_like(unknown) if seen is None else seen
            check_single_shot(cells, formed, operation.again, unknown, looked, operation.source)
        elif self.single_shot == "unless unknown":
            check_known(cells & formed, unknown, operation.source)

    @staticmethod
    def _tests_contact_first(plan: Plan) -> bool:
        for each in leaves(plan.steps):
            if isinstance(each.step, ContactStep):
                return True
            if each.step.stresses:
                return False
        return False


def check_worst_case(
    plan: Plan, limits: Limits, board: BoardTable, smus: Mapping[str, SmuFile | None] | None = None
) -> list[StepAtWorst]:
    """Expand a plan at its worst case and check all that needs no die: what a dry run can say, too.

    ``smus``: the source-measure units on the bench, by name, with their driver files.

    Raises:
        Refused: a limit, a missing pilot block, or what the board cannot do. UsageError: a region off the die, or no such
        source-measure unit.
    """
    expanded = worst_case(plan, board)
    tightest = intersect(limits, plan.limits)
    without_pilot: set[int] = set()
    for each in expanded:
        for operation in each.operations:
            check(operation, tightest, board)
            if isinstance(operation, (Sweep, Route)):
                check_unit(operation, smus or {})
        if each.step.stresses == "electroform" and getattr(each.step, "pilot", None) is None:
            without_pilot |= {int(row) for row in each.cells.rows}
            _check_pilot(len(without_pilot), each.step.source)
    return expanded


def check_unit(operation: Sweep | Route, smus: Mapping[str, SmuFile | None]) -> None:
    """Compare an operation with what its unit's driver file allows, before anything is energised.

    Raises:
        Refused: levels, dwell or compliance that the unit cannot do. UsageError: as :func:`chosen_smu`.
    """
    name = chosen_smu(operation, smus)
    file = smus[name]
    if file is None:
        return
    limits, compliance = file.limits, operation.compliance_A
    found = [("compliance", compliance, limits.least_current_limit, limits.current, "A")]
    if isinstance(operation, Sweep):
        found += [
            ("number of levels", operation.levels, 1, limits.points, ""),
            ("dwell", operation.dwell_s, limits.shortest_dwell, limits.longest_dwell, "s"),
        ]
    for what, value, least, most, unit in found:
        if not least <= value <= most:
            raise Refused(
                f"{describe(operation)}: a {what} of {show(value, unit)}, SMU {name!r} ({file.model}) allows "
                f"{show(least, unit)} to {show(most, unit)}; nothing was energised. See: rramlab drivers show {file.model}",
                operation.source,
            )


def chosen_smu(operation: Sweep | Route, smus: Collection[str]) -> str:
    """Return the name of the source-measure unit that an operation means.

    Raises:
        UsageError: there is none, none of that name, or none was named of several.
    """
    if operation.smu in smus:
        return operation.smu
    if not operation.smu and len(smus) == 1:
        return next(iter(smus))
    known = ", ".join(sorted(smus))
    if not smus:
        problem = "there is no source-measure unit on the bench; enter it in bench.yaml under 'smus'"
    elif operation.smu:
        problem = f"there is no source-measure unit {operation.smu!r} on the bench; it has {known}"
    else:
        problem = f"the bench has several source-measure units: {known}; say which, with the key 'smu'"
    raise UsageError(f"{describe(operation)}: {problem}. Nothing was energised", operation.source)


def _check_pilot(rows: int, source: SourceRef) -> None:
    """``rows``: how many are electroformed without a pilot block, all steps together."""
    if rows > ROWS_WITHOUT_PILOT:
        raise Refused(
            f"this electroforms cells in {rows} rows without a pilot block; nothing was energised by it. A wrong voltage "
            "would ruin the die: run the protocol electroform, or add 'pilot: {rows: 4, formed_fraction: …, median: …}'",
            source,
        )
