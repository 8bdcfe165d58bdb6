"""Postmark's log of messages: whether one that is in doubt is in it. And its lists of suppressed addresses.

Vendor documentation: https://postmarkapp.com/developer/api/messages-api,
https://postmarkapp.com/developer/api/suppressions-api

The log is asked for the recipient alone, and our key is looked for in what it gives: what a filter leaves out by
mistake would be sent twice.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import httpx
from pydantic import TypeAdapter, ValidationError

from crmkit import Account, DoubtError, Message, Page, PayloadError, Record, Refused, answered_at
from crmkit_email.postmark_event import suppressed
from crmkit_email.postmark_settings import PostmarkSettings
from crmkit_email.postmark_shape import (
    PostmarkListed,
    PostmarkMessages,
    PostmarkSuppressed,
    key_in,
    metadata_of,
    our_key_in,
)

#: Messages in a page, and pages: Postmark shows no more than 10,000.
COUNT, PAGES = 500, 20
#: Our clock and Postmark's may differ by this much.
SKEW = timedelta(minutes=5)
#: Postmark keeps its log for 45 days, or as many as a server is set to, which may be 7.
KEPT = timedelta(days=6)
_DUMP = TypeAdapter(list[dict[str, Any]])


class PostmarkLog:
    """The log and the lists of one server.

    Args:
        ask: makes a call that only reads.
        account, settings: the gateway's.
    """

    def __init__(
        self, ask: Callable[..., Awaitable[httpx.Response]], account: Account, settings: PostmarkSettings
    ) -> None:
        self._ask, self._account, self._settings = ask, account, settings

    async def find(self, message: Message, origin: str, *, too_soon: bool) -> PostmarkListed | None:
        """The message in the log; None only where it is certain that it is not there.

        Args:
            origin: the adapter's.
            too_soon: whether the log may be behind still.

        Raises:
            DoubtError: it is not certain.
        """
        if metadata_of(message, origin) is None:
            raise self._doubt("its key is too long for Postmark's metadata")
        offset, seen = 0, set[str]()
        while True:
            page, now = await self._page(message.address, offset)
            for found in page.messages:
                if our_key_in(found.metadata, origin) == message.key:
                    return found
                if key_in(found.metadata) == message.key:  # another installation's, or another entry's
                    raise self._doubt("a message to this address has its key, and belongs elsewhere")
                if "metadata" not in found.model_fields_set:
                    raise self._doubt("Postmark's log does not show metadata")
            seen.update(found.message_id for found in page.messages)
            if not page.messages or len(seen) >= page.total:
                break
            offset += COUNT
            if offset >= COUNT * PAGES:
                raise self._doubt("the list of messages to this address does not end")
        if len(seen) < page.total:
            raise self._doubt("the list of messages to this address is cut short")
        self._make_certain(message, now, too_soon)
        return None

    def _make_certain(self, message: Message, theirs: datetime | None, too_soon: bool) -> None:
        if too_soon:
            raise self._doubt("not in Postmark's log, which may be behind", "look again some minutes after the try")
        ours = message.leaves_at
        if ours is None or theirs is None or abs(ours - theirs) > SKEW:
            what, do = "not in Postmark's log, and by its clock it is another time", "set the clock of this machine"
            raise self._doubt(what, do)
        if message.decided_at is None or not -SKEW <= ours - message.decided_at <= KEPT:
            raise self._doubt(f"not in Postmark's log, and not decided within the last {KEPT.days} days")

    def _doubt(self, what: str, do: str = "see in Postmark's activity, and decide") -> DoubtError:
        return DoubtError(what, who=self._account.name, operation="look up", do=do)

    async def _page(self, address: str, offset: int) -> tuple[PostmarkMessages, datetime | None]:
        params = {"recipient": address, "count": COUNT, "offset": offset}
        response = await self._ask("look up", "/messages/outbound", params=params)
        try:
            return PostmarkMessages.model_validate_json(response.content), answered_at(response)
        except ValidationError:
            raise self._strange("look up", "no list of messages") from None

    def _strange(self, operation: str, what: str) -> PayloadError:
        do = "look at base_url, and at what stands between"
        return PayloadError(f"an answer that is {what}", who=self._account.name, operation=operation, do=do)

    async def suppressed(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """What was suppressed in a span of time; Postmark is asked for whole days, in a zone of its own."""
        for stream in (self._settings.transactional_stream, self._settings.marketing_stream):
            params = {"fromdate": (start - timedelta(days=1)).date().isoformat()}
            path = f"/message-streams/{stream}/suppressions/dump"
            response = await self._ask("read suppressions", path, params=params)
            try:
                rows = _DUMP.validate_python(json.loads(response.content)["Suppressions"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise self._strange("read suppressions", "no list of addresses") from None
            records: list[Record] = []
            refused: list[Refused] = []
            for number, row in enumerate(rows, 1):
                try:
                    found = PostmarkSuppressed.model_validate(row)
                    if start <= found.created_at < end:
                        records += suppressed(found.email, found.reason, found.created_at, stream, self._settings)
                except (ValueError, TypeError):
                    place = f"{stream} {number}"
                    refused.append(Refused("suppression", place, "not an address with a time", str(row)))
            yield Page(records, refused)
