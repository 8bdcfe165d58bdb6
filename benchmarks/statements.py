"""Statements per batch: what the database is asked in one step must not grow with the step's rows.

Decide goes in waves, one for each interaction of the customer with the most: here every customer has one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import event

from benchmarks import shop
from benchmarks.harness import Result, Size
from benchmarks.house import House
from crmkit.engine.local import Local
from crmkit.flow.decide import decide
from crmkit.flow.ingest import ingest
from crmkit.store import accounts

CHANNEL = '[[channels.sms]]\nuse = "null"'


def run(folder: Path, size: Size) -> Iterator[Result]:
    """A row for ingest, one for decide."""
    few, many = size.batches
    ingested = {orders: _ingest(folder / f"ingest-{orders}", orders) for orders in (few, many)}
    yield _row("ingest", "orders", ingested)
    few, many = few // 2, many // 5
    decided = {count: _decide(folder / f"decide-{count}", count // 2) for count in (few, many)}
    yield _row("decide", "interactions", decided)


def _row(step: str, what: str, counted: dict[int, int]) -> Result:
    said = ", ".join(f"{statements} for {rows:,}" for rows, statements in counted.items())
    return Result(f"statements, {step}", f"{said} {what}", "the same", holds=len(set(counted.values())) == 1)


@contextmanager
def _counting(engine: Local) -> Iterator[list[str]]:
    said: list[str] = []

    def note(connection: object, cursor: object, statement: str, *_: object) -> None:
        said.append(statement)

    event.listen(engine.store.engine, "before_cursor_execute", note)
    yield said
    event.remove(engine.store.engine, "before_cursor_execute", note)


def _place(folder: Path) -> House:
    place = House(folder, channel=CHANNEL)
    place.create()
    return place


def _take(place: House, engine: Local, orders: int) -> int:
    """Statements of one page with all orders in it."""
    entry = place.host.shops["tea"]
    with engine.store.begin() as tx:
        accounts.meet(
            tx,
            name=entry.name,
            kind=entry.kind,
            adapter=entry.adapter.name,
            vendor_account=None,
            announce_from=shop.BEGAN,
            now=shop.NOW,
        )
        setup = engine.setup(tx)
        [known] = setup.shops.values()
    page = shop.page(orders)
    with engine.store.begin() as tx, _counting(engine) as said:
        ingest(tx, known, page, stream="orders", listened=setup.listened, now=shop.NOW, stood=accounts.Stood(None))
    return len(said)


def _ingest(folder: Path, orders: int) -> int:
    place = _place(folder)
    with place.engine() as engine:
        return _take(place, engine, orders)


def _decide(folder: Path, interactions: int) -> int:
    place = _place(folder)
    with place.engine() as engine:
        _take(place, engine, interactions)
        with engine.store.begin() as tx, _counting(engine) as said:
            setup = engine.setup(tx)
            assert decide(tx, setup, shop.NOW, 2 * interactions).interactions == 2 * interactions  # placed, paid
    return len(said)
