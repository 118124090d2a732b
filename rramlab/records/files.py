"""Records as files of the bench folder: YAML with units, arrays in HDF5 beside it; a new measurement is a new file.

A record holds what is known of one board or one die: the sections of the one before it, and those measured anew. It is
never changed; the newest is in force. Its check sum is over what it says, not over how that is written: one that was changed
by hand is shown, and used again when a person has accepted it by name.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from pydantic import Field

from rramlab.base.arrays import HDF5_FORM, PACKED
from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import digest, write_atomic
from rramlab.base.names import NAME
from rramlab.base.order import as_made, time_now
from rramlab.base.times import wall
from rramlab.base.yamlfile import load_yaml, validate
from rramlab.base.yamlvalues import read_yaml
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
_ADDED = ("accepted", "sum")  # keys that are no part of what was measured, at the end of a record
Floats = npt.NDArray[np.float64]
State = Literal["whole", "changed", "unsummed"]


class Arrays(Strict):
    """The companion file, and the digest that it had when the record was written."""

    file: str = Field(pattern=r"^[^/\\]+\.h5$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Accepted(Strict):
    """A person's word for a record that was changed by hand: which one, who, when and why."""

    record: str
    by: str = Field(min_length=1, max_length=100)
    at: datetime
    reason: str = Field(min_length=1, max_length=1000)

    def __str__(self) -> str:
        return f"{self.record} was accepted by {self.by} on {self.at:%Y-%m-%d %H:%M} UTC: {self.reason}"


