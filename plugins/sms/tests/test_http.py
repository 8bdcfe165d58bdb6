"""Text messages through a vendor that the configuration describes."""

import base64
import hashlib
import hmac
import json
import tomllib
from datetime import timedelta
from textwrap import dedent
from typing import Any
from urllib.parse import unquote, urlencode

import pytest
from pydantic import ValidationError

from crmkit import (
    AuthError,
    ConsentRecord,
    DoubtError,
    InboundRecord,
    PayloadError,
    Reason,
    ReceiptRecord,
    Refused,
    Reply,
    RetryableError,
    UnsupportedError,
    Verified,
    fingerprint,
)
from crmkit.testing.fault import FAULTS, Verdict
from crmkit.testing.vendor import Vendor as FaultyVendor
from crmkit_sms.http import HttpGateway

HOOK = "https://crm.example.com/webhooks/texts"
PIGEON = """
    url = "https://api.pigeon.example/v1/send"
    sender = "TEAHOUSE"
    bearer = "b3arer"
    id = "data.id"
    [body]
    to = "{to}"
    message = "{text}"
    reference = "{key}"
    from = "{sender}"
    flash = false
    [success]
    path = "code"
    equals = 0
    [refusals]
    path = "code"
    detail = "error"
    [refusals.values]
    21 = "bad-address"
    30 = "opted-out"
    50 = "retry"
    60 = "auth"
    [refusals.status]
    402 = "funds"
    [webhook]
    secret = ["new-secret-of-ours", "old-secret-of-ours"]
    items = "reports"
    reply = '{"ok": true}'
    reply_type = "application/json"
    [receipts]
    id = "msg.id"
    key = "msg.reference"
    status = "state"
    detail = "why"
    [receipts.statuses]
    DELIVRD = "delivered"
    SENT = "sent"
    UNDELIV = "failed"
    NOROUTE = "bad-address"
    BLACK = "opted-out"
    EXPIRED = "expired"
    BUFFERED = "ignore"
    [replies]
    id = "id"
    sender = "from"
    text = "body"
"""


def described(text: str = PIGEON, **changes: Any) -> dict[str, Any]:
    """Settings as TOML says, with changes by path: `webhook__items=None` takes one out."""
    settings = tomllib.loads(dedent(text))
    for path, value in changes.items():
        *above, last = path.split("__")
        table = settings
        for step in above:
            table = table.setdefault(step, {})
        if value is None:
            table.pop(last, None)
        else:
            table[last] = value
    return settings


@pytest.fixture
def gateway(vendor, make):
    def gateway(webhook_url=HOOK, **changes) -> HttpGateway:
        return make(HttpGateway, described(**({"url": f"{vendor.url}/send"} | changes)), webhook_url)

    return gateway


# out


async def test_a_message_arrives_as_it_was_described(vendor, gateway, message) -> None:
    vendor.answers = [(200, {"code": 0, "data": {"id": 77}})]
    text = 'Ihr "Päckchen"\\ & 您的包裹 📦\n{to} = 100 %'
    receipt = await gateway().deliver(message(text=text))
    [request] = vendor.requests
    assert (request.method, request.path) == ("POST", "/send")
    assert request.headers["authorization"] == "Bearer b3arer"
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "to": "+8613800138000",
        "message": text,
        "reference": "1:care:order-shipped:7",
        "from": "TEAHOUSE",
        "flash": False,
    }
    assert (receipt.outcome, receipt.vendor_id, receipt.detail) == ("accepted", "77", None)


async def test_a_form_with_a_password_and_a_text_answer(vendor, gateway, message) -> None:
    vendor.answers = [(200, "OK: id=a-1\n")]
    one = gateway(
        format="form",
        bearer=None,
        username="tea",
        password="geheim",
        body={"phone": "{to_national}", "msg": "{text}", "k": "{key}", "ttl": "{expires_in}", "test": 0},
        country_code="86",
        query={"user": "{secrets.user}", "hash": "{key_hash}"},
        secrets={"user": "u&1"},
        success={"contains": "OK"},
        refusals={},
        id=None,
        id_pattern="id=([a-z0-9-]+)",
    )
    left = message().leaves_at + timedelta(minutes=5)
    receipt = await one.deliver(message(expires_at=left))
    [request] = vendor.requests
    assert request.form == {
        "phone": "13800138000",
        "msg": "Your order has shipped.",
        "k": "1:care:order-shipped:7",
        "ttl": "300",
        "test": "0",
    }
    assert request.query == {"user": "u&1", "hash": fingerprint("1:care:order-shipped:7")}
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"tea:geheim").decode()
    assert receipt.vendor_id == "a-1"


