"""Sends text messages through Twilio, and takes in what became of them and what is replied.

Vendor documentation: https://www.twilio.com/docs/messaging/api/message-resource

Twilio takes no key of ours and tells no repeats, so a message that was lost on its way is in doubt. Two things settle
it: the status callback carries our key in its address, which Twilio signs, so the first callback says whose it is; and
`look_up` lists what was sent to the number. One address takes both status callbacks and replies.
"""

import math
import re
import time
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import parse_qs, quote

import httpx

from crmkit import (
    Account,
    AdapterError,
    Address,
    AuthError,
    Call,
    ConsentRecord,
    Gateway,
    InboundRecord,
    Message,
    Money,
    PayloadError,
    Reason,
    Receipt,
    ReceiptRecord,
    Record,
    Reply,
    Verified,
    fingerprint,
    hookimpl,
    opt_out,
    secrets_in,
    secrets_of,
)
from crmkit_sms import twilio_signature
from crmkit_sms.echo import shown, signed_in
from crmkit_sms.twilio_code import NOT_NOW, OURS, reason_of
from crmkit_sms.twilio_likeness import NUMBER
from crmkit_sms.twilio_log import TwilioLog
from crmkit_sms.twilio_settings import TwilioSettings
from crmkit_sms.twilio_shape import TwilioBalance, TwilioError, TwilioListed, TwilioMessage

BODY_LIMIT = 1_600
#: Twilio gives up after as many seconds as it is told, at the most.
LONGEST_VALIDITY = 36_000
#: What a longer key would make of the status callback's address is not certain to be taken.
LONGEST_KEY = 500
#: Every 4xx but those that mean the same for all vendors: credentials, time, rate.
REFUSED = frozenset(range(400, 500)) - {401, 408, 425, 429}
#: {Twilio's status: where the message is}; what is not here says nothing.
STATES: dict[str, Literal["sent", "delivered", "failed"]] = {
    **dict.fromkeys(("accepted", "scheduled", "queued", "sending", "sent"), "sent"),
    **dict.fromkeys(("delivered", "read"), "delivered"),
    **dict.fromkeys(("failed", "undelivered", "canceled"), "failed"),
}
_BOUNCES = frozenset({Reason.BAD_ADDRESS, Reason.NOT_CAPABLE})


