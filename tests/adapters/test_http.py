"""The HTTP client adapters are handed, and what became of a call: on real sockets, to a vendor that fails."""

import asyncio
import gzip
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import respx
from pydantic import BaseModel

from crmkit.adapters import http as wire
from crmkit.adapters.adapter import Account, Adapter
from crmkit.adapters.http import client
from crmkit.core.errors import (
    AdapterError,
    AuthError,
    ConfigError,
    DoubtError,
    PayloadError,
    RefusedError,
    RetryableError,
)
from crmkit.testing.fault import FAULTS, Fault, Verdict
from crmkit.testing.resolver import NoName, SilentName
from crmkit.testing.vendor import Vendor

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
SECRETS = ("query-secret", "header-secret", "body-secret", "path-secret")


class Taken(BaseModel):
    id: str


class Caller(Adapter):
    """An adapter that renews its credentials at the vendor it calls."""

    name = "caller"
    renewed = 0
    fresh: Callable[["Caller"], Awaitable[bool]] | None = None

    async def renew(self) -> bool:
        self.renewed += 1
        return await self.fresh(self) if self.fresh is not None else False


@asynccontextmanager
async def calling(**options: Any) -> AsyncIterator[Caller]:
    async with client(**options) as http:
        yield Caller(None, Account("acme", "UTC", None, None, Path()), http)


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@contextmanager
def closed_port() -> Iterator[str]:
    """A port nobody listens on, and nobody else can take meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


@pytest.fixture
def vendor(tmp_path: Path) -> Iterator[Vendor]:
    with Vendor(tmp_path / "ledger", pause=0.05) as running:
        yield running


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "READ_PAUSE", 0.01)


async def failure(call: Awaitable[Any]) -> AdapterError:
    with pytest.raises(AdapterError) as caught:
        await call
    return caught.value


# --- what became of a call --------------------------------------------------------------------------------------------

#: What cannot be read, and would be the same again.
UNREADABLE = {"empty", "garbage", "other"}


def expected(fault: Fault, sends: bool) -> type[AdapterError] | None:
    if fault.verdict is Verdict.DOUBT and not sends:
        return PayloadError if fault.name in UNREADABLE else RetryableError
    kinds: dict[Verdict, type[AdapterError] | None] = {
        Verdict.TAKEN: None,
        Verdict.NOTHING_LEFT: RetryableError,
        Verdict.NOT_NOW: RetryableError,
        Verdict.NO: RefusedError,
        Verdict.STRANGER: AuthError,
        Verdict.DOUBT: DoubtError,
    }
    return kinds[fault.verdict]


@contextmanager
def acted_out(fault: Fault, vendor: Vendor, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a call goes that fails so, and the client's options."""
    if fault.name == "refused":
        with closed_port() as url:
            yield url, {}
    elif fault.name == "untrusted":
        with Vendor(folder / "untrusted", tls=True) as strange:
            yield strange.url, {}
    elif fault.name == "no-tls":
        yield vendor.url.replace("http:", "https:"), {}
    elif fault.when == "way":
        yield "http://vendor.example", {"resolver": {"no-name": NoName, "silent-name": SilentName}[fault.name]()}
    else:
        vendor.fail(*[fault.name] * wire.READ_TRIES, at="connection" if fault.when == "connection" else "*")
        yield vendor.url, {}


