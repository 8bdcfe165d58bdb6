"""What a stream has to remember of its files: rows by key, ids already seen. On disk, so that memory stays bounded.

The database is SQLite's private temporary one: it spills to a file that has no name and is gone when it is closed, or
when the process dies.
"""

import pickle
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Self

_CHUNK = 500


class Found(NamedTuple):
    """A row kept for later: the number of its file, its line, its cells."""

    file: int
    line: int
    cells: Sequence[str | None]


class Lookup:
    """Rows of joined tables by key, and the ids a stream has seen."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA cache_size = -8192")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("BEGIN")
        for columns in (
            "seen (id TEXT, file INTEGER, line INTEGER, digest INTEGER, PRIMARY KEY (id, file))",
            "newest (id TEXT PRIMARY KEY, file INTEGER)",
            "counted (id TEXT PRIMARY KEY, n INTEGER)",
        ):
            self._db.execute(f"CREATE TABLE {columns} WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def create(self, table: str) -> None:
        """Make room for the rows of a table."""
        self._db.execute(f"CREATE TABLE rows_{table} (key TEXT, file INTEGER, line INTEGER, cells BLOB)")

    def keep(self, table: str, rows: Iterable[tuple[str, Found]]) -> None:
        """Keep rows by key."""
        self._db.executemany(
            f"INSERT INTO rows_{table} VALUES (?, ?, ?, ?)",
            ((key, row.file, row.line, pickle.dumps(tuple(row.cells), 5)) for key, row in rows),
        )

    def seal(self, table: str) -> None:
        """All rows are there: from now on they are asked for."""
        self._db.execute(f"CREATE INDEX by_key_{table} ON rows_{table} (key)")

    def rows(self, table: str, keys: Sequence[str]) -> dict[str, list[Found]]:
        """The kept rows with these keys, oldest file first, in the order of their lines."""
        found: dict[str, list[Found]] = defaultdict(list)
        for start in range(0, len(keys), _CHUNK):
            chunk = keys[start : start + _CHUNK]
            marks = ",".join("?" * len(chunk))
            for key, file, line, cells in self._db.execute(
                f"SELECT key, file, line, cells FROM rows_{table} WHERE key IN ({marks})", chunk
            ):
                found[key].append(Found(file, line, pickle.loads(cells)))
        for rows in found.values():
            rows.sort(key=lambda row: row[:2])
        return found

    def orphans(self, table: str) -> Iterator[tuple[str, Found]]:
        """Kept rows whose key no row of the stream had."""
        for key, file, line, cells in self._db.execute(
            f"SELECT key, file, line, cells FROM rows_{table} AS r"
            " WHERE NOT EXISTS (SELECT 1 FROM seen WHERE seen.id = r.key) ORDER BY file, line"
        ):
            yield key, Found(file, line, pickle.loads(cells))

    def see(self, id_: str, file: int, line: int, digest: int) -> tuple[int, bool] | None:
        """Note an id of a file. If the file has had it before: the line it had it in, and whether it was the same."""
        done = self._db.execute("INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)", (id_, file, line, digest))
        if done.rowcount:
            return None
        first = self._db.execute("SELECT line, digest FROM seen WHERE file = ? AND id = ?", (file, id_)).fetchone()
        return first[0], first[1] == digest

    def note_newest(self, ids: Iterable[tuple[str, int]]) -> None:
        """Note in which file an id was last; files come oldest first."""
        self._db.executemany("INSERT OR REPLACE INTO newest VALUES (?, ?)", ids)

    def is_newest(self, id_: str, file: int) -> bool:
        """Whether no newer file has this id."""
        row: Any = self._db.execute("SELECT file FROM newest WHERE id = ?", (id_,)).fetchone()
        return row is None or row[0] == file

    def count(self, key: str) -> int:
        """How often it has been asked about this key, this time included."""
        return int(
            self._db.execute(
                "INSERT INTO counted VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET n = n + 1 RETURNING n", (key,)
            ).fetchone()[0]
        )
