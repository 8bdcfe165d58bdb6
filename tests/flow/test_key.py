"""Keys of messages: the same however often a decision is repeated, and never one for two."""

from typing import Any

import pytest

from crmkit.core.actions import Emit, Later, Send, staff
from crmkit.core.events import (
    Event,
    MessageBounced,
    MessageSuppressed,
    OrderPlaced,
    ParcelShipped,
    ReviewPosted,
)
from crmkit.core.hooks import on
from crmkit.core.records import Buyer, ParcelRecord, ReviewRecord
from crmkit.flow.decide import decide
from crmkit.flow.setup import StaffMember
from crmkit.store import log
from crmkit.store import tables as t
from tests.play import DAY, HOUR, MINUTE, NOON, Play, buyer, order

HELLO = 'purpose = "transactional"\nsubject = "S"\n---\nHello'


class Nudge(Event):
    """Something to emit."""

    number: int = 0


def keys(play: Play, now: Any = NOON, limit: int = 3) -> list[tuple[Any, ...]]:
    """What a rehearsal comes to; numbers are drawn and lost."""
    found = []
    with play.store.rehearse() as tx:
        while (step := decide(tx, play.setup, now, limit)).interactions:
            found += [(row["key"], row["address"], row.get("content_hash"), row["not_before"]) for row in step.rows]
    return sorted(found, key=lambda row: str(row[0]))


# SEMANTICS 16
def test_a_repeated_decision_comes_to_the_same_keys(play: Play) -> None:
    """Also of what is emitted, of timers, and of what is said about messages that were not sent."""
    play.template("hello.en.email", HELLO)
    play.more["staff"] = [StaffMember("Chen", frozenset({"team"}), {"email": "chen@example.com"})]
    placed = [Send("news", via=("email",)), Emit(Nudge(number=1)), Emit(Nudge(number=2)), Later(Nudge(), NOON)]
    play.plugin(
        "one",
        on(OrderPlaced)(lambda event, crm: placed),
        on(Nudge)(lambda event, crm: [Send("hello", via=("email",))]),
        on(ParcelShipped)(lambda event, crm: [Send("hello", via=("email",))]),
        on(MessageSuppressed)(lambda event, crm: [Send("hello", via=("email",), to=staff("team"))]),
        on(ReviewPosted)(lambda event, crm: [Send("hello", via=("email",))]),
    )
    play.take(
        order("1"),
        order("2", buyer("bob")),
        order("3", Buyer(external_id="cid")),
        *(ParcelRecord(external_id=f"p{n}", order_external_id="1", shipped_at=NOON, updated_at=NOON) for n in (1, 2)),
        *(
            ReviewRecord(external_id=f"r{n}", order_external_id="2", posted_at=NOON, updated_at=NOON, rating=5)
            for n in (1, 2)
        ),
    )
    first = keys(play)
    assert len(first) == len({key for key, *_ in first}) > 15
    assert keys(play) == first
    assert keys(play, limit=500) == first
    play.decide()
    assert sorted(row["key"] for row in play.rows(t.message)) == sorted(key for key, *_ in first)


def test_two_that_look_alike_are_two(play: Play) -> None:
    """Nothing but its number tells one emitted event from the other."""
    play.template("hello.en.email", HELLO)
    twice = [Emit(Nudge()), Emit(Nudge()), Emit(Nudge())]
    play.plugin("one", on(OrderPlaced)(lambda event, crm: twice))
    play.plugin("two", on(Nudge)(lambda event, crm: [Send("hello", via=("email",))]))
    play.take(order("1"))
    first = keys(play, limit=1)
    play.decide()
    rows = play.rows(t.message)
    assert [row["state"] for row in rows] == ["queued"] * 3
    assert sorted(row["key"] for row in rows) == [key for key, *_ in first]


# --- keys of one's own ------------------------------------------------------------------------------------------------


def welcome(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",), key="welcome")]))


# SEMANTICS 16
@pytest.mark.parametrize("state", ["queued", "sending", "sent", "delivered", "held", "in-doubt"])
def test_what_left_or_may_still_leave_is_told(play: Play, state: str) -> None:
    welcome(play)
    play.take(order("1"))
    play.decide()
    play.write(lambda tx: tx.execute(t.message.update().values(state=state)))
    play.take(order("2"))
    play.decide()
    assert [(row["state"], row["reason"]) for row in play.rows(t.message)][1:] == [("suppressed", "duplicate")]


@pytest.mark.parametrize("state", ["suppressed", "cancelled", "failed", "bounced"])
def test_what_told_nobody_blocks_nothing(play: Play, state: str) -> None:
    welcome(play)
    for number in range(4):
        play.take(order(str(number)))
        play.decide()
        if number < 2:
            play.write(lambda tx: tx.execute(t.message.update().values(state=state)))
    rows = play.rows(t.message)
    assert [row["state"] for row in rows] == [state, state, "queued", "suppressed"]
    assert len({row["key"] for row in rows}) == 4
    assert len({row["once"] for row in rows}) == 1


def test_who_could_not_be_reached_is_told_later(play: Play) -> None:
    welcome(play)
    play.take(order("1", Buyer(external_id="ann")))
    play.decide()
    play.take(order("2", buyer("ann"), NOON + HOUR), now=NOON + HOUR)
    play.decide(NOON + HOUR)
    assert [(row["state"], row["reason"]) for row in play.rows(t.message)] == [
        ("suppressed", "no-address"),
        ("queued", None),
    ]


def test_after_a_bounce_the_same_may_be_said_another_way(play: Play) -> None:
    play.template("hello.en.email", HELLO)
    bounced = on(MessageBounced)(lambda event, crm: [Send("hello", via=("email",), key="k")])
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",), key="k")]), bounced)
    play.take(order("1"))
    play.decide()
    play.write(lambda tx: tx.execute(t.message.update().values(state="bounced")))
    message = play.one(t.message)
    told = {"type": "message-bounced", "profile_id": 1, "actor": "crmkit", "occurred_at": NOON + MINUTE, "shop_id": 1}
    payload = {"message": message["id"], "template": "news", "channel": "email", "reason": "bad-address"}
    row = {**told, "payload": payload, "cause_id": None, "depth": 1}
    play.write(lambda tx: log.append(tx, [row], ["message-bounced"], NOON + MINUTE))
    play.decide(NOON + DAY)
    assert [row["template"] for row in play.rows(t.message, state="queued")] == ["hello"]


def test_of_two_customers_at_once_staff_is_told_once_of_a_key(play: Play) -> None:
    play.more["staff"] = [StaffMember("Chen", frozenset({"team"}), {"email": "chen@example.com"})]
    daily = Send("news", via=("email",), to=staff("team"), key="2026-03-02")
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [daily]))
    play.take(order("1"), order("2", buyer("bob")), order("3", buyer("cid")))
    play.decide()
    assert sorted(row["state"] for row in play.rows(t.message)) == ["queued", "suppressed", "suppressed"]
