"""The Twilio gateway against Twilio's own OpenAPI document."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmkit import Account, DoubtError, Message
from crmkit.adapters.http import client
from crmkit_sms.twilio import TwilioGateway

pytestmark = pytest.mark.e2e

NOW = datetime(2026, 5, 7, 9, 30, tzinfo=UTC)
SID, SERVICE = "AC" + "0" * 32, "MG" + "0" * 32
PATH = f"/2010-04-01/Accounts/{SID}/Messages.json"
MESSAGE = Message(
    id=1,
    key="1:care:order-shipped:7",
    channel="sms",
    address_kind="phone",
    address="+8613800138000",
    purpose="transactional",
    template="order-shipped",
    locale="zh",
    text="【茶店】您的包裹已发出 📦 & 100 %",
    decided_at=NOW,
    leaves_at=NOW,
    expires_at=NOW + timedelta(hours=2),
)


@pytest.fixture(scope="session")
def twilio(prism: Callable[[str], str]) -> str:
    return prism("twilio.com/api.json")


def gateway(http: httpx.AsyncClient, url: str, **settings: Any) -> TwilioGateway:
    chosen = settings or {"sender": "+15005550006"}
    read = TwilioGateway.Settings.model_validate({"account_sid": SID, "auth_token": "t", "base_url": url} | chosen)
    account = Account("texts", "UTC", None, None, Path(), "https://crm.example.com/webhooks/texts")
    return TwilioGateway(read, account, http)


@pytest.mark.parametrize(
    "settings", [{}, {"messaging_service": SERVICE, "smart_encoded": True}, {"sender": "TEAHOUSE"}]
)
async def test_what_it_sends_is_valid(twilio: str, settings: dict[str, Any]) -> None:
    async with client() as http:
        sent = []
        http.event_hooks["response"].append(lambda response: _note(sent, response))
        receipt = await gateway(http, twilio, **settings).deliver(MESSAGE)
    assert [(response.status_code, response.request.method) for response in sent] == [(201, "POST")]
    assert receipt.outcome == "accepted"
    assert receipt.vendor_id is not None


async def _note(sent: list[httpx.Response], response: httpx.Response) -> None:
    sent.append(response)


async def test_what_it_asks_when_in_doubt_is_valid_and_an_endless_list_proves_nothing(twilio: str) -> None:
    """Prism's list always names a next page."""
    async with client() as http:
        sent: list[httpx.Response] = []
        http.event_hooks["response"].append(lambda response: _note(sent, response))
        with pytest.raises(DoubtError):
            await gateway(http, twilio).look_up(MESSAGE)
        assert list(await gateway(http, twilio).check()) == []
    assert {response.status_code for response in sent} == {200}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"data": {"From": "+15005550006", "Body": "no recipient"}, "auth": (SID, "t")}, 422),
        ({"data": {"To": "+14155550100", "ValidityPeriod": "soon"}, "auth": (SID, "t")}, 422),
        ({"json": {"To": "+14155550100"}, "auth": (SID, "t")}, 415),
        ({"data": {"To": "+14155550100", "Body": "nobody"}}, 401),
    ],
)
async def test_the_document_is_really_checked(twilio: str, request_: dict[str, Any], status: int) -> None:
    async with client() as http:
        assert (await http.post(f"{twilio}{PATH}", **request_)).status_code == status
