"""Text messages through Twilio."""

import base64
from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from pydantic import ValidationError

from crmkit import (
    Address,
    AuthError,
    ConsentRecord,
    DoubtError,
    InboundRecord,
    Message,
    Money,
    PayloadError,
    Reason,
    ReceiptRecord,
    Reply,
    RetryableError,
    Verified,
)
from crmkit.testing.fault import FAULTS, Verdict
from crmkit.testing.vendor import Vendor as FaultyVendor
from crmkit_sms.twilio import TwilioGateway
from crmkit_sms.twilio_code import NOT_NOW, OURS, REASONS
from crmkit_sms.twilio_signature import signature

SID = "AC" + "0" * 31 + "1"
PATH = f"/2010-04-01/Accounts/{SID}/Messages.json"
HOOK = "https://crm.example.com/webhooks/texts"
TOKEN = "t0ken"
TAKEN = {"sid": "SM1", "status": "queued", "price": None, "price_unit": "USD", "error_code": None, "new_field": 1}


@pytest.fixture
def gateway(vendor, make):
    def gateway(webhook_url=None, **settings) -> TwilioGateway:
        defaults = {"account_sid": SID, "auth_token": TOKEN, "sender": "+15005550006", "base_url": vendor.url}
        return make(TwilioGateway, {k: v for k, v in (defaults | settings).items() if v is not None}, webhook_url)

    return gateway


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


# out


async def test_a_message_arrives_as_it_was_written(vendor, gateway, message) -> None:
    vendor.answers = [(201, TAKEN)]
    text = "Ihr Päckchen & 您的包裹 📦 = 100 % +1\nbis bald"
    receipt = await gateway().deliver(message(text=text))
    [request] = vendor.requests
    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["authorization"] == basic(SID, TOKEN)
    assert request.form == {"To": "+8613800138000", "From": "+15005550006", "Body": text}
    assert (receipt.outcome, receipt.vendor_id, receipt.detail, receipt.cost) == ("accepted", "SM1", "queued", None)


async def test_what_it_costs_is_told_where_twilio_knows(vendor, gateway, message) -> None:
    vendor.answers = [(201, TAKEN | {"price": "-0.0075"})]
    assert (await gateway().deliver(message())).cost == Money(Decimal("0.0075"), "USD")


async def test_an_api_key_signs_in_and_a_service_chooses_the_sender(vendor, gateway, message) -> None:
    vendor.answers = [(201, TAKEN)]
    key, service = "SK" + "a" * 32, "MG" + "b" * 32
    settings = {"api_key": key, "api_secret": "s", "messaging_service": service, "sender": None, "smart_encoded": True}
    await gateway(**settings).deliver(message())
    [request] = vendor.requests
    assert request.headers["authorization"] == basic(key, "s")
    assert "From" not in request.form
    assert (request.form["MessagingServiceSid"], request.form["SmartEncoded"]) == (service, "true")


async def test_of_two_tokens_the_first_signs_in(vendor, gateway, message) -> None:
    vendor.answers = [(201, TAKEN)]
    await gateway(auth_token=["new", "old"]).deliver(message())
    assert vendor.requests[0].headers["authorization"] == basic(SID, "new")


@pytest.mark.parametrize(
    ("left", "validity"),
    [(timedelta(hours=1), "3600"), (timedelta(milliseconds=1), "1"), (timedelta(hours=10), None), (None, None)],
)
async def test_stale_news_is_not_told(vendor, gateway, message, left, validity) -> None:
    vendor.answers = [(201, TAKEN)]
    one = message()
    await gateway().deliver(message(expires_at=one.leaves_at + left if left is not None else None))
    assert vendor.requests[0].form.get("ValidityPeriod") == validity


async def test_the_status_callback_carries_our_key(vendor, gateway, message) -> None:
    vendor.answers = [(201, TAKEN)]
    await gateway(HOOK).deliver(message(key="1:care:a&b=ü:7"))
    assert vendor.requests[0].form["StatusCallback"] == f"{HOOK}?key=1%3Acare%3Aa%26b%3D%C3%BC%3A7"
    await gateway(HOOK).deliver(message(key="k" * 501))
    assert vendor.requests[1].form["StatusCallback"] == HOOK


