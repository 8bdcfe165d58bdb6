"""Forgotten customers: nothing of them is left or comes back, and the books stay."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from sqlmodel import Field, SQLModel

from crmkit.adapters.stream import Page, Refused
from crmkit.core.actions import Later, Send
from crmkit.core.errors import ConfigError
from crmkit.core.events import Noted, OrderDelivered, OrderPlaced
from crmkit.core.hooks import on
from crmkit.core.order import MILESTONES
from crmkit.core.records import (
    Address,
    AnswerRecord,
    Buyer,
    ConsentRecord,
    CustomerRecord,
    InboundRecord,
    LineRecord,
    OrderRecord,
    ParcelRecord,
    RefundRecord,
    ReviewRecord,
)
from crmkit.flow import consent, family
from crmkit.flow.claim import claim
from crmkit.flow.forget import forget, preview
from crmkit.flow.ingest import ingest
from crmkit.store import customers, facts, forgotten, search
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.dump import Dump, everything
from tests.flow.test_ingest_join import hold, take
from tests.play import DAY, HOUR, NOON, Play, buyer, order
from tests.strategies import NOW, retold, worlds

ANN = Buyer(
    external_id="b-ann",
    name="Ann Hushedson",
    email="ann@hushed.example",
    phone="+1 202 555 0123",
    city="Hushedville",
    addresses=(Address(kind="relay_email", value="r-hushed@relay.example"),),
    marketing_consent=True,
)
#: None of these may be left.
SECRET = ("hushed", "b-ann", "2025550123", "202 555 0123")


class Diary(SQLModel, table=True):
    """A plugin's own table."""

    __tablename__ = "play_diary"
    __customer__ = "customer"

    id: int = Field(primary_key=True)
    customer: int
    entry: str


def all_of_ann() -> list[Any]:
    line = LineRecord(external_id="l", title="Cup", extras={"engraving": "hushed words"})
    parcel = ParcelRecord(
        order_external_id="1", external_id="p", tracking_number="hushed-1", shipped_at=NOON, updated_at=NOON
    )
    fields = {"note": "a hushed", "ship_to": {"name": "Ann Hushedson"}, "extras": {"k": "hushed"}, "tags": ("hushed",)}
    return [
        order("1", ANN, lines=(line,), parcels=(parcel,), currency="USD", total="12.50", **fields),
        order("2", Buyer(email="Ann@Hushed.example", name="Hushed guest"), at=NOON - DAY),
        CustomerRecord(external_id="b-ann", buyer=ANN, updated_at=NOON),
        ReviewRecord(external_id="r", order_external_id="1", buyer=ANN, text="hushed", rating=5, posted_at=NOON),
        RefundRecord(
            external_id="m", order_external_id="1", currency="USD", refunded=1, reason="hushed", refunded_at=NOON
        ),
        InboundRecord(
            external_id="i",
            channel="email",
            sender=Address(kind="email", value="ann@hushed.example"),
            text="my hushed",
            received_at=NOON,
        ),
        AnswerRecord(external_id="a", survey="nps", buyer=ANN, answers={"why": "hushed"}, score=9, answered_at=NOON),
        ConsentRecord(
            external_id="c",
            address=Address(kind="email", value="ann@hushed.example"),
            state="granted",
            purpose="marketing",
            wording="hushed",
            said_at=NOON,
        ),
    ]


def left_in(store: Store) -> list[str]:
    """The rows that tell what is forgotten."""
    with store.read() as tx:
        rows = [f"{table}: {line}" for table, lines in everything(tx).items() for line in lines]
    return [row for row in rows if any(value in row.lower() for value in SECRET)]


def text_of(store: Store, *more: sa.Table) -> str:
    with store.read() as tx:
        told = json.dumps(everything(tx))
        return (told + "".join(str(row) for table in more for row in tx.execute(sa.select(table)))).lower()


def forget_all(play: Play, number: int = 1, now: datetime = NOON) -> None:
    play.write(lambda tx: forget(tx, number, now=now))


def dump(play: Play) -> Dump:
    with play.store.read() as tx:
        return everything(tx)


