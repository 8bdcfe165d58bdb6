"""Where a customer stands is a function of the orders."""

from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.lifecycle import Stage, Standing, standing
from tests.strategies import START, maybe_times

TIMES = ("placed_at", "paid_at", "shipped_at", "delivered_at", "completed_at", "cancelled_at")


def order(number: str = "1", status: str = "placed", **times: int) -> dict[str, Any]:
    """An order with milestones so many days after the start."""
    row: dict[str, Any] = {"external_id": number, "shop_id": 1, "status": status, **dict.fromkeys(TIMES)}
    return {**row, **{f"{name}_at": day(days) for name, days in times.items()}}


def day(days: int) -> datetime:
    return START.replace(day=days)


def test_nobody_has_bought_yet() -> None:
    assert standing([]) == Standing(Stage.ENGAGE, 1, None)


def test_an_order_goes_through_the_stages_each_with_its_moment() -> None:
    assert standing([order(placed=1)]) == Standing(Stage.TRANSACT, 1, day(1))
    assert standing([order(placed=1, paid=2)]) == Standing(Stage.FULFILL, 1, day(2))
    assert standing([order(placed=1, paid=2, shipped=3)]) == Standing(Stage.FULFILL, 1, day(2))
    assert standing([order(placed=1, paid=2, delivered=4)]) == Standing(Stage.SERVICE, 1, day(4))
    assert standing([order(placed=1, paid=2, delivered=4, completed=9)]) == Standing(Stage.SERVICE, 1, day(4))


def test_shipped_unpaid_is_being_fulfilled() -> None:
    assert standing([order(placed=1, shipped=2)]) == Standing(Stage.FULFILL, 1, day(2))


def test_a_cancelled_order_leads_nowhere() -> None:
    assert standing([order(status="cancelled", placed=1, cancelled=2)]) == Standing(Stage.ENGAGE, 1, day(2))


def test_the_least_advanced_open_order_tells() -> None:
    assert standing([order("1", placed=1, paid=2), order("2", placed=3)]) == Standing(Stage.TRANSACT, 1, day(3))


def test_a_return_begins_a_cycle() -> None:
    first = order("1", placed=1, delivered=3)
    assert standing([first, order("2", placed=5)]) == Standing(Stage.TRANSACT, 2, day(5))
    assert standing([first, order("2", placed=2, paid=2)]) == Standing(Stage.FULFILL, 1, day(2))
    assert standing([first, order("2", status="cancelled", placed=5, cancelled=6), order("3", placed=7)]).cycle == 2


statuses = st.sampled_from(["unknown", "placed", "cancelled", "delivered"])
orders = st.fixed_dictionaries({"status": statuses, "shop_id": st.integers(1, 2), **dict.fromkeys(TIMES, maybe_times)})


@given(known=st.lists(orders, max_size=4), data=st.data())
def test_the_order_of_orders_does_not_matter(known: list[dict[str, Any]], data: st.DataObject) -> None:
    named = [{**row, "external_id": str(number)} for number, row in enumerate(known)]
    found = standing(named)
    assert standing(data.draw(st.permutations(named))) == found
    assert 1 <= found.cycle <= max(1, len(known))
