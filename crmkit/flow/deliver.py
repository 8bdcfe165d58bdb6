"""Deliver: claim due messages under a lease, mark them, hand them to the gateway, record what came of it.

Delivered at least once with one key, never silently twice: immediately before a group is sent, one committed update
marks it, and only what it returns is sent. A crash puts in doubt only what was marked; a process that was frozen past
its lease sends nothing. "The vendor said no" is a receipt; "we could not find out" is the state in doubt.

One lane serves one gateway: what is in doubt is asked about; then a feeder claims and marks, workers send, a recorder
stores results in batches.
"""

import asyncio
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from crmkit.adapters.gateway import Gateway
from crmkit.core.errors import AdapterError, AuthError, CrmkitError, DoubtError, RetryableError
from crmkit.core.message import Receipt, State
from crmkit.core.quota import OPEN_AFTER
from crmkit.flow import look_up, reputation
from crmkit.flow.claim import LEASE, Claimed, claim, give_back, message_of
from crmkit.flow.hold import Hold
from crmkit.flow.look_up import Fresh
from crmkit.flow.record import Result, looks_up, record
from crmkit.flow.setup import Setup
from crmkit.flow.staging import redirected_to
from crmkit.flow.sync import Run, is_interrupted
from crmkit.flow.verdict import checked, speaks
from crmkit.store import outbox

#: A try without a verdict is given up, and in doubt, after so many seconds: before its lease lapses.
LONGEST_TRY = 240
#: Messages in one claim, and results in one recording transaction.
CLAIM, RECORD = 500, 500
#: So many messages are marked ahead at the most, or twice as many as are in flight where that is more.
AHEAD = 32
#: What is in flight when a run is interrupted gets this long to end, in seconds.
GRACE = 15.0
#: A lane waits no longer than this for its gateway to take more, in seconds; then its messages wait for the next run.
LONGEST_WAIT = 60.0

Clock = Callable[[], datetime]
Group = list[Mapping[str, Any]]


@dataclass(slots=True)
class Delivered:
    """What a delivery did.

    Attributes:
        states: tries by the state the message ended in (`retry`: put off).
        put_off: {gateway: why it last put a message off}.
        stopped: {gateway: what stopped it before its end}.
    """

    states: Counter[str] = field(default_factory=Counter)
    put_off: dict[str, str] = field(default_factory=dict)
    stopped: dict[str, CrmkitError] = field(default_factory=dict)

    def add(self, other: "Delivered") -> None:
        """Take another delivery's numbers on board."""
        self.states.update(other.states)
        self.put_off.update(other.put_off)
        self.stopped.update(other.stopped)


