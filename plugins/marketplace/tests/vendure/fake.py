"""A small Vendure, after its schema: what its Admin API says of orders and customers, and to whom.

As measured on a real one: an order's `updatedAt` stands still as it is placed, paid, shipped and delivered; of several
fields to sort by, the schema's first one counts; on SQLite times are compared as texts, some with milliseconds and some
without; a question may have 100 kB; who may not ask is told so with HTTP 200.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from crmkit.testing.fake_shop import FakeShop

USER, PASSWORD = "crm@shop.example", "p4ss-0123456789"
#: Fields to sort by, in the order in which the schema has them.
SORTABLE = ("id", "createdAt", "updatedAt", "orderPlacedAt")
LARGEST = 100_000
#: Of what a role may do, what is asked for.
RIGHTS = ("Authenticated", "ReadOrder", "ReadCustomer")


def written(at: datetime) -> str:
    """A time as the shop writes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def moved(kind: str, before: str, after: str, at: datetime, **data: Any) -> dict[str, Any]:
    """An entry of an order's history: `moved("STATE", "PaymentSettled", "Shipped", NOON)`."""
    return {
        "type": f"ORDER_{kind}_TRANSITION",
        "createdAt": written(at),
        "data": {"from": before, "to": after, **data},
    }


def payment(number: int, amount: int, at: datetime, **said: Any) -> dict[str, Any]:
    """A payment that is settled."""
    times = {"createdAt": written(at), "updatedAt": written(at)}
    about = {"state": "Settled", "method": "card", "transactionId": f"tx-{number}", "refunds": []}
    return {"id": str(number), "amount": amount, **times, **about, **said}


def refund(number: int, total: int, at: datetime, **said: Any) -> dict[str, Any]:
    """A refund that is settled."""
    times = {"createdAt": written(at), "updatedAt": written(at)}
    return {"id": str(number), "total": total, "state": "Settled", "reason": None, **times, **said}


def fulfillment(number: int, state: str, at: datetime, **said: Any) -> dict[str, Any]:
    """A parcel."""
    times = {"createdAt": written(at), "updatedAt": written(at)}
    return {"id": str(number), "state": state, "method": "Post", "trackingCode": f"TRK-{number}", **times, **said}


def customer(number: int, at: datetime, **said: Any) -> dict[str, Any]:
    """A customer who is registered."""
    return {
        "id": str(number),
        "createdAt": written(at),
        "updatedAt": written(at),
        "emailAddress": f"buyer{number}@buyers.example",
        "firstName": "Łucja",
        "lastName": "Żak",
        "phoneNumber": "+14155550102",
        "user": {"verified": True},
        **said,
    }


def order(number: int, at: datetime, **said: Any) -> dict[str, Any]:
    """An order that was placed and paid: 2 x 12.50 and 5.00 for shipping, a tenth of it tax."""
    item = {
        "id": str(number * 10),
        "quantity": 2,
        "orderPlacedQuantity": 2,
        "unitPriceWithTax": 1250,
        "linePrice": 2250,
        "linePriceWithTax": 2500,
        "proratedLinePrice": 2250,
        "proratedLinePriceWithTax": 2500,
        "productVariant": {"id": "3", "sku": "TEA-1", "name": "Green tea", "product": {"id": "2"}},
    }
    history = [
        moved("STATE", "Created", "AddingItems", at - timedelta(minutes=9)),
        moved("STATE", "AddingItems", "ArrangingPayment", at),
        moved("PAYMENT", "Created", "Settled", at, paymentId=number),
        moved("STATE", "ArrangingPayment", "PaymentSettled", at),
    ]
    return {
        "id": str(number),
        "code": f"T{number:04}",
        "state": "PaymentSettled",
        "type": "Regular",
        "active": False,
        "createdAt": written(at - timedelta(minutes=9)),
        "updatedAt": written(at),
        "orderPlacedAt": written(at),
        "currencyCode": "USD",
        "subTotal": 2250,
        "subTotalWithTax": 2500,
        "shipping": 450,
        "shippingWithTax": 500,
        "total": 2700,
        "totalWithTax": 3000,
        "couponCodes": [],
        "customer": customer(7, at),
        "shippingAddress": {"fullName": "Łucja Żak", "streetLine1": "1 Elm", "city": "Oakland", "countryCode": "US"},
        "lines": [item],
        "surcharges": [],
        "payments": [payment(number, 3000, at)],
        "fulfillments": [],
        "history": {"items": history},
        "aggregateOrder": None,
        "sellerOrders": [],
        **said,
    }


