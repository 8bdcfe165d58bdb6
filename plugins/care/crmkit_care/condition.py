"""What a rule's `when` asks of an event: `{ "order.total" = ">=100", shop = ["flagship"], "customer.country" = "CN" }`.

A field is `shop` (its name), or a path into the event's customer, order, shop, parcel, refund or review, or a field of
the event's own. Every condition must hold, and what is not known fulfils none.
"""

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from crmkit import Event, Money

_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_WRITTEN = re.compile(r"(>=|<=|!=|==|>|<|=)\s*(.*)", re.DOTALL)
#: What the core knows of an event and nobody asks for.
_INNER = frozenset({"id", "at", "name"})
#: Facts that a delayed rule looks at again when it is due.
_LIVE = frozenset({"customer", "order", "shop"})


@dataclass(frozen=True, slots=True)
class Condition:
    """One field of an event and the values it may have (any of them), all compared the same way."""

    path: tuple[str, ...]
    compare: Callable[[Any, Any], bool]
    values: tuple[Any, ...]

    @property
    def is_live(self) -> bool:
        """Whether the fact may be another one when a delayed rule is due."""
        return self.path[0] in _LIVE

    def holds(self, event: Event) -> bool:
        """Whether the event fulfils it."""
        found: Any = event
        for name in self.path:
            found = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
            if found is None:
                return False
        if isinstance(found, Money):
            found = found.amount
        elif isinstance(found, int | float) and not isinstance(found, bool):
            found = Decimal(str(found))
        try:
            return any(self.compare(found, value) for value in self.values)
        except (TypeError, InvalidOperation):  # a vendor's own field (`order.extras.*`) may hold anything
            return False


def conditions(written: Mapping[str, Any], event: type[Event]) -> tuple[Condition, ...]:
    """The conditions a table of `when` asks of events of one type.

    Raises:
        ValueError: naming the field, and what would be right.
    """
    return tuple(_condition(path, value, event) for path, value in _flat(written))


def _flat(written: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    # TOML reads the key order.total, without quotes, as a table in a table
    for key, value in written.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield before + key, value


def _condition(written: str, value: Any, event: type[Event]) -> Condition:
    path = ("shop", "name") if written == "shop" else tuple(written.split("."))
    kind = _kind(path, written, event)
    if isinstance(value, list):
        if not value:
            raise ValueError(f"{written} = []: an empty list fits nothing; name at least one value")
        return Condition(path, operator.eq, tuple(_literal(written, item, kind) for item in value))
    found = _WRITTEN.match(value) if isinstance(value, str) else None
    if found is None:
        return Condition(path, operator.eq, (_literal(written, value, kind),))
    sign, rest = found.groups()
    if sign in {">=", "<=", ">", "<"} and kind not in (Decimal, object):
        raise ValueError(f"{written} = {value!r}: only numbers and amounts can be compared by {sign}")
    if kind is bool:
        raise ValueError(f"{written} = {value!r}: write true or false, without quotes")
    if kind is Decimal or (kind is object and sign in {">=", "<=", ">", "<"}):
        return Condition(path, _COMPARISONS[sign], (_number(written, rest, value),))
    return Condition(path, _COMPARISONS[sign], (rest,))


def _literal(written: str, value: Any, kind: Any) -> Any:
    if kind is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{written} = {value!r}: write true or false, without quotes")
        return value
    if isinstance(value, bool) and kind is not object:
        raise ValueError(f"{written} = {str(value).lower()}: the field is no yes-or-no")
    if kind is Decimal:
        return _number(written, value, value)
    if isinstance(value, str) or kind is object:
        return Decimal(str(value)) if isinstance(value, int | float) and not isinstance(value, bool) else value
    raise ValueError(f"{written} = {value!r}: the field is text; write the value in quotes")


def _number(written: str, value: Any, whole: Any) -> Decimal:
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise ValueError(f'{written} = {whole!r}: give a number, like 100 or ">=99.50"')
    return number


def _kind(path: tuple[str, ...], written: str, event: type[Event]) -> Any:
    """Decimal, str, bool, or object where the vendor decides; what a field's values are compared as."""
    kind: Any = event
    for depth, name in enumerate(path):
        if kind is object:
            return object
        known = _known(kind)
        if name not in known:
            near = get_close_matches(name, known, 1, 0.5)
            place = ".".join(path[:depth]) or event.name
            hint = f"known are {', '.join(known)}" if known else "it cannot be looked into"
            if near:
                hint = f"did you mean {'.'.join((*path[:depth], near[0]))}?"
            raise ValueError(f"{written}: {place} has no field {name}; {hint}")
        kind = known[name]
    if is_dataclass(kind) and kind is not Money:
        raise ValueError(f"{written} is no single value; name a field of it: {', '.join(_known(kind))}")
    if kind in (Money, int, float, Decimal):
        return Decimal
    if kind in (bool, object) or (isinstance(kind, type) and issubclass(kind, str)):
        return kind if kind in (bool, object) else str
    if isinstance(kind, type) and issubclass(kind, date):
        raise ValueError(f"{written} is a time; a rule compares text, numbers and amounts (try order.status)")
    raise ValueError(f"{written} cannot be compared; a rule compares text, numbers and amounts")


def _known(kind: Any) -> dict[str, Any]:
    """{field: type} of an event or a view, properties that say yes or no among them."""
    if not is_dataclass(kind) or kind is Money:
        return {}
    hints = get_type_hints(kind)
    inner = _INNER if isinstance(kind, type) and issubclass(kind, Event) else frozenset()
    found = {item.name: _plain(hints[item.name]) for item in fields(kind) if item.name not in inner}
    for name, value in vars(kind).items():
        if isinstance(value, property) and name.startswith("is_"):
            found[name] = bool
    return found


def _plain(hint: Any) -> Any:
    """The type without None; object for mappings, whose values may be anything."""
    if get_origin(hint) in (Union, UnionType):
        hint = next(item for item in get_args(hint) if item is not NoneType)
    origin = get_origin(hint)
    return object if isinstance(origin, type) and issubclass(origin, Mapping) else hint
