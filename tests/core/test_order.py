"""Milestones: which a version gives, what parcels say of their order, what is known at a moment."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from crmkit.core.order import MILESTONES, OrderRow, milestones_of, order_at, parcel_milestones
from crmkit.core.records import OrderRecord
from tests.strategies import NOW, START, maybe_times

HOUR = timedelta(hours=1)
parcels = st.lists(st.tuples(maybe_times, maybe_times), max_size=4)


def test_the_milestone_a_status_names_takes_the_time_of_the_change() -> None:
    # SEMANTICS 1
    told = milestones_of(OrderRecord(external_id="1", status="shipped", placed_at=START, updated_at=START + HOUR))
    assert told == {
        **dict.fromkeys(f"{name}_at" for name in MILESTONES),
        "placed_at": START,
        "shipped_at": START + HOUR,
    }


def test_an_unknown_status_names_none() -> None:
    told = milestones_of(OrderRecord(external_id="1", vendor_status="odd", updated_at=START))
    assert set(told.values()) == {None}


@given(some=parcels, more=parcels, total=st.none() | st.integers(1, 3))
def test_more_parcels_only_make_milestones_earlier(some: Any, more: Any, total: int | None) -> None:
    before = parcel_milestones(some, total)
    after = parcel_milestones([*some, *more], total)
    for name, at in before.items():
        assert at is None or (after[name] is not None and after[name] <= at)


def test_the_first_parcel_ships_and_the_last_of_a_known_number_delivers() -> None:
    # SEMANTICS 5
    known = [(START, START + 2 * HOUR), (START + HOUR, START + 3 * HOUR)]
    assert parcel_milestones(known, 2) == {"shipped_at": START, "delivered_at": START + 3 * HOUR}
    assert parcel_milestones(known, 3) == {"shipped_at": START, "delivered_at": None}
    assert parcel_milestones(known, None)["delivered_at"] is None


def row(**fields: Any) -> dict[str, Any]:
    return {**dict.fromkeys(OrderRow.model_fields), "id": 1, "shop_id": 1, "external_id": "1", "basis": "b", **fields}


def test_what_comes_later_is_not_known_yet() -> None:
    # SEMANTICS 2
    stored = row(status="shipped", placed_at=START, paid_at=START + HOUR, shipped_at=START + 2 * HOUR)
    order = order_at(stored, START + HOUR)
    assert (order.status, order.paid_at, order.shipped_at) == ("paid", START + HOUR, None)
    assert order_at(stored, NOW).status == "shipped"
    assert order_at(stored, START - HOUR).status == "unknown"


def test_a_cancellation_that_was_taken_back_does_not_count() -> None:
    stored = row(status="paid", placed_at=START, cancelled_at=START + HOUR)
    order = order_at(stored, NOW)
    assert (order.is_cancelled, order.reached("cancelled"), order.reached("placed")) == (False, None, START)
    assert order_at(row(status="cancelled", cancelled_at=START), NOW).reached("cancelled") == START
