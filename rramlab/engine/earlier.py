"""What earlier attempts of a run have done, and whether that is what stands at those places of its plan now.

A place is where an operation stands in a plan: the path of its step, with round numbers, and a running number. How a step
expands into operations is a stored format; where it was another when the run began (another version, a file changed by
hand), running numbers mean other operations, and what was sent would pass for what was not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn

import numpy as np

from rramlab.base.errors import DataError, Refused
from rramlab.base.units import show
from rramlab.macro.cells import Bools
from rramlab.macro.pulses import Pulse
from rramlab.plan.operations import (
    Contact,
    Expect,
    Multiply,
    Operation,
    PulseOp,
    Read,
    ReferenceRead,
    Route,
    Sweep,
    Wait,
    describe,
    pulse_of,
)
from rramlab.runs.ledger import Entry, LedgerView
from rramlab.runs.store import Block, Run, in_order

_ALIKE = 1e-9  # relative: a ladder of widths is computed, and another machine may round otherwise


class Earlier:
    """The places of a run that earlier attempts have come to, with what is known of each.

    Operations are done in the order of their places. So what is known ahead says that all before it was done: nothing new is
    pulsed while something is.
    """

    def __init__(self, run: Run, ledger: LedgerView, resumed: bool) -> None:
        self._run, self._ledger = run, ledger
        self._pulses: dict[str, list[int]] = {}  # place -> operations of the ledger
        self._blocks: dict[str, list[str]] = {}  # place -> data sets
        self._judged: set[str] = set()
        if resumed:
            for entry in ledger.of_run(run.id):
                self._pulses.setdefault(entry.position, []).append(entry.op_id)
            for position, dataset in run.block_names():
                self._blocks.setdefault(position, []).append(dataset)
            self._judged = set(run.judged_places())
        self._ahead: dict[str, set[str]] = {}  # path of a step -> its places that were not come to yet
        for position in (*self._pulses, *self._blocks, *self._judged):
            self._ahead.setdefault(_path(position), set()).add(position)
        self.spent: Bools | None = None
        self.missed: list[Entry] = []

    def begin(self, operations: Sequence[Operation], places: Sequence[str]) -> None:
        """Compare operations that are about to be done, all that a step becomes or a round of write-verify, with what is known
        of their places. ``spent`` are then the cells that they have pulsed: bool[rows, columns], None where there are none;
        ``missed``: what was sent of them and did not reach all its cells.

        A cell has one pulse in a step, or in such a round: it is found by itself and not by the number of its operation.

        Raises:
            Refused: they are not what stood there when the run was begun.
        """
        self.spent, self.missed = None, []
        for operation, position in zip(operations, places, strict=True):
            for entry in self._entries(position):
                self._compare(operation, position, entry)
                spent = entry.spent
                self.spent = spent.bits if self.spent is None else self.spent | spent.bits
                if spent.count < entry.cells.count:
                    self.missed.append(entry)
            for dataset in self._blocks.get(position, ()):
                self._compare_block(operation, position, dataset)
            if position in self._judged and not isinstance(operation, (Expect, Wait)):
                self._refuse(operation, position, "a judgement")

    def come_to(self, position: str) -> None:
        """Take a place as reached."""
        if (left := self._ahead.get(_path(position))) is not None:
            left.discard(position)
            if not left:
                del self._ahead[_path(position)]

    def before_new(self, operation: Operation, position: str) -> None:
        """See that nothing is known of a later place before a pulse is sent that nothing is known of.

        Raises:
            Refused: something is, so it was sent before, or is another one.
        """
        if self._ahead:
            first = min(set().union(*self._ahead.values()), key=in_order)
            self._refuse(operation, position, f"nothing, though it has {self._known(first)} at {first}")

    def leave(self, path: str | None = None) -> None:
        """See that a step, by its path, or the whole run has come to every place that is known of.

        Raises:
            Refused: now there is no such place.
        """
        left = set().union(*self._ahead.values()) if path is None else self._ahead.get(path)
        if left:
            first = min(left, key=in_order)
            raise Refused(
                f"run {self._run.id} has {self._known(first)} at {first}, where nothing stands now{self._remedy}"
            )

    def check(self, operation: Operation, block: Block, array: Any) -> None:
        """Compare a block with the operation that it is to be of.

        Raises:
            Refused: it is of another.
        """
        found = {"isolated": False, **block.attributes}
        for name, wanted in _stored(operation).items():
            if name in found and not _same(found[name], wanted):
                what = f"the block {block.dataset!r} with {name} {found[name]!r}, expected {wanted!r}"
                self._refuse(operation, block.position, what)
        if isinstance(operation, Read) and not np.array_equal(array["valid"], operation.cells.in_span):
            count = int(np.count_nonzero(array["valid"]))
            self._refuse(
                operation, block.position, f"the block {block.dataset!r} of {count:,} cells, not all of them these"
            )
        if isinstance(operation, Multiply) and len(array) != len(operation.x):
            self._refuse(operation, block.position, f"the block {block.dataset!r} of {len(array):,} vectors")

    def check_judgement(self, operation: Expect | Wait, position: str, found: dict[str, Any]) -> None:
        """Compare a judgement with the operation that it is to be of.

        Raises:
            Refused: it is of another.
        """
        if isinstance(operation, Wait):
            alike = _same(found.get("waited_s"), operation.time_s)
        else:
            window = operation.window.model_dump(exclude_none=True, include={"formed_fraction", "median"})
            judged = found.get("cells", 0) + found.get("left_out", 0)
            alike = judged == operation.cells.count and _same(found.get("window", window), window)
        if not alike:
            self._refuse(operation, position, f"a judgement of something else ({found.get('what', 'a wait')})")

    def _entries(self, position: str) -> Iterator[Entry]:
        return (self._ledger.entry(op_id) for op_id in self._pulses.get(position, ()))

    def _compare(self, operation: Operation, position: str, entry: Entry) -> None:
        pulse = pulse_of(operation)
        if (
            pulse is None
            or pulse.kind != entry.kind
            or not _same(_figures(pulse.pulse), _figures(entry.pulse))
            or (entry.cells - pulse.cells).count
        ):
            self._refuse(operation, position, _say(entry))

    def _compare_block(self, operation: Operation, position: str, dataset: str) -> None:
        if dataset != ("contact" if isinstance(operation, Contact) else getattr(operation, "dataset", None)):
            self._refuse(operation, position, f"the block {dataset!r}")
        if isinstance(operation, Sweep) and operation.as_pulse is not None and position not in self._pulses:
            self._refuse(operation, position, "its curve, and the ledger no pulse of it: it is older than the run")

    def _known(self, position: str) -> str:
        for entry in self._entries(position):
            return _say(entry)
        return f"the block {self._blocks[position][0]!r}" if position in self._blocks else "a judgement"

    def _refuse(self, operation: Operation, position: str, known: str) -> NoReturn:
        pulse = pulse_of(operation)
        how = f" at {_spell(pulse.pulse)}" if isinstance(operation, PulseOp) and pulse is not None else ""
        raise Refused(
            f"{describe(operation)}{how} stands at {position} of the plan of run {self._run.id} now, where the run has "
            f"{known}{self._remedy}",
            operation.source,
        )

    @property
    def _remedy(self) -> str:
        version = "the one"
        with suppress(DataError):
            version = self._run.provenance.get("rramlab") or version
        return (
            ": what was done cannot be told from what was not. Nothing was pulsed. Either a file of the run was changed, or "
            f"this version of rramlab makes other operations of its plan than {version} that began it: go on with that one, or "
            "start a new run for what is left"
        )


def _stored(operation: Operation) -> dict[str, Any]:
    """Return what a block of an operation says of it, where it says so."""
    about: dict[str, Any]
    match operation:
        case Read():
            span, shape = operation.cells.span, operation.cells.shape
            about = {"form": "cells", "rows": [span.start, span.stop], "shape": list(shape)}
            return about | {name: getattr(operation, name) for name in ("repeats", "bias", "isolated")}
        case ReferenceRead():
            about = {"form": "reference"}
            return about | {name: getattr(operation, name) for name in ("resistor", "range", "voltage_V", "repeats")}
        case Multiply():
            return {"form": "products", "bits": operation.bits, "gates": operation.pattern.digest}
        case Sweep() | Route():
            about = {"form": "curve", "compliance_A": operation.compliance_A, "gate_V": operation.gate_V}
            if isinstance(operation, Route):
                return {**about, "kind": "route", "target": str(operation.target)}
            target = operation.target
            return {
                **about, "kind": operation.purpose, "row": target.row, "column": target.column, "peak_V": operation.peak_V
            }  # fmt: skip
        case _:
            return {}


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) or isinstance(other, float):
        return (
            isinstance(one, (int, float))
            and isinstance(other, (int, float))
            and math.isclose(one, other, rel_tol=_ALIKE)
        )
    return bool(one == other)


def _path(position: str) -> str:
    return position.rpartition(".")[0]


def _figures(pulse: Pulse) -> tuple[float, float, float]:
    return pulse.amplitude_V, pulse.width_s, pulse.gate_V


def _say(entry: Entry) -> str:
    pulse = PulseOp(entry.kind, entry.cells, entry.pulse, entry.cells_per_pulse)
    return f"the {describe(pulse)} at {_spell(entry.pulse)} (operation {entry.op_id} of the ledger)"


def _spell(pulse: Pulse) -> str:
    return f"{show(pulse.amplitude_V, 'V')}, {show(pulse.width_s, 's')}, gate {show(pulse.gate_V, 'V')}"
