"""A source reads one account at a vendor and yields records in pages. Adapters translate; the core derives events.

Streams are methods marked with `@stream` or `@window`; they run in the order they are written. Each is handed where to
start and yields pages; the core stores a page's records and its cursor in one transaction, so a stream that is killed
goes on after the last page that was stored.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.stream import Page, Ref
from crmkit.core.order import Order

#: What a source may say it reports. What it does not report did not *not* happen.
REPORTABLE = frozenset(
    "placed paid shipped delivered completed cancelled parcels payments refunds returns reviews customers".split()
)


class SourceSettings(BaseModel):
    """What every source can be told in its section of crmkit.toml; an adapter adds its own. Secrets are `SecretStr`."""

    model_config = ConfigDict(extra="forbid")


class Source(Adapter):
    """Reads one account at a vendor.

    Class attributes:
        reports: of `REPORTABLE`, what this vendor tells. An instance may narrow it in `__init__`.
        rescans: how far back open orders are read again by id, a few each sync, where the vendor's changed-since
            misses changes; None: it misses none.
        Settings: a subclass of `SourceSettings`.
    """

    reports: frozenset[str] | set[str] = frozenset()
    rescans: ClassVar[timedelta | None] = None
    Settings: ClassVar[type[SourceSettings]] = SourceSettings

    async def vendor_account(self) -> str | None:
        """The vendor's own id of this account, by which two sections on one account are noticed; None if unknown."""
        return None

    def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        """Yield pages with the records asked for by id; ids the vendor does not know are left out.

        The one method behind hints, the re-scan of open orders, the retry of refused records, and reading by id.
        """
        raise NotImplementedError(f"{self.name} cannot read by id")

    def may_say(self, order: Order | None, purpose: str, template: str) -> str | None:
        """Why this may not be said to this shop's buyers; None: it may.

        Args:
            order: the order it is about, if it is about one.
            purpose: `transactional` or `marketing`.
            template: the template's name.
        """
        return None