async def test_a_get_and_a_text_body(vendor, gateway, message) -> None:
    vendor.answers = [(200, {"code": 0})]
    get = gateway(method="GET", body=None, query={"to": "{to_digits}", "text": "{text}", "k": "{key}"})
    assert (await get.deliver(message(text="a&b=ü +"))).detail == "without an id"
    assert vendor.requests[0].query == {"to": "8613800138000", "text": "a&b=ü +", "k": "1:care:order-shipped:7"}
    xml = gateway(body="<m to='{to}' k='{key}'>{text}</m>", format="text", content_type="text/xml; charset=utf-8")
    await xml.deliver(message(text="<&>"))
    assert vendor.requests[1].body == b"<m to='+8613800138000' k='1:care:order-shipped:7'>&lt;&amp;&gt;</m>"
    assert vendor.requests[1].headers["content-type"] == "text/xml; charset=utf-8"


async def test_the_vendor_can_be_told_where_receipts_go_and_what_the_template_was(vendor, gateway, message) -> None:
    vendor.answers = [(200, {"code": 0})]
    body = {"to": "{to}", "tpl": "T-{template}", "args": {"name": "{params.name}"}, "cb": "{webhook}", "r": "{key}"}
    one = gateway(body=body, headers={"X-Request-Id": "{key_hash}"})
    await one.deliver(message(params={"name": "Ann 安"}))
    [request] = vendor.requests
    assert request.json["args"] == {"name": "Ann 安"}
    assert (request.json["tpl"], request.json["cb"]) == ("T-order-shipped", f"{HOOK}/new-secret-of-ours")
    assert request.headers["x-request-id"] == fingerprint("1:care:order-shipped:7")


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        ((200, {"code": 21, "error": "bad +8613800138000"}), "rejected", Reason.BAD_ADDRESS),
        ((200, {"code": "30"}), "rejected", Reason.OPTED_OUT),
        ((400, {"code": 21}), "rejected", Reason.BAD_ADDRESS),
        ((500, {"code": 21}), "rejected", Reason.BAD_ADDRESS),
        ((403, {"code": 30}), "rejected", Reason.OPTED_OUT),
        ((402, "no money"), "rejected", Reason.FUNDS),
        ((200, {"code": 50}), "deferred", Reason.RETRY),
    ],
)
async def test_a_refusal_that_is_known_is_one(vendor, gateway, message, answer, outcome, reason) -> None:
    vendor.answers = [answer]
    receipt = await gateway().deliver(message())
    assert (receipt.outcome, receipt.reason) == (outcome, reason)
    assert "13800138000" not in receipt.detail


# SEMANTICS 23
@pytest.mark.parametrize(
    "answer",
    [
        (200, {"code": 99}),
        (200, {"status": "ok"}),
        (200, "OK"),
        (200, ""),
        (200, {"code": [0]}),
        (204, ""),
        (302, "", {"Location": "http://127.0.0.1:9/"}),
        (400, {"code": 99}),
        (404, "not found"),
        (409, "seen"),
        (500, {"code": 99}),
        (502, "bad gateway"),
        "close",
    ],
)
async def test_what_nobody_described_is_in_doubt_and_not_repeated(vendor, gateway, message, answer) -> None:
    vendor.answers = [answer]
    with pytest.raises(DoubtError) as caught:
        await gateway().deliver(message())
    assert len(vendor.requests) == 1
    assert "b3arer" not in str(caught.value)


# SEMANTICS 23
@pytest.mark.parametrize("described", [{"id": "id"}, {"success__path": "state", "success__equals": "accepted"}])
@pytest.mark.parametrize("name", [n for n, f in FAULTS.items() if f.when != "way" and f.ends not in {"hang", "drip"}])
async def test_every_way_to_fail_comes_to_what_is_known_of_it(gateway, message, tmp_path, name, described) -> None:
    fault = FAULTS[name]
    plain = {"success": {}, "refusals": {"status": {"4xx": "other"}}, "id": "id"}
    with FaultyVendor(tmp_path / "ledger") as faulty:
        faulty.fail(name, at="connection" if fault.when == "connection" else "*")
        came = await came_of(gateway(url=f"{faulty.url}/send", **(plain | described)).deliver(message()))
        requests = len(faulty.ledger.entries("request")) + len(faulty.ledger.entries("unread"))
    known = Verdict.NOT_NOW if fault.verdict is Verdict.NOTHING_LEFT else fault.verdict
    assert (came, requests) == (known, 1)


