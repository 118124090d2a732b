"""Executes a plan on one die, operation by operation; a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError, OutOfLimits, Refused, RramlabError, Stopped
from rramlab.engine.contact import ContactReport
from rramlab.engine.expectation import compare
from rramlab.engine.guard import chosen_smu
from rramlab.engine.interrupts import Interrupts
from rramlab.engine.probing import Curve, summary
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
    Route,
    Sweep,
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
    """What a run did. ``checks``: every ``expect`` and pilot judgement, in order.

    ``sweeps``, ``routes``: a summary of every curve and of everything measured at a source-measure unit, see
    :func:`rramlab.engine.probing.summary`; a sweep whose curve was lost has ``lost``.
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
    reconciled: list[dict[str, Any]] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(check["passed"] for check in self.checks)


class Runner:
    """One run of one plan on one station."""

    def __init__(
        self,
        station: Station,
        run: Run,
        plan: Plan,
        bounds: Bounds,
        interrupts: Interrupts,
        listen: Listener,
        make_safe: Callable[[], None],
    ) -> None:
        self.station, self.run, self.plan, self.bounds = station, run, plan, bounds
        self.interrupts, self.listen, self.make_safe = interrupts, listen, make_safe
        self.state = State.CREATED
        self.result = RunResult(run.id, station.die_id, str(run.folder))
        self.made_safe = False  # tried, whatever came of it
        self._count = 0
        self._meant: dict[str, CellSelection] = {}  # region text -> cells of the last step that named it
        self._seen_S = station.conductance_S.copy()

    def execute(self) -> RunResult:
        """Execute every operation that is not yet done.

        Raises:
            Stopped, Refused, OutOfLimits or whatever failed, after the run's record says so. What was measured is kept.
        """
        self._move(State.RUNNING)
        try:
            self.result.reconciled = self.station.reconcile()
            self._refuse_strangers()
            self._steps()
        except BaseException as error:
            # Safe before anything is written; and what is written is written even if that failed.
            with self.interrupts.held():
                why = str(error) or type(error).__name__
                self.made_safe = True
                try:
                    self.make_safe()
                except RramlabError as problem:
                    raise type(problem)(f"{why}. And then: {problem}") from error
                finally:
                    self._move(_ending(error))
                    self._finish(why)
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
        self.result.pulses = self._pulses()
        self.result.conversions = sum(int(block.attributes["conversions"]) for block in self.run.blocks())
        status: Status = self.state.value  # type: ignore[assignment]  # a final state's value is a status
        self.run.finish(
            status,
            reason,
            pulses=self.result.pulses,
            conversions=self.result.conversions,
            checks=self.result.checks,
            contact=self.result.contact,
            products=self.result.products,
            sweeps=self.result.sweeps,
            routes=self.result.routes,
            reconciled=[*self.run.record.get("reconciled", []), *self.result.reconciled],
        )
        self.run.consolidate()

    def _pulses(self) -> int:
        """Pulses of this run, all attempts together, by the ledger."""
        return sum(entry.done.count for entry in self.station.ledger.of_run(self.run.id))

    def _steps(self) -> None:
        board = self.station.board
        patterns: dict[int, LoadGates] = {}
        for index, step in enumerate(self.plan.steps):
            cells = self._frozen(index, step)
            self._meant[getattr(step, "cells", "all")] = cells
            for number, operation in enumerate(operations(step, cells, board, self.plan.block_rows, patterns)):
                self.interrupts.between()
                self._tell(index, describe(operation))
                self._one(operation, f"{index:03d}.{number:05d}")
                self._count += 1
        self._tell(len(self.plan.steps), "done")

    def _tell(self, step: int, message: str) -> None:
        self.listen(Progress(self.run.id, step, len(self.plan.steps), self._count, self.bounds.operations, message))

    def _frozen(self, index: int, step: Step) -> CellSelection:
        """Resolve a step's region once; a resumed run means the same cells as the first attempt.

        A read or ``expect`` means the cells of the step before it that was written with the same region: after a pulse on
        ``pristine`` cells they are looked at, and not the cells that are still pristine.
        """
        geometry = self.station.board.geometry
        known = self.run.frozen(index, geometry)
        if known is None and not step.stresses:
            known = self._meant.get(getattr(step, "cells", "all"))
        if known is not None:
            return known
        region = Region(getattr(step, "cells", "all"))
        prefix = f"{index:03d}."
        if region.depends_on_data and any(
            entry.position.startswith(prefix) for entry in self.station.ledger.of_run(self.run.id)
        ):
            raise DataError(
                f"step {index + 1} of run {self.run.id} has begun, but the file of its frozen selection is gone; nothing was "
                "pulsed. Read the die and start a new run for what is left"
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
                self.station.load_gates(operation, self.plan.limits)
            case Multiply():
                self._multiply(operation, position)
            case Contact():
                self._contact(operation, position)
            case Sweep():
                self._sweep(operation, position)
            case Route():
                self._route(operation, position)
            case Expect():
                self._expect(operation)

    def _contact(self, operation: Contact, position: str) -> None:
        """Test the lines, each time anew: what a resumed run knew of them may be no longer true."""
        last = self.station.ledger.last_id

        def keep(report: ContactReport, block: npt.NDArray[Any]) -> None:
            conversions = operation.cells.count
            self.result.contact = {**report.as_json(), "verdict": str(report), "conversions": conversions}
            read = Read(operation.cells, 1, "contact", "contact")
            self.run.append_cells(position, read, block, self.station.calibration.record, last)

        self.station.contact(operation, self.plan.limits, keep)

    def _sweep(self, operation: Sweep, position: str) -> None:
        curve = self._known(position, operation.dataset)
        if operation.as_pulse is not None:
            self._seen_S[operation.cells.bits] = np.nan
        if curve is None:
            had_its_pulse = any(entry.spent.count for entry in self.station.ledger.of_run(self.run.id, position))
            if had_its_pulse:
                lost = {"dataset": operation.dataset, "kind": operation.purpose, "lost": True}
                target = operation.target
                self.result.sweeps.append({**lost, "row": target.row, "column": target.column})
                return
            curve = self.station.sweep(operation, self.run.id, position, self.plan.limits)
            self._keep(operation, position, curve, operation.purpose)
        self.result.sweeps.append(self._summary(operation, curve))

    def _route(self, operation: Route, position: str) -> None:
        curve = self._known(position, operation.dataset)
        if curve is None:
            curve = self.station.route(operation, self.plan.limits)
            self._keep(operation, position, curve, "route")
        self.result.routes.append(self._summary(operation, curve))

    def _known(self, position: str, dataset: str) -> Curve | None:
        return self.run.block(position, dataset).load() if self.run.has(position, dataset) else None

    def _summary(self, operation: Sweep | Route, curve: Curve) -> dict[str, Any]:
        found = summary(operation, curve, self.station.board.read_voltage_V)
        return {**found, "smu": chosen_smu(operation, self.station.smus)}

    def _keep(self, operation: Sweep | Route, position: str, curve: Curve, kind: str) -> None:
        found = self._summary(operation, curve)
        place = ("row", "column", "target", "peak_V")
        self.run.append(
            position,
            operation.dataset,
            curve,
            form="curve",
            kind=kind,
            smu=found["smu"],
            compliance_A=operation.compliance_A,
            gate_V=operation.gate_V,
            conversions=0,
            **{name: found[name] for name in place if name in found},
        )

    def _pulse(self, operation: PulseOp, position: str) -> None:
        spent = np.zeros(self.station.board.geometry.shape, np.bool_)
        for entry in self.station.ledger.of_run(self.run.id, position):
            spent |= entry.spent.bits
        self._seen_S[operation.cells.bits] = np.nan
        remaining = CellSelection(operation.cells.bits & ~spent)
        if not remaining.count:
            return
        left = PulseOp(operation.kind, remaining, operation.pulse, operation.cells_per_pulse, operation.source)
        self.station.pulse(left, self.run.id, position, self.plan.limits)

    def _refuse_strangers(self) -> None:
        """A resumed run was planned for the die as it was: cells that other runs have pulsed since are not its own."""
        begun = int(self.run.record["operation"])
        since = [entry for entry in self.station.ledger.since(begun) if entry.run != self.run.id]
        own = self.station.ledger.of_run(self.run.id) if since else []
        geometry = self.station.board.geometry
        for index, step in enumerate(self.plan.steps if since else ()):
            cells = self.run.frozen(index, geometry)
            if cells is None and step.stresses and not Region(getattr(step, "cells", "all")).depends_on_data:
                cells = selection(step, geometry, None)
            if cells is None or not step.stresses:
                continue  # not a pulse, or not yet settled which cells it means: those will be settled by what they are now
            for entry in own:
                if entry.position.startswith(f"{index:03d}."):
                    cells -= entry.spent
            for entry in since:
                both = cells & entry.spent
                if both.count:
                    raise Refused(
                        f"{both.count:,} cells that run {self.run.id} has still to pulse were pulsed by run {entry.run} since "
                        "it began; nothing was pulsed. Start a new run for what is left",
                        step.source,
                    )

    def _read(self, operation: Read, position: str) -> None:
        start = int(operation.cells.rows[0])
        if self.run.has(position, operation.dataset):
            known = self.run.block(position, operation.dataset)
            try:
                block = known.load()
            except DataError:
                # A read is harmless: it is taken again, unless its cells were pulsed since and would read otherwise.
                since = self.station.ledger.since(known.attributes["operation"])
                if any((operation.cells & entry.spent).count for entry in since):
                    raise
            else:
                self._see(block, start)
                self.station.take(block, start, known.attributes["operation"])
                return
        last = self.station.ledger.last_id
        block = self.station.read(operation, self.plan.limits)
        self._see(block, start)
        self.run.append_cells(position, operation, block, self.station.calibration.record, last)

    def _see(self, block: npt.NDArray[Any], start: int) -> None:
        """Take a block of this run as what its expectations are about, whatever other runs have read since."""
        self._seen_S[start : start + len(block)][block["valid"]] = block["conductance"][block["valid"]]

    def _multiply(self, operation: Multiply, position: str) -> None:
        if self.run.has(position, operation.dataset):
            return
        columns = np.flatnonzero(operation.pattern.enabled)
        sums, products = self.station.multiply(operation, columns, self.plan.limits)
        saturated = int(sums.saturated.sum())
        self.result.saturated += saturated
        columns_S = products.mean(axis=0)
        self.result.products.append(
            {
                "dataset": operation.dataset,
                "vectors": len(products),
                "columns": len(columns),
                "mean_S": float(columns_S.mean()),
                "column_spread_S": float(columns_S.std()),
                "vector_spread_S": float(products.std(axis=0).mean()),
                "saturated": saturated,
            }
        )
        block = np.zeros(products.shape, [("sums", np.int32), ("product", np.float32)])
        block["sums"], block["product"] = sums.codes, products
        self.run.append(
            position,
            operation.dataset,
            block,
            form="products",
            columns=columns.tolist(),
            bits=operation.bits,
            conversions=sums.conversions,
            gates=operation.pattern.digest,
            saturated=saturated,
            calibration=self.station.calibration.record,
        )

    def _expect(self, operation: Expect) -> None:
        ledger = self.station.ledger
        found = compare(operation, self._seen_S, ledger.doubtful().bits, ledger.unknown().bits)
        self.result.checks.append(found)
        if not found["passed"] and operation.stop:
            hint = f" {operation.window.hint}" if operation.window.hint else ""
            raise OutOfLimits(
                f"{operation.what} of die {self.station.die_id!r}: {found['reason']}; the run stopped after "
                f"{self._pulses():,} pulses. Look at the reads with: rramlab runs show {self.run.id}.{hint}",
                operation.source,
            )


def _ending(error: BaseException) -> State:
    if isinstance(error, (Stopped, KeyboardInterrupt)):
        return State.STOPPED
    return State.REFUSED if isinstance(error, Refused) else State.FAILED
