"""What the gateways of mainland China have in common: they send approved texts, several in a call, and cannot be asked
to send nothing twice. What differs is the vendor's: how a call is written, what its codes mean, what it calls with.
"""

import json
import re
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx

from crmkit import (
    Account,
    AdapterError,
    AuthError,
    Call,
    DoubtError,
    Form,
    Gateway,
    Message,
    PayloadError,
    Reason,
    Receipt,
    Record,
    Refused,
    RetryableError,
    SecretPath,
    secrets_in,
)
from crmkit_sms import bundle, mainland
from crmkit_sms.echo import shown

#: Refusals for what all messages of one template and sign have in common.
ACCOUNTS = frozenset({Reason.SENDER, Reason.VENDOR_POLICY})


class ApprovedGateway(Gateway):
    """Sends approved text messages.

    Class attributes:
        throttled: codes for too many calls a second.
        doubtful: codes after which nobody says whether a message was taken.
        calls: what it calls with, and what in the console its address is entered for.

    Its settings have `webhook_secret`.
    """

    channel = "sms"
    reaches = ("phone",)
    deduplicates = False
    needs_form = True
    #: a message lost on its way may still be taken within the call's minute; the log is then a little behind
    look_up_after = timedelta(minutes=10)
    verifies = SecretPath("webhook_secret")

    throttled: ClassVar[re.Pattern[str]]
    doubtful: ClassVar[re.Pattern[str]]
    calls: ClassVar[tuple[str, str]]

    settings: Any

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self._hidden = set(secrets_in(settings))

    # the vendor's

    def mended_by(self, code: str) -> str | None:
        """What the operator does about a code of the whole account; None where it is none."""
        raise NotImplementedError

    def review(self) -> AsyncIterator[str]:
        """What keeps templates and signs from being sent, and what to do; asked without sending anything."""
        raise NotImplementedError

    async def hand(self, group: Sequence[Message]) -> Sequence[bundle.Came] | None:
        """Make one call for messages to different numbers; None where it was refused for what may be one's fault."""
        raise NotImplementedError

    def read_item(self, item: Any, received_at: datetime) -> Iterator[Record]:
        """One receipt or reply of a call; whatever is raised says that it is neither."""
        raise NotImplementedError

    # what is known before

    async def check(self) -> Iterable[str]:
        """Reads how everything stands that has to be approved or paid, which sends nothing."""
        found: dict[str, None] = {}
        if self.settings.webhook_secret is None:
            found["no receipts and replies come in; set webhook_secret, and enter the address in the console"] = None
        elif self.account.webhook_url is None:
            found["no receipts and replies come in without a web address; set [web] url"] = None
        try:
            async for one in self.review():
                found[one] = None
        except AdapterError as error:
            return [*(f"{self.account.name} check: {one}" for one in found), str(error)]
        return [f"{self.account.name} check: {one}" for one in found]

    # out

    def batch_key(self, message: Message) -> Hashable:
        """What is alike goes together; what goes to other countries alone, since its text is another."""
        if message.form is None or not mainland.MOBILE.fullmatch(message.address):
            return "alone", message.key
        return "together", *self.alike(message.form)

    def alike(self, form: Form) -> tuple[Hashable, ...]:
        """What messages of one call have in common."""
        return form.template_id, form.sign_name

    async def deliver(self, message: Message) -> Receipt:
        """Hand one message over.

        Raises:
            RetryableError, DoubtError: as `call` says.
            AuthError: credentials or account refused, or its money is used up.
        """
        (receipt,) = [one async for one in self.deliver_many([message])]
        return receipt

    async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        """Hand alike messages over; what is wrong with one of them keeps no other from leaving."""
        async for receipt in bundle.handed_over(messages, self.hand):
            yield receipt

    # what a vendor says

    def of_account(self, operation: str, code: str, wait: timedelta | None = None) -> AdapterError | None:
        """The error a code is that goes for the whole account; None if it does not."""
        mend = self.mended_by(code)
        if mend is not None:
            do = f"{mend}, then `crmkit resume gateway {self.account.name}`"
            return self.error(AuthError, operation, f"refused ({code})", do)
        if self.throttled.fullmatch(code):
            wait = wait or timedelta(seconds=1)
            return self.error(RetryableError, operation, f"too many calls ({code})", retry_after=wait)
        if self.doubtful.fullmatch(code):
            kind = DoubtError if operation == "deliver" else RetryableError
            return self.error(kind, operation, f"no verdict ({code})")
        return None

    def limited(self, code: str, span: str, where: str, wait: timedelta) -> RetryableError:
        """The account's own limit of a span, and where it is set."""
        what = f"the limit of this {span} is reached ({code})"
        return self.error(RetryableError, "deliver", what, f"it is set in the console, {where}", retry_after=wait)

    def told(self, code: str, words: str, message: Message | None = None) -> str:
        """A refusal as it may be shown and stored."""
        number, texts = "", []
        if message is not None:
            values = message.form.params.values() if message.form is not None else ()
            number, texts = message.address, [one for one in (message.text, *values) if one]
        return f"{code} {shown(words, number=number, texts=texts, secrets=self._hidden)}".rstrip()

    # in

    def records(self, call: Call) -> Iterator[Record | Refused]:
        """Receipts and replies, many in one call or one by itself; what is neither is refused by itself.

        Raises:
            PayloadError: it is none of this.
        """
        try:
            items = self.items(json.loads(call.body))
        except (ValueError, RecursionError):
            items = None
        if items is None:
            what, where = self.calls
            raise self.error(
                PayloadError, "read webhook", f"a call that is no {what}", f"enter this address for {where}"
            )
        for number, item in enumerate(items, start=1):
            try:
                yield from list(self.read_item(item, call.received_at))
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
                yield Refused("receipt", f"webhook:{number}", "neither a receipt nor a reply", json.dumps(item))

    def items(self, document: Any) -> list[Any] | None:
        """Receipts and replies of a call; None if it is none."""
        return document if isinstance(document, list) else None
