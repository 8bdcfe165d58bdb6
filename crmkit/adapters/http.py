"""The HTTP client an adapter is handed: httpx over aiohttp's transport.

httpx's own pool scans all its connections for every request and collapses under concurrency; aiohttp's does not.
"""

import httpx
from httpx_aiohttp import AiohttpTransport

#: Connecting, reading and writing are each given up after this many seconds.
TIMEOUT = httpx.Timeout(30, connect=10)


def client(*, concurrency: int = 8, transport: httpx.AsyncBaseTransport | None = None) -> httpx.AsyncClient:
    """A client with a pool of `concurrency` connections. It follows no redirects: a vendor's address is configured."""
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=30)
    chosen = transport or AiohttpTransport(limits=limits)
    return httpx.AsyncClient(transport=chosen, timeout=TIMEOUT, follow_redirects=False, trust_env=False)
