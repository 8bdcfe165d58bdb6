"""An installation of chosen plugins in this process: a real configuration, a real database, the engine as it is.

Shops and gateways that no plugin of the test brings are stand-ins (`stand_in`). Nothing of the way through is done
here: records are read by `sync`, handlers are asked by `dispatch`, on the clock of the test.
"""

import asyncio
import re
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from textwrap import dedent
from tomllib import TOMLDecodeError, loads
from types import ModuleType
from typing import Any, TypeVar

import httpx
import sqlalchemy as sa

from crmkit.adapters.gateway import Gateway
from crmkit.adapters.http import client
from crmkit.adapters.source import Source
from crmkit.core.customer import Customer
from crmkit.core.errors import ConfigError, CrmkitError
from crmkit.core.events import Event
from crmkit.core.hooks import GROUP
from crmkit.core.order import Order
from crmkit.core.records import Record
from crmkit.engine.local import DispatchRun, Local
from crmkit.flow import forget, schedule, tell
from crmkit.flow.setup import Entry
from crmkit.host.catalogue import PLAY, SOURCES, Catalogue
from crmkit.host.host import Host
from crmkit.host.opening import ShopEntry, playbook_slug
from crmkit.host.plugins import Plugins
from crmkit.store import accounts, facts
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.testing.clock import Clock
from crmkit.testing.stand_in import GATEWAYS, POINTS, SLUG, STAGES, Answer, Stage
from crmkit.testing.watch import Watch

R = TypeVar("R")
#: A plugin as a test names it: its slug, the path of its file, or its module.
Named = str | Path | ModuleType
#: Gives an empty database with the tables of these plugins, {plugin: its folder of migrations}, and this key.
Lend = Callable[[Mapping[str, Path], bytes | None], Store]


@dataclass
class TestHost(Host):
    """A host whose adapters call by a transport of the test's, where it has one."""

    __test__ = False

    transport: httpx.AsyncBaseTransport | None = None

    def source(self, shop: ShopEntry) -> Source:
        """The adapter of a shop or source, as the host makes it."""
        return self._source(shop, client(transport=self.transport))

    def gateway(self, entry: Entry) -> Gateway:
        """The adapter of a gateway entry, as the host makes it."""
        return self._gateway(entry, client(concurrency=entry.settings.concurrency, transport=self.transport))


class TestEngine(Local):
    """The engine, on a database that is known to be migrated: to look whether it is takes longer than most steps."""

    __test__ = False

    def prepare(self) -> None:
        """Nothing to do."""