async def came_of(delivery) -> Verdict:
    """What is known after a try."""
    try:
        receipt = await delivery
    except RetryableError:
        return Verdict.NOT_NOW
    except AuthError:
        return Verdict.STRANGER
    except DoubtError:
        return Verdict.DOUBT
    return {"accepted": Verdict.TAKEN, "rejected": Verdict.NO, "deferred": Verdict.NOT_NOW}[receipt.outcome]


@pytest.mark.parametrize("answer", [(200, {"code": 60}), (401, ""), (403, {"code": 99})])
async def test_refused_credentials_pause_the_account(vendor, gateway, message, answer) -> None:
    vendor.answers = [answer]
    with pytest.raises(AuthError):
        await gateway().deliver(message())


@pytest.mark.parametrize("answer", [(429, "", {"Retry-After": "9"}), (503, {"code": 21}, {"Retry-After": "9"})])
async def test_not_now_waits_as_long_as_the_vendor_says(vendor, gateway, message, answer) -> None:
    vendor.answers = [answer]
    with pytest.raises(RetryableError) as caught:
        await gateway().deliver(message())
    assert caught.value.retry_after == timedelta(seconds=9)


@pytest.mark.parametrize("status", [429, 503])
async def test_not_now_waits_as_long_as_the_vendor_says_where_it_is_described_too(
    vendor, gateway, message, status
) -> None:
    one = gateway(refusals__status={"429": "retry", "503": "retry"})
    vendor.answers = [(status, {"code": 1, "error": "slow down"}, {"Retry-After": "3600"})]
    with pytest.raises(RetryableError, match=rf"texts deliver: not now \(HTTP {status} 1 slow down\)") as caught:
        await one.deliver(message())
    assert caught.value.retry_after == timedelta(hours=1)
    vendor.answers = [(200, {"code": 50, "error": "busy"}, {"Retry-After": "7"})]
    with pytest.raises(RetryableError) as caught:
        await one.deliver(message())
    assert caught.value.retry_after == timedelta(seconds=7)
    vendor.answers = [(status, {"code": 1, "error": "slow down"})]
    receipt = await one.deliver(message())
    assert (receipt.outcome, receipt.detail) == ("deferred", f"HTTP {status} 1 slow down")


async def test_what_a_vendor_repeats_of_ours_is_not_told(vendor, gateway, message) -> None:
    """It answers with everything it was sent, as it was sent, whatever it says about it."""
    one = gateway(
        bearer=None,
        username="tea",
        password="pa55word-of-ours",
        query={"apikey": "{secrets.k}", "national": "{to_national}"},
        headers={"X-Token": "literal-t0ken-of-ours"},
        secrets={"k": "sk_live_SECRET"},
        country_code="86",
        body__name="{params.name}",
        refusals__contains={"refused": "content"},
    )
    sent = message(params={"name": "Anneliese"})
    vendor.answers = [(400, {"code": 99, "error": ""})]
    with pytest.raises(DoubtError):
        await one.deliver(sent)
    [request] = vendor.requests
    spaced = "+86 138 0013 8000, 0086-138-0013-8000"
    echo = f"{spaced} {request.target} {request.body.decode()} {' '.join(request.headers.values())} {request.query}"
    parts = [echo[at : at + 150] for at in range(0, len(echo), 100)] + ["pa55word-of-ours new-secret-of-ours"]
    for words in parts:
        for status, code, more in (
            (400, 99, ""),
            (401, 99, ""),
            (200, 60, ""),
            (200, 21, ""),
            (400, 50, ""),
            (418, 99, "refused"),
        ):
            vendor.answers = [(status, {"code": code, "error": f"{more} {words}"})]
            try:
                shown = (await one.deliver(sent)).detail
            except (AuthError, DoubtError) as error:
                shown = str(error)
            known = ("sk_live", "SECRET", "8001380", "0013 8000", "0013-8000", "has shipped", "Anneliese", "pa55word")
            known += ("literal-t0ken", "new-secret-of-ours", base64.b64encode(b"tea:pa55word-of-ours").decode()[:12])
            assert [one for one in known if one in shown] == []


