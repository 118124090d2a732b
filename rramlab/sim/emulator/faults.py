"""Faults of a line and of what is at its end, on demand: each frame may be dropped, damaged, doubled, delayed or split."""

from __future__ import annotations

import random
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
# How long a late frame is delayed: beyond the client's first question after it. Assumed, as the others.
_LATE_S = (0.02, 0.3)
_GAP_S = 0.003  # between the halves of a frame that is split
STALL_S = 0.4


class WireFaults(BaseModel):
    """Shares of the frames that each fault befalls, in both directions; events befall the board with a frame it receives.

    ``reboot``: comes back remembering operation ids; ``amnesia``: without. ``disconnect``: of TCP; a terminal stays.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)
    drop: Share = 0.0
    damage: Share = 0.0
    duplicate: Share = 0.0
    late: Share = 0.0
    split: Share = 0.0
    stall: Share = 0.0
    disconnect: Share = 0.0
    reboot: Share = 0.0
    amnesia: Share = 0.0
    seed: int = Field(default=0, ge=0)

    @classmethod
    def everywhere(cls, share: float, seed: int = 0) -> WireFaults:
        """Let ``share`` of all frames suffer one of the five line faults, each as often as the others."""
        each = share / 5
        return cls(drop=each, damage=each, duplicate=each, late=each, split=each, seed=seed)


Piece = tuple[float, bytes]  # after how many seconds, what


class Line:
    """One direction of one link: turns whole frames into what arrives of them, and when."""

    def __init__(self, faults: WireFaults, chance: random.Random) -> None:
        self.faults, self._chance = faults, chance
        self.clean = not any(value for name, value in faults if name != "seed")

    def carry(self, frame: bytes) -> list[Piece]:
        """Return what becomes of the bytes of a frame, its zero included."""
        faults, drawn = self.faults, self._chance.random()
        for name in ("drop", "damage", "duplicate", "late", "split"):
            share = getattr(faults, name)
            if drawn < share:
                return self._befallen(name, frame)
            drawn -= share
        return [(0.0, frame)]

    def _befallen(self, fault: str, frame: bytes) -> list[Piece]:
        if fault == "drop":
            return []
        if fault == "duplicate":
            return [(0.0, frame), (self._chance.choice([0.0, self._chance.uniform(*_LATE_S)]), frame)]
        if fault == "late":
            return [(self._chance.uniform(*_LATE_S), frame)]
        place = self._chance.randrange(len(frame))
        if fault == "split":
            return [(0.0, frame[:place]), (_GAP_S, frame[place:])]
        # A flipped bit; now and then of the closing zero, which joins the frame to the next.
        return [(0.0, frame[:place] + bytes([frame[place] ^ 1 << self._chance.randrange(8)]) + frame[place + 1 :])]

    def event(self) -> str | None:
        """Return what befalls the board with the next frame: the name of a field, or nothing."""
        drawn = self._chance.random()
        for name in ("stall", "disconnect", "reboot", "amnesia"):
            share = getattr(self.faults, name)
            if drawn < share:
                return name
            drawn -= share
        return None
