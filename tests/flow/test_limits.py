"""Rate, day cap and budget hold for every process together; what is over them waits and says why."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from crmkit.core.errors import DoubtError, RetryableError
from crmkit.core.message import Message, Receipt
from crmkit.core.money import Money
from crmkit.core.quota import PATIENCE, SKEW, Budget, Limits
from crmkit.flow import chain
from crmkit.flow.claim import LEASE, claim, give_back, next_due, sweep, trip
from crmkit.flow.deliver import deliver, message_of
from crmkit.flow.pause import pause
from crmkit.flow.record import Result, record
from crmkit.store import chains, outbox, quotas
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.play import DAY, HOUR, MINUTE, NOON, Play, entry
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
    assert sum(len(gateway.asked) for gateway in gateways) == 40


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


@pytest.mark.parametrize(("wait", "by"), [(PATIENCE, "mail"), (PATIENCE + timedelta(seconds=1), "spare")])
async def test_who_asks_for_a_long_wait_is_passed_over_where_another_can_send(
    play: Play, wait: timedelta, by: str
) -> None:
    play.channels = {"email": [entry(Scripted, "mail"), entry(Scripted, "spare")]}
    queue(play, 20)
    gateway = Scripted(RetryableError("429", retry_after=wait), concurrency=1)
    await send(play, gateway)
    await send(play, gateway)
    assert len(gateway.asked) == 1
    spare = Scripted(accept)
    await send(play, spare, name="spare")
    assert len(spare.asked) == (20 if by == "spare" else 0)
    await send(play, Scripted(accept), NOON + wait)
    assert states(play) == {("sent", None): 20}


async def test_where_every_gateway_asks_for_a_long_wait_the_soonest_is_waited_for(play: Play) -> None:
    play.channels = {"email": [entry(Scripted, "mail"), entry(Scripted, "spare")]}
    queue(play, 3)
    await send(play, Scripted(RetryableError("429", retry_after=3 * HOUR), concurrency=1))
    await send(play, Scripted(RetryableError("429", retry_after=HOUR), concurrency=1), name="spare")
    await send(play, Scripted(accept))
    assert {row["not_before"] for row in play.rows(t.message)} == {NOON + HOUR}
    await send(play, Scripted(accept), NOON + HOUR)
    await send(play, Scripted(accept), NOON + HOUR, name="spare")
    assert states(play) == {("sent", None): 3}


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


async def test_what_was_taken_yesterday_frees_nothing_today(play: Play) -> None:
    # SEMANTICS 26
    limited(play, 20, daily=5)
    eve = MIDNIGHT - 2 * MINUTE
    with play.store.begin() as tx:
        died = claim(tx, play.setup, "mail", "died", eve, 2).rows
        slow = claim(tx, play.setup, "mail", "slow", eve, 3).rows
        outbox.mark(tx, [row["id"] for row in slow], "slow", eve, eve + LEASE)
    assert len(died) == 2
    gateway = Scripted(accept)
    await send(play, gateway, MIDNIGHT + MINUTE)
    assert (len(gateway.asked), play.one(t.quota)["day_count"]) == (5, 5)
    later = MIDNIGHT + 2 * MINUTE  # what yesterday's tries come to is known
    busy = [message_of(row, play.setup, eve).deferred("busy") for row in slow]
    results = [Result({**r, "claim_id": "slow"}, said, eve, later) for r, said in zip(slow, busy, strict=True)]
    play.write(lambda tx: record(tx, results, play.setup, gateway, "mail"))
    assert await play.store.run(sweep, play.setup, later + LEASE) == (2, 0)
    assert play.one(t.quota)["day_count"] == 5
    await send(play, gateway, later + LEASE)
    assert len(gateway.asked) == 5


# --- a budget ---------------------------------------------------------------------------------------------------------


async def test_a_price_keeps_a_budget_where_the_vendor_names_no_cost(play: Play) -> None:
    # SEMANTICS 26
    limited(play, 30, budget=Budget(Decimal("0.50"), "EUR", "day"), price=Decimal("0.05"))
    silent = Scripted(lambda m: m.accepted(m.key))
    await send(play, silent)
    assert (len(silent.asked), states(play)) == (10, {("sent", None): 10, ("queued", "budget"): 20})
    assert Decimal(play.one(t.quota)["spent"]) == Decimal("0.50")


async def test_what_a_vendor_says_it_cost_is_truer_than_the_price(play: Play) -> None:
    limited(play, 30, budget=Budget(Decimal("1.00"), "EUR", "day"), price=Decimal("0.50"))
    gateway = Scripted(accept, concurrency=1)  # 0.05 each
    await send(play, gateway)
    assert states(play) == {("sent", None): 20, ("queued", "budget"): 10}
    assert Decimal(play.one(t.quota)["spent"]) == Decimal("1.00")


class Asked(Scripted):
    """Its vendor can be asked, and says what its first outcome says."""

    async def look_up(self, message: Message) -> Receipt | None:
        said: Receipt | None = self.outcomes[0](message)
        return said


@pytest.mark.parametrize(
    ("said", "spent"),
    [
        (lambda m: m.accepted("v", Money(Decimal("0.30"), "EUR")), "0.30"),
        (lambda m: m.accepted("v"), "0.10"),
        (lambda m: m.rejected("other", "no"), "0.00"),
        (lambda m: None, "0.10"),  # and is sent again
    ],
    ids=["a cost", "no cost", "a refusal", "not there"],
)
async def test_what_a_vendor_says_it_cost_when_asked_is_booked(play: Play, said: Any, spent: str) -> None:
    # SEMANTICS 26
    limited(play, 1, Asked, daily=5, budget=Budget(Decimal("1.00"), "EUR", "day"), price=Decimal("0.10"))
    await send(play, Asked(DoubtError("timeout")))
    assert play.one(t.quota)["spent"] == "0.10"
    await send(play, Asked(said, lambda m: m.accepted("again")), NOON + HOUR)
    if play.one(t.message)["state"] == "queued":
        await send(play, Asked(lambda m: m.accepted("again")), NOON + HOUR)
    quota = play.one(t.quota)
    assert (Decimal(quota["spent"]), quota["day_count"]) == (Decimal(spent), 1)


# --- runs ahead of time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limits", [{"rate": 1 / 60}, {"daily": 1}, {"budget": Budget(Decimal(1), "EUR", "month")}])
async def test_a_run_ahead_of_time_holds_up_no_real_one(play: Play, limits: dict[str, Any]) -> None:
    limited(play, 3, **limits)
    far = NOON + 60 * DAY
    with play.store.begin() as tx:  # it died with one claimed and another in flight, its vendor down and asking to wait
        ids = [row["id"] for row in claim(tx, play.setup, "mail", "sim", far, 1).rows]
        outbox.mark(tx, ids, "sim", far, far + LEASE)
        quota = quotas.lock(tx, "mail")
        quota.trip(far, "down")
        quota.block(far + HOUR, far)
        quota.spent = "1"
        quotas.save(tx, quota)
    assert (await play.store.run(sweep, play.setup, NOON, NOON + 60 * DAY)) == (0, 0), "real, and its lease stands"
    assert (await play.store.run(sweep, play.setup, NOON)) == (0, 1)
    with play.store.read() as tx:
        due = next_due(tx, play.setup, {"mail"})
    assert due is not None
    assert due <= NOON + MINUTE
    await send(play, Scripted(accept), due)
    assert play.count(t.message, state="sent") >= 1


async def test_a_lease_that_is_a_little_ahead_is_somebody_elses_whose_clock_is(play: Play) -> None:
    # SEMANTICS 22
    queue(play)
    ahead = NOON + SKEW
    with play.store.begin() as tx:
        claim(tx, play.setup, "mail", "other", ahead, 1)
    assert await play.store.run(sweep, play.setup, NOON) == (0, 0)
    assert await play.store.run(sweep, play.setup, NOON - MINUTE) == (1, 0)


# --- several processes ------------------------------------------------------------------------------------------------


def race(*steps: Callable[[], Any]) -> list[Any]:
    """Do these at once; what each came to, or what it raised."""
    found: list[Any] = [None] * len(steps)

    def go(number: int, step: Callable[[], Any]) -> None:
        try:
            found[number] = step()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=go, args=pair) for pair in enumerate(steps)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return found


def test_a_claim_against_a_budget_and_a_pause_do_not_wait_crosswise(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SEMANTICS 26
    limited(play, 3, budget=Budget(Decimal("0.70"), "EUR", "day"), price=Decimal("0.50"))
    play.write(lambda tx: tx.execute(t.message.update().values(segments=2)))  # there is money left, and too little
    setup, real, found = play.setup, outbox.due, threading.Event()

    def slow(*args: Any, **named: Any) -> Sequence[Any]:
        rows = real(*args, **named)
        found.set()
        time.sleep(0.5)
        return rows

    monkeypatch.setattr(outbox, "due", slow)
    other = other_store(play)

    def claims() -> int:
        with play.store.begin() as tx:
            return claim(tx, setup, "mail", "me", NOON, 10).moved

    def pauses() -> int:
        found.wait(10)
        with other.begin() as tx:
            return pause(tx, setup, "all", "", NOON, actor="ann")

    moved, paused = race(claims, pauses)
    other.close()
    assert (moved, paused) == (3, 3)


def test_a_sweep_and_a_lane_that_gives_back_do_not_wait_crosswise(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 26
    limited(play, 3, daily=10)
    setup, real, found = play.setup, outbox.lapse, threading.Event()
    with play.store.begin() as tx:
        claim(tx, setup, "mail", "me", NOON, 10)

    def slow(*args: Any, **named: Any) -> Sequence[Any]:
        rows = real(*args, **named)
        found.set()
        time.sleep(0.5)
        return rows

    monkeypatch.setattr(outbox, "lapse", slow)
    other = other_store(play)

    def sweeps() -> Any:
        with play.store.begin() as tx:
            return sweep(tx, setup, NOON + LEASE)

    def gives() -> int:
        found.wait(10)
        with other.begin() as tx:
            return give_back(tx, setup, "mail", "me", (), {}, NOON + LEASE)

    assert race(sweeps, gives) == [(3, 0), 0]
    other.close()
    assert play.one(t.quota)["day_count"] == 0


@pytest.mark.parametrize("limits", [{}, {"daily": 100}], ids=["unlimited", "limited"])
async def test_a_probe_ends_with_the_claim_that_sent_it_and_no_other(play: Play, limits: dict[str, Any]) -> None:
    limited(play, 9, **limits)
    setup = play.setup

    def claims(who: str, now: datetime, limit: int = 2) -> int:
        with play.store.begin() as tx:
            return len(claim(tx, setup, "mail", who, now, limit).rows)

    assert claims("early", NOON) == 2
    await play.store.run(trip, setup, "mail", "down", NOON)
    later = NOON + 2 * MINUTE
    assert (claims("probing", later), claims("other", later)) == (1, 0)
    await play.store.run(give_back, setup, "mail", "early", (), {}, later)
    assert claims("other", later) == 0
    await play.store.run(give_back, setup, "mail", "probing", (), {}, later)
    assert claims("other", later) == 1


async def test_a_backlog_moves_in_slices(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "SLICE", 4)
    monkeypatch.setitem(chain.move_on.__kwdefaults__, "most", 4)
    limited(play, 11, daily=1)
    with play.store.begin() as tx:
        assert len(claim(tx, play.setup, "mail", "me", NOON, 1).rows) == 1
        assert [claim(tx, play.setup, "mail", "me", NOON, 9).moved for _ in range(4)] == [4, 4, 2, 0]
        trips = [trip(tx, play.setup, "mail", "down", MIDNIGHT) for _ in range(2)]
    assert (trips, states(play)["queued", "retry"]) == ([4, 4], 8)
    await send(play, Scripted(accept), MIDNIGHT)
    assert states(play)["queued", "retry"] == 10
