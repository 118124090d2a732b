"""One cell, reference resistor or DAC channel at a source-measure unit, in the one order that is safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rramlab.base.errors import InstrumentError
from rramlab.drivers.controller import MacroController
from rramlab.drivers.smu.instrument import Smu
from rramlab.drivers.smu.readings import Reading, SweepCurve, SweepProgram
from rramlab.engine.interrupts import Interrupts
from rramlab.macro.routes import RoutedDac, Target
from rramlab.plan.operations import Route, Sweep
from rramlab.runs.curves import Curve, curve, measured

_NAP_S = 0.05  # between two signs of life while a route is held; the dead man's switch waits up to 1 s
_ASK_S = 0.2  # between two questions whether the path is still closed, while anything waits


@dataclass(frozen=True, eq=False)
class Probed:
    """What was measured at a unit. ``said``: what it answered for each point that is no measurement, by its number from 0;
    ``answer``: the whole of it, where points could not be told from one another; ``problem``: what failed after its points
    came, empty where nothing did.
    """

    curve: Curve
    said: Mapping[int, str] = field(default_factory=dict)
    answer: str | None = None
    problem: str = ""

    def attributes(self, levels_V: Sequence[float]) -> dict[str, Any]:
        """Return what a block says of it beside the curve: nothing where every point is a measurement.

        ``levels_V``: what was asked for, point by point.
        """
        found: dict[str, Any] = {}
        if self.said:
            found["bad"] = [
                {"point": at, "level_V": float(levels_V[at]), "said": said} for at, said in sorted(self.said.items())
            ]
        if self.answer is not None:
            found["answer"] = self.answer
        if self.problem:
            found["problem"] = self.problem
        return found


class PathOpened(InstrumentError):
    """The board has opened the path to the unit before it was told to: what was measured says nothing of the cell."""


@dataclass
class _Path:
    """A path that this host has closed. Times are of ``time.monotonic``, in s.

    ``seen``: when the board last said that it is closed. ``heard``: when the board last heard of this host. ``silence``: the
    longest that it did not.
    """

    target: Target
    seen: float
    heard: float
    silence: float = 0.0


class Probe:
    """A board and a source-measure unit that work together.

    The unit's output is off whenever a path is closed or opened. After a failure the unit is made safe first and the path
    is opened then; each is tried whatever the other does.
    """

    def __init__(self, controller: MacroController, smu: Smu, interrupts: Interrupts) -> None:
        self.controller, self.smu, self.interrupts = controller, smu, interrupts
        self._path: _Path | None = None

    def tick(self) -> None:
        """Called while anything waits: a stop *now* comes through, and the board hears that the host is alive.

        Raises:
            PathOpened: the board says that the path is no longer closed.
        """
        self.interrupts.tick()
        self.controller.heartbeat()
        path = self._path
        if path is None:
            return
        now = time.monotonic()
        path.silence, path.heard = max(path.silence, now - path.heard), now
        if now - path.seen >= _ASK_S:  # at once after this process was held up
            self._check_still_routed(path)

    def prepare(self, operation: Sweep | Route) -> None:
        """Switch the unit's output off and set its compliance; nothing is connected yet.

        Raises:
            Refused: the compliance is beyond the unit's limits. InstrumentError: it did not do it.
        """
        smu, tick = self.smu, self.interrupts.tick
        smu.reset(tick)
        if isinstance(operation, Route) and isinstance(operation.target, RoutedDac):
            smu.source_current(0.0, tick)
            smu.compliance(volts=operation.protection_V, tick=tick)
        else:
            smu.source_voltage(0.0, tick)
            smu.compliance(amperes=operation.compliance_A, tick=tick)

    def sweep(self, operation: Sweep, gate: int, op_id: int, came: Callable[[Probed], None]) -> None:
        """Sweep the cell, its word line at the DAC code ``gate``; ``op_id``: of the ledger, 0 for a read.

        ``came``: told what was measured once the path is open again, also where something failed after the points came: a
        sweep cannot be taken back.

        Raises:
            PathOpened: the points that came are not those of the cell. Whatever failed.
        """
        self.smu.swept = None
        try:
            with self._routed(operation.target, gate, op_id):
                self.smu.swept = self.smu.sweep(program_of(operation), self.tick)
        except PathOpened:
            raise
        except BaseException as error:
            if self.smu.swept is not None:
                came(_probed(self.smu.swept, str(error) or type(error).__name__))
            raise
        came(_probed(self.smu.swept))

    def route(self, operation: Route, bias: int) -> Probed:
        """Connect, measure, hold, release. Without a voltage a cell or resistor is connected and not measured."""
        readings: list[Reading] = []
        measures = operation.voltage_V > 0 or isinstance(operation.target, RoutedDac)
        with self._routed(operation.target, bias, 0):
            if measures:
                if not isinstance(operation.target, RoutedDac):
                    self.smu.source_voltage(operation.voltage_V, self.tick)
                self.smu.output(True, self.tick)
                readings = [self.smu.measure(self.tick) for _ in range(operation.count)]
            self._hold(operation.hold_s)
        bad = {at: each.bad for at, each in enumerate(readings) if each.bad}
        volts, amperes = [each.voltage_V for each in readings], [each.current_A for each in readings]
        return Probed(curve(volts, amperes, [each.in_compliance for each in readings], bad), bad)

    def _hold(self, span_s: float) -> None:
        """Keep the route for ``span_s``, or until a stop is asked for."""
        end = time.monotonic() + span_s
        while (left := end - time.monotonic()) > 0 and not self.interrupts.requests:
            self.tick()
            time.sleep(min(left, _NAP_S))

    @contextmanager
    def _routed(self, target: Target, bias: int, op_id: int) -> Iterator[None]:
        """Close the path for the block; whatever happens, the unit's output is off before the path is opened.

        Raises:
            PathOpened: the board has opened it before; what was measured is not to be trusted.
        """
        try:
            with ExitStack() as last:  # undone in reverse order, each even if another fails
                last.callback(self.controller.route, None, 0)
                # Until the block has come to its end the unit may be in the middle of an exchange.
                off: list[Callable[[], object]] = [self.smu.safe_state]
                last.callback(lambda: off[-1]())
                last.callback(self._forget_path)
                self.controller.route(target, bias, op_id)
                now = time.monotonic()
                path = self._path = _Path(target, now, now)
                yield
                self._check_still_routed(path)
                self._forget_path()
                off.append(lambda: self.smu.output(False, self.tick))
        except PathOpened as error:
            # Here the unit has confirmed that its output is off, and the board that the path is open.
            raise PathOpened(f"{error}. The unit's output is off now") from error

    def _forget_path(self) -> None:
        self._path = None

    def _check_still_routed(self, path: _Path) -> None:
        """What was measured counts only if the path was closed to its end: an open one reads like a bad cell."""
        status = self.controller.status()
        now = time.monotonic()
        if status.routed:
            path.seen = path.heard = now
            return
        said = f"; it says: {'; '.join(status.errors)}" if status.errors else ""
        silence = max(path.silence, now - path.heard)
        late = silence > 2 * _ASK_S
        cause = (
            f"this host was held up for {silence:.1f} s" if late else "a board that was switched off, or another host"
        )
        raise PathOpened(
            f"the board has opened the path of {path.target} before it was told to{said}. By its own word it was closed "
            f"{now - path.seen:.1f} s ago; from some moment after that on every line was at 0 V and nothing of the unit "
            f"reached the die ({cause}). What was measured is not kept; a sweep above the read voltage counts as a pulse. Find "
            "out why, then start anew"
        )


def program_of(operation: Sweep) -> SweepProgram:
    """Return what a unit is told to do for a sweep."""
    return SweepProgram.staircase(
        operation.peak_V, operation.points, operation.dwell_s, operation.compliance_A, operation.both_ways
    )


def levels_of(operation: Sweep | Route) -> list[float]:
    """Return the level of every point in V."""
    if isinstance(operation, Route):
        return [operation.voltage_V] * operation.count
    return [float(level) for level in program_of(operation).levels_V]


def _probed(found: SweepCurve, problem: str = "") -> Probed:
    return Probed(
        curve(found.voltage_V, found.current_A, found.in_compliance, found.bad), found.bad, found.answer, problem
    )


def summary(operation: Sweep | Route, curve: Curve, read_V: float) -> dict[str, Any]:
    """Say a curve or its measurements in a few figures: what a run's result holds. Points that are no measurement are left out.

    ``read_V``: the conductance of a sweep is that at the level nearest to it on the last branch, out of compliance; of one
    that changes the cell and ends at its peak, at the highest level.
    """
    voltage, current, good = curve["voltage"], curve["current"], curve["good"]
    known = measured(curve)
    found: dict[str, Any] = {
        "dataset": operation.dataset,
        "smu": operation.smu,
        "points": len(curve),
        "in_compliance": int(np.count_nonzero(known["in_compliance"])),
        "max_current_A": float(np.abs(known["current"]).max(initial=0.0)),
        "compliance_A": operation.compliance_A,
        "gate_V": operation.gate_V,
    }
    if isinstance(operation, Route):
        volts, amperes = (float(known[part].mean()) if len(known) else 0.0 for part in ("voltage", "current"))
        return {
            **found,
            "target": str(operation.target),
            "voltage_V": volts,
            "current_A": amperes,
            "conductance_S": amperes / volts if volts and not isinstance(operation.target, RoutedDac) else None,
        }
    first = operation.points - 1 if operation.both_ways else 0
    last = np.where(good, voltage, 0.0)[first:]
    # Near 0 V the unit's own offsets are larger than what it measures.
    usable = np.flatnonzero((good & ~curve["in_compliance"])[first:] & (np.abs(last) > 0.01 * operation.peak_V)) + first
    # What a sweep one way has made of the cell shows at its end alone.
    changed = operation.as_pulse is not None and not operation.both_ways
    wanted_V = operation.peak_V if changed else read_V
    at = int(usable[np.argmin(np.abs(voltage[usable] - wanted_V))]) if usable.size else None
    return {
        **found,
        "kind": operation.purpose,
        "row": operation.target.row,
        "column": operation.target.column,
        "peak_V": operation.peak_V,
        "conductance_S": None if at is None else float(current[at] / voltage[at]),
        "at_V": None if at is None else float(voltage[at]),
    }
