"""Sends mail through Twilio SendGrid, many in one call, and takes in what became of them.

Vendor documentation: https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send

SendGrid takes no key of ours to tell repeats by and says nothing of single mails when it takes a call, so a call that
was lost on its way leaves all its mails in doubt. Each carries our key, and the first event about it says that SendGrid
has it. Asking is no way: the list of what was sent is an add-on, late, and never proof that something is not there.
"""

import re
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, Field

from crmkit import (
    Account,
    AdapterError,
    AuthError,
    Call,
    DoubtError,
    Gateway,
    Message,
    Page,
    Reason,
    Receipt,
    Reply,
    RetryableError,
    Verified,
    answered_at,
    fingerprint,
    hookimpl,
)
from crmkit_email import sendgrid_signature
from crmkit_email.api import ApiGateway
from crmkit_email.heading import own_reply_to
from crmkit_email.part import Whole, in_parts
from crmkit_email.quote import ours, shown
from crmkit_email.sendgrid_check import SendgridCheck
from crmkit_email.sendgrid_event import records_of
from crmkit_email.sendgrid_list import SendgridLists
from crmkit_email.sendgrid_request import MOST, RESERVED, Entry, company, entry_of, request, requests
from crmkit_email.sendgrid_settings import SendgridSettings

#: Fields of a request that are the same for every message: what is wrong with them, the operator mends; but where
#: answers go, a message may say.
_SETTINGS = re.compile(r"^(?:from|reply_to|asm|ip_pool_name|mail_settings|tracking_settings)\b")
_WHOSE = re.compile(r"^personalizations[.\[](\d+)")
_ADDRESS = re.compile(r"^personalizations[.\[]\d+\]?\.to\b")
_CONTENT = ("content", "subject", "personalizations")


class SendgridError(BaseModel):
    """One of the things SendGrid says are wrong."""

    message: str | None = None
    field: str | None = None


class SendgridErrors(BaseModel):
    """What SendGrid answers to what it refuses."""

    errors: Annotated[list[SendgridError], Field(max_length=10_000)] = []


