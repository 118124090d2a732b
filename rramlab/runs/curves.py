"""What a source-measure unit has measured: the blocks of form ``curve``, and what of them is no measurement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

# Volts, amperes, whether the unit's limit held the output; ``good``: whether it is a measurement. Of a point that is none,
# what is no number is NaN; it stays out of everything that is computed or drawn of a curve.
CURVE = [("voltage", np.float64), ("current", np.float64), ("in_compliance", np.bool_), ("good", np.bool_)]
Curve = npt.NDArray[Any]  # structured array[points] of CURVE


def curve(voltage_V: Any, current_A: Any, in_compliance: Any, bad: Mapping[int, str]) -> Curve:
    """Return a curve; ``bad``: numbers of the points that are no measurement."""
    block = np.zeros(len(voltage_V), CURVE)
    block["voltage"], block["current"], block["in_compliance"] = voltage_V, current_A, in_compliance
    block["good"] = True
    block["good"][list(bad)] = False
    return block


def whole(block: Curve) -> Curve:
    """Return a curve with every field. In one that says nothing of its points, as 0.1.0 wrote them, all are good."""
    if "good" in (block.dtype.names or ()):
        return block
    return curve(block["voltage"], block["current"], block["in_compliance"], {})


def measured(block: Curve) -> Curve:
    """Return the points of a curve that are measurements."""
    return np.asarray(block[block["good"]])
