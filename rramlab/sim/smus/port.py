"""What the terminals of a source-measure unit are wired to."""

from __future__ import annotations

from typing import Protocol


class Port(Protocol):
    """A two-terminal load with a history: what it is depends on what was forced on it before.

    Currents flow from the unit into the load. Simulated time passes by ``span_s`` with each call that forces something.
    ``aperture_s``: how long of that, at its end, the unit integrates; 0 where it does not measure.
    """

    def force_voltage(
        self, volts: float, limit_A: float, span_s: float, aperture_s: float = 0.0
    ) -> tuple[float, float]:
        """Hold ``volts``, or what ``limit_A`` of current (magnitude) allows of it, for ``span_s``.

        Returns the true voltage at the terminals (V) and the true current (A) at the end, their mean over the aperture.
        """
        ...

    def force_current(
        self, amperes: float, limit_V: float, span_s: float, aperture_s: float = 0.0
    ) -> tuple[float, float]:
        """Hold ``amperes``, or what ``limit_V`` of voltage (magnitude) allows of it; returns as above."""
        ...

    def next_reading(self) -> int:
        """Return the number of the next reading of what is wired here, from 0: the unit's noise is keyed by it.

        It is counted where the load is kept, so that a load that is put back to what it was reads as it did.
        """
        ...

    def release(self) -> None:
        """The output was switched off: nothing is forced any more."""
        ...
