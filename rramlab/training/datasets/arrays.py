"""What a trainer asks of data; samples and their classes; and how anybody's arrays become them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from rramlab.base.arrays import load_arrays
from rramlab.base.errors import DataError

_WHAT = "expected train_x, train_y, test_x and test_y, or x and y: x float[n, …], at least 0; y int[n], classes from 0"


if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Scores = dict[str, float]  # by name, 0 to 1; ``accuracy`` is always there
Predict = Callable[[Floats], Floats]  # inputs [n, …] to a network's outputs [n, classes, …], as it evaluates


class Data(Protocol):
    """What a trainer asks of data."""

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of what the network's outputs stand for."""
        ...

    @property
    def sample(self) -> tuple[int, ...]:
        """The shape of one input of the network."""
        ...

    @property
    def digest(self) -> str:
        """A fingerprint of everything in it."""
        ...

    @property
    def size(self) -> int:
        """How many training samples an epoch has."""
        ...

    @property
    def tests(self) -> int:
        """How many test samples there are."""
        ...

    @property
    def inputs_a_test(self) -> int:
        """How many inputs the network is given for one test sample."""
        ...

    @property
    def at_once(self) -> int:
        """How many inputs go through the network at once where it is tested: what memory allows."""
        ...

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return the training samples of the numbers ``chosen``, int64[n]: float32[n, …], and labels int64[n, …].

        What is drawn at random is drawn from torch's generator, so that a training repeats bit for bit.
        """
        ...

    def settling(self, count: int) -> Floats:
        """Return ``count`` training inputs at most, for the statistics of a network that has other weights.

        Always the same ones, in whatever order the samples come.
        """
        ...

    def score(self, predict: Predict, count: int | None = None) -> Scores:
        """Return how good a network is on the test samples, or on ``count`` of them, always the same ones.

        Raises:
            DataError: what it says of one is no number.
        """
        ...


def by_content(x: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return an order of samples that only what they hold decides: the same whichever order they come in. int64[n].

    As good as a random one, but that equal samples are neighbours.
    """
    rows = np.ascontiguousarray(x).reshape(len(x), -1)
    found = b"".join(hashlib.blake2b(row.data, digest_size=8).digest() for row in rows)
    return np.argsort(np.frombuffer(found, ">u8"), kind="stable")


