"""Images in which every pixel has a class, inside a field of view: drawn as patches, judged as whole images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.training.datasets.arrays import Floats, Predict, Scores, fair_share, require_numbers

if TYPE_CHECKING:
    from torch import Tensor

Bools = npt.NDArray[np.bool_]
PATCH = 64  # pixels a side of what is trained on
WINDOW, STRIDE = 64, 32  # of what whole images are evaluated by (design, section 8)
NO_CLASS = -100  # of pixels outside the field of view: what torch's cross_entropy passes over
BRIGHTER, STEEPER = 0.05, 0.05  # a patch's brightness is shifted, its contrast scaled by at most that (assumed)


@dataclass(frozen=True, eq=False)
class Pictures:
    """Images float32[n, height, width] in [0, 1]; ``truth``, what is there, and ``field``, where it is judged: bool alike.

    Raises:
        DataError: pixels are not numbers.
    """

    image: Floats
    truth: Bools
    field: Bools

    def __post_init__(self) -> None:
        bad = np.flatnonzero(~np.isfinite(self.image).all(axis=(1, 2)))
        if bad.size:
            raise DataError(
                f"{len(bad):,} of {len(self.image):,} images hold pixels that are not numbers, the first is image {bad[0]:,}; "
                "leave them out, or correct them"
            )

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Two classes of pixels; implements :class:`rramlab.training.datasets.arrays.Data`.

    An epoch is ``patches`` training samples, each a patch whose middle is drawn evenly from the fields of view, turned and
    mirrored in one of eight ways, its brightness and contrast changed a little.
    """

    name: str
    train: Pictures
    test: Pictures
    classes: tuple[str, ...]
    patches: int = 4000

    @property
    def sample(self) -> tuple[int, ...]:
        return 1, WINDOW, WINDOW

    @property
    def size(self) -> int:
        return self.patches

    @property
    def tests(self) -> int:
        return len(self.test)

    @property
    def inputs_a_test(self) -> int:
        return -(-sum(len(corners(field)) for field in self.test.field) // len(self.test))

    @property
    def at_once(self) -> int:
        return 16

    @cached_property
    def digest(self) -> str:
        found = hashlib.sha256(str(self.patches).encode())
        for part in (self.train, self.test):
            for array in (part.image, part.truth, part.field):
                found.update(str(array.shape).encode())
                found.update(np.ascontiguousarray(array).data)
        return found.hexdigest()[:24]

    @cached_property
    def _middles(self) -> npt.NDArray[np.int64]:
        """Return image, row and column of every pixel in the training fields of view: int64[n, 3]."""
        return np.argwhere(self.train.field)

    @cached_property
    def _padded(self) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Return the training images and labels with a border, so that every middle has its whole patch."""
        border = ((0, 0), (PATCH // 2, PATCH // 2), (PATCH // 2, PATCH // 2))
        labels = np.where(self.train.field, self.train.truth, NO_CLASS)
        return np.pad(self.train.image, border), np.pad(labels, border, constant_values=NO_CLASS)

    def batch(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Return as many patches as ``chosen`` has numbers, float32[n, 1, side, side], and their labels int64[n, side, side].

        Which number a patch has does not matter: each is drawn anew.
        """
        import torch

        count = len(chosen)
        which = self._middles[torch.randint(len(self._middles), (count,)).numpy()]
        x, y = self._cut(which)
        ways = torch.randint(8, (count,)).numpy()
        shift, scale = torch.rand(2, count, 1, 1).numpy() * 2.0 - 1.0
        # What is 0 lies outside of the field of view and stays so.
        x = np.where(x > 0, np.clip((x - 0.5) * (1.0 + STEEPER * scale) + 0.5 + BRIGHTER * shift, 0.0, 1.0), 0.0)
        for way in range(8):
            of_it = ways == way
            for array in (x, y):
                turned = np.rot90(array[of_it], way % 4, axes=(1, 2))
                array[of_it] = turned[:, :, ::-1] if way >= 4 else turned
        return torch.from_numpy(x[:, None].astype(np.float32)), torch.from_numpy(y)

    def _cut(self, middles: npt.NDArray[np.int64]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Return patches about ``middles``, int64[n, 3]: float32[n, side, side] and int64 alike."""
        images, labels = self._padded
        index, row, column = middles.T
        offset = np.arange(PATCH)
        where = index[:, None, None], (row[:, None] + offset)[:, :, None], (column[:, None] + offset)[:, None, :]
        return images[where], labels[where]

    def settling(self, count: int) -> Floats:
        """Return patches spread evenly over the fields of view, neither turned nor changed: float32[n, 1, side, side].

        Of each image the same ones, wherever it stands among the others.
        """
        count = min(count, 600)  # each has thousands of pixels
        sizes = np.count_nonzero(self.train.field, axis=(1, 2))
        each = -(-count // max(1, int(np.count_nonzero(sizes))))
        starts = np.cumsum(sizes) - sizes
        places = [
            start + np.linspace(0, size - 1, each).astype(np.int64)
            for start, size in zip(starts, sizes, strict=True)
            if size
        ]
        found = self._cut(self._middles[np.concatenate(places)])[0][:, None]
        return found[fair_share(found, count)]

    def score(self, predict: Predict, count: int | None = None) -> Scores:
        """Return ``accuracy``, ``roc_auc`` and ``pr_auc`` (average precision) of all pixels in the fields of view together.

        ``count``: of the first so many images. They stand in the order of their numbers, and each has pixels of both classes.
        """
        from sklearn.metrics import average_precision_score, roc_auc_score

        pictures = self.test
        field = pictures.field[:count]
        said = np.concatenate(
            [
                probabilities(predict, image, inside)[inside]
                for image, inside in zip(pictures.image[:count], field, strict=True)
            ]
        )
        truth = pictures.truth[:count][field]
        return {
            "accuracy": float(np.mean((said > 0.5) == truth)),
            "roc_auc": float(roc_auc_score(truth, said)),
            "pr_auc": float(average_precision_score(truth, said)),
        }

    def part(self, side: int, images: int) -> Segmentation:
        """Return the same with ``side`` × ``side`` pixels of the first test images alone: for a quick look.

        They begin at a quarter of the height and width: in the middle of a retina there are no vessels.
        """
        high, wide = self.test.image.shape[1:]
        down, right = (min(length // 4, max(0, length - side)) for length in (high, wide))
        part = (slice(images), slice(down, down + side), slice(right, right + side))
        test = Pictures(self.test.image[part], self.test.truth[part], self.test.field[part])
        return replace(self, test=test)


def probabilities(predict: Predict, image: Floats, field: Bools) -> Floats:
    """Return how likely each pixel of ``field`` is of the second class: float32[height, width], 0 far outside of it.

    The mean over windows that overlap, of the softmax of a network's two outputs.
    """
    places = corners(field)
    room = np.zeros([length + WINDOW for length in image.shape], np.float32)  # for windows over the edge
    room[: image.shape[0], : image.shape[1]] = image
    windows = np.lib.stride_tricks.sliding_window_view(room, (WINDOW, WINDOW))[places[:, 0], places[:, 1]]
    outputs = predict(windows[:, None])
    require_numbers(outputs)
    likely = 1.0 / (1.0 + np.exp(outputs[:, 0] - outputs[:, 1]))
    total, times = np.zeros((2, *room.shape))
    for (row, column), likelihood in zip(places, likely, strict=True):  # they overlap: a sum for each
        window = slice(row, row + WINDOW), slice(column, column + WINDOW)
        total[window] += likelihood
        times[window] += 1.0
    mean = total / np.maximum(times, 1.0)
    return np.asarray(mean[: image.shape[0], : image.shape[1]], np.float32)


def corners(field: Bools) -> npt.NDArray[np.int64]:
    """Return where the windows begin that cover an image, int64[n, 2], but for those with nothing of ``field`` in them."""
    inside = np.zeros([length + 1 for length in field.shape], np.int64)
    inside[1:, 1:] = field.cumsum(axis=0).cumsum(axis=1)
    top, left = (np.arange(0, max(length - WINDOW, 0) + STRIDE, STRIDE) for length in field.shape)
    below, right = (
        np.minimum(starts + WINDOW, length) for starts, length in zip((top, left), field.shape, strict=True)
    )
    counts = inside[np.ix_(below, right)] - inside[np.ix_(top, right)] - inside[np.ix_(below, left)]
    rows, columns = np.nonzero(counts + inside[np.ix_(top, left)])
    return np.stack([top[rows], left[columns]], axis=1)