class Installation:
    """crmkit with chosen plugins, in a folder and a database of its own.

    Args:
        folder: where its configuration and templates go.
        lend: gives it a database; whoever lent it takes it back.
        clock: its time.
        plugins: playbooks and adapters: slugs of what is installed (`"care"`), paths of one-file plugins, modules.
        config: TOML. Of the sections that are not here the kit writes its own: `[plugins]` that use the playbooks of
            `plugins`, `[shops.NAME]` for each of `shops`, a stand-in gateway for each of `channels`.
        templates: {`news.en.email`: its text}, or `.html` at the end for the page beside it.
        shops, channels: names of the stand-ins.
        beside: folders in which paths of plugins are looked for.
        transport: answers what adapters call, instead of the network.
        watch: watches the plugins; one is made where None.
        is_patient: go on where a plugin fails, and keep what it was in `failures`.

    Attributes:
        host, store, engine: what it is made of. A test may look at them; they are no promise.
        stage: what the stand-ins have to say, and what they were handed.

    Raises:
        CrmkitError: the configuration is wrong, or a plugin cannot be used.
    """

    def __init__(
        self,
        folder: Path,
        lend: Lend,
        clock: Clock,
        *,
        plugins: Iterable[Named] = (),
        config: str = "",
        templates: Mapping[str, str] | None = None,
        shops: Sequence[str] = ("shop",),
        channels: Sequence[str] = ("email", "sms"),
        beside: Iterable[Path] = (),
        transport: httpx.AsyncBaseTransport | None = None,
        watch: Watch | None = None,
        is_patient: bool = False,
    ) -> None:
        self.folder, self.clock = folder, clock
        self.is_patient, self.failures = is_patient, list[str]()
        self.watch = watch or Watch()
        self.stage: Stage = STAGES[folder]
        shelf = [_placed(one, tuple(beside)) for one in plugins]
        playbooks = [slug for slug, points in shelf if any(point.name.startswith(f"{PLAY}.") for point in points)]
        written = _written(dedent(config), playbooks, shops, channels)
        (folder / "crmkit.toml").write_text(written, "utf-8")
        for name, text in (templates or {}).items():
            self._template(name, text)
        own = [*POINTS, *(point for _, points in shelf for point in points)]
        taken = {point.name for point in own}
        installed = [point for point in _points() if point.name not in taken]
        self.host = TestHost.open(folder / "crmkit.toml", plugins=Plugins(Catalogue([*own, *installed])))
        assert isinstance(self.host, TestHost)
        self.host.transport = transport
        for broken in self.host.broken:
            raise broken.error
        self.host.playbooks = [self.watch.over(one) for one in self.host.playbooks]
        key = self.host.config.key
        self.store = lend(self.host.migrations, None if key is None else key.get_secret_value().encode())
        address = self.store.engine.url.render_as_string(hide_password=False)
        self.host.config = replace(self.host.config, database=address)
        self.engine = TestEngine(self.host, self.store)
        self.sync(*(name for name, shop in self.host.shops.items() if shop.adapter.name == SLUG))
        with self.store.begin() as tx:  # schedules are first seen now, and due from their next slot on
            schedule.keep(tx, self.engine.setup(tx), clock.now)

    def close(self) -> None:
        """Nothing of it is left but its folder and its database."""
        STAGES.pop(self.folder, None)

    def _template(self, name: str, text: str) -> None:
        path = self.folder / "templates" / (name if name.endswith((".txt", ".html")) else f"{name}.txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n").rstrip() + "\n", "utf-8")

    # what goes on

    def say(self, *records: Record, account: str | None = None) -> None:
        """A stand-in has these records to say when it is read next.

        Args:
            records: what it says; `observed_at` is now where they say nothing of it.
            account: a shop's name, or a gateway's for receipts and replies; the first shop where None.
        """
        name = account or next(iter(self.host.shops), "")
        if name not in self.engine.accounts.readable():
            known = ", ".join(self.engine.accounts.readable())
            raise ConfigError(f"there is no account {name!r}", who="installation", do=f"known are: {known or 'none'}")
        self.stage.waiting[name] += [
            record.model_copy(update={"observed_at": self.clock.now}) if record.observed_at is None else record
            for record in records
        ]

    def sync(self, *names: str) -> None:
        """Read shops, sources, and gateways that have something to read: these, or all.

        Raises:
            CrmkitError: one cannot be read.
            AssertionError: a record, or a part of one, was refused.
        """
        if not names and not self.engine.accounts.readable():
            return
        for run in waited(self.engine.sync(names, now=self.clock.now)):
            for error in run.errors:
                raise error
            for refused in [*run.tally.refused, *run.tally.flaws]:
                raise AssertionError(f"{run.shop}: {refused.kind} {refused.place}: refused: {refused.reason}")
        with self.store.begin() as tx:  # a test's buyers were nobody's before
            accounts.know_opt_outs(tx, accounts.opt_outs(tx), self.clock.now, "a test")

    def dispatch(self) -> DispatchRun:
        """Decide and deliver what became due up to now, each at its time.

        Raises:
            AssertionError: a plugin failed; its own error is the cause.
        """
        before = len(self.watch.calls)
        run = waited(self.engine.dispatch(now=self.clock.now))
        for plugin, interaction, text in run.decided.failed:
            if self.is_patient:
                self.failures.append(f"{plugin} failed on {self._what(interaction)}: {text}")
                continue
            raised = (one.error for one in self.watch.calls[before:] if one.plugin == plugin and one.error is not None)
            raise AssertionError(f"{plugin} failed on {self._what(interaction)}: {text}") from next(raised, None)
        for error in run.delivered.stopped.values():
            if not isinstance(error, CrmkitError):
                raise error
        return run

    def answers(self, gateway: str, *answers: Answer) -> None:
        """What a stand-in gateway answers next: functions of the message that give a receipt, or errors to raise."""
        self.stage.answers[gateway].extend(answers)

    def tell(self, event: Event, *, key: str | None = None, plugin: str = "test") -> None:
        """Put an event into the log as happening now; it is decided with the next dispatch.

        Args:
            event: any event, of the core's or a plugin's; its `customer`, `order` and `shop` are whom it is about.
            key: what makes it the same one when it is told again; each is one of its own where None.
            plugin: who tells it.
        """
        told = key or f"{len(self.rows(t.interaction))}"
        with self.store.begin() as tx:
            listened = self.engine.setup(tx).listened
            tell.tell(tx, plugin, event, told, listened=listened, now=self.clock.now)

    def forget(self, customer: Customer | int) -> None:
        """Forget a customer, as `crmkit customers forget` does."""
        number = customer if isinstance(customer, int) else customer.id
        with self.store.begin() as tx:
            forget.forget(tx, number, now=self.clock.now)

    # what there is

    def rows(self, table: Any, **where: Any) -> list[dict[str, Any]]:
        """Rows of a table (or a plugin's model) whose columns equal `where`, by primary key."""
        found = table if isinstance(table, sa.Table) else t.table_of(table)
        statement = sa.select(found).order_by(*found.primary_key.columns)
        for name, value in where.items():
            statement = statement.where(found.c[name] == value)
        with self.store.read() as tx:
            return [dict(row) for row in tx.execute(statement).mappings()]

    def customer(self, buyer: str) -> Customer:
        """The customer with this buyer id, e-mail address or phone number.

        Raises:
            LookupError: there is none.
        """
        with self.store.read() as tx:
            wanted = sa.select(t.identity.c.profile_id).where(t.identity.c.value == buyer).order_by("profile_id")
            number = tx.execute(wanted).scalar()
            if number is None:
                known = sorted(tx.execute(sa.select(t.identity.c.value).distinct()).scalars())
                raise LookupError(f"no customer is known by {buyer!r}; known are {', '.join(known) or 'none'}")
            return facts.customers_of(tx, [number])[number]

    def order(self, external_id: str, shop: str | None = None) -> Order:
        """An order by its shop's id of it, as known now.

        Raises:
            LookupError: there is none.
        """
        with self.store.read() as tx:
            wanted = sa.select(t.orders.c.id).where(t.orders.c.external_id == external_id)
            if shop is not None:
                row = accounts.find(tx, shop)
                wanted = wanted.where(t.orders.c.shop_id == (row["id"] if row else None))
            number = tx.execute(wanted.order_by("id")).scalar()
            if number is None:
                raise LookupError(f"there is no order {external_id!r}")
            return facts.orders_at(tx, [number], self.clock.now)[number]

    def _what(self, interaction: int) -> str:
        [row] = self.rows(t.interaction, id=interaction)
        return f"{row['type']} (interaction {interaction})"