async def test_no_callback_is_asked_for_that_could_not_be_verified(vendor, gateway, message) -> None:
    vendor.answers = [(201, TAKEN)]
    only_key = gateway(HOOK, api_key="SK" + "a" * 32, api_secret="s", auth_token=None)
    await only_key.deliver(message())
    assert "StatusCallback" not in vendor.requests[0].form


@pytest.mark.parametrize(("code", "reason"), [item for item in REASONS.items() if item[0] not in OURS])
async def test_a_refusal_has_the_reason_of_its_code(vendor, gateway, message, code, reason) -> None:
    said = "The number +8613800138000 is\nnot good (8613800138000)"
    vendor.answers = [(400, {"code": code, "message": said, "status": 400})]
    receipt = await gateway().deliver(message())
    assert (receipt.outcome, receipt.reason) == ("rejected", reason)
    assert receipt.detail == f"{code} The number recipient is not good (recipient)"


@pytest.mark.parametrize("code", sorted(OURS))
async def test_what_only_the_operator_can_mend_pauses_the_account(vendor, gateway, message, code) -> None:
    vendor.answers = [(400, {"code": code, "message": "no"})]
    with pytest.raises(AuthError, match=f"texts deliver: .*{code} no"):
        await gateway().deliver(message())


@pytest.mark.parametrize("code", sorted(NOT_NOW))
async def test_not_now_is_put_off(vendor, gateway, message, code) -> None:
    vendor.answers = [(400, {"code": code, "message": "queue full"})]
    assert (await gateway().deliver(message())).outcome == "deferred"


async def test_too_many_requests_wait_as_long_as_twilio_says(vendor, gateway, message) -> None:
    vendor.answers = [(429, {"code": 20429, "message": "Too Many Requests"}, {"Retry-After": "7"})]
    with pytest.raises(RetryableError) as caught:
        await gateway().deliver(message())
    assert caught.value.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("status", "said", "detail"),
    [
        (400, {"code": 29999, "message": "something new"}, "29999 something new"),
        (400, "<html>", "HTTP 400"),
        (409, {}, "HTTP 409"),
    ],
)
async def test_an_unknown_refusal_is_one_with_twilios_words(vendor, gateway, message, status, said, detail) -> None:
    vendor.answers = [(status, said)]
    receipt = await gateway().deliver(message())
    assert (receipt.outcome, receipt.reason, receipt.detail) == ("rejected", Reason.OTHER, detail)


@pytest.mark.parametrize("words", [None, 7, ["no"], {}])
async def test_a_code_counts_whatever_stands_beside_it(vendor, gateway, message, words) -> None:
    vendor.answers = [(400, {"code": 21610, "message": words, "more_info": None, "status": "400"})]
    receipt = await gateway().deliver(message())
    assert (receipt.outcome, receipt.reason, receipt.detail) == ("rejected", Reason.OPTED_OUT, "21610 HTTP 400")


async def test_words_are_told_where_the_code_cannot_be_read(vendor, gateway, message) -> None:
    vendor.answers = [(400, {"code": "none", "message": "something new"})]
    assert (await gateway().deliver(message())).detail == "something new"


async def test_what_twilio_repeats_of_ours_is_not_told(vendor, gateway, message) -> None:
    said = f"{TOKEN}3cret +86 138 0013 8000 008613800138000 Your order has shipped. {basic(SID, TOKEN + '3cret')}"
    one = gateway(auth_token=TOKEN + "3cret")
    vendor.answers = [(400, {"code": 21610, "message": said})]
    assert (await one.deliver(message())).detail == "21610 secret recipient recipient text. Basic secret"
    vendor.answers = [(401, {"code": 20003, "message": said}), (400, {"code": 21603, "message": said})]
    for _ in range(2):
        with pytest.raises(AuthError) as caught:
            await one.deliver(message())
        assert not [part for part in (TOKEN, "8000", "shipped", basic(SID, TOKEN)) if part in str(caught.value)]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_of_the_whole_account_pauses_it(vendor, gateway, message, status) -> None:
    vendor.answers = [(status, "no")]
    with pytest.raises(AuthError):
        await gateway().deliver(message())