def busy(play: Play) -> None:
    """Ann with everything there can be of a customer."""
    play.template(
        "long.en.email", 'purpose = "transactional"\nsubject = "Hi {{ customer.name }}"\n---\n{{ order.note }}'
    )
    play.template("soon.en.email", 'purpose = "transactional"\nsubject = "Hi {{ customer.name }}"\n---\nBye')
    play.plugin(
        "one",
        on(OrderPlaced)(
            lambda e, crm: [
                Send("long", via=("email",)),
                Send("soon", via=("email",), not_before=NOON + DAY),
                Later(Noted(text=e.order.note or ""), at=NOON + DAY, key=f"look {e.order.note}"),
            ]
        ),
    )
    play.write(lambda tx: SQLModel.metadata.create_all(tx, [t.table_of(Diary)]))
    play.take(*all_of_ann())
    play.decide(NOON)
    refused = Refused("order", "orders.csv:7", "no date: 'Ann Hushedson'", '{"phone": "(202) 555-0123"}', None)
    with play.store.begin() as tx:
        ingest(tx, play.shops[1], Page([], refused=[refused]), stream="s", listened=(), now=NOON)
        said = {"profile_id": 1, "address": None, "channel": "*", "purpose": "marketing", "state": "withdrawn"}
        more = {"source": "page", "actor": "customer", "occurred_at": NOON, "wording": "hushed"}
        consent.enter(tx, [{**said, **more}], listened=("consent-changed",), now=NOON)
        row = {
            "channel": "email",
            "address": "ann@hushed.example",
            "reason": "bad-address",
            "source": "x",
            "since": NOON,
        }
        customers.suppress_all(tx, [row])
        tx.execute(sa.insert(t.table_of(Diary)), [{"id": 1, "customer": 1, "entry": "hushed"}])
        body = {
            "id": 1,
            "account_id": 1,
            "dedupe_key": "1",
            "received_at": NOON,
            "body": b"ANN@hushed.example",
            "query": "",
        }
        tx.execute(sa.insert(t.inbox), [{**body, "state": "done", "tries": 0}])


# SEMANTICS 12
def test_nothing_of_a_forgotten_customer_is_left(play: Play) -> None:
    busy(play)
    diary = t.table_of(Diary)
    assert all(value in text_of(play.store, diary) for value in SECRET[:3])
    forget_all(play)
    told = text_of(play.store, diary)
    assert [value for value in SECRET if value in told] == []
    assert (play.count(diary), play.count(t.timer), play.count(t.identity), play.count(t.address)) == (0, 0, 0, 0)
    if play.store.file is not None:
        forgotten.overwrite_journal(play.store)
        files = [play.store.file, *play.store.file.parent.glob(f"{play.store.file.name}-*")]
        held = b"".join(path.read_bytes() for path in files if path.suffix != ".db-shm").lower()
        assert [value for value in SECRET if value.encode() in held] == []


# SEMANTICS 12
def test_the_books_stay(play: Play) -> None:
    busy(play)
    names = ("external_id", "total_minor", "placed_at", "shipped_at", "status", "currency")
    before = [[row[name] for name in names] for row in play.rows(t.orders)]
    told = [(row["type"], row["occurred_at"]) for row in play.rows(t.interaction)]
    forget_all(play)
    assert [[row[name] for name in names] for row in play.rows(t.orders)] == before
    assert [row["profile_id"] for row in play.rows(t.orders)] == [None, None]
    assert [(row["type"], row["occurred_at"]) for row in play.rows(t.interaction)] == told
    assert play.one(t.refund)["refunded_minor"] == 100


# SEMANTICS 12, 17
def test_what_waits_for_a_forgotten_customer_is_suppressed_at_once_and_what_is_on_the_wire_is_not(play: Play) -> None:
    busy(play)
    (first, second, *_) = [row["id"] for row in play.rows(t.message, state="queued")]
    sending = {"state": "sending", "claim_id": "x", "lease_until": NOON + HOUR, "started_at": NOON}
    play.write(lambda tx: tx.execute(sa.update(t.message).where(t.message.c.id == first).values(**sending)))
    forget_all(play)
    rows = {row["id"]: row for row in play.rows(t.message)}
    assert (rows[first]["state"], rows[first]["address"]) == ("sending", "ann@hushed.example")
    assert (rows[second]["state"], rows[second]["reason"], rows[second]["text"]) == ("suppressed", "forgotten", None)
    play.write(lambda tx: tx.execute(sa.update(t.message).where(t.message.c.id == first).values(state="sent")))
    play.write(lambda tx: forgotten.sweep(tx, NOON), lambda tx: forgotten.sweep(tx, NOON))
    assert (play.one(t.message, id=first)["state"], play.one(t.message, id=first)["address"]) == ("sent", None)


# SEMANTICS 12, 21
def test_what_comes_back_from_the_wire_is_not_tried_again(play: Play) -> None:
    busy(play)
    first = play.rows(t.message, state="queued")[0]["id"]
    mine = t.message.c.id == first
    play.write(lambda tx: tx.execute(sa.update(t.message).where(mine).values(state="sending", claim_id="x")))
    forget_all(play)
    again = {"state": "queued", "reason": "retry", "claim_id": None}
    play.write(lambda tx: tx.execute(sa.update(t.message).where(mine).values(**again)))
    with play.store.begin() as tx:
        claimed = claim(tx, play.setup, "mail", "y", NOON + 2 * DAY, 100)
    assert list(claimed.rows) == []
    row = play.one(t.message, id=first)
    assert (row["state"], row["reason"], row["address"]) == ("suppressed", "forgotten", None)


