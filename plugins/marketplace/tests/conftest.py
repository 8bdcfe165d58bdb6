"""A shop of files: write them, read them, look at what came."""

import asyncio
import gzip
import os
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from crmkit import Account, Record, Ref, Start
from crmkit_marketplace.files import FilesSource
from plugins.marketplace.tests.reading import Read, gather

ORDERS = """
[orders]
file = "orders.csv"
[orders.columns]
external_id = "id"
placed_at = "placed"
status = { column = "status", values = { open = "placed", sent = "shipped" } }
total = "total"
"""


class Shop:
    """A folder with exports, and a mapping."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.timezone = "UTC"
        self.currency: str | None = "EUR"

    def write(self, name: str, text: str | bytes, *, at: int = 1_700_000_000) -> Path:
        path = self.folder / name
        binary = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(binary) if name.endswith(".gz") and isinstance(text, str) else binary)
        os.utime(path, (at, at))
        return path

    def source(self, mapping: str) -> FilesSource:
        account = Account("mine", self.timezone, self.currency, None, self.folder)
        return FilesSource(FilesSource.Settings.model_validate(tomllib.loads(mapping)), account, None)  # type: ignore[arg-type]

    def read(
        self,
        mapping: str = ORDERS,
        stream: str = "orders",
        *,
        cursor: Any = None,
        since: datetime | None = None,
        pages: int | None = None,
    ) -> Read:
        """What a stream gives; an error it ends with is in `error`. `pages`: stop after so many."""
        source = self.source(mapping)
        return asyncio.run(gather(getattr(source, stream)(Start(cursor, since)), pages))

    def ask(self, mapping: str, refs: Sequence[Ref]) -> list[Record]:
        async def run() -> list[Record]:
            return [record async for page in self.source(mapping).read(refs) for record in page.records]

        return asyncio.run(run())

    def check(self, mapping: str) -> list[str]:
        return list(asyncio.run(self.source(mapping).check()))


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