async def test_a_refusal_of_one_region_does_not_pause_the_account(vendor, gateway, message) -> None:
    vendor.answers = [(403, {"code": 21408, "message": "Permission to send has not been enabled for the region"})]
    assert (await gateway().deliver(message())).reason is Reason.VENDOR_POLICY


# SEMANTICS 23
@pytest.mark.parametrize("answer", ["close", (500, "oops"), (502, ""), (201, "half a"), (201, {"status": "queued"})])
async def test_what_left_without_a_verdict_is_in_doubt_and_not_repeated(vendor, gateway, message, answer) -> None:
    vendor.answers = [answer]
    with pytest.raises(DoubtError):
        await gateway().deliver(message())
    assert len(vendor.requests) == 1


# SEMANTICS 23
@pytest.mark.parametrize(
    "name", [n for n, f in FAULTS.items() if f.when == "answer" and f.ends not in {"hang", "drip"}]
)
async def test_every_way_to_fail_leaves_what_may_have_left_in_doubt(gateway, message, tmp_path, name) -> None:
    """What the vendor takes is no answer of Twilio's either: only that nothing is called taken, or repeated, counts."""
    with FaultyVendor(tmp_path / "ledger") as faulty:
        faulty.script["*"].append(name)
        one = gateway()
        one._messages = f"{faulty.url}/send"
        with (
            pytest.raises((RetryableError, AuthError, DoubtError))
            if FAULTS[name].verdict is not Verdict.NO
            else (nullcontext()) as raised
        ):
            assert (await one.deliver(message())).outcome == "rejected"
        if FAULTS[name].verdict in {Verdict.DOUBT, Verdict.TAKEN}:
            assert isinstance(raised.value, DoubtError)
        assert len(faulty.ledger.entries("request")) == 1


# SEMANTICS 23
async def test_where_nobody_listens_nothing_left(gateway, message) -> None:
    with pytest.raises(RetryableError):
        await gateway(base_url="http://127.0.0.1:9").deliver(message())


async def test_a_message_that_failed_at_once_was_refused(vendor, gateway, message) -> None:
    vendor.answers = [(201, TAKEN | {"status": "failed", "error_code": 30006, "error_message": "Landline"})]
    receipt = await gateway().deliver(message())
    assert (receipt.outcome, receipt.reason, receipt.detail) == ("rejected", Reason.NOT_CAPABLE, "30006 Landline")


async def test_a_price_or_code_that_cannot_be_read_puts_nothing_in_doubt(vendor, gateway, message) -> None:
    odd = {
        "price": "$0.01",
        "price_unit": 7,
        "error_code": "none",
        "error_message": [],
        "date_created": 0,
        "status": None,
    }
    vendor.answers = [(201, TAKEN | odd)]
    receipt = await gateway().deliver(message())
    assert (receipt.outcome, receipt.vendor_id, receipt.cost) == ("accepted", "SM1", None)


@pytest.mark.parametrize("address", ["13800138000", "+1 415 555 0100", "+", "whatsapp:+14155550100", "+0123456789"])
async def test_only_international_numbers_leave(vendor, gateway, message, address) -> None:
    assert (await gateway().deliver(message(address=address))).reason is Reason.BAD_ADDRESS
    assert vendor.requests == []


@pytest.mark.parametrize("text", ["", " \n", "a" * 1601])
async def test_a_text_twilio_does_not_take_does_not_leave(vendor, gateway, message, text) -> None:
    assert (await gateway().deliver(message(text=text))).reason is Reason.CONTENT
    assert vendor.requests == []


# doubt


