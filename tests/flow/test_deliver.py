"""Delivered at least once with one key, never silently twice; what is not known is in doubt."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta
from typing import Any

import pytest

from crmkit.adapters.stream import Page
from crmkit.core.actions import Send
from crmkit.core.errors import AuthError, DoubtError, PayloadError, RefusedError, RetryableError, UnsupportedError
from crmkit.core.events import MessageBounced, MessageDelivered, MessageSent, OrderPaid, OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.message import Message, Reason, Receipt
from crmkit.core.quota import OPEN_AFTER, PAUSE_FIRST
from crmkit.core.records import Address, Buyer, ReceiptRecord
from crmkit.flow.claim import LEASE, claim, sweep
from crmkit.flow.deliver import deliver
from crmkit.flow.ingest import ingest
from crmkit.flow.pause import resume
from crmkit.flow.setup import Rules
from crmkit.flow.verdict import TRIES
from crmkit.store import customers, outbox
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.play import DAY, HOUR, MINUTE, NOON, Play, buyer, entry, order
from tests.scripted import Batched, Deduplicating, Scripted, accept, queue, send

# --- what came of a try -----------------------------------------------------------------------------------------------


CASES: list[tuple[Any, str, str | None, str]] = [
    (accept, "sent", None, "accepted"),
    (lambda m: m.rejected(Reason.CONTENT, "spam"), "failed", "content", "rejected"),
    (lambda m: m.rejected(Reason.BAD_ADDRESS, "unknown"), "bounced", "bad-address", "rejected"),
    (RetryableError("refused"), "queued", "retry", "refused"),
    (UnsupportedError("no html"), "failed", "unsupported", "refused"),
    (PayloadError("an answer that cannot be read"), "in-doubt", "no-verdict", "in-doubt"),
    (DoubtError("timeout"), "in-doubt", "no-verdict", "in-doubt"),
    (lambda m: m.deferred("greylisted"), "queued", "retry", "deferred"),
    (ZeroDivisionError("a bug"), "in-doubt", "no-verdict", "in-doubt"),
    (None, "in-doubt", "no-verdict", "in-doubt"),
    (RefusedError("HTTP 422"), "failed", "other", "refused"),
    (lambda m: m.rejected(Reason.OTHER, "a NUL: \x00, half a character: \ud800"), "failed", "other", "rejected"),
]


async def test_what_came_of_a_try(play: Play) -> None:
    # SEMANTICS 23
    queue(play, len(CASES))
    gateway = Scripted(*(outcome for outcome, *_ in CASES), concurrency=1)
    await send(play, gateway)
    rows, attempts = play.rows(t.message), play.rows(t.attempt)
    assert [(row["state"], row["reason"]) for row in rows] == [(state, reason) for _, state, reason, _ in CASES]
    assert [attempt["outcome"] for attempt in attempts] == [tried for *_, tried in CASES]
    assert {(attempt["number"], attempt["gateway"]) for attempt in attempts} == {(1, "mail")}
    assert {row["tries"] for row in rows} == {1}
    assert gateway.asked == [row["key"] for row in rows]
    await send(play, gateway)
    assert len(gateway.asked) == len(CASES)


async def test_an_accept_keeps_what_the_vendor_said(play: Play) -> None:
    queue(play)
    assert (await send(play, Scripted(accept))).states == {"sent": 1}
    row = play.one(t.message)
    assert (row["vendor_id"], row["cost"], row["sent_at"]) == (f"v{row['id']}", "0.05", NOON)


async def test_a_retry_waits_and_as_long_as_the_vendor_asks(play: Play) -> None:
    queue(play)
    gateway = Scripted(RetryableError("x"), RetryableError("x", retry_after=timedelta(hours=3)), accept)
    await send(play, gateway)
    again = play.one(t.message)["not_before"]
    assert NOON + MINUTE / 2 <= again <= NOON + MINUTE
    await send(play, gateway, again)
    assert play.one(t.message)["not_before"] == again + 3 * HOUR
    await send(play, gateway, again + 3 * HOUR)
    assert (play.one(t.message)["state"], play.count(t.attempt)) == ("sent", 3)


async def test_a_message_is_not_tried_for_ever(play: Play) -> None:
    queue(play)
    gateway = Scripted(lambda m: m.deferred("not now"))
    for days in range(2 * TRIES):
        await send(play, gateway, NOON + days * DAY)
    row = play.one(t.message)
    assert (row["state"], row["reason"], row["tries"], len(gateway.asked)) == ("failed", "tries-used-up", TRIES, TRIES)


async def test_what_its_batch_left_behind_has_all_its_tries_when_its_turn_comes(play: Play) -> None:
    # SEMANTICS 23
    queue(play)
    gateway = Scripted(*[lambda m: m.untried("its batch ended")] * (TRIES + 2), lambda m: m.deferred("not now"), accept)
    for days in range(TRIES + 2):
        await send(play, gateway, NOON + days * DAY)
    row = play.one(t.message)
    assert (row["state"], row["reason"], row["tries"]) == ("queued", "retry", 0)
    assert NOON + (TRIES + 1) * DAY < row["not_before"] <= NOON + (TRIES + 1) * DAY + HOUR
    await send(play, gateway, NOON + (TRIES + 2) * DAY)
    assert play.one(t.message)["tries"] == 1
    await send(play, gateway, NOON + (TRIES + 3) * DAY)
    assert (play.one(t.message)["state"], play.count(t.attempt)) == ("sent", TRIES + 4)


async def test_doubt_is_sent_again_only_where_the_vendor_tells_repeats(play: Play) -> None:
    # SEMANTICS 24
    queue(play)
    gateway = Deduplicating(DoubtError("timeout"), accept)
    await send(play, gateway)
    await send(play, gateway, NOON + HOUR)
    assert gateway.asked == [play.one(t.message)["key"]] * 2
    assert play.one(t.message)["state"] == "sent"


async def test_doubt_to_the_end_stays_doubt(play: Play) -> None:
    queue(play)
    for days in range(TRIES + 2):
        await send(play, Deduplicating(DoubtError("timeout")), NOON + days * DAY)
    row = play.one(t.message)
    assert (row["state"], row["reason"], row["tries"]) == ("in-doubt", "no-verdict", TRIES)


async def test_refused_credentials_pause_the_gateway_and_keep_its_messages(play: Play) -> None:
    # SEMANTICS 26
    queue(play, 20)
    gateway = Scripted(AuthError("no"), concurrency=1)
    done = await send(play, gateway)
    assert isinstance(done.stopped["mail"], AuthError)
    assert len(gateway.asked) == 1
    assert {(row["state"], row["tries"], row["not_before"]) for row in play.rows(t.message)} == {("queued", 0, NOON)}
    assert {row["reason"] for row in play.rows(t.message)} == {"paused"}
    assert (play.one(t.pause)["actor"], play.one(t.pause)["reason"]) == ("crmkit", "credentials refused: no")
    assert (await send(play, Scripted(accept))).states == {}
    assert await play.store.run(resume, play.setup, "gateway", "mail", NOON) == 20
    assert (await send(play, Scripted(accept))).states == {"sent": 20}


async def test_a_gateway_that_fails_and_fails_is_left_alone(play: Play) -> None:
    queue(play, 40)
    gateway = Scripted(RetryableError("down"), concurrency=2)
    await send(play, gateway)
    tried = len(gateway.asked)
    assert OPEN_AFTER <= tried <= OPEN_AFTER + 1
    rows = play.rows(t.message)
    assert {(row["state"], row["reason"]) for row in rows} == {("queued", "retry")}
    assert Counter(row["tries"] for row in rows)[0] >= 40 - OPEN_AFTER + 1
    assert {row["not_before"] for row in rows if row["tries"] == 0} == {NOON + PAUSE_FIRST}
    assert play.count(t.message, state="sending") == 0


async def test_a_batch_settles_one_by_one(play: Play) -> None:
    # SEMANTICS 25
    queue(play, 5)
    gateway = Batched(accept, DoubtError("lost"), accept, lambda m: m.rejected(Reason.CONTENT, "no"), concurrency=1)
    await send(play, gateway)
    states = [row["state"] for row in play.rows(t.message)]
    assert states == ["sent", "in-doubt", "in-doubt", "sent", "failed"]


async def test_a_batch_that_says_nothing_of_a_message_leaves_it_in_doubt(play: Play) -> None:
    # SEMANTICS 25
    class Forgetful(Batched):
        async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
            yield accept(messages[0])

    queue(play, 3)
    await send(play, Forgetful(accept))
    assert [row["state"] for row in play.rows(t.message)] == ["sent", "in-doubt", "in-doubt"]


async def test_an_interrupted_delivery_lets_what_is_in_flight_end_and_gives_back_the_rest(play: Play) -> None:
    # SEMANTICS 22
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Slow(Scripted):
        async def deliver(self, message: Message) -> Receipt:
            begun.set()
            await go_on.wait()
            return await super().deliver(message)

    queue(play, 10)
    gateway = Slow(accept, concurrency=2)
    sending = asyncio.create_task(send(play, gateway))
    await begun.wait()
    sending.cancel()
    asyncio.get_running_loop().call_later(0.05, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await sending
    states = Counter(row["state"] for row in play.rows(t.message))
    assert states["sent"] == len(gateway.asked) > 0
    assert states == {"sent": len(gateway.asked), "queued": 10 - len(gateway.asked)}


# --- the last look ----------------------------------------------------------------------------------------------------


def stop(play: Play, **about: Any) -> None:
    row = {"key": "stop", "channel": "*", "purpose": "*", "state": "withdrawn", "source": "link", "actor": "customer"}
    play.write(lambda tx: customers.enter_consent(tx, [{**row, "occurred_at": NOON, "recorded_at": NOON, **about}]))


@pytest.mark.parametrize("about", [{"profile_id": 1}, {"address": "b0@example.com"}], ids=["person", "address"])
async def test_a_stop_between_decision_and_delivery_is_heard(play: Play, about: dict[str, Any]) -> None:
    # SEMANTICS 21
    queue(play)
    stop(play, **about)
    gateway = Scripted(accept)
    done = await send(play, gateway, NOON + HOUR)
    row = play.one(t.message)
    assert (row["state"], row["reason"], row["settled_at"]) == ("suppressed", "opted-out", NOON + HOUR)
    assert (done.states, gateway.asked) == ({"suppressed": 1}, [])


async def test_an_address_that_is_suppressed_meanwhile_is_not_written_to_though_it_is_not_the_customers_any_more(
    play: Play,
) -> None:
    # SEMANTICS 21
    queue(play)
    about = {"channel": "email", "address": "b0@example.com", "reason": "complaint", "source": "hand", "now": NOON}
    play.write(lambda tx: customers.suppress(tx, **about), lambda tx: tx.execute(t.address.delete()))
    await send(play, Scripted(accept))
    assert play.one(t.message)["reason"] == "opted-out"


async def test_later_news_overtakes_what_waits(play: Play) -> None:
    # SEMANTICS 21
    play.plugin("one", on(OrderPaid)(lambda event, crm: [Send("paid", via=("email",), not_before=NOON + HOUR)]))
    play.take(order("1", paid_at=NOON))
    play.decide()
    play.take(order("1", shipped_at=NOON + MINUTE))
    gateway = Scripted(accept)
    await send(play, gateway, NOON + HOUR)
    assert (play.one(t.message)["reason"], gateway.asked) == ("overtaken", [])


async def test_what_is_too_old_does_not_leave(play: Play) -> None:
    # SEMANTICS 21
    queue(play, template="paid")
    await send(play, Scripted(accept), NOON + 2 * DAY)
    assert (play.one(t.message)["state"], play.one(t.message)["reason"]) == ("suppressed", "stale")


async def test_an_address_that_ends_before_the_message_leaves_ends_the_message(play: Play) -> None:
    # SEMANTICS 21
    class Relay(Scripted):
        reaches = ("relay_email",)

    play.channels = {"email": [entry(Relay, "mail")]}
    relay = Address(kind="relay_email", value="x@relay.example", valid_until=NOON + HOUR)
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(order("1", Buyer(external_id="ann", addresses=(relay,))))
    play.decide()
    gateway = Relay(accept)
    await send(play, gateway, NOON + HOUR)
    assert (play.one(t.message)["reason"], gateway.asked) == ("stale", [])


async def test_at_night_it_waits_for_the_morning(play: Play) -> None:
    # SEMANTICS 21
    queue(play)
    play.more["rules"] = Rules(quiet_hours=(time(21), time(9)))
    night = NOON.replace(hour=23)
    gateway = Scripted(accept)
    assert (await send(play, gateway, night)).states == {"deferred": 1}
    row = play.one(t.message)
    assert (row["state"], row["reason"], row["not_before"]) == ("queued", "quiet-hours", NOON.replace(day=3, hour=9))
    await send(play, gateway, row["not_before"])
    assert play.one(t.message)["state"] == "sent"


# --- claims, leases, marks --------------------------------------------------------------------------------------------


def take_hold(play: Play, now: datetime = NOON, limit: int = 10) -> list[int]:
    """Claim as a process would that then goes away."""
    with play.store.begin() as tx:
        return [row["id"] for row in claim(tx, play.setup, "mail", "gone", now, limit).rows]


async def test_a_lapsed_lease_without_a_mark_is_due_again(play: Play) -> None:
    # SEMANTICS 22
    queue(play, 2)
    take_hold(play)
    gateway = Scripted(accept)
    await send(play, gateway, NOON + MINUTE)
    assert gateway.asked == []
    assert await play.store.run(sweep, play.setup, NOON + LEASE) == (2, 0)
    await send(play, gateway, NOON + LEASE)
    assert len(set(gateway.asked)) == 2


async def test_a_lapsed_lease_with_a_mark_is_doubt(play: Play) -> None:
    # SEMANTICS 22
    queue(play, 2)
    ids = take_hold(play)
    assert await play.store.run(outbox.mark, ids[:1], "gone", NOON, NOON + LEASE) == {ids[0]}
    assert await play.store.run(sweep, play.setup, NOON + LEASE) == (1, 1)
    assert [row["state"] for row in play.rows(t.message)] == ["in-doubt", "queued"]
    attempt = play.one(t.attempt)
    assert (attempt["message_id"], attempt["outcome"], attempt["number"]) == (ids[0], "in-doubt", 1)
    gateway = Scripted(accept)
    await send(play, gateway, NOON + LEASE)
    assert len(gateway.asked) == 1


async def test_only_who_holds_the_lease_may_mark(play: Play) -> None:
    # SEMANTICS 22
    queue(play)
    ids = take_hold(play)
    assert await play.store.run(outbox.mark, ids, "other", NOON, NOON + 2 * LEASE) == set()
    assert await play.store.run(outbox.mark, ids, "gone", NOON + LEASE, NOON + 2 * LEASE) == set()
    assert await play.store.run(outbox.mark, ids, "gone", NOON, NOON + 2 * LEASE) == set(ids)
    assert await play.store.run(outbox.mark, ids, "gone", NOON, NOON + 2 * LEASE) == set()


async def test_a_worker_that_was_frozen_past_its_lease_sends_nothing(play: Play) -> None:
    """Its clock stands still while it claims, and has passed the lease when it would mark, or when it would send."""
    # SEMANTICS 22
    queue(play, 4)
    gateway = Scripted(accept, concurrency=2)
    for frozen_after in (1, 2):
        calls = iter(range(1000))
        at = NOON + (frozen_after - 1) * DAY

        def clock(calls: Any = calls, at: datetime = at, frozen_after: int = frozen_after) -> datetime:
            return at if next(calls) < frozen_after else at + 2 * LEASE

        await send(play, gateway, clock)
        assert gateway.asked == []
    assert Counter(row["state"] for row in play.rows(t.message)) == {"queued": 4}


async def test_a_verdict_that_comes_after_the_lease_still_counts(play: Play) -> None:
    class Slow(Scripted):
        async def deliver(self, message: Message) -> Receipt:
            await play.store.run(sweep, play.setup, NOON + LEASE)
            return await super().deliver(message)

    queue(play)
    await send(play, Slow(accept))
    assert play.one(t.message)["state"] == "sent"
    assert [row["outcome"] for row in play.rows(t.attempt)] == ["in-doubt", "accepted"]


async def test_two_dispatchers_at_once_never_double(play: Play) -> None:
    # SEMANTICS 22
    class Yielding(Scripted):
        async def deliver(self, message: Message) -> Receipt:
            await asyncio.sleep(0)
            return await super().deliver(message)

    queue(play, 150)
    other = Store(play.store.engine.url.render_as_string(hide_password=False))
    gateways = [Yielding(accept, concurrency=4) for _ in range(2)]
    try:
        lanes = [
            deliver(store.run, play.setup, "mail", gateway, lambda: NOON)
            for store, gateway in zip((play.store, other), gateways, strict=True)
        ]
        await asyncio.gather(*lanes)
    finally:
        other.close()
    asked = [key for gateway in gateways for key in gateway.asked]
    assert len(asked) == len(set(asked)) == 150
    assert Counter(row["state"] for row in play.rows(t.message)) == {"sent": 150}


# --- receipts ---------------------------------------------------------------------------------------------------------


def receipts(play: Play, *records: ReceiptRecord, now: datetime = NOON + HOUR) -> None:
    mail = replace(play.shops[1], name="mail")  # they come in by the gateway's account
    play.write(lambda tx: ingest(tx, mail, Page(records), stream="r", listened=play.setup.listened, now=now))


def receipt(state: str, number: str = "1", at: datetime = NOON + MINUTE, **fields: Any) -> ReceiptRecord:
    return ReceiptRecord(external_id=number, state=state, occurred_at=at, **fields)  # type: ignore[arg-type]


async def test_a_bounce_ends_the_address(play: Play) -> None:
    queue(play)
    await send(play, Scripted(accept))
    receipts(play, receipt("bounced", vendor_id=play.one(t.message)["vendor_id"], reason="bad-address"))
    row = play.one(t.message)
    assert (row["state"], row["reason"], row["settled_at"]) == ("bounced", "bad-address", NOON + MINUTE)
    assert play.one(t.suppression)["address"] == "b0@example.com"
    play.take(order("9", buyer("b0"), at=NOON + HOUR))
    play.decide(NOON + HOUR)
    assert play.rows(t.message)[1]["reason"] == "opted-out"


async def test_a_full_mailbox_does_not_end_the_address(play: Play) -> None:
    queue(play)
    await send(play, Scripted(accept))
    receipts(play, receipt("bounced", key=play.one(t.message)["key"], reason="mailbox-full"))
    assert (play.one(t.message)["state"], play.count(t.suppression)) == ("bounced", 0)


async def test_a_bounce_that_names_no_reason_ends_the_address_too(play: Play) -> None:
    queue(play)
    await send(play, Scripted(accept))
    receipts(play, receipt("bounced", vendor_id=play.one(t.message)["vendor_id"]))
    assert (play.one(t.message)["reason"], play.count(t.suppression)) == ("bad-address", 1)


async def test_another_accounts_receipt_moves_nothing(play: Play) -> None:
    queue(play)
    await send(play, Scripted(accept))
    there = receipt("bounced", vendor_id=play.one(t.message)["vendor_id"])
    play.write(lambda tx: ingest(tx, play.shops[1], Page([there]), stream="r", listened=(), now=NOON + HOUR))
    assert (play.one(t.message)["state"], play.one(t.receipt)["message_id"]) == ("sent", None)


async def test_receipts_only_move_a_message_up(play: Play) -> None:
    # SEMANTICS 24
    queue(play)
    await send(play, Scripted(accept))
    vendor = play.one(t.message)["vendor_id"]
    receipts(play, receipt("delivered", "2", NOON + HOUR, vendor_id=vendor))
    receipts(play, receipt("sent", "1", NOON + MINUTE, vendor_id=vendor), receipt("delivered", "2", vendor_id=vendor))
    assert (play.one(t.message)["state"], play.one(t.message)["settled_at"]) == ("delivered", NOON + HOUR)
    assert play.count(t.receipt) == 2


@pytest.mark.parametrize("by", ["key", "vendor_id"])
async def test_a_receipt_that_comes_before_the_accept_is_stored_counts(play: Play, by: str) -> None:
    # SEMANTICS 24
    class Prompt(Scripted):
        async def deliver(self, message: Message) -> Receipt:
            found = {"key": message.key} if by == "key" else {"vendor_id": f"v{message.id}"}
            page = Page([receipt("delivered", **found)])
            listened = play.setup.listened
            mail = replace(play.shops[1], name="mail")
            await play.store.run(ingest, mail, page, stream="r", listened=listened, now=NOON)
            return await super().deliver(message)

    play.plugin("one", on(MessageDelivered)(lambda event, crm: None))
    queue(play)
    await send(play, Prompt(accept))
    row = play.one(t.message)
    assert (row["state"], row["vendor_id"]) == ("delivered", f"v{row['id']}")
    assert play.one(t.receipt)["message_id"] == row["id"]
    assert play.count(t.interaction, type="message-delivered") == 1


async def test_a_receipt_resolves_doubt(play: Play) -> None:
    # SEMANTICS 24
    queue(play)
    await send(play, Scripted(DoubtError("timeout")))
    receipts(play, receipt("delivered", key=play.one(t.message)["key"]))
    assert play.one(t.message)["state"] == "delivered"


async def test_what_became_of_messages_is_told_where_somebody_listens(play: Play) -> None:
    told: list[Any] = []
    kinds = (MessageSent, MessageBounced)
    play.plugin("one", *(on(kind)(lambda event, crm: told.append(event)) for kind in kinds))
    queue(play, 2)
    await send(play, Scripted(accept, lambda m: m.rejected(Reason.BAD_ADDRESS, "no"), concurrency=1))
    play.decide()
    assert [(event.name, event.template, event.customer.profile_id) for event in told] == [
        ("message-sent", "news", 1),
        ("message-bounced", "news", 2),
    ]
    assert told[1].reason == "bad-address"


async def test_what_nobody_listens_to_stays_out_of_the_log(play: Play) -> None:
    queue(play)
    await send(play, Scripted(accept))
    assert {row["type"] for row in play.rows(t.interaction)} == {"customer-created", "order-placed", "stage-changed"}
