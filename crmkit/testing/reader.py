"""An installation that reads one account, in a database of its own: what contracts of sources hold records against."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from crmkit.adapters.source import REPORTABLE
from crmkit.adapters.stream import BEGINNING, Page
from crmkit.core.account import Shop
from crmkit.core.order import MILESTONES
from crmkit.flow.ingest import ingest
from crmkit.store import accounts
from crmkit.store import tables as t
from crmkit.store.engine import Store
from crmkit.testing.dump import Dump, canonical


class Reader:
    """An installation with one shop."""

    def __init__(self, store: Store, adapter: str) -> None:
        self.store = store
        self.now = BEGINNING
        with store.begin() as tx:
            number, _ = accounts.meet(
                tx,
                name=f"our-{adapter}",
                kind="shop",
                adapter=adapter,
                vendor_account=None,
                announce_from=BEGINNING,
                now=BEGINNING,
            )
        name = f"our-{adapter}"
        self.shop = Shop(number, name, name, REPORTABLE, BEGINNING, "en", ZoneInfo("UTC"))

    def take(self, page: Page) -> None:
        """Ingest a page."""
        with self.store.begin() as tx:
            ingest(tx, self.shop, page, stream="contract", listened=frozenset(), now=datetime.now(ZoneInfo("UTC")))

    def dump(self) -> Dump:
        """What the facts came to."""
        with self.store.read() as tx:
            return canonical(tx)

    def cursors(self) -> dict[str, Any]:
        """How far each stream was read."""
        with self.store.read() as tx:
            return {row.stream: row.value for row in tx.execute(t.cursor.select())}

    def orders(self) -> dict[str, Mapping[str, Any]]:
        """The newest that is known of each order, by the shop's id; not what it went through, nor when it was seen."""
        left = {f"{name}_at" for name in MILESTONES}
        left |= {"id", "shop_id", "profile_id", "recorded_at", "version_observed", "older", "version_hash", "said"}
        with self.store.read() as tx:
            rows = [dict(row) for row in tx.execute(t.orders.select()).mappings()]
        return {row["external_id"]: {k: v for k, v in row.items() if k not in left} for row in rows}


__all__ = ["Reader"]
