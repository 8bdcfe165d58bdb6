"""How templates, signs and packages stand with Tencent Cloud.

Vendor documentation: https://cloud.tencent.com/document/api/382/5819 (templates), 5818 (signs), 55964 (packages). A
sign is asked for by its number, which a template may say as `sign_id`. Only companies may ask.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from crmkit import FormSpec, RefusedError, Wording
from crmkit_sms import mainland
from crmkit_sms.tencent_shape import TencentPackages, TencentSigns, TencentTemplate, TencentTemplates

#: {status: (how it stands, what to do)}; 0 is approved.
STANDS = {
    1: ("is in review", "wait"),
    2: ("is approved and not yet in force", "wait"),
    -1: ("was refused", "change it in the console and hand it in again"),
}
#: Who may not ask: accounts of persons.
PERSON = "FailedOperation.NotEnterpriseCertification"
#: So many templates or signs are asked for at once; packages of so long are looked at.
AT_ONCE, PACKAGES = 100, timedelta(days=730)
_PLACE = re.compile(r"\{([0-9]+)\}")


@dataclass(frozen=True, slots=True)
class TencentReview:
    """What the vendor says of everything it has to approve, or that has to be paid.

    Attributes:
        ask: makes a call that only reads: `await ask(operation, action, fields, shape)`.
        app_id: the application.
        clock: the clock on the wall.
    """

    ask: Callable[..., Awaitable[Any]]
    app_id: str
    clock: Callable[[], datetime]

    async def flaws(self, wordings: Sequence[Wording]) -> AsyncIterator[str]:
        """What keeps messages from being sent, and what to do.

        Raises:
            AdapterError: the vendor cannot be asked.
        """
        async for one in self._packages():
            yield one
        try:
            async for one in self._templates(wordings):
                yield one
            async for one in self._signs(wordings):
                yield one
        except RefusedError as error:
            if error.body != PERSON:
                raise
            yield "how templates and signs stand is told to companies only; look into the console"

    async def _packages(self) -> AsyncIterator[str]:
        if await self.left("check") == 0:
            yield "all packages of messages are used up or over; buy one in the console"

    async def left(self, operation: str) -> int | None:
        """How many messages are left in packages; None where there never was one: they are paid for afterwards.

        Raises:
            AdapterError: the vendor cannot be asked.
        """
        now = self.clock()
        span = {
            "BeginTime": f"{(now - PACKAGES).astimezone(mainland.ZONE):%Y%m%d%H}",
            "EndTime": f"{(now - timedelta(hours=1)).astimezone(mainland.ZONE):%Y%m%d%H}",
        }
        asked = {"SmsSdkAppId": self.app_id, "Limit": 500, "Offset": 0, **span}
        read: TencentPackages = await self.ask(operation, "SmsPackagesStatistics", asked, TencentPackages)
        left = sum(max(0, one.amount - one.used) for one in read.packages if one.expires > now.timestamp())
        return left if read.packages else None

    async def _templates(self, wordings: Sequence[Wording]) -> AsyncIterator[str]:
        for abroad in (0, 1):
            of = {
                form.template_id: (one, form)
                for one in wordings
                for number, form in enumerate(mainland.forms_of(one))
                if number == abroad and form.template_id and form.template_id.isdigit()
            }
            found: dict[str, TencentTemplate] = {}
            for ids in _by(AT_ONCE, sorted(of)):
                asked = {"International": abroad, "TemplateIdSet": [int(one) for one in ids]}
                read: TencentTemplates = await self.ask("check", "DescribeSmsTemplateList", asked, TencentTemplates)
                found.update({one.template_id: one for one in read.templates})
            for template_id, (wording, form) in of.items():
                for one in of_template(found.get(template_id), wording, form):
                    yield one

    async def _signs(self, wordings: Sequence[Wording]) -> AsyncIterator[str]:
        forms = [one.form for one in wordings if one.form is not None]
        names = {str(form.extra["sign_id"]): form.sign_name for form in forms if "sign_id" in form.extra}
        for ids in _by(AT_ONCE, sorted(one for one in names if one.isdigit())):
            asked = {"International": 0, "SignIdSet": [int(one) for one in ids]}
            read: TencentSigns = await self.ask("check", "DescribeSmsSignList", asked, TencentSigns)
            found = {one.sign_id: one for one in read.signs}
            for number in ids:
                sign = found.get(number)
                if sign is None:
                    yield f"sign {number} is not known there; check sign_id"
                elif sign.status in STANDS:
                    yield _told(f"sign {number} ({names[number]})", sign.status, sign.reply)
                elif sign.name and sign.name != names[number]:
                    yield f"sign {number} is {sign.name} there, and sign_name says {names[number]}; make the two agree"


def of_template(found: TencentTemplate | None, wording: Wording, form: FormSpec) -> Iterator[str]:
    """What is wrong with a template, as its vendor has it."""
    name = f"template {form.template_id} ({wording.name}.{wording.locale})"
    if found is None:
        yield f"{name} is not known there; check template_id"
        return
    if found.status in STANDS:
        yield _told(name, found.status, found.reply)
    if found.content is None:
        return
    wanted, given = len(set(_PLACE.findall(found.content))), len(form.params)
    if wanted != given:
        yield f"{name} has {wanted} places for values, and params has {given}; give one for each, in their order"
        return
    ours = mainland.approved(wording.text, form.params, [f"{{{number}}}" for number in range(1, given + 1)])
    if ours is not None and mainland.bare(ours) != mainland.bare(found.content):
        yield f"{name} was approved with another text, by which plans and prices would not be right; copy it from there"


def _told(name: str, status: int, why: str) -> str:
    how, do = STANDS[status]
    return f"{name} {how}{f' ({why.strip()})' if why.strip() else ''}; {do}"


def _by(count: int, every: Sequence[str]) -> Iterator[Sequence[str]]:
    return (every[at : at + count] for at in range(0, len(every), count))
