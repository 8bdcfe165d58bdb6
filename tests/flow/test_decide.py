"""Decided exactly once, in order per customer, in waves; plugins are apart; history is quiet."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlmodel import Field, SQLModel

from crmkit.core.actions import Action, Broadcast, Cancel, Emit, Later, Note, Save, Send, staff
from crmkit.core.broadcast import Audience
from crmkit.core.errors import PluginError
from crmkit.core.events import (
    CustomerCreated,
    Event,
    MessageSuppressed,
    OrderPaid,
    OrderPlaced,
    OrderShipped,
    ParcelShipped,
)
from crmkit.core.hooks import Handler, on
from crmkit.core.interaction import DEPTH_LIMIT, TRIES_LIMIT
from crmkit.core.order import Parcel
from crmkit.core.records import Buyer, ParcelRecord
from crmkit.flow.decide import FAILURES, decide
from crmkit.flow.setup import Rules, StaffMember
from crmkit.store import tables as t
from tests.dump import everything
from tests.play import DAY, HOUR, MINUTE, NOON, START, Counted, Numbered, Play, buyer, order


class Ping(Event):
    """Something to emit."""

    number: int = 0


class Pong(Event):
    """Something to emit in turn."""


class Dropped(Event):
    """A parcel fell off."""

    parcel: Parcel | None = None


class Stranger(SQLModel, table=True):
    """A table nobody made."""

    __tablename__ = "play_stranger"

    id: int = Field(primary_key=True)


def counting(
    event: type[Event], label: str | None = None, per: Callable[[Any], Any] = lambda event: event.id
) -> Handler:
    """A handler that counts its calls in a table of its own, for each interaction."""

    @on(event)
    def count(event: Any, crm: Any) -> Iterator[Action]:
        name = f"{label or event.name} {per(event)}"
        known = crm.select(Counted, name=name)
        yield Save(Counted(name=name, times=known[0].times + 1 if known else 1))

    return count


def doing(event: type[Event], *actions: Any) -> Handler:
    """A handler that asks for these actions."""
    return on(event)(lambda event, crm: actions)


def raising(event: type[Event], when: Callable[[Any], bool] = lambda event: True) -> Handler:
    def fail(event: Any, crm: Any) -> Iterator[Action]:
        yield Note("never kept")
        if when(event):
            raise RuntimeError("broken")

    return on(event)(fail)


# --- once -------------------------------------------------------------------------------------------------------------


def test_an_interaction_is_decided_once(play: Play) -> None:
    # SEMANTICS 15, 27
    play.plugin("one", counting(OrderPlaced))
    play.take(order("1"), order("2", buyer("bob")))
    assert play.decide().interactions == 2
    with play.store.read() as tx:
        before = everything(tx)
    assert play.decide().interactions == 0
    play.take(order("1"), order("2", buyer("bob")))
    play.decide()
    with play.store.read() as tx:
        assert everything(tx) == before
    assert play.counted() == {"order-placed": 2}


def test_what_nobody_listens_to_is_no_work(play: Play) -> None:
    # SEMANTICS 15
    play.plugin("one", counting(OrderShipped))
    play.take(order("1"))
    assert play.count(t.interaction) > 0
    assert play.count(t.pending) == 0


def test_what_lies_after_the_clock_is_not_due(play: Play) -> None:
    # SEMANTICS 2
    play.plugin("one", counting(OrderPlaced))
    play.take(order("1", at=NOON + HOUR))
    assert play.decide(NOON).interactions == 0
    assert play.decide(NOON + HOUR).interactions == 1


def test_work_of_a_shop_that_is_switched_off_stays(play: Play) -> None:
    play.plugin("one", counting(OrderPlaced))
    play.shop(2)
    play.take(order("1"), shop=2)
    off = play.shops.pop(2)
    assert play.decide().interactions == 0
    assert play.count(t.pending) == 1
    play.shops[2] = off
    assert play.decide().interactions == 1


def test_work_of_a_plugin_that_is_not_loaded_waits_for_it(play: Play) -> None:
    play.plugin("one", counting(OrderPlaced, "one"))
    play.more["absent"] = frozenset({"two"})
    play.take(order("1"))
    play.decide()
    assert play.counted() == {"one": 1}
    play.more.clear()
    play.plugin("two", counting(OrderPlaced, "two"))
    play.decide()
    assert play.counted() == {"one": 1, "two": 1}
    assert play.count(t.pending) == 0


def test_an_event_whose_plugin_is_gone_is_let_go(play: Play) -> None:
    play.plugin("one", doing(OrderPlaced, Later(Ping(), NOON + HOUR)))
    play.take(order("1"))
    play.decide()
    play.write(lambda tx: tx.execute(t.timer.update().values(type="no-such-event")))
    play.plugin("one", counting(Ping))
    assert play.decide(NOON + DAY).interactions == 0
    assert play.count(t.pending) == 0


# --- order and waves --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 500])
def test_a_customers_interactions_are_decided_oldest_first(play: Play, limit: int) -> None:
    # SEMANTICS 13, 14
    told: list[str] = []

    def tell(event: Any, crm: Any) -> None:
        told.append(f"{event.customer.profile_id} {event.name} {event.order.number}")

    play.plugin("one", on(OrderPlaced)(tell), on(OrderPaid)(tell), on(OrderShipped)(tell))
    ann, bob = buyer("ann"), buyer("bob")
    play.take(
        order("3", ann, NOON - HOUR, shipped_at=NOON, paid_at=NOON - MINUTE),
        order("2", bob, NOON - 2 * HOUR, shipped_at=NOON - HOUR),
        order("1", ann, NOON - 3 * HOUR, shipped_at=NOON - 2 * HOUR),
    )
    play.decide(limit=limit)
    of_ann = [line.partition(" ")[2] for line in told if line.startswith("1 ")]
    assert of_ann == ["order-placed 1", "order-shipped 1", "order-placed 3", "order-paid 3", "order-shipped 3"]
    assert len(told) == 7


def test_a_handler_sees_what_the_one_before_it_saved(play: Play) -> None:
    # SEMANTICS 14
    play.plugin("one", counting(OrderPlaced, "of", per=lambda event: event.customer.id))
    play.take(*(order(str(number), at=NOON - number * MINUTE) for number in range(5)))
    play.decide()
    assert play.one(t.table_of(Counted))["times"] == 5


def test_facts_are_shown_as_of_the_clock(play: Play) -> None:
    # SEMANTICS 2
    seen: list[tuple[Any, ...]] = []
    show = on(OrderPlaced)(lambda event, crm: seen.append((event.order.status, event.order.shipped_at, crm.now)))
    play.plugin("one", show)
    play.take(order("1", shipped_at=NOON + HOUR, status="shipped", updated_at=NOON + HOUR))
    play.decide(NOON)
    assert seen == [("placed", None, NOON)]


# --- plugins are apart ------------------------------------------------------------------------------------------------


class NoSql(SQLModel):
    """No table."""


def halfway(event: Any, crm: Any) -> Iterator[Action]:
    yield Save(Counted(name=f"half {event.id}", times=1))
    yield Send("news", via=("email",))
    crm.select(Counted)
    raise KeyError("broken")


async def is_async(event: Any, crm: Any) -> list[Action]:
    return [Note("never")]


async def yields_async(event: Any, crm: Any) -> Any:
    yield Note("never")


def endless(event: Any, crm: Any) -> Iterator[Action]:
    while True:
        yield Note("never kept")


def leaves(event: Any, crm: Any) -> Iterator[Action]:
    yield Note("never kept")
    raise SystemExit(3)


def swallows(event: Any, crm: Any) -> list[Action]:
    """Goes on after the database refused something: on PostgreSQL nobody can."""
    try:
        crm.select(Stranger)
    except Exception:
        crm.select(Counted)
    raise RuntimeError("broken")


def recursive(event: Any, crm: Any) -> Any:
    return recursive(event, crm)


BAD: dict[str, Any] = {
    "raises": raising(OrderPlaced),
    "raises half-way": on(OrderPlaced)(halfway),
    "leaves the program": on(OrderPlaced)(leaves),
    "is async": on(OrderPlaced)(is_async),  # type: ignore[arg-type]
    "yields async": on(OrderPlaced)(yields_async),
    "never ends": on(OrderPlaced)(endless),
    "recurs without end": on(OrderPlaced)(recursive),
    "returns one action": on(OrderPlaced)(lambda event, crm: Note("no list")),  # type: ignore[arg-type,return-value]
    "returns text": on(OrderPlaced)(lambda event, crm: "news"),  # type: ignore[arg-type,return-value]
    "yields a class": doing(OrderPlaced, Note),
    "swallows what the database says": on(OrderPlaced)(swallows),
    "broadcasts to nobody it can name": doing(OrderPlaced, Broadcast(Audience(shops=["no"]), "news", ("email",))),
    "combines for no time": doing(OrderPlaced, Send("news", ("email",), combine=0 * MINUTE)),
    "returns nonsense": on(OrderPlaced)(lambda event, crm: 5),
    "yields no action": doing(OrderPlaced, "send it"),
    "sends from a template that is not there": doing(OrderPlaced, Send("nowhere", via=("email",))),
    "sends over no channel": doing(OrderPlaced, Send("news", via=())),
    "sends over text": doing(OrderPlaced, Send("news", via="email")),
    "sends one thing twice": doing(OrderPlaced, Send("news", via=("email",)), Send("news", via=("email",))),
    "sends one key twice": doing(OrderPlaced, Send("news", via=("email",), key="k"), Send("paid", ("email",), key="k")),
    "names a variable of the core's": doing(OrderPlaced, Send("news", via=("email",), context={"order": 1})),
    "is late without a zone": doing(OrderPlaced, Later(Ping(), NOON.replace(tzinfo=None))),
    "is late with nonsense": doing(OrderPlaced, Later(Ping(number="x"), NOON + HOUR)),  # type: ignore[arg-type]
    "emits nonsense": doing(OrderPlaced, Emit(Ping(number="x"))),  # type: ignore[arg-type]
    "saves no row": doing(OrderPlaced, Save("row")),  # type: ignore[arg-type]
    "saves what is no table": doing(OrderPlaced, Save(NoSql())),
    "saves into the core": doing(OrderPlaced, Save(t.RunRow(id=1, command="x", started_at=NOON))),
    "saves what the database refuses": doing(OrderPlaced, Save(Counted(name="x", times=None))),
    "saves a number beyond 64 bits": doing(OrderPlaced, Save(Counted(name="x", times=2**70))),
    "saves one thing twice": doing(OrderPlaced, Save(Numbered(what="w")), Save(Numbered(what="w"))),
    "saves into a table that is not there": doing(OrderPlaced, Save(Stranger(id=1))),
    "selects from a table that is not there": on(OrderPlaced)(lambda event, crm: crm.select(Stranger)),
    "selects by a column that is not there": on(OrderPlaced)(lambda event, crm: crm.select(Counted, no="x")),
}


#: What only the database itself notices.
OF_THE_DATABASE = [what for what in BAD if what.startswith(("saves", "selects", "swallows", "raises"))]


@pytest.mark.parametrize(
    ("what", "database_kind"),
    [(what, kind) for what in BAD for kind in ("sqlite", "postgresql") if kind == "sqlite" or what in OF_THE_DATABASE],
)
def test_what_a_plugin_breaks_is_its_own(play: Play, what: str) -> None:
    # SEMANTICS 14
    play.plugin("before", counting(OrderPlaced, "before"))
    play.plugin("bad", BAD[what])
    play.plugin("after", counting(OrderPlaced, "after"), doing(OrderPlaced, Note("kept")))
    play.take(order("1"), order("2", buyer("bob")))
    done = play.decide()
    assert play.counted() == {"before": 2, "after": 2}
    assert [(plugin, number) for plugin, number, _ in done.failed] == [("bad", n) for n in {f[1] for f in done.failed}]
    assert len(done.failed) == 2
    waiting = play.rows(t.pending)
    assert [(row["plugin"], row["tries"], row["parked_at"]) for row in waiting] == [("bad", 1, None)] * 2
    assert all(row["error"] and NOON < row["due_at"] <= NOON + MINUTE for row in waiting)
    assert play.count(t.interaction, type="note") == 2
    assert play.count(t.message) == play.count(t.timer) == 0


def test_the_first_failures_are_told_and_all_are_counted(play: Play) -> None:
    play.plugin("bad", raising(OrderPlaced))
    play.take(*(order(str(number), buyer(f"c{number}")) for number in range(FAILURES + 20)))
    done = play.decide(limit=50)
    assert (done.failures, len(done.failed)) == (FAILURES + 20, FAILURES)
    assert done.rows == []


def test_each_plugins_time_is_measured_by_the_clock_that_is_given(play: Play) -> None:
    moment = 0.0

    def work(seconds: float) -> Handler:
        def spend(event: Any, crm: Any) -> None:
            nonlocal moment
            moment += seconds

        return on(OrderPlaced)(spend)

    play.plugin("quick", work(0.25))
    play.plugin("slow", work(2))
    play.take(order("1"), order("2"))
    with play.store.begin() as tx:
        done = decide(tx, play.setup, NOON, timer=lambda: moment)
    assert done.seconds == {"quick": 0.5, "slow": 4}


def test_a_failed_pair_is_tried_again_with_backoff_and_parked_in_the_end(play: Play) -> None:
    play.plugin("good", counting(OrderPlaced))
    play.plugin("bad", raising(OrderPlaced))
    play.take(order("1"))
    now, waits = NOON, []
    for number in range(1, TRIES_LIMIT + 1):
        play.decide(now)
        row = play.one(t.pending)
        assert row["tries"] == number
        waits.append(row["due_at"] - now)
        now = row["due_at"]
    assert row["parked_at"] is not None
    assert waits[1:] == sorted(waits[1:])
    assert play.decide(now + 10 * DAY).interactions == 0
    assert play.counted() == {"order-placed": 1}


def test_a_pair_that_is_mended_is_decided_at_its_next_try(play: Play) -> None:
    play.plugin("one", raising(OrderPlaced))
    play.take(order("1"))
    play.decide()
    play.plugin("one", counting(OrderPlaced))
    assert play.decide(NOON + HOUR).interactions == 1
    assert play.counted() == {"order-placed": 1}
    assert play.count(t.pending) == 0


def test_later_interactions_of_the_customer_wait_for_that_plugin_only(play: Play) -> None:
    # SEMANTICS 14
    told: list[str] = []
    broken = True

    def pick(event: Any, crm: Any) -> None:
        if broken and event.order.number == "1":
            raise RuntimeError("broken")
        told.append(event.order.number)

    play.plugin("picky", on(OrderPlaced)(pick))
    play.plugin("easy", counting(OrderPlaced))
    guest = Buyer(email="ann@example.com")  # another profile of the same customer
    play.take(order("1", at=NOON - HOUR), order("2", guest, at=NOON - MINUTE), order("3", buyer("bob")))
    play.decide(NOON)
    assert told == ["3"]
    assert play.counted() == {"order-placed": 3}
    play.take(order("4", at=NOON + MINUTE), now=NOON + MINUTE)
    for minutes in range(1, 12):  # while the first fails again and again, nothing passes it
        play.decide(NOON + minutes * MINUTE)
    assert told == ["3"]
    broken = False
    play.decide(NOON + 2 * HOUR)
    assert told == ["3", "1", "2", "4"]
    assert play.count(t.pending) == 0


def test_a_parked_pair_blocks_nobody(play: Play) -> None:
    # SEMANTICS 14
    play.plugin("picky", raising(OrderPlaced, lambda event: event.order.number == "1"), counting(OrderPaid))
    play.take(order("1"))
    for days in range(TRIES_LIMIT + 1):
        play.decide(NOON + days * DAY)
    play.take(order("2", at=NOON + 9 * DAY, paid_at=NOON + 9 * DAY))
    play.decide(NOON + 9 * DAY)
    assert play.counted() == {"order-paid": 1}
    assert play.count(t.pending) == 1


# --- effects ----------------------------------------------------------------------------------------------------------


def test_what_is_emitted_has_the_context_of_its_cause(play: Play) -> None:
    seen: list[Any] = []
    play.plugin("one", doing(OrderPlaced, Emit(Ping(number=7))))
    play.plugin("two", on(Ping)(lambda event, crm: seen.append(event)))
    play.take(order("1"))
    play.decide(NOON + HOUR)
    (event,) = seen
    assert (event.number, event.order.number, event.shop.id, event.at) == (7, "1", 1, NOON)
    assert (event.customer.profile_id, event.actor) == (1, "plugin:one")
    cause = play.one(t.interaction, type="order-placed")
    assert play.one(t.interaction, type="ping")["cause_id"] == cause["id"]


# SEMANTICS 1
def test_what_history_tells_is_quiet_whatever_shop_it_names(play: Play) -> None:
    """Also where it is decided later, with a customer of its own."""
    since_ever = play.shop(2, announce_from=START - 99 * DAY)
    failing = True

    def tell(event: Any, crm: Any) -> Any:
        if failing:
            raise RuntimeError("broken")
        return [Send("offer", via=("email",)), Emit(Pong())]

    play.template("offer.en.email", 'purpose = "transactional"\nsubject = "S"\n---\nTea')
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Emit(Ping(shop=since_ever))]))
    play.plugin("two", on(Ping)(tell), doing(Pong, Send("offer", via=("email",))))
    play.take(order("1", at=START - DAY))
    play.decide()
    failing = False
    done = play.decide(NOON + HOUR)
    assert done.quiet == 2
    assert play.count(t.message) == 0
    play.take(order("2", at=START + DAY))
    play.decide(NOON + 2 * HOUR)
    assert play.count(t.message, state="queued") == 2


def test_an_event_of_a_plugins_own_may_be_about_a_parcel(play: Play) -> None:
    """Emitted, and after a time; what is not the parcel itself has to be called otherwise."""
    seen: list[Any] = []
    tell = on(ParcelShipped)(
        lambda event, crm: [Emit(Dropped(parcel=event.parcel)), Later(Dropped(parcel=event.parcel), NOON + HOUR)]
    )
    play.plugin("one", tell, on(Dropped)(lambda event, crm: seen.append((event.parcel.key, event.parcel.carrier))))
    play.take(
        order("1"),
        ParcelRecord(external_id="p", order_external_id="1", shipped_at=NOON, updated_at=NOON, carrier="DHL"),
    )
    play.decide()
    play.take(ParcelRecord(external_id="p", order_external_id="1", updated_at=NOON + MINUTE, carrier="GLS"))
    play.decide(NOON + HOUR)
    assert seen == [("p", "DHL"), ("p", "GLS")]


@pytest.mark.parametrize("name", ["parcel", "review", "shop", "at", "id"])
def test_a_field_of_an_event_may_not_hide_one_of_the_cores(name: str) -> None:
    with pytest.raises(PluginError, match=f"Hiding has a field {name}, which is the core's own; give"):
        type("Hiding", (Event,), {"__annotations__": {name: str}, name: ""})


def test_of_one_key_only_the_first_ever_happens(play: Play) -> None:
    play.plugin("one", doing(OrderPlaced, Emit(Ping(), key="first")), counting(Ping))
    play.take(order("1"), order("2", buyer("bob")))
    play.decide()
    play.take(order("3", buyer("cid"), at=NOON + HOUR))
    play.decide(NOON + HOUR)
    assert play.counted() == {"ping": 1}


def test_a_chain_of_effects_ends(play: Play) -> None:
    # SEMANTICS 15
    play.plugin("loop", doing(OrderPlaced, Emit(Ping())), doing(Ping, Emit(Ping())))
    play.take(order("1"))
    done = play.decide()
    assert [plugin for plugin, _, _ in done.failed] == ["loop"]
    assert play.count(t.interaction, type="ping") == DEPTH_LIMIT


def test_a_chain_through_messages_ends_too(play: Play) -> None:
    again = on(MessageSuppressed)(lambda event, crm: [Send("news", via=("email",))])
    play.plugin("loop", doing(OrderPlaced, Send("news", via=("email",))), again)
    play.take(order("1", Buyer(external_id="ann")))
    play.decide()
    play.decide(NOON + DAY)
    assert 1 < play.count(t.message, state="suppressed") <= DEPTH_LIMIT + 1
    assert play.one(t.pending)["parked_at"] is not None


def test_a_timer_fires_when_it_is_due_and_is_dated_so(play: Play) -> None:
    # SEMANTICS 3
    seen: list[Any] = []
    play.plugin("one", doing(OrderPlaced, Later(Ping(number=3), NOON + HOUR)))
    play.plugin("two", on(Ping)(lambda event, crm: seen.append((event.number, event.at, event.order.number))))
    play.take(order("1"))
    play.decide(NOON)
    assert play.count(t.timer) == 1
    play.decide(NOON + HOUR - MINUTE)
    assert seen == []
    play.decide(NOON + 5 * HOUR)
    assert seen == [(3, NOON + HOUR, "1")]
    assert play.count(t.timer) == 0


def test_asking_again_moves_a_timer_and_cancel_removes_it(play: Play) -> None:
    # SEMANTICS 3
    play.plugin("one", doing(OrderPlaced, Later(Ping(), NOON + HOUR)), doing(OrderPaid, Later(Ping(), NOON + DAY)))
    play.plugin("two", doing(OrderPlaced, Later(Ping(), NOON + HOUR, key="k")), doing(OrderShipped, Cancel("k")))
    play.take(order("1", paid_at=NOON))
    play.decide()
    assert {row["plugin"]: row["due_at"] for row in play.rows(t.timer)} == {"one": NOON + DAY, "two": NOON + HOUR}
    play.plugin("one", doing(OrderShipped, Cancel(Ping)))
    play.take(order("1", shipped_at=NOON))
    play.decide()
    assert play.count(t.timer) == 0


def test_within_one_decision_the_last_word_on_a_timer_counts(play: Play) -> None:
    set_again = (Later(Ping(), NOON + HOUR), Cancel(Ping), Later(Ping(), NOON + DAY))
    play.plugin("one", doing(OrderPlaced, *set_again))
    play.plugin("two", doing(OrderPlaced, Later(Ping(), NOON + HOUR), Cancel(Ping)))
    play.take(order("1"))
    play.decide()
    assert play.one(t.timer)["due_at"] == NOON + DAY


def test_rows_without_a_number_get_one(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda event, crm: [Save(Numbered(what=event.order.number))]))
    play.take(order("1"), order("2", buyer("bob")))
    play.decide()
    play.take(order("3", buyer("cid")))
    play.decide()
    assert sorted(row["what"] for row in play.rows(t.table_of(Numbered))) == ["1", "2", "3"]


def test_one_person_of_the_staff_is_told_once(play: Play) -> None:
    # SEMANTICS 19
    play.more["staff"] = [StaffMember("Chen", frozenset({"a", "b"}), {"email": "chen@example.com"})]
    sends = [Send("news", via=("email",), to=staff(target)) for target in ("a", "b", "Chen")]
    play.plugin("one", doing(OrderPlaced, *sends))
    play.take(order("1"))
    done = play.decide()
    assert done.failed == []
    assert sorted(row["state"] for row in play.rows(t.message)) == ["queued", "suppressed", "suppressed"]


@pytest.mark.parametrize("limit", [1, 500])
def test_a_customer_of_two_profiles_is_told_once_under_one_key(play: Play, limit: int) -> None:
    # SEMANTICS 11, 16, 38
    play.plugin("one", doing(OrderPlaced, Send("news", via=("email",), key="welcome")))
    play.take(
        order("1", buyer("ann")), order("2", Buyer(email="ann@example.com"), NOON + MINUTE), order("3", buyer("bob"))
    )
    assert play.count(t.profile) == 3
    play.decide(NOON + HOUR, limit)
    told = {row["profile_id"]: row for row in play.rows(t.message)}
    assert [told[number]["reason"] for number in (1, 2, 3)] == [None, "duplicate", None]
    assert len({row["once"] for row in told.values()}) == 3  # each keeps the key of its own profile


# --- history ----------------------------------------------------------------------------------------------------------


def test_history_is_quiet_but_handlers_see_it(play: Play) -> None:
    # SEMANTICS 1
    asks = (Send("news", via=("email",)), Note("seen"), Later(Ping(), NOON + DAY), Emit(Ping()))
    ping = on(Ping)(lambda event, crm: [Send("paid", via=("email",))])
    play.plugin("one", counting(OrderPlaced), doing(OrderPlaced, *asks), ping)
    play.take(order("1", at=START - DAY), order("2", buyer("bob"), at=START - 2 * DAY))
    done = play.decide()
    assert (done.quiet, play.count(t.message)) == (4, 0)
    assert {row["template"]: row["count"] for row in play.rows(t.quiet)} == {"news": 2, "paid": 2}
    assert play.counted() == {"order-placed": 2}
    assert play.count(t.interaction, type="note") == 2
    play.decide(NOON + DAY)  # the timers are due after the shop began to announce: they speak
    assert play.count(t.message, state="queued") == 2


def test_a_timer_due_in_history_is_quiet(play: Play) -> None:
    # SEMANTICS 1
    play.plugin("one", doing(OrderPlaced, Later(Ping(), START - HOUR)), doing(Ping, Send("news", via=("email",))))
    play.take(order("1", at=START - DAY))
    play.decide()
    assert play.count(t.message) == 0
    assert play.one(t.quiet)["count"] == 1


def test_what_happened_at_the_very_moment_is_news(play: Play) -> None:
    play.plugin("one", doing(CustomerCreated, Send("offer", via=("email",))))
    play.more["rules"] = Rules(marketing_default="allow")
    play.take(order("1", at=START))
    play.decide()
    assert play.count(t.message, state="queued") == 1
