"""Records as files of the bench folder: YAML with units, arrays in HDF5 beside it; a new measurement is a new file.

A record holds what is known of one board or one die: the sections of the one before it, and those measured anew. It is
never changed; the newest is in force.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import write_atomic
from rramlab.base.names import NAME
from rramlab.base.yamlfile import load_model
from rramlab.records.sections import (
    LEAST_GAIN,
    MOST_GAIN,
    AdcSection,
    AgreementSection,
    DacSection,
    FormingSection,
    LinearitySection,
    LinesSection,
    NoiseSection,
    Section,
    WiresSection,
)
from rramlab.records.values import Strict, spelled

FOLDER = "calibration"
_STAMP = "%Y%m%d-%H%M%S%f"
Floats = npt.NDArray[np.float64]


class Arrays(Strict):
    """The companion file, and the digest that it had when the record was written."""

    file: str = Field(pattern=r"^[^/\\]+\.h5$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class _Record(Strict):
    kind: str
    written_at: datetime
    arrays: Arrays | None = None

    @property
    def sections(self) -> dict[str, Section]:
        return {name: value for name, value in self if isinstance(value, Section)}


class BoardRecord(_Record):
    """What is known of a board."""

    kind: Literal["board"] = "board"
    serial: str = Field(pattern=NAME)
    dac: DacSection | None = None
    adc: AdcSection | None = None
    lines: LinesSection | None = None
    linearity: LinearitySection | None = None
    agreement: AgreementSection | None = None

    @property
    def owner(self) -> str:
        return self.serial


class DieRecord(_Record):
    """What is known of a die."""

    kind: Literal["die"] = "die"
    die: str = Field(pattern=NAME)
    forming: FormingSection | None = None
    noise: NoiseSection | None = None
    wires: WiresSection | None = None

    @property
    def owner(self) -> str:
        return self.die


AnyRecord = BoardRecord | DieRecord
R = TypeVar("R", BoardRecord, DieRecord)


@dataclass(frozen=True, eq=False)
class Kept:
    """A record with its file and its arrays: name (``adc/read_gain``) → float64[…]."""

    path: Path
    record: AnyRecord
    arrays: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """What data converted with it name it by."""
        return self.path.stem

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record and its arrays.

        Raises:
            UsageError: it is not what it should be; with line and column. DataError: its arrays are missing or damaged.
        """
        try:
            return cls._read(path)
        except (UsageError, DataError) as error:
            before = [each for each in history(path.parent.parent, *_owner_of(path)) if each.name < path.name]
            then = f"{before[-1].name} is in force then" if before else "there is no older one"
            raise type(error)(
                f"{error}. To go on without it, move {path.name} and its .h5 out of {path.parent}: {then}"
            ) from error

    @classmethod
    def _read(cls, path: Path) -> Self:
        kind, owner = _owner_of(path)
        model: type[AnyRecord] = BoardRecord if kind == "board" else DieRecord
        record = load_model(path, model)
        strangers = {getattr(section, kind) for section in record.sections.values()} - {owner}
        if record.owner != owner or strangers:
            raise UsageError(
                f"{path} says that it is of {kind} {', '.join(map(repr, sorted({record.owner, *strangers})))}, its name says "
                f"{owner!r}: it was renamed or edited"
            )
        kept = cls(path, record, {} if record.arrays is None else _load_arrays(path, record.arrays))
        kept._refuse_missing()
        return kept

    def _refuse_missing(self) -> None:
        """A section is nothing without its arrays."""
        for name, section in self.record.sections.items():
            for each in section.arrays:
                values = self.arrays.get(f"{name}/{each}")
                if values is None or values.ndim != 1 or not values.size or not np.all(np.isfinite(values)):
                    raise DataError(
                        f"{self.path} has no array {name}/{each} that can be used; restore it and its .h5 from a copy"
                    )
        adc = getattr(self.record, "adc", None)
        for name in ("read", "multiply") if adc is not None else ():
            gains, said = self.arrays[f"adc/{name}_gain"], getattr(adc, name).gain.value
            if gains.min() < LEAST_GAIN or gains.max() > MOST_GAIN or abs(gains.mean() - said) > 1e-6 * said:
                raise DataError(
                    f"{self.path} says a mean gain of {said:.6g} on the {name} range, its array has {gains.mean():.6g}, from "
                    f"{gains.min():.3g} to {gains.max():.3g}: one of the two was edited"
                )


def _owner_of(path: Path) -> tuple[Literal["board", "die"], str]:
    """Return whose record a file is by its name: kind, then serial number or id.

    Raises:
        UsageError: it is not called as a record is.
    """
    kind, _, rest = path.stem.partition("-")
    parts = rest.split("-")
    owner, stamp = "-".join(parts[:-2]), "-".join(parts[-2:])
    if kind not in ("board", "die") or not owner or not _is_stamp(stamp):
        raise UsageError(f"{path} is not called as a record is: board-SERIAL-DATE-TIME.yaml or die-ID-DATE-TIME.yaml")
    return ("board" if kind == "board" else "die"), owner


