"""One message to many: an audience is frozen first, then each member has its turn, once."""

import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from crmkit.core.actions import Broadcast, Later, Send
from crmkit.core.broadcast import Audience
from crmkit.core.events import Event, OrderPlaced
from crmkit.core.hooks import Policy, Verdict, on
from crmkit.core.message import Reason
from crmkit.core.records import Buyer, CustomerRecord
from crmkit.flow.cap import Cap
from crmkit.flow.decide import decide
from crmkit.flow.family import merge
from crmkit.flow.setup import Rules
from crmkit.store import broadcasts, bulk
from crmkit.store import tables as t
from tests.dump import everything
from tests.play import DAY, HOUR, NOON, START, Play, buyer, order, statements

EVERYBODY = Audience()
HELLO = 'purpose = "transactional"\nsubject = "S"\n---\nHello'


class Launch(Event):
    """The day has come."""


class Wished(SQLModel, table=True):
    """Who wants to hear of what."""

    __tablename__ = "cast_wished"
    __customer__ = "profile_id"

    profile_id: int = Field(primary_key=True)
    what: str


def cast(play: Play, audience: Audience = EVERYBODY, template: str = "hello", **more: Any) -> None:
    """A plugin that sends to an audience on its launch day."""
    if template == "hello" and "context" not in more:
        play.template("hello.en.email", HELLO)
    action = Broadcast(audience, template, **{"via": ("email",), **more})
    play.plugin("one", on(Launch)(lambda event, crm: [action]))


def launch(play: Play, at: Any = NOON, shop: int | None = 1, key: str = "launch", **context: Any) -> None:
    """Its day comes."""
    row = {"plugin": "one", "key": key, "type": "launch", "due_at": at, "shop_id": shop, **context}
    play.write(lambda tx: bulk.insert(tx, t.timer, [row]))


def meet(play: Play, *names: str, **other: Any) -> None:
    """Customers of the shop's own list."""
    records = [CustomerRecord(external_id=n, buyer=buyer(n, **other), created_at=NOON, updated_at=NOON) for n in names]
    play.take(*records)


def told(play: Play) -> list[str]:
    return sorted(row["address"].partition("@")[0] for row in play.rows(t.message, state="queued"))


def progress(play: Play) -> broadcasts.Progress:
    with play.store.read() as tx:
        [row] = broadcasts.every(tx)
        return broadcasts.progress(tx, row["id"])


# --- who is in it -----------------------------------------------------------------------------------------------------


def some_customers(play: Play) -> None:
    play.shop(2)
    long_ago = NOON - 90 * DAY
    play.take(
        order("1", buyer("ann", region="DE", locale="de"), long_ago),
        order("2", buyer("ann"), NOON - DAY),
        order("3", buyer("bob", region="BR", locale="pt-BR"), long_ago),
        order("4", buyer("cid"), NOON - DAY, cancelled_at=NOON - HOUR, status="cancelled"),
        order("5", buyer("dan"), NOON + DAY),
    )
    play.take(order("6", Buyer(external_id="eve", email="eve@example.com"), NOON - DAY), shop=2)
    meet(play, "fay")


# SEMANTICS 20
@pytest.mark.parametrize(
    ("audience", "expected"),
    [
        (EVERYBODY, "ann bob cid dan eve fay"),
        (Audience(shops=["shop2"]), "eve"),
        (Audience(shops=["shop1"]), "ann bob"),
        (Audience(countries=["DE", "FR"]), "ann"),
        (Audience(locales=["pt"]), "bob"),
        (Audience(locales=["pt-BR", "de"]), "ann bob"),
        (Audience(locales=["p"]), ""),
        (Audience(orders=1), "ann bob eve"),
        (Audience(orders=2), "ann"),
        (Audience(ordered_since=NOON - DAY), "ann eve"),
        (Audience(not_ordered_since=NOON - DAY), "bob cid dan fay"),
        (Audience(orders=1, not_ordered_since=NOON - 30 * DAY), "bob"),
        (Audience(shops=["shop2"], ordered_since=NOON - 2 * DAY), "eve"),
        (Audience(customers=[1, 3]), "ann cid"),
        (Audience(customers=[]), ""),
        (Audience(stages=["no-such-stage"]), ""),
        (Audience(table=Wished), "bob fay"),
        (Audience(table=Wished, where={"what": "tea"}), "bob"),
        (Audience(table=Wished, orders=1), "bob"),
    ],
    ids=repr,
)
def test_an_audience_is_those_of_whom_all_is_true(play: Play, audience: Audience, expected: str) -> None:
    some_customers(play)
    by_key = {row["key"].rpartition(":")[2]: row["id"] for row in play.rows(t.profile)}
    play.write(
        lambda tx: SQLModel.metadata.create_all(tx, [t.table_of(Wished)]),
        lambda tx: bulk.insert(
            tx,
            t.table_of(Wished),
            [{"profile_id": by_key["bob"], "what": "tea"}, {"profile_id": by_key["fay"], "what": "jam"}],
        ),
    )
    cast(play, audience)
    launch(play)
    assert play.decide().failed == []
    assert told(play) == expected.split()
    assert progress(play).members == len(expected.split())


