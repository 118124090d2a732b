"""Where files are looked up: the working bench first, then the repository, then the installed wheel."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rramlab.base.errors import DataError, UsageError
from rramlab.base.numbers import shown

BENCH_FILE = "bench.yaml"
ROOMS = ("drivers", "protocols", "calibration")


@dataclass(frozen=True)
class Located:
    """One file that was looked up: where it is, and which of the three places had it."""

    path: Path
    origin: str  # "bench", "repository" or "wheel"


def shipped() -> Located:
    """Return the folder with the shipped bench.yaml, drivers/ and protocols/."""
    package = Path(__file__).resolve().parents[1]
    if (package.parent / "pyproject.toml").is_file() and (package.parent / BENCH_FILE).is_file():
        return Located(package.parent, "repository")
    return Located(package / "shipped", "wheel")


def places(root: Path) -> list[Located]:
    """Return the folders searched for a bench at ``root``, nearest first."""
    last = shipped()
    here = root.resolve()
    return [last] if here == last.path else [Located(here, "bench"), last]


@contextmanager
def _findable(name: object) -> Iterator[None]:
    """Refuse in words a name that is too long for any file."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise UsageError(f"found the name {shown(str(name))}, which is too long for a file") from None


def find(root: Path, room: str, name: str) -> Located:
    """Find ``name`` (a path, or a name with or without ``.yaml``) in the folder ``room``.

    Raises:
        UsageError: no such file; the message lists what exists. DataError: what has the name is not a file.
    """
    with _findable(name):
        return _find(root, room, name)


def _find(root: Path, room: str, name: str) -> Located:
    direct = Path(name)
    if direct.suffix in {".yaml", ".yml"}:
        for candidate in (direct, root / direct):
            if candidate.is_file():
                return Located(candidate, "bench")
    stem = name.removesuffix(".yaml").removesuffix(".yml")
    for place in places(root):
        candidate = place.path / room / f"{stem}.yaml"
        if (candidate.exists() or candidate.is_symlink()) and not candidate.is_file():
            raise DataError(
                f"{candidate} is not a file; the shipped one is not taken in its place. Correct or remove it"
            )
        if candidate.is_file():
            return Located(candidate, place.origin)
    known = ", ".join(sorted(listing(root, room))) or "none"
    raise UsageError(f"{room}: there is no {name!r} in {root}; known: {known}")


def listing(root: Path, room: str) -> dict[str, Located]:
    """Return every file of ``room`` by name; a file in the working bench hides a shipped one."""
    found: dict[str, Located] = {}
    for place in reversed(places(root)):
        for path in sorted((place.path / room).glob("*.yaml")):
            found[path.stem] = Located(path, place.origin)
    return found


def bench_file(where: Path | None) -> tuple[Located, Path]:
    """Return the bench file for ``where`` (a folder, a file, or None for the current folder) and its root.

    A folder without a bench.yaml is served by the shipped one; its data still goes into that folder.

    Raises:
        DataError: ``where`` was given and does not exist.
    """
    with _findable(where):
        return _bench_file(where)


def _bench_file(where: Path | None) -> tuple[Located, Path]:
    if where is not None and not where.exists():
        raise DataError(f"{where} does not exist; make a bench folder there with: rramlab init {where}")
    if where is not None and where.is_file():
        return Located(where.resolve(), "bench"), where.resolve().parent
    root = (where or Path.cwd()).resolve()
    for place in places(root):
        if (place.path / BENCH_FILE).exists() and not (place.path / BENCH_FILE).is_file():
            raise DataError(
                f"{place.path / BENCH_FILE} is not a file; nothing was opened. Put the bench's file in its place"
            )
        if (place.path / BENCH_FILE).is_file():
            return Located(place.path / BENCH_FILE, place.origin), root
    raise DataError("the installation is damaged: the shipped bench.yaml is missing; install rramlab again")