class TwilioGateway(Gateway):
    """Sends text messages through Twilio."""

    name = "twilio"
    channel = "sms"
    reaches = ("phone",)
    deduplicates = False
    accepts_with = Reply(200, b"<Response/>", "text/xml")
    #: a message lost on its way may still be taken within the call's minute; the list is then a little behind
    look_up_after = timedelta(minutes=10)

    Settings = TwilioSettings

    settings: TwilioSettings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        secret = settings.api_secret.get_secret_value() if settings.api_secret else None
        user = (settings.api_key or "", secret) if secret else (settings.account_sid, self._tokens[0])
        self._auth = httpx.BasicAuth(*user)
        self._hidden = {*secrets_in(settings), signed_in(*user)}
        #: {key: when a try began that did not come to an end, by this machine's own clock}
        self._tried: dict[str, float] = {}
        self._messages = f"{settings.base_url}/2010-04-01/Accounts/{settings.account_sid}/Messages.json"
        self._balance = f"{settings.base_url}/2010-04-01/Accounts/{settings.account_sid}/Balance.json"
        # a service replaces characters where it is not told otherwise, and may send by a channel of its own
        is_service = settings.messaging_service is not None
        self._log = TwilioLog(
            self.call,
            account.name,
            settings.base_url,
            self._messages,
            self._auth,
            rewrites=settings.smart_encoded or is_service,
            channels=("", "rcs:") if is_service else ("",),
        )

    @property
    def _tokens(self) -> list[str]:
        return secrets_of(self.settings, "auth_token")

    async def check(self) -> Iterable[str]:
        """Reads one message, which sends nothing."""
        who = f"{self.account.name} check"
        problems = []
        if self.account.webhook_url is None:
            problems.append(f"{who}: no receipts and replies come in without a web address; set [web] url")
        elif not self._takes_webhooks:
            problems.append(f"{who}: webhooks cannot be verified with an API key; set auth_token too")
        try:
            await self._log.page({"PageSize": 1}, operation="check")
        except AdapterError as error:
            problems.append(str(error))
        return problems

    async def balance(self) -> Money:
        """What is left on the account."""
        found = await self.call(
            "ask what is left", "GET", self._balance, auth=self._auth, sends=False, read=TwilioBalance
        )
        return Money(found.balance, found.currency)

    # out

    async def deliver(self, message: Message) -> Receipt:
        """Hand one message to Twilio.

        Raises:
            RetryableError, DoubtError: as `call` says.
            AuthError: credentials, account or sender refused.
        """
        if not NUMBER.fullmatch(message.address):
            return message.rejected(Reason.BAD_ADDRESS, "not an international phone number (+ and digits)")
        if not message.text.strip() or len(message.text) > BODY_LIMIT:
            what = f"the text has {len(message.text)} characters; Twilio takes 1 to {BODY_LIMIT}"
            return message.rejected(Reason.CONTENT, what)
        self._tried[message.key] = time.monotonic()
        answer: Any = await self.call(
            "deliver",
            "POST",
            self._messages,
            data=self._form(message),
            auth=self._auth,
            answers=REFUSED,
            read=TwilioMessage,
        )
        del self._tried[message.key]
        if isinstance(answer, httpx.Response):
            return self._refusal(message, answer)
        return self._became(message, answer)

    def _form(self, message: Message) -> dict[str, str]:
        form = {"To": message.address, "Body": message.text}
        if self.settings.messaging_service is not None:
            form["MessagingServiceSid"] = self.settings.messaging_service
        else:
            form["From"] = self.settings.sender or ""
        if self.settings.smart_encoded:
            form["SmartEncoded"] = "true"
        if message.expires_at is not None and message.leaves_at is not None:
            seconds = int((message.expires_at - message.leaves_at).total_seconds())
            if seconds < LONGEST_VALIDITY:
                form["ValidityPeriod"] = str(max(1, seconds))
        if self.account.webhook_url is not None and self._takes_webhooks:
            key = quote(message.key, safe="")
            form["StatusCallback"] = self.account.webhook_url + (f"?key={key}" if len(key) <= LONGEST_KEY else "")
        return form

    def _refusal(self, message: Message, answer: httpx.Response) -> Receipt:
        try:
            said = TwilioError.model_validate_json(answer.content)
        except ValueError:
            said = TwilioError()
        detail = self._coded(said.code, said.message or f"HTTP {answer.status_code}", message.address, message.text)
        if said.code in NOT_NOW:
            return message.deferred(detail)
        # 403 and 404 without a code we know are about the account, not about this message
        if said.code in OURS or (answer.status_code in {403, 404} and reason_of(said.code) is Reason.OTHER):
            raise AuthError(
                f"Twilio does not let this account send ({detail})",
                who=self.account.name,
                operation="deliver",
                do=f"mend it at Twilio, or check the settings of {self.account.name} in crmkit.toml",
            )
        return message.rejected(reason_of(said.code), detail)

    def _became(self, message: Message, found: TwilioListed) -> Receipt:
        """What a message's status says of the try that made it."""
        if STATES.get(found.status or "") == "failed":
            why = found.error_message or f"status {found.status}"
            detail = self._coded(found.error_code, why, message.address, message.text)
            return message.rejected(reason_of(found.error_code), detail)
        return message.accepted(vendor_id=found.sid, cost=found.cost, detail=found.status)

    def _coded(self, code: int | None, words: str, number: str, *texts: str) -> str:
        """A refusal as it may be shown and stored, with its code where it has one."""
        told = shown(words, number=number, texts=filter(None, texts), secrets=self._hidden)
        return told if code is None else f"{code} {told}"

    # doubt

    async def look_up(self, message: Message) -> Receipt | None:
        """Look for a message among all that were sent to its recipient.

        Raises:
            DoubtError: several could be it, or it is not certain that Twilio does not have it.
            AdapterError: Twilio could not be asked.
        """
        passed = time.monotonic() - self._tried.get(message.key, -math.inf)
        found = await self._log.find(message, too_soon=passed < self.look_up_after.total_seconds())
        return None if found is None else self._became(message, found)

    # in

    @property
    def _takes_webhooks(self) -> bool:
        return bool(self._tokens or self.settings.shared_keys)

    def verify(self, call: Call) -> Verified | Reply:
        """Whether Twilio signed the call."""
        shared = {name: key.get_secret_value() for name, key in self.settings.shared_keys.items()}
        if not twilio_signature.holds(call, self._tokens, shared):
            return Reply(401, b"unverified")
        form = dict(twilio_signature.fields_of(call.body)) if twilio_signature.is_form(call) else {}
        sid = form.get("MessageSid") or form.get("SmsSid")
        if not sid:
            return Verified(fingerprint(call.query, call.body), is_fingerprint=True)
        return Verified(fingerprint(sid, form.get("MessageStatus", "received")))

    def records(self, call: Call) -> Iterator[Record]:
        """A status callback's receipt; or a reply, with what it says about further messages.

        Statuses come in any order, and without a time that could be used: the carrier's (`RawDlrDoneDate`) is in a
        time zone of its own that nobody tells. So they happened when they came.
        """
        try:
            form = dict(twilio_signature.fields_of(call.body)) if twilio_signature.is_form(call) else {}
        except ValueError:
            form = {}
        sid = form.get("MessageSid") or form.get("SmsSid")
        if sid and "MessageStatus" in form:
            yield from self._kept(self._receipt(call, sid, form))
        elif sid and form.get("From") and "Body" in form:
            yield from self._kept(self._reply(call, sid, form))
        else:
            raise PayloadError(
                "a webhook that is neither a status callback nor a message",
                who=self.account.name,
                operation="read webhook",
                do="point only messaging webhooks of Twilio at this address",
            )

    def _kept(self, records: Iterable[Record]) -> list[Record]:
        try:
            return list(records)
        except ValueError:  # its text holds what was said
            what = "a field that cannot be kept: too long, or not text"
            raise PayloadError(what, who=self.account.name, operation="read webhook") from None

    def _receipt(self, call: Call, sid: str, form: dict[str, str]) -> Iterator[Record]:
        status = form["MessageStatus"].lower()
        state = STATES.get(status)
        if state is None:
            return
        written = form.get("ErrorCode", "")
        code = int(written) if written.isascii() and written.isdigit() and len(written) < 10 else None
        reason = reason_of(code) if state == "failed" else None
        yield ReceiptRecord(
            external_id=f"{sid}:{status}",
            state="bounced" if reason in _BOUNCES else state,
            key=parse_qs(call.query).get("key", [None])[0],
            vendor_id=sid,
            reason=reason,
            detail=self._coded(code, form.get("ErrorMessage") or status, form.get("To", ""))
            if state == "failed"
            else None,
            occurred_at=call.received_at,
        )

    def _reply(self, call: Call, sid: str, form: dict[str, str]) -> Iterator[Record]:
        sender = form["From"]
        text = form["Body"].replace("\x00", "")
        address = Address(kind="phone" if NUMBER.fullmatch(sender) else "sms_sender", value=sender)
        media = [form[name] for name in sorted(form) if re.fullmatch(r"MediaUrl[0-9]+", name)]
        extras: dict[str, Any] = {"to": form.get("To", "")} | ({"media": media} if media else {})
        yield InboundRecord(
            external_id=sid, channel="sms", sender=address, text=text, received_at=call.received_at, extras=extras
        )
        kind = form.get("OptOutType", "").upper()
        said = {"STOP": "withdrawn", "START": "granted", "HELP": None}.get(
            kind, opt_out(text, self.settings.opt_out_locales)
        )
        if said is not None:
            yield ConsentRecord.model_validate(
                {
                    "external_id": sid,
                    "address": address,
                    "channel": "sms",
                    "state": said,
                    "wording": text,
                    "said_at": call.received_at,
                }
            )


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield TwilioGateway
