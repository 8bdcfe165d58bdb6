"""An installation in a folder that sends what care says of orders from an export, and is called back."""

from datetime import datetime
from pathlib import Path
from typing import Any

from crmkit.core.message import MessageRow
from crmkit.engine.local import Local
from crmkit.host.host import Host
from crmkit.store import tables as t

NOW = datetime.fromisoformat("2026-05-08T12:00:00+00:00")
_BEFORE = """\
[crm]
database = "sqlite:///crm.db"
timezone = "{timezone}"
locale = "{locale}"

[web]
url = "https://crm.example.com"

[plugins]
use = ["care"]

[shops.tea]
use = "files"
preset = "crmkit"
path = "exports"
currency = "{currency}"
announce_from = 2026-05-07

"""
_AFTER = """
[[care.rules]]
on = "order-shipped"
send = "order-shipped"
via = ["sms"]

[care.late]
enabled = false
"""


class Place:
    """The folder, and what runs in it once it is open.

    Args:
        folder: an empty one.
        channels: the tables of its gateways.
        locale, timezone, currency: those of its one shop.
    """

    host: Host
    store: Any
    engine: Local

    def __init__(
        self, folder: Path, channels: str, *, locale: str = "en", timezone: str = "UTC", currency: str = "EUR"
    ) -> None:
        self.folder, self.locale = folder, locale
        for name in ("exports", "templates"):
            (folder / name).mkdir()
        before = _BEFORE.format(locale=locale, timezone=timezone, currency=currency)
        (folder / "crmkit.toml").write_text(before + channels + _AFTER, "utf-8")

    def template(self, text: str, name: str = "order-shipped") -> None:
        """Write a template for text messages."""
        (self.folder / "templates" / f"{name}.{self.locale}.sms.txt").write_text(text, "utf-8")

    def open(self, orders: str) -> None:
        """Begin with an export."""
        (self.folder / "exports" / "orders.csv").write_text(orders, "utf-8")
        self.host = Host.open(self.folder / "crmkit.toml")
        self.store = self.host.store()
        self.engine = Local(self.host, self.store)

    def close(self) -> None:
        if hasattr(self, "store"):
            self.store.close()

    def columns(self, *names: str) -> list[tuple[Any, ...]]:
        """What stands in columns of every message, in the order they were decided."""
        table = t.table_of(MessageRow)
        with self.store.read() as tx:
            rows = tx.execute(table.select().order_by(table.c.id)).mappings().all()
        return [tuple(row[name] for name in names) for row in rows]

    async def take_in(self) -> None:
        """Read what callers left, all of which can be read."""
        runs = await self.engine.take_in(now=NOW)
        assert [error for run in runs for error in run.errors] == []
