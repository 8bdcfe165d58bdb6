"""Sends approved text messages through Alibaba Cloud (阿里云短信), and takes in receipts and replies.

Vendor documentation: https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-overview

It takes no key of ours and says so: whoever loses an answer has to look before sending again. Its log repeats what a
call was given as `OutId`, so it can be asked. It signs none of its own calls: they come to an address with a secret.
"""

import json
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Sequence
from datetime import time, timedelta
from typing import Any

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
    RefusedError,
    Reply,
    RetryableError,
    SecretPath,
    Wording,
    hookimpl,
    retry_after,
)
from crmkit_sms import aliyun_push, bundle, mainland
from crmkit_sms.aliyun_code import (
    DAY_LIMIT,
    DOUBTFUL,
    MONTH_LIMIT,
    OURS,
    RECIPIENT_LIMIT,
    is_throttled,
    reason_of,
)
from crmkit_sms.aliyun_log import AliyunLog
from crmkit_sms.aliyun_review import AliyunReview
from crmkit_sms.aliyun_settings import AliyunSettings
from crmkit_sms.aliyun_shape import AliyunAnswer
from crmkit_sms.aliyun_signature import Acs3, encoded
from crmkit_sms.echo import secrets_in, shown

VERSION = "2017-05-25"
#: Every 4xx but those that mean the same for all vendors: credentials, time, rate.
REFUSED = frozenset(range(400, 500)) - {401, 403, 408, 425, 429}
#: What the log says of a message that did not arrive.
FAILED = 2
#: A longer key would not come back whole.
LONGEST_KEY = 255
RULES = mainland.Rules(
    template_id=(r"SMS_[0-9]+", "SMS_100000001"),
    sign=(r"[^\s【】]{2,16}", "2 to 16 characters without spaces"),
    names=True,
    longest=500,
)
#: Refusals for what all messages of one template and sign have in common.
_ACCOUNTS = frozenset({Reason.SENDER, Reason.VENDOR_POLICY})
#: How long a number waits that was written to too often, by the word the vendor has for it; a day is its last 24 hours.
_WAITS = {"分钟": timedelta(minutes=1), "小时": timedelta(hours=1), "天": timedelta(hours=6)}


