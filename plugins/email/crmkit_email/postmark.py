"""Sends mail through Postmark, many in one call, and takes in what became of them.

Vendor documentation: https://postmarkapp.com/developer/api/email-api

Postmark answers for each mail of a call, with HTTP 200 whatever the answers are. It takes no key of ours to tell
repeats by, but keeps one as metadata, which its webhooks bring back and by which `look_up` finds a mail in its log.
Its webhooks are not signed, so their address ends in a secret.
"""

import math
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx

from crmkit import (
    Account,
    AdapterError,
    AuthError,
    DoubtError,
    Gateway,
    Message,
    Page,
    Reason,
    Receipt,
    RefusedError,
    RetryableError,
    SecretPath,
    hookimpl,
)
from crmkit_email.api import ApiGateway
from crmkit_email.part import Whole, in_parts
from crmkit_email.postmark_check import PostmarkCheck
from crmkit_email.postmark_code import NOT_NOW, OURS, REASONS, is_about_the_address
from crmkit_email.postmark_event import records_of
from crmkit_email.postmark_log import PostmarkLog
from crmkit_email.postmark_settings import PostmarkSettings
from crmkit_email.postmark_shape import LARGEST, MOST, PostmarkSaid, mail
from crmkit_email.quote import ours, shown

#: What Postmark says of a mail that it took and did not number yet.
_QUEUED = "Message accepted"


class PostmarkGateway(ApiGateway):
    """Sends mail through Postmark."""

    name = "postmark"
    vendor = "Postmark"
    reads = staticmethod(records_of)
    batch = MOST
    verifies = SecretPath("webhook_secret")
    #: a call that was lost may still be taken within its minute; the log is then a little behind
    look_up_after = timedelta(minutes=10)

    Settings = PostmarkSettings

    settings: PostmarkSettings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self._secret = settings.server_token.get_secret_value()
        self._log = PostmarkLog(self._ask, account, settings)
        #: {key: when a try began that did not come to an end, by this machine's own clock}
        self._tried: dict[str, float] = {}

    @property
    def _headers(self) -> dict[str, str]:
        return {"X-Postmark-Server-Token": self._secret, "Accept": "application/json"}

    async def _ask(self, operation: str, path: str, **options: Any) -> httpx.Response:
        url = f"{self.settings.base_url}{path}"
        return await self.call(operation, "GET", url, headers=self._headers, sends=False, **options)

    async def check(self) -> Iterable[str]:
        """What the server is, its message streams, and where its webhooks go."""
        return await PostmarkCheck(self._ask, self.account, self.settings).problems()

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """What a call is refused for with HTTP 401 or 422 and a code: the server's token, its account, its streams."""
        if response.status_code not in {401, 422}:
            return None
        code = _said(response).error_code
        if code in NOT_NOW:
            return self.error(RetryableError, operation, f"not now (code {code})")
        if code not in OURS:
            return None
        what, do = OURS[code]
        kind = AuthError if operation == "deliver" or code == 10 else RefusedError
        return self.error(kind, operation, f"{what} (code {code})", do)

    # out

    async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        """Hand mails to Postmark.

        Raises:
            RetryableError, DoubtError: as `call` says.
            AuthError: the token, the sender or the account is refused.
        """
        mails: dict[int, dict[str, Any]] = {}
        fit: list[Message] = []
        for message in messages:
            written = self.prepared(message, partial(mail, settings=self.settings, origin=self.origin))
            if isinstance(written, Receipt):
                yield written
            elif not {"TextBody", "HtmlBody"} & set(written):
                yield message.rejected(Reason.CONTENT, "a mail without a text")
            else:
                mails[message.id] = written
                fit.append(message)
        unheard: list[AdapterError] = []
        async for receipt in in_parts(_parts(fit), partial(self._hand_over, mails, unheard)):
            yield receipt
        if unheard:
            raise next((error for error in unheard if isinstance(error, DoubtError)), unheard[0])

    async def _hand_over(
        self, mails: dict[int, dict[str, Any]], unheard: list[AdapterError], part: Sequence[Message]
    ) -> list[Receipt] | Whole:
        began = time.monotonic()
        self._tried.update((message.key, began) for message in part)
        url = f"{self.settings.base_url}/email/batch"
        body = [mails[message.id] for message in part]
        answer: Any = await self.call(
            "deliver", "POST", url, headers=self._headers, json=body, answers={413, 422}, read=list[PostmarkSaid]
        )
        if isinstance(answer, httpx.Response):
            self._settled(part)
            if answer.status_code == 413:
                return Whole(lambda message: message.rejected(Reason.CONTENT, "larger than Postmark takes (HTTP 413)"))
            said = _said(answer)
            return Whole(lambda message: self._rejected(said, message))
        if len(answer) != len(part):
            what = f"an answer about {len(answer)} mails of {len(part)}"
            raise self.error(DoubtError, "deliver", what, "look at base_url, and at what stands between")
        receipts = []
        for message, said in zip(part, answer, strict=True):
            if said.error_code in OURS:
                what, do = OURS[said.error_code]
                unheard.append(self.error(AuthError, "deliver", f"{what} (code {said.error_code})", do))
            elif said.error_code == 0 and not said.message_id and not said.message.startswith(_QUEUED):
                unheard.append(self.error(DoubtError, "deliver", "an answer without the id of a mail that was taken"))
                continue
            else:
                receipts.append(self._receipt(said, message))
            self._settled([message])
        return receipts

    def _settled(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._tried.pop(message.key, None)

    def _receipt(self, said: PostmarkSaid, message: Message) -> Receipt:
        if said.error_code == 0:
            return message.accepted(vendor_id=said.message_id)
        if said.error_code in NOT_NOW:
            return message.deferred(f"{said.error_code} not now")
        return self._rejected(said, message)

    def _rejected(self, said: PostmarkSaid, message: Message) -> Receipt:
        reason = REASONS.get(said.error_code, Reason.OTHER)
        if said.error_code == 300 and is_about_the_address(said.message):
            reason = Reason.BAD_ADDRESS
        words = shown(said.message, [*ours(message), self._secret])
        return message.rejected(reason, f"{said.error_code or 'HTTP 422'} {words}".strip())

    # doubt

    async def look_up(self, message: Message) -> Receipt | None:
        """Look for a mail among all that were sent to its recipient.

        Raises:
            DoubtError: it is not certain that Postmark does not have it.
            AdapterError: Postmark could not be asked.
        """
        passed = time.monotonic() - self._tried.get(message.key, -math.inf)
        found = await self._log.find(message, self.origin, too_soon=passed < self.look_up_after.total_seconds())
        return None if found is None else message.accepted(vendor_id=found.message_id, detail=shown(found.status or ""))

    # in

    def suppressed(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Addresses that Postmark began to suppress between two moments."""
        return self._log.suppressed(start, end)


def _said(response: httpx.Response) -> PostmarkSaid:
    try:
        return PostmarkSaid.model_validate_json(response.content)
    except ValueError:
        return PostmarkSaid()


def _parts(messages: Sequence[Message]) -> list[list[Message]]:
    """Messages that may go in one call."""
    parts: list[list[Message]] = [[]]
    size = 0
    for message in messages:
        own = 2_000 + sum(len(text.encode("utf-8", "replace")) for text in (message.text, message.html or ""))
        if size + own > LARGEST:
            parts.append([])
            size = 0
        parts[-1].append(message)
        size += own
    return parts


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield PostmarkGateway
