"""Sends approved text messages through Tencent Cloud (腾讯云短信), and takes in receipts and replies.

Vendor documentation: https://cloud.tencent.com/document/api/382/55981

One call has one text for all its numbers, so messages whose values are the same go together, and the others alone. It
answers HTTP 200 whatever it says, for the call or for each number. It takes no key of ours; what a call is given
(`SessionContext`) it repeats in its log only where its support has switched that on.
"""

import json
import re
from collections.abc import AsyncIterator, Hashable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from typing import Any, TypeVar

import httpx

from crmkit import (
    Account,
    AdapterError,
    Caution,
    DoubtError,
    Form,
    Gateway,
    Message,
    PayloadError,
    Reason,
    Receipt,
    Record,
    RefusedError,
    Reply,
    Wording,
    hookimpl,
    retry_after,
)
from crmkit_sms import bundle, mainland, tencent_push
from crmkit_sms.approved import ACCOUNTS, ApprovedGateway
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
#: A value that has six characters at the most; the filter lets five more pass unless it is told 0 of them.
_SHORT = re.compile(r"(?:\[:[1-6]\]|\btruncate\(\s*[1-6]\s*,[^)]*,\s*0\s*\))\s*$")
T = TypeVar("T")


class TencentGateway(ApprovedGateway):
    """Sends approved text messages through Tencent Cloud."""

    name = "tencent"
    batch = 200
    sends_marketing = (OPENS, CLOSES, "Asia/Shanghai")
    accepts_with = Reply(200, b'{"result":0,"errmsg":"OK"}', "application/json")
    throttled, doubtful = THROTTLED, DOUBTFUL
    calls = "list and no reply", "短信下发状态 and 短信回复"

    Settings = TencentSettings

    settings: TencentSettings

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.signature = Tc3(settings.secret_id, settings.secret_key.get_secret_value(), self.now)

    async def open(self) -> None:
        """Every try is signed anew."""
        self.http.auth = self.signature

    # what is known before

    def check_template(self, wording: Wording) -> Iterable[str]:
        """What its rules for texts have against a template; that a value may be too long for it is a warning."""
        yield from RULES.flaws(wording)
        if wording.form is not None and not self.settings.long_values:
            long = [name for name, written in wording.form.params.items() if not _SHORT.search(written)]
            if long:
                what = f"{', '.join(long)} may have more than 6 characters, which newer accounts may not send"
                yield Caution(f"{what}; cut with `customer.name[:6]`, or write long_values = true if yours takes them")

    def review(self) -> AsyncIterator[str]:
        """How templates, signs and packages stand."""
        return self._review.flaws(self.wordings)

    async def balance(self) -> int | None:
        """How many messages are left in packages that were bought."""
        return await self._review.left("ask what is left")

    @property
    def _review(self) -> TencentReview:
        return TencentReview(self._ask, self.settings.app_id, self.now)

    # out

    def alike(self, form: Form) -> tuple[Hashable, ...]:
        """One call has one text."""
        return *super().alike(form), tuple(form.params.values())

    async def hand(self, group: Sequence[Message]) -> list[bundle.Came] | None:
        """Hand messages that read the same to different numbers over."""
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
        is_shared = isinstance(first, AdapterError) or first.reason in ACCOUNTS
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
        account = self.of_account("deliver", code)
        if account is not None:
            return account
        detail = self.told(code, status.message, message)
        tomorrow = mainland.until(time(0), now) if now is not None else timedelta(hours=1)
        if code in DAY_LIMITS:
            return self.limited(code, "day", "频率限制", tomorrow)
        if code == TOO_LATE:
            return message.deferred(detail, mainland.until(OPENS, now) if now is not None else tomorrow)
        if code in RECIPIENT_LIMITS:
            return message.deferred(detail, RECIPIENT_LIMITS[code] or tomorrow)
        reason = REASONS.get(code, Reason.OTHER)
        hint = HINTS.get(code) or ("`crmkit doctor` says how sign and template stand" if reason in ACCOUNTS else "")
        return message.rejected(reason, f"{detail}; {hint}" if hint else detail)

    # calls

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """The error a code is that goes for the whole account; it comes with HTTP 200."""
        error = TencentError.of(response)
        return None if error is None else self.of_account(operation, error.code, retry_after(response))

    def mended_by(self, code: str) -> str | None:
        """What the operator does about a code of the whole account."""
        return mended_by(code)

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
            what = f"refused ({self.told(error.code, error.message)})"
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

    def items(self, document: Any) -> list[Any] | None:
        """Receipts come many in one call, a reply by itself."""
        return super().items([document] if isinstance(document, dict) else document)

    def read_item(self, item: Any, received_at: datetime) -> Iterator[Record]:
        """One receipt or reply."""
        return tencent_push.read(item, received_at, self.settings.opt_out_locales)


def _fits(key: str) -> bool:
    return len(key.encode("utf-8", "surrogatepass")) <= LONGEST_KEY


@hookimpl
def crmkit_gateways() -> Iterator[type[Gateway]]:
    yield TencentGateway
