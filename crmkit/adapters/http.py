"""HTTP: the client an adapter is handed, and what became of a call.

httpx's own pool scans all its connections for every request and collapses under concurrency; aiohttp's does not. But
what its transport raises does not say whether anything left: "the server read everything, then hung up" and "connection
refused" are one and the same exception. So whether a call can have had an effect is not told by the exception: the
client notes when a connection was had, from which moment on bytes may have been written.

Two habits of aiohttp are broken here, since either makes a message two or none: it repeats a GET, PUT or DELETE by
itself when a kept connection is lost, and what a vendor wrote unasked on an idle connection is read as the next answer.
"""

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from pydantic import TypeAdapter, ValidationError

from crmkit.adapters.misreading import misread
from crmkit.core.errors import (
    AdapterError,
    AuthError,
    CrmkitError,
    DoubtError,
    PayloadError,
    RefusedError,
    RetryableError,
)
from crmkit.core.log import place_of

#: Connecting, and each wait for the next bytes, are given up after this many seconds.
TIMEOUT = httpx.Timeout(30, connect=10)
#: A call is given up after this many seconds, however steadily it drips.
LONGEST_CALL = 60.0
#: An idle connection is kept this long: less than vendors keep theirs (Node and Apache: five seconds), so that none is
#: written to as it is closed.
KEEP_ALIVE = 4.0
#: What only reads is tried so often within a run, with pauses of so many seconds that double.
READ_TRIES, READ_PAUSE = 3, 0.5
#: A run does not wait longer than this for a vendor that says "not now".
LONGEST_PAUSE = timedelta(seconds=20)
#: So much of an answer that was not understood is kept.
EXCERPT = 1_000
#: A larger answer, in bytes, is somebody else's.
LARGEST_ANSWER = 16 * 2**20


# --- the client -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Trace:
    """What is known of a call on its way."""

    is_watched: bool = False
    has_connection: bool = False


_trace: ContextVar[_Trace | None] = ContextVar("crmkit_http_trace", default=None)


#: Whether the request this task makes had its connection already.
_is_under_way: ContextVar[bool] = ContextVar("crmkit_http_under_way", default=False)


class _Connector(aiohttp.TCPConnector):
    """Hands a request one connection, once, on which nothing waits that it did not ask for."""

    async def connect(self, req: Any, traces: list[Any], timeout: Any) -> aiohttp.connector.Connection:  # noqa: ASYNC109
        """A connection to write on; from here on bytes may have left."""
        if _is_under_way.get():
            raise aiohttp.ServerDisconnectedError("a request is not repeated unasked")
        connection = await super().connect(req, traces, timeout)
        for _ in range(self.limit):
            if connection.protocol is None or not connection.protocol.should_close:
                break
            connection.close()
            connection = await super().connect(req, traces, timeout)
        _is_under_way.set(True)
        if (trace := _trace.get()) is not None:
            trace.has_connection = True
        return connection


@lru_cache(maxsize=1)
def _trust() -> ssl.SSLContext:
    """Whose certificates are trusted; to read them takes longer than many a call, so it is done once."""
    return httpx.create_ssl_context()


