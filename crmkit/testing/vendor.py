"""A vendor of messages on 127.0.0.1 that fails as it is told to, and writes down what it was asked before it answers.

`python -m crmkit.testing.vendor --ledger FILE` runs one in a process of its own and prints its port; `with Vendor(FILE)
as vendor:` runs one in a thread.

It takes messages at `POST /messages` (or `GET /send?reference=...`). Their key is the header `Idempotency-Key`: then
repeats are told by it; or it is `reference` in the JSON body: then every request is a message more.
`GET /found?key=...` tells what it has under a key. `GET /receipts` gives a receipt for all it took, from the moment it
took it; `?times=2` twice, `?order=latest` the last first. `POST /token` gives fresh credentials. `POST /script` tells
how to fail.

A script says for a key, for `*` (any message) or for `connection` which faults of `crmkit.testing.fault` come next.
"""

import argparse
import asyncio
import hashlib
import json
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from crmkit.testing.fault import FAULTS, Ending, Verdict, answer
from crmkit.testing.ledger import ASKING, STRANGER, Ledger


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def key(self) -> str:
        told = self.told if isinstance(self.told, dict) else {}
        found = self.headers.get("idempotency-key") or self.query.get("key") or self.query.get("reference")
        return str(found or told.get("reference", ""))


class Vendor:
    """A vendor in a thread, from `start` to `stop`.

    Args:
        ledger: its ledger's file. What it took by that is known to it, also when it is started again.
        port: the port to listen on; any where 0.
        tls: speak TLS, with a certificate nobody trusts.
        expires_after: credentials are refused after so many requests, until fresh ones are got; None: never.
        renews: whether fresh ones can be got.
        pause: seconds a slow answer takes; a tenth of it is between two bytes of one that drips.
    """

    def __init__(
        self,
        ledger: Path,
        *,
        port: int = 0,
        tls: bool = False,
        expires_after: int | None = None,
        renews: bool = True,
        pause: float = 0.1,
    ) -> None:
        self.ledger = Ledger(ledger)
        self.port, self.tls, self.pause = port, tls, pause
        self.expires_after, self.renews = expires_after, renews
        self.token, self.used = 1, 0
        self.script: defaultdict[str, deque[str]] = defaultdict(deque)
        before = self.ledger.entries("accepted")
        self.taken = {entry.key: entry.vendor_id for entry in before}
        self._numbers = count(len(before) + 1)
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it is, once it runs."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def fail(self, *faults: str, at: str = "*") -> None:
        """Fail so next, once each: for the message of a key, for any message, or for a `connection`."""
        unknown = [name for name in faults if name not in FAULTS or FAULTS[name].when == "way"]
        if unknown:
            raise ValueError(f"no fault of a vendor is called {unknown[0]!r}")
        self.script[at].extend(faults)

    # running

    def __enter__(self) -> "Vendor":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen, in a thread of its own."""
        ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(ready)), name="vendor", daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RuntimeError("the fake vendor does not start")

    def stop(self) -> None:
        """Hang up on everybody."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    async def _run(self, ready: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        server = await self.listen()
        ready.set()
        await self._stopped.wait()
        server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def listen(self) -> asyncio.Server:
        """Listen, in the loop that runs."""
        context = _certificate(self.ledger.path.parent) if self.tls else None
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        return server

    # a connection

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            if (fault := self._next("connection")) is not None:
                self.ledger.write("unread", fault=fault)
                return
            while (request := await _read(reader)) is not None:
                if not await self._serve(request, writer):
                    break
        except (OSError, EOFError, ValueError, asyncio.CancelledError):
            pass  # the other side is gone, speaks something else, or we stop
        finally:
            self._connections.discard(task)
            writer.close()

    async def _serve(self, request: _Request, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection is kept."""
        is_message = request.path in {"/messages", "/send"}
        fault = (self._next(request.key) or self._next("*")) if is_message else None
        if fault is not None and FAULTS[fault].verdict is Verdict.NO and self._known(request) is not None:
            fault = None  # what it took it does not refuse when it comes again
        if self._is_stranger(request):
            fault = STRANGER
        self.ledger.write(
            "request",
            key=request.key,
            method=request.method,
            path=request.path,
            digest=hashlib.sha256(request.body).hexdigest(),
            fault=fault or "",
        )
        if fault is None:
            writer.write(self._take(request) if is_message else self._tell(request))
            await writer.drain()
            return True
        how = FAULTS[fault]
        if fault == "slow":
            await asyncio.sleep(self.pause)
        good = self._take(request) if how.takes else answer(200, b"{}")
        if fault == "slow-taken":
            await asyncio.sleep(self.pause)
        return await _end(writer, how.writes(good), how.ends, self.pause / 10)

    def _next(self, at: str) -> str | None:
        waiting = self.script.get(at)
        return waiting.popleft() if waiting else None

    def _is_stranger(self, request: _Request) -> bool:
        """Whether its credentials are refused."""
        if self.expires_after is None or request.path in {"/token", "/script"}:
            return False
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return True
        self.used += 1
        return self.used > self.expires_after

    # what it does

    def _take(self, request: _Request) -> bytes:
        """Take a message, or tell that it was taken before."""
        known = self._known(request)
        vendor_id = known or f"v{next(self._numbers)}"
        self.ledger.write("accepted" if known is None else "repeat", key=request.key, vendor_id=vendor_id)
        self.taken[request.key] = vendor_id
        return _json(200, {"id": vendor_id, "state": "accepted"})

    def _known(self, request: _Request) -> str | None:
        """Its number for what a request repeats; None where it is the first, or no repeats are told."""
        return self.taken.get(request.key) if "idempotency-key" in request.headers else None

    def _tell(self, request: _Request) -> bytes:
        match request.method, request.path:
            case "GET", path if path == ASKING:
                found = self.taken.get(request.key)
                return _json(404, {"error": "unknown"}) if found is None else _json(200, {"id": found})
            case "GET", "/receipts":
                return _json(200, self._receipts(request.query))
            case "POST", "/token" if self.renews:
                self.token, self.used = self.token + 1, 0
                return _json(200, {"token": str(self.token)})
            case "POST", "/token":
                return _json(401, {"error": "refused"})
            case "POST", "/script":
                for at, faults in request.told.items():
                    self.fail(*faults, at=at)
                return _json(200, {})
        return _json(404, {"error": "no such page"})

    def _receipts(self, query: Mapping[str, str]) -> list[dict[str, str]]:
        found = [
            {"id": f"r{number}", "key": entry.key, "vendor_id": entry.vendor_id, "state": "delivered"}
            for number, entry in enumerate(self.ledger.entries("accepted"), start=1)
        ] * int(query.get("times", "1"))
        return found[::-1] if query.get("order") == "latest" else found


async def _read(reader: asyncio.StreamReader) -> _Request | None:
    """The next request; None at the end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    url = urlsplit(target)
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return _Request(method, url.path, dict(parse_qsl(url.query)), headers, body)


async def _end(writer: asyncio.StreamWriter, written: bytes, ends: Ending, pause: float) -> bool:
    """Write, and end as a fault does; whether the connection is kept."""
    if ends == "drip":
        for number in range(len(written)):
            writer.write(written[number : number + 1])
            await writer.drain()
            await asyncio.sleep(pause)
        return True
    writer.write(written)
    await writer.drain()
    if ends == "hang":
        await asyncio.sleep(3600)
    if ends == "reset":
        held: socket.socket = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    return ends == "keep"


def _json(status: int, told: Any) -> bytes:
    return answer(status, json.dumps(told).encode(), {"Content-Type": "application/json"})


def _certificate(folder: Path) -> ssl.SSLContext:
    """TLS for 127.0.0.1, signed by nobody known."""
    program = shutil.which("openssl")
    if program is None:
        raise FileNotFoundError("a fake vendor that speaks TLS needs the openssl program to make its certificate")
    key, certificate = folder / "vendor-key.pem", folder / "vendor-cert.pem"
    curve = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes".split()
    about = ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = [program, "req", "-x509", *curve, "-keyout", str(key), "-out", str(certificate), *about]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


async def _serve_alone(vendor: Vendor) -> None:
    server = await vendor.listen()
    sys.stdout.write(f"{vendor.port}\n")
    sys.stdout.flush()
    await server.serve_forever()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one in this process until it is killed."""
    parser = argparse.ArgumentParser("python -m crmkit.testing.vendor", description="A vendor of messages that fails.")
    parser.add_argument("--ledger", type=Path, required=True, help="the file of what it was asked and took")
    parser.add_argument("--port", type=int, default=0, help="any where 0; it is printed")
    parser.add_argument("--tls", action="store_true", help="speak TLS, with a certificate nobody trusts")
    parser.add_argument("--expires-after", type=int, help="refuse credentials after so many requests")
    parser.add_argument("--renews-not", action="store_true", help="give no fresh credentials")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds a slow answer takes")
    parser.add_argument("--script", type=json.loads, default={}, help='how to fail: {"KEY" or "*": [fault, ...]}')
    told = parser.parse_args(arguments)
    vendor = Vendor(
        told.ledger,
        port=told.port,
        tls=told.tls,
        expires_after=told.expires_after,
        renews=not told.renews_not,
        pause=told.pause,
    )
    for at, faults in told.script.items():
        vendor.fail(*faults, at=at)
    asyncio.run(_serve_alone(vendor))


if __name__ == "__main__":
    main()
