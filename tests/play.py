"""A small installation to play with: a shop or two, plugins made of functions, templates in a folder, one clock."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from crmkit.adapters.gateway import Gateway, GatewaySettings
from crmkit.adapters.stream import Page
from crmkit.core.account import Shop
from crmkit.core.hooks import Handler, Policy
from crmkit.core.records import Buyer, OrderRecord, Record
from crmkit.flow.decide import Decided, decide
from crmkit.flow.ingest import Tally, ingest
from crmkit.flow.render import Templates
from crmkit.flow.setup import Entry, Plugin, Setup
from crmkit.store import tables as t
from crmkit.store.engine import Store
from tests.strategies import START, a_shop

#: The moment most tests play at: a Monday, noon.
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

TEMPLATES = {
    "news.en.email": 'purpose = "transactional"\nsubject = "News"\n---\nYour order {{ order.number }}',
    "paid.en.email": 'purpose = "transactional"\nsubject = "Paid"\nmilestone = "paid"\nvalid_for = "2d"\n---\nThanks.',
    "offer.en.email": 'purpose = "marketing"\nsubject = "Offer"\n---\nTea for less.',
    "lacks.en.email": 'purpose = "transactional"\nsubject = "S"\n---\n{{ order.note }}',
    "broken.en.email": 'purpose = "transactional"\nsubject = "S"\n---\n{{ 1 // 0 }}',
    "news.en.sms": 'purpose = "transactional"\n---\nYour order {{ order.number }}',
}


class Counted(SQLModel, table=True):
    """How often something was decided."""

    __tablename__ = "play_counted"

    name: str = Field(primary_key=True)
    times: int = 0


class Numbered(SQLModel, table=True):
    """Rows the database numbers."""

    __tablename__ = "play_numbered"
    __table_args__ = (sa.UniqueConstraint("what"),)

    id: int | None = Field(default=None, primary_key=True)
    what: str


PLAY_TABLES = [t.table_of(Counted), t.table_of(Numbered)]


class Mail(Gateway):
    """Takes everything, and remembers it."""

    name = "mail"
    channel = "email"
    reaches = ("email",)


class Text(Gateway):
    name = "text"
    channel = "sms"
    reaches = ("phone",)


def entry(adapter: type[Gateway] = Mail, name: str | None = None, **settings: Any) -> Entry:
    return Entry(name or adapter.name, adapter.channel, adapter, GatewaySettings(**settings))


def buyer(name: str = "ann", **other: Any) -> Buyer:
    """A buyer with an e-mail address of the same name."""
    return Buyer(external_id=name, email=f"{name}@example.com", **other)


def order(number: str = "1", who: Buyer | None = None, at: datetime = NOON, **fields: Any) -> OrderRecord:
    """An order placed at `at`."""
    return OrderRecord(
        external_id=number, buyer=who or buyer(), **{"placed_at": at, "updated_at": at, "number": number, **fields}
    )


class Play:
    """An installation: `take` records in, `decide`, look at `rows`."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.shops = {1: a_shop(1)}
        self.plugins: dict[str, Plugin] = {}
        self.channels: dict[str, Sequence[Entry]] = {"email": [entry()]}
        self.more: dict[str, Any] = {}
        for name, text in TEMPLATES.items():
            self.template(name, text)
        with store.begin() as tx:
            SQLModel.metadata.create_all(tx, PLAY_TABLES)

    def template(self, name: str, text: str) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / f"{name}.txt").write_text(f"---\n{dedent(text)}\n", "utf-8")

    def plugin(self, name: str, *handlers: Handler, policies: Iterable[Policy] = ()) -> None:
        self.plugins[name] = Plugin(name, None, handlers, tuple(policies))

    def shop(self, number: int = 1, **fields: Any) -> Shop:
        self.shops[number] = a_shop(number, **fields)
        return self.shops[number]

    @property
    def setup(self) -> Setup:
        values = {
            "shops": self.shops,
            "channels": self.channels,
            "plugins": list(self.plugins.values()),
            "templates": Templates([self.folder], None),
            "zone": ZoneInfo("UTC"),
            "locale": "en",
        }
        return Setup(**{**values, **self.more})

    def take(self, *records: Record, shop: int = 1, now: datetime = NOON) -> Tally:
        with self.store.begin() as tx:
            listened = self.setup.listened
            return ingest(tx, self.shops[shop], Page(records), stream="s", listened=listened, now=now)

    def decide(self, now: datetime = NOON, limit: int = 500) -> Decided:
        """Decide until nothing is left."""
        done, setup = Decided(), self.setup
        while True:
            with self.store.begin() as tx:
                step = decide(tx, setup, now, limit)
            done.add(step)
            if not step.interactions:
                return done

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

    def count(self, table: sa.Table, **where: Any) -> int:
        return len(self.rows(table, **where))

    def write(self, *steps: Callable[[sa.Connection], Any]) -> None:
        with self.store.begin() as tx:
            for step in steps:
                step(tx)

    def counted(self) -> dict[str, int]:
        """How much was counted under each label; everything once."""
        rows = self.rows(t.table_of(Counted))
        assert all(row["times"] == 1 for row in rows), rows
        return dict(Counter(row["name"].partition(" ")[0] for row in rows))


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """What a database is told within."""
    said: list[str] = []

    def note(*args: Any) -> None:
        said.append(args[2])

    sa.event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        sa.event.remove(store.engine, "before_cursor_execute", note)


__all__ = ["DAY", "HOUR", "MINUTE", "NOON", "START", "Counted", "Mail", "Numbered", "Play", "Text", "buyer", "entry"]
__all__ += ["order", "statements"]
