"""Vessels of the retina: images, patches, whole images stitched from windows, the network, and what damaged files say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from rramlab.base.errors import DataError, UsageError
from rramlab.macro.geometry import Geometry
from rramlab.macro.placement import Placement
from rramlab.nn import masked_layers
from rramlab.training import build, find_datasets, fit, load_dataset, load_recipe, scores
from rramlab.training.datasets import segmentation
from rramlab.training.datasets.segmentation import Segmentation, corners, probabilities

from .conftest import give_weights

WIDE, HIGH = 80, 72


def write(folder: Path, images: int = 2) -> Path:
    """Write images of dark lines in a round field of view, as DRIVE names them."""
    row, column = np.mgrid[:HIGH, :WIDE]
    field = np.hypot(row - HIGH / 2, column - WIDE / 2) < 34
    rng = np.random.default_rng(0)
    for part, first in (("training", 21), ("test", 1)):
        for kind in ("images", "mask", "1st_manual"):
            (folder / part / kind).mkdir(parents=True)
        for number in range(first, first + images):
            vessel = ((row + number * column // 3) % 17 < 3) & field
            colour = np.where(vessel, 60, 120)[..., None] + rng.integers(0, 20, (HIGH, WIDE, 3))
            shot = np.where(field[..., None], colour, 0).astype(np.uint8)
            Image.fromarray(shot).save(folder / part / "images" / f"{number:02d}_{part}.tif")
            Image.fromarray(field.astype(np.uint8) * 255).save(folder / part / "mask" / f"{number:02d}_{part}_mask.gif")
            Image.fromarray(vessel.astype(np.uint8) * 255).save(
                folder / part / "1st_manual" / f"{number:02d}_manual1.gif"
            )
    return folder


def load(folder: Path) -> Segmentation:
    found = load_dataset("drive", folder)
    assert isinstance(found, Segmentation)
    return found


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Segmentation:
    return load(write(tmp_path_factory.mktemp("data") / "drive"))


def test_images_are_normalised_inside_their_field_of_view(drive: Segmentation) -> None:
    for part in (drive.train, drive.test):
        assert part.image.shape == part.truth.shape == part.field.shape == (2, HIGH, WIDE)
        assert part.image.dtype == np.float32
        assert part.image.min() >= 0
        assert part.image.max() <= 1
        assert not part.image[~part.field].any()
        assert not part.truth[~part.field].any()
        assert part.image[part.truth].mean() < part.image[part.field & ~part.truth].mean() - 0.2  # vessels are dark
    assert drive.tests == 2


def test_patches_show_what_their_labels_say_however_they_are_turned(drive: Segmentation) -> None:
    torch.manual_seed(1)
    x, y = drive.batch(torch.arange(40))
    assert x.shape == (40, 1, segmentation.PATCH, segmentation.PATCH)
    assert y.shape == (40, segmentation.PATCH, segmentation.PATCH)
    middle = segmentation.PATCH // 2
    assert (y[:, middle - 1 : middle + 1, middle - 1 : middle + 1].amax(dim=(1, 2)) >= 0).all()  # drawn in the field
    assert x[:, 0][y == 1].mean() < x[:, 0][y == 0].mean() - 0.2
    assert (x[:, 0][y == segmentation.NO_CLASS] == 0).all()
    assert x.min() >= 0
    assert x.max() <= 1
    torch.manual_seed(1)
    again = drive.batch(torch.arange(40))
    assert torch.equal(x, again[0])
    assert torch.equal(y, again[1])


def test_a_whole_image_is_what_its_windows_say(drive: Segmentation) -> None:
    def of_each_pixel(x: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros_like(x), 3.0 - 6.0 * x], axis=1)

    image, field = drive.test.image[0], drive.test.field[0]
    found = probabilities(of_each_pixel, image, field)
    np.testing.assert_allclose(found[field], 1 / (1 + np.exp(6.0 * image[field] - 3.0)), rtol=1e-5)
    truth = drive.test.truth[drive.test.field]
    said = np.concatenate([-image[inside] for image, inside in zip(drive.test.image, drive.test.field, strict=True)])
    score = drive.score(of_each_pixel)
    assert score["roc_auc"] == pytest.approx(roc_auc_score(truth, said), abs=1e-4)
    assert score["pr_auc"] == pytest.approx(average_precision_score(truth, said), abs=1e-3)


def test_windows_cover_the_field_and_leave_out_what_is_far_from_it() -> None:
    field = np.zeros((584, 565), bool)
    field[200:300, 150:333] = True
    covered = np.zeros((700, 700), int)
    for row, column in corners(field):
        assert field[row : row + 64, column : column + 64].any()
        covered[row : row + 64, column : column + 64] += 1
    assert covered[:584, :565][field].min() >= 2  # windows overlap
    everywhere = corners(np.ones((584, 565), bool))
    assert len(everywhere) == 18 * 17


def test_a_quick_look_takes_a_part(drive: Segmentation) -> None:
    part = drive.part(32, 1)
    assert part.test.image.shape == (1, 32, 32)
    np.testing.assert_array_equal(part.test.image[0], drive.test.image[0, 18:50, 20:52])
    assert part.digest != drive.digest


def test_the_network_of_the_paper(drive: Segmentation) -> None:
    shapes = {name: layer.shape for name, layer in masked_layers(build("drive-unet")).items()}
    assert len(shapes) == 19
    assert sum(inputs * outputs for inputs, outputs in shapes.values()) == 4_313_440
    assert Placement.pack(shapes, Geometry(), 64, None).dies == 33


def test_a_small_one_learns_and_goes_on_bit_for_bit(drive: Segmentation, tmp_path: Path) -> None:
    few = Segmentation(drive.name, drive.train, drive.test, drive.classes, patches=80)
    recipe = load_recipe("drive").changed(
        {"network": "drive-unet-small", "epochs": 2, "batch": 16, "read_noise": 0.0, "threads": 1}
    )
    recipe.require(few)
    model = give_weights(recipe.model())
    whole = fit(model, recipe, few)
    assert whole.history[-1].scores.keys() == {"roc_auc", "pr_auc"}
    assert whole.history[-1].loss < whole.history[0].loss
    found = scores(model, few)
    assert found is not None

    asked = iter([False] * 9 + [True])
    resumed = give_weights(recipe.model())
    checkpoint = tmp_path / "c.pt"
    assert fit(resumed, recipe, few, checkpoint=checkpoint, stop=lambda: next(asked)).stopped
    resumed = give_weights(recipe.model())
    fit(resumed, recipe, few, checkpoint=checkpoint, resume=True)
    assert scores(resumed, few) == found


BROKEN: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "no mask": (lambda f: (f / "test/mask/02_test_mask.gif").unlink(), "02_test.tif", "has no field of view"),
    "no truth": (lambda f: (f / "training/1st_manual/22_manual1.gif").unlink(), "22_training.tif", "has no annotation"),
    "damaged": (lambda f: (f / "test/images/01_test.tif").write_bytes(b"II*\0no"), "01_test.tif", "cannot be read"),
    "another size": (
        lambda f: Image.new("L", (70, 72)).save(f / "test/mask/01_test_mask.gif"),
        "01_test_mask.gif",
        "70 × 72 pixels",
    ),
    "grey truth": (
        lambda f: Image.fromarray(np.full((HIGH, WIDE), 99, np.uint8)).save(f / "test/1st_manual/01_manual1.gif"),
        "01_manual1.gif",
        "expected 0 (no) and 255 (yes) alone",
    ),
    "empty field": (
        lambda f: Image.new("L", (WIDE, HIGH)).save(f / "training/mask/21_training_mask.gif"),
        "21_training_mask.gif",
        "empty field of view",
    ),
    "no folder": (lambda f: (f / "test/1st_manual").rename(f / "elsewhere"), "test/1st_manual", "only a part"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, what: str) -> None:
    spoil, name, said = BROKEN[what]
    spoil(write(tmp_path / "drive"))
    with pytest.raises(DataError) as error:
        load(tmp_path)
    assert name in str(error.value)
    assert said in str(error.value)
    assert "drive.grand-challenge.org" in str(error.value)


def test_the_list_says_where_it_is_or_how_to_get_it(tmp_path: Path) -> None:
    (missing,) = (each for each in find_datasets(tmp_path) if each.name == "drive")
    assert "drive.grand-challenge.org" in missing.detail
    write(tmp_path / "drive")
    (found,) = (each for each in find_datasets(tmp_path) if each.name == "drive")
    assert found.folder == tmp_path / "drive"


def test_pictures_whose_pixels_have_classes_are_not_stretched(drive: Segmentation) -> None:
    with pytest.raises(UsageError, match="one class a sample"):
        load_recipe("drive").changed({"network": "drive-unet-small", "stretch": (1, 1)}).require(drive)
