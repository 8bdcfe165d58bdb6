"""A vendor on this machine that records every request, and gateways that call it."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from crmkit import Account, Call, Gateway, Message
from crmkit.adapters.http import client

NOW = datetime(2026, 5, 7, 9, 30, tzinfo=UTC)
#: Instead of an answer: the connection is closed when the request was read.
CLOSE = "close"


@dataclass
class Request:
    """A request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True, errors="strict"))

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True, errors="strict"))

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Vendor:
    """Answers what it was told to, in turn, the last one for ever: (status, document or text, headers) or CLOSE.

    What `now` is by its own clock, it says with every answer; None: it does not say.
    """

    answers: list[Any] = field(default_factory=list)
    #: {method: what it is always answered}, before `answers`
    always: dict[str, Any] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    now: datetime | None = NOW

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append(Request(method, target, headers, body))
                answer = self.answer(self.requests[-1])
                if answer == CLOSE:
                    break
                writer.write(self._written(*answer))
                await writer.drain()
        writer.close()

    def answer(self, request: Request) -> Any:
        """What a request is answered."""
        if request.method in self.always:
            return self.always[request.method]
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def _written(self, status: int, said: Any, headers: dict[str, str] | None = None) -> bytes:
        body = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
        dated = {"Date": format_datetime(self.now, usegmt=True)} if self.now is not None else {}
        lines += [f"{name}: {value}" for name, value in (dated | (headers or {})).items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    made = Vendor()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


Make = Callable[..., Any]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes a gateway from its class, settings, and account."""
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(client(concurrency=4))

        def gateway(kind: type[Gateway], settings: dict[str, Any], webhook_url: str | None = None) -> Gateway:
            account = Account("texts", "UTC", None, None, tmp_path, webhook_url)
            return kind(kind.Settings.model_validate(settings), account, http)

        yield gateway


def make_message(number: int = 1, **changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": number,
        "key": f"{number}:care:order-shipped:7",
        "channel": "sms",
        "address_kind": "phone",
        "address": "+8613800138000",
        "purpose": "transactional",
        "template": "order-shipped",
        "locale": "en",
        "text": "Your order has shipped.",
        "decided_at": NOW,
        "leaves_at": NOW,
    }
    return Message(**(values | changes))


@pytest.fixture
def message() -> Callable[..., Message]:
    return make_message


def make_call(body: bytes, url: str, content_type: str = "application/x-www-form-urlencoded", **headers: str) -> Call:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    query = urlsplit(url).query
    return Call(body, {"content-type": content_type, **named}, url, query, received_at=NOW)


@pytest.fixture
def call() -> Callable[..., Call]:
    return make_call