class _Lane:
    """The delivery of everything that is due over one gateway."""

    def __init__(
        self,
        run: Run,
        setup: Setup,
        name: str,
        gateway: Gateway,
        clock: Clock,
        done: Delivered,
        hold: Hold | None,
        fresh: Fresh | None,
        only: Collection[int] | None,
    ) -> None:
        self.run, self.setup, self.name, self.gateway, self.clock = run, setup, name, gateway, clock
        self.width = max(1, gateway.settings.concurrency)
        self.batch = max(1, gateway.batch)
        self.hold, self.fresh, self.only = hold, fresh, only
        self.claim_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"
        self.ready: asyncio.Queue[Group | None] = asyncio.Queue()
        self.few = asyncio.Event()  # few are ready: time to mark more
        self.low = 0
        self.results: list[Result] = []
        self.news = asyncio.Event()
        self.done = done
        self.error: AdapterError | None = None
        self.broken: Exception | None = None
        self.unsent: set[int] = set()  # marked, or about to be, and not given to a worker
        self.reserved: dict[int, Decimal] = {}
        self.under_way = 0  # handed to the workers, and not yet recorded
        self.recorded = asyncio.Event()
        self.failures_in_a_row = 0
        self.is_unwell = False
        self.has_to_wait = False
        self.has_trouble = False  # something was refused, or got no verdict: it may have paused by itself
        self.fed = False

    async def deliver(self) -> Delivered:
        """Send what is due now; interrupted, let what is in flight end, and give back the rest."""
        if looks_up(type(self.gateway)) and self.only is None:
            counts, self.error = await look_up.resolve(
                self.run, self.setup, self.name, self.gateway, self.claim_id, self.clock, self.fresh
            )
            self.done.states.update(counts)
        workers = [asyncio.create_task(self._work()) for _ in range(self.width)]
        recorder = asyncio.create_task(self._keep_records())
        feeder = asyncio.create_task(self._feed())
        try:
            await feeder
            await asyncio.gather(*workers)
        finally:
            feeder.cancel()
            await self._end(workers)
            self.fed = True
            self.news.set()
            await recorder
            unsent = sorted(self.unsent)
            await self.run(give_back, self.setup, self.name, self.claim_id, unsent, self.reserved, self.clock())
        if self.broken is not None:
            raise self.broken
        if self.error is None and self.has_trouble:
            self.error = await self.run(reputation.stopped, self.name)
        if self.error is not None:
            self.done.stopped[self.name] = self.error
        return self.done

    def has_stopped(self) -> bool:
        """The gateway takes nothing more for now, or results can no longer be stored."""
        is_down = self.failures_in_a_row >= OPEN_AFTER or self.has_to_wait
        return is_down or self.error is not None or self.broken is not None

    async def _end(self, workers: Sequence[asyncio.Task[None]]) -> None:
        """Stop the workers: what is in flight may end, what hangs is in doubt."""
        while not self.ready.empty():
            self.unsent.update(row["id"] for row in self.ready.get_nowait() or ())
        for _ in workers:
            self.ready.put_nowait(None)
        running = [worker for worker in workers if not worker.done()]
        if running:
            _, hanging = await asyncio.wait(running, timeout=GRACE)
            for worker in hanging:
                worker.cancel()
            if hanging:
                await asyncio.wait(hanging)

    async def _feed(self) -> None:
        """Claim and mark, as fast as the workers take.

        What is marked when a process dies is in doubt, so it is little more than what is in flight: as much as leaves
        while the next mark is committed. Against a slow vendor that is nothing; against a quick one, up to `AHEAD`.
        """
        least, most = self.width, max(self.width, AHEAD // 2 // self.batch)  # groups: what one call takes
        size = least
        while not self.has_stopped():
            now = self.clock()
            found: Claimed = await self.run(claim, self.setup, self.name, self.claim_id, now, CLAIM, only=self.only)
            self._note_claim(found)
            if not found.rows:
                if found.kept or found.moved or await self._until(found.again_at, now):
                    continue
                break
            groups = self._grouped(found.rows, now)
            while groups and not self.has_stopped():
                some, groups = groups[:size], groups[size:]
                before = self.ready.qsize()
                marked = await self._mark(some)
                left = before - self.ready.qsize()
                size = min(most, max(least, 2 * size if left == before else left))
                for group in marked:
                    self.under_way += len(group)
                    self.ready.put_nowait(group)
                    self.unsent.difference_update(row["id"] for row in group)
                await self._until_few(size)
            if found.is_trial:
                await self._until_recorded()
        for _ in range(self.width):
            self.ready.put_nowait(None)

    def _note_claim(self, found: Claimed) -> None:
        kept = Counter("deferred" if row["state"] == State.QUEUED else str(row["state"]) for row in found.kept)
        self.done.states.update(kept)
        if found.moved:
            self.done.states["deferred"] += found.moved
        self.reserved.update(found.reserved)
        self.is_unwell = self.is_unwell or found.is_unwell

    async def _until(self, again_at: datetime | None, now: datetime) -> bool:
        """Wait until the gateway takes more, if that is soon and the clock runs."""
        if again_at is None:
            return False
        seconds = (again_at - now).total_seconds()
        if self.clock() == now:  # a simulation steps there by itself
            return False
        if seconds > LONGEST_WAIT:
            self.done.put_off.setdefault(self.name, f"takes nothing more before {again_at.isoformat()}")
            return False
        await asyncio.sleep(seconds)
        return True

    def _grouped(self, rows: Sequence[Mapping[str, Any]], now: datetime) -> list[Group]:
        """What one call of the gateway takes: messages of one batch key, in their order."""
        if self.batch == 1:
            return [[row] for row in rows]
        together: dict[Hashable, Group] = {}
        for row in rows:
            together.setdefault(self._batch_key(row, now), []).append(row)
        return [
            group[first : first + self.batch]
            for group in together.values()
            for first in range(0, len(group), self.batch)
        ]

    def _batch_key(self, row: Mapping[str, Any], now: datetime) -> Hashable:
        if redirected_to(self.setup, row) is not None:  # a vendor may tell those of one call apart by their addresses
            return "alone", row["id"]
        try:
            key = self.gateway.batch_key(message_of(row, self.setup, now))
            hash(key)
        except Exception:  # a plugin's code: what it breaks is this message's company only
            return "alone", row["id"]
        return "together", key

    async def _mark(self, groups: Sequence[Group]) -> list[Group]:
        """Mark groups as started; what is not ours any more, or was paused, is left out of them."""
        ids = [row["id"] for group in groups for row in group]
        self.unsent.update(ids)  # interrupted from here on, they are given back
        now = self.clock()
        until = now + LEASE
        holder = None if self.hold is None else (self.hold.holder, self.hold.clock())
        mine = await self.run(outbox.mark, ids, self.claim_id, now, until, holder)
        if not mine and self.hold is not None and (lost := await self.hold.lost()) is not None:
            self.done.put_off[self.name] = lost
            self.has_to_wait = True
        ours = {"claim_id": self.claim_id, "lease_until": until}
        marked: list[Group] = [[{**row, **ours} for row in group if row["id"] in mine] for group in groups]
        return [group for group in marked if group]

    async def _until_few(self, count: int) -> None:
        """Wait until no more than this many groups are ready."""
        self.low = count
        while self.ready.qsize() > count:
            self.few.clear()
            await self.few.wait()

    async def _until_recorded(self) -> None:
        """Wait until everything that was handed to the workers is stored, or given back."""
        while self.under_way > 0 and self.broken is None:
            self.recorded.clear()
            await self.recorded.wait()

    def _came_back(self, count: int) -> None:
        self.under_way -= count
        self.recorded.set()

    async def _work(self) -> None:
        while (rows := await self.ready.get()) is not None:
            if self.ready.qsize() <= self.low:
                self.few.set()
            await self._send(rows)

    async def _send(self, rows: Group) -> None:
        began = self.clock()
        if self.has_stopped() or began >= rows[0]["lease_until"]:
            # Marked, but nothing of it left, so nothing of it is in doubt; unless others took it to be, the lease over.
            self.unsent.update(row["id"] for row in rows)
            self._came_back(len(rows))
            return
        waiting = {row["id"]: row for row in rows}
        try:
            if self.gateway.batch > 1:
                messages = [message_of(row, self.setup, began) for row in rows]
                async with asyncio.timeout(LONGEST_TRY):
                    async for receipt in self.gateway.deliver_many(messages):
                        row = waiting.pop(receipt.message.id)
                        self._note([self._result(row, receipt, began)])
                raised: BaseException = DoubtError("no receipt was given", who=self.name, operation="deliver")
            else:
                async with asyncio.timeout(LONGEST_TRY):
                    receipt = await self.gateway.deliver(message_of(rows[0], self.setup, began))
                waiting.clear()
                self._note([self._result(rows[0], receipt, began)])
                return
        except asyncio.CancelledError as error:
            if is_interrupted():
                self._note([self._result(row, error, began) for row in waiting.values()])
                raise
            raised = error  # nobody cancelled us: it is the plugin's own
        except (Exception, SystemExit) as error:  # a plugin's code: what it breaks is these messages only
            raised = error
        self._note([self._result(row, raised, began) for row in waiting.values()])

    def _result(self, row: Mapping[str, Any], outcome: Receipt | BaseException, began: datetime) -> Result:
        said = checked(outcome, self.name)
        return Result(row, said, began, self.clock(), self.reserved.pop(row["id"], Decimal(0)))

    def _note(self, results: Sequence[Result]) -> None:
        self.results.extend(results)
        self.news.set()
        for result in results:
            outcome = result.outcome
            self.has_trouble = self.has_trouble or not isinstance(outcome, Receipt) or outcome.outcome == "rejected"
            if self.fresh is not None:
                self.fresh.ids.add(result.row["id"])
            if isinstance(outcome, AuthError):
                self.error = outcome
            elif isinstance(outcome, RetryableError):
                self.done.put_off[self.name] = str(outcome)
                self.has_to_wait = self.has_to_wait or outcome.retry_after is not None
            elif isinstance(outcome, Receipt) and outcome.outcome == "deferred":
                self.done.put_off[self.name] = outcome.detail or "not now"
            spoke = speaks(outcome)
            if spoke is not None:
                self.failures_in_a_row = 0 if spoke else self.failures_in_a_row + 1

    async def _keep_records(self) -> None:
        """Store results as they come, several at a time: while one batch is committed the next gathers."""
        while not (self.fed and not self.results):
            await self.news.wait()
            self.news.clear()
            while self.results:
                batch, self.results = self.results[:RECORD], self.results[RECORD:]
                unwell = self.is_unwell
                try:
                    counts = await self.run(record, batch, self.setup, self.gateway, self.name, is_unwell=unwell)
                except Exception as error:  # whatever it is: nothing more may leave, what left stays marked
                    self.broken = error
                    self.results = []
                    self.recorded.set()
                    return
                self.done.states.update(counts)
                self.is_unwell = self.failures_in_a_row > 0
                self._came_back(len(batch))


async def deliver(
    run: Run,
    setup: Setup,
    name: str,
    gateway: Gateway,
    clock: Clock,
    done: Delivered | None = None,
    *,
    hold: Hold | None = None,
    fresh: Fresh | None = None,
    only: Collection[int] | None = None,
) -> Delivered:
    """Send everything that is due now over one gateway.

    Args:
        run: runs a step in a write transaction in the database thread.
        setup: shops, policies, staff.
        name: the gateway entry's name.
        gateway: the open gateway.
        clock: the run's clock.
        done: where to count; it holds what was done also when this is interrupted.
        hold: our lease on an exclusive gateway.
        fresh: messages of a simulated run.
        only: of these messages; all others stay as they are, and no vendor is asked about them.

    Returns:
        Messages by the state they ended in; what stopped the gateway, if something did.
    """
    lane = _Lane(run, setup, name, gateway, clock, done or Delivered(), hold, fresh, only)
    delivering = asyncio.create_task(lane.deliver())
    try:
        return await asyncio.shield(delivering)
    except asyncio.CancelledError:
        delivering.cancel()
        await asyncio.wait([delivering])
        raise
