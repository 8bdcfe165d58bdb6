"""Every adapter that is shipped, made with settings that let it take what it can, and calls that are its vendor's."""

import base64
import hashlib
import hmac
import json
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crmkit import Account, Call
from crmkit.adapters.adapter import Adapter
from crmkit_email import sendgrid_signature
from crmkit_email.folder import FolderGateway
from crmkit_email.postmark import PostmarkGateway
from crmkit_email.sendgrid import SendgridGateway
from crmkit_email.smtp import SmtpGateway
from crmkit_marketplace.files import FilesSource
from crmkit_marketplace.taobao import TaobaoSource, signing
from crmkit_marketplace.taobao.gateway import TaobaoGateway
from crmkit_marketplace.vendure import VendureSource
from crmkit_marketplace.woocommerce import WooCommerceSource
from crmkit_sms.aliyun import AliyunGateway
from crmkit_sms.http import HttpGateway
from crmkit_sms.tencent import TencentGateway
from crmkit_sms.twilio import TwilioGateway
from crmkit_sms.twilio_signature import signature

NOW = datetime(2026, 5, 7, 9, 30, tzinfo=UTC)
HOOK = "https://crm.example.com/webhooks/it"
SECRET = "a secret of the vendor's"

WOO = {"url": "https://shop.example.com", "consumer_key": "ck_1", "consumer_secret": "cs_1", "webhook_secret": SECRET}
TAOBAO = {"app_key": "23000001", "app_secret": SECRET}
_KEY = b"a key of thirty-two bytes, or so"
VENDURE = {
    "url": "https://shop.example.com/admin-api",
    "username": "crm",
    "password": SECRET,
    "webhook_secret": f"whsec_{base64.b64encode(_KEY).decode()}",
}
TWILIO = {"account_sid": "AC" + "0" * 32, "auth_token": SECRET, "sender": "+15005550006"}
IN_THE_PATH = "a-secret-of-the-vendor"
ALIYUN = {"access_key_id": "LTAI5tEXAMPLE", "access_key_secret": SECRET, "webhook_secret": IN_THE_PATH}
TENCENT = {"secret_id": "AKIDexample", "secret_key": SECRET, "app_id": "1400000001", "webhook_secret": IN_THE_PATH}
_EC = ec.derive_private_key(7, ec.SECP256R1())
_SHOWN = base64.b64encode(_EC.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()
SENDGRID = {"api_key": SECRET, "sender": "shop@tea.example", "webhook_public_key": _SHOWN}
POSTMARK = {"server_token": SECRET, "sender": "shop@tea.example", "webhook_secret": IN_THE_PATH}
PIGEON = tomllib.loads("""
    url = "https://api.pigeon.example/v1/send"
    sender = "TEAHOUSE"
    id = "data.id"
    [body]
    to = "{to}"
    message = "{text}"
    reference = "{key}"
    [success]
    path = "code"
    equals = 0
    [webhook]
    items = "reports"
    [webhook.signature]
    header = "x-sign"
    secret = "a secret of the vendor's"
    encoding = "hex"
    [receipts]
    id = "msg.id"
    key = "msg.reference"
    status = "state"
    detail = "why"
    [receipts.statuses]
    DELIVRD = "delivered"
    UNDELIV = "failed"
    [replies]
    id = "no"
    sender = "who"
    text = "words"
""")
FILES = {"orders": {"file": "orders.csv", "columns": {"external_id": "id"}}}
SMTP = {"host": "localhost", "sender": "shop@tea.example"}
FOLDER = {"path": "outbox", "sender": "shop@tea.example"}

#: By its entry point: its class, and settings.
SHIPPED: dict[str, tuple[type[Adapter], dict[str, Any]]] = {
    "marketplace.files": (FilesSource, FILES),
    "marketplace.woocommerce": (WooCommerceSource, WOO),
    "marketplace.taobao": (TaobaoSource, TAOBAO),
    "marketplace.vendure": (VendureSource, VENDURE),
    "email.smtp": (SmtpGateway, SMTP),
    "email.folder": (FolderGateway, FOLDER),
    "email.sendgrid": (SendgridGateway, SENDGRID),
    "email.postmark": (PostmarkGateway, POSTMARK),
    "sms.twilio": (TwilioGateway, TWILIO),
    "sms.http": (HttpGateway, PIGEON),
    "sms.aliyun": (AliyunGateway, ALIYUN),
    "sms.tencent": (TencentGateway, TENCENT),
    "sms.taobao": (TaobaoGateway, TAOBAO),
}


def installed() -> set[str]:
    """The adapters there are: every plugin of this repository but the playbooks."""
    return {point.name for point in entry_points(group="crmkit") if not point.name.startswith("play.")}


def adapter(name: str) -> Adapter:
    """A shipped adapter."""
    made, settings = SHIPPED[name]
    account = Account("it", "Europe/Berlin", "EUR", "DE", Path("/nowhere"), HOOK)
    read: Any = made.Settings.model_validate(settings)  # type: ignore[attr-defined]
    return made(read, account, httpx.AsyncClient())


def _woo(body: bytes, topic: str) -> Call:
    made = base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()
    headers = {"x-wc-webhook-signature": made, "x-wc-webhook-topic": topic, "content-type": "application/json"}
    return Call(body, headers, HOOK, received_at=NOW)


def _twilio(body: bytes, fields: dict[str, str]) -> Call:
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "x-twilio-signature": signature(SECRET, HOOK, fields.items()),
    }
    return Call(urlencode(fields).encode(), headers, HOOK, received_at=NOW)


