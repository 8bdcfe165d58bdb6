"""What a plan shows is what a dispatch then does; a run with a clock of its own steps from due time to due time."""

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crmkit.adapters.adapter import Account
from crmkit.adapters.gateway import Gateway
from crmkit.core.actions import Action, Later, Send, staff
from crmkit.core.errors import AuthError, DoubtError, RetryableError
from crmkit.core.events import Event, MessageSuppressed, OrderDelivered, OrderPaid, OrderPlaced, OrderShipped
from crmkit.core.hooks import Outgoing, Policy, Verdict, on
from crmkit.core.message import Message, Reason, Receipt
from crmkit.core.quota import Limits
from crmkit.core.records import Buyer, OrderRecord
from crmkit.engine import local
from crmkit.engine.local import Local
from crmkit.flow.pause import pause
from crmkit.flow.setup import Rules, StaffMember
from crmkit.store import tables as t
from tests.dump import everything
from tests.play import DAY, HOUR, MINUTE, NOON, PLAY_TABLES, Mail, Play, buyer, entry, order


class Check(Event):
    """Look again."""


class Accepting(Mail):
    """Takes everything, at the clock of the run."""

    asked: list[str]

    async def deliver(self, message: Message) -> Receipt:
        self.asked.append(message.key)
        return message.accepted(vendor_id=message.key)


class Stage:
    """An engine on a play, without a configuration."""

    migrations: dict[str, Path] = {}
    config = SimpleNamespace(crm=SimpleNamespace(instance=None), folder=Path("/nowhere"), path=Path("/nowhere/c.toml"))

    def __init__(self, play: Play) -> None:
        self.play, self.asked = play, []
        self.adapters: dict[str, type[Gateway]] = {"mail": Accepting}
        self.local = Local(self, play.store)  # type: ignore[arg-type]

    def setup(self, known: Any) -> Any:
        return self.play.setup

    def gateway(self, made: Any) -> Gateway:
        account = Account(made.name, "UTC", None, None, Path())
        gateway = self.adapters[made.name](made.settings, account, SimpleNamespace(aclose=_nothing))  # type: ignore[arg-type]
        gateway.asked = self.asked  # type: ignore[attr-defined]
        return gateway

    def dispatch(self, now: datetime) -> Any:
        return asyncio.run(self.local.dispatch(now=now))


async def _nothing() -> None:
    pass


@pytest.fixture
def stage(play: Play) -> Stage:
    return Stage(play)


# --- a plan is the run ------------------------------------------------------------------------------------------------


def watch(event: Any, crm: Any) -> Iterator[Action]:
    if event.order.promised_at:
        yield Later(Check(), event.order.promised_at)
    yield Send("news", via=("sms", "email"))


def look(event: Any, crm: Any) -> Iterator[Action]:
    if not event.order.is_delivered:
        yield Send("news", via=("email",), key=f"late {event.order.external_id}")
        yield Send("news", via=("email",), to=staff("shop"))


def thank(event: Any, crm: Any) -> Iterator[Action]:
    yield Send("paid", via=("email",), not_before=event.at + timedelta(hours=3))
    if event.order.number == "2":
        raise RuntimeError("broken")


def cap(outgoing: Outgoing, crm: Any) -> Verdict | None:
    if outgoing.template == "offer" and crm.now.hour < 14:
        return Verdict("defer", Reason.CAPPED, until=crm.now.replace(hour=14, minute=0))
    return None


HANDLERS = (
    on(OrderPlaced)(watch),
    on(Check)(look),
    on(OrderPaid)(thank),
    on(OrderShipped)(lambda event, crm: [Send("offer", via=("email",)), Send("lacks", via=("email",))]),
    on(OrderDelivered)(lambda event, crm: [Send("news", via=("email",), key="once")]),
    on(MessageSuppressed)(lambda event, crm: [Send("news", via=("email",), to=staff("shop"), key=f"{event.message}")]),
)

moments = st.integers(-30, 72).map(lambda hours: NOON + timedelta(hours=hours))


@st.composite
def _orders(draw: st.DrawFn) -> list[OrderRecord]:
    found = []
    for number in range(draw(st.integers(1, 4))):
        placed = draw(moments)
        fields = draw(
            st.fixed_dictionaries(
                {},
                optional=dict.fromkeys(("paid_at", "shipped_at", "delivered_at", "promised_at"), moments),
            )
        )
        who = Buyer(
            external_id=f"b{draw(st.integers(0, 1))}",
            email=draw(st.sampled_from(["a@example.com", "b@example.com", None])),
            marketing_consent=draw(st.sampled_from([True, False, None])),
            timezone=draw(st.sampled_from(["Asia/Shanghai", None])),
        )
        found.append(order(str(number), who, placed, **fields))
    return found