def _load_arrays(path: Path, about: Arrays) -> dict[str, Floats]:
    import h5py

    companion = path.with_name(about.file)
    if about.file != f"{path.stem}.h5":
        raise UsageError(f"{path} names the arrays {about.file!r}, expected {path.stem}.h5: those are another record's")
    try:
        data = companion.read_bytes()
    except OSError as error:
        raise DataError(f"the arrays of {path} cannot be read: {error}. Restore {about.file} from a copy") from error
    if hashlib.sha256(data).hexdigest() != about.sha256:
        raise DataError(f"{companion} is not as it was when {path.name} was written; restore both from a copy")
    found: dict[str, Floats] = {}
    with h5py.File(io.BytesIO(data), "r") as file:
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


def save(
    root: Path,
    record: R,
    sections: Mapping[str, Section],
    arrays: Mapping[str, tuple[Floats, str]],
    before: Kept | None,
) -> Kept:
    """Write a new record of ``sections`` beside the older ones, and over what ``before`` says of all others.

    ``record``: whose it is. ``arrays``: ``section/name`` → (array, unit), of these sections.

    Raises:
        DataError: it cannot be written.
    """
    import h5py

    now = datetime.now(UTC)
    kept_arrays: dict[str, tuple[Floats, str]] = dict(arrays)
    base = record.model_copy(update=dict(sections))
    if before is not None:
        old = {name: value for name, value in before.record.sections.items() if name not in sections}
        base = base.model_copy(update=old)
        units = _units(before)
        kept_arrays |= {
            name: (value, units[name]) for name, value in before.arrays.items() if name.split("/")[0] in old
        }
        latest = before.record.written_at
        now = max(now, latest + timedelta(milliseconds=1))  # also where the clock was set back
    path = root / FOLDER / f"{record.kind}-{record.owner}-{now.strftime(_STAMP)[:-3]}.yaml"
    while path.exists():  # two in one millisecond: none replaces another
        now += timedelta(milliseconds=1)
        path = path.with_name(f"{record.kind}-{record.owner}-{now.strftime(_STAMP)[:-3]}.yaml")
    stem = path.stem
    about = None
    if kept_arrays:
        stream = io.BytesIO()
        with h5py.File(stream, "w") as file:
            for name, (values, unit) in sorted(kept_arrays.items()):
                file.create_dataset(name, data=values).attrs["units"] = unit or "1"
        write_atomic(path.with_suffix(".h5"), stream.getvalue())
        about = Arrays(file=f"{stem}.h5", sha256=hashlib.sha256(stream.getvalue()).hexdigest())
    whole = base.model_copy(update={"written_at": now, "arrays": about})
    what = "board" if record.kind == "board" else "die"
    head = f"# What is known of a {what}. Standard uncertainties. A new measurement is a new file: this one is not changed.\n"
    write_atomic(path, (head + spelled(whole)).encode())
    return Kept.load(path)


def _units(kept: Kept) -> dict[str, str]:
    import h5py

    assert kept.record.arrays is not None or not kept.arrays
    if kept.record.arrays is None:
        return {}
    with h5py.File(kept.path.with_name(kept.record.arrays.file), "r") as file:
        return {name: str(file[name].attrs["units"]) for name in kept.arrays}


def history(root: Path, kind: Literal["board", "die"], owner: str) -> Iterator[Path]:
    """Yield the files of the records of a board or die, oldest first."""
    begins = f"{kind}-{owner}-"
    found = [path for path in (root / FOLDER).glob(f"{begins}*.yaml") if _is_stamp(path.stem.removeprefix(begins))]
    yield from sorted(found)


def _is_stamp(text: str) -> bool:
    try:
        datetime.strptime(text + "000", _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return False
    return True


def newest(root: Path, kind: Literal["board", "die"], owner: str) -> Kept | None:
    """Return the record in force of a board or die, or None.

    Raises:
        UsageError, DataError: it is not what it should be.
    """
    paths = list(history(root, kind, owner))
    return Kept.load(paths[-1]) if paths else None


def find(root: Path, name: str) -> Kept:
    """Return the record called ``name``: the name of its file without ending, or an unambiguous beginning.

    Raises:
        DataError: there is none, or several.
    """
    paths = sorted(path for kind in ("board", "die") for path in (root / FOLDER).glob(f"{kind}-*.yaml"))
    found = [path for path in paths if path.stem == name] or [path for path in paths if path.stem.startswith(name)]
    if len(found) != 1:
        known = "".join(f"\n  {path.stem}" for path in found or paths) or " none"
        what = "several records begin with" if found else "there is no record"
        raise DataError(f"{what} {name!r} in {root / FOLDER}; known:{known}")
    return Kept.load(found[0])
