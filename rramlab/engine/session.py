"""A session: a bench opened for work. Owns policy: arming, calibration, ledgers, runs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from rramlab.base.errors import DataError, InstrumentError, InvalidValue, Refused, RramlabError, Stopped, UsageError
from rramlab.base.names import fresh, text
from rramlab.base.numbers import shown
from rramlab.base.times import counted
from rramlab.drivers.bench import Bench, BenchDescription, describe_bench
from rramlab.engine.guard import Guard
from rramlab.engine.interrupts import Interrupts
from rramlab.engine.macro import SessionMacro
from rramlab.engine.results import Listener, Progress, RunResult
from rramlab.engine.runner import Runner
from rramlab.engine.snapshots import capture
from rramlab.engine.station import Station
from rramlab.engine.turn import Turn
from rramlab.engine.wear import SingleShot
from rramlab.macro.crossbar import LineResistances
from rramlab.plan.limits import intersect
from rramlab.plan.plan import Plan
from rramlab.plan.worst import Bounds
from rramlab.protocols.files import load_protocol
from rramlab.records.applied import InForce, Policy, faults_of, in_force, lines_of, refuse_faults
from rramlab.records.files import history
from rramlab.runs import LEDGER
from rramlab.runs.fitting import refuse_unkeepable
from rramlab.runs.keys import begun
from rramlab.runs.lastread import LAST_READ
from rramlab.runs.ledger import LOG, Ledger, LedgerNote
from rramlab.runs.ledger.check import hear_newest_runs
from rramlab.runs.ledger.witnesses import beside
from rramlab.runs.provenance import collect
from rramlab.runs.store import Run, find_run, list_runs, remove_leftovers

PATIENCE_s = 10.0  # for what another thread does when the session is closed
V = TypeVar("V")


def _silent(progress: Progress) -> None:
    """Tell nobody."""


class _Gone(dict[str, V]):
    """What a closed session has of its dies: nothing, and it says so."""

    def __init__(self, turn: Turn) -> None:
        super().__init__()
        self._turn = turn

    def __missing__(self, name: str) -> V:
        self._turn.check()
        raise KeyError(name)


class Session:
    """Locked, identified, safe on exit; use as a context manager, or through :func:`open_bench`.

    It works from any thread, one operation at a time: another thread waits for a single operation, and is refused while a run
    is executed. :meth:`stop` ends what is being done, from any thread.
    """

    def __init__(self, description: BenchDescription, calibrating: bool = False) -> None:
        """``calibrating``: the bench's demand for a calibration does not hold while one is made."""
        self.description = description
        self._calibrating = calibrating
        self._policy: Policy = "none" if calibrating else description.file.calibration_policy
        self.interrupts = Interrupts()
        self.bench = Bench(description, self.interrupts.between)
        self.stations: dict[str, Station] = {}
        self.macros: dict[str, SessionMacro] = {}
        self.conversions: dict[str, InForce] = {}  # by die: with what its codes become siemens
        self._turn = Turn()
        self._sound = True  # every instrument was in its safe state since anything failed
        self._tried = 0  # how often they were to be brought there

    def __enter__(self) -> Session:
        """Open, lock, identify; energises nothing.

        Raises:
            BenchLocked, InstrumentError, DataError, Refused: what is wrong and what to do. UsageError: it was open before.
        """
        self._turn.begin()
        try:
            self.interrupts.watch()
            with self._turn.take(), self.interrupts.busy():
                self.bench.__enter__()
                for die in self.description.file.dies:
                    self.interrupts.between()
                    self._enrol(die.id)
        except BaseException:
            self.close()
            raise
        return self

    def _enrol(self, die_id: str) -> None:
        board = self.description.board
        folder = self.die_folder(die_id)
        self._refuse_lost_ledger(die_id, folder)
        if not (folder / LEDGER).exists():
            fresh(die_id, "die id", folder.parent)
        remove_leftovers(folder)
        identity = self.bench.identities[die_id]
        self.conversions[die_id] = in_force(
            self.description.root, identity.board_serial, board, identity.temperature_C, self._policy
        )
        ledger = Ledger(folder / LEDGER, die_id, board.geometry)
        try:
            self._put_to_work(die_id, folder, ledger)
        except BaseException:
            ledger.close()  # no station has it yet, so nobody else does
            raise

    def _put_to_work(self, die_id: str, folder: Path, ledger: Ledger) -> None:
        """Make the station of a die, and what Python sees of it."""
        board, identity = self.description.board, self.bench.identities[die_id]
        try:
            hear_newest_runs(ledger, self.runs)
        except BaseException:
            ledger.close()
            raise
        for note in [*ledger.notes, *([ledger.doubt] if ledger.doubt else [])]:
            warnings.warn(note, LedgerNote, stacklevel=2)
        smus = self.bench.smus
        files = {name: self.description.smu_files[name] for name in smus}
        guard = Guard(die_id, self.bench.limits, board, ledger, identity, files, self.bench.check_owned)
        self.stations[die_id] = Station(
            die_id,
            self.bench.controllers[die_id],
            ledger,
            guard,
            self.conversions[die_id].calibration,
            folder,
            self.interrupts,
            smus,
        )

        def lines() -> LineResistances | None:
            return lines_of(
                self.description.root, identity.board_serial, die_id, board.geometry, station.identity.temperature_C
            )

        compensated = self.description.file.compensation
        station = self.stations[die_id]
        self.macros[die_id] = SessionMacro(station, self._interactive, self._operation, lines, compensated)

    def _refuse_lost_ledger(self, die_id: str, folder: Path) -> None:
        """A die that was worked on and has no ledger must not pass for a virgin one."""
        if (folder / LEDGER).exists():
            return
        # A log without its ledger: it holds the newest operations of one.
        traces = [
            str(path)
            for path in (folder / LAST_READ, folder / f"{LEDGER}{LOG}", beside(folder / LEDGER))
            if path.exists()
        ]
        traces += [run.id for run in list_runs(self.runs) if run.die == die_id]
        if traces:
            raise DataError(
                f"die {die_id!r} has no ledger {folder / LEDGER}, but was worked on ({traces[0]}); nothing was energised. "
                "Without its ledger a die must not be pulsed: restore the file from a copy"
            )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except RramlabError as problem:
            if not isinstance(error, RramlabError):
                raise
            error.args = (f"{error}. And then: {problem}",)  # the first is why, and must not be hidden
        if error is None and self.interrupts.requests:
            raise Stopped("stopped by the user while the bench was being released; it is in its safe state")

    def close(self) -> None:
        """Bring the bench to its safe state first; then finish the interactive runs and release it. Idempotent.

        What another thread is doing is stopped first. In a process that was forked nothing is done: the bench is its parent's.
        """
        if self._turn.inherited or (self._turn.closed and not self.bench.is_open):
            return
        with self.interrupts.held(), ExitStack() as last:
            if not self._turn.mine:
                self.interrupts.ask(now=True)
            self._turn.end(PATIENCE_s)
            # Undone in reverse order, each even if another fails.
            last.callback(self.interrupts.unwatch)
            for station in self.stations.values():
                last.callback(station.ledger.close)
            last.callback(self.bench.close)
            for macro in self.macros.values():
                last.callback(macro.finish)
            self.stations, self.macros, self.conversions = _Gone(self._turn), _Gone(self._turn), _Gone(self._turn)
            self.bench.safe_state()

    def stop(self, now: bool = False) -> bool:
        """Ask for a stop of what is being done, as Ctrl-C does; from any thread, and waiting for nothing.

        ``now``: not after the operation in flight, but at once. Returns whether there is anything to be stopped: that ends
        with Stopped, where it was called.
        """
        return self.interrupts.ask(now)

    @contextmanager
    def _operation(self, run: bool = False) -> Iterator[None]:
        """One operation, or a run: from one thread, signals only counted; whatever fails leaves the bench in its safe state."""
        if self._turn.mine:  # part of another
            yield
            return
        with self._turn.take(run):
            self._make_sound()
            tried = self._tried
            try:
                with self.interrupts.busy(hands_on=not run):
                    yield
            except (Refused, UsageError):
                raise
            except BaseException:
                if self._tried == tried:  # a run that fails does it itself, before it writes anything
                    self._make_safe()
                raise

    def _make_sound(self) -> None:
        """Reach what could not be brought to its safe state when an operation failed; a link that is lost is opened anew.

        Raises:
            InstrumentError: it cannot be reached.
        """
        if self._sound:
            return
        try:
            self._make_safe()
        except InstrumentError as error:
            raise InstrumentError(
                f"this session cannot go on, and nothing more was sent to the die: {error}. When that is mended call again, or "
                "open a new session; a run can be resumed"
            ) from error

    def die_folder(self, die_id: str) -> Path:
        return self.description.data / "dies" / die_id

    @property
    def runs(self) -> Path:
        return self.description.data / "runs"

    @property
    def macro(self) -> SessionMacro:
        """The only die.

        Raises:
            UsageError: there are several; name one with ``session.macros[die_id]``. Or the session is closed.
        """
        self._turn.check()
        if len(self.macros) != 1:
            raise UsageError(
                f"the bench has {len(self.macros)} dies: {', '.join(self.macros)}; use session.macros[die_id]"
            )
        return next(iter(self.macros.values()))

    def arm(self, die_id: str) -> None:
        """Allow destructive operations on the die named, for as long as the session lasts."""
        self._turn.check()
        if text(die_id, "the die's id") not in self.stations:
            raise Refused(
                f"armed for die {shown(die_id)}, but on the bench is {', '.join(self.stations)}; nothing was energised"
            )
        self.stations[die_id].guard.arm(die_id)

    @contextmanager
    def _armed(self, die_id: str | None) -> Iterator[None]:
        """Arm for one run; a session that was armed by :meth:`arm` stays so."""
        before = {station: station.guard.armed for station in self.stations.values()}
        if die_id is not None:
            self.arm(die_id)
        try:
            yield
        finally:
            for station, armed in before.items():
                station.guard.armed = armed

    @contextmanager
    def _single_shot(self, rule: SingleShot) -> Iterator[None]:
        """Let another rule hold for electroforming cells again: for what was begun under that one, and nothing else."""
        guards = [station.guard for station in self.stations.values()]
        for guard in guards:
            guard.single_shot = rule
        try:
            yield
        finally:
            for guard in guards:
                guard.single_shot = "always"

    def plan(self, what: Plan | Path | str, parameters: Mapping[str, object] | None = None) -> Plan:
        """Return a plan: as given, or from a protocol by name or path."""
        if isinstance(what, Plan):
            if parameters is not None and parameters != {}:
                raise UsageError("parameters belong to a protocol; a plan has none")
            return what
        if not isinstance(what, str | Path):
            raise InvalidValue(f"found {shown(what)}, expected a Plan, or a protocol by its name or path")
        if not isinstance(parameters, Mapping | None):
            raise InvalidValue(f"found the parameters {shown(parameters)}, expected a mapping of names and values")
        return load_protocol(self.description.root, str(what)).plan(self.description.board.geometry, parameters)

    def run(
        self,
        what: Plan | Path | str,
        parameters: Mapping[str, object] | None = None,
        *,
        arm: str | None = None,
        die: str | None = None,
        listen: Listener = _silent,
        key: str | None = None,
    ) -> RunResult:
        """Execute a plan, or a protocol by name or path, on one die.

        ``key``: of one run. Where it was begun, this goes on with it, as :meth:`resume`; where it is done, nothing is done. So
        whoever gives it may call again after whatever has happened.

        Raises:
            UsageError, Refused: before anything is energised. OutOfLimits, Stopped, …: in the safe state; what was measured
            is kept, and the run can be resumed.
        """
        with self._operation(run=True), self._armed(arm):
            station = self._station(die)
            plan = self.plan(what, parameters)
            known = begun(self.runs, station.die_id, key, plan) if key is not None else None
            if known is not None:
                done = known.record["status"] == "done"
                return RunResult.of(known) if done else self.resume(known.id, listen=listen)
            self._identify(station)
            if plan.destructive:
                station.ledger.check_if_old()
            bounds = station.guard.admit_plan(plan, seen=station.seen)
            refuse_unkeepable(plan, self.runs)
            about = self._about(station, bounds)
            texts, last = self._texts(station, plan), station.ledger.last_id
            seen = asdict(station.ledger.witness)
            run = Run.create(self.runs, plan, station.die_id, texts, about, last, key or "", seen)
            return self._execute(station, run, plan, bounds, listen, begins=True)

    def resume(self, run_id: str, *, arm: str | None = None, listen: Listener = _silent) -> RunResult:
        """Go on with a run that was killed, stopped or failed; its plan is the one it was started with.

        Raises:
            UsageError: it is done, or its die is not on the bench.
        """
        with self._operation(run=True), self._armed(arm):
            run = find_run(self.runs, text(run_id, "the run's id"))
            record = run.record
            if record["status"] == "done":
                raise UsageError(f"run {run.id} is done; there is nothing to resume")
            if record["name"] == "interactive":
                raise UsageError(f"run {run.id} was interactive: it has no plan to go on with")
            if record["die"] not in self.stations:
                raise UsageError(
                    f"run {run.id} is of die {record['die']!r}, on the bench is {', '.join(self.stations)}"
                )
            rule: SingleShot = "unless unknown" if run.before_single_shot else "always"
            with self._single_shot(rule):
                return self._go_on(self.stations[record["die"]], run, listen)

    def _go_on(self, station: Station, run: Run, listen: Listener) -> RunResult:
        self._identify(station)
        plan = run.plan
        station.ledger.check()  # what was pulsed is found in all of it
        bounds = station.guard.admit_plan(plan, run, station.seen)
        run.resumed(self._about(station, bounds))
        known = (run.block_names(), run.judged_places(), station.ledger.of_run(run.id))
        begins = not any(True for found in known for _ in found)  # its process ended before anything was done
        return self._execute(station, run, plan, bounds, listen, begins)

    def _identify(self, station: Station) -> None:
        """Ask the board who it is and how warm: a calibration that was in force when the session began may hold no longer.

        Raises:
            Refused: the bench requires one that does.
        """
        station.identify()
        identity, conversion = station.identity, self.conversions[station.die_id]
        faults = faults_of(conversion.kept, self.description.root, identity.board_serial, identity.temperature_C)
        refuse_faults(faults, self._policy)
        self.conversions[station.die_id] = replace(conversion, faults=faults)

    def _execute(
        self, station: Station, run: Run, plan: Plan, bounds: Bounds, listen: Listener, begins: bool = False
    ) -> RunResult:
        """Execute what is left of a run. ``begins``: nothing of it was done yet, so its die is kept as it is now."""
        runner = Runner(station, run, plan, bounds, self.interrupts, listen, self._make_safe, not begins)
        station.guard.run_began_s = counted()
        try:
            if begins:
                capture(run, station, self.description)
            return runner.execute()
        except OSError as error:
            if not runner.made_safe:
                self._make_safe()
            where = f" ({error.filename})" if error.filename else ""
            failed = DataError(
                f"the operating system refused{where}: {error.strerror or error}. No pulse was sent that the ledger of die "
                f"{station.die_id!r} does not know, and what was measured before is whole. Make room, or correct that; then go "
                "on"
            )
            failed.run = run.id
            raise failed from error
        except BaseException:  # also what came after the last operation: a stop, a file that could not be written
            if not runner.made_safe:
                self._make_safe()
            raise
        finally:
            station.guard.run_began_s = None
            for macro in self.macros.values():
                macro.forget_gates()  # the plan may have loaded patterns of its own, and the safe state clears all

    def _make_safe(self) -> None:
        """Safe state, through any signal; gate patterns are lost with it."""
        with self.interrupts.held():
            for macro in self.macros.values():
                macro.forget_gates()
            self._tried += 1
            self._sound = False
            self.bench.safe_state()
            self._sound = True

    def _station(self, die: str | None) -> Station:
        self._turn.check()
        if die is None and len(self.stations) == 1:
            return next(iter(self.stations.values()))
        if die is None or text(die, "the die's id") not in self.stations:
            raise UsageError(f"name one of the dies on the bench: {', '.join(self.stations)}")
        return self.stations[die]

    def _texts(self, station: Station, plan: Plan) -> dict[str, str]:
        """Everything a run depends on, as text beside it."""
        description = self.description
        return {
            "bench.yaml": description.located.path.read_text(encoding="utf-8"),
            "board.yaml": description.board_located.path.read_text(encoding="utf-8"),
            **({"protocol.yaml": plan.protocol} if plan.protocol else {}),
            **{f"calibration-{path.name}": path.read_text(encoding="utf-8") for path in self._records(station)},
        }

    def _records(self, station: Station) -> list[Path]:
        """Return the board's record that this session converts with and the die's newest, where there are any."""
        kept = self.conversions[station.die_id].kept
        of_die = list(history(self.description.root, "die", station.die_id))[-1:]
        return [*([] if kept is None else [kept.path]), *of_die]

    def _about(self, station: Station, bounds: Bounds | None) -> dict[str, Any]:
        identity = station.identity
        return {
            **collect(),
            "board_serial": identity.board_serial,
            "firmware": identity.firmware,
            "boot_nonce": identity.boot_nonce,
            "temperature_C": identity.temperature_C,
            "calibrating": self._calibrating,
            "calibration": station.calibration.record,
            "calibration_faults": list(self.conversions[station.die_id].faults),
            "instruments": {name: str(each.text) for name, each in self.bench.smu_identities.items()},
            "limits": intersect(station.guard.limits).model_dump(exclude_none=True),
            "bounds": bounds.model_dump() if bounds else None,
        }

    def _interactive(self, station: Station) -> Run:
        plan = Plan(name="interactive", steps=())
        about = self._about(station, None)
        seen = asdict(station.ledger.witness)
        return Run.create(
            self.runs, plan, station.die_id, self._texts(station, plan), about, station.ledger.last_id, ledger=seen
        )


def open_bench(where: Path | str | None = None, die: str | None = None) -> Session:
    """Describe the bench at ``where`` (a folder or bench file, default the current folder) and return its session.

    Use as ``with rramlab.open_bench(path) as session:``; it is locked and identified on entry, safe on exit.
    """
    if not isinstance(where, str | os.PathLike | None):
        raise InvalidValue(f"found the bench {shown(where)}, expected a folder or a bench file")
    return Session(describe_bench(Path(where) if where is not None else None, die))


__all__ = ["LEDGER", "Progress", "RunResult", "Session", "open_bench"]
