"""SMTP is held to what every gateway is; its vendor is a mail server, which fails in ways of its own."""

import asyncio
import email
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.policy import default
from pathlib import Path
from typing import Any

import pytest

from crmkit.testing import GatewayContract
from crmkit.testing.exchange import Fixture, Sent
from crmkit.testing.fault import Fault
from crmkit.testing.playback import Playback
from crmkit_email.smtp import SmtpGateway
from plugins.email.tests.conftest import CLOSE, DRIP, HANG, RESET, FaultServer

NONSENSE = b"hello there\r\n"
#: {fixture: what the server does at which step}
ANSWERS: dict[str, dict[str, list[Any]]] = {
    "unknown-mailbox": {"rcpt": [b"550 5.1.1 <ann.li@buyers.example>: no such user\r\n"]},
    "unknown-code": {"end": [b"559 5.9.9 something new\r\n"]},
    "not-now": {"rcpt": [b"450 4.7.1 greylisted\r\n"]},
    "sender-refused": {"mail": [b"550 5.7.26 not authenticated\r\n"]},
}
#: {fault: what it is with a mail server}
FAULTS: dict[str, dict[str, list[Any]]] = {
    "slow": {},
    "slow-taken": {},
    "400": {"rcpt": [b"550 5.1.1 no such user\r\n"]},
    "401": {"mail": [b"530 5.7.0 Authentication required\r\n"]},
    "429": {"rcpt": [b"421 4.7.0 too many\r\n"]},
    "429-later": {"rcpt": [b"451 4.7.1 later\r\n"]},
    "503-later": {"mail": [b"451 4.3.0 later\r\n"]},
    "unread": {"banner": [CLOSE] * 3},
    "close": {"end": [CLOSE]},
    "close-taken": {"end": [CLOSE]},
    "reset": {"end": [RESET]},
    "reset-taken": {"end": [RESET]},
    "hang": {"end": [HANG]},
    "hang-taken": {"end": [HANG]},
    "drip": {"end": [DRIP]},
    "garbage": {"end": [NONSENSE]},
    "other": {"end": [b"354 go on?\r\n"]},
    "no-http": {"banner": [NONSENSE] * 3},
}


class TestSmtp(GatewayContract):
    adapter = SmtpGateway
    settings = {
        "host": "127.0.0.1",
        "tls": "none",
        "sender": "Tea House <shop@tea.example>",
        "timeout": 0.3,
        "verdict_timeout": 0.3,
        "username": "shop",
        "password": "geheim-0123456789",
    }
    fixtures = Path(__file__).parent / "smtp"
    #: a connection that is closed before the server greets has taken nothing
    faults = {"unread": "RetryableError", "no-http": "RetryableError"}

    @asynccontextmanager
    async def serving(self, faults: dict[str, list[Any]], sample: Fixture | None = None) -> AsyncIterator[Any]:
        """A gateway, not opened, at a server that does so."""
        steps = {step: list(answers) for step, answers in faults.items()}
        async with FaultServer((b"AUTH PLAIN", b"SMTPUTF8", b"8BITMIME"), **steps).running() as server:
            self.server = server
            gateway = self.make(settings={"port": server.port}, sample=sample)
            try:
                yield gateway
            finally:
                await gateway.close()
                await gateway.http.aclose()

    @asynccontextmanager
    async def facing(self, fault: Fault | None) -> AsyncIterator[Any]:
        if fault is not None and fault.name == "refused":
            async with FaultServer().running() as server:
                self.server, port = server, server.port
            yield self.make(settings={"port": port})
            return
        if fault is not None and fault.name not in FAULTS:
            pytest.skip(f"a mail server has no fault like {fault.name}, or it is in test_smtp")
        async with self.serving(FAULTS[fault.name] if fault is not None else {}) as gateway:
            yield gateway

    @asynccontextmanager
    async def taking(self) -> AsyncIterator[tuple[Any, list[Sent]]]:
        sent: list[Sent] = []
        async with self.serving({}) as gateway:
            await gateway.open()
            yield gateway, sent
            sent.extend(Sent("MAIL", "/", (), content) for content in self.server.taken)

    def says(self, sent: Sent, text: str) -> bool:
        found = email.message_from_bytes(
            sent.body.removesuffix(b"\r\n.\r\n").replace(b"\r\n..", b"\r\n."), policy=default
        )
        body = found.get_body(("plain",))
        assert body is not None
        return text.strip() in body.get_content().replace("\r\n", "\n")

    def play(self, sample: Fixture) -> tuple[dict[str, Any], Playback]:
        async def run() -> dict[str, Any]:
            async with self.serving(ANSWERS.get(sample.name, {}), sample) as gateway:
                await gateway.open()
                return await self.outcome(gateway, sample)

        return asyncio.run(run()), Playback([])

    def sendings(self) -> int:
        return sum(command.upper() == b"DATA" for command in self.server.commands)

    def connections(self) -> int:
        return sum(not writer.transport.is_closing() for writer in self.server.writers)