# SEMANTICS 23
@pytest.mark.parametrize("sends", [True, False], ids=["sends", "reads"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_what_became_of_a_call(vendor: Vendor, tmp_path: Path, fault: Fault, sends: bool) -> None:
    kind = expected(fault, sends)
    told = {
        "params": {"reference": "7", "token": "query-secret"},
        "headers": {"X-Token": "header-secret"},
        "json": {"text": "body-secret"},
    }
    within = 0.2 if fault.ends in {"hang", "drip"} or fault.name in {"silent-name", "no-tls"} else 5.0
    with acted_out(fault, vendor, tmp_path) as (url, options):
        async with calling(**options) as caller:
            call = caller.call(
                "deliver", "POST" if sends else "GET", f"{url}/send", read=Taken, sends=sends, within=within, **told
            )
            if kind is None:
                assert (await call).id == "v1"
                return
            error = await failure(call)
    assert type(error) is kind
    assert str(error).startswith("acme deliver: ")
    assert not any(secret in f"{error}{error.args}" for secret in (*SECRETS, "127.0.0.1", "doctype"))
    if isinstance(error, RetryableError) and fault.name.endswith("-later"):
        assert error.retry_after == timedelta(minutes=30)
    requests = len(vendor.ledger.entries("request")) + len(vendor.ledger.entries("unread"))
    if fault.when != "way":
        is_pointless = kind is not RetryableError or fault.name in {"429-later", "503-later", "page"}
        assert requests == (1 if sends or is_pointless else wire.READ_TRIES)


async def test_what_reads_is_tried_again(vendor: Vendor) -> None:
    vendor.fail("500", "close")
    async with calling() as caller:
        taken = await caller.call("ask", "GET", f"{vendor.url}/send", params={"reference": "7"}, read=Taken)
    assert taken.id == "v1"
    assert [entry.fault for entry in vendor.ledger.entries("request")] == ["500", "close", ""]


async def test_answers_the_caller_reads_itself_are_no_errors(vendor: Vendor) -> None:
    async with calling() as caller:
        found = await caller.call("ask", "GET", f"{vendor.url}/found", params={"key": "7"}, answers=(404,), read=Taken)
    assert found.status_code == 404


async def test_a_refusal_holds_what_the_vendor_wrote_and_its_text_does_not() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(422, text="body-secret" * 1000))
    async with calling(transport=transport) as caller:
        error = await failure(caller.call("deliver", "POST", "https://vendor.example/path-secret", sends=True))
    assert isinstance(error, RefusedError)
    assert (error.status, error.body[:11], len(error.body)) == (422, "body-secret", wire.EXCERPT)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (dict[str, int], '{"ann@body-secret.example": "x"}'),
        (dict[str, int], '{"+49 30 1234567": "body-secret"}'),
        (Taken, '{"id": ["body-secret"]}'),
        (list[datetime], '["body-secret"]'),
        (Taken, "body-secret"),
    ],
    ids=["key", "phone", "value", "date", "no JSON"],
)
async def test_an_answer_that_cannot_be_read_is_not_quoted(shape: Any, body: str) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=body))
    async with calling(transport=transport) as caller:
        error = await failure(caller.call("ask", "GET", "https://vendor.example/", read=shape))
    assert isinstance(error, PayloadError)
    assert "secret" not in str(error)
    assert "1234567" not in str(error)


# --- when to come again -----------------------------------------------------------------------------------------------

DATE = "Mon, 02 Mar 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("written", "dated", "wait"),
    [
        ("120", DATE, timedelta(minutes=2)),
        ("Mon, 02 Mar 2026 12:05:00 GMT", DATE, timedelta(minutes=5)),
        ("Mon, 02 Mar 2026 11:00:00 GMT", DATE, timedelta(0)),
        ("Mon, 02 Mar 2026 12:05:00 GMT", "", None),
        ("99999999999999999999", DATE, timedelta(days=1)),
        ("9" * 5000, DATE, timedelta(days=1)),
        ("Fri, 31 Dec 9999 23:59:59 -2300", DATE, None),
        ("soon", DATE, None),
        ("-5", DATE, None),
        ("1.5", DATE, None),
        ("", DATE, None),
        ("²", DATE, None),
    ],
)
def test_a_vendor_says_when_to_come_again(written: str, dated: str, wait: timedelta | None) -> None:
    headers = [(b"retry-after", written.encode("latin-1")), (b"date", dated.encode())]
    response = httpx.Response(429, headers=headers)
    assert wire.retry_after(response) == wait


def test_a_vendors_clock_that_says_nothing_is_none() -> None:
    assert wire.answered_at(httpx.Response(200, headers={"date": DATE})) == datetime(2026, 3, 2, 12, tzinfo=UTC)
    for written in ("", "today", "Fri, 31 Dec 9999 23:59:59 -2300"):
        assert wire.answered_at(httpx.Response(200, headers={"date": written})) is None


async def test_what_reads_waits_as_long_as_it_is_asked_if_that_is_not_long(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    answers = [httpx.Response(429, headers={"retry-after": "7"}), httpx.Response(503), httpx.Response(200, text="{}")]
    monkeypatch.setattr(wire, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep}))
    async with calling(transport=httpx.MockTransport(lambda request: answers.pop(0))) as caller:
        await caller.call("ask", "GET", "https://vendor.example/")
    assert waited == [7.0, 2 * wire.READ_PAUSE]


