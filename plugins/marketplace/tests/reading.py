"""What sources read, gathered for tests that look at it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from crmkit import CrmkitError, Page, Refused, Reread


@dataclass
class Read:
    """What was read, and the error it ended with."""

    pages: list[Page] = field(default_factory=list)
    error: CrmkitError | None = None

    @property
    def records(self) -> list[Any]:
        return [record for page in self.pages for record in page.records]

    @property
    def places(self) -> list[str]:
        return [page.places[index] for page in self.pages for index in range(len(page.records))]

    @property
    def hints(self) -> list[Reread]:
        return [hint for page in self.pages for hint in page.hints]

    @property
    def refused(self) -> list[Refused]:
        return [refused for page in self.pages for refused in page.refused]

    @property
    def cursor(self) -> Any:
        return next((page.cursor for page in reversed(self.pages) if page.cursor is not None), None)

    def of(self, kind: str) -> list[Any]:
        return [record for record in self.records if record.kind == kind]

    def ids(self, kind: str = "order") -> list[int]:
        return [int(record.external_id) for record in self.of(kind)]


async def gather(pages: AsyncIterator[Page], most: int | None = None) -> Read:
    """Every page, up to an error; `most`: stop after so many."""
    found = Read()
    try:
        async for page in pages:
            found.pages.append(page)
            if len(found.pages) == most:
                break
    except CrmkitError as error:
        found.error = error
    return found
