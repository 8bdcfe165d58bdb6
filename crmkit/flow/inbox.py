"""Inbox: a webhook is verified and kept at the door, and read later, by the same step that pulled pages go through.

The door works without the network and commits a small row, so that it answers within milliseconds. Reading is the
adapter's parser: it runs outside any transaction, and again on replay. A body it cannot read is kept, with the reason.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, cast

from sqlalchemy.engine import Connection

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.door import Call, Reply, Verified
from crmkit.adapters.stream import Page, Ref, Refused
from crmkit.core.account import Shop
from crmkit.core.errors import CrmkitError, PluginError
from crmkit.core.log import WEBHOOK_TAKEN, WEBHOOK_UNREADABLE, place_of
from crmkit.core.records import Record
from crmkit.flow import forget
from crmkit.flow.ingest import WEBHOOK, Tally, ingest, refusal_key
from crmkit.flow.sync import Run
from crmkit.store import accounts, bulk, inbox, lines
from crmkit.store.bulk import Row
from crmkit.store.engine import is_out_of_order

#: Webhooks taken in by one transaction, and about how many bytes of their bodies.
BATCH, BYTES = 100, 8 * 1024 * 1024


@dataclass(slots=True)
class Taken:
    """What came of taking webhooks in: records, and {inbox number: why it could not be read}."""

    calls: int = 0
    tally: Tally = field(default_factory=Tally)
    failed: dict[int, str] = field(default_factory=dict)


#: Keeps a verified webhook, a row without its number and its account's; whether it is one that is to be taken in.
Keep = Callable[[Row], Awaitable[bool]]
#: What became of a call: kept now, known from before, answered without keeping (a handshake), or turned away.
Fate = Literal["kept", "known", "answered", "refused"]


@dataclass(frozen=True, slots=True)
class Heard:
    """A call that came in: what it is answered, and what became of it."""

    reply: Reply
    fate: Fate


async def accept(adapter: Adapter, call: Call, keep: Keep, correlation_id: str | None = None) -> Heard:
    """Answer a webhook: verified, it is kept before it is answered; else nothing of it is.

    Args:
        adapter: whose webhook it is; it was opened or not, the door needs no network.
        call: what came in.
        keep: keeps it for good.
        correlation_id: tells this call, and what comes of it, from others.

    Raises:
        PluginError: the adapter's door is broken.
    """
    try:
        found, answer = _verdict(adapter.verify(call)), _answer(adapter.accepts_with)
    except Exception as error:  # a plugin's code, on what a stranger sent: broken is not verified
        what = f"{type(error).__name__}: {error}" if isinstance(error, CrmkitError) else type(error).__name__
        do = "its author has to mend that"
        raise PluginError(what, who=adapter.account.name, operation="verify", do=do) from error
    if not isinstance(found, Verified):
        return Heard(found, "answered" if found.status < 400 else "refused")
    row = {
        "dedupe_key": found.dedupe_key,
        "is_fingerprint": found.is_fingerprint,
        "headers": {name: value for name, value in call.headers.items() if name in adapter.keeps_headers},
        "query": call.query,
        "body": call.body,
        "received_at": call.received_at,
        "correlation_id": correlation_id,
    }
    return Heard(answer, "kept" if await keep(row) else "known")


def _verdict(found: object) -> Verified | Reply:
    """What a door may find.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(found, Verified) and isinstance(found.dedupe_key, str):
        return found
    return _answer(found)


