"""One plugin: loaded, its hooks checked, and what it yields handed on typed.

Every plugin has a plugin manager of its own, so that one that is broken is named and harms no other. A broad `except`
stands wherever a plugin's code is called.
"""

import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy
from pydantic import BaseModel

from crmkit.adapters.gateway import Gateway
from crmkit.adapters.source import REPORTABLE, Source
from crmkit.core import hooks
from crmkit.core.errors import ConfigError, PluginError
from crmkit.core.events import Event
from crmkit.core.hooks import Handler, PluginSettings, Policy, Routes, Tables
from crmkit.core.survey import Survey
from crmkit.host.catalogue import PLAY, Catalogue
from crmkit.host.document import field_names
from crmkit.host.requirement import unmet
from crmkit.host.sections import AccountSection, EntrySection
from crmkit.store.tables import CORE, table_of

if TYPE_CHECKING:
    import click
    from fastapi import APIRouter

_CORE_TABLES = frozenset(table.name for table in CORE)
T = TypeVar("T")

#: Keys of the core's that an adapter's settings may bring too: a preset knows the zone its files are written in.
SHARED = frozenset({"timezone", "currency", "region"})

#: The first parts of paths that are the core's own; parts of one letter are its pages.
PATHS = frozenset({"webhooks", "static", "healthz", "readyz", "metrics"})
_PATH = re.compile(r"[a-z][a-z0-9_-]+")
_SCOPE = re.compile(r"[a-z][a-z0-9_-]*")
_SURVEY = re.compile(r"[a-z0-9][a-z0-9._-]{0,59}")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A plugin that was imported and whose hooks exist.

    Attributes:
        name: `<family>.<slug>`.
        origin: the distribution it came with, or its file.
        folder: where its `templates/` and relative migrations are; None where it lies in no folder.
        seconds: what importing it took.
    """

    name: str
    slug: str
    family: str
    origin: str
    module: Any
    manager: pluggy.PluginManager
    folder: Path | None
    seconds: float = 0.0

    @property
    def hook_names(self) -> list[str]:
        """The hooks it implements."""
        return sorted(caller.name for caller in self.manager.get_hookcallers(self.module) or ())

    @property
    def templates(self) -> Path | None:
        """Its folder of templates, if it has one."""
        folder = None if self.folder is None else self.folder / "templates"
        return folder if folder is not None and folder.is_dir() else None

    @property
    def settings(self) -> type[PluginSettings] | None:
        """What a playbook's section is validated as; None if it takes no settings."""
        settings = getattr(self.module, "Settings", None)
        if settings is None or (isinstance(settings, type) and issubclass(settings, PluginSettings)):
            return settings
        raise self.error("its Settings are no PluginSettings", "derive Settings from crmkit.PluginSettings")

    def error(self, what: str, do: str = "", operation: str = "load") -> PluginError:
        """What is wrong with this plugin."""
        return PluginError(what, who=f"plugin {self.name} ({self.origin})", operation=operation, do=do)

    def sources(self) -> list[type[Source]]:
        """The source classes it yields."""
        return list(self._classes("crmkit_sources", Source))

    def gateways(self) -> list[type[Gateway]]:
        """The gateway classes it yields."""
        return list(self._classes("crmkit_gateways", Gateway))

    def handlers(self, settings: Any) -> tuple[Handler, ...]:
        """Its handlers; one that is marked and yielded by no hook is an error."""
        do = "mark functions with @on(EVENT) or @every(INTERVAL)"
        found = tuple(self._yielded("crmkit_handlers", Handler, do, settings=settings))
        for handler in found:
            event: object = handler.event
            if not (isinstance(event, type) and issubclass(event, Event)):
                raise self.error(f"{handler.name} handles {event!r}, which is no event", "name an event's class in @on")
        scheduled = [handler.name for handler in found if handler.schedule is not None]
        twice = next((name for name in scheduled if scheduled.count(name) > 1), None)
        if twice is not None:
            raise self.error(f"two functions marked with @every are called {twice}", "rename one: it is known by that")
        for handler in self._marked():
            if handler not in found:
                what = f"the handler {handler.name} ({handler.mark}) is yielded by no hook"
                raise self.error(what, "yield it from crmkit_handlers, or it is never called")
        return found

    def policies(self, settings: Any) -> tuple[Policy, ...]:
        """Its policies."""
        return tuple(self._yielded("crmkit_policies", Policy, "yield crmkit.Policy objects", settings=settings))

    def commands(self) -> "dict[str, click.Command]":
        """Its commands for the `crmkit` program, by name; those given by dotted name are imported."""
        import click

        found: dict[str, click.Command] = {}
        for item in self._yielded("crmkit_commands", object, ""):
            command: object = self._imported("command", item) if isinstance(item, str) else item
            if not isinstance(command, click.Command) or not command.name:
                raise self.error(f"crmkit_commands yields {item!r}", "yield click commands or their dotted names")
            found[command.name] = command
        return found

    def _imported(self, kind: str, dotted: str) -> object:
        module, _, name = dotted.replace(":", ".").rpartition(".")
        try:
            return getattr(import_module(module), name)
        except (Exception, SystemExit) as error:
            raise self.error(f"the {kind} {dotted} cannot be imported: {_told(error)}") from error

    def web(self, settings: Any) -> tuple[Routes | Survey, ...]:
        """Its pages, and the surveys whose pages crmkit hosts; no router is imported yet."""
        found: list[Routes | Survey] = []
        names: set[str] = set()
        for item in self._yielded("crmkit_web", object, "", settings=settings):
            if isinstance(item, Routes):
                self._check_routes(item)
            elif not isinstance(item, Survey):
                raise self.error(f"crmkit_web yields {item!r}", "yield crmkit.Routes and crmkit.Survey objects")
            elif not _SURVEY.fullmatch(str(item.name)) or item.name in names:
                raise self.error(f"its survey is called {item.name!r}", "give each a name of its own: a-z, 0-9, ._-")
            else:
                names.add(item.name)
            found.append(item)
        return tuple(found)

    def router(self, routes: Routes) -> "APIRouter":
        """The router of its pages, imported where it is given by its name.

        Raises:
            PluginError: it cannot be, or is none.
        """
        try:
            from fastapi import APIRouter
        except ModuleNotFoundError:
            raise self.error("its pages need FastAPI", "pip install 'crmkit[web]'") from None
        router = self._imported("router", routes.router) if isinstance(routes.router, str) else routes.router
        if not isinstance(router, APIRouter):
            raise self.error(f"its router is {router!r}", "give a fastapi.APIRouter, or its dotted name")
        return router

    def _check_routes(self, routes: Routes) -> None:
        if self.slug in PATHS or not _PATH.fullmatch(self.slug):
            do = f"rename the plugin: a-z, 0-9, _ and -, at least two letters, and none of {', '.join(sorted(PATHS))}"
            raise self.error(f"its pages cannot be at /{self.slug}/", do)
        scope: object = routes.scope
        if not isinstance(scope, str) or not _SCOPE.fullmatch(scope):
            raise self.error(f"its pages have the scope {scope!r}", 'write a word, without the plugin: scope="read"')

    def tables(self) -> Tables | None:
        """Its tables; None if it has none."""
        found = list(self._yielded("crmkit_tables", Tables, "yield one crmkit.Tables"))
        if len(found) > 1:
            do = "yield one crmkit.Tables with the folder of its migrations"
            raise self.error("yields Tables more than once", do)
        return found[0] if found else None

    def migrations(self) -> Path | None:
        """The folder of its tables' migrations; None if it has no tables."""
        found = self.tables()
        if found is None:
            return None
        folder = (self.folder or Path()) / found.migrations
        if not folder.is_dir():
            what = f"there is no folder of migrations {folder}"
            raise self.error(what, "yield one crmkit.Tables with the folder of its migrations")
        for table in (table_of(model) for model in found.models):
            if not table.name.startswith(f"{self.slug}_"):
                raise self.error(f"its table is called {table.name}", f"call it {self.slug}_...")
            if any(key.target_fullname.partition(".")[0] in _CORE_TABLES for key in table.foreign_keys):
                raise self.error(f"its table {table.name} has a foreign key into the core's", "keep the number alone")
        return folder

    def _classes(self, hook: str, base: type[T]) -> Iterator[type[T]]:
        for cls in self._yielded(hook, type, f"yield classes derived from crmkit.{base.__name__}"):
            if not issubclass(cls, base) or not isinstance(getattr(cls, "name", None), str):
                raise self.error(f"{hook} yields {cls!r}", f"yield subclasses of crmkit.{base.__name__} with a name")
            yield cls

    def _yielded(self, hook: str, kind: type[T], do: str, **arguments: Any) -> Iterator[T]:
        try:
            found = [item for answer in getattr(self.manager.hook, hook)(**arguments) for item in answer or ()]
        except PluginError:
            raise
        except (Exception, SystemExit) as error:
            raise self.error(f"{hook} raised {_told(error)}", "its author has to mend it") from error
        for item in found:
            if not isinstance(item, kind):
                raise self.error(f"{hook} yields {item!r}", do)
            yield item

    def _marked(self) -> Iterator[Handler]:
        """Every handler in its module, or for a package in any of its modules that were imported."""
        name = getattr(self.module, "__name__", None)
        modules = [self.module]
        if name and hasattr(self.module, "__path__"):
            modules += [module for key, module in list(sys.modules.items()) if key.startswith(f"{name}.")]
        for module in modules:
            yield from (value for value in list(vars(module).values()) if isinstance(value, Handler))


