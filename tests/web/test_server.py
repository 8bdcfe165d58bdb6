"""The server on real sockets: slow clients and crowds harm nobody, and what was begun may end."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from crmkit.core.errors import ConfigError
from crmkit.store import tables as t
from crmkit.web.app import create
from crmkit.web.limit import Callers, Limits
from crmkit.web.server import Patience, Server
from tests.web.conftest import Town
from tests.web.test_webhooks import locked, said, signed

QUICK = Patience(head=0.2, body=0.3, idle=0.3, reading=0.2, ending=1.0)
HEAD = b"POST /webhooks/stall HTTP/1.1\r\nhost: crm\r\ncontent-type: application/json\r\n"


@pytest.fixture
def database_kind() -> str:
    return "sqlite"  # what is tested here never reaches it


class Served:
    """An application on a port of its own."""

    def __init__(self, app: Any, patience: Patience, **more: Any) -> None:
        self.server = Server(app, "127.0.0.1", 0, patience, **more)
        self.stop = asyncio.Event()
        self.url = f"http://127.0.0.1:{self.server.port}"

    async def connect(self, as_one: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port, local_addr=(as_one, 0))


@asynccontextmanager
async def served(app: Any, patience: Patience = QUICK, **more: Any) -> AsyncIterator[Served]:
    found = Served(app, patience, **more)
    running = asyncio.create_task(found.server.run(found.stop))
    try:
        yield found
    finally:
        found.stop.set()
        await asyncio.wait_for(running, 5)


async def lasts(reader: asyncio.StreamReader) -> tuple[float, bytes]:
    """Seconds until the connection ends, and what came over it."""
    began, got = time.monotonic(), b""
    with suppress(ConnectionError):
        got = await asyncio.wait_for(reader.read(), 3)
    return time.monotonic() - began, got


async def drip(writer: asyncio.StreamWriter, data: bytes, pause: float = 0.05) -> None:
    """Send a byte at a time, for as long as somebody takes them."""
    with suppress(ConnectionError):
        for number in range(len(data)):
            writer.write(data[number : number + 1])
            await writer.drain()
            await asyncio.sleep(pause)


async def test_vendors_are_heard_over_the_wire(town: Town):
    async with served(town.app) as at, httpx.AsyncClient(base_url=at.url) as client:
        answer = await client.post("/webhooks/stall", content=said(), headers=signed(said()))
    assert answer.status_code == 200
    assert "server" not in answer.headers
    assert len(town.rows(t.inbox)) == 1


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (b"", b""),
        (HEAD, b"x-slow: " + b"x" * 1_000),
        (b"", b"\r\n" * 500),
        (b"GET /none HTTP/1.1\r\nhost: crm\r\n\r\n", HEAD + b"x-slow: " + b"x" * 1_000),
        (b"GET /none HTTP/1.1\r\nhost: crm\r\n\r\n", b"\r\n" * 500),
    ],
    ids=["nothing", "a header for ever", "empty lines", "the second head", "empty lines after the first"],
)
async def test_a_head_that_does_not_come_ends_the_connection(town: Town, first: bytes, then: bytes):
    async with served(town.app) as at:
        reader, writer = await at.connect()
        writer.write(first)
        dripping = asyncio.create_task(drip(writer, then))
        seconds, _ = await lasts(reader)
        dripping.cancel()
        writer.close()
    assert 0.1 < seconds < 1.0


async def test_a_body_that_does_not_come_ends_the_connection(town: Town):
    async with served(town.app) as at:
        reader, writer = await at.connect()
        writer.write(HEAD + b"content-length: 1000\r\n\r\n")
        dripping = asyncio.create_task(drip(writer, b"x" * 1_000))
        seconds, _ = await lasts(reader)
        dripping.cancel()
        writer.close()
    assert 0.2 < seconds < 1.0


async def test_who_sends_too_slowly_is_told_so(town: Town):
    async with served(create(town.local, lambda: town.now, Limits(body_within=0.1))) as at:
        reader, writer = await at.connect()
        writer.write(HEAD + b"content-length: 1000\r\n\r\nx")
        seconds, got = await lasts(reader)
        writer.close()
    assert seconds < 0.3
    assert got.startswith(b"HTTP/1.1 408 ")


FIELD = b"x-more: "  # and two bytes that end it


async def answered(at: Served, *sent: bytes) -> bytes:
    """What comes back over a connection of its own, which may be closed before all is sent."""
    reader, writer = await at.connect()
    with suppress(ConnectionError):
        for part in sent:
            writer.write(part)
            await writer.drain()
    _, got = await lasts(reader)
    writer.close()
    return got


@pytest.mark.parametrize("pieces", [1, 7])
async def test_a_head_is_read_to_its_limit_and_no_further(town: Town, pieces: int):
    async with served(town.app, replace(QUICK, largest_head=1_000, head=2)) as at:
        for more, status in ((0, b"404"), (1, b"431")):
            rest = 1_000 - len(b"/none") - len(b"host: crm\r\n") - len(FIELD) - 2
            whole = b"GET /none HTTP/1.1\r\nhost: crm\r\n" + FIELD + b"x" * (rest + more) + b"\r\n\r\n"
            size = -(-len(whole) // pieces)
            got = await answered(at, *(whole[n : n + size] for n in range(0, len(whole), size)))
            assert got.startswith(b"HTTP/1.1 " + status), more


@pytest.mark.parametrize(
    "whole",
    [
        b"GET /none HTTP/1.1\r\nhost: crm\r\nx-more: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /none HTTP/1.1\r\nhost: crm\r\nx-more: " + b"x" * 200_000,
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nhost: crm\r\n\r\n",
        b"GET /none HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1;" + b"x" * 200_000,
    ],
    ids=["one field", "one that does not end", "where to", "many fields", "what is told of a chunk"],
)
async def test_a_head_that_is_too_long_ends_the_connection(town: Town, whole: bytes):
    async with served(town.app, replace(QUICK, head=2, body=2)) as at:
        got = await answered(at, whole)
    assert got.startswith(b"HTTP/1.1 431 ") or not got  # who goes on sending may lose what he is told


@pytest.mark.parametrize("line", [b"a: b\r\n", b"x" * 1_000], ids=["fields", "a field that does not end"])
async def test_what_follows_a_body_takes_no_memory(town: Town, line: bytes):
    async with served(town.app, replace(QUICK, body=5)) as at:
        reader, writer = await at.connect()
        writer.write(b"POST /webhooks/nobody HTTP/1.1\r\nhost: crm\r\ntransfer-encoding: chunked\r\n\r\n0\r\n")
        if not line.endswith(b"\n"):
            writer.write(b"x-more: ")
        writer.write(line * (4_000_000 // len(line)))
        await asyncio.sleep(0.05)
        tracemalloc.start()
        sent = 0
        with suppress(ConnectionError):
            while sent < 20_000_000 and not reader.at_eof():
                writer.write(line * (100_000 // len(line)))
                sent += 100_000
                await asyncio.wait_for(writer.drain(), 2)
                await asyncio.sleep(0)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        writer.close()
        assert not at.server._uvicorn.server_state.connections
    assert sent < 20_000_000
    assert most < 10_000_000


async def test_what_follows_a_body_is_no_header(town: Town):
    seen: list[list[tuple[bytes, bytes]]] = []

    async def app(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] == "http":
            while (await receive()).get("more_body"):
                pass
            seen.append(list(scope["headers"]))
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    whole = (
        b"POST / HTTP/1.1\r\nhost: crm\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-forwarded-for: 1\r\n\r\n"
    )
    async with served(app) as at:
        assert (await answered(at, whole + whole)).count(b"HTTP/1.1 204 ") == 2
    assert seen == [[(b"host", b"crm"), (b"transfer-encoding", b"chunked")]] * 2


@pytest.mark.parametrize("size", [1, 100, 1_000])
async def test_a_body_in_chunks_is_heard_however_small_they_are(town: Town, size: int):
    body = said() + b" " * 60_000
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(one), one) for n in range(0, len(body), size) if (one := body[n : n + size])
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items()).encode()
    start = b"POST /webhooks/stall HTTP/1.1\r\nhost: crm\r\ntransfer-encoding: chunked\r\n" + head + b"\r\n"
    async with served(town.app, replace(QUICK, body=3)) as at:
        assert (await answered(at, start + chunks + b"0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_is_too_large_is_answered_though_it_is_not_read(town: Town):
    async with served(town.app) as at, httpx.AsyncClient(base_url=at.url) as client:
        answer = await client.post("/webhooks/stall", content=b"x" * 1_100_000, headers=signed(b""))
    assert answer.status_code == 413


async def test_idle_connections_are_let_go(town: Town):
    async with served(town.app) as at:
        reader, writer = await at.connect()
        writer.write(b"GET /none HTTP/1.1\r\nhost: crm\r\n\r\n")
        seconds, got = await lasts(reader)
        writer.close()
    assert got.startswith(b"HTTP/1.1 404 ")
    assert 0.2 < seconds < 1.0


async def test_a_crowd_is_turned_away_and_who_came_first_is_served(town: Town):
    async with served(town.app, replace(QUICK, connections=20, head=2, idle=2)) as at:
        opened = [await at.connect() for _ in range(20)]
        await asyncio.sleep(0.05)
        reader, writer = await at.connect()
        _, got = await lasts(reader)
        writer.close()
        assert got.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in got
        reader, writer = opened[3]
        writer.write(b"GET /none HTTP/1.1\r\nhost: crm\r\nconnection: close\r\n\r\n")
        _, got = await lasts(reader)
        assert got.startswith(b"HTTP/1.1 404 ")
        for _, writer in opened:
            writer.close()


async def test_one_address_takes_its_share_of_connections_only(town: Town):
    patience = replace(QUICK, connections=40, head=2, idle=2)
    async with served(town.app, patience, callers=Callers(["127.0.0.9/32"])) as at:
        opened = [await at.connect() for _ in range(5)]
        await asyncio.sleep(0.05)
        assert (await answered(at)).startswith(b"HTTP/1.1 503 ")
        for other in ("127.0.0.8", *["127.0.0.9"] * 8):  # another, and a proxy of ours
            opened.append(await at.connect(other))
            opened[-1][1].write(b"GET /none HTTP/1.1\r\nhost: crm\r\n\r\n")
            assert (await opened[-1][0].read(13)) == b"HTTP/1.1 404 "
        opened[0][1].close()
        await asyncio.sleep(0.05)
        assert (await answered(at, b"GET /none HTTP/1.1\r\nconnection: close\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        for _, writer in opened:
            writer.close()


async def test_slow_clients_keep_nobody_from_being_heard(town: Town):
    async with served(town.app, replace(QUICK, head=2, body=2)) as at:
        slow = [await at.connect() for _ in range(200)]
        for number, (_, writer) in enumerate(slow):
            writer.write(HEAD if number % 2 else HEAD + b"content-length: 100\r\n\r\n")
        async with httpx.AsyncClient(base_url=at.url) as client:
            began = time.monotonic()
            answer = await client.post("/webhooks/stall", content=said(), headers=signed(said()))
        for _, writer in slow:
            writer.close()
    assert answer.status_code == 200
    assert time.monotonic() - began < 1.5


async def test_who_does_not_read_is_not_waited_for(town: Town):
    async def app(scope: Any, receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(400):
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})

    async with served(app) as at:
        plain = socket.create_connection(("127.0.0.1", at.server.port))
        plain.sendall(b"GET / HTTP/1.1\r\nhost: crm\r\n\r\n")
        await asyncio.sleep(0.6)
        assert not at.server._uvicorn.server_state.connections
        plain.close()


async def test_what_is_in_flight_may_end_and_what_comes_later_is_not_taken(town: Town):
    async with served(town.app, replace(QUICK, body=2)) as at:
        body = said()
        head = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
        reader, writer = await at.connect()
        idle, idle_writer = await at.connect()
        writer.write(
            f"POST /webhooks/stall HTTP/1.1\r\nhost: crm\r\n{head}content-length: {len(body)}\r\n\r\n".encode()
        )
        await asyncio.sleep(0.1)
        at.stop.set()
        await asyncio.sleep(0.3)
        with pytest.raises(OSError):
            await at.connect()
        assert await idle.read() == b""
        writer.write(body)
        _, got = await lasts(reader)
        writer.close()
        idle_writer.close()
    assert got.startswith(b"HTTP/1.1 200 ")
    assert len(town.rows(t.inbox)) == 1


async def test_whoever_asks_is_told_of_the_end_for_as_long_as_the_server_lingers(town: Town):
    async with served(town.app, replace(QUICK, lingering=0.4), ending=town.app.state.health.end) as at:
        at.stop.set()
        await asyncio.sleep(0.1)
        async with httpx.AsyncClient(base_url=at.url) as client:
            told = await client.get("/readyz")
            heard = await client.post("/webhooks/stall", content=said(), headers=signed(said()))
        await asyncio.sleep(0.6)
        with pytest.raises(OSError):
            await at.connect()
    assert (told.status_code, told.json()["state"], heard.status_code) == (503, "ending", 200)


async def test_nobody_holds_up_the_end_for_long(town: Town):
    began = time.monotonic()
    async with served(town.app, replace(QUICK, body=30)) as at:
        _, writer = await at.connect()
        writer.write(HEAD + b"content-length: 100\r\n\r\n")
        await asyncio.sleep(0.1)
    assert time.monotonic() - began < 2.5
    writer.close()


async def test_what_was_verified_is_kept_before_the_end(town: Town):
    await town.client.post("/webhooks/stall", content=said("first"), headers=signed(said("first")))
    async with served(town.app, replace(QUICK, ending=0.2)) as at, httpx.AsyncClient(base_url=at.url) as client:
        with locked(town.store):
            asking = asyncio.create_task(client.post("/webhooks/stall", content=said(), headers=signed(said())))
            await asyncio.sleep(0.1)
            at.stop.set()
            with suppress(httpx.HTTPError):
                await asking
    await town.local.doors.close()
    assert len(town.rows(t.inbox)) == 2


async def test_a_port_that_is_taken_is_said(town: Town):
    async with served(town.app) as at:
        with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{at.server.port}: Address already in use"):
            Server(town.app, "127.0.0.1", at.server.port)


# --- the commands -----------------------------------------------------------------------------------------------------

PROGRAM = "from crmkit.cli import main; main()"
CONFIG = """\
[crm]
database = "sqlite:///crm.db"