def _answer(found: object) -> Reply:
    """What a caller may be answered.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(found, Reply):
        status, body, kind = cast("tuple[object, object, object]", (found.status, found.body, found.content_type))
        is_kind = isinstance(kind, str) and kind.isascii() and kind.isprintable()
        if is_kind and isinstance(body, bytes) and isinstance(status, int) and 200 <= status <= 599:
            return found
    raise TypeError(found)


async def take(adapter: Adapter, shop: Shop, run: Run, *, listened: Collection[str], now: datetime) -> Taken:
    """Take in the webhooks of an account that wait.

    Args:
        adapter: whose parser reads them.
        shop: the account.
        listened: wire names of the events somebody handles.
        now: the run's clock.
    """
    taken = Taken()
    while rows := await run(inbox.waiting, shop.id, BATCH, BYTES):
        read: dict[int, _Said] = {}
        for row in rows:
            read[row["id"]] = _read(adapter, row)
            await asyncio.sleep(0)  # a body may take long to read, and who calls shares the loop
        if not await _store(shop, run, read, listened, now, taken.tally):
            break  # another process has them
        taken.calls += len(rows)
        taken.failed.update({number: one.why for number, one in read.items() if one.why is not None})
    return taken


@dataclass(slots=True)
class _Said:
    """What one webhook said, or why it cannot be read."""

    records: list[Record] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    rereads: list[tuple[str, str]] = field(default_factory=list)
    correlation: str | None = None
    why: str | None = None

    def refs(self) -> list[str]:
        """What it is about."""
        named = [(record.kind, record.ref) for record in self.records]
        named += [(one.kind, one.ref) for one in self.refused if one.ref is not None]
        return sorted({f"{kind}:{ref}" for kind, ref in (*named, *self.rereads)})


def _read(adapter: Adapter, row: Row) -> _Said:
    """What a webhook says, or why it cannot be read; all of it, or nothing."""
    call = Call(body=row["body"], headers=row["headers"] or {}, query=row["query"], received_at=row["received_at"])
    said = _Said(correlation=row["correlation_id"])
    try:
        for one in adapter.records(call):
            _check(one)
            if isinstance(one, Ref):
                said.rereads.append((one.kind, one.external_id))
            elif isinstance(one, Refused):
                said.refused.append(one)
            else:
                said.records.append(one)
    except CrmkitError as error:
        return _Said(correlation=said.correlation, why=str(error))
    except Exception as error:  # a plugin's code, on what a vendor sent; the value may be personal, so only its kind
        return _Said(correlation=said.correlation, why=f"{type(error).__name__} in the parser of {adapter.name}")
    return said


def _check(one: object) -> None:
    """What a parser yields is what it should be; a record has seen to that itself.

    Raises:
        TypeError: it is not.
    """
    texts: tuple[object, ...] = ()
    if isinstance(one, Ref):
        texts = (one.kind, one.external_id)
    elif isinstance(one, Refused):
        texts = (one.kind, one.place, one.reason, one.raw, "" if one.ref is None else one.ref)
    elif not isinstance(one, Record):
        raise TypeError(one)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(one)


async def _store(
    shop: Shop, run: Run, read: dict[int, _Said], listened: Collection[str], now: datetime, tally: Tally
) -> bool:
    """Store what was read; one that cannot be stored keeps no other from it, and is kept with the reason.

    Returns:
        Whether any of it was still waiting.
    """
    try:
        stored = await run(_take, shop, read, listened, now)
    except CrmkitError:
        raise
    except Exception as error:  # what a plugin read may be anything, and break anything
        if is_out_of_order(error):
            raise
        if len(read) == 1:
            [(number, one)] = read.items()
            why = f"it cannot be stored: {type(error).__name__} at {place_of(error)}"
            read[number] = _Said(correlation=one.correlation, why=why)
            stored = await run(_take, shop, read, listened, now)
        else:
            several = [{number: one} for number, one in read.items()]
            found = [await _store(shop, run, each, listened, now, tally) for each in several]
            read.update({number: one for each in several for number, one in each.items()})
            return any(found)
    if stored is not None:
        tally.add(stored)
    return stored is not None


def _take(tx: Connection, shop: Shop, read: dict[int, _Said], listened: Collection[str], now: datetime) -> Tally | None:
    """Store what was read, and that it was. None: nothing of it was waiting any more."""
    bulk.lock(tx, bulk.INGEST)  # before anything else, as whoever forgets a customer does
    errors = {number: one.why for number, one in read.items()}
    mine = inbox.settle(tx, errors, now, {n: one.refs() for n, one in read.items() if one.why is None})
    if not mine:
        return None
    known = {number: one for number, one in read.items() if number in mine and one.why is None}
    said = list(known.values())
    hints = {ref: one.correlation for one in said for ref in one.rereads}
    inbox.hint(tx, shop.id, list(hints), now, hints)
    page = Page(
        records=[record for one in said for record in one.records],
        refused=[refused for one in said for refused in one.refused],
    )
    correlations = [one.correlation for one in said for _ in one.records]
    tally = ingest(
        tx,
        shop,
        page,
        stream=WEBHOOK,
        listened=listened,
        now=now,
        correlations=correlations,
    )
    told = {n: [refusal_key(shop, WEBHOOK, "record", one) for one in said.refused] for n, said in known.items()}
    accounts.read_from(tx, shop.id, told, now)
    hinted = {n: [*one.rereads, *((r.kind, r.ref) for r in one.refused if r.ref)] for n, one in known.items()}
    gone = forget.about_forgotten(tx, shop, {number: one.records for number, one in known.items()}, hinted)
    if gone:
        inbox.blank(tx, sorted(gone))
    for number in sorted(mine):
        _say(tx, shop, number, read[number])
    return tally


def _say(tx: Connection, shop: Shop, number: int, read: _Said) -> None:
    told = {"account": shop.name, "webhook": number, "correlation": read.correlation}
    if read.why is not None:
        lines.later(tx, WEBHOOK_UNREADABLE, **told)
    else:
        lines.later(tx, WEBHOOK_TAKEN, records=len(read.records), rereads=len(read.rereads), **told)
