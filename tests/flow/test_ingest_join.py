"""Ingest is a join: any permutation, duplication and splitting of what is said gives the same database."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from crmkit.adapters.stream import Page
from crmkit.core.events import EVENTS
from crmkit.flow.ingest import ingest
from crmkit.store.engine import Store
from tests.dump import Dump, canonical, everything
from tests.strategies import NOW, SHOPS, Said, retold, worlds


def take(tx: Connection, pages: list[list[Said]], **other: Any) -> None:
    for page in pages:
        shop = SHOPS[page[0][0]]
        ingest(tx, shop, Page([record for _, record in page]), stream="all", listened=EVENTS, now=NOW, **other)


def outcome(store: Store, pages: list[list[Said]]) -> Dump:
    with store.rehearse() as tx:
        take(tx, pages)
        return canonical(tx)


def in_turn(world: list[Said]) -> list[list[Said]]:
    return [[one] for one in world]


def hold(check: Callable[[Store, st.DataObject], None], store: Store, share: float = 1) -> None:
    """Check a property with this share of the profile's number of examples."""

    @settings(max_examples=int(settings().max_examples * share))
    @given(data=st.data())
    def held(data: st.DataObject) -> None:
        check(store, data)

    held()


def check_join(store: Store, data: st.DataObject) -> None:
    world = data.draw(worlds, label="world")
    pages = data.draw(retold(world), label="retold")
    assert outcome(store, pages) == outcome(store, in_turn(world))


def check_repeat(store: Store, data: st.DataObject) -> None:
    pages = data.draw(worlds.flatmap(retold), label="pages")
    with store.rehearse() as tx:
        take(tx, pages)
        before = everything(tx)
        take(tx, pages)
        assert everything(tx) == before


@pytest.mark.parametrize(("database_kind", "share"), [("sqlite", 2), ("postgresql", 0.2)])
# SEMANTICS 4, 5, 6, 9
def test_any_order_of_any_pages_gives_the_same(store: Store, share: float) -> None:
    # SEMANTICS 6, 9
    hold(check_join, store, share)


# SEMANTICS 4, 9
def test_pages_that_come_again_write_nothing(store: Store) -> None:
    hold(check_repeat, store, 0.4)
