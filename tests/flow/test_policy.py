"""What may drop, hold or defer a message, and why."""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.actions import Send, staff
from crmkit.core.events import OrderPaid, OrderPlaced
from crmkit.core.hooks import Policy, Verdict, on
from crmkit.core.message import Reason
from crmkit.core.records import Address, Buyer
from crmkit.flow import consent
from crmkit.flow.claim import claim
from crmkit.flow.last_look import last_look
from crmkit.flow.policy import in_hours
from crmkit.flow.setup import Rules, StaffMember
from crmkit.store import customers
from crmkit.store import tables as t
from tests.play import DAY, HOUR, MINUTE, NOON, START, Play, Text, buyer, entry, order

NEW_YORK = ZoneInfo("America/New_York")


def say(play: Play, template: str = "news", policies: tuple[Policy, ...] = (), **send: Any) -> None:
    tell = on(OrderPlaced)(lambda event, crm: [Send(template, **{"via": ("email",), **send})])
    play.plugin("one", tell, policies=policies)


def result(play: Play, now: datetime = NOON) -> Mapping[str, Any]:
    """The one message that is decided."""
    play.decide(now)
    return play.one(t.message)


def reason(play: Play, now: datetime = NOON) -> tuple[str, str | None]:
    row = result(play, now)
    assert (row["settled_at"] is not None) == (row["state"] in {"suppressed", "held"})
    assert (row["text"] is not None) == (row["state"] == "queued")
    return row["state"], row["reason"]


# --- suppressed -------------------------------------------------------------------------------------------------------


def test_what_may_be_said_is_queued(play: Play) -> None:
    say(play)
    play.take(order("1"))
    row = result(play)
    assert (row["state"], row["address"], row["gateway"], row["subject"]) == (
        "queued",
        "ann@example.com",
        "mail",
        "News",
    )
    assert (row["text"], row["not_before"], row["profile_id"]) == ("Your order 1", NOON, 1)


def test_nobody_to_reach(play: Play) -> None:
    say(play)
    play.take(order("1", Buyer(external_id="ann", phone="+12025550123")))
    assert reason(play) == ("suppressed", "no-address")


def test_an_address_that_has_ended_is_none(play: Play) -> None:
    class Relay(Text):
        reaches = ("virtual_phone",)

    play.channels = {"sms": [entry(Relay)]}
    say(play, via=("sms",))
    gone = Address(kind="virtual_phone", value="+12025550199", valid_until=NOON - MINUTE)
    play.take(order("1", Buyer(external_id="ann", addresses=(gone,))))
    assert reason(play) == ("suppressed", "no-address")


def test_an_orders_own_address_reaches_for_that_order_only(play: Play) -> None:
    # SEMANTICS 38
    class Token(Text):
        reaches = ("order_token",)

    play.channels = {"sms": [entry(Token)]}
    say(play, via=("sms",))
    who = Buyer(external_id="ann", addresses=(Address(kind="order_token", value="tok"),))
    play.take(order("1", who), order("2", Buyer(external_id="ann")))
    play.decide()
    assert [(row["state"], row["address"]) for row in play.rows(t.message)] == [("queued", "tok"), ("suppressed", None)]


def test_via_takes_the_first_channel_that_reaches(play: Play) -> None:
    # SEMANTICS 16
    play.channels = {"sms": [entry(Text)], "email": [entry()]}
    say(play, via=("sms", "email"))
    play.take(order("1"), order("2", Buyer(external_id="bob", email="bob@example.com", phone="+1 202 555 0123")))
    play.decide()
    assert [row["channel"] for row in play.rows(t.message)] == ["email", "sms"]


def test_marketing_needs_an_opt_in(play: Play) -> None:
    # SEMANTICS 17
    say(play, "offer")
    play.take(order("1"), order("2", buyer("bob", marketing_consent=True)))
    play.decide()
    rows = [(row["state"], row["reason"]) for row in play.rows(t.message)]
    assert rows == [("suppressed", "no-consent"), ("queued", None)]


def test_marketing_may_be_allowed_by_default(play: Play) -> None:
    play.more["rules"] = Rules(marketing_default="allow")
    say(play, "offer")
    play.take(order("1"), order("2", buyer("bob", marketing_consent=False)))
    play.decide()
    rows = [(row["state"], row["reason"]) for row in play.rows(t.message)]
    assert rows == [("queued", None), ("suppressed", "opted-out")]


