"""Opening a configuration: adapters and playbooks are loaded and their settings checked, one by one.

Whatever is wrong with the configuration becomes a problem at its place; whatever is wrong with a plugin is listed with
what goes without it. Neither stops the rest, so that everything wrong is told at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crmkit.adapters.adapter import Account
from crmkit.adapters.gateway import Gateway
from crmkit.adapters.source import Source
from crmkit.core.errors import ConfigError, PluginError
from crmkit.core.hooks import Routes
from crmkit.core.quota import Limits
from crmkit.core.secret import secrets_by_place
from crmkit.core.survey import Survey
from crmkit.flow.setup import Entry, Plugin
from crmkit.host import config as configuration
from crmkit.host.catalogue import PLAY
from crmkit.host.config import CORE, FAMILIES, Config
from crmkit.host.document import Place, Problem, field_names, nearest
from crmkit.host.plugins import SHARED, Loaded, Plugins
from crmkit.host.sections import AccountSection, EntrySection, local


@dataclass(frozen=True)
class ShopEntry:
    """A shop or source that is switched on: what it is made of."""

    name: str
    kind: str
    adapter: type[Source]
    settings: Any
    account: Account
    title: str
    locale: str
    announce_from: datetime | None


@dataclass(frozen=True, slots=True)
class Pages:
    """Web pages a plugin brings, served under `/<slug>/`; `name` and `settings` are what its handlers know them by."""

    name: str
    slug: str
    settings: Any
    routes: tuple[Routes, ...]
    loaded: Loaded


@dataclass(frozen=True, slots=True)
class Broken:
    """A plugin that could not be used, why, and what goes without it."""

    name: str
    error: PluginError
    needed_by: str


class Opening:
    """One pass over a configuration.

    Args:
        config: what to open.
        plugins: where plugins come from.
        wanted: load only these of the playbooks it names, and only of these adapters' packages (`FAMILY.SLUG`) what
            they decide: handlers, schedules, policies, pages. Adapters themselves are always loaded. None: all.
    """

    def __init__(self, config: Config, plugins: Plugins, wanted: Sequence[str] | None) -> None:
        self.config = config
        self.plugins = plugins
        self.wanted = wanted
        self.shops: dict[str, ShopEntry] = {}
        self.channels: dict[str, list[Entry]] = {}
        self.playbooks: list[Plugin] = []
        self.broken: list[Broken] = []
        self.absent: list[str] = []
        self.problems: list[Problem] = list(config.problems)
        self.migrations: dict[str, Path] = {}
        self.pages: list[Pages] = []
        #: {survey: itself}, and {survey: the plugin that brings it}
        self.surveys: dict[str, Survey] = {}
        self._asked_by: dict[str, str] = {}

    def run(self) -> None:
        """Open everything."""
        for account in self.config.accounts:
            if account.core.enabled:
                self._guard(f"{account.kind} {account.name}", (*account.at, "use"), self._open_account, account)
        for entry in self.config.entries:
            if entry.core.enabled:
                self._guard(f"gateway {entry.name}", (*entry.at, "use"), self._open_entry, entry)
        for number in range(len(self.config.use)):
            self._open_playbook(number)
        for loaded in self.plugins.loaded():
            if loaded.family == PLAY:
                continue
            if self.wanted is None or loaded.name in self.wanted:  # adapters may bring handlers and the like too
                self._guard(f"what {loaded.name} decides", (), self._add, loaded, loaded.name, None)
            elif "crmkit_handlers" in loaded.hook_names:  # its hooks are not even asked; what they would decide waits
                self.absent.append(loaded.name)
        self._check_sections()
        self.problems = list(dict.fromkeys(self.problems))

    def _complain(self, at: Place, what: str, do: str = "") -> None:
        self.problems.append(self.config.document.problem(at, what, do))

    def _warn(self, at: Place, what: str, do: str) -> None:
        self.problems.append(self.config.document.problem(at, what, do, level="warning"))

    def _guard(self, needed_by: str, at: Place, step: Callable[..., None], *args: Any) -> None:
        """Run a step: a wrong configuration is a problem at its place, a broken plugin is listed."""
        try:
            step(*args)
        except PluginError as error:
            self.broken.append(Broken(error.who.removeprefix("plugin ").partition(" ")[0], error, needed_by))
        except ConfigError as error:
            self._complain(at, error.what, error.do)

    def _open_account(self, account: configuration.Account) -> None:
        core = account.core
        adapter = self.plugins.source(FAMILIES[f"{account.kind}s"], core.use)
        both = SHARED & core.model_fields_set & set(field_names(adapter.Settings))
        written = {**account.rest, **{name: getattr(core, name) for name in both}}
        settings = self._settings(adapter.Settings, written, account.at, field_names(AccountSection))
        if settings is None:
            return
        crm = self.config.crm
        shared = {name: getattr(core, name) or getattr(settings, name, None) for name in SHARED}
        zone = shared["timezone"] or crm.timezone
        self.shops[account.name] = ShopEntry(
            name=account.name,
            kind=account.kind,
            adapter=adapter,
            settings=settings,
            account=Account(
                account.name,
                zone,
                shared["currency"],
                shared["region"],
                self.config.folder,
                self.config.webhook_url(account.name),
            ),
            title=core.title or crm.title or account.name,
            locale=core.locale or crm.locale,
            announce_from=local(core.announce_from, zone) if core.announce_from else None,
        )

    def _open_entry(self, entry: configuration.Entry) -> None:
        known = self.plugins.catalogue.channels()
        if entry.channel not in known:
            self._complain(
                ("channels", entry.channel), f'unknown channel "{entry.channel}"', nearest(entry.channel, known)
            )
            return
        adapter = self.plugins.gateway(entry.channel, entry.core.use)
        settings = self._settings(adapter.Settings, entry.rest, entry.at, field_names(EntrySection))
        if settings is not None:
            price = self._price(entry)
            limits = Limits(entry.core.rate, entry.core.daily, entry.core.budget, price)
            shops, connection = frozenset(entry.core.shops), self._connection(entry)
            core = entry.core
            if core.balance_low is not None and adapter.balance is Gateway.balance:
                what, do = f"{core.use} does not tell what is left on its account", "leave it out"
                self._warn((*entry.at, "balance_low"), what, do)
            made = Entry(
                entry.name, entry.channel, adapter, settings, shops, limits, connection, core.price, core.balance_low
            )
            self.channels.setdefault(entry.channel, []).append(made)

    def _connection(self, entry: configuration.Entry) -> str | None:
        """The account whose memory an entry shares: one of the same vendor, by the same distribution."""
        wanted = entry.core.connection
        if wanted is None:
            return None
        kinds = {one.name: (FAMILIES[f"{one.kind}s"], one.core) for one in self.config.accounts if one.core.enabled}
        every = {one.name: (one.channel, one.core) for one in self.config.entries if one.core.enabled} | kinds
        every.pop(entry.name, None)
        at = (*entry.at, "connection")
        if wanted not in every:
            self._complain(at, f'no account "{wanted}" is switched on', nearest(wanted, every))
            return None
        family, core = every[wanted]
        brought = {(one.family, one.slug): one.distribution for one in self.plugins.catalogue.every()}
        ours, theirs = brought.get((entry.channel, entry.core.use)), brought.get((family, core.use))
        if core.use != entry.core.use or ours != theirs:
            what = f'"{wanted}" is an account of {core.use} ({theirs}), and this one of {entry.core.use} ({ours})'
            do = "name one of the same vendor and distribution, or leave it out and connect this one by itself"
            self._complain(at, what, do)
            return None
        of = core.connection if isinstance(core, EntrySection) else None
        if of is not None:
            self._complain(at, f'"{wanted}" has no connection of its own', f'write connection = "{of}"')
            return None
        return wanted

    def _price(self, entry: configuration.Entry) -> Decimal | None:
        """What a segment costs until the vendor says, in the budget's currency."""
        budget, price = entry.core.budget, entry.core.price
        if budget is None:
            return None
        if price is None:
            what = "without a price the budget limits nothing where the vendor does not say what messages cost"
            do = f'write what a segment costs: price = "0.05 {budget.currency}"'
            self._warn((*entry.at, "budget"), what, do)
            return None
        if price.currency != budget.currency:
            do = f"write both in one currency; the budget is in {budget.currency}"
            self._complain((*entry.at, "price"), f"is in {price.currency}", do)
            return None
        return price.amount

    def _open_playbook(self, number: int) -> None:
        written, at = self.config.use[number], ("plugins", "use", number)
        slug = playbook_slug(written)
        if slug in CORE:
            what, do = f'a playbook cannot be called "{slug}"', "that is a section of the core's; rename the file"
            self._complain(at, what, do)
        elif slug in map(playbook_slug, self.config.use[:number]):
            self._complain(at, f'"{slug}" is named twice', "name it once")
        elif self.wanted is None or slug in self.wanted:
            self._guard(f"playbook {slug}", at, self._load_playbook, written, slug)
        if slug not in {plugin.name for plugin in self.playbooks}:
            self.absent.append(slug)

    def _load_playbook(self, written: str, slug: str) -> None:
        is_file = written != slug
        loaded = self.plugins.load_file(self.config.folder / written) if is_file else self.plugins.load(PLAY, slug)
        section = self.config.sections.get(slug, {})
        settings = None
        if not isinstance(section, dict):
            self._complain((slug,), "is not a table", f"write [{slug}]")
            return
        if loaded.settings is not None:
            settings = self._settings(loaded.settings, section, (slug,))
            if settings is None:
                return
        elif section:
            self._complain((slug,), f'the playbook "{slug}" takes no settings', "remove the section")
            return
        self._add(loaded, slug, settings, is_playbook=True)

    def _add(self, loaded: Loaded, name: str, settings: Any, *, is_playbook: bool = False) -> None:
        plugin = Plugin(name, settings, loaded.handlers(settings), loaded.policies(settings))
        folder = loaded.migrations()
        if folder is not None:
            self.migrations[name.replace(".", "_")] = folder
        if is_playbook or plugin.handlers or plugin.policies:
            self.playbooks.append(plugin)
        self._guard(f"the pages of {loaded.name}", (), self._add_pages, loaded, name, settings)

    def _add_pages(self, loaded: Loaded, name: str, settings: Any) -> None:
        found = loaded.web(settings)
        surveys = {one.name: one for one in found if isinstance(one, Survey)}
        routes = tuple(one for one in found if isinstance(one, Routes))
        for taken in surveys.keys() & self.surveys.keys():
            what = f'its survey "{taken}" is called like one of plugin {self._asked_by[taken]}'
            raise loaded.error(what, "rename one")
        for other in self.pages:
            if routes and other.slug == loaded.slug:
                what = f"its pages are at /{loaded.slug}/, as those of plugin {other.loaded.name}"
                raise loaded.error(what, "switch one off, or rename it")
        if routes:
            self.pages.append(Pages(name, loaded.slug, settings, routes, loaded))
        self.surveys |= surveys
        self._asked_by |= dict.fromkeys(surveys, loaded.name)

    def _settings(
        self, model: type[BaseModel], table: Mapping[str, Any], at: Place, also: Iterable[str] = ()
    ) -> BaseModel | None:
        """An adapter's or a playbook's settings with references looked up; None if they are wrong."""
        references = self.config.references
        before = len(references.problems)
        values = references.resolve(dict(table), at)
        lost = references.problems[before:]
        self.problems += lost
        try:
            settings = model.model_validate(values)
        except ValidationError as error:
            found = self.config.document.problems_of(error, at, model, references=references.written, also=also)
            self.problems += [problem for problem in found if problem.key not in {one.key for one in lost}]
            return None
        except ConfigError as error:  # a validator of the plugin's that knows better what to say
            self._complain(at, error.what, error.do)
            return None
        except Exception as error:  # a validator of the plugin's that raises what it should not
            self._complain(at, f"its settings cannot be read: {type(error).__name__}", "its author has to mend that")
            return None
        for place, _ in secrets_by_place(settings, at, only_set=True):
            if place not in references.written:
                self.problems.append(
                    self.config.document.problem(
                        place, "a secret is written in the file", "write env:NAME or file:PATH", level="warning"
                    )
                )
        return None if lost else settings

    def _check_sections(self) -> None:
        """A top-level section that is neither the core's nor a named playbook's is an error."""
        named = {playbook_slug(written) for written in self.config.use}
        installed = self.plugins.catalogue.slugs(PLAY)
        for name in self.config.sections:
            if name in named:
                continue
            if name in installed:
                self._complain((name,), f'the playbook "{name}" is not switched on', f'add "{name}" to [plugins] use')
            else:
                self._complain((name,), f'unknown section "{name}"', nearest(name, {*CORE, *named, *installed}))
        deciding = {loaded.name for loaded in self.plugins.loaded() if loaded.family != PLAY}
        for slug in self.wanted or ():
            if slug not in named | deciding:
                self._complain(("plugins", "use"), f'--only-plugins: "{slug}" is not switched on', nearest(slug, named))


def playbook_slug(written: str) -> str:
    """The slug of a playbook as `[plugins] use` names it: a slug, or the path of a one-file plugin."""
    return Path(written).stem if written.endswith(".py") or "/" in written else written
