"""Takes jobs out of their queues, with workers of Procrastinate: one for each queue.

A worker of Procrastinate ends where it cannot reach the database; it is begun again for as long as that takes. Where
nothing may be sent, what would be decided or sent is not taken, and left to others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any

from procrastinate import App

from crmkit.engine.until import run_until
from crmkit_cluster.jobs import Wake
from crmkit_cluster.line import Connector
from crmkit_cluster.post import LOST
from crmkit_cluster.schedule import cron_of

#: Looked for without being told, in seconds: a job whose notification was lost.
POLL = 15.0
#: A worker of Procrastinate that ended is begun again after so long, doubling up to `LOST`.
FIRST_PAUSE = 1.0

DECIDE, FOLLOW, TICK, SYNC = Wake("decide"), Wake("follow"), Wake("tick"), Wake("sync", "any")
#: Tasks of these only read, which harms nobody.
_READS = frozenset({FOLLOW.queue, SYNC.queue})


class Gate:
    """Whether what would be decided or sent is taken here."""

    def __init__(self) -> None:
        self.opened, self.shut = asyncio.Event(), asyncio.Event()
        self.opened.set()

    def open(self) -> None:
        """It is."""
        self.shut.clear()
        self.opened.set()

    def close(self) -> None:
        """It is left to others; what is taken already is given back."""
        self.opened.clear()
        self.shut.set()


class Taker:
    """Takes jobs.

    Args:
        connector: to the database.
        job: does one, given the wake-up as it is written; never fails.
        failed: told why none can be taken.
        gate: whether what sends is taken.
        gateways: each has a queue.
        shops: each is read by the clock.
        every: how often.
        concurrency: how many are read at once.
    """

    def __init__(
        self,
        connector: Connector,
        job: Callable[..., Awaitable[None]],
        failed: Callable[[Exception], None],
        gate: Gate,
        *,
        gateways: list[str],
        shops: list[str],
        every: timedelta,
        concurrency: int,
    ) -> None:
        self.connector, self.job, self.failed, self.gate = connector, job, failed, gate
        self.gateways, self.shops, self.every, self.concurrency = gateways, shops, every, concurrency
        self.app = self._app()

    @property
    def queues(self) -> list[str]:
        """All that are taken from."""
        return [queue for queue, _ in self._counts()]

    def work(self) -> list[Coroutine[Any, Any, None]]:
        """What takes from each queue, for ever."""
        keeping = self._app(keeps_time=True)
        return [
            self._take(keeping if queue == FOLLOW.queue else self.app, queue, count) for queue, count in self._counts()
        ]

    def _counts(self) -> list[tuple[str, int]]:
        """How many jobs of each queue are done at once."""
        return [
            (FOLLOW.queue, 1),
            (TICK.queue, 2),  # one of them may let old things go, which takes its time
            (DECIDE.queue, 1),
            *((Wake("deliver", name).queue, 1) for name in self.gateways),
            (SYNC.queue, self.concurrency),
        ]

    def _app(self, *, keeps_time: bool = False) -> App:
        app = App(connector=self.connector)
        tasks = {
            name: app.task(name=name, queue=name)(self.job) for name in ("decide", "follow", "tick", "deliver", "sync")
        }
        if keeps_time:
            app.periodic(cron="* * * * *", queueing_lock=str(TICK), task_kwargs={"wake": str(TICK)})(tasks["tick"])
            for name in self.shops:
                wake = Wake("sync", name)
                app.periodic(
                    cron=cron_of(self.every),
                    periodic_id=name[:100],
                    queueing_lock=str(wake),
                    task_kwargs={"wake": str(wake)},
                )(tasks["sync"])
        return app

    async def _take(self, app: App, queue: str, count: int) -> None:
        pause, reads = FIRST_PAUSE, queue in _READS
        while True:
            if not reads:
                await self.gate.opened.wait()
            began = asyncio.get_running_loop().time()
            try:
                taking = app.run_worker_async(
                    queues=[queue],
                    name=queue,
                    concurrency=count,
                    fetch_job_polling_interval=POLL,
                    abort_job_polling_interval=POLL,
                    shutdown_graceful_timeout=0.0,
                    delete_jobs="successful",
                    install_signal_handlers=False,
                    update_heartbeat_interval=LOST / 3,
                    stalled_worker_timeout=LOST,
                )
                await (taking if reads else run_until(self.gate.shut, [taking]))
            except Exception as error:
                self.failed(error)
            if not reads and self.gate.shut.is_set():
                continue
            if asyncio.get_running_loop().time() - began > LOST:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOST)
