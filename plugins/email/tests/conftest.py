"""Servers to send to: one that keeps the rules (aiosmtpd), and one that breaks them at a chosen step."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword

from crmkit import Account, Gateway, Message
from crmkit_email.smtp import SmtpGateway

HANG, CLOSE, RESET, DRIP = "hang", "close", "reset", "drip"
GREETING = b"220 ready\r\n"
ANSWERS = {
    "mail": b"250 2.1.0 ok\r\n",
    "rcpt": b"250 2.1.5 ok\r\n",
    "data": b"354 go on\r\n",
    "end": b"250 2.0.0 ok\r\n",
}
ANSWERS["auth"] = b"235 2.7.0 welcome\r\n"
STEPS = {b"EHLO": "ehlo", b"AUTH": "auth", b"MAIL": "mail", b"RCPT": "rcpt", b"DATA": "data"}


class FaultServer:
    """Speaks SMTP until a step where it was told what to do instead.

    Steps: banner, ehlo, auth, mail, rcpt, data (the command), content (in the middle of it), end (after the final dot).
    What to do, once for each in the list: HANG, CLOSE, RESET, DRIP, an answer as bytes, or None to behave.
    """

    def __init__(self, extensions: tuple[bytes, ...] = (), **faults: list[str | bytes | None]) -> None:
        self.faults = faults
        self.extensions = extensions
        self.connections = 0
        self.commands: list[bytes] = []
        self.taken: list[bytes] = []
        self.port = 0
        self.readers: list[asyncio.StreamReader] = []
        self.writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator["FaultServer"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**26)
        self.port = server.sockets[0].getsockname()[1]
        tasks = self._tasks = set()
        try:
            yield self
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.readers.append(reader)
        self.writers.append(writer)
        self._tasks.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError, EOFError):
            try:
                await self._talk(reader, writer)
            except asyncio.CancelledError:
                pass
            finally:
                writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer("banner", GREETING, writer)
        while line := await reader.readline():
            self.commands.append(line.strip())
            verb = line[:4].upper().strip()
            if verb == b"EHLO":
                lines = [b"localhost", *self.extensions, b"HELP"]
                text = b"".join(b"250-%s\r\n" % item for item in lines[:-1]) + b"250 HELP\r\n"
                await self._answer("ehlo", text, writer)
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            elif verb in (b"RSET", b"NOOP"):
                writer.write(b"250 ok\r\n")
            elif await self._answer(STEPS[verb], ANSWERS[STEPS[verb]], writer) and verb == b"DATA":
                await self._take(reader, writer)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.get("content"):
            await reader.readexactly(10)
            await self._answer("content", b"", writer)
        content = await reader.readuntil(b"\r\n.\r\n")
        self.taken.append(content)
        await self._answer("end", ANSWERS["end"], writer)

    async def _answer(self, step: str, usual: bytes, writer: asyncio.StreamWriter) -> bool:
        fault = self.faults[step].pop(0) if self.faults.get(step) else None
        if fault == HANG:
            writer.transport.pause_reading()
            await asyncio.sleep(3600)
        elif fault in (CLOSE, RESET):
            if fault == CLOSE:
                writer.close()
            raise EOFError
        elif fault == DRIP:
            while True:
                writer.write(b"2")
                await asyncio.sleep(0.02)
        if isinstance(fault, bytes) and step == "end" and fault[:1] in b"45":
            self.taken.pop()
        writer.write(usual if fault is None else fault)
        return fault is None


@dataclass
class Inbox:
    """What an honest server took, and how it was reached."""

    port: int = 0
    connections: int = 0
    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 2.0.0 taken"


def check_login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"shop", "geheim-秘密".encode())
    return AuthResult(success=good, handled=False)


@asynccontextmanager
async def honest_server(implicit_tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[Inbox]:
    inbox = Inbox()
    loop = asyncio.get_running_loop()
    protocols: list[SMTP] = []

    def protocol() -> SMTP:
        inbox.connections += 1
        protocols.append(SMTP(inbox, hostname="localhost", loop=loop, enable_SMTPUTF8=True, **options))
        return protocols[-1]

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=implicit_tls)
    inbox.port = server.sockets[0].getsockname()[1]
    try:
        yield inbox
    finally:
        server.close()
        for item in protocols:
            if item.transport is not None:
                item.transport.abort()
            if item._handler_coroutine is not None:
                item._handler_coroutine.cancel()
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("TLS IS NOT TESTED: there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out certificate.pem".split(),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder / "certificate.pem"


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    return context


def make_message(number: int = 1, **changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": number,
        "key": f"order:{number}:care:shipped",
        "channel": "email",
        "address_kind": "email",
        "address": f"ann{number}@buyers.example",
        "purpose": "transactional",
        "template": "order-shipped",
        "locale": "en",
        "subject": "Your order has shipped",
        "text": "Hello Ann,\n\n.\n.. it is on its way.\n",
        "decided_at": datetime(2026, 5, 7, 9, 30, tzinfo=UTC),
    }
    return Message(**(values | changes))


@pytest.fixture
def message() -> Callable[..., Message]:
    return make_message


@pytest.fixture
async def smtp(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[SmtpGateway]]]:
    """Opens a gateway for a port on this machine; further settings as keywords."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient())

        async def gateway(port: int, **settings: Any) -> SmtpGateway:
            defaults = {
                "host": "127.0.0.1",
                "port": port,
                "tls": "none",
                "timeout": 0.3,
                "verdict_timeout": 0.3,
                "sender": "Tea House <shop@tea.example>",
            }
            made: Gateway = SmtpGateway(
                SmtpGateway.Settings.model_validate(defaults | settings),
                Account("smtp", "UTC", None, None, tmp_path),
                http,
            )
            await made.open()
            stack.push_async_callback(made.close)
            assert isinstance(made, SmtpGateway)
            return made

        yield gateway


@pytest.fixture
def fault_server() -> type[FaultServer]:
    return FaultServer


@pytest.fixture
def honest() -> Callable[..., Any]:
    return honest_server


@pytest.fixture
def login() -> Callable[..., AuthResult]:
    return check_login


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port where nobody listens, held so that nobody begins to."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]
