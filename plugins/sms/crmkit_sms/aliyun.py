"""Sends approved text messages through Alibaba Cloud (阿里云短信), and takes in receipts and replies.

Vendor documentation: https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-overview

It takes no key of ours and says so: whoever loses an answer has to look before sending again. Its log repeats what a
call was given as `OutId`, so it can be asked. It signs none of its own calls: they come to an address with a secret.
"""

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from datetime import datetime, time, timedelta
from typing import Any

import httpx

from crmkit import (
    Account,
    AdapterError,
    DoubtError,
    Form,
    Gateway,
    Message,
    Receipt,
    Record,
    RefusedError,
    Reply,
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
    THROTTLED,
    reason_of,
)
from crmkit_sms.aliyun_log import AliyunLog
from crmkit_sms.aliyun_review import AliyunReview
from crmkit_sms.aliyun_settings import AliyunSettings
from crmkit_sms.aliyun_shape import AliyunAnswer
from crmkit_sms.aliyun_signature import Acs3, encoded
from crmkit_sms.approved import ACCOUNTS, ApprovedGateway
from crmkit_sms.echo import shown

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
#: How long a number waits that was written to too often, by the word the vendor has for it; a day is its last 24 hours.
_WAITS = {"分钟": timedelta(minutes=1), "小时": timedelta(hours=1), "天": timedelta(hours=6)}


class AliyunGateway(ApprovedGateway):
    """Sends approved text messages through Alibaba Cloud."""

    name = "aliyun"
    batch = 100
    # The vendor names no hours; the ministry's draft rules let nobody advertise between 21:00 and 08:00.
    sends_marketing = (time(8), time(21), "Asia/Shanghai")
    accepts_with = Reply(200, b'{"code":0,"msg":"ok"}', "application/json")
    throttled, doubtful = THROTTLED, DOUBTFUL
    calls = "list", "SmsReport and SmsUp of HTTP 批量推送"

    Settings = AliyunSettings

    settings: AliyunSettings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.signature = Acs3(settings.access_key_id, settings.access_key_secret.get_secret_value(), self.now)
        self._log = AliyunLog(self._ask, account.name)

    async def open(self) -> None:
        """Every try is signed anew."""
        self.http.auth = self.signature

    # what is known before

    def check_template(self, wording: Wording) -> Iterable[str]:
        """What its rules for texts have against a template."""
        return RULES.flaws(wording)

    def review(self) -> AsyncIterator[str]:
        """How every template and sign stands."""
        return AliyunReview(self._ask, self.account.name).flaws(self.wordings)

    # out

    async def hand(self, group: Sequence[Message]) -> list[bundle.Came] | None:
        """Hand messages of one template to different numbers over."""
        came, fine = mainland.ready(group, self.account.name, RULES.longest)
        if not fine:
            return came
        try:
            answer = await (self._send_one(*fine[0]) if len(fine) == 1 else self._send_all(fine))
        except AdapterError as error:
            return [*came, *((message, error) for message, _ in fine)]
        said: list[bundle.Came] = [(message, self._came(message, answer)) for message, _ in fine]
        first = said[0][1]
        is_refused = isinstance(first, Receipt) and first.outcome != "accepted" and first.reason not in ACCOUNTS
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
        now = message.leaves_at
        if now is not None and answer.code in {DAY_LIMIT, MONTH_LIMIT}:
            is_day = answer.code == DAY_LIMIT
            wait = mainland.until(time(0), now) if is_day else mainland.until_next_month(now)
            return self.limited(answer.code, "day" if is_day else "month", "通用设置", wait)
        detail = self.told(answer.code, answer.message, message)
        if answer.code == RECIPIENT_LIMIT:
            wait = next((wait for word, wait in _WAITS.items() if word in answer.message), timedelta(hours=1))
            return message.deferred(detail, wait)
        reason = reason_of(answer.code)
        if reason in ACCOUNTS:
            detail += "; `crmkit doctor` says how sign and template stand"
        return message.rejected(reason, detail)

    # calls

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """The error a code is that goes for the whole account, whichever status it came with."""
        answer = AliyunAnswer.of(response)
        if answer is None or answer.code == "OK":
            return None
        return self.of_account(operation, answer.code, retry_after(response))

    def mended_by(self, code: str) -> str | None:
        """What the operator does about a code of the whole account."""
        return OURS.get(code)

    async def _ask(self, operation: str, action: str, fields: dict[str, str], **options: Any) -> httpx.Response:
        """Make a call; one that only reads and is refused raises, unless its `answers` are asked for."""
        url = f"{self.settings.base_url}/?{encoded(fields)}"
        headers = {"x-acs-action": action, "x-acs-version": VERSION}
        response: httpx.Response = await self.call(
            operation, "POST", url, headers=headers, **{"sends": False, **options}
        )
        answer = AliyunAnswer.of(response)
        if "answers" not in options and answer is not None and answer.code != "OK":
            what = f"refused ({self.told(answer.code, answer.message)})"
            raise self.error(RefusedError, operation, what, status=response.status_code)
        return response

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

    def read_item(self, item: Any, received_at: datetime) -> Iterator[Record]:
        """One receipt or reply."""
        return aliyun_push.read(item, received_at, self.settings.opt_out_locales)


def _number(address: str) -> str:
    """A number as it is wanted: 11 digits on the mainland, elsewhere country and number."""
    return address.removeprefix("+86") if address.startswith("+86") else address.removeprefix("+")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=dict)


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield AliyunGateway
