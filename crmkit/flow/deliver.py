"""Deliver: claim due messages under a lease, mark them, hand them to the gateway, record what came of it.

Delivered at least once with one key, never silently twice: immediately before a group is sent, one committed update
marks it, and only what it returns is sent. A crash puts in doubt only what was marked; a process that was frozen past
its lease sends nothing. "The vendor said no" is a receipt; "we could not find out" is the state in doubt.

One lane serves one gateway: a feeder claims and marks, workers send, a recorder stores results in batches.
"""

import asyncio
import os
import secrets
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from crmkit.adapters.gateway import Gateway
from crmkit.core.columns import storable
from crmkit.core.errors import (
    AdapterError,
    AuthError,
    CrmkitError,
    DoubtError,
    RetryableError,
    UnsupportedError,
)
from crmkit.core.hooks import Verdict
from crmkit.core.message import BOUNCES, Message, Reason, Receipt, State
from crmkit.flow import callback, policy
from crmkit.flow.compose import zone_of
from crmkit.flow.setup import Setup, backoff
from crmkit.flow.sync import Run
from crmkit.store import customers, facts, outbox

#: A claim lapses after this long, counted again from the mark.
LEASE = timedelta(minutes=5)
#: A try without a verdict is given up, and in doubt, after so many seconds: before its lease lapses.
LONGEST_TRY = 240
#: Messages in one claim, and results in one recording transaction.
CLAIM, RECORD = 500, 500
#: So many messages are marked ahead at the most, or twice as many as are in flight where that is more.
AHEAD = 32
#: A message is tried this often before it fails.
TRIES = 10
#: What is in flight when a run is interrupted gets this long to end, in seconds.
GRACE = 15.0

Clock = Callable[[], datetime]


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


# --- claiming ---------------------------------------------------------------------------------------------------------


def last_look(tx: Connection, setup: Setup, rows: Sequence[Mapping[str, Any]], now: datetime) -> dict[int, Verdict]:
    """What may have changed since messages were decided: consent, suppression, age, later news, hours.

    Returns:
        {message: what keeps it from leaving now}; content never changes.
    """
    profiles = {row["profile_id"] for row in rows if row["profile_id"] is not None}
    known = facts.customers_of(tx, profiles)
    addresses = {row["address"] for row in rows if row["address"] is not None}
    reach = facts.reach_of(tx, {customer.id for customer in known.values()}, now, addresses)
    told = {row["order_id"] for row in rows if row["milestone"] is not None and row["order_id"] is not None}
    orders = facts.milestones_at(tx, told, now)
    persons = {person.name: person for person in setup.staff}
    verdicts: dict[int, Verdict] = {}
    for row in rows:
        customer = known.get(row["profile_id"])
        verdict = policy.stale(row["expires_at"], now) or policy.overtaken(
            row["milestone"], orders.get(row["order_id"])
        )
        hours = setup.rules.quiet_hours
        if row["staff"] is not None:
            person = persons.get(row["staff"])
            hours = person.quiet_hours if person is not None else None
        elif verdict is None:
            verdict = policy.consent(
                purpose=row["purpose"],
                channel=row["channel"],
                ledger=reach.consent.get(customer.id, ()) if customer is not None else (),
                about_address=reach.said_of_addresses(customer.id if customer is not None else None, row["address"]),
                suppressed=reach.suppressed.get(row["address"], ()),
                marketing_default=setup.rules.marketing_default,
            )
        if verdict is None and hours is not None:
            zone = zone_of(customer.timezone if customer else None, setup.shops.get(row["shop_id"]), setup)
            verdict = policy.quiet_hours(now, hours, zone)
            if verdict is not None and verdict.until is not None:
                verdict = policy.stale(row["expires_at"], verdict.until) or verdict
        if verdict is not None:
            verdicts[row["id"]] = verdict
    return verdicts


