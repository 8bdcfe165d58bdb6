"""Records what an adapter says to its vendor, and writes it as a fixture: without secrets, without persons.

```python
gateway = make_adapter(HeronGateway, real_settings, at=httpx.AsyncHTTPTransport())
with Recorder(gateway, settings=TestHeron.settings, personal=["Ann Lee"]) as recorder:
    receipt = await gateway.deliver(message)
recorder.save(folder / "accepted", message={"address": message.address}, receipt={"outcome": "accepted"})
```

It runs where there is a network: in a program of one's own, not under pytest, whose guard keeps tests on this machine.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel

from crmkit.adapters.adapter import Adapter
from crmkit.testing.exchange import ANY, Answer, Exchange, Fixture, Sent, written
from crmkit.testing.scrub import Scrubber, is_telling
from crmkit.testing.secrecy import secrets_in, texts_in

#: Headers of a response that tell of the way it came, or of who asked.
_LEFT_OUT = frozenset(
    "connection keep-alive transfer-encoding content-encoding content-length server via cf-ray report-to nel"
    " strict-transport-security alt-svc x-request-id x-served-by x-cache x-timer".split()
)
_PAIR = re.compile(r"(?P<before>(?:^|[?&])(?P<name>[^=&?]+)=)(?P<value>[^&]*)")
_FIELD = re.compile(r'(?P<before>"(?P<name>[^"\\]+)"\s*:\s*)(?P<value>"(?:[^"\\]|\\.)*")')


class Recorder:
    """Records the exchanges of an adapter while it is entered.

    Args:
        adapter: a source or gateway, open or not.
        settings: the made-up settings its contract test has: what stands there for a secret is written instead of it.
        personal: names, and whatever else is a person's; e-mail addresses and phone numbers are found by themselves.
        headers: names of request headers that matter; those that hold a secret are written as `*`.

    Attributes:
        exchanges: what was said, as it was: keep it to yourself.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        settings: Mapping[str, Any] | BaseModel | None = None,
        personal: Iterable[str] = (),
        headers: Iterable[str] = ("content-type", "authorization"),
    ) -> None:
        self.adapter, self.headers = adapter, tuple(headers)
        self.personal = tuple(personal)
        self.exchanges: list[tuple[httpx.Request, Answer | None]] = []
        made_up = dict(_secrets(settings)) if settings is not None else {}
        self._instead: dict[str, str] = {}
        for number, (place, secret) in enumerate(_secrets(adapter.settings), 1):
            self._instead[secret] = made_up.get(place, f"made-up-secret-{number}")

    def __enter__(self) -> "Recorder":
        """Record from here on."""
        client = self.adapter.http
        self._before = client._transport
        client._transport = _Tape(self._before, self.exchanges)
        return self

    def __exit__(self, *_: object) -> None:
        """Record no more."""
        self.adapter.http._transport = self._before

    def save(self, path: Path, **document: Any) -> Fixture:
        """Write what was recorded as a fixture, and forget it.

        Args:
            path: its files, without their endings.
            document: what was given and what is expected (`message=...`, `receipt=...`), see `Fixture`.

        Raises:
            ValueError: a secret or a person would still be told, or cannot be told from other words; nothing is
                written.
        """
        scrubber = Scrubber({**self._instead, **self._remembered()}, self.personal)
        for text in texts_in(document):
            scrubber.text(text)
        said = [self._said(request, answer, scrubber) for request, answer in self.exchanges]
        said = [self._said(request, answer, scrubber) for request, answer in self.exchanges] if said else said
        fixture = Fixture(path.name, path.parent, scrubber.document(document), said)
        whole = written(said).decode("utf-8", "replace") + str(fixture.document)
        left = scrubber.survivors(whole)
        if left:
            do = "replace it by hand, or name how it is written in `personal`"
            raise ValueError(f"recorder: what should be {left[0]!r} would still be told in {path.name}; {do}")
        fixture.save()
        self.exchanges.clear()
        return fixture

    def _remembered(self) -> dict[str, str]:
        """What the adapter remembers is a secret too."""
        texts = [text for text in texts_in(dict(self.adapter.memory)) if len(text) >= 8]
        return {text: f"made-up-memory-{number}" for number, text in enumerate(texts, 1) if text not in self._instead}

    def _said(self, request: httpx.Request, answer: Answer | None, scrubber: Scrubber) -> Exchange:
        sent = Sent.of(request, self.headers)
        headers = [(name, ANY if is_telling(name) else scrubber.text(value)) for name, value in sent.headers]
        target = scrubber.text(_starred(sent.target))
        return Exchange(Sent(sent.method, target, headers, _clean(sent.body, scrubber)), _answered(answer, scrubber))


