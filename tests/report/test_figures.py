"""Pictures: whole files with something in them."""

import numpy as np
import pytest
from matplotlib.image import imread

from rramlab.report.figures import save_map


@pytest.mark.parametrize("share_read", [1.0, 0.3, 0.0])
def test_a_map_is_a_picture_with_content(tmp_path, share_read):
    rng = np.random.default_rng(0)
    conductance = rng.lognormal(np.log(12.2e-6), 0.15, (32, 16)).astype(np.float32)
    conductance[rng.random((32, 16)) >= share_read] = np.nan
    path = tmp_path / "new" / "map.png"
    save_map(conductance, path, "die")
    picture = imread(path)
    assert picture.shape[0] > 300
    assert picture.std() > 0.01
    assert not list(path.parent.glob("*.tmp"))
