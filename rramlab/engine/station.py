"""One die at work: executes operations through the guard and the ledger, and knows what was last read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError, InstrumentError, OutOfLimits, Refused, RramlabError
from rramlab.drivers.controller import History, Identity, MacroController, NotDone, Sums
from rramlab.drivers.smu.instrument import Smu
from rramlab.engine.contact import ContactReport, judge
from rramlab.engine.guard import Guard, chosen_smu
from rramlab.engine.interrupts import Interrupts
from rramlab.engine.probing import Probe, Probed
from rramlab.macro.board import BoardTable
from rramlab.macro.calibration import BoardCalibration
from rramlab.macro.cells import Bools, CellSelection, CellState, is_conducting
from rramlab.macro.pulses import PulseReport
from rramlab.plan.limits import Limits
from rramlab.plan.operations import (
    Contact,
    LoadGates,
    Multiply,
    PulseOp,
    Read,
    ReferenceRead,
    Route,
    Sweep,
    Wait,
    describe,
)
from rramlab.runs.lastread import Look, last_known, save_last_read
from rramlab.runs.ledger import Entry, Ledger

Floats = npt.NDArray[np.float32]
# More cells than this share that conducted, or did not, unlike at the last read: another die is in the socket.
IDENTITY_MISMATCH = 0.05
Block = npt.NDArray[Any]


def _forget(report: ContactReport, block: Block) -> None:
    """Keep nothing."""


def _drop(probed: Probed) -> None:
    """Keep nothing."""


class Station:
    """A die, its controller, its ledger and its guard. The only place that sends operations to a controller."""

    def __init__(
        self,
        die_id: str,
        controller: MacroController,
        ledger: Ledger,
        guard: Guard,
        calibration: BoardCalibration,
        folder: Path,
        interrupts: Interrupts,
        smus: Mapping[str, Smu] | None = None,
    ) -> None:
        self.die_id, self.controller = die_id, controller
        self.smus = smus or {}
        self.ledger, self.guard, self.calibration = ledger, guard, calibration
        self.folder = folder
        self.last_read = last_known(folder, ledger)
        self._looked_at = np.zeros(self.last_read.conductance_S.shape, np.bool_)  # in this session
        self._missed = np.zeros(self.last_read.conductance_S.shape, np.int64)  # the operation that did not reach a cell
        self.interrupts = interrupts
        self._acknowledged = False  # whether the board was told of all outcomes before this session

    @property
    def conductance_S(self) -> Floats:
        """The last read of each cell, float32[rows, columns] in siemens, NaN where not known; a pulse makes it unknown."""
        return self.last_read.conductance_S

    @property
    def seen(self) -> Bools:
        """Which cells were read in this session, or by the run that it goes on with, since their last pulse."""
        missed: Bools = (self._missed > 0) & (self._missed == self.ledger.last_operation())
        return missed | (self._looked_at & ~np.isnan(self.conductance_S))

    def look_back(self, cells: CellSelection) -> None:
        """Take what is known of cells as read in this session, which goes on where another one was."""
        self._looked_at |= cells.bits

    def missed(self, entry: Entry) -> None:
        """Take the cells that an operation did not reach for as well known as they were when it was admitted."""
        cells = entry.cells.bits & ~entry.spent.bits & (self.ledger.last_operation() == entry.op_id)
        self._missed[cells] = entry.op_id

    @property
    def board(self) -> BoardTable:
        return self.guard.board

    @property
    def identity(self) -> Identity:
        """The controller as it said last."""
        return self.guard.identity

    def identify(self) -> None:
        """Ask the controller who it is: the board may have been switched off since the session began.

        Raises:
            InstrumentError: it is another board.
        """
        identity = self.controller.hello()
        if identity.board_serial != self.identity.board_serial:
            raise InstrumentError(
                f"the board of die {self.die_id!r} was {self.identity.board_serial!r} and is {identity.board_serial!r} now; "
                "nothing was sent to it. Connect the right one and start anew"
            )
        self.guard.met(identity)

    @property
    def state(self) -> CellState:
        """What is known of every cell: pulses by the ledger, conductance by the last read."""
        return CellState(self.ledger.pulse_counts(), self.conductance_S.copy(), self.ledger.unknown().bits)

    def pulse(
        self, operation: PulseOp, run: str, position: str, limits: Limits | None = None, planned: bool = True
    ) -> PulseReport:
        """Intent, pulse, outcome. A failure in between leaves a dangling intent that :meth:`reconcile` decides.

        Raises:
            Refused: nothing was intended or pulsed.
        """
        self.reconcile()
        self.guard.admit(operation, limits, planned, self.seen if operation.again else None)
        if not operation.cells.count:
            return PulseReport(operation.cells)
        pulse = operation.pulse
        amplitude, gate = self.calibration.dac_code(pulse.amplitude_V), self.calibration.dac_code(pulse.gate_V)
        op_id = self.ledger.intend(operation, run, position, self.identity.boot_nonce, self.identity.board_serial)
        self.conductance_S[operation.cells.bits] = np.nan
        with self._undelivered_if_refused(op_id):
            report = self.controller.pulse(
                op_id,
                operation.kind,
                operation.cells,
                amplitude,
                round(pulse.width_s * 1e9),
                gate,
                operation.cells_per_pulse,
                self.interrupts.tick,
            )
        self.ledger.finish(op_id, report.done)
        self.controller.acknowledge(op_id)
        if report.done != operation.cells:
            missing = operation.cells.count - report.done.count
            raise RramlabError(
                f"{describe(operation)}: the controller stopped with {missing:,} cells not pulsed; the ledger knows which"
                f"{', and a pulse that was cut short counts as delivered' if report.truncated else ''}. "
                "Find out why, then resume the run"
            )
        return report

    @contextmanager
    def _undelivered_if_refused(self, op_id: int, delivered: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Write down that no cell felt an operation which the board, or the unit's own limits, refused.

        ``delivered``: whether its outcome is known already.
        """
        try:
            yield
        except (NotDone, Refused):
            if not delivered():
                self.ledger.finish(op_id, self._nothing)
            raise

    def read(self, operation: Read, limits: Limits | None = None, run: str = "") -> npt.NDArray[Any]:
        """Read the selected cells. ``run``: which one asks, to be told where their last read is used.

        Returns a structured array[rows spanned, columns] with ``codes`` uint16[repeats], ``conductance`` float32 in
        siemens and ``valid`` bool: what a run stores.
        """
        self.guard.admit(operation, limits)
        rows = operation.cells.rows
        start, stop = (int(rows[0]), int(rows[-1]) + 1) if rows.size else (0, 0)
        volts = self.board.contact_voltage_V if operation.bias == "contact" else self.board.read_voltage_V
        bias = self.board.dac_code(volts)
        codes = self.controller.read(operation.cells, operation.repeats, bias, self.interrupts.tick, operation.isolated)
        valid = operation.cells.bits[start:stop]
        columns = np.nonzero(valid)[1]
        siemens = self.calibration.conductance(codes, columns, bias)
        block = np.zeros(
            valid.shape,
            [("codes", np.uint16, (operation.repeats,)), ("conductance", np.float32), ("valid", np.bool_)],
        )
        block["codes"][valid] = codes.T
        block["conductance"] = np.nan
        block["conductance"][valid] = siemens
        block["valid"] = valid
        if operation.is_last:
            self.take(block, start, Look.now(run))
        return block

    def take(self, block: npt.NDArray[Any], start: int, look: Look, operation: int | None = None) -> None:
        """Take a read block, which begins at row ``start``, as the last read of its cells. ``look``: who read it and when.

        ``operation``: the last operation of the ledger before an older block; what was pulsed since is left as it is.
        """
        current = block["valid"].copy()
        if operation is not None:
            current &= self.ledger.last_operation()[start : start + len(block)] <= operation
        self._looked_at[start : start + len(block)] |= current
        self.last_read.take(block, start, current, look)

    def reference_read(self, operation: ReferenceRead, limits: Limits | None = None) -> Block:
        """Read a reference resistor, or open inputs.

        Returns a structured array[columns] with ``codes`` uint16[repeats]: what a run stores.
        """
        self.guard.admit(operation, limits)
        bias, multiply = self.board.dac_code(operation.voltage_V), operation.range == "multiply"
        codes = self.controller.read_reference(
            operation.resistor, multiply, operation.repeats, bias, self.interrupts.tick
        )
        block = np.zeros(self.board.geometry.columns, [("codes", np.uint16, (operation.repeats,))])
        block["codes"] = codes.T
        return block

    def load_gates(self, operation: LoadGates, limits: Limits | None = None) -> None:
        self.guard.admit(operation, limits)
        self.controller.load_gates(operation.slot, operation.pattern.rows, operation.pattern.phase)

    def multiply(
        self, operation: Multiply, columns: npt.NDArray[np.intp], limits: Limits | None = None
    ) -> tuple[Sums, Floats]:
        """Return the controller's sums and the products, float32[batch, n] in siemens × code."""
        self.guard.admit(operation, limits)
        sums = self.controller.multiply(operation.x, operation.bits, operation.slot, columns, self.interrupts.tick)
        groups = operation.pattern.groups_of(columns, self.board.lines_at_once)
        return sums, self.calibration.products(sums.codes, columns, groups, operation.bits)

    def sweep(
        self,
        operation: Sweep,
        run: str,
        position: str,
        limits: Limits | None = None,
        keep: Callable[[Probed], None] = _drop,
    ) -> None:
        """Sweep one cell. All but a read is one pulse of its kind in the ledger: intent, sweep, outcome.

        ``keep``: told what was measured, whatever fails after the points came.

        Raises:
            Refused, UsageError: nothing was energised by it.
        """
        pulse = operation.as_pulse
        if pulse is not None:
            self.reconcile()
        self.guard.admit(operation, limits)
        probe = self._probe(operation)
        probe.prepare(operation)
        gate = self.calibration.dac_code(operation.gate_V)
        if pulse is None:
            probe.sweep(operation, gate, 0, keep)
            return
        op_id = self.ledger.intend(pulse, run, position, self.identity.boot_nonce, self.identity.board_serial)
        self.conductance_S[operation.cells.bits] = np.nan

        delivered = False

        def came(probed: Probed) -> None:
            nonlocal delivered
            self.ledger.finish(op_id, operation.cells)
            delivered = True
            keep(probed)

        with self._undelivered_if_refused(op_id, lambda: delivered):
            probe.sweep(operation, gate, op_id, came)
        self.controller.acknowledge(op_id)

    def route(self, operation: Route, limits: Limits | None = None) -> Probed:
        """Connect, measure, hold and release a cell, a reference resistor or a DAC channel; see :meth:`sweep`."""
        self.guard.admit(operation, limits)
        probe = self._probe(operation)
        probe.prepare(operation)
        return probe.route(operation, self.board.dac_code(operation.bias_V))

    def wait(self, operation: Wait) -> None:
        """Let time pass with nothing energised; a stop comes through."""
        self.controller.wait(operation.time_s, self.interrupts.between)

    def _probe(self, operation: Sweep | Route) -> Probe:
        return Probe(self.controller, self.smus[chosen_smu(operation, self.smus)], self.interrupts)

    def contact(
        self, operation: Contact, limits: Limits | None = None, keep: Callable[[ContactReport, Block], None] = _forget
    ) -> ContactReport:
        """Test the lines at the contact voltage, and that this is the die it is said to be.

        ``keep``: told the verdict and the read that it rests on, whatever they are.

        Raises:
            OutOfLimits: a line is open, shorted or leaking, or another die is in the socket; no pulse until it passes.
        """
        self.guard.admit(operation, limits)
        self.identify()
        block = self.read(Read(operation.cells, 1, "contact", "contact", operation.source), limits)
        top = (1 << self.board.adc_bits) - 1
        report = judge(block["conductance"], block["codes"][..., 0] >= top, self.state)
        keep(report, block)
        if not report.passed:
            self.guard.contact_failed()
            raise OutOfLimits(
                f"the contact test of die {self.die_id!r} failed: {report}. No pulse will be sent to it. Reseat the die, "
                "check the socket and the multiplexers, then run: rramlab contact",
                operation.source,
            )
        self._confirm_identity(block["conductance"])
        self.guard.contact_passed()
        return report

    def _confirm_identity(self, conductance_S: Floats) -> None:
        pristine = self.ledger.pulse_counts() == 0  # by the ledger: expected not to conduct, read before or not
        known = ~np.isnan(self.conductance_S) | pristine
        differs = (is_conducting(conductance_S) != is_conducting(self.conductance_S)) & known
        share = int(np.count_nonzero(differs)) / max(1, int(np.count_nonzero(known)))
        if share > IDENTITY_MISMATCH:
            self.guard.contact_failed()
            raise OutOfLimits(
                f"{share:.0%} of the cells of die {self.die_id!r} conduct unlike at their last read, or although they were "
                "never pulsed: another die may be in the socket. No pulse will be sent. Check the die's label against "
                "bench.yaml"
            )

    def reconcile(self) -> list[dict[str, Any]]:
        """Decide every dangling intent: by the controller's history, else by reading what reading can prove.

        A cell that was pristine before and conducts now has had its pulse. A cell that does not conduct proves nothing:
        it becomes ``unknown`` and is not pulsed again. Returns what was decided, for the report.
        """
        self.identify()
        dangling = self.ledger.dangling()
        if dangling:
            # What was sent and has not arrived yet must not come after the board's history was heard.
            self.controller.safe_state()
        decided = [self._reconcile(entry) for entry in dangling]
        if not self._acknowledged:
            # A process that was killed may have written outcomes down without telling the board.
            self._refuse_another_ledger()
            self.controller.acknowledge(self.ledger.last_id)
            self._acknowledged = True
        return decided

    @property
    def _nothing(self) -> CellSelection:
        return CellSelection(np.zeros(self.board.geometry.shape, np.bool_))

    def _refuse_another_ledger(self) -> None:
        """A board that knows later operations than the ledger has pulsed this die under another ledger."""
        if self.controller.history(self.ledger.last_id + 1, self.interrupts.tick) is not History.NEVER:
            raise DataError(
                f"the board of die {self.die_id!r} has carried out operations that the ledger {self.ledger.path} does not "
                "know: there is another ledger of this die, which holds its life. Nothing was pulsed. Find it "
                "(data/dies/<id>/ledger.db of another bench folder) and work with that: a cell could get a second pulse"
            )

    def _reconcile(self, entry: Entry) -> dict[str, Any]:
        unknown = self._nothing
        told = self._told(entry)
        if told is not None:
            done, how = told
        else:
            block = self.read(Read(entry.cells, 1, "reconcile"))
            rows = entry.cells.rows
            now = np.zeros(self.board.geometry.shape, np.bool_)
            now[rows[0] : rows[-1] + 1] = is_conducting(block["conductance"])
            # The counts include this intent: a cell with one pulse was pristine before it.
            proven = now & (self.ledger.pulse_counts() == 1) & entry.cells.bits
            done, how = CellSelection(proven), "reading, the controller has forgotten"
            unknown = entry.cells - done
        self.ledger.finish(entry.op_id, done, unknown, how)
        self.conductance_S[entry.cells.bits] = np.nan
        self.controller.acknowledge(entry.op_id)
        return {
            "operation": entry.op_id,
            "run": entry.run,
            "kind": entry.kind,
            "cells": entry.cells.count,
            "pulsed": done.count,
            "unknown": unknown.count,
            "decided_by": how,
        }

    def _told(self, entry: Entry) -> tuple[CellSelection, str] | None:
        """Return what the board knows of an operation, and how; None where it has forgotten, or is another board."""
        if entry.board not in ("", self.identity.board_serial):
            return None
        history = self.controller.history(entry.op_id, self.interrupts.tick)
        if isinstance(history, CellSelection):
            return history, "the controller's history"
        if history is History.NEVER and entry.boot_nonce == self.identity.boot_nonce:
            return self._nothing, "the controller never received it"
        return None

    def keep_last_read(self) -> None:
        """Write the last read of every cell beside the ledger, for the next session and for maps."""
        save_last_read(self.folder, self.last_read, self.ledger.last_id)
