"""The three tasks of the paper: which recipe, what was published, and how they shrink for a quick look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rramlab.base.errors import UsageError
from rramlab.training.recipes import Recipe, load_recipe

QUICK_BUDGET = 60  # pulses a cell of write-verify, at most: of fewer its network shows little
QUICK_PATCHES = 1200  # of an epoch of images
QUICK_PART = 96  # pixels a side of the middle of an image that a quick look takes
SOURCE = "Li, Wang et al., Nature Communications 2026; arXiv 2311.07164"


@dataclass(frozen=True)
class Published:
    """What the paper says it gains: ``score`` in points or, of DRIVE, per cent; ``energy_reduction`` a share.

    Public text does not say over what.
    """

    score: str
    gain: float
    energy_reduction: float


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        recipe: the name of a built-in recipe; also of the task.
        score: the score that counts; ``scores``: all of them, in order.
        phases: of the row with gate phases.
        on_chip: how many test samples are evaluated with every product on the macro; None: all.
        die: figures of the die model that are others than the memory's own: for a bank of dies slow changes are folded in every
            hour of bench time instead of every 10 s, which takes several times as long.
        conventional: changes of the recipe where weights are learned instead of a topology (assumed, as is usual).
        quick, quick_samples: changes of the recipe, and test samples on the macro, of a quick look.
    """

    recipe: str
    score: str
    scores: tuple[str, ...]
    published: Published
    phases: int = 16
    on_chip: int | None = None
    die: Mapping[str, object] = field(default_factory=dict)
    conventional: Mapping[str, object] = field(default_factory=lambda: {"learning_rate": 0.05, "weight_decay": 5e-4})
    quick: Mapping[str, object] = field(default_factory=dict)
    quick_samples: int = 300

    def made(self, quick: bool) -> Recipe:
        """Return the recipe of the task."""
        recipe = load_recipe(self.recipe)
        return recipe.changed(self.quick) if quick else recipe


TASKS = {
    task.recipe: task
    for task in (
        Task(
            "fashion-mnist",
            "accuracy",
            ("accuracy",),
            Published("accuracy", 17.3, 0.783),
            quick={"epochs": 1, "batch": 120},
        ),
        Task(
            "spoken-digits",
            "accuracy",
            ("accuracy",),
            Published("accuracy", 19.9, 0.679),
            quick={"epochs": 6},
        ),
        Task(
            "drive",
            "pr_auc",
            ("pr_auc", "roc_auc"),
            Published("pr_auc", 9.8, 0.997),
            on_chip=4,
            die={"relaxation": {"interval_s": "1 h"}},
            quick={"network": "drive-unet-small", "epochs": 1},
            quick_samples=1,
        ),
    )
}


def task_of(name: str) -> Task:
    """Return the task called ``name``.

    Raises:
        UsageError: there is none.
    """
    if name not in TASKS:
        raise UsageError(f"there is no task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]
