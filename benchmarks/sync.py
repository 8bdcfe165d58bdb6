"""Sync: a generated shop's orders with their lines and payments into an empty database, then once more."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

from benchmarks import house, raw, shop
from benchmarks.harness import Race, Result, Size, timed
from benchmarks.house import FILES, House
from crmkit.core.customer import normal_phone


def run(folder: Path, size: Size) -> Iterator[Result]:
    """The rows on SQLite."""
    house.load(size.orders)
    shop.write(folder / "files" / "exports", size.orders)
    memory, files = House(folder / "memory"), House(folder / "files", source=FILES)
    memory.create()
    empty = memory.keep("empty.db")
    memory.sync()
    full = memory.keep("full.db")
    rows = raw.rows(full)

    def first(place: House) -> float:
        place.restore(empty)
        return _sync(place)

    def by_driver() -> float:
        memory.restore(empty)
        return raw.insert(memory.database, rows)

    def again() -> float:
        memory.restore(full)
        return _sync(memory)

    race = Race(
        size.rounds,
        {"memory": lambda: first(memory), "files": lambda: first(files), "driver": by_driver, "again": again},
    )
    limit = f"raw executemany, {race.rate('driver', size.orders):,.0f} orders/s"

    def row(job: str, name: str, target: float | None = None) -> Result:
        rate = f"{race.rate(name, size.orders):,.0f} orders/s"
        return Result(job, rate, limit, race.ratio(name, "driver"), target)

    yield row("sync, first load, SQLite", "memory", 0.30)
    yield row("sync, first load, SQLite, files", "files")
    yield row("sync, nothing changed, SQLite", "again")


def _sync(place: House) -> float:
    """Seconds of a sync; opening and checking the database is part of no order."""
    normal_phone.cache_clear()
    with place.engine() as engine:
        engine.prepare()
        runs = []
        seconds = timed(lambda: runs.extend(asyncio.run(engine.sync(now=shop.NOW))))
    for error in runs[0].errors:
        raise error
    return seconds
