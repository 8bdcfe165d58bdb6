"""The doors of all accounts: webhooks are verified and kept, and who could not show who he is is counted."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import quote

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.door import Call, Reply
from crmkit.core.account import Shop
from crmkit.engine.accounts import Accounts
from crmkit.engine.together import Together
from crmkit.flow import inbox as door
from crmkit.flow.setup import Entry
from crmkit.host.opening import ShopEntry
from crmkit.store import accounts, inbox
from crmkit.store.bulk import Row
from crmkit.store.engine import Store

#: What a webhook is answered whose account is not known, or takes none.
NOBODY = Reply(404, b"unknown")


@dataclass(slots=True)
class Door:
    """An account's door: its adapter, which is never opened since a door needs no network.

    Attributes:
        shop: the account as it is stored; None where it never was, until the first call that is verified.
    """

    adapter: Adapter
    shop: Shop | None = None


class Doors:
    """The doors of an installation.

    Args:
        opens: opens its accounts.
        store: the open database.

    Attributes:
        kept: set when a webhook was kept; the keeper, who takes webhooks in, clears it.
        news: set when there is something to read again, or to send; a service clears it.
    """

    def __init__(self, opens: Accounts, store: Store) -> None:
        self.accounts, self.store = opens, store
        self.kept, self.news = asyncio.Event(), asyncio.Event()
        self._opened: dict[str, asyncio.Task[Door]] = {}
        self._keeping: Together[Row, bool] = Together(store.run, inbox.keep)
        self._strangers: dict[tuple[int, date], tuple[int, datetime]] = {}

    async def open(self, entry: ShopEntry | Entry, now: datetime) -> Door:
        """An account's door, made once.

        Raises:
            CrmkitError: the account cannot be met.
        """
        opening = self._opened.get(entry.name)
        if opening is None or (opening.done() and (opening.cancelled() or opening.exception() is not None)):
            opening = self._opened[entry.name] = asyncio.create_task(self._open(entry, now))
        if opening.done():
            return opening.result()
        return await asyncio.shield(opening)  # who does not wait to the end leaves it to the others

    async def _open(self, entry: ShopEntry | Entry, now: datetime) -> Door:
        adapter = self.accounts.made(entry)
        await adapter.http.aclose()
        row = await self.store.run(accounts.find, entry.name)
        number = row["id"] if row is not None else None
        await self.accounts.recall(adapter, entry, number, self.store.run)
        return Door(adapter, await self._stored(entry, now) if row is not None else None)

    async def _stored(self, entry: ShopEntry | Entry, now: datetime) -> Shop:
        number, announce_from = await self.accounts.meet(entry, None, self.store.run, now)
        return self.accounts.shop(entry, number, announce_from or now)

    async def meet(self, entry: ShopEntry | Entry, now: datetime) -> tuple[Adapter, Shop]:
        """An account's adapter, and the account as it is stored: from now on if it never was. No stranger gets so far.

        Its first sync decides from when it announces.

        Raises:
            CrmkitError: the account cannot be met.
        """
        at = await self.open(entry, now)
        if at.shop is None:
            at.shop = await self._stored(entry, now)
        return at.adapter, at.shop

    async def remind(self) -> None:
        """Give adapters what they remember now: another process may have connected their account meanwhile."""
        named = self.accounts.named()
        for name, opening in list(self._opened.items()):
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                row = await self.store.run(accounts.find, name)
                number = row["id"] if row is not None else None
                at = opening.result()
                await self.accounts.recall(at.adapter, named[name], number, self.store.run)
                if number is not None and at.shop is None:  # it was synced since, by another process perhaps
                    await self.meet(named[name], datetime.now(UTC))

    async def hear(
        self,
        account: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        method: str = "POST",
        query: str = "",
        path_secret: str = "",
        correlation_id: str | None = None,
        now: datetime | None = None,
    ) -> door.Heard:
        """A call came in for an account: verified, it is kept for good; the answer is what its vendor wants to hear.

        Args:
            account: the account's name, as the address has it.
            headers: by name in lower case.
            body: the raw bytes.
            method: how it was called.
            query: what the address has after `?`.
            path_secret: what it has after the account's name.
            correlation_id: tells this call, and what comes of it, from others.
            now: when it came; the wall clock where None.

        Raises:
            PluginError: the adapter's door is broken.
            ConfigError: the account cannot be opened.
            RetryableError, TimeoutError: too much comes in at once, or it takes too long.
        """
        moment = now or datetime.now(UTC)
        opened = self._opened.get(account)
        if opened is not None and opened.done() and not opened.cancelled() and opened.exception() is None:
            found = opened.result()
        else:
            entry = self.accounts.called().get(account)
            if entry is None:
                return door.Heard(NOBODY, "refused")
            async with asyncio.timeout(self._keeping.within):
                found = await self.open(entry, moment)
        path = f"/{quote(path_secret, safe='')}" if path_secret else ""
        url = f"{found.adapter.account.webhook_url or ''}{path}{'?' + query if query else ''}"
        call = Call(body, headers, url, query, path_secret, moment, method)

        async def keep(row: Row) -> bool:
            shop = found.shop
            if shop is None:
                async with asyncio.timeout(self._keeping.within):
                    _, shop = await self.meet(self.accounts.named()[account], moment)
            return await self._keeping.store({**row, "account_id": shop.id})

        heard = await door.accept(found.adapter, call, keep, correlation_id)
        if heard.fate == "kept":
            self.kept.set()
            self.news.set()
        elif heard.fate == "refused" and found.shop is not None:
            count, _ = self._strangers.get((found.shop.id, moment.date()), (0, moment))
            self._strangers[found.shop.id, moment.date()] = (count + 1, moment)
        return heard

    async def note_strangers(self) -> None:
        """Write down how many could not show who they are; nothing where there were none."""
        counted, self._strangers = self._strangers, {}
        rows: list[dict[str, Any]] = [
            {"account_id": account, "day": day, "count": count, "last_at": last_at}
            for (account, day), (count, last_at) in counted.items()
        ]
        if not rows:
            return
        try:
            await self.store.run(inbox.add_strangers, rows)
        except Exception:
            for key, (count, last_at) in counted.items():  # they are written down with the next
                more, latest = self._strangers.get(key, (0, last_at))
                self._strangers[key] = (count + more, latest)
            raise

    async def close(self) -> None:
        """Wait until what was verified is kept, and write down who was not."""
        await self._keeping.close()
        await self.note_strangers()
