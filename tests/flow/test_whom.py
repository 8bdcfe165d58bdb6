"""Who is told, and who is not, where facts come late, again, or from somewhere else."""

import subprocess
import sys

import pytest

from crmkit.core.actions import Later, Send
from crmkit.core.events import CustomerCreated, OrderDelivered, OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Buyer, CustomerRecord, OrderRecord, OrderStatus, Record, RefundRecord
from crmkit.flow import consent
from crmkit.store import log
from crmkit.store import tables as t
from tests.play import DAY, HOUR, MINUTE, NOON, START, Play, buyer, order


def say(play: Play, event: type, template: str = "news", **send: object) -> None:
    play.plugin("one", on(event)(lambda e, crm: [Send(template, via=("email",), **send)]))


# SEMANTICS 17
def test_a_flag_sent_along_with_every_order_takes_no_opt_out_back(play: Play) -> None:
    say(play, OrderDelivered, "offer")
    play.take(order("1", buyer(marketing_consent=True)))
    said = {
        "profile_id": 1,
        "address": None,
        "channel": "*",
        "purpose": "marketing",
        "state": "withdrawn",
        "source": "page",
        "actor": "customer",
        "occurred_at": NOON + HOUR,
        "wording": None,
    }
    play.write(lambda tx: consent.enter(tx, [said], listened=(), now=NOON + HOUR))
    later = NOON + 2 * HOUR
    play.take(order("1", buyer(marketing_consent=True), delivered_at=later, updated_at=later))
    play.decide(later)
    assert play.one(t.message)["reason"] == "opted-out"


# SEMANTICS 38
def test_who_stops_one_address_is_not_written_to_at_an_older_one(play: Play) -> None:
    say(play, OrderPlaced, "offer")
    play.take(order("0", Buyer(external_id="ann", email="old@example.com"), at=NOON - DAY))
    play.take(order("1", Buyer(external_id="ann", email="new@example.com", marketing_consent=True)))
    said = {
        "profile_id": None,
        "address": "new@example.com",
        "channel": "email",
        "purpose": "marketing",
        "state": "withdrawn",
        "source": "page",
        "actor": "customer",
        "occurred_at": NOON,
        "wording": None,
    }
    play.write(lambda tx: consent.enter(tx, [said], listened=(), now=NOON))
    play.decide(NOON)
    assert {row["reason"] for row in play.rows(t.message)} == {"opted-out"}


# SEMANTICS 1
def test_a_customer_listed_without_a_time_is_history(play: Play) -> None:
    say(play, CustomerCreated)
    play.take(CustomerRecord(external_id="ann", buyer=buyer()))
    done = play.decide(NOON)
    assert (play.count(t.message), done.quiet) == (0, 1)


def test_an_old_customer_is_not_new_because_an_order_moved(play: Play) -> None:
    say(play, CustomerCreated)
    play.take(order("1", at=START - 30 * DAY, delivered_at=NOON, updated_at=NOON))
    play.decide(NOON)
    assert play.count(t.message) == 0


def test_a_buyer_who_becomes_known_before_it_is_decided_is_told(play: Play) -> None:
    say(play, OrderPlaced)
    play.take(OrderRecord(external_id="1", placed_at=NOON, updated_at=NOON))
    play.take(order("1", at=NOON, updated_at=NOON + MINUTE))
    play.decide(NOON + HOUR)
    assert play.one(t.message)["address"] == "ann@example.com"


def test_a_key_of_ones_own_is_one_message_for_each_customer(play: Play) -> None:
    say(play, OrderPlaced, key="welcome")
    play.take(order("1"), order("2", buyer("bob")), order("3", at=NOON + MINUTE))
    play.decide(NOON + HOUR)
    assert [(row["address"], row["state"], row["reason"]) for row in play.rows(t.message)] == [
        ("ann@example.com", "queued", None),
        ("bob@example.com", "queued", None),
        ("ann@example.com", "suppressed", "duplicate"),
    ]


def test_a_timer_that_sets_itself_at_once_is_stopped(play: Play) -> None:
    again = on(OrderPlaced)(lambda event, crm: [Later(OrderPlaced(), at=crm.now, key="again")])
    play.plugin("one", again)
    play.take(order("1"))
    play.decide(NOON)
    assert play.one(t.pending)["parked_at"] is not None


def test_timers_of_a_plugin_that_is_not_loaded_wait_for_it(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Later(OrderDelivered(), at=NOON + HOUR, key="look")]))
    play.take(order("1"))
    play.decide(NOON)
    del play.plugins["one"]
    play.more["absent"] = frozenset({"one"})
    play.decide(NOON + DAY)
    assert (play.count(t.timer), play.count(t.interaction, type="order-delivered")) == (1, 0)
    with play.store.read() as tx:
        assert log.next_due(tx, {1: START}, {"one"}) is None


def test_a_status_nobody_mapped_reopens_nothing(play: Play) -> None:
    play.take(order("1", status=OrderStatus.CANCELLED))
    later = NOON + HOUR
    play.take(order("1", status=OrderStatus.UNKNOWN, vendor_status="archived", updated_at=later))
    row = play.one(t.orders)
    assert (row["status"], row["vendor_status"]) == ("cancelled", "archived")
    assert play.count(t.interaction, type="order-reopened") == 0


def test_a_record_of_an_unknown_kind_is_refused_and_the_rest_lands(play: Play) -> None:
    class ProductRecord(Record):
        kind = "product"
        external_id: str

    tally = play.take(ProductRecord(external_id="p1"), order("1"))
    assert [(refused.kind, refused.ref) for refused in tally.refused] == [("product", "p1")]
    assert (play.count(t.orders), play.one(t.quarantine)["kind"]) == (1, "product")


def test_money_without_a_currency_is_refused() -> None:
    with pytest.raises(ValueError, match="amounts without a currency"):
        RefundRecord(external_id="r", order_external_id="1", refunded="12.50")  # type: ignore[arg-type]


def test_a_record_hashes_alike_in_every_process() -> None:
    script = (
        "from datetime import UTC, datetime;"
        "from crmkit import *;"
        "way = Address(kind='email', value='a@x.org');"
        "b = Buyer(masked=frozenset({'name','email','phone','city'}), addresses=(way,));"
        "print(OrderRecord(external_id='1', placed_at=datetime(2026, 1, 2, tzinfo=UTC), buyer=b).content_hash())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(found) == 1
