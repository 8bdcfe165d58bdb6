"""The one connection a worker listens with: for the core's work, and for the jobs of every queue it takes from.

Procrastinate's workers would each listen over a connection of their own, and end when that cannot be had. Here they
share one, which is made again for as long as it takes; what may have been missed meanwhile is looked for then.
"""

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from procrastinate import PsycopgConnector
from psycopg import sql

from crmkit_cluster.schema import CHANNEL

#: A line is tried so often, in seconds: one that does not answer within as long is made again.
TRIED = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 10.0
_ANY = json.dumps({"type": "job_inserted", "job_id": 0})


class Connector(PsycopgConnector):
    """Procrastinate's connection to the database, with the line of all its workers.

    Args:
        address: the database's, as libpq takes it.
        settings: what each connection is made with.
        connections: so many at once.
    """

    def __init__(self, address: str, settings: dict[str, Any], connections: int) -> None:
        super().__init__(
            conninfo=address,
            kwargs=settings,
            min_size=1,
            max_size=connections,
            timeout=TRIED,
            reconnect_timeout=LONGEST_PAUSE,
        )
        self._address, self._settings = address, settings
        self._workers: dict[object, tuple[frozenset[str], Any]] = {}

    async def listen_notify(self, on_notification: Any, channels: Iterable[str]) -> None:
        """A worker wants to hear of jobs; until it is cancelled."""
        key = object()
        self._workers[key] = (frozenset(channels), on_notification)
        try:
            await asyncio.Event().wait()
        finally:
            del self._workers[key]

    async def listen(
        self, channels: Iterable[str], hear: Callable[[str | None], None], failed: Callable[[Exception], None]
    ) -> None:
        """Listen for ever.

        Args:
            channels: of all queues.
            hear: told what work there is; None: anything may have been missed.
            failed: told why the line broke.
        """
        pause, names = FIRST_PAUSE, [CHANNEL, *channels]
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._address, autocommit=True, **self._settings
                ) as connection:
                    for name in names:
                        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
                    hear(None)
                    for mine, tell in list(self._workers.values()):
                        await tell(channel=next(iter(mine)), payload=_ANY)
                    pause = FIRST_PAUSE
                    while True:
                        async for said in connection.notifies(timeout=TRIED):
                            if said.channel == CHANNEL:
                                hear(said.payload)
                                continue
                            for mine, tell in list(self._workers.values()):
                                if said.channel in mine:
                                    await tell(channel=said.channel, payload=said.payload)
                        async with asyncio.timeout(TRIED):
                            await connection.execute("SELECT 1")
            except (psycopg.Error, OSError) as error:  # TimeoutError is an OSError
                failed(error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
