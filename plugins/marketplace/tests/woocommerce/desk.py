"""What the tests of WooCommerce share: a source at a fake shop, and what its pages hold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from crmkit import Account
from crmkit.adapters import http
from crmkit_marketplace.woocommerce import WooCommerceSource
from plugins.marketplace.tests.reading import Read, gather
from plugins.marketplace.tests.woocommerce.fake import DAY, KEY, MINUTE, NOON, SECRET, FakeShop

FOLDER = Path(__file__).parent


def source(
    shop: FakeShop | None = None, *, client: httpx.AsyncClient | None = None, **settings: Any
) -> WooCommerceSource:
    """A source that asks a fake shop, without a network unless a client is given."""
    told = {"url": "https://shop.example.com", "consumer_key": KEY, "consumer_secret": SECRET, **settings}
    account = Account("flagship", "UTC", None, None, FOLDER, "https://crm.example.com/webhooks/flagship")
    used = client or http.client(transport=httpx.MockTransport((shop or FakeShop()).answer))
    return WooCommerceSource(WooCommerceSource.Settings.model_validate(told), account, used)


async def orders(woo: WooCommerceSource, start: Any = NOON - DAY, end: Any = NOON + MINUTE) -> Read:
    return await gather(woo.orders(start, end))


def dumped(records: Sequence[Any]) -> list[dict[str, Any]]:
    """Records as the fixtures write them: what is said and not empty."""
    return [{"kind": record.kind, **_full(record.model_dump(mode="json", exclude_unset=True))} for record in records]


def _full(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _full(item) for key, item in value.items() if item not in (None, {}, [])}
    return [_full(item) for item in value] if isinstance(value, list) else value
