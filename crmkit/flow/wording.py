"""Amounts and times as a reader of some language expects them: the filters of templates.

Facts are JSON by then: an amount is `{"amount": "88.00", "currency": "CNY"}`, a time ISO text in UTC. What is missing
passes through, so that `{{ order.total | money | default("-") }}` works and a missing fact is still named.
"""

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from jinja2 import Undefined, pass_context
from jinja2.runtime import Context

from crmkit.core.money import Money, exponent

_SYMBOLS = {"CNY": "¥", "USD": "$", "EUR": "€", "GBP": "£", "BRL": "R$"}
#: Languages that write 1.234,56 where the others write 1,234.56.
_COMMA = frozenset("da de el es id it nl pt ro tr".split())
_SWAP = str.maketrans(",.", ".,")
_MONTHS = "January February March April May June July August September October November December".split()


def written_money(value: Any, language: str) -> str:
    """`¥1,234.50`, `R$1.234,50`, `KRW 12,000`: symbol or code, grouped, with the currency's digits."""
    if isinstance(value, Money):
        amount, currency = value.amount, value.currency
    else:
        amount, currency = Decimal(value["amount"]), value["currency"]
    text = f"{abs(amount).quantize(Decimal(1).scaleb(-exponent(currency)), ROUND_HALF_EVEN):,f}"
    if language in _COMMA:
        text = text.translate(_SWAP)
    return f"{'-' if amount < 0 else ''}{_SYMBOLS.get(currency, currency + ' ')}{text}"


def local(value: Any, zone: str) -> date:
    """A time in `zone`; a plain date, or a time that says no zone, as it is."""
    if isinstance(value, str):
        value = date.fromisoformat(value) if len(value) == 10 else datetime.fromisoformat(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(ZoneInfo(zone))
    if isinstance(value, date):
        return value
    raise TypeError(f"{value!r} is no time")


def written_date(day: date, language: str) -> str:
    """`7 May 2018`, `2018年5月7日`, else `2018-05-07`."""
    if language == "zh":
        return f"{day.year}年{day.month}月{day.day}日"
    if language == "en":
        return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"
    return f"{day.year:04}-{day.month:02}-{day.day:02}"


def written_datetime(moment: date, language: str) -> str:
    """`7 May 2018, 14:30`, `2018年5月7日 14:30`, else `2018-05-07 14:30`."""
    if not isinstance(moment, datetime):
        return written_date(moment, language)
    comma = "," if language == "en" else ""
    return f"{written_date(moment, language)}{comma} {moment.hour:02}:{moment.minute:02}"


def filters_of(locale: str) -> dict[str, Callable[..., Any]]:
    """The filters of a template in `locale`: money, date, datetime, promised_day."""
    language = locale.partition("-")[0].lower()

    def money(value: Any) -> Any:
        return value if isinstance(value, Undefined) or value == "" else written_money(value, language)

    @pass_context
    def day(context: Context, value: Any) -> Any:
        if isinstance(value, Undefined) or value == "":
            return value
        return written_date(local(value, _zone(context)), language)

    @pass_context
    def moment(context: Context, value: Any) -> Any:
        if isinstance(value, Undefined) or value == "":
            return value
        return written_datetime(local(value, _zone(context)), language)

    @pass_context
    def promised_day(context: Context, value: Any) -> Any:
        """The day a promise is for: it lasts until the moment `value`, and a promised day is one of the shop's."""
        if isinstance(value, Undefined) or value == "":
            return value
        shop = context.get("shop")
        zone = shop.get("zone") if isinstance(shop, Mapping) else None
        at = local(value, zone or _zone(context))
        return written_date(at - timedelta(microseconds=1) if isinstance(at, datetime) else at, language)

    return {"money": money, "date": day, "datetime": moment, "promised_day": promised_day}


def _zone(context: Context) -> str:
    zone: str = context.get("zone") or "UTC"
    return zone
