"""The local engine: sync, decide and deliver in one process.

The only room below the command line that reads the wall clock; every step is given its `now`. With a clock of its own
(`now=...`) a run is a simulation: it steps from due time to due time, and each step sees the world as it was then.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.core.errors import AuthError, CrmkitError
from crmkit.core.instance import Fenced
from crmkit.engine.accounts import setup_of
from crmkit.engine.due import due_next, gateways_due
from crmkit.engine.fence import Fence
from crmkit.engine.gateways import Gateways
from crmkit.engine.inward import Inward, ShopRun
from crmkit.engine.pace import LONGEST, Pace
from crmkit.engine.plan import Plan
from crmkit.engine.simulated import simulated
from crmkit.engine.sliced import planned
from crmkit.flow import pause, schedule, silence
from crmkit.flow.claim import sweep, trip, turned_away
from crmkit.flow.decide import Decided, decide
from crmkit.flow.deliver import Delivered, deliver
from crmkit.flow.look_up import Fresh
from crmkit.flow.setup import Setup
from crmkit.host.host import Host
from crmkit.store import accounts, migrate, outbox
from crmkit.store.choice import ALL, Choice
from crmkit.store.engine import Store

#: Interactions one decide transaction takes, and at the least where they take long.
DECIDE, SMALLEST = 500, 20

#: Told as a dispatch goes on: interactions decided and messages handed over so far.
DispatchProgress = Callable[[int, int], None]


@dataclass(slots=True)
class DispatchRun:
    """What a dispatch did.

    Attributes:
        taken: webhooks that were taken in first, by account.
        lapsed: leases of a process that ended: (due again, in doubt).
        retrying: messages that wait for another try.
        fenced: why this database may not send: only webhooks were taken in.
    """

    decided: Decided = field(default_factory=Decided)
    delivered: Delivered = field(default_factory=Delivered)
    taken: list[ShopRun] = field(default_factory=list)
    lapsed: tuple[int, int] = (0, 0)
    retrying: int = 0
    fenced: Fenced | None = None

    @property
    def outcome(self) -> str:
        """How it ended."""
        return "failed" if self.delivered.stopped or self.decided.failures or self.retrying else "done"

    @property
    def counts(self) -> dict[str, Any]:
        """What is kept of it with its run."""
        return run_counts(self.decided.interactions, self.decided.messages, self.delivered.states)

    def tell(self, progress: DispatchProgress | None) -> None:
        """Say how far it is."""
        if progress is not None:
            progress(self.decided.interactions, sum(self.delivered.states.values()))


def run_counts(decided: int, messages: Mapping[str, int], delivered: Mapping[str, int]) -> dict[str, Any]:
    """What is kept of a dispatch with its run: interactions decided, messages by state, and those handed over."""
    return {"decided": decided, "messages": dict(messages), "delivered": dict(delivered)}


class Local(Inward):
    """Drives a configuration's steps on its database.

    Args:
        host: the configuration with its plugins.
        store: the open database; the caller closes it.

    Attributes:
        fence: says whether this database may send; whoever hands messages over asks `fence.enter` first.
    """

    def __init__(self, host: Host, store: Store) -> None:
        super().__init__(host, store)
        self.fence = Fence(host, store)

    def prepare(self) -> None:
        """Create the database if there is none, and name it; refuse one of another version.

        Raises:
            DatabaseError: it cannot be written, or is of another version.
        """
        is_new = migrate.is_empty(self.store)
        super().prepare()
        if is_new:
            with self.store.begin() as tx:
                self.fence.name(tx, datetime.now(UTC))

    async def is_fenced(self) -> bool:
        """Whether this database may not send, as things stand."""
        return self.fence.standing().fenced is not None

    # dispatch

    def gateways(self, setup: Setup, now: datetime) -> Gateways:
        """The gateways of one run."""
        return Gateways(self.accounts, setup, self.store.run, now)

    def setup(self, tx: Connection) -> Setup:
        """What the steps are set up with, for the shops this database knows."""
        return setup_of(self.host, tx)

    async def dispatch(self, *, now: datetime | None = None, progress: DispatchProgress | None = None) -> DispatchRun:
        """Decide and deliver everything that is due.

        Args:
            now: simulate: step from due time to due time up to this moment. The wall clock where None.
            progress: told after every step.
        """
        self.prepare()
        result = DispatchRun()
        began = now or datetime.now(UTC)
        result.fenced = await self.store.run(self.fence.enter, datetime.now(UTC))
        if result.fenced is not None:
            # What comes in harms nobody. What would be decided now is judged by what adopting finds, so it waits.
            result.taken = await self.take_in(now=began)
            return result
        setup = await self.store.run(self.setup)
        number = await self.store.run(accounts.begin_run, "dispatch", began)
        outcome = "interrupted"
        gateways = Gateways(self.accounts, setup, self.store.run, began)
        try:
            async with AsyncExitStack() as closing:
                closing.push_async_callback(gateways.close, result.delivered)
                await self.store.run(schedule.keep, setup, began)
                await self.store.run(silence.look, setup, began)
                result.taken = await self.take_in(now=began)
                result.lapsed = await self.store.run(sweep, setup, began, datetime.now(UTC))
                if now is None:
                    await self._dispatch_now(setup, gateways, result, lambda: datetime.now(UTC), progress)
                else:
                    gateways.fresh = Fresh(now)
                    await self._simulate(setup, gateways, result, now, progress)
            result.retrying = await self.store.run(outbox.retrying)
            outcome = result.outcome
        finally:
            await self.store.run(accounts.end_run, number, outcome, result.counts, now or datetime.now(UTC))
        return result

    async def _dispatch_now(
        self,
        setup: Setup,
        gateways: Gateways,
        result: DispatchRun,
        clock: Callable[[], datetime],
        progress: DispatchProgress | None,
    ) -> None:
        """Decide and deliver what is due by this clock, until neither finds anything."""
        while True:
            await self.decide(setup, result, clock, progress)
            if not await self.hand_over(setup, gateways, result, clock, progress):
                return

    async def hand_over(
        self,
        setup: Setup,
        gateways: Gateways,
        result: DispatchRun,
        clock: Callable[[], datetime],
        progress: DispatchProgress | None,
        only: Collection[int] | None = None,
    ) -> int:
        """Deliver what is due over each gateway; of these messages, where that is said. Returns how many moved."""
        due = await self.store.run(gateways_due, setup, clock(), only)
        handing = (self.deliver_over(name, setup, gateways, result, clock, progress, only) for name in due)
        lanes = [asyncio.create_task(one) for one in handing]
        try:
            return sum(await asyncio.gather(*lanes))
        except BaseException:  # each lane ends in its own time: what is in flight is recorded
            for lane in lanes:
                lane.cancel()
            if lanes:
                await asyncio.wait(lanes)
            raise

    async def decide(
        self,
        setup: Setup,
        result: DispatchRun,
        clock: Callable[[], datetime],
        progress: DispatchProgress | None,
    ) -> None:
        """Decide until nothing is left; a transaction that took long is followed by a smaller one."""
        pace = Pace(DECIDE, SMALLEST, DECIDE, LONGEST)
        while True:
            began = time.monotonic()
            step = await self.store.run(decide, setup, clock(), pace.size, time.perf_counter)
            step.rows.clear()
            result.decided.add(step)
            result.tell(progress)
            if step.interactions == 0:
                return
            pace.note(time.monotonic() - began)

    async def deliver_over(
        self,
        name: str,
        setup: Setup,
        gateways: Gateways,
        result: DispatchRun,
        clock: Callable[[], datetime],
        progress: DispatchProgress | None,
        only: Collection[int] | None = None,
    ) -> int:
        """Deliver what is due over one gateway. Returns how many messages moved: none once nothing is left."""
        done = Delivered()
        try:
            away = await self.store.run(turned_away, setup, name, clock(), only)
            if away is not None:
                done.states["deferred"] += away
            elif name not in result.delivered.stopped:
                await self._deliver(name, setup, gateways, clock, done, only)
        finally:
            result.delivered.add(done)
        result.tell(progress)
        return sum(done.states.values())

    async def _deliver(
        self,
        name: str,
        setup: Setup,
        gateways: Gateways,
        clock: Callable[[], datetime],
        done: Delivered,
        only: Collection[int] | None = None,
    ) -> None:
        """Open a gateway, and deliver over it; what it cannot be given goes on its way."""
        try:
            gateway = await gateways.open(name)
        except CrmkitError as error:
            done.stopped[name] = error
            if isinstance(error, AuthError):
                await self.store.run(pause.refuse, setup, name, str(error), clock())
            else:
                done.states["deferred"] += await self.store.run(trip, setup, name, str(error), clock(), only)
            return
        if gateway is None:
            done.put_off[name] = f"busy elsewhere: {gateways.busy[name]} uses it"
            return
        hold = gateways.holds.get(name)
        await deliver(self.store.run, setup, name, gateway, clock, done, hold=hold, fresh=gateways.fresh, only=only)

    async def _simulate(
        self,
        setup: Setup,
        gateways: Gateways,
        result: DispatchRun,
        until: datetime,
        progress: DispatchProgress | None,
    ) -> None:
        step: datetime | None = None
        strays = frozenset(await self.store.run(outbox.gateways_waiting))
        stuck: frozenset[str] = frozenset()  # due, and nothing comes of it: they must not hold up the others' time
        while True:
            wanted = gateways.usable(result.delivered.stopped, strays) - stuck
            moment = await self.store.run(due_next, setup, wanted, step)
            if moment is None:
                break
            if moment > until:
                break
            at = moment if step is None else max(step, moment)
            before = (result.decided.interactions, sum(result.delivered.states.values()))
            await self._dispatch_now(setup, gateways, result, lambda at=at: at, progress)  # type: ignore[misc]
            after = (result.decided.interactions, sum(result.delivered.states.values()))
            if at == step and before == after:
                still = frozenset(await self.store.run(gateways_due, setup, at)) & wanted
                if not still:
                    break
                stuck |= still
            step = at

    # plan

    def plan(self, *, now: datetime | None = None, in_slices: bool | None = None, choice: Choice = ALL) -> Plan:
        """What `dispatch` would do now, or simulated up to `now`: the same code, and nothing is committed.

        Args:
            now: the clock; the wall clock where None.
            in_slices: one pass at that clock, to be applied; by default where the clock is not given.
            choice: in slices, the messages that are meant.
        """
        self.prepare()
        if now is None or in_slices:
            return planned(self.store, self.setup, now or datetime.now(UTC), choice)
        return simulated(self.store, self.setup, now)