[shops.tea]
use = "woocommerce"
url = "http://127.0.0.1:9"
consumer_key = "ck_1"
consumer_secret = "cs_1"
webhook_secret = "s3cret"
"""


@pytest.mark.parametrize(
    ("command", "number"),
    [(["serve"], signal.SIGTERM), (["run", "--serve", "--every", "1h", "--linger", "1s"], signal.SIGINT)],
)
def test_the_server_ends_when_it_is_told_to(tmp_path: Path, command: list[str], number: signal.Signals):
    (tmp_path / "crmkit.toml").write_text(CONFIG)
    told = [
        sys.executable,
        "-c",
        PROGRAM,
        "--config",
        str(tmp_path / "crmkit.toml"),
        *command,
        "--port",
        "0",
        "--log",
        "text",
    ]
    with subprocess.Popen(told, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        url = line.split()[-1]
        for _ in range(100):
            with suppress(httpx.TransportError):
                assert httpx.post(f"{url}/webhooks/tea", content=b"{}").status_code == 401
                break
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert said.splitlines()[-1].endswith("stopped"), said


def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path):
    (tmp_path / "crmkit.toml").write_text(CONFIG)
    program = f"import sys; sys.modules['uvicorn'] = None; {PROGRAM}"
    told = [sys.executable, "-c", program, "--config", str(tmp_path / "crmkit.toml"), "serve"]
    ended = subprocess.run(told, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr == "error: serve: uvicorn is not installed; pip install 'crmkit[web]'\n"
