"""The long-running service: sync and dispatch in turn, with standing connections beside them, until it is stopped.

News, from a connection or from the door, is answered at once: what waits is taken in, what it hints at is read again,
and what is due then is sent. The rounds, which read every stream, keep their own time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Protocol

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.stream import Page
from crmkit.core.account import Shop
from crmkit.engine.inward import ShopRun
from crmkit.engine.local import DispatchRun, Local
from crmkit.engine.pruning import Pruning
from crmkit.engine.until import run_until
from crmkit.flow.ingest import Tally, ingest
from crmkit.flow.setup import Entry
from crmkit.flow.sync import guarded
from crmkit.host.opening import ShopEntry

#: A standing connection that broke is made again after so long, doubling up to the longest.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=5)
#: News is answered at once, and what comes within so long after that, together.
GAP = timedelta(seconds=1)
#: Whether there is something to let go is looked at so often; it is done once a day.
PRUNED = timedelta(minutes=30)


class Told(Protocol):
    """Hears what the service did."""

    def synced(self, runs: list[ShopRun]) -> None:
        """A sync ended."""

    def dispatched(self, run: DispatchRun) -> None:
        """A dispatch ended."""

    def heard(self, account: str, tally: Tally) -> None:
        """Something came in over a standing connection."""

    def failed(self, what: str, error: Exception) -> None:
        """A step or a connection failed; it is tried again."""


class Service:
    """Drives an installation for ever.

    Args:
        local: the steps.
        every: how long after a round ended the next begins.
        told: hears what was done.
        clock: the time; the wall clock by default.
    """

    def __init__(
        self,
        local: Local,
        every: timedelta,
        told: Told,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.local, self.every, self.told, self.clock = local, every, told, clock
        self._news = local.doors.news  # what is heard over a connection is news as what comes to the door is

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until `stop` is set; what is in flight then may end.

        Raises:
            DatabaseError: the database is of another version, or cannot be used.
        """
        self.local.prepare()
        await run_until(stop, [self._rounds(), self._prune(), *(self.listen(entry) for entry in self._listening())])

    async def _rounds(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._round("round", self.local.sync)
            ended = loop.time()
            while (left := ended + self.every.total_seconds() - loop.time()) > 0 and await self._hears(left):
                await self._round("news", self.local.follow)
                await asyncio.sleep(GAP.total_seconds())

    async def _prune(self) -> None:
        """Let go what is old, once a day; a database that is fenced keeps what it has until it is adopted."""
        while True:
            await asyncio.sleep(PRUNED.total_seconds())
            try:
                if not await self.local.is_fenced():
                    await Pruning(self.local.host, self.local.store).run(self.clock(), is_asked=False)
            except Exception as error:  # the service goes on
                self.told.failed("prune", error)

    async def _round(self, what: str, read: Callable[[], Awaitable[list[ShopRun]]]) -> None:
        """Read, and dispatch what came of it."""
        self._news.clear()
        try:
            self.told.synced(await read())
            self.told.dispatched(await self.local.dispatch())
        except Exception as error:  # a plugin's code or data may be the cause, and the service goes on
            self.told.failed(what, error)

    async def _hears(self, within: float) -> bool:
        """Whether there is news within so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    # standing connections

    def _listening(self) -> list[ShopEntry | Entry]:
        named = self.local.accounts.named().values()
        return [entry for entry in named if entry.adapter.listen is not Adapter.listen]

    async def listen(self, entry: ShopEntry | Entry) -> None:
        """Hold an account's standing connection, for ever, and take in what it says."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with self.local.accounts.open(entry, self.local.store.run, self.clock()) as (adapter, shop):
                    async with aclosing(adapter.listen()) as pages:  # type: ignore[type-var]
                        while (page := await self._next(pages, entry.name)) is not None:
                            self.told.heard(entry.name, await self._take(shop, page))
                            pause = FIRST_PAUSE
            except Exception as error:  # a plugin's code or data may be the cause, and the others are heard
                self.told.failed(entry.name, error)
            await asyncio.sleep(pause.total_seconds())
            pause = min(2 * pause, LONGEST_PAUSE)

    @staticmethod
    async def _next(pages: AsyncIterator[Page], name: str) -> Page | None:
        return await guarded(anext(pages, None), who=name, operation="listen")

    async def _take(self, shop: Shop, page: Page) -> Tally:
        listened = self.local.accounts.listened()
        tally: Tally = await self.local.store.run(
            ingest, shop, page, stream="listen", listened=listened, now=self.clock(), stood=None
        )
        self._news.set()
        return tally
