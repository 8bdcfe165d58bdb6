"""What a mapping may fill: the fields of each table's record, and how a cell becomes a value of each.

All of it is read off the records themselves, so that a field the core adds can be mapped on the same day.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel

from crmkit import (
    Buyer,
    CustomerRecord,
    LineRecord,
    OrderRecord,
    ParcelRecord,
    PaymentRecord,
    RefundRecord,
    ReturnRecord,
    ReviewRecord,
)

#: Fields the source fills itself, or that no cell can say.
_NOT_MAPPED = {"observed_at", "lines", "parcels", "order_external_id", "addresses", "masked", "scope"}


@dataclass(frozen=True, slots=True)
class FieldType:
    """How a field is read: `as_` of the mapping by default, the values it knows, and whether it may be empty."""

    as_: str
    choices: type[StrEnum] | None
    nullable: bool
    required: bool


@dataclass(frozen=True, slots=True)
class Kind:
    """What a table's rows become: the kind's word in the core, its record, and the fields by name.

    Attributes:
        fields: `buyer.email` is a field of a group.
        free: groups whose members may have any name: `extras.seller`.
    """

    word: str
    record: type[BaseModel]
    fields: dict[str, FieldType]
    free: tuple[str, ...]

    def type_of(self, name: str) -> FieldType | None:
        """The type of a field; None if the record has none of that name."""
        if any(name.startswith(f"{group}.") for group in self.free):
            return FieldType("text", None, True, False)
        return self.fields.get(name)

    @property
    def groups(self) -> set[str]:
        """The names that hold further fields."""
        return set(self.free) | {name.rpartition(".")[0] for name in self.fields if "." in name}


def _leaves(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from _leaves(part)
    else:
        yield origin or annotation


def _fields(model: type[BaseModel], prefix: str = "") -> tuple[dict[str, FieldType], tuple[str, ...]]:
    fields: dict[str, FieldType] = {}
    free: tuple[str, ...] = ()
    for name, info in model.model_fields.items():
        if name in _NOT_MAPPED:
            continue
        leaves = list(_leaves(info.annotation))
        leaf = next(part for part in leaves if part is not NoneType)
        if leaf is Buyer:
            inner, inner_free = _fields(Buyer, f"{prefix}{name}.")
            fields |= inner
            free += inner_free
        elif leaf is dict:
            free += (prefix + name,)
        else:
            choices = leaf if isinstance(leaf, type) and issubclass(leaf, StrEnum) else None
            fields[prefix + name] = FieldType(_AS.get(leaf, "text"), choices, NoneType in leaves, info.is_required())
    return fields, free


_AS: dict[Any, str] = {
    AwareDatetime: "time",
    datetime: "time",
    Decimal: "amount",
    int: "integer",
    bool: "boolean",
    date: "date",
    tuple: "list",
}


def _customers() -> Kind:
    own, _ = _fields(CustomerRecord)
    buyer, free = _fields(Buyer)
    fields = buyer | {name: kind for name, kind in own.items() if not name.startswith("buyer.")}
    return Kind("customer", CustomerRecord, fields, free)


KINDS: dict[str, Kind] = {
    "customers": _customers(),
    "orders": Kind("order", OrderRecord, *_fields(OrderRecord)),
    "lines": Kind("line", LineRecord, *_fields(LineRecord)),
    "parcels": Kind("parcel", ParcelRecord, *_fields(ParcelRecord)),
    "payments": Kind("payment", PaymentRecord, *_fields(PaymentRecord)),
    "refunds": Kind("refund", RefundRecord, *_fields(RefundRecord)),
    "returns": Kind("return", ReturnRecord, *_fields(ReturnRecord)),
    "reviews": Kind("review", ReviewRecord, *_fields(ReviewRecord)),
}