SHOWN = ("state", "reason", "detail", "address", "gateway", "content_hash", "not_before", "expires_at", "decided_at")


def shown(rows: Iterable[Mapping[str, Any]], leaves_at: str) -> Counter[tuple[Any, ...]]:
    """Messages as a plan shows them, without numbers: a server draws new ones for what was only rehearsed."""
    return Counter(
        (re.sub(r"[0-9]+", "#", row["key"]), row[leaves_at], *(row.get(name) for name in SHOWN)) for row in rows
    )


def check_plan(stage: Stage, data: st.DataObject) -> None:
    play = stage.play
    play.write(*(lambda tx, table=table: tx.execute(table.delete()) for table in (*t.CORE, *PLAY_TABLES)))
    play.more["rules"] = Rules(quiet_hours=data.draw(st.sampled_from([None, (time(21), time(9))])))
    play.take(*data.draw(_orders(), label="orders"))
    for until in (data.draw(moments, label="first"), NOON + 80 * HOUR):
        with play.store.read() as tx:
            before = everything(tx)
        plan = stage.local.plan(now=until)
        with play.store.read() as tx:
            assert everything(tx) == before
        known = {row["id"] for row in play.rows(t.message) if row["state"] != "queued"}
        stage.dispatch(until)
        done = [row for row in play.rows(t.message) if row["id"] not in known]
        assert shown(plan.rows, "leaves_at") == shown(done, "sent_at")


@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 0.3), ("postgresql", 0.1)])
def test_what_a_plan_shows_is_what_a_dispatch_does(stage: Stage, share: float) -> None:
    play = stage.play
    play.plugin("one", *HANDLERS, policies=(Policy("cap", cap),))
    play.more["staff"] = [StaffMember("Chen", frozenset({"shop"}), {"email": "chen@example.com"})]
    play.shop(announce_from=NOON - 20 * HOUR)

    @settings(max_examples=int(settings().max_examples * share))
    @given(data=st.data())
    def held(data: st.DataObject) -> None:
        check_plan(stage, data)

    held()


# --- a clock of its own -----------------------------------------------------------------------------------------------


def test_a_simulation_steps_from_due_time_to_due_time(stage: Stage) -> None:
    # SEMANTICS 2
    play, clocks = stage.play, []
    note = lambda event, crm: clocks.append((event.name, crm.now, event.order.status))  # noqa: E731
    play.plugin("one", *(on(kind)(note) for kind in (OrderPlaced, OrderShipped, Check)))
    play.plugin("two", on(OrderPlaced)(lambda event, crm: [Later(Check(), NOON + DAY)]))
    shipped = {"shipped_at": NOON + 2 * HOUR, "updated_at": NOON + 2 * HOUR, "status": "shipped"}
    play.take(order("1", **shipped))
    stage.dispatch(NOON + 7 * DAY)
    assert clocks == [
        ("order-placed", NOON, "placed"),
        ("order-shipped", NOON + 2 * HOUR, "shipped"),
        ("check", NOON + DAY, "shipped"),
    ]


def test_each_message_leaves_at_its_own_time(stage: Stage) -> None:
    play = stage.play
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",), not_before=event.at + HOUR)]))
    play.take(order("1"), order("2", buyer("bob"), at=NOON + DAY))
    stage.dispatch(NOON + DAY)
    assert [(row["state"], row["sent_at"]) for row in play.rows(t.message)] == [("sent", NOON + HOUR), ("queued", None)]


def test_two_shops_are_each_decided_at_their_own_time(stage: Stage) -> None:
    """One shop begins to announce far later than the other: what waits for that holds up nobody."""
    play, clocks = stage.play, []
    play.shop(2, announce_from=NOON + 5 * DAY)
    play.plugin("one", on(OrderPlaced)(lambda event, crm: clocks.append((event.shop.id, crm.now))))
    play.take(order("1", at=NOON - DAY), shop=1)
    play.take(order("1", at=NOON + 9 * DAY), shop=2)
    stage.dispatch(NOON + 2 * DAY)
    assert clocks == [(1, NOON - DAY)]
    stage.dispatch(NOON + 20 * DAY)
    assert clocks == [(1, NOON - DAY), (2, NOON + 9 * DAY)]


def test_work_of_a_shop_that_is_off_holds_up_nobody(stage: Stage) -> None:
    play = stage.play
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.shop(2)
    play.take(order("1", at=NOON - DAY), shop=2)
    play.take(order("1", buyer("bob")), shop=1)
    del play.shops[2]
    stage.dispatch(NOON + DAY)
    assert len(stage.asked) == 1


