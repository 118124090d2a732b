"""Code that data name: a network of one's own in a training's folder, an adapter or a library in a bench's files.

Data that were sent, copied or restored must not run code because somebody reads them. Such code is executed where a person
named it in this command, or confirmed it once for this folder and this content. What was confirmed is kept in the user's state
folder, outside of every bench: data cannot confirm themselves.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rramlab.base.errors import DataError, Refused
from rramlab.base.files import read_object, write_json
from rramlab.base.host import state_folder

# Of this process, where the state folder cannot be written.
_also: dict[str, dict[str, str]] = {}


@dataclass(frozen=True)
class Code:
    """A piece of code as it would be executed: its name in the data, and the SHA-256 of its content (hexadecimal)."""

    name: str
    digest: str

    @classmethod
    def of(cls, name: str, content: bytes) -> Code:
        return cls(name, hashlib.sha256(content).hexdigest())


class Unconfirmed(Refused):
    """A folder names code that nobody confirmed for it; nothing of it was executed."""

    def __init__(self, folder: Path, code: Code, how: str) -> None:
        self.folder, self.code = folder, code
        before = _confirmed(folder).get(code.name)
        self.why = (
            "nobody has confirmed it for this folder"
            if before is None
            else f"its content is another one than what was confirmed for this folder (SHA-256 {before[:16]}…)"
        )
        self.what = f"{folder} names code outside of rramlab: {code.name} (SHA-256 {code.digest[:16]}…)"
        super().__init__(
            f"{self.what}, and {self.why}; nothing of it was executed. It would run with all that you may do: look at it. If "
            f"you trust it, say so: {how}"
        )


def require(folder: Path, code: Code, how: str) -> None:
    """Refuse code that ``folder`` names, unless it was confirmed for it; ``how``: what to do to confirm it.

    Raises:
        Unconfirmed: nobody did, or of another content.
    """
    if _confirmed(folder).get(code.name) != code.digest:
        raise Unconfirmed(folder, code, how)


def confirm(folder: Path, *codes: Code) -> None:
    """Remember that a person confirmed pieces of code for a folder; what was confirmed of other names stays so."""
    known = {**_confirmed(folder), **{code.name: code.digest for code in codes}}
    _also[str(folder.resolve())] = known
    with contextlib.suppress(OSError):  # it holds for this process then
        write_json(_file(folder), {"folder": str(folder.resolve()), "sha256": known})


def _confirmed(folder: Path) -> Mapping[str, str]:
    """Return what was confirmed for a folder: name -> SHA-256. What cannot be read confirms nothing."""
    try:
        found = read_object(_file(folder), "folder", "sha256")
    except DataError:
        return _also.get(str(folder.resolve()), {})
    known = found["sha256"]
    if found["folder"] != str(folder.resolve()) or not isinstance(known, dict):
        return {}
    return {str(name): str(digest) for name, digest in known.items()}


def _file(folder: Path) -> Path:
    name = hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    return state_folder() / "code" / f"{name[:32]}.json"


def require_installed(module: str, what: str, *data: Path) -> None:
    """Refuse a module that ``what`` names, if it would be imported out of a folder of data or the folder worked in.

    What a person installed, or put on the path elsewhere, is a part of the computer; what lies in a bench folder came with it.

    Raises:
        Refused: it would; the module was not imported.
    """
    top = module.partition(".")[0]
    if top == __name__.partition(".")[0]:
        return
    try:
        spec = find_spec(top)
    except ValueError:  # of what is being executed, or was made by hand: it is there already
        return
    if spec is None:
        return  # whoever imports it says so
    files = spec.submodule_search_locations or ([spec.origin] if spec.has_location and spec.origin else [])
    for folder in {Path(file).resolve().parent for file in files} & {each.resolve() for each in (Path.cwd(), *data)}:
        raise Refused(
            f"{what} names the module {module!r}, which lies in {folder}, beside data: code that came with a bench is not "
            "executed, and nothing was opened. If you trust it, install it as a package, or keep it in another folder of "
            "PYTHONPATH"
        )
