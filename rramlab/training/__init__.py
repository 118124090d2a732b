"""Recipes, data sets, the training loop and its checkpoints."""

from rramlab.training.checkpoint import Checkpoint, EpochResult, weights_digest
from rramlab.training.data import Dataset, Found, find_datasets, load_dataset
from rramlab.training.loop import Training, accuracy, accuracy_random, fit, predict, settle_statistics
from rramlab.training.networks import build
from rramlab.training.recipes import Recipe, builtin_recipes, load_recipe

__all__ = [
    "Checkpoint",
    "Dataset",
    "EpochResult",
    "Found",
    "Recipe",
    "Training",
    "accuracy",
    "accuracy_random",
    "build",
    "builtin_recipes",
    "find_datasets",
    "fit",
    "load_dataset",
    "load_recipe",
    "predict",
    "settle_statistics",
    "weights_digest",
]
