"""All of a configuration together: shops, channels, playbooks, templates, and what the steps are set up with.

A plugin that is broken is named and skipped, with what needs it; a configuration that is wrong is refused whole, with
everything that is wrong in it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

import httpx

from crmkit.adapters.adapter import Account, Adapter
from crmkit.adapters.gateway import Gateway
from crmkit.adapters.http import client
from crmkit.adapters.source import Source
from crmkit.core.account import NOT_YET, Shop
from crmkit.core.errors import CrmkitError, PluginError
from crmkit.core.form import Caution, Wording
from crmkit.core.hooks import Routes
from crmkit.core.staging import Staging, kind_of
from crmkit.core.survey import Survey
from crmkit.flow.form import can_form, names_of
from crmkit.flow.render import Templates
from crmkit.flow.setup import Entry, Plugin, Rules, Setup, StaffMember
from crmkit.host.catalogue import PLAY
from crmkit.host.config import Config, load
from crmkit.host.document import Misconfigured, Place, Problem
from crmkit.host.opening import Broken, Opening, Pages, ShopEntry
from crmkit.host.plugins import Plugins
from crmkit.store.engine import Store

if TYPE_CHECKING:
    import click

R = TypeVar("R")


@dataclass
class Host:
    """A configuration with its plugins loaded.

    Attributes:
        config: the configuration.
        shops: shops and sources that are switched on and whose adapter works.
        channels: gateways that are switched on and whose adapter works, in failover order.
        playbooks: the plugins with handlers or policies, playbooks first.
        broken: plugins that were skipped.
        absent: what would decide and is not here: playbooks that did not come up, and what was left out for this run.
        problems: what is wrong with the configuration; only warnings, unless it was opened with `strict=False`.
        migrations: {plugin: the folder of its tables' migrations}.
        pages: web pages that plugins bring.
        surveys: {name: a survey whose page crmkit hosts}.
    """

    config: Config
    plugins: Plugins
    shops: dict[str, ShopEntry]
    channels: dict[str, list[Entry]]
    playbooks: list[Plugin]
    broken: list[Broken]
    absent: list[str]
    problems: list[Problem]
    migrations: dict[str, Path]
    pages: list[Pages]
    surveys: dict[str, Survey]
    _reports: dict[str, frozenset[str]] = field(default_factory=dict)
    _sources: dict[str, Source] = field(default_factory=dict)
    _templates: Templates | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        no_plugins: bool = False,
        only_plugins: Sequence[str] | None = None,
        plugins: Plugins | None = None,
        strict: bool = True,
    ) -> "Host":
        """Read a configuration and load what it names.

        Args:
            path: crmkit.toml.
            no_plugins: nothing decides: neither playbooks nor what adapters' packages bring beside their adapters.
            only_plugins: only these decide.
            plugins: where plugins come from; by default this environment.
            strict: refuse a configuration with errors; else they are kept in `problems`.

        Raises:
            Misconfigured: the configuration is wrong, or cannot be read.
        """
        found = Opening(load(path), plugins or Plugins(), () if no_plugins else only_plugins)
        found.run()
        errors = [problem for problem in found.problems if problem.level == "error"]
        if strict and errors:
            raise Misconfigured(errors)
        return cls(
            config=found.config,
            plugins=found.plugins,
            shops=found.shops,
            channels=found.channels,
            playbooks=found.playbooks,
            broken=found.broken,
            absent=found.absent,
            problems=found.problems,
            migrations=found.migrations,
            pages=found.pages,
            surveys=found.surveys,
        )

    def store(self) -> Store:
        """The configured database."""
        key = self.config.key
        return Store(self.config.database, None if key is None else key.get_secret_value().encode())

    @property
    def staging(self) -> Staging | None:
        """Whom an installation for trying out may reach; None where it is there for good."""
        section = self.config.staging
        return None if section is None else Staging(tuple(section.allow), dict(section.redirect))

    @property
    def routes(self) -> list[tuple[str, Routes]]:
        """Web pages that plugins bring: (the plugin's slug, its routes)."""
        return [(pages.slug, routes) for pages in self.pages for routes in pages.routes]

    @property
    def templates(self) -> Templates:
        """Every template: the configuration's own, then each loaded plugin's."""
        if self._templates is None:
            order = sorted(self.plugins.loaded(), key=lambda one: one.family != PLAY)
            folders = dict.fromkeys(one.templates for one in order if one.templates is not None)
            own = self.config.folder / "templates"
            self._templates = Templates([one for one in folders if one != own], self.config.folder)
        return self._templates

    def reports(self, shop: ShopEntry) -> frozenset[str]:
        """What a shop can tell: what its adapter, set up so, reports."""
        if shop.name not in self._reports:
            self._reports[shop.name] = frozenset(self._quiet_source(shop).reports)
        return self._reports[shop.name]

    def _quiet_source(self, shop: ShopEntry) -> Source:
        """The adapter of a shop, to be asked what needs no network."""
        if shop.name not in self._sources:
            self._sources[shop.name] = self._source(shop, _nowhere())
        return self._sources[shop.name]

    def source(self, shop: ShopEntry) -> Source:
        """The adapter of a shop or source, with a client of its own.

        Raises:
            ConfigError, PluginError: it cannot be made with these settings.
        """
        return self._source(shop, client())

    def gateway(self, entry: Entry) -> Gateway:
        """The adapter of a gateway entry, with a client of as many connections as it is configured for.

        Raises:
            ConfigError, PluginError: it cannot be made with these settings.
        """
        return self._gateway(entry, client(concurrency=entry.settings.concurrency))

    def _gateway(self, entry: Entry, http: httpx.AsyncClient) -> Gateway:
        crm, folder = self.config.crm, self.config.folder
        account = Account(entry.name, crm.timezone, None, None, folder, self.config.webhook_url(entry.name))
        gateway = _made(entry.name, lambda: entry.adapter(entry.settings, account, http))
        gateway.wordings = _Wordings(self.templates, entry)
        return gateway

    def setup(self, known: Mapping[str, tuple[int, datetime | None]]) -> Setup:
        """What the steps are set up with.

        Args:
            known: {account: its stored number, its stored `announce_from`; None before its first sync}.
        """
        policy = self.config.policy
        here = {number: shop for name, (number, _) in known.items() if (shop := self.shops.get(name)) is not None}
        return Setup(
            shops={
                number: Shop(
                    id=number,
                    name=shop.name,
                    title=shop.title,
                    reports=self.reports(shop),
                    announce_from=announce_from or NOT_YET,
                    locale=shop.locale,
                    zone=ZoneInfo(shop.account.timezone),
                    region=shop.account.region,
                )
                for name, (number, announce_from) in known.items()
                if (shop := self.shops.get(name)) is not None
            },
            channels=self.channels,
            plugins=self.playbooks,
            templates=self.templates,
            zone=ZoneInfo(self.config.crm.timezone),
            locale=self.config.crm.locale,
            staff=[
                StaffMember(
                    name=person.name,
                    teams=frozenset(person.teams),
                    addresses={
                        kind: value for kind, value in (("email", person.email), ("phone", person.phone)) if value
                    },
                    locale=person.locale,
                    quiet_hours=person.quiet_hours,
                )
                for person in self.config.staff
            ],
            rules=Rules(policy.quiet_hours, policy.marketing_default, policy.marketing_cap, policy.pause.thresholds()),
            absent=frozenset(self.absent),
            broken=frozenset(one.name for one in self.broken) - {one.name for one in self.playbooks},
            links=self.config.links,
            staging=self.staging,
            may_say={number: self._quiet_source(shop).may_say for number, shop in here.items() if _has_opinion(shop)},
        )

    def commands(self) -> "dict[str, click.Command]":
        """The commands that loaded plugins bring, by name; a plugin whose commands are broken is listed as such."""
        found: dict[str, click.Command] = {}
        for loaded in self.plugins.loaded():
            try:
                found.update(loaded.commands())
            except PluginError as error:
                self.broken.append(Broken(loaded.name, error, f"the commands of {loaded.name}"))
        return found

    def findings(self) -> list[Problem]:
        """Everything `config check` tells: problems, broken plugins, and what plugins say of their own settings."""
        found = list(self.problems)
        broken = [*self.broken, *self._broken_pages()]
        found += dict.fromkeys(Problem(str(one.error), f"without it: {one.needed_by}") for one in broken)
        found += [Problem(str(error)) for error in self.templates.check()]
        found += self._wordings()
        found += self._forgetful()
        found += self._astray()
        found += self._unheard()
        reports: dict[str, frozenset[str]] = {}
        for shop in self.shops.values():
            try:
                reports[shop.name] = self.reports(shop)
            except CrmkitError as error:
                found.append(self.config.document.problem((f"{shop.kind}s", shop.name), str(error)))
                continue
            if not reports[shop.name]:  # what it can tell is not known yet, so nothing can be said against a rule
                del reports[shop.name]
                what, do = "nothing is there yet to tell what it reports", "rules that need it cannot be checked"
                at = (f"{shop.kind}s", shop.name)
                found.append(self.config.document.problem(at, what, do, level="warning"))
        for playbook in self.playbooks:
            check = getattr(self._module(playbook.name), "check", None)
            if callable(check):
                found += self._checked(playbook, check, reports)
        return found

    def _astray(self) -> Iterator[Problem]:
        """Channels that staging redirects, and that cannot take it there."""
        for channel, address in self.staging.redirect.items() if self.staging is not None else ():
            entries, at = self.channels.get(channel, ()), ("staging", "redirect", channel)
            if not entries:
                what, do = f'no gateway of the channel "{channel}" is switched on', "name one of those that are"
                yield self.config.document.problem(at, what, do, level="warning")
            elif not any(kind_of(address) in entry.adapter.reaches for entry in entries):
                what = f"no gateway of the channel {channel} reaches {address}: what is for others waits"
                yield self.config.document.problem(at, what, "leave it out, or redirect another", level="warning")

    def _forgetful(self) -> Iterator[Problem]:
        """Accounts that cannot do without what they remember, where there is no key to lock it with."""
        if self.config.key is not None:
            return
        asked: list[tuple[str, Place, Callable[[], Adapter]]] = [
            (shop.name, (f"{shop.kind}s", shop.name), partial(self._quiet_source, shop)) for shop in self.shops.values()
        ]
        for channel, entries in self.channels.items():
            asked += [(one.name, ("channels", channel), partial(self._gateway, one, _nowhere())) for one in entries]
        for name, at, made in asked:
            try:
                adapter = made()
            except CrmkitError:
                continue  # told by whoever asks it more
            if adapter.remembers:
                what = f"{name} has to remember what it signs in with, and there is no key to lock that with"
                do = "set [crm] key, or put a long random text into the environment variable CRMKIT_KEY, and keep it"
                yield self.config.document.problem(at, what, do, level="warning")

    def _unheard(self) -> Iterator[Problem]:
        """Templates of the shop's own that are written for no channel that is switched on."""
        for name, files in self.templates.own().items() if self.channels else ():
            channels = self.templates.channels(name)
            if not set(channels) & set(self.channels):
                what = (
                    f"{files[0]}: {name} is written for {' and '.join(channels)} alone, where no gateway is switched on"
                )
                do = (
                    f"write {name} for {' or '.join(self.channels)} too, or add a gateway to [[channels.{channels[0]}]]"
                )
                yield Problem(what, do, level="warning")

    def _wordings(self) -> Iterator[Problem]:
        """What keeps gateways from sending templates as they are written."""
        for channel, entries in self.channels.items():
            approved = [entry for entry in entries if entry.adapter.needs_form]
            written = {one.file for one in self.templates.every(channel) if any(can_form(one, e) for e in approved)}
            for entry in entries:
                yield from self._wordings_of(entry, written if entry in approved else frozenset())

    def _wordings_of(self, entry: Entry, elsewhere: Collection[str]) -> Iterator[Problem]:
        """What keeps one gateway from it; `elsewhere` are the templates that say something of another like it."""
        try:
            gateway = self._gateway(entry, _nowhere())
        except CrmkitError as error:
            yield Problem(str(error))
            return
        unknown = []
        for wording in gateway.wordings:
            if entry.adapter.needs_form and wording.form is None:
                if wording.file in elsewhere:
                    what = f"{wording.file}: says nothing of the gateway {entry.name}, which sends approved texts only"
                    yield Problem(what, f"add {entry.name} to `gateways` in its front matter, as for the others")
                else:
                    unknown.append(wording.name)
                continue
            try:
                for what in gateway.check_template(wording):
                    level: Literal["error", "warning"] = "warning" if isinstance(what, Caution) else "error"
                    yield Problem(f"{wording.file}: {entry.name}: {what}", level=level)
            except Exception as error:  # an adapter's code
                yield Problem(f"{entry.name}: its check_template raised {type(error).__name__}: {error}")
        if unknown:
            names = ", ".join(dict.fromkeys(unknown))
            what = f"the gateway {entry.name} sends approved texts only, and cannot send {names}"
            do = "add its template_id, sign_name and params to `gateways` in their front matter, where they are used"
            yield self.config.document.problem(("channels", entry.channel), what, do, level="warning")

    def _broken_pages(self) -> Iterator[Broken]:
        """Plugins whose routers cannot be imported."""
        for pages in self.pages:
            try:
                for routes in pages.routes:
                    pages.loaded.router(routes)
            except PluginError as error:
                yield Broken(pages.loaded.name, error, f"the pages of {pages.loaded.name}")

    def _module(self, name: str) -> Any:
        return next((one.module for one in self.plugins.loaded() if name in (one.name, one.slug)), None)

    def _source(self, shop: ShopEntry, http: httpx.AsyncClient) -> Source:
        return _made(shop.name, lambda: shop.adapter(shop.settings, shop.account, http))

    def _checked(
        self, playbook: Plugin, check: Callable[..., Any], shops: Mapping[str, frozenset[str]]
    ) -> list[Problem]:
        templates = {name: self.templates.channels(name) for name in self.templates.names()}
        try:
            found = [str(finding) for finding in check(playbook.settings, shops, templates) or ()]
        except Exception as error:
            found = [f"its check raised {type(error).__name__}: {error}"]
        return [self.config.document.problem((playbook.name,), text) for text in found]


class _Wordings(Sequence[Wording]):
    """The templates of a gateway's channel as it is shown them; compiled when it looks, and few runs do."""

    def __init__(self, templates: Templates, entry: Entry) -> None:
        self._templates, self._entry = templates, entry

    @cached_property
    def _every(self) -> list[Wording]:
        return [one.wording(*names_of(self._entry)) for one in self._templates.every(self._entry.channel)]

    def __getitem__(self, place: Any) -> Any:
        return self._every[place]

    def __len__(self) -> int:
        return len(self._every)


def _has_opinion(shop: ShopEntry) -> bool:
    """Whether a shop's adapter says what may be said to its buyers."""
    return shop.adapter.may_say is not Source.may_say


def _made(name: str, make: Callable[[], R]) -> R:
    try:
        return make()
    except CrmkitError:
        raise
    except Exception as error:
        raise PluginError(f"cannot be set up: {type(error).__name__}: {error}", who=name, operation="open") from error


def _nowhere() -> httpx.AsyncClient:
    """A client for an adapter that is to be asked what needs no network."""
    return httpx.AsyncClient(transport=httpx.MockTransport(_no_request))


def _no_request(request: httpx.Request) -> httpx.Response:
    raise RuntimeError("an adapter may not use the network before it is opened")
