"""Where a customer stands: engage → transact → fulfill → service, and round again.

A pure function of the customer's orders, so that it comes out the same whatever order the facts arrived in.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

_NEVER = datetime.max.replace(tzinfo=UTC)


class Stage(StrEnum):
    """A stage of the lifecycle."""

    ENGAGE = "engage"
    TRANSACT = "transact"
    FULFILL = "fulfill"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Standing:
    """A stage, the cycle it belongs to (1 for the first), and the moment of the fact that led there."""

    stage: Stage = Stage.ENGAGE
    cycle: int = 1
    at: datetime | None = None


def _concluded_at(order: Mapping[str, Any]) -> datetime | None:
    if order["status"] == "cancelled":
        at: datetime | None = order["cancelled_at"] or order["placed_at"]
        return at
    times = [order[name] for name in ("delivered_at", "completed_at") if order[name] is not None]
    return min(times, default=None)


def standing(orders: Iterable[Mapping[str, Any]]) -> Standing:
    """The stage a customer with these orders is in.

    A customer whose every order is concluded (delivered, completed or cancelled) is in service once something has
    arrived, and otherwise still engaged. While an order is open, the least advanced one tells: transact until it is
    paid or shipped, then fulfill. A cycle begins with every order placed after all before it were concluded and
    something had arrived.

    Args:
        orders: mappings with `status` and the milestone columns.
    """
    known = sorted(orders, key=lambda order: (_first(order), order["external_id"], order["shop_id"]))
    cycle, received, busy_until = 1, False, None
    open_orders: list[Mapping[str, Any]] = []
    for order in known:
        began, ended = _first(order), _concluded_at(order)
        if received and not open_orders and busy_until is not None and began > busy_until:
            cycle, received = cycle + 1, False
        if ended is None:
            open_orders.append(order)
            continue
        if order["status"] != "cancelled":
            received = True
        busy_until = ended if busy_until is None else max(busy_until, ended)
    if open_orders:
        moving = [(order, _moving_at(order)) for order in open_orders]
        waiting = [_first(order) for order, at in moving if at is None]
        if waiting:
            first = min(waiting)
            return Standing(Stage.TRANSACT, cycle, None if first == _NEVER else first)
        return Standing(Stage.FULFILL, cycle, max(at for _, at in moving if at is not None))
    return Standing(Stage.SERVICE if received else Stage.ENGAGE, cycle, busy_until)


def _moving_at(order: Mapping[str, Any]) -> datetime | None:
    """When an order was paid, or shipped unpaid."""
    return min((order[name] for name in ("paid_at", "shipped_at") if order[name] is not None), default=None)


def _times(order: Mapping[str, Any]) -> list[datetime]:
    names = ("placed_at", "paid_at", "shipped_at", "delivered_at", "completed_at", "cancelled_at")
    return [order[name] for name in names if order[name] is not None]


def _first(order: Mapping[str, Any]) -> datetime:
    return min(_times(order), default=_NEVER) if order["placed_at"] is None else order["placed_at"]