def claim(
    tx: Connection, setup: Setup, gateway: str, claim_id: str, now: datetime, limit: int
) -> tuple[list[Mapping[str, Any]], list[dict[str, Any]], bool]:
    """Claim due messages of a gateway after a last look.

    Returns:
        The claimed messages, those the last look kept back as they were settled, and whether anything was due.
    """
    rows = outbox.due(tx, gateway, now, limit)
    verdicts = last_look(tx, setup, rows, now)
    kept_back = []
    for row in rows:
        verdict = verdicts.get(row["id"])
        if verdict is None:
            continue
        leaves_later = verdict.action == "defer"
        settled = {
            "state": State.QUEUED if leaves_later else State.SUPPRESSED,
            "reason": verdict.reason,
            "detail": verdict.detail,
            "not_before": verdict.until if leaves_later else row["not_before"],
            "settled_at": None if leaves_later else now,
        }
        kept_back.append({**row, **settled})
    outbox.settle(tx, kept_back)
    callback.tell(tx, [row for row in kept_back if row["state"] == State.SUPPRESSED], setup.listened, now)
    claimed = [row for row in rows if row["id"] not in verdicts]
    outbox.claim(tx, [row["id"] for row in claimed], claim_id, now + LEASE)
    return claimed, kept_back, bool(rows)


def message_of(row: Mapping[str, Any], setup: Setup, now: datetime) -> Message:
    """The message a gateway is given."""
    shop = setup.shops.get(row["shop_id"])
    return Message(
        id=row["id"],
        key=row["key"],
        channel=row["channel"],
        address_kind=row["address_kind"],
        address=row["address"],
        purpose=row["purpose"],
        template=row["template"],
        locale=row["locale"],
        text=row["text"],
        subject=row["subject"],
        html=row["html"],
        headers=row["headers"] or {},
        params=row["params"] or {},
        shop=shop.name if shop is not None else None,
        decided_at=row["decided_at"],
        leaves_at=now,
        expires_at=row["expires_at"],
    )


# --- results ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Result:
    row: Mapping[str, Any]
    outcome: Receipt | BaseException
    attempted_at: datetime
    finished_at: datetime


def verdict_of(
    outcome: Receipt | BaseException, *, tries: int, deduplicates: bool
) -> tuple[State, Reason | None, str | None, timedelta | None]:
    """What one try did to a message.

    Args:
        outcome: what the gateway returned or raised.
        tries: tries so far, this one included.
        deduplicates: whether sending the same key again cannot double it.

    Returns:
        The state it is in now, why, in words, and how long the vendor asked us to wait.
    """
    if isinstance(outcome, Receipt):
        if outcome.outcome == "accepted":
            return State.SENT, None, outcome.detail, None
        if outcome.outcome == "rejected":
            reason = outcome.reason or Reason.OTHER
            return (State.BOUNCED if reason in BOUNCES else State.FAILED), reason, outcome.detail, None
        return _not_now(tries, outcome.detail, outcome.retry_after)
    text = str(outcome) if isinstance(outcome, AdapterError) else f"{type(outcome).__name__}: {outcome}"
    if isinstance(outcome, RetryableError):
        return _not_now(tries, text, outcome.retry_after)
    if isinstance(outcome, AuthError):
        return State.QUEUED, Reason.RETRY, text, None
    if isinstance(outcome, UnsupportedError):
        return State.FAILED, Reason.UNSUPPORTED, text, None
    if deduplicates and tries < TRIES:
        return _not_now(tries, f"no verdict: {text}", None)
    return State.IN_DOUBT, Reason.NO_VERDICT, text, None


def _not_now(
    tries: int, detail: str | None, retry_after: timedelta | None
) -> tuple[State, Reason | None, str | None, timedelta | None]:
    if tries >= TRIES:
        return State.FAILED, Reason.TRIES_USED_UP, detail, None
    return State.QUEUED, Reason.RETRY, detail, retry_after