# --- credentials ------------------------------------------------------------------------------------------------------


def renewing(vendor: Vendor) -> Callable[[Caller], Awaitable[bool]]:
    """Fetches a token, by a call that may itself be refused."""

    async def fresh(caller: Caller) -> bool:
        told = await caller.call("renew", "POST", f"{vendor.url}/token", sends=False, read=dict[str, str])
        caller.http.headers["Authorization"] = f"Bearer {told['token']}"
        return True

    return fresh


async def send(caller: Caller, vendor: Vendor, reference: str = "7") -> str:
    call = caller.call(
        "deliver", "POST", f"{vendor.url}/messages", json={"reference": reference}, read=Taken, sends=True
    )
    return (await call).id


async def test_credentials_that_expire_are_renewed_and_the_call_made_again(tmp_path: Path) -> None:
    with Vendor(tmp_path / "ledger", expires_after=3) as vendor:
        async with calling() as caller:
            caller.fresh = renewing(vendor)
            caller.http.headers["Authorization"] = "Bearer 1"
            assert [await send(caller, vendor, str(n)) for n in range(5)] == ["v1", "v2", "v3", "v4", "v5"]
        assert caller.renewed == 1
        assert set(vendor.ledger.accepted().values()) == {1}


async def test_calls_that_are_refused_together_renew_together(tmp_path: Path) -> None:
    with Vendor(tmp_path / "ledger", expires_after=100) as vendor:
        vendor.used = 100
        async with calling() as caller:
            caller.fresh = renewing(vendor)
            caller.http.headers["Authorization"] = "Bearer 1"
            await asyncio.gather(*(send(caller, vendor, str(n)) for n in range(8)))
        assert caller.renewed == 1
        assert set(vendor.ledger.accepted().values()) == {1}


async def test_a_renewal_that_is_refused_itself_ends(tmp_path: Path) -> None:
    with Vendor(tmp_path / "ledger", expires_after=0, renews=False) as vendor:
        async with calling() as caller:
            caller.fresh = renewing(vendor)
            assert isinstance(await failure(send(caller, vendor)), AuthError)
            assert isinstance(await failure(send(caller, vendor)), AuthError)
        assert caller.renewed == 2
        assert vendor.ledger.accepted() == {}


async def test_fresh_credentials_that_are_refused_too_are_not_renewed_for_ever(tmp_path: Path) -> None:
    async def stale(caller: Caller) -> bool:
        return True

    with Vendor(tmp_path / "ledger", expires_after=0) as vendor:
        async with calling() as caller:
            caller.fresh = stale
            assert isinstance(await failure(send(caller, vendor)), AuthError)
        assert len(vendor.ledger.entries("request")) == 2


@pytest.mark.parametrize(
    ("broken", "kind", "told"),
    [
        (ConfigError("there is no key", who="acme", operation="remember", do="set one"), AuthError, "no key); set one"),
        (PayloadError("a token that cannot be read", who="acme", operation="renew"), AuthError, "cannot be read"),
        (KeyError("+4915112345678"), AuthError, "raised KeyError at "),
        (DoubtError("no answer", who="acme", operation="renew"), RetryableError, "no fresh ones came"),
        (RetryableError("not now", who="acme", operation="renew"), RetryableError, "acme renew: not now"),
    ],
)
async def test_what_goes_wrong_while_credentials_are_renewed_leaves_nothing_in_doubt(
    broken: Exception, kind: type[AdapterError], told: str, tmp_path: Path
) -> None:
    async def fails(caller: Caller) -> bool:
        raise broken

    with Vendor(tmp_path / "ledger", expires_after=0) as vendor:
        async with calling() as caller:
            caller.fresh = fails
            refused = await failure(send(caller, vendor))
        assert type(refused) is kind
        assert told in str(refused)
        assert "+49" not in str(refused)
        assert vendor.ledger.accepted() == {}


# --- connections ------------------------------------------------------------------------------------------------------

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


