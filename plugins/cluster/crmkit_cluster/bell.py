"""Rings for what is to be done, and whichever worker has time answers.

Wake-ups gather while the last ones are put into their queues; none is let go before it is there.
"""

import asyncio
from collections.abc import Callable

from crmkit_cluster import jobs
from crmkit_cluster.jobs import Wake
from crmkit_cluster.line import Connector

#: Wake-ups gather for so long, in seconds, while the last ones are put into their queues.
GATHER = 0.02
#: What could not be put there is tried again after so long.
PAUSE = 1.0


class Bell:
    """Puts wake-ups into their queues.

    Args:
        connector: to the database.
        failed: told why they could not be put there.
    """

    def __init__(self, connector: Connector, failed: Callable[[Exception], None]) -> None:
        self.connector, self.failed = connector, failed
        self._wanted: set[Wake] = set()
        self._wanting, self._calm = asyncio.Event(), asyncio.Event()
        self._calm.set()

    def ring(self, wake: Wake) -> None:
        """Have this done, by whichever worker has time."""
        self._wanted.add(wake)
        self._wanting.set()
        self._calm.clear()

    def ring_soon(self, seconds: float, wake: Wake) -> None:
        """Have this done after so long."""
        asyncio.get_running_loop().call_later(seconds, self.ring, wake)

    async def keep(self) -> None:
        """Put what is rung for into its queue, for ever."""
        while True:
            await self._wanting.wait()
            self._wanting.clear()
            some, self._wanted = self._wanted, set()  # what is rung for from now on is another wake-up
            try:
                await jobs.defer(self.connector.pool, some)
                if not self._wanted:
                    self._calm.set()
            except Exception as error:
                self.failed(error)
                self._wanted |= some
                self._wanting.set()
                await asyncio.sleep(PAUSE)
            await asyncio.sleep(GATHER)

    async def calm(self) -> None:
        """Wait until all is in its queue."""
        await self._calm.wait()