def test_a_gateway_that_has_stopped_holds_up_nobody(stage: Stage) -> None:
    class Refusing(Mail):
        async def deliver(self, message: Message) -> Receipt:
            raise AuthError("no")

    stage.adapters = {"mail": Refusing, "other": Accepting}
    play = stage.play
    play.channels = {"email": [entry(Refusing, "mail")], "letter": [entry(Accepting, "other")]}
    play.template("news.en.letter", 'purpose = "transactional"\n---\nNews')
    letter = on(OrderPaid)(lambda event, crm: [Send("news", via=("letter",))])
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]), letter)
    play.take(order("1", paid_at=NOON + DAY))
    run = stage.dispatch(NOON + 2 * DAY)
    assert list(run.delivered.stopped) == ["mail"]
    assert Counter(row["state"] for row in play.rows(t.message)) == {"queued": 1, "sent": 1}
    assert play.one(t.run)["outcome"] == "failed"


def test_a_retry_is_made_when_it_is_due(stage: Stage) -> None:
    class Moody(Accepting):
        async def deliver(self, message: Message) -> Receipt:
            if len(self.asked) < 3:
                self.asked.append("no")
                raise RetryableError("not now")
            return await super().deliver(message)

    stage.adapters = {"mail": Moody}
    play = stage.play
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(order("1"))
    stage.dispatch(NOON + DAY)
    row = play.one(t.message)
    assert (row["state"], row["tries"]) == ("sent", 4)
    assert NOON + MINUTE < row["sent_at"] < NOON + HOUR


def test_a_dispatch_that_comes_again_does_nothing(stage: Stage) -> None:
    play = stage.play
    play.plugin("one", *HANDLERS)
    play.take(order("1", paid_at=NOON + HOUR, shipped_at=NOON + DAY, promised_at=NOON + 2 * DAY))
    stage.dispatch(NOON + 9 * DAY)
    with play.store.read() as tx:
        before = {name: rows for name, rows in everything(tx).items() if name != "run"}
    stage.dispatch(NOON + 9 * DAY)
    with play.store.read() as tx:
        assert {name: rows for name, rows in everything(tx).items() if name != "run"} == before


def test_stepping_gives_what_one_step_at_a_time_gives(stage: Stage) -> None:
    """A simulation up to a moment is the same as one simulation after the other."""
    play = stage.play
    records = [
        order(str(number), buyer(f"b{number % 2}"), NOON + number * HOUR, paid_at=NOON + (number + 2) * HOUR)
        for number in range(5)
    ]
    outcomes: list[Any] = []
    steps: list[Callable[[], Any]] = [
        lambda: stage.dispatch(NOON + DAY),
        lambda: [stage.dispatch(NOON + hours * HOUR) for hours in range(25)],
    ]
    for step in steps:
        play.write(*(lambda tx, table=table: tx.execute(table.delete()) for table in t.CORE))
        play.plugin("one", on(OrderPlaced)(watch), on(Check)(look))
        play.take(*records)
        step()
        sent = play.rows(t.message)
        outcomes.append({(row["key"].partition(":")[2], row["sent_at"], row["content_hash"]) for row in sent})
    assert outcomes[0] == outcomes[1]


