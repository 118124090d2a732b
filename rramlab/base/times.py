"""Times as they are written down."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """Return the time now in UTC, ISO 8601 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
