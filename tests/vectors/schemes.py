"""How each vendor of the vectors signs what it sends to the door: declared, or a class of a few lines."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_der_public_key
from pydantic import SecretStr

from crmkit import (
    Account,
    Call,
    Hmac,
    Reply,
    Signature,
    Source,
    SourceSettings,
    StandardWebhooks,
    Verified,
    is_fresh,
    same,
)
from crmkit.adapters.adapter import Adapter
from crmkit_marketplace.taobao import TaobaoSource
from crmkit_marketplace.woocommerce import WooCommerceSource
from crmkit_sms.twilio import TwilioGateway

WITHIN = timedelta(minutes=5)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Vector = Mapping[str, Any]
Values = Mapping[str, str]


@dataclass(frozen=True)
class Case:
    """A vendor's call.

    Attributes:
        adapter: whose door it comes to.
        values: what it is made of; a change of any of these must be refused.
        call: makes it.
        bare: what the vendor does not sign: a change of these passes.
        dated: whether it is refused an hour later.
    """

    adapter: Adapter
    values: Values
    call: Callable[[Values], Call]
    bare: Values = field(default_factory=dict)
    dated: bool = False


class Settings(SourceSettings):
    secret: SecretStr
    other: str = ""

    @property
    def joined(self) -> str:
        """A key that is made of two."""
        return f"{self.other}&{self.secret.get_secret_value()}"


def door(name: str, verifies: Signature | None, secret: str, other: str = "", base: type[Source] = Source) -> Adapter:
    """An adapter that declares this signature."""
    made = type(name, (base,), {"name": name, "verifies": verifies, "Settings": Settings})
    account = Account(name, "UTC", None, None, Path(), f"https://crm.example.com/webhooks/{name}")
    return made(Settings(secret=SecretStr(secret), other=other), account, httpx.AsyncClient())


# signatures that are no keyed hash of a header


@dataclass(frozen=True)
class SignedQuery:
    """A keyed hash over the sorted query, in hex, in a field of it."""

    given: str
    signed: Callable[[list[tuple[str, str]]], str]
    timestamp: str = ""

    def holds(self, call: Call, settings: Settings) -> bool:
        fields = sorted(parse_qsl(call.query, keep_blank_values=True))
        if self.timestamp and not is_fresh(dict(fields).get(self.timestamp, ""), call, WITHIN):
            return False
        given = "".join(value for name, value in fields if name == self.given)
        said = self.signed([(name, value) for name, value in fields if name != self.given])
        made = hmac.new(settings.secret.get_secret_value().encode(), said.encode(), "sha256").hexdigest()
        return same(given.lower(), made)


def _vonage(fields: list[tuple[str, str]]) -> str:
    return "".join(f"&{name}={value.replace('&', '_').replace('=', '_')}" for name, value in fields)


@dataclass(frozen=True)
class Sha1Query:
    """A plain SHA-1 over some fields of the query and a secret: of nothing else the call says."""

    given: str
    fields: tuple[str, ...]
    timestamp: str = ""

    def holds(self, call: Call, settings: Settings) -> bool:
        query = dict(parse_qsl(call.query, keep_blank_values=True))
        if self.timestamp and not is_fresh(query.get(self.timestamp, ""), call, WITHIN):
            return False
        parts = [*(query.get(name, "") for name in self.fields), settings.secret.get_secret_value()]
        said = "".join(sorted(parts) if self.timestamp else parts)
        return same(query.get(self.given, ""), hashlib.sha1(said.encode()).hexdigest())


@dataclass(frozen=True)
class Mailgun:
    """A keyed hash over a moment and a token, all of it in the body."""

    def holds(self, call: Call, settings: Settings) -> bool:
        try:
            signed = json.loads(call.body)["signature"]
            said = str(signed["timestamp"]) + str(signed["token"])
            given = str(signed["signature"])
        except (ValueError, KeyError, TypeError):
            return False
        made = hmac.new(settings.secret.get_secret_value().encode(), said.encode(), "sha256").hexdigest()
        return same(given, made) and is_fresh(str(signed["timestamp"]), call, WITHIN)


@dataclass(frozen=True)
class Ecdsa:
    """eBay's: ECDSA over the raw body, in a header of base64 of JSON; the setting holds the public key."""

    def holds(self, call: Call, settings: Settings) -> bool:
        key = load_der_public_key(base64.b64decode(settings.secret.get_secret_value()))
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            written = json.loads(base64.b64decode(call.headers["x-ebay-signature"]))["signature"]
            signature = base64.b64decode(written, validate=True)
            key.verify(signature, call.body, ec.ECDSA(SHA1()))
        except (KeyError, TypeError, ValueError, InvalidSignature):
            return False
        return base64.b64encode(signature).decode() == written  # one signature is written in one way


