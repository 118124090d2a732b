"""Recipes, data sets, the training loop and its checkpoints.

Names are resolved when first used: what needs no torch, such as the list of data sets, works without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rramlab.training.checkpoint import Checkpoint, EpochResult, weights_digest
    from rramlab.training.datasets import Data, Dataset, Found, find_datasets, load_dataset, load_npz
    from rramlab.training.loop import Training, accuracy, fit, predict, scores, scores_random, settle_statistics
    from rramlab.training.networks import build
    from rramlab.training.recipes import Recipe, builtin_recipes, load_recipe

_HOMES = {
    "checkpoint": ("Checkpoint", "EpochResult", "weights_digest"),
    "datasets": ("Data", "Dataset", "Found", "find_datasets", "load_dataset", "load_npz"),
    "loop": ("Training", "accuracy", "fit", "predict", "scores", "scores_random", "settle_statistics"),
    "networks": ("build",),
    "recipes": ("Recipe", "builtin_recipes", "load_recipe"),
}

__all__ = [
    "Checkpoint",
    "Data",
    "Dataset",
    "EpochResult",
    "Found",
    "Recipe",
    "Training",
    "accuracy",
    "build",
    "builtin_recipes",
    "find_datasets",
    "fit",
    "load_dataset",
    "load_npz",
    "load_recipe",
    "predict",
    "scores",
    "scores_random",
    "settle_statistics",
    "weights_digest",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"rramlab.training.{home}"), name)
    raise AttributeError(f"module 'rramlab.training' has no attribute {name!r}")
