"""What handlers read: tables named in `load` are read once for a batch; the rest is counted."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlmodel import Field, SQLModel

from crmkit.core.actions import Action, Emit, Save
from crmkit.core.errors import PluginError
from crmkit.core.events import Event, OrderPaid, OrderPlaced
from crmkit.core.hooks import on
from crmkit.flow.decide import Decided, decide
from crmkit.store import bulk
from crmkit.store import tables as t
from tests.play import MINUTE, NOON, Play, buyer, order, statements


class Points(SQLModel, table=True):
    """What a customer has collected."""

    __tablename__ = "crm_points"
    __customer__ = "customer_id"

    customer_id: int = Field(primary_key=True)
    kind: str = Field(primary_key=True, default="tea")
    sum: int = 0


class Card(SQLModel, table=True):
    """Whose card it is."""

    __tablename__ = "crm_card"
    __customer__ = "customer_id"

    number: int = Field(primary_key=True)
    customer_id: int


class Asked(Event):
    """Something to emit."""


@pytest.fixture
def shop(play: Play) -> Play:
    play.write(lambda tx: SQLModel.metadata.create_all(tx, [t.table_of(Points)]))
    return play


def collect(event: Any, crm: Any) -> Iterator[Action]:
    known = crm.select(Points, customer_id=event.customer.id, kind="tea")
    yield Save(Points(customer_id=event.customer.id, kind="tea", sum=known[0].sum + 1 if known else 1))


def step(shop: Play, limit: int = 500) -> tuple[Decided, list[str]]:
    with shop.store.begin() as tx, statements(shop.store) as said:
        return decide(tx, shop.setup, NOON, limit), [text for text in said if "FROM crm_points" in text]


def points(shop: Play) -> dict[int, int]:
    return {row["customer_id"]: row["sum"] for row in shop.rows(t.table_of(Points))}


# SEMANTICS 14
def test_a_table_that_is_loaded_is_read_once_for_a_batch(shop: Play) -> None:
    shop.plugin("one", on(OrderPlaced, load=(Points,))(collect))
    shop.take(*(order(str(number), buyer(f"c{number}")) for number in range(30)))
    done, reads = step(shop)
    assert done.selects == {}
    assert len(reads) == 2  # and once more what the wave saved
    assert set(points(shop).values()) == {1}


# SEMANTICS 14
def test_a_handler_sees_what_was_saved_before_it_in_the_batch(shop: Play) -> None:
    shop.plugin("one", on(OrderPlaced, load=(Points,))(collect), on(OrderPaid, load=[Points])(collect))
    shop.take(*(order(f"a{n}", at=NOON - n * MINUTE, paid_at=NOON) for n in range(4)), order("b", buyer("bob")))
    done, _ = step(shop)
    assert done.selects == {}
    assert sorted(points(shop).values()) == [1, 8]


def test_what_is_not_loaded_is_counted(shop: Play) -> None:
    shop.plugin("one", on(OrderPlaced)(collect))
    shop.plugin("two", on(OrderPlaced, load=(Points,))(lambda event, crm: crm.select(Points, kind="tea") and []))
    shop.take(order("1"), order("2", buyer("bob")))
    done, _ = step(shop)
    assert done.selects == {"two": 2}


def test_what_is_emitted_is_loaded_for_too(shop: Play) -> None:
    shop.plugin("one", on(OrderPlaced)(lambda event, crm: [Emit(Asked())]), on(Asked, load=(Points,))(collect))
    shop.take(order("1"), order("2", buyer("bob")))
    done, _ = step(shop)
    assert done.selects == {}
    assert sorted(points(shop).values()) == [1, 1]


def test_a_row_that_moves_to_another_customer_is_read_there(shop: Play) -> None:
    shop.write(
        lambda tx: SQLModel.metadata.create_all(tx, [t.table_of(Card)]),
        lambda tx: bulk.insert(tx, t.table_of(Card), [{"number": 7, "customer_id": 1}]),
    )
    seen: list[Any] = []

    def move(event: Any, crm: Any) -> Iterator[Action]:
        seen.append((event.order.number, [card.number for card in crm.select(Card, customer_id=event.customer.id)]))
        if event.order.number == "1":
            yield Save(Card(number=7, customer_id=2))

    shop.plugin("one", on(OrderPlaced, load=(Card,))(move))
    ann, bob = buyer("ann"), buyer("bob")
    shop.take(
        order("1", ann, NOON - 3 * MINUTE),
        order("2", bob, NOON - 3 * MINUTE),
        order("3", ann, NOON),
        order("4", bob, NOON),
    )
    step(shop)
    assert seen == [("1", [7]), ("2", []), ("3", []), ("4", [7])]


def test_what_a_handler_does_to_a_row_it_read_does_not_stay(shop: Play) -> None:
    def spoil(event: Any, crm: Any) -> None:
        for row in crm.select(Points, customer_id=event.customer.id):
            assert row.sum == 5
            row.sum = 0

    shop.write(lambda tx: bulk.insert(tx, t.table_of(Points), [{"customer_id": 1, "kind": "tea", "sum": 5}]))
    shop.plugin("one", on(OrderPlaced, load=(Points,))(spoil))
    shop.plugin("two", on(OrderPlaced, load=(Points,))(spoil))
    shop.take(order("1"), order("2"))
    done, _ = step(shop)
    assert done.failed == []


def test_a_row_that_was_read_may_be_changed_and_saved(shop: Play) -> None:
    def more(event: Any, crm: Any) -> Iterator[Action]:
        for row in crm.select(Points, kind="tea"):
            row.sum += 1
            yield Save(row)

    shop.write(lambda tx: bulk.insert(tx, t.table_of(Points), [{"customer_id": 1, "kind": "tea", "sum": 5}]))
    shop.plugin("one", on(OrderPlaced)(more), on(OrderPaid, load=(Points,))(more))
    shop.take(order("1", paid_at=NOON))
    step(shop)
    assert points(shop) == {1: 7}


def test_a_wrong_column_is_wrong_with_loaded_rows_too(shop: Play) -> None:
    ask = on(OrderPlaced, load=(Points,))(lambda event, crm: crm.select(Points, customer_id=event.customer.id, no=1))
    shop.plugin("one", ask)
    shop.take(order("1"))
    done, _ = step(shop)
    assert "KeyError" in done.failed[0][2]


def test_a_table_without_a_column_of_customers_cannot_be_loaded() -> None:
    with pytest.raises(PluginError, match="names no column of customers"):
        on(OrderPlaced, load=(t.RunRow,))