def _pigeon(body: bytes) -> Call:
    made = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return Call(body, {"x-sign": made, "content-type": "application/json"}, HOOK, received_at=NOW)


def _taobao(body: bytes) -> Call:
    query = urlencode(
        {"app_key": TAOBAO["app_key"], "timestamp": "2026-05-07 17:30:00", "topic": "taobao_trade_TradePaid"}
    )
    made = signing.signature(dict(parse_qsl(query)), SECRET, "md5", body)
    headers = {"content-type": "application/json"}
    return Call(body, headers, HOOK, query=f"{query}&{urlencode({'sign': made})}", received_at=NOW)


def _vendure(body: bytes) -> Call:
    at = str(int(NOW.timestamp()))
    made = base64.b64encode(hmac.new(_KEY, f"msg_1.{at}.".encode() + body, hashlib.sha256).digest()).decode()
    headers = {"webhook-id": "msg_1", "webhook-timestamp": at, "webhook-signature": f"v1,{made}"}
    return Call(body, {**headers, "content-type": "application/json"}, HOOK, received_at=NOW)


def _sendgrid(body: bytes) -> Call:
    at = str(int(NOW.timestamp()))
    made = base64.b64encode(_EC.sign(at.encode() + body, ec.ECDSA(SHA256()))).decode()
    headers = {sendgrid_signature.SIGNATURE: made, sendgrid_signature.TIMESTAMP: at, "content-type": "application/json"}
    return Call(body, headers, HOOK, received_at=NOW)


_ORDERS = Path(__file__).parents[2] / "plugins/marketplace/tests/woocommerce"
_ORDER = (_ORDERS / "order_paid.json").read_bytes()
_OTHER = (_ORDERS / "order_fulfilled_refunded.json").read_bytes()
_RECEIPT = {"MessageSid": "SM1", "MessageStatus": "delivered", "To": "+4915112345678", "From": "+15005550006"}
_REPLY = {"MessageSid": "SM2", "From": "+4915112345678", "To": "+15005550006", "Body": "STOP", "NumMedia": "0"}
_REPORTS = {
    "reports": [{"msg": {"id": 7, "reference": "k"}, "state": "DELIVRD"}, {"no": "9", "who": "+491", "words": "hi"}]
}

