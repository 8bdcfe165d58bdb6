"""What persons say of who is one customer: merges are pointers, and hold; taken back, evidence says what it says."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from crmkit.core.customer import SHARED_LIMIT
from crmkit.core.errors import ConfigError
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.records import Buyer
from crmkit.flow import consent, family
from crmkit.store import customers, facts
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.dump import Dump, canonical
from tests.flow.test_ingest_join import hold, take
from tests.play import DAY, HOUR, NOON, Play, buyer, order
from tests.strategies import NOW, retold, worlds


def merge(play: Play, one: int, into: int, now: datetime = NOON) -> None:
    play.write(lambda tx: family.merge(tx, one, into, actor="staff:eva", listened=(), now=now))


def unmerge(play: Play, profile: int) -> None:
    play.write(lambda tx: family.unmerge(tx, profile, actor="staff:eva", listened=(), now=NOON))


def family_ids(play: Play) -> list[int]:
    return [row["family_id"] for row in play.rows(t.profile)]


def state(play: Play) -> Dump:
    with play.store.read() as tx:
        return without_notes(canonical(tx))


def without_notes(dump: Dump) -> Dump:
    dump["interaction"] = [line for line in dump["interaction"] if '"type": "note"' not in line]
    return dump


def two_buyers_of_one_shop(play: Play) -> None:
    play.take(
        order("1", Buyer(external_id="ann", name="Ann", email="both@example.com"), delivered_at=NOON),
        order("2", Buyer(external_id="bob", city="Rome", email="both@example.com"), at=NOON + HOUR),
    )


# SEMANTICS 10, 11
def test_a_person_may_merge_two_buyers_of_one_shop(play: Play) -> None:
    two_buyers_of_one_shop(play)
    assert family_ids(play) == [1, 2]
    merge(play, 2, 1)
    assert family_ids(play) == [1, 1]
    assert [row["needs_review"] for row in play.rows(t.profile)] == [False, False]
    assert [row["profile_id"] for row in play.rows(t.orders)] == [1, 2]
    with play.store.read() as tx:
        whole = facts.customers_of(tx, [2])[2]
    assert (whole.id, whole.name, whole.city) == (1, "Ann", "Rome")


# SEMANTICS 11
def test_a_merge_and_its_end_are_on_the_timeline(play: Play) -> None:
    two_buyers_of_one_shop(play)
    merge(play, 2, 1)
    unmerge(play, 2)
    notes = play.rows(t.interaction, type="note")
    assert [(row["profile_id"], row["actor"], row["payload"]["text"]) for row in notes] == [
        (2, "staff:eva", "merged into #1"),
        (2, "staff:eva", "no longer merged into #1"),
        (1, "staff:eva", "#2 is no longer merged into it"),
    ]


# SEMANTICS 11
def test_a_merge_taken_back_leaves_what_evidence_says(play: Play) -> None:
    two_buyers_of_one_shop(play)
    before = state(play)
    merge(play, 1, 2)
    assert state(play) != before
    unmerge(play, 1)
    assert state(play) == before


# SEMANTICS 11
def test_a_merge_holds_when_evidence_no_longer_joins(play: Play) -> None:
    play.take(order("1", Buyer(external_id="ann", email="a@example.com")))
    play.take(order("2", Buyer(email="a@example.com")), order("3", Buyer(external_id="cy", email="c@example.com")))
    assert family_ids(play) == [1, 1, 3]
    merge(play, 3, 1)
    assert family_ids(play) == [1, 1, 1]
    play.take(order("4", Buyer(external_id="bob", email="a@example.com")))
    assert family_ids(play) == [1, 2, 1, 4]
    assert [row["needs_review"] for row in play.rows(t.profile)] == [True, True, True, True]


def test_a_merge_joins_whole_customers(play: Play) -> None:
    """Also where the profiles named hold nothing strong, and others of their families do."""
    play.take(order("1", Buyer(email="a@example.com")), order("2", Buyer(external_id="ann", email="a@example.com")))
    play.take(order("3", Buyer(email="b@example.com")), order("4", Buyer(external_id="bob", email="b@example.com")))
    assert family_ids(play) == [1, 1, 3, 3]
    merge(play, 1, 3)
    assert family_ids(play) == [1, 1, 1, 1]
    unmerge(play, 1)
    assert family_ids(play) == [1, 1, 3, 3]


def test_merges_follow_one_another(play: Play) -> None:
    play.take(*(order(name, buyer(name)) for name in "abc"))
    merge(play, 1, 2)
    merge(play, 1, 3)
    assert family_ids(play) == [1, 1, 1]
    assert [row["merged_into"] for row in play.rows(t.profile)] == [2, 3, None]
    with pytest.raises(ConfigError, match="were merged already"):
        merge(play, 3, 1)
    unmerge(play, 2)
    assert family_ids(play) == [1, 1, 3]
    with pytest.raises(ConfigError, match="was not merged"):
        unmerge(play, 3)


# SEMANTICS 11
def test_the_stage_of_a_customer_is_that_of_all_its_orders_and_no_others(play: Play) -> None:
    two_buyers_of_one_shop(play)
    merge(play, 2, 1)
    assert (play.rows(t.profile)[0]["stage"], play.rows(t.profile)[0]["cycle"]) != ("engage", 1)
    together = play.rows(t.profile)[0]["cycle"]
    unmerge(play, 2)
    apart = [(row["stage"], row["cycle"]) for row in play.rows(t.profile)]
    assert together > apart[0][1]


# SEMANTICS 11
def test_of_a_family_the_most_restrictive_consent_holds(play: Play) -> None:
    play.plugin("one", on(OrderPlaced)(lambda e, crm: [offer()]))
    play.take(order("1", buyer("ann", marketing_consent=True)), order("2", buyer("bob", marketing_consent=True)))
    merge(play, 1, 2)
    said = {"address": None, "channel": "*", "purpose": "marketing", "state": "withdrawn", "source": "page"}
    entry = {**said, "profile_id": 2, "actor": "customer", "occurred_at": NOON, "wording": None}
    play.write(lambda tx: consent.enter(tx, [entry], listened=(), now=NOON))
    play.decide(NOON)
    assert {(row["profile_id"], row["reason"]) for row in play.rows(t.message)} == {(1, "opted-out"), (2, "opted-out")}


def offer() -> Any:
    from crmkit.core.actions import Send

    return Send("offer", via=("email",))


# --- the review list


def on_review(play: Play) -> list[tuple[int, ...]]:
    with play.store.read() as tx:
        return [contest.members for contest in family.review(tx)]


def leave_apart(play: Play, number: int) -> None:
    play.write(lambda tx: family.leave_apart(tx, number, actor="staff:eva", listened=(), now=NOON))


# SEMANTICS 10
def test_the_review_list_says_what_would_join_and_what_forbids_it(play: Play) -> None:
    two_buyers_of_one_shop(play)
    with play.store.read() as tx:
        (contest,) = family.review(tx)
    assert [(one.kind, one.value) for one in contest.links] == [("email", "both@example.com")]
    assert dict(contest.clashes) == {("buyer", "shop:1"): ("ann", "bob")}


# SEMANTICS 10
def test_an_identity_shared_by_too_many_turns_automatic_links_off(play: Play) -> None:
    shared = "+1 202 555 0123"
    play.take(order("a", Buyer(external_id="ann", email="a@example.com", phone=shared)))
    play.take(order("b", Buyer(email="a@example.com")))
    play.take(
        *(order(str(n), Buyer(external_id=f"b{n}", scope=f"s{n}", phone=shared)) for n in range(SHARED_LIMIT - 1))
    )
    assert set(family_ids(play)) == {1}
    play.take(order("last", Buyer(external_id="last", scope="s", phone=shared)))
    assert family_ids(play) == list(range(1, SHARED_LIMIT + 3))
    with play.store.read() as tx:
        (contest,) = family.review(tx)
    assert (contest.members, [one.value for one in contest.crowded]) == ((1, 2), ["+12025550123"])


def test_a_merge_takes_a_question_off_the_review_list(play: Play) -> None:
    two_buyers_of_one_shop(play)
    assert on_review(play) == [(1, 2)]
    merge(play, 1, 2)
    assert on_review(play) == []


def test_what_a_person_leaves_apart_is_off_the_review_list_until_new_evidence_comes(play: Play) -> None:
    two_buyers_of_one_shop(play)
    leave_apart(play, 2)
    assert (on_review(play), family_ids(play)) == ([], [1, 2])
    assert [row["needs_review"] for row in play.rows(t.profile)] == [False, False]
    play.take(order("3", Buyer(external_id="ann", email="both@example.com"), at=NOON + DAY))
    assert on_review(play) == []
    play.take(order("4", Buyer(external_id="bob", phone="+1 202 555 0123")))
    assert on_review(play) == []  # it links nobody
    play.take(order("5", Buyer(external_id="ann", phone="+1 202 555 0123")))
    assert on_review(play) == [(1, 2)]
    play.take(order("6", Buyer(email="both@example.com")))
    assert on_review(play) == [(1, 2, 3)]
    leave_apart(play, 3)
    assert on_review(play) == []


# --- any order


def person_says(tx: Connection, one: str, into: str, pending: list[tuple[str, str]]) -> None:
    """Merge as soon as both are known."""
    known = customers.by_key(tx, [one, into])
    if len(known) == 2:
        family.merge(tx, known[one]["id"], known[into]["id"], actor="staff:eva", listened=(), now=NOW)
    else:
        pending.append((one, into))


KEYS = ["buyer:shop:1:b1", "buyer:shop:1:b2", "buyer:shop:2:b1", "buyer:vendor:b1", "email:a@example.com"]
pairs = st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)).filter(lambda pair: pair[0] != pair[1])


def outcome(store: Store, steps: list[Any]) -> Dump:
    """What pages and merges come to; a merge waits for its profiles, one that repeats another says nothing."""
    with store.rehearse() as tx:
        pending: list[tuple[str, str]] = []
        for step in steps:
            if isinstance(step, list):
                take(tx, [step])
                waiting, pending = pending, []
            else:
                waiting = [step]
            for pair in waiting:
                try:
                    person_says(tx, *pair, pending)
                except ConfigError as error:
                    assert "were merged already" in str(error)
        return without_notes(canonical(tx))


def check_merges(store: Store, data: st.DataObject) -> None:
    world = data.draw(worlds, label="world")
    merges = data.draw(st.lists(pairs, max_size=3), label="merges")
    steps: list[Any] = data.draw(retold(world), label="retold")
    for pair in data.draw(st.permutations(merges)):
        steps.insert(data.draw(st.integers(0, len(steps))), pair)
    assert outcome(store, steps) == outcome(store, [*([one] for one in world), *merges])


@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 2), ("postgresql", 0.2)])
# SEMANTICS 9, 10, 11
def test_merges_and_evidence_may_come_in_any_order(store: Store, share: float) -> None:
    hold(check_merges, store, share)


def check_merges_taken_back(store: Store, data: st.DataObject) -> None:
    pages = data.draw(worlds.flatmap(retold), label="pages")
    first, last = sorted(data.draw(st.tuples(st.integers(0, len(pages)), st.integers(0, len(pages)))))
    with store.rehearse() as tx:
        take(tx, pages)
        expected = canonical(tx)
    with store.rehearse() as tx:
        take(tx, pages[:first])
        known = sorted(customers.by_key(tx, KEYS).items())
        pointing = None
        if len(known) > 1:
            one, into = data.draw(st.permutations(known))[:2]
            args = {"actor": "staff:eva", "listened": (), "now": NOW + timedelta(hours=1)}
            pointing = family.merge(tx, one[1]["id"], into[1]["id"], **args)
        take(tx, pages[first:last])
        if pointing is not None:
            family.unmerge(tx, pointing, **args)
        take(tx, pages[last:])
        assert without_notes(canonical(tx)) == expected


@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 2), ("postgresql", 0.2)])
# SEMANTICS 11
def test_a_merge_taken_back_is_as_if_it_had_never_been(store: Store, share: float) -> None:
    hold(check_merges_taken_back, store, share)
