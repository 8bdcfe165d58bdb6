"""What the command line asks of the distributed engine."""

import asyncio
from datetime import timedelta
from typing import Any

from crmkit.engine.local import Local
from crmkit.engine.service import Told
from crmkit.engine.steps import Steps
from crmkit_cluster import schema, status
from crmkit_cluster.schedule import cron_of
from crmkit_cluster.worker import Hanging, Worker


def check_every(every: timedelta) -> None:
    """Refuse a span that is no schedule.

    Raises:
        ValueError: it is none; its text says what is one.
    """
    cron_of(every)


def set_up(local: Local) -> tuple[dict[str, str], dict[str, str]]:
    """Make what workers need, or bring it up to date. Returns the versions before, and now."""
    Steps(local, _Nobody()).prepare()
    before = schema.set_up(local.host.config.database)
    return before, schema.wanted()


def take_down(local: Local) -> None:
    """Take away all that `set_up` made."""
    Steps(local, _Nobody()).prepare()
    schema.take_down(local.host.config.database)


async def work(local: Local, told: Told, stop: asyncio.Event, *, concurrency: int, every: timedelta) -> bool:
    """Work until `stop` is set. Returns whether all ended in time: who did not has to be killed."""
    try:
        await Worker(local, told, concurrency=concurrency, every=every).run(stop)
    except Hanging:
        return False
    return True


def standing(local: Local) -> dict[str, Any]:
    """How the fleet stands: `versions`, `workers`, `queues`, and the lag of decisions and of each gateway."""
    url = local.host.config.database
    steps = Steps(local, _Nobody())
    steps.prepare()
    schema.check(url)
    now, stands = status.now(), asyncio.run(steps.standing())
    gateways = {
        name: {
            "due": queue.count,
            "behind_seconds": queue.behind(now),
            "oldest": queue.since,
            "in_doubt": stands.in_doubt.get(name, 0),
        }
        for name in sorted({*steps.gateways, *stands.messages, *stands.in_doubt})
        for queue in [stands.messages.get(name) or type(stands.pending)()]
    }
    return {
        "versions": schema.found(url),
        "workers": status.workers(url),
        "queues": status.queues(url),
        "decide": {
            "due": stands.pending.count,
            "behind_seconds": stands.pending.behind(now),
            "oldest": stands.pending.since,
        },
        "deliver": gateways,
        "webhooks": {
            name: {"due": queue.count, "behind_seconds": queue.behind(now)} for name, queue in stands.webhooks.items()
        },
    }


class _Nobody:
    """Hears nothing."""

    def synced(self, runs: Any) -> None: ...

    def dispatched(self, run: Any) -> None: ...

    def heard(self, account: str, tally: Any) -> None: ...

    def failed(self, what: str, error: Exception) -> None: ...
