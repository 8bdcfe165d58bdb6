"""The steps one at a time, for an engine that is woken for each: decide, deliver over a gateway, follow, tick.

What wakes it may be lost or come twice: a step does what is due by then, whoever else does so at the same time, and
nothing where nothing is.
"""

import time
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Connection

from crmkit.adapters.adapter import Adapter
from crmkit.core.errors import CrmkitError, DatabaseError
from crmkit.core.instance import Fenced
from crmkit.engine.due import decide_next, gateways_due
from crmkit.engine.local import DECIDE, DispatchRun, Local, run_counts
from crmkit.engine.pruning import Pruning
from crmkit.engine.service import Told
from crmkit.flow import schedule, silence
from crmkit.flow.claim import sweep
from crmkit.flow.deliver import CLAIM
from crmkit.flow.setup import Setup
from crmkit.store import accounts, contacts, inbox, outbox, presence
from crmkit.store.standing import Standing, standing

#: The number of the lock that all who are at work hold together, and whoever upgrades the database holds alone.
PRESENCE = presence.NUMBER
#: One of several is woken where a step has as much to do as this before it.
SHARED = 100
#: What was decided is noted as a run so often, in seconds: a row for each wake-up would be many.
NOTED = 10.0
#: What is due within so many seconds is waited for: the clock of whoever made it may be ahead of ours.
SOON = 1.0


@dataclass(frozen=True, slots=True)
class Due:
    """What there is to do: decisions, webhooks or what they hint at, and messages by gateway.

    Attributes:
        gateways: those with messages that may leave, or that may be asked about some.
        lapsed: leases of processes that ended: (due again, in doubt).
    """

    decide: bool
    follow: bool
    gateways: tuple[str, ...]
    lapsed: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class _Noted:
    """What was done since it was last noted."""

    began: datetime | None = None
    decided: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    delivered: Counter[str] = field(default_factory=Counter)
    failed: bool = False
    at: float = 0.0


