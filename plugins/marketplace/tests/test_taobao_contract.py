"""Taobao is held to what every source and every gateway is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx

from crmkit import Call
from crmkit.testing.fake_shop import FakeShop, Kept
from crmkit.testing.gateway_contract import GatewayContract
from crmkit.testing.source_contract import SourceContract
from crmkit_marketplace.taobao import TaobaoSource
from crmkit_marketplace.taobao.gateway import TaobaoGateway
from crmkit_marketplace.taobao.signing import signature
from plugins.marketplace.tests.taobao.fake import written

HERE = Path(__file__).parent / "taobao"
SETTINGS = {"app_key": "23000001", "app_secret": "s3cr3tTOP0123456789"}
MEMORY = {"session": "6100ffee0123456789", "user_id": "2200000001"}


def moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - timedelta(hours=8)


class TaobaoShop(FakeShop):
    """A shop that lists the latest change first."""

    descending = True
    moves_times = True
    #: "a little late", and no figure; this is more than the source waits for, and less than it reads again
    behind = timedelta(minutes=5)

    def __init__(self) -> None:
        super().__init__()
        self.size = 100  # as it is asked, up to this

    def fresh(self, number: int) -> dict[str, Any]:
        order = {"oid": number, "num": 1, "price": "10.00", "title": "茶"}
        trade = {"tid": number, "type": "fixed", "status": "WAIT_BUYER_PAY", "created": written(self.now)}
        return trade | {"payment": "10.00", "buyer_open_uid": f"AAH{number}", "orders": {"order": [order]}}

    def touched(self, order: dict[str, Any], at: datetime) -> None:
        order["modified"] = written(at)

    def changed(self, order: dict[str, Any]) -> None:
        order["payment"] = f"{float(order['payment']) + 1:.2f}"

    def handle(self, request: httpx.Request) -> httpx.Response:
        form = dict(parse_qsl(request.content.decode()))
        method = form["method"].removeprefix("taobao.")
        return httpx.Response(200, json=self.said(method, form))

    def said(self, method: str, form: dict[str, str]) -> dict[str, Any]:
        root = f"{method.replace('.', '_')}_response"
        if method == "time.get":
            return {root: {"time": written(self.now)}}
        if method == "trade.fullinfo.get":
            found = self.find(form["tid"])
            refusal = {"error_response": {"code": 15, "msg": "-", "sub_code": "isv.trade-not-exist"}}
            return refusal if found is None else {root: {"trade": found}}
        if not method.startswith("trades.sold"):
            return {root: {"has_next": self.page(matches=lambda kept: False).has_more}}
        by = "modified" if "increment" in method else "created"
        first, last = moment(form[f"start_{by}"]), moment(form[f"end_{by}"])

        def matches(kept: Kept) -> bool:
            return first <= (kept.changed_at if by == "modified" else kept.created_at).replace(microsecond=0) <= last

        page = self.page(number=int(form["page_no"]), size=int(form["page_size"]), matches=matches)
        counted = {"total_results": page.total} if form["use_has_next"] == "false" else {"has_next": page.has_more}
        return {root: {"trades": {"trade": page.orders}, **counted}}


class TestTaobaoSource(SourceContract):
    adapter = TaobaoSource
    settings = SETTINGS
    memory = MEMORY
    fixtures = HERE / "source"
    webhook_secret = "app_secret"
    signs_time = True
    shop = TaobaoShop
    shop_settings = {"page_size": 2}

    def sign(self, call: Call, settings: Any) -> Call:
        made = signature(dict(parse_qsl(call.query)), settings.secrets[0], "md5", call.body)
        return replace(call, query=f"{call.query}&{urlencode({'sign': made})}")


class TestTaobaoGateway(GatewayContract):
    adapter = TaobaoGateway
    settings = SETTINGS
    memory = MEMORY
    fixtures = HERE / "gateway"