def fair_share(x: npt.NDArray[Any], count: int) -> npt.NDArray[np.int64]:
    """Return ``count`` samples at most, the same ones whichever order they come in: their numbers, int64[count].

    Of equal samples as many as they are of the whole.
    """
    size = min(count, len(x))
    return by_content(x)[np.arange(size) * len(x) // max(1, size)]


def require_numbers(said: Floats, start: int = 0) -> None:
    """Refuse what a network says of samples, float32[n, …], where that is no number: it would count as the first class.

    ``start``: the number of the first sample.

    Raises:
        DataError: it is not; the message names the first sample.
    """
    bad = _without_numbers(said)
    if bad.size:
        raise DataError(
            f"what the network says of sample {start + int(bad[0]):,} is no number, nor of {len(bad) - 1:,} further ones: no "
            "class can be read from that, and nothing was counted. Look for a layer that divides by zero or takes its "
            "logarithm, or for batch norm statistics that are no numbers"
        )


def _without_numbers(x: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.intp]:
    """Return which samples of ``x`` hold values that are not finite."""
    if np.isfinite(x.sum(dtype=np.float64)):  # cheaper, and as good: what is not finite stays so in a sum
        return np.empty(0, np.intp)
    return np.flatnonzero(~np.isfinite(x).reshape(len(x), -1).all(axis=1))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and their classes; implements :class:`Data`.

    ``train_x`` and ``test_x`` are float32[n, …] of at least 0, of images [n, channels, height, width] in [0, 1]; ``train_y``
    and ``test_y`` int64[n], indices into ``classes`` (their names).

    Raises:
        DataError: samples hold values that are no numbers, or labels that are no class; says which is the first.
    """

    name: str
    train_x: npt.NDArray[np.float32]
    train_y: npt.NDArray[np.int64]
    test_x: npt.NDArray[np.float32]
    test_y: npt.NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if y.shape != x.shape[:1]:
                raise DataError(
                    f"data set {self.name!r} has {part}_y of shape {y.shape} for {part}_x of {len(x)} samples"
                )
            bad = _without_numbers(x)
            if bad.size:
                raise DataError(
                    f"data set {self.name!r}: {part}_x holds values that are not numbers in {len(bad):,} of {len(x):,} "
                    f"samples, the first is sample {int(bad[0]):,}; leave them out, or correct them"
                )
            none = np.flatnonzero(~((y >= 0) & (y < len(self.classes))))
            if none.size:
                raise DataError(
                    f"data set {self.name!r}: {part}_y says {y[none[0]]} of sample {int(none[0]):,}, expected 0 to "
                    f"{len(self.classes) - 1}: classes are counted from 0"
                )

    @property
    def sample(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.train_x.shape[1:]

    @property
    def size(self) -> int:
        return len(self.train_x)

    @property
    def tests(self) -> int:
        return len(self.test_x)

    @property
    def inputs_a_test(self) -> int:
        return 1

    @property
    def at_once(self) -> int:
        return 1000

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        import torch

        x, y = torch.from_numpy(self.train_x), torch.from_numpy(self.train_y)
        return x.index_select(0, chosen), y.index_select(0, chosen)

    def settling(self, count: int) -> Floats:
        return self.train_x[fair_share(self.train_x, count)]

    def tested(self, count: int | None) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Return the test samples and their classes, or ``count`` of them, whichever order they come in."""
        if count is None or count >= self.tests:
            return self.test_x, self.test_y
        chosen = fair_share(self.test_x, count)
        return self.test_x[chosen], self.test_y[chosen]

    def score(self, predict: Predict, count: int | None = None) -> Scores:
        """Return the ``accuracy``: the share of the samples that get their class."""
        x, y = self.tested(count)
        said = predict(x)
        require_numbers(said)
        return {"accuracy": float(np.mean(said.argmax(axis=1) == y))}

    @cached_property
    def digest(self) -> str:
        """A fingerprint of all samples and labels."""
        found = hashlib.sha256()
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            found.update(str(array.shape).encode())
            found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()[:24]


def load_npz(path: Path) -> Dataset:
    """Read a data set from an .npz of ``train_x``, ``train_y``, ``test_x``, ``test_y``, or of ``x`` and ``y``.

    Of the latter a fixed, stratified fifth becomes the test set. ``classes``, if there, names the classes.

    Raises:
        DataError: missing, damaged, or arrays that are no data set; says which and what was expected.
    """
    if not path.exists():
        raise DataError(f"there is no data set {path}; {_WHAT}")
    arrays = load_arrays(path)
    names = arrays.pop("classes", None)
    if arrays.keys() == {"x", "y"}:
        x, y = _checked(path, "x", arrays["x"], "y", arrays["y"])
        test = _every_fifth_of_each_class(y)
        parts = x[~test], y[~test], x[test], y[test]
    elif arrays.keys() == {"train_x", "train_y", "test_x", "test_y"}:
        train = _checked(path, "train_x", arrays["train_x"], "train_y", arrays["train_y"])
        parts = *train, *_checked(path, "test_x", arrays["test_x"], "test_y", arrays["test_y"])
    else:
        raise DataError(f"{path} has the arrays {', '.join(sorted(arrays)) or 'none'}; {_WHAT}")
    if parts[0].shape[1:] != parts[2].shape[1:]:
        raise DataError(
            f"{path}: samples to train on have shape {parts[0].shape[1:]}, those to test on {parts[2].shape[1:]}"
        )
    if not len(parts[1]) or not len(parts[3]):
        raise DataError(
            f"{path} has {len(parts[1])} samples to train on and {len(parts[3])} to test on; both need some"
        )
    count = 1 + int(max(parts[1].max(), parts[3].max()))
    if names is not None and len(names) < count:
        raise DataError(f"{path} names {len(names)} classes, its labels count {count}")
    classes = tuple(map(str, range(count) if names is None else names.tolist()))
    return Dataset(path.stem, *parts, classes)


def _checked(
    path: Path, x_name: str, x: npt.NDArray[Any], y_name: str, y: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Return samples and labels in their types.

    Raises:
        DataError: they are none, or do not belong together.
    """
    if x.ndim < 2 or x.dtype.kind not in "fiub":
        raise DataError(f"{path}: {x_name} is {x.dtype}{x.shape}; {_WHAT}")
    if y.shape != x.shape[:1] or y.dtype.kind not in "iub":
        raise DataError(f"{path}: {y_name} is {y.dtype}{y.shape} for {x_name} of {len(x)} samples; {_WHAT}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is looked for next
        found = x.astype(np.float32)
    bad = _without_numbers(found)
    if bad.size:
        raise DataError(
            f"{path}: {x_name} holds values that are not numbers in {len(bad):,} of {len(found):,} samples, the first is "
            f"sample {int(bad[0]):,}; leave them out, or correct them"
        )
    if found.min(initial=0.0) < 0:
        raise DataError(
            f"{path}: {x_name} holds values down to {found.min():.3g}; codes are unsigned: scale it to 0 … 1"
        )
    if y.min(initial=0) < 0:
        raise DataError(f"{path}: {y_name} holds the class {y.min()}; classes are counted from 0")
    return found, y.astype(np.int64)


def _every_fifth_of_each_class(y: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a fixed choice, bool[n], that does not depend on the order in which classes come."""
    order = np.argsort(y, kind="stable")
    rank = np.empty(len(y), np.int64)
    starts = np.searchsorted(y[order], y[order])
    rank[order] = np.arange(len(y)) - starts
    return np.asarray(rank % 5 == 4)
