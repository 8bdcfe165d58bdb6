"""What handlers and policies may read: one batch's reading, and each plugin's view of it (see `crmkit.Crm`)."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from crmkit.core.broadcast import customer_column
from crmkit.core.trouble import Trouble
from crmkit.store import bulk, facts, troubles
from crmkit.store import tables as t
from crmkit.store.bulk import Row


class Reading:
    """What is read of plugins' tables while a batch is decided.

    Args:
        reporting: shops that say what was delivered.

    Attributes:
        selects: statements each plugin's `crm.select` cost.
    """

    def __init__(self, tx: Connection, now: datetime, reporting: Collection[int] = ()) -> None:
        self.tx, self.now, self.reporting = tx, now, reporting
        self.selects: Counter[str] = Counter()
        self._kept: dict[type[SQLModel], dict[int, list[Row]]] = {}

    def preload(self, model: type[SQLModel], customers: Collection[int]) -> None:
        """Keep a table's rows of these customers; one statement, none where all are kept already."""
        kept = self._kept.setdefault(model, {})
        missing = set(customers) - set(kept)
        if missing:
            self._load(model, missing)

    def _load(self, model: type[SQLModel], customers: Collection[int]) -> None:
        column = t.table_of(model).c[str(customer_column(model))]
        found: dict[int, list[Row]] = defaultdict(list)
        for row in bulk.select_in(self.tx, t.table_of(model), column, customers):
            found[row[column.name]].append(row)
        self._kept[model].update({number: found.get(number, []) for number in customers})

    def refresh(self, saved: Mapping[type[SQLModel], Collection[SQLModel]]) -> None:
        """Rows of these tables were written: what is kept of the customers they are and were of is read again."""
        for model, rows in saved.items():
            kept = self._kept.get(model)
            if not kept:
                continue
            column, keys = str(customer_column(model)), [key.name for key in t.table_of(model).primary_key]
            written = {tuple(getattr(row, key) for key in keys) for row in rows}
            stale = {getattr(row, column) for row in rows}
            stale |= {
                number for number, mine in kept.items() for row in mine if tuple(row[key] for key in keys) in written
            }
            self._load(model, stale & set(kept))

    def select(self, plugin: str, model: type[SQLModel], where: Mapping[str, Any]) -> list[Any]:
        """Rows whose columns equal `where`, from what is kept where that is all there is."""
        column = customer_column(model)
        mine = self._kept.get(model, {}).get(where[column]) if column is not None and column in where else None
        if mine is None:
            self.selects[plugin] += 1
            return facts.rows_of(self.tx, model, where)
        for name in where:
            t.table_of(model).c[name]  # one that is not there is as wrong here as in a statement
        return [model(**row) for row in mine if all(row[name] == v for name, v in where.items())]


class CrmView:
    """What one plugin's code is given."""

    def __init__(self, reading: Reading, plugin: str, settings: Any) -> None:
        self._reading, self._plugin = reading, plugin
        self.now, self.settings = reading.now, settings

    def select(self, table: type[SQLModel], **where: Any) -> list[Any]:
        """Rows of one of the plugin's own tables whose columns equal `where`."""
        return self._reading.select(self._plugin, table, where)

    def troubles(
        self, since: datetime, until: datetime | None = None, *, grace: timedelta = timedelta(0), worst: int = 3
    ) -> list[Trouble]:
        """What staff may want to look at."""
        reading = self._reading
        return troubles.troubles(reading.tx, since, until or self.now, reading.reporting, grace, worst)
