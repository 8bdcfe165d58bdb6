"""A worker: woken by the database, by a job or by the clock, it takes the steps one process takes too.

What it is woken for may have been done by another: then there is nothing to do. What fails is tried again; a wake-up
that was lost comes with the next tick. Nothing begins while its place is lost. Who is fenced while it works only reads:
what would be decided or sent is left to others until it may send again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import DBAPIError

from crmkit.engine.local import Local
from crmkit.engine.service import Service, Told
from crmkit.engine.steps import NOTED, SOON, Steps
from crmkit_cluster import jobs, schema
from crmkit_cluster.address import conninfo, own_name, settings
from crmkit_cluster.bell import Bell
from crmkit_cluster.jobs import Wake
from crmkit_cluster.line import Connector
from crmkit_cluster.post import BEAT, LOST, Post
from crmkit_cluster.taker import DECIDE, FOLLOW, Gate, Taker

#: When a worker is told to end, what is in flight has so long for it, in seconds: a try at a gateway, a transaction.
GRACE = 40.0
#: What failed is tried again after so long, doubling up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Who does not hold an account's standing connection asks so often whether it is free, in seconds.
ASKED = 15.0
#: What ended otherwise than well is kept to be looked at for so long, in seconds.
KEPT = 7 * 24 * 3600.0
#: Connections at once, beside the line, the post and those of the steps.
CONNECTIONS = 4


class Hanging(Exception):
    """Something does not end; who is killed now loses nothing."""


class Worker:
    """Works for ever.

    Args:
        local: the steps.
        told: hears what was done.
        concurrency: accounts that are read at once.
        every: how often each is read.
    """

    def __init__(self, local: Local, told: Told, *, concurrency: int, every: timedelta) -> None:
        self.local, self.told, self.concurrency, self.every = local, told, concurrency, every
        self.steps = Steps(local, told)
        self.service = Service(local, every, told)
        self.doing: Counter[str] = Counter()
        url, name = local.host.config.database, own_name()
        self.connector = Connector(conninfo(url), settings(name), CONNECTIONS)
        self.post = Post(
            conninfo(url),
            settings(name),
            name=name,
            concurrency=concurrency,
            doing=lambda: self.doing.elements(),
            ready=self._ready,
            fenced=lambda: None if self.steps.fenced is None else str(self.steps.fenced),
        )
        self.bell, self.gate = Bell(self.connector, lambda error: self._failed("queue", error)), Gate()
        self._failures: Counter[Wake] = Counter()
        self._left = 0
        self._is_ending = False

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until `stop` is set; what is in flight then is finished and stored.

        Raises:
            DatabaseError: the database is not set up for this, is of another version, or may not send.
            Hanging: something did not end in time.
        """
        for name in ("procrastinate", "psycopg.pool"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what they have to say is told by us, once
        self.steps.prepare()
        try:
            await self._enter()
        except DBAPIError as error:  # the server ended its connection: it was frozen, or the server was restarted
            if not error.connection_invalidated:
                raise
            await self._enter()
        taker = Taker(
            self.connector,
            self._job,
            lambda error: self._failed("queue", error),
            self.gate,
            gateways=self.steps.gateways,
            shops=self.steps.shops,
            every=self.every,
            concurrency=self.concurrency,
        )
        channels = [f"procrastinate_queue_v1#{queue}" for queue in taker.queues]
        house = [
            self.post.keep(lambda error: self._failed("post", error)),
            self.connector.listen(channels, self._hear, lambda error: self._failed("line", error)),
            self.bell.keep(),
            self._keep_notes(),
            self._ask_again(),
        ]
        work = [*taker.work(), *(self._hold(name) for name in self.steps.listening)]
        try:
            async with taker.app.open_async():
                await self._run(stop, house, work)
        finally:
            await self.post.close()

    async def _run(
        self, stop: asyncio.Event, house: Sequence[Coroutine[Any, Any, None]], work: Sequence[Coroutine[Any, Any, None]]
    ) -> None:
        """The house is kept until the work has ended: what is interrupted is left to others through it."""
        keeping = [asyncio.create_task(one) for one in house]
        working = [asyncio.create_task(one) for one in work]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopped, *keeping, *working], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._is_ending = True
            hanging = await _end(working, GRACE)
            try:
                await self.steps.note(at_once=True)
                async with asyncio.timeout(FIRST_PAUSE):
                    await self.bell.calm()
            except Exception as error:
                self._failed("end", error)
            hanging |= await _end([stopped, *keeping], GRACE / 4)
        for one in (*keeping, *working):
            if one.done() and not one.cancelled() and (ended_by := one.exception()) is not None:
                raise ended_by
        if hanging:
            raise Hanging(f"{len(hanging)} tasks do not end")

    def _ready(self) -> None:
        schema.check(self.local.host.config.database)
        self.steps.prepare()

    # being woken

    def wake(self, wake: Wake) -> None:
        """Have this done, by whichever worker has time."""
        self.bell.ring(wake)

    def _hear(self, said: str | None) -> None:
        """There is work; None: there may be some of any kind."""
        if said is not None:
            self.wake(Wake.of(said))
            return
        for one in (DECIDE, FOLLOW, *(Wake("deliver", name) for name in self.steps.gateways)):
            self.wake(one)

    async def _enter(self) -> None:
        """Take the place; whoever may not send gives it back.

        Raises:
            DatabaseError: it may not send, or the database is not what it needs.
        """
        await self.post.open()
        try:
            await self.steps.enter()
        except BaseException:
            await self.post.close()
            raise

    async def _job(self, timestamp: int = 0, wake: str = "") -> None:
        """A job: it never fails, since what it was to wake is not lost with it.

        Args:
            timestamp: of a job by the clock.
            wake: the step, as it is written.
        """
        what = Wake.of(wake)
        self.doing[wake] += 1
        try:
            await self.post.stand()
            await self._take(what)
            self._failures.pop(what, None)
            if self.steps.fenced is not None and what.task in ("decide", "deliver", "tick"):
                self.gate.close()
                self.wake(what)  # whoever may send takes it
        except asyncio.CancelledError:
            self.wake(what)  # what is left of it is another worker's
            raise
        except Exception as error:  # a plugin's code or data may be the cause, or the database: the worker goes on
            self._failed(wake, error)
            self._failures[what] += 1
            self.bell.ring_soon(_pause(FIRST_PAUSE, self._failures[what]), what)
        finally:
            self.doing -= Counter([wake])

    async def _take(self, wake: Wake) -> None:
        match wake.task:
            case "decide":
                await self._decide()
            case "deliver":
                if await self.steps.deliver(wake.name, lambda: self.wake(wake)):
                    self.bell.ring_soon(SOON, wake)
            case "follow":
                await self.steps.follow()
            case "sync":
                await self.post.alone(str(wake), lambda: self.steps.sync(wake.name))
            case "tick":
                await self._tick()

    async def _decide(self) -> None:
        """Two workers may each have left to the other what both held a part of: it is looked at once more, soon."""
        is_left = await self.steps.decide(lambda: self.wake(DECIDE))
        self._left = self._left + 1 if is_left else 0
        if is_left:
            self.bell.ring_soon(_pause(FIRST_PAUSE / 10, self._left), DECIDE)

    async def _tick(self) -> None:
        due = await self.steps.tick()
        if due.decide:
            self.wake(DECIDE)
        if due.follow:
            self.wake(FOLLOW)
        known = set(self.steps.gateways)
        for name in due.gateways:
            if name in known:
                self.wake(Wake("deliver", name))
            else:  # it is configured no more: its messages are sent on their way
                await self.steps.deliver(name, lambda: None)
        syncs = [Wake("sync", name) for name in self.steps.shops]  # the clock may not wake those again for a day
        await jobs.forget(self.connector.pool, 2 * LOST, KEPT, again=syncs)
        if self.steps.fenced is None:  # what is to be adopted keeps what it has
            await self.steps.prune()

    # the rest

    async def _hold(self, name: str) -> None:
        """Hold the standing connection of an account, unless another worker does."""
        entry = self.local.accounts.named()[name]
        while True:
            try:
                await self.post.stand()
                await self.post.alone(f"listen {name}", lambda: self.service.listen(entry))
            except Exception as error:
                self._failed(name, error)
            await asyncio.sleep(ASKED)

    async def _ask_again(self) -> None:
        """Whoever is fenced asks with each beat whether it may send now; meanwhile it reads, which harms nobody."""
        while True:
            await self.gate.shut.wait()
            await asyncio.sleep(BEAT)
            try:
                await self.post.stand()
                self.wake(FOLLOW)
                if not await self.steps.is_fenced():
                    self.gate.open()
                    self._hear(None)
            except Exception as error:
                self._failed("fence", error)

    async def _keep_notes(self) -> None:
        while True:
            await asyncio.sleep(NOTED / 4)
            try:
                await self.steps.note()
            except Exception as error:
                self._failed("notes", error)

    def _failed(self, what: str, error: Exception) -> None:
        if not self._is_ending:
            self.told.failed(what, error)


def _pause(first: float, times: int) -> float:
    """Seconds to wait after so many times in a row, twice as long each time."""
    return min(first * 2.0 ** min(times - 1, 12), LONGEST_PAUSE)


async def _end(tasks: Sequence[asyncio.Task[Any]], within: float) -> set[asyncio.Task[Any]]:
    """Cancel these; returns those that have not ended in time."""
    for one in tasks:
        one.cancel()
    if not tasks:
        return set()
    _, hanging = await asyncio.wait(tasks, timeout=within)
    return hanging