class Challenged(Source):
    """eBay's handshake: a question that only who knows the token can answer; nothing is kept."""

    def verify(self, call: Call) -> Verified | Reply:
        code = dict(parse_qsl(call.query)).get("challenge_code", "")
        said = code + self.settings.secret.get_secret_value() + self.settings.other
        return Reply(200, json.dumps({"challengeResponse": hashlib.sha256(said.encode()).hexdigest()}).encode())


# from vectors to calls


def of_body(verifies: Signature, header: str, secret: str, vector: Vector, other: str = "") -> Case:
    """The signature of the raw body, in a header."""
    values = {"body": vector["body"], "signature": vector["expected"]}
    return Case(
        door("vendor", verifies, secret, other),
        values,
        lambda v: Call(v["body"].encode(), {header: v["signature"]}, received_at=NOW),
    )


def of_query(
    verifies: Signature,
    secret: str,
    query: Values,
    signature: tuple[str, str],
    bare: Values | None = None,
    *,
    dated: bool = False,
) -> Case:
    """A signature in the query."""
    values = {**query, signature[0]: signature[1]}
    names = list(values)

    def call(v: Values) -> Call:
        written = urlencode({name: v[name] for name in names})
        return Call(v.get("body", "").encode(), url=f"https://x/?{written}", query=written, received_at=NOW)

    return Case(door("vendor", verifies, secret), values, call, bare or {}, dated)


def twilio(vector: Vector) -> Case:
    """Twilio's, by the gateway that is shipped."""
    given, is_sha256 = vector["input"], vector["alg"] == "twilio_sha256"
    settings = TwilioGateway.Settings(
        account_sid="AC" + "0" * 32,
        auth_token=SecretStr("another" if is_sha256 else given["token"]),
        shared_keys={"k1": SecretStr(given["token"])} if is_sha256 else {},
        sender="+15005550006",
    )
    adapter = TwilioGateway(settings, Account("twilio", "UTC", None, None, Path()), httpx.AsyncClient())
    names = list(given["params"])

    def call(v: Values) -> Call:
        headers = {"content-type": "application/x-www-form-urlencoded", "x-twilio-signature": v["signature"]}
        if is_sha256:
            headers["x-twilio-webhooks-signature-settings"] = "algorithm=HMAC_SHA256,key=k1"
        body = urlencode({name: v[name] for name in names}).encode()
        return Call(body, headers, url=v["url"], received_at=NOW)

    return Case(adapter, {**given["params"], "url": given["url"], "signature": vector["expected"]}, call)


def woocommerce(vector: Vector) -> Case:
    """WooCommerce's, by the source that is shipped."""
    settings = WooCommerceSource.Settings(
        url="https://shop.example.com",
        consumer_key=SecretStr("ck_1"),
        consumer_secret=SecretStr("cs_1"),
        webhook_secret=vector["secret"],
    )
    adapter = WooCommerceSource(settings, Account("woo", "UTC", None, None, Path()), httpx.AsyncClient())
    case = of_body(Hmac("x", secret="secret"), "x-wc-webhook-signature", "", vector)
    return Case(adapter, case.values, case.call)


def standard(vector: Vector) -> Case:
    given = vector["input"]
    values = {"id": given["id"], "at": str(given["timestamp"]), "body": given["body"], "signature": vector["expected"]}

    def call(v: Values) -> Call:
        headers = {"webhook-id": v["id"], "webhook-timestamp": v["at"], "webhook-signature": v["signature"]}
        return Call(v["body"].encode(), headers, received_at=datetime.fromtimestamp(given["timestamp"], UTC))

    return Case(door("standard", StandardWebhooks("secret"), given["secret"]), values, call, dated=True)


SLACK = Hmac(
    "x-slack-signature",
    secret="secret",
    encoding="hex",
    prefix="v0=",
    timestamp="x-slack-request-timestamp",
    signs=lambda call: f"v0:{call.headers['x-slack-request-timestamp']}:".encode() + call.body,
)


def slack(vector: Vector) -> Case:
    given = vector["input"]
    values = {"at": str(given["timestamp"]), "body": given["body"], "signature": vector["expected"]}

    def call(v: Values) -> Call:
        headers = {"x-slack-request-timestamp": v["at"], "x-slack-signature": v["signature"]}
        return Call(v["body"].encode(), headers, received_at=datetime.fromtimestamp(given["timestamp"], UTC))

    return Case(door("slack", SLACK, given["secret"]), values, call, dated=True)


def mailgun(vector: Vector) -> Case:
    given = vector["input"]

    def call(v: Values) -> Call:
        signed = {name: v[name] for name in ("timestamp", "token", "signature")}
        return Call(json.dumps({"signature": signed, "event-data": {"event": v["event"]}}).encode(), received_at=NOW)

    values = {"timestamp": given["timestamp"], "token": given["token"], "signature": vector["expected"]}
    return Case(door("mailgun", Mailgun(), given["key"]), values, call, {"event": "delivered"}, dated=True)


