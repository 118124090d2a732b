"""The files in ``drivers/``: one loader, which decides by their ``kind``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from rramlab.base.errors import UsageError
from rramlab.base.folders import Located, find
from rramlab.base.trust import require_installed
from rramlab.base.yamlfile import YamlDocument, load_yaml, validate
from rramlab.drivers.boardfile import BoardFile
from rramlab.drivers.smu.smufile import SmuFile

if TYPE_CHECKING:
    from rramlab.drivers.links import Link
    from rramlab.drivers.smu.instrument import Smu

KINDS: dict[str, type[SmuFile] | type[BoardFile]] = {"smu": SmuFile, "board": BoardFile}


@dataclass(frozen=True)
class Driver:
    """A driver file that was read: what it says, where each word stands, and which folder had it."""

    file: SmuFile | BoardFile
    document: YamlDocument
    located: Located


def load_driver(root: Path, name: str) -> Driver:
    """Find ``name`` (a name, or a path) in ``drivers/`` for the bench at ``root`` and read it.

    Raises:
        UsageError: there is none, or with file, line and column what was found and what was expected. Refused: its adapter is
            a module beside the data, see ``base.trust``.
    """
    located = find(root, "drivers", name)
    document = load_yaml(located.path)
    kind = document.data.get("kind") if isinstance(document.data, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"found the kind {kind!r}, expected {' or '.join(KINDS)}", document.at(("kind",)))
    file = validate(document, KINDS[kind])
    if isinstance(file, SmuFile) and file.adapter is not None:
        require_installed(file.adapter.partition(":")[0], f"{document.at(('adapter',))}: the adapter", root)
        smu_class(file, document)
    return Driver(file, document, located)


def load_smu(root: Path, name: str) -> SmuFile:
    """Read the driver file ``name``, which must be of the kind smu.

    Raises:
        UsageError: as ``load_driver``, or it is of another kind.
    """
    driver = load_driver(root, name)
    if not isinstance(driver.file, SmuFile):
        raise UsageError(
            "found the kind 'board', expected 'smu': this file cannot drive an SMU", driver.document.at(("kind",))
        )
    return driver.file


class _AsWritten(GenerateJsonSchema):
    """The schema of what a person writes: a number that is parsed first is a quantity with its unit."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        if schema["schema"]["type"] == "float":
            return {"type": "string", "description": "a quantity with its unit, such as 1 mA"}
        return super().function_before_schema(schema)


def schema_of(kind: str) -> dict[str, Any]:
    """Return the JSON schema of the files of ``kind``.

    Raises:
        UsageError: there is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"found the kind {kind!r}, expected {' or '.join(KINDS)}")
    return KINDS[kind].model_json_schema(schema_generator=_AsWritten)


def smu_class(file: SmuFile, document: YamlDocument | None = None) -> type[Smu]:
    """Return the class that executes ``file``: the generic one, or its adapter.

    Raises:
        UsageError: the adapter cannot be imported or is no subclass of ``Smu``; with its place in ``document`` if given.
    """
    from rramlab.drivers.smu.instrument import Smu

    if file.adapter is None:
        return Smu
    place = document.at(("adapter",)) if document else None
    module, _, name = file.adapter.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"found the adapter {file.adapter!r}, which cannot be imported ({error}); expected module:Class of an installed "
            "package",
            place,
        ) from error
    if not (isinstance(found, type) and issubclass(found, Smu)):
        raise UsageError(f"found the adapter {file.adapter!r}, expected a subclass of {Smu.__module__}.Smu", place)
    return found


def make_smu(name: str, file: SmuFile, link: Link, channel: int = 1) -> Smu:
    """Return the unit at the end of ``link``, of the class that ``file`` names; nothing is sent."""
    return smu_class(file)(name, file, link, channel)
