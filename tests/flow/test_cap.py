"""How much marketing somebody gets: what is over the cap is put off, to the first day with room."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.actions import Broadcast, Send, staff
from crmkit.core.broadcast import Audience
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Buyer
from crmkit.flow.cap import Cap, Ledger, parse_cap
from crmkit.flow.decide import decide
from crmkit.flow.setup import Rules, StaffMember
from crmkit.store import tables as t
from tests.play import DAY, HOUR, NOON, Play, buyer, order, statements

SHANGHAI = ZoneInfo("Asia/Shanghai")


def capped(play: Play, cap: str = "2/week", template: str = "offer", **send: Any) -> None:
    play.more["rules"] = Rules(marketing_default="allow", marketing_cap=parse_cap(cap))
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send(template, **{"via": ("email",), **send})]))


def leaving(play: Play, **where: Any) -> list[tuple[datetime, str | None]]:
    return [(row["not_before"], row["reason"]) for row in play.rows(t.message, **where)]


# --- the rule ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "cap"), [("1/day", Cap(1, 1)), ("2/week", Cap(2, 7)), ("10/month", Cap(10, 30))])
def test_a_cap_is_read(written: str, cap: Cap) -> None:
    assert parse_cap(written) == parse_cap(cap) == cap


@pytest.mark.parametrize("written", ["", "2", "0/week", "2/year", "-1/day", "2 / week", "1000/day", 2, None])
def test_what_is_no_cap_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="2/week"):
        parse_cap(written)


# SEMANTICS 17
@given(
    st.builds(Cap, st.integers(1, 3), st.sampled_from([1, 7, 30])),
    st.lists(st.integers(0, 60 * 24), max_size=25),
    st.sampled_from([UTC, SHANGHAI, ZoneInfo("America/New_York")]),
)
def test_no_run_of_days_ever_holds_more_than_the_cap(cap: Cap, hours: list[int], zone: Any) -> None:
    planned: list[datetime] = []
    for wanted in (NOON + hour * HOUR for hour in hours):
        leaves = cap.leaves(wanted, zone, planned)
        assert leaves >= wanted
        if leaves > wanted:  # it could not have left on any day before
            day = wanted.astimezone(zone).date()
            while day < leaves.astimezone(zone).date():
                assert most(cap, [*days(planned, zone), day]) > cap.times
                day += timedelta(days=1)
        planned.append(leaves)
    assert most(cap, days(planned, zone)) <= cap.times


def days(moments: list[datetime], zone: Any) -> list[date]:
    return [moment.astimezone(zone).date() for moment in moments]


def most(cap: Cap, planned: list[date]) -> int:
    """How many the fullest run of days holds."""
    return max(
        (sum(first <= day < first + timedelta(days=cap.days) for day in planned) for first in planned), default=0
    )


def test_a_ledger_forgets_what_did_not_come_about() -> None:
    ledger = Ledger()
    ledger.add(NOON, "ann", "a@example.com")
    size = ledger.size
    ledger.add(NOON + DAY, "ann")
    ledger.take_back(size)
    assert ledger.of("ann") == ledger.of("a@example.com") == [NOON]


# --- in decisions -----------------------------------------------------------------------------------------------------


# SEMANTICS 17
@pytest.mark.parametrize("limit", [1, 500])
def test_what_is_over_the_cap_is_put_off(play: Play, limit: int) -> None:
    capped(play)
    play.take(*(order(str(number), at=NOON) for number in range(4)), order("9", buyer("bob")))
    play.decide(limit=limit)
    assert leaving(play, profile_id=1) == [
        (NOON, None),
        (NOON, None),
        (NOON + 7 * DAY, "capped"),
        (NOON + 7 * DAY, "capped"),
    ]
    assert [row["state"] for row in play.rows(t.message)] == ["queued"] * 5
    assert leaving(play, profile_id=2) == [(NOON, None)]


def test_the_window_rolls(play: Play) -> None:
    capped(play, "1/week")
    for days_ in (0, 3, 8, 20):
        at = NOON + days_ * DAY
        play.take(order(str(days_), at=at), now=at)
        play.decide(at)
        m = t.message
        left = m.update().where(m.c.not_before <= at, m.c.sent_at.is_(None)).values(state="sent", sent_at=at)
        play.write(lambda tx, left=left: tx.execute(left))
    assert leaving(play) == [
        (NOON, None),
        (NOON + 7 * DAY, "capped"),
        (NOON + 15 * DAY, "capped"),
        (NOON + 27 * DAY, "capped"),
    ]


def test_days_are_those_of_the_reader(play: Play) -> None:
    capped(play, "1/day")
    late = datetime(2026, 3, 2, 15, 30, tzinfo=UTC)  # 23:30 in Shanghai
    who = buyer(timezone="Asia/Shanghai")
    play.take(order("1", who, late), order("2", who, late + HOUR))
    play.decide(late + HOUR)
    assert leaving(play) == [(late + HOUR, None), (late + 25 * HOUR, "capped")]


def test_what_waits_for_the_morning_counts_there(play: Play) -> None:
    play.more["rules"] = Rules((time(21), time(9)), "allow", parse_cap("1/day"))
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("offer", via=("email",))]))
    night = NOON + 10 * HOUR
    play.take(order("1", at=night), order("2", at=night))
    play.decide(night)
    morning = datetime(2026, 3, 3, 9, tzinfo=UTC)
    assert leaving(play) == [(morning, "quiet-hours"), (morning + DAY, "capped")]


def test_news_that_would_be_put_off_too_long_is_stale(play: Play) -> None:
    play.template("sale.en.email", 'purpose = "marketing"\nsubject = "S"\nvalid_for = "3d"\n---\nSale')
    capped(play, "1/week", "sale")
    play.take(order("1"), order("2"))
    play.decide()
    assert [(row["state"], row["reason"]) for row in play.rows(t.message)] == [
        ("queued", None),
        ("suppressed", "stale"),
    ]


def test_what_is_no_marketing_is_not_capped(play: Play) -> None:
    capped(play, "1/month", "news")
    play.take(order("1"), order("2"))
    play.decide()
    assert leaving(play) == [(NOON, None)] * 2


# SEMANTICS 19
def test_staff_is_not_capped(play: Play) -> None:
    play.more["staff"] = [StaffMember("Chen", frozenset({"team"}), {"email": "chen@example.com"})]
    capped(play, "1/month", to=staff("team"))
    play.take(order("1"), order("2"))
    play.decide()
    assert leaving(play) == [(NOON, None)] * 2


def test_what_was_suppressed_or_came_back_takes_no_place(play: Play) -> None:
    capped(play, "1/month")
    for number, state in enumerate(("suppressed", "cancelled", "failed", "bounced")):
        play.take(order(str(number)))
        play.decide()
        change = t.message.update().where(t.message.c.state == "queued").values(state=state)
        play.write(lambda tx, change=change: tx.execute(change))
    assert leaving(play) == [(NOON, None)] * 4


def test_what_should_have_left_long_ago_counts_today(play: Play) -> None:
    capped(play, "1/day")
    play.take(order("1"))
    play.decide()
    play.take(order("2", at=NOON + 5 * DAY), now=NOON + 5 * DAY)
    play.decide(NOON + 5 * DAY)
    assert leaving(play) == [(NOON, None), (NOON + 6 * DAY, "capped")]


def test_customers_of_one_address_share_its_cap(play: Play) -> None:
    capped(play, "1/month")
    home = {"email": "home@example.com"}
    play.take(order("1", Buyer(external_id="ann", **home)), order("2", Buyer(external_id="bob", **home)))
    play.decide(limit=1)
    assert leaving(play) == [(NOON, None), (NOON + 30 * DAY, "capped")]


def test_profiles_of_one_customer_share_a_cap(play: Play) -> None:
    capped(play, "1/month")
    both = Buyer(external_id="ann", email="ann@example.com", phone="+12025550123")
    play.take(order("1", both), order("2", Buyer(email="ann@example.com")), order("3", Buyer(phone="+12025550123")))
    play.decide()
    assert sorted(leaving(play)) == [(NOON, None), (NOON + 30 * DAY, "capped"), (NOON + 60 * DAY, "capped")]


def test_what_a_plugin_asked_for_before_it_failed_takes_no_place(play: Play) -> None:
    def fail(event: Any, crm: Any) -> Any:
        return [Send("offer", via=("email",)), Send("no-such-template", via=("email",))]

    capped(play, "1/month")
    play.plugin("first", on(OrderPlaced)(fail))
    play.plugins = dict(sorted(play.plugins.items()))
    play.take(order("1"))
    assert play.decide().failures == 1
    assert leaving(play) == [(NOON, None)]


def test_two_offers_of_one_decision_are_two(play: Play) -> None:
    sends = [Send("offer", via=("email",), key="a"), Send("offer", via=("email",), key="b")]
    capped(play, "1/week")
    play.plugin("one", on(OrderPlaced)(lambda event, crm: sends))
    play.take(order("1"))
    play.decide()
    assert leaving(play) == [(NOON, None), (NOON + 7 * DAY, "capped")]


def test_a_broadcast_keeps_to_the_cap(play: Play) -> None:
    capped(play, "1/week")
    again = Broadcast(Audience(), "offer", via=("email",), key="all")
    play.plugin("two", on(OrderPlaced)(lambda event, crm: [again]))
    play.take(order("1"), order("2", buyer("bob"), NOON - HOUR))
    play.decide()
    assert sorted(leaving(play), key=str) == [(NOON, None)] * 2 + [(NOON + 7 * DAY, "capped")] * 2


def test_without_marketing_a_cap_costs_nothing(play: Play) -> None:
    capped(play, "1/week", "news")
    play.take(order("1"), order("2", buyer("bob")))
    costs = []
    for rules in (play.more["rules"], Rules()):
        play.more["rules"] = rules
        with play.store.rehearse() as tx, statements(play.store) as said:
            decide(tx, play.setup, NOON)
        costs.append(len(said))
    assert costs[0] - costs[1] <= (0 if play.store.engine.dialect.name == "sqlite" else 1)
