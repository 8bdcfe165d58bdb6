"""An exclusive gateway (a modem, a bound session) is used by one process at a time: who holds the lease on its quota
row, renewed while it is open. A holder that died loses it when the lease lapses.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from crmkit.flow.sync import Run
from crmkit.store import quotas

#: A lease lapses after this long, and is renewed this often, in seconds.
LEASE, RENEW = timedelta(minutes=1), 20.0


def take(tx: Connection, name: str, holder: str, now: datetime) -> str | None:
    """Take the lease on a gateway, or renew it. Returns who else holds it, None if it is ours."""
    quota = quotas.lock(tx, name)
    other = quota.leased_by
    if other is not None and other != holder and quota.lease_until is not None and quota.lease_until > now:
        return other
    quota.leased_by, quota.lease_until = holder, now + LEASE
    quotas.save(tx, quota)
    return None


def let_go(tx: Connection, name: str, holder: str) -> None:
    """Give the lease up, if it is still ours."""
    quota = quotas.lock(tx, name)
    if quota.leased_by == holder:
        quota.leased_by = quota.lease_until = None
        quotas.save(tx, quota)


class Hold:
    """A lease that is renewed until it is released.

    What is marked under it is marked only while it holds, so losing it needs no telling.
    """

    def __init__(self, run: Run, name: str, holder: str, clock: Callable[[], datetime]) -> None:
        self.run, self.name, self.holder, self.clock = run, name, holder, clock
        self.renewing: asyncio.Task[None] | None = None

    async def take(self) -> str | None:
        """Take the lease. Returns who else holds it, None if it is ours now."""
        other: str | None = await self.run(take, self.name, self.holder, self.clock())
        if other is None and self.renewing is None:
            self.renewing = asyncio.create_task(self._renew())
        return other

    async def release(self) -> None:
        """Give it up."""
        if self.renewing is not None:
            self.renewing.cancel()
            with suppress(asyncio.CancelledError):
                await self.renewing
            self.renewing = None
            await self.run(let_go, self.name, self.holder)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW)
            if await self.run(take, self.name, self.holder, self.clock()) is not None:
                return
