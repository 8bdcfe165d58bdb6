"""Sends approved text messages through Tencent Cloud (腾讯云短信), and takes in receipts and replies.

Vendor documentation: https://cloud.tencent.com/document/api/382/55981

One call has one text for all its numbers, so messages whose values are the same go together, and the others alone. It
answers HTTP 200 whatever it says, for the call or for each number. It takes no key of ours; what a call is given
(`SessionContext`) it repeats in its log only where its support has switched that on.
"""

import json
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import time, timedelta
from typing import Any, TypeVar

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
from crmkit_sms import bundle, mainland, tencent_push
from crmkit_sms.echo import secrets_in, shown
from crmkit_sms.tencent_code import (
    DAY_LIMITS,
    DOUBTFUL,
    HINTS,
    REASONS,
    RECIPIENT_LIMITS,
    THROTTLED,
    TOO_LATE,
    mended_by,
)
from crmkit_sms.tencent_review import TencentReview
from crmkit_sms.tencent_settings import TencentSettings
from crmkit_sms.tencent_shape import Answer, TencentError, TencentReports, TencentSent, TencentStatus
from crmkit_sms.tencent_signature import CONTENT_TYPE, Tc3

VERSION = "2021-01-11"
#: A longer key would not come back whole.
LONGEST_KEY = 511
#: So many of a number's messages are told of at once; its log goes back a week.
LOGGED, KEPT = 100, timedelta(days=7)
OPENS, CLOSES = time(8), time(22)
RULES = mainland.Rules(
    template_id=(r"[0-9]+", "1000001"),
    sign=(r"[A-Za-z0-9一-鿿]{2,12}", "2 to 12 Chinese characters, letters and digits"),
    names=False,
    longest=500,
    extras=(*mainland.EXTRAS, "sign_id"),
)
#: Refusals for what all messages of one template and sign have in common.
_ACCOUNTS = frozenset({Reason.SENDER, Reason.VENDOR_POLICY})
T = TypeVar("T")


