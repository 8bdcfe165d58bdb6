"""Whom an address belongs to, and that what is said of it holds for everybody it reaches."""

import pytest
import sqlalchemy as sa

from crmkit.cli.permission import census
from crmkit.core.actions import Send
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Address, Buyer, InboundRecord
from crmkit.flow import consent, family
from crmkit.store import customers
from crmkit.store import tables as t
from tests.play import DAY, HOUR, NOON, Play, buyer, order

SHARED = "both@example.com"


def wrote(play: Play, number: str = "1") -> int | None:
    """Whom a message from the shared address is given to."""
    sender = Address(kind="email", value="Both@Example.com")
    play.take(InboundRecord(external_id=number, channel="email", sender=sender, text="hello", received_at=NOON))
    found: int | None = play.rows(t.interaction, type="message-received")[-1]["profile_id"]
    return found


def two_customers(play: Play) -> None:
    """Two buyers of one shop with one address: two customers. The first was seen there last."""
    play.take(
        order("1", Buyer(external_id="ann", email=SHARED), NOON),
        order("2", Buyer(external_id="bob", email=SHARED), NOON - DAY),
    )


# --- who writes


def test_a_message_is_given_to_the_customer_known_by_its_sender(play: Play) -> None:
    play.take(order("1", buyer("ann")), order("2", Buyer(external_id="bob", email=SHARED)))
    assert wrote(play) == 2


def test_of_one_customers_profiles_the_one_last_seen_at_the_address_is_meant(play: Play) -> None:
    two_customers(play)
    play.write(lambda tx: family.merge(tx, 2, 1, actor="staff:eva", listened=(), now=NOON))
    play.take(order("3", Buyer(external_id="bob", email=SHARED), NOON + HOUR))
    assert wrote(play) == 2


def test_of_several_customers_the_one_last_written_to_at_the_address_is_meant(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda e, crm: [Send("news", via=("email",))]))
    two_customers(play)
    play.decide(NOON)
    for profile, at in ((1, NOON), (2, NOON + HOUR)):
        sent = sa.update(t.message).where(t.message.c.profile_id == profile).values(state="sent", sent_at=at)
        play.write(lambda tx, sent=sent: tx.execute(sent))
    assert wrote(play) == 2


def test_of_several_customers_nobody_wrote_to_the_one_last_seen_at_the_address_is_meant(play: Play) -> None:
    two_customers(play)
    assert wrote(play) == 1
    play.take(order("3", Buyer(external_id="bob", email=SHARED), NOON + HOUR))
    assert wrote(play, "2") == 2


# --- what is said of an address


def offers(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda e, crm: [Send("offer", via=("email",))]))


def reasons(play: Play) -> dict[int, str | None]:
    play.decide(NOON)
    return {row["profile_id"]: row["reason"] for row in play.rows(t.message)}


# SEMANTICS 38
def test_a_stop_said_at_an_address_holds_for_every_customer_it_reaches(play: Play) -> None:
    offers(play)
    play.take(
        order("1", Buyer(external_id="ann", email=SHARED, marketing_consent=True)),
        order("2", Buyer(external_id="bob", email=SHARED, marketing_consent=True)),
        order("3", buyer("cy", marketing_consent=True)),
    )
    said = {"profile_id": None, "address": SHARED, "channel": "email", "purpose": "*", "state": "withdrawn"}
    more = {"source": "page", "actor": "customer", "occurred_at": NOON, "wording": None}
    play.write(lambda tx: consent.enter(tx, [{**said, **more}], listened=(), now=NOON))
    assert reasons(play) == {1: "opted-out", 2: "opted-out", 3: None}


# SEMANTICS 38
def test_a_suppressed_address_is_suppressed_for_every_customer_it_reaches(play: Play) -> None:
    offers(play)
    play.take(
        order("1", Buyer(external_id="ann", email=SHARED, marketing_consent=True)),
        order("2", Buyer(external_id="bob", email=SHARED, marketing_consent=True)),
    )
    row = {"channel": "email", "address": SHARED, "reason": "bad-address", "source": "receipt:1", "since": NOON}
    play.write(lambda tx: customers.suppress_all(tx, [row, row, {**row, "address": None}]))
    play.write(lambda tx: customers.suppress_all(tx, [row]))
    assert play.count(t.suppression) == 1
    assert reasons(play) == {1: "opted-out", 2: "opted-out"}


@pytest.mark.parametrize("kind", ["relay_email", "virtual_phone", "order_token"])
# SEMANTICS 10
def test_a_shared_virtual_or_relay_address_joins_nobody(play: Play, kind: str) -> None:
    way = Address(kind=kind, value="r@relay.example")
    play.take(
        order("1", Buyer(external_id="ann", addresses=(way,))),
        order("2", Buyer(external_id="bob", scope="other", addresses=(way,))),
        order("3", Buyer(name="Guest", addresses=(way,))),
    )
    assert [row["family_id"] for row in play.rows(t.profile)] == [1, 2, 3]
    assert [row["needs_review"] for row in play.rows(t.profile)] == [False, False, False]


# SEMANTICS 10
def test_a_guest_is_the_buyer_whose_address_they_give(play: Play) -> None:
    play.take(order("1", Buyer(email="a@example.com")), order("2", Buyer(phone="+1 202 555 0123")))
    play.take(order("3", Buyer(external_id="ann", email="a@example.com", phone="(202) 555-0123")))
    assert [row["family_id"] for row in play.rows(t.profile)] == [1, 1, 1]


# SEMANTICS 10
def test_buyers_of_two_scopes_are_joined_and_of_one_are_not(play: Play) -> None:
    play.shop(2)
    play.take(order("1", Buyer(external_id="ann", email=SHARED)))
    play.take(order("1", Buyer(external_id="ann", email=SHARED)), shop=2)
    assert [row["family_id"] for row in play.rows(t.profile)] == [1, 1]
    play.take(order("2", Buyer(external_id="bob", email=SHARED)), shop=2)
    assert [row["family_id"] for row in play.rows(t.profile)] == [1, 2, 3]


# SEMANTICS 38
def test_reach_counts_every_customer_once_for_each_purpose(play: Play) -> None:
    """By an address that is live, reached by a gateway, allowed for the purpose and not suppressed; else by why not."""
    over = Address(kind="relay_email", value="r@relay.example", valid_until=NOON - HOUR)
    only_news = Address(kind="email", value="d@example.com", purposes=frozenset({"transactional"}))
    play.take(
        order("1", buyer("ann", marketing_consent=True)),
        order("2", Buyer(external_id="bob", addresses=(over,))),
        order("3", Buyer(external_id="cy", phone="+1 202 555 0123")),
        order("4", Buyer(external_id="di", addresses=(only_news,), marketing_consent=True)),
        order("5", buyer("ed", marketing_consent=True)),
        order("6", buyer("fay")),
        order("7", Buyer(email="fay@example.com")),
    )
    row = {"channel": "email", "address": "ed@example.com", "reason": "bad-address", "source": "x", "since": NOON}
    play.write(lambda tx: customers.suppress_all(tx, [row]))
    with play.store.read() as tx:
        counts = census(tx, play.setup, NOON)
    way = "email (email)"
    nowhere = {"no-address": 1, "no-gateway": 1, "opted-out": 1}
    assert {purpose: dict(found) for purpose, found in counts.items()} == {
        "transactional": {way: 3, **nowhere},
        "marketing": {way: 1, "no-consent": 2, **nowhere},
    }
