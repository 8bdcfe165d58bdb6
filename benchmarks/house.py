"""An installation around the generated shop: crmkit.toml, a database, the engine; and copies of what is in it."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from benchmarks import shop
from benchmarks.adapters import MemorySource
from crmkit.core.customer import normal_phone
from crmkit.engine.local import DECIDE, Local
from crmkit.flow.decide import decide
from crmkit.host.catalogue import Catalogue
from crmkit.host.host import Host
from crmkit.host.plugins import Plugins
from crmkit.store import migrate

CONFIG = """\
[crm]
database = "{url}"

[plugins]
use = ["care"]

[shops.tea]
{source}
announce_from = {announce_from}

{channel}

[[care.rules]]
on = "order-paid"
send = "order-paid"
via = ["{via}"]
"""
MEMORY = 'use = "memory"'
FILES = 'use = "files"\npreset = "crmkit"\npath = "exports"'


class House:
    """An installation in a folder.

    Args:
        folder: where its configuration and its databases are.
        source, channel: their sections of crmkit.toml.
        via: the channel the rule sends by.
        announce_from: what is before is history.
        url: its database; SQLite in `folder` where None.
    """

    def __init__(
        self,
        folder: Path,
        *,
        source: str = MEMORY,
        channel: str = "",
        via: str = "sms",
        announce_from: datetime = shop.BEGAN,
        url: str | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("CRMKIT_STATE", str(folder / "state"))  # a benchmark's databases are noted in no home
        self.folder, self.database = folder, folder / "crm.db"
        self.url = url or f"sqlite:///{self.database}"
        announced = announce_from.isoformat()
        text = CONFIG.format(url=self.url, source=source, channel=channel, via=via, announce_from=announced)
        (folder / "crmkit.toml").write_text(text, "utf-8")
        self.host = opened(folder)

    def create(self) -> None:
        """Make the database anew, empty."""
        if self.url.startswith("sqlite"):
            self.restore(None)
        migrate.upgrade(self.url, self.host.migrations)

    @contextmanager
    def engine(self) -> Iterator[Local]:
        """The engine on its database."""
        store = self.host.store()
        try:
            yield Local(self.host, store)
        finally:
            store.close()

    def sync(self) -> None:
        """Read the shop once. What was cached of phone numbers is forgotten: a first load finds them new."""
        normal_phone.cache_clear()
        with self.engine() as engine:
            [run] = asyncio.run(engine.sync(now=shop.NOW))
        for error in run.errors:
            raise error

    def decide(self) -> int:
        """Decide all there is; returns how many interactions."""
        with self.engine() as engine:
            return self.decide_with(engine)

    def decide_with(self, engine: Local) -> int:
        """Decide all there is, on an open database."""
        done = 0
        with engine.store.read() as tx:
            setup = engine.setup(tx)
        while True:
            with engine.store.begin() as tx:
                step = decide(tx, setup, shop.NOW, DECIDE).interactions
            if not step:
                return done
            done += step

    def dispatch(self) -> int:
        """Dispatch by the wall clock; returns how many messages were sent."""
        with self.engine() as engine:
            run = asyncio.run(engine.dispatch())
        for error in run.delivered.stopped.values():
            raise error
        return run.delivered.states["sent"]

    def keep(self, name: str) -> Path:
        """A copy of the SQLite database as it is."""
        with closing(sqlite3.connect(self.database)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return Path(shutil.copyfile(self.database, self.folder / name))

    def restore(self, copy: Path | None) -> None:
        """Put a copy in the database's place; None leaves the place empty."""
        for suffix in ("", "-wal", "-shm"):
            self.database.with_name(self.database.name + suffix).unlink(missing_ok=True)
        if copy is not None:
            shutil.copyfile(copy, self.database)


def opened(folder: Path) -> Host:
    """The configuration in a folder, with the benchmarks' own adapters."""
    names = ("marketplace.memory", "sms.loopback", "sms.null")
    own = [EntryPoint(name, "benchmarks.adapters", "crmkit") for name in names]
    return Host.open(folder / "crmkit.toml", plugins=Plugins(Catalogue([*entry_points(group="crmkit"), *own])))


def load(orders: int) -> None:
    """Have the shop's pages ready in memory."""
    MemorySource.pages = list(shop.pages(orders))
