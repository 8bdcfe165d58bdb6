"""The gateways to SendGrid and Postmark against the vendors' own OpenAPI documents."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmkit import Account, AdapterError, DoubtError, Gateway, Message
from crmkit.adapters.http import client
from crmkit_email.postmark import PostmarkGateway
from crmkit_email.sendgrid import SendgridGateway

pytestmark = pytest.mark.e2e

NOW = datetime(2026, 5, 7, 9, 30, tzinfo=UTC)
ANN = Message(
    id=1,
    key="1:care:order-shipped:7",
    channel="email",
    address_kind="email",
    address="ann@buyers.example",
    purpose="transactional",
    template="order-shipped",
    locale="zh",
    subject="您的订单",
    text="您的包裹已发出 📦 & 100 %",
    html="<p>您的包裹已发出 📦</p>",
    headers={"List-Unsubscribe": "<https://crm.example.com/u/e3Jk>", "Reply-To": "Ask Us <ask@tea.example>"},
    decided_at=NOW,
    leaves_at=NOW,
)
BOB = replace(ANN, id=2, key="2:care:order-shipped:8", address="bob@buyers.example", subject="Your order")
SETTINGS = {"sender": "Tea House <shop@tea.example>"}


@pytest.fixture(scope="session")
def sendgrid(prism: Callable[[str], str]) -> str:
    return prism("sendgrid.com.json")


@pytest.fixture(scope="session")
def postmark(prism: Callable[[str], str]) -> str:
    return prism("postmarkapp.com/server.json")


class Line:
    """A client that notes what was answered, and finds a document's paths below its address."""

    def __init__(self, http: httpx.AsyncClient, strip: str = "") -> None:
        self.http, self.strip, self.said = http, strip, list[httpx.Response]()
        http.event_hooks["request"].append(self._short)
        http.event_hooks["response"].append(self._note)

    async def _short(self, request: httpx.Request) -> None:
        request.url = request.url.copy_with(path=request.url.path.removeprefix(self.strip))

    async def _note(self, response: httpx.Response) -> None:
        self.said.append(response)

    def make(self, cls: type[Gateway], url: str, **settings: Any) -> Any:
        account = Account("mail", "UTC", None, None, Path(), "https://crm.example.com/webhooks/mail")
        return cls(cls.Settings.model_validate({**SETTINGS, "base_url": url, **settings}), account, self.http)


@pytest.mark.parametrize("messages", [[ANN], [ANN, BOB], [replace(ANN, purpose="marketing")]])
async def test_what_sendgrid_is_sent_is_valid(sendgrid: str, messages: list[Message]) -> None:
    async with client() as http:
        line = Line(http, strip="/v3")
        more = {"transactional_group": 1, "marketing_group": 2, "ip_pool": "shop", "bypass_unsubscribes": True}
        gateway = line.make(SendgridGateway, sendgrid, api_key="SG.x", **more)
        receipts = [receipt async for receipt in gateway.deliver_many(messages)]
    assert [response.status_code for response in line.said] == [202]
    assert [receipt.outcome for receipt in receipts] == ["accepted"] * len(messages)


async def test_what_sendgrid_is_asked_is_valid_and_its_answers_are_read(sendgrid: str) -> None:
    async with client() as http:
        line = Line(http, strip="/v3")
        gateway = line.make(SendgridGateway, sendgrid, api_key="SG.x", marketing_group=2)
        pages = [page async for page in gateway.suppressions(NOW - timedelta(days=1), NOW)]
    assert {response.status_code for response in line.said} == {200}
    assert len(line.said) == 5
    assert sum(len(page.records) for page in pages) > 0


@pytest.mark.parametrize("messages", [[ANN], [replace(ANN, purpose="marketing")]])
async def test_what_postmark_is_sent_is_valid(postmark: str, messages: list[Message]) -> None:
    async with client() as http:
        line = Line(http)
        gateway = line.make(PostmarkGateway, postmark, server_token="t")
        receipts = [receipt async for receipt in gateway.deliver_many(messages)]
    assert [response.status_code for response in line.said] == [200]
    assert [receipt.message for receipt in receipts] == messages


async def test_an_answer_about_fewer_mails_leaves_them_in_doubt(postmark: str) -> None:
    """Prism's answer to a batch is always one item long."""
    async with client() as http:
        line = Line(http)
        gateway = line.make(PostmarkGateway, postmark, server_token="t")
        with pytest.raises(DoubtError):
            [receipt async for receipt in gateway.deliver_many([ANN, BOB])]
    assert [response.status_code for response in line.said] == [200]


async def test_what_postmark_is_asked_is_valid(postmark: str) -> None:
    async with client() as http:
        line = Line(http)
        gateway = line.make(PostmarkGateway, postmark, server_token="t")
        with pytest.raises(AdapterError):
            await gateway.look_up(ANN)
        await gateway.check()
    assert line.said[0].status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"personalizations": [{"to": [{"email": "ann@buyers.example"}]}]},
        {"from": "nobody", "subject": "s", "personalizations": [], "content": [{"type": "text/plain", "value": "t"}]},
    ],
)
async def test_sendgrids_document_is_really_checked(sendgrid: str, body: dict[str, Any]) -> None:
    async with client() as http:
        answer = await http.post(f"{sendgrid}/mail/send", json=body, headers={"Authorization": "Bearer SG.x"})
    assert answer.status_code == 400


@pytest.mark.parametrize(("body", "token"), [([{"To": 7}], "t"), ([{"To": "ann@buyers.example"}], None)])
async def test_postmarks_document_is_really_checked(postmark: str, body: list[Any], token: str | None) -> None:
    headers = {"X-Postmark-Server-Token": token} if token else {}
    async with client() as http:
        assert (await http.post(f"{postmark}/email/batch", json=body, headers=headers)).status_code == 422
