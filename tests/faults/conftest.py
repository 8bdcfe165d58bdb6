import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from crmkit.engine.local import DispatchRun, Local
from crmkit.host.catalogue import Catalogue
from crmkit.host.host import Host
from crmkit.host.plugins import Plugins
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.testing.database import Migrate, MigratedTemplates, PostgresServer
from crmkit.testing.ledger import violations
from crmkit.testing.vendor import Vendor
from tests.faults.town import NOON, POINTS

NEWS = '---\npurpose = "transactional"\nsubject = "News"\n---\nYour order {{ order.number }}\n'
PLUGINS = Plugins(Catalogue(POINTS))


class Town:
    """A configuration in a folder, its database, and a vendor."""

    def __init__(self, folder: Path, store: Store, database: str, vendor: Vendor) -> None:
        self.folder, self.store, self.database, self.vendor = folder, store, database, vendor
        (folder / "templates").mkdir()
        (folder / "templates" / "news.en.email.txt").write_text(NEWS, "utf-8")

    _engine: Local | None

    def configure(
        self, kind: str, url: str | None = None, within: float = 5.0, orders: int = 1, token: str = "1", more: str = ""
    ) -> None:
        """One gateway of a kind, to its vendor or elsewhere."""
        self.kind, self._engine = kind, None
        (self.folder / "crmkit.toml").write_text(
            f"""
[crm]
database = "{self.database}"
[plugins]
use = ["herald"]
[shops.town]
use = "town"
announce_from = {NOON.isoformat()}
orders = {orders}
[[channels.email]]
use = "{kind}"
url = "{url or self.vendor.url}"
within = {within}
token = "{token}"
{more}
""",
            "utf-8",
        )

    def sync(self, now: datetime = NOON) -> None:
        for run in asyncio.run(self.engine.sync(now=now)):
            assert not run.errors, run.errors

    def dispatch(self, now: datetime) -> DispatchRun:
        return asyncio.run(self.engine.dispatch(now=now))

    @property
    def engine(self) -> Local:
        """Of the configuration as it is now."""
        if self._engine is None:
            self._engine = Local(Host.open(self.folder / "crmkit.toml", plugins=PLUGINS), self.store)
        return self._engine

    def rows(self, table: sa.Table) -> list[Mapping[str, Any]]:
        with self.store.read() as tx:
            return list(tx.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings())

    @property
    def message(self) -> Mapping[str, Any]:
        [row] = self.rows(t.message)
        return row

    def wrong(self) -> list[str]:
        """What in the database is not so by the vendor's ledger."""
        return violations(
            self.vendor.ledger,
            self.rows(t.message),
            self.rows(t.attempt),
            deduplicates=self.kind == "deduplicating",
            looks_up=self.kind == "asking",
        )


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[Vendor]:
    with Vendor(tmp_path / "ledger") as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def shared_store(
    request: pytest.FixtureRequest,
    migrate: Migrate,
    migrated_templates: MigratedTemplates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Store, str]]:
    """One database of a kind for all tests of a module: a new one each time has every statement compiled anew."""
    if request.param == "sqlite":
        url = migrated_templates.sqlite(migrate, tmp_path_factory.mktemp("faults") / "crm.db")
        yield (store := Store(url)), url
        store.close()
        return
    server: PostgresServer = request.getfixturevalue("postgres_server")
    name = migrated_templates.postgresql(migrate, server)
    yield (store := Store(server.url(name))), server.url(name)
    store.close()
    server.drop(name)


@pytest.fixture(autouse=True)
def is_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is migrated; to look whether it is would take longer than what is tested here."""
    monkeypatch.setattr(Local, "prepare", lambda self: None)


@pytest.fixture
def town(tmp_path: Path, shared_store: tuple[Store, str], vendor: Vendor) -> Town:
    """A town where nothing has happened yet."""
    store, database = shared_store
    with store.begin() as tx:
        for table in t.CORE:
            tx.execute(table.delete())
    (tmp_path / "town").mkdir()
    return Town(tmp_path / "town", store, database, vendor)
