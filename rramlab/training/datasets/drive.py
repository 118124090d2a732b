"""DRIVE: vessels in images of the retina (Staal et al., IEEE Transactions on Medical Imaging 23, 501, 2004)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rramlab.base.errors import DataError
from rramlab.training.datasets.arrays import Floats
from rramlab.training.datasets.places import VARIABLE, Source
from rramlab.training.datasets.segmentation import Bools, Pictures, Segmentation

NAME = "drive"
CLASSES = ("background", "vessel")
PARTS = ("training", "test")
IMAGES, FIELDS, TRUTHS = "images", "mask", "1st_manual"
HELP = (
    "get DRIVE from https://drive.grand-challenge.org/ and put its folders training and test, each with images, mask and "
    f"1st_manual, into data/drive of the bench folder, or into a folder that {VARIABLE} names"
)
# From colour to what a network sees.
GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601
SPREAD = 3.0  # standard deviations about the mean of the field of view that are kept
CLIP_LIMIT = 0.01  # of CLAHE, scikit-image's own
GAMMA = 1.2


def load(folder: Path) -> Segmentation:
    """Read both parts in ``folder``; images become grey, normalised values in [0, 1], see :func:`prepared`.

    Raises:
        DataError: files are missing, damaged or do not belong together; the message names the file and says how to get it.
    """
    train, test = (_pictures(folder / part) for part in PARTS)
    return Segmentation(NAME, train, test, CLASSES)


def locate(places: Sequence[Path]) -> Path:
    """Return the first place that holds a folder of images: it must hold all six folders, none of them empty."""
    for place in places:
        if any((place / part / IMAGES).is_dir() for part in PARTS):
            folders = [place / part / kind for part in PARTS for kind in (IMAGES, FIELDS, TRUTHS)]
            missing = [str(each.relative_to(place)) for each in folders if not _files(each)]
            if missing:
                raise DataError(f"{place} has only a part of {NAME}: no images in {', '.join(missing)}; {HELP}")
            return place
    raise DataError(f"{NAME} is not in {', '.join(map(str, places))}; {HELP}")


def prepared(colour: npt.NDArray[np.uint8], field: Bools) -> Floats:
    """Return what a network sees of an image, float32[height, width] in [0, 1], 0 outside of the field of view.

    ``colour`` uint8[height, width, 3] and ``field`` bool[height, width]. In order: luma; standardised by mean and deviation in
    the field, ± ``SPREAD`` of which become 0 … 1; CLAHE (contrast-limited adaptive histogram equalisation, Zuiderveld 1994);
    gamma correction, x^(1 / ``GAMMA``).
    """
    from skimage.exposure import equalize_adapthist

    grey = colour @ np.array(GREY)
    mean, deviation = grey[field].mean(), max(grey[field].std(), 1e-6)
    standard = np.clip((grey - mean) / (2 * SPREAD * deviation) + 0.5, 0.0, 1.0)
    # The dark surroundings would take the contrast of what lies beside them.
    even = equalize_adapthist(np.where(field, standard, 0.5), clip_limit=CLIP_LIMIT)
    return np.where(field, even ** (1 / GAMMA), 0.0).astype(np.float32)


def _pictures(part: Path) -> Pictures:
    """Read the images of a part with their fields of view and annotations, in the order of their numbers."""
    images, fields, truths = (_files(part / kind) for kind in (IMAGES, FIELDS, TRUTHS))
    found = []
    for number, path in images.items():
        for kind, others in (("field of view", fields), ("annotation", truths)):
            if number not in others:
                where = part / (FIELDS if others is fields else TRUTHS)
                raise DataError(f"the image {path} has no {kind}: {where} has no file that begins {number}_; {HELP}")
        colour = _pixels(path, "RGB")
        field, truth = (_binary(others[number], colour.shape[:2], path) for others in (fields, truths))
        if not field.any():
            raise DataError(f"{fields[number]} has an empty field of view; {HELP}")
        found.append((prepared(colour, field), truth & field, field))
    shapes = {image.shape for image, _, _ in found}
    if len(shapes) > 1:
        sizes = ", ".join(f"{wide} × {high}" for high, wide in sorted(shapes))
        raise DataError(f"{part / IMAGES} has images of {sizes} pixels, expected one size; {HELP}")
    image, truth, field = (np.stack(each) for each in zip(*found, strict=True))
    return Pictures(image, truth, field)


def _files(folder: Path) -> dict[str, Path]:
    """Return the images in a folder by the number that their name begins with: 21_training.tif is "21"."""
    found = {}
    for path in sorted(folder.glob("*")):
        number = re.match(r"(\d+)_.*\.(tif|tiff|gif|png)$", path.name, re.IGNORECASE)
        if number:
            found[number[1]] = path
    return found


def _pixels(path: Path, mode: str) -> npt.NDArray[np.uint8]:
    """Read an image: uint8[height, width, 3] of ``mode`` RGB, uint8[height, width] of L.

    Raises:
        DataError: it is damaged or no image.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as an image: {error}; {HELP}") from error


def _binary(path: Path, shape: tuple[int, ...], image: Path) -> Bools:
    """Read an image of two values, 0 and 255, that belongs to an image of ``shape`` (height, width)."""
    found = _pixels(path, "L")
    if found.shape != shape:
        size, expected = (f"{wide} × {high}" for high, wide in (found.shape, shape))
        raise DataError(f"{path} is of {size} pixels, its image {image} of {expected}; {HELP}")
    values = np.unique(found)
    if not set(values.tolist()) <= {0, 255}:
        raise DataError(
            f"{path} has {len(values)} values from {values[0]} to {values[-1]}, expected 0 (no) and 255 (yes) alone; {HELP}"
        )
    return np.asarray(found == 255)


SOURCE = Source(NAME, (NAME,), "40 images of 565 × 584 pixels with their vessels, TIFF and GIF", locate, load)
