"""The connections of one gateway: few, kept while they are good, each used for many mails."""

import asyncio
from collections.abc import Awaitable, Callable

from crmkit_email.connection import Connection


class Pool:
    """Connections of one gateway: at most `size` in use, each for at most `uses` mails.

    Args:
        opens: makes a new connection.

    Attributes:
        slots: hold one while using a connection.
    """

    def __init__(self, opens: Callable[[], Awaitable[Connection]], size: int, uses: int) -> None:
        self.slots = asyncio.Semaphore(size)
        self.open = opens
        self._uses = uses
        self._idle: list[Connection] = []

    async def take(self) -> Connection:
        """The connection used last, if it is still good, else a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.served >= self._uses:
                await connection.quit()
            elif await connection.is_ready():
                return connection
        return await self.open()

    def give_back(self, connection: Connection) -> None:
        """Keep it for the next mail."""
        if connection.alive:
            self._idle.append(connection)

    async def close(self) -> None:
        """Take leave of the server on every idle connection."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(connection.quit() for connection in idle))
