"""Whose turn it is where several workers decide: nobody's work overtakes what another worker holds of him."""

import pytest
import sqlalchemy as sa

from crmkit.core.actions import Note
from crmkit.core.events import OrderPlaced
from crmkit.core.hooks import on
from crmkit.store import tables as t
from tests.play import HOUR, NOON, Play, buyer, order


@pytest.mark.parametrize("database_kind", ["postgresql"])
# SEMANTICS 13
def test_what_another_worker_holds_of_a_customer_is_not_overtaken(play: Play) -> None:
    decided: list[str] = []

    @on(OrderPlaced)
    def placed(event, crm):  # type: ignore[no-untyped-def]
        decided.append(event.order.external_id)
        yield Note("seen")

    play.plugin("seen", placed)
    ann, bob = buyer("ann"), buyer("bob")
    play.take(*(order(f"{hour}", ann, NOON - (9 - hour) * HOUR) for hour in (1, 2, 3, 4)), order("5", bob, NOON))
    c = t.pending.c
    second = (
        sa.select(c.id)
        .join(t.interaction, t.interaction.c.id == c.interaction_id)
        .join(t.orders, t.orders.c.id == t.interaction.c.order_id)
        .where(t.orders.c.external_id == "2")
    )
    with play.store.engine.connect() as other, other.begin():
        other.execute(second.with_for_update(of=t.pending))  # of a customer it could not get hold of
        play.decide()
        assert decided == ["1", "5"], "what comes after it waits; other customers do not"
    play.decide()
    assert decided == ["1", "5", "2", "3", "4"]