async def test_what_a_receipt_repeats_of_ours_is_not_kept(gateway, call) -> None:
    item = {"msg": {"id": 77}, "state": "UNDELIV", "why": "new-secret-of-ours: +86 138 0013 8000 is off"}
    odd = item | {"state": "OFF 13800138000"}
    receipt, refused = gateway().records(posted(call, {"reports": [item, odd]}))
    assert receipt.detail == "secret: recipient is off"
    assert refused.reason == 'status "OFF recipient" is not in receipts.statuses'


async def test_refusals_are_found_by_text_and_by_class_of_status(vendor, gateway, message) -> None:
    one = gateway(refusals={"contains": {"no credit": "funds"}, "status": {"4xx": "other", "404": "auth"}})
    for answer, reason in (((200, "ERR no credit"), Reason.FUNDS), ((418, "teapot"), Reason.OTHER)):
        vendor.answers = [answer]
        assert (await one.deliver(message())).reason is reason
    vendor.answers = [(404, "")]
    with pytest.raises(AuthError):
        await one.deliver(message())


@pytest.mark.parametrize("key", ["ü", "a\nb", " a"])
async def test_a_header_that_cannot_hold_it_sends_nothing(vendor, gateway, message, key) -> None:
    with pytest.raises(UnsupportedError, match="the header X-Key would hold what no header can"):
        await gateway(headers={"X-Key": "{key}"}).deliver(message(key=key))
    assert vendor.requests == []


async def test_a_number_of_another_country_sends_nothing(vendor, gateway, message) -> None:
    body = {"to": "{to_national}", "m": "{text}", "r": "{key}"}
    with pytest.raises(UnsupportedError, match=r"does not begin with \+49"):
        await gateway(body=body, country_code="49").deliver(message())
    assert vendor.requests == []


async def test_it_tells_repeats_only_where_the_vendor_does(gateway) -> None:
    assert gateway().deduplicates is False
    assert gateway(deduplicates=True).deduplicates is True
    assert HttpGateway.deduplicates is False


# in


def posted(call, document, secret="new-secret-of-ours"):
    made = call(json.dumps(document).encode(), f"{HOOK}/{secret}", "application/json")
    return type(made)(made.body, made.headers, made.url, made.query, secret, made.received_at)


REPORTS = {"reports": [{"msg": {"id": 77, "reference": "k-1"}, "state": "DELIVRD"}]}


async def test_only_the_secret_address_is_the_vendors(gateway, call) -> None:
    one = gateway()
    first = one.verify(posted(call, REPORTS))
    assert isinstance(first, Verified)
    assert first == one.verify(posted(call, REPORTS, "old-secret-of-ours"))
    for forged in ("", "other", "new-secret-of-ours/x"):
        assert one.verify(posted(call, REPORTS, forged)) == Reply(401, b"unverified")
    assert one.accepts_with == Reply(200, b'{"ok": true}', "application/json")
    assert gateway(webhook=None, receipts=None, replies=None).verify(posted(call, REPORTS)).status == 401


@pytest.mark.parametrize(("encoding", "prefix"), [("hex", "sha256="), ("base64", "")])
async def test_a_signature_in_a_header_is_checked(gateway, call, encoding, prefix) -> None:
    signature = {"header": "X-Sign", "secret": ["new", "old"], "encoding": encoding, "prefix": prefix}
    one = gateway(webhook__secret=None, webhook__signature=signature)
    body = json.dumps(REPORTS).encode()
    for secret, holds in (("new", True), ("old", True), ("other", False)):
        made = hmac.new(secret.encode(), body, hashlib.sha256).digest()
        written = made.hex() if encoding == "hex" else base64.b64encode(made).decode()
        found = one.verify(call(body, HOOK, "application/json", **{"x-sign": prefix + written}))
        assert isinstance(found, Verified) is holds
    assert one.verify(call(body, HOOK, "application/json")).status == 401


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("DELIVRD", "delivered", None),
        ("SENT", "sent", None),
        ("UNDELIV", "failed", None),
        ("NOROUTE", "bounced", "bad-address"),
        ("BLACK", "failed", "opted-out"),
        ("EXPIRED", "failed", "expired"),
    ],
)
async def test_a_report_is_a_receipt(gateway, call, status, state, reason) -> None:
    item = {"msg": {"id": 77, "reference": "k-1"}, "state": status, "why": "because"}
    [receipt] = gateway().records(posted(call, {"reports": [item]}))
    assert isinstance(receipt, ReceiptRecord)
    assert (receipt.state, receipt.reason, receipt.vendor_id, receipt.key) == (state, reason, "77", "k-1")
    assert receipt.external_id == f"77:{status}"
    assert receipt.detail == ("because" if state in {"failed", "bounced"} else None)