def test_shops_are_called_by_name(play: Play) -> None:
    assert {shop.name for shop in (play.shop(1), play.shop(2))} == {"shop1", "shop2"}


def test_two_profiles_of_one_customer_are_one_member(play: Play) -> None:
    play.take(order("1", buyer("ann")), order("2", Buyer(email="ann@example.com")))
    assert play.count(t.profile) == 2
    cast(play)
    launch(play)
    play.decide()
    assert play.count(t.broadcast_member) == 1
    assert told(play) == ["ann"]


# SEMANTICS 20
def test_of_two_customers_with_one_address_one_is_told(play: Play) -> None:
    both = {"email": "home@example.com"}
    play.take(order("1", Buyer(external_id="ann", **both)), order("2", Buyer(external_id="bob", **both)))
    cast(play)
    launch(play)
    play.decide(limit=1)
    assert [(row["profile_id"], row["state"], row["reason"]) for row in play.rows(t.message)] == [
        (1, "queued", None),
        (2, "suppressed", "duplicate"),
    ]
    assert progress(play).messages == {("queued", None): 1, ("suppressed", "duplicate"): 1}


def test_who_may_be_told_is_told_though_another_of_the_address_may_not(play: Play) -> None:
    both = {"email": "home@example.com"}
    ann, bob = Buyer(external_id="ann", **both), Buyer(external_id="bob", marketing_consent=True, **both)
    play.take(order("1", ann), order("2", bob))
    cast(play, template="offer")
    launch(play)
    play.decide()
    assert [(row["profile_id"], row["reason"]) for row in play.rows(t.message)] == [(1, "no-consent"), (2, None)]


# SEMANTICS 20, 38
@pytest.mark.parametrize(("hold_out", "expected"), [(0.0, None), (0.5, "hold-out")])
def test_members_who_turn_out_to_be_one_customer_have_one_place(
    play: Play, hold_out: float, expected: str | None
) -> None:
    """Told or held out: who comes second is in neither part of the audience."""
    play.more["rules"] = Rules(marketing_default="allow")
    meet(play, "ann")
    meet(play, "bob")
    ann, bob = (row["key"] for row in play.rows(t.profile))
    keys = (f"spring{number}" for number in range(1000))
    key = next(key for key in keys if chance(key, ann) < 0.5 <= chance(key, bob))
    cast(play, template="offer", key=key, hold_out=hold_out)
    launch(play)
    for _ in range(2):  # it is frozen, and the first has her turn
        with play.store.begin() as tx:
            decide(tx, play.setup, NOON, 1)
    play.write(lambda tx: merge(tx, 2, 1, actor="staff:me", listened=(), now=NOON))
    play.decide()
    assert [(row["profile_id"], row["reason"]) for row in play.rows(t.message)] == [(1, expected), (2, "duplicate")]


def chance(key: str, customer: str) -> float:
    """Where chance puts a customer of a broadcast, from 0 to 1."""
    told = hashlib.blake2b(f"one:{key}\n{customer}".encode(), digest_size=8).digest()
    return int.from_bytes(told, "big") % 1_000_000 / 1_000_000


