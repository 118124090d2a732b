"""Networks of one's own: the function of a Python file, executed where a person named it or confirmed it.

The file is read once: what is confirmed is what is executed. So is every module that it imports from its own folder: sources
are compiled from what was looked at, never taken from a cache beside them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import decode_source
from pathlib import Path
from types import ModuleType
from typing import Any

from rramlab.base import trust
from rramlab.base.errors import UsageError
from rramlab.base.trust import Code, Unconfirmed

HOW = (
    "the same command with --trust-code, which is remembered for this folder and this content, or in Python "
    "Experiment.load(FOLDER, trust_code=True)"
)
# What this process has executed: of each network, by FILE.py:FUNCTION; of each folder that modules were imported from.
_networks: dict[str, Code] = {}
_modules: dict[Path, dict[str, Code]] = {}


def function(name: str, kept_in: Path | None) -> Callable[[], Any]:
    """Execute the file of ``FILE.py:FUNCTION`` and return what calls its function.

    ``kept_in``: the folder whose data name it; None: a person did, in this command or program.

    Raises:
        UsageError: there is no such file or function, or it raises. Unconfirmed: nobody has confirmed what ``kept_in`` names.
    """
    file, _, called = name.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise UsageError(f"the network {name!r}: there is no file {file}")
    content = path.read_bytes()
    code = Code.of(name, content)
    if kept_in is not None:
        trust.require(kept_in, code, HOW)
    _networks[name] = code
    with _said_to_be_its_own(name), _importing_from(path.parent, kept_in):
        module = _executed(path, content)
    make = getattr(module, called, None)
    if not callable(make):
        raise UsageError(f"the network {name!r}: {file} has no function {called!r} that makes one")

    def made() -> Any:
        with _said_to_be_its_own(name), _importing_from(path.parent, kept_in):
            return make()

    return made


def remember(name: str, folder: Path) -> None:
    """Remember for a training's ``folder`` what this process executed for its network: a person had named or confirmed it."""
    if name in _networks:
        beside = _modules.get(Path(name.rpartition(":")[0]).parent.resolve(), {})
        trust.confirm(folder, _networks[name], *beside.values())


@contextmanager
def _said_to_be_its_own(name: str) -> Iterator[None]:
    """Whatever a stranger's code raises is said to be its own.

    Raises:
        UsageError: it raised.
    """
    try:
        yield
    except Unconfirmed:
        raise
    except Exception as error:  # it can raise what it likes
        raise UsageError(f"the network {name!r} cannot be made: {type(error).__name__}: {error}") from error


def _executed(path: Path, content: bytes) -> ModuleType:
    """Execute a file's content as a module of its own, as ``runpy`` does."""
    module = ModuleType("<run_path>")
    module.__file__ = str(path)
    before = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # where classes look for their annotations
    try:
        exec(compile(content, str(path), "exec"), module.__dict__)
    finally:
        if before is None:
            del sys.modules[module.__name__]
        else:
            sys.modules[module.__name__] = before
    return module


@contextmanager
def _importing_from(folder: Path, kept_in: Path | None) -> Iterator[None]:
    """Within the block, modules are looked for in ``folder`` first, behind those that are part of Python itself."""
    finder = _Beside(folder.resolve(), kept_in)
    place = next((n for n, each in enumerate(sys.meta_path) if each is PathFinder), len(sys.meta_path))
    sys.meta_path.insert(place, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Beside(MetaPathFinder):
    """Finds modules in a folder, and refuses those that nobody confirmed where a training's data lead there."""

    def __init__(self, folder: Path, kept_in: Path | None) -> None:
        self.folder, self.kept_in = folder, kept_in

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        inside = [str(self.folder)] if path is None else [each for each in path if self._holds(each)]
        spec = PathFinder.find_spec(fullname, inside) if inside else None
        if spec is None:
            return None
        if spec.origin is None:  # a folder without code is a package, too, but where no other is there
            other = PathFinder.find_spec(fullname) if path is None else None
            return spec if other is None or other.origin is None else None
        content = Path(spec.origin).read_bytes()
        code = Code.of(spec.origin, content)
        if self.kept_in is not None:
            trust.require(self.kept_in, code, HOW)
        _modules.setdefault(self.folder, {})[code.name] = code
        if spec.origin.endswith((".py", ".pyw")):
            spec.loader, spec.cached = _Content(content, spec), None
        return spec

    def _holds(self, place: str) -> bool:
        return Path(place).resolve().is_relative_to(self.folder)


class _Content(InspectLoader):
    """Loads a module from the source that was looked at."""

    def __init__(self, content: bytes, spec: ModuleSpec) -> None:
        self.content, self.origin = content, str(spec.origin)
        self.is_a_package = spec.submodule_search_locations is not None

    def is_package(self, fullname: str) -> bool:
        return self.is_a_package

    def get_source(self, fullname: str) -> str:
        return decode_source(self.content)

    def get_code(self, fullname: str) -> Any:
        return compile(self.content, self.origin, "exec", dont_inherit=True)
