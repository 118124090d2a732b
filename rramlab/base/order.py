"""In which order things were made whose names hold the time: runs, and records of calibration.

The time is what the wall clock said. Where something is made at an earlier time than others that are there, the clock was wrong
then or is now. Nobody can tell which, so no name says anything but what the clock said: the others are written down as having
come before, in ``order.json`` beside them. Without that file they count as made in the order of their times.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rramlab.base.errors import DataError
from rramlab.base.files import read_object, write_json
from rramlab.base.times import MOVED_S, wall

ORDER = "order.json"
_Place = tuple[str, int, int, str]  # a time; 0 if it came before what was made then; number among those; name


def as_made(folder: Path, times: Mapping[str, str]) -> list[str]:
    """Return names in the order in which what they name was made. ``times``: the time in each, empty where there is none.

    Raises:
        DataError: the file of those that came before things of an earlier time is damaged.
    """
    earlier = _earlier(folder)
    return sorted(times, key=lambda name: _place(name, times[name], earlier))


def time_now(folder: Path, times: Mapping[str, str], form: str) -> datetime:
    """Return the time for the name of what is made now, after all others; to the millisecond.

    ``form``: how names spell it, as ``strftime`` does, its last three digits left out.
    """
    at = wall()
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    earlier = _earlier(folder)
    places = {name: _place(name, time, earlier) for name, time in times.items() if time}
    newest = max((_time(place[0], form) for place in places.values()), default=at - timedelta(days=1))
    if at <= newest <= at + timedelta(seconds=MOVED_S):  # two in one millisecond, or a clock that was put right
        at = newest + timedelta(milliseconds=1)
    text = at.strftime(form)[:-3]
    later = [name for name in sorted(places, key=places.__getitem__) if places[name][0] >= text]
    if later:
        kept = {name: time for name, (time, _) in earlier.items() if name not in later}
        write_json(folder / ORDER, {"came_before": kept | dict.fromkeys(later, text)})
    return at


def _place(name: str, time: str, earlier: Mapping[str, tuple[str, int]]) -> _Place:
    if name in earlier:
        before, number = earlier[name]
        return before, 0, number, ""
    return time, 1, 0, name


def _earlier(folder: Path) -> dict[str, tuple[str, int]]:
    """Return what came before something of an earlier time: name -> that time, and its number among all of these."""
    path = folder / ORDER
    if not path.exists():
        return {}
    try:
        found = read_object(path, "came_before")["came_before"].items()
        return {str(name): (str(time), number) for number, (name, time) in enumerate(found)}
    except (DataError, AttributeError) as error:
        raise DataError(
            f"which of those in {folder} came last cannot be told: {error}; or remove it: then they count as made in the order "
            "of the times in their names"
        ) from error


def _time(text: str, form: str) -> datetime:
    try:
        return datetime.strptime(f"{text}000", form).replace(tzinfo=UTC)
    except ValueError:
        return datetime.min.replace(tzinfo=UTC)  # digits that are no time
