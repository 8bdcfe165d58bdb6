"""The local engine: sync, decide and deliver in one process.

The only room below the command line that reads the wall clock; every step is given its `now`. With a clock of its own
(`now=...`) a run is a simulation: it steps from due time to due time, and each step sees the world as it was then.
"""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sqlalchemy.engine import Connection

from crmkit.adapters.gateway import Gateway
from crmkit.core.errors import AuthError, ConfigError, CrmkitError
from crmkit.core.instance import Fenced
from crmkit.engine.accounts import Accounts
from crmkit.engine.fence import Fence
from crmkit.engine.inward import Inward, ShopRun
from crmkit.engine.plan import Plan, due_next, gateways_due, planned, simulated
from crmkit.flow import pause, schedule, silence
from crmkit.flow.claim import sweep, trip, turned_away
from crmkit.flow.decide import Decided, decide
from crmkit.flow.deliver import Delivered, deliver
from crmkit.flow.hold import Hold
from crmkit.flow.look_up import Fresh
from crmkit.flow.setup import Setup
from crmkit.flow.sync import Run, guarded
from crmkit.host.host import Host
from crmkit.store import accounts, instance, outbox
from crmkit.store.choice import ALL, Choice
from crmkit.store.engine import Store

#: Interactions one decide transaction takes, and at the least where they take long.
DECIDE, SMALLEST = 500, 20
#: A write transaction should not take longer than this, in seconds: others wait for it.
LONGEST = 1.0

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

    # dispatch

    def setup(self, tx: Connection) -> Setup:
        """What the steps are set up with, for the shops this database knows."""
        setup = self.host.setup({row["name"]: (row["id"], row["announce_from"]) for row in accounts.every(tx)})
        return replace(setup, doubtful_until=instance.doubtful_until(tx))

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
        gateways = _Gateways(self.accounts, setup, self.store.run, began)
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
            unwell = result.delivered.stopped or result.decided.failures or result.retrying
            outcome = "failed" if unwell else "done"
        finally:
            counts = {
                "decided": result.decided.interactions,
                "messages": dict(result.decided.messages),
                "delivered": dict(result.delivered.states),
            }
            await self.store.run(accounts.end_run, number, outcome, counts, now or datetime.now(UTC))
        return result

    async def _dispatch_now(
        self,
        setup: Setup,
        gateways: "_Gateways",
        result: DispatchRun,
        clock: Callable[[], datetime],
        progress: DispatchProgress | None,
    ) -> None:
        """Decide and deliver what is due by this clock, until neither finds anything."""
        while True:
            await self._decide(setup, result, clock, progress)
            due = await self.store.run(gateways_due, setup, clock())
            lanes = [asyncio.create_task(self._lane(name, setup, gateways, result, clock, progress)) for name in due]
            try:
                moved = sum(await asyncio.gather(*lanes))
            except BaseException:  # each lane ends in its own time: what is in flight is recorded
                for lane in lanes:
                    lane.cancel()
                if lanes:
                    await asyncio.wait(lanes)
                raise
            if not moved:
                return

    async def _decide(
        self,
        setup: Setup,
        result: DispatchRun,
        clock: Callable[[], datetime],
        progress: DispatchProgress | None,
    ) -> None:
        """Decide until nothing is left; a transaction that took long is followed by a smaller one."""
        size = DECIDE
        while True:
            began = time.monotonic()
            step = await self.store.run(decide, setup, clock(), size, time.perf_counter)
            step.rows.clear()
            result.decided.add(step)
            _tell(progress, result)
            if step.interactions == 0:
                return
            spent = time.monotonic() - began
            size = (
                max(SMALLEST, size // 2) if spent > LONGEST else min(DECIDE, 2 * size) if spent < LONGEST / 4 else size
            )

    async def _lane(
        self,
        name: str,
        setup: Setup,
        gateways: "_Gateways",
        result: DispatchRun,
        clock: Callable[[], datetime],
        progress: DispatchProgress | None,
    ) -> int:
        """Deliver over one gateway. Returns how many messages moved."""
        done = Delivered()
        try:
            away = await self.store.run(turned_away, setup, name, clock())
            if away is not None:
                done.states["deferred"] += away
            elif name not in result.delivered.stopped:
                await self._deliver(name, setup, gateways, clock, done)
        finally:
            result.delivered.add(done)
        _tell(progress, result)
        return sum(done.states.values())

    async def _deliver(
        self, name: str, setup: Setup, gateways: "_Gateways", clock: Callable[[], datetime], done: Delivered
    ) -> None:
        """Open a gateway, and deliver over it; what it cannot be given goes on its way."""
        try:
            gateway = await gateways.open(name)
        except CrmkitError as error:
            done.stopped[name] = error
            if isinstance(error, AuthError):
                await self.store.run(pause.refuse, setup, name, str(error), clock())
            else:
                done.states["deferred"] += await self.store.run(trip, setup, name, str(error), clock())
            return
        if gateway is None:
            done.put_off[name] = f"busy elsewhere: {gateways.busy[name]} uses it"
            return
        hold = gateways.holds.get(name)
        await deliver(self.store.run, setup, name, gateway, clock, done, hold=hold, fresh=gateways.fresh)

    async def _simulate(
        self,
        setup: Setup,
        gateways: "_Gateways",
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


def _tell(progress: DispatchProgress | None, result: DispatchRun) -> None:
    if progress is not None:
        progress(result.decided.interactions, sum(result.delivered.states.values()))


class _Gateways:
    """The gateways of one run, each opened when it is first needed."""

    def __init__(self, accounts: Accounts, setup: Setup, run: Run, now: datetime) -> None:
        self.accounts, self.setup, self.run, self.now = accounts, setup, run, now
        self.opened: dict[str, Gateway] = {}
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"
        self.holds: dict[str, Hold] = {}
        self.busy: dict[str, str] = {}
        #: messages tried in a simulated run
        self.fresh: Fresh | None = None

    def usable(self, stopped: Iterable[str], strays: frozenset[str]) -> frozenset[str]:
        """Names of gateways that have not stopped, and that no other process has to itself.

        Args:
            strays: names that messages wait at; of a gateway that is configured no more they are sent on their way.
        """
        names = {entry.name for entries in self.setup.channels.values() for entry in entries}
        return frozenset(names.union(strays) - set(stopped) - set(self.busy))

    async def open(self, name: str) -> Gateway | None:
        """The gateway of this name; None if another process has it to itself."""
        if name not in self.opened:
            entry = self.setup.entry(name)
            if entry is None:
                raise ConfigError("is not configured any more", who=name, operation="open")
            if entry.adapter.exclusive and not await self._hold(name):
                return None
            gateway = self.accounts.host.gateway(entry)
            try:
                number, _ = await self.accounts.meet(entry, None, self.run, self.now)
                await self.accounts.recall(gateway, entry, number, self.run)
                await guarded(gateway.open(), who=name, operation="open")
            except BaseException:
                await gateway.http.aclose()
                raise
            self.opened[name] = gateway
        return self.opened[name]

    async def _hold(self, name: str) -> bool:
        """Take the lease on an exclusive gateway, unless another process has it."""
        hold = self.holds.setdefault(name, Hold(self.run, name, self.holder, lambda: datetime.now(UTC)))
        other = await hold.take()
        if other is not None:
            self.busy[name] = other
        return other is None

    async def close(self, done: Delivered) -> None:
        """Close all that were opened; one that cannot be closed keeps no other open, nor its lease."""
        async with AsyncExitStack() as closing:  # in reverse: every gateway, then every lease
            for hold in self.holds.values():
                closing.push_async_callback(hold.release)
            for name, gateway in self.opened.items():
                closing.push_async_callback(gateway.http.aclose)
                closing.push_async_callback(self._close, name, gateway, done)

    async def _close(self, name: str, gateway: Gateway, done: Delivered) -> None:
        try:
            await guarded(gateway.close(), who=name, operation="close")
        except CrmkitError as error:
            done.stopped.setdefault(name, error)