class _Record(Strict):
    """``accepted``: also those of older records that this one took sections over from. ``sum``: see :func:`sum_of`."""

    kind: str
    written_at: datetime
    arrays: Arrays | None = None
    accepted: tuple[Accepted, ...] | None = None
    sum: str | None = None

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
    """A record with its file and its arrays: name (``adc/read_gain``) → float64[…].

    ``state``: whether it is as it was written or accepted; 0.1.0 wrote no check sums.
    """

    path: Path
    record: AnyRecord
    arrays: Mapping[str, Floats] = field(default_factory=dict)
    state: State = "whole"

    @property
    def fault(self) -> str:
        """What is wrong with a record that was changed and that nobody has accepted; empty otherwise."""
        if self.state != "changed":
            return ""
        return (
            f"{self.path.name} was changed since it was written (its check sum differs), and nobody has said that this is "
            f"right. If it is: rramlab calibrate accept {self.id} --by NAME --reason TEXT; if not, restore it from a copy"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person who looks at it is told of its check sum."""
        old = (f"{self.path.name} has no check sum (written by 0.1.0)",) if self.state == "unsummed" else ()
        return (*filter(None, [self.fault]), *old, *map(str, self.record.accepted or ()))

    def refuse_changed(self, then: str) -> None:
        """See that it is as it was written, or was accepted. ``then``: what was not done.

        Raises:
            DataError: it is not.
        """
        if self.fault:
            raise DataError(f"{self.fault}. {then}")

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
            others = [each for each in history(path.parent.parent, *_owner_of(path)) if each.name != path.name]
            then = f"{others[-1].name} is in force then" if others else "there is no other one"
            raise type(error)(
                f"{error}. To go on without it, move {path.name} and its .h5 out of {path.parent}: {then}"
            ) from error

    @classmethod
    def _read(cls, path: Path) -> Self:
        kind, owner = _owner_of(path)
        model: type[AnyRecord] = BoardRecord if kind == "board" else DieRecord
        document = load_yaml(path)
        record = validate(document, model)
        strangers = {getattr(section, kind) for section in record.sections.values()} - {owner}
        if record.owner != owner or strangers:
            raise UsageError(
                f"{path} says that it is of {kind} {', '.join(map(repr, sorted({record.owner, *strangers})))}, its name says "
                f"{owner!r}: it was renamed or edited"
            )
        state: State = "unsummed"
        if record.sum is not None:
            state = "whole" if record.sum == sum_of(document.data) else "changed"
        kept = cls(path, record, {} if record.arrays is None else _load_arrays(path, record.arrays), state)
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


def sum_of(data: Mapping[str, Any]) -> str:
    """Return the check sum of what a record says: of its keys and values, however they are laid out."""
    said = {key: value for key, value in data.items() if key != "sum"}
    return digest(json.dumps(said, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())


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
        DataError: it cannot be written, or ``before`` was changed and nobody has accepted that.
    """
    import h5py

    if before is not None:
        before.refuse_changed("Nothing was written: the new record would take its sections over")
    begins = f"{record.kind}-{record.owner}-"
    now = time_now(root / FOLDER, _times(root, record.kind, record.owner), _STAMP)
    kept_arrays: dict[str, tuple[Floats, str]] = dict(arrays)
    base = record.model_copy(update=dict(sections))
    if before is not None:
        old = {name: value for name, value in before.record.sections.items() if name not in sections}
        base = base.model_copy(update=old)
        units = _units(before)
        kept_arrays |= {
            name: (value, units[name]) for name, value in before.arrays.items() if name.split("/")[0] in old
        }
        if old:
            base = base.model_copy(update={"accepted": before.record.accepted})
    path = root / FOLDER / f"{begins}{now.strftime(_STAMP)[:-3]}.yaml"
    stem = path.stem
    about = None
    if kept_arrays:
        stream = io.BytesIO()
        with h5py.File(stream, "w", libver=HDF5_FORM) as file:
            for name, (values, unit) in sorted(kept_arrays.items()):
                array = np.asarray(values, np.float64)
                packed = {"chunks": array.shape, **PACKED} if array.ndim and array.size else {}
                dataset = file.create_dataset(name, data=array, **packed)
                dataset.attrs["units"] = unit or "1"
        write_atomic(path.with_suffix(".h5"), stream.getvalue())
        about = Arrays(file=f"{stem}.h5", sha256=hashlib.sha256(stream.getvalue()).hexdigest())
    whole = base.model_copy(update={"written_at": now, "arrays": about})
    what = "board" if record.kind == "board" else "die"
    head = f"# What is known of a {what}. Standard uncertainties. A new measurement is a new file: this one is not changed.\n"
    accepted = base.accepted or ()
    text = head + spelled(whole.model_copy(update=dict.fromkeys(_ADDED)))
    write_atomic(path, _with_sum(text, accepted, path).encode())
    return Kept.load(path)


def _with_sum(text: str, accepted: tuple[Accepted, ...], path: Path) -> str:
    """Return the text of a record with what was accepted and its check sum at the end."""
    if accepted:
        text += spelled(_Words(accepted=accepted))
    data, _ = read_yaml(text, str(path))
    return f"{text}sum: '{sum_of(data)}'\n"


class _Words(Strict):
    accepted: tuple[Accepted, ...]


def accept(root: Path, name: str, by: str, reason: str) -> Kept:
    """Take a record that was changed by hand as right, on a person's word, which is written into it with a new check sum.

    Raises:
        UsageError: there is nothing to accept, or no word; DataError: there is no such record, or it cannot be read.
    """
    by, reason = " ".join(by.split()), " ".join(reason.split())
    if not by or not reason:
        raise UsageError("say who accepts the record, and why: --by NAME --reason TEXT")
    with FileLock(root / FOLDER / ".lock"):
        kept = find(root, name)
        if kept.state == "whole":
            raise UsageError(f"{kept.path} is as it was written or accepted; there is nothing to accept")
        entry = Accepted(record=kept.id, by=by, at=wall(), reason=reason)
        before = load_yaml(kept.path).data
        text = _without_added(kept.path.read_text(encoding="utf-8-sig"))
        text = _with_sum(text, (*(kept.record.accepted or ()), entry), kept.path)
        after, _ = read_yaml(text, str(kept.path))
        if _measured(after) != _measured(before):
            raise UsageError(
                f"{kept.path}: the keys 'accepted' and 'sum' cannot be renewed, since they do not begin lines of their own; "
                "write each key of the record on a line of its own. Nothing was changed"
            )
        write_atomic(kept.path, text.encode())
        return Kept.load(kept.path)


def _measured(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in _ADDED}


def _without_added(text: str) -> str:
    """Return the text of a record without the keys that were added to what was measured; all else stays as it is laid out."""
    kept, added = [], False
    for line in text.splitlines():
        if line[:1] not in ("", " ", "-", "#"):  # the next key
            added = line.partition(":")[0] in _ADDED
        if not added:
            kept.append(line)
    return "\n".join(kept) + "\n"


def _units(kept: Kept) -> dict[str, str]:
    import h5py

    assert kept.record.arrays is not None or not kept.arrays
    if kept.record.arrays is None:
        return {}
    with h5py.File(kept.path.with_name(kept.record.arrays.file), "r") as file:
        return {name: str(file[name].attrs["units"]) for name in kept.arrays}


def history(root: Path, kind: Literal["board", "die"], owner: str) -> Iterator[Path]:
    """Yield the files of the records of a board or die, oldest first."""
    for name in as_made(root / FOLDER, _times(root, kind, owner)):
        yield root / FOLDER / f"{name}.yaml"


def _times(root: Path, kind: str, owner: str) -> dict[str, str]:
    """Return the records of a board or die by name, with the times that their names end with."""
    begins = f"{kind}-{owner}-"
    names = [path.stem for path in (root / FOLDER).glob(f"{begins}*.yaml")]
    return {name: time for name in names if _is_stamp(time := name.removeprefix(begins))}


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
