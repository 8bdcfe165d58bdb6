"""A clock that stands still until a test moves it. crmkit's steps are given their time: nothing is patched."""

from datetime import UTC, datetime, timedelta

from crmkit.core.duration import parse_duration

#: Where every clock begins unless a test says otherwise: a Monday, noon.
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Clock:
    """A clock.

    Args:
        now: the time it shows at first, aware.

    Attributes:
        now: the time it shows, in UTC.
    """

    def __init__(self, now: datetime = NOON) -> None:
        self.now = _utc(now)

    def move(self, duration: str | timedelta) -> datetime:
        """Let time pass: `"3d"`, `"36h"`, `timedelta(minutes=5)`. Returns the new time."""
        self.now += parse_duration(duration)
        return self.now

    def to(self, moment: datetime | str) -> datetime:
        """Set it: to an aware time, or to one as text, which is UTC where it names no zone. Returns the time."""
        if isinstance(moment, str):
            read = datetime.fromisoformat(moment)
            moment = read if read.tzinfo is not None else read.replace(tzinfo=UTC)
        self.now = _utc(moment)
        return self.now

    def __call__(self) -> datetime:
        """The time it shows."""
        return self.now

    def __repr__(self) -> str:
        """The time it shows."""
        return f"Clock({self.now:%Y-%m-%d %H:%M:%S} UTC)"


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError(f"clock: {moment!r} has no zone; say which: datetime(..., tzinfo=UTC)")
    return moment.astimezone(UTC)
