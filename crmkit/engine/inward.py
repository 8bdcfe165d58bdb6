"""What comes in: shops are read, webhooks kept at the door and taken in, accounts connected."""

import pickle
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import IO, Any

from crmkit.adapters.adapter import Adapter, Ask
from crmkit.adapters.door import Reply
from crmkit.adapters.source import Source
from crmkit.adapters.stream import Ref
from crmkit.core.errors import ConfigError, CrmkitError, PayloadError
from crmkit.core.log import told_of
from crmkit.engine.accounts import Accounts
from crmkit.engine.doors import Doors
from crmkit.flow import inbox as door
from crmkit.flow.ingest import Tally, ingest
from crmkit.flow.setup import Entry
from crmkit.flow.sync import Run, broken, guarded, hinted, pull, read
from crmkit.host.host import Host
from crmkit.host.opening import ShopEntry
from crmkit.store import accounts, contacts, inbox, migrate
from crmkit.store.engine import Store, is_out_of_order

#: Told as a sync goes on: shop, stream, records so far, records in all (None: unknown).
SyncProgress = Callable[[str, str, int, int | None], None]
#: Webhooks whose bodies one transaction lets go.
EXPIRED = 500


@dataclass(slots=True)
class ShopRun:
    """What a sync of one account did; `errors` is what stopped it, or one of its streams, before the end."""

    shop: str
    tally: Tally = field(default_factory=Tally)
    errors: list[CrmkitError] = field(default_factory=list)
    webhooks: int = 0


