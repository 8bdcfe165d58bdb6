"""The source: streams, reading by id, webhooks, and what to look after.

Orders are asked for by the time of their last change, twice: `any` leaves the trash out. Customers and reviews have no
such filter. What an order only hints at (refunds, fulfillments) is fetched for the orders that say they have it.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from crmkit import (
    Account,
    Call,
    CrmkitError,
    Page,
    Record,
    Ref,
    Refused,
    RefusedError,
    Reply,
    Source,
    Start,
    Verified,
    stream,
    window,
)

from . import webhook
from .api import Answer, Api, has_no_route, id_of, is_missing
from .customers import CustomerReader
from .mapping import each, page_of, to_review
from .orders import OrderReader
from .settings import WooSettings
from .shape import WooReview

#: No site's clock is further from UTC; the filter of reviews is in the site's time.
_ANY_ZONE = timedelta(hours=15)
#: `modified_after` leaves out its own second.
_SECOND = timedelta(seconds=1)


class WooCommerceSource(Source):
    """A shop on WooCommerce."""

    name = "woocommerce"
    Settings = WooSettings
    settings: WooSettings
    #: All it may report; an instance says what its shop does.
    reports = frozenset("placed paid shipped delivered completed cancelled parcels refunds reviews customers".split())
    #: Tracking plugins write their fields without touching the order's last change.
    rescans = timedelta(days=30)
    keeps_headers = ("content-type", webhook.TOPIC)

    def __init__(self, settings: WooSettings, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.reports = frozenset(_reports(settings))
        self.api = Api(self, settings)
        self._orders = OrderReader(self.api, settings)
        self._customers = CustomerReader(self.api, settings)

    async def vendor_account(self) -> str | None:
        """The shop's address without what may be written either way."""
        url = httpx.URL(self.settings.url)
        port = f":{url.port}" if url.port else ""
        return f"{url.host}{port}{url.path.rstrip('/')}"

    # streams

    @window(overlap="5m", end_lag="1m", max_span="730d")
    async def orders(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Orders that changed within a span, those in the trash included, with what belongs to them.

        A shop that does not know the filter (WooCommerce before 5.8) answers with all orders: what did not change is
        dropped before anything more is asked about it.
        """
        self._orders.begin()
        first = start.astimezone(UTC).replace(microsecond=0) - _SECOND
        span: dict[str, Any] = {
            "modified_after": _written(first),
            "modified_before": _written(end.astimezone(UTC) + 2 * _SECOND),
            "dates_are_gmt": "true",
        }
        for status in ("any", "trash"):
            pages = self.api.listing("read orders", "orders", status=status, **span)
            async for answer in pages:
                fresh = [row for row in answer.new if not _is_older(row, first)]
                yield await self._orders.page(fresh, answer)

    @stream
    async def customers(self, start: Start) -> AsyncIterator[Page]:
        """Registered customers: the new ones each time, all of them once in `customers_every`."""
        if not self.settings.customers:
            return
        pages = self._customers.pages(start.cursor) if start.since is None else self._customers.changed(start.since)
        async for page in pages:
            yield page

    @window(overlap="14d")
    async def reviews(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Reviews written since; one that was approved later is found while it is within the overlap."""
        if not self.settings.reviews:
            return
        after = _written(start.astimezone(UTC) - _ANY_ZONE)
        async for answer in self.api.listing("read reviews", "products/reviews", after=after, status="approved"):
            yield self._review_page(answer.new, answer)

    # by id

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        """Orders, with what belongs to them, customers and reviews, by id."""
        asked: dict[str, dict[int, None]] = {"order": {}, "customer": {}, "review": {}}
        for ref in refs:
            kind = ref.kind if ref.kind in asked else "order"
            if ref.external_id.isascii() and ref.external_id.isdigit():
                asked[kind][int(ref.external_id)] = None
        for ids in self._chunks(asked["order"]):
            async for answer in self._by_id("orders", ids, {"status": "any"}, {"status": "trash"}):
                yield await self._orders.page(answer.rows, answer)
        for ids in self._chunks(asked["customer"]):
            async for answer in self._by_id("customers", ids, {"role": "all"}):
                yield self._customers.page(answer.rows, answer)
        for ids in self._chunks(asked["review"]):
            async for answer in self._by_id("products/reviews", ids, {"status": "all"}):
                yield self._review_page(answer.rows, answer)

    # webhooks

    def verify(self, call: Call) -> Verified | Reply:
        """Whether a call is the shop's; what comes as a webhook is switched on is answered and not kept."""
        return webhook.verify(call, self.settings)

    def records(self, call: Call) -> Iterator[Record | Ref | Refused]:
        """What a webhook says; what its order only hints at is read again."""
        at = call.received_at
        return webhook.said(
            call, self.account.name, lambda row: self._orders.told(row, at), lambda row: self._customers.told(row, at)
        )

    # what to look after

    async def check(self) -> Iterable[str]:
        """Keys, permalinks, version, and webhooks that the shop gave up."""
        problems: list[str] = []
        try:
            answer = await self.api.get(
                "check", "orders", per_page=1, modified_after="2200-01-01T00:00:00", dates_are_gmt="true"
            )
        except CrmkitError as error:
            return [str(error)]
        if answer.rows:
            problems.append(
                "the shop does not know modified_after (WooCommerce before 5.8): every sync reads all its"
                " orders; update WooCommerce"
            )
        if self.settings.webhook_secret is not None and self.account.webhook_url is not None:
            problems += await self._webhook_problems(self.account.webhook_url)
        return problems

    async def _webhook_problems(self, here: str) -> list[str]:
        try:
            listed = [
                row
                async for answer in self.api.listing("check webhooks", "webhooks", status="all")
                for row in answer.new
            ]
        except CrmkitError as error:
            return [f"its webhooks cannot be looked at: {error}"]
        where = "WooCommerce > Settings > Advanced > Webhooks"
        ours = [row for row in listed if isinstance(row, dict) and _is_below(row.get("delivery_url"), here)]
        problems = [
            f"the shop's webhook {row.get('id')} ({row.get('topic')}) is {row.get('status')}, which WooCommerce does to"
            f" one that failed six times in a row; set it to Active under {where}"
            for row in ours
            if row.get("status") != "active"
        ]
        missing = [topic for topic in webhook.WANTED if topic not in {row.get("topic") for row in ours}]
        if missing:
            problems.append(f"no webhook of the shop tells {here} of {', '.join(missing)}; add it under {where}")
        return problems

    def _review_page(self, rows: Iterable[Any], answer: Answer) -> Page:
        def make(row: Any) -> Record | None:
            return to_review(WooReview.model_validate(row), answer.at)

        return page_of(each("review", "products/reviews", rows, make), answer)

    # by id

    def _chunks(self, ids: Iterable[int]) -> Iterator[list[int]]:
        every = sorted(ids)
        for first in range(0, len(every), self.settings.per_page):
            yield every[first : first + self.settings.per_page]

    async def _by_id(self, path: str, ids: Sequence[int], *ways: dict[str, str]) -> AsyncIterator[Answer]:
        """What the shop knows of these ids: all at once in each of the ways there are, then one by one."""
        left = set(ids)
        for way in ways:
            if not left:
                return
            numbers = ",".join(map(str, sorted(left)))
            try:
                answer = await self.api.get(
                    "read by id", path, include=numbers, per_page=len(left), orderby="id", order="asc", **way
                )
            except RefusedError as error:
                if error.status != 400:
                    raise
                continue  # an older shop does not know this way
            rows = [row for row in answer.rows if id_of(row) in left]
            left -= {id_of(row) or 0 for row in rows}
            yield Answer(rows, at=answer.at)
        for number in sorted(left):
            try:
                answer = await self.api.get("read by id", f"{path}/{number}")
            except RefusedError as error:
                if has_no_route(error) or not is_missing(error):
                    raise
                continue
            yield Answer(answer.rows, at=answer.at)


def _reports(settings: WooSettings) -> Iterator[str]:
    yield from ("placed", "paid", "completed", "cancelled", "refunds")
    yield from (name for name in ("customers", "reviews") if getattr(settings, name))
    if settings.completed_means_shipped:
        yield "shipped"
    if settings.tracking and "tracking" in settings.model_fields_set:
        yield from ("shipped", "parcels")
    yield from (meaning for meaning in settings.statuses.values() if meaning != "ignored")


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


def _is_older(row: Any, first: datetime) -> bool:
    """Whether an order was last changed before a moment, so far as it can be read."""
    try:
        written = datetime.fromisoformat(str(row["date_modified_gmt"])).replace(tzinfo=UTC)
    except (KeyError, TypeError, ValueError):
        return False
    return written < first


def _is_below(url: Any, here: str) -> bool:
    return isinstance(url, str) and url.rstrip("/").lower().startswith(here.rstrip("/").lower())
