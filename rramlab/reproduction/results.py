"""A reproduction as it lies on the disk: its settings, its outcomes, and what its pictures are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays, save_arrays
from rramlab.base.errors import DataError, UsageError
from rramlab.base.files import read_object, write_json
from rramlab.macro.masks import Mask
from rramlab.plan.energy import GPU_J_A_MAC, GPU_SOURCE, SOURCES
from rramlab.reproduction import outcomes
from rramlab.reproduction.benches import PUBLISHED
from rramlab.reproduction.outcomes import Outcome
from rramlab.reproduction.summary import Line, lines
from rramlab.reproduction.tasks import Task, task_of
from rramlab.training.recipes import with_defaults

SETTINGS, SHOWN, MASK = "reproduction.json", "shown.npz", "mask.npz"


@dataclass(frozen=True, eq=False)
class Results:
    """Everything that was found in one folder.

    ``settings``: of the reproduction, as they were written down. ``mask``, ``conductance_S`` (float32[dies, rows, columns]),
    ``confusion`` (int64[true, said]), ``images`` (by name, of a segmentation): of the first number's ``edge`` row, if there
    are any.
    """

    task: Task
    settings: dict[str, Any]
    outcomes: tuple[Outcome, ...]
    mask: Mask | None = None
    conductance_S: npt.NDArray[np.float32] | None = None
    confusion: npt.NDArray[np.int64] | None = None
    images: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    @property
    def lines(self) -> list[Line]:
        return lines(self.outcomes)

    @property
    def memory(self) -> str:
        return str(self.settings["memory"])

    @property
    def quick(self) -> bool:
        return bool(self.settings["quick"])

    @property
    def classes(self) -> Sequence[str]:
        return tuple(self.settings["classes"])

    @property
    def gpu_J(self) -> float:
        """Energy that a graphics processor would spend on the products of one test sample, at its peak; 0 if not known."""
        macs = [outcome.macs for outcome in self.outcomes if outcome.macs]
        return macs[0] * GPU_J_A_MAC if macs else 0.0

    @property
    def energy_sources(self) -> list[tuple[str, str]]:
        return [*SOURCES.items(), ("graphics processor", GPU_SOURCE)]

    @property
    def name(self) -> str:
        return name_of(self.task, self.memory, self.quick)

    @property
    def title(self) -> str:
        """The task and what was special, in a few words."""
        return f"{self.task.recipe}, {self.memory} memory{', a quick look' if self.quick else ''}"

    @property
    def about(self) -> str:
        recipe = self.settings["recipe"]
        return f"{recipe['description']}; {recipe['epochs']} epochs; simulated dies of the {self.memory} model"

    @property
    def made(self) -> list[tuple[str, str]]:
        """What was asked for, as names and values."""
        return [(name, str(value)) for name, value in self.settings["recipe"].items() if value not in (None, [], "")]

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read a reproduction's folder.

        Raises:
            DataError: there is none, or a file is damaged.
        """
        settings = _settings(folder)
        found = tuple(outcomes.load(path) for path in sorted((folder / "outcomes").glob("*.json")))
        shown = load_arrays(folder / SHOWN) if (folder / SHOWN).exists() else {}
        return cls(
            task_of(settings["task"]),
            settings,
            found,
            Mask.load(folder / MASK) if (folder / MASK).exists() else None,
            shown.pop("conductance_S", None),
            shown.pop("confusion", None),
            shown,
        )


def name_of(task: Task, memory: str, quick: bool) -> str:
    """Return what a reproduction is called, among files too: the task, and what is not the usual."""
    return "-".join([task.recipe, *([] if memory == PUBLISHED else [memory]), *(["quick"] if quick else [])])


def begin(folder: Path, settings: dict[str, Any]) -> None:
    """Write down what a folder is of, or go on with it if it is of the same.

    Raises:
        UsageError: it is of something else; nothing was changed.
    """
    if (folder / SETTINGS).exists():
        known = _settings(folder)
        other = sorted(key for key in settings.keys() | known.keys() if known.get(key) != settings.get(key))
        if other:
            raise UsageError(
                f"{folder} holds a reproduction with another {', '.join(other)}; nothing was changed. Choose another --out, "
                "or delete the folder"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty and is no reproduction; choose another --out")
    write_json(folder / SETTINGS, settings)


def _settings(folder: Path) -> dict[str, Any]:
    """Read what a folder is of; its recipe may have been written down before there were all of today's keys."""
    found = read_object(folder / SETTINGS, "task", "memory", "quick", "recipe", "classes")
    if not isinstance(found["recipe"], dict):
        raise DataError(f"{folder / SETTINGS} is damaged: its recipe is no object; restore it from a copy")
    return {**found, "recipe": with_defaults(found["recipe"])}


def keep(
    folder: Path,
    mask: Mask,
    conductance_S: npt.NDArray[np.float32],
    confusion: npt.NDArray[np.int64] | None,
    images: dict[str, npt.NDArray[Any]],
) -> None:
    """Keep what pictures are drawn from; see :class:`Results`."""
    arrays = {"conductance_S": conductance_S, **images}
    save_arrays(folder / SHOWN, arrays if confusion is None else {**arrays, "confusion": confusion})
    mask.save(folder / MASK)