async def test_one_bad_report_does_not_keep_the_others_out(gateway, call) -> None:
    good = REPORTS["reports"][0]
    long, half = {"msg": {"id": "7" * 300}}, {"msg": {"id": "\ud83d"}}
    bad = [
        good | {"state": "NEW"},
        good | {"msg": {}},
        {"other": 1},
        7,
        good | half,
        {"id": 1, "from": "\ud83d", "body": ""},
    ]
    [receipt] = gateway().records(posted(call, {"reports": [good | long]}))
    assert receipt.vendor_id == "7" * 300
    kept = list(gateway().records(posted(call, {"reports": [*bad, good | {"state": "BUFFERED"}, good]})))
    assert [type(one) for one in kept] == [Refused] * 6 + [ReceiptRecord]
    assert kept[0].reason == 'status "NEW" is not in receipts.statuses'
    assert [one.place for one in kept[:6]] == [f"webhook:{n}" for n in range(1, 7)]


async def test_receipts_come_as_forms_and_in_addresses_too(gateway, call) -> None:
    flat = {"webhook__items": None, "receipts__id": "msgid", "receipts__key": None}
    fields = urlencode({"msgid": "a&1", "state": "DELIVRD"})
    [form] = gateway(webhook__format="form", **flat).records(call(fields.encode(), HOOK))
    [query] = gateway(webhook__format="query", **flat).records(call(b"", f"{HOOK}?{fields}"))
    assert form == query
    assert (form.vendor_id, form.state) == ("a&1", "delivered")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'{"reports": 1}', b"[]"])
async def test_what_cannot_be_read_is_kept_with_the_reason(gateway, call, body) -> None:
    with pytest.raises(PayloadError, match="texts read webhook"):
        list(gateway().records(call(body, HOOK, "application/json")))


async def test_a_reply_may_say_no_more(gateway, call) -> None:
    one = gateway(replies__prefix="+86")
    items = [{"id": 1, "from": "13800138000", "body": "你好"}, {"id": 2, "from": "+4915112345678", "body": "退订"}]
    hello, stop, about = one.records(posted(call, {"reports": items}))
    assert (type(hello), type(stop), type(about)) == (InboundRecord, InboundRecord, ConsentRecord)
    assert (hello.sender.value, hello.text, hello.external_id) == ("+8613800138000", "你好", "1")
    assert (about.address.value, about.state, about.channel) == ("+4915112345678", "withdrawn", "sms")


# settings