class _Transport(AiohttpTransport):
    """httpx over aiohttp, which notes for every call whether it had a connection."""

    def __init__(self, limits: httpx.Limits, resolver: aiohttp.abc.AbstractResolver | None) -> None:
        super().__init__(limits=limits, verify=_trust())
        self._resolver = resolver

    def get_client(self) -> aiohttp.ClientSession:
        """The session all calls share."""
        connector = _Connector(
            limit=self.limits.max_connections or 0,
            keepalive_timeout=self.limits.keepalive_expiry,
            ssl=self.ssl_context,
            resolver=self._resolver,
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        _is_under_way.set(False)
        if (trace := _trace.get()) is not None:
            trace.is_watched = True
        return await super().handle_async_request(request)


def client(
    *,
    concurrency: int = 8,
    transport: httpx.AsyncBaseTransport | None = None,
    resolver: aiohttp.abc.AbstractResolver | None = None,
) -> httpx.AsyncClient:
    """A client with a pool of `concurrency` connections. It follows no redirects: a vendor's address is configured.

    Args:
        transport: answers instead of the network.
        resolver: finds addresses instead of the system's.
    """
    limits = httpx.Limits(
        max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=KEEP_ALIVE
    )
    chosen = transport or _Transport(limits, resolver)
    nothing = CookieJar(DefaultCookiePolicy(allowed_domains=()))  # one call's answer is nothing to the next
    return httpx.AsyncClient(
        transport=chosen, timeout=TIMEOUT, follow_redirects=False, trust_env=False, cookies=nothing
    )


class _Addresses(logging.Filter):
    """httpx logs each address it asks; an address may hold secrets, numbers and texts, so only its host is told."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, addresses cut."""
        if isinstance(record.args, tuple):
            shown = (f"{a.scheme}://{a.host}/..." if isinstance(a, httpx.URL) else a for a in record.args)
            record.args = tuple(shown)
        return True


logging.getLogger("httpx").addFilter(_Addresses())


# --- what became of a call --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Exchange:
    """One call to a vendor, as `Adapter.call` describes it."""

    client: httpx.AsyncClient
    who: str
    operation: str
    method: str
    url: str
    request: Mapping[str, Any]
    has_effects: bool
    answers: frozenset[int]
    within: float
    fault: Callable[[str, httpx.Response], AdapterError | None] = lambda operation, response: None

    def error(self, kind: type[AdapterError], what: str, do: str = "", **more: Any) -> AdapterError:
        """An error of this call. It never shows the address, which may hold secrets, nor what the vendor wrote back."""
        return kind(what, who=self.who, operation=self.operation, do=do, **more)


class Renewal:
    """One renewal of credentials for all calls of an account that found the old ones refused."""

    def __init__(self) -> None:
        self.times = 0
        self._lock = asyncio.Lock()
        self._succeeded = False

    async def __call__(self, renew: Callable[[], Awaitable[bool]], times: int) -> bool:
        """Get fresh credentials; whether there are any.

        Args:
            renew: gets them; what it calls itself is refused without another renewal.
            times: how often they had been renewed when the refused call began; not again, if more often by now.
        """
        if _is_renewing.get():
            return False
        async with self._lock:
            if self.times == times:
                token = _is_renewing.set(True)
                try:
                    self._succeeded = await renew()
                finally:
                    _is_renewing.reset(token)
                self.times += 1
            return self._succeeded


_is_renewing: ContextVar[bool] = ContextVar("crmkit_http_renewing", default=False)


async def exchange(call: Exchange, renew: Callable[[], Awaitable[bool]], renewal: Renewal) -> httpx.Response:
    """Make a call; what only reads is tried again where that may help.

    Args:
        call: what to call.
        renew: gets fresh credentials after the old were refused; whether there are any.
        renewal: the account's.

    Raises:
        AdapterError: see `Adapter.call`.
    """
    is_fresh = False
    tries = 1
    while True:
        renewed = renewal.times
        try:
            return await _once(call)
        except AuthError as refusal:
            if is_fresh or not await _renewed(call, refusal, renewal(renew, renewed)):
                raise
            is_fresh = True
        except RetryableError as error:
            pause = error.retry_after or timedelta(seconds=READ_PAUSE * 2 ** (tries - 1))
            if call.has_effects or tries >= READ_TRIES or pause > LONGEST_PAUSE:
                raise
            tries += 1
            await asyncio.sleep(pause.total_seconds())


async def _renewed(call: Exchange, refusal: AuthError, renewing: Awaitable[bool]) -> bool:
    """Whether there are fresh credentials. The call was refused, so whatever goes wrong here puts nothing in doubt.

    Raises:
        RetryableError: they cannot be got now.
        AuthError: there are none, and what keeps them from coming.
    """
    try:
        return await renewing
    except (AuthError, RetryableError):
        raise
    except DoubtError as error:
        raise call.error(RetryableError, f"{refusal.what}, and no fresh ones came: {error}") from error
    except CrmkitError as error:
        why, do = f"{error.who} {error.operation}: {error.what}".strip(" :"), error.do or refusal.do
        raise call.error(AuthError, f"{refusal.what}, and there are no fresh ones ({why})", do) from error
    except Exception as error:  # an adapter's code; the text of its error may hold anything
        what = f"{refusal.what}, and getting fresh ones raised {type(error).__name__} at {place_of(error)}"
        raise call.error(AuthError, what, "its author has to mend that") from error


async def _once(call: Exchange) -> httpx.Response:
    trace = _Trace()
    token = _trace.set(trace)
    try:
        async with asyncio.timeout(call.within):
            async with call.client.stream(call.method, call.url, **call.request) as streamed:
                response = await _whole(call, streamed)
    except TimeoutError as error:
        raise _lost(call, trace, f"no answer within {call.within:g} s", error) from error
    except (httpx.TransportError, httpx.DecodingError, aiohttp.ClientError, OSError) as error:
        raise _lost(call, trace, _told(error), error) from error
    except httpx.InvalidURL as error:
        raise call.error(RetryableError, "its address is no address", "correct it in crmkit.toml") from error
    finally:
        _trace.reset(token)
    refusal = call.fault(call.operation, response) or verdict(call, response)
    if refusal is not None:
        raise refusal
    return response


async def _whole(call: Exchange, response: httpx.Response) -> httpx.Response:
    """The answer with its body, if that is of a size anybody would send."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > LARGEST_ANSWER:
            what = f"an answer of more than {LARGEST_ANSWER // 2**20} MB (HTTP {response.status_code})"
            raise call.error(DoubtError if call.has_effects else PayloadError, what, "check its address in crmkit.toml")
        parts.append(part)
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in _OF_THE_WAY]
    return httpx.Response(response.status_code, headers=headers, content=b"".join(parts), request=response.request)


#: Headers that tell how a body travelled.
_OF_THE_WAY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _told(error: BaseException) -> str:
    """What went wrong, without addresses or what was sent."""
    cause = error.__cause__ or error
    kind = type(cause).__name__
    if isinstance(cause, aiohttp.ClientConnectorCertificateError):
        return f"{kind}: {getattr(cause.certificate_error, 'verify_message', 'not trusted')}"
    number = getattr(cause, "errno", None)
    if isinstance(cause, aiohttp.ClientSSLError) or not isinstance(number, int) or number <= 0:
        return kind
    return f"{kind}: {os.strerror(number)}"


#: What httpx raises where certainly nothing was written, if its transport was not watched.
_BEFORE_THE_WIRE = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)


def _lost(call: Exchange, trace: _Trace, what: str, error: BaseException) -> AdapterError:
    """A call without an answer: only where no connection was had is it certain that nothing left."""
    never_left = not trace.has_connection if trace.is_watched else isinstance(error, _BEFORE_THE_WIRE)
    if never_left:
        return call.error(RetryableError, f"cannot be reached ({what})")
    if call.has_effects:
        return call.error(DoubtError, f"the connection was lost without an answer ({what})")
    return call.error(RetryableError, f"no answer ({what})")


def verdict(call: Exchange, response: httpx.Response) -> AdapterError | None:
    """The error an answer is; None where its body is what was asked for."""
    status = response.status_code
    if response.is_success or status in call.answers:
        return None
    shown = f"HTTP {status}"
    wait = retry_after(response)
    if status in {401, 403}:
        return call.error(AuthError, f"credentials refused ({shown})", f"check those of {call.who} in crmkit.toml")
    if status in {425, 429} or (status == 503 and "retry-after" in response.headers):
        return call.error(RetryableError, f"not now ({shown})", retry_after=wait)
    if response.is_redirect and status not in {302, 303}:
        return call.error(RetryableError, f"moved elsewhere ({shown})", "correct the address in crmkit.toml")
    if 400 <= status < 500 and status != 408:
        return call.error(RefusedError, f"refused ({shown})", status=status, body=response.text[:EXCERPT])
    if call.has_effects:
        return call.error(DoubtError, f"no verdict ({shown})")
    return call.error(RetryableError, f"no answer of use ({shown})", retry_after=wait)


def parse(call: Exchange, response: httpx.Response, shape: Any) -> Any:
    """The body as a type pydantic reads.

    Raises:
        DoubtError, PayloadError, RetryableError: it is not that (RetryableError: it is a page for people).
    """
    try:
        return _reader(shape).validate_json(response.content)
    except ValidationError as error:
        wrong = misread(error)
        what = f"an answer that cannot be read (HTTP {response.status_code}; {wrong})"
        if call.has_effects:
            raise call.error(DoubtError, what) from None
        if response.content.lstrip()[:1] == b"<":
            raise call.error(
                RetryableError, f"a page for people instead of data (HTTP {response.status_code})"
            ) from None
        raise call.error(PayloadError, what, "its adapter does not know this answer") from None


@lru_cache(maxsize=256)
def _reader(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def retry_after(response: httpx.Response) -> timedelta | None:
    """How long the vendor asks us to wait: seconds, or until a moment by its own clock."""
    written = response.headers.get("retry-after", "").strip()
    if not written:
        return None
    if written.isascii() and written.isdigit():
        return timedelta(seconds=min(int(written[:9]), 86_400))
    until, now = _moment(written), answered_at(response)
    if until is None or now is None:
        return None
    return min(max(until - now, timedelta(0)), timedelta(days=1))


def answered_at(response: httpx.Response) -> datetime | None:
    """When the vendor answered, by its own clock: what a record was observed at."""
    return _moment(response.headers.get("date", ""))


def _moment(written: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(written)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None