# SEMANTICS 12
def test_old_orders_that_are_read_again_bring_nothing_back(play: Play) -> None:
    busy(play)
    forget_all(play)
    before = dump(play)
    tally = play.take(*all_of_ann(), now=NOON + DAY)
    assert dump(play) == before
    assert not tally.interactions


@pytest.mark.parametrize(
    "who",
    [
        Buyer(external_id="b-ann"),
        Buyer(email="ANN@hushed.example"),
        Buyer(phone="(202) 555-0123", name="Hushedson"),
        Buyer(external_id="new", email="ann@hushed.example", name="Hushedson"),
    ],
)
# SEMANTICS 12
def test_the_next_order_of_a_forgotten_customer_is_stored_without_a_person_and_told_nobody(
    play: Play, who: Buyer
) -> None:
    busy(play)
    forget_all(play)
    parcel = ParcelRecord(
        order_external_id="9", external_id="p", tracking_number="hushed-9", shipped_at=NOON + HOUR, updated_at=NOON
    )
    new = order("9", who, NOON + HOUR, note="hushed", currency="USD", total="7", delivered_at=NOON + HOUR)
    play.take(parcel)  # before its order: nobody knows yet whose it is
    play.take(new, now=NOON + HOUR)
    play.take(
        ParcelRecord(
            order_external_id="9",
            external_id="p",
            tracking_number="hushed-10",
            shipped_at=NOON + HOUR,
            updated_at=NOON + DAY,
        )
    )
    play.take(OrderRecord(external_id="9", note="hushed", updated_at=NOON + DAY, buyer=Buyer(name="Hushedson")))
    row = play.one(t.orders, external_id="9")
    assert (row["profile_id"], row["total_minor"], row["delivered_at"]) == (None, 700, NOON + HOUR)
    assert [row["key"] for row in play.rows(t.profile)] == ["forgotten:1", "forgotten:2"]
    play.decide(NOON + DAY)
    assert play.count(t.message, state="queued") == 0
    assert left_in(play.store) == []


# SEMANTICS 12
def test_what_a_forgotten_customer_writes_or_says_later_is_kept_without_them(play: Play) -> None:
    busy(play)
    forget_all(play)
    again = [
        record.model_copy(update={"external_id": f"{record.external_id}-2"})
        for record in all_of_ann()
        if isinstance(record, InboundRecord | AnswerRecord | ConsentRecord | ReviewRecord)
    ]
    play.take(*again)
    assert left_in(play.store) == []
    assert play.count(t.interaction, type="message-received") == 2


def test_an_order_that_cannot_be_read_again_leaves_no_raw_body(play: Play) -> None:
    busy(play)
    forget_all(play)
    refused = Refused("order", "orders.csv:2", "no date in 'hushed'", "hushed", "1")
    with play.store.begin() as tx:
        ingest(tx, play.shops[1], Page([], refused=[refused]), stream="s", listened=(), now=NOON)
    assert left_in(play.store) == []


# SEMANTICS 12
def test_who_only_shared_something_with_a_forgotten_customer_is_still_known(play: Play) -> None:
    play.take(order("1", buyer("ann")), order("2", Buyer(external_id="bob", email="ann@example.com", name="Bob")))
    with play.store.read() as tx:
        assert preview(tx, 1).shared_with == [2]
    play.write(
        lambda tx: customers.suppress_all(
            tx, [{"channel": "email", "address": "ann@example.com", "reason": "x", "source": "x", "since": NOON}]
        )
    )
    forget_all(play, 1)
    assert (play.rows(t.profile)[1]["name"], play.rows(t.profile)[1]["needs_review"]) == ("Bob", False)
    assert [row["value"] for row in play.rows(t.address)] == ["ann@example.com"]
    assert play.count(t.suppression) == 1
    stop = ConsentRecord(
        external_id="c", address=Address(kind="email", value="ann@example.com"), state="withdrawn", said_at=NOON
    )
    play.take(stop)
    assert {row["profile_id"] for row in play.rows(t.consent)} == {None, 2}


def test_a_forgotten_customer_is_no_customer(play: Play) -> None:
    play.take(order("1"), order("2", buyer("bob")))
    forget_all(play, 1)
    with play.store.read() as tx:
        assert search.families_meant(tx, "ann@example.com") == []
        assert search.every_family(tx, 0, 10) == [2]
        assert facts.customers_of(tx, [1])[1].name is None
    with pytest.raises(ConfigError, match="forgotten already"):
        forget_all(play, 1)
    with pytest.raises(ConfigError, match="was forgotten"):
        play.write(lambda tx: family.merge(tx, 1, 2, actor="staff:eva", listened=(), now=NOON))


