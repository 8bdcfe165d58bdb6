"""Who may: a token in `Authorization: Bearer`, and nowhere else, is looked up anew with every request.

What is unknown, expired or revoked gets one and the same answer, after the same work. A token that is revoked opens
nothing from the next request on, in every process.
"""

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated

from fastapi import HTTPException, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection

from crmkit.core.errors import CrmkitError
from crmkit.core.token import allows, hash_of, state_of
from crmkit.store import tokens
from crmkit.store.bulk import Row
from crmkit.web.limit import Buckets, Callers, Rate
from crmkit.web.site import Site

#: A token is never longer, whatever is sent.
LONGEST = 200
#: How often one caller may show a token that is worth nothing.
GUESSES = Rate(30 / 60, 30)

_BEARER = HTTPBearer(auto_error=False, description="A token made with `crmkit tokens new`.")


class Guard:
    """Admits requests to what needs a token.

    Args:
        site: whose tokens they are.
        guesses: how often one caller may show a token that is worth nothing.
    """

    def __init__(self, site: Site, guesses: Rate = GUESSES) -> None:
        self.site = site
        self.guesses = Buckets(guesses)
        self.callers = Callers(site.local.host.config.web.proxies)
        self._noted: dict[int, datetime] = {}
        self._noting: set[asyncio.Task[None]] = set()

    async def admit(self, request: HTTPConnection, scope: str) -> str:
        """The name of the token that allows this.

        Raises:
            HTTPException: 401: there is none, or none that is worth anything; 403: it allows other things; 429: it is
                worth nothing, and its caller showed too many of the kind.
        """
        given = _token_of(request)
        if given is None:
            raise _unknown()
        now = self.site.clock()
        row = await self.site.read(tokens.find, hash_of(given))
        if row is None or state_of(row["revoked_at"], row["expires_at"], now) != "live":
            caller = self.callers.of(request.scope)
            if wait := self.guesses.wait(caller):  # a token that is worth something is, whoever else calls from there
                raise HTTPException(429, "too many tries", {"Retry-After": f"{math.ceil(wait)}"})
            self.guesses.take(caller)
            raise _unknown()
        self._note(row, now)
        if not allows(row["scopes"], scope):
            told = {"WWW-Authenticate": f'Bearer realm="crmkit", error="insufficient_scope", scope="{scope}"'}
            raise HTTPException(403, f"the token does not allow {scope}", told)
        return str(row["name"])

    def _note(self, row: Row, now: datetime) -> None:
        """Keep that a token was used, beside the answer: nobody waits for it, and nothing fails without it."""
        last = max(filter(None, (row["used_at"], self._noted.get(row["id"]))), default=None)
        if last is not None and now - last < tokens.USED_EVERY:
            return
        self._noted[row["id"]] = now
        task = asyncio.create_task(self._keep(row["id"], now))
        self._noting.add(task)
        task.add_done_callback(self._noting.discard)

    async def _keep(self, number: int, now: datetime) -> None:
        try:
            await self.site.write(tokens.used, number, now)
        except (SQLAlchemyError, CrmkitError, RuntimeError):  # busy, away, or closing: the next use is noted
            self._noted.pop(number, None)


def allowed(scope: str) -> Callable[..., Awaitable[str]]:
    """A dependency: the request comes with a token that allows `scope`; its name is given."""

    async def check(
        request: Request, _: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)] = None
    ) -> str:
        return await guard_of(request).admit(request, scope)

    return check


def guard_of(request: HTTPConnection) -> Guard:
    """The guard of the site a request came to."""
    guard: Guard = request.app.state.guard
    return guard


def _token_of(request: HTTPConnection) -> str | None:
    """The token a request shows; None where there is none, or more than one."""
    given = request.headers.getlist("authorization")
    kind, _, token = given[0].partition(" ") if len(given) == 1 else ("", "", "")
    token = token.strip()
    return token if kind.lower() == "bearer" and 0 < len(token) <= LONGEST else None


def _unknown() -> HTTPException:
    return HTTPException(401, "a token is needed", {"WWW-Authenticate": 'Bearer realm="crmkit"'})