# SEMANTICS 23
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "POST", "PATCH"])
async def test_nothing_repeats_a_request_when_a_kept_connection_is_lost(method: str) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            asked.append(head.split(b" ")[1])
            if head.startswith(method.encode()):
                break
            writer.write(OK + b"ok")
        writer.close()

    async with serving(serve) as url, calling() as caller:
        await caller.call("greet", "TRACE", f"{url}/first")
        error = await failure(caller.call("deliver", method, f"{url}/second", sends=True))
    assert isinstance(error, DoubtError)
    assert asked == [b"/first", b"/second"]


async def test_a_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK + b"ok")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async with serving(serve) as url, calling() as caller:
        for _ in range(3):
            assert (await caller.call("deliver", "POST", url, sends=True)).text == "ok"
            await asyncio.sleep(0.1)
    assert connections == 3


async def test_what_a_vendor_writes_unasked_answers_nothing() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            writer.write(OK + head.split(b" ")[1][-2:])
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.write(OK + b"??")

    async def quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    async with serving(quiet) as url, calling() as caller:
        for number in ("11", "22", "33"):
            assert (await caller.call("deliver", "POST", f"{url}/{number}", sends=True)).text == number
            await asyncio.sleep(0.1)


async def test_connections_are_kept() -> None:
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK + b"ok")
        except (asyncio.IncompleteReadError, OSError):
            writer.close()

    async with serving(serve) as url, calling(concurrency=2) as caller:
        for _ in range(5):
            await caller.call("ask", "GET", url)
    assert connections == 1


# SEMANTICS 23
async def test_calls_side_by_side_do_not_mix_up_what_left(vendor: Vendor) -> None:
    async def outcome(url: str) -> type[AdapterError]:
        return type(await failure(caller.call("deliver", "POST", f"{url}/messages", sends=True, within=2)))

    vendor.fail(*["close"] * 20)
    with closed_port() as closed:
        async with calling(concurrency=20) as caller:
            urls = [closed, vendor.url] * 20
            found = await asyncio.gather(*(outcome(url) for url in urls))
    assert found == [RetryableError, DoubtError] * 20


async def test_a_call_that_waited_in_vain_for_a_connection_did_not_leave(vendor: Vendor) -> None:
    vendor.fail("hang")
    async with calling(concurrency=1) as caller:
        first = asyncio.create_task(failure(caller.call("a", "POST", f"{vendor.url}/messages", sends=True, within=0.6)))
        await asyncio.sleep(0.1)
        second = await failure(caller.call("b", "POST", f"{vendor.url}/messages", sends=True, within=0.2))
        assert isinstance(await first, DoubtError)
    assert isinstance(second, RetryableError)
    assert len(vendor.ledger.entries("request")) == 1


async def test_a_call_that_is_cancelled_is_cancelled_and_its_connection_not_used_again(vendor: Vendor) -> None:
    vendor.fail("hang-taken")
    async with calling(concurrency=1) as caller:
        call = asyncio.create_task(send(caller, vendor, "1"))
        async with asyncio.timeout(10):
            while not vendor.ledger.accepted():  # noqa: ASYNC110  it is written in another thread
                await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await send(caller, vendor, "2") == "v2"


async def test_no_call_is_bothered_by_what_an_earlier_one_in_its_task_came_to(vendor: Vendor) -> None:
    vendor.fail("close")
    async with calling() as caller:
        assert isinstance(await failure(send(caller, vendor)), DoubtError)
        with closed_port() as closed:
            error = await failure(caller.call("deliver", "POST", closed, sends=True))
        assert isinstance(error, RetryableError)
        assert await send(caller, vendor) == "v1"


@pytest.mark.parametrize(
    "url", ["http://", "ftp://vendor.example/", "vendor.example/path", "http://[::1", "http://a:x/"]
)
async def test_what_is_no_address_did_not_leave(url: str) -> None:
    async with calling() as caller:
        assert isinstance(await failure(caller.call("deliver", "POST", url, sends=True)), RetryableError)


# --- the client -------------------------------------------------------------------------------------------------------


async def test_many_calls_at_once(vendor: Vendor) -> None:
    async with calling(concurrency=20) as caller:
        found = await asyncio.gather(*(send(caller, vendor, str(number)) for number in range(100)))
    assert len(set(found)) == 100
    assert set(vendor.ledger.accepted().values()) == {1}


