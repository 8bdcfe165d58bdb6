"""A source reads one account at a vendor and yields records in pages. Adapters translate; the core derives events.

Streams are methods marked with `@stream`; they run in the order they are written. Each is handed where to start and
yields pages; the core stores a page's records and its cursor in one transaction, so a stream that is killed goes on
after the last page that was stored.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict

from crmkit.core.records import Record

#: What a source may say it reports. What it does not report did not *not* happen.
REPORTABLE = frozenset(
    "placed paid shipped delivered completed cancelled parcels payments refunds returns reviews customers".split()
)


class SourceSettings(BaseModel):
    """What every source can be told in its section of crmkit.toml; an adapter adds its own. Secrets are `SecretStr`."""

    model_config = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True)
class Account:
    """One configured use of an adapter: what the core knows of it.

    Attributes:
        name: its section in crmkit.toml, `flagship` of `[shops.flagship]`; of a gateway, its entry's name.
        timezone: an IANA name; times without a zone are read in it.
        currency: ISO 4217, for amounts that come without one; may be None.
        region: two-letter country in which phone numbers without a country code are read; may be None.
        folder: relative paths in the configuration are relative to it.
    """

    name: str
    timezone: str
    currency: str | None
    region: str | None
    folder: Path


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream starts.

    Attributes:
        cursor: what the last stored page gave; None at first, and when the operator asked for a `since`.
        since: only what changed at or after this moment is wanted; the live cursor does not move.
    """

    cursor: Mapping[str, Any] | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """A record asked for by id: what kind it is, and the id its vendor knows it by."""

    kind: str
    external_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """A raw record that could not be made into a record: quarantined by the core, the rest of the page lands.

    Attributes:
        kind: what it would have been: `order`, `parcel`, ...
        place: where it is, as a person would look for it: `orders.csv:17`.
        reason: why it was refused, with the value found.
        raw: the raw record, as text.
        ref: the id it can be read again by; None where it has none that can be read.
    """

    kind: str
    place: str
    reason: str
    raw: str
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Records that are stored together, and the cursor that is stored with them.

    Attributes:
        records: canonical records.
        refused: what could not be made into one.
        cursor: where the stream goes on after this page; None leaves the cursor where it is.
        total: how many records the stream is expected to have in all, for the progress bar; None if unknown.
        places: {index in records: place}, where a source can say where each record is.
    """

    records: Sequence[Record] = ()
    refused: Sequence[Refused] = ()
    cursor: Mapping[str, Any] | None = None
    total: int | None = None
    places: Mapping[int, str] = field(default_factory=dict)


StreamMethod = Callable[[Any, Start], AsyncIterator[Page]]
M = TypeVar("M", bound=StreamMethod)


def stream(method: M) -> M:
    """Mark a method of a source as a stream: `async def orders(self, start: Start) -> AsyncIterator[Page]`."""
    method.__crmkit_stream__ = True  # type: ignore[attr-defined]
    return method


class Source:
    """Reads one account at a vendor.

    Class attributes:
        name: the slug; the same as module, entry point and configuration value.
        reports: of `REPORTABLE`, what this vendor tells. An instance may narrow it in `__init__`.
        Settings: a subclass of `SourceSettings`.

    Attributes:
        settings, account: this use of the adapter.
        http: a client ready to use.
    """

    name: ClassVar[str]
    reports: frozenset[str] | set[str] = frozenset()
    Settings: ClassVar[type[SourceSettings]] = SourceSettings

    settings: Any

    def __init__(self, settings: Any, account: Account, http: httpx.AsyncClient) -> None:
        self.settings = settings
        self.account = account
        self.http = http

    @classmethod
    def streams(cls) -> list[str]:
        """The names of its streams, in the order they are written."""
        names: list[str] = []
        for base in reversed(cls.__mro__):
            names.extend(n for n, m in vars(base).items() if getattr(m, "__crmkit_stream__", False) and n not in names)
        return names

    async def open(self) -> None:
        """Called once before the first stream."""

    async def close(self) -> None:
        """Called once after the last."""

    async def vendor_account(self) -> str | None:
        """The vendor's own id of this account, by which two sections on one account are noticed; None if unknown."""
        return None

    def read(self, refs: Sequence[Ref]) -> AsyncIterator[Page]:
        """Yield pages with the records asked for by id; ids the vendor does not know are left out."""
        raise NotImplementedError(f"{self.name} cannot read by id")

    async def check(self) -> Iterable[str]:
        """Problems an operator should know of before the first run (`crmkit doctor`); none if all is well."""
        return ()
