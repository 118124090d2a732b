"""Executes a plan on one die, operation by operation; a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import OutOfLimits, Refused, RramlabError, Stopped
from rramlab.engine.expectation import compare
from rramlab.engine.interrupts import Interrupts
from rramlab.engine.station import Station
from rramlab.macro.cells import CellSelection
from rramlab.macro.regions import Region
from rramlab.plan.operations import (
    Contact,
    Expect,
    LoadGates,
    Multiply,
    Operation,
    PulseOp,
    Read,
    describe,
)
from rramlab.plan.plan import Bounds, Plan, operations, selection
from rramlab.plan.steps import Step
from rramlab.runs.store import Run, Status


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
    """Told before each operation. ``done`` of ``total`` operations; the total is the worst case of the plan."""

    run: str
    step: int
    steps: int
    done: int
    total: int
    message: str


Listener = Callable[[Progress], None]


@dataclass
class RunResult:
    """What a run did. ``checks``: every ``expect`` and pilot judgement, in order."""

    run_id: str
    die: str
    folder: str
    pulses: int = 0
    conversions: int = 0
    saturated: int = 0
    checks: list[dict[str, Any]] = field(default_factory=list)
    contact: dict[str, Any] | None = None
    reconciled: list[dict[str, Any]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(check["passed"] for check in self.checks)


class Runner:
    """One run of one plan on one station."""

    def __init__(
        self, station: Station, run: Run, plan: Plan, bounds: Bounds, interrupts: Interrupts, listen: Listener
    ) -> None:
        self.station, self.run, self.plan, self.bounds = station, run, plan, bounds
        self.interrupts, self.listen = interrupts, listen
        self.state = State.CREATED
        self.result = RunResult(run.id, station.die_id, str(run.folder))
        self._count = 0
        self._seen_S = station.conductance_S.copy()

    def execute(self) -> RunResult:
        """Execute every operation that is not yet done.

        Raises:
            Stopped, Refused, OutOfLimits or whatever failed, after the run's record says so. What was measured is kept.
        """
        self._move(State.RUNNING)
        try:
            self.result.reconciled = self.station.reconcile()
            self._steps()
        except BaseException as error:
            self._move(_ending(error))
            self._finish(str(error) or type(error).__name__)
            raise
        self._move(State.DONE)
        self._finish("")
        return self.result

    def _move(self, to: State) -> None:
        if to not in TRANSITIONS[self.state]:
            raise RramlabError(f"run {self.run.id} cannot go from {self.state.value} to {to.value}")
        self.state = to
        if to is State.RUNNING:
            self.run.update(status="running", reason="")

    def _finish(self, reason: str) -> None:
        self.station.keep_last_read()
        status: Status = self.state.value  # type: ignore[assignment]  # a final state's value is a status
        self.run.finish(
            status,
            reason,
            pulses=self.result.pulses,
            conversions=self.result.conversions,
            checks=self.result.checks,
            contact=self.result.contact,
            reconciled=self.result.reconciled,
        )
        self.run.consolidate()

    def _steps(self) -> None:
        board = self.station.board
        patterns: dict[int, LoadGates] = {}
        for index, step in enumerate(self.plan.steps):
            cells = self._frozen(index, step)
            for number, operation in enumerate(operations(step, cells, board, self.plan.block_rows, patterns)):
                self.interrupts.between()
                self._tell(index, describe(operation))
                self._one(operation, f"{index:03d}.{number:05d}")
                self._count += 1
        self._tell(len(self.plan.steps), "done")

    def _tell(self, step: int, message: str) -> None:
        self.listen(Progress(self.run.id, step, len(self.plan.steps), self._count, self.bounds.operations, message))

    def _frozen(self, index: int, step: Step) -> CellSelection:
        """Resolve a step's region once; a resumed run means the same cells as the first attempt."""
        geometry = self.station.board.geometry
        known = self.run.frozen(index, geometry)
        if known is not None:
            return known
        region = Region(getattr(step, "cells", "all"))
        if region.needs_read and np.isnan(self.station.conductance_S).all():
            raise Refused(
                f"the region {region} asks which cells conduct, but die {self.station.die_id!r} was never read; nothing was "
                "pulsed. Read it first: rramlab run read-array",
                step.source,
            )
        cells = selection(step, geometry, self.station.state)
        if region.depends_on_data:
            self.run.freeze(index, cells)
        return cells

    def _one(self, operation: Operation, position: str) -> None:
        match operation:
            case PulseOp():
                self._pulse(operation, position)
            case Read():
                self._read(operation, position)
            case LoadGates():
                self.station.load_gates(operation)
            case Multiply():
                self._multiply(operation, position)
            case Contact():
                self.result.contact = self.station.contact(operation).as_json()
            case Expect():
                self._expect(operation)

    def _pulse(self, operation: PulseOp, position: str) -> None:
        spent = np.zeros(self.station.board.geometry.shape, np.bool_)
        for entry in self.station.ledger.of_run(self.run.id, position):
            spent |= entry.spent.bits
        self._seen_S[operation.cells.bits] = np.nan
        remaining = CellSelection(operation.cells.bits & ~spent)
        if not remaining.count:
            return
        left = PulseOp(operation.kind, remaining, operation.pulse, operation.cells_per_pulse, operation.source)
        report = self.station.pulse(left, self.run.id, position, self.plan.limits)
        self.result.pulses += report.done.count

    def _read(self, operation: Read, position: str) -> None:
        start = int(operation.cells.rows[0])
        if self.run.has(position, operation.dataset):
            known = self.run.block(position, operation.dataset)
            block = known.load()
            self._see(block, start)
            self.station.take(block, start, known.attributes["operation"])
            return
        last = self.station.ledger.last_id
        block = self.station.read(operation, self.plan.limits)
        self._see(block, start)
        self.result.conversions += operation.cells.count * operation.repeats
        self.run.append(
            position,
            operation.dataset,
            block,
            form="cells",
            rows=[start, start + len(block)],
            shape=list(self.station.board.geometry.shape),
            repeats=operation.repeats,
            operation=last,
            calibration=self.station.calibration.record,
        )

    def _see(self, block: npt.NDArray[Any], start: int) -> None:
        """Take a block of this run as what its expectations are about, whatever other runs have read since."""
        self._seen_S[start : start + len(block)][block["valid"]] = block["conductance"][block["valid"]]

    def _multiply(self, operation: Multiply, position: str) -> None:
        if self.run.has(position, operation.dataset):
            return
        columns = np.flatnonzero(operation.pattern.enabled)
        sums, products = self.station.multiply(operation, columns)
        self.result.conversions += sums.conversions
        self.result.saturated += int(sums.saturated.sum())
        block = np.zeros(products.shape, [("sums", np.int32), ("product", np.float32)])
        block["sums"], block["product"] = sums.codes, products
        self.run.append(
            position,
            operation.dataset,
            block,
            form="products",
            columns=columns.tolist(),
            bits=operation.bits,
            gates=operation.pattern.digest,
            saturated=int(sums.saturated.sum()),
            calibration=self.station.calibration.record,
        )

    def _expect(self, operation: Expect) -> None:
        found = compare(operation, self._seen_S, self.station.ledger.unknown().bits)
        self.result.checks.append(found)
        if not found["passed"] and operation.stop:
            raise OutOfLimits(
                f"{operation.what} of die {self.station.die_id!r}: {found['reason']}; the run stopped after "
                f"{self.result.pulses:,} pulses. Look at the reads with: rramlab runs show {self.run.id}",
                operation.source,
            )


def _ending(error: BaseException) -> State:
    if isinstance(error, (Stopped, KeyboardInterrupt)):
        return State.STOPPED
    return State.REFUSED if isinstance(error, Refused) else State.FAILED