def _record(tx: Connection, results: Sequence[_Result], setup: Setup, gateway: Gateway, name: str) -> Counter[str]:
    rows, moved, counts = [], [], Counter[str]()
    for result in results:
        row, outcome = result.row, result.outcome
        refused = isinstance(outcome, AuthError)
        tries = row["tries"] + (0 if refused else 1)
        state, reason, detail, wait = verdict_of(outcome, tries=tries, deduplicates=gateway.deduplicates)
        detail = None if detail is None else storable(detail)
        counts["retry" if state is State.QUEUED else str(state)] += 1
        chance = secrets.randbelow(1000) / 1000
        again = result.finished_at + max(wait or timedelta(0), backoff(max(tries, 1), chance))
        accepted = isinstance(outcome, Receipt) and outcome.outcome == "accepted"
        settled = state in {State.BOUNCED, State.FAILED}
        receipt = outcome if isinstance(outcome, Receipt) else None
        cost = receipt.cost if receipt is not None else None
        in_doubt = not isinstance(outcome, Receipt | RetryableError | AuthError | UnsupportedError)
        rows.append(
            {
                "id": row["id"],
                "claim_id": row["claim_id"],
                "state": state,
                "reason": reason,
                "detail": detail,
                "tries": tries,
                "not_before": row["not_before"] if refused or state is not State.QUEUED else again,
                "gateway": name,
                "vendor_id": storable(receipt.vendor_id)
                if receipt is not None and receipt.vendor_id
                else row["vendor_id"],
                "cost": str(cost.amount) if cost is not None else row["cost"],
                "cost_currency": cost.currency if cost is not None else row["cost_currency"],
                "sent_at": result.finished_at if accepted else row["sent_at"],
                "settled_at": result.finished_at if settled else None,
                "attempted_at": result.attempted_at,
                "finished_at": result.finished_at,
                "outcome": receipt.outcome if receipt is not None else "in-doubt" if in_doubt else "refused",
            }
        )
        moved.append({**row, **rows[-1]})
        if state is State.BOUNCED:
            customers.suppress(
                tx,
                channel=row["channel"],
                address=row["address"],
                reason=str(reason),
                source=f"message:{row['id']}",
                now=result.finished_at,
            )
    taken = outbox.record(tx, rows)
    moved = [row for row in moved if row["id"] in taken]
    now = max(result.finished_at for result in results)
    callback.tell(tx, [row for row in moved if row["state"] is not State.QUEUED], setup.listened, now)
    callback.catch_up(tx, [row for row in moved if row["state"] is State.SENT], setup.listened, now)
    return counts


# --- a lane -----------------------------------------------------------------------------------------------------------