def listed(number: int, message: Message, **changes) -> dict:
    created = message.decided_at + timedelta(seconds=30)
    return {
        "sid": f"SM{number}",
        "status": "sent",
        "direction": "outbound-api",
        "to": message.address,
        "body": message.text,
        "date_created": created.strftime("%a, %d %b %Y %H:%M:%S +0000"),
    } | changes


def page(*messages, onward: str | None = None) -> tuple[int, dict]:
    return 200, {"messages": list(messages), "next_page_uri": onward}


BEFORE = "Thu, 07 May 2026 09:20:00 +0000"


# SEMANTICS 24
async def test_a_message_in_doubt_is_found_by_number_text_and_time(vendor, gateway, message) -> None:
    one = message()
    others = [
        listed(2, one, body="Another text"),
        listed(3, one, direction="inbound"),
        listed(4, one, to="+14155550100"),
        listed(5, one, date_created=BEFORE),
    ]
    vendor.answers = [page(*others, listed(1, one, price="-0.05", price_unit="USD"))]
    receipt = await gateway().look_up(one)
    assert (receipt.outcome, receipt.vendor_id, receipt.cost) == ("accepted", "SM1", Money(Decimal("0.05"), "USD"))
    [request] = vendor.requests
    assert (request.method, request.path, request.query) == ("GET", PATH, {"To": one.address, "PageSize": "1000"})


@pytest.mark.parametrize(("status", "code"), [("failed", 30005), ("undelivered", 30005)])
async def test_what_was_found_refused_is_refused(vendor, gateway, message, status, code) -> None:
    vendor.answers = [page(listed(1, message(), status=status, error_code=code))]
    assert (await gateway().look_up(message())).reason is Reason.BAD_ADDRESS


async def test_a_message_that_waits_in_twilios_queue_is_found(vendor, gateway, message) -> None:
    vendor.answers = [page(listed(1, message(), status="queued", date_sent=None))]
    assert (await gateway().look_up(message())).vendor_id == "SM1"


# SEMANTICS 24
@pytest.mark.parametrize(
    "others",
    [
        [],
        [{"body": "Another text"}],
        [{"body": "Your order has been packed."}],
        [{"direction": "inbound"}],
        [{"to": "+14155550100"}],
        [{"body": "Another text", "sid": None, "status": 7, "price": "free", "date_created": {}}],
    ],
)
async def test_what_is_surely_not_there_may_be_sent_again(vendor, gateway, message, others) -> None:
    vendor.answers = [page(*(listed(n, message(), **one) for n, one in enumerate(others)))]
    assert await gateway().look_up(message()) is None


# SEMANTICS 24
async def test_what_is_not_there_yet_may_come(vendor, gateway, message, monkeypatch) -> None:
    """A run with a clock of its own asks as soon as it likes; Twilio's list fills up by the real one."""
    one = gateway()
    vendor.always = {"POST": "close", "GET": page()}
    with pytest.raises(DoubtError):
        await one.deliver(message())
    with pytest.raises(DoubtError, match="which may be behind"):
        await one.look_up(message())
    assert await one.look_up(message(2)) is None
    monkeypatch.setattr(one, "look_up_after", timedelta(0))
    assert await one.look_up(message()) is None


# SEMANTICS 24
@pytest.mark.parametrize(
    "others",
    [
        [{}, {}],
        [{"body": ""}],
        [{"body": None}],
        [{}, {"body": ""}],
        [{"body": "Your order has shipped"}],
        [{"date_created": None}, {}],
        [{"date_created": "yesterday", "body": ""}],
        [{"body": "Sent from your Twilio trial account - Your order has shipped."}],
        [{"body": "Your order has shipped.\nReply STOP to unsubscribe"}],
        [{"body": "Your order has"}],
        [{"body": "Your order *** shipped."}],
        [{"body": "Your order has shipped to XXXX."}],
        [{"body": "[REDACTED]"}],
        [{"body": ["Your order has shipped."]}],
        [{"to": "+86138XXXX"}],
        [{"to": "whatsapp:+8613800138000"}],
        [{"to": "+8601380013 8000"}],
        [{"to": "+85213800138000"}],
        [{"direction": None, "body": ""}],
        [{"sid": None}],
        [7],
    ],
)
async def test_what_could_be_it_leaves_it_in_doubt(vendor, gateway, message, others) -> None:
    vendor.answers = [
        page(*(listed(n, message(), **one) if isinstance(one, dict) else one for n, one in enumerate(others)))
    ]
    with pytest.raises(DoubtError, match="could be it"):
        await gateway().look_up(message())


