"""What a page of a plugin is given: it reads as handlers do, and may tell that something happened."""

import asyncio
from contextlib import ExitStack
from datetime import datetime
from typing import Any

from anyio import from_thread
from sqlalchemy.engine import Connection
from sqlmodel import SQLModel

from crmkit.core.customer import Customer
from crmkit.core.errors import PluginError
from crmkit.core.events import Event
from crmkit.flow import tell
from crmkit.store import customers, facts
from crmkit.web.site import Site


class WebCrm:
    """What a page of a plugin may read, and how it tells that something happened.

    For pages that are plain functions (`def`, not `async def`): these run beside the event loop.

    Attributes:
        now: the time.
        settings: the plugin's own section of crmkit.toml.
    """

    def __init__(self, site: Site, plugin: str, settings: Any) -> None:
        self.now: datetime = site.clock()
        self.settings = settings
        self._site, self._plugin = site, plugin
        self._open = ExitStack()
        self._tx: Connection | None = None

    def select(self, table: type[SQLModel], **where: Any) -> list[Any]:
        """Rows of one of the plugin's own tables whose columns equal `where`."""
        return facts.rows_of(self._reading(), table, where)

    def customer(self, number: int) -> Customer | None:
        """The customer of this number, a profile's or a family's; None where there is none, or none any more."""
        tx = self._reading()
        if not 0 < number < 2**63 or customers.is_forgotten(tx, number):
            return None
        return facts.customers_of(tx, [number]).get(number)

    def tell(self, event: Event, *, key: str) -> bool:
        """Tell that something happened, now: it stands in the log, and handlers are given it with the next dispatch.

        Args:
            event: what; its `customer`, `order` and `shop` are whom it is about.
            key: what makes it the same thing when it is posted again.

        Returns:
            False where it was told before, or its customer is forgotten: nothing happened then.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return from_thread.run(self._site.write, self._told, event, key)
        do = "write the page as `def`, not `async def`"
        raise PluginError("a page tells from a plain function", who=self._plugin, operation="tell", do=do)

    def close(self) -> None:
        """Let the database go."""
        self._open.close()

    def _told(self, tx: Connection, event: Event, key: str) -> bool:
        listened = self._site.setup(tx).listened
        return tell.tell(tx, self._plugin, event, key, listened=listened, now=self.now)

    def _reading(self) -> Connection:
        if self._tx is None:
            self._tx = self._open.enter_context(self._site.local.store.read())
        return self._tx
