"""A span of time as a schedule that is the same on every machine."""

from datetime import timedelta


def cron_of(every: timedelta) -> str:
    """A span of time as a line of cron's.

    Raises:
        ValueError: it does not divide an hour or a day into whole minutes.
    """
    minutes, rest = divmod(int(every.total_seconds()), 60)
    if not rest and minutes and 60 % minutes == 0:
        return "* * * * *" if minutes == 1 else f"*/{minutes} * * * *" if minutes < 60 else "0 * * * *"
    hours, rest_minutes = divmod(minutes, 60)
    if not rest and not rest_minutes and hours and 24 % hours == 0:
        return f"0 */{hours} * * *" if hours < 24 else "0 0 * * *"
    raise ValueError("say 1m, 2m, 3m, 5m, 10m, 15m, 20m, 30m, 1h, 2h, 6h, 12h or 1d: what divides an hour or a day")
