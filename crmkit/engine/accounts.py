"""The accounts of an installation: each is met once, and its adapter opened with what it remembers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.engine import Connection

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.memory import Keep, Memory
from crmkit.adapters.source import Source
from crmkit.adapters.stream import BEGINNING
from crmkit.core.account import Shop
from crmkit.flow.setup import Entry, Setup
from crmkit.flow.sync import Run, guarded
from crmkit.host.host import Host
from crmkit.host.opening import ShopEntry
from crmkit.host.vault import Vault
from crmkit.store import accounts, inbox, instance
from crmkit.store.engine import Store


class Accounts:
    """Opens the accounts of a configuration.

    Args:
        host: the configuration with its plugins.
        store: the open database.
    """

    def __init__(self, host: Host, store: Store) -> None:
        self.host, self.store = host, store

    @property
    def vault(self) -> Vault:
        """What locks and unlocks memories."""
        return Vault(self.host.config.key)

    def named(self) -> dict[str, ShopEntry | Entry]:
        """Every account that is switched on, by name: shops and sources, then gateways."""
        gateways = {entry.name: entry for entries in self.host.channels.values() for entry in entries}
        return {**self.host.shops, **gateways}

    def readable(self) -> dict[str, ShopEntry | Entry]:
        """Those of them there is something to read of."""
        return {n: e for n, e in self.named().items() if isinstance(e, ShopEntry) or e.adapter.streams()}

    def called(self) -> dict[str, ShopEntry | Entry]:
        """Those of them whose adapter reads webhooks."""
        return {name: entry for name, entry in self.named().items() if entry.adapter.records is not Adapter.records}

    @asynccontextmanager
    async def open(self, entry: ShopEntry | Entry, run: Run, now: datetime) -> AsyncIterator[tuple[Adapter, Shop]]:
        """An account's adapter, open, and the account as it is stored.

        Raises:
            CrmkitError: it cannot be opened, or reads what another section reads.
        """
        adapter = self.made(entry)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(adapter.http.aclose)
            closing.push_async_callback(lambda: guarded(adapter.close(), who=entry.name, operation="close"))
            if isinstance(entry, Entry):  # a shop may only be met once it can say which account of the vendor it is
                number, _ = await self.meet(entry, None, run, now)
                await self.recall(adapter, entry, number, run)
            else:
                known = await run(accounts.find, entry.name)
                await self.recall(adapter, entry, known["id"] if known is not None else None, run)
            await guarded(adapter.open(), who=entry.name, operation="open")
            vendor = None
            if isinstance(adapter, Source):
                vendor = await guarded(adapter.vendor_account(), who=entry.name, operation="ask for the account")
            number, announce_from = await self.meet(entry, vendor, run, now, is_read=True)
            await self.recall(adapter, entry, number, run)
            yield adapter, self.shop(entry, number, announce_from or now)

    def made(self, entry: ShopEntry | Entry) -> Adapter:
        """An account's adapter, not opened; the caller closes its client."""
        return self.host.gateway(entry) if isinstance(entry, Entry) else self.host.source(entry)

    async def meet(
        self, entry: ShopEntry | Entry, vendor_account: str | None, run: Run, now: datetime, *, is_read: bool = False
    ) -> tuple[int, datetime | None]:
        """The stored number of an account, and the moment from which it announces.

        Args:
            is_read: whether it is read now: the first time decides from when it announces, unless that is configured.
        """
        given = entry.announce_from if isinstance(entry, ShopEntry) else None
        number, announce_from = await run(
            accounts.meet,
            name=entry.name,
            kind=entry.kind if isinstance(entry, ShopEntry) else "gateway",
            adapter=entry.adapter.name,
            vendor_account=vendor_account,
            announce_from=given or (BEGINNING if isinstance(entry, Entry) else now if is_read else None),
            now=now,
        )
        if given is not None and announce_from != given:
            await run(accounts.set_announce_from, number, given)
            announce_from = given
        return number, announce_from

    def connected_as(self, entry: ShopEntry | Entry) -> ShopEntry | Entry:
        """The account whose memory an account uses: itself, unless its entry names another."""
        named = entry.connection if isinstance(entry, Entry) else None
        return entry if named is None else self.named()[named]

    async def recall(self, adapter: Adapter, entry: ShopEntry | Entry, number: int | None, run: Run) -> None:
        """Give an account's adapter its origin and its memory, or that of the account it shares one with.

        Args:
            number: the account's own; None where it was never met.
        """
        owner = self.connected_as(entry)
        if owner is not entry:
            row = await run(accounts.find, owner.name)
            number = row["id"] if row is not None else None
        name = owner.name
        locked = await run(inbox.remembered, number) if number is not None else {}
        adapter.memory = Memory(self.vault.unlock(name, locked) if locked else {}, self._keep(owner))
        if not adapter.origin:  # the same however often it recalls what it remembers
            adapter.origin = _origin(await run(accounts.installation, datetime.now(UTC)), entry.name)

    def reminded(self, adapter: Adapter, name: str, tx: Connection) -> None:
        """Give an adapter what it remembers, without meeting the account."""
        owner = self.connected_as(self.named()[name])
        row = accounts.find(tx, owner.name)
        locked = inbox.remembered(tx, row["id"]) if row is not None else {}
        adapter.memory = Memory(self.vault.unlock(owner.name, locked) if locked else {}, self._keep(owner))

    def _keep(self, owner: ShopEntry | Entry) -> Keep:
        """How an account keeps what its adapter is to remember."""

        async def keep(news: Mapping[str, Any]) -> None:
            # For good, also where the rest is a plan: what a vendor exchanged a token for is not exchanged twice.
            at = datetime.now(UTC)
            kept, _ = await self.meet(owner, None, self.store.run, at)
            await self.store.run(inbox.remember, kept, self.vault.lock(owner.name, news), at)

        return keep

    def shop(self, entry: ShopEntry | Entry, number: int, announce_from: datetime) -> Shop:
        """An account as ingest takes it."""
        if isinstance(entry, ShopEntry):
            return self.host.setup({entry.name: (number, announce_from)}).shops[number]
        crm = self.host.config.crm
        return Shop(
            id=number,
            name=entry.name,
            title=entry.name,
            reports=frozenset(),
            announce_from=BEGINNING,
            locale=crm.locale,
            zone=ZoneInfo(crm.timezone),
            kind="gateway",
            watch=self.host.config.policy.pause.thresholds(),
        )

    def listened(self) -> frozenset[str]:
        """Wire names of the events somebody handles."""
        return self.host.setup({}).listened


def setup_of(host: Host, tx: Connection) -> Setup:
    """What the steps are set up with, for the shops a database knows, and as far as it is to be believed."""
    setup = host.setup({row["name"]: (row["id"], row["announce_from"]) for row in accounts.every(tx)})
    return replace(setup, doubtful_until=instance.doubtful_until(tx))


def _origin(installation: str, name: str) -> str:
    return blake2b(f"{installation}\x1f{name}".encode(), digest_size=8).hexdigest()
