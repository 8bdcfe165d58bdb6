"""A small WooCommerce: orders that change, filters and paging as the real one has them, its ways to authenticate.

It answers httpx requests (`httpx.MockTransport(shop.answer)`), and a socket (`async with shop.serving() as url`).
"""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
from aiohttp import web

KEY, SECRET = "ck_0123456789", "cs_abcdef&ü/9"
NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))


def written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")


class FakeShop:
    """One shop.

    Attributes:
        now: its clock. The site's zone is `zone` ahead of UTC.
        without: features, by their address, that it lacks.
        hidden: ids that count in a list though the key's user may not see them.
        old: it is WooCommerce before 5.8, which ignores the filter of modification.
        ways: the ways to authenticate that it takes.
        asked: the paths with query that were asked for.
        troubles: answers given instead, first one first; None lets a request pass.
        between: called before each answer to a list, with the number of lists asked for so far.
    """

    def __init__(self, *ways: str) -> None:
        self.now, self.zone = NOON, timedelta(hours=8)
        self.ways = set(ways or ("basic",))
        self.old = False
        self.without: set[str] = set()
        self.hidden: set[int] = set()
        self.orders: dict[int, dict[str, Any]] = {}
        self.refunds: dict[int, list[dict[str, Any]]] = {}
        self.fulfillments: dict[int, list[dict[str, Any]]] = {}
        self.customers: dict[int, dict[str, Any]] = {}
        self.reviews: dict[int, dict[str, Any]] = {}
        self.webhooks: dict[int, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.troubles: list[httpx.Response | None] = []
        self.between: Callable[[int], None] = lambda number: None
        self._lists = 0
        self._nonces: set[str] = set()

    # what is in it

    def put(self, number: int, **changed: Any) -> dict[str, Any]:
        """Add or change an order; it was then changed now."""
        fresh = {"id": number, "number": str(number), "status": "pending", "currency": "USD", "total": "10.00"}
        fresh |= {"customer_id": 0, "billing": {"email": f"buyer{number}@example.com"}, "refunds": [], "meta_data": []}
        fresh |= {"date_created_gmt": written(self.now), "date_paid_gmt": None, "date_completed_gmt": None}
        order = self.orders.setdefault(number, fresh)
        order |= changed
        order["date_modified_gmt"] = changed.get("date_modified_gmt", written(self.now))
        return order

    def customer(self, number: int, **changed: Any) -> None:
        fresh = {"id": number, "email": f"customer{number}@example.com", "first_name": "C", "billing": {}}
        fresh |= {"date_created_gmt": written(self.now)}
        known = self.customers.setdefault(number, fresh)
        known |= {**changed, "date_modified_gmt": written(self.now)}

    def review(self, number: int, **changed: Any) -> None:
        self.reviews[number] = {
            "id": number,
            "date_created_gmt": written(self.now),
            "date_created": written(self.now + self.zone),
            "product_id": 10,
            "status": "approved",
            "reviewer": "Ann",
            "reviewer_email": "ann@example.com",
            "review": "<p>Lovely</p>\n",
            "rating": 5,
            "verified": True,
            **changed,
        }

    # answers

    def answer(self, request: httpx.Request) -> httpx.Response:
        path, query = request.url.path, dict(parse_qsl(request.url.query.decode(), keep_blank_values=True))
        path = query.get("rest_route") or path.removeprefix("/wp-json")
        self.asked.append(f"{path}?{request.url.query.decode()}")
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            return trouble
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        said = self._said(path, query)
        said.headers["date"] = format_datetime(self.now, usegmt=True)
        return said

    def _refusal(self, request: httpx.Request) -> httpx.Response | None:
        query = dict(parse_qsl(request.url.query.decode(), keep_blank_values=True))
        basic = "Basic " + base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        if query.get("consumer_key") == KEY and query.get("consumer_secret") == SECRET and "query" in self.ways:
            return None
        if "oauth_signature" in query and "oauth" in self.ways:
            return self._oauth(request, query)
        if request.headers.get("authorization") == basic and "basic" in self.ways:
            return None
        return error(401, "woocommerce_rest_cannot_view")

    def _oauth(self, request: httpx.Request, query: dict[str, str]) -> httpx.Response | None:
        """As class-wc-rest-authentication.php checks it, from the raw address."""
        given = query.pop("oauth_signature")
        raw = urlsplit(str(request.url))
        pairs = sorted(f"{quote(k, safe='~')}%3D{quote(quote(v, safe='~'), safe='')}" for k, v in query.items())
        base = f"{request.method}&{quote(f'{raw.scheme}://{raw.netloc}{raw.path}', safe='~')}&{'%26'.join(pairs)}"
        made = hmac.new(f"{SECRET}&".encode(), base.encode(), hashlib.sha256).digest()
        is_fresh = query["oauth_nonce"] not in self._nonces
        self._nonces.add(query["oauth_nonce"])
        if given != base64.b64encode(made).decode() or not is_fresh:
            return error(401, "woocommerce_rest_authentication_error")
        return None

    def _said(self, path: str, query: Mapping[str, str]) -> httpx.Response:
        parts = path.strip("/").split("/")
        if parts[:2] != ["wc", "v3"] or parts[2] in self.without:
            return error(404, "rest_no_route")
        if parts[-1] in {"orders", "customers", "reviews", "webhooks"}:
            self._lists += 1
            self.between(self._lists)
        match parts[2:]:
            case ["orders"]:
                return self._list(filter(lambda row: self._matches(row, query), self.orders.values()), query)
            case ["orders", number]:
                return self._one(self.orders, number, "woocommerce_rest_shop_order_invalid_id")
            case ["orders", number, "refunds"]:
                return httpx.Response(200, json=self.refunds.get(int(number), []))
            case ["orders", number, "fulfillments"] if "fulfillments" not in self.without:
                return httpx.Response(200, json=self.fulfillments.get(int(number), []))
            case ["customers"]:
                return self._list(self.customers.values(), query)
            case ["customers", number]:
                return self._one(self.customers, number, "woocommerce_rest_invalid_id")
            case ["products", "reviews"]:
                return self._list(filter(lambda row: self._is_shown(row, query), self.reviews.values()), query)
            case ["products", "reviews", number]:
                return self._one(self.reviews, number, "woocommerce_rest_review_invalid_id")
            case ["webhooks"]:
                return self._list(self.webhooks.values(), query)
        return error(404, "rest_no_route")

    def _matches(self, row: Mapping[str, Any], query: Mapping[str, str]) -> bool:
        wanted = query.get("status", "any").split(",")
        if "any" in wanted:
            if row["status"] in {"trash", "checkout-draft"}:
                return False
        elif row["status"] not in wanted:
            return False
        if self.old:
            return True
        shift = timedelta(0) if query.get("dates_are_gmt") == "true" else self.zone
        modified = written(datetime.fromisoformat(row["date_modified_gmt"]) + shift)
        return query.get("modified_after", "") < modified < query.get("modified_before", "9")

    @staticmethod
    def _is_shown(row: Mapping[str, Any], query: Mapping[str, str]) -> bool:
        shown = query.get("status") in {"all", row["status"]}
        return shown and query.get("after", "") < row["date_created"]

    def _list(self, rows: Iterable[dict[str, Any]], query: Mapping[str, str]) -> httpx.Response:
        size = int(query.get("per_page", "10"))
        if not 1 <= size <= 100:
            return error(400, "rest_invalid_param")
        found = sorted(rows, key=lambda row: int(row["id"]), reverse=query.get("order", "desc") == "desc")
        if "include" in query:
            found = [row for row in found if str(row["id"]) in query["include"].split(",")]
        first = int(query.get("offset") or (int(query.get("page", "1")) - 1) * size)
        head = {"x-wp-total": str(len(found)), "x-wp-totalpages": str(-(-len(found) // size))}
        shown = [row for row in found[first : first + size] if row["id"] not in self.hidden]
        return httpx.Response(200, json=shown, headers=head)

    @staticmethod
    def _one(rows: Mapping[int, Any], number: str, code: str) -> httpx.Response:
        return httpx.Response(200, json=rows[int(number)]) if int(number) in rows else error(404, code)

    # on a socket

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve on a free port of 127.0.0.1; gives the shop's address."""

        async def handle(request: web.Request) -> web.StreamResponse:
            url = f"http://{request.host}{request.raw_path}"
            said = self.answer(httpx.Request(request.method, url, headers=dict(request.headers)))
            head = {name: value for name, value in said.headers.items() if name not in {"content-length"}}
            return web.Response(status=said.status_code, body=said.content, headers=head)

        server = web.Server(handle)
        runner = web.ServerRunner(server)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()


def error(status: int, code: str) -> httpx.Response:
    """An error as WordPress writes it."""
    return httpx.Response(status, json={"code": code, "message": "Nein.", "data": {"status": status}})


def signed(body: bytes | dict[str, Any], secret: str, topic: str, delivery: str = "d1") -> tuple[bytes, dict[str, str]]:
    """A webhook as the shop sends it: (body, headers in lower case)."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    made = base64.b64encode(hmac.new(secret.encode(), raw, hashlib.sha256).digest()).decode()
    head = {"x-wc-webhook-signature": made, "x-wc-webhook-topic": topic, "x-wc-webhook-delivery-id": delivery}
    return raw, head