@pytest.mark.parametrize("to", ["+861380013XXXX", "+861380013****", None, ""])
async def test_a_number_that_is_not_shown_in_full_is_the_one_that_was_asked_for(vendor, gateway, message, to) -> None:
    vendor.answers = [page(listed(1, message(), to=to), listed(2, message(), body="Another text", to="+861380013XXXX"))]
    assert (await gateway().look_up(message())).vendor_id == "SM1"


# SEMANTICS 24
@pytest.mark.parametrize("older", [{}, {"body": ""}, {"body": "Trial - Your order has shipped."}])
async def test_an_older_one_could_be_it_if_a_clock_was_wrong(vendor, gateway, message, older) -> None:
    vendor.answers = [page(listed(2, message(), date_created=BEFORE, **older))]
    with pytest.raises(DoubtError, match="an older message to this number could be it"):
        await gateway().look_up(message())


async def test_what_was_decided_by_a_clock_that_is_ahead_is_not_missed(vendor, gateway, message) -> None:
    ahead = message(decided_at=message().decided_at + timedelta(days=3))
    vendor.answers = [page(listed(1, message()))]
    with pytest.raises(DoubtError):
        await gateway().look_up(ahead)


# SEMANTICS 24
@pytest.mark.parametrize(
    ("clock", "told"),
    [
        ({"leaves_at": timedelta(minutes=6)}, "it is another time"),
        ({"leaves_at": timedelta(minutes=-6)}, "it is another time"),
        ({"leaves_at": None}, "it is another time"),
        ({"decided_at": timedelta(days=3)}, "not decided within the last 30 days"),
        ({"decided_at": timedelta(days=-31)}, "not decided within the last 30 days"),
        ({"decided_at": None}, "not decided within the last 30 days"),
    ],
)
async def test_a_clock_that_is_not_twilios_proves_no_absence(vendor, gateway, message, clock, told) -> None:
    [(name, shift)] = clock.items()
    vendor.answers = [page()]
    with pytest.raises(DoubtError, match=told):
        await gateway().look_up(message(**{name: message().leaves_at + shift if shift is not None else None}))


async def test_a_list_without_a_time_proves_no_absence(vendor, gateway, message) -> None:
    vendor.answers, vendor.now = [page()], None
    with pytest.raises(DoubtError, match="it is another time"):
        await gateway().look_up(message())


# SEMANTICS 24
@pytest.mark.parametrize(
    "newest",
    [
        {"to": "+491511234XXXX", "body": "Another text"},
        {"to": "+491511234****", "body": ""},
        {"to": None},
        {"to": "+86013800138000"},
        {"to": "rcs:+8613800138000"},
        {},
    ],
)
async def test_a_log_that_shows_numbers_otherwise_proves_no_absence(vendor, gateway, message, newest) -> None:
    """Asked for one number, Twilio leaves out what it keeps under another form of it."""
    vendor.answers = [page(), page(listed(1, message(), **newest))]
    with pytest.raises(DoubtError, match="otherwise than they were sent"):
        await gateway().look_up(message())
    assert vendor.requests[1].query == {"PageSize": "200"}


async def test_what_a_service_sent_by_its_own_channel_could_be_it(vendor, gateway, message) -> None:
    one = gateway(sender=None, messaging_service="MG" + "b" * 32)
    vendor.answers = [page(), page(listed(1, message(), to="rcs:+8613800138000"))]
    with pytest.raises(DoubtError, match="could be it"):
        await one.look_up(message())
    assert [request.query["To"] for request in vendor.requests] == ["+8613800138000", "rcs:+8613800138000"]