def ecdsa(vector: Vector) -> Case:
    header = json.loads(base64.b64decode(vector["header"]))

    def call(v: Values) -> Call:
        written = base64.b64encode(json.dumps({**header, "signature": v["signature"]}).encode()).decode()
        return Call(v["body"].encode(), {"x-ebay-signature": written}, received_at=NOW)

    values = {"body": vector["body"], "signature": header["signature"]}
    return Case(door("ebay", Ecdsa(), vector["public_key_der_base64"]), values, call)


def shopify_oauth(vector: Vector) -> Case:
    query = dict(parse_qsl(vector["message"]))
    return of_query(SignedQuery("hmac", urlencode), vector["secret"], query, ("hmac", vector["expected"]))


def taobao_push(vector: Vector) -> Case:
    """Taobao's, by the source that is shipped."""
    account = Account("taobao", "UTC", None, None, Path(), "https://crm.example.com/webhooks/taobao")
    settings = TaobaoSource.Settings(app_key=vector["params"]["app_key"], app_secret=SecretStr(vector["secret"]))
    shop = TaobaoSource(settings, account, httpx.AsyncClient())
    names = [*vector["params"], "sign"]

    def call(v: Values) -> Call:
        written = urlencode({name: v[name] for name in names})
        at = datetime.fromisoformat(f"{vector['params']['timestamp']}+08:00")
        return Call(v["body"].encode(), url=f"https://x/?{written}", query=written, received_at=at)

    return Case(shop, {**vector["params"], "sign": vector["expected"], "body": vector["body"]}, call, dated=True)


def vonage(vector: Vector) -> Case:
    given = vector["input"]
    return of_query(
        SignedQuery("sig", _vonage, "timestamp"),
        given["secret"],
        given["params"],
        ("sig", vector["expected"]),
        dated=True,
    )


def wechat(vector: Vector) -> Case:
    token, at, nonce = vector["input"]["parts"]
    scheme = Sha1Query("signature", ("timestamp", "nonce"), timestamp="timestamp")
    return of_query(
        scheme, token, {"timestamp": at, "nonce": nonce}, ("signature", vector["expected"]), {"body": "x"}, dated=True
    )


def wjx(vector: Vector) -> Case:
    given = vector["input"]
    query = {"activity": given["activity"], "index": given["index"]}
    scheme = Sha1Query("sign", ("activity", "index"))
    return of_query(scheme, given["key"], query, ("sign", vector["expected"]), {"body": "x"})


def hashed(header: str, **how: Any) -> Callable[[Vector], Case]:
    """Vendors whose signature is declared in one line."""

    def case(vector: Vector) -> Case:
        given = vector.get("input", vector)
        other = given.get("client_id", "")
        verifies = Hmac(header, secret="joined" if other else "secret", **how)
        return of_body(verifies, header, given["secret"], {**given, "expected": vector["expected"]}, other)

    return case


#: By the vector's id: how its call comes to the door.
DOOR: dict[str, Callable[[Vector], Case]] = {
    "taobao-spi-push": taobao_push,
    "woo-webhook": woocommerce,
    "shopify-webhook": hashed("x-shopify-hmac-sha256"),
    "shopify-oauth-hmac": shopify_oauth,
    "ebay-ecdsa-verify": ecdsa,
    "twilio_official": twilio,
    "twilio_own_sha1": twilio,
    "twilio_own_sha256": twilio,
    "vonage_sig_own": vonage,
    "mailgun_own": mailgun,
    "standard_webhooks_official": standard,
    "standard_webhooks_own": standard,
    "typeform_own": hashed("typeform-signature", prefix="sha256="),
    "meta_own": hashed("x-hub-signature-256", prefix="sha256=", encoding="hex"),
    "surveymonkey_own": hashed("sm-signature", digest="sha1"),
    "slack_official": slack,
    "wechat_sha1_own": wechat,
    "wjx_push_own": wjx,
}
#: A question the door answers; nothing is signed.
HANDSHAKES = ("ebay-challenge",)
_CALLS = "signs calls to the vendor's API"
_CONNECTS = "signs the opening of a connection to the vendor"
#: What is not the door's, and why.
NOT_THE_DOORS: dict[str, str] = {
    **dict.fromkeys(
        (
            "taobao-official-md5 taobao-made-md5 taobao-made-hmac taobao-made-hmac-sha256 pinduoduo-official"
            " pinduoduo-made jd-official jd-made douyin-made douyin-third-party-md5 woo-oauth1 magento-oauth1"
            " medusa-basic aliyun_v1_official_sendsms aliyun_v1_official_ecs aliyun_v1_own aliyun_acs3_official"
            " aliyun_acs3_own tencent_tc3_own"
        ).split(),
        _CALLS,
    ),
    **dict.fromkeys(("taobao-tmc-connect", "pinduoduo-pmc"), _CONNECTS),
}