def test_a_transaction_that_takes_long_is_followed_by_a_smaller_one(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SEMANTICS 34
    stage.play.plugin("p", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    stage.play.take(*(order(f"{number}") for number in range(150)))
    asked: list[int] = []

    def decide(tx: Any, setup: Any, now: datetime, limit: int, timer: Any) -> Any:
        asked.append(limit)
        return local.__dict__["_whole"](tx, setup, now, limit, timer)

    monkeypatch.setitem(local.__dict__, "_whole", local.decide)
    monkeypatch.setattr(local, "decide", decide)
    monkeypatch.setattr(local, "DECIDE", 80)
    monkeypatch.setattr(local, "LONGEST", 0.0)
    stage.dispatch(NOON)
    assert asked[:4] == [80, 40, 20, 20]
    assert stage.play.count(t.message) == 150


# --- gateways that are down, limited or paused ------------------------------------------------------------------------


def test_an_outage_is_sat_out_and_uses_up_no_tries(stage: Stage) -> None:
    """The vendor is away for two hours: every message leaves after it, each probe by probe later."""

    class Away(Accepting):
        async def deliver(self, message: Message) -> Receipt:
            assert message.leaves_at is not None
            if message.leaves_at < NOON + 2 * HOUR:
                self.asked.append("away")
                raise RetryableError("connection refused")
            return await super().deliver(message)

    stage.adapters = {"mail": Away}
    play = stage.play
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(*(order(str(number), buyer(f"b{number}")) for number in range(40)))
    stage.dispatch(NOON + DAY)
    rows = play.rows(t.message)
    assert {row["state"] for row in rows} == {"sent"}
    assert all(NOON + 2 * HOUR <= row["sent_at"] <= NOON + 4 * HOUR for row in rows)
    assert max(row["tries"] for row in rows) <= 2
    assert stage.asked.count("away") <= 25


def test_a_gateway_that_is_down_is_passed_by_in_one_run(stage: Stage) -> None:
    class Down(Accepting):
        async def deliver(self, message: Message) -> Receipt:
            raise RetryableError("connection refused")

    stage.adapters = {"mail": Down, "spare": Accepting}
    play = stage.play
    play.channels = {"email": [entry(Down, "mail", concurrency=1), entry(Accepting, "spare")]}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(*(order(str(number), buyer(f"b{number}")) for number in range(20)))
    stage.dispatch(NOON + HOUR)
    assert Counter((row["state"], row["gateway"]) for row in play.rows(t.message)) == {("sent", "spare"): 20}


def test_a_gateway_that_cannot_be_opened_is_passed_by(stage: Stage) -> None:
    class Shut(Accepting):
        async def open(self) -> None:
            raise RetryableError("no route")

    stage.adapters = {"mail": Shut, "spare": Accepting}
    play = stage.play
    play.channels = {"email": [entry(Shut, "mail"), entry(Accepting, "spare")]}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(*(order(str(number), buyer(f"b{number}")) for number in range(3)))
    run = stage.dispatch(NOON)
    assert list(run.delivered.stopped) == ["mail"]
    assert Counter((row["state"], row["gateway"]) for row in play.rows(t.message)) == {("sent", "spare"): 3}


@pytest.mark.parametrize(
    ("limits", "days"),
    [(Limits(daily=4), [4, 4, 2]), (Limits(rate=1 / 14_400), [3, 6, 1]), (Limits(daily=7, rate=0.001), [7, 3])],
    ids=["daily", "rate", "both"],
)
def test_limits_spread_messages_over_days_and_a_plan_says_so(stage: Stage, limits: Limits, days: list[int]) -> None:
    # SEMANTICS 26
    play = stage.play
    play.channels = {"email": [replace(entry(Accepting, "mail"), limits=limits)]}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(*(order(str(number), buyer(f"b{number}")) for number in range(10)))
    until = NOON + 10 * DAY
    plan = stage.local.plan(now=until)
    stage.dispatch(until)
    rows = play.rows(t.message)
    assert list(Counter(row["sent_at"].date() for row in sorted(rows, key=lambda row: row["sent_at"])).values()) == days
    assert shown(plan.rows, "leaves_at") == shown(rows, "sent_at")


def test_a_plan_of_now_shows_what_a_rate_will_let_through_in_time(stage: Stage) -> None:
    play = stage.play
    play.channels = {"email": [replace(entry(Accepting, "mail"), limits=Limits(rate=1.0))]}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(*(order(str(number), buyer(f"b{number}")) for number in range(10)))
    assert Counter(row["state"] for row in stage.local.plan().rows) == {"sent": 10}


def test_a_plan_shows_what_is_paused(stage: Stage) -> None:
    play = stage.play
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(order("1"))
    play.write(lambda tx: pause(tx, play.setup, "channel", "email", NOON, actor="ann"))
    plan = stage.local.plan(now=NOON)
    stage.dispatch(NOON)
    assert [(row["state"], row["reason"]) for row in plan.rows] == [("queued", "paused")]
    assert shown(plan.rows, "leaves_at") == shown(play.rows(t.message), "sent_at")


def test_doubt_is_asked_about_when_it_is_time(stage: Stage) -> None:
    # SEMANTICS 24
    class Asked(Accepting):
        async def deliver(self, message: Message) -> Receipt:
            raise DoubtError("timeout")

        async def look_up(self, message: Message) -> Receipt | None:
            return message.accepted("v")

    stage.adapters = {"mail": Asked}
    play = stage.play
    play.channels = {"email": [entry(Asked, "mail")]}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(order("1"))
    stage.dispatch(NOON + HOUR)
    row = play.one(t.message)
    assert (row["state"], row["sent_at"]) == ("sent", NOON + Asked.look_up_after)


# --- a simulation and the processes there are -------------------------------------------------------------------------


class Modem(Accepting):
    exclusive = True
    channel = "sms"
    reaches = ("phone",)


def two_ways(play: Play) -> None:
    """Four customers, an hour apart, each told by mail and by the modem."""
    play.channels = {"email": [entry(Accepting, "mail")], "sms": [entry(Modem, "modem")]}
    sends = [Send("news", via=("email",)), Send("news", via=("sms",), key="text")]
    play.plugin("one", on(OrderPlaced)(lambda event, crm: sends))
    people = [buyer(f"b{n}", phone=f"+4917012345{n:02}") for n in range(4)]
    play.take(*(order(str(n), who, NOON + n * HOUR) for n, who in enumerate(people)))


def test_a_simulated_day_keeps_an_exclusive_gateway_to_itself(stage: Stage) -> None:
    # SEMANTICS 26
    play = stage.play
    stage.adapters = {"mail": Accepting, "modem": Modem}
    two_ways(play)
    stage.dispatch(NOON + DAY)
    assert Counter((row["channel"], row["state"]) for row in play.rows(t.message)) == {
        ("email", "sent"): 4,
        ("sms", "sent"): 4,
    }
    quota = play.one(t.quota)
    assert (quota["leased_by"], play.count(t.pending)) == (None, 0)


def test_a_lease_that_is_lost_in_a_simulated_run_stops_its_gateway_only_and_is_told(stage: Stage) -> None:
    # SEMANTICS 26
    play = stage.play

    class Robbed(Modem):
        async def deliver(self, message: Message) -> Receipt:
            await play.store.run(lambda tx: tx.execute(t.quota.update().values(leased_by="other")))
            return await super().deliver(message)

    stage.adapters = {"mail": Accepting, "modem": Robbed}
    two_ways(play)
    run = stage.dispatch(NOON + DAY)
    assert Counter((row["channel"], row["state"]) for row in play.rows(t.message)) == {
        ("email", "sent"): 4,
        ("sms", "sent"): 1,
        ("sms", "queued"): 3,
    }
    assert run.delivered.put_off["modem"] == "busy elsewhere: other uses it"
    assert play.count(t.pending) == 0


def test_messages_of_a_gateway_that_is_configured_no_more_move_in_a_simulated_run_and_a_plan(stage: Stage) -> None:
    play = stage.play
    play.channels = {"email": [entry(Accepting, "old"), entry(Accepting, "mail")]}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(*(order(str(number), buyer(f"b{number}")) for number in range(2)))
    play.decide()
    play.channels = {"email": [entry(Accepting, "mail")]}
    plan = stage.local.plan(now=NOON + DAY)
    assert Counter(row["state"] for row in plan.rows) == {"sent": 2}
    stage.dispatch(NOON + DAY)
    assert Counter((row["state"], row["gateway"]) for row in play.rows(t.message)) == {("sent", "mail"): 2}


def test_messages_that_no_gateway_is_left_for_say_so_and_hold_up_no_simulated_time(stage: Stage) -> None:
    play = stage.play
    play.channels = {"email": [entry(Accepting, "old")]}
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Send("news", via=("email",))]))
    play.take(order("1"))
    play.decide()
    play.channels = {"email": [entry(Accepting, "mail")]}
    play.take(order("2", buyer("late"), NOON + 5 * HOUR))
    plan = stage.local.plan(now=NOON + DAY)
    assert Counter((row["state"], row["reason"]) for row in plan.rows) == {
        ("queued", "no-gateway"): 1,
        ("sent", None): 1,
    }
    for _ in range(2):
        stage.dispatch(NOON + DAY)
        found = Counter((row["state"], row["reason"]) for row in play.rows(t.message))
        assert found == {("queued", "no-gateway"): 1, ("sent", None): 1}


def test_a_gateway_that_cannot_be_opened_or_closed_leaves_nothing_open(stage: Stage) -> None:
    closed: list[str] = []

    class Shut(Modem):
        async def open(self) -> None:
            raise RetryableError("no route")

    class Stuck(Accepting):
        async def close(self) -> None:
            raise RetryableError("no answer")

    play = stage.play
    stage.adapters = {"mail": Stuck, "modem": Shut}
    two_ways(play)
    made = stage.gateway

    def gateway(entry: Any) -> Gateway:
        async def close() -> None:
            closed.append(entry.name)

        found = made(entry)
        found.http = SimpleNamespace(aclose=close)  # type: ignore[assignment]
        return found

    stage.gateway = gateway  # type: ignore[method-assign]
    run = stage.dispatch(NOON)
    assert sorted(closed) == ["mail", "modem"]
    assert sorted(run.delivered.stopped) == ["mail", "modem"]
    assert {row["leased_by"] for row in play.rows(t.quota)} == {None}
