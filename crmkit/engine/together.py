"""Rows that come one at a time are stored together: whoever brings one waits only until the commit that holds it.

While one transaction commits, the rows that come meanwhile gather for the next: alone a row waits for nobody, and in
a crowd a commit, which is what takes long, is shared.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from sqlalchemy.engine import Connection

from crmkit.core.errors import RetryableError
from crmkit.flow.sync import Run
from crmkit.store.engine import is_out_of_order

T = TypeVar("T")
R = TypeVar("R")

#: Rows one transaction takes.
BATCH = 50
#: Rows that may wait; more are turned away, since they would wait longer than who brings them.
MOST = 5_000
#: Seconds who brings a row waits: a vendor hangs up not much later.
WITHIN = 5.0


class Together(Generic[T, R]):
    """Stores rows in shared transactions.

    Args:
        run: runs a step in a write transaction.
        step: stores rows, and gives a result for each.

    Attributes:
        within: seconds who brings a row waits.
    """

    def __init__(self, run: Run, step: Callable[[Connection, Sequence[T]], Sequence[R]]) -> None:
        self._run, self._step, self.within = run, step, WITHIN
        self._promised: deque[tuple[float, asyncio.Future[R]]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._waiting: deque[tuple[T, asyncio.Future[R]]] = deque()
        self._draining: asyncio.Task[None] | None = None

    async def store(self, row: T) -> R:
        """Store a row; it is committed when this returns. Who no longer waits may find it stored all the same.

        Raises:
            RetryableError: too many wait, or it takes too long.
        """
        if len(self._waiting) >= MOST:
            raise RetryableError("too much comes in at once")
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[R] = loop.create_future()
        self._waiting.append((row, stored))
        self._promised.append((loop.time() + self.within, stored))
        if self._timer is None:
            self._timer = loop.call_later(self.within, self._lapse)
        if self._draining is None or self._draining.done():
            self._draining = asyncio.create_task(self._drain())
        return await stored

    async def close(self) -> None:
        """Wait until what was brought is stored."""
        if self._draining is not None:
            await asyncio.wait([self._draining])
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _lapse(self) -> None:
        """Tell who waited too long. One timer for all: a timer for each costs as much as the rest."""
        loop = asyncio.get_running_loop()
        while self._promised and (self._promised[0][1].done() or self._promised[0][0] <= loop.time()):
            _tell(self._promised.popleft()[1], RetryableError("the database takes too long"))
        self._timer = loop.call_at(self._promised[0][0], self._lapse) if self._promised else None

    async def _drain(self) -> None:
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            await self._store([one for one in some if not one[1].done()])

    async def _store(self, some: Sequence[tuple[T, "asyncio.Future[R]"]]) -> None:
        """Store these; a row that cannot be stored keeps no other from it."""
        if not some:
            return
        try:
            results = await self._run(self._step, [row for row, _ in some])
        except Exception as error:  # each is told
            if len(some) > 1 and not is_out_of_order(error):
                for one in some:
                    await self._store([one])
                return
            for _, stored in some:
                _tell(stored, error)
            return
        for (_, stored), result in zip(some, results, strict=True):
            if not stored.done():
                stored.set_result(result)


def _tell(stored: "asyncio.Future[Any]", error: Exception) -> None:
    if not stored.done():
        stored.set_exception(error)
