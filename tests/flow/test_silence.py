"""Silence is noticed once, by whoever looks, where somebody listened."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from crmkit.core.events import SilenceEnded, SilenceNoticed
from crmkit.core.hooks import Crm, Handler
from crmkit.flow import silence
from crmkit.store import accounts, bulk
from crmkit.store import tables as t
from tests.play import DAY, HOUR, MINUTE, NOON, Play, order, statements

#: Each hour of the last eight weeks something came, up to noon.
HOURS = [NOON - n * HOUR for n in range(8 * 7 * 24)]
READ = frozenset({"placed"})


@pytest.fixture
def shop(play: Play) -> Play:
    """A shop with an order an hour, read up to noon."""
    play.shop(1, reports=READ, announce_from=NOON - 60 * DAY)
    with play.store.begin() as tx:
        accounts.meet(
            tx,
            name="shop1",
            kind="shop",
            adapter="fake",
            vendor_account=None,
            announce_from=NOON - 60 * DAY,
            now=NOON - 60 * DAY,
        )
    play.take(*(order(str(n), at=at) for n, at in enumerate(HOURS)))
    reads(play, NOON)
    return play


def reads(play: Play, now: datetime, *, every: timedelta = 5 * MINUTE) -> None:
    """The shop was read to its end, for an hour now."""
    with play.store.begin() as tx:
        accounts.set_synced(tx, 1, now)
        for number in range(int(HOUR / every) + 1):
            accounts.begin_run(tx, "sync", now - HOUR + number * every)


def look(play: Play, now: datetime) -> int:
    with play.store.begin() as tx:
        return silence.look(tx, play.setup, now)


def told(play: Play) -> list[tuple[str, datetime]]:
    names = {SilenceNoticed.name, SilenceEnded.name}
    return [(row["type"], row["occurred_at"]) for row in play.rows(t.interaction) if row["type"] in names]


def gateway(play: Play, receipts: Iterable[datetime], sent: Iterable[datetime]) -> None:
    """A gateway `mail` that took messages, and told what became of some."""
    with play.store.begin() as tx:
        common: dict[str, Any] = {"vendor_account": None, "announce_from": None, "now": NOON - 60 * DAY}
        accounts.meet(tx, name="mail", kind="gateway", adapter="mail", **common)
        rows = [
            {
                "id": n + 1,
                "account": "mail",
                "external_id": str(n),
                "state": "delivered",
                "occurred_at": at,
                "received_at": at,
            }
            for n, at in enumerate(receipts)
        ]
        bulk.insert(tx, t.receipt, rows)
        tries = [
            {
                "id": n + 1,
                "message_id": n,
                "number": 1,
                "gateway": "mail",
                "started_at": at,
                "finished_at": at,
                "outcome": "accepted",
            }
            for n, at in enumerate(sent)
        ]
        bulk.insert(tx, t.attempt, tries)


def webhook(play: Play, number: int, at: datetime) -> dict[str, Any]:
    return {
        "id": number,
        "account_id": 1,
        "dedupe_key": str(number),
        "received_at": at,
        "query": "",
        "body": b"",
        "state": "done",
        "tries": 0,
    }


def test_a_silence_is_told_once_and_so_is_its_end(shop: Play) -> None:
    said: list[Any] = []

    def hear(event: Any, crm: Crm) -> None:
        said.append(event)

    shop.plugin("ear", Handler(SilenceNoticed, hear), Handler(SilenceEnded, hear))
    assert look(shop, NOON) == 0
    assert look(shop, NOON + HOUR) == 0
    reads(shop, NOON + 20 * HOUR)
    assert look(shop, NOON + 20 * HOUR) == 1
    assert look(shop, NOON + 21 * HOUR) == look(shop, NOON + 30 * HOUR) == 0
    shop.take(order("back", at=NOON + 40 * HOUR), now=NOON + 41 * HOUR)
    reads(shop, NOON + 41 * HOUR)
    assert look(shop, NOON + 41 * HOUR) == 1
    assert look(shop, NOON + 42 * HOUR) == 0
    assert told(shop) == [("silence-noticed", NOON + 20 * HOUR), ("silence-ended", NOON + 41 * HOUR)]

    shop.decide(NOON + 42 * HOUR)
    noticed, ended = said
    assert (noticed.what, noticed.kind, noticed.account) == ("orders of shop1", "orders", "shop1")
    assert (noticed.since, noticed.shop.name) == (NOON, "shop1")
    assert 15 < noticed.expected <= 21
    assert noticed.usual_hours == 1.0
    assert (ended.since, ended.until) == (NOON, NOON + 40 * HOUR)


def test_what_is_known_is_kept_and_learnt_anew_each_day(shop: Play) -> None:
    look(shop, NOON)
    row = shop.one(t.rhythm)
    assert (row["kind"], row["last_at"], row["silent_since"]) == ("orders", NOON, None)
    assert row["rhythm"]["count"] == len(HOURS)
    with statements(shop.store) as said:
        assert look(shop, NOON + 5 * MINUTE) == 0
    assert len([one for one in said if one.startswith(("SELECT", "INSERT"))]) == 1, "looked a moment ago"
    with statements(shop.store) as said:
        look(shop, NOON + HOUR)
    assert not any("GROUP BY" in one for one in said), "nothing is learnt"
    look(shop, NOON + DAY)
    assert shop.one(t.rhythm)["learnt_at"] == NOON + DAY


def test_a_look_costs_the_same_however_many_accounts_there_are(shop: Play) -> None:
    def cost(now: datetime) -> int:
        with statements(shop.store) as said:
            look(shop, now)
        return len(said)

    look(shop, NOON)
    alone = cost(NOON + HOUR)
    for number in range(2, 8):
        shop.shop(number, reports=READ)
        with shop.store.begin() as tx:
            common: dict[str, Any] = {"kind": "shop", "adapter": "fake", "announce_from": NOON, "now": NOON}
            accounts.meet(tx, name=f"shop{number}", vendor_account=str(number), **common)
        shop.take(order(str(number), at=NOON), shop=number)
    look(shop, NOON + 2 * HOUR)  # learns
    look(shop, NOON + 3 * HOUR)
    assert cost(NOON + 4 * HOUR) == alone
    assert shop.count(t.rhythm) == 7


def test_of_a_shop_with_little_history_nothing_is_said(play: Play) -> None:
    play.shop(1, reports=READ)
    with play.store.begin() as tx:
        accounts.meet(tx, name="shop1", kind="shop", adapter="fake", vendor_account=None, announce_from=NOON, now=NOON)
    play.take(*(order(str(n), at=NOON - n * DAY) for n in range(5)))
    reads(play, NOON + 30 * DAY)
    assert look(play, NOON) == look(play, NOON + 30 * DAY) == 0
    assert play.one(t.rhythm)["rhythm"] is None


def test_a_shop_that_was_silent_before_it_was_connected_is_not_noticed(shop: Play) -> None:
    reads(shop, NOON + 70 * DAY)
    assert look(shop, NOON + 70 * DAY) == 0
    assert shop.one(t.rhythm)["rhythm"] is None


def test_orders_are_missed_up_to_the_last_reading_where_a_shop_is_read_seldom(shop: Play) -> None:
    reads(shop, NOON, every=30 * MINUTE)
    with shop.store.begin() as tx:  # read each twelve hours
        tx.execute(t.run.delete())
        for number in range(6):
            accounts.begin_run(tx, "sync", NOON - number * 12 * HOUR)
    for hours in (1, 6, 11, 23):
        assert look(shop, NOON + hours * HOUR) == 0, hours


def test_a_shop_that_cannot_be_read_any_more_is_noticed(shop: Play) -> None:
    for hours in range(1, 30):
        if look(shop, NOON + hours * HOUR):
            break
    assert 10 < hours < 20, "its orders are missed, while it is tried to read it"


def test_who_was_away_misses_nothing_of_that_time(shop: Play) -> None:
    """The machine was off for a week: no order was read and no webhook heard, which says nothing."""
    with shop.store.begin() as tx:
        bulk.insert(tx, t.inbox, [webhook(shop, n + 1, at) for n, at in enumerate(HOURS)])
    assert look(shop, NOON) == 0
    assert look(shop, NOON + 7 * DAY) == 0
    assert look(shop, NOON + 7 * DAY + HOUR) == 0
    assert {row["kind"]: row["silent_since"] for row in shop.rows(t.rhythm)} == {"orders": None, "webhooks": None}


def test_webhooks_are_missed(shop: Play) -> None:
    with shop.store.begin() as tx:
        bulk.insert(tx, t.inbox, [webhook(shop, n + 1, at) for n, at in enumerate(HOURS)])
    shop.take(*(order(f"new {n}", at=NOON + n * HOUR) for n in range(1, 30)), now=NOON + 30 * HOUR)
    for hours in range(31):  # orders go on coming by polling
        reads(shop, NOON + hours * HOUR)
        look(shop, NOON + hours * HOUR)
    (row,) = [one for one in shop.rows(t.interaction) if one["type"] == "silence-noticed"]
    assert row["payload"]["what"] == "webhooks of shop1"
    assert row["shop_id"] == 1


@pytest.mark.parametrize(("count", "noticed"), [(3, True), (2, False), (0, False)])
def test_receipts_are_missed_where_messages_left(play: Play, count: int, noticed: bool) -> None:
    play.shops = {}
    gateway(play, HOURS, [*HOURS, *(NOON + (n + 1) * HOUR for n in range(count))])
    for hours in range(40):
        look(play, NOON + hours * HOUR)
    found = [row for row in play.rows(t.interaction) if row["type"] == "silence-noticed"]
    assert [row["payload"]["what"] for row in found] == ["receipts of mail"] * noticed
    assert all(row["shop_id"] is None for row in found)


def test_what_is_switched_off_is_silent_no_more(shop: Play) -> None:
    reads(shop, NOON + 20 * HOUR)
    look(shop, NOON)
    assert look(shop, NOON + 20 * HOUR) == 1
    shop.shops = {}
    assert look(shop, NOON + 21 * HOUR) == 0
    assert shop.one(t.rhythm)["silent_since"] is None
    shop.shop(1, reports=READ, announce_from=NOON - 60 * DAY)
    assert look(shop, NOON + 22 * HOUR) == 0
    assert [name for name, _ in told(shop)] == ["silence-noticed"], "one and the same silence"


def test_a_clock_that_jumps_notices_nothing_twice(shop: Play) -> None:
    look(shop, NOON)
    reads(shop, NOON + 20 * HOUR)
    assert look(shop, NOON + 20 * HOUR) == 1
    assert look(shop, NOON + 19 * HOUR) == look(shop, NOON + 19 * HOUR + 20 * MINUTE) == 0
    assert look(shop, NOON + 21 * HOUR) == 0
    assert shop.one(t.rhythm)["silent_since"] == NOON


# SEMANTICS 13
def test_of_many_that_look_at_once_one_tells(shop: Play) -> None:
    look(shop, NOON)
    reads(shop, NOON + 20 * HOUR)
    with ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: look(shop, NOON + 20 * HOUR), range(8)))
    assert sorted(counts) == [0] * 7 + [1]
    assert len(told(shop)) == 1


def test_a_shop_that_does_not_say_when_orders_are_placed_is_not_watched(shop: Play) -> None:
    shop.shops[1] = replace(shop.shops[1], reports=frozenset({"shipped"}))
    reads(shop, NOON + 20 * HOUR)
    assert look(shop, NOON) == look(shop, NOON + 20 * HOUR) == 0
    assert not shop.rows(t.rhythm)
