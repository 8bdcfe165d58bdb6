"""Rate, day cap and budget hold for every process together; what is over them waits and says why."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from crmkit.core.errors import RetryableError
from crmkit.core.message import Message, Receipt
from crmkit.core.money import Money
from crmkit.core.quota import Budget, Limits
from crmkit.flow.claim import LEASE, claim, next_due, sweep
from crmkit.flow.deliver import deliver
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.play import HOUR, MINUTE, NOON, Play, entry
from tests.scripted import Scripted, accept, queue, send

MIDNIGHT = datetime(2026, 3, 3, tzinfo=UTC)


def limited(play: Play, count: int, adapter: type[Scripted] = Scripted, **limits: Any) -> None:
    play.channels = {"email": [replace(entry(adapter, "mail"), limits=Limits(**limits))]}
    queue(play, count)


def states(play: Play) -> Counter[tuple[str, str | None]]:
    return Counter((row["state"], row["reason"]) for row in play.rows(t.message))


def other_store(play: Play) -> Store:
    return Store(play.store.engine.url.render_as_string(hide_password=False))


async def test_over_its_day_messages_wait_for_the_next(play: Play) -> None:
    # SEMANTICS 26
    limited(play, 7, daily=3)
    await send(play, Scripted(accept))
    assert states(play) == {("sent", None): 3, ("queued", "capped"): 4}
    assert {row["not_before"] for row in play.rows(t.message, state="queued")} == {MIDNIGHT}
    await send(play, Scripted(accept), NOON + HOUR)
    assert states(play)["sent", None] == 3
    await send(play, Scripted(accept), MIDNIGHT)
    assert states(play) == {("sent", None): 6, ("queued", "capped"): 1}


async def test_several_processes_share_a_day(play: Play) -> None:
    # SEMANTICS 26
    class Yielding(Scripted):
        async def deliver(self, message: Message) -> Receipt:
            await asyncio.sleep(0)
            return await super().deliver(message)

    limited(play, 60, daily=40)
    stores = [play.store, other_store(play), other_store(play)]
    gateways = [Yielding(accept, concurrency=4) for _ in stores]
    pairs = zip(stores, gateways, strict=True)
    await asyncio.gather(*(deliver(s.run, play.setup, "mail", g, lambda: NOON) for s, g in pairs))
    for store in stores[1:]:
        store.close()
    assert sum(len(gateway.asked) for gateway in gateways) == 40
    assert states(play) == {("sent", None): 40, ("queued", "capped"): 20}


async def test_what_did_not_leave_does_not_count(play: Play) -> None:
    limited(play, 3, daily=2)
    await send(play, Scripted(RetryableError("refused"), accept, concurrency=1))
    assert states(play)["sent", None] == 2
    assert play.one(t.quota)["day_count"] == 2


async def test_what_was_claimed_and_not_started_is_given_back(play: Play) -> None:
    limited(play, 5, daily=4)
    with play.store.begin() as tx:
        assert len(claim(tx, play.setup, "mail", "gone", NOON, 3).rows) == 3
    assert play.one(t.quota)["day_count"] == 3
    assert await play.store.run(sweep, play.setup, NOON + LEASE) == (3, 0)
    assert play.one(t.quota)["day_count"] == 0


async def test_a_rate_holds_on_a_clock_that_stands_still(play: Play) -> None:
    # SEMANTICS 26
    limited(play, 5, rate=1 / 60)
    sent = []
    for minutes in range(5):
        await send(play, Scripted(accept), NOON + minutes * MINUTE)
        await send(play, Scripted(accept), NOON + minutes * MINUTE)
        sent.append(play.count(t.message, state="sent"))
        with play.store.read() as tx:
            due = next_due(tx, play.setup, {"mail"})
        assert due == (NOON + (minutes + 1) * MINUTE if minutes < 4 else None)
    assert sent == [1, 2, 3, 4, 5]


async def test_a_rate_holds_for_a_fleet_on_the_wall_clock(play: Play) -> None:
    # SEMANTICS 26
    limited(play, 40, rate=40.0)
    other = other_store(play)
    began = datetime.now(UTC)
    clocks: list[datetime] = []

    class Noting(Scripted):
        async def deliver(self, message: Message) -> Receipt:
            clocks.append(datetime.now(UTC))
            return await super().deliver(message)

    gateways = [Noting(accept) for _ in range(2)]
    clock = lambda: datetime.now(UTC)  # noqa: E731
    pairs = zip((play.store, other), gateways, strict=True)
    await asyncio.gather(*(deliver(store.run, play.setup, "mail", g, clock) for store, g in pairs))
    other.close()
    assert states(play) == {("sent", None): 40}
    assert (max(clocks) - began).total_seconds() > 0.85
    assert all(len(gateway.asked) for gateway in gateways)


async def test_a_budget_is_kept_by_what_receipts_say_it_cost(play: Play) -> None:
    # SEMANTICS 26
    limited(play, 30, budget=Budget(Decimal("1.00"), "EUR", "day"))
    await send(play, Scripted(accept, concurrency=1))  # 0.05 each
    assert states(play) == {("sent", None): 20, ("queued", "budget"): 10}
    assert Decimal(play.one(t.quota)["spent"]) == Decimal("1.00")
    await send(play, Scripted(accept), MIDNIGHT)
    assert states(play) == {("sent", None): 30}


async def test_another_currency_says_nothing_about_a_budget(play: Play) -> None:
    limited(play, 15, budget=Budget(Decimal("1.00"), "USD", "day"))
    await send(play, Scripted(accept))
    assert (states(play), play.one(t.quota)["unit_cost"]) == ({("sent", None): 15}, None)


async def test_a_message_that_costs_more_than_is_left_waits(play: Play) -> None:
    limited(play, 2, budget=Budget(Decimal("0.12"), "EUR", "day"))
    play.write(
        lambda tx: tx.execute(t.message.update().values(segments=3)),
        lambda tx: tx.execute(t.quota.insert().values(name="mail", unit_cost="0.05")),
    )
    gateway = Scripted(accept)
    await send(play, gateway)
    assert (gateway.asked, states(play)) == ([], {("queued", "budget"): 2})
    play.write(lambda tx: tx.execute(t.message.update().values(segments=2)))
    await send(play, Scripted(lambda m: m.accepted(m.key, Money(Decimal("0.10"), "EUR"))), MIDNIGHT)
    assert states(play) == {("sent", None): 1, ("queued", "budget"): 1}


async def test_a_vendor_that_asks_to_wait_is_left_alone_until_then(play: Play) -> None:
    # SEMANTICS 26
    play.channels = {"email": [entry(Scripted, "mail"), entry(Scripted, "spare")]}
    queue(play, 20)
    gateway = Scripted(RetryableError("429", retry_after=HOUR), concurrency=1)
    await send(play, gateway)
    assert len(gateway.asked) == 1
    other = Scripted(accept)
    await send(play, other, NOON + HOUR / 2)
    assert other.asked == []
    rows = play.rows(t.message)
    assert {(row["state"], row["gateway"], row["tries"]) for row in rows} == {("queued", "mail", 0)}
    with play.store.read() as tx:
        assert next_due(tx, play.setup, {"mail"}) == NOON + HOUR
    await send(play, other, NOON + HOUR)
    assert states(play) == {("sent", None): 20}


async def test_a_short_wait_is_waited_for(play: Play) -> None:
    queue(play, 3)
    clock = lambda: datetime.now(UTC)  # noqa: E731
    await send(play, Scripted(RetryableError("429", retry_after=timedelta(seconds=0.3)), accept, concurrency=1), clock)
    began = clock()
    await send(play, Scripted(accept), clock)
    assert play.count(t.message, state="sent") == 2
    assert (clock() - began).total_seconds() < 5
    assert play.count(t.quota) == 1


async def test_without_limits_a_delivery_leaves_no_quota(play: Play) -> None:
    queue(play, 10)
    await send(play, Scripted(accept))
    assert play.count(t.quota) == 0
