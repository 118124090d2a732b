"""Small trainings on digits, and synthetic IDX files."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from torch import nn

from rramlab.nn import load_weights, masked_layers
from rramlab.training import Dataset, Recipe, load_dataset, load_recipe

Bytes = npt.NDArray[np.uint8]


def idx(array: Bytes) -> bytes:
    """An IDX file of unsigned bytes."""
    return struct.pack(f">{1 + array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


def write_fashion(folder: Path, packed: bool = True) -> dict[str, Bytes]:
    """Write four small files as Fashion-MNIST has them; returns their arrays by name."""
    rng = np.random.default_rng(0)
    arrays = {
        f"{part}-{kind}-ubyte": rng.integers(0, top, shape, np.uint8)
        for part, count in (("train", 30), ("t10k", 12))
        for kind, top, shape in (("images-idx3", 256, (count, 28, 28)), ("labels-idx1", 10, (count,)))
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        data = idx(array)
        (folder / f"{name}{'.gz' if packed else ''}").write_bytes(gzip.compress(data, 1) if packed else data)
    return arrays


def give_weights(model: nn.Module, seed: int = 0) -> nn.Module:
    """Load weights as one-of-pair forming gives them (median 12.2 µS, ln-σ 0.1475, pristine 0.1 µS)."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
        formed_S = 12.2e-6 * np.exp(0.1475 * rng.standard_normal(shape))
        return ((formed_S - 0.1e-6) * rng.choice([-1.0, 1.0], shape)).astype(np.float32)

    load_weights(model, {name: draw(layer.shape) for name, layer in masked_layers(model).items()})
    return model


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture
def recipe() -> Recipe:
    """The built-in digits recipe, shortened."""
    return load_recipe("digits").model_copy(update={"epochs": 3})


@pytest.fixture
def make(recipe: Recipe) -> Callable[[], nn.Module]:
    return lambda: give_weights(recipe.model())