def test_a_receipt_that_comes_after_all_is_taken(play: Play) -> None:
    from crmkit.core.records import ReceiptRecord

    play.plugin("one", on(OrderDelivered)(lambda e, crm: [Send("news", via=("email",))]))
    play.take(order("1", delivered_at=NOON))
    play.decide(NOON)
    play.write(lambda tx: tx.execute(sa.update(t.message).values(state="sent", gateway="mail")))
    forget_all(play)
    key = play.one(t.message)["key"]
    mail = replace(play.shops[1], name="mail")
    bounce = ReceiptRecord(external_id="1", key=key, state="bounced", occurred_at=NOON + HOUR)
    with play.store.begin() as tx:
        ingest(tx, mail, Page([bounce]), stream="r", listened=(), now=NOON + HOUR)
    assert (play.one(t.message)["state"], play.count(t.suppression)) == ("bounced", 0)


# --- the key


def test_hashes_are_keyed_by_the_installations_secret_where_there_is_one(
    migrated_url: str, make_play: Callable[[Store], Play]
) -> None:
    store = Store(migrated_url, b"a long enough secret of the installation")
    play = make_play(store)
    play.take(order("1"))
    forget_all(play)
    assert play.one(t.secret, name="forgotten")["value"] is None
    play.take(order("9", at=NOON + HOUR))
    assert play.one(t.orders, external_id="9")["profile_id"] is None
    store.close()
    for key in (None, b"another"):
        other = Store(migrated_url, key)
        with pytest.raises(ConfigError, match=r"key that is .* now"):
            make_play(other).take(order("10"))
        other.close()


def test_without_a_secret_the_database_keeps_a_random_one(play: Play) -> None:
    play.take(order("1"))
    assert play.count(t.secret, name="forgotten") == 0
    forget_all(play)
    assert len(bytes.fromhex(play.one(t.secret, name="forgotten")["value"])) == 32


@pytest.fixture
def make_play(tmp_path: Any) -> Callable[[Store], Play]:
    return lambda store: Play(store, tmp_path / "play")


# --- any order


def books(tx: sa.Connection) -> list[list[Any]]:
    """What the books need of orders and refunds."""
    names = ("shop_id", "external_id", "status", "payment_state", "currency", "total_minor", "parcel_total")
    columns = [t.orders.c[name] for name in (*names, *(f"{name}_at" for name in MILESTONES))]
    refunds = [t.refund.c[name] for name in ("shop_id", "external_id", "refunded_minor", "refunded_at")]
    return [sorted(map(str, tx.execute(sa.select(*chosen)))) for chosen in (columns, refunds)]


def check_forgotten(store: Store, data: st.DataObject) -> None:
    world = data.draw(worlds, label="world")
    pages = data.draw(retold(world), label="before")
    again = data.draw(retold(world), label="after")
    with store.rehearse() as tx:
        take(tx, pages)
        known = sorted(row["family_id"] for row in tx.execute(sa.select(t.profile)).mappings())
        if not known:
            return
        forget(tx, data.draw(st.sampled_from(known), label="whom"), now=NOW)
        expected = everything(tx)
        take(tx, again)
        assert everything(tx) == expected


@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 2), ("postgresql", 0.2)])
# SEMANTICS 9, 12
def test_facts_that_come_again_in_any_order_bring_nothing_back(store: Store, share: float) -> None:
    hold(check_forgotten, store, share)


def check_books(store: Store, data: st.DataObject) -> None:
    world = data.draw(worlds, label="world")
    pages = data.draw(retold(world), label="pages")
    middle = data.draw(st.integers(0, len(pages)))
    with store.rehearse() as tx:
        take(tx, [[one] for one in world])
        expected = books(tx)
    with store.rehearse() as tx:
        take(tx, pages[:middle])
        known = sorted(row["family_id"] for row in tx.execute(sa.select(t.profile)).mappings())
        if known:
            forget(tx, data.draw(st.sampled_from(known), label="whom"), now=NOW)
        take(tx, pages[middle:])
        assert books(tx) == expected
        orphans = sa.select(t.orders.c.id).where(
            t.orders.c.profile_id.in_(sa.select(t.profile.c.id).where(t.profile.c.forgotten_at.is_not(None)))
        )
        assert tx.execute(orphans).first() is None


@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 2), ("postgresql", 0.2)])
# SEMANTICS 9, 12
def test_the_books_are_the_same_whoever_is_forgotten_whenever(store: Store, share: float) -> None:
    hold(check_books, store, share)