@pytest.mark.parametrize("gone", [{"text": ""}, {"text": None}, {"address": ""}, {"address": None}])
async def test_what_was_erased_cannot_be_looked_for(vendor, gateway, message, gone) -> None:
    with pytest.raises(DoubtError, match="not known any more"):
        await gateway().look_up(message(**gone))
    assert vendor.requests == []


async def test_a_text_that_twilio_may_rewrite_could_be_any_that_keeps_its_plain_characters(
    vendor, gateway, message
) -> None:
    one = message(text="„Tea“ – 5 € …")
    vendor.answers = [page(listed(1, one, body='"Tea" - 5 EUR ...'))]
    with pytest.raises(DoubtError):
        await gateway(smart_encoded=True).look_up(one)
    vendor.answers = [page(listed(1, one, body="Coffee"))]
    assert await gateway(smart_encoded=True).look_up(one) is None


async def test_all_pages_are_read(vendor, gateway, message) -> None:
    onward = f"{PATH}?To=%2B8613800138000&Page=1&PageToken=PA%2B1"
    vendor.answers = [
        page(listed(2, message(), body="Another"), onward=onward),
        page(listed(1, message())),
    ]
    assert (await gateway().look_up(message())).vendor_id == "SM1"
    assert vendor.requests[1].target == onward


async def test_a_list_goes_on_at_twilio_only(vendor, gateway, message) -> None:
    vendor.answers = [page(onward="//127.0.0.1:9/list.json"), page()]
    await gateway().look_up(message())
    assert vendor.requests[1].target == "//127.0.0.1:9/list.json"


@pytest.mark.parametrize("onward", [[f"{PATH}?Page=1"], [f"{PATH}?Page={n}" for n in range(30)], ["http://elsewhere/"]])
async def test_a_list_that_does_not_end_proves_nothing(vendor, gateway, message, onward) -> None:
    vendor.answers = [page(onward=one) for one in onward]
    with pytest.raises(DoubtError, match="does not end"):
        await gateway().look_up(message())
    assert len(vendor.requests) <= 20


@pytest.mark.parametrize("cut", [{"messages": []}, {"messages": [{}] * 1000, "next_page_uri": None}])
async def test_a_list_that_is_cut_short_proves_nothing(vendor, gateway, message, cut) -> None:
    vendor.answers = [(200, cut)]
    with pytest.raises(DoubtError, match="is cut short"):
        await gateway().look_up(message())


@pytest.mark.parametrize(
    ("answer", "error"),
    [((401, ""), AuthError), ((200, {"items": []}), PayloadError), ((200, "<html>"), PayloadError)],
)
async def test_a_list_that_cannot_be_read_proves_nothing(vendor, gateway, message, answer, error) -> None:
    vendor.answers = [answer]
    with pytest.raises(error):
        await gateway().look_up(message())


# in


def signed(call, form, url=HOOK, token=TOKEN):
    return call(urlencode(form).encode(), url, x_twilio_signature=signature(token, url, form.items()))


STATUS = {"MessageSid": "SM1", "SmsSid": "SM1", "AccountSid": SID, "To": "+8613800138000", "MessageStatus": "delivered"}
INBOUND = {"MessageSid": "SM9", "SmsStatus": "received", "From": "+14155550100", "To": "+15005550006", "NumMedia": "0"}


async def test_a_call_of_twilios_is_kept_once_for_each_message_and_status(gateway, call) -> None:
    one = gateway(HOOK)
    first = one.verify(signed(call, STATUS))
    assert isinstance(first, Verified)
    assert first == one.verify(signed(call, STATUS | {"Unknown": "field"}))
    assert first != one.verify(signed(call, STATUS | {"MessageStatus": "read"}))
    assert first != one.verify(signed(call, STATUS | {"MessageSid": "SM2"}))
    assert one.accepts_with == Reply(200, b"<Response/>", "text/xml")