def test_the_description_is_whole() -> None:
    assert HttpGateway.Settings.model_validate(described()).format == "json"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"success": None}, "success\n  Field required"),
        ({"url": "api.pigeon.example"}, "should be an address like https://api.vendor.example/send"),
        ({"url": "https://{shop}.example/"}, "no placeholder in its host"),
        ({"url": "https://a.example/?x=1"}, "nothing after ?; write it in the table `query`"),
        ({"url": "https://a.example/{nothing}"}, "unknown placeholder {nothing}"),
        ({"body__message": "{txt}"}, "unknown placeholder {txt}; there are {to}"),
        ({"body__message": "hello"}, "nothing says what is to be sent; put {text} into query or body"),
        ({"body__to": "me"}, "nothing says whom it is for; put {to}"),
        ({"body__to": "{to_national}"}, "country_code is not set"),
        ({"sender": None}, "{sender} is used, and sender is not set"),
        ({"headers": {"X": "{secrets.token}"}}, "there is no secret 'token'"),
        ({"headers": {"Bad Name": "x"}}, "'Bad Name' is no name of a header"),
        ({"headers": {"Content-Length": "1"}}, "is written by the client"),
        ({"headers": {"Authorization": "x"}}, "three ways to sign in; choose one"),
        ({"username": "tea"}, "username and password go together"),
        ({"method": "GET"}, "a GET has no body"),
        ({"method": "PATCH"}, "Input should be 'GET', 'POST' or 'PUT'"),
        ({"body": "{text} {to} {key} {sender}"}, 'body is text: write format = "text"'),
        ({"format": "text"}, 'body is a table: write format = "json" or "form"'),
        ({"format": "form", "body__more": {"a": 1}}, "body.more is a table, which no field can hold"),
        ({"success__equals": None}, "path and equals go together"),
        ({"success__status": [100]}, "greater than or equal to 200"),
        ({"success__equals": [0, "21"]}, '"21" is both success and a refusal'),
        ({"refusals__path": "a..b"}, "should be a place like messages.0.status"),
        ({"refusals__values": None}, "path and values go together"),
        ({"refusals__values__21": "wrong-number"}, "Input should be 'bad-address'"),
        ({"refusals__status": {"99": "other"}}, '"99" should be an HTTP status like "402"'),
        ({"refusals__contains": {"": "other"}}, "would fit every answer"),
        ({"id_pattern": "(a)"}, "give id or id_pattern, not both"),
        ({"id": None, "id_pattern": "a"}, "should have one group in parentheses"),
        ({"id": None, "id_pattern": "("}, "is no pattern"),
        ({"id": None, "receipts__key": None}, "receipts.id is compared with the answer's; set id or id_pattern"),
        ({"deduplicates": True, "body__reference": None, "receipts__key": None}, "deduplicates needs {key}"),
        ({"body__reference": None}, "receipts.key is our key coming back"),
        ({"webhook": None}, "receipts and replies need a table `webhook`"),
        ({"receipts": None, "replies": None}, "webhook needs a table `receipts` or `replies`"),
        ({"webhook__secret": None}, "give secret or signature, one of the two: anybody could call otherwise"),
        ({"webhook__secret": "b3arer/of-sixteen-and-more"}, "`openssl rand -hex 24` makes one"),
        ({"webhook__secret": "b3arer-of-15-or"}, "should be at least 16 characters"),
        ({"webhook__secret": ["new-secret-of-ours", "b3arer%of#ours?and&more"]}, "stands in an address"),
        ({"receipts__id": None, "receipts__key": None}, "give id or key"),
        ({"receipts__statuses__DELIVRD": "arrived"}, "Input should be 'sent'"),
        ({"receipts__statuses": {}}, "at least 1 item"),
        ({"replies__prefix": "86"}, "pattern"),
        ({"suces": 1}, "Extra inputs"),
    ],
)
def test_wrong_settings_are_told(changes, told) -> None:
    with pytest.raises(ValidationError) as caught:
        HttpGateway.Settings.model_validate(described(**changes))
    assert told in str(caught.value)
    assert "b3arer" not in str(caught.value)


async def test_the_doctor_is_told_what_is_missing(make, gateway) -> None:
    [in_the_clear] = await gateway().check()
    assert "travel in the clear" in in_the_clear
    [no_address] = await make(HttpGateway, described()).check()
    assert "set [web] url" in no_address


NASTY = [
    "".join(map(chr, range(1, 128))),
    "%41%zz%",
    "a+b c&d=e;f#g?h/i\\j",
    "{text}{{}}",
    "é e\u0301 ß 退订 📦👩‍👩‍👧",
    "\r\n\t",
    "../../x",
]


@pytest.mark.parametrize("text", NASTY)
async def test_on_the_wire_it_is_still_the_text(vendor, gateway, message, text) -> None:
    vendor.answers = [(200, {"code": 0})]
    one = message(text=text)
    await gateway(query={"q": "{text}"}, url=f"{vendor.url}/x/{{text}}/y").deliver(one)
    await gateway(body={"to": "{to}", "r": "{key}", "m": "{text}"}, format="form").deliver(one)
    in_json, in_form = vendor.requests
    assert (in_json.json["message"], in_json.query["q"], in_form.form["m"]) == (text, text, text)
    assert unquote(in_json.path.removeprefix("/x/").removesuffix("/y"), errors="strict") == text


async def test_a_call_that_is_nested_without_end_is_refused(gateway, call) -> None:
    with pytest.raises(PayloadError, match="a body that is no json"):
        list(gateway().records(call(b"[" * 50_000, HOOK, "application/json")))
