"""Emulated source-measure units: each speaks its own language, and measures what the board routes to it."""

from rramlab.sim.smus.instrument import EmulatedSmu, SmuFaults
from rramlab.sim.smus.instruments import make_smu

__all__ = ["EmulatedSmu", "SmuFaults", "make_smu"]
