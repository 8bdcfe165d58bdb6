"""What contracts read with: a fixture's stream, and a vendor on this machine that fails."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

import httpx

from crmkit.adapters import http as wire
from crmkit.adapters.adapter import Adapter
from crmkit.adapters.http import client
from crmkit.adapters.stream import Page, Ref, Start
from crmkit.core.errors import AdapterError
from crmkit.testing.contract import NOW, AdapterContract, runs, written_all
from crmkit.testing.exchange import Fixture
from crmkit.testing.fault import Fault
from crmkit.testing.playback import PlaybackVendor
from crmkit.testing.resolver import NoName, SilentName

T = TypeVar("T")
#: Seconds a call is given where its vendor says nothing.
SHORT = 0.3
#: Faults that only time tells.
_SILENT = frozenset({"silent-name", "no-tls"})


def pages_of(adapter: Any, sample: Fixture) -> AsyncIterator[Page]:
    """What a fixture has an adapter read: a stream, or records by id."""
    document = sample.document
    if sample.given == "read":
        refs = [_ref(one) for one in document["read"]]
        found: AsyncIterator[Page] = adapter.read(refs)
        return found
    method = getattr(adapter, document["stream"])
    if type(adapter).window(document["stream"]) is not None:
        found = method(datetime.fromisoformat(document["start"]), datetime.fromisoformat(document["end"]))
        return found
    since = document.get("since")
    found = method(Start(document.get("from"), datetime.fromisoformat(since) if since else None, NOW))
    return found


async def reading_streams(adapter: Any, sample: Fixture) -> dict[str, Any]:
    """What a stream gives, as a fixture has it."""
    records: list[Any] = []
    cursor: Any = None
    async for page in pages_of(adapter, sample):
        records += [*page.records, *page.hints, *page.refused]
        cursor = page.cursor if page.cursor is not None else cursor
    return {**written_all(records), **({} if cursor is None else {"cursor": dict(cursor)})}


def _ref(written: Any) -> Ref:
    if isinstance(written, str):
        kind, _, external_id = written.partition(":")
        return Ref(kind, external_id)
    return Ref(written["kind"], written["external_id"])


@asynccontextmanager
async def facing(contract: AdapterContract, sample: Fixture, fault: Fault | None) -> AsyncIterator[Adapter]:
    """An adapter, not opened yet, whose every request goes to a vendor on this machine, whatever its address.

    Args:
        contract: whose adapter; `vendor` of it is the vendor.
        sample: what the vendor answers.
        fault: how it fails at the last request of these; None: not at all.
    """
    is_silent = fault is not None and (fault.ends in {"hang", "drip"} or fault.name in _SILENT)
    contract.patch.setattr(wire, "READ_PAUSE", 0.0)
    if is_silent:
        exchange = wire.exchange

        async def hasty(call: wire.Exchange, *rest: Any) -> httpx.Response:
            return await exchange(replace(call, within=min(call.within, SHORT)), *rest)

        contract.patch.setattr(wire, "exchange", hasty)
    name = fault.name if fault is not None else None
    acts = name if fault is not None and fault.when != "way" else None
    ledger = contract.folder / f"vendor-{name}"
    with ExitStack() as running:
        options: dict[str, Any] = {"tls": name == "untrusted", "pause": 0.05}
        vendor = running.enter_context(PlaybackVendor(ledger, sample.exchanges, acts, always=True, **options))
        contract.vendor = vendor  # type: ignore[attr-defined]
        url = httpx.URL(vendor.url)
        resolver = None
        if name == "refused":
            with socket.create_server(("127.0.0.1", 0)) as taken:
                url = httpx.URL(f"http://127.0.0.1:{taken.getsockname()[1]}")
        elif name == "no-tls":
            url = url.copy_with(scheme="https")
        elif name in {"no-name", "silent-name"}:
            url, resolver = httpx.URL("http://vendor.example"), NoName() if name == "no-name" else SilentName()

        async def lead(request: httpx.Request) -> None:
            request.url = request.url.copy_with(scheme=url.scheme, host=url.host, port=url.port)

        http = client(concurrency=4, resolver=resolver)
        http.event_hooks = {"request": [lead]}
        adapter = contract.make(sample=sample, http=http)
        try:
            yield adapter
        finally:
            await adapter.close()
            await http.aclose()


def asked(
    contract: AdapterContract, sample: Fixture, fault: Fault, question: Callable[[Any], Awaitable[T]]
) -> tuple[T | None, AdapterError | None]:
    """What an adapter answers whose vendor fails, and the error it raises instead; one of them is None, or both."""

    async def run() -> tuple[T | None, AdapterError | None]:
        async with facing(contract, sample, fault) as adapter:
            try:
                await adapter.open()
                return await question(adapter), None
            except AdapterError as error:
                return None, error

    return runs(run)


__all__ = ["SHORT", "asked", "facing", "pages_of", "reading_streams"]
