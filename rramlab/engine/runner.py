"""Executes a plan on one die, step by step; a killed run goes on where it was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from rramlab.base.errors import DataError, InstrumentError, Refused, RramlabError, Stopped
from rramlab.base.times import written
from rramlab.engine.earlier import Earlier
from rramlab.engine.interrupts import Interrupts
from rramlab.engine.pace import Pace
from rramlab.engine.performing import Performer, Place
from rramlab.engine.results import TRANSITIONS, Flawed, Listener, Progress, RunResult, State
from rramlab.engine.station import Station
from rramlab.macro.cells import CellSelection
from rramlab.macro.regions import Region
from rramlab.plan import cost
from rramlab.plan.operations import Expect, LoadGates, Operation, describe
from rramlab.plan.plan import Plan, leaves, operations, place, selection
from rramlab.plan.programming import ProgramStep, WriteVerify
from rramlab.plan.steps import ForEachStep, Leaf, RepeatStep, Step, Until
from rramlab.plan.worst import Bounds
from rramlab.runs.store import Run, Status, in_order


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
        resumed: bool = False,
    ) -> None:
        self.station, self.run, self.plan, self.bounds = station, run, plan, bounds
        self.interrupts, self.listen, self.make_safe = interrupts, listen, make_safe
        self.state = State.CREATED
        self.result = RunResult(run.id, station.die_id, str(run.folder), key=str(run.record.get("key", "")))
        self._complete = False  # every step was carried out
        self.made_safe = False  # tried, whatever came of it
        self._resumed = resumed
        self._performer = Performer(station, run, plan.limits, self.result, resumed)
        self._pace = Pace(bounds)
        self._meant: dict[
            str, CellSelection
        ] = {}  # region text that depends on data -> cells of the last step that named it
        self._fixed: dict[str, CellSelection] = {}  # the same, where it depends on no data
        self._patterns: dict[int, LoadGates] = {}
        self._timeline: list[dict[str, Any]] = []
        self._top = 0  # number of the plan's step that is executed, for the progress

    def execute(self) -> RunResult:
        """Execute every operation that is not yet done.

        Raises:
            Stopped, Refused, OutOfLimits or whatever failed, after the run's record says so. What was measured is kept. Flawed:
            every step was carried out, and some of what was asked for is no measurement, or is lost.
        """
        self._move(State.RUNNING)
        try:
            self.result.reconciled = self.station.reconcile()
            self._performer.earlier = Earlier(self.run, self.station.ledger, self._resumed)
            self._refuse_strangers()
            for index, step in enumerate(self.plan.steps):
                self._top = index
                self._timed(step, place("", index, len(self.plan.steps)))
            self._performer.earlier.leave()
            self._tell(len(self.plan.steps), "done")
            self._complete = True
            if self.result.flaws:
                raise Flawed(self.result)
        except BaseException as error:
            # Safe before anything is written; and what is written is written even if that failed.
            with self.interrupts.held():
                why = str(error) or type(error).__name__
                if isinstance(error, RramlabError):
                    error.run = self.run.id
                self.made_safe = True
                problems, ending = [why], _ending(error)
                for duty in (self.make_safe, lambda: self._end(ending, why)):
                    try:
                        duty()
                    except (RramlabError, OSError) as problem:  # each is tried, and none hides why the run ended
                        problems += [str(problem)] if str(problem) not in problems else []
                        kind = InstrumentError if isinstance(problem, InstrumentError) else DataError
                if len(problems) > 1:
                    failed = kind(". And then: ".join(problems))
                    failed.run = self.run.id
                    raise failed from error
            raise
        self._end(State.DONE, "")
        return self.result

    def _end(self, state: State, why: str) -> None:
        self._move(state)
        self._finish(why)

    def _move(self, to: State) -> None:
        if to not in TRANSITIONS[self.state]:
            raise RramlabError(f"run {self.run.id} cannot go from {self.state.value} to {to.value}")
        self.state = to
        if to is State.RUNNING:
            self.run.update(status="running", reason="")

    def _finish(self, reason: str) -> None:
        self.station.keep_last_read()
        self.result.pulses = self._performer.pulses()
        # What cannot be read is said by whoever gathers the blocks; how the run ended is written down before.
        self.result.conversions = sum(int(block.attributes["conversions"]) for block in self.run.readable([]))
        status: Status = self.state.value  # type: ignore[assignment]  # a final state's value is a status
        result = self.result
        self.run.finish(
            status,
            reason,
            pulses=result.pulses,
            conversions=result.conversions,
            checks=result.checks,
            bystanders=result.bystanders,
            lost=result.lost,
            flaws=result.flaws,
            complete=self._complete,
            contact=result.contact,
            products=result.products,
            sweeps=result.sweeps,
            routes=result.routes,
            references=result.references,
            programs=result.programs,
            loops=result.loops,
            timeline=[*self.run.record.get("timeline", []), *self._timeline],
            ledger=asdict(self.station.ledger.witness),
            reconciled=[*self.run.record.get("reconciled", []), *result.reconciled],
        )
        self.run.consolidate()

    # steps and loops --------------------------------------------------------------------------------------------------

    def _timed(self, step: Step, path: str) -> None:
        """Execute a step of the plan and write down when: by the clock, and in seconds since the run began."""
        clock = self.run.clock
        began, began_s = written(clock.now), clock.passed_s
        try:
            self._step(step, path, {})
            self.run.watch_clock()
        finally:
            ended_s = clock.passed_s
            self._timeline.append(
                {
                    "step": path, "kind": step.kind, "began": began, "ended": written(clock.now),
                    "began_s": round(began_s, 6), "ended_s": round(ended_s, 6),
                }
            )  # fmt: skip

    def _steps(self, steps: tuple[Step, ...], prefix: str, loop: dict[str, Any]) -> None:
        """Execute the steps of a round. ``prefix``: its position; ``loop``: attributes of its blocks."""
        for index, step in enumerate(steps):
            here = {**loop, "step": place(str(loop["step"]), index, len(steps))}
            self._step(step, place(prefix, index, len(steps)), here)

    def _step(self, step: Step, path: str, here: dict[str, Any]) -> None:
        match step:
            case RepeatStep():
                self._repeat(step, path, here)
            case ForEachStep():
                for number, each in enumerate(step.rounds):
                    inner = _inside(here, path, number)
                    inner["labels"] = {**inner["labels"], step.name: [each.value, each.unit]}
                    self._steps(each.steps, _round(path, number), inner)
            case _:
                self._leaf(step, path, here)

    def _repeat(self, step: RepeatStep, path: str, here: dict[str, Any]) -> None:
        for number in range(step.times):
            self.interrupts.between()
            inside = _inside(here, path, number)
            self._steps(step.steps, _round(path, number), inside)
            if step.until is None:
                continue
            found = {**self._judged(step.until, step, _round(path, number)), **inside}
            if found["passed"] or number == step.times - 1:
                self.result.loops.append({**found, "what": f"the end of loop {inside['step']}"})
                return

    def _judged(self, until: Until, step: RepeatStep, path: str) -> dict[str, Any]:
        """Decide once whether a loop ends with a round: what is known of its cells later says nothing of then."""
        position = f"{path}.until"
        known = self.run.judged(position)
        if known is None:
            cells = self._meant.get(until.cells) or self._resolve(until.cells, step)
            known = self._performer.judgement(Expect(cells, until.window, False, "the end of a loop", step.source))
            self.run.judge(position, known)
        return known

    def _leaf(self, step: Leaf, path: str, attributes: dict[str, Any]) -> None:
        cells = self._frozen(path, step)
        text = getattr(step, "cells", "all")
        if Region(text).depends_on_data and not isinstance(step, ProgramStep):
            self._meant[text] = cells
        if isinstance(step, ProgramStep):
            self._program(step, cells, path, attributes)
            return
        board, block_rows = self.station.board, self.plan.block_rows
        batch = list(operations(step, cells, board, block_rows, self._patterns))
        places = [Place(f"{path}.{number:05d}", attributes) for number in range(len(batch))]
        self._begin(batch, places)
        self._do_all(batch, places)
        self._performer.earlier.leave(path)

    def _program(self, step: ProgramStep, cells: CellSelection, path: str, attributes: dict[str, Any]) -> None:
        """Read, pulse what is out of tolerance, again; each verification is a round of its data set."""
        verify = WriteVerify(step, cells, self.station.board.cells_per_pulse)
        number = rounds = 0
        while verify.pending.count:
            here = _inside(attributes, path, rounds)
            board, block_rows = self.station.board, self.plan.block_rows
            batch = list(operations(step, verify.pending, board, block_rows, self._patterns))
            places = [Place(f"{path}.{number + index:05d}", here) for index in range(len(batch))]
            self._begin(batch, places)
            self._refuse_lost(step, path, places)
            self._do_all(batch, places)
            number += len(batch)
            verify.see(np.where(verify.pending.bits, self._performer.seen_S, np.float32(np.nan)))
            pulses = verify.pulses(self.plan.block_rows)
            places = [Place(f"{path}.{number + index:05d}") for index in range(len(pulses))]
            self._begin(pulses, places)
            self._do_all(pulses, places)
            number += len(pulses)
            rounds += 1
        self._performer.earlier.leave(path)
        self.result.programs.append(_outcome(step, verify, rounds))

    def _refuse_lost(self, step: ProgramStep, path: str, places: list[Place]) -> None:
        """A verification that is lost cannot be made again: its pulses followed from what was read, noise and all."""
        lost = [at for at in places if self._resumed and not self._performer.knows(at.position, step.name)]
        if not lost:
            return
        first = in_order(lost[0].position)
        own = self.station.ledger.of_run(self.run.id)
        if any(entry.position.startswith(f"{path}.") and in_order(entry.position) > first for entry in own):
            raise DataError(
                f"what run {self.run.id} has read at {lost[0].position} to verify is lost, and pulses came of it since: how "
                "often each cell may be pulsed again is not to be told. Nothing was pulsed. Start a new run for what is out of "
                "tolerance"
            )

    def _begin(self, batch: Sequence[Operation], places: Sequence[Place]) -> None:
        self._performer.earlier.begin(batch, [at.position for at in places])

    def _do_all(self, batch: Sequence[Operation], places: Sequence[Place]) -> None:
        for operation, at in zip(batch, places, strict=True):
            self._do(operation, at)

    def _do(self, operation: Operation, at: Place) -> None:
        self.interrupts.between()
        self._tell(self._top, describe(operation))
        self._performer.perform(operation, at)
        self._pace.passed(cost.of(operation, self.station.board).time_s)

    def _tell(self, step: int, message: str) -> None:
        pace, performer = self._pace, self._performer
        pace.look(performer)
        self.listen(
            Progress(
                self.run.id, step, len(self.plan.steps), pace.count, self.bounds.operations, message, pace.eta_s(),
                pace.pulsed, pace.formed, pace.mean_S,
            )
        )  # fmt: skip

    # which cells ------------------------------------------------------------------------------------------------------

    def _frozen(self, path: str, step: Leaf) -> CellSelection:
        """Resolve a step's region once; a resumed run means the same cells as the first attempt.

        A read or ``expect`` means the cells of the step before it that was written with the same region: after a pulse on
        ``pristine`` cells they are looked at, and not the cells that are still pristine.
        """
        geometry = self.station.board.geometry
        text = getattr(step, "cells", "all")
        known = self.run.frozen(path, geometry)
        if known is None and not step.stresses:
            known = self._meant.get(text)
        if known is not None:
            return known
        depends = Region(text).depends_on_data if text not in self._fixed else False
        if depends and self.station.ledger.touched(self.run.id, path):
            raise DataError(
                f"step {path} of run {self.run.id} has begun, but the file of its frozen selection is gone; nothing was "
                "pulsed. Read the die and start a new run for what is left"
            )
        cells = self._resolve(text, step)
        if depends:
            self.run.freeze(path, cells)
        return cells

    def _resolve(self, text: str, step: Step) -> CellSelection:
        geometry = self.station.board.geometry
        if isinstance(step, ProgramStep):
            return selection(step, geometry, self.station.state)
        if text in self._fixed:
            return self._fixed[text]
        if not Region(text).depends_on_data:
            found = self._fixed[text] = Region(text).bound(geometry)
            return found
        try:
            return Region(text).resolve(geometry, self.station.state)
        except Refused as error:
            raise Refused(str(error), step.source) from None

    def _refuse_strangers(self) -> None:
        """A resumed run was planned for the die as it was: cells that other runs have pulsed since are not its own."""
        begun = int(self.run.record["operation"])
        since = [entry for entry in self.station.ledger.since(begun) if entry.run != self.run.id]
        if not since:
            return
        own = list(self.station.ledger.of_run(self.run.id))
        geometry = self.station.board.geometry
        for path, step, times, _ in leaves(self.plan.steps):
            looped = times > 1 or "-" in path or isinstance(step, ProgramStep)
            cells = None if looped else self.run.frozen(path, geometry)
            if (
                cells is None
                and step.stresses
                and (looped or not Region(getattr(step, "cells", "all")).depends_on_data)
            ):
                cells = selection(step, geometry, None)
            if cells is None or not step.stresses:
                continue  # not a pulse, or not yet settled which cells it means: those will be settled by what they are now
            for entry in own:
                if not looped and entry.position.startswith(f"{path}."):
                    cells -= entry.spent
            for entry in since:
                both = cells & entry.spent
                if both.count:
                    raise Refused(
                        f"{both.count:,} cells that run {self.run.id} has still to pulse were pulsed by run {entry.run} since "
                        "it began; nothing was pulsed. Start a new run for what is left",
                        step.source,
                    )


def _round(path: str, number: int) -> str:
    return f"{path}-{number:07d}"


def _inside(here: dict[str, Any], path: str, number: int) -> dict[str, Any]:
    """Return the attributes of blocks in a round of the loop at ``path``."""
    return {
        "step": here.get("step", path),
        "round": [*here.get("round", []), number],
        "labels": here.get("labels", {}),
    }


def _outcome(step: ProgramStep, verify: WriteVerify, rounds: int) -> dict[str, Any]:
    """Say what write-verify came to, for the run's record."""
    wanted = ~np.isnan(verify.target_S)
    error = (verify.last_S - verify.target_S)[wanted]
    used = verify.used[wanted]
    return {
        "dataset": step.name,
        "cells": int(np.count_nonzero(wanted)),
        "reached": int(np.count_nonzero(verify.reached & wanted)),
        "pulses": int(used.sum()),
        "most_pulses": int(used.max(initial=0)),
        "rounds": rounds,
        "tolerance_S": step.tolerance,
        "rms_error_S": float(np.sqrt(np.mean(error**2))) if error.size else 0.0,
    }


def _ending(error: BaseException) -> State:
    if isinstance(error, (Stopped, KeyboardInterrupt)):
        return State.STOPPED
    return State.REFUSED if isinstance(error, Refused) else State.FAILED


__all__ = ["Runner"]
