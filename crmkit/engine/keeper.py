"""What an open door needs beside it: what was kept is taken in, strangers are noted, and old bodies are let go."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from crmkit.engine.local import Local
from crmkit.engine.service import Told
from crmkit.engine.until import run_until

#: How often strangers are noted, and bodies let go.
NOTED, EXPIRED = timedelta(seconds=10), timedelta(hours=1)
#: What comes at once is taken in together: when it was calm for so long, and at the latest after so long.
CALM, LATEST = timedelta(milliseconds=200), timedelta(seconds=5)
#: Looked for without news too: another process may have kept it, or the last time went wrong.
SWEEP = timedelta(seconds=60)


class Keeper:
    """Keeps house behind the doors.

    Args:
        local: the installation.
        told: hears what was done.
        takes_in: whether it takes webhooks in. A service that runs beside it does so too, whenever it comes to it: what
            a webhook says does not wait for vendors to answer, and two may take in.
    """

    def __init__(self, local: Local, told: Told, *, takes_in: bool = True) -> None:
        self.local, self.told, self.takes_in = local, told, takes_in
        self._tried = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Go on until `stop` is set; a transaction that is under way then may end."""
        doors = self.local.doors
        working = [
            self._every(NOTED, "strangers", doors.note_strangers),
            self._every(EXPIRED, "bodies", self._expire),
            self._every(SWEEP, "doors", doors.remind),
        ]
        if self.takes_in:
            working.append(self._take_in())
        await run_until(stop, working)

    async def _every(self, pause: timedelta, what: str, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except Exception as error:  # a plugin's code or data may be the cause, and the door stays open
                self.told.failed(what, error)
            await asyncio.sleep(pause.total_seconds())

    async def _expire(self) -> None:
        if self.takes_in:  # what could not be read while nothing ran is read before it is old
            await self._tried.wait()
        await self.local.expire()

    async def _take_in(self) -> None:
        while True:
            try:
                runs = await self.local.take_in()
                self.told.synced(runs)
                if any(run.webhooks for run in runs):
                    self.local.doors.news.set()  # whoever reads hints, and dispatches, looks once they are stored
            except Exception as error:  # a plugin's code or data may be the cause, and the door stays open
                self.told.failed("inbox", error)
            else:
                self._tried.set()
            await self._calm()

    async def _calm(self) -> None:
        """Wait for webhooks, and until no more come for a moment: what takes in, and who calls, share a process."""
        kept, loop = self.local.doors.kept, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SWEEP.total_seconds()):  # `wait_for` of Python 3.11 may lose a cancellation
                await kept.wait()
        except TimeoutError:
            return
        latest = loop.time() + LATEST.total_seconds()
        while kept.is_set() and loop.time() < latest:
            kept.clear()
            await asyncio.sleep(CALM.total_seconds())
        kept.clear()
