"""The one connection that says a worker is there, and holds what only one worker does at a time.

While it stands, the database is not upgraded under the worker, and nobody else reads the account or holds the standing
connection it has taken. The database lets go of all that by itself when the connection ends, however it ends.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError

from crmkit import DatabaseError
from crmkit.engine.steps import PRESENCE
from crmkit_cluster.line import FIRST_PAUSE, LONGEST_PAUSE, TRIED

#: A worker says so often that it is there, in seconds; who did not for so long is lost.
BEAT, LOST = 5.0, 30.0

_BEAT = """\
INSERT INTO worker (name, host, pid, version, concurrency, started_at, beat_at, doing, fenced)
VALUES (%s, %s, %s, %s, %s, now(), now(), %s, %s)
ON CONFLICT (name) DO UPDATE SET beat_at = now(), doing = excluded.doing, fenced = excluded.fenced
"""


class Post:
    """A worker's place.

    Args:
        address, settings: of the connection.
        name: the worker's.
        concurrency: how much it does at once.
        doing: what it does now.
        fenced: why it may not send now; None if it may.
        ready: called whenever the place is taken anew: raises if the database is not what the worker needs.
    """

    def __init__(
        self,
        address: str,
        settings: dict[str, Any],
        *,
        name: str,
        concurrency: int,
        doing: Callable[[], Iterable[str]],
        ready: Callable[[], None],
        fenced: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.address, self.settings, self.name = address, settings, name
        self.concurrency, self.doing, self.ready, self.fenced = concurrency, doing, ready, fenced
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._gone, self._here, self._missed = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._using = asyncio.Lock()
        self._held: set[str] = set()

    async def open(self) -> None:
        """Take the place; waits while an upgrade is under way.

        Raises:
            psycopg.Error: the database cannot be reached.
            DatabaseError: it is not what the worker needs.
        """
        connection = await psycopg.AsyncConnection.connect(self.address, autocommit=True, **self.settings)
        try:
            await connection.execute("SELECT pg_advisory_lock_shared(%s)", (PRESENCE,))
            self.ready()
        except BaseException:
            await connection.close()
            raise
        self._gone, self._held = asyncio.Event(), set()
        self._connection = connection
        await self._beat()
        self._missed.clear()
        self._here.set()

    async def stand(self) -> None:
        """Wait until the place is held, as the server says: it may have ended the connection unnoticed."""
        while True:
            await self._here.wait()
            asked = self._connection
            try:
                await self._execute("SELECT 1", ())
                return
            except (psycopg.Error, OSError):
                if asked is self._connection:  # it is not another by now
                    self._here.clear()
                    self._missed.set()

    async def keep(self, failed: Callable[[Exception], None]) -> None:
        """Keep it for ever; a connection that ended is made again.

        Raises:
            DatabaseError: the database is not what the worker needs any more.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                if self._connection is None:
                    await self.open()
                    pause = FIRST_PAUSE
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._missed.wait(), BEAT)
                self._missed.clear()
                await self._beat()
            except (psycopg.Error, DBAPIError, OSError, DatabaseError) as error:
                await self._drop()
                if isinstance(error, DatabaseError) and error.__cause__ is None:
                    raise  # the server answers, and the database is another: not that it cannot be reached just now
                failed(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """Leave the place."""
        with suppress(psycopg.Error, OSError):
            if self._connection is not None:
                await self._execute("DELETE FROM worker WHERE name = %s", (self.name,))
        await self._drop()

    async def alone(self, what: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do something unless another worker does it now; whose place is lost meanwhile stops.

        Returns:
            Whether it was done here.
        """
        if what in self._held or not await self._take(what):
            return False
        gone = asyncio.create_task(self._gone.wait())
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait({gone, working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            working.cancel()
            await asyncio.wait({gone, working})
            await self._give_back(what)
        if not working.cancelled():
            working.result()
        return True

    async def _take(self, what: str) -> bool:
        with suppress(psycopg.Error, OSError):
            row = await self._execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", (f"crmkit {what}",))
            if row and row[0][0]:
                self._held.add(what)
                return True
        return False

    async def _give_back(self, what: str) -> None:
        if what in self._held:
            self._held.discard(what)
            with suppress(psycopg.Error, OSError):
                await self._execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", (f"crmkit {what}",))

    async def _beat(self) -> None:
        told = (self.name, socket.gethostname(), os.getpid(), version("crmkit"), self.concurrency)
        await self._execute(_BEAT, (*told, sorted(self.doing()), self.fenced()))
        if self._connection is not None and self._connection.closed:
            raise psycopg.OperationalError("the connection is closed")

    async def _execute(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        async with self._using, asyncio.timeout(TRIED):
            if self._connection is None:
                raise psycopg.OperationalError("there is no connection")
            cursor = await self._connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description is not None else []

    async def _drop(self) -> None:
        """What was held is not any more."""
        connection, self._connection = self._connection, None
        self._held = set()
        self._here.clear()
        self._gone.set()
        if connection is not None:
            with suppress(psycopg.Error, OSError):
                async with asyncio.timeout(TRIED):
                    await connection.close()
