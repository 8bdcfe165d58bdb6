"""A busy year lies in the database: the same sync and dispatch, beside the same with nothing before it.

The year is made of the rows a few real orders led to, again and again under other numbers and names, so that it has
all that years have: customers, orders, interactions, messages with their tries and receipts, webhooks, runs.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from benchmarks import house
from benchmarks.harness import Race, Result, Size, timed
from benchmarks.house import House
from crmkit.store import bulk
from crmkit.store import tables as t
from crmkit.testing.copy import take_on

CHANNEL = '[[channels.sms]]\nuse = "null"'
#: Orders whose rows the year is made of, those that are new at its end, and how often the first were in it.
SEED, NEW, YEARS = 500, 500, 80
#: What one round of copies is moved by: more than there are rows of a kind.
STEP = 1_000_000
#: Tables that grow with the days, in the order rows may be inserted.
GROWING = (t.profile, t.identity, t.address, t.consent, t.orders, t.line, t.payment, t.interaction)
GROWING = (*GROWING, t.message, t.attempt, t.receipt, t.inbox, t.run)
_NUMBERS = ("id", "profile_id", "family_id", "merged_into", "order_id", "interaction_id", "cause_id", "message_id")
#: What no two rows may have in common; and what tells one person, order or message from another.
_NAMES = (
    "key",
    "external_id",
    "order_external_id",
    "value",
    "once",
    "vendor_id",
    "dedupe_key",
    "message_key",
    "address",
)


def fill(tx: Connection, times: int) -> int:
    """Make a year of what is in a database: all its rows so often again. Returns how many there are then."""
    total = 0
    for table in GROWING:
        rows = [dict(row) for row in bulk.rows(tx, sa.select(table))]
        for number in range(1, times + 1):
            bulk.insert(tx, table, [_again(row, number, times) for row in rows])
        total += len(rows) * (times + 1)
        if tx.dialect.name != "sqlite" and "id" in table.c:
            highest = tx.execute(sa.select(sa.func.max(table.c.id))).scalar() or 1
            tx.exec_driver_sql(f"SELECT setval('{table.name}_id_seq', {highest})")
    return total


def _again(row: dict[str, Any], number: int, times: int) -> dict[str, Any]:
    back = timedelta(days=365) * (number / times)
    found = dict(row)
    for name, value in row.items():
        if value is None:
            continue
        if name in _NUMBERS:
            found[name] = value + number * STEP
        elif name in _NAMES and isinstance(value, str):
            found[name] = f"{value}-{number}"
        elif isinstance(value, datetime):
            found[name] = value - back
    return found


def run(folder: Path, size: Size) -> Iterator[Result]:
    """A row: sync and dispatch of some orders."""
    small = size.rounds < 5
    seed, new, times = (100, 100, 10) if small else (SEED, NEW, YEARS)
    place = House(folder / "year", channel=CHANNEL)
    empty, full, rows = prepared(place, seed, times)
    house.load(seed + new)

    def working(copy: Path) -> float:
        place.restore(copy)
        take_on(place.url)
        return timed(lambda: (place.sync(), place.dispatch()))

    race = Race(size.rounds, {"year": lambda: working(full), "nothing": lambda: working(empty)})
    yield Result(
        f"sync and dispatch, {rows:,} rows there",
        f"{race.rate('year', new):,.0f} orders/s",
        f"with {rows // (times + 1):,} rows, {race.rate('nothing', new):,.0f}/s",
        race.ratio("year", "nothing"),
        1 / 1.3,
    )


def prepared(place: House, seed: int, times: int) -> tuple[Path, Path, int]:
    """A database with a few orders that were told of, and one with a year of them; and the year's rows."""
    house.load(seed)
    place.create()
    place.sync()
    place.dispatch()
    empty = place.keep("empty.db")
    with place.engine() as engine, engine.store.begin() as tx:
        rows = fill(tx, times)
    return empty, place.keep("full.db"), rows
