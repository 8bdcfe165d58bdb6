"""A real Vendure on this machine, and what its buyers and its staff do there."""

import os
import signal
import socket
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

SCRIPT = Path(__file__).with_suffix(".cjs")
#: Who may read orders and customers, and nothing else.
USER, PASSWORD = "crm@shop.example", "p4ss-0123456789"
_STATED = "{ __typename ... on ErrorResult { message } }"


class Api:
    """One of its two APIs, in a session of its own."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self.url = url

    def __call__(self, question: str, **variables: Any) -> Any:
        response = self.http.post(self.url, json={"query": question, "variables": variables})
        if token := response.headers.get("vendure-auth-token"):
            self.http.headers["authorization"] = f"Bearer {token}"
        body = response.json()
        assert not body.get("errors"), body["errors"]
        for name, said in body["data"].items():
            assert not (isinstance(said, dict) and "message" in said), f"{name}: {said}"
        return body["data"]


@dataclass
class Vendure:
    """The shop.

    Attributes:
        packages: the folder its packages were installed into.
        folder: where its database lies.
        environment: what it is told beside; `PLUGIN` is the file of a plugin in TypeScript.
    """

    packages: Path
    folder: Path
    port: int = 0
    process: "subprocess.Popen[str] | None" = None
    environment: dict[str, str] = field(default_factory=dict)
    _staff: list[Api] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        return self.folder / "vendure.sqlite"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as held:
                self.port = held.getsockname()[1]
        env = {**os.environ, "PORT": str(self.port), "DATABASE": str(self.database), **self.environment}
        self.process = subprocess.Popen(
            ["node", str(SCRIPT)],
            cwd=self.packages,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if line.strip() == "ready":
                break
        else:
            raise AssertionError("".join(lines))
        self._staff.clear()

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.communicate()
            self.process = None

    # what its staff does

    @property
    def staff(self) -> Api:
        """Its Admin API, as who may do everything."""
        if not self._staff:
            self._staff.append(Api(f"{self.url}/admin-api"))
            self._staff[0]('mutation { login(username: "superadmin", password: "superadmin") { __typename } }')
        return self._staff[0]

    def make_reader(self) -> None:
        """An administrator whose role may read orders and customers."""
        role = 'createRole(input: {code: "crm", description: "crm", permissions: [ReadOrder, ReadCustomer]}) { id }'
        number = self.staff(f"mutation {{ {role} }}")["createRole"]["id"]
        about = f'firstName: "C", lastName: "R", emailAddress: "{USER}", password: "{PASSWORD}", roleIds: [{number}]'
        self.staff(f"mutation {{ createAdministrator(input: {{{about}}}) {{ id }} }}")

    def order(self, number: str) -> Any:
        """An order as it is now."""
        said = (
            "id state updatedAt orderPlacedAt totalWithTax lines { id quantity } payments { id refunds { id state } }"
        )
        return self.staff(f"query ($id: ID!) {{ order(id: $id) {{ {said} }} }}", id=number)["order"]

    def ship(self, number: str) -> str:
        """All of an order leaves in one parcel, whose id this is."""
        lines = [{"orderLineId": one["id"], "quantity": one["quantity"]} for one in self.order(number)["lines"]]
        about = [{"name": "method", "value": "Post"}, {"name": "trackingCode", "value": f"TRK-{number}"}]
        made = self.staff(
            "mutation ($i: FulfillOrderInput!) { addFulfillmentToOrder(input: $i)"
            " { __typename ... on Fulfillment { id } ... on ErrorResult { message } } }",
            i={"lines": lines, "handler": {"code": "manual-fulfillment", "arguments": about}},
        )
        parcel = str(made["addFulfillmentToOrder"]["id"])
        self.move_parcel(parcel, "Shipped")
        return parcel

    def move_parcel(self, number: str, state: str) -> None:
        """A parcel comes to a state."""
        move = "transitionFulfillmentToState(id: $id, state: $to)"
        self.staff(f"mutation ($id: ID!, $to: String!) {{ {move} {_STATED} }}", id=number, to=state)

    def refund(self, number: str, amount: int) -> None:
        """Part of what was paid goes back."""
        payment = self.order(number)["payments"][0]["id"]
        back = {"lines": [], "shipping": 0, "adjustment": 0, "amount": amount, "paymentId": payment, "reason": "dented"}
        self.staff(f"mutation ($i: RefundOrderInput!) {{ refundOrder(input: $i) {_STATED} }}", i=back)
        made = self.order(number)["payments"][0]["refunds"][-1]["id"]
        settled = {"id": made, "transactionId": f"back-{made}"}
        self.staff(f"mutation ($i: SettleRefundInput!) {{ settleRefund(input: $i) {_STATED} }}", i=settled)

    def hand_over(self, number: str, customer: str) -> None:
        """Somebody else is its customer: one of the changes that move an order's `updatedAt`."""
        self.staff(f"mutation {{ setOrderCustomer(input: {{orderId: {number}, customerId: {customer}}}) {{ id }} }}")

    def write(self, statement: str, *values: Any) -> None:
        """Write into its database, past it."""
        with closing(sqlite3.connect(self.database, timeout=20)) as database, database:
            database.execute(statement, values)

    # what its buyers do

    def fill_cart(self, name: str) -> "Cart":
        """Somebody puts two tins into a cart, and says where to."""
        cart = Cart(Api(f"{self.url}/shop-api"))
        said = cart.api(
            "mutation { addItemToOrder(productVariantId: 1, quantity: 2)"
            " { __typename ... on Order { id } ... on ErrorResult { message } } }"
        )
        cart.number = str(said["addItemToOrder"]["id"])
        who = {"firstName": name, "lastName": "Buyer", "emailAddress": f"{name.lower()}@buyers.example"}
        where = {"fullName": f"{name} Buyer", "streetLine1": "1 Elm", "city": "Oakland", "countryCode": "US"}
        cart.api(f"mutation ($i: CreateCustomerInput!) {{ setCustomerForOrder(input: $i) {_STATED} }}", i=who)
        cart.api(f"mutation ($i: CreateAddressInput!) {{ setOrderShippingAddress(input: $i) {_STATED} }}", i=where)
        cart.api(f"mutation {{ setOrderShippingMethod(shippingMethodId: 1) {_STATED} }}")
        cart.api(f'mutation {{ transitionOrderToState(state: "ArrangingPayment") {_STATED} }}')
        return cart

    def buy(self, name: str) -> str:
        """Somebody buys two tins; the order's id."""
        cart = self.fill_cart(name)
        cart.place()
        return cart.number


@dataclass
class Cart:
    """What somebody has not bought yet."""

    api: Api
    number: str = ""

    def place(self) -> None:
        """Buy it."""
        method = self.api("{ eligiblePaymentMethods { code } }")["eligiblePaymentMethods"][0]["code"]
        pay = "addPaymentToOrder(input: {method: $m, metadata: {}})"
        self.api(f"mutation ($m: String!) {{ {pay} {_STATED} }}", m=method)