def waited(coroutine: Coroutine[Any, Any, R]) -> R:
    """What a coroutine comes to, also where a loop runs already: then in a thread of its own."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    found: list[R] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            found.append(asyncio.run(coroutine))
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="crmkit-testing")
    thread.start()
    thread.join()
    for error in raised:
        raise error
    return found[0]


# --- plugins ----------------------------------------------------------------------------------------------------------


def _placed(plugin: Named, beside: Sequence[Path]) -> tuple[str, list[EntryPoint]]:
    """The slug of a plugin a test names, and the entry points it would have were it installed."""
    if isinstance(plugin, str) and not plugin.endswith(".py") and "/" not in plugin:
        points = [point for point in _points() if point.name.partition(".")[2] == plugin]
        if not points:
            what = f"no plugin {plugin!r} is installed"
            raise ConfigError(what, who="installation", do="name one that is, a path ending in .py, or a module")
        return plugin, points
    module = plugin if isinstance(plugin, ModuleType) else _module(Path(plugin), beside)
    # a test's module is named after its folder, which may be called anything
    named = re.sub(r"[^\w.]", "_", module.__name__)
    sys.modules.setdefault(named, module)
    slug = _slug(module)
    hooks = {name for name in vars(module) if name.startswith("crmkit_")}
    places: list[tuple[str, str]] = []
    if "crmkit_sources" in hooks:
        names = [cls.name for cls in module.crmkit_sources()]
        places += [(family, name) for name in names for family in SOURCES]
    if "crmkit_gateways" in hooks:
        places += [(cls.channel, cls.name) for cls in module.crmkit_gateways()]
    return slug, [EntryPoint(f"{family}.{name}", named, GROUP) for family, name in places or [(PLAY, slug)]]


def _slug(module: ModuleType) -> str:
    """What a playbook is called in a configuration: as it is installed, as its file, or its package without crmkit_."""
    for point in _points():
        family, _, slug = point.name.partition(".")
        if family == PLAY and point.value == module.__name__:
            return slug
    file = getattr(module, "__file__", None)
    if file is None or hasattr(module, "__path__"):
        return module.__name__.rpartition(".")[2].removeprefix("crmkit_")
    return playbook_slug(str(file))


@lru_cache(maxsize=1)
def _points() -> tuple[EntryPoint, ...]:
    """What is installed; to look takes its time."""
    return tuple(entry_points(group=GROUP))


def _module(path: Path, beside: Sequence[Path]) -> ModuleType:
    """The module of a file, which is imported once: by the test itself, or here."""
    places = [path] if path.is_absolute() else [folder / path for folder in beside]
    file = next((place.resolve() for place in places if place.is_file()), None)
    if file is None:
        looked = ", ".join(str(place) for place in places)
        raise ConfigError(f"there is no file {path} (looked for {looked})", who="installation", do="correct the path")
    for module in list(sys.modules.values()):
        if (known := getattr(module, "__file__", None)) and Path(known).resolve() == file:
            return module
    loaded = Plugins(Catalogue(())).load_file(file)
    found: ModuleType = loaded.module
    return found


# --- the configuration ------------------------------------------------------------------------------------------------


def _written(config: str, playbooks: Sequence[str], shops: Sequence[str], channels: Sequence[str]) -> str:
    """A configuration as a test gives it, with what it leaves out behind it, so that its lines keep their numbers.

    Raises:
        ConfigError: it is no TOML.
    """
    try:
        there = set(loads(config))
    except TOMLDecodeError as error:
        raise ConfigError(f"config is no TOML: {error}", who="installation") from None
    parts = [config]
    if "plugins" not in there and playbooks:
        parts.append(f"[plugins]\nuse = [{', '.join(repr(name) for name in playbooks)}]")
    if "shops" not in there:
        parts += [f'[shops.{name}]\nuse = "{SLUG}"' for name in shops]
    if "channels" not in there:
        unknown = [channel for channel in channels if channel not in GATEWAYS]
        if unknown:
            what = f"there is no stand-in gateway for {unknown[0]}"
            raise ConfigError(what, who="installation", do=f"there are for: {', '.join(GATEWAYS)}")
        parts += [f'[[channels.{name}]]\nuse = "{SLUG}"\nname = "{name}"' for name in channels]
    return "\n".join([*parts, ""])