def _answered(answer: Answer | None, scrubber: Scrubber) -> Answer | None:
    if answer is None:
        return None
    kept = [pair for pair in answer.headers if pair[0].lower() not in _LEFT_OUT and not is_telling(pair[0])]
    headers = [(name, scrubber.text(value)) for name, value in kept]
    return Answer(answer.status, headers, _clean(answer.body, scrubber, instead="made-up"))


def _clean(body: bytes, scrubber: Scrubber, instead: str = ANY) -> bytes:
    """A body without secrets and persons; what is no text is left out where it holds any (`survivors` sees to it)."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return scrubber.text(body.decode("latin-1")).encode("latin-1", "replace")
    return scrubber.text(_starred(text, instead)).encode()


def _starred(text: str, instead: str = ANY) -> str:
    """A query, a form or JSON whose fields that hold a secret hold none."""

    def star(found: re.Match[str]) -> str:
        if not is_telling(found["name"]) or found["value"] in {"", '""'}:
            return found[0]
        is_json = found["value"].startswith('"')
        return f'{found["before"]}"{instead}"' if is_json else f"{found['before']}{instead}"

    if text.lstrip()[:1] in ("{", "["):
        return _FIELD.sub(star, text)
    return _PAIR.sub(star, text) if "=" in text and "\n" not in text and "<" not in text else text


def _secrets(settings: Any, place: str = "") -> list[tuple[str, str]]:
    """(where it stands, the secret) of settings, or of a mapping as a contract test has them."""
    if isinstance(settings, BaseModel):
        named = {name: getattr(settings, name) for name in type(settings).model_fields}
        return [
            (f"{place}{name}" + (f".{number}" if number else ""), secret)
            for name, value in named.items()
            for number, secret in enumerate(secrets_in(value))
        ]
    if isinstance(settings, Mapping):
        return [
            (f"{name}" + (f".{number}" if number else ""), text)
            for name, value in settings.items()
            for number, text in enumerate(texts_in(value))
        ]
    return []


class _Tape(httpx.AsyncBaseTransport):
    """Hands requests on, and keeps what was said."""

    def __init__(self, real: httpx.AsyncBaseTransport, exchanges: list[tuple[httpx.Request, Answer | None]]) -> None:
        self._real, self._exchanges = real, exchanges

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; what cannot be reached or hangs up is kept as a closed connection."""
        await request.aread()
        try:
            response = await self._real.handle_async_request(request)
            body = await response.aread()
        except httpx.TransportError:
            self._exchanges.append((request, None))
            raise
        headers = [(name.title(), value) for name, value in response.headers.items()]
        self._exchanges.append((request, Answer(response.status_code, headers, body)))
        kept = [pair for pair in response.headers.multi_items() if pair[0] not in _OF_THE_WAY]
        return httpx.Response(response.status_code, headers=kept, content=body, request=request)

    async def aclose(self) -> None:
        """Close what it stands before."""
        await self._real.aclose()


#: Headers that tell how a body travelled.
_OF_THE_WAY = frozenset({"content-encoding", "content-length", "transfer-encoding"})