class Steps:
    """Drives an installation's steps one at a time, on the wall clock.

    Args:
        local: the steps.
        told: hears what was done.
        clock: the time.

    Attributes:
        fenced: why this database might not send when it was last asked.
    """

    def __init__(self, local: Local, told: Told, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.local, self.told, self.clock = local, told, clock
        self.fenced: Fenced | None = None
        self._down: dict[str, CrmkitError] = {}
        self._noted = _Noted()

    @property
    def shops(self) -> list[str]:
        """Accounts there is something to read of."""
        return list(self.local.accounts.readable())

    @property
    def gateways(self) -> list[str]:
        """Gateways that are switched on."""
        return [entry.name for entries in self.local.host.channels.values() for entry in entries]

    @property
    def listening(self) -> list[str]:
        """Accounts whose adapter holds a connection open."""
        named = self.local.accounts.named()
        return [name for name, entry in named.items() if entry.adapter.listen is not Adapter.listen]

    def prepare(self) -> None:
        """Refuse a database of another version.

        Raises:
            DatabaseError: it is not of this program's version.
        """
        if self.local.store.file is not None:
            what = f"{self.local.store.where} is a file, and several machines cannot share it"
            do = 'use `crmkit run`, or [crm] database = "postgresql://..."'
            raise DatabaseError(what, who="cluster", do=do)
        self.local.prepare()

    # the steps

    async def sync(self, account: str) -> None:
        """Read one account."""
        self.told.synced(await self.local.sync([account]))

    async def follow(self) -> None:
        """Take in webhooks that wait, and read again what they hinted at."""
        self.told.synced(await self.local.follow())

    async def decide(self, more: Callable[[], None]) -> bool:
        """Decide what is due, until nothing is left.

        Args:
            more: called when there is so much that another worker may help.

        Returns:
            Whether something is due all the same, or soon: another worker held its customer, and may have ended since.
        """
        if await self.is_fenced():
            return False
        setup, result, before = await self.local.store.run(self.local.setup), DispatchRun(), 0

        def progress(decided: int, _: int) -> None:
            nonlocal before
            if decided - before >= min(SHARED, DECIDE):
                more()
            before = decided

        try:
            await self.local.decide(setup, result, self.clock, progress)
        finally:
            self._note(result)
        left: bool = await self.local.store.run(_is_due, setup, self.clock() + timedelta(seconds=SOON))
        return left

    async def deliver(self, gateway: str, more: Callable[[], None]) -> bool:
        """Deliver what is due over one gateway, until nothing is left.

        Args:
            more: called when there is so much that another worker may help.

        Returns:
            Whether something will be due soon.
        """
        store = self.local.store
        if await self.is_fenced():
            return False
        setup: Setup = await store.run(self.local.setup)
        if await store.run(_has_many, gateway, self.clock()):
            more()
        result = DispatchRun()
        gateways = self.local.gateways(setup, self.clock())
        try:
            async with AsyncExitStack() as closing:
                closing.push_async_callback(gateways.close, result.delivered)
                while await self.local.deliver_over(gateway, setup, gateways, result, self.clock, None):
                    pass
        finally:
            self._note(result)
            self._down.pop(gateway, None)
            self._down.update(result.delivered.stopped)
            result.delivered.stopped.update(self._down)
            self.told.dispatched(result)
        soon: bool = await store.run(_is_soon, gateway, self.clock())
        return soon and gateway not in result.delivered.stopped

    async def tick(self) -> Due:
        """Put in order what a run begins with, and say what there is to do: the net below every wake-up."""
        store, now = self.local.store, self.clock()
        setup: Setup = await store.run(self.local.setup)
        if await self.is_fenced():
            nothing: Due = await store.run(_due, setup, now, (0, 0))
            return Due(decide=False, follow=nothing.follow, gateways=())
        await store.run(schedule.keep, setup, now)
        await store.run(silence.look, setup, now)
        lapsed = await store.run(sweep, setup, now, now)
        await store.run(contacts.erase_old, now)
        await self.local.expire(now=now)
        found: Due = await store.run(_due, setup, now, lapsed)
        return found

    async def prune(self) -> None:
        """Let go what is old, if nobody did within the day."""
        await Pruning(self.local.host, self.local.store).run(self.clock(), is_asked=False)

    async def note(self, *, at_once: bool = False) -> None:
        """Note what was done as a run, if it is time: metrics count decisions by runs."""
        noted = self._noted
        if noted.began is None or not (at_once or time.monotonic() - noted.at >= NOTED):
            return
        self._noted = _Noted(at=time.monotonic())
        await self.local.store.run(_write, noted, self.clock())

    async def standing(self) -> Standing:
        """How it stands."""
        found: Standing = await self.local.store.run(standing, self.clock())
        return found

    async def is_fenced(self) -> bool:
        """Whether this database may not send, which is told; what comes in is taken in all the same."""
        self.fenced = await self.local.store.run(self.local.fence.enter, self.clock())
        if self.fenced is not None:
            self.told.dispatched(DispatchRun(fenced=self.fenced))
        return self.fenced is not None

    async def enter(self) -> None:
        """Refuse a database that may not send.

        Raises:
            DatabaseError: it may not; its text says why, and what to do.
        """
        fenced: Fenced | None = await self.local.store.run(self.local.fence.enter, self.clock())
        if fenced is not None:
            raise DatabaseError(f"it may not send: {fenced.what}", who="database", do=fenced.do)

    def _note(self, result: DispatchRun) -> None:
        noted = self._noted
        unwell = bool(result.delivered.stopped or result.decided.failures)
        if not (result.decided.interactions or result.delivered.states or unwell):
            return
        noted.began = noted.began or self.clock()
        noted.decided += result.decided.interactions
        noted.messages.update(result.decided.messages)
        noted.delivered.update(result.delivered.states)
        noted.failed = noted.failed or unwell


def _write(tx: Connection, noted: _Noted, now: datetime) -> None:
    assert noted.began is not None
    number = accounts.begin_run(tx, "dispatch", noted.began)
    counts = run_counts(noted.decided, noted.messages, noted.delivered)
    accounts.end_run(tx, number, "failed" if noted.failed else "done", counts, now)


def _has_many(tx: Connection, gateway: str, now: datetime) -> bool:
    return outbox.has_more_due(tx, gateway, now, min(SHARED, CLAIM))


def _is_soon(tx: Connection, gateway: str, now: datetime) -> bool:
    """Whether a message of a gateway is due soon that was not yet; what was due and stays so waits for a wake-up."""
    return not outbox.is_due(tx, gateway, now) and outbox.is_due(tx, gateway, now + timedelta(seconds=SOON))


def _is_due(tx: Connection, setup: Setup, now: datetime) -> bool:
    first = decide_next(tx, setup)
    return first is not None and first <= now


def _due(tx: Connection, setup: Setup, now: datetime, lapsed: tuple[int, int]) -> Due:
    return Due(
        decide=_is_due(tx, setup, now),
        follow=bool(inbox.accounts_waiting(tx) or inbox.accounts_hinted(tx)),
        gateways=tuple(gateways_due(tx, setup, now)),
        lapsed=lapsed,
    )
