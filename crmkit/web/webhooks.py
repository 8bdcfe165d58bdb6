"""Webhooks in: verified on their raw bytes, kept, answered as their vendor wants; what they say is taken in later.

A vendor calls `/webhooks/ACCOUNT`, or `/webhooks/ACCOUNT/SECRET` where it signs nothing. What it sends is read within
bounds: so large, so long, of such a type, so often. An answer of 2xx says that the webhook is stored for good.
"""

import asyncio
import math
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from fastapi import Request
from fastapi.responses import Response
from sqlalchemy.exc import OperationalError, SQLAlchemyError
from starlette.types import ASGIApp, Receive, Scope, Send

from crmkit.adapters.adapter import Adapter
from crmkit.adapters.door import Reply
from crmkit.core.correlation import correlation
from crmkit.core.errors import ConfigError, RetryableError
from crmkit.core.log import WEBHOOK_FAILED, WEBHOOK_HEARD, WEBHOOK_REFUSED, told_of
from crmkit.engine.doors import NOBODY
from crmkit.flow.inbox import Heard
from crmkit.store.engine import refusal
from crmkit.web.limit import SHARE, Buckets, Callers, Limits
from crmkit.web.metrics import OTHER, Meter
from crmkit.web.site import Site

#: Seconds after which a vendor may try again what could not be kept.
AGAIN = 10
#: What a caller is answered who calls too often.
TOO_MANY = 429
#: What one is answered whose call cannot be kept now.
UNAVAILABLE = 503
#: Bytes of bodies that are held at once before they are verified.
ROOM = 64 * 1024 * 1024


class Turned(Exception):
    """A call is turned away, and nothing of it is kept.

    Args:
        status: what it is answered.
        why: in a word or two.
        headers: more of the answer.
    """

    def __init__(self, status: int, why: str, **headers: str) -> None:
        super().__init__(why)
        self.reply = Reply(status, why.encode())
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass
class Gate:
    """What stands before the doors: who may call how often.

    Attributes:
        site: the installation.
        limits: what is allowed.
        held: bytes of bodies that are held now, of all callers.
        held_of: and of each.
    """

    site: Site
    limits: Limits
    held: int = 0
    held_of: Counter[str] = field(default_factory=Counter)

    @cached_property
    def adapters(self) -> dict[str, type[Adapter]]:
        """Every account that is switched on, and what is its adapter."""
        return {name: entry.adapter for name, entry in self.site.local.accounts.called().items()}

    @cached_property
    def strangers(self) -> Buckets:
        """How often a caller could not show who he is, by caller and account."""
        return Buckets(self.limits.strangers)

    @cached_property
    def calls(self) -> Buckets:
        """How often an account was called."""
        return Buckets(self.limits.calls)

    @cached_property
    def callers(self) -> Callers:
        """Who calls."""
        return Callers(self.site.local.host.config.web.proxies)

    async def hear(
        self, request: Request, headers: dict[str, str], account: str, secret: str, correlation_id: str
    ) -> Heard:
        """Hear one call.

        Raises:
            Turned: it is turned away.
            CrmkitError, SQLAlchemyError, TimeoutError: it could not be kept, or its adapter's door is broken.
        """
        adapter = self.adapters.get(account)
        if adapter is None:
            return Heard(NOBODY, "refused")
        caller = self.callers.of(request.scope)
        self._may(account)
        _check(adapter, request.method, headers)
        try:
            body = await self._body(request, headers, adapter.largest_body, caller)
        except Turned as turned:
            if turned.reply.status != UNAVAILABLE:
                self._fails(caller, account, Connection="close")
            raise
        self._may(account)  # many may have come while this one was read
        heard = await self.site.local.doors.hear(
            account,
            headers,
            body,
            method=request.method,
            query=request.scope["query_string"].decode("latin-1"),
            path_secret=secret,
            correlation_id=correlation_id,
            now=self.site.clock(),
        )
        if heard.fate != "refused":
            self.calls.take(account)
        elif heard.reply.status >= 400:  # what is less is the answer to a vendor's question
            self._fails(caller, account)
        return heard

    def _may(self, account: str) -> None:
        """Whether so many calls of an account are allowed.

        Raises:
            Turned: they are too many.
        """
        if wait := self.calls.wait(account):
            raise Turned(TOO_MANY, "too many", Retry_After=f"{math.ceil(wait)}")

    def _fails(self, caller: str, account: str, **headers: str) -> None:
        """Somebody could not show who he is. Only that is counted: the vendor may call from the same address.

        Raises:
            Turned: he tried too often.
        """
        if wait := self.strangers.wait((caller, account)):
            raise Turned(TOO_MANY, "too many", Retry_After=f"{math.ceil(wait)}", **headers)
        self.strangers.take((caller, account))

    async def _body(self, request: Request, headers: dict[str, str], largest: int, caller: str) -> bytes:
        """The raw body.

        Raises:
            Turned: it is too large, takes too long, or breaks off; or bodies take all the room, or his take his share.
        """
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > largest:
            raise Turned(413, "too large", Connection="close")
        body, is_more = bytearray(), True
        try:
            async with asyncio.timeout(self.limits.body_within):
                while is_more:
                    message = await request.receive()
                    if message["type"] != "http.request":
                        raise Turned(400, "broken off", Connection="close")
                    part, is_more = message.get("body", b""), message.get("more_body", False)
                    body += part
                    self.held += len(part)
                    self.held_of[caller] += len(part)
                    if len(body) > largest:
                        raise Turned(413, "too large", Connection="close")
                    if self.held > ROOM or self._has_more_than_his_share(caller):
                        raise Turned(UNAVAILABLE, "not now", Connection="close", Retry_After=f"{AGAIN}")
        except TimeoutError:
            raise Turned(408, "too slow", Connection="close") from None
        finally:
            self.held -= len(body)
            self.held_of[caller] -= len(body)
            if self.held_of[caller] <= 0:
                del self.held_of[caller]
        return bytes(body)

    def _has_more_than_his_share(self, caller: str) -> bool:
        """Whether one caller's bodies take more than his share of the room; a proxy that says nobody's name is all."""
        return self.held_of[caller] > ROOM // SHARE and not self.callers.is_ours(caller)


