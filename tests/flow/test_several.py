"""Several workers decide at once, on PostgreSQL: none waits for another in a ring, and nothing is lost between them."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from crmkit.core.actions import Send, staff
from crmkit.core.events import MessageReceived, OrderPaid, OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Address, Buyer, InboundRecord, OrderRecord
from crmkit.flow.cap import Cap
from crmkit.flow.decide import Decided, decide
from crmkit.flow.forget import forget
from crmkit.flow.setup import Rules, StaffMember
from crmkit.store import log
from crmkit.store import tables as t
from tests.play import DAY, HOUR, MINUTE, NOON, Play, buyer, order

PHONES = {"ann": "+12025550123", "bob": "+12025550199"}
HALF = NOON + HOUR / 2
postgresql = pytest.mark.parametrize("database_kind", ["postgresql"])


@pytest.fixture
def desk(play: Play) -> Play:
    """Two customers, and a shop that tells its staff of what they write: one message an hour to each desk."""
    play.more["staff"] = [StaffMember(name, frozenset({name}), {"email": f"{name}@shop.example"}) for name in "cs"]
    play.template("alert.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ count }} wrote')

    def alert(event: Any, crm: Any) -> list[Send]:
        return [Send("alert", via=("email",), to=staff(event.text), combine=HOUR)]

    play.plugin("one", on(MessageReceived)(alert))
    play.take(*(order(name, buyer(name, phone=phone)) for name, phone in PHONES.items()))
    play.decide()
    return play


def write(play: Play, name: str, *desks: str, at: Any = NOON) -> None:
    """A customer writes to these desks, a minute apart."""
    for number, to in enumerate(desks):
        sender = Address(kind="phone", value=PHONES[name])
        moment = at + number * MINUTE
        record = InboundRecord(external_id=f"{name}{moment}", channel="sms", sender=sender, text=to, received_at=moment)
        play.take(record, now=max(moment, HALF))


def bundles(play: Play) -> list[str]:
    return sorted(f"{row['staff']}: {row['text']}" for row in play.rows(t.message, state="queued"))


@contextmanager
def apart(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.local]:
    """Each thread decides about one customer only: the one it sets as `customer`."""
    mine, conditions = threading.local(), log._decidable

    def decidable(*args: Any) -> list[Any]:
        return [*conditions(*args), t.pending.c.profile_id == mine.customer]

    with monkeypatch.context() as patch:
        patch.setattr(log, "_decidable", decidable)
        yield mine


def together(play: Play, monkeypatch: pytest.MonkeyPatch, after: str, now: Any) -> list[Decided]:
    """Two workers decide, each about one customer; both go on only when both have done `after`, or one waits."""
    gate, real, setup = threading.Barrier(2, timeout=1), getattr(log, after), play.setup

    def meet(*args: Any) -> Any:
        done = real(*args)
        try:
            gate.wait()
        except threading.BrokenBarrierError:
            pass
        return done

    def work(customer: int) -> Decided:
        mine.customer = customer
        with play.store.begin() as tx:
            return decide(tx, setup, now)

    with apart(monkeypatch) as mine, ThreadPoolExecutor(2) as pool:
        monkeypatch.setattr(log, after, meet)
        try:
            return list(pool.map(work, [row["id"] for row in play.rows(t.profile)]))
        finally:
            monkeypatch.setattr(log, after, real)


@postgresql
def test_history_of_two_customers_is_counted_in_one_order(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 1, 13
    play.shop(1, announce_from=NOON + DAY)
    play.plugin(
        "one",
        on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]),
        on(OrderPaid)(lambda event, crm: [Send("paid", via=("email",))]),
    )
    play.take(
        order("1", buyer("ann"), NOON - HOUR, paid_at=NOON),
        OrderRecord(external_id="2", buyer=buyer("bob"), paid_at=NOON - HOUR, updated_at=NOON),
        order("3", buyer("bob"), NOON),
    )
    done = together(play, monkeypatch, "count_quiet", NOON + 2 * DAY)
    assert [step.quiet for step in done] == [2, 2]
    assert {row["template"]: row["count"] for row in play.rows(t.quiet)} == {"news": 2, "paid": 2}


@postgresql
@pytest.mark.parametrize("after", ["done", "set_timers"])
def test_news_for_the_staff_is_gathered_whoever_comes_first(
    desk: Play, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    # SEMANTICS 13, 19, 40
    write(desk, "ann", "c", "s")
    write(desk, "bob", "s", "c")
    assert [step.interactions for step in together(desk, monkeypatch, after, HALF)] == [2, 2]
    desk.decide(NOON + 2 * HOUR)
    assert bundles(desk) == ["c: 2 wrote", "s: 2 wrote"]


@postgresql
def test_a_bundle_may_be_due_while_another_grows(desk: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # SEMANTICS 13, 40
    write(desk, "ann", "s")
    write(desk, "ann", "c", at=HALF)
    desk.decide(HALF)
    later = NOON + HOUR
    write(desk, "ann", "c", at=later)
    write(desk, "bob", "c", "s", at=later - MINUTE)
    together(desk, monkeypatch, "fire_timers", later)
    desk.decide(NOON + DAY)
    assert bundles(desk) == ["c: 3 wrote", "s: 1 wrote", "s: 1 wrote"]


@postgresql
def test_who_shares_an_address_with_somebody_in_hand_is_left_for_later(play: Play) -> None:
    # SEMANTICS 13, 38
    play.more["rules"] = Rules(marketing_default="allow", marketing_cap=Cap(1, 7))
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("offer", via=("email",))]))
    home = {"email": "home@example.com"}
    play.take(order("1", Buyer(external_id="ann", **home)), order("2", Buyer(external_id="bob", **home)))
    play.take(order("3", buyer("cid")), order("4", buyer("dan"), NOON - HOUR))
    with play.store.begin() as tx:  # the template is known from here on
        assert decide(tx, play.setup, NOON, 1).interactions == 1
    with play.store.begin() as tx:
        assert decide(tx, play.setup, NOON, 1).interactions == 1
        with play.store.begin() as too:
            assert decide(too, play.setup, NOON).interactions == 1
    assert [row["address"] for row in play.rows(t.message)][1:] == ["home@example.com", "cid@example.com"]
    play.decide()
    assert [row["not_before"] for row in play.rows(t.message, address="home@example.com")] == [NOON, NOON + 7 * DAY]


def test_news_for_the_staff_outlives_the_customer_who_wrote_first(desk: Play) -> None:
    # SEMANTICS 12, 19, 40
    write(desk, "ann", "c")
    write(desk, "bob", "c", at=NOON + MINUTE)
    desk.decide(HALF)
    first = next(row["id"] for row in desk.rows(t.profile) if row["key"].endswith("ann"))
    desk.write(lambda tx: forget(tx, first, now=HALF))
    desk.decide(NOON + 2 * HOUR)
    assert bundles(desk) == ["c: 2 wrote"]


@pytest.mark.parametrize("combine", [None, HOUR])
def test_a_message_to_the_staff_says_what_it_came_of(desk: Play, combine: Any) -> None:
    """Nobody's by its customer, it is found by its interaction when somebody is forgotten."""
    send: Callable[[Any, Any], list[Send]] = lambda event, crm: [  # noqa: E731
        Send("alert", via=("email",), to=staff("c"), combine=combine, context={"count": 1})
    ]
    desk.plugin("one", on(MessageReceived)(send))
    write(desk, "ann", "c")
    desk.decide(NOON + DAY)
    row = desk.one(t.message)
    cause = desk.one(t.interaction, id=row["interaction_id"])
    if combine is not None:
        cause = desk.one(t.interaction, id=cause["cause_id"])
    assert (row["profile_id"], cause["type"], cause["profile_id"]) == (None, "message-received", 1)