_OPENED = {"email": "ann@b.example", "timestamp": 1778146200, "sg_event_id": "e1", "crmkit_key": "k"}
_EVENTS = [
    {**_OPENED, "event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 unknown"},
    {**_OPENED, "event": "dropped", "reason": "Unsubscribed Address", "sg_event_id": "e2"},
    {**_OPENED, "event": "group_unsubscribe", "asm_group_id": 7, "sg_event_id": "e3"},
]

#: Calls of vendors: (adapter, its name, how one of another body is signed, the body).
SAMPLES: list[tuple[str, Callable[[bytes], Call], bytes]] = [
    ("marketplace.woocommerce", lambda body: _woo(body, "order.updated"), _ORDER),
    ("marketplace.woocommerce", lambda body: _woo(body, "order.created"), _OTHER),
    ("marketplace.woocommerce", lambda body: _woo(body, "customer.updated"), b'{"id": 3, "email": "a@b.example"}'),
    (
        "marketplace.taobao",
        _taobao,
        b'{"content": {"tid": 2345, "buyer_nick": "x"}, "topic": "taobao_trade_TradePaid"}',
    ),
    ("marketplace.vendure", _vendure, b'{"orderId": "7", "type": "OrderStateTransitionEvent"}'),
    ("sms.http", _pigeon, json.dumps(_REPORTS).encode()),
    ("email.sendgrid", _sendgrid, json.dumps(_EVENTS).encode()),
]
_TOLD = {"phone_number": "13800138000", "biz_id": "9^0", "success": False, "err_code": "MOBILE_IN_BLACK", "out_id": "k"}
_SAID = {"phone_number": "13800138000", "content": "R", "sequence_id": 7, "send_time": "2026-05-07 17:30:00"}
_SPOKEN = {"mobile": "13800138000", "nationcode": "86", "report_status": "FAIL", "sid": "5000:1", "errmsg": "BLACK"}
_WRITTEN = {"mobile": "13800138000", "nationcode": "86", "text": "R", "time": 1778146860, "sign": "s", "extend": ""}
_MAILED = {"MessageID": "m1", "MessageStream": "broadcast", "Metadata": {"crmkit_key": "k"}}
_BOUNCE = {"RecordType": "Bounce", "ID": 7, "Type": "SoftBounce", "Email": "ann@b.example", "Details": "552 5.2.2 full"}
_BOUNCED = {**_MAILED, **_BOUNCE, "BouncedAt": "2026-05-07T05:30:04-04:00"}
_CHANGE = {"RecordType": "SubscriptionChange", "SuppressSending": True, "SuppressionReason": "ManualSuppression"}
_CHANGED = {**_MAILED, **_CHANGE, "Recipient": "ann@b.example", "ChangedAt": "2026-05-07T09:30:00Z"}


def _addressed(body: bytes) -> Call:
    headers = {"content-type": "application/json"}
    return Call(body, headers, f"{HOOK}/{IN_THE_PATH}", path_secret=IN_THE_PATH, received_at=NOW)


#: Calls of vendors that sign nothing, and come to an address with a secret: their bodies may be anything.
ADDRESSED: list[tuple[str, Callable[[bytes], Call], bytes]] = [
    ("sms.aliyun", _addressed, json.dumps([_TOLD, _SAID]).encode()),
    ("sms.tencent", _addressed, json.dumps([_SPOKEN]).encode()),
    ("sms.tencent", _addressed, json.dumps(_WRITTEN).encode()),
    ("email.postmark", _addressed, json.dumps(_BOUNCED).encode()),
    ("email.postmark", _addressed, json.dumps(_CHANGED).encode()),
]
FORMS: list[dict[str, str]] = [_RECEIPT, _REPLY]


def twilio_call(fields: dict[str, str]) -> Call:
    """A call Twilio signed."""
    return _twilio(b"", fields)