def test_an_address_not_for_marketing_takes_none(play: Play) -> None:
    class Relay(Text):
        channel, reaches = "email", ("relay_email",)

    play.channels = {"email": [entry(Relay)]}
    say(play, "offer")
    relay = Address(kind="relay_email", value="r@relay.example", purposes=frozenset({"transactional"}))
    play.take(order("1", Buyer(external_id="ann", addresses=(relay,), marketing_consent=True)))
    assert reason(play) == ("suppressed", "no-consent")


def test_consent_may_be_taken_back_and_given_again(play: Play) -> None:
    say(play, "offer")
    for hours, granted in enumerate((True, False, True)):
        at = NOON + hours * HOUR
        play.take(order(str(hours), buyer(marketing_consent=granted), at=at))
        play.decide(at)
    assert [row["state"] for row in play.rows(t.message)] == ["queued", "suppressed", "queued"]


def test_of_one_moment_the_withdrawal_counts(play: Play) -> None:
    say(play, "offer")
    play.take(order("1", buyer(marketing_consent=False)), order("2", buyer(marketing_consent=True)))
    play.decide()
    assert {row["reason"] for row in play.rows(t.message)} == {"opted-out"}


def test_consent_of_a_family_is_the_most_restrictive(play: Play) -> None:
    say(play, "offer")
    guest = Buyer(email="ann@example.com", marketing_consent=False)
    play.take(order("0", guest, at=NOON - DAY), order("1", buyer(marketing_consent=True)))
    play.decide()
    assert play.rows(t.message)[1]["reason"] == "opted-out"


def test_consent_is_as_of_the_clock(play: Play) -> None:
    say(play, "offer")
    later = order("2", buyer(marketing_consent=False), at=NOON + HOUR)
    play.take(order("1", buyer(marketing_consent=True)), later)
    assert reason(play) == ("queued", None)


def test_a_suppressed_address_is_suppressed_for_both_who_share_it(play: Play) -> None:
    # SEMANTICS 38
    say(play)
    about = {"channel": "email", "address": "ann@example.com", "reason": "complaint", "source": "hand", "now": NOON}
    play.write(lambda tx: customers.suppress(tx, **about))
    other = Buyer(external_id="bob", email="ann@example.com")
    play.take(order("1"), order("2", other))
    play.decide()
    assert [row["reason"] for row in play.rows(t.message)] == ["opted-out"] * 2
    assert len({row["family_id"] for row in play.rows(t.profile)}) == 2  # two strong identities of one shop


def test_old_news_is_stale(play: Play) -> None:
    # SEMANTICS 17
    say(play, "paid")
    play.take(order("1", at=NOON - 2 * DAY))
    play.shop(announce_from=START - 9 * DAY)
    assert reason(play) == ("suppressed", "stale")


def test_news_that_waits_too_long_is_stale(play: Play) -> None:
    say(play, "paid", not_before=NOON + 3 * DAY)
    play.take(order("1"))
    assert reason(play) == ("suppressed", "stale")


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ({"shipped_at": NOON}, ("suppressed", "overtaken")),
        ({"shipped_at": NOON + HOUR}, ("queued", None)),
        ({"cancelled_at": NOON, "status": "cancelled"}, ("suppressed", "overtaken")),
        ({"cancelled_at": NOON, "status": "paid"}, ("queued", None)),
        ({"placed_at": NOON}, ("queued", None)),
    ],
    ids=["shipped", "not yet", "cancelled", "reopened", "earlier"],
)
def test_later_news_of_the_order_overtakes(play: Play, later: dict[str, Any], expected: tuple[str, str | None]) -> None:
    # SEMANTICS 17
    play.plugin("one", on(OrderPaid)(lambda event, crm: [Send("paid", via=("email",))]))
    play.take(order("1", paid_at=NOON, **later))
    assert reason(play) == expected


def test_a_key_of_ones_own_holds_for_ever(play: Play) -> None:
    say(play, key="welcome")
    play.take(order("1"), order("2", at=NOON - HOUR), order("3", at=NOON + HOUR))
    play.decide()
    play.decide(NOON + HOUR)
    rows = [(row["state"], row["reason"]) for row in play.rows(t.message)]
    assert rows == [("queued", None), ("suppressed", "duplicate"), ("suppressed", "duplicate")]


# --- held -------------------------------------------------------------------------------------------------------------


def test_a_missing_fact_holds_the_message_and_is_named(play: Play) -> None:
    say(play, "lacks")
    play.take(order("1"))
    assert reason(play) == ("held", "missing-variable")
    assert "order.note" in play.one(t.message)["detail"]


def test_a_missing_fact_may_skip_the_message(play: Play) -> None:
    play.template(
        "lacks.en.email", 'purpose = "transactional"\nsubject = "S"\non_missing = "skip"\n---\n{{ order.note }}'
    )
    say(play, "lacks")
    play.take(order("1"))
    assert reason(play) == ("suppressed", "missing-variable")


