"""Trades with what belongs to them, and reviews, by their numbers."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, TypeVar

from crmkit import Page, Record, Refused, RefusedError, Source

from .api import Top, rows_of
from .fault import is_missing
from .mapping import each, to_order, to_refund, to_review
from .shape import RATE_FIELDS, REFUND_FIELDS, TRADE_FIELDS, TaobaoRate, TaobaoRefund, TaobaoTrade

#: Single trades are asked about so many at once.
AT_ONCE = 4
T = TypeVar("T")


class TradeReader:
    """Reads what one shop has, one by one.

    Args:
        source: whose clock its records are seen by.
        top: the platform.
        app_key: the application that sees it.
    """

    def __init__(self, source: Source, top: Top, app_key: str) -> None:
        self._source, self._top, self._app_key = source, top, app_key
        self._gate = asyncio.Semaphore(AT_ONCE)

    @property
    def _at(self) -> datetime | None:
        return self._source.answered_at

    # raw rows

    def trades(self, rows: Iterable[Any]) -> Iterator[Record | Refused]:
        """What raw trades come to."""

        def make(row: Any) -> list[Record]:
            return [to_order(TaobaoTrade.model_validate(row), self._app_key, self._at)]

        yield from each("order", rows, make, "tid")

    def refunds(self, rows: Iterable[Any]) -> Iterator[Record | Refused]:
        """What raw refunds come to."""

        def make(row: Any) -> Iterator[Record]:
            return to_refund(TaobaoRefund.model_validate(row), self._at)

        yield from each("refund", rows, make, "refund_id", "tid")

    def reviews(self, rows: Iterable[Any]) -> Iterator[Record | Refused]:
        """What raw reviews come to."""

        def make(row: Any) -> list[Record]:
            return [to_review(TaobaoRate.model_validate(row), self._at)]

        yield from each("review", rows, make, "oid")

    # by number

    async def read(self, tids: Sequence[str], *, refunds: bool = True) -> list[Record | Refused]:
        """Trades by number, those there are.

        Args:
            refunds: with the refunds they say they have.
        """

        async def one(tid: str) -> list[Record | Refused]:
            answer = await self._asked(
                "read an order", "taobao.trade.fullinfo.get", "order", tid, tid=tid, fields=TRADE_FIELDS
            )
            if isinstance(answer, Refused):
                return [answer]
            row = answer.get("trade")
            if row is None:
                return []
            found = list(self.trades([row]))
            if refunds:
                for number in _refund_ids(row):
                    found += await self._refund(number, tid)
            return found

        return await self._each(tids, one)

    async def rated(self, oids: Sequence[str]) -> list[Record | Refused]:
        """What buyers said of child orders."""

        async def one(oid: str) -> list[Record | Refused]:
            params = {"rate_type": "get", "role": "buyer", "fields": RATE_FIELDS}
            answer = await self._asked("read a review", "taobao.traderates.get", "review", oid, tid=oid, **params)
            rows = [] if isinstance(answer, Refused) else rows_of(answer, "trade_rates", "trade_rate")
            return [answer] if isinstance(answer, Refused) else list(self.reviews(rows))

        return await self._each(oids, one)

    async def _refund(self, number: str, tid: str) -> list[Record | Refused]:
        answer = await self._asked(
            "read a refund", "taobao.refund.get", "refund", tid, refund_id=number, fields=REFUND_FIELDS
        )
        if isinstance(answer, Refused):
            return [answer]
        row = answer.get("refund")
        return [] if row is None else list(self.refunds([row]))

    async def _asked(self, operation: str, method: str, kind: str, ref: str, **params: Any) -> dict[str, Any] | Refused:
        """The answer; {} where there is no such thing. What the platform refuses to say of one harms that one only."""
        try:
            async with self._gate:
                return await self._top.ask(operation, method, **params)
        except RefusedError as error:
            if is_missing(error):
                return {}
            return Refused(kind, f"{kind} {ref}", str(error), error.body, ref)

    @staticmethod
    async def _each(keys: Sequence[str], one: Callable[[str], Awaitable[list[T]]]) -> list[T]:
        tasks = [asyncio.ensure_future(one(key)) for key in dict.fromkeys(keys)]
        try:
            return [found for task in tasks for found in await task]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def page_of(found: Iterable[Record | Refused], **more: Any) -> Page:
    """A page of what was read."""
    every = list(found)
    return Page(
        [one for one in every if isinstance(one, Record)], [one for one in every if isinstance(one, Refused)], **more
    )


def _refund_ids(row: Any) -> list[str]:
    try:
        orders = TaobaoTrade.model_validate(row).orders
    except ValueError:
        return []
    return list(dict.fromkeys(one.refund_id for one in orders if one.refund_id is not None))
