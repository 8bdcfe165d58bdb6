"""Health: whether the process lives, and whether it can do its work; nothing personal, and cheap however often asked.

Work that lags is told and is no reason to be taken out of service: without the door webhooks would be lost.
"""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from crmkit.core.errors import CrmkitError
from crmkit.engine.accounts import Accounts
from crmkit.store import migrate
from crmkit.store.standing import Standing, standing
from crmkit.web.site import Site

#: Seconds until a database that does not answer counts as gone, and for which an answer is given again.
PATIENCE, FRESH = 2.0, 1.0
#: Seconds by which work that could have been done may be late.
LAGGING = 900.0

State = Literal["ready", "lagging", "unready", "ending"]


class Lag(BaseModel):
    """By how many seconds the oldest of what waits is late."""

    webhooks: float
    decisions: float
    messages: float


class Readiness(BaseModel):
    """Whether an installation can do its work.

    Attributes:
        state: `lagging` where it can, and work is late.
        database: `old` where it is of another version than this program.
        synced: seconds since each account was last read to its end without an error; null where it never was.
    """

    state: State
    database: Literal["ok", "unreachable", "old"] | None = None
    lag: Lag | None = None
    synced: dict[str, float | None] = {}


@dataclass
class Health:
    """What is known of an installation's health.

    Attributes:
        site: the installation.
        is_ending: whether the server is about to stop.
    """

    site: Site
    is_ending: bool = False
    _asking: "asyncio.Task[Readiness] | None" = None
    _known: tuple[float, Readiness] | None = field(default=None)
    _beside: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(1))  # pages may have taken all threads

    def end(self) -> None:
        """The server is about to stop."""
        self.is_ending = True

    async def ready(self) -> Readiness:
        """Whether it can do its work, as of now or a moment ago; many who ask together cause one look."""
        if self.is_ending:
            return Readiness(state="ending")
        if self._known is not None and time.monotonic() - self._known[0] < FRESH:
            return self._known[1]
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._look())
        try:
            return await asyncio.wait_for(asyncio.shield(self._asking), PATIENCE)
        except TimeoutError:
            return Readiness(state="unready", database="unreachable")

    async def _look(self) -> Readiness:
        now = self.site.clock()
        try:
            stands = await run_sync(self._stands, now, limiter=self._beside, abandon_on_cancel=True)
            found = _readiness(stands, self.site.local.accounts, now)
        except (SQLAlchemyError, CrmkitError) as error:
            is_old = isinstance(error, CrmkitError) and error.__cause__ is None
            found = Readiness(state="unready", database="old" if is_old else "unreachable")
        self._known = (time.monotonic(), found)
        return found

    def _stands(self, now: datetime) -> Standing:
        local = self.site.local
        migrate.check(local.store, local.host.migrations)
        with local.store.read() as tx:
            return standing(tx, now)


def _readiness(found: Standing, known: Accounts, now: datetime) -> Readiness:
    lag = Lag(
        webhooks=max(found.late(known.named(), now).values(), default=0.0),
        decisions=found.pending.behind(now),
        messages=max((one.behind(now) for one in found.messages.values()), default=0.0),
    )
    is_late = max(lag.webhooks, lag.decisions, lag.messages) > LAGGING
    return Readiness(
        state="lagging" if is_late else "ready", database="ok", lag=lag, synced=found.ages(known.readable(), now)
    )


router = APIRouter()


@router.api_route("/healthz", methods=["GET", "HEAD"])
async def live() -> dict[str, str]:
    """The process lives, and answers."""
    return {"state": "live"}


@router.api_route("/readyz", methods=["GET", "HEAD"], response_model=Readiness, responses={503: {"model": Readiness}})
async def ready(request: Request) -> Response:
    """Whether it can do its work: 200, also where work is late; 503 where it cannot."""
    health: Health = request.app.state.health
    found = await health.ready()
    facts: dict[str, Any] = found.model_dump(exclude_none=True)
    return JSONResponse(facts, 503 if found.state in ("unready", "ending") else 200)
