"""An exclusive gateway (a modem, a bound session) is used by one process at a time: who holds the lease on its quota
row, renewed while it is open. A holder that died loses it when the lease lapses.

Leases are about real processes, so they go by the wall clock, also where a run is simulated.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from crmkit.core.errors import CrmkitError
from crmkit.core.quota import HOLD_MOST
from crmkit.flow.sync import Run
from crmkit.store import quotas

#: A lease lapses after this long, and is renewed this often, in seconds; sooner where that has just failed.
LEASE, RENEW, AGAIN = HOLD_MOST, 20.0, 2.0


def take(tx: Connection, name: str, holder: str, now: datetime) -> str | None:
    """Take the lease on a gateway, or renew it. Returns who else holds it, None if it is ours."""
    quota = quotas.lock(tx, name)
    other = quota.held_by(now)
    if other is not None and other != holder:
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


def lost(tx: Connection, name: str, holder: str, now: datetime) -> str | None:
    """Why we may not use a gateway any more; None: the lease is still ours."""
    other = quotas.read(tx, name).held_by(now)
    if other == holder:
        return None
    return "could not keep it to itself: its lease lapsed" if other is None else f"busy elsewhere: {other} uses it"


class Hold:
    """A lease that is renewed until it is released.

    What is marked under it is marked only while it holds.

    Args:
        clock: the wall clock.
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
            await asyncio.wait([self.renewing])
            self.renewing = None
            await self.run(let_go, self.name, self.holder)

    async def lost(self) -> str | None:
        """Why we may not use the gateway any more; None: the lease is still ours."""
        why: str | None = await self.run(lost, self.name, self.holder, self.clock())
        return why

    async def _renew(self) -> None:
        """Renew it until somebody else has it; a database that fails is asked again."""
        wait = RENEW
        while True:
            await asyncio.sleep(wait)
            try:
                if await self.run(take, self.name, self.holder, self.clock()) is not None:
                    return
                wait = RENEW
            except (DBAPIError, CrmkitError):
                wait = min(RENEW, AGAIN)