def test_who_comes_after_it_was_frozen_is_not_in_it(play: Play) -> None:
    meet(play, "ann", "bob")
    cast(play)
    launch(play)
    with play.store.begin() as tx:
        decide(tx, play.setup, NOON, 1)
    meet(play, "cid")
    play.decide()
    assert told(play) == ["ann", "bob"]


# --- members are like any other ---------------------------------------------------------------------------------------


def test_policies_hold_for_each_member(play: Play) -> None:
    def check(outgoing: Any, crm: Any) -> Verdict | None:
        name = outgoing.event.customer.key.rpartition(":")[2]
        return Verdict("suppress", Reason.OTHER) if name == "cid" else None

    meet(play, "ann", "cid", marketing_consent=True)
    meet(play, "bob", marketing_consent=False)
    meet(play, "dan")
    cast(play, template="offer")
    play.plugin("two", policies=[Policy("no_cid", check)])
    launch(play)
    play.decide()
    reasons = {play.one(t.profile, id=row["profile_id"])["key"][-3:]: row["reason"] for row in play.rows(t.message)}
    assert reasons == {"ann": None, "bob": "opted-out", "cid": "other", "dan": "no-consent"}
    assert {row["plugin"] for row in play.rows(t.message)} == {"one"}


def test_what_it_says_is_frozen_with_it(play: Play) -> None:
    play.template("hello.en.email", 'purpose = "transactional"\nsubject = "S"\n---\n{{ gift }} {{ until }}')
    meet(play, "ann")
    cast(play, template="hello", context={"gift": "tea", "until": NOON}, not_before=NOON + HOUR)
    launch(play)
    play.decide()
    row = play.one(t.message)
    assert (row["text"], row["not_before"]) == (f"tea {NOON.isoformat()}", NOON + HOUR)


# SEMANTICS 1
def test_a_broadcast_of_history_is_counted_and_reaches_nobody(play: Play) -> None:
    meet(play, "ann", "bob")
    cast(play)
    launch(play, START - DAY)
    assert play.decide().quiet == 1
    assert play.count(t.message) == play.count(t.broadcast) == play.count(t.broadcast_member) == 0
    assert play.one(t.quiet)["template"] == "hello"


def test_the_same_key_is_one_broadcast_for_ever(play: Play) -> None:
    meet(play, "ann")
    cast(play, key="spring")
    launch(play)
    launch(play, key="again")
    play.decide()
    meet(play, "bob")
    launch(play, NOON + DAY)
    play.decide(NOON + DAY)
    assert told(play) == ["ann"]
    assert play.count(t.broadcast) == 1


def test_without_a_key_each_day_is_one_of_its_own(play: Play) -> None:
    meet(play, "ann")
    cast(play)
    launch(play)
    launch(play, NOON + DAY, key="next")
    play.decide(NOON + DAY)
    assert told(play) == ["ann", "ann"]


def test_a_member_that_fails_is_tried_again_alone(play: Play) -> None:
    meet(play, "ann", "bob")
    cast(play, template="hello")
    launch(play)
    with play.store.begin() as tx:
        decide(tx, play.setup, NOON, 1)
    (play.folder / "hello.en.email.txt").unlink()
    done = play.decide()
    assert done.failures == 2
    assert progress(play).waiting == 2
    play.template("hello.en.email", HELLO)
    play.decide(NOON + HOUR)
    assert told(play) == ["ann", "bob"]


def test_members_of_a_plugin_that_is_not_loaded_wait_for_it(play: Play) -> None:
    meet(play, "ann")
    cast(play)
    launch(play)
    with play.store.begin() as tx:
        decide(tx, play.setup, NOON, 1)
    one = play.plugins.pop("one")
    play.more["absent"] = frozenset({"one"})
    assert play.decide().interactions == 0
    play.more.clear()
    play.plugins["one"] = one
    play.decide()
    assert told(play) == ["ann"]


def test_members_of_a_plugin_that_is_gone_for_good_are_let_go(play: Play) -> None:
    meet(play, "ann")
    cast(play)
    launch(play)
    with play.store.begin() as tx:
        decide(tx, play.setup, NOON, 1)
    del play.plugins["one"]
    play.decide()
    assert (progress(play).let_go, progress(play).members) == (1, 1)


# --- hold-out ---------------------------------------------------------------------------------------------------------


