"""Alibaba Cloud's log of what was sent to a number, and what is certain by it.

Vendor documentation: https://help.aliyun.com/document_detail/419277.html (QuerySendDetails). The log repeats what a
call was given as `OutId`: the key of a message that went alone, marks of those that went together.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx

from crmkit import DoubtError, Form, Message, PayloadError, answered_at
from crmkit_sms import bundle, mainland
from crmkit_sms.aliyun_shape import AliyunDetail, AliyunDetails

#: The log goes back so far; clocks may differ by so much.
KEPT, SKEW = timedelta(days=29), timedelta(minutes=5)
#: Messages on a page, and pages of a day at the most: nobody gets a thousand messages.
PAGE_SIZE, PAGES = 50, 20


@dataclass(frozen=True, slots=True)
class AliyunLog:
    """The log, read through an account.

    Attributes:
        ask: makes a call that only reads: `await ask(operation, action, fields)`.
        who: the account's name, for errors.
    """

    ask: Callable[[str, str, dict[str, str]], Awaitable[httpx.Response]]
    who: str

    async def find(self, message: Message, form: Form, number: str) -> AliyunDetail | None:
        """A message that is in doubt; None if it surely was not taken.

        Args:
            message: it.
            form: what it was sent as.
            number: its recipient as the log is asked for it.

        Raises:
            DoubtError: neither is certain.
            AdapterError: the log could not be read.
        """
        listed: list[AliyunDetail] = []
        for day in self._days(message):
            listed += await self._of_day(message, number, day)
        marked = []
        for detail in listed:
            if detail.out_id and detail.out_id == message.key:
                return detail
            if detail.template_code not in {None, form.template_id}:
                continue
            if not detail.out_id:
                raise self._doubt("the log has a message to this number that names no key")
            if bundle.has_mark(detail.out_id, message.key):
                marked.append(detail)
        if any(not self._holds(detail, form) for detail in marked) or len(marked) > 1:
            raise self._doubt("a message to this number could be it, or another")
        return marked[0] if marked else None

    def _holds(self, detail: AliyunDetail, form: Form) -> bool:
        """Whether a text is ours by what was filled in."""
        return detail.content is not None and all(value in detail.content for value in form.params.values())

    def _days(self, message: Message) -> Iterator[str]:
        """The days it may have left on, there."""
        first, last = message.decided_at, message.leaves_at
        if first is None or last is None or last - first > KEPT:
            raise self._doubt(f"not decided within the last {KEPT.days} days")
        day, end = (first - SKEW).astimezone(mainland.ZONE).date(), (last + SKEW).astimezone(mainland.ZONE).date()
        while day <= end:
            yield f"{day:%Y%m%d}"
            day += timedelta(days=1)

    async def _of_day(self, message: Message, number: str, day: str) -> list[AliyunDetail]:
        found: list[AliyunDetail] = []
        for page in range(1, PAGES + 1):
            asked = {"PhoneNumber": number, "SendDate": day, "PageSize": str(PAGE_SIZE), "CurrentPage": str(page)}
            response = await self.ask("look up", "QuerySendDetails", asked)
            self._on_time(message.leaves_at, response)
            read = self._read(response)
            found += read.details.found
            if len(found) >= read.total_count:
                return found
            if not read.details.found:
                break
        raise self._doubt("the log of this number does not end, or is cut short")

    def _read(self, response: httpx.Response) -> AliyunDetails:
        try:
            return AliyunDetails.model_validate_json(response.content)
        except ValueError:
            raise PayloadError("an answer that is no log of messages", **self._place) from None

    def _on_time(self, now: datetime | None, response: httpx.Response) -> None:
        theirs = answered_at(response)
        if now is None or theirs is None or abs(now - theirs) > SKEW:
            raise self._doubt("by the vendor's clock it is another time", "set the clock of this machine")

    @property
    def _place(self) -> dict[str, Any]:
        return {"who": self.who, "operation": "look up"}

    def _doubt(self, what: str, do: str = "see in the console under 发送记录, and decide") -> DoubtError:
        return DoubtError(what, do=do, **self._place)
