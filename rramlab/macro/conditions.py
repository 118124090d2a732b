"""When, how warm and with which record a die was read: what decides whether a read of it still says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

# A read older than this, or taken at another temperature, is stale. Both assumed: formed TaOx cells drift by a few percent a
# decade of time, and by a few per mille a degree.
OLDEST = timedelta(days=7)
WARMER_C = 15.0
TO_COME = timedelta(days=1)  # of the clocks of two computers; more than that is a wrong one


@dataclass(frozen=True)
class Conditions:
    """Of a read of one die. ``operation``: the last operation of its ledger; ``calibration``: the record's name.

    ``compensated``: whether what the lines take was given back.
    """

    die: str
    taken_at: datetime
    temperature_C: float
    calibration: str
    operation: int
    compensated: bool = False

    def stale(self, now: Conditions) -> list[str]:
        """Return why a read taken under these conditions no longer holds, in words; empty while it does."""
        reasons = []
        age = now.taken_at - self.taken_at
        if age > OLDEST:
            reasons.append(f"it is {age.days} days old, expected at most {OLDEST.days}")
        if age < -TO_COME:
            reasons.append(
                f"it is of {self.taken_at:%Y-%m-%d}, which is to come: this computer's clock was or is wrong"
            )
        if abs(now.temperature_C - self.temperature_C) > WARMER_C:
            reasons.append(
                f"it was taken at {self.temperature_C:.0f} °C and the board is at {now.temperature_C:.0f} °C, expected at most "
                f"{WARMER_C:.0f} °C between"
            )
        if now.compensated != self.compensated:
            said = "of the bare cells" if self.compensated else "of the cells with their lines"
            reasons.append(f"it is {said}, reads are other ones now: set compensation in bench.yaml as it was")
        return reasons

    @property
    def origin(self) -> dict[str, str]:
        """As text, for what is kept beside weights."""
        return {
            "die": self.die,
            "taken_at": self.taken_at.isoformat(timespec="seconds"),
            "calibration": self.calibration,
        }

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "taken_at": self.taken_at.isoformat(timespec="seconds")}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Conditions:
        """The inverse of :meth:`as_json`.

        Raises:
            TypeError, ValueError: it is not the JSON of conditions.
        """
        return cls(**{**values, "taken_at": datetime.fromisoformat(values["taken_at"]).astimezone(UTC)})
