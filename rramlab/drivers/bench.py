"""``bench.yaml`` to an opened, identified, locked bench that owns its safe state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rramlab.base.errors import InstrumentError, InvalidValue, RramlabError, UsageError
from rramlab.base.folders import Located, bench_file
from rramlab.base.names import NAME, checked
from rramlab.base.numbers import shown
from rramlab.base.yamlfile import load_model, load_yaml
from rramlab.drivers.boardfile import BoardFile, load_board
from rramlab.drivers.controller import PROTOCOL_VERSION, Identity, MacroController
from rramlab.drivers.driverfile import load_smu, make_smu
from rramlab.drivers.links import Link, LinkLost
from rramlab.drivers.lock import HostLock, Ownership
from rramlab.drivers.smu.smufile import SmuFile
from rramlab.macro.board import BoardTable
from rramlab.plan.limits import Limits, intersect, of_board

if TYPE_CHECKING:  # commands that open nothing need none of these
    from rramlab.drivers.smu.instrument import Smu
    from rramlab.drivers.smu.readings import SmuIdentity
    from rramlab.drivers.trace import Trace

BACKENDS = "rramlab.backends"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class ControllerEntry(_Strict):
    """Which board file describes the controller, and the serial number that it must report."""

    driver: str
    board: str
    address: str | None = None  # of a controller on a wire: tcp://HOST:PORT, a VISA resource, or what pyserial knows
    baud: int = Field(default=3_000_000, ge=1)  # of a serial port
    token_file: str | None = None  # what a board on a network asks for: a file that holds it, from the bench folder on
    token_env: str | None = None  # the same: an environment variable
    options: dict[str, Any] = Field(default_factory=dict)  # the backend's own


class SmuEntry(_Strict):
    """A source-measure unit on the table: its driver file, where it is, and the serial number that it must report."""

    name: str = Field(pattern=NAME)
    driver: str
    address: str = Field(min_length=1)  # 'simulated', a VISA resource, tcp://HOST:PORT, or what pyserial knows
    serial: str | None = None
    channel: int = Field(default=1, ge=1)
    baud: int = Field(default=9600, ge=1)  # of a serial port
    options: dict[str, Any] = Field(default_factory=dict)  # the backend's own


class DieEntry(_Strict):
    id: str = Field(pattern=NAME)
    options: dict[str, Any] = Field(default_factory=dict)  # the backend's own


class BenchFile(_Strict):
    """Everything on one table."""

    name: str
    backend: str
    controller: ControllerEntry
    smus: tuple[SmuEntry, ...] = ()
    dies: tuple[DieEntry, ...] = Field(min_length=1)
    limits: Limits = Limits()
    calibration_policy: Literal["require", "warn", "none"] = "require"
    compensation: bool = (
        False  # whether products and reads from Python are those of the bare cells, without their lines
    )
    data: str = "data"


@dataclass(frozen=True)
class Backend:
    """How a backend reaches the controller of each die, and a source-measure unit; nothing is opened yet.

    ``open_smu`` takes the unit's entry, the model of its driver file, and the byte that ends its answers.
    """

    open_controllers: Callable[[], Mapping[str, MacroController]]
    open_smu: Callable[[SmuEntry, str, bytes], Link]

    @cached_property
    def controllers(self) -> Mapping[str, MacroController]:
        """By die id, opened when first asked for."""
        return self.open_controllers()


# What an entry point in the group rramlab.backends is. ``trace``: what logs every byte of a link, or none. It must not
# energise anything.
OpenBackend = Callable[[BenchFile, BoardTable, Path, "Trace | None"], Backend]


@dataclass(frozen=True)
class BenchDescription:
    """A bench as its files describe it; nothing is opened."""

    root: Path
    located: Located
    file: BenchFile
    board_file: BoardFile
    board_located: Located
    board: BoardTable
    smu_files: Mapping[str, SmuFile]  # of each entry, by its name
    trace: Path | None = None  # a new file, in which every byte on every link is to be logged

    @property
    def data(self) -> Path:
        return self.root / self.file.data

    @property
    def ownership(self) -> Ownership:
        """What a process must have to itself to work with it. A simulated board is in the data folder, with its dies."""
        board = None if self.file.backend == "simulated" else self.file.controller.board
        return Ownership(self.data, (die.id for die in self.file.dies), board, self.root)

    @property
    def limits(self) -> Limits:
        """Silicon and board ∩ SMUs ∩ bench; what the controller reports is intersected when it is opened."""
        units = (
            Limits(smu_voltage=file.limits.voltage, smu_current=file.limits.current) for file in self.smu_files.values()
        )
        return intersect(of_board(self.board), *units, self.file.limits)


def describe_bench(
    where: Path | None = None, die: str | Sequence[str] | None = None, trace: Path | None = None
) -> BenchDescription:
    """Read a bench's files.

    ``where``: a bench folder or file, default the current folder. ``die``: that die alone, or those, in their order; one that
    the file does not list is put on the simulated table without options, so it is what it was made as, or virgin and
    published.

    Raises:
        UsageError, DataError: naming file and line.
    """
    if not isinstance(die, str | Sequence | None):
        raise InvalidValue(f"found the die {shown(die)}, expected its id, or a list of ids")
    wanted = None if die is None else [die] if isinstance(die, str) else list(die)
    for name in wanted or ():
        checked(name, "die id")
    located, root = bench_file(where)
    file = load_model(located.path, BenchFile)
    if file.controller.token_file is not None:
        beside = str(root / Path(file.controller.token_file).expanduser())
        controller = file.controller.model_copy(update={"token_file": beside})
        file = file.model_copy(update={"controller": controller})
    if wanted is not None:
        listed = {entry.id: entry for entry in file.dies}
        unknown = [name for name in wanted if name not in listed]
        if unknown and file.backend != "simulated":
            raise UsageError(
                f"die {unknown[0]!r} is not on the bench; {located.path} lists {', '.join(listed)}. "
                "Enter it there once it is in the socket"
            )
        dies = tuple(listed.get(name) or DieEntry(id=name) for name in wanted)
        file = file.model_copy(update={"dies": dies})
    ids = [entry.id for entry in file.dies]
    if len(set(ids)) != len(ids):
        raise UsageError(f"a die stands twice in {', '.join(ids)}", load_yaml(located.path).at(("dies",)))
    names = [entry.name for entry in file.smus]
    if len(set(names)) != len(names):
        raise UsageError(f"an SMU stands twice in {', '.join(names)}", load_yaml(located.path).at(("smus",)))
    board_file, board_located = load_board(root, file.controller.driver)
    smu_files = _smu_files(root, file, located.path)
    return BenchDescription(root, located, file, board_file, board_located, board_file.table(), smu_files, trace)


def _smu_files(root: Path, file: BenchFile, path: Path) -> dict[str, SmuFile]:
    found = {}
    for index, entry in enumerate(file.smus):
        try:
            found[entry.name] = load_smu(root, entry.driver)
        except UsageError as error:
            raise UsageError(
                f"the driver of SMU {entry.name!r}: {error}", load_yaml(path).at(("smus", index, "driver"))
            ) from None
        channels = found[entry.name].channels
        if entry.channel not in channels:
            raise UsageError(
                f"found channel {entry.channel} of SMU {entry.name!r}, expected one that a {entry.driver} has: "
                f"{', '.join(map(str, channels))}",
                load_yaml(path).at(("smus", index, "channel")),
            )
    return found


class Bench:
    """Opened, identified and locked hardware. Opening never energises; closing leaves the safe state.

    Use as a context manager. ``controllers`` and ``identities`` are by die id, ``smus``, ``smu_identities`` and
    ``smu_errors`` by name; the last are what stood in a unit's error queue when it was opened. An instrument that says that
    it is another than the bench file's is not here and is told nothing.
    """

    def __init__(self, description: BenchDescription, between: Callable[[], None] = lambda: None) -> None:
        """``between``: called before each instrument is opened; it may raise."""
        self.description = description
        self._between = between
        self.controllers: dict[str, MacroController] = {}
        self.identities: dict[str, Identity] = {}
        self.smus: dict[str, Smu] = {}
        self.smu_identities: dict[str, SmuIdentity] = {}
        self.smu_errors: dict[str, list[str]] = {}
        self._lock = description.ownership
        self._units: dict[str, HostLock] = {}  # by model and serial number
        self._backend: Backend | None = None
        self._trace: Trace | None = None

    @property
    def limits(self) -> Limits:
        """Silicon ∩ bench ∩ what every controller reported."""
        return intersect(self.description.limits, *(identity.limits for identity in self.identities.values()))

    @property
    def is_open(self) -> bool:
        """Whether this object has the bench."""
        return self._lock.mine

    def __enter__(self) -> Bench:
        """Lock, open, identify.

        Raises:
            BenchLocked: another process holds it. InstrumentError: an instrument does not answer, or is not the one in the
            bench file; all of them were tried.
        """
        self._lock.acquire()
        try:
            if self.description.trace is not None:
                from rramlab.drivers.trace import Trace

                self._trace = Trace(self.description.trace)
            file, board = self.description.file, self.description.board
            self._backend = _backend(self.description)(file, board, self.description.data, self._trace)
            self._open_all(self._backend)
        except RramlabError as error:
            try:
                self.close()
            except RramlabError as further:
                raise type(error)(f"{error}. And then: {further}") from error
            raise
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_all(self, backend: Backend) -> None:
        """Open every instrument, the units first: one that was left on is off then, even where the board is dead."""
        failures: list[InstrumentError] = []
        for entry in self.description.file.smus:
            self._between()
            try:
                self._open_smu(entry, backend)
            except InstrumentError as error:
                failures.append(error)
        self._between()
        try:
            self._identify_all(backend.controllers)
        except InstrumentError as error:
            failures.append(error)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise InstrumentError(f"{len(failures)} instruments could not be opened: {'; '.join(map(str, failures))}")

    def _identify_all(self, controllers: Mapping[str, MacroController]) -> None:
        strangers = dict(controllers)
        try:
            for die, controller in controllers.items():
                self.identities[die] = self._identify(die, controller)
                self.controllers[die] = strangers.pop(die)
        finally:
            for controller in strangers.values():  # whoever works with it: it is none of this bench
                controller.close()

    def _identify(self, die: str, controller: MacroController) -> Identity:
        identity = controller.hello()
        wanted, board = self.description.file.controller.board, self.description.board
        if identity.board_serial != wanted:
            raise InstrumentError(
                f"the controller of die {die!r} is board {identity.board_serial!r}, {self.description.located.path} "
                f"names {wanted!r}; nothing was energised. Connect the right board or correct the file"
            )
        if identity.protocol != PROTOCOL_VERSION:
            raise InstrumentError(
                f"board {identity.board_serial} speaks protocol {identity.protocol}, this program "
                f"{PROTOCOL_VERSION}; nothing was energised. Update the firmware or rramlab"
            )
        if identity.geometry != board.geometry:
            raise InstrumentError(
                f"board {identity.board_serial} reports {identity.geometry.shape} cells, "
                f"{self.description.board_located.path} says {board.geometry.shape}; nothing was energised"
            )
        return identity

    def _open_smu(self, entry: SmuEntry, backend: Backend) -> None:
        """Identify a source-measure unit, compare its serial number, make sure that its output is off."""
        from rramlab.drivers.smu.conversation import Unanswered

        file = self.description.smu_files[entry.name]
        link = backend.open_smu(entry, file.model, file.terminators.reply.encode())
        try:
            smu = make_smu(entry.name, file, link, entry.channel)
            try:
                identity = smu.identify()
            except Unanswered:
                with suppress(InstrumentError):
                    smu.safe_state()  # it may be on, and needs no answer to switch off
                raise
            if entry.serial is not None and identity.serial != entry.serial:
                raise InstrumentError(
                    f"SMU {entry.name!r} at {entry.address} has the serial number {identity.serial!r}, "
                    f"{self.description.located.path} names {entry.serial!r}; nothing was energised. Connect the right one "
                    "or correct the file"
                )
            self._claim(entry, identity)
        except BaseException:
            link.close()  # one that is another unit, or is another's, is not told to do anything
            raise
        self.smus[entry.name], self.smu_identities[entry.name] = smu, identity
        self.smu_errors[entry.name] = smu.safe_state()  # a process that was killed may have left it on

    def _claim(self, entry: SmuEntry, identity: SmuIdentity) -> None:
        """Have a unit for this bench alone, by whatever address others reach it.

        Raises:
            BenchLocked: another process, or another bench, works with it.
        """
        key = f"{identity.model} {identity.serial}"
        if self.description.file.backend == "simulated" or not identity.serial.strip("0 ") or key in self._units:
            return
        lock = HostLock("units", key, f"SMU {entry.name!r} ({key})", str(self.description.root))
        lock.acquire()
        self._units[key] = lock

    def check_owned(self) -> None:
        """Make sure that nobody else can have taken the bench since it was opened; asked before anything is energised.

        Raises:
            BenchLocked: a lock was deleted or replaced.
        """
        self._lock.check()

    def safe_state(self) -> None:
        """Bring every instrument to its safe state, trying all of them even if one fails; over a new link where one is lost.

        Raises:
            InstrumentError: naming each instrument that did not confirm; assume that its lines are live.
        """
        failures = []
        # The units first: no dead man's switch looks after them, and a path is opened only once nothing drives it.
        for name, smu in list(self.smus.items()):
            try:
                try:
                    smu.safe_state()
                except LinkLost:
                    self._reopen_smu(name, smu)
            except Exception as error:  # noqa: BLE001  # the others must still be tried; all are reported below
                failures.append(f"SMU {name!r}: {error}")
        for die, controller in self.controllers.items():
            try:
                controller.safe_state()
            except Exception as error:  # noqa: BLE001  # as above
                failures.append(f"the controller of die {die!r}: {error}")
        if failures:
            raise InstrumentError(
                "safe state was not confirmed by " + "; ".join(failures) + ". Switch the bench's supplies off by hand"
            )

    def _reopen_smu(self, name: str, lost: Smu) -> None:
        """Reach a unit again whose link is lost, and bring it to its safe state.

        Raises:
            InstrumentError: it cannot be reached, or is another unit now.
        """
        assert self._backend is not None  # it was opened by it
        entry = next(each for each in self.description.file.smus if each.name == name)
        known = self.smu_identities[name]
        lost.close()
        file = self.description.smu_files[name]
        link = self._backend.open_smu(entry, file.model, file.terminators.reply.encode())
        try:
            smu = make_smu(name, file, link, entry.channel)
            identity = smu.identify()
            if identity != known:
                raise InstrumentError(
                    f"after the link was lost, {entry.address} is {identity.text!r} and no longer {known.text!r}; nothing was "
                    "sent to it"
                )
            smu.safe_state()
        except BaseException:
            link.close()
            raise
        self.smus[name] = smu

    def close(self) -> None:
        """Safe state, close every link, let go of all that was this bench's."""
        failures = []
        try:
            self.safe_state()
        finally:
            for die, controller in self.controllers.items():
                try:
                    controller.close()
                except Exception as error:  # noqa: BLE001  # the others must still be closed; all are reported below
                    failures.append(f"the controller of die {die!r}: {error}")
            for name, smu in self.smus.items():
                try:
                    smu.close()
                except Exception as error:  # noqa: BLE001  # as above
                    failures.append(f"SMU {name!r}: {error}")
            self.controllers, self.smus = {}, {}
            try:
                if self._trace is not None:
                    self._trace.close()
            finally:
                for lock in self._units.values():
                    lock.release()
                self._units.clear()
                self._lock.release()
        if failures:
            raise InstrumentError("the bench was brought to its safe state, but could not close " + "; ".join(failures))


def _backend(description: BenchDescription) -> OpenBackend:
    from importlib.metadata import entry_points

    name, path = description.file.backend, description.located.path
    known = {entry.name: entry for entry in entry_points(group=BACKENDS)}
    if name not in known:
        raise UsageError(
            f"there is no backend {name!r}; installed: {', '.join(sorted(known)) or 'none'}. Correct the key, or install "
            "the package that provides it",
            load_yaml(path).at(("backend",)),
        )
    found: OpenBackend = known[name].load()
    return found
