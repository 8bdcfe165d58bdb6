"""The source: streams, reading by id, hints, pushes, what may be said, and what to look after.

Trades are read by the time of their last change; those of the last three months once, at first, by the time they were
made. A change reaches the list a little late. Changed trades are asked for by less than a day, which is the most.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import httpx

from crmkit import (
    Account,
    AdapterError,
    Ask,
    AuthError,
    Call,
    Order,
    Page,
    PayloadError,
    Record,
    Ref,
    Refused,
    RefusedError,
    Reply,
    Source,
    Start,
    Verified,
    fingerprint,
    stream,
    window,
)

from . import hint
from .api import Top, rows_of
from .listing import Listing, pages
from .settings import TaobaoSettings
from .shape import RATE_FIELDS, REFUND_FIELDS, TRADE_FIELDS, TaobaoMessage
from .signing import is_pushed
from .trade import TradeReader, page_of

#: How far back trades are listed by the time they were made.
PAST = timedelta(days=89)
#: So much of it at once; a span with too many trades is halved.
_STEP = timedelta(days=6)


class TaobaoSource(Source):
    """A shop on Taobao or Tmall."""

    name = "taobao"
    Settings = TaobaoSettings
    settings: TaobaoSettings
    #: Not "delivered": only what is paid on delivery is said to have been signed for.
    reports = frozenset("placed paid shipped completed cancelled parcels refunds returns reviews".split())
    accepts_with = Reply(200, b'{"success":true}', "application/json; charset=utf-8")

    def __init__(self, settings: TaobaoSettings, account: Account, http: httpx.AsyncClient) -> None:
        super().__init__(settings, account, http)
        self.top = Top(self, settings)
        self.remembers = settings.session is None
        self.trades = TradeReader(self, self.top, settings.app_key)
        lacks = {"refunds", "returns"} if not settings.refunds else set()
        self.reports = TaobaoSource.reports - lacks - ({"reviews"} if not settings.reviews else set())

    async def vendor_account(self) -> str | None:
        """The seller's id, which an authorization holds; asked for where the token is set by hand."""
        known = self.memory.get("user_id") if self.settings.session is None else None
        if known is None and self.top.session is not None:
            try:
                answer = await self.top.ask("ask for the seller", "taobao.user.seller.get", fields="user_id,nick")
            except RefusedError:
                return None  # some applications may not ask
            user = answer.get("user")
            known = user.get("user_id") if isinstance(user, dict) else None
        return None if known is None else str(known)

    # the token

    async def connect(self, ask: Ask) -> None:
        """Have a person sign in as the seller."""
        await self.top.connect(ask)

    async def renew(self) -> bool:
        """Exchange the token for a fresh one, where the application may."""
        return await self.top.renew()

    def credentials_end(self) -> datetime | None:
        """When a token ends that cannot be renewed."""
        return self.top.credentials_end()

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        """The error in an answer's body."""
        return self.top.fault(operation, response)

    # streams

    @stream
    async def past(self, start: Start) -> AsyncIterator[Page]:
        """Trades of the last three months, once; a reading that is killed goes on where it was.

        The cursor is `next`, up to when they were read, and `until`, when that began.
        """
        if start.since is not None:
            return  # whatever was made since then has changed since then
        cursor = dict(start.cursor or {})
        if not cursor:
            cursor = {"next": (start.now - PAST).isoformat(), "until": start.now.isoformat()}
        until = datetime.fromisoformat(cursor["until"])
        while (first := datetime.fromisoformat(cursor["next"])) < until:
            last = min(first + _STEP, until)
            listing = self._trades("taobao.trades.sold.get", "read past orders", "created")
            async for page in self._read_trades(listing, first, last):
                yield page
            cursor["next"] = last.isoformat()
            yield Page(cursor=dict(cursor))

    @window(max_span="23h", end_lag="2m", overlap="10m", history="23h")
    async def orders(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Trades that changed within a span."""
        async for page in self._read_trades(self._changed("read orders"), start, end):
            yield page

    @window(max_span="6d", end_lag="2m", overlap="10m", history="89d")
    async def refunds(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """Refunds, and returns, that changed within a span."""
        if not self.settings.refunds:
            return
        async for rows in pages(self.top, self._refunds(), start, end, self.settings.page_size):
            yield page_of(self.trades.refunds(rows))

    @window(max_span="6d", end_lag="2m", overlap="1d", history="179d")
    async def reviews(self, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """What buyers said of their orders; of a span no more than 1,500 are listed."""
        if not self.settings.reviews:
            return
        async for rows in pages(self.top, self._reviews(), start, end, self.settings.page_size):
            yield page_of(self.trades.reviews(rows))

    @stream
    async def messages(self, start: Start) -> AsyncIterator[Page]:
        """What the message service has of this shop: hints at trades, and at reviews.

        Messages are confirmed once their hints are stored: the cursor, which is stored with them, holds their ids, and
        the next reading confirms them. What comes again until then hints at nothing new.
        """
        if self.settings.messages is None or start.since is not None:
            return
        group = None if self.settings.messages == hint.DEFAULT else self.settings.messages
        stored = list((start.cursor or {}).get("taken", ()))
        for first in range(0, len(stored), hint.CONFIRMED):
            ids = ",".join(stored[first : first + hint.CONFIRMED])
            with suppress(RefusedError):  # those it refuses come again, and hint at nothing new
                await self.top.ask(
                    "confirm messages", "taobao.tmc.messages.confirm", s_message_ids=ids, group_name=group
                )
        seller = await self.vendor_account()
        taken: dict[str, None] = {}
        for _ in range(hint.ROUNDS):
            answer = await self.top.ask(
                *("take messages", "taobao.tmc.messages.consume"), group_name=group, quantity=hint.QUANTITY
            )
            rows = rows_of(answer, "messages", "tmc_message")
            told = [one for one in map(_message, rows) if one is not None and _is_for(one, seller)]
            fresh = [one for one in told if one.id is not None and one.id not in taken]
            taken.update((one.id, None) for one in fresh if one.id is not None)
            if not fresh:
                break
            refs = list(dict.fromkeys(ref for one in fresh for ref in hint.about(one)))
            yield Page(hints=refs, cursor={"taken": list(taken)})
        if stored and not taken:
            yield Page(cursor={"taken": []})

    # lists

    def _trades(self, method: str, operation: str, by: str) -> Listing:
        fields = "tid,modified" if self.settings.details else TRADE_FIELDS
        params = {"fields": fields, "type": ",".join(self.settings.types)}
        return Listing(method, operation, "trades", "trade", f"start_{by}", f"end_{by}", "tid", params)

    def _changed(self, operation: str) -> Listing:
        return self._trades("taobao.trades.sold.increment.get", operation, "modified")

    def _refunds(self, operation: str = "read refunds") -> Listing:
        params = {"fields": REFUND_FIELDS, "type": ",".join(self.settings.types)}
        span = "start_modified", "end_modified"
        return Listing("taobao.refunds.receive.get", operation, "refunds", "refund", *span, "refund_id", params)

    def _reviews(self, operation: str = "read reviews") -> Listing:
        params = {"fields": RATE_FIELDS, "rate_type": "get", "role": "buyer"}
        span = "start_date", "end_date"
        most, shortest = 1_000, timedelta(minutes=1)
        return Listing(
            *("taobao.traderates.get", operation, "trade_rates", "trade_rate", *span, "tid", params), most, shortest
        )

    async def _read_trades(self, listing: Listing, start: datetime, end: datetime) -> AsyncIterator[Page]:
        """The trades of a span; one that is listed twice as it was is read once."""
        seen: set[tuple[str | None, Any]] = set()
        async for rows in pages(self.top, listing, start, end, self.settings.page_size):
            fresh = {version: row for row in rows if (version := _version(row)) not in seen}
            seen.update(fresh)
            if not self.settings.details:
                yield page_of(self.trades.trades(fresh.values()))
                continue
            unknown = self.trades.trades([row for (tid, _), row in fresh.items() if tid is None])
            known = [tid for tid, _ in fresh if tid is not None]
            yield page_of([*await self.trades.read(known, refunds=False), *unknown])

    # by id

    async def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        """Trades with their refunds, and reviews, by number."""
        known = [ref for ref in refs if ref.external_id.isascii() and ref.external_id.isdigit()]
        found = await self.trades.read([ref.external_id for ref in known if ref.kind != "review"])
        rated = [ref.external_id for ref in known if ref.kind == "review"] if self.settings.reviews else []
        yield page_of(found + await self.trades.rated(rated))

    # pushes

    def verify(self, call: Call) -> Verified | Reply:
        """Whether a call is the platform's."""
        if not is_pushed(call, self.settings.secrets):
            return Reply(401, b"unverified")
        return Verified(fingerprint(call.query, call.body), is_fingerprint=True)

    def records(self, call: Call) -> Iterator[Record | Ref | Refused]:
        """What a push hints at."""
        found = hint.pushed(call)
        if not found:
            raise PayloadError("a push that names no trade", who=self.account.name, operation="read webhook")
        yield from found

    # what may be said, and what to look after

    def may_say(self, order: Order | None, purpose: str, template: str) -> str | None:
        """Order news only: what the platform gives of a receiver is for the order, and buyers are not led elsewhere."""
        if purpose == "marketing" and not self.settings.marketing:
            return "Taobao gives what reaches a buyer for their order alone, not for marketing"
        return None

    async def check(self) -> Iterable[str]:
        """Keys, token, permissions and the message service."""
        try:
            now = await self.top.now()
        except AdapterError as error:
            return [str(error)]
        problems = self.top.problems(now)
        lists = [self._changed("check orders")]
        lists += [self._refunds("check refunds")] if self.settings.refunds else []
        lists += [self._reviews("check reviews")] if self.settings.reviews else []
        for one in lists:
            try:
                async for _ in pages(self.top, one, now - timedelta(minutes=1), now, 1):
                    break
            except AdapterError as error:
                problems.append(str(error))
                if isinstance(error, AuthError):
                    return problems
        return problems + await self._message_problems()

    async def _message_problems(self) -> list[str]:
        if self.settings.messages is None:
            return []
        who = f"{self.account.name} check messages"
        try:
            answer = await self.top.ask(
                "check messages", "taobao.tmc.user.get", fields="user_id,topics,group_name,is_valid"
            )
        except AdapterError as error:
            return [str(error)]
        user = answer.get("tmc_user")
        if not isinstance(user, dict) or user.get("is_valid") not in (True, "true"):
            return [f"{who}: the message service is not switched on for this seller; call taobao.tmc.user.permit once"]
        group = user.get("group_name") or hint.DEFAULT
        if group != self.settings.messages:
            return [f"{who}: its messages go to the group {group!r}; set messages to that, if it is this shop's alone"]
        return []


def _version(row: Any) -> tuple[str | None, Any]:
    """The number of a listed trade, and when it changed."""
    if not isinstance(row, dict):
        return None, repr(row)
    tid = row.get("tid_str") or row.get("tid")
    return (str(tid), row.get("modified")) if tid else (None, repr(row))


def _is_for(message: TaobaoMessage, seller: str | None) -> bool:
    """Whether a message is this seller's, so far as both are known by number."""
    return message.user_id is None or seller is None or not seller.isdigit() or message.user_id == seller


def _message(row: Any) -> TaobaoMessage | None:
    try:
        return TaobaoMessage.model_validate(row)
    except ValueError:
        return None
