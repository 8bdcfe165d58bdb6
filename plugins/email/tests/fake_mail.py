"""SendGrid and Postmark as their documentation says they behave: each answers requests and remembers what it did."""

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from typing import Any
from uuid import UUID, uuid5

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NAMESPACE = UUID(int=7)
ADDRESS = re.compile(r"[^@\s]+@[a-z0-9-]+(\.[a-z0-9-]+)+", re.IGNORECASE)


@dataclass
class Mail:
    """A mail as its reader gets it."""

    to: str
    subject: str
    text: str | None
    html: str | None
    headers: dict[str, str]
    about: dict[str, str]
    number: str
    stream: str | None = None


@dataclass
class Fake:
    """What both have in common.

    Attributes:
        now: its clock.
        mails: what it took, in order.
        requests: what it was asked, (method, path).
        failures: what it does instead of answering, once each: a status, `lost` (it took the call, and the answer is
            lost on its way) or `dead` (nothing can be reached).
        dead: addresses that bounce.
    """

    now: datetime
    mails: list[Mail] = field(default_factory=list)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: list[int | str] = field(default_factory=list)
    dead: set[str] = field(default_factory=set)
    token: str = "t0ken-0123456789"

    def __post_init__(self) -> None:
        """Whatever else there is to keep."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append((request.method, request.url.path))
        failure = self.failures.pop(0) if self.failures and request.method == "POST" else None
        if failure == "dead":
            raise httpx.ConnectError("refused")
        if isinstance(failure, int):
            return self.say(failure, {"errors": [{"message": "no"}]})
        answer = self.answer(request)
        if failure == "lost":
            raise httpx.ReadError("closed")
        return answer

    def say(self, status: int, body: Any = None, **headers: str) -> httpx.Response:
        dated = {"Date": format_datetime(self.now, usegmt=True), **{k.replace("_", "-"): v for k, v in headers.items()}}
        if body is None:
            return httpx.Response(status, headers=dated)
        return httpx.Response(status, headers=dated, json=body)

    def answer(self, request: httpx.Request) -> httpx.Response:
        raise NotImplementedError


class FakeSendgrid(Fake):
    """Refuses a call as a whole, takes it with one number, and tells the rest by signed events."""

    #: {list: rows}; what is here it does not write to
    lists: dict[str, list[dict[str, Any]]]
    _key = ec.derive_private_key(0xC0FFEE, ec.SECP256R1())

    def __post_init__(self) -> None:
        self.lists = {"bounces": [], "invalid_emails": [], "spam_reports": [], "unsubscribes": []}

    @property
    def public_key(self) -> str:
        made = self._key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(made).decode()

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return self.say(401, {"errors": [{"message": "authorization required", "field": None}]})
        if request.url.path == "/v3/mail/send":
            return self._send(request)
        name = request.url.path.rpartition("/")[2]
        if name not in self.lists:
            return self.say(404, {"errors": []})
        query = request.url.params
        rows = [row for row in self.lists[name] if int(query["start_time"]) <= row["created"] <= int(query["end_time"])]
        first = int(query["offset"])
        return self.say(200, rows[first : first + int(query["limit"])])

    def _send(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        if len(request.content) > 30_000_000:
            return self.say(413, {"errors": [{"message": "too large", "field": None}]})
        if errors := list(_wrong(body)):
            return self.say(400, {"errors": [{"message": what, "field": where} for where, what in errors]})
        number = f"sg{len(self.requests)}"
        for one in body["personalizations"]:
            filled = one.get("substitutions", {})
            parts = {part["type"]: part["value"] for part in body["content"]}
            for tag, value in filled.items():
                parts = {kind: text.replace(tag, value) for kind, text in parts.items()}
            [to] = one["to"]
            texts = (parts.get("text/plain"), parts.get("text/html"))
            self.mails.append(Mail(to["email"], one["subject"], *texts, one["headers"], one["custom_args"], number))
        return self.say(202, X_Message_Id=number)

    def events(self, mails: Sequence[Mail], *names: str) -> tuple[dict[str, str], bytes]:
        """What its webhook tells of mails: headers and body; the last of `names` is `bounce` where one is dead."""
        told = []
        for number, mail in enumerate(mails):
            for name in names:
                event = {"email": mail.to, "event": name, "timestamp": int(self.now.timestamp()), **mail.about}
                event |= {"sg_event_id": f"{mail.number}-{number}-{name}", "sg_message_id": f"{mail.number}.filter1.2"}
                if name == "delivered" and mail.to in self.dead:
                    event |= {"event": "bounce", "type": "bounce", "status": "5.1.1", "reason": "550 5.1.1 unknown"}
                told.append(event)
        body = json.dumps(told).encode() + b"\r\n"
        at = str(int(self.now.timestamp()))
        made = base64.b64encode(self._key.sign(at.encode() + body, ec.ECDSA(SHA256()))).decode()
        signed = "X-Twilio-Email-Event-Webhook-"
        return {f"{signed}Signature": made, f"{signed}Timestamp": at, "Content-Type": "application/json"}, body


def _wrong(body: dict[str, Any]) -> Any:
    """What SendGrid refuses a call for: (field, words)."""
    several = body["personalizations"]
    if not 1 <= len(several) <= 1_000:
        yield "personalizations", f"limited to 1000 personalizations; you have provided {len(several)}"
    seen = set[str]()
    for number, one in enumerate(several):
        where = f"personalizations.{number}"
        for to in one["to"]:
            if not ADDRESS.fullmatch(to["email"]):
                yield f"{where}.to", "Does not contain a valid address."
            if to["email"].lower() in seen:
                yield None, "Each unique email address in the personalizations array should only be included once."
            seen.add(to["email"].lower())
        if not one.get("subject"):
            yield f"{where}.subject", "The subject is required."
        if sum(len(k.encode()) + len(v.encode()) for k, v in one.get("substitutions", {}).items()) > 10_000:
            yield f"{where}.substitutions", "may not exceed 10,000 bytes"
        if not all(value.isascii() for value in one["headers"].values()):
            yield f"{where}.headers", "must be encoded"
        if {name.lower() for name in one["headers"]} & {"x-sg-id", "received", "to", "from", "subject", "reply-to"}:
            yield f"{where}.headers", "reserved"
    for number, part in enumerate(body["content"]):
        if not part["value"]:
            yield f"content.{number}.value", "must be a string at least one character in length"


class FakePostmark(Fake):
    """Answers for each mail of a call; keeps a log that shows what it has."""

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.headers.get("x-postmark-server-token") != self.token:
            return self.say(401, {"ErrorCode": 10, "Message": "no valid Server token"})
        if request.url.path == "/email/batch":
            items = json.loads(request.content)
            if len(items) > 500 or len(request.content) > 50_000_000:
                return self.say(422, {"ErrorCode": 410, "Message": "Too many batch messages"})
            return self.say(200, [self._take(item) for item in items])
        if request.url.path == "/messages/outbound":
            return self._listed(request.url.params)
        return self.say(200, {"Suppressions": []})

    def _take(self, item: dict[str, Any]) -> dict[str, Any]:
        if not ADDRESS.fullmatch(item["To"]) or not item["To"].isascii():
            return {"ErrorCode": 300, "Message": f"Invalid 'To' address: '{item['To']}'."}
        if item["To"] in self.dead:
            return {"ErrorCode": 406, "Message": f"Found inactive addresses: {item['To']}."}
        if any(len(value) > 80 for value in item["Metadata"].values()) or len(item["Metadata"]) > 10:
            return {"ErrorCode": 300, "Message": "Invalid metadata content"}
        number = str(uuid5(NAMESPACE, str(len(self.mails))))
        headers = {one["Name"]: one["Value"] for one in item["Headers"]}
        texts = (item.get("TextBody"), item.get("HtmlBody"))
        about, stream = item["Metadata"], item["MessageStream"]
        self.mails.append(Mail(item["To"], item["Subject"], *texts, headers, about, number, stream))
        return {"ErrorCode": 0, "Message": "OK", "MessageID": number, "To": item["To"]}

    def _listed(self, query: httpx.QueryParams) -> httpx.Response:
        found = [mail for mail in reversed(self.mails) if mail.to == query["recipient"]]
        first = int(query["offset"])
        page = found[first : first + int(query["count"])]
        rows = [{"MessageID": mail.number, "Status": "Sent", "Metadata": mail.about} for mail in page]
        return self.say(200, {"TotalCount": len(found), "Messages": rows})

    def tells(self, mail: Mail) -> bytes:
        """What its webhook tells of a mail that arrived."""
        told = {"RecordType": "Delivery", "MessageID": mail.number, "Recipient": mail.to, "MessageStream": mail.stream}
        return json.dumps({**told, "DeliveredAt": self.now.isoformat(), "Metadata": mail.about}).encode()
