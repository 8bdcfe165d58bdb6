"""The one connection that says a worker is there, and holds what only one worker does at a time.

While it stands, the database is not upgraded under the worker, and nobody else reads the account or holds the standing
connection it has taken. The database lets go of all that by itself when the connection ends, however it ends. Whoever
is frozen, or on a machine that is gone, has a connection that stands and says nothing: whoever wants what it holds has
the database end it.
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
_TAKE = "SELECT pg_try_advisory_lock(hashtextextended(%s, 0))"
_GIVE_BACK = "SELECT pg_advisory_unlock(hashtextextended(%s, 0))"
#: Ends the connection that holds something, if it was silent for so long; waits, for milliseconds, until it has ended.
_END_SILENT = """\
SELECT pg_terminate_backend(other.pid, %s)
FROM pg_locks AS held JOIN pg_stat_activity AS other ON other.pid = held.pid
WHERE held.locktype = 'advisory' AND held.granted AND held.mode = 'ExclusiveLock' AND held.objsubid = 1
AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND (held.classid::bigint << 32) + held.objid::bigint = hashtextextended(%s, 0)
AND other.state = 'idle' AND other.state_change < now() - make_interval(secs => %s)
"""
_ENDS_WITHIN = 2_000
_LOST = "the place is lost"


class _Place:
    """A connection, and what is held over it."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.connection, self.held, self.gone = connection, set[str](), asyncio.Event()


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
        self._place: _Place | None = None
        self._why: Exception = psycopg.OperationalError(_LOST)
        self._here, self._missed = asyncio.Event(), asyncio.Event()
        self._using = asyncio.Lock()

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
            place = _Place(connection)
            await self._beat(place)
        except BaseException:
            await connection.close()
            raise
        self._missed.clear()
        self._place = place
        self._here.set()

    async def stand(self) -> None:
        """Wait until the place is held, as the server says: it may have ended the connection unnoticed."""
        while True:
            await self._here.wait()
            place = self._place
            if place is None:
                continue
            try:
                await self._execute(place, "SELECT 1")
                return
            except (psycopg.Error, OSError) as error:
                await self._leave(place, error)

    async def keep(self, failed: Callable[[Exception], None]) -> None:
        """Keep it for ever; a connection that ended is made again.

        Raises:
            DatabaseError: the database is not what the worker needs any more.
        """
        pause = FIRST_PAUSE
        while True:
            try:
                if self._place is None:
                    await self.open()
                    pause = FIRST_PAUSE
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT):
                        await self._missed.wait()
                if self._place is None:
                    raise self._why
                await self._beat(self._place)
            except (psycopg.Error, DBAPIError, OSError, DatabaseError) as error:
                await self._leave(self._place, error)
                if isinstance(error, DatabaseError) and error.__cause__ is None:
                    raise  # the server answers, and the database is another: not that it cannot be reached just now
                failed(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """Leave the place."""
        if self._place is not None:
            with suppress(psycopg.Error, OSError):
                await self._execute(self._place, "DELETE FROM worker WHERE name = %s", self.name)
        await self._leave(self._place)

    async def alone(self, what: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do something unless another worker does it now; whose place is lost meanwhile stops.

        Returns:
            Whether it was done here, and not left to another.

        Raises:
            psycopg.OperationalError: the place is lost: it was not begun, or was broken off.
        """
        place = self._place
        if place is None:
            raise psycopg.OperationalError(_LOST) from self._why
        if not await self._take(place, what):
            return False
        gone = asyncio.create_task(place.gone.wait())
        working = asyncio.ensure_future(work())
        try:
            await asyncio.wait({gone, working}, return_when=asyncio.FIRST_COMPLETED)
            is_whole = working.done()
        finally:
            gone.cancel()
            working.cancel()
            await asyncio.wait({gone, working})
            await self._give_back(place, what)
        if not working.cancelled():
            working.result()
        if not is_whole:
            raise psycopg.OperationalError(_LOST) from self._why
        return True

    async def _take(self, place: _Place, what: str) -> bool:
        if what in place.held:  # by another task: the database would give it to this connection once more
            return False
        place.held.add(what)
        try:
            is_ours = await self._try(place, what)
            if not is_ours and await self._end_silent(place, what):
                is_ours = await self._try(place, what)
        except (psycopg.Error, OSError, asyncio.CancelledError) as error:
            await self._leave(place, error)  # perhaps it was given
            if isinstance(error, asyncio.CancelledError):
                raise
            raise psycopg.OperationalError(_LOST) from error
        if not is_ours:
            place.held.discard(what)
        return is_ours

    async def _try(self, place: _Place, what: str) -> bool:
        return bool((await self._execute(place, _TAKE, f"crmkit {what}"))[0][0])

    async def _end_silent(self, place: _Place, what: str) -> bool:
        """End the connection of whoever holds something and is silent. Returns whether there was one."""
        try:
            return bool(await self._execute(place, _END_SILENT, _ENDS_WITHIN, f"crmkit {what}", LOST))
        except psycopg.errors.InsufficientPrivilege:  # it is another user's
            return False

    async def _give_back(self, place: _Place, what: str) -> None:
        try:
            if not place.gone.is_set():
                await self._execute(place, _GIVE_BACK, f"crmkit {what}")
        except (psycopg.Error, OSError) as error:
            await self._leave(place, error)  # perhaps it is still held
        finally:
            place.held.discard(what)

    async def _beat(self, place: _Place) -> None:
        told = (self.name, socket.gethostname(), os.getpid(), version("crmkit"), self.concurrency)
        await self._execute(place, _BEAT, *told, sorted(self.doing()), self.fenced())

    async def _execute(self, place: _Place, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        async with self._using, asyncio.timeout(TRIED):
            cursor = await place.connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description is not None else []

    async def _leave(self, place: _Place | None, why: BaseException | None = None) -> None:
        """What was held is not any more."""
        if place is None:
            return
        if place is self._place:
            self._place = None
            if isinstance(why, Exception):
                self._why = why
            self._here.clear()
            self._missed.set()
        place.gone.set()
        with suppress(psycopg.Error, OSError):
            async with asyncio.timeout(TRIED):
                await place.connection.close()