async def test_a_forged_call_is_refused(gateway, call) -> None:
    one, good = gateway(HOOK), signed(call, STATUS)
    tampered = call(
        good.body.replace(b"delivered", b"failed"), HOOK, **{"x-twilio-signature": good.headers["x-twilio-signature"]}
    )
    elsewhere = call(good.body, f"{HOOK}?key=other", x_twilio_signature=good.headers["x-twilio-signature"])
    for bad in (tampered, elsewhere, signed(call, STATUS, token="other"), call(good.body, HOOK)):
        assert one.verify(bad) == Reply(401, b"unverified")


@pytest.mark.parametrize("odd", ["\x00", "S" * 5_000])
async def test_a_call_with_a_field_that_cannot_be_kept_is_refused_and_the_field_not_told(gateway, call, odd) -> None:
    with pytest.raises(PayloadError, match="a field that cannot be kept") as refused:
        list(gateway(HOOK).records(signed(call, {**STATUS, "MessageSid": odd})))
    assert odd not in str(refused.value)


async def test_both_tokens_verify_while_one_replaces_the_other(gateway, call) -> None:
    one = gateway(HOOK, auth_token=["new", "old"])
    assert [isinstance(one.verify(signed(call, STATUS, token=t)), Verified) for t in ("new", "old", "older")] == [
        True,
        True,
        False,
    ]


async def test_a_shared_key_verifies_too(gateway, call) -> None:
    one = gateway(HOOK, api_key="SK" + "a" * 32, api_secret="s", auth_token=None, shared_keys={"WK1": "shared"})
    headers = {
        "x_twilio_signature": signature("shared", HOOK, STATUS.items(), "sha256"),
        "x_twilio_webhooks_signature_settings": "key=WK1,algorithm=HMAC_SHA256",
    }
    assert isinstance(one.verify(call(urlencode(STATUS).encode(), HOOK, **headers)), Verified)


@pytest.mark.parametrize(
    ("status", "code", "state", "reason"),
    [
        ("accepted", None, "sent", None),
        ("queued", None, "sent", None),
        ("sending", None, "sent", None),
        ("sent", None, "sent", None),
        ("delivered", None, "delivered", None),
        ("read", None, "delivered", None),
        ("undelivered", "30005", "bounced", "bad-address"),
        ("undelivered", "30006", "bounced", "not-capable"),
        ("undelivered", "30003", "failed", "other"),
        ("failed", "30007", "failed", "content"),
        ("failed", "21610", "failed", "opted-out"),
        ("failed", "x", "failed", "other"),
        ("failed", None, "failed", "other"),
        ("canceled", None, "failed", "other"),
    ],
)
async def test_a_status_is_a_receipt(gateway, call, status, code, state, reason) -> None:
    form = STATUS | {"MessageStatus": status, "RawDlrDoneDate": "2605071200"} | ({"ErrorCode": code} if code else {})
    given = signed(call, form, f"{HOOK}?key=1%3Acare%3Aa%26b")
    [receipt] = gateway(HOOK).records(given)
    assert isinstance(receipt, ReceiptRecord)
    assert (receipt.state, receipt.reason) == (state, reason)
    assert (receipt.vendor_id, receipt.key, receipt.external_id) == ("SM1", "1:care:a&b", f"SM1:{status}")
    assert receipt.occurred_at == given.received_at
    assert "13800138000" not in (receipt.detail or "")


@pytest.mark.parametrize("status", ["partially_delivered", "receiving", "invented"])
async def test_an_unknown_status_says_nothing(gateway, call, status) -> None:
    assert list(gateway(HOOK).records(signed(call, STATUS | {"MessageStatus": status}))) == []