class Inward:
    """Reads the accounts of a configuration into its database.

    Args:
        host: the configuration with its plugins.
        store: the open database; the caller closes it.
    """

    def __init__(self, host: Host, store: Store) -> None:
        self.host, self.store = host, store
        self.accounts = Accounts(host, store)
        self.doors = Doors(self.accounts, store)

    def prepare(self) -> None:
        """Create the database if there is none; refuse one of another version.

        Raises:
            DatabaseError: it cannot be written, or is of another version.
        """
        if migrate.is_empty(self.store):
            migrate.upgrade(self.host.config.database, self.host.migrations)
        else:
            migrate.check(self.store, self.host.migrations)

    # reading

    async def sync(
        self,
        names: Sequence[str] = (),
        *,
        since: datetime | None = None,
        ids: Sequence[str] = (),
        now: datetime | None = None,
        progress: SyncProgress | None = None,
    ) -> list[ShopRun]:
        """Take in webhooks that wait, pull and ingest.

        Args:
            names: shops, sources, and gateways that have something to read; all that are switched on where empty.
            since: read what changed since then; live cursors stay.
            ids: read these orders only; cursors stay.
            now: the run's clock; the wall clock where None.
            progress: told after every page.
        """
        self.prepare()
        moment = now or datetime.now(UTC)
        number = await self.store.run(accounts.begin_run, "sync", moment)
        await self.store.run(contacts.erase_old, moment)
        runs: list[ShopRun] = []
        outcome = "interrupted"
        refs = [Ref("order", one) for one in ids]
        try:
            for entry in self._chosen(names):
                runs.append(ShopRun(entry.name))
                asked: dict[str, Any] = {"since": since, "refs": refs, "now": moment, "progress": progress}
                await self._read(entry, runs[-1], self.store.run, number=number, **asked)
            outcome = "failed" if any(run.errors for run in runs) else "done"
            await self.expire(now=min(moment, datetime.now(UTC)))  # a run ahead of time lets nothing go
        finally:
            counts = {run.shop: _counts(run) for run in runs}
            ended = now or datetime.now(UTC)
            await self.store.run(accounts.end_run, number, outcome, counts, ended)
        return runs

    async def plan_sync(
        self,
        names: Sequence[str] = (),
        *,
        since: datetime | None = None,
        ids: Sequence[str] = (),
        now: datetime | None = None,
        progress: SyncProgress | None = None,
    ) -> list[ShopRun]:
        """What a sync would do, counted; nothing is written.

        The accounts are really read, into a file, and only then is what came ingested and rolled back: the database is
        not held while a vendor is slow.
        """
        self.prepare()
        moment = now or datetime.now(UTC)
        refs = [Ref("order", one) for one in ids]
        runs: list[ShopRun] = []
        with tempfile.TemporaryFile() as spool:
            for entry in self._chosen(names):
                runs.append(ShopRun(entry.name))
                run = self._spooling(spool, runs[-1])
                await self._read(entry, runs[-1], run, since=since, refs=refs, now=moment, progress=progress, plan=True)
            self._count(spool, {run.shop: run for run in runs})
        return runs

    def _spooling(self, spool: IO[bytes], result: ShopRun) -> Run:
        """Runs a step and rolls it back; an ingest is put aside for the end, but for what its page hints at."""
        hinted_at: list[tuple[int, list[tuple[str, str]], datetime]] = []

        async def run(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            if step is ingest:
                pickle.dump((result.shop, args, kwargs), spool)
                shop, page = args
                hinted_at.append((shop.id, [(one.kind, one.external_id) for one in page.hints], kwargs["now"]))
                return Tally()
            with self.store.rehearse() as tx:
                for hints in hinted_at if step is inbox.hints else ():
                    inbox.hint(tx, *hints)
                return step(tx, *args, **kwargs)

        return run

    def _count(self, spool: IO[bytes], runs: Mapping[str, ShopRun]) -> None:
        """Ingest what was put aside, all in one transaction that is rolled back."""
        spool.seek(0)
        with self.store.rehearse() as tx:
            while True:
                try:
                    name, args, kwargs = pickle.load(spool)
                except EOFError:
                    return
                runs[name].tally.add(ingest(tx, *args, **kwargs))

    async def retry_quarantine(self, shop: str, refs: Iterable[Ref], *, now: datetime | None = None) -> ShopRun:
        """Read refused records again, by id."""
        result = ShopRun(shop)
        entry = self._chosen([shop])[0]
        await self._read(entry, result, self.store.run, refs=list(refs), now=now or datetime.now(UTC))
        return result

    def _chosen(self, names: Sequence[str]) -> list[ShopEntry | Entry]:
        """The accounts of these names; where none is named, all there is something to read of."""
        known, readable = self.accounts.named(), self.accounts.readable()
        unknown = [name for name in names if name not in readable]
        if unknown:
            is_on = unknown[0] in known
            what = f"there is nothing to read of {unknown[0]!r}" if is_on else f"no shop {unknown[0]!r} is switched on"
            raise ConfigError(what, who="sync", do=f"name one of those that are: {', '.join(readable) or 'none'}")
        return [readable[name] for name in names] if names else list(readable.values())

    async def _read(
        self,
        entry: ShopEntry | Entry,
        result: ShopRun,
        run: Run,
        *,
        now: datetime,
        since: datetime | None = None,
        refs: Sequence[Ref] = (),
        progress: SyncProgress | None = None,
        plan: bool = False,
        number: int | None = None,
    ) -> None:
        """Read one account. What stops it is kept in `result`: the next one goes on; `number` is the run's."""
        listened = self.accounts.listened()
        try:
            async with self.accounts.open(entry, run, now) as (adapter, shop):
                ours = replace(shop, run=number)
                if refs:
                    if isinstance(adapter, Source):
                        result.tally.add(await read(adapter, ours, run, refs, listened=listened, now=now))
                    return
                if not plan:
                    taken = await door.take(adapter, shop, run, listened=listened, now=now)
                    self._add(result, taken)
                told = None if progress is None else lambda *at: progress(entry.name, *at)
                tally, errors = await pull(
                    adapter, ours, run, listened=listened, now=now, since=since, progress=told, latest=datetime.now(UTC)
                )
                result.tally.add(tally)
                result.errors.extend(errors)
                if not errors and since is None:
                    await run(accounts.set_synced, shop.id, now)
        except Exception as error:  # what an account's plugin breaks is that account's only
            result.errors.append(_failure(error, entry.name, "sync"))

    # webhooks

    async def accept(self, account: str, headers: Mapping[str, str], body: bytes, **call: Any) -> Reply:
        """A webhook came in for an account: what `doors.hear` answers it."""
        known = {name.lower(): value for name, value in headers.items()}
        return (await self.doors.hear(account, known, body, **call)).reply

    async def take_in(self, *, now: datetime | None = None) -> list[ShopRun]:
        """Take in every webhook that waits, of all accounts that are switched on."""
        moment = now or datetime.now(UTC)
        listened = self.accounts.listened()
        waiting = set(await self.store.run(inbox.accounts_waiting))
        if not waiting:
            return []
        runs = []
        for name, entry in (await self._numbered(waiting)).items():
            runs.append(ShopRun(name))
            try:
                adapter, shop = await self.doors.meet(entry, moment)
                taken = await door.take(adapter, shop, self.store.run, listened=listened, now=moment)
                self._add(runs[-1], taken)
            except Exception as error:  # what an account's plugin breaks is that account's only
                runs[-1].errors.append(_failure(error, name, "take in"))
        return runs

    async def follow(self, *, now: datetime | None = None) -> list[ShopRun]:
        """What news at the door asks for: take in what waits, and read again what it hinted at. No stream is read."""
        moment = now or datetime.now(UTC)
        runs = {run.shop: run for run in await self.take_in(now=now)}
        hinted_at = set(await self.store.run(inbox.accounts_hinted))
        for name, entry in (await self._numbered(hinted_at)).items():
            run = runs.setdefault(name, ShopRun(name))
            try:
                async with self.accounts.open(entry, self.store.run, moment) as (adapter, shop):
                    if isinstance(adapter, Source):
                        listened = self.accounts.listened()
                        tally, errors = await hinted(adapter, shop, self.store.run, listened=listened, now=moment)
                        run.tally.add(tally)
                        run.errors.extend(errors)
            except Exception as error:  # what an account's plugin breaks is that account's only
                run.errors.append(_failure(error, name, "follow"))
        return list(runs.values())

    async def _numbered(self, numbers: Collection[int]) -> dict[str, ShopEntry | Entry]:
        """The accounts with these numbers that are switched on, by name."""
        names = {row["name"] for row in await self.store.run(accounts.every) if row["id"] in numbers}
        return {name: entry for name, entry in self.accounts.named().items() if name in names}

    async def expire(self, *, now: datetime | None = None) -> None:
        """Let raw bodies go that were kept long enough."""
        before = (now or datetime.now(UTC)) - self.host.config.web.keep_bodies
        while await self.store.run(inbox.expire, before, EXPIRED) == EXPIRED:
            pass
        await self.store.run(inbox.expire_refused, before)

    @staticmethod
    def _add(result: ShopRun, taken: door.Taken) -> None:
        result.webhooks += taken.calls
        result.tally.add(taken.tally)
        for number, why in taken.failed.items():
            what = f"webhook {number} cannot be read: {why}"
            result.errors.append(PayloadError(what, do=f"it is kept: `crmkit inbox show {number}`"))

    # connecting

    async def connect(self, account: str, ask: Ask, *, now: datetime | None = None) -> None:
        """Fill the memory of an account with what is needed to use it.

        Args:
            account: its name.
            ask: asks the person at the terminal.

        Raises:
            ConfigError: there is no such account, or it needs no connecting.
        """
        self.prepare()
        moment = now or datetime.now(UTC)
        entry = self.accounts.named().get(account)
        if entry is None:
            known = ", ".join(self.accounts.named()) or "none"
            raise ConfigError(f"no account {account!r} is switched on", who="connect", do=f"name one of: {known}")
        owner = self.accounts.connected_as(entry)
        if owner is not entry:
            what = f"{account} uses the connection of {owner.name}"
            raise ConfigError(what, who="connect", do=f"run crmkit connect {owner.name}")
        adapter = self.accounts.made(entry)
        try:
            if type(adapter).connect is Adapter.connect:
                raise ConfigError(f"{account} needs no connecting", who="connect", do="`crmkit doctor` says how it is")
            number, _ = await self.accounts.meet(entry, None, self.store.run, moment)
            await self.accounts.recall(adapter, entry, number, self.store.run)
            await guarded(adapter.connect(ask), who=account, operation="connect")
        finally:
            await adapter.http.aclose()


def _counts(run: ShopRun) -> dict[str, Any]:
    """What a run notes of an account: records by kind, and what kind of error stopped it, not in its words."""
    counts: dict[str, Any] = {kind: dict(count) for kind, count in run.tally.records.items()}
    if run.errors:
        told = told_of(run.errors[0])
        counts["error"] = " in ".join(part for part in (told["error"], told["operation"]) if part)
    return counts


def _failure(error: Exception, account: str, operation: str) -> CrmkitError:
    """What stopped an account, where that is its own: a database that is gone stops all of them, and is raised."""
    if isinstance(error, CrmkitError):
        return error
    if is_out_of_order(error):
        raise error
    failure = broken(error, who=account, operation=operation)
    failure.__cause__ = error
    return failure