class VendureShop(FakeShop):
    """The shop, and who may ask it.

    Attributes:
        customers: as it writes them.
        sessions: tokens it knows; empty it, and all must log in again.
        logins: how often somebody did.
        by_cookie: it hands tokens out in cookies, not in a header.
        rights: what the role of who asks may do.
        broken: {id: field} of orders at which it fails: `payments` may be null and is, for `lines` it answers nothing.
        size: rows on a page, unless it is asked for another number.
    """

    #: a transaction that writes an order may last that long
    behind = timedelta(minutes=1)

    def __init__(self) -> None:
        super().__init__()
        self.size = 1000
        self.customers: list[dict[str, Any]] = []
        self.sessions: set[str] = set()
        self.logins, self.by_cookie, self.rights = 0, False, RIGHTS
        self.broken: dict[int, str] = {}

    # its orders

    def fresh(self, number: int) -> dict[str, Any]:
        return order(number, self.now)

    def touched(self, order: dict[str, Any], at: datetime) -> None:
        order["updatedAt"] = written(at)

    def changed(self, order: dict[str, Any]) -> None:
        """It is shipped; if it is already, somebody gives something back."""
        if order["state"] == "PaymentSettled":
            self.ship(order)
        else:
            order["payments"][0]["refunds"].append(refund(len(self.asked) + 1, 100, self.now))
            order["totalWithTax"] -= 100

    def ship(self, order: dict[str, Any]) -> None:
        """All of it leaves in one parcel."""
        number, before = int(order["id"]), order["state"]
        order["fulfillments"].append(fulfillment(number, "Shipped", self.now))
        order["state"] = "Shipped"
        order["history"]["items"] += [
            moved("FULFILLMENT", "Pending", "Shipped", self.now, fulfillmentId=number),
            moved("STATE", before, "Shipped", self.now),
        ]

    # its answers

    def handle(self, request: httpx.Request) -> httpx.Response:
        if len(request.content) > LARGEST:
            return httpx.Response(500, json={"statusCode": 500, "message": ""})
        asked = json.loads(request.content)
        question, variables = asked["query"], asked["variables"]
        if question.startswith("mutation LogIn"):
            return self._log_in(variables)
        if not self._knows(request):
            return _no("FORBIDDEN")
        if question.startswith("query Channel"):
            return _says({"activeChannel": {"id": "1", "code": "__default_channel__", "token": "c-1"}})
        if question.startswith("query Rights"):
            channel = {"id": "1", "permissions": list(self.rights)}
            return _says({"me": {"channels": [channel]}, "activeChannel": {"id": "1", "code": "__default_channel__"}})
        name = "customers" if "Customers(" in question else "orders"
        if f"Read{name.title()[:-1]}" not in self.rights:
            return _no("FORBIDDEN")
        answer = self._list(name, variables["o"])
        return answer if question.startswith("query Bare") else self._fails_at(name, answer)

    def _fails_at(self, name: str, answer: httpx.Response) -> httpx.Response:
        said = answer.json()
        rows = said["data"][name]["items"] if said["data"] else []
        failing = [(at, self.broken[int(row["id"])]) for at, row in enumerate(rows) if int(row["id"]) in self.broken]
        if name != "orders" or not failing:
            return answer
        extensions = {"code": "INTERNAL_SERVER_ERROR"}
        errors = [
            {"message": "no", "path": [name, "items", at, what], "extensions": extensions} for at, what in failing
        ]
        for at, what in failing:
            rows[at][what] = None
        is_nothing = any(what == "lines" for _, what in failing)
        return httpx.Response(200, json={"errors": errors, "data": None if is_nothing else said["data"]})

    def _log_in(self, said: dict[str, Any]) -> httpx.Response:
        if (said["username"], said["password"]) != (USER, PASSWORD):
            error = {"__typename": "InvalidCredentialsError", "errorCode": "INVALID_CREDENTIALS_ERROR"}
            return _says({"login": error})
        self.logins += 1
        token = f"token-0123456789-{self.logins}"
        self.sessions.add(token)
        answer = _says({"login": {"__typename": "CurrentUser"}})
        if self.by_cookie:
            cookies = [("set-cookie", f"session={token}; path=/; httponly"), ("set-cookie", "session.sig=s1; path=/")]
            answer.headers = httpx.Headers([*answer.headers.items(), *cookies])
        else:
            answer.headers["vendure-auth-token"] = token
        return answer

    def _knows(self, request: httpx.Request) -> bool:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        cookie = request.headers.get("cookie", "").partition("; ")[0].removeprefix("session=")
        return bool(self.sessions & {bearer, cookie})

    def _list(self, name: str, options: dict[str, Any]) -> httpx.Response:
        self.pages += 1
        self.between(self.pages)
        if not 0 < options["take"] <= self.size:
            return _no("USER_INPUT_ERROR")
        kept = [one.payload for one in self.orders.values() if one.changed_at + self.lag <= self.now]
        rows = [row for row in (kept if name == "orders" else self.customers) if _fits(row, options.get("filter", {}))]
        (*_, first) = [field for field in reversed(SORTABLE) if field in options.get("sort", {"id": "ASC"})]
        rows.sort(key=lambda row: (_stored(row, first), int(row["id"]) * 7919 % 1009))  # equal ones in any order
        skip = options.get("skip", 0)
        shown = rows[skip : skip + options["take"]]
        return _says({name: {"totalItems": len(rows), "items": json.loads(json.dumps(shown))}})


