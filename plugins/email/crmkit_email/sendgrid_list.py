"""The lists by which SendGrid keeps mail from addresses, read so that crmkit knows what SendGrid knows.

Vendor documentation: https://www.twilio.com/docs/sendgrid/api-reference/bounces-api and its neighbours

Bounces and invalid addresses are suppressed; who complained or unsubscribed has withdrawn consent. What is on the list
of blocks was refused once and is sent to again, so it is not read.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from crmkit import Page, PayloadError, Reason, Record, Refused, UnsupportedError, fingerprint
from crmkit_email.sendgrid_event import Moment, settings_purpose, suppression, wish
from crmkit_email.sendgrid_settings import SendgridSettings
from crmkit_email.status import bounced

#: Addresses in a page.
PAGE = 500
LISTS = ("bounces", "invalid_emails", "spam_reports", "unsubscribes")
_BOUNCES = frozenset({Reason.BAD_ADDRESS, Reason.NOT_CAPABLE})


class SendgridListed(BaseModel):
    """An address on one of the lists."""

    email: Annotated[str, Field(min_length=3, max_length=500)]
    created: Moment
    reason: str = ""
    status: str = ""


class SendgridLeft(BaseModel):
    """An address that left an unsubscribe group."""

    email: Annotated[str, Field(min_length=3, max_length=500)]
    group_id: int
    created_at: Moment


_ROWS = TypeAdapter(list[dict[str, Any]])
Call = Callable[..., Awaitable[httpx.Response]]


class SendgridLists:
    """The lists of one account.

    Args:
        call: makes a call, as `Adapter.call` does.
        who: the account's name, for errors.
        settings: the gateway's.
    """

    def __init__(self, call: Call, who: str, settings: SendgridSettings) -> None:
        self._call, self._who, self._settings = call, who, settings

    async def read(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """What came onto the lists in a span of time.

        The list of who left groups can only be read whole, so it is read where a span reaches into a new day (UTC).
        """
        for name in LISTS:
            async for rows in self._pages(name, start, end):
                yield Page(*_told(rows, lambda row, name=name: _listed(name, row), name))  # type: ignore[misc]
        has_groups = {self._settings.transactional_group, self._settings.marketing_group} != {None}
        if has_groups and start.date() != end.date():
            rows = await self._rows("/v3/asm/suppressions", {})
            yield Page(*_told(rows, lambda row: self._left(row, start, end), "groups"))

    async def _pages(self, name: str, start: datetime, end: datetime) -> AsyncIterator[list[dict[str, Any]]]:
        span = {"start_time": int(start.timestamp()), "end_time": int(end.timestamp()), "limit": PAGE}
        before: list[dict[str, Any]] = []
        offset = 0
        while True:
            rows = await self._rows(f"/v3/suppression/{name}", {**span, "offset": offset})
            if rows and rows != before:
                yield rows
            if len(rows) != PAGE or rows == before:
                return
            before, offset = rows, offset + PAGE

    async def _rows(self, path: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        response = await self._call("read suppressions", "GET", path, params=params, sends=False, answers={403})
        if response.status_code == 403:
            what = "the API key may not read suppressions"
            do = 'give it "Suppressions: Read Access" at SendGrid, or set suppressions = false'
            raise UnsupportedError(what, who=self._who, operation="read suppressions", do=do)
        try:
            return _ROWS.validate_json(response.content)
        except ValidationError:
            what, do = "an answer that is no list of addresses", "look at base_url, and at what stands between"
            raise PayloadError(what, who=self._who, operation="read suppressions", do=do) from None

    def _left(self, row: dict[str, Any], start: datetime, end: datetime) -> Iterator[Record]:
        left = SendgridLeft.model_validate(row)
        if self._settings.is_ours(left.group_id) and start.date() <= left.created_at.date() <= end.date():
            number = fingerprint("group", str(left.group_id), left.email, str(left.created_at))
            purpose = settings_purpose(self._settings, left.group_id)
            yield wish(left.email, "withdrawn", "group_unsubscribe", left.created_at, number, purpose)


def _listed(name: str, row: dict[str, Any]) -> Iterator[Record]:
    found = SendgridListed.model_validate(row)
    number = fingerprint(name, found.email, str(found.created))
    if name == "bounces":
        reason = bounced(found.reason, found.status, default=Reason.BAD_ADDRESS)
        if reason in _BOUNCES:
            yield suppression(found.email, reason, found.created, number)
    elif name == "invalid_emails":
        yield suppression(found.email, Reason.BAD_ADDRESS, found.created, number)
    else:
        wording = {"spam_reports": "spamreport", "unsubscribes": "unsubscribe"}[name]
        yield wish(found.email, "withdrawn", wording, found.created, number)


def _told(
    rows: list[dict[str, Any]], read: Callable[[dict[str, Any]], Iterator[Record]], where: str
) -> tuple[list[Record], list[Refused]]:
    records: list[Record] = []
    refused: list[Refused] = []
    for number, row in enumerate(rows, 1):
        try:
            records += read(row)
        except (ValueError, OverflowError, OSError):
            refused.append(Refused("suppression", f"{where} {number}", "not an address with a time", str(row)))
    return records, refused
