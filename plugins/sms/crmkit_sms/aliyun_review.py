"""How templates and signs stand with Alibaba Cloud, and whether what is written here is what was approved there.

Vendor documentation: https://help.aliyun.com/zh/sms/developer-reference/api-dysmsapi-2017-05-25-getsmstemplate and
-getsmssign; those they replaced are switched off.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel

from crmkit import FormSpec, PayloadError, Wording
from crmkit_sms import mainland
from crmkit_sms.aliyun_shape import AliyunAnswer, AliyunSign, AliyunTemplate

#: {status: (how it stands, what to do)}; approved is none of these.
STANDS = {
    "0": ("is in review", "wait; they look between 9:00 and 21:00 and take about two hours"),
    "2": ("was refused", "word it otherwise in the console and hand it in again"),
    "10": ("was withdrawn from review", "hand it in again in the console"),
}
MARKETING = "2"
_CARRIERS = {"mobile": "China Mobile", "unicom": "China Unicom", "telecom": "China Telecom"}
#: How a sign stands with a carrier where it is not filed: it is blocked there.
_FILED = {
    0: "refused it",
    2: "dropped it after six months without a message",
    -1: "has not answered yet",
    -2: "was not asked",
}
_PLACE = re.compile(r"\$\{(\w+)\}")
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class AliyunReview:
    """What the vendor says of everything it has to approve.

    Attributes:
        ask: makes a call that only reads: `await ask(operation, action, fields)`.
        who: the account's name, for errors.
    """

    ask: Callable[..., Awaitable[httpx.Response]]
    who: str

    async def flaws(self, wordings: Sequence[Wording]) -> AsyncIterator[str]:
        """What keeps templates and signs from being sent, and what to do.

        Raises:
            AdapterError: the vendor cannot be asked.
        """
        written = [(one, form) for one in wordings for form in mainland.forms_of(one)]
        if not written:
            await self.ask("check", "QuerySmsTemplateList", {"PageIndex": "1", "PageSize": "1"})
        for wording, form in written:
            name = form.template_id or ""
            template = await self._state(AliyunTemplate, "GetSmsTemplate", "TemplateCode", name)
            for one in [template] if isinstance(template, str) else of_template(template, wording, form):
                yield one
        for name in dict.fromkeys(form.sign_name for _, form in written if form.sign_name):
            sign = await self._state(AliyunSign, "GetSmsSign", "SignName", name)
            for one in [sign] if isinstance(sign, str) else of_sign(name, sign):
                yield one

    async def _state(self, kind: type[T], action: str, field: str, name: str) -> T | str:
        """How a template or sign stands; what is to be told where the vendor knows none of that name."""
        response = await self.ask("check", action, {field: name}, answers=range(400, 500))
        answer = AliyunAnswer.of(response)
        if answer is not None and answer.code != "OK":
            return f"{name} is not known there ({answer.code}); check how it is written"
        try:
            return kind.model_validate_json(response.content)
        except ValueError:
            what, do = f"an answer to {action} that cannot be read", "look at base_url, and at what stands between"
            raise PayloadError(what, who=self.who, operation="check", do=do) from None


def of_template(found: AliyunTemplate, wording: Wording, form: FormSpec) -> Iterator[str]:
    """What is wrong with a template, as its vendor has it."""
    name = f"template {form.template_id} ({wording.name}.{wording.locale})"
    stands = STANDS.get(found.template_status)
    if stands is not None:
        yield _told(name, stands, found.audit_info.reject_info if found.audit_info else None)
    is_marketing = found.template_type == MARKETING
    if found.template_type is not None and is_marketing != (wording.purpose == "marketing"):
        kind = "marketing (推广短信)" if is_marketing else "no marketing"
        yield f"{name} was approved as {kind}; its purpose is {wording.purpose}: make the two agree"
    content = found.template_content
    if content is None:
        return
    wanted = set(_PLACE.findall(content))
    for missing in sorted(wanted - form.params.keys()):
        yield f"{name} wants a value {missing}; add it to params"
    for strange in sorted(form.params.keys() - wanted):
        yield f"{name} has no place for the value {strange}; take it out of params"
    ours = mainland.approved(wording.text, form.params, [f"${{{one}}}" for one in form.params])
    if ours is not None and wanted == form.params.keys() and mainland.bare(ours) != mainland.bare(content):
        yield f"{name} was approved with another text, by which plans and prices would not be right; copy it from there"


def of_sign(name: str, found: AliyunSign) -> Iterator[str]:
    """What is wrong with a sign."""
    stands = STANDS.get(found.sign_status)
    if stands is not None:
        yield _told(f"sign {name}", stands, found.audit_info.reject_info if found.audit_info else None)
        return
    for filing in found.filings or ():
        if filing.register_status in _FILED:
            carrier = _CARRIERS.get(filing.operator_code or "", filing.operator_code or "a carrier")
            why = f"sign {name} is not filed (实名报备): {carrier} {_FILED[filing.register_status]}"
            yield f"{why}, and blocks what is signed so; see 签名管理 in the console"


def _told(name: str, stands: tuple[str, str], why: str | None) -> str:
    how, do = stands
    return f"{name} {how}{f' ({why.strip()})' if why and why.strip() else ''}; {do}"
