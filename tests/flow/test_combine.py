"""Bursts are one message: parcels shipped within the hour are told together."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from crmkit.core.actions import Send, staff
from crmkit.core.events import OrderPlaced, ParcelShipped
from crmkit.core.hooks import on
from crmkit.core.records import ParcelRecord
from crmkit.flow.decide import decide
from crmkit.flow.setup import StaffMember
from crmkit.store import log
from crmkit.store import tables as t
from tests.play import DAY, HOUR, MINUTE, NOON, START, Play, buyer, order, statements

PARCELS = (
    'purpose = "transactional"\nsubject = "S"\n---\n{{ count }}:{{ parcels | map(attribute="carrier") | join(" ") }}'
)


@pytest.fixture
def burst(play: Play) -> Play:
    play.template("parcels.en.email", PARCELS)
    send = Send("parcels", via=("email",), combine=HOUR)
    play.plugin("one", on(ParcelShipped)(lambda event, crm: [send]))
    play.take(order("1"), order("2"), order("3", buyer("bob")))
    return play


def ship(play: Play, name: str, at: datetime, of: str = "1", now: datetime | None = None) -> None:
    record = ParcelRecord(external_id=name, order_external_id=of, carrier=name, shipped_at=at, updated_at=at)
    play.take(record, now=now or at)


def said(play: Play) -> list[str]:
    return sorted(row["text"] for row in play.rows(t.message, state="queued"))


def combined(play: Play) -> list[str]:
    return [row["reason"] for row in play.rows(t.message, state="suppressed")]


# SEMANTICS 40
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("limit", [1, 500])
def test_parcels_of_one_hour_are_one_message_that_names_all(burst: Play, limit: int, is_late: bool) -> None:
    """Whether they are decided as they come or all at once, long after."""
    later = NOON + DAY
    for name, minutes, number in [("a", 0, "1"), ("b", 30, "1"), ("x", 40, "3"), ("c", 59, "1"), ("d", 75, "1")]:
        at = NOON + minutes * MINUTE
        ship(burst, name, at, number)
        if not is_late:
            burst.decide(at, limit)
    assert said(burst) == ([] if is_late else ["3:a b c"])
    burst.decide(later, limit)
    assert said(burst) == ["1:d", "1:x", "3:a b c"]
    assert combined(burst) == ["combined"] * 2
    assert burst.count(t.timer) == 0
    assert burst.count(t.pending) == 0


def test_it_leaves_when_the_hour_is_over(burst: Play) -> None:
    ship(burst, "a", NOON)
    burst.decide(NOON + 59 * MINUTE)
    assert burst.one(t.timer)["due_at"] == NOON + HOUR
    assert burst.count(t.message) == 0
    burst.decide(NOON + HOUR)
    row = burst.one(t.message)
    assert (row["text"], row["not_before"], row["state"]) == ("1:a", NOON + HOUR, "queued")


def test_orders_are_told_apart(burst: Play) -> None:
    ship(burst, "a", NOON, "1")
    ship(burst, "b", NOON, "2")
    burst.decide(NOON + HOUR)
    burst.decide(NOON + HOUR)
    assert said(burst) == ["1:a", "1:b"]


def test_what_comes_late_still_joins_the_burst_that_is_open(burst: Play) -> None:
    ship(burst, "b", NOON + 10 * MINUTE)
    burst.decide(NOON + 10 * MINUTE)
    ship(burst, "a", NOON, now=NOON + 20 * MINUTE)
    burst.decide(NOON + 20 * MINUTE)
    burst.decide(NOON + DAY)
    assert said(burst) == ["2:b a"]


def test_a_parcel_is_named_once_and_as_known_when_it_leaves(burst: Play) -> None:
    ship(burst, "a", NOON)
    burst.decide(NOON)
    later = ParcelRecord(
        external_id="a", order_external_id="1", carrier="A2", shipped_at=NOON, updated_at=NOON + 5 * MINUTE
    )
    burst.take(later, now=NOON + 5 * MINUTE)
    burst.decide(NOON + HOUR)
    assert said(burst) == ["1:A2"]


# SEMANTICS 40
def test_a_rehearsal_and_an_interruption_change_nothing(burst: Play) -> None:
    for number, name in enumerate("abcd"):
        at = NOON + number * MINUTE
        ship(burst, name, at)
        for _ in range(2):
            with burst.store.rehearse() as tx:
                decide(tx, burst.setup, at)
        burst.decide(at)

    def rehearse() -> list[Any]:
        with burst.store.rehearse() as tx:
            return [(row["key"], row["text"]) for row in decide(tx, burst.setup, NOON + HOUR).rows]

    assert rehearse() == rehearse() != []
    burst.decide(NOON + DAY)
    assert said(burst) == ["4:a b c d"]


def test_history_is_counted_and_held_by_nobody(burst: Play) -> None:
    burst.take(order("9", at=START - 2 * DAY))
    ship(burst, "a", START - DAY, "9", now=NOON)
    assert burst.decide(NOON).quiet == 1
    assert burst.count(t.timer) == burst.count(t.message) == 0


def test_a_bundle_of_a_plugin_that_is_not_loaded_waits(burst: Play) -> None:
    ship(burst, "a", NOON)
    burst.decide(NOON)
    one = burst.plugins.pop("one")
    burst.more["absent"] = frozenset({"one"})
    burst.decide(NOON + DAY)
    burst.more.clear()
    burst.plugins["one"] = one
    burst.decide(NOON + DAY)
    assert said(burst) == ["1:a"]


@pytest.mark.parametrize("why", ["absent", "broken"])
def test_a_bundle_whose_plugin_is_left_out_before_its_turn_waits_for_it_alone(burst: Play, why: str) -> None:
    other, seen = "two", list[str]()
    burst.plugin(other, on(OrderPlaced)(lambda event, crm: seen.append(event.order.external_id)))
    burst.decide(NOON)
    ship(burst, "a", NOON)
    burst.decide(NOON)
    with burst.store.begin() as tx:
        assert log.fire_timers(tx, NOON + HOUR, burst.setup.listened, 10) == 1
    one = burst.plugins.pop("one")
    burst.more[why] = frozenset({"one"})
    burst.take(order("4"), now=NOON + HOUR)
    burst.decide(NOON + HOUR)
    burst.decide(NOON + 2 * HOUR)
    assert (said(burst), seen[-1:]) == ([], ["4"])  # others' work of this customer goes on
    assert {row["plugin"] for row in burst.rows(t.pending)} == {"one"}
    burst.more.clear()
    burst.plugins["one"] = one
    burst.decide(NOON + DAY)
    assert (said(burst), burst.count(t.pending)) == (["1:a"], 0)


def test_staff_gets_one_message_too_with_context_and_key(play: Play) -> None:
    play.more["staff"] = [StaffMember("Chen", frozenset({"team"}), {"email": "chen@example.com"})]
    play.template(
        "digest.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ count }} for {{ desk }} {{ at }}'
    )
    send = Send(
        "digest", ("email",), to=staff("team"), key="k", context={"desk": 7, "at": NOON}, combine=timedelta(minutes=5)
    )
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [send]))
    play.take(order("1"), order("2", at=NOON + HOUR), now=NOON + DAY)
    play.decide(NOON + DAY)
    rows = play.rows(t.message)
    assert [(row["state"], row["address"]) for row in rows] == [("queued", "chen@example.com")] * 1 + [
        ("suppressed", "chen@example.com")
    ]
    assert (rows[0]["text"], rows[1]["reason"]) == (f"1 for 7 {NOON.isoformat()}", "duplicate")


@pytest.mark.parametrize(
    ("send", "why"),
    [
        (Send("parcels", ("email",), combine=timedelta(0)), "is no time"),
        (Send("no-such", ("email",), combine=HOUR), "no template"),
        (Send("parcels", ("email",), combine=HOUR, context={"zone": 1}), "core's own"),
        (Send("parcels", ("email",), combine=HOUR, context={"x": object()}), "cannot be kept"),
    ],
    ids=["no time", "no template", "a name of the core's", "nothing that can be kept"],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_what_cannot_be_held_is_refused_at_once(burst: Play, send: Send, why: str) -> None:
    burst.plugin("one", on(ParcelShipped)(lambda event, crm: [send]))
    ship(burst, "a", NOON)
    assert why in burst.decide(NOON).failed[0][2]
    assert burst.count(t.timer) == 0


def test_many_bursts_cost_as_many_statements_as_one(burst: Play) -> None:
    costs = []
    for count in (1, 40):
        for number in range(count):
            burst.take(order(f"n{count}-{number}", buyer(f"n{count}-{number}")))
            ship(burst, f"p{count}-{number}", NOON, f"n{count}-{number}")
        with burst.store.begin() as tx, statements(burst.store) as told:
            decide(tx, burst.setup, NOON)
        costs.append(len(told))
    assert costs[0] == costs[1]
