"""Durations as configuration and templates write them: `30m`, `36h`, `7d`; and how long to wait before a next try."""

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=36_500)
_DIGITS = len(str(_LONGEST // timedelta(seconds=1)))
_WRITTEN = re.compile(r"([0-9]+) ?([smhdw])\Z")


def parse_duration(written: Any) -> timedelta:
    """The duration `written` as a number and a unit: s, m, h, d or w.

    Raises:
        ValueError: it is not written so, or longer than a century.
    """
    if isinstance(written, timedelta):
        return written
    found = _WRITTEN.match(written.strip()) if isinstance(written, str) else None
    if found is None:
        raise ValueError(f"{written!r} is no duration; write it like 30m, 36h or 7d, in s, m, h, d or w")
    unit = timedelta(**{_UNITS[found[2]]: 1})
    # so many digits are no number of seconds that fits, and Python refuses to read thousands of them
    digits = found[1].lstrip("0") or "0"
    if len(digits) > _DIGITS or int(digits) > _LONGEST // unit:
        raise ValueError(f"{_short(written)} is too long: {_LONGEST.days}d is the most, in s, m, h, d or w")
    return int(digits) * unit


def _short(written: str) -> str:
    return repr(written if len(written) <= 40 else f"{written[:37]}...")


def write_duration(duration: timedelta) -> str:
    """`duration` in the largest unit that divides it."""
    seconds = int(duration.total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


#: A duration in settings.
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(write_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]+ ?[smhdw]$", "examples": ["30m", "36h", "7d"]}),
]


#: A failed try is repeated after about this long, doubling each time, up to a day.
RETRY_FIRST = timedelta(minutes=1)
RETRY_MOST = timedelta(hours=24)


def backoff(tries: int, chance: float) -> timedelta:
    """How long to wait after `tries` failed tries: doubling, with full jitter above the half.

    Args:
        tries: failed tries so far, from 1.
        chance: a number in [0, 1), so that many messages do not come back at one moment.
    """
    longest: timedelta = min(RETRY_FIRST * 2 ** min(tries - 1, 20), RETRY_MOST)
    return longest / 2 + longest / 2 * chance