async def test_it_follows_no_redirect(vendor: Vendor) -> None:
    vendor.fail("302")
    async with client() as http:
        assert (await http.get(f"{vendor.url}/send")).status_code == 302


async def test_fixtures_are_served_through_the_same_client() -> None:
    router = respx.Router()
    router.get("https://vendor.example/orders").respond(json={"orders": []})
    async with client(transport=httpx.MockTransport(router.async_handler)) as http:
        assert (await http.get("https://vendor.example/orders")).json() == {"orders": []}


# SEMANTICS 23
@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (httpx.ConnectError("x"), RetryableError),
        (httpx.PoolTimeout("x"), RetryableError),
        (httpx.ReadTimeout("x"), DoubtError),
        (httpx.WriteError("x"), DoubtError),
        (httpx.RemoteProtocolError("x"), DoubtError),
    ],
)
async def test_a_transport_that_is_not_watched_is_taken_at_its_word(
    raised: Exception, kind: type[AdapterError]
) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise raised

    async with calling(transport=httpx.MockTransport(fail)) as caller:
        assert type(await failure(caller.call("deliver", "POST", "https://vendor.example/", sends=True))) is kind


async def test_an_answer_too_large_to_be_meant_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LARGEST_ANSWER", 1000)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=b"x" * 5000))
    async with client(transport=transport) as connections:
        adapter = Adapter(None, Account("a", "UTC", None, None, Path()), connections)
        with pytest.raises(PayloadError, match="an answer of more than"):
            await adapter.call("read", "GET", "https://vendor.example/")
        with pytest.raises(DoubtError, match="an answer of more than"):
            await adapter.call("send", "POST", "https://vendor.example/", sends=True)


async def test_what_was_compressed_is_read() -> None:
    headers = {"content-encoding": "gzip", "x-more": "1"}
    packed = gzip.compress(b'{"id": 7}')
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=packed, headers=headers))
    async with client(transport=transport) as connections:
        adapter = Adapter(None, Account("a", "UTC", None, None, Path()), connections)
        response = await adapter.call("read", "GET", "https://vendor.example/")
    assert (response.json(), response.headers["x-more"]) == ({"id": 7}, "1")


async def test_no_cookie_of_one_answer_goes_with_the_next_call() -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        return httpx.Response(200, headers={"set-cookie": "sid=of-first"})

    async with client(transport=httpx.MockTransport(answer)) as connections:
        await connections.get("https://vendor.example/")
        await connections.get("https://vendor.example/")
    assert seen == [None, None]


async def test_no_address_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with client(transport=httpx.MockTransport(lambda request: httpx.Response(200))) as connections:
        await connections.get("https://vendor.example/send/+491701234567?apikey=hush&text=secret")
    assert "vendor.example/..." in caplog.text
    assert not any(word in caplog.text for word in ("hush", "secret", "+4917"))


class Frank(Caller):
    """Speaks to a vendor that says what is wrong in the body, with HTTP 200."""

    def fault(self, operation: str, response: httpx.Response) -> AdapterError | None:
        said = response.json().get("error")
        kind = {"session": AuthError, "limit": RetryableError, "no": RefusedError}.get(said)
        return None if kind is None else self.error(kind, operation, f"said {said}")


async def frankly(*answers: str, sends: bool = False) -> tuple[Frank, Any]:
    told = iter(answers)
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"error": next(told), "id": "7"}))
    async with client(transport=transport) as http:
        frank = Frank(None, Account("acme", "UTC", None, None, Path()), http)
        frank.fresh = lambda caller: asyncio.sleep(0, True)
        try:
            return frank, (await frank.call("ask", "POST", "http://vendor.example/", sends=sends)).json()["id"]
        except AdapterError as error:
            return frank, error


async def test_what_an_answer_says_in_its_body_is_taken_as_if_its_status_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "READ_PAUSE", 0)
    assert (await frankly("", sends=True))[1] == "7"
    frank, said = await frankly("session", "")
    assert (said, frank.renewed) == ("7", 1)
    assert (await frankly("limit", "limit", ""))[1] == "7"
    assert str((await frankly("no"))[1]) == "acme ask: said no"
    assert isinstance((await frankly("limit", "", sends=True))[1], RetryableError), "what sends is not tried again"
    frank, said = await frankly("session", "session")
    assert isinstance(said, AuthError)
    assert frank.renewed == 1
