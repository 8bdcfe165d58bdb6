"""Sends text messages by one HTTP call that the configuration describes, for vendors nobody has written yet.

What an answer means is what the configuration says of it, and nothing else: one that is neither a success nor a known
refusal leaves the message in doubt. Only what means the same for every vendor is taken as that: 401 and 403 are about
credentials, 429 and 503 with Retry-After mean "not now".
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, cast
from urllib.parse import quote

import httpx

from crmkit import (
    Account,
    Address,
    AuthError,
    Call,
    ConsentRecord,
    DoubtError,
    Gateway,
    InboundRecord,
    Message,
    PayloadError,
    Reason,
    Receipt,
    ReceiptRecord,
    Record,
    Refused,
    Reply,
    RetryableError,
    UnsupportedError,
    Verified,
    fingerprint,
    hookimpl,
    opt_out,
    retry_after,
    secrets_in,
    secrets_of,
)
from crmkit_sms.answer import find, parsed, said
from crmkit_sms.echo import leaves, shown, signed_in
from crmkit_sms.filling import Filling, Tree, escape_for, in_address
from crmkit_sms.http_settings import CREDENTIALS, HttpSettings

#: Never read by us: too late, too early, too often.
_EVERYWHERE = frozenset({408, 425, 429})
_STATES = frozenset({"sent", "delivered", "bounced", "failed"})
_BOUNCES = frozenset({"bad-address", "not-capable"})
#: Headers that hold no secret.
_OPEN_HEADERS = frozenset({"accept", "content-type", "user-agent"})


class HttpGateway(Gateway):
    """Sends text messages by a call described in the configuration."""

    name = "http"
    channel = "sms"
    reaches = ("phone",)
    Settings = HttpSettings

    settings: HttpSettings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.deduplicates = settings.deduplicates
        hook = settings.webhook
        if hook is not None:
            self.accepts_with = Reply(200, hook.reply.encode(), hook.reply_type)
        self._url = Filling.of(settings.url, settings.secrets)
        self._query, self._headers = (Tree.of(one, settings.secrets) for one in (settings.query, settings.headers))
        self._body = Tree.of(settings.body, settings.secrets) if isinstance(settings.body, dict) else None
        self._text = Filling.of(settings.body, settings.secrets) if isinstance(settings.body, str) else None
        self._secrets = {f"secrets.{name}": one.get_secret_value() for name, one in settings.secrets.items()}
        self._hidden = set(secrets_in(settings))
        if settings.username is not None and settings.password is not None:
            self._hidden.add(signed_in(settings.username, settings.password.get_secret_value()))

    async def check(self) -> Iterable[str]:
        """Calls nobody: what could be asked without sending is not known."""
        who = f"{self.account.name} check"
        problems = []
        if self.settings.webhook is not None and self.account.webhook_url is None:
            problems.append(f"{who}: no receipts and replies come in without a web address; set [web] url")
        if self.settings.url.startswith("http:"):
            problems.append(f"{who}: credentials and messages travel in the clear; use https if the vendor has it")
        return problems

    # out

    async def deliver(self, message: Message) -> Receipt:
        """Hand one message to the vendor.

        Raises:
            UnsupportedError: it cannot be written as the configuration wants it.
            RetryableError: nothing left, or the vendor said "not now" and for how long.
            AuthError: credentials refused.
            DoubtError: it left, and nobody said what the answer means.
        """
        url, request = self._request(message)
        response = await self.call("deliver", self.settings.method, url, answers=self._read, **request)
        text, status = response.text, response.status_code
        document = _document(response)
        if self.settings.success.holds(status, text, document):
            vendor_id = self._id(text, document)
            if vendor_id or self._is_enough:
                return message.accepted(vendor_id, detail=None if vendor_id or not self._has_id else "without an id")
        found = self.settings.refusals.of(status, text, document)
        told = (said(document, place) for place in (self.settings.refusals.path, self.settings.refusals.detail))
        words = " ".join(dict.fromkeys(filter(None, told)))
        sent = request["headers"].items()
        lines = {line for name, line in sent if len(line) >= 8 and name.lower() not in _OPEN_HEADERS}
        detail = f"HTTP {status} {self._shown(words, message, lines)}".strip()
        if found == "retry":
            wait = retry_after(response)
            if wait is None:
                return message.deferred(detail)
            raise RetryableError(f"not now ({detail})", who=self.account.name, operation="deliver", retry_after=wait)
        if found == "auth" or (found is None and status in CREDENTIALS):
            do = f"check the credentials of {self.account.name} in crmkit.toml, and the account at the vendor"
            raise AuthError(
                f"the vendor does not let this account send ({detail})",
                who=self.account.name,
                operation="deliver",
                do=do,
            )
        if found is None:
            raise DoubtError(
                f"an answer that is neither success nor a known refusal ({detail})",
                who=self.account.name,
                operation="deliver",
                do=f"see at the vendor whether it was sent, and say in refusals of {self.account.name} what it means",
            )
        return message.rejected(Reason(found), detail)

    def _shown(self, words: str, message: Message, lines: set[str]) -> str:
        """What the vendor says of a message, without what it repeats of it; `lines` are the headers it was sent."""
        ours = {message.text, *leaves(message.params)} - {""}
        return shown(words, number=message.address, texts=ours, secrets=self._hidden | lines)

    @property
    def _read(self) -> frozenset[int]:
        """The statuses whose answers are read here."""
        refusals = self.settings.refusals
        named = {int(status) for status in refusals.status if status.isdigit()} | set(self.settings.success.status)
        read = named | (set(range(400, 500)) - _EVERYWHERE)
        if refusals.values or refusals.contains or "5xx" in refusals.status:
            read |= set(range(500, 600)) - {503}
        return frozenset(read)

    @property
    def _has_id(self) -> bool:
        return self.settings.id is not None or self.settings.id_pattern is not None

    @property
    def _is_enough(self) -> bool:
        """Whether an answer without an id is a success: where its body says so, or nothing is asked of it."""
        success = self.settings.success
        return not self._has_id or success.path is not None or success.contains is not None

    def _id(self, text: str, document: Any) -> str | None:
        if self.settings.id_pattern is not None:
            found = re.search(self.settings.id_pattern, text)
            return found[1] if found and found[1] else None
        return said(document, self.settings.id) or None

    def _request(self, message: Message) -> tuple[str, dict[str, Any]]:
        """The address and what httpx is given with it."""
        values = self._values(message)
        settings = self.settings
        request: dict[str, Any] = {"headers": self._header_lines(values)}
        if settings.query:
            request["params"] = self._query.fields(values)
        if settings.username is not None and settings.password is not None:
            request["auth"] = httpx.BasicAuth(settings.username, settings.password.get_secret_value())
        if self._text is not None:
            try:
                request["content"] = self._text.fill(values, escape_for(settings.content_type)).encode()
            except ValueError as error:
                raise self._unsupported(f"the text {error}") from None
            request["headers"].setdefault("Content-Type", settings.content_type)
        elif self._body is not None and settings.format == "form":
            request["data"] = self._body.fields(values)
        elif self._body is not None:
            request["json"] = self._body.json(values)
        return self._url.fill(values, in_address), request

    def _header_lines(self, values: dict[str, Any]) -> dict[str, str]:
        lines = cast("dict[str, str]", self._headers.fields(values))
        if self.settings.bearer is not None:
            lines["Authorization"] = f"Bearer {self.settings.bearer.get_secret_value()}"
        for name, line in lines.items():
            if not line.isascii() or not line.isprintable() or line != line.strip():
                raise self._unsupported(f"the header {name} would hold what no header can")
        return lines

    def _unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(what, who=self.account.name, operation="deliver")

    def _values(self, message: Message) -> dict[str, Any]:
        left = None
        if message.expires_at is not None and message.leaves_at is not None:
            left = max(1, int((message.expires_at - message.leaves_at).total_seconds()))
        return {
            "to": message.address,
            "to_digits": message.address.removeprefix("+"),
            "to_national": self._national(message.address),
            "text": message.text,
            "key": message.key,
            "key_hash": fingerprint(message.key),
            "sender": self.settings.sender,
            "purpose": message.purpose,
            "template": message.template,
            "locale": message.locale,
            "shop": message.shop,
            "expires_in": left,
            "webhook": self._webhook_url(),
            **{f"params.{name}": value for name, value in message.params.items()},
            **self._secrets,
        }

    def _national(self, address: str) -> str:
        prefix = f"+{self.settings.country_code}"
        if "to_national" in self.settings.names and not address.startswith(prefix):
            raise self._unsupported(f"a number that does not begin with {prefix}")
        return address.removeprefix(prefix)

    def _webhook_url(self) -> str | None:
        hook = self.settings.webhook
        if hook is None or self.account.webhook_url is None:
            return None
        secrets = secrets_of(hook, "secret")
        return f"{self.account.webhook_url}/{quote(secrets[0], safe='')}" if secrets else self.account.webhook_url

    # in

    def verify(self, call: Call) -> Verified | Reply:
        """Whether the call has the vendor's signature, or came to the secret address."""
        if self.settings.webhook is None:
            return Reply(401, b"unverified")
        signature, settings = self.settings.webhook.door
        if not signature.holds(call, settings):
            return Reply(401, b"unverified")
        return Verified(fingerprint(call.query, call.body), is_fingerprint=True)

    def records(self, call: Call) -> Iterator[Record | Refused]:
        """Receipts and replies; what is neither, or of an unknown status, is refused by itself."""
        hook = self.settings.webhook
        if hook is None:
            raise self._unread("no webhook is configured")
        try:
            document = parsed(call.body, hook.format, call.query)
        except ValueError:
            raise self._unread(f"a body that is no {hook.format}") from None
        items = find(document, hook.items) if hook.items is not None else [document]
        if not isinstance(items, list):
            raise self._unread(f"there is no list at {hook.items}")
        for number, item in enumerate(items, start=1):
            place, raw = f"webhook:{number}", json.dumps(item)
            try:
                yield from list(self._item(call, item, place, raw))
            except ValueError:  # an id too long, half a character: this one only
                yield Refused("receipt", place, "it holds what no record can", raw)

    def _unread(self, what: str) -> PayloadError:
        do = f"compare the table webhook of {self.account.name} with what the vendor sends"
        return PayloadError(what, who=self.account.name, operation="read webhook", do=do)

    def _item(self, call: Call, item: Any, place: str, raw: str) -> Iterator[Record | Refused]:
        receipts, replies = self.settings.receipts, self.settings.replies
        if receipts is not None and (status := said(item, receipts.status)) is not None:
            outcome = receipts.statuses.get(status)
            vendor_id, key = said(item, receipts.id) or None, said(item, receipts.key) or None
            if outcome == "ignore":
                return
            if outcome is None or (vendor_id is None and key is None):
                why = "it has neither id nor key"
                if outcome is None:
                    why = f'status "{self._told(status)}" is not in receipts.statuses'
                yield Refused("receipt", place, why[:300], json.dumps(item, ensure_ascii=False))
                return
            detail = self._told(said(item, receipts.detail) or status)
            yield _receipt(call, outcome, status, vendor_id, key, detail)
        elif replies is not None and (sender := said(item, replies.sender)):
            yield from self._reply(call, sender, said(item, replies.text) or "", said(item, replies.id))
        else:
            yield Refused("receipt", place, "neither a receipt nor a reply", raw)

    def _told(self, words: str) -> str:
        """What a webhook says, as it may be stored; whose number could be in it is not known here."""
        return shown(words, secrets=self._hidden)

    def _reply(self, call: Call, sender: str, text: str, number: str | None) -> Iterator[Record]:
        known = number or fingerprint(call.query, call.body, sender, text)
        text = text.replace("\x00", "")
        prefix = self.settings.replies.prefix if self.settings.replies is not None else ""
        address = Address(kind="phone", value=sender if sender.startswith("+") else prefix + sender)
        yield InboundRecord(external_id=known, channel="sms", sender=address, text=text, received_at=call.received_at)
        about = opt_out(text, self.settings.opt_out_locales)
        if about is not None:
            yield ConsentRecord(
                external_id=known, address=address, channel="sms", state=about, wording=text, said_at=call.received_at
            )


def _receipt(
    call: Call, outcome: str, status: str, vendor_id: str | None, key: str | None, detail: str
) -> ReceiptRecord:
    known = f"{vendor_id or key}:{status}"
    fallen = cast(
        "Literal['bounced', 'failed', 'sent', 'delivered']",
        outcome if outcome in _STATES else "bounced" if outcome in _BOUNCES else "failed",
    )
    return ReceiptRecord(
        external_id=known if len(known) <= 255 else fingerprint(known),
        state=fallen,
        key=key,
        vendor_id=vendor_id,
        reason=None if outcome in _STATES else outcome,
        detail=detail if fallen in {"bounced", "failed"} else None,
        occurred_at=call.received_at,
    )


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield HttpGateway


def _document(response: httpx.Response) -> Any:
    """The answer as a document; None where it is text."""
    try:
        return parsed(response.content)
    except ValueError:
        return None
