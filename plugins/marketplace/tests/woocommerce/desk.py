"""What the tests of WooCommerce share: a source at a fake shop, and what its pages hold."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from crmkit import Account, CrmkitError, Page, Record, Refused
from crmkit.adapters import http
from crmkit_marketplace.woocommerce import WooCommerceSource
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


@dataclass
class Read:
    """What was read, and the error it ended with."""

    pages: list[Page] = field(default_factory=list)
    error: CrmkitError | None = None

    @property
    def records(self) -> list[Record]:
        return [record for page in self.pages for record in page.records]

    @property
    def refused(self) -> list[Refused]:
        return [refused for page in self.pages for refused in page.refused]

    def of(self, kind: str) -> list[Any]:
        return [record for record in self.records if record.kind == kind]

    def ids(self, kind: str = "order") -> list[int]:
        return [int(record.external_id) for record in self.of(kind)]


async def gather(pages: AsyncIterator[Page]) -> Read:
    found = Read()
    try:
        async for page in pages:
            found.pages.append(page)
    except CrmkitError as error:
        found.error = error
    return found


async def orders(woo: WooCommerceSource, start: Any = NOON - DAY, end: Any = NOON + MINUTE) -> Read:
    return await gather(woo.orders(start, end))


def dumped(records: Sequence[Any]) -> list[dict[str, Any]]:
    """Records as the fixtures write them: what is said and not empty."""
    return [{"kind": record.kind, **_full(record.model_dump(mode="json", exclude_unset=True))} for record in records]


def _full(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _full(item) for key, item in value.items() if item not in (None, {}, [])}
    return [_full(item) for item in value] if isinstance(value, list) else value