class Plugins:
    """Loads plugins, each once.

    Args:
        catalogue: what is installed.
    """

    def __init__(self, catalogue: Catalogue | None = None) -> None:
        self.catalogue = catalogue or Catalogue()
        self._loaded: dict[str, Loaded | PluginError] = {}

    def load(self, family: str, slug: str) -> Loaded:
        """The installed plugin `<family>.<slug>`.

        Raises:
            ConfigError: it is not installed.
            PluginError: it is installed twice, cannot be imported, or its hooks are not ours.
        """
        found = self.catalogue.find(family, slug)
        return self._once(found.name, found.origin, found.entry_point.load, unmet(found.entry_point.dist))

    def load_file(self, path: Path) -> Loaded:
        """A one-file plugin.

        Raises:
            ConfigError: there is no such file.
            PluginError: as `load`.
        """
        if not path.is_file():
            raise ConfigError(f"there is no file {path}", do="correct the path; it is relative to crmkit.toml")
        return self._once(f"{PLAY}.{path.stem}", str(path), lambda: _import_file(path))

    def source(self, family: str, slug: str) -> type[Source]:
        """The class of a source.

        Raises:
            ConfigError, PluginError: as `load`; or what it yields is not fit for use.
        """
        loaded = self.load(family, slug)
        cls = _chosen(loaded, loaded.sources(), "source")
        reports = getattr(cls, "reports", ())
        unknown = sorted(set(reports) - REPORTABLE) if isinstance(reports, set | frozenset) else []
        if unknown:
            known = ", ".join(sorted(REPORTABLE))
            raise loaded.error(f"{cls.__name__} reports {', '.join(unknown)}", f"known are {known}")
        _check_settings(loaded, cls.Settings, AccountSection)
        return cls

    def gateway(self, channel: str, slug: str) -> type[Gateway]:
        """The class of a gateway.

        Raises:
            ConfigError, PluginError: as `load`; or what it yields is not fit for use.
        """
        loaded = self.load(channel, slug)
        cls = _chosen(loaded, [cls for cls in loaded.gateways() if cls.channel == channel], f"{channel} gateway")
        reaches: object = getattr(cls, "reaches", ())
        if isinstance(reaches, str) or not reaches:
            raise loaded.error(f"{cls.__name__} reaches {reaches!r}", 'name kinds of address: reaches = ("email",)')
        _check_settings(loaded, cls.Settings, EntrySection)
        return cls

    def loaded(self) -> list[Loaded]:
        """What was loaded and works, in that order."""
        return [one for one in self._loaded.values() if isinstance(one, Loaded)]

    def _once(self, name: str, origin: str, load: Callable[[], Any], lacks: Sequence[str] = ()) -> Loaded:
        if name not in self._loaded:
            try:
                self._loaded[name] = _register(name, origin, load, lacks)
            except PluginError as error:
                self._loaded[name] = error
        found = self._loaded[name]
        if isinstance(found, PluginError):
            raise found
        return found


