"""Many mails that differ go to SendGrid in one request, and each arrives as it was written."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crmkit import AuthError, Call, ConsentRecord, DoubtError, Gateway, Message, Reason, Receipt, Verified
from crmkit.testing import make_adapter as made
from crmkit_email import part, sendgrid_signature
from crmkit_email.postmark import PostmarkGateway
from crmkit_email.sendgrid import SendgridGateway
from crmkit_email.status import bounced
from plugins.email.tests.fake_mail import FakeSendgrid

NOW = datetime(2026, 5, 7, 9, 30, tzinfo=UTC)
SETTINGS = {"api_key": FakeSendgrid.token, "sender": "Tea House <shop@tea.example>"}


class Desk:
    """A gateway and the SendGrid it calls."""

    def __init__(self, **more: Any) -> None:
        self.vendor = FakeSendgrid(NOW)
        self.gateway = made(SendgridGateway, {**SETTINGS, **more}, at=httpx.MockTransport(self.vendor))

    async def hand(self, messages: list[Message]) -> list[Receipt]:
        """Messages in batches as the core makes them."""
        batches: dict[Any, list[Message]] = {}
        for message in messages:
            batches.setdefault(self.gateway.batch_key(message), []).append(message)
        return [receipt for batch in batches.values() async for receipt in self.gateway.deliver_many(batch)]

    def read(self) -> dict[str, tuple[str, str | None, str | None]]:
        return {mail.about["crmkit_key"]: (mail.subject, mail.text, mail.html) for mail in self.vendor.mails}


def written(message: Message) -> tuple[str, str | None, str | None]:
    text, html = message.text, message.html or ""
    return message.subject or "", text if text.strip() else None, html if html.strip() else None


HTML = st.one_of(st.none(), st.text(max_size=200))
#: what means something to SendGrid, in user text
TAGS = st.sampled_from(["-crmkit-plain-", "-name-", "%name%", "{{name}}", "[unsubscribe]", "<%asm_group%>", "\\", '"'])
TEXTS = st.lists(st.one_of(st.text(max_size=60), TAGS), min_size=1, max_size=5).map("".join)


@given(parts=st.lists(st.tuples(TEXTS, HTML), min_size=1, max_size=12))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_each_arrives_as_it_was_written_whatever_the_others_say(
    message: Callable[..., Message], parts: list[tuple[str, str | None]]
) -> None:
    desk = Desk()
    several = [
        message(number, text=text, html=html, subject=f"Order {number} {text.strip()[:9]}")
        for number, (text, html) in enumerate(parts)
        if text.strip() or (html or "").strip()
    ]
    # a mail that holds the tag of the request before
    await desk.hand([message(100, text="a"), message(101, text="b")])
    receipts = await desk.hand(several)
    assert [receipt.outcome for receipt in receipts] == ["accepted"] * len(several)
    assert desk.read().items() >= {one.key: written(one) for one in several}.items()


async def test_a_thousand_are_one_request_and_a_long_one_goes_by_itself(message: Callable[..., Message]) -> None:
    desk = Desk()
    several = [message(number) for number in range(1_000)] + [message(1_000, html="<p>ü</p>" * 1_500)]
    receipts = await desk.hand(several)
    assert {receipt.outcome for receipt in receipts} == {"accepted"}
    assert desk.vendor.requests == [("POST", "/v3/mail/send")] * 2
    assert desk.read() == {one.key: written(one) for one in several}
    assert len({receipt.batch_id for receipt in receipts}) == 2


async def test_no_address_stands_twice_in_a_request(message: Callable[..., Message]) -> None:
    desk = Desk()
    several = [message(n, address=["ann@x.example", "Ann@X.example", "bob@x.example"][n % 3]) for n in range(6)]
    assert [receipt.outcome for receipt in await desk.hand(several)] == ["accepted"] * 6
    assert len(desk.vendor.requests) == 4


async def test_bad_addresses_of_a_thousand_harm_only_themselves(message: Callable[..., Message]) -> None:
    desk = Desk()
    bad = {3, 500, 999}
    several = [message(n, address=f"a{n}@nowhere" if n in bad else f"a{n}@x.example") for n in range(1_000)]
    receipts = await desk.hand(several)
    refused = {receipt.message.id: receipt.reason for receipt in receipts if receipt.outcome == "rejected"}
    assert refused == dict.fromkeys(bad, Reason.BAD_ADDRESS)
    assert (len(receipts), len(desk.vendor.mails), len(desk.vendor.requests)) == (1_000, 997, 2)


async def test_who_is_at_fault_is_found_where_nobody_is_named(message: Callable[..., Message]) -> None:
    desk = Desk()
    answer = desk.vendor.answer

    def unnamed(request: httpx.Request) -> httpx.Response:
        said = answer(request)
        return said if said.status_code != 400 else desk.vendor.say(400, {"errors": [{"message": "Bad Request"}]})

    desk.vendor.answer = unnamed
    receipts = await desk.hand([message(n, address="x@nowhere" if n == 77 else f"a{n}@x.example") for n in range(200)])
    assert [receipt.message.id for receipt in receipts if receipt.outcome != "accepted"] == [77]
    assert len(desk.vendor.requests) <= 17


async def test_a_batch_that_is_all_wrong_ends(message: Callable[..., Message], monkeypatch: Any) -> None:
    monkeypatch.setattr(part, "CALLS", 5)
    desk = Desk()
    desk.vendor.failures = [400] * 100
    receipts = await desk.hand([message(n) for n in range(64)])
    assert ({receipt.outcome for receipt in receipts}, len(receipts)) == ({"deferred"}, 64)
    assert {receipt.is_untried for receipt in receipts} == {False}  # it came to nothing: a try is used up
    assert len(desk.vendor.requests) == 5


async def test_what_a_batch_in_too_many_parts_leaves_behind_costs_no_try(
    message: Callable[..., Message], monkeypatch: Any
) -> None:
    monkeypatch.setattr(part, "CALLS", 7)
    desk = Desk()
    desk.vendor.failures = [400] * 100
    receipts = await desk.hand([message(n) for n in range(64)])
    assert [(one.message.id, one.outcome) for one in receipts if not one.is_untried] == [(0, "rejected")]
    assert len(receipts) == 64


async def test_what_was_not_handed_over_before_a_doubt_is_in_none(message: Callable[..., Message]) -> None:
    desk = Desk()
    desk.vendor.failures = ["lost"]
    several = [message(n, address="ann@x.example") for n in range(3)]
    got: list[Receipt] = []
    with pytest.raises(DoubtError):
        async for receipt in desk.gateway.deliver_many(several):
            got.append(receipt)
    assert [(receipt.message.id, receipt.is_untried) for receipt in got] == [(1, True), (2, True)]
    assert len(desk.vendor.mails) == 1


async def test_where_answers_go_is_a_messages_own_fault_where_it_brought_it(message: Callable[..., Message]) -> None:
    desk = Desk(reply_to="help@tea.example")
    wrong = {"message": "The reply_to address does not resolve.", "field": "reply_to.email"}
    answer = desk.vendor.answer

    def particular(request: httpx.Request) -> httpx.Response:
        bad = json.loads(request.content)["reply_to"]["email"] == "desk@nowhere.example"
        return desk.vendor.say(400, {"errors": [wrong]}) if bad else answer(request)

    desk.vendor.answer = particular
    several = [message(n, headers={"Reply-To": "desk@nowhere.example"} if n % 2 else {}) for n in range(6)]
    found = {receipt.message.id: (receipt.outcome, receipt.reason) for receipt in await desk.hand(several)}
    assert found == {n: ("rejected", Reason.CONTENT) if n % 2 else ("accepted", None) for n in range(6)}
    assert len(desk.vendor.requests) == 2
    desk = Desk(reply_to="desk@nowhere.example")
    desk.vendor.answer = lambda request: desk.vendor.say(400, {"errors": [wrong]})
    with pytest.raises(AuthError, match="refuses a setting"):
        await desk.hand([message(1)])
    wrong_too = {"message": "The from address is not verified.", "field": "from"}
    desk.vendor.answer = lambda request: desk.vendor.say(400, {"errors": [wrong, wrong_too]})
    with pytest.raises(AuthError, match="refuses a setting"):
        await desk.hand([message(1, headers={"Reply-To": "desk@nowhere.example"})])


@pytest.mark.parametrize("name", ["sendgrid", "postmark"])
async def test_a_reply_to_that_is_none_does_not_shut_out_whom_the_mail_is_to(
    message: Callable[..., Message], name: str
) -> None:
    gateway: Gateway = made(SendgridGateway, SETTINGS)
    if name == "postmark":
        gateway = made(PostmarkGateway, {"server_token": "x" * 20, "sender": SETTINGS["sender"]})
    [receipt] = [one async for one in gateway.deliver_many([message(1, headers={"Reply-To": "nobody"})])]
    assert (receipt.outcome, receipt.reason) == ("rejected", Reason.CONTENT)
    assert "nobody" not in str(receipt.detail)


@pytest.mark.parametrize(
    ("groups", "group", "granted"),
    [
        ({}, None, None),
        ({}, 99, None),
        ({"marketing_group": 17}, 99, None),
        ({"marketing_group": 17}, None, None),
        ({"marketing_group": 17}, 17, "marketing"),
        ({"transactional_group": 16}, 16, "transactional"),
    ],
)
def test_only_who_comes_back_to_a_group_of_ours_wants_our_mail_again(
    groups: dict[str, int], group: int | None, granted: str | None
) -> None:
    gateway = made(SendgridGateway, {**SETTINGS, **groups})
    told = {"email": "ann@buyers.example", "timestamp": 1778146263, "asm_group_id": group}
    events = [{**told, "event": "group_resubscribe", "sg_event_id": "a"}]
    events += [{**told, "event": "group_unsubscribe", "sg_event_id": "b"}]
    records = list(gateway.records(Call(json.dumps(events).encode(), {}, received_at=NOW)))
    assert all(isinstance(one, ConsentRecord) for one in records)
    found = [(one.state, one.purpose) for one in records if isinstance(one, ConsentRecord)]
    left = ("withdrawn", granted or "marketing")
    assert found == [("granted", granted), left] if granted else found == [left]


#: What the vendor's SDK tests with.
VENDORS = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
    "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=",
    1600112502,
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address","sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYb'
    b'F9OSFN0T0doUTRrb2ZTbV9BLTA","sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC7'
    b'6C-9.0","smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n',
)
#: Made by hand after its documentation.
OURS = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAERxw+dYxJBChbun5TEY7Q9SSt6wdX0lvS+Oew1236cUzdUg96yoqLkXrMN/Ud6PDJu+OthYOC5wLcJaEtCfeoWA==",
    "MEUCIQCOi/tZrZAK3/CL+ETrkZ49kpQ4mezlCu6bHCbpjHoBNAIgORC80UafA46/5LUSGJnkvm0IMlXPO5WzL8W8pKD8Qms=",
    1767323045,
    b'[{"email":"buyer@example.net","event":"delivered","sg_event_id":"evt-0001","timestamp":1767323045}]\r\n',
)


@pytest.mark.parametrize(("key", "signature", "at", "body"), [VENDORS, OURS], ids=["vendors", "ours"])
def test_a_signature_holds_for_its_key_its_bytes_and_its_day(key: str, signature: str, at: int, body: bytes) -> None:
    headers = {sendgrid_signature.SIGNATURE: signature, sendgrid_signature.TIMESTAMP: str(at)}
    came = datetime.fromtimestamp(at, UTC)
    call = Call(body, headers, received_at=came)
    other = OURS[0] if key == VENDORS[0] else VENDORS[0]
    gateway = made(SendgridGateway, {**SETTINGS, "webhook_public_key": [other, key]})
    assert isinstance(gateway.verify(call), Verified)
    assert sendgrid_signature.holds(replace(call, received_at=came + timedelta(hours=23)), [key])
    assert not sendgrid_signature.holds(replace(call, received_at=came + timedelta(hours=24)), [key])
    assert not sendgrid_signature.holds(replace(call, body=body.rstrip()), [key])
    assert not sendgrid_signature.holds(call, [other])
    assert not sendgrid_signature.holds(call, [])


@pytest.mark.parametrize("key", ["", "MFkw", base64.b64encode(b"no key at all").decode(), OURS[0][:-8]])
def test_a_key_that_is_none_is_said_when_the_configuration_is_read(key: str) -> None:
    with pytest.raises(ValueError, match="the verification key SendGrid shows"):
        SendgridGateway.Settings.model_validate({**SETTINGS, "webhook_public_key": key})


def test_without_cryptography_the_line_to_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crmkit_email.sendgrid_settings.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'crmkit-email\[sendgrid\]'"):
        SendgridGateway.Settings.model_validate({**SETTINGS, "webhook_public_key": OURS[0]})
    SendgridGateway.Settings.model_validate(SETTINGS)


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        ("550 5.1.1 no such user", "5.1.1", Reason.BAD_ADDRESS),
        ("550 no such user", "", Reason.BAD_ADDRESS),
        ("552 5.2.2 over quota", "5.2.2", Reason.MAILBOX_FULL),
        ("Mailbox over quota", "5.2.2", Reason.MAILBOX_FULL),
        ("550 5.7.26 not authenticated", "5.7.26", Reason.SENDER),
        ("550 5.7.1 looks like spam", "5.7.1", Reason.VENDOR_POLICY),
        ("unable to get mx info", "", Reason.BAD_ADDRESS),
        ("smtp;550 5.1.1 unknown", "", Reason.BAD_ADDRESS),
        ("", "", Reason.BAD_ADDRESS),
    ],
)
def test_a_bounce_is_what_the_server_said(words: str, status: str, reason: Reason) -> None:
    assert bounced(words, status, default=Reason.BAD_ADDRESS) is reason