def test_a_template_that_fails_holds_the_message(play: Play) -> None:
    say(play, "broken")
    play.take(order("1"))
    assert reason(play) == ("held", "template-error")


def test_no_gateway_holds_the_message(play: Play) -> None:
    play.channels = {}
    say(play)
    play.take(order("1"))
    assert reason(play) == ("held", "no-gateway")


@pytest.mark.parametrize(
    "answer",
    ["no", Verdict("drop", Reason.CAPPED), Verdict("defer", Reason.CAPPED), Verdict("suppress", "boring")],  # type: ignore[arg-type]
    ids=["no verdict", "no action", "no time", "no reason"],
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_a_policy_that_answers_nonsense_holds_the_message(play: Play, answer: Any) -> None:
    say(play, policies=(Policy("odd", lambda outgoing, crm: answer),))
    play.take(order("1"))
    assert reason(play) == ("held", "policy-error")


def test_a_policy_that_raises_holds_the_message(play: Play) -> None:
    # SEMANTICS 17
    say(play, policies=(Policy("odd", lambda outgoing, crm: 1 // 0),))  # type: ignore[arg-type,return-value]
    play.take(order("1"))
    assert reason(play) == ("held", "policy-error")
    assert "one.odd" in play.one(t.message)["detail"]


# --- deferred ---------------------------------------------------------------------------------------------------------


def test_a_plugins_policy_may_suppress_and_defer(play: Play) -> None:
    until = NOON + 5 * HOUR
    verdicts = {"1": Verdict("defer", Reason.CAPPED, until=until), "2": Verdict("suppress", Reason.CAPPED)}
    say(play, policies=(Policy("cap", lambda outgoing, crm: verdicts[outgoing.event.order.number]),))
    play.take(order("1"), order("2", buyer("bob")))
    play.decide()
    rows = [(row["state"], row["reason"], row["not_before"]) for row in play.rows(t.message)]
    assert rows == [("queued", "capped", until), ("suppressed", "capped", NOON)]


def test_at_night_a_message_waits(play: Play) -> None:
    play.more["rules"] = Rules(quiet_hours=(time(21), time(9)))
    say(play)
    night = NOON.replace(hour=22)
    play.take(order("1", at=night), order("2", buyer("bob", timezone="America/New_York"), at=night))
    play.decide(night)
    rows = [(row["state"], row["reason"], row["not_before"]) for row in play.rows(t.message)]
    assert rows == [("queued", "quiet-hours", NOON.replace(day=3, hour=9)), ("queued", None, night)]


def test_what_would_be_stale_in_the_morning_is_not_kept(play: Play) -> None:
    play.more["rules"] = Rules(quiet_hours=(time(21), time(9)))
    play.template("paid.en.email", 'purpose = "transactional"\nsubject = "P"\nvalid_for = "2h"\n---\nThanks.')
    say(play, "paid")
    play.take(order("1", at=NOON.replace(hour=22)))
    assert reason(play, NOON.replace(hour=22)) == ("suppressed", "stale")


@pytest.mark.parametrize(
    ("local", "hours", "until"),
    [
        ("2026-06-01 20:59", "21:00-09:00", None),
        ("2026-06-01 21:00", "21:00-09:00", "2026-06-02 09:00"),
        ("2026-06-02 00:30", "21:00-09:00", "2026-06-02 09:00"),
        ("2026-06-02 09:00", "21:00-09:00", None),
        ("2026-06-02 13:00", "12:00-14:00", "2026-06-02 14:00"),
        ("2026-03-07 23:00", "22:00-08:00", "2026-03-08 08:00"),
        ("2026-03-07 23:00", "22:00-02:30", "2026-03-08 03:30"),
        ("2026-11-01 01:10", "00:00-01:30", "2026-11-01 01:30"),
        ("2026-11-01 01:10 again", "00:00-01:30", "2026-11-01 01:30 again"),
    ],
)
def test_the_end_of_the_quiet_hours(local: str, hours: str, until: str | None) -> None:
    """In New York; on 8 March 2026 two o'clock never comes, on 1 November one o'clock comes twice."""
    begin, end = (time.fromisoformat(part) for part in hours.split("-"))
    found = in_hours(_local(local), (begin, end), NEW_YORK)
    assert found == (None if until is None else _local(until))


def _local(written: str) -> datetime:
    text, again, _ = written.partition(" again")
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK, fold=1 if again else 0).astimezone(UTC)


@given(
    minutes=st.integers(0, 366 * 24 * 60),
    begin=st.times(),
    end=st.times(),
    zone=st.sampled_from(["America/New_York", "Europe/Berlin", "Asia/Shanghai", "Australia/Lord_Howe", "Africa/Cairo"]),
)
def test_quiet_hours_always_end(minutes: int, begin: time, end: time, zone: str) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    until = in_hours(moment, (begin, end), ZoneInfo(zone))
    if until is not None:
        assert moment < until <= moment + timedelta(hours=25)
        assert in_hours(until, (begin, end), ZoneInfo(zone)) is None


# --- what the marketplace says ----------------------------------------------------------------------------------------


def forbids_marketing(order: Any, purpose: str, template: str) -> str | None:
    return "no marketing here" if purpose == "marketing" else None


# SEMANTICS 39
def test_what_the_marketplace_forbids_is_asked_before_the_rest(play: Play) -> None:
    play.more["may_say"] = {1: forbids_marketing}
    say(play, "offer")
    play.take(order("1"))  # who has not opted in either
    assert reason(play) == ("suppressed", "marketplace-forbids")
    assert play.one(t.message)["detail"] == "no marketing here"


def test_a_marketplace_is_asked_about_the_order_and_the_template(play: Play) -> None:
    asked: list[Any] = []
    play.more["may_say"] = {1: lambda order, purpose, template: asked.append((order.number, purpose, template))}
    say(play)
    play.take(order("1"))
    assert reason(play) == ("queued", None)
    assert asked == [("1", "transactional", "news")]


def test_it_has_no_say_in_other_shops_nor_with_staff(play: Play) -> None:
    play.more["may_say"] = {1: lambda order, purpose, template: "nothing at all"}
    play.more["staff"] = [StaffMember("Chen", frozenset({"team"}), {"email": "chen@example.com"})]
    play.shop(2)
    sends = [Send("news", via=("email",)), Send("news", via=("email",), to=staff("team"))]
    play.plugin("one", on(OrderPlaced)(lambda event, crm: sends))
    play.take(order("1"))
    play.take(order("2", buyer("bob")), shop=2)
    play.decide()
    rows = {(row["shop_id"], row["staff"]): row["state"] for row in play.rows(t.message)}
    assert rows == {(1, None): "suppressed", (1, "Chen"): "queued", (2, None): "queued", (2, "Chen"): "queued"}


@pytest.mark.parametrize("answer", [True, False, 5, RuntimeError("broken")], ids=repr)
def test_a_marketplace_that_does_not_answer_holds_the_message(play: Play, answer: Any) -> None:
    def ask(order: Any, purpose: str, template: str) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    play.more["may_say"] = {1: ask}
    say(play)
    play.take(order("1"))
    assert reason(play) == ("held", "policy-error")
    assert "shop1.may_say" in play.one(t.message)["detail"]


# SEMANTICS 21, 39
def test_what_the_marketplace_forbids_since_does_not_leave(play: Play) -> None:
    say(play)
    play.take(order("1"))
    play.decide()
    play.more["may_say"] = {1: lambda order, purpose, template: f"not about {order.number}"}
    with play.store.read() as tx:
        [verdict] = last_look(tx, play.setup, play.rows(t.message), NOON).values()
    assert (verdict.reason, verdict.detail) == (Reason.MARKETPLACE_FORBIDS, "not about 1")


def test_a_marketplace_that_breaks_before_a_message_leaves_holds_it(play: Play) -> None:
    say(play)
    play.take(order("1"))
    play.decide()
    play.more["may_say"] = {1: lambda order, purpose, template: 1 / 0}
    play.write(lambda tx: claim(tx, play.setup, "mail", "c", NOON, 10))
    row = play.one(t.message)
    assert (row["state"], row["reason"], row["claim_id"]) == ("held", "policy-error", None)


@pytest.mark.parametrize("source", ["page", "gateway:text", "hand"])
def test_who_stops_again_what_was_allowed_elsewhere_has_stopped_it(play: Play, source: str) -> None:
    # SEMANTICS 17: a standing flag repeats itself; a customer who says a thing twice means it twice
    say(play, "offer")
    play.take(order("1"))
    said = {"profile_id": 1, "channel": "email", "purpose": "marketing", "actor": "customer", "wording": None}
    words = [("withdrawn", source), ("granted", "form"), ("withdrawn", source)]
    entries = [
        {**said, "state": state, "source": by, "occurred_at": NOON - (3 - index) * MINUTE}
        for index, (state, by) in enumerate(words)
    ]
    play.write(lambda tx: consent.enter(tx, entries, listened=(), now=NOON))
    assert reason(play) == ("suppressed", "opted-out")
