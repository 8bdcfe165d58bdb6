"""A small town with a door: a real configuration, a real database, the application as a server would run it."""

from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from crmkit.adapters.stream import Page
from crmkit.core.link import Links
from crmkit.core.records import Buyer, OrderRecord, Record
from crmkit.engine.local import Local
from crmkit.flow.ingest import Tally, ingest
from crmkit.host.catalogue import Catalogue
from crmkit.host.host import Host
from crmkit.host.plugins import Plugins
from crmkit.store import accounts
from crmkit.store import tables as t
from crmkit.web.app import create
from crmkit.web.limit import Rate
from crmkit.web.pace import Pace

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
URL = "https://crm.tea.example"
KEY = "a key that is long enough for tests"

#: A test answers as often as it likes.
UNHURRIED = Rate(1e6, 1e6)
#: What is installed in the town: its own shop and gateways, and the playbook of the house.
INSTALLED = [
    EntryPoint("marketplace.stall", "tests.web.stall", "crmkit"),
    EntryPoint("email.post", "tests.web.stall", "crmkit"),
    EntryPoint("sms.text", "tests.web.stall", "crmkit"),
    EntryPoint("play.care", "crmkit_care", "crmkit"),
    EntryPoint("play.points", "tests.web.points", "crmkit"),
    EntryPoint("play.pointsplus", "tests.web.pointsplus", "crmkit"),
    EntryPoint("play.torn", "tests.web.torn", "crmkit"),
]


class Town:
    """One installation with a shop `stall`; its clock stands still unless a test moves it."""

    def __init__(
        self, folder: Path, url: str, more: str = "", title: str = "Tea House", *, is_known: bool = True
    ) -> None:
        self.folder, self.now = folder, NOON
        folder.mkdir(exist_ok=True)
        (folder / "link.key").write_text(KEY, "utf-8")
        (folder / "crmkit.toml").write_text(
            dedent(f"""
            [crm]
            database = "{url}"
            title = "{title}"
            [web]
            url = "{URL}"
            link_keys = ["file:link.key"]
            [shops.stall]
            use = "stall"
            """)
            + ('announce_from = "2026-01-01T00:00:00Z"\n' if is_known else "")
            + dedent(more),
            "utf-8",
        )
        self.host = Host.open(folder / "crmkit.toml", plugins=Plugins(Catalogue(INSTALLED)))
        self.store = self.host.store()
        self.local = Local(self.host, self.store)
        self.local.prepare()
        self.shop_id = 0
        if is_known:
            with self.store.begin() as tx:
                self.shop_id, _ = accounts.meet(
                    tx,
                    name="stall",
                    kind="shop",
                    adapter="stall",
                    vendor_account=None,
                    announce_from=NOON - timedelta(days=60),
                    now=NOON,
                )
                accounts.know_opt_outs(tx, [self.shop_id], NOON, "a test")
        self.app = create(self.local, lambda: self.now)
        self.app.state.pace = Pace(self.app.state.site, UNHURRIED, UNHURRIED, UNHURRIED)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=URL)

    @property
    def links(self) -> Links:
        found = self.host.config.links
        assert found is not None
        return found

    def take(self, *records: Record) -> Tally:
        """Records of the shop come in."""
        with self.store.begin() as tx:
            setup = self.host.setup({"stall": (self.shop_id, NOON - timedelta(days=60))})
            shop = setup.shops[self.shop_id]
            return ingest(tx, shop, Page(records), stream="s", listened=setup.listened, now=self.now)

    def order(self, number: str = "1001", buyer: Buyer | None = None, **fields: Any) -> int:
        """An order comes in; its number in the database."""
        who = buyer or Buyer(external_id="ann", name="Ann", email="ann@buyers.example")
        record = OrderRecord(
            **{"external_id": number, "number": number, "buyer": who, "placed_at": NOON, "updated_at": NOON, **fields}
        )
        self.take(record)
        return int(self.one(t.orders, external_id=number)["id"])

    def profile(self, key: str = "ann") -> int:
        """The number of a buyer's profile."""
        with self.store.read() as tx:
            found = tx.execute(sa.select(t.profile.c.id).where(t.profile.c.key.like(f"buyer:%:{key}"))).scalar()
        assert found is not None
        return int(found)

    def path(self, purpose: str, profile: int, **what: Any) -> str:
        """A page of a customer's own, as the client asks for it."""
        return self.links.make(purpose, profile, self.now, **what).removeprefix(URL)

    def rows(self, table: sa.Table, **where: Any) -> list[Mapping[str, Any]]:
        statement = sa.select(table).order_by(*table.primary_key.columns)
        for name, value in where.items():
            statement = statement.where(table.c[name] == value)
        with self.store.read() as tx:
            return list(tx.execute(statement).mappings())

    def one(self, table: sa.Table, **where: Any) -> Mapping[str, Any]:
        found = self.rows(table, **where)
        assert len(found) == 1, found
        return found[0]


@pytest.fixture
async def town(migrated_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town with one shop."""
    found = Town(tmp_path / "town", migrated_url)
    async with found.app.router.lifespan_context(found.app), found.client:
        yield found
    found.store.close()


@pytest.fixture
async def new_town(migrated_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town whose shop was never synced."""
    found = Town(tmp_path / "town", migrated_url, '[plugins]\nuse = ["care"]\n', is_known=False)
    async with found.client:
        yield found
    found.store.close()


@pytest.fixture
async def plugged(migrated_url: str, tmp_path: Path) -> AsyncIterator[Town]:
    """A town with plugins that have pages."""
    found = Town(tmp_path / "town", migrated_url, '[plugins]\nuse = ["points", "pointsplus", "torn"]\n')
    async with found.app.router.lifespan_context(found.app), found.client:
        yield found
    found.store.close()
