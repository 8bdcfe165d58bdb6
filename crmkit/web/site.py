"""What every page is given: the installation, its database, the clock, and whose link was opened."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlsplit

from anyio.to_thread import run_sync
from fastapi import Request
from sqlalchemy.engine import Connection
from starlette.requests import HTTPConnection

from crmkit.core.customer import Customer
from crmkit.core.link import Link, LinkError
from crmkit.engine.local import Local
from crmkit.flow.setup import Setup
from crmkit.store import customers, facts

R = TypeVar("R")


class PageError(Exception):
    """A page cannot be shown: the status, and the words of `[none]` that say why; seconds after which it may be."""

    def __init__(self, status: int, why: str, again: int | None = None) -> None:
        super().__init__(why)
        self.status, self.why, self.again = status, why, again


@dataclass(frozen=True, slots=True)
class Visit:
    """Whose link was opened.

    Attributes:
        link: what it is about.
        customer: the customer it was made for.
        setup: the installation as the steps see it.
        now: the moment.
    """

    link: Link
    customer: Customer
    setup: Setup
    now: datetime


@dataclass
class Site:
    """One installation as its pages see it.

    Attributes:
        local: the installation.
        clock: the time; the wall clock by default.
    """

    local: Local
    clock: Callable[[], datetime] = field(default=lambda: datetime.now(UTC))

    @cached_property
    def root(self) -> str:
        """The path all addresses begin with, where `[web] url` has one."""
        return urlsplit(self.local.host.config.web.url or "").path.rstrip("/")

    @property
    def title(self) -> str:
        """What customers know the seller by, where no shop of its own is meant."""
        config = self.local.host.config
        titles = {shop.title for shop in self.local.host.shops.values() if shop.kind == "shop"}
        return config.crm.title or (titles.pop() if len(titles) == 1 else "")

    async def read(self, step: Callable[..., R], *args: Any) -> R:
        """Run `step(connection, ...)` in a read transaction, beside the event loop."""

        def reading() -> R:
            with self.local.store.read() as tx:
                return step(tx, *args)

        return await run_sync(reading)

    async def write(self, step: Callable[..., R], *args: Any, **kwargs: Any) -> R:
        """Run `step(connection, ...)` in a write transaction, in the database thread.

        Whoever dispatches in this process looks at once whether there is something to say to it.
        """
        result = await self.local.store.run(step, *args, **kwargs)
        self.local.doors.news.set()
        return result

    def setup(self, tx: Connection) -> Setup:
        """The installation as the steps see it."""
        return self.local.setup(tx)

    def visit(self, tx: Connection, letter: str, token: str) -> Visit:
        """Whose link was opened.

        Raises:
            PageError: it opens nothing: it is not ours, too old, or its customer was forgotten.
        """
        links, now = self.local.host.config.links, self.clock()
        if links is None:
            raise PageError(404, "unknown")
        try:
            link = links.read(letter, token, now)
        except LinkError as error:
            raise PageError(410 if error.is_expired else 404, "expired" if error.is_expired else "unknown") from None
        if customers.is_forgotten(tx, link.profile_id):
            raise PageError(410, "expired")
        customer = facts.customers_of(tx, [link.profile_id]).get(link.profile_id)
        if customer is None:
            raise PageError(404, "unknown")
        return Visit(link, customer, self.setup(tx), now)


def given(request: Request, visit: Visit) -> dict[str, Any]:
    """What a step that writes is given beside what it writes."""
    return {"listened": visit.setup.listened, "now": visit.now, "correlation_id": request.scope.get("correlation")}


def site_of(request: HTTPConnection) -> Site:
    """The site a request came to."""
    site: Site = request.app.state.site
    return site