class TencentGateway(Gateway):
    """Sends approved text messages through Tencent Cloud."""

    name = "tencent"
    channel = "sms"
    reaches = ("phone",)
    deduplicates = False
    batch = 200
    needs_form = True
    sends_marketing = (OPENS, CLOSES, "Asia/Shanghai")
    look_up_after = timedelta(minutes=10)
    verifies = SecretPath("webhook_secret")
    accepts_with = Reply(200, b'{"result":0,"errmsg":"OK"}', "application/json")

    Settings = TencentSettings

    settings: TencentSettings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.signature = Tc3(settings.secret_id, settings.secret_key.get_secret_value(), self.now)
        self._hidden = set(secrets_in(settings))

    async def open(self) -> None:
        """Every try is signed anew."""
        self.http.auth = self.signature

    # what is known before

    def check_template(self, wording: Wording) -> Iterable[str]:
        """What its rules for texts have against a template."""
        return RULES.flaws(wording)

    async def check(self) -> Iterable[str]:
        """Reads how templates, signs and packages stand, which sends nothing."""
        found: dict[str, None] = {}
        if self.settings.webhook_secret is None:
            found["no receipts and replies come in; set webhook_secret, and enter the address in the console"] = None
        elif self.account.webhook_url is None:
            found["no receipts and replies come in without a web address; set [web] url"] = None
        try:
            async for one in TencentReview(self._ask, self.settings.app_id, self.now).flaws(self.wordings):
                found[one] = None
        except AdapterError as error:
            return [*(f"{self.account.name} check: {one}" for one in found), str(error)]
        return [f"{self.account.name} check: {one}" for one in found]

    # out

    def batch_key(self, message: Message) -> Hashable:
        """What reads the same goes together; what goes to other countries alone."""
        form = message.form
        if form is None or not mainland.MOBILE.fullmatch(message.address):
            return "alone", message.key
        return "together", form.template_id, form.sign_name, tuple(form.params.values())

    async def deliver(self, message: Message) -> Receipt:
        """Hand one message over.

        Raises:
            RetryableError, DoubtError: as `call` says.
            AuthError: credentials or account refused, or its messages are used up.
        """
        (receipt,) = [one async for one in self.deliver_many([message])]
        return receipt

    async def deliver_many(self, messages: Sequence[Message]) -> AsyncIterator[Receipt]:
        """Hand messages that read the same over; what is wrong with one of them keeps no other from leaving."""
        async for receipt in bundle.handed_over(messages, self._hand):
            yield receipt

    async def _hand(self, group: Sequence[Message]) -> list[bundle.Came] | None:
        came, fine = mainland.ready(group, self.account.name, RULES.longest)
        if not fine:
            return came
        several = [message for message, _ in fine]
        try:
            response = await self._send(several, fine[0][1])
            refused = TencentError.of(response)
            said = self._all(several, refused) if refused is not None else self._each(several, response)
        except AdapterError as error:
            return [*came, *((message, error) for message in several)]
        return None if said is None else [*came, *said]

    async def _send(self, several: Sequence[Message], form: Form) -> httpx.Response:
        key = several[0].key
        fields = {
            "PhoneNumberSet": [message.address for message in several],
            "SmsSdkAppId": self.settings.app_id,
            "TemplateId": form.template_id,
            "SignName": form.sign_name,
            "TemplateParamSet": list(form.params.values()) or None,
            "SessionContext": bundle.marks(several, LONGEST_KEY) if len(several) > 1 else key if _fits(key) else None,
            "ExtendCode": self.settings.extend_code,
            "SenderId": None if mainland.MOBILE.fullmatch(several[0].address) else self.settings.sender_id,
        }
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._call("deliver", "SendSms", given, sends=True)

    def _all(self, several: Sequence[Message], error: TencentError) -> list[bundle.Came] | None:
        """What an error of the whole call means; None where it may be the fault of one message."""
        status = TencentStatus(Code=error.code, Message=error.message)
        said: list[bundle.Came] = [(message, self._came(message, status)) for message in several]
        first = said[0][1]
        is_shared = isinstance(first, AdapterError) or first.reason in _ACCOUNTS
        return said if is_shared or len(several) == 1 else None

    def _each(self, several: Sequence[Message], response: httpx.Response) -> list[bundle.Came]:
        """What came of each number; only one that is not spoken of is in doubt."""
        try:
            statuses = list(Answer[TencentSent].model_validate_json(response.content).response.statuses())
        except ValueError:
            what = f"an answer that cannot be read (HTTP {response.status_code})"
            raise self.error(DoubtError, "deliver", what) from None
        by_number = {mainland.address(status.number).value: status for status in statuses if status.number}
        if len(several) == len(statuses) == 1:
            by_number[several[0].address] = statuses[0]
        found: list[bundle.Came] = []
        for message in several:
            status = by_number.get(message.address)
            unspoken = self.error(DoubtError, "deliver", "an answer that does not speak of this number")
            found.append((message, unspoken if status is None else self._came(message, status)))
        return found

    def _came(self, message: Message, status: TencentStatus) -> Receipt | AdapterError:
        """What a code means for a message."""
        code, now = status.code, message.leaves_at
        if code == "Ok":
            return message.accepted(vendor_id=status.serial_no or None)
        account = self._account(code, "deliver")
        if account is not None:
            return account
        words = shown(status.message, number=message.address, texts=filter(None, _texts(message)), secrets=self._hidden)
        detail = f"{code} {words}".rstrip()
        tomorrow = mainland.until(time(0), now) if now is not None else timedelta(hours=1)
        if code in DAY_LIMITS:
            do = "it is set in the console, 频率限制"
            return self.error(
                RetryableError, "deliver", f"the limit of this day is reached ({code})", do, retry_after=tomorrow
            )
        if code == TOO_LATE:
            return message.deferred(detail, mainland.until(OPENS, now) if now is not None else tomorrow)
        if code in RECIPIENT_LIMITS:
            return message.deferred(detail, RECIPIENT_LIMITS[code] or tomorrow)
        reason = REASONS.get(code, Reason.OTHER)
        hint = HINTS.get(code) or ("`crmkit doctor` says how sign and template stand" if reason in _ACCOUNTS else "")
        return message.rejected(reason, f"{detail}; {hint}" if hint else detail)

    # calls

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """The error a code is that goes for the whole account; it comes with HTTP 200."""
        error = TencentError.of(response)
        return None if error is None else self._account(error.code, operation, retry_after(response))

    def _account(self, code: str, operation: str, wait: timedelta | None = None) -> AdapterError | None:
        mend = mended_by(code)
        if mend is not None:
            do = f"{mend}, then `crmkit resume gateway {self.account.name}`"
            return self.error(AuthError, operation, f"refused ({code})", do)
        if THROTTLED.fullmatch(code):
            wait = wait or timedelta(seconds=1)
            return self.error(RetryableError, operation, f"too many calls ({code})", retry_after=wait)
        if DOUBTFUL.fullmatch(code):
            kind = DoubtError if operation == "deliver" else RetryableError
            return self.error(kind, operation, f"no verdict ({code})")
        return None

    async def _call(self, operation: str, action: str, fields: Mapping[str, Any], *, sends: bool) -> httpx.Response:
        headers = {
            "content-type": CONTENT_TYPE,
            "x-tc-action": action,
            "x-tc-version": VERSION,
            "x-tc-region": self.settings.region,
        }
        body = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        url = f"{self.settings.base_url}/"
        return await self.call(operation, "POST", url, headers=headers, content=body, sends=sends)

    async def _ask(self, operation: str, action: str, fields: Mapping[str, Any], shape: type[T]) -> T:
        """Make a call that only reads.

        Raises:
            RefusedError: it was refused; its `body` is the code.
            PayloadError: the answer cannot be read.
        """
        response = await self._call(operation, action, fields, sends=False)
        error = TencentError.of(response)
        if error is not None:
            words = shown(error.message, secrets=self._hidden)
            what = f"refused ({error.code} {words})"
            raise self.error(RefusedError, operation, what, status=response.status_code, body=error.code)
        try:
            return Answer[shape].model_validate_json(response.content).response  # type: ignore[valid-type]
        except ValueError:
            what, do = f"an answer to {action} that cannot be read", "look at base_url, and at what stands between"
            raise self.error(PayloadError, operation, what, do) from None

    # doubt

    async def look_up(self, message: Message) -> Receipt | None:
        """Look for a message in the log of its recipient. That it is not there says nothing: carriers may be silent.

        Raises:
            DoubtError: it is not there, or the log repeats nothing that is known here.
            AdapterError: the log cannot be read.
        """
        form, now, first = message.form, message.leaves_at, message.decided_at
        if form is not None and now is not None and first is not None and now - first < KEPT:
            asked = {
                "BeginTime": int(first.timestamp()),
                "EndTime": int(now.timestamp()),
                "Offset": 0,
                "Limit": LOGGED,
                "PhoneNumber": message.address,
                "SmsSdkAppId": self.settings.app_id,
            }
            reports = (await self._ask("look up", "PullSmsSendStatusByPhoneNumber", asked, TencentReports)).reports
            for one in reports:
                if one.session == message.key or bundle.has_mark(one.session, message.key):
                    return message.accepted(vendor_id=one.serial_no or None)
        what = "the vendor's log does not show it, which says nothing: carriers may be silent"
        raise self.error(DoubtError, "look up", what, "see in the console under 发送记录, and decide")

    # in

    def records(self, call: Call) -> Iterator[Record | Refused]:
        """Receipts, many in one call, or a reply; what is neither is refused by itself.

        Raises:
            PayloadError: it is neither list nor reply.
        """
        try:
            document = json.loads(call.body)
        except (ValueError, RecursionError):
            document = None
        items = [document] if isinstance(document, dict) else document
        if not isinstance(items, list):
            what, do = "a call that is no list and no reply", "enter this address for 短信下发状态 and 短信回复"
            raise self.error(PayloadError, "read webhook", what, do)
        for number, item in enumerate(items, start=1):
            try:
                yield from list(tencent_push.read(item, call.received_at, self.settings.opt_out_locales))
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError):
                yield Refused("receipt", f"webhook:{number}", "neither a receipt nor a reply", json.dumps(item))


def _fits(key: str) -> bool:
    return len(key.encode("utf-8", "surrogatepass")) <= LONGEST_KEY


def _texts(message: Message) -> list[str]:
    return [message.text, *(message.form.params.values() if message.form is not None else ())]


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield TencentGateway