# SEMANTICS 20
def test_a_share_is_held_out_and_always_the_same(play: Play) -> None:
    play.more["rules"] = Rules(marketing_default="allow")
    names = [f"c{number}" for number in range(300)]
    meet(play, *names)
    meet(play, "no", marketing_consent=False)
    cast(play, template="offer", key="test", hold_out=0.2)
    launch(play)
    with play.store.rehearse() as tx:
        while decide(tx, play.setup, NOON, 77).interactions:
            pass
        rehearsed = {row.address for row in tx.execute(sa.select(t.message).where(t.message.c.reason == "hold-out"))}
    play.decide()
    counts = progress(play).messages
    assert {row["address"] for row in play.rows(t.message, reason="hold-out")} == rehearsed
    assert 40 <= counts["suppressed", "hold-out"] <= 80
    assert counts["suppressed", "opted-out"] == 1  # who would not be told is in no share
    assert counts["queued", None] + counts["suppressed", "hold-out"] == 300
    assert {row["text"] for row in play.rows(t.message, reason="hold-out")} == {None}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "why"),
    [
        (Broadcast(Audience(shops=["nowhere"]), "news", ("email",)), "no shop 'nowhere'"),
        (Broadcast(Audience(shops="shop1"), "news", ("email",)), "no list"),
        (Broadcast(EVERYBODY, "no-such", ("email",)), "no template"),
        (Broadcast(EVERYBODY, "news", ()), "no list of channels"),
        (Broadcast(EVERYBODY, "news", ("email",), hold_out=1.5), "no share"),
        (Broadcast(EVERYBODY, "news", ("email",), context={"order": 1}), "core's own"),
        (Broadcast(EVERYBODY, "news", ("email",), not_before=NOON.replace(tzinfo=None)), "without a zone"),
        (Broadcast(Audience(table=t.RunRow), "news", ("email",)), "no table of the plugin's own"),
        (Broadcast(Audience(table=Wished, where={"who": 1}), "news", ("email",)), "no column who"),
        (Broadcast("all", "news", ("email",)), "no Audience"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
@pytest.mark.parametrize("database_kind", ["sqlite"])
def test_what_means_nothing_is_refused(play: Play, action: Broadcast, why: str) -> None:
    meet(play, "ann")
    play.plugin("one", on(Launch)(lambda event, crm: [action]))
    launch(play)
    done = play.decide()
    assert why in done.failed[0][2]
    assert play.count(t.broadcast) == 0


def test_a_table_that_is_not_there_is_its_authors_trouble(play: Play) -> None:
    meet(play, "ann")
    cast(play, Audience(table=Wished))
    play.plugin("two", on(Launch)(lambda event, crm: [Later(Launch(), NOON + DAY, key="k")]))
    launch(play)
    done = play.decide()
    assert [plugin for plugin, _, _ in done.failed] == ["one"]
    assert play.count(t.timer) == 1


# --- many -------------------------------------------------------------------------------------------------------------


MANY = 20_000


def crowd(play: Play) -> None:
    """Many customers, straight into the tables: every tenth shares the address of the one before."""
    profiles = [{"id": n, "key": f"buyer:s:{n}", "family_id": n, "created_at": NOON} for n in range(1, MANY + 1)]
    addresses = [
        {"profile_id": n, "kind": "email", "value": f"c{n - (n % 10 == 0)}@example.com", "scope": ""}
        for n in range(1, MANY + 1)
    ]
    play.write(
        lambda tx: bulk.insert(tx, t.profile, profiles),
        lambda tx: bulk.insert(tx, t.address, addresses),
    )


# SEMANTICS 20
@pytest.mark.e2e
def test_twenty_thousand_are_told_once_however_often_it_is_interrupted(play: Play) -> None:
    crowd(play)
    cast(play)
    launch(play)
    setup, costs, size = play.setup, [], 2_000
    for turn in range(100):
        for is_killed in (turn % 3 == 1, False):
            try:
                with statements(play.store) as said, play.store.begin() as tx:
                    step = decide(tx, setup, NOON, size)
                    if is_killed:
                        raise KeyboardInterrupt
            except KeyboardInterrupt:
                continue
            costs.append(len(said))
        if not step.interactions:
            break
    full = costs[1:-1]
    assert len(full) == MANY / size
    assert max(full) - min(full) <= 2  # the template is kept in the first
    assert max(costs) < 60
    assert Counter(row["state"] for row in play.rows(t.message)) == {"queued": MANY * 0.9, "suppressed": MANY * 0.1}
    live = [row["address"] for row in play.rows(t.message, state="queued")]
    assert len(live) == len(set(live))
    found = progress(play)
    assert (found.members, found.waiting, found.states["queued"]) == (MANY, 0, MANY * 0.9)
    with play.store.read() as tx:
        before = everything(tx)["message"]
    assert play.decide().interactions == 0
    with play.store.read() as tx:
        assert everything(tx)["message"] == before


def test_a_repeated_chunk_comes_to_the_same_keys(play: Play) -> None:
    meet(play, *(f"c{number}" for number in range(30)))
    cast(play)
    launch(play)
    with play.store.begin() as tx:
        decide(tx, play.setup, NOON, 1)

    def rehearse() -> list[Any]:
        with play.store.rehearse() as tx:
            return sorted((row["key"], row["content_hash"]) for row in decide(tx, play.setup, NOON, 20).rows)

    first = rehearse()
    assert len(first) == 20
    assert rehearse() == first


def test_a_member_does_not_wait_for_the_rest_of_a_customers_life(play: Play) -> None:
    """Later interactions of the customer that the plugin handles come after the member's turn, and do come."""
    seen: list[str] = []

    def tell(event: Any, crm: Any) -> list[Send]:
        seen.append(event.order.number)
        return [Send("news", via=("email",))]

    meet(play, "ann")
    action = Broadcast(EVERYBODY, "offer", via=("email",))
    play.plugin("one", on(Launch)(lambda event, crm: [action]), on(OrderPlaced)(tell))
    launch(play)
    with play.store.begin() as tx:
        decide(tx, play.setup, NOON, 1)
    play.take(order("7", buyer("ann"), NOON + HOUR), now=NOON + HOUR)
    play.decide(NOON + HOUR + timedelta(minutes=1))
    assert seen == ["7"]
    assert [row["template"] for row in play.rows(t.message)] == ["offer", "news"]


@pytest.mark.parametrize("database_kind", ["postgresql"])
def test_workers_side_by_side_tell_each_address_once(play: Play) -> None:
    """Of two broadcasts, and within a cap of one."""
    count = 400
    profiles = [{"id": n, "key": f"buyer:s:{n}", "family_id": n, "created_at": NOON} for n in range(1, count + 1)]
    addresses = [
        {"profile_id": n, "kind": "email", "value": f"c{n % 200}@example.com", "scope": ""} for n in range(1, count + 1)
    ]
    play.write(
        lambda tx: bulk.insert(tx, t.profile, profiles),
        lambda tx: bulk.insert(tx, t.address, addresses),
    )
    play.more["rules"] = Rules(marketing_default="allow", marketing_cap=Cap(1, 7))
    cast(play, template="offer", key="a")
    play.plugin("two", on(Launch)(lambda event, crm: [Broadcast(EVERYBODY, "offer", ("email",), key="b")]))
    launch(play)
    with play.store.begin() as tx:
        decide(tx, play.setup, NOON, 1)
    setup, engine = play.setup, play.store.engine
    start = Barrier(4)

    def work() -> int:
        done, idle = 0, 0
        start.wait()
        while idle < 3:
            with engine.begin() as tx:
                step = decide(tx, setup, NOON, 17).interactions
            done, idle = done + step, 0 if step else idle + 1
        return done

    with ThreadPoolExecutor(4) as pool:
        done = [future.result() for future in [pool.submit(work) for _ in range(4)]]
    play.decide()
    assert sum(done) >= 2 * count
    live = Counter((row["address"], row["plugin"]) for row in play.rows(t.message, state="queued"))
    assert len(live) == count
    assert set(live.values()) == {1}
    planned = Counter((row["address"], row["not_before"]) for row in play.rows(t.message, state="queued"))
    assert set(planned.values()) == {1}
    assert {moment for _, moment in planned} == {NOON, NOON + 7 * DAY}
