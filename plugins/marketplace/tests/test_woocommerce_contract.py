"""WooCommerce is held to what every source is."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx

from crmkit import Call, Hmac, secrets_of
from crmkit.testing import SourceContract
from crmkit.testing.fake_shop import FakeShop, Kept
from crmkit_marketplace.woocommerce import WooCommerceSource
from plugins.marketplace.tests.woocommerce import fake

SIGNED = Hmac("x-wc-webhook-signature", secret="webhook_secret")


class WooShop(FakeShop):
    """The small WooCommerce of the other tests, as the contract plays with it."""

    sorts = "number"
    #: what is listed is what the database has; a site that caches its API may be a minute late
    behind = timedelta(minutes=1)

    def __init__(self) -> None:
        super().__init__()
        self.woo = fake.FakeShop()

    def fresh(self, number: int) -> dict[str, Any]:
        self.woo.now = self.now
        return dict(self.woo.put(number))

    def touched(self, order: dict[str, Any], at: Any) -> None:
        order["date_modified_gmt"] = fake.written(at)

    def changed(self, order: dict[str, Any]) -> None:
        order["status"] = "processing" if order["status"] == "pending" else "on-hold"
        order["total"] = f"{float(order['total']) + 1:.2f}"

    def handle(self, request: httpx.Request) -> httpx.Response:
        self.woo.between = self._listing
        self._show()
        return self.woo.answer(request)

    def _listing(self, lists: int) -> None:
        self.pages += 1
        self.between(self.pages)
        self._show()

    def _show(self) -> None:
        def is_shown(kept: Kept) -> bool:
            return kept.changed_at + self.lag <= self.now

        self.woo.now = self.now
        self.woo.orders = {
            number: json.loads(json.dumps(k.payload)) for number, k in self.orders.items() if is_shown(k)
        }


class TestWooCommerce(SourceContract):
    adapter = WooCommerceSource
    settings = {
        "url": "https://shop.example.com",
        "consumer_key": fake.KEY,
        "consumer_secret": fake.SECRET,
        "webhook_secret": "wh-secret-0123456789",
    }
    fixtures = Path(__file__).parent / "woocommerce" / "exchanges"
    headers = ("authorization",)
    shop = WooShop
    shop_settings = {"per_page": 10}
    shop_orders = 35
    webhook_secret = "webhook_secret"
    signs_time = False
    #: a 401 that is not in the words of WooCommerce is a firewall's, which may let the next request pass
    faults = {"401": "RetryableError"}

    def sign(self, call: Call, settings: Any) -> Call:
        made = SIGNED.written(secrets_of(settings, "webhook_secret")[0], call.body)
        return replace(call, headers={**call.headers, SIGNED.header: made})
