"""Looking into a ledger, and asking its witnesses whether it has all that they have seen."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from rramlab.base.errors import DataError
from rramlab.runs.ledger.errors import LOG, of_the_disk
from rramlab.runs.ledger.events import Damaged
from rramlab.runs.ledger.first import is_first, life_of_first
from rramlab.runs.ledger.view import LedgerView, image_of
from rramlab.runs.ledger.witnesses import Witness, beside, outside, testimony

INDEX = "-shm"  # there while a process has the ledger open, and after one was killed


@contextmanager
def view_ledger(path: Path, hear: bool = True) -> Iterator[LedgerView]:
    """Look into a ledger as it is now, also while another process works with it; no lock is taken that one could feel.

    One of version 0.1.0 is read as it is. ``hear``: ask its witnesses, too; who compares or adopts does that by itself.

    Raises:
        DataError: there is none, it cannot be opened or read, or misses what a witness has seen.
    """
    # Before the look: a witness is told after the rows are there, so one that is ahead shows that some are missing.
    told = testimony(beside(path)) if hear else None
    with ExitStack() as stack:
        try:
            if not path.exists():
                raise DataError(
                    f"there is no ledger {path}: the die is not enrolled here, or its folder was moved "
                    "away; what was pulsed cannot be told"
                )
            database = stack.enter_context(readable(path))
            database.execute("BEGIN")  # one moment of the die's life, whatever is written meanwhile
            if is_first(database):
                die, geometry, rows = life_of_first(database)
                database = stack.enter_context(closing(sqlite3.connect(":memory:", isolation_level=None)))
                database.deserialize(image_of(die, geometry, rows))
            view = LedgerView(path, database)
            view._known  # noqa: B018  # whatever is wrong with it is said now
            if told is not None and told.witness is not None:
                contradiction(view, told.path, told.witness)
        except (OSError, sqlite3.Error, Damaged, UnicodeDecodeError) as error:
            barred = isinstance(error, OSError) or (isinstance(error, sqlite3.Error) and of_the_disk(error))
            mend = "Make it readable for this user, or restore it" if barred else "Restore the file"
            raise DataError(
                f"the ledger {path} cannot be read ({error}); it is left as it is. {mend}, and the {LOG} beside it, from a copy"
            ) from error
        yield view


@contextmanager
def readable(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a ledger so that neither it nor its folder changes.

    While its index is there SQLite's own read-only mode shares it with whoever writes. Otherwise nobody has it open: that
    mode would make an index, so the file is read as it lies, or with its log in a copy.
    """
    log, index = (path.with_name(path.name + ending) for ending in (LOG, INDEX))
    where = path.absolute().as_uri()
    if index.exists():
        with closing(sqlite3.connect(f"{where}?mode=ro", uri=True, isolation_level=None)) as database:
            yield database
    elif log.exists():
        with copied(path) as copy, closing(sqlite3.connect(copy, isolation_level=None)) as database:
            yield database
    else:
        with closing(sqlite3.connect(f"{where}?immutable=1", uri=True, isolation_level=None)) as database:
            yield database


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """Copy a ledger and its log into a temporary folder: SQLite recovers and truncates the files that it opens."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for ending in ("", LOG):
            part = path.with_name(path.name + ending)
            if part.exists():
                shutil.copyfile(part, copy.with_name(copy.name + ending))
        yield copy


def heard(view: LedgerView) -> tuple[str, list[str]]:
    """Compare a ledger with its witnesses; return what is in doubt, and what is to be said.

    Raises:
        DataError: rows are missing that a witness has seen, or the ledger has become another one's.
    """
    notes, doubt = [], ""
    for seen in (testimony(beside(view.path)), testimony(outside(view.head.ledger))):
        if seen.damaged:
            notes.append(f"the witness {seen.path} of die {view.die_id!r} is damaged in part; it is written anew")
        if seen.witness is not None:
            doubt = contradiction(view, seen.path, seen.witness) or doubt
    return doubt, notes


def contradiction(view: LedgerView, source: Path, witness: Witness) -> str:
    """Compare a ledger with one witness; return the question that is for a person, empty where there is none.

    ``source``: the file that the witness stands in.

    Raises:
        DataError: see :func:`heard`.
    """
    head = view.head
    here = str(view.path.resolve())
    adopt = f"If a person knows better: rramlab dies adopt {head.die}"
    if witness.ledger != head.ledger:
        if witness.ledger in view.identities():
            return ""  # it was adopted since, and the process was ended before it could tell
        raise DataError(
            f"the ledger {view.path} of die {head.die!r} is not the one that was here: the witness {source} has seen another, "
            f"up to operation {witness.op}, on {witness.at} (UTC). It was restored from an older copy, or made anew. Nothing "
            f"was energised: a cell could get a second pulse. Restore the newer ledger. {adopt}"
        )
    if witness.superseded and witness.superseded != head.ledger:
        raise DataError(
            f"the ledger {view.path} of die {head.die!r} was given up on {witness.at} (UTC) for a copy of it, by the witness "
            f"{source}: that copy has gone on, and this one does not know what was pulsed since. Nothing was energised. Work "
            f"with the copy. {adopt}"
        )
    if witness.seq > head.seq:
        count = witness.op - head.op
        what = f"{count:,} operation{'' if count == 1 else 's'}" if count > 0 else f"{witness.seq - head.seq:,} rows"
        raise DataError(
            f"the ledger {view.path} of die {head.die!r} misses {what}: it ends at operation {head.op} (row {head.seq}), and "
            f"the witness {source} has seen operation {witness.op} (row {witness.seq}) on {witness.at} in {witness.where}. It "
            "was damaged, restored from an older copy, or a copy of it has gone on. Nothing was energised and its files are "
            "left as they are: a cell could get a second pulse. Find the newer ledger, or restore it with the "
            f"{LOG} beside it. {adopt}"
        )
    if view.sum_at(witness.seq) != witness.sum:
        raise DataError(
            f"the ledger {view.path} of die {head.die!r} and the one that the witness {source} has seen in {witness.where} "
            f"are two lives of one die: they differ at row {witness.seq} or before. Nothing was energised. Find the other one, "
            f"and decide which is the die's. {adopt}"
        )
    if witness.where and witness.where != here and _is_copy(Path(witness.where), view.path, head.ledger):
        return (
            f"the ledger of die {head.die!r} is in two places, {witness.where} and {here}, and a die has one: the folder was "
            "copied. No pulse is sent by this one until a person has said which is the die's. If it is this one: rramlab dies "
            f"adopt {head.die}. If it is the other, work there. If the folder's simulated die is meant to be another one: "
            "rramlab sim fork"
        )
    return ""


def _is_copy(there: Path, here: Path, identity: str) -> bool:
    try:
        if there.samefile(here):
            return False
        with view_ledger(there, hear=False) as view:
            return view.head.ledger == identity
    except (OSError, DataError):
        return False  # it was moved here, or nobody can tell