async def test_a_reply_is_a_message_of_the_customers(gateway, call) -> None:
    form = INBOUND | {"Body": "Wo ist mein Päckchen? 📦", "NumMedia": "1", "MediaUrl0": "https://api.twilio.com/m/0"}
    given = signed(call, form)
    [said] = gateway(HOOK).records(given)
    assert isinstance(said, InboundRecord)
    assert (said.external_id, said.channel, said.text) == ("SM9", "sms", "Wo ist mein Päckchen? 📦")
    assert (said.sender, said.received_at) == (Address(kind="phone", value="+14155550100"), given.received_at)
    assert said.extras == {"to": "+15005550006", "media": ["https://api.twilio.com/m/0"]}


@pytest.mark.parametrize(
    ("body", "kind", "state"),
    [
        ("STOP", None, "withdrawn"),
        ("stop!", None, "withdrawn"),
        ("退订", None, "withdrawn"),
        ("Start", None, "granted"),
        ("please stop by tomorrow", None, None),
        ("YES", None, None),
        ("ja danke", "STOP", "withdrawn"),
        ("JOIN", "START", "granted"),
        ("STOP", "HELP", None),
    ],
)
async def test_a_reply_may_say_no_more_or_again(gateway, call, body, kind, state) -> None:
    form = INBOUND | {"Body": body} | ({"OptOutType": kind} if kind else {})
    said, *about = gateway(HOOK).records(signed(call, form))
    assert said.text == body
    assert [one.state for one in about] == ([state] if state else [])
    for one in about:
        assert isinstance(one, ConsentRecord)
        assert (one.address, one.channel, one.purpose, one.wording) == (said.sender, "sms", "*", body)


async def test_only_the_words_of_the_languages_that_are_set_count(gateway, call) -> None:
    given = signed(call, INBOUND | {"Body": "T"})
    assert len(list(gateway(HOOK).records(given))) == 2
    assert len(list(gateway(HOOK, opt_out_locales=["de"]).records(given))) == 1


@pytest.mark.parametrize("form", [{}, {"CallSid": "CA1", "CallStatus": "ringing"}, {"MessageSid": "SM1"}])
async def test_what_is_neither_is_kept_with_the_reason(gateway, call, form) -> None:
    with pytest.raises(PayloadError, match="neither a status callback nor a message"):
        list(gateway(HOOK).records(signed(call, form)))


# settings

GOOD = {"account_sid": SID, "auth_token": TOKEN, "sender": "+15005550006"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"account_sid": "SK123"}, "pattern"),
        ({"auth_token": None}, "give auth_token, or api_key and api_secret"),
        ({"auth_token": []}, "at least 1 item"),
        ({"api_key": "SK" + "a" * 32}, "api_key and api_secret go together"),
        ({"sender": None}, "give sender or messaging_service"),
        ({"messaging_service": "MG" + "a" * 32}, "give sender or messaging_service, one of the two"),
        ({"sender": "A name that is too long"}, "should be a number like"),
        ({"sender": "+123 456"}, "should be a number like"),
        ({"base_url": "http://api.twilio.com"}, "in the clear"),
        ({"base_url": "api.twilio.com"}, "should be an address"),
        ({"from": "+1"}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_told(changes, told) -> None:
    with pytest.raises(ValidationError, match=told) as caught:
        TwilioGateway.Settings.model_validate({k: v for k, v in (GOOD | changes).items() if v is not None})
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("sender", ["+15005550006", "12345", "TEAHOUSE", "Tea House 2"])
def test_a_sender_is_a_number_a_short_code_or_a_name(sender) -> None:
    assert TwilioGateway.Settings.model_validate(GOOD | {"sender": sender}).sender == sender


async def test_the_doctor_is_told_what_is_missing(vendor, gateway) -> None:
    vendor.answers = [page()]
    assert list(await gateway(HOOK).check()) == []
    assert vendor.requests[0].method == "GET"
    [no_address] = await gateway().check()
    assert no_address == "texts check: no receipts and replies come in without a web address; set [web] url"
    [no_token] = await gateway(HOOK, api_key="SK" + "a" * 32, api_secret="s", auth_token=None).check()
    assert "set auth_token too" in no_token
    vendor.answers = [(401, "")]
    [refused] = await gateway(HOOK).check()
    assert "credentials refused" in refused