def _check(adapter: type[Adapter], method: str, headers: dict[str, str]) -> None:
    """Whether this is how the vendor calls.

    Raises:
        Turned: it is not.
    """
    if method not in adapter.methods:
        raise Turned(405, "not so", Allow=", ".join(adapter.methods))
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Turned(415, "encoded")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind and not any(kind.endswith(one) if one.startswith("+") else kind == one for one in adapter.content_types):
        raise Turned(415, "wrong type")


async def webhook(request: Request, account: str, secret: str) -> Response:
    """A vendor calls."""
    gate: Gate = request.app.state.gate
    correlation_id, began = correlation(), time.perf_counter()
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    more: dict[str, str] = {}
    fate, broken = "refused", None
    try:
        heard = await gate.hear(request, headers, account, secret, correlation_id)
        reply, fate = heard.reply, heard.fate
    except Turned as turned:
        reply, more = turned.reply, turned.headers
    except Exception as error:  # a plugin's code may be the cause: its own account is answered, and the log says it
        reply, broken = _sorry(error), error
        more = {"Retry-After": f"{AGAIN}"} if reply.status == UNAVAILABLE else {}
    known = account if account in gate.adapters else None  # what else stands there may be anything
    said = {"account": known, "correlation": correlation_id, "seconds": round(time.perf_counter() - began, 4)}
    if fate == "refused":
        meter: Meter = request.app.state.meter
        meter.refused[known or OTHER, reply.status] += 1
    if broken is not None:
        WEBHOOK_FAILED.say(status=reply.status, **told_of(broken), **said)
    elif fate != "refused":
        WEBHOOK_HEARD.say(fate=fate, **said)
    elif reply.status != TOO_MANY:  # a flood is counted, and fills no log
        WEBHOOK_REFUSED.say(status=reply.status, **said)
    return Response(reply.body, reply.status, {"X-Request-Id": correlation_id, **more}, reply.content_type)


def _sorry(error: Exception) -> Reply:
    """What is answered where it could not be kept: 503 if another time it may be, 500 if somebody has to mend that."""
    is_passing = isinstance(error, ConfigError | RetryableError | TimeoutError)
    if isinstance(error, SQLAlchemyError):
        is_passing = isinstance(error, OperationalError) or refusal(error) is None
    return Reply(UNAVAILABLE, b"not now") if is_passing else Reply(500, b"broken")


class Doorway:
    """Takes what is for the doors before it goes through all that pages need: that costs as much as verifying."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hear a webhook; anything else is for pages."""
        place, _, rest = scope.get("path", "")[1:].partition("/")
        account, _, secret = rest.partition("/")
        if scope["type"] != "http" or place != "webhooks" or not account or "/" in secret:
            await self.app(scope, receive, send)
            return
        answer = await webhook(Request(scope, receive, send), account, secret)
        await answer(scope, receive, send)
