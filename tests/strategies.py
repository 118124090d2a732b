"""Hypothesis strategies for geometries, selections and what is known of cells."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rramlab.macro.cells import CellSelection, CellState
from rramlab.macro.geometry import Geometry

geometries = st.builds(Geometry, st.integers(1, 12), st.integers(1, 6).map(lambda pairs: 2 * pairs))


@st.composite
def selections(draw, geometry=None):
    geometry = geometry or draw(geometries)
    return CellSelection(draw(hnp.arrays(np.bool_, geometry.shape)))


@st.composite
def cell_states(draw, geometry):
    shape = geometry.shape
    return CellState(
        draw(hnp.arrays(np.uint32, shape, elements=st.integers(0, 3))),
        draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([np.nan, 1e-7, 1.9e-6, 2.1e-6, 1.2e-5]))),
        draw(hnp.arrays(np.bool_, shape)),
    )
