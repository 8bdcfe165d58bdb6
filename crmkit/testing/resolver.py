"""Name servers that fail: given to `crmkit.adapters.http.client(resolver=...)`, they keep a test on this machine."""

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult


class NoName(AbstractResolver):
    """Knows no name."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        raise OSError(None, "name not known")

    async def close(self) -> None:
        pass


class SilentName(NoName):
    """Never answers."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        await asyncio.sleep(3600)
        raise OSError(None, "name not known")
