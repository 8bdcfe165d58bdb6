"""Adapters as the host makes them, with a client that calls what a test chooses: a respx router, a vendor, nobody.

`self.call` and its errors are the real ones: only what stands behind the client is the test's.
"""

from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel

from crmkit.adapters.adapter import Account, Adapter
from crmkit.adapters.http import client
from crmkit.adapters.memory import Memory
from crmkit.testing.vendor import Vendor

#: What `origin` is of an adapter in a test.
ORIGIN = "c0ffee0123456789"
A = TypeVar("A", bound=Adapter)
#: Where an adapter's calls go: a respx router, a fake vendor, a transport of httpx; nowhere where None.
At = Any


def make_adapter(
    cls: type[A],
    settings: Mapping[str, Any] | BaseModel | None = None,
    *,
    at: At = None,
    memory: Mapping[str, Any] | None = None,
    name: str | None = None,
    timezone: str = "UTC",
    currency: str | None = None,
    region: str | None = None,
    folder: Path = Path(),
    webhook_url: str | None = None,
) -> A:
    """A source or gateway as the host makes it, not opened; whoever makes it closes its client.

    Its `origin` is `c0ffee0123456789`.

    Args:
        cls: its class.
        settings: as they stand in its section of crmkit.toml, or an object of its `Settings`.
        at: a respx router, a `Vendor` (whatever the address called, its port on this machine is), or a transport of
            httpx. Every call fails where None.
        memory: what it remembers; what it keeps is found there (`adapter.memory["token"]`).
        name, timezone, currency, region, folder, webhook_url: of its `Account`; the name is its slug where None.

    Raises:
        pydantic.ValidationError: the settings are wrong.
    """
    model: type[BaseModel] = cls.Settings  # type: ignore[attr-defined]
    checked = settings if isinstance(settings, BaseModel) else model.model_validate(dict(settings or {}))
    account = Account(name or cls.name, timezone, currency, region, folder, webhook_url)
    made = cls(checked, account, client(transport=transport_to(at)))
    made.memory = Memory(memory, _kept)
    made.origin = ORIGIN
    return made


async def _kept(values: Mapping[str, Any]) -> None:
    pass  # the memory holds it, and nothing outlives the test


def transport_to(at: At) -> httpx.AsyncBaseTransport:
    """A transport to what a test chose."""
    if at is None:
        return httpx.MockTransport(_nobody)
    if isinstance(at, httpx.AsyncBaseTransport):
        return at
    if isinstance(at, Vendor):
        return ToVendor(at)
    handler: Callable[[httpx.Request], Coroutine[None, None, httpx.Response]] | None = getattr(
        at, "async_handler", None
    )
    if handler is None:
        raise TypeError(f"at={at!r} answers no calls; give a respx router, a Vendor or a transport of httpx")
    return httpx.MockTransport(handler)


class ToVendor(httpx.AsyncBaseTransport):
    """The real transport, which leads to a fake vendor on this machine whatever the address says.

    Args:
        vendor: it.
    """

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._real: httpx.AsyncBaseTransport | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, over a real connection."""
        if self._real is None:
            self._real = client()._transport
        there = urlsplit(self._vendor.url)
        request.url = request.url.copy_with(scheme=there.scheme, host=there.hostname, port=there.port)
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        """Close its connections."""
        real, self._real = self._real, None  # whoever calls next may do so in another loop
        if real is not None:
            await real.aclose()


def _nobody(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.method} {request.url.host}: nobody answers here; make the adapter with at=...")