class SendgridGateway(ApiGateway):
    """Sends mail through SendGrid."""

    name = "sendgrid"
    vendor = "SendGrid"
    reserved = RESERVED
    reads = staticmethod(records_of)
    batch = MOST

    Settings = SendgridSettings

    settings: SendgridSettings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self._secret = settings.api_key.get_secret_value()
        self._lists = SendgridLists(self._ask, account.name, settings)

    async def _ask(self, operation: str, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self._secret}"}
        return await self.call(operation, method, f"{self.settings.base_url}{path}", headers=headers, **options)

    async def check(self) -> Iterable[str]:
        """What the key may do, who the sender is, what is left of the credits, where events go."""
        return await SendgridCheck(self._ask, self.account, self.settings).problems()

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """What the status does not say: how long to wait, and whose credentials, sender or credits are at fault."""
        if response.status_code == 429:
            wait = _until(response)
            return self.error(RetryableError, operation, "too many requests (HTTP 429)", retry_after=wait)
        if operation != "deliver" or response.status_code not in {401, 403}:
            return None
        said = " ".join(one.message or "" for one in _errors(response).errors).lower()
        if "credits exceeded" in said:
            what, do = "no credits are left (HTTP 401)", "buy more at SendGrid, or wait until they are given anew"
        elif "sender identity" in said or "from address" in said:
            what = f"the sender's domain is not authenticated (HTTP {response.status_code})"
            do = "authenticate it at SendGrid (Settings > Sender Authentication), or correct sender"
        elif response.status_code == 403:
            what, do = "the API key may not send (HTTP 403)", 'give it "Mail Send: Full Access" at SendGrid'
        else:
            return None
        return self.error(AuthError, operation, what, do)

    # out

    def batch_key(self, message: Message) -> Hashable:
        """What the mails of one request have in common; a long one goes alone."""
        return company(message, self.settings)

    async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        """Hand mails to SendGrid, in as few calls as may be.

        Raises:
            RetryableError, DoubtError: as `call` says.
            AuthError: credentials, sender or account refused.
        """
        entries: dict[int, Entry] = {}
        for message in messages:
            entry = self.prepared(message, partial(entry_of, settings=self.settings))
            if isinstance(entry, Receipt):
                yield entry
            elif not (message.subject or "").strip() or not (message.text.strip() or (message.html or "").strip()):
                yield message.rejected(Reason.CONTENT, "a mail without a subject, or without a text")
            else:
                entries[message.id] = entry
        parts = [[entry.message for entry in group] for group in requests(list(entries.values()))]
        async for receipt in in_parts(parts, partial(self._hand_over, entries)):
            yield receipt

    async def _hand_over(self, entries: dict[int, Entry], part: Sequence[Message]) -> list[Receipt] | Whole:
        body = request([entries[message.id] for message in part], self.settings, self.origin)
        response = await self._ask("deliver", "POST", "/v3/mail/send", json=body, answers={400, 413})
        if response.status_code == 413:
            return Whole(lambda message: message.rejected(Reason.CONTENT, "larger than SendGrid takes (HTTP 413)"))
        if response.status_code == 400:
            return self._refusal(part, response)
        number = response.headers.get("x-message-id")
        if response.status_code != 202 and not self.settings.sandbox:
            what = f"an answer that is not SendGrid's (HTTP {response.status_code})"
            raise self.error(DoubtError, "deliver", what, "look at base_url, and at what stands between")
        return [message.accepted(batch_id=number) for message in part]

    def _refusal(self, part: Sequence[Message], response: httpx.Response) -> Whole:
        """Whose fault it is that a call was refused.

        Raises:
            AuthError: the operator's.
        """
        errors = _errors(response).errors
        shared = [one for one in errors if _SETTINGS.match(one.field or "")]
        theirs = [] if own_reply_to(part[0]) is None else [one for one in shared if _is_reply_to(one)]
        setting = next((one for one in shared if one not in theirs), None)
        if setting is not None:
            what = f"SendGrid refuses a setting ({self._told(setting, [])})"
            raise self.error(AuthError, "deliver", what, f"check {self.account.name} in crmkit.toml, and at SendGrid")
        if theirs:  # the messages of a company all brought it
            return Whole(partial(self._rejected, theirs[0]), {one.id: self._rejected(theirs[0], one) for one in part})
        culprits: dict[int, Receipt] = {}
        for one in errors:
            whose = _WHOSE.match(one.field or "")
            if whose is not None and int(whose[1]) < len(part):
                message = part[int(whose[1])]
                culprits.setdefault(message.id, self._rejected(one, message))
        first = errors[0] if errors else SendgridError()
        return Whole(lambda message: self._rejected(first, message), culprits)

    def _rejected(self, error: SendgridError, message: Message) -> Receipt:
        is_address = _ADDRESS.match(error.field or "") is not None
        is_content = not is_address and (_is_reply_to(error) or (error.field or "").startswith(_CONTENT))
        reason = Reason.BAD_ADDRESS if is_address else Reason.CONTENT if is_content else Reason.OTHER
        return message.rejected(reason, f"HTTP 400 {self._told(error, ours(message))}".strip())

    def _told(self, error: SendgridError, hidden: Sequence[str]) -> str:
        hidden = [*hidden, self._secret]
        return ": ".join(filter(None, [shown(error.field or "", hidden), shown(error.message or "", hidden)]))

    # in

    def verify(self, call: Call) -> Verified | Reply:
        """Whether SendGrid signed the call; what it sends again is known by its events' ids."""
        keys = self.settings.webhook_public_key
        several = keys if isinstance(keys, list) else [keys] if keys is not None else []
        if not sendgrid_signature.holds(call, several):
            return Reply(401, b"unverified")
        return Verified(fingerprint(call.body))

    def suppressed(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Addresses that SendGrid began to keep mail from between two moments."""
        return self._lists.read(start, end)


def _errors(response: httpx.Response) -> SendgridErrors:
    try:
        return SendgridErrors.model_validate_json(response.content)
    except ValueError:
        return SendgridErrors()


def _is_reply_to(error: SendgridError) -> bool:
    return (error.field or "").startswith("reply_to")


def _until(response: httpx.Response) -> timedelta | None:
    """How long SendGrid asks to wait: until a moment by its own clock, in seconds since 1970."""
    written = response.headers.get("x-ratelimit-reset", "").strip()
    now = answered_at(response)
    if not written.isascii() or not written.isdigit() or len(written) > 11 or now is None:
        return None
    wait = datetime.fromtimestamp(int(written), UTC) - now
    return min(max(wait, timedelta(seconds=1)), timedelta(hours=1))


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield SendgridGateway
