"""scikit-learn's digits: embedded, so that everything can be tried without a file."""

from __future__ import annotations

import numpy as np

from rramlab.training.datasets.arrays import Dataset

NAME = "digits"
ABOUT = "1,797 images of 8 × 8 pixels"


def load() -> Dataset:
    """Return a fixed, stratified split: 1,437 images to train and 360 to test on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    raw = load_digits()
    x = (raw.images[:, None] / 16.0).astype(np.float32)  # pixels are counts from 0 to 16
    y = raw.target.astype(np.int64)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.2, stratify=y, random_state=0)
    return Dataset(NAME, train_x, train_y, test_x, test_y, tuple(str(digit) for digit in range(10)))
