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

from procrastinate import App

from crmkit.engine.local import Local
from crmkit.engine.service import Service, Told
from crmkit.engine.steps import NOTED, SOON, Steps
from crmkit.engine.until import run_until
from crmkit_cluster import jobs, schema
from crmkit_cluster.address import conninfo, own_name, settings
from crmkit_cluster.jobs import Wake
from crmkit_cluster.line import Connector
from crmkit_cluster.post import BEAT, LOST, Post

#: When a worker is told to end, what is in flight has so long for it, in seconds: a try at a gateway, a transaction.
GRACE = 40.0
#: Wake-ups gather for so long, in seconds, while the last ones are put into their queues.
GATHER = 0.02
#: Looked for without being told, in seconds: a job whose notification was lost.
POLL = 15.0
#: What failed is tried again after so long, doubling up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
#: Who does not hold an account's standing connection asks so often whether it is free, in seconds.
ASKED = 15.0
#: What ended otherwise than well is kept to be looked at for so long, in seconds.
KEPT = 7 * 24 * 3600.0
#: Connections at once, beside the line, the post and those of the steps.
CONNECTIONS = 4

DECIDE, FOLLOW, TICK = Wake("decide"), Wake("follow"), Wake("tick")


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
        self._wanted: set[Wake] = set()
        self._wanting, self._calm = asyncio.Event(), asyncio.Event()
        self._calm.set()
        self._sends, self._fenced = asyncio.Event(), asyncio.Event()
        self._sends.set()
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
        await self.post.open()
        try:
            await self.steps.enter()
        except BaseException:
            await self.post.close()
            raise
        queues = self._queues()
        listening = self.connector.listen(
            [f"procrastinate_queue_v1#{queue}" for some, _ in queues for queue in some],
            self._hear,
            lambda error: self._failed("line", error),
        )
        house = [self.post.keep(lambda error: self._failed("post", error)), listening, self._wake(), self._keep_notes()]
        house.append(self._ask_again())
        plain, keeping = self._app(), self._app(keeps_time=True)
        work = [self._work(keeping if FOLLOW.queue in some else plain, some, count) for some, count in queues]
        work += [self._hold(name) for name in self.steps.listening]
        try:
            async with plain.open_async():
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
                    await self._calm.wait()
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
        self._wanted.add(wake)
        self._wanting.set()
        self._calm.clear()

    def _hear(self, said: str | None) -> None:
        """There is work; None: there may be some of any kind."""
        if said is not None:
            self.wake(Wake.of(said))
            return
        for one in (DECIDE, FOLLOW, *(Wake("deliver", name) for name in self.steps.gateways)):
            self.wake(one)

    async def _wake(self) -> None:
        while True:
            await self._wanting.wait()
            self._wanting.clear()
            some = set(self._wanted)
            try:
                await jobs.defer(self.connector.pool, some)
                self._wanted -= some
                if not self._wanted:
                    self._calm.set()
            except Exception as error:
                self._failed("queue", error)
                self._wanting.set()
                await asyncio.sleep(FIRST_PAUSE)
            await asyncio.sleep(GATHER)

    # taking jobs

    def _queues(self) -> list[tuple[list[str], int]]:
        """Which queues share a taker, and how many jobs each takes at once."""
        gateways = [Wake("deliver", name).queue for name in self.steps.gateways]
        return [
            ([FOLLOW.queue], 1),
            ([TICK.queue], 2),  # one of them may let old things go, which takes its time
            ([DECIDE.queue], 1),
            *(([queue], 1) for queue in gateways),
            ([Wake("sync", "any").queue], self.concurrency),
        ]

    def _app(self, *, keeps_time: bool = False) -> App:
        app = App(connector=self.connector)
        tasks = {
            name: app.task(name=name, queue=name)(self._job) for name in ("decide", "follow", "tick", "deliver", "sync")
        }
        if keeps_time:
            app.periodic(cron="* * * * *", queueing_lock=str(TICK), task_kwargs={"wake": str(TICK)})(tasks["tick"])
            for name in self.steps.shops:
                wake = Wake("sync", name)
                app.periodic(
                    cron=cron_of(self.every),
                    periodic_id=name[:100],
                    queueing_lock=str(wake),
                    task_kwargs={"wake": str(wake)},
                )(tasks["sync"])
        return app

    async def _work(self, app: App, queues: list[str], count: int) -> None:
        pause = FIRST_PAUSE
        sends = not {FOLLOW.queue, Wake("sync", "any").queue} & set(queues)
        while True:
            if sends:
                await self._sends.wait()
            began = asyncio.get_running_loop().time()
            try:
                taking = app.run_worker_async(
                    queues=queues,
                    name=", ".join(queues),
                    concurrency=count,
                    fetch_job_polling_interval=POLL,
                    abort_job_polling_interval=POLL,
                    shutdown_graceful_timeout=0.0,
                    delete_jobs="successful",
                    install_signal_handlers=False,
                    update_heartbeat_interval=LOST / 3,
                    stalled_worker_timeout=LOST,
                )
                await (run_until(self._fenced, [taking]) if sends else taking)
            except Exception as error:
                self._failed("queue", error)
            if sends and self._fenced.is_set():
                continue
            if asyncio.get_running_loop().time() - began > LOST:
                pause = FIRST_PAUSE
            await asyncio.sleep(pause)
            pause = min(2 * pause, LOST)

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
                self._stop_sending()
                self.wake(what)  # whoever may send takes it
        except asyncio.CancelledError:
            self.wake(what)  # what is left of it is another worker's
            raise
        except Exception as error:  # a plugin's code or data may be the cause, or the database: the worker goes on
            self._failed(wake, error)
            self._failures[what] += 1
            pause = min(FIRST_PAUSE * 2 ** min(self._failures[what] - 1, 12), LONGEST_PAUSE)
            asyncio.get_running_loop().call_later(pause, self.wake, what)
        finally:
            self.doing -= Counter([wake])

    async def _take(self, wake: Wake) -> None:
        match wake.task:
            case "decide":
                await self._decide()
            case "deliver":
                if await self.steps.deliver(wake.name, lambda: self.wake(wake)):
                    asyncio.get_running_loop().call_later(SOON, self.wake, wake)
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
            pause = min(FIRST_PAUSE / 10 * 2 ** min(self._left - 1, 12), LONGEST_PAUSE)
            asyncio.get_running_loop().call_later(pause, self.wake, DECIDE)

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
        await jobs.forget(self.connector.pool, 2 * LOST, KEPT)
        if self.steps.fenced is None:  # what is to be adopted keeps what it has
            await self.steps.prune()

    # the rest

    async def _hold(self, name: str) -> None:
        """Hold the standing connection of an account, unless another worker does."""
        entry = self.local.accounts.named()[name]
        while True:
            try:
                await self.post.alone(f"listen {name}", lambda: self.service.listen(entry))
            except Exception as error:
                self._failed(name, error)
            await asyncio.sleep(ASKED)

    def _stop_sending(self) -> None:
        self._sends.clear()
        self._fenced.set()

    async def _ask_again(self) -> None:
        """Whoever is fenced asks with each beat whether it may send now; meanwhile it reads, which harms nobody."""
        while True:
            await self._fenced.wait()
            await asyncio.sleep(BEAT)
            try:
                await self.post.stand()
                self.wake(FOLLOW)
                if not await self.steps.is_fenced():
                    self._fenced.clear()
                    self._sends.set()
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


async def _end(tasks: Sequence[asyncio.Task[Any]], within: float) -> set[asyncio.Task[Any]]:
    """Cancel these; returns those that have not ended in time."""
    for one in tasks:
        one.cancel()
    if not tasks:
        return set()
    _, hanging = await asyncio.wait(tasks, timeout=within)
    return hanging


def cron_of(every: timedelta) -> str:
    """A span of time as a schedule that is the same on every machine.

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