def _register(name: str, origin: str, load: Callable[[], Any], lacks: Sequence[str]) -> Loaded:
    """Import a plugin and check that its hooks are ours. `lacks` says which of its requirements are not met."""
    who = f"plugin {name} ({origin})"
    began = time.perf_counter()
    with _interruptible() as pressed:
        try:
            module = load()
        except (Exception, SystemExit, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) and pressed:
                raise
            do = f"it needs {'; '.join(lacks)}" if lacks else "mend or uninstall it"
            raise PluginError(f"cannot be imported: {_told(error)}", who=who, operation="load", do=do) from error
    seconds = time.perf_counter() - began
    manager = pluggy.PluginManager(hooks.GROUP)
    manager.add_hookspecs(hooks)
    known = [key for key in vars(hooks) if key.startswith("crmkit_")]
    try:
        manager.register(module, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        wrong = [key for key in vars(module) if hasattr(vars(module)[key], f"{hooks.GROUP}_impl") and key not in known]
        if wrong:
            close = get_close_matches(wrong[0], known, n=1)
            do = f"did you mean {close[0]}?" if close else f"hooks are {', '.join(known)}"
            raise PluginError(f"{wrong[0]} is no hook", who=who, operation="load", do=do) from error
        raise PluginError(
            " ".join(str(error).split()), who=who, operation="load", do="see crmkit.core.hooks"
        ) from error
    if not manager.get_hookcallers(module):
        raise PluginError("it implements no hook", who=who, operation="load", do="mark its hooks with @hookimpl")
    family, _, slug = name.partition(".")
    return Loaded(name, slug, family, origin, module, manager, _folder(module), seconds)


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """What is pressed meanwhile to interrupt the run, so that a plugin which only says so is told from a person."""
    pressed: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler or threading.current_thread() is not threading.main_thread():
        yield pressed  # who has a handler of their own is not interrupted by an exception
        return

    def press(number: int, _: Any) -> None:
        pressed.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _folder(module: Any) -> Path | None:
    """The folder of a package, or the one a module lies in."""
    for place in getattr(module, "__path__", ()):
        return Path(place)
    file = getattr(module, "__file__", None)
    return Path(file).parent if file else None


def _import_file(path: Path) -> Any:
    name = f"crmkit_plugin_{path.stem}"
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _chosen(loaded: Loaded, classes: Iterable[type[T]], kind: str) -> type[T]:
    by_name: Mapping[str, type[T]] = {getattr(cls, "name", ""): cls for cls in classes}
    if loaded.slug not in by_name:
        yields = f"it yields {', '.join(sorted(by_name))}" if by_name else "it yields none"
        raise loaded.error(f'it has no {kind} called "{loaded.slug}" ({yields})', "name the class as its entry point")
    return by_name[loaded.slug]


def _check_settings(loaded: Loaded, settings: object, core: type[BaseModel]) -> None:
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        raise loaded.error(f"its Settings are {settings!r}", "derive them from SourceSettings or GatewaySettings")
    taken = sorted(set(field_names(settings)) & set(field_names(core)) - SHARED)
    if taken:
        raise loaded.error(f"its Settings have {', '.join(taken)}, which the core reads", "give it another name")


def _told(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