def _stored(row: dict[str, Any], name: str) -> Any:
    """A field as SQLite has it: a time is a text, of some rows without milliseconds."""
    value = row.get(name)
    if name == "id":
        return int(value)
    if not name.endswith("At") or value is None:
        return value
    text = str(value).replace("T", " ").removesuffix("Z")
    return text.removesuffix(".000") if int(row["id"]) % 2 and name == "updatedAt" else text


def _fits(row: dict[str, Any], filters: dict[str, Any]) -> bool:
    return all(_is(row, name, how, value) for name, tests in filters.items() for how, value in tests.items())


def _is(row: dict[str, Any], name: str, how: str, value: Any) -> bool:
    own = row.get(name) if name == "id" else _stored(row, name)
    if how in {"in", "notIn"}:
        return (own in value) is (how == "in")
    if how == "eq":
        return bool(own == value)
    if own is None:
        return False
    if how == "before":
        return bool(own < _compared(value))
    if how == "between":
        return bool(_compared(value["start"]) <= own <= _compared(value["end"]))
    raise AssertionError(f"the filter {how} is none")


def _compared(text: str) -> str:
    at = datetime.fromisoformat(text).astimezone(UTC)
    return at.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _says(data: dict[str, Any]) -> httpx.Response:
    return httpx.Response(200, json={"data": data})


def _no(code: str) -> httpx.Response:
    return httpx.Response(200, json={"errors": [{"message": "no", "extensions": {"code": code}}], "data": None})


def ids(rows: Iterable[Any]) -> list[int]:
    """The numbers of records."""
    return [int(row.external_id) for row in rows]
