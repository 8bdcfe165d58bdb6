"""Databases for installations, lent to one test after the other and emptied in between.

SQLAlchemy compiles a statement once per engine, which takes longer than most tests do: a new database each time would
have all of them compiled anew.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from crmkit.store import migrate
from crmkit.store.engine import Store
from crmkit.testing.database import MigratedTemplates, PostgresServer


@dataclass(frozen=True)
class Migration:
    """Brings a database up to the core's tables and these plugins'."""

    folders: tuple[tuple[str, Path], ...] = ()

    def __call__(self, url: str) -> object:
        """Migrate the database of this address."""
        return migrate.upgrade(url, dict(self.folders))


@dataclass(slots=True)
class _Kept:
    """A database, the names of its tables, and the rows its migrations wrote."""

    store: Store
    server: PostgresServer | None
    migration: Migration
    tables: list[sa.Table]
    first: dict[str, list[dict[str, Any]]]


class Stores:
    """Lends open databases.

    Args:
        folder: where those of SQLite lie.
        templates: migrated ones to copy.
    """

    def __init__(self, folder: Path, templates: MigratedTemplates) -> None:
        self._folder, self._templates = folder, templates
        self._numbers = count(1)
        self._free: defaultdict[tuple[PostgresServer | None, Migration], list[_Kept]] = defaultdict(list)
        self._lent: dict[int, _Kept] = {}

    def lend(self, server: PostgresServer | None, plugins: Mapping[str, Path], key: bytes | None = None) -> Store:
        """An open database with these plugins' tables, and no rows.

        Args:
            server: where it is; a file of SQLite where None.
            plugins: {plugin: its folder of migrations}.
            key: the installation's secret, as `Store` takes it.
        """
        migration = Migration(tuple(sorted(plugins.items())))
        free = self._free[server, migration]
        kept = free.pop() if free else self._made(server, migration)
        kept.store.engine.update_execution_options(crmkit_key=key)
        self._lent[id(kept.store)] = kept
        return kept.store

    def take_back(self, store: Store) -> None:
        """Empty a database that was lent, for the next one."""
        kept = self._lent.pop(id(store))
        with store.begin() as tx:
            if tx.dialect.name == "sqlite":
                tx.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
                for table in kept.tables:
                    tx.exec_driver_sql(f'DELETE FROM "{table.name}"')
            else:
                names = ", ".join(f'"{table.name}"' for table in kept.tables)
                tx.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY CASCADE")
            for table in kept.tables:
                if rows := kept.first.get(table.name):
                    tx.execute(sa.insert(table), rows)
        self._free[kept.server, kept.migration].append(kept)

    def close(self) -> None:
        """Close all; those of a server go with it."""
        for kept in [*self._lent.values(), *(one for free in self._free.values() for one in free)]:
            kept.store.close()

    def _made(self, server: PostgresServer | None, migration: Migration) -> _Kept:
        if server is None:
            url = self._templates.sqlite(migration, self._folder / f"crm-{next(self._numbers)}.db")
        else:
            url = server.url(self._templates.postgresql(migration, server))
        store = Store(url)
        if server is None:  # what a test writes need not survive the machine
            sa.event.listen(store.engine, "connect", _in_haste)
        found = sa.MetaData()
        found.reflect(store.engine)
        tables = [table for table in found.sorted_tables if not table.name.endswith("_version")]
        with store.read() as tx:
            first = {table.name: [dict(row) for row in tx.execute(sa.select(table)).mappings()] for table in tables}
        return _Kept(store, server, migration, tables, first)


def _in_haste(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA synchronous=OFF")
