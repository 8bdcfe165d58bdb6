"""The limit of every write: the very same rows, by the driver's own executemany, into the same tables and indexes.

Nothing is looked up, joined or decided, and all goes in one transaction.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.harness import timed
from crmkit.store import tables

Rows = dict[str, tuple[str, list[Any]]]


def rows(database: Path, only: tuple[str, ...] = ()) -> Rows:
    """{table: (its insert statement, its rows as the driver gives them)} of a SQLite database."""
    found: Rows = {}
    with closing(sqlite3.connect(database)) as connection:
        for table in tables.CORE:
            if only and table.name not in only:
                continue
            names = [column.name for column in table.columns]
            quoted = ", ".join(f'"{name}"' for name in names)
            values = connection.execute(f"SELECT {quoted} FROM {table.name} ORDER BY rowid").fetchall()
            if values:
                marks = ", ".join("?" * len(names))
                found[table.name] = (f"INSERT INTO {table.name} ({quoted}) VALUES ({marks})", values)
    return found


def connect(database: Path) -> sqlite3.Connection:
    """A connection that is as careful as crmkit's own."""
    connection = sqlite3.connect(database, isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def insert(database: Path, given: Rows) -> float:
    """Seconds to insert them."""
    with closing(connect(database)) as connection:
        return timed(lambda: _insert(connection, given))


def _insert(connection: sqlite3.Connection, given: Rows) -> None:
    connection.execute("BEGIN IMMEDIATE")
    for statement, values in given.values():
        connection.executemany(statement, values)
    connection.execute("COMMIT")


def replace(connection: sqlite3.Connection, table: str, numbers: list[Any], given: Rows) -> None:
    """Delete these rows of a table and insert those given, in one transaction."""
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany(f"DELETE FROM {table} WHERE id = ?", numbers)
    for statement, values in given.values():
        connection.executemany(statement, values)
    connection.execute("COMMIT")