class AliyunGateway(Gateway):
    """Sends approved text messages through Alibaba Cloud."""

    name = "aliyun"
    channel = "sms"
    reaches = ("phone",)
    deduplicates = False
    batch = 100
    needs_form = True
    # The vendor names no hours; the ministry's draft rules let nobody advertise between 21:00 and 08:00.
    sends_marketing = (time(8), time(21), "Asia/Shanghai")
    #: a message lost on its way may still be taken within the call's minute; the log is then a little behind
    look_up_after = timedelta(minutes=10)
    verifies = SecretPath("webhook_secret")
    accepts_with = Reply(200, b'{"code":0,"msg":"ok"}', "application/json")

    Settings = AliyunSettings

    settings: AliyunSettings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.signature = Acs3(settings.access_key_id, settings.access_key_secret.get_secret_value(), self.now)
        self._hidden = set(secrets_in(settings))
        self._log = AliyunLog(self._ask, account.name)

    async def open(self) -> None:
        """Every try is signed anew."""
        self.http.auth = self.signature

    # what is known before

    def check_template(self, wording: Wording) -> Iterable[str]:
        """What its rules for texts have against a template."""
        return RULES.flaws(wording)

    async def check(self) -> Iterable[str]:
        """Reads how every template and sign stands, which sends nothing."""
        found: dict[str, None] = {}
        if self.settings.webhook_secret is None:
            found["no receipts and replies come in; set webhook_secret, and enter the address in the console"] = None
        elif self.account.webhook_url is None:
            found["no receipts and replies come in without a web address; set [web] url"] = None
        try:
            async for one in AliyunReview(self._ask, self.account.name).flaws(self.wordings):
                found[one] = None
        except AdapterError as error:
            return [*(f"{self.account.name} check: {one}" for one in found), str(error)]
        return [f"{self.account.name} check: {one}" for one in found]

    # out

    def batch_key(self, message: Message) -> Hashable:
        """Messages of one template and sign go together; those to other countries alone, since theirs is another."""
        if message.form is None or not mainland.MOBILE.fullmatch(message.address):
            return "alone", message.key
        return "together", message.form.template_id, message.form.sign_name

    async def deliver(self, message: Message) -> Receipt:
        """Hand one message over.

        Raises:
            RetryableError, DoubtError: as `call` says.
            AuthError: credentials or account refused, or its money is used up.
        """
        (receipt,) = [one async for one in self.deliver_many([message])]
        return receipt

    async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        """Hand messages of one template over; what is wrong with one of them keeps no other from leaving."""
        async for receipt in bundle.handed_over(messages, self._hand):
            yield receipt

    async def _hand(self, group: Sequence[Message]) -> list[bundle.Came] | None:
        came, fine = mainland.ready(group, self.account.name, RULES.longest)
        if not fine:
            return came
        try:
            answer = await (self._send_one(*fine[0]) if len(fine) == 1 else self._send_all(fine))
        except AdapterError as error:
            return [*came, *((message, error) for message, _ in fine)]
        said: list[bundle.Came] = [(message, self._came(message, answer)) for message, _ in fine]
        first = said[0][1]
        is_refused = isinstance(first, Receipt) and first.outcome != "accepted" and first.reason not in _ACCOUNTS
        return None if is_refused and len(fine) > 1 else [*came, *said]

    async def _send_one(self, message: Message, form: Form) -> AliyunAnswer:
        fields = {
            "PhoneNumbers": _number(message.address),
            "SignName": form.sign_name,
            "TemplateCode": form.template_id,
            "TemplateParam": _json(form.params) if form.params else None,
            "OutId": message.key if len(message.key) <= LONGEST_KEY else None,
            "SmsUpExtendCode": self.settings.extend_code,
        }
        return await self._send("SendSms", fields)

    async def _send_all(self, fine: Sequence[tuple[Message, Form]]) -> AliyunAnswer:
        fields = {
            "TemplateCode": fine[0][1].template_id,
            "OutId": bundle.marks([message for message, _ in fine], LONGEST_KEY),
        }
        body = {
            "PhoneNumberJson": _json([_number(message.address) for message, _ in fine]),
            "SignNameJson": _json([form.sign_name for _, form in fine]),
            "TemplateParamJson": _json([dict(form.params) for _, form in fine]),
        }
        if self.settings.extend_code is not None:
            body["SmsUpExtendCodeJson"] = _json([self.settings.extend_code] * len(fine))
        return await self._send("SendBatchSms", fields, body)

    async def _send(
        self, action: str, fields: dict[str, str | None], body: dict[str, str] | None = None
    ) -> AliyunAnswer:
        given = {name: value for name, value in fields.items() if value is not None}
        more = {"data": body} if body else {}
        response = await self._ask("deliver", action, given, sends=True, answers=REFUSED, **more)
        answer = AliyunAnswer.of(response)
        if answer is not None and not (answer.code != "OK" and answer.biz_id):
            return answer
        if response.is_success:
            raise self.error(DoubtError, "deliver", f"an answer that cannot be read (HTTP {response.status_code})")
        return AliyunAnswer(Code=f"HTTP {response.status_code}")

    def _came(self, message: Message, answer: AliyunAnswer) -> Receipt | AdapterError:
        """What an answer means for a message."""
        if answer.code == "OK":
            return message.accepted(batch_id=answer.biz_id)
        stop = self._stop(message, answer)
        if stop is not None:
            return stop
        detail = self._told(answer, message)
        if answer.code == RECIPIENT_LIMIT:
            wait = next((wait for word, wait in _WAITS.items() if word in answer.message), timedelta(hours=1))
            return message.deferred(detail, wait)
        reason = reason_of(answer.code)
        if reason in _ACCOUNTS:
            detail += "; `crmkit doctor` says how sign and template stand"
        return message.rejected(reason, detail)

    def _stop(self, message: Message, answer: AliyunAnswer) -> RetryableError | None:
        """The account's own limit, if that is what it came to."""
        now = message.leaves_at
        if answer.code not in {DAY_LIMIT, MONTH_LIMIT} or now is None:
            return None
        is_day = answer.code == DAY_LIMIT
        what = f"the limit of this {'day' if is_day else 'month'} is reached ({answer.code})"
        wait = mainland.until(time(0), now) if is_day else mainland.until_next_month(now)
        return self.error(RetryableError, "deliver", what, "it is set in the console, 通用设置", retry_after=wait)

    # calls

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """The error a code is that goes for the whole account, whichever status it came with."""
        answer = AliyunAnswer.of(response)
        if answer is None or answer.code == "OK":
            return None
        if answer.code in OURS:
            do = f"{OURS[answer.code]}, then `crmkit resume gateway {self.account.name}`"
            return self.error(AuthError, operation, f"refused ({answer.code})", do)
        if is_throttled(answer.code):
            wait = retry_after(response) or timedelta(seconds=1)
            return self.error(RetryableError, operation, f"too many calls ({answer.code})", retry_after=wait)
        if DOUBTFUL.match(answer.code):
            kind = DoubtError if operation == "deliver" else RetryableError
            return self.error(kind, operation, f"no verdict ({answer.code})")
        return None

    async def _ask(self, operation: str, action: str, fields: dict[str, str], **options: Any) -> httpx.Response:
        """Make a call; one that only reads and is refused raises, unless its `answers` are asked for."""
        url = f"{self.settings.base_url}/?{encoded(fields)}"
        headers = {"x-acs-action": action, "x-acs-version": VERSION}
        response: httpx.Response = await self.call(
            operation, "POST", url, headers=headers, **{"sends": False, **options}
        )
        answer = AliyunAnswer.of(response)
        if "answers" not in options and answer is not None and answer.code != "OK":
            raise self.error(RefusedError, operation, f"refused ({self._told(answer)})", status=response.status_code)
        return response

    def _told(self, answer: AliyunAnswer, message: Message | None = None) -> str:
        """A refusal as it may be shown and stored."""
        number, texts = ("", []) if message is None else (message.address, [message.text, *_values(message)])
        words = shown(answer.message, number=number, texts=filter(None, texts), secrets=self._hidden)
        return f"{answer.code} {words}".rstrip()

    # doubt

    async def look_up(self, message: Message) -> Receipt | None:
        """Look for a message in the log of its recipient.

        Raises:
            DoubtError: several could be it, or it is not certain that it was not taken.
            AdapterError: the log cannot be read.
        """
        form = mainland.form_of(message, self.account.name)
        found = await self._log.find(message, form, _number(message.address))
        if found is None:
            return None
        if found.send_status == FAILED:
            return message.rejected(reason_of(found.err_code or ""), shown(found.err_code or "no code"))
        return message.accepted()

    # in

    def records(self, call: Call) -> Iterator[Record | Refused]:
        """Receipts and replies, many in one call; what is neither is refused by itself.

        Raises:
            PayloadError: it is no list.
        """
        try:
            items = json.loads(call.body)
        except (ValueError, RecursionError):
            items = None
        if not isinstance(items, list):
            what, do = "a call that is no list", "enter this address for SmsReport and SmsUp of HTTP 批量推送"
            raise self.error(PayloadError, "read webhook", what, do)
        for number, item in enumerate(items, start=1):
            try:
                yield from list(aliyun_push.read(item, call.received_at, self.settings.opt_out_locales))
            except (ValueError, TypeError, KeyError):
                yield Refused("receipt", f"webhook:{number}", "neither a receipt nor a reply", json.dumps(item))


def _number(address: str) -> str:
    """A number as it is wanted: 11 digits on the mainland, elsewhere country and number."""
    return address.removeprefix("+86") if address.startswith("+86") else address.removeprefix("+")


def _values(message: Message) -> list[str]:
    return list(message.form.params.values()) if message.form is not None else []


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield AliyunGateway
