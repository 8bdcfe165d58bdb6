"""The facts a message is rendered from: JSON types only, frozen with it, so that rendering it again says the same.

What is not known is left out, so that a template which needs it says so instead of writing "None".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import lru_cache, partial
from math import isfinite
from typing import Any
from zoneinfo import ZoneInfo

from crmkit.core.account import Shop
from crmkit.core.customer import Customer
from crmkit.core.errors import PluginError
from crmkit.core.money import Money, exponent, is_exact
from crmkit.core.order import Order, Parcel, Refund, Review

#: What the core itself puts in; a handler's own variables have other names.
OWN = frozenset("customer order shop parcel refund review now zone links".split())
#: What is nobody's to read in a message.
_HIDDEN: dict[type, frozenset[str]] = {
    Shop: frozenset({"reports", "announce_from", "watch", "run"}),
    Customer: frozenset({"key"}),
}


def context_of(
    *,
    customer: Customer | None,
    order: Order | None,
    shop: Shop | None,
    parcel: Parcel | None = None,
    refund: Refund | None = None,
    review: Review | None = None,
    now: datetime,
    zone: ZoneInfo | str,
    links: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The facts a template may use, in JSON types: times as ISO text in UTC, amounts as {"amount", "currency"}.

    Whole decimals become integers, others floats. Keys are in the order PostgreSQL's `jsonb` gives them back in, so
    that a template which walks over a mapping renders the same from the stored facts.

    Args:
        zone: the zone in which the reader lives; dates are shown in it.
        links: {purpose: the address of the customer's own page}.
        extra: the handler's own variables (`Send.context`).

    Raises:
        PluginError: a variable of `extra` has a name of the core's, or cannot be kept as JSON.
    """
    facts: dict[str, Any] = {
        "customer": customer,
        "order": order,
        "shop": shop,
        "parcel": parcel,
        "refund": refund,
        "review": review,
        "now": now,
        "zone": zone,
        "links": links or None,
    }
    if extra:
        _refuse_own(extra)
        facts.update(extra)
    known: dict[str, Any] = _json(facts, "context")
    return known


def plain(context: Mapping[str, Any]) -> dict[str, Any]:
    """Variables of a handler's own in JSON types, as they can be kept.

    Raises:
        PluginError: one has a name of the core's, or cannot be kept as JSON.
    """
    _refuse_own(context)
    kept: dict[str, Any] = _json(dict(context), "context")
    return kept


def _refuse_own(extra: Mapping[str, Any]) -> None:
    taken = sorted(OWN.intersection(extra))
    if taken:
        raise PluginError(
            f"the variable {taken[0]} is the core's own", operation="send", do="give it another name in context="
        )


def _stored_order(key: str) -> tuple[int, bytes]:
    encoded = key.encode("utf-8", "surrogatepass")
    return len(encoded), encoded


#: What is JSON as it stands.
_PLAIN = frozenset({str, int, bool})


def _json(value: Any, place: str) -> Any:
    kind: Any = type(value)
    return value if kind in _PLAIN else _way(kind)(value, place)


@lru_cache(maxsize=256)
def _way(kind: type) -> Callable[[Any, str], Any]:
    """How values of a type become JSON; looked up once per type, since this runs for every message."""
    if issubclass(kind, Money):
        return _money
    if issubclass(kind, str):  # an enum's member
        return lambda value, place: str.__str__(value)
    if issubclass(kind, int):
        return lambda value, place: int(value)
    if issubclass(kind, datetime):
        return _moment
    if issubclass(kind, date):
        return lambda value, place: value.isoformat()
    if issubclass(kind, ZoneInfo):
        return lambda value, place: value.key
    if issubclass(kind, Decimal | float):
        return _number
    if issubclass(kind, Mapping):
        return _mapping
    if issubclass(kind, list | tuple):
        return lambda value, place: [_json(item, place) for item in value if item is not None]
    if issubclass(kind, set | frozenset):
        return lambda value, place: sorted(_json(item, place) for item in value)
    if is_dataclass(kind):
        hidden = _HIDDEN.get(kind, frozenset())
        names = sorted((item.name for item in fields(kind) if item.name not in hidden), key=_stored_order)
        return partial(_view, names)
    return _refused


def _money(value: Money, place: str) -> Any:
    digits = exponent(value.currency)
    exact = is_exact(value.amount, value.currency)
    return {"amount": f"{value.amount:.{digits}f}" if exact else f"{value.amount:f}", "currency": value.currency}


def _moment(value: datetime, place: str) -> Any:
    return value.isoformat() if value.tzinfo in (None, UTC) else value.astimezone(UTC).isoformat()


def _number(value: Decimal | float, place: str) -> Any:
    if not isfinite(value):
        return str(value)
    return int(value) if value == int(value) else float(value)


def _mapping(value: Mapping[Any, Any], place: str) -> Any:
    found = {str(key): _json(item, f"{place}.{key}") for key, item in value.items() if item is not None}
    return {key: found[key] for key in sorted(found, key=_stored_order)}


def _view(names: Sequence[str], value: Any, place: str) -> Any:
    return {
        name: item if type(item) in _PLAIN else _json(item, name)  # most are: a call less for each
        for name in names
        if (item := getattr(value, name)) is not None
    }


def _refused(value: Any, place: str) -> Any:
    raise PluginError(
        f"{place} is {type(value).__name__}, which cannot be kept as JSON",
        operation="send",
        do="give text, numbers, booleans, times, Money, lists or mappings of them",
    )