class _Lane:
    """The delivery of everything that is due over one gateway."""

    def __init__(self, run: Run, setup: Setup, name: str, gateway: Gateway, clock: Clock, done: Delivered) -> None:
        self.run, self.setup, self.name, self.gateway, self.clock = run, setup, name, gateway, clock
        self.width = max(1, gateway.settings.concurrency)
        self.claim_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(6)}"
        self.ready: asyncio.Queue[list[Mapping[str, Any]] | None] = asyncio.Queue()
        self.few = asyncio.Event()  # few are ready: time to mark more
        self.low = 0
        self.results: list[_Result] = []
        self.news = asyncio.Event()
        self.done = done
        self.error: AdapterError | None = None
        self.broken: Exception | None = None
        self.unsent: set[int] = set()  # marked, or about to be, and not given to a worker
        self.failures_in_a_row = 0
        self.fed = False

    async def deliver(self) -> Delivered:
        """Send what is due now; interrupted, let what is in flight end, and give back the rest."""
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
            await self.run(outbox.release, self.claim_id, sorted(self.unsent))
        if self.broken is not None:
            raise self.broken
        if self.error is not None:
            self.done.stopped[self.name] = self.error
        return self.done

    def has_stopped(self) -> bool:
        """The gateway takes nothing more, or results can no longer be stored."""
        return self.error is not None or self.broken is not None

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
        batch = max(1, self.gateway.batch)
        least, most = self.width, max(self.width, AHEAD // 2 // batch)  # groups: what one call of the gateway takes
        size = least
        while not self.has_stopped():
            now = self.clock()
            claimed, kept_back, any_due = await self.run(claim, self.setup, self.name, self.claim_id, now, CLAIM)
            self.done.states.update("deferred" if r["state"] == State.QUEUED else str(r["state"]) for r in kept_back)
            if not any_due:
                break
            while claimed and not self.has_stopped():
                rows, claimed = claimed[: size * batch], claimed[size * batch :]
                before = self.ready.qsize()
                self.unsent.update(row["id"] for row in rows)  # interrupted from here on, they are given back
                now = self.clock()
                mine = await self.run(outbox.mark, [row["id"] for row in rows], self.claim_id, now, now + LEASE)
                marked: list[Mapping[str, Any]] = [
                    {**row, "claim_id": self.claim_id, "lease_until": now + LEASE} for row in rows if row["id"] in mine
                ]
                left = before - self.ready.qsize()
                size = min(most, max(least, 2 * size if left == before else left))
                for first in range(0, len(marked), batch):
                    self.ready.put_nowait(marked[first : first + batch])
                self.unsent.difference_update(row["id"] for row in marked)
                await self._until_few(size)
        for _ in range(self.width):
            self.ready.put_nowait(None)

    async def _until_few(self, count: int) -> None:
        """Wait until no more than this many groups are ready."""
        self.low = count
        while self.ready.qsize() > count:
            self.few.clear()
            await self.few.wait()

    async def _work(self) -> None:
        while (rows := await self.ready.get()) is not None:
            if self.ready.qsize() <= self.low:
                self.few.set()
            await self._send(rows)

    async def _send(self, rows: list[Mapping[str, Any]]) -> None:
        began = self.clock()
        if self.has_stopped() or began >= rows[0]["lease_until"]:
            # Marked, but nothing of it left, so nothing of it is in doubt; unless others took it to be, the lease over.
            self.unsent.update(row["id"] for row in rows)
            return
        waiting = {row["id"]: row for row in rows}
        try:
            if self.gateway.batch > 1:
                messages = [message_of(row, self.setup, began) for row in rows]
                async with asyncio.timeout(LONGEST_TRY):
                    async for receipt in self.gateway.deliver_many(messages):
                        row = waiting.pop(receipt.message.id)
                        self._note([_Result(row, receipt, began, self.clock())])
                raised: BaseException = DoubtError("no receipt was given", who=self.name, operation="deliver")
            else:
                async with asyncio.timeout(LONGEST_TRY):
                    receipt = await self.gateway.deliver(message_of(rows[0], self.setup, began))
                waiting.clear()
                self._note([_Result(rows[0], receipt, began, self.clock())])
                return
        except asyncio.CancelledError as error:
            self._note([_Result(row, error, began, self.clock()) for row in waiting.values()])
            raise
        except Exception as error:  # a plugin's code: what it breaks is these messages only
            raised = error
        self._note([_Result(row, raised, began, self.clock()) for row in waiting.values()])

    def _note(self, results: Sequence[_Result]) -> None:
        self.results.extend(results)
        self.news.set()
        for result in results:
            if isinstance(result.outcome, AuthError):
                self.error = result.outcome
            elif isinstance(result.outcome, RetryableError):
                self.done.put_off[self.name] = str(result.outcome)
            elif isinstance(result.outcome, Receipt) and result.outcome.outcome == "deferred":
                self.done.put_off[self.name] = result.outcome.detail or "not now"
            self.failures_in_a_row = self.failures_in_a_row + 1 if isinstance(result.outcome, RetryableError) else 0
            if self.failures_in_a_row >= max(10, 2 * self.width) and isinstance(result.outcome, RetryableError):
                self.error = self.error or result.outcome

    async def _keep_records(self) -> None:
        """Store results as they come, several at a time: while one batch is committed the next gathers."""
        while not (self.fed and not self.results):
            await self.news.wait()
            self.news.clear()
            while self.results:
                batch, self.results = self.results[:RECORD], self.results[RECORD:]
                try:
                    self.done.states.update(await self.run(_record, batch, self.setup, self.gateway, self.name))
                except Exception as error:  # whatever it is: nothing more may leave, what left stays marked
                    self.broken = error
                    self.results = []
                    return


async def deliver(
    run: Run, setup: Setup, name: str, gateway: Gateway, clock: Clock, done: Delivered | None = None
) -> Delivered:
    """Send everything that is due now over one gateway.

    Args:
        run: runs a step in a write transaction in the database thread.
        setup: shops, policies, staff.
        name: the gateway entry's name.
        gateway: the open gateway.
        clock: the run's clock.
        done: where to count; it holds what was done also when this is interrupted.

    Returns:
        Messages by the state they ended in; what stopped the gateway, if something did.
    """
    lane = _Lane(run, setup, name, gateway, clock, done or Delivered())
    delivering = asyncio.create_task(lane.deliver())
    try:
        return await asyncio.shield(delivering)
    except asyncio.CancelledError:
        delivering.cancel()
        await asyncio.wait([delivering])
        raise
