"""Receipts come early, late, twice and in any order, and what becomes of a message is the same."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmkit.core.events import MessageDelivered
from crmkit.core.hooks import on
from crmkit.core.message import Message, Receipt
from crmkit.core.records import ReceiptRecord
from crmkit.flow import callback
from crmkit.flow.callback import PATIENCE
from crmkit.flow.claim import claim, sweep
from crmkit.flow.record import Result, record
from crmkit.store import outbox
from crmkit.store import tables as t
from tests.play import HOUR, MINUTE, NOON, Play
from tests.scripted import Scripted, accept, queue, send


def said(state: str, number: str, at: int = 1, **fields: Any) -> ReceiptRecord:
    return ReceiptRecord(external_id=number, state=state, occurred_at=NOON + at * MINUTE, **fields)  # type: ignore[arg-type]


def take(play: Play, *receipts: ReceiptRecord, account: str = "mail") -> None:
    about = {"account": account, "listened": play.setup.listened, "now": NOON + HOUR}
    play.write(lambda tx: callback.take(tx, receipts, **about))


def batched(message: Message) -> Receipt:
    return message.accepted(vendor_id=f"v{message.id}", batch_id="call-1")


NAMES = st.sampled_from(["key", "vendor_id", "batch_id"])
RECEIPTS = st.lists(
    st.tuples(
        st.sampled_from(["sent", "delivered", "bounced", "failed"]),
        NAMES,
        st.integers(1, 3),
        st.sampled_from([None, "bad-address", "mailbox-full", "other"]),
    ),
    min_size=1,
    max_size=5,
)


def named(row: Any, by: str) -> dict[str, str]:
    return {
        "key": {"key": row["key"]},
        "vendor_id": {"vendor_id": f"v{row['id']}"},
        "batch_id": {"batch_id": "call-1", "recipient": row["address"]},
    }[by]


def played(play: Play, receipts: Sequence[ReceiptRecord], accepted_after: int) -> dict[str, Any]:
    """Everything that is to be the same in the end: the message goes out, the accept is stored after so many."""
    play.write(lambda tx: tx.execute(t.receipt.delete()), lambda tx: tx.execute(t.suppression.delete()))
    play.write(lambda tx: tx.execute(t.attempt.delete()))
    first = {"state": "queued", "reason": None, "detail": None, "tries": 0, "claim_id": None, "started_at": None}
    none = dict.fromkeys(("vendor_id", "batch_id", "sent_at", "settled_at", "lease_until", "cost", "cost_currency"))
    play.write(lambda tx: tx.execute(t.message.update().values(**first, **none, not_before=NOON)))
    with play.store.begin() as tx:
        rows = claim(tx, play.setup, "mail", "me", NOON, 1).rows
        outbox.mark(tx, [row["id"] for row in rows], "me", NOON, NOON + HOUR)
    message = Message(rows[0]["id"], rows[0]["key"], "email", "email", "b0@example.com", "", "", "", "")
    result = Result({**rows[0], "claim_id": "me"}, batched(message), NOON, NOON)
    for number, one in enumerate([*receipts, None]):
        if number == accepted_after:
            with play.store.begin() as tx:
                record(tx, [result], play.setup, Scripted(accept), "mail")
        if one is not None:
            take(play, one)
    play.write(lambda tx: sweep(tx, play.setup, NOON + HOUR))
    row = play.one(t.message)
    kept = {name: row[name] for name in ("state", "reason", "sent_at", "settled_at", "vendor_id", "tries")}
    matched = {receipt["message_id"] for receipt in play.rows(t.receipt)}
    return {**kept, "matched": matched, "suppressed": play.count(t.suppression), "attempts": play.count(t.attempt)}


@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 0.6), ("postgresql", 0.3)])
def test_receipts_may_come_in_any_order_and_twice(play: Play, share: float) -> None:
    # SEMANTICS 24
    queue(play)

    @settings(max_examples=int(settings().max_examples * share))
    @given(drawn=RECEIPTS, data=st.data())
    def held(drawn: list[Any], data: st.DataObject) -> None:
        row = play.one(t.message)
        receipts = [
            said(state, str(number), at, **named(row, by), **({"reason": why} if state == "bounced" and why else {}))
            for number, (state, by, at, why) in enumerate(drawn)
        ]
        usual = played(play, receipts, 0)
        shuffled = data.draw(st.permutations(receipts + data.draw(st.lists(st.sampled_from(receipts), max_size=3))))
        assert played(play, shuffled, data.draw(st.integers(0, len(shuffled)))) == usual
        assert usual["matched"] == {row["id"]}

    held()


async def test_a_receipt_that_crossed_the_accept_is_found_by_the_next_run(play: Play) -> None:
    # SEMANTICS 24
    play.plugin("two", on(MessageDelivered)(lambda event, crm: None))
    queue(play)
    await send(play, Scripted(batched))
    number = play.one(t.message)["id"]
    take(play, said("delivered", "1", vendor_id="v0"))
    play.write(lambda tx: tx.execute(t.receipt.update().values(vendor_id=f"v{number}")))  # as if it had not been seen
    assert play.one(t.message)["state"] == "sent"
    await play.store.run(sweep, play.setup, NOON + HOUR)
    assert play.one(t.message)["state"] == "delivered"
    assert play.count(t.interaction, type="message-delivered") == 1


async def test_receipts_and_accepts_at_once_lose_nothing(play: Play) -> None:
    """Receipts are stored by one connection while another stores the accepts."""
    # SEMANTICS 24
    queue(play, 60)
    keys = {row["id"]: row for row in play.rows(t.message)}

    async def tell() -> None:
        for number in keys:
            receipt = said("delivered", str(number), vendor_id=f"v{number}")
            await asyncio.to_thread(take, play, receipt)

    await asyncio.gather(tell(), send(play, Scripted(batched, concurrency=8)))
    await play.store.run(sweep, play.setup, NOON + HOUR)
    assert {row["state"] for row in play.rows(t.message)} == {"delivered"}
    assert {row["sent_at"] for row in play.rows(t.message)} == {NOON}


async def test_what_waits_in_vain_is_given_up_and_kept(play: Play) -> None:
    # SEMANTICS 24
    take(play, said("delivered", "1", vendor_id="nobody's"))
    await play.store.run(sweep, play.setup, NOON + HOUR + PATIENCE - MINUTE)
    assert play.one(t.receipt)["given_up_at"] is None
    await play.store.run(sweep, play.setup, NOON + HOUR + PATIENCE)
    row = play.one(t.receipt)
    assert (row["given_up_at"], row["message_id"]) == (NOON + HOUR + PATIENCE, None)


async def test_a_call_and_a_recipient_name_a_message(play: Play) -> None:
    # SEMANTICS 24
    queue(play, 3)
    await send(play, Scripted(batched))
    take(play, said("delivered", "1", batch_id="call-1", recipient="b1@example.com"))
    take(play, said("delivered", "2", batch_id="call-1", recipient="b2@example.com"), account="other")
    assert [row["state"] for row in play.rows(t.message)] == ["sent", "delivered", "sent"]


async def test_what_a_gateway_says_of_a_message_that_has_moved_on_does_not_end_it(play: Play) -> None:
    queue(play)
    key = play.one(t.message)["key"]
    take(play, said("failed", "1", key=key), account="former")
    assert play.one(t.message)["state"] == "queued"
    take(play, said("failed", "2", key=key))
    assert play.one(t.message)["state"] == "failed"


async def test_many_bounces_end_their_addresses_in_a_few_statements(play: Play) -> None:
    queue(play, 20)
    await send(play, Scripted(accept))
    take(play, *(said("bounced", str(row["id"]), key=row["key"]) for row in play.rows(t.message)))
    assert play.count(t.suppression) == 20
    assert {row["reason"] for row in play.rows(t.suppression)} == {"bad-address"}
