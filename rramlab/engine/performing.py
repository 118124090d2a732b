"""Does the operations of a run, each once: what a resumed run finds done is taken from its blocks and the ledger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError, OutOfLimits
from rramlab.base.times import wall
from rramlab.base.units import show
from rramlab.engine.contact import ContactReport
from rramlab.engine.earlier import Earlier
from rramlab.engine.expectation import ages, compare, compare_bystanders, say_ages
from rramlab.engine.guard import chosen_smu
from rramlab.engine.probing import Probed, levels_of, summary
from rramlab.engine.results import RunResult
from rramlab.engine.station import Station
from rramlab.macro.cells import Bools, CellSelection
from rramlab.macro.routes import RoutedCell
from rramlab.plan.limits import Limits
from rramlab.plan.operations import (
    Contact,
    Expect,
    LoadGates,
    Multiply,
    Operation,
    PulseOp,
    Read,
    ReferenceRead,
    Route,
    Sweep,
    Unchanged,
    Wait,
)
from rramlab.plan.plan import BEFORE
from rramlab.runs.curves import Curve
from rramlab.runs.lastread import Look
from rramlab.runs.store import Run, in_order

_SHOWN = 80  # characters of a unit's answer in an error


@dataclass(frozen=True)
class Place:
    """Where in a run an operation stands. ``attributes``: of the blocks that it writes: step, round and labels in loops."""

    position: str
    attributes: dict[str, Any] = field(default_factory=dict)


class Performer:
    """One run's operations on one station.

    ``seen_S``: what this run has read last of each cell and not pulsed since: float32[rows, columns], NaN where nothing.
    """

    def __init__(self, station: Station, run: Run, limits: Limits, result: RunResult, resumed: bool) -> None:
        self.earlier = Earlier(run, station.ledger, resumed=False)  # of a resumed run the runner puts what there was
        self._behind = resumed  # an earlier attempt may have done what comes now, and things after it
        self.station, self.run, self.limits, self.result = station, run, limits, result
        self.seen_S = station.conductance_S.copy()
        self.pulsed = np.zeros(self.seen_S.shape, np.bool_)  # by this run
        self._own = np.zeros(self.seen_S.shape, np.bool_)  # read by this run: what is seen of them is its own read
        self._tested = False  # the lines, by this attempt
        # The last read of bystanders before a pulse, and the row that it begins at.
        self._before: tuple[int, npt.NDArray[Any]] | None = None

    def perform(self, operation: Operation, at: Place) -> None:
        """Do one operation that is not yet done; what it measured is kept.

        Raises:
            OutOfLimits: what was read is not as expected. DataError: the run's folder or the ledger is gone.
        """
        self.run.check_there()
        self.earlier.come_to(at.position)
        match operation:
            case PulseOp():
                self._pulse(operation, at.position)
            case Read():
                self._read(operation, at)
            case ReferenceRead():
                self._reference(operation, at)
            case LoadGates():
                self.station.load_gates(operation, self.limits)
            case Multiply():
                self._multiply(operation, at)
            case Contact():
                self._contact(operation, at)
            case Sweep():
                self._sweep(operation, at)
            case Route():
                self._route(operation, at)
            case Expect():
                self._expect(operation, at)
            case Unchanged():
                self._unchanged(operation, at)
            case Wait():
                self._wait(operation, at.position)

    def _contact(self, operation: Contact, at: Place) -> None:
        """Test the lines, each time anew: what a resumed run knew of them may be no longer true."""
        known = self.run.has(at.position, "contact")
        if known and self._tested:
            return
        last = self.station.ledger.last_id

        def keep(report: ContactReport, block: npt.NDArray[Any]) -> None:
            conversions = operation.cells.count
            self.result.contact = {**report.as_json(), "verdict": str(report), "conversions": conversions}
            read = Read(operation.cells, 1, "contact", "contact")
            if not known:  # what the lines were when the run was here stays as it was
                self.run.append_cells(at.position, read, block, self.station.calibration.record, last, **at.attributes)

        self.station.contact(operation, self.limits, keep)
        self._tested = True

    def _sweep(self, operation: Sweep, at: Place) -> None:
        pulse = operation.as_pulse is not None
        if pulse:
            self.seen_S[operation.cells.bits] = np.nan
        if not self.run.has(at.position, operation.dataset):
            if pulse and not self._unspent(operation.cells).count:
                lost = {"dataset": operation.dataset, "kind": operation.purpose, "lost": True}
                target = operation.target
                self.result.sweeps.append({**lost, "row": target.row, "column": target.column})
                reason = f"{_what(operation)}: the cell had its pulse and the curve is lost; it is not repeated"
                self._flaw(at, operation.dataset, reason, lost=True)
                return
            if not pulse and self._is_lost(at, operation.dataset, operation.cells.bits):
                return
            if pulse:
                self.earlier.before_new(operation, at.position)
            self.station.sweep(
                operation, self.run.id, at.position, self.limits,
                lambda probed: self._keep(operation, at, probed, operation.purpose),
            )  # fmt: skip
            self._tell(operation, at, self.result.sweeps)
            self._refuse_blind(operation, at)
        else:
            self._check_known(operation, at.position)
            self._tell(operation, at, self.result.sweeps)

    def _route(self, operation: Route, at: Place) -> None:
        if not self.run.has(at.position, operation.dataset):
            connected = np.zeros(self.seen_S.shape, np.bool_)
            if isinstance(operation.target, RoutedCell):
                connected[operation.target.row, operation.target.column] = True
            if self._is_lost(at, operation.dataset, connected):
                return
            self._keep(operation, at, self.station.route(operation, self.limits), "route")
        else:
            self._check_known(operation, at.position)
        self._tell(operation, at, self.result.routes)

    def _tell(self, operation: Sweep | Route, at: Place, told: list[dict[str, Any]]) -> None:
        """Sum up what is kept of a sweep or route, and name what of it is no measurement."""
        block = self.run.block(at.position, operation.dataset)
        curve = block.load()
        bad, problem = block.attributes.get("bad", ()), block.attributes.get("problem", "")
        found = self._summary(operation, curve)
        told.append({**found, **({"bad": bad} if bad else {}), **({"problem": problem} if problem else {})})
        if "answer" in block.attributes:
            answer = str(block.attributes["answer"])
            reason = f"{_what(operation)}: its {len(bad)} points cannot be told from one another in the answer {_short(answer)}"
            self._flaw(at, operation.dataset, reason, points=len(bad))
        else:
            for each in bad:
                which = f"point {each['point']} of {len(curve)} (from 0), at {show(each['level_V'], 'V')}"
                reason = f"{_what(operation)}: {which}, is no measurement: the unit answered {_short(each['said'])}"
                self._flaw(at, operation.dataset, reason, **each)
        if problem:
            self._flaw(
                at, operation.dataset, f"{_what(operation)}: after its points had come: {problem}", problem=problem
            )

    def _flaw(self, at: Place, dataset: str, reason: str, **more: Any) -> None:
        self.result.flaws.append({"position": at.position, "dataset": dataset, "reason": reason, **more})

    def _refuse_blind(self, operation: Sweep, at: Place) -> None:
        """A unit that measures nothing at all tells nothing of the pulses that it gives: the next is a person's decision."""
        if operation.as_pulse is None or self.run.block(at.position, operation.dataset).load()["good"].any():
            return
        raise OutOfLimits(
            f"{self.result.flaws[-1]['reason']}. No point of it is a measurement, so the run stopped before another pulse; the "
            "cell had its own. Find out why, then go on: no pulse is given again",
            operation.source,
        )

    def knows(self, position: str, dataset: str) -> bool:
        """Return whether a block is there and whole."""
        try:
            if not self.run.has(position, dataset):
                return False
            self.run.block(position, dataset).load()
        except DataError:
            return False
        return True

    def _check_known(self, operation: Sweep | Route, position: str) -> None:
        """Compare what an earlier attempt has measured with what stands at its place now."""
        block = self.run.block(position, operation.dataset)
        self.earlier.check(operation, block, block.load())

    def _unspent(self, cells: CellSelection) -> CellSelection:
        """Return those of an operation's cells that did not have its pulse in an earlier attempt."""
        spent = self.earlier.spent
        return cells if spent is None else CellSelection(cells.bits & ~spent)

    def _summary(self, operation: Sweep | Route, curve: Curve) -> dict[str, Any]:
        found = summary(operation, curve, self.station.board.read_voltage_V)
        return {**found, "smu": chosen_smu(operation, self.station.smus)}

    def _keep(self, operation: Sweep | Route, at: Place, probed: Probed, kind: str) -> None:
        found = self._summary(operation, probed.curve)
        place = ("row", "column", "target", "peak_V")
        self.run.append(
            at.position,
            operation.dataset,
            probed.curve,
            form="curve",
            kind=kind,
            smu=found["smu"],
            compliance_A=operation.compliance_A,
            gate_V=operation.gate_V,
            conversions=0,
            **{name: found[name] for name in place if name in found},
            **probed.attributes(levels_of(operation)),
            **at.attributes,
        )

    def _pulse(self, operation: PulseOp, position: str) -> None:
        self.seen_S[operation.cells.bits] = np.nan
        self.pulsed |= operation.cells.bits
        remaining = self._unspent(operation.cells)
        if not remaining.count:
            return
        self.earlier.before_new(operation, position)
        for entry in self.earlier.missed:
            self.station.missed(entry)
        self.station.pulse(replace(operation, cells=remaining), self.run.id, position, self.limits)

    def _read(self, operation: Read, at: Place) -> None:
        position = at.position
        start = int(operation.cells.rows[0])
        if self.run.has(position, operation.dataset):
            known = self.run.block(position, operation.dataset)
            try:
                block = known.load()
            except DataError:
                # A read is harmless: it is taken again, unless its cells were pulsed since and would read otherwise.
                pulsed = self.station.ledger.since(known.attributes["operation"])
                if any((operation.cells & entry.spent).count for entry in pulsed):
                    raise
            else:
                self.earlier.check(operation, known, block)
                self._see(operation, block, start)
                if operation.is_last:
                    look = Look(self.run.id, known.attributes["written_at"])
                    self.station.take(block, start, look, known.attributes["operation"])
                return
        if self._is_lost(at, operation.dataset, operation.cells.bits):
            if operation.is_last:
                self.seen_S[operation.cells.bits] = np.nan
                self._before = None
            return
        last = self.station.ledger.last_id
        block = self.station.read(operation, self.limits, self.run.id)
        self._see(operation, block, start)
        self.run.append_cells(at.position, operation, block, self.station.calibration.record, last, **at.attributes)

    def _is_lost(self, at: Place, dataset: str, cells: Bools) -> bool:
        """Say whether something harmless that is not there any more cannot be done again: what would be measured now is what
        came of pulses that this run gave at later places of its plan.

        ``cells``: bool[rows, columns], those that it is about.
        """
        if not self._behind:
            return False
        later = np.zeros(self.seen_S.shape, np.bool_)
        self._behind = False
        for entry in self.station.ledger.of_run(self.run.id):
            if in_order(entry.position) > in_order(at.position):
                self._behind = True
                later |= entry.spent.bits
        since = int(np.count_nonzero(later & cells))
        if not since:
            return False
        self.result.lost.append({"position": at.position, "dataset": dataset, "cells": since})
        which = f"the block {at.position} of {dataset!r} is lost"
        self._flaw(at, dataset, f"{which}, and {since:,} of its cells were pulsed since", lost=True)
        return True

    def _see(self, operation: Read, block: npt.NDArray[Any], start: int) -> None:
        """Take a block of this run as what its expectations are about, whatever other runs have read since."""
        if not operation.is_last:
            return
        if operation.dataset == BEFORE:
            self._before = start, block
        self.seen_S[start : start + len(block)][block["valid"]] = block["conductance"][block["valid"]]
        self._own[start : start + len(block)] |= block["valid"]

    def _reference(self, operation: ReferenceRead, at: Place) -> None:
        """Read a resistor once; it stays what it is, so a block that is damaged is measured again."""
        if self.knows(at.position, operation.dataset):
            known = self.run.block(at.position, operation.dataset)
            block = known.load()
            self.earlier.check(operation, known, block)
        else:
            block = self.station.reference_read(operation, self.limits)
            self.run.append(
                at.position,
                operation.dataset,
                block,
                form="reference",
                resistor=operation.resistor,
                range=operation.range,
                voltage_V=operation.voltage_V,
                repeats=operation.repeats,
                conversions=block["codes"].size,
                calibration=self.station.calibration.record,
                **at.attributes,
            )
        self.result.references.append(_of_reference(operation, block, (1 << self.station.board.adc_bits) - 1))

    def _multiply(self, operation: Multiply, at: Place) -> None:
        if self.run.has(at.position, operation.dataset):
            known = self.run.block(at.position, operation.dataset)
            array = known.load()
            self.earlier.check(operation, known, array)
            self._count(operation, array["product"], int(known.attributes["saturated"]))
            return
        pattern = operation.pattern
        if self._is_lost(at, operation.dataset, pattern.driven[:, None] & pattern.enabled):
            return
        columns = np.flatnonzero(pattern.enabled)
        sums, products = self.station.multiply(operation, columns, self.limits)
        saturated = int(sums.saturated.sum())
        self._count(operation, products, saturated)
        block = np.zeros(products.shape, [("sums", np.int32), ("product", np.float32)])
        block["sums"], block["product"] = sums.codes, products
        self.run.append(
            at.position,
            operation.dataset,
            block,
            form="products",
            columns=columns.tolist(),
            groups=pattern.groups_of(columns, self.station.board.lines_at_once).tolist(),
            bits=operation.bits,
            conversions=sums.conversions,
            gates=pattern.digest,
            saturated=saturated,
            calibration=self.station.calibration.record,
            **at.attributes,
        )

    def _count(self, operation: Multiply, products: npt.NDArray[np.float32], saturated: int) -> None:
        columns_S = products.mean(axis=0)
        self.result.saturated += saturated
        self.result.products.append(
            {
                "dataset": operation.dataset,
                "vectors": len(products),
                "columns": products.shape[1],
                "mean_S": float(columns_S.mean()),
                "column_spread_S": float(columns_S.std()),
                "vector_spread_S": float(products.std(axis=0).mean()),
                "saturated": saturated,
            }
        )

    def _expect(self, operation: Expect, at: Place) -> None:
        """Judge once what passed: cells that were pulsed since would be judged by another read."""
        known = self.run.judged(at.position)
        if known is not None:
            self.earlier.check_judgement(operation, at.position, known)
            self.result.checks.append(known)
            return
        found = {**self.judgement(operation), **_loop(at)}
        if found["passed"] or not operation.stop:
            self.run.judge(at.position, found)
        hint = f" {operation.window.hint}" if operation.window.hint else ""
        self._judge(operation, found, operation.stop, hint)

    def judgement(self, operation: Expect) -> dict[str, Any]:
        """Compare what was read last with a window; say so where that was in an earlier run."""
        ledger = self.station.ledger
        doubtful = ledger.doubtful().bits
        found = compare(operation, self.seen_S, doubtful, ledger.unknown().bits)
        earlier = operation.cells.bits & ~doubtful & ~self._own & ~np.isnan(self.seen_S)
        rests_on = ages(self.station.last_read.origins(earlier), wall())
        return {**found, "rests_on": rests_on} if rests_on else found

    def _wait(self, operation: Wait, position: str) -> None:
        """Time that has passed is not waited again."""
        known = self.run.judged(position)
        if known is not None:
            self.earlier.check_judgement(operation, position, known)
            return
        self.station.wait(operation)
        self.run.judge(position, {"waited_s": operation.time_s})

    def _unchanged(self, operation: Unchanged, at: Place) -> None:
        before_S = np.full(self.seen_S.shape, np.nan, np.float32)
        if self._before is not None:
            start, block = self._before
            before_S[start : start + len(block)] = block["conductance"]
        found = {**compare_bystanders(operation, before_S, self.seen_S), **_loop(at)}
        hint = (
            " Cells that were not meant changed with those that were: look for a stuck select bit with rramlab contact"
        )
        if not found["passed"]:
            self._judge(operation, found, True, hint)
        self.result.bystanders += found["cells"] > 0  # a read that is lost compares nothing

    def _judge(self, operation: Expect | Unchanged, found: dict[str, Any], stop: bool, hint: str) -> None:
        if not found["passed"] and not stop and hint:
            found["reason"] += f".{hint}"
        self.result.checks.append(found)
        if not found["passed"] and stop:
            rests = "".join(f". {each}" for each in say_ages(found))
            raise OutOfLimits(
                f"{operation.what} of die {self.station.die_id!r}: {found['reason']}{rests}; the run stopped after "
                f"{self.pulses():,} pulses. Look at the reads with: rramlab runs show {self.run.id}.{hint}",
                operation.source,
            )

    def pulses(self) -> int:
        """Pulses of this run, all attempts together, by the ledger."""
        return sum(entry.done.count for entry in self.station.ledger.of_run(self.run.id))


def _of_reference(operation: ReferenceRead, block: npt.NDArray[Any], top: int) -> dict[str, Any]:
    """Say a reference read in a few figures. ``top``: the converters' highest code."""
    codes = block["codes"]
    of_columns = codes.mean(axis=1)
    return {
        "dataset": operation.dataset,
        "resistor": operation.resistor,
        "range": operation.range,
        "voltage_V": operation.voltage_V,
        "columns": len(codes),
        "repeats": operation.repeats,
        "mean_code": float(of_columns.mean()),
        "column_spread_code": float(of_columns.std()),
        "saturated": int(np.count_nonzero((codes == 0) | (codes == top))),
    }


def _what(operation: Sweep | Route) -> str:
    target = operation.target
    if isinstance(operation, Route):
        return f"{operation.dataset!r} of {target}"
    return f"{operation.purpose} sweep of cell ({operation.target.row}, {operation.target.column})"


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…")


def _loop(at: Place) -> dict[str, Any]:
    """Return in which round of a loop something was judged."""
    return {name: at.attributes[name] for name in ("round", "labels") if name in at.attributes}
