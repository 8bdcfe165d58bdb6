"""What is amiss is counted and named, on both databases, by a constant number of statements."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import Handler
from crmkit.core.trouble import Trouble
from crmkit.flow.claim import trip
from crmkit.store import accounts, bulk, silences, troubles
from crmkit.store import tables as t
from tests.play import DAY, HOUR, NOON, Play, order, statements
from tests.scripted import Scripted, accept, queue, send

SINCE = NOON - DAY


def found(play: Play, worst: int = 3, grace: timedelta = timedelta(0)) -> list[Trouble]:
    with play.store.read() as tx:
        return troubles.troubles(tx, SINCE, NOON, [1], grace, worst)


def message(number: int, state: str, order_id: int | None, at: Any = NOON - HOUR, **more: Any) -> dict[str, Any]:
    values = {"key": f"k{number}", "depth": 0, "plugin": "p", "template": "news", "purpose": "transactional"}
    values |= {"channel": "email", "gateways": ["mail"], "decided_at": at, "not_before": at, "tries": 0, "look_ups": 0}
    return {"id": number, "state": state, "order_id": order_id, **values, **more}


def test_what_is_late_waits_or_came_back(play: Play) -> None:
    late = {"old": 5 * DAY, "new": 2 * HOUR, "asleep": 40 * DAY, "soon": -HOUR}
    play.take(*(order(name, at=NOON - 50 * DAY, promised_at=NOON - ago) for name, ago in late.items()))
    play.take(order("came", at=NOON - 9 * DAY, promised_at=NOON - DAY, delivered_at=NOON - HOUR))
    ids = {row["external_id"]: row["id"] for row in play.rows(t.orders)}
    rows = [
        message(1, "held", ids["old"], NOON - 9 * DAY, settled_at=NOON - 9 * DAY),
        message(2, "held", ids["new"]),
        message(3, "held", None),
        message(4, "in-doubt", ids["came"], doubted_at=NOON - HOUR, gateway="mail"),
        message(5, "bounced", ids["old"], NOON - 2 * DAY, settled_at=NOON - HOUR),
        message(6, "bounced", ids["new"], NOON - 3 * DAY, settled_at=NOON - 2 * DAY),
        message(7, "failed", ids["new"], settled_at=NOON - HOUR),
        message(8, "sent", ids["new"]),
    ]
    with play.store.begin() as tx:
        for row in rows:
            bulk.insert(tx, t.message, [row])
        accounts.meet(tx, name="tea", kind="shop", adapter="a", vendor_account=None, announce_from=NOON, now=NOON)
        silent = {"account_id": 1, "kind": "orders", "looked_at": NOON, "watched_from": NOON, "last_at": NOON - 3 * DAY}
        silences.save(tx, [{**silent, "silent_since": NOON - 3 * DAY, "noticed_at": NOON - 2 * DAY}])
    assert found(play) == [
        Trouble("silent-orders", 1, 0, ("tea",)),
        Trouble("late", 2, 1, ("old", "new")),
        Trouble("in-doubt", 1, 1, ("came",)),
        Trouble("held", 3, 2, ("new", "old")),
        Trouble("bounced", 1, 1, ("old",)),
        Trouble("failed", 1, 1, ("new",)),
    ]
    assert [one.named for one in found(play, worst=1)][:2] == [("tea",), ("old",)]
    assert next(one for one in found(play, grace=DAY) if one.kind == "late") == Trouble("late", 1, 0, ("old",))
    with statements(play.store) as said:
        found(play)
    assert len([one for one in said if one.startswith("SELECT")]) <= 11


def test_where_all_is_well_there_is_nothing(play: Play) -> None:
    assert found(play) == []


def test_a_handler_may_ask_for_them(play: Play) -> None:
    play.shop(1, reports=frozenset({"placed", "delivered"}))
    asked: list[Any] = []

    def ask(event: OrderPlaced, crm: Any) -> None:
        asked.append(crm.troubles(crm.now - DAY))

    play.plugin("p", Handler(OrderPlaced, ask))
    play.take(order("1", at=NOON - HOUR, promised_at=NOON - timedelta(minutes=5)))
    play.decide()
    assert asked == [[Trouble("late", 1, 1, ("1",))]]


async def test_a_gateway_that_is_down_is_logged_once_and_once_that_it_is_back(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "crmkit.deliver")
    queue(play, 1)
    for hours in range(3):
        await play.store.run(trip, play.setup, "mail", "no route", NOON + hours * HOUR)
    assert play.one(t.quota)["down_since"] == NOON
    await send(play, Scripted(accept), NOON + 9 * HOUR)
    assert play.one(t.quota)["down_since"] is None
    said = [record.getMessage() for record in caplog.records if record.getMessage().startswith("gateway-")]
    assert said == ["gateway-down gateway=mail", "gateway-back gateway=mail since=2026-03-02T12:00:00+00:00"]
