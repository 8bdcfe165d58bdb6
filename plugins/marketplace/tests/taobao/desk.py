"""What the tests of Taobao share: a source or a gateway at a fake platform, and what its pages hold."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from crmkit import Account
from crmkit.adapters import http
from crmkit.adapters.memory import Memory
from crmkit_marketplace.taobao import TaobaoSource
from crmkit_marketplace.taobao.gateway import TaobaoGateway
from plugins.marketplace.tests.reading import Read, gather
from plugins.marketplace.tests.taobao.fake import DAY, KEY, MINUTE, NOON, SECRET, SESSION, FakePlatform

FOLDER = Path(__file__).parent


def remembering(adapter: Any, **values: Any) -> Any:
    """The adapter with a memory that keeps."""

    async def keep(news: Mapping[str, Any]) -> None:
        del news

    adapter.memory = Memory(values, keep)
    return adapter


def source(platform: FakePlatform, **settings: Any) -> TaobaoSource:
    """A source that asks a fake platform, without a network; `session=None` has it remember its token."""
    given = {"app_key": KEY, "app_secret": SECRET, "session": SESSION, **settings}
    told = {name: value for name, value in given.items() if value is not None}
    account = Account("flagship", "UTC", None, None, FOLDER, "https://crm.example.com/webhooks/flagship")
    client = http.client(transport=httpx.MockTransport(platform.answer))
    return remembering(TaobaoSource(TaobaoSource.Settings.model_validate(told), account, client))


def gateway(platform: FakePlatform, **settings: Any) -> TaobaoGateway:
    """A gateway that asks a fake platform."""
    given = {"app_key": KEY, "app_secret": SECRET, "session": SESSION, "sign_name": "茶铺", **settings}
    told = {name: value for name, value in given.items() if value is not None}
    account = Account("texts", "UTC", None, None, FOLDER)
    client = http.client(transport=httpx.MockTransport(platform.answer))
    return remembering(TaobaoGateway(TaobaoGateway.Settings.model_validate(told), account, client))


async def orders(shop: TaobaoSource, start: Any = NOON - DAY / 2, end: Any = NOON + MINUTE) -> Read:
    return await gather(shop.orders(start, end))
